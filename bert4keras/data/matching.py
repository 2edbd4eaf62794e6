"""What two sequences have in common."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from difflib import SequenceMatcher


def longest_common_substring(
    source: Sequence[Hashable], target: Sequence[Hashable]
) -> tuple[int, tuple[int, int, int, int]]:
    """The longest run of elements that is in both sequences.

    Returns:
        Its length, and `(i, j, k, l)` such that `source[i:j] == target[k:l]` is that
        run; of several, the first in `source`, then in `target`.

    Example:

    >>> longest_common_substring("今天天气不错", "天气真不错")
    (2, (2, 4, 0, 2))
    """
    matcher = SequenceMatcher(None, source, target, autojunk=False)
    i, k, size = matcher.find_longest_match()
    return size, (i, i + size, k, k + size)


def longest_common_subsequence(
    source: Sequence, target: Sequence
) -> tuple[int, list[tuple[int, int]]]:
    """The longest sequence of elements that both have in that order, gaps allowed.

    Takes time and memory proportional to `len(source) * len(target)`.

    Returns:
        Its length, and the increasing pairs `(i, j)` with `source[i] == target[j]`
        that make it up; of several subsequences, one.

    Example:

    >>> longest_common_subsequence("abcde", "xbdz")
    (2, [(1, 1), (3, 2)])
    """
    # lengths[i][j]: of the first i elements of source and the first j of target.
    lengths = [[0] * (len(target) + 1)]
    for s in source:
        above, row = lengths[-1], [0]
        for j, t in enumerate(target):
            row.append(above[j] + 1 if s == t else max(row[j], above[j + 1]))
        lengths.append(row)

    pairs = []
    i, j = len(source), len(target)
    while lengths[i][j]:
        if source[i - 1] == target[j - 1]:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif lengths[i][j - 1] > lengths[i - 1][j]:
            j -= 1
        else:
            i -= 1
    return len(pairs), pairs[::-1]
