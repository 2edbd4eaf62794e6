"""The position-wise feed-forward layer."""

from __future__ import annotations

import keras

from bert4keras import activations
from bert4keras.checks import check_sizes
from bert4keras.layers.recompute import RecomputableLayer


@keras.saving.register_keras_serializable(package="bert4keras")
class FeedForward(RecomputableLayer):
    """Two dense layers at every position, plain or gated.

    One activation: f(x W_1) W_2 (Vaswani et al., arXiv 1706.03762, equation 2).
    Several: their projections are multiplied, f(x W_1) * g(x V) W_2 (gated linear
    units, Shazeer, arXiv 2002.05202, equations 5 and 6).

    Args:
        units: width of the inner layer.
        activation: an activation, or a list of them for the gated form.
        use_bias: whether the dense layers have a bias.
        kernel_initializer: initializer of the kernels.
        recompute: whether training keeps the inputs only and computes the layer again
            for its gradients; see `RecomputableLayer`.

    Call arguments:
        inputs: float tensor (batch, length, hidden).

    Returns:
        A tensor of the same shape.

    Raises:
        ValueError: if `units` is less than 1 or there is no activation.

    Example:
        >>> FeedForward(8, ["gelu", "linear"])(keras.ops.ones((2, 3, 4))).shape
    """

    def __init__(
        self,
        units: int,
        activation="relu",
        use_bias: bool = True,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not isinstance(activation, list | tuple):
            activation = [activation]
        check_sizes("FeedForward", units=units)
        if not activation:
            raise ValueError(
                f"FeedForward was given activation={activation!r}; the list must hold "
                "an activation, or several for the gated form."
            )
        self.units = units
        self.activation = [activations.get(a) for a in activation]
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.supports_masking = True

    def build(self, input_shape):
        """Create the inner projections and the outer one."""
        self.inner_denses = [
            self.add_dense(self.units, f"inner_{i}", input_shape, activation)
            for i, activation in enumerate(self.activation)
        ]
        self.output_dense = self.add_dense(
            input_shape[-1], "output", (*input_shape[:-1], self.units)
        )

    def call(self, inputs, training=None):
        """Project, activate, multiply, project back."""
        return self.compute(self._feed_forward, [inputs], training)

    def _feed_forward(self, inputs):
        x = self.inner_denses[0](inputs)
        for dense in self.inner_denses[1:]:
            x = x * dense(inputs)
        return self.output_dense(x)

    def compute_output_shape(self, input_shape):
        """The shape of the input."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "activation": [activations.serialize(a) for a in self.activation],
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
