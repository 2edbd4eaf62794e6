import numpy as np
import pytest

from bert4keras.data.arrays import is_one_of, orthogonally_resize, softmax, to_array

pytestmark = pytest.mark.pure


def test_to_array():
    assert to_array([1, 2]).tolist() == [1, 2]
    first, second = to_array([1], [[2.0]])
    assert (first.shape, second.shape) == ((1,), (1, 1))


def test_is_one_of_compares_identities():
    x = np.ones(2)
    assert is_one_of(x, [np.zeros(2), x])
    assert not is_one_of(x, [np.ones(2)])


def test_softmax():
    x = np.array([[1.0, 2.0, 3.0], [1e4, 0.0, -1e4]])
    e = np.exp(x[0])
    np.testing.assert_allclose(softmax(x)[0], e / e.sum(), rtol=1e-12)
    np.testing.assert_allclose(softmax(x)[1], [1, 0, 0])
    np.testing.assert_allclose(softmax(x[:1], axis=0), np.ones((1, 3)))


def test_resizing_repeats_blocks():
    a = np.arange(1.0, 5.0)
    resized = orthogonally_resize(a, (7,))
    np.testing.assert_allclose(resized / resized[0], [1, 2, 1, 2, 3, 4, 3])
    assert np.linalg.norm(resized) == pytest.approx(np.linalg.norm(a))


def test_resizing_an_orthogonal_matrix():
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))
    resized = orthogonally_resize(q, (6, 12), window=3)
    np.testing.assert_allclose(resized @ resized.T, np.eye(6), atol=1e-12)
    np.testing.assert_allclose(
        orthogonally_resize(q, (4, 6)), q[:4] * np.sqrt(6 / 4), rtol=1e-12
    )


def test_errors_of_resizing():
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(4,\)"):
        orthogonally_resize(np.ones((2, 3)), (4,))
    with pytest.raises(ValueError, match="axis 1 has size 3, which window=2"):
        orthogonally_resize(np.ones((2, 3)), (2, 4))
