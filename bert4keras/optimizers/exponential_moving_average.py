"""Exponential moving averages of the weights, and a callback that uses them."""

from __future__ import annotations

import keras

from bert4keras.optimizers.derived import DerivedOptimizer, Update, extend, trick
from bert4keras.optimizers.validation import check_real


@trick
class ExponentialMovingAverage(DerivedOptimizer):
    """Averages the weights over the updates (Polyak & Juditsky 1992; Adam paper, 7.2).

    With the weights theta_t after real update t = 1, 2, ... and momentum beta:

        a_t = beta a_{t-1} + (1 - beta) theta_t,    a_0 = 0

    Dividing by 1 - beta^t corrects for the start at zero. The averages are of what all
    other tricks, wherever applied, leave of the weights. They change nothing until
    `apply_ema_weights` puts them in.

    Args:
        ema_momentum: beta, in [0, 1).

    Raises:
        ValueError: if `ema_momentum` is out of its range.

    Example:

        AdamEMA = extend_with_exponential_moving_average(Adam, name="AdamEMA")
        optimizer = AdamEMA(1e-3, ema_momentum=0.999)
        model.compile(optimizer, loss="mse")
        model.fit(x, y, callbacks=[ExponentialMovingAverageCallback()])
        optimizer.apply_ema_weights()
        model.save_weights("averages.weights.h5")
        optimizer.reset_old_weights()
    """

    trick = "exponential_moving_average"

    def __init__(self, *args, ema_momentum=0.999, **kwargs):
        check_real("ema_momentum", ema_momentum, low=0, high=1, high_open=True)
        # Keras's own averages (`use_ema`) have an argument of that name and meaning.
        super().__init__(*args, ema_momentum=ema_momentum, **kwargs)
        self._swapped = _Swapped()

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._averages = self.add_optimizer_variables(variables, "ema")

    def observe(self, update: Update, value):
        super().observe(update, value)
        average = self._averages[self._get_variable_index(update.variable)]
        self.assign_add(average, (1 - self.ema_momentum) * (value - average))

    def apply_ema_weights(self, bias_correction: bool = True) -> None:
        """Puts the averages in place of the weights, which are kept.

        Before the first update, and for variables that never had a gradient, there is
        no average, and the weights stay.

        Raises:
            RuntimeError: if the averages are in place already.
        """
        if self._swapped.weights is not None:
            raise RuntimeError(
                "The averages are in place already. Call `reset_old_weights()` first."
            )
        variables = self._trainable_variables
        self._swapped.weights = [v.numpy().copy() for v in variables]
        steps = int(self.iterations.numpy())
        scale = 1 - self.ema_momentum**steps if bias_correction else 1.0
        for variable, average in zip(variables, self._averages, strict=True):
            if average is not None and average.numpy().any():
                variable.assign(average.numpy() / scale)

    def reset_old_weights(self) -> None:
        """Puts the weights back that `apply_ema_weights` replaced.

        Raises:
            RuntimeError: if the averages are not in place.
        """
        if self._swapped.weights is None:
            raise RuntimeError(
                "The averages are not in place. Call `apply_ema_weights()` first."
            )
        weights, self._swapped.weights = self._swapped.weights, None
        for variable, value in zip(self._trainable_variables, weights, strict=True):
            variable.assign(value)


class _Swapped:
    """Holds the weights while the averages are in place; no part of the state."""

    weights = None


class ExponentialMovingAverageCallback(keras.callbacks.Callback):
    """Validates with the averages, and runs other callbacks with them.

    Inside `fit`, the averages of an optimizer made by
    `extend_with_exponential_moving_average` are in place during every validation and
    while the given callbacks see an epoch end; training, and all callbacks that are
    not given here (as `BackupAndRestore`), have the weights.

    Args:
        callbacks: callbacks that are to save or compare the averages, as
            `ModelCheckpoint`. Do not give them to `fit` too.
        bias_correction: whether to correct the averages for starting at zero.

    Raises:
        ValueError: at the start of `fit`, if the model's optimizer has no averages.

    Example:

        best = keras.callbacks.ModelCheckpoint("best.weights.h5", save_best_only=True,
                                               save_weights_only=True)
        model.fit(x, y, validation_data=(u, v),
                  callbacks=[ExponentialMovingAverageCallback([best])])
    """

    def __init__(self, callbacks=(), bias_correction: bool = True):
        super().__init__()
        self.callbacks = list(callbacks)
        self.bias_correction = bias_correction

    @property
    def _optimizer(self):
        optimizer = self.model.optimizer
        return getattr(optimizer, "inner_optimizer", optimizer)

    def _swap_in(self):
        self._optimizer.apply_ema_weights(self.bias_correction)

    def _swap_out(self):
        self._optimizer.reset_old_weights()

    def set_model(self, model):
        super().set_model(model)
        for callback in self.callbacks:
            callback.set_model(model)

    def set_params(self, params):
        super().set_params(params)
        for callback in self.callbacks:
            callback.set_params(params)

    def on_train_begin(self, logs=None):
        if not isinstance(self._optimizer, ExponentialMovingAverage):
            raise ValueError(
                f"The model's optimizer, {type(self._optimizer).__name__}, averages no "
                "weights. Make it with `extend_with_exponential_moving_average`."
            )
        for callback in self.callbacks:
            callback.on_train_begin(logs)

    def on_epoch_begin(self, epoch, logs=None):
        for callback in self.callbacks:
            callback.on_epoch_begin(epoch, logs)

    def on_test_begin(self, logs=None):
        self._swap_in()

    def on_test_end(self, logs=None):
        self._swap_out()

    def on_epoch_end(self, epoch, logs=None):
        if not self.callbacks:
            return
        self._swap_in()
        try:
            for callback in self.callbacks:
                callback.on_epoch_end(epoch, logs)
        finally:
            self._swap_out()

    def on_train_end(self, logs=None):
        for callback in self.callbacks:
            callback.on_train_end(logs)


def extend_with_exponential_moving_average(BaseOptimizer, name=None):  # noqa: N803
    """Returns the class `BaseOptimizer` with averages of its weights, called `name`."""
    return extend(ExponentialMovingAverage, BaseOptimizer, name)
