import math

import keras
import numpy as np
import pytest
from keras import ops

from bert4keras import activations
from tests.gradients import gradients

SQRT_2_OVER_PI = math.sqrt(2 / math.pi)


def exact(x):
    """x Phi(x) and its derivative Phi(x) + x phi(x), in float64."""
    phi = np.vectorize(math.erfc)(-x / math.sqrt(2)) / 2
    return x * phi, phi + x * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def by_sigmoid(x, u, slope):
    """x sigmoid(u(x)) and its derivative; tanh's form has twice its argument as u."""
    u = np.clip(u, -700, 700)
    sigmoid = 1 / (1 + np.exp(-u))
    # 1 - sigmoid would cancel.
    inner = np.where(np.abs(u) < 700, x * slope, 0) * sigmoid / (1 + np.exp(u))
    return x * sigmoid, sigmoid + inner


def tanh_form(x):
    c = np.clip(x, -1e3, 1e3)  # saturated long before
    u = 2 * SQRT_2_OVER_PI * (c + 0.044715 * c**3)
    return by_sigmoid(x, u, 2 * SQRT_2_OVER_PI * (1 + 3 * 0.044715 * c**2))


def sigmoid_form(x):
    return by_sigmoid(x, 1.702 * x, 1.702)


FORMS = {
    "gelu_erf": exact,
    "gelu_tanh": tanh_form,
    "gelu_sigmoid": sigmoid_form,
}
EPSILON = {"float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10}


def finite_numbers(dtype):
    """All finite numbers of 16 bits; for float32, 65,536 of them over all exponents."""
    bits = np.arange(2**16, dtype="uint32")
    if dtype == "float16":
        numbers = bits.astype("uint16").view("float16").astype("float32")
    else:
        # The upper half of a float32 is a bfloat16; the lower half is arbitrary.
        low = bits * 2654435761 % 2**16 if dtype == "float32" else 0
        numbers = (bits * 2**16 + low).astype("uint32").view("float32")
    return numbers[np.isfinite(numbers)]


@pytest.mark.parametrize("dtype", EPSILON)
@pytest.mark.parametrize("name", FORMS)
def test_value_and_gradient_over_the_whole_dtype(name, dtype):
    x = finite_numbers(dtype)
    function, form = getattr(activations, name), FORMS[name]
    with np.errstate(all="ignore"):
        value, slope = form(x.astype("float64"))
    tensor = ops.cast(ops.convert_to_tensor(x), dtype)
    found = function(tensor)
    assert keras.backend.standardize_dtype(found.dtype) == dtype
    found = ops.convert_to_numpy(ops.cast(found, "float32"))
    assert np.all(np.isfinite(found))
    # 1e-6: what 1 + erf(x) loses in float32 where it is nearly 0.
    np.testing.assert_allclose(found, value, rtol=4 * EPSILON[dtype], atol=1e-6)

    (found,) = gradients(lambda t: ops.sum(ops.cast(function(t), "float32")), [tensor])
    assert np.all(np.isfinite(found))
    np.testing.assert_allclose(found, slope, rtol=4 * EPSILON[dtype], atol=2e-6)


def test_set_gelu_says_what_gelu_is():
    custom_objects = keras.saving.get_custom_objects()
    before = dict(custom_objects)
    try:
        custom_objects.pop("gelu", None)
        assert activations.get("gelu") is activations.gelu_erf
        for version in ("erf", "tanh", "sigmoid"):
            activations.set_gelu(version)
            function = getattr(activations, f"gelu_{version}")
            assert activations.get("gelu") is function
            assert activations.get(f"gelu_{version}") is function
    finally:
        custom_objects.clear()
        custom_objects.update(before)


def test_set_gelu_refuses_other_versions():
    with pytest.raises(ValueError, match="'exact'"):
        activations.set_gelu("exact")


@pytest.mark.parametrize("name", [*FORMS, "relu", "swish", None])
def test_serialized_activations_come_back(name):
    function = activations.get(name)
    assert activations.get(activations.serialize(function)) is function


def test_unknown_activation():
    with pytest.raises(ValueError, match="no_such"):
        activations.get("no_such")
