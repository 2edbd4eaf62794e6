"""A learning rate for each part of the model."""

from __future__ import annotations

from collections.abc import Mapping

from bert4keras.checks import check_patterns, check_real
from bert4keras.optimizers.derived import DerivedOptimizer, extend, trick


@trick
class ParameterWiseLr(DerivedOptimizer):
    """Multiplies the learning rate of the variables that a pattern names.

        gamma_t(theta) = gamma_t * product of the multipliers whose pattern is a part of
                         the path of theta

    Base, weight decay and all other tricks use that rate. Multiplier 0 freezes.

    Args:
        paramwise_lr_schedule: `{pattern: multiplier}` with multipliers >= 0, as
            `{"Embedding": 0.5, "Output": 10}`.

    Raises:
        ValueError: if it is no such dict.

    Example:

        AdamPW = extend_with_parameter_wise_lr(Adam, name="AdamPW")
        AdamPW(2e-5, paramwise_lr_schedule={"Embedding": 0, "Output": 10})
    """

    trick = "parameter_wise_lr"

    def __init__(self, *args, paramwise_lr_schedule=None, **kwargs):
        schedule = {} if paramwise_lr_schedule is None else paramwise_lr_schedule
        if not isinstance(schedule, Mapping):
            raise ValueError(
                "`paramwise_lr_schedule` must be a dict {pattern: multiplier}. "
                f"Received: paramwise_lr_schedule={schedule!r}"
            )
        check_patterns("paramwise_lr_schedule", list(schedule))
        schedule = {
            pattern: check_real("multiplier of paramwise_lr_schedule", value, low=0)
            for pattern, value in schedule.items()
        }
        super().__init__(*args, **kwargs)
        self.paramwise_lr_schedule = schedule

    def patterns(self):
        own = {"paramwise_lr_schedule": tuple(self.paramwise_lr_schedule)}
        return {**super().patterns(), **own}

    def learning_rate_multiplier(self, variable):
        product = super().learning_rate_multiplier(variable)
        for pattern, multiplier in self.paramwise_lr_schedule.items():
            if self.matches(variable, (pattern,)):
                product *= multiplier
        return product

    def get_config(self):
        schedule = dict(self.paramwise_lr_schedule)
        return {**super().get_config(), "paramwise_lr_schedule": schedule}


def extend_with_parameter_wise_lr(BaseOptimizer, name=None):  # noqa: N803
    """Returns the class `BaseOptimizer` with `ParameterWiseLr`, called `name`."""
    return extend(ParameterWiseLr, BaseOptimizer, name)
