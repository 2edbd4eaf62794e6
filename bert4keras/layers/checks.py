"""Checks of constructors' arguments, and of the shapes that meet in a layer."""

from __future__ import annotations

import operator
from numbers import Real


def check_sizes(owner: str, **sizes) -> None:
    """Raise a ValueError unless every size is an integer of at least 1.

    Args:
        owner: the layer's class, for the message.
        **sizes: by the argument's name.

    Example:
        >>> check_sizes("FeedForward", units=0)
        Traceback (most recent call last):
        ValueError: FeedForward was given units=0; it must be an integer of at least 1.
    """
    for name, size in sizes.items():
        if not _is_integer(size) or size < 1:
            raise ValueError(
                f"{owner} was given {name}={size!r}; "
                "it must be an integer of at least 1."
            )


def check_optional_sizes(owner: str, **sizes) -> None:
    """Raise a ValueError unless every size is None or an integer of at least 1."""
    check_sizes(owner, **{k: size for k, size in sizes.items() if size is not None})


def _is_integer(x) -> bool:
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
    return len(shape) == 0 or shape[0] is None or _is_integer(shape[0])


def check_rate(owner: str, **rates) -> None:
    """Raise a ValueError unless every dropout rate is None or in [0, 1)."""
    for name, rate in rates.items():
        if rate is None:
            continue
        is_number = isinstance(rate, Real) and not isinstance(rate, bool)
        if not is_number or not 0 <= rate < 1:
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
