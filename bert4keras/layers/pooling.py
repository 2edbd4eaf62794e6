"""Pooling over the real positions of a sequence."""

from __future__ import annotations

import keras
from keras import ops

from bert4keras.checks import check_choice

_CHANNELS_LAST = ("channels_last",)


def _as_columns(mask):
    return ops.cast(mask, "bool")[:, :, None]


@keras.saving.register_keras_serializable(package="bert4keras")
class GlobalAveragePooling1D(keras.layers.GlobalAveragePooling1D):
    """The mean over a sequence's real positions.

    Unlike Keras's own it gives 0, not NaN, for a sequence without any, and sums in
    float32 at least.

    Args:
        data_format: `"channels_last"`; there is no other.
        **kwargs: `keepdims`, and the arguments of every Keras layer.

    Call arguments:
        inputs: float tensor (batch, length, hidden).
        mask: (batch, length) boolean; Keras fills it in.

    Returns:
        A tensor (batch, hidden), with `keepdims` (batch, 1, hidden).

    Raises:
        ValueError: for another data format.

    Example:
        >>> GlobalAveragePooling1D()(keras.ops.ones((2, 3, 4))).shape
    """

    def __init__(self, data_format: str = "channels_last", **kwargs):
        check_choice(type(self).__name__, _CHANNELS_LAST, data_format=data_format)
        super().__init__(data_format=data_format, **kwargs)

    def call(self, inputs, mask=None):
        """Sum what is real, divide by its number."""
        if mask is None:
            return super().call(inputs)
        dtype = keras.backend.result_type(inputs.dtype, "float32")
        real = _as_columns(mask)
        # Where, not times: padding may hold infinities.
        kept = ops.where(real, ops.cast(inputs, dtype), 0.0)
        number = ops.sum(ops.cast(real, dtype), axis=1, keepdims=self.keepdims)
        mean = ops.sum(kept, axis=1, keepdims=self.keepdims) / ops.maximum(number, 1)
        return ops.cast(mean, inputs.dtype)


@keras.saving.register_keras_serializable(package="bert4keras")
class GlobalMaxPooling1D(keras.layers.GlobalMaxPooling1D):
    """The maximum over a sequence's real positions; 0 for a sequence without any.

    Args:
        data_format: `"channels_last"`; there is no other.
        **kwargs: `keepdims`, and the arguments of every Keras layer.

    Call arguments:
        inputs: float tensor (batch, length, hidden).
        mask: (batch, length) boolean; Keras fills it in.

    Returns:
        A tensor (batch, hidden), with `keepdims` (batch, 1, hidden).

    Raises:
        ValueError: for another data format.

    Example:
        >>> GlobalMaxPooling1D()(keras.ops.ones((2, 3, 4))).shape
    """

    def __init__(self, data_format: str = "channels_last", **kwargs):
        check_choice(type(self).__name__, _CHANNELS_LAST, data_format=data_format)
        super().__init__(data_format=data_format, **kwargs)
        self.supports_masking = True

    def call(self, inputs, mask=None):
        """Take the maximum of what is real."""
        if mask is None:
            return super().call(inputs)
        real = _as_columns(mask)
        lowest = ops.cast(float("-inf"), inputs.dtype)
        kept = ops.where(real, inputs, lowest)
        highest = ops.max(kept, axis=1, keepdims=self.keepdims)
        some = ops.any(real, axis=1, keepdims=self.keepdims)
        return ops.where(some, highest, ops.zeros_like(highest))

    def compute_mask(self, inputs, previous_mask=None):
        """One vector a sample has no positions to mask."""
        return None
