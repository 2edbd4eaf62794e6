"""Attention with positions against the `transformers` package, which needs PyTorch."""

import numpy as np
import pytest
from keras import ops

from bert4keras.layers import (
    MultiHeadAttention,
    RelativePositionEmbeddingT5,
    SinusoidalPositionEmbedding,
)

X = np.random.RandomState(0).normal(size=(2, 5, 8)).astype("float32")


@pytest.fixture(autouse=True)
def torch_only(backend):
    if backend != "torch":
        pytest.skip("transformers' attention takes PyTorch's tensors")


def copy(dense, theirs):
    dense.kernel.assign(theirs.weight.detach().T.numpy())
    if theirs.bias is not None:
        dense.bias.assign(theirs.bias.detach().numpy())


def assert_equal(found, expected):
    np.testing.assert_allclose(
        ops.convert_to_numpy(found), expected.detach().numpy(), rtol=1e-5, atol=1e-6
    )


def test_rotary_positions_are_those_of_roformer():
    from transformers import RoFormerConfig
    from transformers.models.roformer import modeling_roformer

    config = RoFormerConfig(
        hidden_size=8, num_attention_heads=2, attention_probs_dropout_prob=0.0
    )
    theirs = modeling_roformer.RoFormerSelfAttention(config).eval()
    table = modeling_roformer.RoFormerSinusoidalPositionalEmbedding(5, 4)
    table.weight.data.copy_(table.create_weight())
    layer, x = MultiHeadAttention(2, 4), ops.convert_to_tensor(X)
    inputs = [x, x, x, SinusoidalPositionEmbedding(4, "zero")(x)]
    layer(inputs, p_bias="rotary")
    for name in ("query", "key", "value"):
        copy(getattr(layer, f"{name}_dense"), getattr(theirs, name))
    layer.output_dense.kernel.assign(np.eye(8))  # theirs ends before
    expected = theirs(x, sinusoidal_pos=table(x.shape[:2])[None, None])[0]
    assert_equal(layer(inputs, p_bias="rotary"), expected)


def test_relative_positions_are_those_of_t5():
    from transformers import T5Config
    from transformers.models.t5.modeling_t5 import T5Attention

    config = T5Config(
        d_model=8,
        d_kv=4,
        num_heads=2,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=10,
    )
    theirs = T5Attention(config, has_relative_attention_bias=True).eval()
    layer = MultiHeadAttention(2, 4, use_bias=False, attention_scale=False)
    positions, x = RelativePositionEmbeddingT5(8, 2, 10), ops.convert_to_tensor(X)
    positions.build([x.shape, x.shape])
    table = theirs.relative_attention_bias.weight.detach().numpy()
    positions.embeddings.assign(table)
    inputs = [x, x, x, positions([x, x])]
    layer(inputs, p_bias="t5_relative")
    for name in ("query", "key", "value", "output"):
        copy(getattr(layer, f"{name}_dense"), getattr(theirs, name[0]))
    assert_equal(layer(inputs, p_bias="t5_relative"), theirs(x)[0])
