"""Lazy optimization of the sparse gradients that TensorFlow hands over."""

import keras
import numpy as np
import pytest
from optimizer_cases import (
    as_tensors,
    derive,
    make_gradients,
    make_variables,
    run,
)


@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize(
    "chain",
    [
        ("lazy_optimization",),
        ("lazy_optimization", "parameter_wise_lr", "piecewise_linear_lr"),
        ("lazy_optimization", "weight_decay"),
        ("lazy_optimization", "exponential_moving_average"),
    ],
    ids="+".join,
)
def test_sparse_gradients_move_what_dense_ones_do(backend, chain, corrected):
    if backend != "tensorflow":
        pytest.skip("only TensorFlow hands over sparse gradients")
    import tensorflow as tf

    sequence = make_gradients(4)
    dense = derive("bert4keras.Adam", chain, bias_correction=corrected)
    sparse = derive("bert4keras.Adam", chain, bias_correction=corrected)
    variables = make_variables()
    step = tf.function(lambda gradients: sparse.apply(gradients, variables))
    for gradients in sequence:
        rows = np.flatnonzero(gradients[0].any(axis=1))
        # One row occurs twice, another one cancels out, a third has a zero.
        other = np.setdiff1d(np.arange(12), rows)[:2]
        indices = np.concatenate([rows, rows, other, other[:1]])
        half = 0.5 * gradients[0][rows]
        ones = np.ones_like(half[:1])
        values = np.concatenate([half, half, ones, 0 * ones, -ones])
        shape = gradients[0].shape
        slices = tf.IndexedSlices(*map(tf.constant, (values, indices, shape)))
        step([slices, *as_tensors(gradients[1:])])
    expected = run(dense, sequence)[-1]
    np.testing.assert_allclose(values_of(variables), values_of(expected), atol=1e-6)


def values_of(variables):
    return np.concatenate([keras.ops.convert_to_numpy(v).ravel() for v in variables])
