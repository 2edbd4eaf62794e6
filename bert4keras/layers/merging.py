"""Layers that put tensors together or take them apart."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="bert4keras")
class Add(keras.layers.Add):
    """A sum whose mask is the conjunction of the masks that its inputs have.

    Keras's own sum drops the mask as soon as one input has none, and the segment
    embeddings have none.

    Example:
        >>> Add()([keras.ops.ones((2, 3)), keras.ops.ones((2, 3))])
    """

    def compute_mask(self, inputs, mask=None):
        """True where every input that has a mask is real."""
        masks = [m for m in (mask or []) if m is not None]
        if not masks:
            return None
        combined = masks[0]
        for m in masks[1:]:
            if m is not masks[0]:
                combined = ops.logical_and(combined, m)
        return combined


@keras.saving.register_keras_serializable(package="bert4keras")
class AddSharedSegments(Add):
    """Token vectors plus segment vectors that come from the same table.

    Segment ids that share the token table are token ids, so that 0 is padding among
    them too. bert4keras 0.11.5 never masks the first position by them, and the models
    trained with it rely on that.

    Call arguments:
        inputs: `[tokens, segments]`, float tensors (batch, length, hidden).

    Returns:
        A tensor of the same shape.

    Example:
        >>> AddSharedSegments()([keras.ops.ones((2, 3, 4)), keras.ops.ones((2, 3, 4))])
    """

    def compute_mask(self, inputs, mask=None):
        """Real tokens in real segments, the first position being in one always."""
        tokens, segments = mask if mask else (None, None)
        if segments is None:
            return tokens
        segments = ops.logical_or(
            segments, ops.arange(segments.shape[1] or ops.shape(segments)[1]) == 0
        )
        return segments if tokens is None else ops.logical_and(tokens, segments)


@keras.saving.register_keras_serializable(package="bert4keras")
class FirstToken(keras.layers.Layer):
    """The vector of a sequence's first token, BERT's [CLS].

    Call arguments:
        inputs: float tensor (batch, length, hidden).

    Returns:
        A tensor (batch, hidden).

    Example:
        >>> FirstToken()(keras.ops.ones((2, 3, 4))).shape
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs):
        """Take position 0."""
        return inputs[:, 0]

    def compute_mask(self, inputs, previous_mask=None):
        """One vector a sample has no positions to mask."""
        return None

    def compute_output_shape(self, input_shape):
        """(batch, hidden)."""
        return (input_shape[0], *input_shape[2:])
