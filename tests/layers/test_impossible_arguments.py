"""Impossible arguments of every layer fail at construction, and are named."""

import keras
import pytest

from bert4keras import layers
from bert4keras.layers.recompute import RecomputableLayer

X = (3, 4)

SIZES = {
    "MultiHeadAttention": (
        {"heads": 2, "head_size": 4, "talking_heads": True},
        (
            "heads",
            "head_size",
            "out_dim",
            "key_size",
            "key_heads",
            "value_heads",
            "position_size",
        ),
    ),
    "HeadMixing": ({"heads": 2}, ("heads",)),
    "GatedAttentionUnit": ({"units": 4, "key_size": 2}, ("units", "key_size")),
    "FeedForward": ({"units": 4}, ("units",)),
    "Embedding": ({"input_dim": 4, "output_dim": 2}, ("input_dim", "output_dim")),
    "PositionEmbedding": (
        {"input_dim": 4, "output_dim": 2},
        ("input_dim", "output_dim"),
    ),
    "SinusoidalPositionEmbedding": ({"output_dim": 2}, ("output_dim",)),
    "RelativePositionEmbedding": (
        {"input_dim": 4, "output_dim": 2},
        ("input_dim", "output_dim"),
    ),
    "RelativePositionEmbeddingT5": (
        {"input_dim": 8, "output_dim": 2, "max_distance": 16},
        ("input_dim", "output_dim", "max_distance"),
    ),
    "ScaleOffset": ({"hidden_units": 2}, ("hidden_units",)),
    "LayerNormalization": ({"hidden_units": 2}, ("hidden_units",)),
}


@pytest.mark.parametrize(
    ("layer", "name"), [(k, name) for k, (_, names) in SIZES.items() for name in names]
)
def test_sizes_are_positive_integers(layer, name):
    possible = SIZES[layer][0]
    getattr(layers, layer)(**possible)
    for size in (0, -1, 2.5, "4", True):
        with pytest.raises(ValueError, match=f"{name}={size}|{name}='{size}'"):
            getattr(layers, layer)(**{**possible, name: size})


def attention(*shapes, **call):
    x = keras.Input(X)
    inputs = [x, x, x, *(keras.Input(shape) for shape in shapes)]
    return layers.MultiHeadAttention(2, 4)(inputs, **call)


IMPOSSIBLE = [
    (lambda: layers.MultiHeadAttention(2, 4, position_size=5), "position_size=5"),
    (lambda: layers.MultiHeadAttention(2, 4, attention_dropout=1), "dropout=1"),
    (lambda: layers.MultiHeadAttention(2, 4, attention_dropout="x"), "dropout='x'"),
    (lambda: layers.MultiHeadAttention(2, 4, recompute="yes"), "recompute='yes'"),
    (lambda: layers.MultiHeadAttention(2, 4, talking_heads=0), "talking_heads=0"),
    (lambda: layers.MultiHeadAttention(2, 4)(keras.Input(X)), "query, key and value"),
    (lambda: attention((3, 5), p_bias="typical_relative"), "head_size being 4"),
    (lambda: attention((3, 3), p_bias="t5_relative"), "heads being 2"),
    (lambda: attention((5, 3, 3), a_bias=True), r"\(batch, 2, query"),
    (lambda: layers.GatedAttentionUnit(4, 4, normalization="none"), "='none'"),
    (lambda: layers.GatedAttentionUnit(4, 4, attention_dropout=-0.1), "dropout=-0.1"),
    (lambda: layers.GatedAttentionUnit(4, 4)(keras.Input(X), a_bias=True), "1 inputs"),
    (lambda: layers.GatedAttentionUnit(4, 4)(keras.Input(X), p_bias="t5"), "='t5'"),
    (
        lambda: layers.GatedAttentionUnit(4, 4)(
            [keras.Input(X), keras.Input((2, 3, 3))], a_bias=True
        ),
        "there is one head",
    ),
    (lambda: layers.FeedForward(4, []), r"activation=\[\]"),
    (lambda: layers.FeedForward(4, "no_such"), "no_such"),
    (lambda: layers.LayerNormalization(epsilon=-1), "epsilon=-1"),
    (lambda: layers.LayerNormalization(epsilon=float("nan")), "epsilon=nan"),
    (lambda: layers.LayerNormalization(conditional=True)(keras.Input(X)), "condition"),
    (lambda: layers.ScaleOffset()([keras.Input(X)] * 2), "takes one tensor"),
    (lambda: layers.PositionEmbedding(4, 4, "sum"), "merge_mode='sum'"),
    (lambda: layers.PositionEmbedding(4, 4, hierarchical=1.5), "hierarchical=1.5"),
    (lambda: layers.PositionEmbedding(4, 4, hierarchical="a"), "hierarchical=a"),
    (lambda: layers.PositionEmbedding(2, 4)(keras.Input(X)), "3 positions"),
    (lambda: layers.PositionEmbedding(4, 6)(keras.Input(X)), "output_dim=6"),
    (lambda: layers.SinusoidalPositionEmbedding(5), "output_dim=5"),
    (lambda: layers.SinusoidalPositionEmbedding(4, "sum"), "merge_mode='sum'"),
    (lambda: layers.RelativePositionEmbeddingT5(7, 4), "input_dim=7"),
    (lambda: layers.RelativePositionEmbeddingT5(32, 4, 8), "max_distance=8"),
    (lambda: layers.BatchSplit([]), r"parts=\[\]"),
    (lambda: layers.BatchSplit(2), "parts=2"),
    (lambda: layers.BatchSplit([1, 0]), r"parts\[1\]=0"),
    (lambda: layers.GlobalAveragePooling1D("channels_first"), "channels_first"),
    (lambda: layers.GlobalMaxPooling1D("channels_first"), "channels_first"),
]


@pytest.mark.parametrize(("make", "named"), IMPOSSIBLE)
def test_impossible_arguments_are_named(make, named):
    with pytest.raises(ValueError, match=named):
        make()


def test_recomputing_is_refused_where_there_is_no_such_thing(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "numpy")
    with pytest.raises(ValueError, match="'numpy' has no rematerialization"):
        RecomputableLayer(recompute=True)
    RecomputableLayer(recompute=False)
