"""AdaFactor: adaptive steps with a memory of rows and columns only."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from bert4keras.checks import (
    check_count,
    check_learning_rate,
    check_patterns,
    check_real,
    warn_of_unmatched,
)
from bert4keras.optimizers.derived import (
    add_wide_variable,
    dense,
    state_name,
    variable_path,
    wide_dtype,
)


@keras.saving.register_keras_serializable(package="bert4keras")
class RelativeStep(keras.optimizers.schedules.LearningRateSchedule):
    """rho_t = scale min(0.01, 1 / sqrt(t)) for update t = 1, 2, ...

    The relative step size of the AdaFactor paper, section 8, as its authors' code in
    Mesh TensorFlow has it.
    """

    def __init__(self, scale: float = 1.0):
        self.scale = scale

    def __call__(self, step):
        t = ops.cast(step, "float32") + 1
        return self.scale * ops.minimum(0.01, 1 / ops.sqrt(t))

    def get_config(self):
        return {"scale": self.scale}


@keras.saving.register_keras_serializable(package="bert4keras")
class AdaFactor(keras.optimizers.Optimizer):
    """AdaFactor (Shazeer & Stern 2018, https://arxiv.org/abs/1804.04235, Alg. 4 and 5).

    With gradient G, its squares S = G^2 + epsilon1, and t = 1, 2, ...:

        R_t = beta2_t R_{t-1} + (1 - beta2_t) mean(S, columns)
        C_t = beta2_t C_{t-1} + (1 - beta2_t) mean(S, rows)
        V_t = R_t C_t / mean(R_t),    U_t = G / sqrt(V_t)
        U^_t = U_t / max(1, RMS(U_t) / clipping_threshold)
        M_t = beta1 M_{t-1} + (1 - beta1) U^_t            (M_t = U^_t if beta1 = 0)
        theta_t = theta_{t-1} - gamma_t max(epsilon2, RMS(theta_{t-1})) M_t

    R and C are kept of the two largest axes, where the smaller of these has at least
    `min_dim_size_to_factor` entries; other variables keep V_t itself. All of it is
    computed and kept in 32 bits where a variable has 16.

    Args:
        learning_rate: gamma, as of any Keras optimizer; None for the relative step
            min(0.01, 1 / sqrt(t)), times 0.05 without the parameter scale.
        beta1: decay of M, in [0, 1); 0 keeps no M.
        beta2: decay of R and C, in [0, 1); None for 1 - t^-0.8.
        epsilon1: added to squared gradients, > 0.
        epsilon2: the least scale of a variable, >= 0.
        multiply_by_parameter_scale: whether the step has the factor max(epsilon2, RMS).
        clipping_threshold: the largest RMS of U, > 0; None for no limit.
        min_dim_size_to_factor: an integer >= 1.
        exclude_from_parameter_scale: parts of the paths of variables whose step has no
            such factor, as `["Norm", "bias"]`.
        kwargs: what every Keras optimizer takes, as `clipnorm` or `weight_decay`.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

        optimizer = AdaFactor(learning_rate=1e-3, beta1=0.9)
    """

    def __init__(
        self,
        learning_rate=0.001,
        beta1=0.0,
        beta2=None,
        epsilon1=1e-30,
        epsilon2=1e-3,
        multiply_by_parameter_scale=True,
        clipping_threshold=1.0,
        min_dim_size_to_factor=128,
        exclude_from_parameter_scale=None,
        **kwargs,
    ):
        check_learning_rate(learning_rate)
        beta1 = check_real("beta1", beta1, low=0, high=1, high_open=True)
        if beta2 is not None:
            beta2 = check_real("beta2", beta2, low=0, high=1, high_open=True)
        epsilon1 = check_real("epsilon1", epsilon1, low=0, low_open=True)
        epsilon2 = check_real("epsilon2", epsilon2, low=0)
        if clipping_threshold is not None:
            clipping_threshold = check_real(
                "clipping_threshold", clipping_threshold, low=0, low_open=True
            )
        min_dim = check_count("min_dim_size_to_factor", min_dim_size_to_factor)
        excluded = check_patterns(
            "exclude_from_parameter_scale", exclude_from_parameter_scale
        )
        if learning_rate is None:
            learning_rate = RelativeStep(1.0 if multiply_by_parameter_scale else 0.05)
            relative = True
        else:
            relative = False
        super().__init__(learning_rate, **kwargs)
        self.relative_step = relative
        self.beta1 = beta1
        self._beta2 = beta2
        self.epsilon1 = epsilon1
        self.epsilon2 = epsilon2
        self.multiply_by_parameter_scale = multiply_by_parameter_scale
        self.clipping_threshold = clipping_threshold
        self.min_dim_size_to_factor = min_dim
        self.exclude_from_parameter_scale = excluded

    @property
    def beta2(self):
        """The decay of R and C at this update, a number or tensor."""
        if self._beta2 is not None:
            return self._beta2
        return 1 - ops.power(ops.cast(self.iterations, "float32") + 1, -0.8)

    def factored_axes(self, shape) -> tuple[int, int] | None:
        """The second-largest and the largest axis, or None to keep V whole."""
        if len(shape) < 2:
            return None
        *_, second, largest = np.argsort(shape, kind="stable")
        if shape[second] < self.min_dim_size_to_factor:
            return None
        return int(second), int(largest)

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._squares = [self._add_squares(variable) for variable in variables]
        self._means = []
        if self.beta1:
            self._means = [add_wide_variable(self, v, "mean") for v in variables]
        warn_of_unmatched(
            "exclude_from_parameter_scale",
            self.exclude_from_parameter_scale,
            [variable_path(variable) for variable in variables],
        )

    def _add_squares(self, variable):
        """The variables for R and C, or for V alone."""
        axes = self.factored_axes(variable.shape)
        if axes is None:
            return [add_wide_variable(self, variable, "squares")]
        return [
            self.add_variable(
                [1 if i == axis else size for i, size in enumerate(variable.shape)],
                dtype=wide_dtype(variable),
                name=state_name(variable, f"squares_{axis}"),
            )
            for axis in axes
        ]

    def update_step(self, gradient, variable, learning_rate):
        dtype = wide_dtype(variable)
        gradient = ops.cast(dense(gradient), dtype)
        index = self._get_variable_index(variable)
        step = ops.divide(gradient, ops.sqrt(self._mean_square(gradient, index)))
        if self.clipping_threshold is not None:
            step = step / ops.maximum(1.0, _rms(step) / self.clipping_threshold)
        if self.beta1:
            mean = self._means[index]
            self.assign_add(mean, (1 - self.beta1) * ops.subtract(step, mean))
            step = ops.convert_to_tensor(mean)
        rate = ops.cast(learning_rate, dtype)
        if self._is_scaled(index):
            rate = rate * ops.maximum(self.epsilon2, _rms(ops.cast(variable, dtype)))
        self.assign_sub(variable, ops.cast(rate * step, variable.dtype))

    def _mean_square(self, gradient, index):
        """V_t, after updating what is kept of it."""
        squares = ops.square(gradient) + self.epsilon1
        new = 1 - ops.cast(self.beta2, gradient.dtype)
        kept = self._squares[index]
        # Not the gradient's shape, which TensorFlow may not know before it runs.
        axes = self.factored_axes(self._trainable_variables[index].shape)
        if axes is None:
            self.assign_add(kept[0], new * ops.subtract(squares, kept[0]))
            return ops.convert_to_tensor(kept[0])
        for axis, part in zip(axes, kept, strict=True):
            mean = ops.mean(squares, axis=axis, keepdims=True)
            self.assign_add(part, new * ops.subtract(mean, part))
        columns, rows = kept
        # `columns` has lost the axis that `rows` keeps: its mean is that of S.
        return rows * (columns / ops.mean(columns, axis=axes[1], keepdims=True))

    def _is_scaled(self, index):
        path = variable_path(self._trainable_variables[index])
        return self.multiply_by_parameter_scale and not any(
            pattern in path for pattern in self.exclude_from_parameter_scale
        )

    def get_config(self):
        config = super().get_config()
        if self.relative_step:
            config["learning_rate"] = None
        return {
            **config,
            "beta1": self.beta1,
            "beta2": self._beta2,
            "epsilon1": self.epsilon1,
            "epsilon2": self.epsilon2,
            "multiply_by_parameter_scale": self.multiply_by_parameter_scale,
            "clipping_threshold": self.clipping_threshold,
            "min_dim_size_to_factor": self.min_dim_size_to_factor,
            "exclude_from_parameter_scale": list(self.exclude_from_parameter_scale),
        }


def _rms(tensor):
    return ops.sqrt(ops.mean(ops.square(tensor)))
