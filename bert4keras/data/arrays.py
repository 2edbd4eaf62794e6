"""Small NumPy functions that scripts use beside the models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


def to_array(*args) -> np.ndarray | list[np.ndarray]:
    """Each argument as an array; a single one alone, several in a list.

    Example:

    >>> to_array([1, 2])
    array([1, 2])
    """
    results = [np.array(a) for a in args]
    return results[0] if len(results) == 1 else results


def is_one_of(x: object, ys: Iterable) -> bool:
    """Whether `x` *is* an element of `ys`.

    Unlike `in` it compares identities, as tensors and arrays must be: their `==` is
    elementwise.
    """
    return any(x is y for y in ys)


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    """exp(x) / sum(exp(x)) along `axis`, safe for large entries.

    Example:

    >>> softmax(np.array([0.0, 0.0]))
    array([0.5, 0.5])
    """
    x = np.asarray(x)
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def orthogonally_resize(
    a: np.ndarray, new_shape: Sequence[int], window: int = 2
) -> np.ndarray:
    """Resize a weight by repeating or cutting, and keep its norm.

    An axis that grows has every `window` neighbouring slices repeated as a block, as
    often as needed; then every axis is cut to its new size and the whole is scaled
    back to the Frobenius norm of `a`. Repeating slices leaves the inner products
    between the rows of an orthogonal matrix proportional, hence the name.

    Args:
        a: the weight.
        new_shape: the new size of each axis.
        window: the size of the repeated blocks; it divides every axis that grows.

    Raises:
        ValueError: if the number of axes differs or `window` does not divide.

    Example:

    >>> orthogonally_resize(np.array([1.0, 2.0]), (4,))
    array([0.70710678, 1.41421356, 0.70710678, 1.41421356])
    """
    if a.ndim != len(new_shape):
        raise ValueError(
            f"the weight has shape {a.shape}, new_shape is {tuple(new_shape)}; expected"
            " as many axes"
        )
    resized = a
    for axis, (old, new) in enumerate(zip(a.shape, new_shape, strict=True)):
        order = np.arange(old)
        if new > old:
            if old % window:
                raise ValueError(
                    f"axis {axis} has size {old}, which window={window} does not "
                    "divide; choose a window that does"
                )
            blocks = order.reshape(-1, window)
            order = np.repeat(blocks, -(-new // old), axis=0).ravel()
        resized = np.take(resized, order[:new], axis)
    return resized * (np.linalg.norm(a) / np.linalg.norm(resized))
