"""Each trick against its formula in float64, and what it promises besides."""

import warnings

import keras
import numpy as np
import pytest
from optimizer_cases import (
    as_tensors,
    derive,
    extend_with,
    largest_difference,
    make_base,
    make_gradients,
    make_variables,
    run,
)

from bert4keras import optimizers as own

RATE = 0.1
SGD = keras.optimizers.SGD
EMBEDDING, KERNEL, BIAS, GAMMA = range(4)


def values(variables):
    return [keras.ops.convert_to_numpy(v).astype("float64") for v in variables]


def assert_path(path, expected):
    for ours, theirs in zip(path, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def sgd_path(sequence, rule):
    """theta after each step of `theta = rule(i, step, theta, gradient)`."""
    theta = values(make_variables())
    path = []
    for step, gradients in enumerate(sequence):
        gradients = [g.astype("float64") for g in gradients]
        pairs = zip(theta, gradients, strict=True)
        theta = [rule(i, step, t, g) for i, (t, g) in enumerate(pairs)]
        path.append(theta)
    return path


def test_weight_decay():
    cls = own.extend_with_weight_decay(SGD)
    optimizer = cls(RATE, weight_decay_rate=0.5, exclude_from_weight_decay=["bias"])

    def rule(i, step, theta, g):
        return theta - RATE * g - (0 if i == BIAS else RATE * 0.5 * theta)

    sequence = make_gradients(4)
    assert_path(run(optimizer, sequence), sgd_path(sequence, rule))


def test_weight_decay_is_keras_native_one():
    # Keras decays before the step, the trick together with it: the same for Adam.
    sequence = make_gradients(4)
    cls, _ = make_base("Adam")
    ours = own.extend_with_weight_decay(cls)(RATE, weight_decay_rate=0.2)
    theirs = cls(RATE, weight_decay=0.2)
    assert_path(run(ours, sequence), run(theirs, sequence))


def test_layer_adaptation():
    cls = own.extend_with_layer_adaptation(SGD)
    optimizer = cls(RATE, exclude_from_layer_adaptation=["Norm"])

    def rule(i, step, theta, g):
        ratio = 1 if i == GAMMA else np.linalg.norm(theta) / np.linalg.norm(g)
        return theta - RATE * ratio * g

    sequence = make_gradients(4)
    assert_path(run(optimizer, sequence), sgd_path(sequence, rule))


def test_layer_adaptation_leaves_zero_norms_alone():
    optimizer = own.extend_with_layer_adaptation(SGD)(RATE)
    zero = keras.Variable(np.zeros(3, "float32"))
    moved = keras.Variable(np.ones(3, "float32"))
    optimizer.apply(as_tensors([np.ones(3), np.zeros(3)]), [zero, moved])
    np.testing.assert_allclose(zero, np.full(3, -RATE), rtol=1e-6)
    np.testing.assert_array_equal(moved, np.ones(3))


@pytest.mark.parametrize("scheduled", [False, True])
def test_piecewise_linear_lr(scheduled):
    rates = np.array([0, 0.5, 1, 0.75, 0.5, 0.5]) * RATE
    learning_rate = RATE
    if scheduled:
        rates *= 0.5 ** (np.arange(6) / 2)
        schedules = keras.optimizers.schedules
        learning_rate = schedules.ExponentialDecay(RATE, 2, 0.5)
    cls = own.extend_with_piecewise_linear_lr(SGD)
    optimizer = cls(learning_rate, lr_schedule={2: 1, 4: 0.5})
    sequence = make_gradients(6)
    expected = sgd_path(sequence, lambda i, step, theta, g: theta - rates[step] * g)
    assert_path(run(optimizer, sequence), expected)


def test_piecewise_linear_lr_leaves_the_learning_rate_to_callbacks():
    optimizer = own.extend_with_piecewise_linear_lr(SGD)(RATE, lr_schedule={10: 1})
    variables = make_variables()
    run(optimizer, make_gradients(2), variables)
    # What ReduceLROnPlateau does.
    optimizer.learning_rate = float(optimizer.learning_rate) * 0.5
    assert float(optimizer.learning_rate) == pytest.approx(RATE * 0.5)
    before = values(variables)
    (gradients,) = make_gradients(1)
    run(optimizer, [gradients], variables)
    expected = [
        t - RATE * 0.5 * 0.2 * g for t, g in zip(before, gradients, strict=True)
    ]
    assert_path([values(variables)], [expected])


class ConstantRate(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return RATE


@pytest.mark.parametrize("rate", [lambda: RATE, ConstantRate()])
def test_piecewise_linear_lr_over_rates_that_are_numbers(rate):
    optimizer = own.extend_with_piecewise_linear_lr(SGD)(rate, lr_schedule={2: 1})
    variable = keras.Variable([1.0])
    for _ in range(3):
        optimizer.apply([keras.ops.ones(1)], [variable])
    found = keras.ops.convert_to_numpy(variable)[0]
    np.testing.assert_allclose(found, 1 - RATE * 1.5, rtol=1e-6)


@pytest.mark.parametrize("rate", [-1e-3, float("nan"), float("inf")])
@pytest.mark.parametrize(
    "cls", [own.Adam, own.AdaFactor, own.Lion, own.extend_with_lookahead(SGD)]
)
def test_bad_learning_rates(cls, rate):
    for arguments in ({"learning_rate": rate}, [rate]):
        with pytest.raises(ValueError, match=r"learning_rate=.* was given; it must be"):
            cls(**arguments) if isinstance(arguments, dict) else cls(*arguments)


def test_piecewise_linear_lr_scales_native_weight_decay():
    cls = own.extend_with_piecewise_linear_lr(SGD)
    optimizer = cls(RATE, lr_schedule={2: 1}, weight_decay=0.5)
    rates = np.array([0, 0.5, 1]) * RATE

    def rule(i, step, theta, g):
        return theta * (1 - rates[step] * 0.5) - rates[step] * g

    sequence = make_gradients(3)
    assert_path(run(optimizer, sequence), sgd_path(sequence, rule))


@pytest.mark.parametrize(
    ("schedule", "from_zero", "expected"),
    [
        ({2: 1, 4: 0}, True, [0, 0.5, 1, 0.5, 0, 0]),
        ({2: 1, 4: 0}, False, [1, 1, 1, 0.5, 0, 0]),
        ({0: 3}, True, [3, 3, 3, 3, 3, 3]),
        ({0: 1, 4: 3}, True, [1, 1.5, 2, 2.5, 3, 3]),
    ],
)
def test_piecewise_linear(schedule, from_zero, expected):
    found = [float(own.piecewise_linear(t, schedule, from_zero)) for t in range(6)]
    assert found == pytest.approx(expected)


def test_lookahead():
    optimizer = own.extend_with_lookahead(SGD)(
        RATE, steps_per_slow_update=3, slow_step_size=0.4
    )
    slow = values(make_variables())

    def rule(i, step, theta, g):
        theta = theta - RATE * g
        if step % 3 == 2:
            slow[i] = theta = slow[i] + 0.4 * (theta - slow[i])
        return theta

    sequence = make_gradients(8)
    assert_path(run(optimizer, sequence), sgd_path(sequence, rule))


def test_lookahead_starts_at_weights_loaded_after_build():
    optimizer = own.extend_with_lookahead(SGD)(
        RATE, steps_per_slow_update=1, slow_step_size=0.5
    )
    variable = keras.Variable(np.zeros(3, "float32"))
    optimizer.build([variable])
    variable.assign(np.full(3, 5.0))
    optimizer.apply(as_tensors([np.ones(3)]))
    np.testing.assert_allclose(variable, np.full(3, 5 - RATE / 2), rtol=1e-6)


def test_lookahead_starts_before_native_weight_decay():
    optimizer = own.extend_with_lookahead(SGD)(
        RATE, steps_per_slow_update=1, slow_step_size=0.5, weight_decay=1.0
    )
    variable = keras.Variable(np.full(3, 5.0, "float32"))
    optimizer.apply(as_tensors([np.zeros(3)]), [variable])
    np.testing.assert_allclose(variable, np.full(3, 5 - 0.5 * RATE * 5), rtol=1e-6)


@pytest.mark.parametrize("native", [{}, {"weight_decay": 0.1}])
@pytest.mark.parametrize("base", ["SGD", "Adam", "Lamb"])
def test_lazy_optimization_moves_no_row_without_gradient(base, native):
    chain = ("weight_decay", "layer_adaptation", "lazy_optimization")
    optimizer = derive(base, chain, **native)
    variables = make_variables()
    for gradients in make_gradients(4):
        before = values(variables)
        run(optimizer, [gradients], variables)
        moved = (values(variables)[EMBEDDING] != before[EMBEDDING]).any(axis=1)
        touched = gradients[EMBEDDING].any(axis=1)
        np.testing.assert_array_equal(moved, touched)
        assert (values(variables)[KERNEL] != before[KERNEL]).all()


def test_lazy_optimization_masks_the_change_only():
    sequence = make_gradients(5)
    cls, arguments = make_base("SGD")
    lazy, own_arguments = extend_with(cls, ("lazy_optimization",))
    momentum = np.zeros_like(sequence[0][EMBEDDING], dtype="float64")
    theta = values(make_variables())[EMBEDDING]
    path = run(lazy(**arguments, **own_arguments), sequence)
    for step, gradients in enumerate(sequence):
        g = gradients[EMBEDDING]
        momentum = 0.9 * momentum - 0.01 * g
        theta = theta + momentum * g.any(axis=1, keepdims=True)
        np.testing.assert_allclose(path[step][EMBEDDING], theta, rtol=1e-5, atol=1e-6)


def test_exponential_moving_average():
    optimizer = own.extend_with_exponential_moving_average(SGD)(RATE, ema_momentum=0.7)
    variables = make_variables()
    sequence = make_gradients(5)
    path = run(optimizer, sequence, variables)
    averages = [np.zeros_like(v, dtype="float64") for v in path[0]]
    for step in path:
        averages = [0.7 * a + 0.3 * v for a, v in zip(averages, step, strict=True)]
    optimizer.apply_ema_weights(bias_correction=False)
    assert_path([values(variables)], [averages])
    optimizer.reset_old_weights()
    assert largest_difference(values(variables), path[-1]) == 0
    optimizer.apply_ema_weights()
    assert_path([values(variables)], [[a / (1 - 0.7**5) for a in averages]])


def test_averages_are_of_the_final_weights_wherever_applied():
    sequence = make_gradients(4)
    results = []
    for chain in (
        ("exponential_moving_average", "weight_decay", "lookahead"),
        ("weight_decay", "lookahead", "exponential_moving_average"),
    ):
        optimizer = derive("SGD", chain)
        variables = make_variables()
        run(optimizer, sequence, variables)
        optimizer.apply_ema_weights()
        results.append(values(variables))
    assert largest_difference(*results) == 0


def test_no_average_leaves_the_weights():
    optimizer = own.extend_with_exponential_moving_average(SGD)(RATE)
    variables = make_variables()
    optimizer.build(variables)
    optimizer.apply_ema_weights()
    assert largest_difference(values(variables), values(make_variables())) == 0
    optimizer.reset_old_weights()
    gradients = as_tensors(make_gradients(1)[0])
    gradients[KERNEL] = None
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply(gradients, variables)
    optimizer.apply_ema_weights()
    found, start = values(variables)[KERNEL], values(make_variables())[KERNEL]
    np.testing.assert_array_equal(found, start)


def test_averages_of_an_optimizer_that_never_ran():
    optimizer = own.extend_with_exponential_moving_average(SGD)(RATE)
    optimizer.apply_ema_weights()
    optimizer.reset_old_weights()


def first_gradient_comes_late(optimizer, late=2, steps=5):
    """Runs a variable from step 0 and one from step `late`; the latter's path."""
    first, second = keras.Variable([1.0]), keras.Variable([10.0])
    optimizer.build([first, second])
    path = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Gradients do not exist")
        for step in range(steps):
            gradient = keras.ops.ones(1)
            late_one = gradient if step >= late else None
            optimizer.apply([gradient, late_one], [first, second])
            path.append(float(keras.ops.convert_to_numpy(second)[0]))
    return second, path


def test_lookahead_starts_a_variable_with_its_first_gradient():
    cls = own.extend_with_lookahead(SGD)
    _, path = first_gradient_comes_late(cls(RATE, steps_per_slow_update=2))
    np.testing.assert_allclose(path, [10, 10, 9.9, 9.9, 9.8], rtol=1e-6)


def test_averages_start_with_the_first_gradient_of_a_variable():
    cls = own.extend_with_exponential_moving_average(SGD)
    optimizer = cls(RATE, ema_momentum=0.5)
    variable, path = first_gradient_comes_late(optimizer)
    average = 0.0
    for value in path[2:]:
        average = 0.5 * average + 0.5 * value
    optimizer.apply_ema_weights()
    found = keras.ops.convert_to_numpy(variable)[0]
    np.testing.assert_allclose(found, average / (1 - 0.5**3), rtol=1e-6)


def test_averages_beside_the_accumulation_of_keras():
    optimizer = own.extend_with_exponential_moving_average(SGD)(
        RATE, ema_momentum=0.5, gradient_accumulation_steps=2
    )
    variable = keras.Variable([1.0])
    for _ in range(4):
        optimizer.apply([keras.ops.ones(1)], [variable])
    optimizer.apply_ema_weights()
    found = keras.ops.convert_to_numpy(variable)[0]
    np.testing.assert_allclose(found, (0.25 * 0.9 + 0.5 * 0.8) / 0.75, rtol=1e-6)


def test_averages_are_put_in_once():
    optimizer = own.extend_with_exponential_moving_average(SGD)(RATE)
    optimizer.build(make_variables())
    with pytest.raises(RuntimeError, match="apply_ema_weights"):
        optimizer.reset_old_weights()
    optimizer.apply_ema_weights()
    with pytest.raises(RuntimeError, match="reset_old_weights"):
        optimizer.apply_ema_weights()


def test_parameter_wise_lr():
    schedule = {"Embedding": 0.5, "kernel": 2, "Dense": 3, "Norm": 0}
    optimizer = own.extend_with_parameter_wise_lr(SGD)(
        RATE, paramwise_lr_schedule=schedule, weight_decay=0.1
    )
    rates = {EMBEDDING: 0.5 * RATE, KERNEL: 6 * RATE, BIAS: 3 * RATE, GAMMA: 0}

    def rule(i, step, theta, g):
        return theta * (1 - 0.1 * rates[i]) - rates[i] * g

    sequence = make_gradients(4)
    assert_path(run(optimizer, sequence), sgd_path(sequence, rule))


@pytest.mark.parametrize("base", ["SGD", "AdamW", "Adafactor", "Ftrl", "Muon"])
@pytest.mark.parametrize("first", [True, False])
def test_multiplier_zero_freezes(base, first):
    others = ("weight_decay", "layer_adaptation", "lookahead")
    chain = ("parameter_wise_lr", *others) if first else (*others, "parameter_wise_lr")
    optimizer = derive(base, chain, paramwise_lr_schedule={"Embedding": 0.0})
    path = run(optimizer, make_gradients(4))
    start = make_variables()
    np.testing.assert_array_equal(path[-1][EMBEDDING], start[EMBEDDING])
    assert (path[-1][KERNEL] != keras.ops.convert_to_numpy(start[KERNEL])).all()


NEUTRAL = {
    "weight_decay_rate": 0,
    "include_in_lazy_optimization": [],
    "paramwise_lr_schedule": {"Dense": 1.0},
    "lr_schedule": {0: 1},
    "exclude_from_layer_adaptation": ["e", "a"],
    "steps_per_slow_update": 1,
    "slow_step_size": 1.0,
    "grad_accum_steps": 1,
}


@pytest.mark.parametrize("base", ["SGD", "AdamW", "Lamb", "Muon", "Adafactor", "Ftrl"])
def test_neutral_arguments_leave_the_base(base):
    chain = (
        *("weight_decay", "layer_adaptation", "piecewise_linear_lr", "lookahead"),
        *("lazy_optimization", "exponential_moving_average", "parameter_wise_lr"),
        "gradient_accumulation",
    )
    cls, arguments = make_base(base, use_ema=True, ema_overwrite_frequency=2)
    sequence = make_gradients(4)
    ours = run(derive(base, chain, **{**arguments, **NEUTRAL}), sequence)
    # The trick's `ema_momentum` is the native one too.
    theirs = run(cls(**arguments, ema_momentum=0.8), sequence)
    for a, b in zip(ours[-1], theirs[-1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("trick", "arguments"),
    [
        ("weight_decay", {"exclude_from_weight_decay": ["nowhere"]}),
        ("layer_adaptation", {"exclude_from_layer_adaptation": ["nowhere"]}),
        ("lazy_optimization", {"include_in_lazy_optimization": ["nowhere"]}),
        ("parameter_wise_lr", {"paramwise_lr_schedule": {"nowhere": 2}}),
    ],
)
def test_a_pattern_that_matches_nothing_warns(trick, arguments):
    cls = getattr(own, f"extend_with_{trick}")(SGD)
    with pytest.warns(UserWarning, match=r"nowhere.*Embedding-Token/embeddings"):
        cls(RATE, **arguments).build(make_variables())


class Bypassing(SGD):
    def update_step(self, gradient, variable, learning_rate):
        variable.assign(variable - learning_rate * gradient)


class Twice(SGD):
    def update_step(self, gradient, variable, learning_rate):
        self.assign_sub(variable, learning_rate * gradient)
        self.assign_sub(variable, learning_rate * gradient)


@pytest.mark.parametrize(
    ("base", "said"), [(Bypassing, r"self\.assign"), (Twice, "twice")]
)
def test_bases_that_cannot_be_derived_say_so(base, said):
    optimizer = own.extend_with_weight_decay(base)(RATE)
    with pytest.raises(NotImplementedError, match=said):
        run(optimizer, make_gradients(1))


@pytest.mark.parametrize(
    ("trick", "name", "value"),
    [
        ("weight_decay", "weight_decay_rate", -0.1),
        ("weight_decay", "weight_decay_rate", "0.1"),
        ("weight_decay", "weight_decay_rate", float("nan")),
        ("weight_decay", "exclude_from_weight_decay", 3),
        ("weight_decay", "exclude_from_weight_decay", ["bias", 3]),
        ("weight_decay", "exclude_from_weight_decay", [""]),
        ("layer_adaptation", "exclude_from_layer_adaptation", {"a": 1}),
        ("piecewise_linear_lr", "lr_schedule", {}),
        ("piecewise_linear_lr", "lr_schedule", {10: 1, 5: 0}),
        ("piecewise_linear_lr", "lr_schedule", {1: 1, "1": 0}),
        ("piecewise_linear_lr", "lr_schedule", {-1: 1}),
        ("piecewise_linear_lr", "lr_schedule", {0.5: 1}),
        ("piecewise_linear_lr", "lr_schedule", {10: -1}),
        ("piecewise_linear_lr", "lr_schedule", [(10, 1)]),
        ("lookahead", "steps_per_slow_update", 0),
        ("lookahead", "slow_step_size", 0),
        ("lookahead", "slow_step_size", 1.1),
        ("lazy_optimization", "include_in_lazy_optimization", [None]),
        ("exponential_moving_average", "ema_momentum", 1.0),
        ("exponential_moving_average", "ema_momentum", -0.1),
        ("parameter_wise_lr", "paramwise_lr_schedule", ["Dense"]),
        ("parameter_wise_lr", "paramwise_lr_schedule", {"Dense": -1}),
        ("parameter_wise_lr", "paramwise_lr_schedule", {3: 1}),
    ],
)
def test_bad_arguments(trick, name, value):
    cls = getattr(own, f"extend_with_{trick}")(SGD)
    with pytest.raises(ValueError, match=name):
        cls(RATE, **{name: value})


def test_a_single_pattern_may_be_a_string():
    cls = own.extend_with_weight_decay(SGD)
    assert cls(exclude_from_weight_decay="bias").get_config()[
        "exclude_from_weight_decay"
    ] == ["bias"]
