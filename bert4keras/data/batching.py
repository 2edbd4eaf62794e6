"""Batches of examples of similar length, so that little padding is computed.

The examples are shuffled, sorted by length within windows of some fifty batches, cut
into batches, and the batches are shuffled. That leaves a few percent of padding, while
every epoch still sees other batches in another order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count

import numpy as np

from bert4keras.data.padding import sequence_padding


def bucket_batches(
    lengths: Sequence[int],
    batch_size: int,
    window: int = 50,
    rng: np.random.Generator | int | Sequence[int] | None = None,
) -> list[np.ndarray]:
    """Divide examples into shuffled batches of similar length.

    Args:
        lengths: the length of each example.
        batch_size: examples a batch; one batch takes the remainder.
        window: how many batches' worth of random examples are sorted together. More
            means less padding and less chance; 1 means plain shuffling.
        rng: a NumPy random generator, or a seed such as `[seed, epoch]`: the same seed
            gives the same batches.

    Returns:
        For each batch, in the order to train on, the indices of its examples. Every
        example is in exactly one.

    Example:

    >>> batches = bucket_batches([9, 1, 8, 2], batch_size=2, rng=0)
    >>> sorted(sorted(batch.tolist()) for batch in batches)
    [[0, 2], [1, 3]]
    """
    if batch_size < 1 or window < 1:
        raise ValueError(
            f"batch_size is {batch_size} and window is {window}; expected at least 1"
        )
    rng = np.random.default_rng(rng)
    lengths = np.asarray(lengths)
    order = rng.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), window * batch_size):
        part = order[start : start + window * batch_size]
        part = part[np.argsort(lengths[part], kind="stable")]
        full, rest = divmod(len(part), batch_size)
        # Anywhere among the lengths, lest one kind of text be in the small batch always
        sizes = rng.permutation([batch_size] * full + [rest] * bool(rest))
        batches.extend(np.split(part, np.cumsum(sizes)[:-1]))
    return [batches[i] for i in rng.permutation(len(batches))]


def padded_tokens(
    lengths: Sequence[int], batches: Sequence[np.ndarray], multiple: int = 1
) -> int:
    """How many tokens the batches have once each is padded to its longest.

    Divided by `sum(lengths)` it says how many times the real tokens are computed.

    Example:

    >>> padded_tokens([3, 1, 2], [np.array([0, 1]), np.array([2])])
    8
    """
    lengths = np.asarray(lengths)
    return sum(_round_up(int(lengths[b].max()), multiple) * len(b) for b in batches)


class PaddedBatches:
    """Examples as padded batches: bucketed by length for training, in order for tests.

    It holds no state that changes: batch `i` of epoch `k` is a function of `seed`, `k`
    and `i`, whatever ran before. Interrupted training goes on with
    `forfit(epoch, batch)`.

    Args:
        inputs: the model's inputs: a list of columns, or a dictionary of them by input
            name. A column has one sequence (list or array) for each example, such as
            its token ids.
        labels: one for each example, or `None`; see `label_padding`.
        batch_size: examples a batch.
        sample_weights: one for each example; a number, or a sequence of one for each
            token, which is padded with 0.
        label_padding: if given, each label is a sequence of one label for each token,
            and this value pads it. Otherwise labels are stacked as they are.
        padding_value: what pads the inputs.
        pad_to_multiple: round the lengths of batches up to a multiple of this. JAX
            compiles anew for each length; 32 or 64 keeps them few.
        aligned: whether the sequences of one example must be equally long in all
            columns; `False` for an encoder's and a decoder's inputs.
        window: see `bucket_batches`.
        seed: of the shuffling.

    Attributes:
        lengths: the length of each example; of unaligned columns the sum of theirs.

    Raises:
        ValueError: if columns, labels or weights differ in number, or the sequences of
            an example in length.

    Example:

    >>> batches = PaddedBatches([[[7, 8, 9], [5]]], labels=[1, 0], batch_size=2)
    >>> token_ids, labels = batches.in_order(0)
    >>> token_ids
    array([[7, 8, 9],
           [5, 0, 0]])

    Then `model.fit(batches.forfit(), steps_per_epoch=len(batches), shuffle=False)` (or
    Keras warns that it leaves the order alone), `model.evaluate(batches.foreval())` and
    `model.predict(batches.fortest())`.
    """

    def __init__(
        self,
        inputs: Sequence[Sequence] | dict[str, Sequence],
        labels: Sequence | None = None,
        batch_size: int = 32,
        *,
        sample_weights: Sequence | None = None,
        label_padding: float | None = None,
        padding_value: float = 0,
        pad_to_multiple: int = 1,
        aligned: bool = True,
        window: int = 50,
        seed: int = 0,
    ):
        for name, number in {
            "batch_size": batch_size,
            "window": window,
            "pad_to_multiple": pad_to_multiple,
        }.items():
            if number < 1:
                raise ValueError(f"{name} is {number}; expected at least 1")
        self.names = list(inputs) if isinstance(inputs, dict) else None
        self.columns = list(inputs.values() if self.names else inputs)
        self.labels, self.sample_weights = labels, sample_weights
        self.batch_size, self.window, self.seed = batch_size, window, seed
        self.label_padding, self.padding_value = label_padding, padding_value
        self.pad_to_multiple = pad_to_multiple
        self.lengths = self._checked_lengths(aligned)

    def __len__(self) -> int:
        """The number of batches an epoch."""
        return -(-len(self.lengths) // self.batch_size)

    def __repr__(self) -> str:
        return (
            f"<PaddedBatches of {len(self.lengths)} examples in {len(self)} batches; "
            "give model.fit its .forfit(), evaluate .foreval(), predict .fortest()>"
        )

    def order(self, epoch: int) -> list[np.ndarray]:
        """The indices of the examples in each training batch of an epoch."""
        seed = [self.seed, epoch]
        return bucket_batches(self.lengths, self.batch_size, self.window, seed)

    def gather(self, indices: np.ndarray) -> tuple:
        """The examples with these indices as one batch `(x, y, sample_weight)`.

        `y` and `sample_weight` are there only if they were given. `x` is a tuple of the
        columns, or the only one, or a dictionary.
        """
        columns = [self._pad(c, indices, self.padding_value) for c in self.columns]
        x = tuple(columns) if len(columns) > 1 else columns[0]
        if self.names:
            x = dict(zip(self.names, columns, strict=True))
        if self.labels is None:
            return (x,)
        if self.label_padding is None:
            y = np.asarray([self.labels[i] for i in indices])
        else:
            y = self._pad(self.labels, indices, self.label_padding)
        if self.sample_weights is None:
            return x, y
        if np.ndim(self.sample_weights[0]):
            return x, y, self._pad(self.sample_weights, indices, 0)
        return x, y, np.asarray([self.sample_weights[i] for i in indices])

    def in_order(self, index: int) -> tuple:
        """Batch `index` of the examples in the order that they were given."""
        start = index * self.batch_size
        stop = min(start + self.batch_size, len(self.lengths))
        return self.gather(np.arange(start, stop))

    def batches(self, epoch: int = 0, batch: int = 0) -> Iterator[tuple]:
        """Training batches without end, from batch number `batch` of `epoch` on."""
        for k in count(epoch):
            for indices in self.order(k)[batch:]:
                yield self.gather(indices)
            batch = 0

    def forfit(self, epoch: int = 0, batch: int = 0) -> Iterable[tuple]:
        """Training batches without end, bucketed by length, for `model.fit`.

        Give `fit` also `steps_per_epoch=len(self)`. Training that was interrupted goes
        on from where it stopped: after `k` epochs, with `forfit(k)` and
        `initial_epoch=k`.

        Args:
            epoch: the epoch to start in, counted from 0.
            batch: the batch of that epoch to start at.

        Returns:
            A generator; on the TensorFlow backend a `tf.data.Dataset`.
        """
        from bert4keras.data.feeding import endless_feed

        return endless_feed(lambda: self.batches(epoch, batch), self._spec())

    def foreval(self) -> Iterable[tuple]:
        """Every example once, sorted by length: for `evaluate` and `validation_data`.

        Returns:
            A `keras.utils.PyDataset`; on the TensorFlow backend a `tf.data.Dataset`.
        """
        from bert4keras.data.feeding import finite_feed

        order = np.argsort(self.lengths, kind="stable")

        def sorted_batch(i):
            return self.gather(order[i * self.batch_size : (i + 1) * self.batch_size])

        return finite_feed(sorted_batch, len(self), self._spec())

    def fortest(self) -> Iterable[tuple]:
        """Every example once, in the order given: for `predict`.

        Returns:
            A `keras.utils.PyDataset`; on the TensorFlow backend a `tf.data.Dataset`.
        """
        from bert4keras.data.feeding import finite_feed

        return finite_feed(self.in_order, len(self), self._spec())

    def _pad(self, column: Sequence, indices: np.ndarray, value: float) -> np.ndarray:
        rows = [column[i] for i in indices]
        length = _round_up(max(map(len, rows)), self.pad_to_multiple)
        return sequence_padding(rows, length, value)

    def _spec(self) -> tuple:
        """The structure of a batch with the dimensions that vary left open."""
        import keras

        x, *targets = self.gather(np.arange(1))
        padded = [self.label_padding is not None]
        padded += [self.sample_weights is not None and np.ndim(self.sample_weights[0])]

        def spec(array, opened):
            shape = (None,) * opened + array.shape[opened:]
            return keras.KerasTensor(shape, array.dtype.name)

        return (
            keras.tree.map_structure(lambda a: spec(a, 2), x),
            *(spec(a, 1 + bool(p)) for a, p in zip(targets, padded, strict=False)),
        )

    def _checked_lengths(self, aligned: bool) -> np.ndarray:
        """The length of each example, after checking that all fits together.

        Of columns that are not aligned, the sum of their lengths.
        """
        names = self.names or range(len(self.columns))
        parts = {f"inputs[{n!r}]": c for n, c in zip(names, self.columns, strict=True)}
        if not parts:
            raise ValueError("no inputs were given; expected at least one column")
        if self.sample_weights is not None and self.labels is None:
            raise ValueError("sample_weights were given without labels")
        lengths = {name: _sequence_lengths(name, c) for name, c in parts.items()}
        for name, found in lengths.items():
            for i in np.flatnonzero(found == 0)[:1]:
                raise ValueError(
                    f"example {i}: {name} is empty; expected at least one element"
                )
        if self.labels is not None:
            parts["labels"] = self.labels
            if self.label_padding is not None:
                lengths["labels"] = _sequence_lengths("labels", self.labels)
        if self.sample_weights is not None:
            parts["sample_weights"] = self.sample_weights
        first, *others = parts
        for name in others:
            if len(parts[name]) != len(parts[first]):
                raise ValueError(
                    f"{first} has {len(parts[first])} examples, {name} has "
                    f"{len(parts[name])}; expected as many"
                )
        for name in lengths if aligned else ():
            for i in np.flatnonzero(lengths[name] != lengths[first])[:1]:
                raise ValueError(
                    f"example {i}: {first} has length {lengths[first][i]}, {name} has "
                    f"length {lengths[name][i]}; expected equal lengths (or "
                    "aligned=False)"
                )
        if aligned:
            return lengths[first]
        return sum(lengths[name] for name in lengths if name != "labels")


def _sequence_lengths(name: str, column: Sequence) -> np.ndarray:
    try:
        lengths = np.fromiter(map(len, column), dtype=np.int64)
    except TypeError:
        raise ValueError(
            f"{name} holds single values; expected one sequence for each example (the "
            "inputs are a list of such columns)"
        ) from None
    if not lengths.size:
        raise ValueError(f"{name} has no examples; expected at least one")
    return lengths


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
