import keras
import numpy as np
import pytest
from keras import ops

from bert4keras import layers
from bert4keras.layers.positions import Sinusoidal, sinusoidal_embeddings
from bert4keras.layers.scores import apply_rotary_position_embeddings

array = ops.convert_to_numpy


def test_sinusoidal_embeddings_by_the_formula():
    positions = np.array([0, 1, 7, 500, 4000])
    found = array(sinusoidal_embeddings(ops.convert_to_tensor(positions), 6))
    for row, p in enumerate(positions):
        for i in range(3):
            angle = p / 10000 ** (2 * i / 6)
            pair = found[row, 2 * i : 2 * i + 2]
            # 4000 has an error of 4000 * 2^-24 in float32.
            np.testing.assert_allclose(pair, [np.sin(angle), np.cos(angle)], atol=5e-4)


def test_a_table_that_starts_sinusoidal():
    initializer = keras.initializers.deserialize(
        keras.initializers.serialize(Sinusoidal())
    )
    layer = layers.PositionEmbedding(5, 4, embeddings_initializer=initializer)
    layer.build((1, 5, 4))
    expected = array(sinusoidal_embeddings(ops.arange(5), 4))
    np.testing.assert_array_equal(array(layer.embeddings), expected)


@pytest.mark.parametrize("mode", ["add", "mul", "concat", "zero"])
@pytest.mark.parametrize("custom", [False, True])
@pytest.mark.parametrize("sinusoidal", [False, True])
def test_merge_modes(mode, custom, sinusoidal):
    rng = np.random.RandomState(0)
    x = rng.normal(size=(2, 3, 4)).astype("float32")
    ids = np.array([[2, 0, 1], [0, 1, 3]]) if custom else np.array([[0, 1, 2]])
    if sinusoidal:
        layer = layers.SinusoidalPositionEmbedding(4, mode, custom_position_ids=custom)
        table = array(sinusoidal_embeddings(ops.arange(4), 4))
    else:
        layer = layers.PositionEmbedding(4, 4, mode, custom_position_ids=custom)
        table = rng.normal(size=(4, 4)).astype("float32")
        layer.build([x.shape, ids.shape] if custom else x.shape)
        layer.set_weights([table])
    inputs = ops.convert_to_tensor(x)
    found = array(layer([inputs, ops.convert_to_tensor(ids)] if custom else inputs))
    p = table[ids]
    expected = {
        "add": x + p,
        "mul": x * (1 + p),
        "concat": np.concatenate([x, np.broadcast_to(p, x.shape)], -1),
        "zero": p,
    }[mode]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_hierarchical_positions_go_beyond_the_table():
    layer = layers.PositionEmbedding(3, 2, "zero", hierarchical=True)
    layer.build((1, 9, 2))
    table = np.random.RandomState(0).normal(size=(3, 2))
    layer.set_weights([table])
    found = array(layer(ops.zeros((1, 9, 2))))[0]
    np.testing.assert_allclose(found[:3], table, rtol=1e-5, atol=1e-6)
    u = (table - 0.4 * table[0]) / 0.6
    for position in range(9):
        expected = 0.4 * u[position // 3] + 0.6 * u[position % 3]
        np.testing.assert_allclose(found[position], expected, rtol=1e-5, atol=1e-6)


def test_hierarchical_positions_end_at_the_square_of_the_table():
    layer = layers.PositionEmbedding(3, 2, hierarchical=True)
    layer(ops.zeros((1, 9, 2)))
    with pytest.raises(ValueError, match="10 positions does not fit the 9"):
        layer(ops.zeros((1, 10, 2)))


def test_rotation_depends_on_the_difference_of_positions_only():
    rng = np.random.RandomState(0)
    q, k = (ops.convert_to_tensor(rng.normal(size=(1, 1, 8)), "float32") for _ in "qk")
    products = []
    for shift in (0, 5, 40):
        rotated = [
            apply_rotary_position_embeddings(
                sinusoidal_embeddings(ops.convert_to_tensor([[p + shift]]), 8), x
            )
            for x, p in ((q, 3), (k, 9))
        ]
        products.append(float(array(ops.sum(rotated[0] * rotated[1]))))
    np.testing.assert_allclose(products, products[0], rtol=1e-4)


@pytest.mark.parametrize("queries", [1, 3, 5])
def test_relative_positions_by_brute_force(queries):
    layer = layers.RelativePositionEmbedding(5, 2)
    x, y = ops.ones((1, queries, 1)), ops.ones((1, 4, 1))
    layer.build([x.shape, y.shape])
    table = np.arange(10, dtype="float32").reshape(5, 2)
    layer.set_weights([table])
    found = array(layer([x, y]))
    for i in range(queries):
        for j in range(4):
            np.testing.assert_array_equal(
                found[i, j], table[min(max(j - i, -2), 2) + 2]
            )


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "distance"), [(32, 128), (8, 20), (64, 500)])
def test_t5_buckets_are_those_of_transformers(
    buckets, distance, bidirectional, backend
):
    if backend != "torch":
        pytest.skip("transformers' T5 needs PyTorch; the table is the same everywhere")
    import torch
    from transformers.models.t5.modeling_t5 import T5Attention

    layer = layers.RelativePositionEmbeddingT5(
        buckets, 1, distance, bidirectional=bidirectional
    )
    distances = torch.arange(-2 * distance, 2 * distance + 1)
    expected = T5Attention._relative_position_bucket(
        distances, bidirectional, buckets, distance
    )
    found = layer.bucket(distances)
    # Where the logarithm is a whole number float32 may fall short of it by one.
    wrong = (found != expected).nonzero()[:, 0]
    assert all(found[w] - expected[w] == 1 for w in wrong)
    assert len(wrong) <= 6


@pytest.mark.parametrize("bidirectional", [True, False])
def test_t5_buckets_by_the_paper(bidirectional):
    """Exact ones near, ever wider ones far, one for all from 128 on."""
    layer = layers.RelativePositionEmbeddingT5(32, 1, bidirectional=bidirectional)
    behind = array(layer.bucket(ops.convert_to_tensor(-np.arange(300))))
    one_way = 16 if bidirectional else 32
    exact = one_way // 2
    np.testing.assert_array_equal(behind[:exact], np.arange(exact))
    assert np.all(np.diff(behind) >= 0)
    assert np.all(behind[128:] == one_way - 1)
    # 16, 32 and 64 are powers of two times 8: whole logarithms.
    if bidirectional:
        np.testing.assert_array_equal(behind[[16, 32, 64]], [10, 12, 14])
        np.testing.assert_array_equal(behind[[15, 31, 63]], [9, 11, 13])
    ahead = array(layer.bucket(ops.convert_to_tensor(np.arange(1, 300))))
    np.testing.assert_array_equal(ahead, behind[1:] + 16 if bidirectional else 0)


def test_gated_attention_with_three_inputs_bias_and_rotary_positions():
    """The general form, by the paper's equations in float64."""
    rng = np.random.RandomState(0)
    arrays = [rng.normal(size=(2, 4, 6)) for _ in range(3)]
    arrays.append(rng.normal(size=(2, 4, 4)))
    positions = array(sinusoidal_embeddings(ops.arange(4)[None], 4))
    inputs = [ops.convert_to_tensor(a, "float32") for a in [*arrays, positions]]
    layer = layers.GatedAttentionUnit(
        5, 4, self_attention=False, normalization="softmax"
    )
    layer.build([tuple(x.shape) for x in inputs])
    layer.set_weights([rng.normal(size=w.shape) for w in layer.weights])
    found = array(layer(inputs, a_bias=True, p_bias="rotary"))

    w = {v.path.split("/", 1)[-1]: array(v).astype("float64") for v in layer.weights}

    def dense(name, x):
        y = x @ w[f"{name}/kernel"] + w[f"{name}/bias"]
        return y / (1 + np.exp(-y))

    both = dense("query", arrays[0])
    gates, q = both[..., :5], both[..., 5:]
    k, v = dense("key", arrays[1]), dense("value", arrays[2])
    angles = np.arange(4)[:, None] / np.array([1, 100.0])
    turned = []
    for name, x in (("query_scale", q), ("key_scale", k)):
        x = x * w[f"{name}/gamma"] + w[f"{name}/beta"]
        c = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)
        turned.append(np.stack([c.real, c.imag], -1).reshape(x.shape))
    scores = np.einsum("bqd,bkd->bqk", *turned) / 2 + arrays[3]
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    expected = (gates * (weights @ v)) @ w["output/kernel"] + w["output/bias"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_gated_attention_takes_the_bias_of_a_language_model():
    """Which has an axis for heads, of size 1."""
    rng = np.random.RandomState(0)
    x, bias = rng.normal(size=(2, 4, 6)), np.where(np.tri(4), 0, -1e30)
    layer = layers.GatedAttentionUnit(5, 4, normalization="softmax")
    x = ops.convert_to_tensor(x, "float32")
    found, expected = (
        array(layer([x, ops.convert_to_tensor(b, "float32")], a_bias=True))
        for b in (bias[None, None], bias[None])
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    prefix = array(
        layer([x[:, :2], ops.convert_to_tensor(bias[None, :2, :2])], a_bias=True)
    )
    np.testing.assert_allclose(found[:, :2], prefix, rtol=1e-4, atol=1e-5)
