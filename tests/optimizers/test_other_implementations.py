"""Comparison with implementations of other people: optax, transformers, Keras."""

import keras
import numpy as np
import pytest
from optimizer_cases import make_gradients, make_variables, run

from bert4keras import optimizers as own

optax = pytest.importorskip("optax")

STEPS = 8
RATE = 0.02


def start():
    return [np.array(keras.ops.convert_to_numpy(v)) for v in make_variables()]


def assert_same(path, expected):
    for ours, theirs in zip(path, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, np.asarray(b), rtol=1e-5, atol=1e-5)


def optax_path(transform, sequence, wrap=lambda params: params, show=lambda p: p):
    params = wrap(start())
    state = transform.init(params)
    path = []
    for gradients in sequence:
        updates, state = transform.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        path.append(show(params))
    return path


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("threshold", [1.0, 0.3, None])
@pytest.mark.parametrize("factored", [4, 128])
def test_adafactor_is_optax_adafactor(scale, threshold, factored):
    common = {
        "min_dim_size_to_factor": factored,
        "multiply_by_parameter_scale": scale,
        "clipping_threshold": threshold,
    }
    sequence = make_gradients(STEPS)
    theirs = optax_path(optax.adafactor(RATE, **common), sequence)
    assert_same(run(own.AdaFactor(RATE, **common), sequence), theirs)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"learning_rate": None}, {"relative_step": True, "scale_parameter": True}),
        ({"learning_rate": RATE}, {"lr": RATE, "scale_parameter": True}),
        (
            {"learning_rate": RATE, "multiply_by_parameter_scale": False},
            {"lr": RATE, "scale_parameter": False},
        ),
        (
            {
                "learning_rate": RATE,
                "multiply_by_parameter_scale": False,
                "beta1": 0.9,
                "clipping_threshold": 0.5,
            },
            {"lr": RATE, "scale_parameter": False, "beta1": 0.9, "clip_threshold": 0.5},
        ),
    ],
)
def test_adafactor_is_transformers_adafactor(ours, theirs):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    sequence = make_gradients(STEPS)
    with torch.device("cpu"):
        params = [torch.nn.Parameter(torch.tensor(value)) for value in start()]
        theirs = {"relative_step": False, "warmup_init": False, **theirs}
        optimizer = transformers.Adafactor(params, **theirs)
        expected = []
        for gradients in sequence:
            for param, gradient in zip(params, gradients, strict=True):
                param.grad = torch.tensor(gradient)
            optimizer.step()
            expected.append([p.detach().numpy().copy() for p in params])
    assert_same(
        run(own.AdaFactor(min_dim_size_to_factor=1, **ours), sequence), expected
    )


def test_layer_adaptation_over_adam_is_keras_lamb():
    sequence = make_gradients(STEPS)
    lamb = own.extend_with_layer_adaptation(own.Adam)(RATE, epsilon=1e-6)
    assert_same(
        run(lamb, sequence), run(keras.optimizers.Lamb(RATE, epsilon=1e-6), sequence)
    )


def test_layer_adaptation_over_weight_decay_is_optax_lamb():
    sequence = make_gradients(STEPS)
    cls = own.extend_with_layer_adaptation(own.extend_with_weight_decay(own.Adam))
    ours = cls(RATE, epsilon=1e-6, weight_decay_rate=0.3)
    theirs = optax.lamb(RATE, eps=1e-6, weight_decay=0.3)
    assert_same(run(ours, sequence), optax_path(theirs, sequence))


def test_weight_decay_over_adam_is_optax_adamw():
    sequence = make_gradients(STEPS)
    cls = own.extend_with_weight_decay(own.Adam)
    ours = cls(RATE, epsilon=1e-6, weight_decay_rate=0.3)
    theirs = optax.adamw(RATE, eps=1e-6, weight_decay=0.3)
    assert_same(run(ours, sequence), optax_path(theirs, sequence))


def test_lion_is_optax_lion():
    sequence = make_gradients(STEPS)
    assert_same(
        run(own.Lion(RATE), sequence),
        optax_path(optax.lion(RATE, 0.95, 0.98, weight_decay=0.0), sequence),
    )


def test_lookahead_is_optax_lookahead():
    sequence = make_gradients(STEPS)
    transform = optax.lookahead(
        optax.sgd(RATE, momentum=0.9), sync_period=3, slow_step_size=0.4
    )
    theirs = optax_path(
        transform, sequence, optax.LookaheadParams.init_synced, lambda p: p.fast
    )
    # optax's momentum multiplies by the learning rate last: the same at a constant one.
    cls = own.extend_with_lookahead(keras.optimizers.SGD)
    ours = cls(RATE, 0.9, steps_per_slow_update=3, slow_step_size=0.4)
    assert_same(run(ours, sequence), theirs)


@pytest.mark.parametrize("corrected", [True, False])
def test_averages_are_optax_ema(corrected):
    sequence = make_gradients(STEPS)
    cls = own.extend_with_exponential_moving_average(own.Adam)
    ours = cls(RATE, ema_momentum=0.9)
    variables = make_variables()
    average = optax.ema(0.9, debias=corrected)
    state = average.init(start())
    for gradients in sequence:
        (weights,) = run(ours, [gradients], variables)
        expected, state = average.update(weights, state)
    ours.apply_ema_weights(corrected)
    found = [keras.ops.convert_to_numpy(v) for v in variables]
    assert_same([found], [expected])


def test_piecewise_linear_lr_is_an_optax_schedule():
    sequence = make_gradients(STEPS)
    cls = own.extend_with_piecewise_linear_lr(own.Adam)
    ours = cls(RATE, epsilon=1e-6, lr_schedule={3: 1, 6: 0.2})
    schedule = optax.join_schedules(
        [optax.linear_schedule(0, RATE, 3), optax.linear_schedule(RATE, 0.2 * RATE, 3)],
        [3],
    )
    theirs = optax.adam(schedule, eps=1e-6)
    assert_same(run(ours, sequence), optax_path(theirs, sequence))


def test_accumulation_is_optax_multi_steps():
    sequence = make_gradients(STEPS)
    transform = optax.MultiSteps(optax.adam(RATE, eps=1e-6), every_k_schedule=4)
    cls = own.extend_with_gradient_accumulation(own.Adam)
    ours = cls(RATE, epsilon=1e-6, grad_accum_steps=4)
    assert_same(run(ours, sequence), optax_path(transform, sequence))
