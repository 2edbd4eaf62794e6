"""The names that scripts import from `bert4keras.backend`, and where they live now.

Nothing inside the package imports this module. `K` is `keras.ops`.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import ops
from keras import ops as K  # noqa: N812

from bert4keras.activations import gelu_erf, gelu_sigmoid, gelu_tanh, set_gelu
from bert4keras.layers.positions import Sinusoidal, sinusoidal_embeddings
from bert4keras.layers.scores import apply_rotary_position_embeddings, normalize_scores
from bert4keras.losses import (
    multilabel_categorical_crossentropy,
    sparse_multilabel_categorical_crossentropy,
)
from bert4keras.masking import sequence_masking
from bert4keras.optimizers import piecewise_linear

__all__ = [
    "K",
    "Sinusoidal",
    "align",
    "apply_rotary_position_embeddings",
    "attention_normalize",
    "batch_gather",
    "divisible_temporal_padding",
    "dtype",
    "flatten",
    "gelu_erf",
    "gelu_sigmoid",
    "gelu_tanh",
    "get_available_gpus",
    "keras",
    "leaky_relu",
    "multilabel_categorical_crossentropy",
    "piecewise_linear",
    "pool1d",
    "recompute_grad",
    "reshape",
    "root_mean_square",
    "search_layer",
    "sequence_masking",
    "set_gelu",
    "sinusoidal_embeddings",
    "sparse_multilabel_categorical_crossentropy",
    "swish",
    "symbolic",
    "where",
]

swish = keras.activations.silu
where = ops.where


def get_available_gpus() -> list[str]:
    """The names of the GPUs that the backend can use.

    Each backend is asked itself: Keras lists devices on TensorFlow and JAX only, and on
    JAX it fails where there is no GPU.
    """
    if keras.backend.backend() == "torch":
        import torch

        return [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if keras.backend.backend() == "jax":
        import jax

        return [str(device) for device in jax.devices() if device.platform == "gpu"]
    return keras.distribution.list_devices("gpu")


def dtype(x) -> str:
    """The name of a tensor's or an array's dtype.

    Example:
        >>> dtype(keras.ops.ones((2,), "int32"))
        'int32'
    """
    return keras.backend.standardize_dtype(x.dtype)


def symbolic(f: Callable) -> Callable:
    """`f` itself: no Keras of today needs the decorator."""
    return f


def recompute_grad(call: Callable) -> Callable:
    """`call` itself, as in bert4keras 0.11.5 without the variable `RECOMPUTE`.

    To save memory, pass `recompute=True` to the layers or to
    `build_transformer_model`, or derive from `bert4keras.layers.RecomputableLayer`.
    """
    return call


def leaky_relu(x, alpha: float = 0.2):
    """max(x, alpha * x), with bert4keras's slope for negative numbers."""
    return ops.leaky_relu(x, negative_slope=alpha)


def align(tensor, axes: list[int], ndim: int | None = None):
    """Put a tensor's axes at the given places among `ndim`, the others being new.

    Args:
        tensor: tensor with as many axes as `axes` has entries.
        axes: rising places; negative ones count from the end.
        ndim: how many axes there will be; None is the last place plus one.

    Returns:
        The tensor with axes of size 1 put in.

    Example:
        >>> align(keras.ops.ones((2, 3)), [0, -1], 4).shape  # (2, 1, 1, 3)
    """
    ndim = ndim or max(axes) + 1
    places = [axis % ndim for axis in axes]
    if len(places) != len(tensor.shape) or places != sorted(set(places)):
        raise ValueError(
            f"align was given axes={axes} for a tensor with {len(tensor.shape)} axes; "
            "there must be one place for each, in rising order."
        )
    new = [axis for axis in range(ndim) if axis not in places]
    return ops.expand_dims(tensor, new) if new else tensor


def reshape(tensor, *args):
    """Reshape some of the axes: `reshape(x, shape)`, `(x, start, shape)` or
    `(x, start, end, shape)` with the axes from `start` to before `end`.

    Example:
        >>> reshape(keras.ops.ones((2, 6, 5)), 1, 2, (3, 2)).shape  # (2, 3, 2, 5)
    """
    *bounds, shape = args
    start, end = (*bounds, None, None)[:2]
    old = tuple(ops.shape(tensor))
    head = old[:start] if start is not None else ()
    tail = old[end:] if end is not None else ()
    return ops.reshape(tensor, (*head, *shape, *tail))


def flatten(tensor, start: int | None = None, end: int | None = None):
    """Make one axis of those from `start` to before `end`.

    Example:
        >>> flatten(keras.ops.ones((2, 3, 4)), 1).shape  # (2, 12)
    """
    return reshape(tensor, start, end, (-1,))


def batch_gather(params, indices):
    """Entries of the last axis by their numbers; the axes before agree.

    Example:
        >>> batch_gather(keras.ops.array([[5, 6, 7]]), keras.ops.array([[2, 0]]))
    """
    return ops.take_along_axis(params, ops.cast(indices, "int32"), axis=-1)


def pool1d(x, pool_size, strides=1, padding="valid", data_format=None, pool_mode="max"):
    """Pooling along the positions, by the maximum or (`"avg"`) the mean."""
    pool = {"max": ops.max_pool, "avg": ops.average_pool}
    if pool_mode not in pool:
        raise ValueError(f"pool1d: pool_mode={pool_mode!r} is not 'max' or 'avg'.")
    return pool[pool_mode](x, pool_size, strides, padding, data_format)


def divisible_temporal_padding(x, n: int):
    """Zeros at the end of axis 1, until its length is a multiple of n."""
    missing = -ops.shape(x)[1] % n
    return ops.pad(x, [[0, 0], [0, missing]] + [[0, 0]] * (len(x.shape) - 2))


def root_mean_square(x, axis=None, keepdims=False):
    """The root of the mean of the squares."""
    return ops.sqrt(ops.mean(ops.square(x), axis=axis, keepdims=keepdims))


def attention_normalize(a, mask=None, axis=-1, method="softmax", bias=None):
    """`normalize_scores` with a padding mask (batch, length) along `axis`."""
    keep = None
    if mask is not None:
        keep = sequence_masking(a, mask, 0, axis, return_mask=True)[1]
    return normalize_scores(a, method, keep, bias, axis)


def search_layer(inputs, name: str, exclude_from: set | None = None):
    """The layer of that name among those that a symbolic tensor comes from, or None.

    Example:
        >>> search_layer(model.output, "Embedding-Token")
    """
    seen = set() if exclude_from is None else exclude_from
    waiting = [inputs]
    while waiting:
        operation = waiting.pop()._keras_history.operation
        if operation.name == name:
            return operation
        if operation not in seen:
            seen.add(operation)
            for node in operation._inbound_nodes:
                waiting.extend(node.input_tensors)
    return None
