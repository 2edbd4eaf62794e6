"""Derived optimizers saved, loaded, interrupted and resumed."""

import copy
import json
import os
import pickle
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
from optimizer_cases import (
    COMPOSITIONS,
    MICRO_BATCH,
    TRICKS,
    as_tensors,
    derive,
    largest_difference,
    make_data,
    make_gradients,
    make_model,
    make_variables,
    run,
)

from bert4keras import optimizers as own

CHAINS = [*((trick,) for trick in TRICKS), *COMPOSITIONS[:4], tuple(TRICKS)]


@pytest.mark.parametrize("chain", CHAINS, ids="+".join)
def test_config_round_trip(chain):
    optimizer = derive("Adam", ("gradient_accumulation", *chain), clipnorm=1.0)
    config = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again).__name__ == type(optimizer).__name__
    assert type(again)._recipe() == type(optimizer)._recipe()
    assert again.get_config() == optimizer.get_config()
    copy = type(optimizer).from_config(optimizer.get_config())
    assert type(copy) is type(optimizer)
    sequence = make_gradients(4)
    assert largest_difference(run(again, sequence)[-1], run(copy, sequence)[-1]) == 0


def test_a_class_is_found_by_its_name():
    cls = own.extend_with_weight_decay(own.Adam, "NamedAdam")
    assert cls.__name__ == "NamedAdam"
    assert type(keras.optimizers.get("NamedAdam")) is cls
    config = keras.optimizers.serialize(cls(0.1, weight_decay_rate=0.3))
    assert type(keras.optimizers.deserialize(config)) is cls


def test_names_are_deterministic():
    first = own.extend_with_lookahead(own.extend_with_weight_decay(own.Adam))
    second = own.extend_with_lookahead(own.extend_with_weight_decay(own.Adam))
    assert first.__name__ == second.__name__ == "AdamWeightDecayLookahead"


@keras.saving.register_keras_serializable(package="tests")
class RegisteredSGD(keras.optimizers.SGD):
    pass


class UnregisteredSGD(keras.optimizers.SGD):
    pass


def test_registered_bases_are_found_again():
    optimizer = own.extend_with_lookahead(RegisteredSGD, "LookaheadSGD")(0.1)
    config = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(config)
    assert isinstance(again, RegisteredSGD)


@keras.saving.register_keras_serializable(package="tests")
class Between(own.extend_with_weight_decay(own.Adam, "Inner")):
    pass


def test_subclasses_of_derived_optimizers_are_bases_too():
    for optimizer in (
        Between(0.1, weight_decay_rate=0.3),
        own.extend_with_lookahead(Between, "Outer")(0.1, weight_decay_rate=0.3),
    ):
        config = keras.saving.serialize_keras_object(optimizer)
        keras.saving.get_custom_objects().pop("Outer", None)
        again = keras.saving.deserialize_keras_object(config)
        assert isinstance(again, Between)
        assert again.get_config() == optimizer.get_config()


def test_unregistered_bases_say_what_to_do():
    cls = own.extend_with_lookahead(UnregisteredSGD, "UnregisteredLookahead")
    config = keras.saving.serialize_keras_object(cls(0.1))
    del keras.saving.get_custom_objects()["UnregisteredLookahead"]
    with pytest.raises(ValueError, match=r"UnregisteredSGD.*register_keras"):
        keras.saving.deserialize_keras_object(config)
    scope = {"UnregisteredSGD": UnregisteredSGD}
    again = keras.saving.deserialize_keras_object(config, custom_objects=scope)
    assert isinstance(again, UnregisteredSGD)


def saved_and_loaded(optimizer, path):
    model = make_model()
    model.compile(optimizer, "mse")
    model.save(path)
    return keras.saving.load_model(path).optimizer


def test_names_of_keras_remain_those_of_keras(tmp_path):
    taken = keras.optimizers.AdamW
    native = taken(0.1)
    ours = own.extend_with_weight_decay(own.Adam, "AdamW")
    other = own.extend_with_lookahead(taken, "LookaheadOverKerasAdamW")
    found = saved_and_loaded(native, tmp_path / "native.keras")
    assert type(found) is type(native)
    assert type(saved_and_loaded(ours(0.1), tmp_path / "ours.keras")) is ours
    config = keras.saving.serialize_keras_object(other(0.1))
    del keras.saving.get_custom_objects()["LookaheadOverKerasAdamW"]
    again = keras.saving.deserialize_keras_object(config)
    assert isinstance(again, taken)
    assert not isinstance(again, ours)


def test_loading_leaves_a_program_its_names():
    old = own.extend_with_lookahead(own.Adam, "NamedTwice")
    config = keras.saving.serialize_keras_object(old(0.1))
    new = own.extend_with_weight_decay(own.Adam, "NamedTwice")
    again = keras.saving.deserialize_keras_object(config)
    assert type(again)._recipe() == old._recipe()
    assert keras.saving.get_custom_objects()["NamedTwice"] is new


@pytest.mark.parametrize(
    "copy", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))]
)
def test_copied_as_keras_copies(copy):
    optimizer = derive("Adam", tuple(TRICKS))
    again = copy(optimizer)
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()


def test_configurations_of_numpy_numbers_become_json():
    cls = own.extend_with_parameter_wise_lr(own.AdaFactor)
    cls = own.extend_with_exponential_moving_average(cls)
    cls = own.extend_with_piecewise_linear_lr(own.extend_with_lookahead(cls))
    optimizer = own.extend_with_weight_decay(cls)(
        beta1=np.float32(0.5),
        clipping_threshold=np.float32(2),
        min_dim_size_to_factor=np.int64(4),
        weight_decay_rate=np.float32(0.5),
        ema_momentum=np.float32(0.5),
        steps_per_slow_update=np.int32(3),
        slow_step_size=np.float32(0.5),
        paramwise_lr_schedule={"kernel": np.float32(2)},
        lr_schedule={np.int64(2): np.float32(1), 4: np.float64(0.5)},
    )
    config = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(json.loads(json.dumps(config)))
    assert again.get_config() == optimizer.get_config()


def fit(model, batches):
    """Trains on micro-batches `batches` of the shared data, in order."""
    ids, targets = make_data()
    rows = slice(batches.start * MICRO_BATCH, batches.stop * MICRO_BATCH)
    model.fit(ids[rows], targets[rows], MICRO_BATCH, shuffle=False, verbose=0)


def compiled_model(chain):
    optimizer = derive("AdamW", chain, grad_accum_steps=3)
    model = make_model()
    model.compile(optimizer, "mse")
    return model


ALL = ("weight_decay", "lookahead", "gradient_accumulation", "piecewise_linear_lr")


@pytest.mark.parametrize("how", ["keras file", "weights file"])
def test_resumed_within_an_accumulation(tmp_path, how):
    chain = (*ALL, "exponential_moving_average")
    undisturbed = compiled_model(chain)
    fit(undisturbed, range(0, 4))
    if how == "keras file":
        undisturbed.save(tmp_path / "model.keras")
        resumed = keras.saving.load_model(tmp_path / "model.keras")
    else:
        undisturbed.save_weights(tmp_path / "model.weights.h5")
        resumed = compiled_model(chain)
        resumed.optimizer.build(resumed.trainable_variables)
        resumed.load_weights(tmp_path / "model.weights.h5")
    assert int(resumed.optimizer.iterations) == 1
    for model in (undisturbed, resumed):
        fit(model, range(4, 11))
    assert int(resumed.optimizer.iterations) == 3
    for ours, theirs in zip(
        undisturbed.get_weights(), resumed.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(
        undisturbed.optimizer.variables, resumed.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(ours), keras.ops.convert_to_numpy(theirs)
        )


def test_loaded_into_a_model_that_has_trained(tmp_path):
    chain = ("gradient_accumulation",)
    model = compiled_model(chain)
    fit(model, range(0, 4))
    model.save_weights(tmp_path / "model.weights.h5")
    fit(model, range(4, 9))
    expected = model.get_weights()
    fit(model, range(0, 2))
    model.load_weights(tmp_path / "model.weights.h5")
    fit(model, range(4, 9))
    for ours, theirs in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_tensorflow_slices_are_summed_by_other_backends(backend, tmp_path):
    if backend == "tensorflow":
        pytest.skip("a test of the others")
    model = compiled_model(("gradient_accumulation",))
    fit(model, range(0, 1))
    store = {}
    model.optimizer.save_own_variables(store)
    embedding = model.optimizer._gradient_sums[0]
    number = next(i for i, v in enumerate(model.optimizer.variables) if v is embedding)
    dense = store[str(number)]
    # As TensorFlow stores it: no dense sum, but each token's two halves.
    rows = np.concatenate([np.arange(len(dense))] * 2)
    store["slices_0_indices"], store["slices_0_values"] = rows, dense[rows] / 2
    store[str(number)] = np.zeros_like(dense)
    model.optimizer.load_own_variables(store)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(embedding), dense)


def test_a_gradient_from_before_the_interruption_counts():
    cls = own.extend_with_gradient_accumulation(keras.optimizers.SGD)
    first, second = map(as_tensors, make_gradients(2))
    second[1] = None
    found = []
    for interrupted in (False, True):
        variables = make_variables()
        optimizer = cls(0.1, grad_accum_steps=2)
        optimizer.apply(first, variables)
        if interrupted:
            store = {}
            optimizer.save_own_variables(store)
            optimizer = cls(0.1, grad_accum_steps=2)
            optimizer.build(variables)
            optimizer.load_own_variables(store)
        optimizer.apply(second, variables)
        found.append(keras.ops.convert_to_numpy(variables[1]))
    start = keras.ops.convert_to_numpy(make_variables()[1])
    assert np.abs(found[0] - start).max() > 0.01
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("has_trained", [False, True])
def test_tensorflow_takes_over_the_sums_of_other_backends(backend, has_trained):
    if backend != "tensorflow":
        pytest.skip("a test of TensorFlow's slices")
    chain = ("gradient_accumulation",)
    model, other = compiled_model(chain), compiled_model(chain)
    other.optimizer.build(other.trainable_variables)
    if has_trained:
        fit(other, range(0, 2))
    fit(model, range(0, 2))
    weights, store = model.get_weights(), {}
    model.optimizer.save_own_variables(store)
    # As the others store it: one dense sum.
    rows, values = store.pop("slices_0_indices"), store.pop("slices_0_values")
    embedding = model.optimizer._gradient_sums[0]
    number = next(i for i, v in enumerate(model.optimizer.variables) if v is embedding)
    np.add.at(store[str(number)], rows, values)
    other.set_weights(weights)
    other.optimizer.load_own_variables(store)
    fit(other, range(2, 3))
    fit(model, range(2, 3))
    # The first moments are linear in the gradients; the second are not, in Keras.
    found = keras.ops.convert_to_numpy(other.optimizer._momentums[0])
    expected = keras.ops.convert_to_numpy(model.optimizer._momentums[0])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


def test_loaded_by_a_process_that_made_no_class(tmp_path):
    model = compiled_model((*ALL, "exponential_moving_average"))
    fit(model, range(0, 4))
    model.save(tmp_path / "model.keras")
    program = (
        "import sys, keras, bert4keras.optimizers\n"
        "model = keras.saving.load_model(sys.argv[1])\n"
        "print(model.optimizer._recipe()['tricks'], int(model.optimizer.iterations))\n"
        "print(float(sum(abs(w).sum() for w in model.get_weights())))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "model.keras")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    recipe, total = ran.stdout.strip().splitlines()[-2:]
    assert recipe == f"{[*ALL, 'exponential_moving_average']} 1"
    assert float(total) == pytest.approx(
        sum(float(np.abs(w).sum()) for w in model.get_weights()), rel=1e-6
    )


class Killer(keras.callbacks.Callback):
    """Ends the process after a number of batches, as a power cut would."""

    def __init__(self, after):
        super().__init__()
        self.left = after

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def train_with_backup(folder, kill_after=0):
    """Trains 3 epochs of 8 micro-batches, or goes on; returns the weights."""
    model = compiled_model(ALL)
    ids, targets = make_data()
    rows = slice(0, 8 * MICRO_BATCH)
    backup = keras.callbacks.BackupAndRestore(folder, delete_checkpoint=False)
    model.fit(
        *(ids[rows], targets[rows], MICRO_BATCH),
        epochs=3,
        shuffle=False,
        verbose=0,
        callbacks=[backup, Killer(kill_after)],
    )
    return model.get_weights()


def test_killed_in_mid_epoch_and_resumed(tmp_path):
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_saving import train_with_backup\n"
        "train_with_backup(sys.argv[2], 12)\n"
    )
    here = os.path.dirname(os.path.abspath(__file__))
    command = [sys.executable, "-c", program, here, str(tmp_path / "killed")]
    # 3 micro-batches make an update: the backup after 8 has 2 of an accumulation.
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    resumed = train_with_backup(tmp_path / "killed")
    undisturbed = train_with_backup(tmp_path / "undisturbed")
    for ours, theirs in zip(resumed, undisturbed, strict=True):
        np.testing.assert_array_equal(ours, theirs)
