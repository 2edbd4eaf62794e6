import keras
import numpy as np
import pytest
from keras import ops

from bert4keras.layers import Loss


class Difference(Loss):
    """Mean absolute difference of two tensors."""

    def compute_loss(self, inputs, mask=None):
        first, second = inputs
        return ops.mean(ops.abs(first - ops.cast(second, first.dtype)))


def test_a_model_trains_by_the_layers_loss():
    x, y = keras.Input((2,)), keras.Input((1,), dtype="int32")
    dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    predicted = dense(x)
    model = keras.Model([x, y], Difference(0)([predicted, y]))
    model.compile(keras.optimizers.SGD(0.5))
    inputs = [np.array([[1.0, 2.0], [0.0, 1.0]]), np.array([[0], [3]])]
    # Predicted 3 and 1, wanted 0 and 3: (3 + 2) / 2.
    assert model.train_on_batch(inputs) == pytest.approx(2.5)
    # The gradient is ([1, 2] - [0, 1]) / 2.
    kernel = ops.convert_to_numpy(dense.kernel)[:, 0]
    np.testing.assert_allclose(kernel, [0.75, 0.75])


@pytest.mark.parametrize(
    ("axis", "expected"), [(None, [0, 1]), (1, 1), ([1, 0], [1, 0])]
)
def test_what_is_passed_on(axis, expected):
    layer = Difference(axis)
    x = [ops.zeros((2, 3)), ops.ones((2, 3))]
    found = layer(x)
    if isinstance(expected, int):
        assert float(found[0, 0]) == expected
        assert layer.compute_output_shape([(2, 3), (2, 4)]) == (2, 4)
        assert layer.compute_mask(x, ["first", "second"]) == "second"
    else:
        assert [float(t[0, 0]) for t in found] == expected
    symbols = [keras.Input((3,)), keras.Input((3,), dtype="int32")]
    found = layer(symbols)
    kinds = ["float32", "int32"]
    if isinstance(expected, int):
        assert found.dtype == kinds[expected]
    else:
        assert [t.dtype for t in found] == [kinds[i] for i in expected]


def test_a_loss_must_be_defined():
    with pytest.raises(NotImplementedError, match="Loss must define compute_loss"):
        Loss()(ops.ones((2, 3)))
