"""Decoupled weight decay, for the variables that name patterns leave in."""

from __future__ import annotations

from bert4keras.checks import check_patterns, check_real
from bert4keras.optimizers.derived import DerivedOptimizer, Update, extend, trick


@trick
class WeightDecay(DerivedOptimizer):
    """Decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101, Alg. 2).

    With the base's change d_t, the learning rate gamma_t and the rate lambda:

        theta_{t+1} = theta_t + d_t - gamma_t lambda theta_t

    Args:
        weight_decay_rate: lambda, a number >= 0.
        exclude_from_weight_decay: parts of the paths of variables that do not decay,
            as `["Norm", "bias"]`.

    Raises:
        ValueError: if the rate is negative or a pattern is no string.

    Example:

        AdamW = extend_with_weight_decay(Adam, name="AdamW")
        AdamW(2e-5, weight_decay_rate=0.01, exclude_from_weight_decay=["Norm", "bias"])
    """

    trick = "weight_decay"

    def __init__(
        self, *args, weight_decay_rate=0.01, exclude_from_weight_decay=None, **kwargs
    ):
        rate = check_real("weight_decay_rate", weight_decay_rate, low=0)
        excluded = check_patterns(
            "exclude_from_weight_decay", exclude_from_weight_decay
        )
        super().__init__(*args, **kwargs)
        self.weight_decay_rate = rate
        # Keras's optimizers have a method `exclude_from_weight_decay`.
        self._excluded_from_decay = excluded

    def patterns(self):
        own = {"exclude_from_weight_decay": self._excluded_from_decay}
        return {**super().patterns(), **own}

    def propose(self, update: Update):
        change = super().propose(update)
        if self.matches(update.variable, self._excluded_from_decay):
            return change
        return change - update.learning_rate * self.weight_decay_rate * update.value

    def get_config(self):
        return {
            **super().get_config(),
            "weight_decay_rate": self.weight_decay_rate,
            "exclude_from_weight_decay": list(self._excluded_from_decay),
        }


def extend_with_weight_decay(BaseOptimizer, name=None):  # noqa: N803
    """Returns the class `BaseOptimizer` with `WeightDecay`, called `name`."""
    return extend(WeightDecay, BaseOptimizer, name)
