"""A piecewise linear multiplier of the learning rate: warm-up and decay."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from keras import ops

from bert4keras.checks import check_count, check_real
from bert4keras.optimizers.derived import DerivedOptimizer, extend, trick


@trick
class PiecewiseLinearLr(DerivedOptimizer):
    """Multiplies the learning rate by a piecewise linear function of the step.

    With the learning rate gamma_t, itself perhaps a Keras schedule, and t the number of
    real updates done:

        gamma'_t = gamma_t m(t)

    m goes through the points of `lr_schedule`, starts from 0 at step 0 if that has no
    point of its own, and stays constant after the last. The base is given gamma'_t as
    if by a schedule; `optimizer.learning_rate` reads and sets gamma_t.

    Args:
        lr_schedule: `{step: multiplier}` with increasing steps >= 0 and multipliers
            >= 0, as `{1000: 1, 10000: 0.1}`: warm-up for 1000 steps, then down to a
            tenth at step 10000.

    Raises:
        ValueError: if `lr_schedule` is empty, not increasing or holds other values.

    Example:

        AdamLR = extend_with_piecewise_linear_lr(Adam, name="AdamLR")
        AdamLR(2e-5, lr_schedule={1000: 1, 10000: 0})
    """

    trick = "piecewise_linear_lr"

    def __init__(self, *args, lr_schedule=None, **kwargs):
        lr_schedule = _check_schedule({0: 1} if lr_schedule is None else lr_schedule)
        super().__init__(*args, **kwargs)
        self._lr_schedule = tuple(lr_schedule.items())

    @property
    def lr_schedule(self):
        return dict(self._lr_schedule)

    def _get_current_learning_rate(self):
        learning_rate = super()._get_current_learning_rate()
        if not self.in_real_update:
            return learning_rate
        # A callable or a schedule of one's own may return a number.
        learning_rate = ops.convert_to_tensor(learning_rate)
        multiplier = piecewise_linear(self.iterations, self.lr_schedule)
        return learning_rate * ops.cast(multiplier, learning_rate.dtype)

    def get_config(self):
        return {**super().get_config(), "lr_schedule": self.lr_schedule}


def piecewise_linear(t, schedule: Mapping[int, float], from_zero: bool = True):
    """The piecewise linear function through the points of `schedule`, at `t`.

    Args:
        t: a step, as a number, tensor or variable.
        schedule: `{step: value}`, constant after its last point.
        from_zero: whether a schedule without a point at step 0 starts there from 0;
            otherwise it is constant before its first point.

    Returns:
        A float tensor of the shape of `t`.

    Example:

        piecewise_linear(500, {1000: 1, 2000: 0.1})  # 0.5
    """
    points = sorted((float(step), float(value)) for step, value in schedule.items())
    if from_zero and points[0][0] != 0:
        points.insert(0, (0.0, 0.0))
    t = ops.cast(t, "float32")
    value = ops.full_like(t, points[0][1])
    for (start, low), (end, high) in itertools.pairwise(points):
        slope = (high - low) / (end - start)
        value = ops.where(t >= start, low + slope * (t - start), value)
    return ops.where(t >= points[-1][0], ops.full_like(t, points[-1][1]), value)


def _check_schedule(schedule):
    if not isinstance(schedule, Mapping) or not schedule:
        raise ValueError(
            "`lr_schedule` must be a non-empty dict {step: multiplier}. "
            f"Received: lr_schedule={schedule!r}"
        )
    # JSON turns the steps of a saved configuration into strings.
    checked = {}
    for step, value in schedule.items():
        step = int(step) if isinstance(step, str) and step.isdigit() else step
        step = check_count("step of lr_schedule", step, low=0)
        checked[step] = check_real("multiplier of lr_schedule", value, low=0)
    if len(checked) < len(schedule) or list(checked) != sorted(checked):
        raise ValueError(
            "`lr_schedule` must have increasing steps. "
            f"Received: lr_schedule={dict(schedule)!r}"
        )
    return checked


def extend_with_piecewise_linear_lr(BaseOptimizer, name=None):  # noqa: N803
    """Returns the class `BaseOptimizer` with `PiecewiseLinearLr`, called `name`."""
    return extend(PiecewiseLinearLr, BaseOptimizer, name)
