"""Every recorded trajectory of bert4keras 0.11.5, at every step."""

import json

import keras
import numpy as np
import pytest
from optimizer_cases import as_tensors

from bert4keras import optimizers

CASES = [
    *["AdaFactor", "AdaFactor_momentum", "AdaFactor_relative"],
    *["Adam", "Adam_nobias", "Lion", "SGD"],
    *[
        f"{base}+{trick}"
        for base in ("Adam", "SGD")
        for trick in (
            "exponential_moving_average",
            "layer_adaptation",
            "lazy_optimization",
            "parameter_wise_lr",
            "piecewise_linear_lr",
            "weight_decay",
        )
    ],
    "Adam+lazy_optimization+exponential_moving_average",
    "Adam+weight_decay+layer_adaptation",
    "Adam+weight_decay+layer_adaptation+piecewise_linear_lr",
    "Adam+weight_decay+piecewise_linear_lr",
]
# That release replaces the function by which an optimizer writes its variables, which
# the fused SGD kernel of TensorFlow never calls: these four are plain SGD in truth.
# What the tricks do on SGD is compared with their formulas in test_tricks.py.
WITHOUT_EFFECT = {
    f"SGD+{trick}"
    for trick in (
        "layer_adaptation",
        "lazy_optimization",
        "parameter_wise_lr",
        "weight_decay",
    )
}
BASES = {
    "AdaFactor": optimizers.AdaFactor,
    "Adam": optimizers.Adam,
    "Lion": optimizers.LionV2,
    "SGD": keras.optimizers.SGD,
}


def make_optimizer(case):
    cls = BASES[case["base"].partition("_")[0]]
    for trick in case["chain"]:
        cls = getattr(optimizers, f"extend_with_{trick}")(cls)
    return cls(**case["base_args"], **case["args"])


def make_named(name, value):
    layer, _, last = name.partition("/")
    with keras.name_scope(layer):
        return keras.Variable(value, name=last)


def test_no_recorded_case_is_left_out(reference):
    recorded = (reference / "optimizers-0.11.5").glob("*.json")
    assert sorted(path.stem for path in recorded) == sorted(CASES)


@pytest.mark.parametrize("name", CASES)
def test_trajectory(reference, name):
    folder = reference / "optimizers-0.11.5"
    case = json.loads((folder / f"{name}.json").read_text())
    arrays = np.load(folder / f"{name}.npz")
    if name in WITHOUT_EFFECT:
        case.update(chain=[], args={})
    optimizer = make_optimizer(case)
    variables = [
        make_named(path, arrays[f"start_{i}"]) for i, path in enumerate(case["names"])
    ]
    for step in range(len(arrays["grads_0"])):
        gradients = [arrays[f"grads_{i}"][step] for i in range(len(variables))]
        optimizer.apply(as_tensors(gradients), variables)
        for i, variable in enumerate(variables):
            value = keras.ops.convert_to_numpy(variable)
            expected = arrays[f"path_{i}"][step]
            np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)
    if "ema_0" in arrays:
        optimizer.apply_ema_weights()
        for i, variable in enumerate(variables):
            value = keras.ops.convert_to_numpy(variable)
            np.testing.assert_allclose(value, arrays[f"ema_{i}"], rtol=1e-5, atol=1e-5)
