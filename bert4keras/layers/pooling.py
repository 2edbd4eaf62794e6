"""Pooling over the real positions of a sequence."""

from __future__ import annotations

import keras
from keras import ops

from bert4keras.masking import large_negative


def _as_columns(mask):
    return ops.cast(mask, "bool")[:, :, None]


@keras.saving.register_keras_serializable(package="bert4keras")
class GlobalAveragePooling1D(keras.layers.GlobalAveragePooling1D):
    """The mean over a sequence's real positions.

    Unlike Keras's own it gives 0, not NaN, for a sequence without any, and sums in
    float32 at least.

    Call arguments:
        inputs: float tensor (batch, length, hidden).
        mask: (batch, length) boolean; Keras fills it in.

    Returns:
        A tensor (batch, hidden).

    Example:
        >>> GlobalAveragePooling1D()(keras.ops.ones((2, 3, 4))).shape
    """

    def call(self, inputs, mask=None):
        """Sum what is real, divide by its number."""
        if mask is None:
            return super().call(inputs)
        dtype = keras.backend.result_type(inputs.dtype, "float32")
        # Where, not times: padding may hold infinities.
        kept = ops.where(_as_columns(mask), ops.cast(inputs, dtype), 0.0)
        number = ops.maximum(ops.sum(ops.cast(mask, dtype), axis=1, keepdims=True), 1)
        return ops.cast(ops.sum(kept, axis=1) / number, inputs.dtype)


@keras.saving.register_keras_serializable(package="bert4keras")
class GlobalMaxPooling1D(keras.layers.GlobalMaxPooling1D):
    """The maximum over a sequence's real positions; 0 for a sequence without any.

    Call arguments:
        inputs: float tensor (batch, length, hidden).
        mask: (batch, length) boolean; Keras fills it in.

    Returns:
        A tensor (batch, hidden).

    Example:
        >>> GlobalMaxPooling1D()(keras.ops.ones((2, 3, 4))).shape
    """

    def __init__(self, data_format="channels_last", **kwargs):
        super().__init__(data_format=data_format, **kwargs)
        self.supports_masking = True

    def call(self, inputs, mask=None):
        """Take the maximum of what is real."""
        if mask is None:
            return super().call(inputs)
        floor = ops.cast(large_negative(inputs.dtype), inputs.dtype)
        highest = ops.max(ops.where(_as_columns(mask), inputs, floor), axis=1)
        some = ops.any(ops.cast(mask, "bool"), axis=1, keepdims=True)
        return ops.where(some, highest, ops.zeros_like(highest))

    def compute_mask(self, inputs, previous_mask=None):
        """One vector a sample has no positions to mask."""
        return None
