"""Scale-and-offset and layer normalization, plain or conditional."""

from __future__ import annotations

from numbers import Real

import keras
from keras import ops

from bert4keras import activations
from bert4keras.checks import check_optional_sizes, is_one_shape
from bert4keras.layers.composite import CompositeLayer


@keras.saving.register_keras_serializable(package="bert4keras")
class ScaleOffset(CompositeLayer):
    """y = x * gamma + beta along the last axis, optionally depending on a condition.

    With a condition c, gamma and beta become gamma + W_g h and beta + W_b h, where
    h = activation(W c); W_g and W_b start at zero, so that an official checkpoint keeps
    its function until training moves them.

    Args:
        scale: whether there is a gamma.
        offset: whether there is a beta.
        conditional: whether the input is a pair `[x, condition]`.
        hidden_units: width of h; None takes the condition itself.
        hidden_activation: activation of h.
        hidden_initializer: initializer of W.

    Call arguments:
        inputs: x, a float tensor (batch, ..., hidden); or `[x, condition]` with the
            condition (batch, size) or (batch, ..., size).

    Returns:
        A tensor of the shape of x.

    Raises:
        ValueError: if `hidden_units` is less than 1, or the input is not a pair where
            `conditional` asks for one.

    Example:
        >>> ScaleOffset()(keras.ops.ones((2, 3, 4))).shape
    """

    def __init__(
        self,
        scale: bool = True,
        offset: bool = True,
        conditional: bool = False,
        hidden_units: int | None = None,
        hidden_activation="linear",
        hidden_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_optional_sizes(type(self).__name__, hidden_units=hidden_units)
        self.scale = scale
        self.offset = offset
        self.conditional = conditional
        self.hidden_units = hidden_units
        self.hidden_activation = activations.get(hidden_activation)
        self.hidden_initializer = keras.initializers.get(hidden_initializer)
        self.supports_masking = True

    def build(self, input_shape):
        """Create beta and gamma, and the condition's projections."""
        is_pair = not is_one_shape(input_shape)
        if is_pair != bool(self.conditional):
            wanted = "[x, condition]" if self.conditional else "one tensor"
            raise ValueError(
                f"{type(self).__name__} with conditional={self.conditional!r} takes "
                f"{wanted}, but was given an input of shape {input_shape}."
            )
        size = (input_shape[0] if is_pair else input_shape)[-1]
        self.beta = self.gamma = None
        if self.offset:
            self.beta = self.add_weight(shape=(size,), initializer="zeros", name="beta")
        if self.scale:
            self.gamma = self.add_weight(
                shape=(size,), initializer="ones", name="gamma"
            )
        if self.conditional:
            self._build_condition(size, input_shape[1])

    def _build_condition(self, size, condition_shape):
        if self.hidden_units is not None:
            self.hidden_dense = self.add_dense(
                self.hidden_units,
                "hidden",
                condition_shape,
                activation=self.hidden_activation,
                use_bias=False,
                kernel_initializer=self.hidden_initializer,
            )
            condition_shape = (*condition_shape[:-1], self.hidden_units)
        for wanted, name in ((self.offset, "beta"), (self.scale, "gamma")):
            if wanted:
                dense = self.add_dense(
                    size,
                    f"{name}_dense",
                    condition_shape,
                    use_bias=False,
                    kernel_initializer="zeros",
                )
                setattr(self, f"{name}_dense", dense)

    def scale_and_offset(self, inputs):
        """Split the inputs into x and the gamma and beta in force (None if absent)."""
        if not self.conditional:
            return inputs, self.gamma, self.beta
        x, condition = inputs
        if self.hidden_units is not None:
            condition = self.hidden_dense(condition)
        # A condition for the whole sequence holds at each of its positions.
        while len(condition.shape) < len(x.shape):
            condition = ops.expand_dims(condition, 1)
        gamma = self.gamma + self.gamma_dense(condition) if self.scale else None
        beta = self.beta + self.beta_dense(condition) if self.offset else None
        return x, gamma, beta

    def call(self, inputs):
        """Scale and offset."""
        x, gamma, beta = self.scale_and_offset(inputs)
        if gamma is not None:
            x = x * gamma
        if beta is not None:
            x = x + beta
        return x

    def compute_mask(self, inputs, previous_mask=None):
        """The mask of x; a condition has none to pass on."""
        if self.conditional and isinstance(previous_mask, list | tuple):
            return previous_mask[0]
        return previous_mask

    def compute_output_shape(self, input_shape):
        """The shape of x."""
        return input_shape[0] if self.conditional else input_shape

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "scale": self.scale,
            "offset": self.offset,
            "conditional": self.conditional,
            "hidden_units": self.hidden_units,
            "hidden_activation": activations.serialize(self.hidden_activation),
            "hidden_initializer": keras.initializers.serialize(self.hidden_initializer),
        }


@keras.saving.register_keras_serializable(package="bert4keras")
class LayerNormalization(ScaleOffset):
    """Layer normalization over the last axis, plain, RMS or conditional.

    y = (x - mean) / sqrt(mean((x - mean)^2) + epsilon) * gamma + beta
    (Ba et al., arXiv 1607.06450, equation 4). Without `zero_mean` it is RMS
    normalization (Zhang and Sennrich, arXiv 1910.07467, equation 4).

    Args:
        zero_mean: whether the mean is taken away.
        unit_variance: whether to divide by the root of the mean square.
        epsilon: added to the variance; None is `keras.config.epsilon()`.
        **kwargs: the arguments of `ScaleOffset`.

    Call arguments and result: as `ScaleOffset`. Statistics are taken in float32 at
    least.

    Example:
        >>> LayerNormalization(epsilon=1e-12)(keras.ops.ones((2, 3, 4))).shape
    """

    def __init__(
        self,
        zero_mean: bool = True,
        unit_variance: bool = True,
        epsilon: float | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        is_number = isinstance(epsilon, Real) and not isinstance(epsilon, bool)
        if epsilon is not None and not (is_number and 0 <= epsilon < float("inf")):
            raise ValueError(
                f"LayerNormalization was given epsilon={epsilon!r}; "
                "it must be None or a number of at least 0."
            )
        self.zero_mean = zero_mean
        self.unit_variance = unit_variance
        self.epsilon = keras.config.epsilon() if epsilon is None else epsilon

    def call(self, inputs):
        """Normalize, scale and offset."""
        x, gamma, beta = self.scale_and_offset(inputs)
        if self.zero_mean and self.unit_variance and not self.conditional:
            # The backend's own fused kernel, where it has one.
            return ops.layer_normalization(x, gamma, beta, -1, self.epsilon)
        dtype = keras.backend.result_type(x.dtype, "float32")
        y = ops.cast(x, dtype)
        if self.zero_mean:
            y = y - ops.mean(y, axis=-1, keepdims=True)
        if self.unit_variance:
            mean_square = ops.mean(ops.square(y), axis=-1, keepdims=True)
            y = y * ops.rsqrt(mean_square + self.epsilon)
        if gamma is not None:
            y = y * ops.cast(gamma, dtype)
        if beta is not None:
            y = y + ops.cast(beta, dtype)
        return ops.cast(y, x.dtype)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "zero_mean": self.zero_mean,
            "unit_variance": self.unit_variance,
            "epsilon": self.epsilon,
        }
