"""Every base, every trick, many compositions: micro-batches are one big batch."""

import keras
import numpy as np
import pytest
from optimizer_cases import (
    BASES,
    COMPOSITIONS,
    OTHER_BASES,
    TRICKS,
    as_tensors,
    compiled_runs,
    derive,
    largest_difference,
    make_gradients,
    make_variables,
    run,
)

SAME = 1e-6
STEPS = 2
UPDATES = 4


def sparse(rows):
    """An embedding's gradient as TensorFlow gives it when tokens occur twice."""
    import tensorflow as tf

    touched = np.flatnonzero(rows.any(axis=1))
    indices = np.concatenate([touched, touched])
    values = np.concatenate([0.25 * rows[touched], 0.75 * rows[touched]])
    return tf.IndexedSlices(tf.constant(values), tf.constant(indices), rows.shape)


def sequences():
    """Micro-batch gradients and those of the big batches, as the backend has them."""
    micro = [as_tensors(g) for g in make_gradients(STEPS * UPDATES)]
    groups = [micro[i : i + STEPS] for i in range(0, len(micro), STEPS)]
    big = [
        [sum(parts[1:], parts[0]) / STEPS for parts in zip(*group, strict=True)]
        for group in groups
    ]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        for gradients in micro:
            gradients[0] = sparse(gradients[0].numpy())
        for group, gradients in zip(groups, big, strict=True):
            slices = [g[0] for g in group]
            gradients[0] = tf.IndexedSlices(
                tf.concat([s.values for s in slices], 0) / STEPS,
                tf.concat([s.indices for s in slices], 0),
                slices[0].dense_shape,
            )
    return micro, big


def apply_all(optimizer, sequence):
    variables = make_variables()
    for gradients in sequence:
        optimizer.apply(gradients, variables)
    if hasattr(optimizer, "apply_ema_weights"):
        weights = [keras.ops.convert_to_numpy(v).copy() for v in variables]
        optimizer.apply_ema_weights()
        return weights + [keras.ops.convert_to_numpy(v) for v in variables]
    return [keras.ops.convert_to_numpy(v) for v in variables]


def with_accumulation(tricks, place):
    return (*tricks[:place], "gradient_accumulation", *tricks[place:])


CHAINS = [(), *((trick,) for trick in TRICKS), *COMPOSITIONS]


@pytest.mark.parametrize("chain", CHAINS, ids="+".join)
def test_every_base_and_chain(chain):
    micro, big = sequences()
    for number, base in enumerate(BASES):
        tricks = with_accumulation(chain, number % (len(chain) + 1))
        ours = derive(base, tricks, grad_accum_steps=STEPS)
        accumulated = apply_all(ours, micro)
        at_once = apply_all(derive(base, chain), big)
        difference = largest_difference(accumulated, at_once)
        assert difference < SAME, f"{base}: {difference}"
        assert int(ours.iterations) == UPDATES


@pytest.mark.parametrize("base", OTHER_BASES)
def test_all_tricks_at_once_on_other_bases(base):
    micro, big = sequences()
    chain = tuple(TRICKS)
    tricks = ("gradient_accumulation", *chain)
    # Ftrl divides by the learning rate, which must not start from 0.
    more = {"lr_schedule": {0: 0.5, 2: 1, 4: 0.5}}
    ours = derive(base, tricks, grad_accum_steps=STEPS, **more)
    ours, at_once = apply_all(ours, micro), apply_all(derive(base, chain, **more), big)
    assert all(np.isfinite(weights).all() for weights in ours)
    assert largest_difference(ours, at_once) < SAME


@pytest.mark.parametrize("number", range(len(CHAINS)))
def test_compiled_as_eager(number):
    chain = CHAINS[number]
    base = list(BASES)[number % len(BASES)]
    tricks = with_accumulation(chain, len(chain) // 2)
    sequence = make_gradients(STEPS * 2)
    eager = run(derive(base, tricks, grad_accum_steps=STEPS), sequence)[-1]
    for compiled in compiled_runs(
        lambda: derive(base, tricks, grad_accum_steps=STEPS), sequence
    ):
        assert largest_difference(compiled, eager) < SAME
