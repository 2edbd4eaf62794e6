"""Metrics for several targets at once; a class with a score over 0 is predicted."""

from __future__ import annotations

import keras
from keras import ops

AVERAGES = ("micro", "macro")


@keras.saving.register_keras_serializable(package="bert4keras")
class MultilabelExactMatch(keras.metrics.Mean):
    """Share of samples whose predicted classes are exactly the targets.

    Call arguments (`update_state`):
        y_true: tensor (..., classes), over 0.5 for targets.
        y_pred: float tensor (..., classes) of scores.
        sample_weight: None, or a tensor (...).

    Example:
        >>> metric = MultilabelExactMatch()
        >>> metric.update_state([[1, 0], [1, 0]], [[2.0, -1.0], [2.0, 1.0]])
        >>> metric.result()  # 0.5
    """

    def __init__(self, name="exact_match", dtype=None):
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Count a batch."""
        targets, predicted = _targets(y_true), _predictions(y_pred)
        matches = ops.all(ops.equal(targets, predicted), axis=-1)
        return super().update_state(ops.cast(matches, self.dtype), sample_weight)


@keras.saving.register_keras_serializable(package="bert4keras")
class MultilabelF1(keras.metrics.Metric):
    """F1, the harmonic mean of precision and recall: 2 TP / (2 TP + FP + FN).

    Args:
        average: `"micro"` counts all classes together; `"macro"` is the mean of the
            classes' F1, that of a class neither present nor predicted being 0.
        name: the metric's name; None is the average and `_f1`.
        dtype: of the counts.

    Call arguments (`update_state`):
        y_true: tensor (..., classes), over 0.5 for targets.
        y_pred: float tensor (..., classes) of scores.
        sample_weight: None, or a tensor (...).

    Raises:
        ValueError: for another average.

    Example:
        >>> metric = MultilabelF1("micro")
        >>> metric.update_state([[1, 0], [1, 0]], [[2.0, -1.0], [2.0, 1.0]])
        >>> metric.result()  # 0.8
    """

    def __init__(self, average: str = "micro", name=None, dtype=None):
        if average not in AVERAGES:
            raise ValueError(
                f"MultilabelF1 was given average={average!r}; choose one of {AVERAGES}."
            )
        super().__init__(name=name or f"{average}_f1", dtype=dtype)
        self.average = average
        self.counts = None

    def build(self, classes: int):
        """Create the counts: true positives, predicted, present."""
        self.counts = self.add_variable(
            shape=(3, classes), initializer="zeros", name="counts"
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Count a batch."""
        targets = ops.cast(_targets(y_true), self.dtype)
        predicted = ops.cast(_predictions(y_pred), self.dtype)
        classes = predicted.shape[-1]
        if self.counts is None:
            self.build(classes)
        parts = ops.stack([targets * predicted, predicted, targets])
        if sample_weight is not None:
            weight = ops.cast(sample_weight, self.dtype)
            parts = parts * ops.broadcast_to(weight[..., None], ops.shape(predicted))
        sums = ops.sum(ops.reshape(parts, (3, -1, classes)), axis=1)
        self.counts.assign_add(sums)

    def result(self):
        """The F1 of what was counted since the last reset."""
        if self.counts is None:
            return ops.zeros((), dtype=self.dtype)
        counts = ops.convert_to_tensor(self.counts)
        if self.average == "micro":
            counts = ops.sum(counts, axis=1, keepdims=True)
        total = counts[1] + counts[2]
        f1 = 2 * counts[0] / ops.where(total > 0, total, 1)
        return ops.mean(f1)

    def reset_state(self):
        """Start counting anew."""
        if self.counts is not None:
            self.counts.assign(ops.zeros(self.counts.shape))

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "average": self.average}


def _targets(y_true):
    # TensorFlow compares integers with integers only.
    return ops.cast(y_true, "float32") > 0.5


def _predictions(y_pred):
    return ops.convert_to_tensor(y_pred) > 0
