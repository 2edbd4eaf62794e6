"""Activation functions, and the choice of what `"gelu"` means.

GELU is x * Phi(x), with Phi the distribution function of the standard normal
(Hendrycks and Gimpel, arXiv 1606.08415, section 2). Official checkpoints differ in how
they compute it: Google's BERT uses the tanh form, PyTorch releases the exact one.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import ops

# Slope of the sigmoid approximation of Phi (arXiv 1606.08415, section 2).
SIGMOID_SLOPE = 1.702


@keras.saving.register_keras_serializable(package="bert4keras")
def gelu_erf(x):
    """Exact GELU, x * Phi(x) = x/2 * (1 + erf(x / sqrt(2))).

    Args:
        x: float tensor of any shape.

    Returns:
        A tensor of the shape and dtype of `x`.

    Example:
        >>> gelu_erf(keras.ops.array([1.0]))  # 0.8413
    """
    return ops.gelu(x, approximate=False)


@keras.saving.register_keras_serializable(package="bert4keras")
def gelu_tanh(x):
    """GELU by tanh: x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))).

    This is what google-research/bert computes, so it reproduces the official models.

    Args:
        x: float tensor of any shape.

    Returns:
        A tensor of the shape and dtype of `x`.

    Example:
        >>> gelu_tanh(keras.ops.array([1.0]))  # 0.8412
    """
    return ops.gelu(x, approximate=True)


@keras.saving.register_keras_serializable(package="bert4keras")
def gelu_sigmoid(x):
    """GELU by sigmoid: x * sigmoid(1.702 x).

    Args:
        x: float tensor of any shape.

    Returns:
        A tensor of the shape and dtype of `x`.

    Example:
        >>> gelu_sigmoid(keras.ops.array([1.0]))  # 0.8458
    """
    return x * ops.sigmoid(SIGMOID_SLOPE * x)


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
