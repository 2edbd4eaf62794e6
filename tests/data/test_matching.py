from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4keras.data.matching import (
    longest_common_subsequence,
    longest_common_substring,
)

pytestmark = pytest.mark.pure

strings = st.text(alphabet="abc", max_size=8)


@given(strings, strings)
def test_longest_common_substring(source, target):
    size, (i, j, k, m) = longest_common_substring(source, target)
    assert source[i:j] == target[k:m]
    assert j - i == size
    slices = (source[a:b] for b in range(len(source) + 1) for a in range(b + 1))
    assert size == max(len(s) for s in slices if s in target)


def is_subsequence(short, long):
    remaining = iter(long)
    return all(c in remaining for c in short)


@given(strings, strings)
def test_longest_common_subsequence(source, target):
    size, pairs = longest_common_subsequence(source, target)
    assert len(pairs) == size
    assert all(source[i] == target[j] for i, j in pairs)
    assert all(a < c and b < d for (a, b), (c, d) in pairwise(pairs))
    longer = combinations(source, size + 1)
    assert not any(is_subsequence(s, target) for s in longer)


def test_lists_of_tokens():
    size, span = longest_common_substring([101, 5, 6, 102], [5, 6, 7])
    assert (size, span) == (2, (1, 3, 0, 2))
