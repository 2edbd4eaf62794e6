"""Checks of optimizer arguments: what was found, what is expected."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from numbers import Integral, Real


def check_real(
    name: str, value, *, low, high=math.inf, low_open=False, high_open=False
):
    """Returns `value` as a float, or raises ValueError if out of its range."""
    fits = (
        isinstance(value, Real)
        and not isinstance(value, bool)
        and (low < value if low_open else low <= value)
        and (value < high if high_open else value <= high)
        and math.isfinite(value)
    )
    if not fits:
        ends = "(["[not low_open], ")]"[not (high_open or high == math.inf)]
        raise ValueError(
            f"`{name}` must be a number in {ends[0]}{low}, {high}{ends[1]}. "
            f"Received: {name}={value!r}"
        )
    # NumPy's numbers have no place in a configuration that becomes JSON.
    return float(value)


def check_learning_rate(value) -> None:
    """Raises ValueError if `value` is a number, but no learning rate."""
    if isinstance(value, Real):
        check_real("learning_rate", value, low=0)


def check_count(name: str, value, *, low=1) -> int:
    """Returns `value`, an integer of at least `low`, or raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < low:
        raise ValueError(
            f"`{name}` must be an integer >= {low}. Received: {name}={value!r}"
        )
    return int(value)


def check_patterns(name: str, patterns) -> tuple[str, ...]:
    """Returns name patterns as a tuple; None is none, a string is one pattern."""
    if patterns is None:
        return ()
    if isinstance(patterns, str):
        patterns = [patterns]
    if isinstance(patterns, Mapping) or not isinstance(patterns, Iterable):
        raise ValueError(
            f"`{name}` must be a list of strings, each a part of the variable paths "
            f"that it selects. Received: {name}={patterns!r}"
        )
    patterns = tuple(patterns)
    for pattern in patterns:
        if not isinstance(pattern, str) or not pattern:
            raise ValueError(
                f"`{name}` must hold non-empty strings, each a part of the variable "
                f"paths that it selects. Received: {name}={list(patterns)!r}"
            )
    return patterns


def warn_of_unmatched(name: str, patterns, paths) -> None:
    """Warns of each pattern that is a part of none of the variable paths."""
    for pattern in patterns:
        if not any(pattern in path for path in paths):
            warnings.warn(
                f"The pattern {pattern!r} of `{name}` matches none of the variables: "
                f"{', '.join(paths)}.",
                stacklevel=3,
            )
