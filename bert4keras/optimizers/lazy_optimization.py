"""Lazy optimization: tokens that a batch does not contain stay where they are."""

from __future__ import annotations

from keras import ops

from bert4keras.checks import check_patterns
from bert4keras.optimizers.derived import (
    DerivedOptimizer,
    Update,
    extend,
    in_xla,
    is_rows,
    trick,
)


@trick
class LazyOptimization(DerivedOptimizer):
    """Rows of an embedding whose gradient is zero do not move.

    With g_t,i row i of the gradient and d_t,i that of the change, base and inner tricks
    together:

        theta_{t+1},i = theta_t,i + d_t,i  if g_t,i != 0,  else theta_t,i

    so that neither momentum nor weight decay moves a token that is not in the batch.
    The base's own averages go on as ever. The idea is that of TensorFlow's `LazyAdam`
    (https://www.tensorflow.org/addons/api_docs/python/tfa/optimizers/LazyAdam).

    Args:
        include_in_lazy_optimization: parts of the paths of variables to treat so, as
            `["Embedding"]`; by default none. The first axis counts the rows.

    Raises:
        ValueError: if a pattern is no string.

    Example:

        LazyAdam = extend_with_lazy_optimization(Adam, name="LazyAdam")
        LazyAdam(1e-3, include_in_lazy_optimization=["Embedding-Token"])
    """

    trick = "lazy_optimization"
    passes_rows = True

    def __init__(self, *args, include_in_lazy_optimization=None, **kwargs):
        included = check_patterns(
            "include_in_lazy_optimization", include_in_lazy_optimization
        )
        super().__init__(*args, **kwargs)
        self.include_in_lazy_optimization = included

    def patterns(self):
        own = {"include_in_lazy_optimization": self.include_in_lazy_optimization}
        return {**super().patterns(), **own}

    def propose(self, update: Update):
        change = super().propose(update)
        if not self.matches(update.variable, self.include_in_lazy_optimization):
            return change
        columns = tuple(range(1, len(update.variable.shape)))
        touched = ops.any(
            ops.not_equal(update.gradient, 0), axis=columns, keepdims=True
        )
        return ops.where(touched, change, ops.zeros_like(change))

    def moving_rows(self, gradient, variable):
        # Asked by those bases that can skip the computation of what does not move.
        index = self._get_variable_index(variable)
        included = self.include_in_lazy_optimization
        is_lazy = self.matches(self._trainable_variables[index], included)
        return unique_rows(gradient) if is_lazy else None

    def get_config(self):
        included = list(self.include_in_lazy_optimization)
        return {**super().get_config(), "include_in_lazy_optimization": included}


def unique_rows(gradient):
    """The rows of an `IndexedSlices` gradient and their sums, or None (TensorFlow)."""
    if not is_rows(gradient) or in_xla():
        return None
    import tensorflow as tf

    rows, places = tf.unique(gradient.indices)
    sums = tf.math.unsorted_segment_sum(gradient.values, places, tf.size(rows))
    return tf.IndexedSlices(sums, rows, gradient.dense_shape)


def extend_with_lazy_optimization(BaseOptimizer, name=None):  # noqa: N803
    """Returns the class `BaseOptimizer` with `LazyOptimization`, called `name`."""
    return extend(LazyOptimization, BaseOptimizer, name)
