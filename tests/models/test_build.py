"""build_transformer_model: its arguments, and what it says of wrong ones."""

import json

import keras
import numpy as np
import pytest

from bert4keras.models import (
    BERT,
    Transformer,
    build_transformer_model,
    extend_with_language_model,
)

IDS = np.array([[2, 5, 7, 3, 0, 0], [2, 9, 3, 8, 4, 3]])
SEGMENTS = np.array([[0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1]])


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def test_folder_file_and_mapping_are_the_same_model(official_folder, config):
    sources = (
        (official_folder, None),
        (str(official_folder / "bert_config.json"), official_folder),
        (config, str(official_folder / "bert_model.ckpt")),
    )
    outputs = [
        numpy(build_transformer_model(*source)([IDS, SEGMENTS])) for source in sources
    ]
    assert outputs[0].shape == (2, 6, 16)
    for other in outputs[1:]:
        np.testing.assert_array_equal(outputs[0], other)


def test_heads_and_their_order(config):
    def shapes(**kwargs):
        model = build_transformer_model(config, num_hidden_layers=1, **kwargs)
        return [tuple(x.shape) for x in model.outputs]

    assert shapes() == [(None, None, 16)]
    assert shapes(with_pool=True) == [(None, 16)]
    assert shapes(with_nsp=True) == [(None, 2)]
    assert shapes(with_mlm=True) == [(None, None, 30)]
    assert shapes(with_nsp=True, with_mlm=True) == [(None, 2), (None, None, 30)]
    assert shapes(sequence_length=5) == [(None, 5, 16)]


def test_linear_head_gives_the_logits_of_the_probabilities(official_folder):
    probabilities = build_transformer_model(official_folder, with_mlm=True)
    logits = build_transformer_model(official_folder, with_mlm="linear")
    expected = numpy(keras.ops.softmax(logits([IDS, SEGMENTS])))
    np.testing.assert_allclose(
        numpy(probabilities([IDS, SEGMENTS])), expected, atol=1e-6
    )


def test_padding_mask_reaches_what_comes_after(config):
    model = build_transformer_model(config, num_hidden_layers=1)

    class Count(keras.layers.Layer):
        def call(self, inputs, mask=None):
            return keras.ops.sum(keras.ops.cast(mask, "int32"), axis=1)

        def compute_output_shape(self, shape):
            return (shape[0],)

    counts = keras.Model(model.inputs, Count()(model.output))
    assert numpy(counts([IDS, SEGMENTS])).tolist() == [4, 6]
    pooled = keras.layers.GlobalAveragePooling1D()(model.output)
    both = keras.Model(model.inputs, [model.output, pooled])
    hidden, average = map(numpy, both([IDS, SEGMENTS]))
    np.testing.assert_allclose(average[0], hidden[0, :4].mean(0), atol=1e-5)


@pytest.mark.parametrize("kind", ["encoder", "lm", "unilm"])
def test_padding_never_changes_real_tokens(official_folder, kind):
    model = build_transformer_model(official_folder, application=kind, with_mlm=True)
    short = numpy(model([IDS[:1, :4], SEGMENTS[:1, :4]]))
    np.testing.assert_allclose(
        numpy(model([IDS, SEGMENTS]))[0, :4], short[0], atol=2e-6
    )


def test_padding_in_front_with_positions_to_match(official_folder):
    model = build_transformer_model(official_folder, custom_position_ids=True)
    front = np.array([[0, 0, 2, 5, 7, 3]])
    positions = np.array([[0, 0, 0, 1, 2, 3]])
    shifted = numpy(model([front, front * 0, positions]))
    plain = numpy(model([front[:, 2:], front[:, 2:] * 0, positions[:, 2:]]))
    np.testing.assert_allclose(shifted[:, 2:], plain, atol=2e-6)


def test_language_model_cannot_see_the_future(official_folder):
    model = build_transformer_model(official_folder, application="lm")
    changed = IDS.copy()
    changed[:, 3:] = 11
    before, after = (numpy(model([x, SEGMENTS])) for x in (IDS, changed))
    np.testing.assert_allclose(before[:, :3], after[:, :3], atol=1e-6)
    assert np.abs(before[:, 3:] - after[:, 3:]).max() > 1e-3


def test_unilm_source_sees_itself_target_sees_the_past(official_folder):
    model = build_transformer_model(official_folder, application="unilm")

    def outputs(position):
        ids = IDS[1:].copy()
        ids[0, position] = 11
        return numpy(model([ids, SEGMENTS[1:]]))

    plain = numpy(model([IDS[1:], SEGMENTS[1:]]))
    moved = [np.abs(outputs(j) - plain).max(-1)[0] > 1e-5 for j in range(6)]
    sees = np.array(moved).T  # row i, column j: i sees j
    expected = np.zeros((6, 6), dtype=bool)
    expected[:, :2] = True
    for i in range(2, 6):
        expected[i, 2 : i + 1] = True
    np.testing.assert_array_equal(sees, expected)


def test_a_class_or_a_function_as_model(official_folder):
    class Wider(BERT):
        def apply_final_layers(self, inputs):
            x = super().apply_final_layers(inputs)
            return self.apply(inputs=x, layer=keras.layers.Dense, units=3, name="Head")

    model = build_transformer_model(official_folder, model=Wider)
    assert model.output.shape == (None, None, 3)
    builder = build_transformer_model(
        official_folder,
        model=lambda **settings: Wider(**settings),
        return_keras_model=False,
    )
    assert isinstance(builder, Transformer)
    language_model = build_transformer_model(
        official_folder, model=extend_with_language_model(BERT)
    )
    assert language_model.output.shape == (None, None, 30)


def test_layer_names_and_prefix(config):
    builder = build_transformer_model(
        config, prefix="my-", with_mlm=True, return_keras_model=False
    )
    names = [layer.name for layer in builder.model.layers]
    for name in (
        "Embedding-Token",
        "Embedding-Segment",
        "Embedding-Position",
        "Embedding-Norm",
        "Transformer-0-MultiHeadSelfAttention",
        "Transformer-0-MultiHeadSelfAttention-Norm",
        "Transformer-1-FeedForward",
        "Transformer-1-FeedForward-Norm",
        "MLM-Dense",
        "MLM-Norm",
        "MLM-Bias",
        "MLM-Activation",
    ):
        assert f"my-{name}" in names


def test_shared_layers_share_weights(config):
    first = build_transformer_model(config, return_keras_model=False)
    second = build_transformer_model(
        config, layers=first.layers, application="lm", return_keras_model=False
    )
    shared = {id(w) for w in first.model.weights}
    assert {id(w) for w in second.model.weights} >= shared


def test_conditional_normalization_starts_as_the_official_model(official_folder):
    condition = keras.Input((5,), name="Condition")
    model = build_transformer_model(
        official_folder, layer_norm_cond=condition, additional_input_layers=condition
    )
    plain = build_transformer_model(official_folder)
    values = np.random.default_rng(0).normal(size=(2, 5)).astype("float32")
    np.testing.assert_allclose(
        numpy(model([IDS, SEGMENTS, values])),
        numpy(plain([IDS, SEGMENTS])),
        atol=1e-5,
    )


def test_saved_model_loads_without_custom_objects(official_folder, tmp_path):
    model = build_transformer_model(official_folder, with_nsp=True, with_mlm=True)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for found, expected in zip(
        again([IDS, SEGMENTS]), model([IDS, SEGMENTS]), strict=True
    ):
        np.testing.assert_allclose(numpy(found), numpy(expected), atol=1e-6)


def test_mixed_precision_gives_full_precision_probabilities(official_folder):
    plain = build_transformer_model(official_folder, with_mlm=True)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = build_transformer_model(official_folder, with_mlm=True)
        outputs = mixed([IDS, SEGMENTS])
    finally:
        keras.config.set_dtype_policy(before)
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
    assert all(w.dtype == "float32" for w in mixed.trainable_weights)
    # bfloat16 keeps 8 bits; a dozen roundings in a row stay under 2^-4 here.
    assert np.abs(numpy(outputs) - numpy(plain([IDS, SEGMENTS]))).max() < 2**-4


# --- wrong arguments ----------------------------------------------------------------


@pytest.mark.parametrize(
    "change, words",
    [
        ({"model": "bart"}, ["'bart'", "bert"]),
        ({"application": "seq2seq"}, ["'seq2seq'", "unilm"]),
        ({"num_attention_heads": 3}, ["hidden_size=16", "num_attention_heads=3"]),
        ({"hidden_size": 0}, ["hidden_size=0"]),
        ({"num_hidden_layers": "2"}, ["num_hidden_layers='2'"]),
        ({"num_hidden_layers": -1}, ["num_hidden_layers=-1"]),
        ({"max_position": None}, ["max_position=None"]),
        ({"attention_key_heads": 0}, ["attention_key_heads=0"]),
        ({"sequence_length": 0}, ["sequence_length=0"]),
        ({"recompute": "yes"}, ["recompute='yes'", "True"]),
        ({"recompute": [0, 2]}, ["recompute=[0, 2]", "0 to 1"]),
        ({"sequence_length": 21}, ["21", "20", "hierarchical_position"]),
        ({"keep_tokens": [0, 1, 30]}, ["keep_tokens", "30", "29"]),
        ({"compound_tokens": [[1, -1]]}, ["compound_tokens", "-1"]),
        ({"application": "unilm", "segment_vocab_size": 0}, ["segment"]),
    ],
)
def test_wrong_argument(config, change, words):
    with pytest.raises(ValueError) as caught:
        build_transformer_model(config, **change)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize("key", ["vocab_size", "hidden_act", "intermediate_size"])
def test_config_without_a_needed_key(official_folder, tmp_path, config, key):
    del config[key]
    path = tmp_path / "bert_config.json"
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=key) as caught:
        build_transformer_model(path, official_folder)
    assert str(path) in str(caught.value)


def test_config_that_is_no_config(tmp_path):
    for text in ("[1, 2]", "{", ""):
        path = tmp_path / "bert_config.json"
        path.write_text(text)
        with pytest.raises(ValueError, match=r"bert_config\.json"):
            build_transformer_model(path)
    with pytest.raises(FileNotFoundError):
        build_transformer_model(tmp_path / "none.json")


def test_folder_without_config_or_with_several(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"bert_config\.json"):
        build_transformer_model(tmp_path)
    for name in ("a_config.json", "b_config.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match=r"a_config\.json"):
        build_transformer_model(tmp_path)
