"""Relative positions: trained tables that attention adds to its scores."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from bert4keras.checks import check_sizes


@keras.saving.register_keras_serializable(package="bert4keras")
class RelativePositionEmbedding(keras.layers.Layer):
    """Vectors of the clipped distances between queries and keys.

    Entry (i, j) is row clip(j - i, -m, m) + m of the table, m = (input_dim - 1) // 2
    (Shaw et al., arXiv 1803.02155, equation 5 with one table for keys and values).

    Args:
        input_dim: number of distances in the table.
        output_dim: width of a distance's vector.
        embeddings_initializer: initializer of the table.

    Call arguments:
        inputs: `[queries, values]`, tensors (batch, length, ...); only their lengths
            count.

    Returns:
        A float tensor (query length, value length, output_dim).

    Raises:
        ValueError: for sizes under 1.

    Example:
        >>> x = keras.ops.ones((2, 3, 4))
        >>> RelativePositionEmbedding(7, 5)([x, x]).shape  # (3, 3, 5)
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer="zeros",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_sizes(type(self).__name__, input_dim=input_dim, output_dim=output_dim)
        self.input_dim = input_dim
        self.output_dim = output_dim
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)
        self.supports_masking = True

    def build(self, input_shape):
        """Create the table."""
        self.embeddings = self.add_weight(
            shape=(self.input_dim, self.output_dim),
            initializer=self.embeddings_initializer,
            name="embeddings",
        )

    def call(self, inputs):
        """Look the distances up."""
        table = ops.cast(self.embeddings, self.compute_dtype)
        return ops.take(table, self.compute_position_ids(inputs), axis=0)

    def compute_position_ids(self, inputs):
        """The table's rows for all pairs, integers (query length, value length)."""
        queries, values = inputs
        rows = ops.arange(ops.shape(queries)[1])[:, None]
        columns = ops.arange(ops.shape(values)[1])[None]
        return self.bucket(columns - rows)

    def bucket(self, distances):
        """The table's rows for distances (key's position minus query's)."""
        limit = (self.input_dim - 1) // 2
        return ops.clip(distances, -limit, limit) + limit

    def compute_mask(self, inputs, previous_mask=None):
        """Pairs of positions have no padding mask."""
        return None

    def compute_output_shape(self, input_shape):
        """(query length, value length, output_dim)."""
        return (input_shape[0][1], input_shape[1][1], self.output_dim)

    def get_config(self):
        """The constructor's arguments."""
        initializer = keras.initializers.serialize(self.embeddings_initializer)
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "embeddings_initializer": initializer,
        }


@keras.saving.register_keras_serializable(package="bert4keras")
class RelativePositionEmbeddingT5(RelativePositionEmbedding):
    """T5's buckets of distances: single ones when near, ever wider ones when far.

    Of the n buckets for one direction, half are for the distances under n/2; distance
    d beyond goes to n/2 + floor(n/2 * log(d / (n/2)) / log(max_distance / (n/2))), at
    most n - 1 (Raffel et al., arXiv 1910.10683, section 2.1;
    `_relative_position_bucket` of Mesh TensorFlow's transformer_layers.py). Read in
    both directions, the second half of the table is for keys after the query.

    Args:
        input_dim: number of buckets, an even number of at least 4 if `bidirectional`.
        output_dim: number of heads.
        max_distance: distance from which on all share the last bucket.
        bidirectional: whether keys after the query have buckets of their own.
        embeddings_initializer: initializer of the table.

    Call arguments and result: as `RelativePositionEmbedding`.

    Raises:
        ValueError: for too few buckets or too short a `max_distance`.

    Example:
        >>> x = keras.ops.ones((2, 3, 4))
        >>> RelativePositionEmbeddingT5(32, 12)([x, x]).shape  # (3, 3, 12)
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        max_distance: int = 128,
        bidirectional: bool = True,
        embeddings_initializer="zeros",
        **kwargs,
    ):
        super().__init__(input_dim, output_dim, embeddings_initializer, **kwargs)
        buckets = input_dim // 2 if bidirectional else input_dim
        if buckets < 2 or (bidirectional and input_dim % 2):
            raise ValueError(
                f"{type(self).__name__} was given input_dim={input_dim}; it must be "
                f"{'an even number of at least 4' if bidirectional else 'at least 2'}."
            )
        check_sizes(type(self).__name__, max_distance=max_distance)
        if max_distance <= buckets // 2:
            raise ValueError(
                f"{type(self).__name__} was given max_distance={max_distance}; it must "
                f"exceed the {buckets // 2} distances with a bucket each."
            )
        self.max_distance = max_distance
        self.bidirectional = bidirectional
        self.buckets_by_distance = _buckets_by_distance(buckets, max_distance)

    def bucket(self, distances):
        """The table's rows for distances (key's position minus query's)."""
        behind = ops.abs(distances) if self.bidirectional else -distances
        table = ops.convert_to_tensor(self.buckets_by_distance)
        rows = ops.take(table, ops.clip(behind, 0, self.max_distance), axis=0)
        if not self.bidirectional:
            return rows
        return rows + ops.cast(distances > 0, "int32") * (self.input_dim // 2)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "max_distance": self.max_distance,
            "bidirectional": self.bidirectional,
        }


def _buckets_by_distance(buckets: int, max_distance: int) -> np.ndarray:
    """Buckets of the distances 0 to max_distance, in one direction.

    A table, because backends round logarithms differently, and one that is a little
    less than a whole number would fall into the wrong bucket.
    """
    distances = np.arange(max_distance + 1)
    exact = buckets // 2
    ratio = np.log(np.maximum(distances, exact) / exact) / np.log(max_distance / exact)
    # The true value is a whole number, or at least 1e-9 away from one.
    far = exact + np.floor(ratio * (buckets - exact) + 1e-9)
    far = np.minimum(far, buckets - 1)
    return np.where(distances < exact, distances, far).astype("int32")
