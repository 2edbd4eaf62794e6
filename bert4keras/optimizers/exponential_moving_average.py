"""Exponential moving averages of the weights, and a callback that uses them."""

from __future__ import annotations

import warnings

import keras
from keras import ops

from bert4keras.checks import check_real
from bert4keras.optimizers.derived import (
    DerivedOptimizer,
    Update,
    add_wide_variable,
    extend,
    trick,
)


@trick
class ExponentialMovingAverage(DerivedOptimizer):
    """Averages the weights over the updates (Polyak & Juditsky 1992; Adam paper, 7.2).

    With the weights theta_t of a variable after its real update t = 1, 2, ... and
    momentum beta:

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
        ema_momentum = check_real(
            "ema_momentum", ema_momentum, low=0, high=1, high_open=True
        )
        # Keras's own averages (`use_ema`) have an argument of that name and meaning.
        super().__init__(*args, ema_momentum=ema_momentum, **kwargs)
        self._swapped = _Swapped()

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._averages = [add_wide_variable(self, v, "average") for v in variables]
        self._averaged = self.add_counts(variables, "averaged")

    def observe(self, update: Update, value):
        super().observe(update, value)
        index = self._get_variable_index(update.variable)
        average = self._averages[index]
        value = ops.cast(value, average.dtype)
        self.assign_add(average, (1 - self.ema_momentum) * (value - average))
        self.assign_add(self._averaged[index], 1)

    @property
    def averages_are_in_place(self) -> bool:
        """Whether the model's weights are the averages now."""
        return self._swapped.weights is not None

    def apply_ema_weights(self, bias_correction: bool = True) -> None:
        """Puts the averages in place of the weights, which are kept.

        Before the first update, and for variables that never had a gradient, there is
        no average, and the weights stay.

        Raises:
            RuntimeError: if the averages are in place already.
        """
        if self.averages_are_in_place:
            raise RuntimeError(
                "The averages are in place already. Call `reset_old_weights()` first."
            )
        self._swapped.weights = kept = []
        self._swapped.step = int(ops.convert_to_numpy(self.iterations))
        if not self.built:
            return
        state = (self._trainable_variables, self._averages, self._averaged)
        for variable, average, count in zip(*state, strict=True):
            count = int(count.numpy())
            if count:
                kept.append((variable, variable.numpy().copy()))
                scale = 1 - self.ema_momentum**count if bias_correction else 1.0
                variable.assign(average.numpy() / scale)

    def reset_old_weights(self) -> None:
        """Puts the weights back that `apply_ema_weights` replaced.

        Raises:
            RuntimeError: if the averages are not in place.
        """
        if not self.averages_are_in_place:
            raise RuntimeError(
                "The averages are not in place. Call `apply_ema_weights()` first."
            )
        if int(ops.convert_to_numpy(self.iterations)) != self._swapped.step:
            warnings.warn(
                "The model was trained while the averages were in place; putting back "
                "the weights from before undoes that. Call `reset_old_weights()` "
                "before you train.",
                stacklevel=2,
            )
        weights, self._swapped.weights = self._swapped.weights, None
        for variable, value in weights:
            variable.assign(value)


class _Swapped:
    """Holds the weights while the averages are in place; no part of the state."""

    weights = None
    step = None


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
        ValueError: if a given callback saves by the number of batches, or, at the start
            of `fit`, the model's optimizer has no averages.
        RuntimeError: at the start of `fit`, if the averages are in place.

    Example:

        best = keras.callbacks.ModelCheckpoint("best.weights.h5", save_best_only=True,
                                               save_weights_only=True)
        model.fit(x, y, validation_data=(u, v),
                  callbacks=[ExponentialMovingAverageCallback([best])])
    """

    def __init__(self, callbacks=(), bias_correction: bool = True):
        super().__init__()
        self.callbacks = list(callbacks)
        for callback in self.callbacks:
            frequency = getattr(callback, "save_freq", "epoch")
            if frequency != "epoch":
                raise ValueError(
                    "`callbacks` see the averages at the end of epochs only, so that "
                    "each must have save_freq='epoch'. Received: "
                    f"{type(callback).__name__} with save_freq={frequency!r}"
                )
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
        if self._optimizer.averages_are_in_place:
            raise RuntimeError(
                "The averages are in place, put in by `apply_ema_weights()` or by a "
                "validation that was interrupted. Call `reset_old_weights()` of the "
                "optimizer before you train."
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
