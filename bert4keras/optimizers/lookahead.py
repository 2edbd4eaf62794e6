"""Lookahead: k steps forward, one step back."""

from __future__ import annotations

from keras import ops

from bert4keras.checks import check_count, check_real
from bert4keras.optimizers.derived import DerivedOptimizer, Update, extend, trick


@trick
class Lookahead(DerivedOptimizer):
    """Lookahead (Zhang et al. 2019, arXiv:1907.08610, Algorithm 1).

    The base moves the fast weights theta of a variable. After every k-th of its real
    updates, the slow weights phi follow them and the fast ones go back to there:

        phi <- phi + alpha (theta - phi),    theta <- phi

    phi starts at the weights before the variable's first update, whenever that is.

    Args:
        steps_per_slow_update: k, an integer >= 1.
        slow_step_size: alpha, in (0, 1].

    Raises:
        ValueError: if an argument is out of its range.

    Example:

        AdamLA = extend_with_lookahead(Adam, name="AdamLA")
        AdamLA(1e-3, steps_per_slow_update=5, slow_step_size=0.5)
    """

    trick = "lookahead"

    def __init__(self, *args, steps_per_slow_update=5, slow_step_size=0.5, **kwargs):
        steps = check_count("steps_per_slow_update", steps_per_slow_update)
        size = check_real(
            "slow_step_size", slow_step_size, low=0, low_open=True, high=1
        )
        super().__init__(*args, **kwargs)
        self.steps_per_slow_update = steps
        self.slow_step_size = size

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._slow_weights = self.add_optimizer_variables(variables, "slow")
        self._fast_steps = self.add_counts(variables, "fast_steps")

    def arrive(self, update: Update, value):
        value = super().arrive(update, value)
        index = self._get_variable_index(update.variable)
        slow, count = self._slow_weights[index], self._fast_steps[index]
        # Not the optimizer's steps: a variable may have no gradient in some of them.
        step = ops.add(count, 1)
        is_first = ops.equal(step, 1)
        start = ops.where(is_first, update.value, ops.convert_to_tensor(slow))
        followed = start + self.slow_step_size * (value - start)
        is_kth = ops.equal(ops.mod(step, self.steps_per_slow_update), 0)
        self.assign(count, step)
        self.assign(slow, ops.where(is_kth, followed, start))
        return ops.where(is_kth, followed, value)

    def get_config(self):
        return {
            **super().get_config(),
            "steps_per_slow_update": self.steps_per_slow_update,
            "slow_step_size": self.slow_step_size,
        }


def extend_with_lookahead(BaseOptimizer, name=None):  # noqa: N803
    """Returns the class `BaseOptimizer` with `Lookahead`, called `name`."""
    return extend(Lookahead, BaseOptimizer, name)
