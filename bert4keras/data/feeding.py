"""Handing batches to `model.fit`, `evaluate` and `predict` on each backend.

A batch is `(x,)`, `(x, y)` or `(x, y, sample_weight)` of NumPy arrays, possibly nested
in tuples and dictionaries.

On TensorFlow, Keras fixes every length on which the first two batches of a generator or
a `PyDataset` agree and then fails at the first batch of another length. There the
batches therefore go into a `tf.data.Dataset` whose lengths are declared open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice

import keras
import numpy as np


def as_keras_batch(batch: object) -> tuple:
    """A batch in the form that Keras 3 expects.

    Lists become tuples, since `tf.data` would stack a list; missing targets (`None`) at
    the end are left out; inputs alone become `(x,)`.
    """
    if not isinstance(batch, (tuple, list)):
        batch = (batch,)
    batch = list(keras.tree.lists_to_tuples(batch))
    while len(batch) > 1 and batch[-1] is None:
        batch.pop()
    return tuple(batch)


def endless_feed(
    start: Callable[[], Iterator[tuple]], spec: tuple | None = None
) -> Iterable[tuple]:
    """An endless sequence of batches, as `model.fit` takes it.

    Args:
        start: makes an iterator over batches, from the first one.
        spec: the batches' structure with a `keras.KerasTensor` for each array, whose
            shape has `None` where batches differ. Taken from the first two if absent.

    Returns:
        A generator; on TensorFlow a `tf.data.Dataset`.
    """
    if keras.backend.backend() != "tensorflow":
        return start()
    if spec is None:
        batches = start()
        first = list(islice(batches, 2))
        spec = open_spec(first)
        # An iterator over a stream cannot be had twice: go on with the first one.
        ready = [chain(first, batches)]
        return tensorflow_dataset(lambda: ready.pop() if ready else start(), spec)
    return tensorflow_dataset(start, spec)


def finite_feed(
    get: Callable[[int], tuple], steps: int, spec: tuple
) -> Iterable[tuple]:
    """`steps` batches, as `model.evaluate` and `predict` take them any number of times.

    Args:
        get: makes the batch of a given number.
        steps: the number of batches.
        spec: see `endless_feed`.

    Returns:
        A `keras.utils.PyDataset`; on TensorFlow a `tf.data.Dataset`.
    """
    if keras.backend.backend() != "tensorflow":
        return _Batches(get, steps)
    return tensorflow_dataset(lambda: map(get, range(steps)), spec, steps)


def open_spec(batches: list[tuple]) -> tuple:
    """The structure of some batches, with `None` for the dimensions that may vary.

    These are: the batch dimension; every dimension of the inputs; of targets and
    weights those that differ between the given batches, those as long as an input, and
    any longer than 1 if there are three or more. The others stay known, since losses
    and metrics look at the number of classes.
    """
    inputs = keras.tree.flatten([batch[0] for batch in batches])
    lengths = {n for x in inputs for n in np.shape(x)[1:] if n > 1}

    def is_open(sizes: set[int], rank: int) -> bool:
        size = max(sizes)
        return len(sizes) > 1 or size in lengths or (rank > 2 and size > 1)

    def input_spec(x, *_):
        return keras.KerasTensor([None] * np.ndim(x), np.asarray(x).dtype.name)

    def target_spec(*arrays):
        x = np.asarray(arrays[0])
        sizes = [set(s) for s in zip(*(np.shape(a)[1:] for a in arrays), strict=True)]
        known = [None if is_open(s, x.ndim) else max(s) for s in sizes]
        return keras.KerasTensor([None, *known][: x.ndim], x.dtype.name)

    x, *targets = zip(*batches, strict=True)
    return (
        keras.tree.map_structure(input_spec, *x),
        *(keras.tree.map_structure(target_spec, *t) for t in targets),
    )


def tensorflow_dataset(
    start: Callable[[], Iterable[tuple]], spec: tuple, steps: int | None = None
) -> Iterable[tuple]:
    """A `tf.data.Dataset` of batches whose open lengths are `None` in `spec`."""
    import tensorflow as tf

    signature = keras.tree.map_structure(
        lambda x: tf.TensorSpec(x.shape, x.dtype), spec
    )
    dataset = tf.data.Dataset.from_generator(start, output_signature=signature)
    if steps is not None:
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps))
    return dataset.prefetch(tf.data.AUTOTUNE)


class _Batches(keras.utils.PyDataset):
    def __init__(self, get: Callable[[int], tuple], steps: int):
        super().__init__()
        self._get, self._steps = get, steps

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, index: int) -> tuple:
        return self._get(index)
