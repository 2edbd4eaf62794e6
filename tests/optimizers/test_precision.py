"""Mixed precision: bfloat16, and float16 with a loss scale that overflows."""

import keras
import numpy as np
import pytest
from optimizer_cases import (
    BATCH,
    MICRO_BATCH,
    as_tensors,
    derive,
    largest_difference,
    make_data,
    make_gradients,
    make_model,
    make_variables,
)

CHAIN = ("weight_decay", "gradient_accumulation", "lookahead")
STEPS = 3


@pytest.fixture
def policy():
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("name", ["mixed_bfloat16", "mixed_float16"])
def test_fit_is_one_big_batch(policy, name):
    policy(name)
    weights = []
    for chain, batch in ((CHAIN, MICRO_BATCH), (("weight_decay", "lookahead"), BATCH)):
        more = {"grad_accum_steps": STEPS} if batch == MICRO_BATCH else {}
        model = make_model()
        optimizer = derive("SGD", chain, **more)
        # A scale at which nothing overflows.
        scaled = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=8.0)
        model.compile(scaled if name == "mixed_float16" else optimizer, "mse")
        model.fit(*make_data(), batch, shuffle=False, verbose=0)
        assert int(optimizer.iterations) == 4
        weights.append(model.get_weights())
    # Activations and their gradients are rounded to 16 bits, in another order for
    # another batch: the sums differ by 2^-8 (bfloat16) of a step of up to 0.1.
    assert largest_difference(*weights) < 1e-3
    assert all(np.isfinite(w).all() for w in weights[0])
    assert largest_difference(weights[0], make_model().get_weights()) > 1e-2


def test_sums_of_16_bit_gradients_are_exact_to_32_bits():
    variable = keras.Variable(np.zeros(2), dtype="bfloat16")
    optimizer = derive("SGD", ("gradient_accumulation",), grad_accum_steps=257)
    one = keras.ops.ones(2, dtype="bfloat16")
    optimizer.build([variable])
    for _ in range(256):
        optimizer.apply([one], [variable])
    total = keras.ops.convert_to_numpy(optimizer._gradient_sums[0])
    np.testing.assert_array_equal(total, [256, 256])


def make_step(optimizer, variables):
    """`optimizer.apply`, compiled on JAX."""
    if keras.backend.backend() != "jax":
        return lambda gradients: optimizer.apply(gradients, variables)
    # Keras's LossScaleOptimizer leaks tracers from `apply`; `fit` uses this too.
    import jax

    compiled = jax.jit(optimizer.stateless_apply)

    def step(gradients):
        everything = [*variables, *optimizer.variables]
        state = [v.value for v in optimizer.variables]
        values, state = compiled(state, gradients, [v.value for v in variables])
        for variable, value in zip(everything, [*values, *state], strict=True):
            variable.assign(value)

    return step


@pytest.mark.parametrize("bad", [1, 2])
def test_an_overflowing_micro_batch_is_skipped(bad):
    sequence = make_gradients(7)
    overflowing = [g.copy() for g in sequence[bad]]
    overflowing[1][0, 0] = np.inf
    with_overflow = [*sequence[:bad], overflowing, *sequence[bad:]]

    def train(gradient_sequence):
        inner = derive("Adam", CHAIN, grad_accum_steps=STEPS)
        outer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=4.0)
        variables = make_variables()
        outer.build(variables)
        step = make_step(outer, variables)
        for gradients in gradient_sequence:
            # The scale halves after the overflow, as the loss does with it.
            scale = float(outer.scale_loss(1.0))
            step(as_tensors([g * scale for g in gradients]))
        return [keras.ops.convert_to_numpy(v) for v in variables], inner

    skipped, optimizer = train(with_overflow)
    clean, _ = train(sequence)
    assert int(optimizer.iterations) == 2
    assert largest_difference(skipped, clean) == 0


def test_an_overflow_within_compiled_fit(policy):
    policy("mixed_float16")
    ids, targets = make_data()
    model = make_model()
    inner = derive("Adam", CHAIN, grad_accum_steps=STEPS)
    outer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0**60)
    model.compile(outer, "mse")
    model.fit(ids, targets, MICRO_BATCH, shuffle=False, verbose=0)
    # Every loss was infinite: nothing was counted, nothing moved.
    assert int(inner.iterations) == 0
    assert int(inner._micro_steps) == 0
    assert largest_difference(model.get_weights(), make_model().get_weights()) == 0
    model.fit(ids, targets, MICRO_BATCH, epochs=6, shuffle=False, verbose=0)
    assert int(inner.iterations) > 0
    assert all(np.isfinite(w).all() for w in model.get_weights())


@pytest.mark.parametrize(
    ("base", "dtype"),
    [
        # As Keras's, Adam keeps its moments in the type of the variable, and float16
        # has no squares of small gradients.
        ("bert4keras.Adam", "bfloat16"),
        ("bert4keras.AdaFactor", "bfloat16"),
        ("bert4keras.AdaFactor", "float16"),
    ],
)
def test_variables_of_16_bits_move_as_those_of_32(base, dtype):
    found = []
    for kind in (dtype, "float32"):
        optimizer = derive(base, ())
        variable = keras.Variable(np.ones((4, 4)), dtype=kind)
        for scale in (1e-3, 2e-3, -1e-3):
            gradient = np.full((4, 4), scale)
            optimizer.apply([keras.ops.cast(gradient, kind)], [variable])
        found.append(keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32")))
    # Rounding of three weights near 1 to 8 bits, of the moments too.
    np.testing.assert_allclose(*found, atol=3 * 2**-8)
    assert (found[0] != 1).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_averages_of_16_bit_weights_are_kept_in_32(dtype):
    optimizer = derive("SGD", ("exponential_moving_average",), ema_momentum=0.999)
    variable = keras.Variable(np.ones(3), dtype=dtype)
    for _ in range(600):
        optimizer.apply([keras.ops.zeros(3, dtype)], [variable])
    optimizer.apply_ema_weights()
    found = keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32"))
    np.testing.assert_array_equal(found, 1)


def test_layer_adaptation_of_a_large_float16_variable():
    optimizer = derive("SGD", ("layer_adaptation",), learning_rate=0.25)
    # Its squares sum up to 90,000, where float16 ends at 65,504.
    variable = keras.Variable(np.ones((300, 300)), dtype="float16")
    optimizer.apply([keras.ops.ones((300, 300), "float16")], [variable])
    found = keras.ops.convert_to_numpy(variable).astype("float32")
    np.testing.assert_array_equal(found, 0.75)
