"""The callback that validates and saves with the averages inside `fit`."""

import keras
import numpy as np
import pytest
from optimizer_cases import (
    MICRO_BATCH,
    derive,
    largest_difference,
    make_data,
    make_model,
)

from bert4keras.optimizers import ExponentialMovingAverageCallback

CHAIN = ("gradient_accumulation", "exponential_moving_average")
EPOCHS = 3


class Recorder(keras.callbacks.Callback):
    """Keeps the weights that it sees at each epoch's end, and the logs."""

    def __init__(self):
        super().__init__()
        self.weights, self.logs = [], []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(self.model.get_weights())
        self.logs.append(logs["val_loss"])


def train(callbacks, **compile_args):
    ids, targets = make_data()
    model = make_model()
    model.compile(derive("SGD", CHAIN, grad_accum_steps=3), "mse", **compile_args)
    model.fit(
        *(ids, targets, MICRO_BATCH),
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        validation_data=(ids[:8], targets[:8]),
        callbacks=callbacks,
    )
    return model


def expected_averages():
    """The same training in numpy's words: averages after each epoch's updates."""
    ids, targets = make_data()
    model = make_model()
    optimizer = derive("SGD", ("gradient_accumulation",), grad_accum_steps=3)
    model.compile(optimizer, "mse")
    averages, corrected = None, []
    updates = 0
    for _ in range(EPOCHS):
        for start in range(0, len(ids), 3 * MICRO_BATCH):
            rows = slice(start, start + 3 * MICRO_BATCH)
            model.fit(ids[rows], targets[rows], MICRO_BATCH, shuffle=False, verbose=0)
            weights = model.get_weights()
            averages = averages or [0 * w for w in weights]
            pairs = zip(averages, weights, strict=True)
            averages = [0.8 * a + 0.2 * w for a, w in pairs]
            updates += 1
        corrected.append([a / (1 - 0.8**updates) for a in averages])
    return corrected


def test_validates_and_saves_with_averages_and_trains_without(tmp_path):
    inside, outside = Recorder(), Recorder()
    path = str(tmp_path / "{epoch}.weights.h5")
    saver = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    averaging = ExponentialMovingAverageCallback([inside, saver])
    model = train([averaging, outside])
    plain = Recorder()
    undisturbed = train([plain])

    for ours, theirs in zip(inside.weights, expected_averages(), strict=True):
        assert largest_difference(ours, theirs) < 1e-6
    for ours, theirs in zip(outside.weights, plain.weights, strict=True):
        assert largest_difference(ours, theirs) == 0
    assert largest_difference(model.get_weights(), undisturbed.get_weights()) == 0

    ids, targets = make_data()
    other = make_model()
    other.compile("sgd", "mse")
    for epoch, averages in enumerate(inside.weights):
        other.set_weights(averages)
        loss = other.evaluate(ids[:8], targets[:8], verbose=0)
        assert loss == pytest.approx(inside.logs[epoch], rel=1e-5)
        assert inside.logs[epoch] != pytest.approx(plain.logs[epoch], rel=1e-4)
        model.load_weights(path.format(epoch=epoch + 1))
        assert largest_difference(model.get_weights(), averages) == 0


def test_inside_a_loss_scale(tmp_path):
    ids, targets = make_data()
    model = make_model()
    inner = derive("SGD", CHAIN, grad_accum_steps=3)
    model.compile(keras.optimizers.LossScaleOptimizer(inner), "mse")
    recorder = Recorder()
    averaging = ExponentialMovingAverageCallback([recorder])
    data = {"validation_data": (ids[:8], targets[:8]), "callbacks": [averaging]}
    model.fit(ids, targets, MICRO_BATCH, shuffle=False, verbose=0, **data)
    assert largest_difference(recorder.weights[0], expected_averages()[0]) < 1e-6


def test_an_optimizer_without_averages_is_refused():
    ids, targets = make_data()
    model = make_model()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="extend_with_exponential_moving_average"):
        model.fit(
            ids, targets, verbose=0, callbacks=[ExponentialMovingAverageCallback()]
        )


def test_averages_by_hand_after_fit():
    model = train([])
    weights = model.get_weights()
    model.optimizer.apply_ema_weights()
    assert largest_difference(model.get_weights(), expected_averages()[-1]) < 1e-6
    model.optimizer.reset_old_weights()
    np.testing.assert_array_equal(weights[0], model.get_weights()[0])


def test_training_does_not_start_with_the_averages():
    model = train([])
    model.optimizer.apply_ema_weights()
    ids, targets = make_data()
    averaging = ExponentialMovingAverageCallback()
    with pytest.raises(RuntimeError, match="reset_old_weights"):
        model.fit(ids, targets, verbose=0, callbacks=[averaging])
    model.fit(ids, targets, 3 * MICRO_BATCH, verbose=0)
    with pytest.warns(UserWarning, match="trained while the averages"):
        model.optimizer.reset_old_weights()


def test_a_callback_that_would_never_save_is_refused():
    saver = keras.callbacks.ModelCheckpoint("x.keras", save_freq=10)
    with pytest.raises(ValueError, match="save_freq=10"):
        ExponentialMovingAverageCallback([saver])
