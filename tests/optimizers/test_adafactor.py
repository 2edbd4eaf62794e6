"""AdaFactor and Lion by themselves; test_other_implementations.py has numbers."""

import keras
import numpy as np
import pytest
from optimizer_cases import as_tensors, largest_difference, make_gradients, run

from bert4keras import optimizers as own
from bert4keras.optimizers import AdaFactor, Lion

HIDDEN, INNER = 768, 3072
BERT_BASE = [
    *[(21128, HIDDEN), (512, HIDDEN), (2, HIDDEN), (HIDDEN,), (HIDDEN,)],
    *([(HIDDEN, HIDDEN), (HIDDEN,)] * 4) * 12,
    *[(HIDDEN, INNER), (INNER,), (INNER, HIDDEN), (HIDDEN,)] * 12,
    *[(HIDDEN,)] * 4 * 12,
]


def test_state_is_under_one_percent_of_adam():
    optimizer = AdaFactor()
    adafactor = adam = 0
    for shape in BERT_BASE:
        size = int(np.prod(shape))
        axes = optimizer.factored_axes(shape)
        adafactor += sum(size // shape[axis] for axis in axes) if axes else size
        adam += 2 * size
    assert adafactor < 0.01 * adam


def test_builds_what_the_shapes_promise():
    variable = keras.Variable(np.ones((6, 3, 5), "float32"))
    optimizer = AdaFactor(min_dim_size_to_factor=4)
    optimizer.build([variable])
    shapes = [tuple(v.shape) for v in optimizer.variables]
    assert shapes[2:] == [(6, 3, 1), (1, 3, 5)]
    with_mean = AdaFactor(min_dim_size_to_factor=6, beta1=0.9)
    with_mean.build([variable])
    assert [tuple(v.shape) for v in with_mean.variables][2:] == [(6, 3, 5)] * 2


@pytest.mark.parametrize(
    ("shape", "least", "axes"),
    [
        ((7,), 1, None),
        ((3, 7), 4, None),
        ((4, 7), 4, (0, 1)),
        ((7, 4), 4, (1, 0)),
        ((2, 9, 5), 4, (2, 1)),
        ((8, 8), 4, (0, 1)),
    ],
)
def test_factored_axes(shape, least, axes):
    assert AdaFactor(min_dim_size_to_factor=least).factored_axes(shape) == axes


def test_excluded_from_the_parameter_scale():
    with keras.name_scope("Norm"):
        scale = keras.Variable(np.full(4, 5.0, "float32"), name="gamma")
    with keras.name_scope("Dense"):
        kernel = keras.Variable(np.full(4, 5.0, "float32"), name="kernel")
    optimizer = AdaFactor(0.1, exclude_from_parameter_scale=["Norm"])
    optimizer.apply(as_tensors([np.ones(4, "float32")] * 2), [scale, kernel])
    np.testing.assert_allclose(scale, np.full(4, 4.9), rtol=1e-6)
    np.testing.assert_allclose(kernel, np.full(4, 4.5), rtol=1e-6)


@pytest.mark.parametrize("scale", [True, False])
def test_relative_step(scale):
    optimizer = AdaFactor(learning_rate=None, multiply_by_parameter_scale=scale)
    factor = 1.0 if scale else 0.05
    for step in (1, 100, 40000):
        optimizer.iterations.assign(step - 1)
        expected = factor * min(0.01, step**-0.5)
        assert float(optimizer.learning_rate) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "optimizer",
    [
        AdaFactor(None, beta1=0.9, beta2=0.99, exclude_from_parameter_scale=["bias"]),
        AdaFactor(0.1, clipping_threshold=None, min_dim_size_to_factor=4),
        Lion(0.1, 0.8, 0.9, clipnorm=1.0),
    ],
)
def test_config_round_trip(optimizer):
    config = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()
    sequence = make_gradients(3)
    assert (
        largest_difference(run(again, sequence)[-1], run(optimizer, sequence)[-1]) == 0
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("beta1", 1.0), ("beta1", -1), ("beta2", 1.5), ("beta2", "x")],
        *[("epsilon1", 0), ("epsilon2", -1), ("clipping_threshold", 0)],
        *[("min_dim_size_to_factor", 0), ("exclude_from_parameter_scale", [1])],
    ],
)
def test_bad_arguments(name, value):
    with pytest.raises(ValueError, match=name):
        AdaFactor(**{name: value})


@pytest.mark.parametrize("name", ["beta_1", "beta_2"])
@pytest.mark.parametrize("value", [1.0, -0.1, None])
def test_bad_arguments_of_lion(name, value):
    with pytest.raises(ValueError, match=name):
        Lion(**{name: value})


def test_names_of_earlier_releases():
    assert own.AdaFactorV1 is own.AdaFactorV2 is AdaFactor
    assert own.LionV2 is Lion
    for name in own.__all__:
        assert getattr(own, name.removesuffix("_v2")) is getattr(own, name) or (
            name == "LionV2"
        )

    @own.export_to_custom_objects
    def extend_with_nothing(BaseOptimizer):  # noqa: N803
        class NewOptimizer(BaseOptimizer):
            pass

        return NewOptimizer

    cls = extend_with_nothing(own.Adam, name="ScriptedAdam")
    assert cls.__name__ == "ScriptedAdam"
    assert type(keras.optimizers.get("ScriptedAdam")) is cls


def test_a_pattern_that_matches_nothing_warns():
    optimizer = own.AdaFactor(exclude_from_parameter_scale=["Nrom"])
    with pytest.warns(UserWarning, match=r"'Nrom' of `exclude_from.*: kernel"):
        optimizer.build([keras.Variable(np.ones((2, 3)), name="kernel")])
