import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from bert4keras.masking import (
    causal_mask,
    large_negative,
    sequence_masking,
    unilm_mask,
)

array = ops.convert_to_numpy


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_large_negative_is_finite_and_softmax_makes_it_zero(dtype):
    scores = ops.cast(ops.convert_to_tensor([9.0, large_negative(dtype)]), dtype)
    twice = array(ops.cast(scores[1] + scores[1], "float32"))
    assert np.isfinite(twice)
    assert array(ops.cast(ops.softmax(scores), "float32"))[1] == 0


def test_in_float32_a_score_is_lost_in_it():
    floor = np.float32(large_negative("float32"))
    assert floor + np.float32(1e6) == floor


@given(st.integers(1, 6))
@settings(max_examples=6)
def test_causal_mask_is_the_lower_triangle(length):
    np.testing.assert_array_equal(
        array(causal_mask(length)), np.tril(np.ones((length, length), bool))
    )


@given(st.integers(1, 4), st.integers(0, 4))
@settings(max_examples=10)
def test_unilm_mask_reads_source_both_ways_and_target_from_the_left(source, target):
    segments = np.array([[0] * source + [1] * target])
    length = source + target
    expected = np.tril(np.ones((length, length), bool))
    expected[:, :source] = True
    np.testing.assert_array_equal(array(unilm_mask(segments))[0], expected)


MASK = np.array([[1, 1, 0], [1, 0, 0]], "bool")


@pytest.mark.parametrize("axis", [1, 2, -1, -2, 3])
@pytest.mark.parametrize("value", [0, -3.5, "-inf", "inf"])
def test_sequence_masking_by_brute_force(axis, value):
    x = np.random.RandomState(0).normal(size=(2, 3, 3, 3)).astype("float32")
    found, mask = sequence_masking(x, MASK, value, axis, return_mask=True)
    expected = x.copy()
    number = {"inf": 1e30, "-inf": -1e30}.get(value, value)
    for sample in range(2):
        for position in range(3):
            if not MASK[sample, position]:
                np.moveaxis(expected[sample], axis - 1 if axis > 0 else axis, 0)[
                    position
                ] = number
    np.testing.assert_array_equal(array(found), expected)
    shape = [2, 1, 1, 1]
    shape[axis] = 3
    assert tuple(mask.shape) == tuple(shape)


def test_sequence_masking_adds_a_bias_and_takes_no_mask():
    x = ops.ones((2, 3))
    np.testing.assert_array_equal(array(sequence_masking(x)), array(x))
    np.testing.assert_array_equal(
        array(sequence_masking(x, MASK, bias=2.0)), np.where(MASK, 3, 0)
    )


@pytest.mark.parametrize("axis", [0, 3, -3, -4])
def test_sequence_masking_refuses_other_axes(axis):
    with pytest.raises(ValueError, match=f"axis={axis}"):
        sequence_masking(np.ones((2, 3, 3), "float32"), MASK, axis=axis)
