"""Activation functions, and the choice of what `"gelu"` means.

GELU is x * Phi(x), with Phi the distribution function of the standard normal
(Hendrycks and Gimpel, arXiv 1606.08415, section 2). Official checkpoints differ in how
they compute it: Google's BERT uses the tanh form, PyTorch releases the exact one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
from keras import ops

# Slope of the sigmoid approximation of Phi (arXiv 1606.08415, section 2).
SIGMOID_SLOPE = 1.702

# Cubic coefficient of the tanh approximation of Phi (arXiv 1606.08415, section 2).
CUBIC_COEFFICIENT = 0.044715

# From here on, 1 - Phi and its approximations are under 1e-85: GELU is the identity in
# float32, and 0 on the other side.
_SATURATED = 20.0


@keras.saving.register_keras_serializable(package="bert4keras")
def gelu_erf(x):
    """Exact GELU, x * Phi(x) = x/2 * (1 + erf(x / sqrt(2))).

    Args:
        x: float tensor of any shape.

    Returns:
        A tensor of the shape and dtype of `x`, computed in float32 at least.

    Example:
        >>> gelu_erf(keras.ops.array([1.0]))  # 0.8413
    """
    if keras.backend.backend() == "torch":
        # PyTorch's kernel takes float32 inside; near its end it overflows.
        x = ops.convert_to_tensor(x)
        return ops.where(x > _SATURATED, x, ops.gelu(x, approximate=False))
    return _in_float32(x, lambda x: ops.gelu(x, approximate=False))


@keras.saving.register_keras_serializable(package="bert4keras")
def gelu_tanh(x):
    """GELU by tanh: x/2 * (1 + tanh(u)), u = sqrt(2/pi) * (x + 0.044715 x^3).

    This is what google-research/bert computes, so it reproduces the official models.
    As (1 + tanh(u)) / 2 = sigmoid(2 u), the sigmoid is taken: it keeps its precision
    where the other's sum cancels.

    Args:
        x: float tensor of any shape.

    Returns:
        A tensor of the shape and dtype of `x`, computed in float32 at least.

    Example:
        >>> gelu_tanh(keras.ops.array([1.0]))  # 0.8412
    """
    if keras.backend.backend() == "torch":
        # One kernel, with float32 inside, where it does not overflow.
        x = ops.convert_to_tensor(x)
        y = ops.gelu(ops.clip(x, -_SATURATED, _SATURATED), approximate=True)
        return ops.where(x > _SATURATED, x, y)
    return _in_float32(x, _gelu_tanh)


def _gelu_tanh(x):
    # Cubes must not overflow: infinity times zero would be a gradient of NaN.
    c = ops.clip(x, -_SATURATED, _SATURATED)
    u = math.sqrt(2 / math.pi) * c * (1 + CUBIC_COEFFICIENT * ops.square(c))
    return x * ops.sigmoid(2 * u)


@keras.saving.register_keras_serializable(package="bert4keras")
def gelu_sigmoid(x):
    """GELU by sigmoid: x * sigmoid(1.702 x).

    Args:
        x: float tensor of any shape.

    Returns:
        A tensor of the shape and dtype of `x`, computed in float32 at least.

    Example:
        >>> gelu_sigmoid(keras.ops.array([1.0]))  # 0.8458
    """
    return _in_float32(x, _gelu_sigmoid)


def _gelu_sigmoid(x):
    c = ops.clip(x, -5 * _SATURATED, 5 * _SATURATED)
    return x * ops.sigmoid(SIGMOID_SLOPE * c)


def _in_float32(x, function):
    """The function of x in float32 at least, in the dtype of x."""
    x = ops.convert_to_tensor(x)
    dtype = keras.backend.result_type(x.dtype, "float32")
    return ops.cast(function(ops.cast(x, dtype)), x.dtype)


GELU_VERSIONS = {"erf": gelu_erf, "tanh": gelu_tanh, "sigmoid": gelu_sigmoid}


def set_gelu(version: str) -> None:
    """Say which function the name `"gelu"` stands for in models built from now on.

    The choice is kept in Keras's registry of custom objects. Without a call, `"gelu"`
    is the exact function.

    Args:
        version: `"erf"`, `"tanh"` or `"sigmoid"`.

    Raises:
        ValueError: for any other version.

    Example:
        >>> set_gelu("tanh")  # as in google-research/bert
    """
    if version not in GELU_VERSIONS:
        raise ValueError(
            f"set_gelu was given {version!r}; choose one of {sorted(GELU_VERSIONS)}."
        )
    keras.saving.get_custom_objects()["gelu"] = GELU_VERSIONS[version]


def get(identifier: str | Callable | dict | None) -> Callable:
    """Find an activation function by name, honouring `set_gelu` and custom objects.

    Args:
        identifier: a name, a function, a serialized function, or None (linear).

    Returns:
        The function.

    Raises:
        ValueError: for a name that nothing is registered under.

    Example:
        >>> get("gelu_tanh") is gelu_tanh
        True
    """
    if isinstance(identifier, str):
        custom_objects = keras.saving.get_custom_objects()
        if identifier in custom_objects:
            return custom_objects[identifier]
        named = {f"gelu_{name}": function for name, function in GELU_VERSIONS.items()}
        named["gelu"] = gelu_erf
        if identifier in named:
            return named[identifier]
    return keras.activations.get(identifier)


def serialize(activation: Callable):
    """The inverse of `get`, for layer configurations."""
    return keras.activations.serialize(activation)
