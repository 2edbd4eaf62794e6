"""Layers that put tensors together or take them apart."""

from __future__ import annotations

from itertools import accumulate, pairwise

import keras
from keras import ops

from bert4keras.checks import check_sizes


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


@keras.saving.register_keras_serializable(package="bert4keras")
class Concatenate1D(keras.layers.Layer):
    """Sequences one after the other, those without a mask counting as real.

    Keras's own concatenation refuses to join a sequence that has a mask with one that
    has none.

    Call arguments:
        inputs: list of float tensors (batch, length, hidden).

    Returns:
        A tensor (batch, sum of lengths, hidden).

    Example:
        >>> Concatenate1D()([keras.ops.ones((2, 3, 4)), keras.ops.ones((2, 1, 4))])
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs):
        """Join along the positions."""
        return ops.concatenate(inputs, axis=1)

    def compute_mask(self, inputs, previous_mask=None):
        """The masks one after the other, or None if there is not one."""
        return _join_masks(inputs, previous_mask, axis=1)

    def compute_output_shape(self, input_shape):
        """(batch, sum of lengths, hidden)."""
        return _joined_shape(input_shape, axis=1)


@keras.saving.register_keras_serializable(package="bert4keras")
class BatchConcat(keras.layers.Layer):
    """Batches put together, the inverse of `BatchSplit`.

    Call arguments:
        inputs: list of tensors (batch, ...).

    Returns:
        A tensor (sum of batches, ...).

    Example:
        >>> BatchConcat()([keras.ops.ones((2, 3)), keras.ops.ones((1, 3))]).shape
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs):
        """Join along the samples."""
        return ops.concatenate(inputs, axis=0)

    def compute_mask(self, inputs, previous_mask=None):
        """The masks one after the other, or None if there is not one."""
        return _join_masks(inputs, previous_mask, axis=0)

    def compute_output_shape(self, input_shape):
        """(sum of batches, ...)."""
        return _joined_shape(input_shape, axis=0)


def _join_masks(inputs, masks, axis):
    if not masks or all(m is None for m in masks):
        return None
    masks = [
        ops.ones(ops.shape(x)[:2], dtype="bool") if m is None else ops.cast(m, "bool")
        for x, m in zip(inputs, masks, strict=True)
    ]
    return ops.concatenate(masks, axis=axis)


def _joined_shape(shapes, axis):
    sizes = [shape[axis] for shape in shapes]
    joined = list(shapes[0])
    joined[axis] = None if None in sizes else sum(sizes)
    return tuple(joined)


@keras.saving.register_keras_serializable(package="bert4keras")
class BatchSplit(keras.layers.Layer):
    """A batch cut into parts along its samples.

    Part k ends at sample floor(batch * (parts[0] + .. + parts[k]) / sum(parts)), so
    that no sample is lost or doubled.

    Args:
        parts: the parts' relative sizes, positive integers.

    Call arguments:
        inputs: tensor (batch, ...).

    Returns:
        A list of tensors, as many as `parts`.

    Raises:
        ValueError: if there are no parts, or one is not a positive integer.

    Example:
        >>> [x.shape[0] for x in BatchSplit([2, 1])(keras.ops.ones((6, 3)))]  # [4, 2]
    """

    def __init__(self, parts: list[int], **kwargs):
        super().__init__(**kwargs)
        if not isinstance(parts, list | tuple) or not parts:
            raise ValueError(
                f"BatchSplit was given parts={parts!r}; "
                "it must be a list of positive integers, such as [1, 1]."
            )
        check_sizes("BatchSplit", **{f"parts[{i}]": p for i, p in enumerate(parts)})
        self.parts = list(parts)
        self.supports_masking = True

    def call(self, inputs):
        """Cut along the samples."""
        return self._split(inputs)

    def _split(self, x):
        return [x[start:end] for start, end in self._ends(ops.shape(x)[0])]

    def _ends(self, size):
        """Pairs of a part's first sample and the one after its last."""
        sums, total = accumulate(self.parts, initial=0), sum(self.parts)
        return pairwise([size * part // total for part in sums])

    def compute_mask(self, inputs, previous_mask=None):
        """The mask, cut the same way."""
        if previous_mask is None:
            return [None] * len(self.parts)
        return self._split(previous_mask)

    def compute_output_shape(self, input_shape):
        """As many shapes as parts."""
        if input_shape[0] is None:
            return [tuple(input_shape)] * len(self.parts)
        ends = self._ends(input_shape[0])
        return [(end - start, *input_shape[1:]) for start, end in ends]

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "parts": self.parts}
