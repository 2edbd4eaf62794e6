"""Weights in and out of official checkpoints."""

import json
import shutil

import keras
import numpy as np
import pytest

from bert4keras.checkpoints import CheckpointError, CheckpointReader
from bert4keras.models import BERT, build_transformer_model

TABLE = "bert/embeddings/word_embeddings"


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def state(model):
    return [numpy(w).copy() for w in model.weights]


@pytest.fixture
def arrays(official_folder):
    """All variables of the official folder, as arrays that may be changed."""
    reader = CheckpointReader(official_folder)
    return {name: np.array(reader[name]) for name in reader}


@pytest.fixture
def builder(config):
    """A randomly initialised builder with every head."""
    return build_transformer_model(
        config, with_nsp=True, with_mlm=True, return_keras_model=False
    )


def test_every_weight_is_the_checkpoints(official_folder, arrays):
    model = build_transformer_model(official_folder, with_nsp=True, with_mlm=True)
    layer = model.get_layer
    pairs = [
        (layer("Embedding-Token").embeddings, arrays[TABLE]),
        (layer("NSP-Proba").kernel, arrays["cls/seq_relationship/output_weights"].T),
        (
            layer("Transformer-1-MultiHeadSelfAttention").key_dense.kernel,
            arrays["bert/encoder/layer_1/attention/self/key/kernel"],
        ),
    ]
    for weight, array in pairs:
        np.testing.assert_array_equal(numpy(weight), array)
    total = sum(array.size for array in arrays.values())
    assert total == sum(np.prod(w.shape) for w in model.weights)


def test_written_checkpoint_is_the_one_that_was_read(official_folder, arrays, tmp_path):
    builder = build_transformer_model(
        official_folder, with_nsp=True, with_mlm=True, return_keras_model=False
    )
    builder.save_weights_as_checkpoint(tmp_path / "again.ckpt")
    again = CheckpointReader(tmp_path / "again.ckpt")
    assert sorted(again) == sorted(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array)
    builder.save_weights_as_checkpoint(tmp_path / "half.ckpt", dtype="float16")
    half = CheckpointReader(tmp_path / "half.ckpt")
    assert {half.dtype(name) for name in half} == {np.dtype("float16")}


def test_loaded_weights_have_memory_of_their_own(config, arrays):
    builder = build_transformer_model(config, return_keras_model=False)
    builder.load_weights_from_checkpoint(arrays)
    before = state(builder.model)
    for array in arrays.values():
        array[...] = 9
    for found, expected in zip(state(builder.model), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_training_leaves_the_checkpoint_alone(official_folder):
    prefix = official_folder / "bert_model.ckpt"
    before = prefix.with_name(prefix.name + ".data-00000-of-00001").read_bytes()
    model = build_transformer_model(official_folder, with_pool=True)
    start = numpy(model.get_layer("Pooler-Dense").kernel).copy()
    model.compile("sgd", "mse")
    ids = np.array([[2, 3, 4, 5]])
    model.fit([ids, ids * 0], np.ones((1, 16)), verbose=0)
    assert np.abs(numpy(model.get_layer("Pooler-Dense").kernel) - start).max() > 0
    after = prefix.with_name(prefix.name + ".data-00000-of-00001").read_bytes()
    assert after == before


def test_weights_of_a_checkpoint_are_never_randomly_initialised(official_folder):
    calls = []

    class Counting(keras.initializers.TruncatedNormal):
        def __call__(self, shape, dtype=None, **kwargs):
            calls.append(tuple(shape))
            return super().__call__(shape, dtype=dtype, **kwargs)

    class Watched(BERT):
        @property
        def initializer(self):
            return Counting(stddev=0.02)

        def apply_final_layers(self, inputs):
            return self.apply(
                inputs=inputs,
                layer=keras.layers.Dense,
                units=3,
                kernel_initializer=self.initializer,
                name="New",
            )

    build_transformer_model(official_folder, model=Watched)
    assert calls == [(16, 3)]


def test_no_part_of_the_random_state_is_lost(config, official_folder):
    """Dropout's seed generators are variables too, and start at the right values."""
    keras.utils.set_random_seed(3)
    plain = build_transformer_model(config)
    keras.utils.set_random_seed(3)
    loaded = build_transformer_model(config, official_folder)
    seeds = [[v for v in m.variables if "seed" in v.path] for m in (plain, loaded)]
    assert len(seeds[0]) == len(seeds[1]) > 0
    for first, second in zip(*seeds, strict=True):
        assert first.dtype == second.dtype
        assert numpy(second).shape == (2,)


def test_keep_and_compound_tokens(official_folder, arrays):
    kept = [0, 3, 5, 7]
    model = build_transformer_model(
        official_folder,
        keep_tokens=kept,
        compound_tokens=[[1, 2], ([1, 3], [0.25, 0.75])],
        with_mlm=True,
    )
    for weight, name in (
        (model.get_layer("Embedding-Token").embeddings, TABLE),
        (model.get_layer("MLM-Bias").beta, "cls/predictions/output_bias"),
    ):
        rows = arrays[name][kept]
        more = [(rows[1] + rows[2]) / 2, 0.25 * rows[1] + 0.75 * rows[3]]
        expected = np.concatenate([rows, more])
        np.testing.assert_allclose(numpy(weight), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", [np.array, tuple])
def test_kept_tokens_of_any_sequence(official_folder, arrays, kind):
    model = build_transformer_model(official_folder, keep_tokens=kind([0, 3, 5]))
    table = numpy(model.get_layer("Embedding-Token").embeddings)
    np.testing.assert_array_equal(table, arrays[TABLE][[0, 3, 5]])


def test_kept_tokens_give_the_same_hidden_states(official_folder):
    kept = [0, 2, 3, 5, 7, 9]
    small = build_transformer_model(official_folder, keep_tokens=kept)
    large = build_transformer_model(official_folder)
    ids = np.array([[1, 4, 5, 2, 0]])
    np.testing.assert_allclose(
        numpy(small([ids, ids * 0])),
        numpy(large([np.array(kept)[ids], ids * 0])),
        atol=1e-6,
    )


def test_fewer_layers_and_a_mapping_of_ones_own(official_folder, config, arrays):
    first = build_transformer_model(official_folder, num_hidden_layers=1)
    assert len(first.weights) < len(build_transformer_model(official_folder).weights)
    builder = build_transformer_model(config, return_keras_model=False)
    before = state(builder.model)
    builder.load_weights_from_checkpoint(
        arrays, {"Embedding-Segment": ["bert/embeddings/token_type_embeddings"]}
    )
    changed = [
        w.path
        for w, old in zip(builder.model.weights, before, strict=True)
        if not np.array_equal(numpy(w), old)
    ]
    assert changed == ["Embedding-Segment/embeddings"]


def test_frozen_layers_load_too(official_folder, config, arrays):
    builder = build_transformer_model(config, return_keras_model=False)
    builder.model.trainable = False
    builder.load_weights_from_checkpoint(official_folder)
    table = builder.model.get_layer("Embedding-Token").embeddings
    np.testing.assert_array_equal(numpy(table), arrays[TABLE])


# --- what does not fit: one error, and nothing changed ------------------------------


def assert_refused(builder, checkpoint, kind, *words):
    before = state(builder.model)
    with pytest.raises(kind) as caught:
        builder.load_weights_from_checkpoint(checkpoint)
    for word in words:
        assert word in str(caught.value), caught.value
    for found, expected in zip(state(builder.model), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_missing_variable(builder, arrays):
    del arrays["bert/encoder/layer_1/output/dense/bias"]
    name = "bert/encoder/layer_1/output/dense/bias"
    assert_refused(builder, arrays, CheckpointError, name, "ignore_invalid_weights")


def test_other_vocabulary(builder, arrays):
    arrays[TABLE] = arrays[TABLE][:-3]
    assert_refused(builder, arrays, ValueError, "27", "30", "vocab", "keep_tokens")


def test_other_vocabulary_with_kept_tokens(official_folder, arrays, config):
    arrays[TABLE] = arrays[TABLE][:-3]
    builder = build_transformer_model(
        config, keep_tokens=[0, 1, 2], return_keras_model=False
    )
    assert_refused(builder, arrays, ValueError, "27", "30")


def test_other_positions(builder, arrays):
    name = "bert/embeddings/position_embeddings"
    arrays[name] = arrays[name][:8]
    assert_refused(builder, arrays, ValueError, "8", "20", "max_position")


def test_other_width(official_folder, config):
    config["intermediate_size"] = 25
    builder = build_transformer_model(config, return_keras_model=False)
    assert_refused(builder, official_folder, ValueError, "(16, 24)", "(16, 25)")


def test_missing_and_truncated_shard(builder, official_folder, tmp_path):
    shutil.copytree(official_folder, tmp_path, dirs_exist_ok=True)
    shard = next(tmp_path.glob("*.data-*"))
    data = shard.read_bytes()
    shard.write_bytes(data[:-4])
    assert_refused(builder, tmp_path, CheckpointError, shard.name)
    shard.unlink()
    assert_refused(builder, tmp_path, FileNotFoundError, shard.name)


def test_corrupted_index(builder, official_folder, tmp_path):
    shutil.copytree(official_folder, tmp_path, dirs_exist_ok=True)
    index = next(tmp_path.glob("*.index"))
    data = bytearray(index.read_bytes())
    data[len(data) // 2] ^= 1
    index.write_bytes(bytes(data))
    assert_refused(builder, tmp_path, CheckpointError)


def test_corrupted_byte_of_the_data(builder, official_folder, tmp_path):
    shutil.copytree(official_folder, tmp_path, dirs_exist_ok=True)
    shard = next(tmp_path.glob("*.data-*"))
    data = bytearray(shard.read_bytes())
    reader = CheckpointReader(official_folder)
    name = "bert/encoder/layer_1/output/dense/kernel"
    data[data.index(reader[name].tobytes())] ^= 1
    shard.write_bytes(bytes(data))
    assert_refused(builder, tmp_path, CheckpointError, name, "checksum")


@pytest.mark.parametrize("dtype", ["object", "complex64", "S1"])
def test_variable_that_holds_no_real_numbers(builder, arrays, dtype):
    """The last variable in the order of loading: none before it may be set."""
    name = "cls/predictions/output_bias"
    arrays[name] = (
        np.full(30, b"x").astype(dtype)
        if dtype != "complex64"
        else (arrays[name].astype(dtype))
    )
    assert_refused(builder, arrays, ValueError, name, "dtype")


def test_ignoring_and_resizing(official_folder, config, arrays):
    name = "bert/encoder/layer_0/intermediate/dense/bias"
    del arrays[name]
    builder = build_transformer_model(
        config, ignore_invalid_weights=True, return_keras_model=False
    )
    builder.load_weights_from_checkpoint(arrays)
    table = builder.model.get_layer("Embedding-Token").embeddings
    np.testing.assert_array_equal(numpy(table), arrays[TABLE])
    config["intermediate_size"] = 30
    model = build_transformer_model(config, official_folder, autoresize_weights=True)
    assert model.get_layer("Transformer-0-FeedForward").units == 30


def test_no_half_written_checkpoint(builder, tmp_path, monkeypatch):
    def fail(name, value, dtype=None):
        raise RuntimeError("disk on fire")

    monkeypatch.setattr(builder, "create_variable", fail)
    with pytest.raises(RuntimeError, match="disk on fire"):
        builder.save_weights_as_checkpoint(tmp_path / "bert_model.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_config_of_the_folder_is_what_the_model_has(official_folder):
    config = json.loads((official_folder / "bert_config.json").read_text())
    model = build_transformer_model(official_folder)
    assert model.get_layer("Embedding-Token").input_dim == config["vocab_size"]
