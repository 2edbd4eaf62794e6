"""Cross-entropy for several targets at once.

Softmax cross-entropy with one target t is log(1 + sum over i != t of exp(s_i - s_t)).
Asking that the score of every target exceed that of every other class, with 0 as the
bar between the two groups, gives (J. Su, kexue.fm/archives/7359)

    log(1 + sum over negatives of exp(s_i)) + log(1 + sum over targets of exp(-s_j)),

and with targets y between 0 and 1 (kexue.fm/archives/9064) each exponential is
weighted by 1 - y_i or y_j. Unlike one binary cross-entropy a class, it does not drown
few targets in many negatives. A class is predicted where its score exceeds 0.
"""

from __future__ import annotations

import keras
from keras import ops

from bert4keras.masking import hidden_below, large_negative

# Stands for minus infinity among scores in float32: its exponential is 0, and sums and
# differences of it stay finite.
_FLOOR = -1e30


def _log1p_sum_exp(x):
    """log(1 + sum of exp(x)) along the last axis."""
    zeros = ops.zeros((*ops.shape(x)[:-1], 1), dtype=x.dtype)
    return ops.logsumexp(ops.concatenate([x, zeros], axis=-1), axis=-1)


def _weighted(scores, weights, keep):
    """scores + log(weights), minus infinity where the weight is 0 or not to be kept."""
    keep = ops.logical_and(keep, weights > 0)
    # Both branches of a where get gradients: neither may be infinite.
    safe = ops.log(ops.where(keep, weights, 1.0))
    return ops.where(keep, ops.where(keep, scores, 0.0) + safe, _FLOOR)


def multilabel_categorical_crossentropy(y_true, y_pred):
    """Cross-entropy of any number of targets; formula and sources: see the module.

    Args:
        y_true: tensor (..., classes), 1 for targets, 0 for others, or shares between.
        y_pred: float tensor (..., classes) of scores without an activation. Classes
            with a score of minus infinity (or under -1e8, in float16 -1.5e4, which
            masks give) are left out, targets or not.

    Returns:
        A tensor (...) of float32 at least, whatever the dtype of the scores.

    Example:
        >>> y_true = keras.ops.array([[1, 0, 1]])
        >>> y_pred = keras.ops.array([[2.0, -1.0, 0.0]])
        >>> multilabel_categorical_crossentropy(y_true, y_pred)  # [1.0719]
    """
    y_pred = ops.convert_to_tensor(y_pred)
    keep = y_pred > hidden_below(y_pred.dtype)
    dtype = keras.backend.result_type(y_pred.dtype, "float32")
    y_true, y_pred = ops.cast(y_true, dtype), ops.cast(y_pred, dtype)
    negatives = _log1p_sum_exp(_weighted(y_pred, 1 - y_true, keep))
    return negatives + _log1p_sum_exp(_weighted(-y_pred, y_true, keep))


def sparse_multilabel_categorical_crossentropy(y_true, y_pred, mask_zero=False):
    """The same with the targets as a list of class numbers.

    Args:
        y_true: integer tensor (..., targets) of class numbers. Repeating one changes
            nothing, so lists of several lengths can be filled up that way.
        y_pred: float tensor (..., classes) of scores without an activation.
        mask_zero: whether class 0 is padding: as a target it is skipped, and its score
            does not count.

    Returns:
        A tensor (...) of float32 at least.

    Example:
        >>> y_true = keras.ops.array([[0, 2]])
        >>> y_pred = keras.ops.array([[2.0, -1.0, 0.0]])
        >>> sparse_multilabel_categorical_crossentropy(y_true, y_pred)  # [1.0719]
    """
    y_pred = ops.convert_to_tensor(y_pred)
    targets = _from_class_numbers(y_true, y_pred)
    if mask_zero:
        classes = y_pred.shape[-1] or ops.shape(y_pred)[-1]
        floor = ops.cast(large_negative(y_pred.dtype), y_pred.dtype)
        y_pred = ops.where(ops.arange(classes) == 0, floor, y_pred)
    return multilabel_categorical_crossentropy(targets, y_pred)


def _from_class_numbers(numbers, scores):
    """1 where a class is among the numbers, else 0, in the shape of the scores.

    Scattering needs no more memory than the scores; one-hot vectors would need that
    for each target, too much where the classes are all spans of a text.
    """
    shape = ops.shape(scores)
    numbers = ops.cast(numbers, "int32")
    per_row = ops.shape(numbers)[-1]
    if isinstance(per_row, int) and per_row == 0:  # no target anywhere
        return ops.zeros(shape, dtype="float32")
    numbers = ops.reshape(numbers, (-1, per_row))
    rows = ops.shape(numbers)[0]
    starts = ops.arange(rows, dtype="int32")[:, None]
    places = ops.stack([ops.broadcast_to(starts, ops.shape(numbers)), numbers], axis=-1)
    places = ops.reshape(places, (-1, 2))
    ones = ops.ones((rows * per_row,), dtype="float32")
    counts = ops.scatter(places, ones, (rows, shape[-1]))
    return ops.reshape(ops.cast(counts > 0, "float32"), shape)


class _MultilabelLoss(keras.losses.Loss):
    def __init__(self, name, reduction="sum_over_batch_size", dtype=None):
        # Keras casts targets and scores to this: class numbers need its precision.
        floor = keras.backend.result_type(keras.config.floatx(), "float32")
        super().__init__(name=name, reduction=reduction, dtype=dtype or floor)


@keras.saving.register_keras_serializable(package="bert4keras")
class MultilabelCategoricalCrossentropy(_MultilabelLoss):
    """`multilabel_categorical_crossentropy` as a Keras loss.

    Args:
        name: the loss's name.
        reduction: as for every Keras loss.
        dtype: in which it is computed; None is float32 at least.

    Example:
        >>> model.compile(loss=MultilabelCategoricalCrossentropy())
    """

    def __init__(self, name="multilabel_categorical_crossentropy", **kwargs):
        super().__init__(name, **kwargs)

    def call(self, y_true, y_pred):
        """The loss of each sample."""
        return multilabel_categorical_crossentropy(y_true, y_pred)


@keras.saving.register_keras_serializable(package="bert4keras")
class SparseMultilabelCategoricalCrossentropy(_MultilabelLoss):
    """`sparse_multilabel_categorical_crossentropy` as a Keras loss.

    Args:
        mask_zero: whether class 0 is padding.
        name: the loss's name.
        reduction: as for every Keras loss.
        dtype: in which it is computed; None is float32 at least.

    Example:
        >>> model.compile(loss=SparseMultilabelCategoricalCrossentropy(mask_zero=True))
    """

    def __init__(
        self,
        mask_zero: bool = False,
        name="sparse_multilabel_categorical_crossentropy",
        **kwargs,
    ):
        super().__init__(name, **kwargs)
        self.mask_zero = mask_zero

    def call(self, y_true, y_pred):
        """The loss of each sample."""
        return sparse_multilabel_categorical_crossentropy(
            y_true, y_pred, self.mask_zero
        )

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "mask_zero": self.mask_zero}
