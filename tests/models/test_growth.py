"""Larger models that start with the function of the smaller ones."""

import keras
import numpy as np
import pytest

from bert4keras.layers import (
    MultiHeadAttention,
    RelativePositionEmbedding,
    RelativePositionEmbeddingT5,
    SinusoidalPositionEmbedding,
)
from bert4keras.models import build_transformer_model
from bert4keras.models.growth import add_talking_heads, grow_key_size

INPUTS = [np.array([[3, 4, 5, 6, 0], [7, 8, 0, 0, 0]]), np.zeros((2, 5), "int32")]


def outputs(model, inputs=None):
    """Not compiled, which would take longer than all the rest."""
    return keras.ops.convert_to_numpy(model(INPUTS if inputs is None else inputs))


def attention(model, index=0):
    return model.get_layer(f"Transformer-{index}-MultiHeadSelfAttention")


def assert_same_outputs(model, grown, tolerance=1e-6):
    expected, found = outputs(model), outputs(grown)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=3 * tolerance * scale)


def assert_it_trains(model, *weights):
    before = [keras.ops.convert_to_numpy(w).copy() for w in weights]
    model.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=True)
    target = np.ones(outputs(model).shape)
    for _ in range(2):  # new keys get their gradient once new queries are not zero
        loss = model.train_on_batch(INPUTS, target)
    assert np.isfinite(loss)
    for weight, old in zip(weights, before, strict=True):
        new = keras.ops.convert_to_numpy(weight)
        changed = np.abs(new - old).reshape(-1, new.shape[-1]).max(axis=0)
        assert np.all(changed > 0), weight.path


@pytest.mark.parametrize("residual", [False, True])
def test_a_model_grows_its_keys(official_folder, residual):
    arguments = {"residual_attention_scores": residual, "dropout_rate": 0}
    model = build_transformer_model(official_folder, **arguments)
    grown = grow_key_size(model, 20)
    assert attention(grown, 1).key_size == 20
    assert attention(model, 1).key_size == 8
    assert_same_outputs(model, grown)
    layer = attention(grown)
    assert_it_trains(grown, layer.query_dense.kernel, layer.key_dense.kernel)


def test_a_checkpoint_grows_its_keys(official_folder):
    model = build_transformer_model(official_folder)
    grown = build_transformer_model(
        official_folder / "bert_config.json",
        grow_key_size(official_folder, 12, heads=2),
        attention_key_size=12,
    )
    assert attention(grown).key_size == 12
    assert_same_outputs(model, grown)


def test_a_checkpoint_loads_into_talking_heads(official_folder):
    model = build_transformer_model(official_folder, dropout_rate=0)
    talking = build_transformer_model(
        official_folder, talking_heads="both", dropout_rate=0
    )
    assert_same_outputs(model, talking)
    layer = attention(talking)
    assert_it_trains(talking, layer.score_mixing.kernel, layer.weight_mixing.kernel)


def test_a_model_gets_talking_heads_and_grows(official_folder):
    model = build_transformer_model(official_folder)
    talking = add_talking_heads(model)
    assert attention(talking).talking_heads == "both"
    assert_same_outputs(model, talking)
    assert_same_outputs(model, grow_key_size(talking, 10))
    with pytest.raises(ValueError, match="talk already"):
        add_talking_heads(talking)


@pytest.mark.parametrize(("scale", "talking"), [(True, False), (False, True)])
@pytest.mark.parametrize("kind", ["rotary", "typical_relative", "t5_relative"])
def test_positions_go_on_acting_on_the_old_columns(kind, scale, talking):
    x = keras.Input((5, 6))
    positions = {
        "rotary": lambda: SinusoidalPositionEmbedding(4, "zero")(x),
        "typical_relative": lambda: RelativePositionEmbedding(5, 4, "normal")([x, x]),
        "t5_relative": lambda: RelativePositionEmbeddingT5(
            4, 2, embeddings_initializer="normal"
        )([x, x]),
    }[kind]()
    layer = MultiHeadAttention(2, 4, attention_scale=scale, talking_heads=talking)
    model = keras.Model(x, layer([x, x, x, positions], p_bias=kind))
    rng = np.random.RandomState(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.weights])
    inputs = rng.normal(size=(2, 5, 6)).astype("float32")
    expected = outputs(model, inputs)
    # Positions do count, and growing twice is growing too.
    assert np.abs(expected - outputs(model, inputs[:, ::-1])[:, ::-1]).max() > 1e-2
    for grown in (grow_key_size(model, 6), grow_key_size(grow_key_size(model, 5), 8)):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(
            outputs(grown, inputs), expected, rtol=0, atol=2e-6 * scale
        )


def test_a_model_inside_a_model_grows(official_folder):
    encoder = build_transformer_model(official_folder)
    inputs = [keras.Input((None,), dtype="int32") for _ in range(2)]
    model = keras.Model(inputs, keras.layers.Dense(2)(encoder(inputs)))
    assert_same_outputs(model, grow_key_size(model, 12))


def test_without_scale_queries_keep_their_size():
    x = keras.Input((None, 6))
    layer = MultiHeadAttention(2, 4, attention_scale=False, use_bias=False)
    model = keras.Model(x, layer([x, x, x]))
    grown = grow_key_size(model, 7)
    inputs = np.random.RandomState(0).normal(size=(2, 3, 6)).astype("float32")
    np.testing.assert_allclose(
        outputs(grown, inputs), outputs(model, inputs), atol=1e-6
    )


def test_what_cannot_grow_is_named(official_folder):
    model = build_transformer_model(official_folder)
    with pytest.raises(ValueError, match=r"key_size=4, but .* has 8"):
        grow_key_size(model, 4)
    with pytest.raises(ValueError, match=r"key_size=4, but .* has 8"):
        grow_key_size(official_folder, 4, heads=2)
    with pytest.raises(ValueError, match="heads=None"):
        grow_key_size(official_folder, 16)
    with pytest.raises(ValueError, match="heads=3"):
        grow_key_size(official_folder, 16, heads=3)
    with pytest.raises(ValueError, match="query/kernel"):
        grow_key_size({"dense/kernel": np.ones((2, 2))}, 16, heads=2)
    x = keras.Input((3, 6))
    with pytest.raises(ValueError, match="no MultiHeadAttention"):
        grow_key_size(keras.Model(x, keras.layers.Dense(1)(x)), 16)
    for size in (0, 2.5, True, "16"):
        with pytest.raises(ValueError, match="key_size='?" + str(size)):
            grow_key_size(model, size)
    with pytest.raises(ValueError, match="talking_heads='sometimes'"):
        add_talking_heads(model, "sometimes")
    attention(model).query_dense.enable_lora(2)
    with pytest.raises(ValueError, match="query' has LoRA weights"):
        grow_key_size(model, 16)
    dense = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)])
    dense.quantize("int8")
    y = dense(MultiHeadAttention(2, 4)([x, x, x])[:, 0, :6])
    with pytest.raises(ValueError, match="is quantized"):
        grow_key_size(keras.Model(x, y), 16)
