"""Buffers of TensorFlow's sparse gradients, as gradient accumulation keeps them."""

from __future__ import annotations

import keras
import numpy as np

from bert4keras.optimizers.derived import in_xla, is_rows

# Slices of a micro-batch for which XLA reserves room where their number is unknown as
# a function is traced, and so in `fit`: 16 texts of 256 tokens.
_ROOM = 4096


class SliceBuffers:
    """For each variable with an `IndexedSlices` gradient: those of n micro-batches.

    The big batch's gradient is the concatenation of the micro-batches' slices, not
    their sum: a token that occurs twice has two. Values (n, length, ...) and indices
    (n, length) have a place for each micro-batch, filled up with zeros for row 0 to
    the longest so far. They are TensorFlow variables rather than Keras's, whose shapes
    never change.
    """

    def __init__(self, steps: int):
        self._steps = steps
        self._buffers = {}

    def holds(self, index: int) -> bool:
        return index in self._buffers

    def create(self, grads, indices, sums, distribution):
        """Makes buffers for those gradients that are slices, long enough for them.

        What other backends' states have in the dense `sums` of these moves there.
        """
        import tensorflow as tf

        for gradient, index in zip(grads, indices, strict=True):
            # With tf.distribute, each replica has the same sum over all of them.
            gradient = distribution.experimental_local_results(gradient)[0]
            if not is_rows(gradient):
                continue
            length = gradient.values.shape[0]
            if length is None:
                length = _ROOM if in_xla() else 0
            with tf.init_scope():
                if not self.holds(index):
                    empty = [self._steps, length]
                    rows = [*empty, *sums[index].shape[1:]]
                    values = tf.zeros(rows, gradient.values.dtype)
                    self._put(index, values, tf.zeros(empty, gradient.indices.dtype))
                    self._take_over(index, sums[index])
                for buffer in self._buffers[index]:
                    distribution.extended.update(
                        buffer, _lengthen, args=(length,), group=False
                    )

    def add(self, extended, index, gradient, step, total):
        """Puts a gradient in the place of micro-batch `step`.

        XLA forbids to lengthen a buffer: slices that do not fit go to the dense
        `total`.
        """
        import tensorflow as tf

        def write(buffer, gradient, part):
            new = getattr(gradient, part)
            length = tf.shape(new)[0]
            if in_xla():
                new = new[: _length(buffer)]
            else:
                is_longer = length > _length(buffer)
                tf.cond(is_longer, lambda: _lengthen(buffer, length), lambda: None)
            new = _filled_up(new[None], _length(buffer))
            buffer.scatter_nd_update([[tf.minimum(step, self._steps - 1)]], new)

        def spill(buffer, gradient, total):
            values, indices = (
                part[_length(buffer) :] for part in (gradient.values, gradient.indices)
            )
            rest = tf.math.unsorted_segment_sum(values, indices, total.shape[0])
            total.assign_add(tf.cast(rest, total.dtype))

        parts = ("values", "indices")
        for buffer, part in zip(self._buffers[index], parts, strict=True):
            extended.update(buffer, write, args=(gradient, part), group=False)
        if in_xla():
            args = (gradient, total.value)
            extended.update(self._buffers[index][0], spill, args=args, group=False)

    def mean(self, index, total):
        """The slices held and what did not fit, divided by n."""
        import tensorflow as tf

        shape = [*total.shape]
        values, indices = (buffer.read_value() for buffer in self._buffers[index])
        values = tf.reshape(values, [-1, *shape[1:]])
        indices = tf.reshape(indices, [-1])
        if in_xla():
            rest = tf.cast(total.value, values.dtype)
            values = tf.concat([values, rest], axis=0)
            rows = tf.range(shape[0], dtype=indices.dtype)
            indices = tf.concat([indices, rows], axis=0)
        return tf.IndexedSlices(values / self._steps, indices, tf.constant(shape))

    def clear(self, extended):
        import tensorflow as tf

        def clear(buffer):
            buffer.assign(tf.zeros_like(buffer))

        for buffers in self._buffers.values():
            for buffer in buffers:
                extended.update(buffer, clear, group=False)

    # Saving.

    def save(self, store):
        for index, (values, indices) in self._buffers.items():
            store[f"slices_{index}_values"] = values.numpy()
            store[f"slices_{index}_indices"] = indices.numpy()

    def load(self, store, sums):
        """Restores what `save` stored; other backends add it to the dense `sums`."""
        # Keras's stores have `keys()` but cannot be iterated.
        keys = [key for key in list(store.keys()) if key.endswith("_values")]
        stored = {int(key.split("_")[1]) for key in keys}
        for index in stored:
            values = np.asarray(store[f"slices_{index}_values"])
            indices = np.asarray(store[f"slices_{index}_indices"])
            if keras.backend.backend() == "tensorflow":
                self._put(index, values, indices)
            else:
                total = keras.ops.convert_to_numpy(sums[index]).copy()
                np.add.at(total, indices, values)
                sums[index].assign(total)
        for index in set(self._buffers) - stored:
            self._put(index, *(buffer.numpy() * 0 for buffer in self._buffers[index]))
            self._take_over(index, sums[index])

    def _take_over(self, index, total):
        """Moves what a dense sum holds into the first place."""
        dense = keras.ops.convert_to_numpy(total)
        # A variable made while a function is traced is empty until that ends.
        rows = np.flatnonzero(dense.any(axis=tuple(range(1, dense.ndim))))
        if len(rows):
            self._put(index, dense[rows][None], rows[None])
            total.assign(np.zeros_like(dense))

    def _put(self, index, values, indices):
        """Sets a variable's slices, in one place if there are not n of them."""
        import tensorflow as tf

        if len(values) != self._steps:
            values = np.reshape(values, [1, -1, *values.shape[2:]])
            indices = np.reshape(indices, [1, -1])
            rest = [[0, self._steps - 1], [0, 0]]
            values = np.pad(values, rest + [[0, 0]] * (values.ndim - 2))
            indices = np.pad(indices, rest)
        if self.holds(index):
            # A compiled function holds on to the variables that it knows.
            for buffer, new in zip(
                self._buffers[index], (values, indices), strict=True
            ):
                length = max(buffer.numpy().shape[1], new.shape[1])
                buffer.assign(_filled_up(tf.cast(new, buffer.dtype), length))
        else:
            self._buffers[index] = tuple(
                tf.Variable(
                    new,
                    shape=tf.TensorShape([self._steps, None, *new.shape[2:]]),
                    trainable=False,
                )
                for new in (values, indices)
            )


def _length(buffer):
    """Length of a buffer's places, without reading it."""
    import tensorflow as tf

    return tf.raw_ops.VariableShape(input=buffer.handle)[1]


def _lengthen(buffer, length):
    """Fills a buffer up to places of at least `length`."""
    import tensorflow as tf

    length = tf.maximum(_length(buffer), length)
    buffer.assign(_filled_up(buffer.read_value(), length))


def _filled_up(values, length):
    """`values` (n, ...) with zeros up to (n, length, ...)."""
    import tensorflow as tf

    missing = length - tf.shape(values)[1]
    return tf.pad(values, [[0, 0], [0, missing]] + [[0, 0]] * (len(values.shape) - 2))
