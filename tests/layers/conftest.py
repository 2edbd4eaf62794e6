"""Gradients, which every backend takes in its own way."""

import pytest


def _tensorflow_gradients(function, arrays):
    import tensorflow as tf

    tensors = [tf.constant(a) for a in arrays]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    return [g.numpy() for g in tape.gradient(value, tensors)]


def _jax_gradients(function, arrays):
    import jax
    import numpy as np

    gradients = jax.grad(function, argnums=tuple(range(len(arrays))))(*arrays)
    return [np.asarray(g) for g in gradients]


def _torch_gradients(function, arrays):
    import torch

    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    function(*tensors).backward()
    return [t.grad.numpy() for t in tensors]


@pytest.fixture(scope="session")
def gradients(backend):
    """A function from a scalar function and arrays to the gradients, as arrays."""
    return {
        "tensorflow": _tensorflow_gradients,
        "jax": _jax_gradients,
        "torch": _torch_gradients,
    }[backend]
