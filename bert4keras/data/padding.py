"""Sequences of unequal lengths: padding them into one array, cutting them to fit."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import MutableSequence, Sequence

import numpy as np


def sequence_padding(
    inputs: Sequence,
    length: int | Sequence[int | None] | None = None,
    value: float = 0,
    seq_dims: int = 1,
    mode: str = "post",
) -> np.ndarray:
    """Pad (or cut) sequences to one length and stack them.

    Args:
        inputs: sequences, each a list, a tuple or an array. With `seq_dims > 1` a
            sequence is nested that deep, and may be ragged at every level.
        length: what to pad or cut to: an integer, or one entry for each of the
            `seq_dims` dimensions, where `None` means the longest found. A longer
            sequence keeps its first `length` elements, whatever the mode.
        value: what to pad with.
        seq_dims: how many leading dimensions of each sequence are padded. The
            dimensions after them must agree.
        mode: `"post"` pads after the elements, `"pre"` before them.

    Returns:
        An array of shape `(len(inputs), length_1, .., length_seq_dims, ...)`. Its
        dtype is that of the sequences; empty lists have none and take that of the
        others.

    Raises:
        ValueError: for an unknown mode, a `length` that does not fit `seq_dims`, a
            `value` that the dtype cannot hold, or sequences of unequal rank.

    Example:

    >>> sequence_padding([[1, 2, 3], [4]])
    array([[1, 2, 3],
           [4, 0, 0]])
    """
    if mode not in ("post", "pre"):
        raise ValueError(f"mode is {mode!r}; expected 'post' or 'pre'")
    lengths = _requested_lengths(length, seq_dims)
    arrays = [_dense(x, seq_dims, value, mode) for x in inputs]
    tail, dtype = _common_tail_and_dtype(arrays, seq_dims, value)
    for axis, requested in enumerate(lengths):
        if requested is None:
            lengths[axis] = max((x.shape[axis] for x in arrays), default=0)

    outputs = np.full((len(arrays), *lengths, *tail), value, dtype)
    for output, x in zip(outputs, arrays, strict=True):
        if x.size:
            kept = [min(n, size) for n, size in zip(lengths, x.shape, strict=False)]
            if mode == "post":
                target = tuple(slice(n) for n in kept)
            else:
                pairs = zip(lengths, kept, strict=True)
                target = tuple(slice(n - k, n) for n, k in pairs)
            output[target] = x[tuple(slice(n) for n in kept)]
    return outputs


def truncate_sequences(
    maxlen: int, indices: int | Sequence[int], *sequences: list | None
) -> list[list]:
    """Cut sequences until together they have at most `maxlen` elements.

    Elements leave one at a time, from the sequence that is the longest at that
    moment (from the first of several). The lists are cut in place.

    Args:
        maxlen: the most elements that may remain in all sequences together.
        indices: where an element leaves: an index into the sequence, the same for
            all, or one for each. -1 removes at the end, -2 before a closing token.
        *sequences: lists; `None` stands for an absent one and is left out.

    Returns:
        The sequences, without the `None`s.

    Raises:
        ValueError: if `maxlen` is negative or `indices` are not one for each.
        IndexError: if an index would point outside before enough has left.
        TypeError: if a sequence is no list. Nothing has been cut in any case.

    Example:

    >>> truncate_sequences(6, -2, [101, 1, 2, 3, 102], [4, 5, 102])
    [[101, 1, 102], [4, 5, 102]]
    """
    if maxlen < 0:
        raise ValueError(f"maxlen is {maxlen}; expected 0 or more")
    if np.ndim(indices) == 0:
        indices = [indices] * len(sequences)
    elif len(indices) != len(sequences):
        raise ValueError(
            f"{len(indices)} indices for {len(sequences)} sequences; give one for "
            "each, or a single integer for all"
        )
    present = [(x, i) for x, i in zip(sequences, indices, strict=True) if x is not None]
    for x, _ in present:
        if not isinstance(x, MutableSequence):
            raise TypeError(
                f"found a {type(x).__name__}; expected lists, which are cut in place"
            )
    remaining = _balanced_lengths([len(x) for x, _ in present], maxlen)
    cuts = [
        _cut(len(x), kept, i) for (x, i), kept in zip(present, remaining, strict=True)
    ]
    for (x, _), cut in zip(present, cuts, strict=True):
        del x[cut]
    return [x for x, _ in present]


def _requested_lengths(
    length: int | Sequence[int | None] | None, seq_dims: int
) -> list[int | None]:
    if seq_dims < 1:
        raise ValueError(f"seq_dims is {seq_dims}; expected 1 or more")
    if length is None:
        return [None] * seq_dims
    lengths = [length] if np.ndim(length) == 0 else list(length)
    if len(lengths) != seq_dims:
        raise ValueError(
            f"length has {len(lengths)} entries, seq_dims is {seq_dims}; give a "
            "length for each padded dimension (None: the longest)"
        )
    return lengths


def _dense(x, seq_dims: int, value: float, mode: str) -> np.ndarray:
    """`x` as an array of at least `seq_dims` dimensions, raggedness padded."""
    if not isinstance(x, np.ndarray):
        if seq_dims > 1 and hasattr(x, "__len__"):
            x = sequence_padding(x, None, value, seq_dims - 1, mode)
        else:
            try:
                x = np.asarray(x)
            except ValueError as error:
                raise ValueError(
                    f"found a ragged sequence, {x!r}; increase seq_dims to pad it"
                ) from error
    if x.ndim < seq_dims:
        raise ValueError(
            f"found an element of {x.ndim} dimensions, {x!r}; expected sequences "
            f"with at least seq_dims={seq_dims}"
        )
    return x


def _common_tail_and_dtype(
    arrays: list[np.ndarray], seq_dims: int, value: float
) -> tuple[tuple[int, ...], np.dtype]:
    """The shape after the padded dimensions and the dtype that all share."""
    # An empty list has neither a dtype (NumPy makes it float64) nor a tail.
    telling = [x for x in arrays if x.size] or [x for x in arrays if x.ndim > seq_dims]
    if not telling:
        return (), np.asarray(value).dtype
    tails = {x.shape[seq_dims:] for x in telling}
    if len(tails) > 1:
        raise ValueError(
            f"the dimensions after the first {seq_dims} differ: {sorted(tails)}; "
            "pad them too (seq_dims) or make them equal"
        )
    dtype = np.result_type(*{x.dtype for x in telling})
    with np.errstate(invalid="ignore"):
        stored = np.asarray(value).astype(dtype)
    if dtype.kind in "iub" and stored != value:
        raise ValueError(
            f"the padding value {value} cannot be stored as {dtype}; give the "
            "sequences in a dtype that holds it"
        )
    return tails.pop(), dtype


def _balanced_lengths(lengths: list[int], maxlen: int) -> list[int]:
    """What is left of each after removing from the longest, one at a time."""
    if sum(lengths) <= maxlen:
        return lengths
    # All end at one level, except that the last ones may keep one element more.
    level = (
        bisect_right(
            range(max(lengths)), maxlen, key=lambda n: sum(min(n, x) for x in lengths)
        )
        - 1
    )
    kept = [min(level, x) for x in lengths]
    spare = maxlen - sum(kept)
    for i in reversed(range(len(lengths))):
        if spare and lengths[i] > level:
            kept[i] += 1
            spare -= 1
    return kept


def _cut(size: int, kept: int, index: int) -> slice:
    """What removing element `index` until `kept` of `size` are left removes."""
    removed = size - kept
    start = index if index >= 0 else kept + 1 + index
    if removed and (start < 0 or start + removed > size):
        raise IndexError(
            f"cannot remove {removed} of {size} elements at index {index}; use an "
            "index nearer to the end of the sequence that it counts from"
        )
    return slice(start, start + removed) if removed else slice(0, 0)
