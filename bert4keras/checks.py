"""Checks of arguments, before anything is made of them.

Each error says who was given what, and what it must be. Where a keyword tells the
argument's name, `owner` is the class or function that it was given to.
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Iterable, Mapping
from numbers import Real


def is_integer(x) -> bool:
    """Whether this is a whole number of Python's or NumPy's, and no boolean.

    Example:
        >>> is_integer(3), is_integer(3.0), is_integer(True)
        (True, False, False)
    """
    try:
        operator.index(x)
    except TypeError:
        return False
    return not isinstance(x, bool)


def is_one_shape(shape) -> bool:
    """Whether this is one shape, rather than a list of shapes.

    Shapes may be tuples, lists (in saved files), or TensorFlow's own objects.

    Example:
        >>> is_one_shape((None, 3)), is_one_shape([(None, 3)])
        (True, False)
    """
    return len(shape) == 0 or shape[0] is None or is_integer(shape[0])


def check_sizes(owner: str, low: int = 1, /, **sizes) -> None:
    """Raise a ValueError unless every size is an integer of at least `low`.

    Example:
        >>> check_sizes("FeedForward", units=0)
        Traceback (most recent call last):
        ValueError: FeedForward was given units=0; it must be an integer of at least 1.
    """
    for name, size in sizes.items():
        if not is_integer(size) or size < low:
            raise ValueError(
                f"{owner} was given {name}={size!r}; "
                f"it must be an integer of at least {low}."
            )


def check_optional_sizes(owner: str, **sizes) -> None:
    """Raise a ValueError unless every size is None or an integer of at least 1."""
    check_sizes(owner, **{k: size for k, size in sizes.items() if size is not None})


def check_rate(owner: str, **rates) -> None:
    """Raise a ValueError unless every dropout rate is None or in [0, 1)."""
    for name, rate in rates.items():
        if rate is not None and not (_is_real(rate) and 0 <= rate < 1):
            raise ValueError(
                f"{owner} was given {name}={rate!r}; it must be None, or a number "
                "from 0 to below 1."
            )


def check_choice(owner: str, choices: tuple, **arguments) -> None:
    """Raise a ValueError unless every argument is one of the choices."""
    for name, value in arguments.items():
        # By identity of type too: 0 equals False.
        if not any(type(value) is type(c) and value == c for c in choices):
            raise ValueError(
                f"{owner} was given {name}={value!r}; choose one of {choices}."
            )


def check_real(
    name: str,
    value,
    *,
    low: float,
    high: float = math.inf,
    low_open: bool = False,
    high_open: bool = False,
) -> float:
    """The number as a float; a ValueError if it lies outside its interval.

    Example:
        >>> check_real("beta_1", 1, low=0, high=1, high_open=True)
        Traceback (most recent call last):
        ValueError: beta_1=1 was given; it must be a number in [0, 1).
    """
    fits = (
        _is_real(value)
        and (low < value if low_open else low <= value)
        and (value < high if high_open else value <= high)
        and math.isfinite(value)
    )
    if not fits:
        ends = "(["[not low_open], ")]"[not (high_open or high == math.inf)]
        raise ValueError(
            f"{name}={value!r} was given; it must be a number in "
            f"{ends[0]}{low}, {high}{ends[1]}."
        )
    # NumPy's numbers have no place in a configuration that becomes JSON.
    return float(value)


def check_count(name: str, value, *, low: int = 1) -> int:
    """The number as an int; a ValueError unless it is an integer of at least `low`."""
    if not is_integer(value) or value < low:
        raise ValueError(
            f"{name}={value!r} was given; it must be an integer of at least {low}."
        )
    return int(value)


def check_learning_rate(value) -> None:
    """Raise a ValueError if `value` is a number, but no learning rate."""
    if isinstance(value, Real):
        check_real("learning_rate", value, low=0)


def check_patterns(name: str, patterns) -> tuple[str, ...]:
    """Name patterns as a tuple; None is none, a string is one pattern.

    Raises:
        ValueError: for anything but non-empty strings.
    """
    if patterns is None:
        return ()
    if isinstance(patterns, str):
        patterns = [patterns]
    is_list = isinstance(patterns, Iterable) and not isinstance(patterns, Mapping)
    patterns = list(patterns) if is_list else patterns
    if not is_list or not all(isinstance(x, str) and x for x in patterns):
        raise ValueError(
            f"{name}={patterns!r} was given; it must be a list of non-empty strings, "
            "each a part of the variable paths that it selects."
        )
    return tuple(patterns)


def warn_of_unmatched(name: str, patterns, paths) -> None:
    """Warn of each pattern that is a part of none of the variable paths."""
    for pattern in patterns:
        if not any(pattern in path for path in paths):
            warnings.warn(
                f"The pattern {pattern!r} of `{name}` matches none of the variables: "
                f"{', '.join(paths)}.",
                stacklevel=3,
            )


def _is_real(x) -> bool:
    return isinstance(x, Real) and not isinstance(x, bool)
