"""Gradients, which every backend takes in its own way."""

from collections.abc import Callable

import keras
import numpy as np


def _tensorflow_gradients(function, tensors):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    return tape.gradient(value, tensors)


def _jax_gradients(function, tensors):
    import jax

    return jax.grad(function, argnums=tuple(range(len(tensors))))(*tensors)


def _torch_gradients(function, tensors):
    tensors = [t.detach().clone().requires_grad_() for t in tensors]
    function(*tensors).backward()
    return [t.grad for t in tensors]


def gradients(function: Callable, arrays: list) -> list[np.ndarray]:
    """Gradients of a scalar function of tensors by each of them, as arrays."""
    take = {
        "tensorflow": _tensorflow_gradients,
        "jax": _jax_gradients,
        "torch": _torch_gradients,
    }[keras.backend.backend()]
    tensors = [keras.ops.convert_to_tensor(a) for a in arrays]
    found = take(function, tensors)
    return [keras.ops.convert_to_numpy(keras.ops.cast(g, "float32")) for g in found]
