"""Layer adaptation: each variable moves in proportion to its own size."""

from __future__ import annotations

from keras import ops

from bert4keras.checks import check_patterns
from bert4keras.optimizers.derived import (
    DerivedOptimizer,
    Update,
    extend,
    trick,
    wide_dtype,
)


@trick
class LayerAdaptation(DerivedOptimizer):
    """Layer-wise adaptation (You et al. 2020, LAMB, arXiv:1904.00962, Algorithm 2).

    With the change d_t = -gamma_t h_t, base and inner tricks together:

        theta_{t+1} = theta_t - gamma_t h_t |theta_t| / |h_t|

    where |.| is the Euclidean norm of the whole variable; if one of the two is 0, the
    change stays as it is. LAMB is this over Adam with weight decay inside it.

    Args:
        exclude_from_layer_adaptation: parts of the paths of variables whose change
            stays as it is, as `["Norm", "bias"]`.

    Raises:
        ValueError: if a pattern is no string.

    Example:

        LAMB = extend_with_layer_adaptation(extend_with_weight_decay(Adam), name="LAMB")
        LAMB(1e-3, exclude_from_layer_adaptation=["Norm", "bias"])
    """

    trick = "layer_adaptation"

    def __init__(self, *args, exclude_from_layer_adaptation=None, **kwargs):
        excluded = check_patterns(
            "exclude_from_layer_adaptation", exclude_from_layer_adaptation
        )
        super().__init__(*args, **kwargs)
        self.exclude_from_layer_adaptation = excluded

    def patterns(self):
        own = {"exclude_from_layer_adaptation": self.exclude_from_layer_adaptation}
        return {**super().patterns(), **own}

    def propose(self, update: Update):
        change = super().propose(update)
        if self.matches(update.variable, self.exclude_from_layer_adaptation):
            return change
        # The squares of a large variable sum up to more than float16 can hold.
        wide = wide_dtype(update.variable)
        size = _norm(ops.cast(update.value, wide))
        step = _norm(ops.cast(change, wide))
        both = ops.logical_and(size > 0, step > 0)
        step = ops.where(both, step, ops.ones_like(step))
        rate = ops.cast(update.learning_rate, wide)
        ratio = ops.where(both, rate * size / step, ops.ones_like(step))
        return ops.cast(ops.cast(change, wide) * ratio, update.variable.dtype)

    def get_config(self):
        excluded = list(self.exclude_from_layer_adaptation)
        return {**super().get_config(), "exclude_from_layer_adaptation": excluded}


def _norm(tensor):
    return ops.sqrt(ops.sum(ops.square(tensor)))


def extend_with_layer_adaptation(BaseOptimizer, name=None):  # noqa: N803
    """Returns the class `BaseOptimizer` with `LayerAdaptation`, called `name`."""
    return extend(LayerAdaptation, BaseOptimizer, name)
