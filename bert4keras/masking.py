"""Padding masks and attention masks as tensors."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


def large_negative(dtype: str) -> float:
    """A score that softmax turns into zero, yet finite in `dtype`.

    Adding a score to it must not overflow, and should give the same number again, so
    that all scores of a row without any real key become equal. In float16, which ends
    at -65504, only the first can be had.

    Args:
        dtype: name of a float dtype.

    Returns:
        -3e4 for float16, -1e30 otherwise.

    Example:
        >>> large_negative("float32")
        -1e+30
    """
    return -3e4 if keras.backend.standardize_dtype(dtype) == "float16" else -1e30


def hidden_below(dtype: str) -> float:
    """Scores and biases down there come from a mask, not from a network.

    People write masks as -1e9, -1e12, `large_negative` or minus infinity; an official
    -10000 is still a number that a score is added to.

    Args:
        dtype: name of a float dtype.

    Returns:
        -1.5e4 for float16, -1e8 otherwise.

    Example:
        >>> hidden_below("float32")
        -100000000.0
    """
    return -1.5e4 if keras.backend.standardize_dtype(dtype) == "float16" else -1e8


def causal_mask(length: Any):
    """Who may look at whom in a left-to-right language model.

    Args:
        length: number of positions, a Python integer or an integer scalar tensor.

    Returns:
        A boolean tensor (length, length), true where column j <= row i.

    Example:
        >>> causal_mask(2)  # [[True, False], [True, True]]
    """
    positions = ops.arange(length)
    return positions[None, :] <= positions[:, None]


def unilm_mask(segment_ids):
    """Who may look at whom in UniLM's sequence-to-sequence model.

    Source: UniLM (Dong et al., arXiv 1905.03197, figure 1). Segment 0 is the source,
    read in both directions; segment 1 is the target, read from left to right.

    Args:
        segment_ids: integer tensor (batch, length), 0 for the source, 1 for the target.

    Returns:
        A boolean tensor (batch, length, length), true where row i may see column j.

    Example:
        >>> unilm_mask(keras.ops.array([[0, 0, 1]]))
    """
    order = ops.cumsum(segment_ids, axis=1)
    return order[:, None, :] <= order[:, :, None]


def sequence_masking(
    x,
    mask=None,
    value: float | str = 0,
    axis: int | None = None,
    bias=None,
    return_mask: bool = False,
):
    """Replace the masked entries of a tensor along one axis, or add a bias to it.

    Args:
        x: float tensor with the batch as axis 0.
        mask: (batch, length) boolean, true for real entries; None leaves `x` as it is.
        value: what masked entries become; `"inf"` and `"-inf"` stand for the largest
            finite scores of the dtype.
        axis: the axis of `x` that the mask is for; None is axis 1.
        bias: float tensor that broadcasts against `x` and is added to it first.
        return_mask: also return the mask in a shape that broadcasts against `x`.

    Returns:
        A tensor of the shape of `x`; or that and the reshaped mask.

    Raises:
        ValueError: if `axis` is the batch axis or does not exist.

    Example:
        >>> sequence_masking(x, mask, value="-inf", axis=-1)
    """
    rank = len(x.shape)
    axis = 1 if axis is None else axis
    if not -rank < axis < rank or axis == 0:
        raise ValueError(
            f"sequence_masking was given axis={axis} for a tensor with {rank} axes; "
            f"the axis must lie between 1 and {rank - 1} (axis 0 is the batch)."
        )
    axis %= rank
    if bias is not None:
        x = x + ops.cast(bias, x.dtype)
    if mask is not None:
        shape = [-1] + [1] * (rank - 1)
        shape[axis] = mask.shape[1] if mask.shape[1] is not None else ops.shape(mask)[1]
        shape[0] = mask.shape[0] if mask.shape[0] is not None else ops.shape(mask)[0]
        mask = ops.reshape(ops.cast(mask, "bool"), shape)
        infinity = -large_negative(x.dtype)
        value = {"inf": infinity, "-inf": -infinity}.get(value, value)
        x = ops.where(mask, x, ops.cast(value, x.dtype))
    return (x, mask) if return_mask else x
