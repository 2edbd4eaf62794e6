"""Padding never changes a real token's output, whatever its length and place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from bert4keras import layers

HIDDEN, LONGEST = 6, 7


def attention(**arguments):
    layer = layers.MultiHeadAttention(2, 4, HIDDEN, **arguments)
    return layer, lambda x, mask: layer([x, x, x], mask=[mask] * 3)


def attention_with_scores(**arguments):
    layer, call = attention(return_attention_scores=True, **arguments)
    return layer, lambda x, mask: call(x, mask)[0]


def gated(**arguments):
    layer = layers.GatedAttentionUnit(8, 4, **arguments)
    return layer, lambda x, mask: layer(x, mask=mask)


def pooling(layer):
    return layer, lambda x, mask: layer(x, mask=mask)


MAKERS = {
    "fused": lambda: attention(),
    "fused_two_sizes": lambda: attention(key_size=8),
    "explicit": lambda: attention_with_scores(),
    "squared_relu": lambda: attention(normalization="squared_relu"),
    "softmax_plus": lambda: attention(normalization="softmax_plus"),
    "talking_heads": lambda: attention(talking_heads=True, key_heads=3),
    "gated": lambda: gated(),
    "gated_softmax": lambda: gated(normalization="softmax"),
    "gated_softmax_plus": lambda: gated(normalization="softmax_plus"),
    "average": lambda: pooling(layers.GlobalAveragePooling1D()),
    "maximum": lambda: pooling(layers.GlobalMaxPooling1D()),
}
_made = {}


def make(name):
    """Each layer once: examples differ in their inputs only."""
    if name not in _made:
        layer, call = MAKERS[name]()
        x = np.zeros((1, 2, HIDDEN), "float32")
        call(ops.convert_to_tensor(x), ops.ones((1, 2), "bool"))
        rng = np.random.RandomState(0)
        layer.set_weights([rng.normal(size=w.shape) for w in layer.weights])
        _made[name] = layer, call
    return _made[name][1]


@pytest.mark.parametrize("name", MAKERS)
@given(
    # Two lengths only: JAX compiles every operation for every shape.
    real=st.one_of(
        st.permutations([True] * number + [False] * (LONGEST - number))
        for number in (1, 4)
    ),
    garbage=st.sampled_from([0.0, 1.0, -1e4, 1e4]),
)
@settings(max_examples=8)
def test_padding_changes_nothing(name, real, garbage):
    call = make(name)
    real = np.array([real])
    number = int(real.sum())
    rng = np.random.RandomState(number)
    tokens = rng.normal(size=(1, number, HIDDEN)).astype("float32")
    padded = np.full((1, LONGEST, HIDDEN), garbage, "float32")
    padded[real] = tokens[0]
    short = call(ops.convert_to_tensor(tokens), ops.ones((1, number), "bool"))
    long = call(ops.convert_to_tensor(padded), ops.convert_to_tensor(real))
    short, long = ops.convert_to_numpy(short), ops.convert_to_numpy(long)
    long = long[real][None] if long.ndim == 3 else long
    np.testing.assert_allclose(long, short, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("layer", "mask"),
    [
        (layers.Concatenate1D(), [[True, True, False, True, True]]),
        (layers.BatchConcat(), [[True, True, False], [True, True, True]]),
    ],
)
def test_joining_counts_sequences_without_mask_as_real(layer, mask):
    long = 3 if isinstance(layer, layers.BatchConcat) else 2
    x = [ops.ones((1, 3, 4)), ops.ones((1, long, 4))]
    masks = [ops.convert_to_tensor([[True, True, False]]), None]
    found = ops.convert_to_numpy(layer.compute_mask(x, masks))
    np.testing.assert_array_equal(found, mask)
    assert layer.compute_mask(x, [None, None]) is None
    assert tuple(layer(x).shape) == layer.compute_output_shape([t.shape for t in x])


@pytest.mark.parametrize("size", [0, 1, 2, 5, 7])
@pytest.mark.parametrize("parts", [[1], [1, 1], [3, 1, 2]])
def test_a_split_batch_is_complete_and_can_be_put_together(size, parts):
    x = ops.convert_to_tensor(np.arange(size * 2, dtype="float32").reshape(size, 2))
    split = layers.BatchSplit(parts)
    found = split(x)
    shapes = split.compute_output_shape((size, 2))
    assert [tuple(part.shape) for part in found] == shapes
    assert len(found) == len(parts)
    joined = ops.convert_to_numpy(layers.BatchConcat()(found))
    np.testing.assert_array_equal(joined, ops.convert_to_numpy(x))
    masks = split.compute_mask(x, x)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(masks[0]), ops.convert_to_numpy(found[0])
    )


@pytest.mark.parametrize(
    "layer", [layers.GlobalAveragePooling1D(), layers.GlobalMaxPooling1D()]
)
def test_pooling_keeps_the_dimension_if_asked(layer):
    x = ops.convert_to_tensor(np.arange(24, dtype="float32").reshape(2, 3, 4))
    mask = ops.convert_to_tensor([[True, True, False], [False, False, True]])
    flat = ops.convert_to_numpy(layer(x, mask=mask))
    config = {**layer.get_config(), "keepdims": True}
    kept = type(layer).from_config(config)(x, mask=mask)
    np.testing.assert_array_equal(ops.convert_to_numpy(kept), flat[:, None])


def test_the_maximum_of_numbers_under_every_mask():
    x = ops.cast(ops.convert_to_tensor([[[-6e4], [-5e4], [1.0]]]), "float16")
    layer = layers.GlobalMaxPooling1D(dtype="float16")
    found = layer(x, mask=ops.convert_to_tensor([[True, True, False]]))
    assert float(found[0, 0]) == np.float16(-5e4)


@pytest.mark.parametrize(
    "layer", [layers.GlobalAveragePooling1D(), layers.GlobalMaxPooling1D()]
)
def test_pooling_of_nothing_is_zero(layer):
    x = ops.convert_to_tensor(np.full((2, 3, 4), np.inf, "float32"))
    pooled = layer(x, mask=ops.zeros((2, 3), "bool"))
    np.testing.assert_array_equal(ops.convert_to_numpy(pooled), 0)
