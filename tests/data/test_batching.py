import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4keras.data import PaddedBatches, bucket_batches, padded_tokens

pytestmark = pytest.mark.pure

lengths = st.lists(st.integers(1, 50), min_size=1, max_size=80)


@given(lengths, st.integers(1, 9), st.integers(1, 5), st.integers(0, 3))
def test_every_example_is_in_exactly_one_batch(lengths, batch_size, window, seed):
    batches = bucket_batches(lengths, batch_size, window, [seed, 7])
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    sizes = sorted(map(len, batches))
    assert len(batches) == -(-len(lengths) // batch_size)
    assert set(sizes[1:]) <= {batch_size}
    again = bucket_batches(lengths, batch_size, window, [seed, 7])
    for x, y in zip(batches, again, strict=True):
        np.testing.assert_array_equal(x, y)


@given(lengths, st.integers(1, 9))
def test_one_window_over_everything_sorts(lengths, batch_size):
    batches = bucket_batches(lengths, batch_size, window=1000, rng=0)
    ranges = sorted(
        (min(lengths[i] for i in b), max(lengths[i] for i in b)) for b in batches
    )
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(ranges))


def test_padding_of_long_tailed_lengths():
    rng = np.random.default_rng(0)
    sizes = np.minimum(rng.lognormal(4, 0.8, 5000).astype(int) + 2, 256)
    bucketed = padded_tokens(sizes, bucket_batches(sizes, 16, rng=0)) / sizes.sum()
    shuffled = padded_tokens(sizes, bucket_batches(sizes, 16, 1, rng=0)) / sizes.sum()
    assert bucketed < 1.05
    assert shuffled > 1.8


def test_batches_and_their_order_change_with_the_epoch():
    sizes = np.arange(1000) % 37
    first, second = (bucket_batches(sizes, 10, 10, [0, epoch]) for epoch in (0, 1))
    assert {tuple(sorted(b)) for b in first} != {tuple(sorted(b)) for b in second}
    # The batches themselves are shuffled, not left in order of length.
    means = [sizes[b].mean() for b in first[:10]]
    assert means != sorted(means)


def test_the_small_batch_is_not_always_of_the_longest():
    sizes = list(range(21))
    smalls = set()
    for seed in range(20):
        smalls |= {b[0] for b in bucket_batches(sizes, 5, rng=seed) if len(b) == 1}
    assert len(smalls) > 2


@given(lengths, st.integers(1, 9), st.integers(1, 16))
def test_padded_tokens(lengths, batch_size, multiple):
    tokens = [[1] * n for n in lengths]
    batches = PaddedBatches([tokens], batch_size=batch_size, pad_to_multiple=multiple)
    epoch = itertools.islice(batches.batches(), len(batches))
    sizes = [x.size for (x,) in epoch]
    assert sum(sizes) == padded_tokens(lengths, batches.order(0), multiple)


@pytest.fixture
def columns():
    rng = np.random.default_rng(0)
    tokens = [rng.integers(1, 9, n).tolist() for n in rng.integers(1, 9, 23)]
    return tokens, [[0] * len(t) for t in tokens]


def test_batches_hold_the_examples(columns):
    tokens, _ = columns
    labels = [len(t) for t in tokens]
    batches = PaddedBatches(
        columns, labels, batch_size=4, pad_to_multiple=3, padding_value=-1, window=2
    )
    for epoch in range(2):
        order = batches.order(epoch)
        assert len(order) == len(batches) == 6
        served = itertools.islice(batches.batches(epoch), len(order))
        for indices, ((x, s), y) in zip(order, served, strict=True):
            assert x.shape == s.shape
            assert x.shape[1] % 3 == 0
            assert x.shape[1] - max(labels[i] for i in indices) < 3
            for row, i in zip(x.tolist(), indices, strict=True):
                assert row == tokens[i] + [-1] * (len(row) - labels[i])
            assert y.tolist() == [labels[i] for i in indices]


def test_continuing_anywhere_gives_the_same_batches(columns):
    batches = PaddedBatches(columns, batch_size=4, seed=5)
    whole = [x for ((x, _),) in itertools.islice(batches.batches(), 18)]
    rest = [x for ((x, _),) in itertools.islice(batches.batches(1, 2), 10)]
    for a, b in zip(whole[8:], rest, strict=True):
        np.testing.assert_array_equal(a, b)


def test_order_of_tests(columns):
    tokens, _ = columns
    batches = PaddedBatches([tokens], range(23), batch_size=4)
    labels = [batches.in_order(i)[1] for i in range(len(batches))]
    assert np.concatenate(labels).tolist() == list(range(23))


def test_dictionaries_arrays_and_unaligned_columns(columns):
    source, _ = columns
    target = [[1, 2], [3], *[[4]] * 21]
    batches = PaddedBatches(
        {"source": source, "target": target},
        labels=target,
        label_padding=-1,
        sample_weights=np.ones(23),
        aligned=False,
        batch_size=2,
    )
    x, y, weights = batches.in_order(0)
    assert list(x) == ["source", "target"]
    assert x["target"].tolist() == [[1, 2], [3, 0]]
    assert y.tolist() == [[1, 2], [3, -1]]
    assert weights.tolist() == [1, 1]


def test_weights_of_tokens_are_padded_with_zero():
    batches = PaddedBatches(
        [[[1, 2], [3]]],
        labels=[[1, 2], [3]],
        label_padding=-100,
        sample_weights=[[0.5, 0.5], [1.0]],
    )
    x, y, weights = batches.in_order(0)
    assert x.tolist() == [[1, 2], [3, 0]]
    assert y.tolist() == [[1, 2], [3, -100]]
    assert weights.tolist() == [[0.5, 0.5], [1.0, 0.0]]


ONE = [[1, 2], [3]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": []}, "no inputs"),
        ({"inputs": ONE}, r"inputs\[0\] holds single values"),
        ({"inputs": [[]]}, r"inputs\[0\] has no examples"),
        ({"inputs": [[[1], []]]}, r"example 1: inputs\[0\] is empty"),
        ({"inputs": [ONE, [[1, 2]]]}, r"inputs\[0\] has 2.*inputs\[1\] has 1"),
        (
            {"inputs": {"a": ONE, "b": [[1], [3]]}},
            r"example 0: inputs\['a'\] has length 2, inputs\['b'\] has length 1",
        ),
        ({"inputs": [ONE], "labels": [1]}, "has 2 examples, labels has 1"),
        (
            {"inputs": [ONE], "labels": [[1, 2], [3, 4]], "label_padding": 0},
            r"example 1: inputs\[0\] has length 1, labels has length 2",
        ),
        (
            {"inputs": [ONE], "labels": [1, 2], "sample_weights": [1.0]},
            "has 2 examples, sample_weights has 1",
        ),
        ({"inputs": [ONE], "sample_weights": [1.0, 1.0]}, "without labels"),
        ({"inputs": [ONE], "batch_size": 0}, "batch_size is 0"),
        ({"inputs": [ONE], "pad_to_multiple": 0}, "pad_to_multiple is 0"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        PaddedBatches(**arguments)


def test_errors_of_bucketing():
    with pytest.raises(ValueError, match="batch_size is 0 and window is 50"):
        bucket_batches([1], 0)
