"""`DataGenerator.to_dataset`, which gives a `tf.data.Dataset` whatever the backend."""

import itertools

import numpy as np
import pytest

from bert4keras.data import DataGenerator

pytestmark = pytest.mark.pure  # needs TensorFlow, but no Keras


@pytest.fixture(autouse=True)
def tensorflow():
    pytest.importorskip("tensorflow")


DATA = [([1, 2, 3], 0), ([4], 1), ([5, 6], 0)]


class Samples(DataGenerator):
    """Yields single samples, as scripts for `to_dataset` do."""

    def __iter__(self, random=False):
        for _, (token_ids, label) in self.sample(random):
            yield [token_ids, [0] * len(token_ids)], [label]


class Tokens(DataGenerator):
    def __iter__(self, random=False):
        for _, (token_ids, _) in self.sample(random):
            yield token_ids, [1] * len(token_ids)


def batches(dataset, n):
    return list(itertools.islice(dataset.as_numpy_iterator(), n))


def test_padded_batches_by_name():
    """As 0.11.5's scripts for several devices have it."""
    dataset = Tokens(DATA, batch_size=2).to_dataset(
        types=("float32", "float32"),
        shapes=([None], [None]),
        names=("Input-Token", "Input-Segment"),
        padded_batch=True,
        random=False,
    )
    first, second = batches(dataset, 2)
    assert first["Input-Token"].tolist() == [[1, 2, 3], [4, 0, 0]]
    assert first["Input-Segment"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert first["Input-Token"].dtype == np.float32
    # Passes follow each other without end.
    assert second["Input-Token"].tolist() == [[5, 6, 0], [1, 2, 3]]


def test_nested_structures():
    dataset = Samples(DATA, batch_size=3).to_dataset(
        types=(("int32", "int32"), "int64"),
        shapes=(([None], [None]), [1]),
        padded_batch=True,
        random=False,
    )
    ((tokens, segments), labels), *_ = batches(dataset, 1)
    assert tokens.tolist() == [[1, 2, 3], [4, 0, 0], [5, 6, 0]]
    assert segments.shape == (3, 3)
    assert labels.tolist() == [[0], [1], [0]]
    assert (tokens.dtype, labels.dtype) == (np.int32, np.int64)


def test_names_of_nested_structures():
    dataset = Samples(DATA[:1], batch_size=1).to_dataset(
        types=[["int32", "int32"], ["int32"]],
        shapes=[[[3], [3]], [[]]],
        names=[["a", "b"], ["c"]],
    )
    (x, y), *_ = batches(dataset, 1)
    assert x["a"].tolist() == [[1, 2, 3]]
    assert x["b"].tolist() == [[0, 0, 0]]
    assert y["c"].tolist() == [0]


def test_one_name():
    class Single(DataGenerator):
        def __iter__(self, random=False):
            for _, (token_ids, _) in self.sample(random):
                yield token_ids

    dataset = Single(DATA, batch_size=3).to_dataset(
        "int32", [None], names="ids", padded_batch=True
    )
    (batch,) = batches(dataset, 1)
    assert sorted(batch["ids"].tolist()) == [[1, 2, 3], [4, 0, 0], [5, 6, 0]]
