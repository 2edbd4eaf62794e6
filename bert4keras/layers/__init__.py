"""Layers for building Transformers."""

from bert4keras.layers.attention import HeadMixing, MultiHeadAttention
from bert4keras.layers.embeddings import Embedding
from bert4keras.layers.feed_forward import FeedForward
from bert4keras.layers.gated_attention import GatedAttentionUnit
from bert4keras.layers.loss import Loss
from bert4keras.layers.merging import (
    Add,
    AddSharedSegments,
    BatchConcat,
    BatchSplit,
    Concatenate1D,
    FirstToken,
)
from bert4keras.layers.normalization import LayerNormalization, ScaleOffset
from bert4keras.layers.pooling import GlobalAveragePooling1D, GlobalMaxPooling1D
from bert4keras.layers.positions import PositionEmbedding, SinusoidalPositionEmbedding
from bert4keras.layers.recompute import RecomputableLayer
from bert4keras.layers.relative_positions import (
    RelativePositionEmbedding,
    RelativePositionEmbeddingT5,
)

__all__ = [
    "Add",
    "AddSharedSegments",
    "BatchConcat",
    "BatchSplit",
    "Concatenate1D",
    "Embedding",
    "FeedForward",
    "FirstToken",
    "GatedAttentionUnit",
    "GlobalAveragePooling1D",
    "GlobalMaxPooling1D",
    "HeadMixing",
    "LayerNormalization",
    "Loss",
    "MultiHeadAttention",
    "PositionEmbedding",
    "RecomputableLayer",
    "RelativePositionEmbedding",
    "RelativePositionEmbeddingT5",
    "ScaleOffset",
    "SinusoidalPositionEmbedding",
]
