"""n micro-batches of B against the plain base optimizer on one batch of nB."""

import keras
import numpy as np
import pytest
from optimizer_cases import (
    BATCH,
    MICRO_BATCH,
    MICRO_STEPS,
    as_tensors,
    largest_difference,
    make_base,
    make_data,
    make_gradients,
    make_model,
    make_variables,
    run,
    train,
)

from bert4keras.optimizers import Adam, extend_with_gradient_accumulation

SAME = 1e-6

OPTIONS = {
    "clipnorm": {"clipnorm": 0.1},
    "global_clipnorm": {"global_clipnorm": 0.1},
    "ema": {"use_ema": True, "ema_momentum": 0.8, "ema_overwrite_frequency": 2},
    "weight_decay": {"weight_decay": 0.1},
    "schedule": {
        "learning_rate": keras.optimizers.schedules.ExponentialDecay(0.01, 2, 0.5)
    },
}


def accumulate(cls, arguments, steps=MICRO_STEPS):
    return extend_with_gradient_accumulation(cls)(**arguments, grad_accum_steps=steps)


# test_big_batch.py has all bases.
FITTED = ["SGD", "AdamW", "RMSprop", "bert4keras.Adam", "bert4keras.AdaFactor"]


@pytest.mark.parametrize("base", FITTED)
def test_compiled_fit_is_one_big_batch(base):
    cls, arguments = make_base(base)
    ours = accumulate(cls, arguments)
    weights = train(ours, MICRO_BATCH)
    assert largest_difference(weights, train(cls(**arguments), BATCH)) < SAME
    assert int(ours.iterations) == 4


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("base", ["Adam"])
def test_options_count_real_updates_only(base, option):
    cls, arguments = make_base(base, **OPTIONS[option])
    weights = train(accumulate(cls, arguments), MICRO_BATCH)
    assert largest_difference(weights, train(cls(**arguments), BATCH)) < SAME


@pytest.mark.parametrize("base", ["SGD", "AdamW"])
def test_tied_embedding(base):
    cls, arguments = make_base(base)
    weights = train(accumulate(cls, arguments), MICRO_BATCH, tied=True)
    assert largest_difference(weights, train(cls(**arguments), BATCH, True)) < SAME


@pytest.mark.parametrize("base", ["Adam"])
def test_eager_fit_is_one_big_batch(base):
    cls, arguments = make_base(base, clipnorm=0.1)
    weights = train(accumulate(cls, arguments), MICRO_BATCH, run_eagerly=True)
    plain = train(cls(**arguments), BATCH, run_eagerly=True)
    assert largest_difference(weights, plain) < SAME


@pytest.mark.parametrize("base", ["AdamW", "Lamb", "bert4keras.Adam"])
def test_xla_compiled_tensorflow(backend, base):
    if backend != "tensorflow":
        pytest.skip("XLA is a choice on TensorFlow only")
    cls, arguments = make_base(base)
    ours = train(accumulate(cls, arguments), MICRO_BATCH, jit_compile=True)
    plain = train(cls(**arguments), BATCH, jit_compile=True)
    assert largest_difference(ours, plain) < SAME


def rows_of_tokens(tokens, seed):
    import tensorflow as tf

    values = np.random.default_rng(seed).normal(size=(len(tokens), 2))
    values = tf.constant(values, "float32")
    return tf.IndexedSlices(values, tf.constant(tokens), tf.constant([5, 2]))


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_micro_batches_of_any_number_of_tokens(backend, mode):
    if backend != "tensorflow":
        pytest.skip("TensorFlow hands over an embedding's gradient as slices")
    import tensorflow as tf

    cls, arguments = make_base("Adam")
    optimizer, plain = accumulate(cls, arguments), cls(**arguments)
    ours, theirs = (keras.Variable(np.ones((5, 2), "float32")) for _ in range(2))
    updates = [([1, 1, 4], [], [2]), ([0], [3, 3, 3, 1, 0], [4, 0]), ([2, 2], [2], [])]

    def step(gradient):
        optimizer.apply([gradient], [ours])

    if mode != "eager":
        step = tf.function(step, jit_compile=mode == "xla", reduce_retracing=True)
    optimizer.build([ours])
    for update in updates:
        parts = [rows_of_tokens(np.array(t, int), len(t)) for t in update]
        for gradient in parts:
            step(gradient)
        values = tf.concat([g.values for g in parts], axis=0) / MICRO_STEPS
        indices = tf.concat([g.indices for g in parts], axis=0)
        plain.apply([tf.IndexedSlices(values, indices, parts[0].dense_shape)], [theirs])
    assert largest_difference([ours.numpy()], [theirs.numpy()]) < SAME


def test_leftover_micro_batches_carry_over_the_end_of_an_epoch():
    # 8 micro-batches an epoch are 2 updates and 2 left over: 5 updates in 2 epochs.
    ids, targets = make_data()
    ids, targets = ids[: 8 * MICRO_BATCH], targets[: 8 * MICRO_BATCH]
    cls, arguments = make_base("Adam")
    optimizer = accumulate(cls, arguments)
    model = make_model()
    model.compile(optimizer, "mse")
    model.fit(ids, targets, MICRO_BATCH, epochs=2, shuffle=False, verbose=0)
    assert int(optimizer.iterations) == 5

    plain = make_model()
    plain.compile(cls(**arguments), "mse")
    ids, targets = np.tile(ids, (2, 1))[: 5 * BATCH], np.tile(targets, (2, 1))
    plain.fit(ids, targets[: 5 * BATCH], BATCH, shuffle=False, verbose=0)
    assert largest_difference(model.get_weights(), plain.get_weights()) < SAME


def test_micro_steps_move_nothing_but_the_sums():
    optimizer = accumulate(keras.optimizers.Adam, {"learning_rate": 0.1})
    variables = make_variables()
    start = [keras.ops.convert_to_numpy(v).copy() for v in variables]
    path = run(optimizer, make_gradients(2), variables)
    assert largest_difference(path[-1], start) == 0
    assert int(optimizer.iterations) == 0
    moments = [*optimizer._momentums, *optimizer._velocities]
    assert all(not np.any(keras.ops.convert_to_numpy(m)) for m in moments)


def test_one_step_is_the_base():
    sequence = make_gradients(3)
    ours = run(accumulate(Adam, {"learning_rate": 0.1}, steps=1), sequence)
    assert largest_difference(ours[-1], run(Adam(0.1), sequence)[-1]) == 0


def test_a_gradient_that_comes_now_and_then_counts_as_zero():
    sequence = make_gradients(3)
    optimizer = accumulate(keras.optimizers.SGD, {"learning_rate": 1.0})
    variables = make_variables()
    for step, gradients in enumerate(sequence):
        gradients = as_tensors(gradients)
        if step > 0:
            gradients[1] = None
        optimizer.apply(gradients, variables)
    expected = keras.ops.convert_to_numpy(make_variables()[1]) - sequence[0][1] / 3
    np.testing.assert_allclose(variables[1], expected, rtol=1e-6)


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", None, True, float("nan")])
def test_steps_must_be_a_positive_integer(value):
    with pytest.raises(ValueError, match=r"grad_accum_steps=.*at least 1"):
        accumulate(Adam, {}, steps=value)


def test_keras_own_accumulation_is_refused():
    with pytest.raises(ValueError, match="gradient_accumulation_steps=4"):
        accumulate(Adam, {"gradient_accumulation_steps": 4})


def test_one_copy_of_the_gradients_and_no_more():
    variables = make_variables()
    ours = accumulate(keras.optimizers.Adam, {})
    plain = keras.optimizers.Adam()
    sizes = []
    for optimizer in (ours, plain):
        optimizer.build(variables)
        sizes.append(sum(int(np.prod(v.shape)) for v in optimizer.variables))
    gradients = sum(int(np.prod(v.shape)) for v in variables)
    assert sizes[0] - sizes[1] == gradients + 1  # and the count of micro-steps


@pytest.mark.parametrize(
    "wrapper", [keras.optimizers.LossScaleOptimizer, keras.optimizers.MultiOptimizer]
)
def test_wrappers_are_not_extended(wrapper):
    with pytest.raises(ValueError, match="inside it"):
        extend_with_gradient_accumulation(wrapper)


@pytest.mark.parametrize("base", [object, Adam(0.1), "adam", None])
def test_only_optimizer_classes_are_extended(base):
    with pytest.raises(ValueError, match="BaseOptimizer"):
        extend_with_gradient_accumulation(base)


def test_a_trick_is_taken_once():
    once = extend_with_gradient_accumulation(Adam)
    with pytest.raises(ValueError, match="already"):
        extend_with_gradient_accumulation(once)


def test_variables_of_tensorflow_itself(backend):
    if backend != "tensorflow":
        pytest.skip("only on TensorFlow does Keras take other variables than its own")
    import tensorflow as tf

    cls = extend_with_gradient_accumulation(keras.optimizers.SGD)
    optimizer = cls(0.1, grad_accum_steps=2)
    variable = tf.Variable([[1.0, 2.0]])
    start = variable.numpy()
    for gradient in ([[1.0, 2.0]], [[3.0, 0.0]]):
        np.testing.assert_array_equal(variable, start)
        optimizer.apply_gradients([(tf.constant(gradient), variable)])
    np.testing.assert_allclose(variable.numpy(), start - [[0.2, 0.1]], rtol=1e-6)
