"""From attention scores to weights, and what is done to queries and keys before."""

from __future__ import annotations

import math

import keras
from keras import ops

from bert4keras.checks import check_choice
from bert4keras.masking import hidden_below, large_negative

NORMALIZATIONS = ("softmax", "squared_relu", "softmax_plus")

# Length at which softmax_plus is softmax (kexue.fm/archives/8823).
_SOFTMAX_PLUS_LENGTH = 512


def normalize_scores(scores, method: str = "softmax", keep=None, bias=None, axis=-1):
    """Turn scores into weights along one axis; n is the number of real entries there.

    - `softmax`: exp(s) / sum exp(s). Without any visible entry all weights are equal.
    - `squared_relu`: max(s, 0)^2 / n (gated attention unit, Hua et al., arXiv
      2202.10447, section 3.1). Without any visible entry all weights are 0.
    - `softmax_plus`: softmax of s * log(n) / log(512), which keeps the entropy alike
      over lengths (J. Su, kexue.fm/archives/8823).

    Args:
        scores: float tensor.
        method: the name of a normalization.
        keep: boolean tensor that broadcasts against the scores, false for padding.
        bias: float tensor that broadcasts against the scores and is added to them;
            entries of minus infinity (or under -1e8, in float16 -1.5e4) hide like
            padding.
        axis: the axis of the keys.

    Returns:
        A tensor of the shape and dtype of the scores, computed in float32 at least.

    Raises:
        ValueError: for another method.

    Example:
        >>> normalize_scores(keras.ops.ones((1, 2, 3)))  # thirds
    """
    check_choice("normalize_scores", NORMALIZATIONS, method=method)
    visible = visible_entries(keep, bias)
    dtype = keras.backend.result_type(scores.dtype, "float32")
    weights = ops.cast(scores, dtype)
    if bias is not None:
        weights = weights + ops.cast(bias, dtype)
    if method != "softmax":
        number = ops.cast(ops.shape(weights)[axis], dtype)
        if keep is not None:
            number = ops.sum(ops.cast(keep, dtype), axis=axis, keepdims=True)
            number = ops.maximum(number, 1)
    if method == "softmax_plus":
        weights = weights * (ops.log(number) / math.log(_SOFTMAX_PLUS_LENGTH))
    if visible is not None:
        weights = ops.where(visible, weights, large_negative(dtype))
    if method == "squared_relu":
        weights = ops.square(ops.relu(weights)) / number
    else:
        weights = ops.softmax(weights, axis=axis)
    return ops.cast(weights, scores.dtype)


def visible_entries(keep=None, bias=None):
    """Which scores count: neither padding nor hidden by the bias.

    Args:
        keep: boolean tensor that broadcasts against the scores, false for padding.
        bias: float tensor that broadcasts against the scores.

    Returns:
        A boolean tensor that broadcasts against the scores; None if all count.

    Example:
        >>> visible_entries(bias=keras.ops.array([0.0, -1e30]))  # [True, False]
    """
    if bias is None:
        return keep
    visible = bias > hidden_below(bias.dtype)
    return visible if keep is None else ops.logical_and(keep, visible)


def apply_rotary_position_embeddings(sinusoidal, *tensors):
    """Turn pairs of neighbouring entries by their position's angles.

    Entries (2i, 2i + 1) of position p are rotated by the angle p / base^(2i/size) (Su
    et al., arXiv 2104.09864, equation 34), so that products of queries and keys depend
    on the difference of their positions.

    Args:
        sinusoidal: float tensor (1 or batch, length, size), sines and cosines as
            `SinusoidalPositionEmbedding` gives them with `merge_mode="zero"`.
        *tensors: float tensors (batch, length, size) or (batch, length, heads, size).

    Returns:
        The rotated tensors; a single one if there was one.

    Raises:
        ValueError: if sizes differ.

    Example:
        >>> queries, keys = apply_rotary_position_embeddings(positions, queries, keys)
    """
    rotated = [_rotate(sinusoidal, tensor) for tensor in tensors]
    return rotated[0] if len(rotated) == 1 else rotated


def check_rotary_size(sinusoidal, size: int) -> None:
    """Raise a ValueError unless the positions have the size of queries and keys."""
    if size % 2:
        raise ValueError(
            f"rotary positions turn pairs of columns, but queries and keys have {size};"
            " their number must be even."
        )
    if sinusoidal.shape[-1] != size:
        raise ValueError(
            f"rotary positions have size {sinusoidal.shape[-1]}, but queries and keys "
            f"have {size}; make them with SinusoidalPositionEmbedding({size}, 'zero')."
        )


def _rotate(sinusoidal, x):
    check_rotary_size(sinusoidal, x.shape[-1])
    if len(x.shape) == 4:
        sinusoidal = sinusoidal[:, :, None]
    dtype = x.dtype
    sinusoidal = ops.cast(sinusoidal, dtype)
    sines, cosines = sinusoidal[..., ::2], sinusoidal[..., 1::2]
    even, odd = x[..., ::2], x[..., 1::2]
    pairs = [even * cosines - odd * sines, odd * cosines + even * sines]
    return ops.reshape(ops.stack(pairs, axis=-1), ops.shape(x))


def fused_attention(queries, keys, values, keep=None, bias=None, scale: float = 1.0):
    """softmax(scale * Q K^T + bias) V by the backend's fused kernel, where it has one.

    A query that may see no key gets the mean of all values, whatever it is.

    Args:
        queries: float tensor (batch, query length, heads, key size).
        keys: float tensor (batch, key length, heads, key size).
        values: float tensor (batch, key length, heads, head size).
        keep: boolean tensor (batch, 1, 1, key length), false for padding.
        bias: float tensor of four axes that broadcasts to (batch, heads, query length,
            key length).
        scale: factor of the products.

    Returns:
        A float tensor (batch, query length, heads, head size).

    Example:
        >>> fused_attention(x, x, x, scale=x.shape[-1] ** -0.5)
    """
    if _jax_refuses(queries):
        wide = [ops.cast(x, "float32") for x in (queries, keys, values)]
        return ops.cast(fused_attention(*wide, keep, bias, scale), queries.dtype)
    visible = visible_entries(keep, bias)
    if visible is not None:
        # Kernels take padding as a bias: with boolean masks some give NaN where nothing
        # is visible. There bias and queries become 0: all scores are equal, and nothing
        # moves them. (With a large negative bias PyTorch's kernel for CPUs gives wrong
        # gradients of values: weights come back as exp(score - log sum exp), where
        # adding the logarithm of the number of keys is lost.)
        sees = ops.any(visible, axis=-1, keepdims=True)
        bias = _finite_bias(visible, sees, bias, queries.dtype)
        sees = ops.transpose(sees, (0, 2, 1, 3))
        queries = ops.where(sees, queries, ops.zeros_like(queries))
    key_size, head_size = keys.shape[-1], values.shape[-1]
    if key_size != head_size and keras.backend.backend() == "jax":
        # JAX's kernels take one size only. Zeros change no product, and make columns
        # of the output that are cut off again.
        size = max(key_size, head_size)
        queries, keys, values = (_pad_last(x, size) for x in (queries, keys, values))
    outputs = ops.dot_product_attention(queries, keys, values, bias=bias, scale=scale)
    return outputs[..., :head_size]


def _finite_bias(visible, sees, bias, dtype):
    """The bias where a key is visible, a large negative number where it is not, and 0
    in rows that see nothing."""
    zero, floor = ops.cast(0, dtype), ops.cast(large_negative(dtype), dtype)
    shown = zero if bias is None else ops.cast(bias, dtype)
    return ops.where(visible, shown, ops.where(sees, floor, zero))


def _jax_refuses(x):
    """Whether JAX's attention takes no such tensor: on CPUs it has no float16."""
    if keras.backend.backend() != "jax":
        return False
    import jax

    half = keras.backend.standardize_dtype(x.dtype) == "float16"
    return half and jax.default_backend() == "cpu"


def _pad_last(x, size):
    missing = size - x.shape[-1]
    if not missing:
        return x
    return ops.pad(x, [[0, 0]] * (len(x.shape) - 1) + [[0, missing]])
