"""Decorators that change which arguments a class's constructor takes."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps


def insert_arguments(**arguments) -> Callable:
    """Give a method further keyword arguments, which become attributes.

    Each is set on the object, to what the caller gave or to the default given here,
    before the method runs without it.

    Example:

    >>> class Model:
    ...     @insert_arguments(summary=False)
    ...     def __init__(self, layers):
    ...         self.layers = layers
    >>> Model(12, summary=True).summary
    True
    """

    def decorate(method: Callable) -> Callable:
        @wraps(method)
        def wrapper(self, *args, **kwargs):
            for name, default in arguments.items():
                setattr(self, name, kwargs.pop(name, default))
            return method(self, *args, **kwargs)

        return wrapper

    return decorate


def delete_arguments(*arguments: str) -> Callable:
    """Make a method refuse some of its keyword arguments.

    For a subclass whose constructor passes `**kwargs` on, but must not take all.

    Raises:
        TypeError: from the method, when one of them is given.

    Example:

    >>> class Model:
    ...     @delete_arguments("with_pool")
    ...     def __init__(self, **kwargs):
    ...         pass
    >>> Model(with_pool=True)
    Traceback (most recent call last):
    TypeError: Model got an unexpected keyword argument 'with_pool'
    """

    def decorate(method: Callable) -> Callable:
        @wraps(method)
        def wrapper(self, *args, **kwargs):
            for name in arguments:
                if name in kwargs:
                    raise TypeError(
                        f"{type(self).__name__} got an unexpected keyword argument "
                        f"{name!r}"
                    )
            return method(self, *args, **kwargs)

        return wrapper

    return decorate
