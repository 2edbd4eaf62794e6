"""Layers for building Transformers."""

from bert4keras.layers.attention import MultiHeadAttention
from bert4keras.layers.embeddings import Embedding, PositionEmbedding
from bert4keras.layers.feed_forward import FeedForward
from bert4keras.layers.merging import Add, AddSharedSegments, FirstToken
from bert4keras.layers.normalization import LayerNormalization, ScaleOffset

__all__ = [
    "Add",
    "AddSharedSegments",
    "Embedding",
    "FeedForward",
    "FirstToken",
    "LayerNormalization",
    "MultiHeadAttention",
    "PositionEmbedding",
    "ScaleOffset",
]
