"""Layers and losses against recorded answers of bert4keras 0.11.5."""

import json

import keras
import numpy as np
import pytest

from bert4keras import activations, layers, losses

LAYER_CASES = (
    "feed_forward",
    "feed_forward_gated",
    "gau",
    "gau_bias_dropoutless",
    "global_average_pooling",
    "global_max_pooling",
    "layer_norm",
    "layer_norm_conditional",
    "layer_norm_no_centre",
    "layer_norm_rms_bias_only",
    "position_embedding",
    "position_embedding_hierarchical",
    "relative_position_embedding",
    "relative_position_embedding_t5",
    "sinusoidal_position_embedding",
)


@pytest.fixture
def exact_gelu():
    """What the recording program had for "gelu"."""
    before = dict(keras.saving.get_custom_objects())
    activations.set_gelu("erf")
    yield
    keras.saving.get_custom_objects().clear()
    keras.saving.get_custom_objects().update(before)


def read_case(reference, name):
    folder = reference / "heads-0.11.5"
    case = json.loads((folder / f"{name}.json").read_text())
    with np.load(folder / f"{name}.npz") as arrays:
        return case, dict(arrays)


@pytest.mark.parametrize("name", LAYER_CASES)
def test_layer_agrees_with_the_recorded_answer(reference, exact_gelu, name):
    case, arrays = read_case(reference, name)
    arguments = dict(case["config"])
    layer = getattr(layers, arguments.pop("layer"))(**arguments)
    inputs = [
        keras.ops.convert_to_tensor(arrays[key])
        for key in sorted(arrays)
        if key.startswith("in_")
    ]
    inputs = inputs[0] if len(inputs) == 1 else inputs
    shape = [x.shape for x in inputs] if isinstance(inputs, list) else inputs.shape
    layer.build(shape)
    weights = [arrays[f"weight_{i}"] for i in range(len(case["weights"]))]
    assert len(layer.weights) == len(weights)
    layer.set_weights(weights)

    takes_mask = name.startswith(("gau", "global"))
    mask = {"mask": keras.ops.convert_to_tensor(arrays["mask"])} if takes_mask else {}
    output = keras.ops.convert_to_numpy(layer(inputs, **mask))

    np.testing.assert_allclose(output, arrays["out_0"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("scores", "targets", "expected"),
    [
        ("scores", "hard", "hard_loss"),
        ("scores", "soft", "soft_loss"),
        ("scores_inf", "hard_inf", "hard_inf_loss"),
    ],
)
def test_multilabel_loss_agrees(reference, scores, targets, expected):
    arrays = read_case(reference, "multilabel")[1]
    loss = losses.multilabel_categorical_crossentropy(arrays[targets], arrays[scores])
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(loss), arrays[expected], rtol=1e-5
    )


@pytest.mark.parametrize(
    ("targets", "expected", "mask_zero"),
    [
        ("positive_ids", "sparse_mask_zero_loss", True),
        ("positive_ids_full", "sparse_loss", False),
    ],
)
def test_sparse_multilabel_loss_agrees(reference, targets, expected, mask_zero):
    arrays = read_case(reference, "multilabel")[1]
    loss = losses.sparse_multilabel_categorical_crossentropy(
        arrays[targets], arrays["scores"], mask_zero=mask_zero
    )
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(loss), arrays[expected], rtol=1e-5
    )
