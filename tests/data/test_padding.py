import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4keras.data import sequence_padding, truncate_sequences

pytestmark = pytest.mark.pure

ints = st.integers(-100, 100)
rows = st.lists(st.lists(ints, max_size=6), min_size=1, max_size=6)


@given(rows, st.sampled_from(["post", "pre"]))
def test_padding_keeps_every_row(rows, mode):
    padded = sequence_padding(rows, value=-101, mode=mode)
    assert padded.shape == (len(rows), max(map(len, rows)))
    assert padded.dtype == np.int64
    for x, row in zip(padded.tolist(), rows, strict=True):
        filling = [-101] * (len(x) - len(row))
        assert x == (row + filling if mode == "post" else filling + row)


@given(rows, st.integers(0, 8), st.sampled_from(["post", "pre"]))
def test_a_given_length_keeps_the_beginning(rows, length, mode):
    padded = sequence_padding(rows, length, mode=mode)
    assert padded.shape == (len(rows), length)
    kept = sequence_padding([row[:length] for row in rows], length, mode=mode)
    np.testing.assert_array_equal(padded, kept)


@given(
    st.lists(st.lists(st.lists(ints, max_size=4), max_size=4), min_size=1, max_size=4),
    st.sampled_from(["post", "pre"]),
)
def test_ragged_nests(nests, mode):
    padded = sequence_padding(nests, seq_dims=2, value=-101, mode=mode)
    height = max(map(len, nests))
    width = max((len(row) for nest in nests for row in nest), default=0)
    assert padded.shape == (len(nests), height, width)
    for x, nest in zip(padded, nests, strict=True):
        corner = x if mode == "post" else x[::-1]
        ordered = nest if mode == "post" else nest[::-1]
        for i, row in enumerate([*ordered, *[[]] * (height - len(nest))]):
            filling = [-101] * (width - len(row))
            expected = row + filling if mode == "post" else filling + row
            assert corner[i].tolist() == expected


def test_three_dimensions_of_arrays():
    blocks = [np.ones((2, 3, 3)), np.ones((2, 1, 1))]
    padded = sequence_padding(blocks, seq_dims=3)
    assert padded.shape == (2, 2, 3, 3)
    assert padded[1].sum() == 2
    assert padded[1, :, 0, 0].tolist() == [1, 1]


def test_dimensions_after_the_padded_ones():
    vectors = [np.zeros((2, 5)), np.ones((3, 5))]
    padded = sequence_padding(vectors, value=7)
    assert padded.shape == (2, 3, 5)
    assert padded[0, 2].tolist() == [7] * 5


def test_one_length_for_each_dimension():
    blocks = [np.ones((2, 3)), np.ones((1, 1))]
    assert sequence_padding(blocks, [None, 4], seq_dims=2).shape == (2, 2, 4)
    assert sequence_padding(blocks, [1, 2], seq_dims=2).tolist() == [[[1, 1]], [[1, 0]]]


@pytest.mark.parametrize("dtype", ["int32", "uint8", "float16", "float64", "bool"])
def test_dtype_is_kept(dtype):
    arrays = [np.ones(3, dtype), np.ones(1, dtype), []]
    assert sequence_padding(arrays).dtype == dtype


@pytest.mark.parametrize(
    ("inputs", "shape", "dtype"),
    [([], (0, 0), "int64"), ([[]], (1, 0), "int64"), ([[], [1.5]], (2, 1), "float64")],
)
def test_empty(inputs, shape, dtype):
    padded = sequence_padding(inputs)
    assert padded.shape == shape
    assert padded.dtype == dtype


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": [[1]], "mode": "left"}, "'left'.*'post' or 'pre'"),
        ({"inputs": [[1]], "seq_dims": 0}, "seq_dims is 0"),
        ({"inputs": [[[1]]], "seq_dims": 2, "length": 4}, "1 entries, seq_dims is 2"),
        ({"inputs": [1, 2]}, "0 dimensions.*seq_dims=1"),
        ({"inputs": [np.ones(2)], "seq_dims": 2}, "1 dimensions.*seq_dims=2"),
        ({"inputs": [[[1], [2, 3]]]}, "ragged.*seq_dims"),
        ({"inputs": [np.ones((1, 2)), np.ones((1, 3))]}, r"\[\(2,\), \(3,\)\]"),
        ({"inputs": [[1]], "value": 0.5}, "0.5 cannot be stored as int64"),
        ({"inputs": [[1]], "value": np.nan}, "nan cannot be stored as int64"),
        ({"inputs": [np.ones(1, "uint8")], "value": -1}, "cannot be stored as uint8"),
    ],
)
def test_errors_of_padding(arguments, message):
    with pytest.raises(ValueError, match=message):
        sequence_padding(**arguments)


def one_at_a_time(maxlen, index, *sequences):
    """The definition: remove from the longest, until it fits."""
    while sum(map(len, sequences)) > maxlen:
        del max(sequences, key=len)[index]
    return list(sequences)


lengths = st.lists(st.integers(0, 12), min_size=1, max_size=4)


@given(lengths, st.integers(0, 30), st.sampled_from([0, -1]))
def test_truncation_removes_from_the_longest(lengths, maxlen, index):
    sequences = [[(i, j) for j in range(n)] for i, n in enumerate(lengths)]
    expected = one_at_a_time(maxlen, index, *(list(s) for s in sequences))
    truncated = truncate_sequences(maxlen, index, *sequences)
    assert truncated == expected
    assert all(x is y for x, y in zip(truncated, sequences, strict=True))


@given(st.integers(2, 12), st.integers(2, 12), st.integers(4, 24))
def test_truncation_before_the_closing_token(n, m, maxlen):
    first, second = list(range(n)), list(range(100, 100 + m))
    expected = one_at_a_time(maxlen, -2, first[:], second[:])
    assert truncate_sequences(maxlen, -2, first, second) == expected
    assert first[-1] == n - 1
    assert second[-1] == 99 + m


def test_each_sequence_has_its_index():
    truncated = truncate_sequences(4, [1, -1], [1, 2, 3, 4], [5, 6, 7, 8])
    assert truncated == [[1, 4], [5, 6]]


def test_absent_sequences_are_left_out():
    assert truncate_sequences(1, -1, [1, 2], None, []) == [[1], []]


@pytest.mark.parametrize(
    ("error", "arguments", "message"),
    [
        (ValueError, (-1, -1), "maxlen is -1"),
        (ValueError, (1, [0]), "1 indices for 2 sequences"),
        (IndexError, (2, -4), "cannot remove 2 of 3 elements at index -4"),
        (IndexError, (2, 3), "cannot remove 2 of 3 elements at index 3"),
        (IndexError, (3, [0, 3]), "cannot remove 1 of 3 elements at index 3"),
    ],
)
def test_errors_of_truncation_change_nothing(error, arguments, message):
    first, second = [1, 2, 3], [4, 5, 6]
    with pytest.raises(error, match=message):
        truncate_sequences(*arguments, first, second)
    assert (first, second) == ([1, 2, 3], [4, 5, 6])


def test_only_lists_can_be_cut():
    first = [1, 2, 3]
    with pytest.raises(TypeError, match="found a tuple; expected lists"):
        truncate_sequences(2, -1, first, (4, 5))
    assert first == [1, 2, 3]
