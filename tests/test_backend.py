"""The names that scripts import from `bert4keras.backend`."""

import keras
import numpy as np
import pytest
from keras import ops

from bert4keras import backend

array = ops.convert_to_numpy


def numbers(*shape):
    return np.random.RandomState(0).normal(size=shape).astype("float32")


def test_all_names_exist():
    assert all(hasattr(backend, name) for name in backend.__all__)
    assert backend.K is keras.ops
    assert backend.keras is keras


def test_align():
    x = ops.ones((2, 3))
    assert backend.align(x, [0, -1], 4).shape == (2, 1, 1, 3)
    assert backend.align(x, [1, 3]).shape == (1, 2, 1, 3)
    assert backend.align(x, [0, 1]).shape == (2, 3)
    with pytest.raises(ValueError, match=r"axes=\[0\]"):
        backend.align(x, [0])
    with pytest.raises(ValueError, match=r"axes=\[1, 0\]"):
        backend.align(x, [1, 0])


def test_reshape_and_flatten():
    x = numbers(2, 6, 5)
    tensor = ops.convert_to_tensor(x)
    np.testing.assert_array_equal(
        array(backend.reshape(tensor, 1, 2, (3, 2))), x.reshape(2, 3, 2, 5)
    )
    np.testing.assert_array_equal(
        array(backend.reshape(tensor, 1, (10, 3))), x.reshape(2, 10, 3)
    )
    np.testing.assert_array_equal(
        array(backend.reshape(tensor, (4, 15))), x.reshape(4, 15)
    )
    np.testing.assert_array_equal(array(backend.flatten(tensor, 1)), x.reshape(2, 30))
    np.testing.assert_array_equal(
        array(backend.flatten(tensor, 0, 2)), x.reshape(12, 5)
    )


def test_small_functions():
    x = numbers(2, 5)
    tensor = ops.convert_to_tensor(x)
    ids = np.array([[4, 0], [1, 1]])
    found = backend.batch_gather(tensor, ops.convert_to_tensor(ids))
    np.testing.assert_array_equal(array(found), np.take_along_axis(x, ids, 1))
    rms = backend.root_mean_square(tensor, axis=1, keepdims=True)
    expected = np.sqrt((x**2).mean(1, keepdims=True))
    np.testing.assert_allclose(array(rms), expected, rtol=1e-6)
    leaky = array(backend.leaky_relu(tensor))
    np.testing.assert_allclose(leaky, np.where(x > 0, x, 0.2 * x), rtol=1e-6)
    np.testing.assert_allclose(
        array(backend.swish(tensor)), x / (1 + np.exp(-x)), rtol=1e-5, atol=1e-7
    )


def test_names_that_need_little():
    x = ops.convert_to_tensor(numbers(2, 3))
    assert backend.dtype(x) == "float32"
    assert backend.dtype(ops.cast(x, "int32")) == "int32"
    found = array(backend.where(x > 0, x, 0))
    np.testing.assert_array_equal(found, np.maximum(array(x), 0))
    assert all(isinstance(name, str) for name in backend.get_available_gpus())

    class Double(keras.layers.Layer):
        @backend.recompute_grad
        def call(self, inputs):
            return 2 * inputs

    np.testing.assert_array_equal(array(Double()(x)), 2 * array(x))
    assert backend.symbolic(len) is len


@pytest.mark.parametrize("length", [4, 5, 7, 8])
def test_divisible_temporal_padding(length):
    x = numbers(2, length, 3)
    found = array(backend.divisible_temporal_padding(ops.convert_to_tensor(x), 4))
    assert found.shape == (2, -(-length // 4) * 4, 3)
    np.testing.assert_array_equal(found[:, :length], x)
    assert not found[:, length:].any()


@pytest.mark.parametrize(("mode", "reduce"), [("max", np.max), ("avg", np.mean)])
def test_pool1d(mode, reduce):
    x = numbers(2, 6, 3)
    found = backend.pool1d(ops.convert_to_tensor(x), 2, 2, pool_mode=mode)
    np.testing.assert_allclose(
        array(found), reduce(x.reshape(2, 3, 2, 3), axis=2), rtol=1e-6
    )
    with pytest.raises(ValueError, match="pool_mode='sum'"):
        backend.pool1d(x, 2, pool_mode="sum")


def test_attention_normalize_with_a_padding_mask():
    x, mask = numbers(2, 3, 4, 4), np.array([[1, 1, 0, 1], [1, 0, 0, 0]], "bool")
    found = backend.attention_normalize(
        ops.convert_to_tensor(x), ops.convert_to_tensor(mask)
    )
    exponentials = np.exp(x) * mask[:, None, None]
    expected = exponentials / exponentials.sum(-1, keepdims=True)
    np.testing.assert_allclose(array(found), expected, rtol=1e-5)


def test_search_layer():
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, name="hidden")(inputs)
    both = keras.layers.Concatenate()([hidden, inputs])
    output = keras.layers.Dense(1, name="top")(both)
    model = keras.Model(inputs, output)
    found = backend.search_layer(output, "hidden")
    assert found is model.get_layer("hidden")
    assert backend.search_layer(output, "absent") is None
