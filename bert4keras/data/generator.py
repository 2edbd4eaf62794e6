"""`DataGenerator`: the class that people subclass to turn samples into batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np


class DataGenerator:
    """Draws samples, in order or shuffled, for a subclass that makes batches of them.

    A subclass overrides `__iter__(self, random=False)`: one pass over the data that
    takes its samples from `self.sample(random)` and yields batches `(x, y)`, where `x`
    may be a list of arrays.

    Args:
        data: the samples: anything with `len` and integer indices; an iterable that
            starts afresh each time, such as a reader of a large file; or an endless
            iterator.
        batch_size: samples a batch.
        buffer_size: for data without a length: how many samples are held for shuffling,
            by default a thousand batches.
        seed: of the shuffling. By default it is drawn from NumPy's global state, which
            `np.random.seed` and `keras.utils.set_random_seed` set.

    Example:

    >>> class Pairs(DataGenerator):
    ...     def __iter__(self, random=False):
    ...         numbers = []
    ...         for is_end, n in self.sample(random):
    ...             numbers.append(n)
    ...             if len(numbers) == self.batch_size or is_end:
    ...                 yield np.array(numbers), np.array(numbers) % 2
    ...                 numbers = []
    >>> batches = Pairs([5, 6, 7], batch_size=2)
    >>> len(batches)
    2
    >>> next(iter(batches))
    (array([5, 6]), array([1, 0]))

    Then `model.fit(batches.forfit(), steps_per_epoch=len(batches))`.
    """

    def __init__(
        self,
        data: Iterable,
        batch_size: int = 32,
        buffer_size: int | None = None,
        seed: int | None = None,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected at least 1")
        self.data = data
        self.batch_size = batch_size
        self.buffer_size = buffer_size or batch_size * 1000
        self.steps = _steps(len(data), batch_size) if hasattr(data, "__len__") else None
        if seed is None:
            seed = np.random.randint(2**31)
        self._rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        """The number of batches a pass.

        Data without a length are read through once, at the first call.

        Raises:
            TypeError: if that would use the data up.
        """
        if self.steps is None:
            samples = iter(self.data)
            if samples is self.data:
                raise TypeError(
                    f"the data are a {type(self.data).__name__}, which has no length "
                    "and can be read only once; give model.fit a steps_per_epoch of "
                    "your choice"
                )
            self.steps = _steps(sum(1 for _ in samples), self.batch_size)
        return self.steps

    def sample(self, random: bool = False) -> Iterator[tuple[bool, Any]]:
        """One pass over the samples, each with whether it is the last.

        Args:
            random: whether to shuffle: all of the data if they have a length, else
                within a buffer of `buffer_size` samples.
        """
        if not random:
            samples = iter(self.data)
        elif hasattr(self.data, "__len__"):
            order = self._rng.permutation(len(self.data)).tolist()
            samples = (self.data[i] for i in order)
        else:
            samples = self._shuffled_stream()
        held = []
        for following in samples:
            if held:
                yield False, held.pop()
            held.append(following)
        for last in held:
            yield True, last

    def __iter__(self, random: bool = False) -> Iterator:
        """One pass over the batches; for the subclass to write."""
        raise NotImplementedError(
            f"{type(self).__name__} has no __iter__(self, random=False): write one "
            "that loops over self.sample(random) and yields batches"
        )

    def forfit(self, random: bool = True) -> Iterable[tuple]:
        """The batches over and over, shuffled anew in each pass, for `model.fit`.

        Give `fit` also `steps_per_epoch=len(self)`, and `shuffle=False` lest Keras warn
        that it leaves the order alone. Not for `validation_data`: JAX and PyTorch would
        get the first two batches again in each epoch and miss the last two;
        `PaddedBatches.foreval` or a loop over `self` is right there.

        Returns:
            A generator of `(x, y)`; on the TensorFlow backend a `tf.data.Dataset` of
            them, because Keras would take the lengths of a generator's first batches
            for those of all.
        """
        from bert4keras.data.feeding import as_keras_batch, endless_feed

        return endless_feed(lambda: (as_keras_batch(b) for b in self._passes(random)))

    def fortest(self, random: bool = False) -> Iterable[tuple]:
        """The inputs over and over, for `model.predict(..., steps=len(self))`.

        Returns:
            The same as `forfit`, of `(x,)`.
        """
        from bert4keras.data.feeding import as_keras_batch, endless_feed

        return endless_feed(
            lambda: (as_keras_batch(b)[:1] for b in self._passes(random))
        )

    def to_dataset(
        self,
        types: Any,
        shapes: Any,
        names: str | Sequence | None = None,
        padded_batch: bool = False,
        random: bool = True,
    ) -> Iterable:
        """A `tf.data.Dataset` of batches, for a subclass that yields single samples.

        Args:
            types: the dtype of each array, nested as the samples are.
            shapes: its shape, without the batch dimension.
            names: the model's input names, if samples shall become dictionaries: one
                name, a sequence of them, or a sequence of sequences.
            padded_batch: whether to pad the samples of a batch to the longest one.
            random: whether to shuffle.

        Returns:
            An endless dataset of `batch_size` samples each. Needs TensorFlow.
        """
        import tensorflow as tf

        def named(values):
            if names is None:
                return values
            if isinstance(names, str):
                return {names: values}
            if isinstance(names[0], str):
                return dict(zip(names, values, strict=True))
            pairs = zip(names, values, strict=True)
            return tuple(dict(zip(n, v, strict=True)) for n, v in pairs)

        types, shapes = named(types), named(shapes)

        def samples():
            for sample in self._passes(random):
                yield _map_leaves(types, named(sample), lambda _, value: value)

        dataset = tf.data.Dataset.from_generator(
            samples,
            output_signature=_map_leaves(
                types, shapes, lambda dtype, shape: tf.TensorSpec(shape, dtype)
            ),
        )
        if not padded_batch:
            return dataset.batch(self.batch_size)
        padded = _map_leaves(types, shapes, lambda _, shape: tf.TensorShape(shape))
        return dataset.padded_batch(self.batch_size, padded)

    def _passes(self, random: bool) -> Iterator:
        while True:
            empty = True
            for batch in self.__iter__(random):
                empty = False
                yield batch
            if empty:
                raise ValueError(
                    "a pass over the data gave no batch: the data are empty, or an "
                    "iterator that has been read to its end; give a list, or an "
                    "iterable that starts afresh each time"
                )

    def _shuffled_stream(self) -> Iterator:
        buffer = []
        for sample in self.data:
            if len(buffer) < self.buffer_size:
                buffer.append(sample)
            else:
                i = self._rng.integers(len(buffer))
                yield buffer[i]
                buffer[i] = sample
        for i in self._rng.permutation(len(buffer)).tolist():
            yield buffer[i]


def _map_leaves(types, values, function):
    """`function(dtype, value)` for each dtype in `types`, in the nesting of `types`."""
    if isinstance(types, dict):
        return {k: _map_leaves(t, values[k], function) for k, t in types.items()}
    if isinstance(types, (tuple, list)):
        pairs = zip(types, values, strict=True)
        return tuple(_map_leaves(t, v, function) for t, v in pairs)
    return function(types, values)


def _steps(samples: int, batch_size: int) -> int:
    return -(-samples // batch_size)
