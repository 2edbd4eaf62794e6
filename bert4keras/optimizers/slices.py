"""Buffers of TensorFlow's sparse gradients, as gradient accumulation keeps them."""

from __future__ import annotations

import keras
import numpy as np

from bert4keras.optimizers.derived import in_xla


class SliceBuffers:
    """For each variable with an `IndexedSlices` gradient: all its slices so far.

    The big batch's gradient is the concatenation of the micro-batches' slices, not
    their sum: a token that occurs twice has two. Their number varies, so they are held
    in TensorFlow variables of unknown length rather than in Keras variables.
    """

    def __init__(self):
        self._buffers = {}

    def holds(self, index: int) -> bool:
        return index in self._buffers and not in_xla()

    def create(self, grads, indices, variables, distribution):
        """Adds empty buffers for those gradients that are slices and have none."""
        import tensorflow as tf

        if in_xla():
            return
        for gradient, index in zip(grads, indices, strict=True):
            # With tf.distribute, each replica has the same sum over all of them.
            gradient = distribution.experimental_local_results(gradient)[0]
            if isinstance(gradient, tf.IndexedSlices) and index not in self._buffers:
                with tf.init_scope():
                    self._buffers[index] = _new_buffer(
                        np.zeros([0, *variables[index].shape[1:]]),
                        np.zeros([0]),
                        gradient.values.dtype,
                        gradient.indices.dtype,
                    )

    def append(self, extended, index, gradient):
        import tensorflow as tf

        def append_values(buffer, new):
            buffer.assign(tf.concat([buffer.read_value(), new.values], axis=0))

        def append_indices(buffer, new):
            buffer.assign(tf.concat([buffer.read_value(), new.indices], axis=0))

        values, indices = self._buffers[index]
        extended.update(values, append_values, args=(gradient,), group=False)
        extended.update(indices, append_indices, args=(gradient,), group=False)

    def mean(self, index, steps, shape):
        """The slices held, divided by `steps`, of a variable of `shape`."""
        import tensorflow as tf

        values, indices = (buffer.read_value() for buffer in self._buffers[index])
        return tf.IndexedSlices(values / steps, indices, tf.constant([*shape]))

    def clear(self, extended):
        def clear(buffer):
            buffer.assign(buffer.read_value()[:0])

        for buffers in self._buffers.values():
            for buffer in buffers:
                extended.update(buffer, clear, group=False)

    def save(self, store):
        for index, (values, indices) in self._buffers.items():
            store[f"slices_{index}_values"] = values.numpy()
            store[f"slices_{index}_indices"] = indices.numpy()

    def load(self, store, sums):
        """Restores what `save` stored; other backends add it to the dense `sums`."""
        # Keras's stores have `keys()` but cannot be iterated.
        keys = list(store.keys())
        stored = [key.split("_")[1] for key in keys if key.endswith("_values")]
        for buffers in self._buffers.values():
            for buffer in buffers:
                buffer.assign(buffer[:0])
        for index in map(int, stored):
            values = np.asarray(store[f"slices_{index}_values"])
            indices = np.asarray(store[f"slices_{index}_indices"])
            if keras.backend.backend() != "tensorflow":
                total = keras.ops.convert_to_numpy(sums[index]).copy()
                np.add.at(total, indices, values)
                sums[index].assign(total)
            elif index in self._buffers:
                # A compiled function holds on to the variables that it knows.
                for buffer, value in zip(
                    self._buffers[index], (values, indices), strict=True
                ):
                    buffer.assign(value)
            else:
                self._buffers[index] = _new_buffer(
                    values, indices, values.dtype, indices.dtype
                )


def _new_buffer(values, indices, values_dtype, indices_dtype):
    import tensorflow as tf

    return tuple(
        tf.Variable(
            tf.cast(array, dtype),
            shape=tf.TensorShape([None, *array.shape[1:]]),
            trainable=False,
        )
        for array, dtype in ((values, values_dtype), (indices, indices_dtype))
    )
