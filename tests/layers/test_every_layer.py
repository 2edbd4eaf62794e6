"""What holds for every layer: saving, precision, compilation, LoRA, quantization.

`python tests/layers/test_every_layer.py` writes the model of the running backend into
`tests/layers/data`, where the other backends find it.
"""

import gc
import shutil
from pathlib import Path
from zipfile import ZIP_LZMA, ZipFile

import keras
import numpy as np
import pytest
from keras import ops

from bert4keras import layers

DATA = Path(__file__).parent / "data"
BACKENDS = ("tensorflow", "jax", "torch")
TOKENS = np.array([[1, 2, 3, 4, 0, 0], [5, 6, 7, 8, 9, 1]], "int32")
HIDDEN = 8


class Halved(layers.Loss):
    """A loss layer that does something."""

    def compute_loss(self, inputs, mask=None):
        return ops.mean(ops.square(inputs[0])) / 2


def relative_attention(x, positions, **arguments):
    layer = layers.MultiHeadAttention(2, 4, **arguments)
    return layer([x, x, x, positions[0]], p_bias=positions[1])


def build_model(dtype=None):
    """One model of all layers, with reproducible weights."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype or "float32")
    try:
        model = _build_model()
    finally:
        keras.config.set_dtype_policy(before)
    rng = np.random.RandomState(0)
    model.set_weights([rng.normal(size=w.shape) * 0.3 for w in model.weights])
    return model


def _build_model():
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    embedding = layers.Embedding(12, HIDDEN, mask_zero=True, name="embedding")
    x = layers.AddSharedSegments()([embedding(tokens), embedding(tokens)])
    x = layers.PositionEmbedding(4, HIDDEN, hierarchical=True)(x)
    x = layers.SinusoidalPositionEmbedding(HIDDEN)(x)
    condition = layers.FirstToken()(x)
    x = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4, key_size=6)([x, x, x])])
    x = layers.LayerNormalization(zero_mean=False, offset=False)(x)
    rotary = layers.SinusoidalPositionEmbedding(4, "zero")(x)
    x = x + relative_attention(x, (rotary, "rotary"), attention_dropout=0.1)
    t5 = layers.RelativePositionEmbeddingT5(8, 2, max_distance=16)([x, x])
    x = x + relative_attention(x, (t5, "t5_relative"))
    nezha = layers.RelativePositionEmbedding(7, 4)([x, x])
    x = x + relative_attention(x, (nezha, "typical_relative"), recompute=True)
    x = layers.LayerNormalization(conditional=True, hidden_units=3)([x, condition])
    talking = layers.MultiHeadAttention(
        3, 4, HIDDEN, talking_heads="both", key_heads=2, value_heads=4
    )
    x = layers.LayerNormalization()(x + talking([x, x, x]))
    x = x + layers.FeedForward(12, ["gelu_tanh", "linear"])(x)
    x = layers.ScaleOffset()(x)
    x = x + layers.GatedAttentionUnit(12, 4, attention_dropout=0.1)(x)
    x = layers.LayerNormalization()(x)
    x = layers.Concatenate1D()([x, x])
    x = Halved(0)([x, tokens])
    x = layers.BatchConcat()(layers.BatchSplit([1, 1])(x))
    pooled = keras.layers.Concatenate()(
        [layers.GlobalAveragePooling1D()(x), layers.GlobalMaxPooling1D()(x)]
    )
    scores = keras.layers.Dense(3, name="scores")(pooled)
    words = keras.layers.Activation("linear", dtype="float32", name="words")(
        embedding(x, mode="dense")
    )
    return keras.Model(tokens, [scores, words])


def answers(model):
    # Not compiled: that takes longer than all the rest.
    outputs = model(ops.convert_to_tensor(TOKENS), training=False)
    return [ops.convert_to_numpy(ops.cast(o, "float32")) for o in outputs]


def assert_close(found, expected, rtol=1e-4, atol=1e-5):
    for one, other in zip(found, expected, strict=True):
        assert np.all(np.isfinite(one))
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


CUSTOM = {"Halved": Halved}


@pytest.fixture(scope="module")
def expected():
    with np.load(DATA / "answers.npz") as file:
        return [file["scores"], file["words"]]


@pytest.mark.parametrize("writer", BACKENDS)
def test_models_saved_on_one_backend_load_on_the_others(writer, expected):
    with keras.saving.custom_object_scope(CUSTOM):
        model = keras.models.load_model(DATA / f"{writer}.keras", compile=False)
    assert_close(answers(model), expected)


def test_the_model_is_what_was_saved(expected):
    model = build_model()
    assert_close(answers(model), expected)
    # Every layer's configuration makes the same layer again.
    with keras.saving.custom_object_scope(CUSTOM):
        again = keras.Model.from_config(model.get_config())
    again.set_weights(model.get_weights())
    assert again.get_config() == model.get_config()
    assert_close(answers(again), expected)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(dtype, expected):
    model = build_model(dtype)
    half = dtype.removeprefix("mixed_")
    assert all(w.dtype == "float32" for w in model.trainable_weights)
    mha = next(x for x in model.layers if isinstance(x, layers.MultiHeadAttention))
    assert keras.backend.standardize_dtype(mha.output.dtype) == half
    # 8 bits of precision through a dozen layers.
    assert_close(answers(model), expected, rtol=0.2, atol=0.3)


def compiled_model(jit):
    """Without dropout, as backends draw other random numbers."""
    model = build_model()
    for layer in model.layers:
        if getattr(layer, "attention_dropout", None):
            layer.attention_dropout = None
    model.compile(
        keras.optimizers.SGD(1.0), ["mse", "mse"], jit_compile=jit, run_eagerly=not jit
    )
    return model


def changes_by_a_step(model):
    """How one step of gradient descent changes the trainable weights."""
    before = [ops.convert_to_numpy(w).copy() for w in model.trainable_weights]
    model.train_on_batch(TOKENS, [np.ones((2, 3)), np.ones((2, 12, 12))])
    after = [ops.convert_to_numpy(w) for w in model.trainable_weights]
    return [new - old for old, new in zip(before, after, strict=True)]


def test_compiled_training_and_prediction(backend, expected):
    """By XLA, or on PyTorch by Inductor, against TensorFlow without compilation."""
    if backend == "torch" and shutil.which("g++") is None:
        pytest.skip("jit_compile=True on PyTorch needs a C++ compiler")
    model = compiled_model(jit=True)
    if backend != "torch":  # Inductor takes half a minute for each of the two
        assert_close(model.predict_on_batch(TOKENS), expected)
    found = changes_by_a_step(model)
    with np.load(DATA / "answers.npz") as file:
        changes = file["changes"]
    start = 0
    for weight, change in zip(model.trainable_weights, found, strict=True):
        wanted = changes[start : start + change.size].reshape(change.shape)
        start += change.size
        # Biases of keys have a gradient of 0 but for rounding.
        scale = max(np.abs(wanted).max(), 1e-3)
        np.testing.assert_allclose(
            change, wanted, rtol=1e-4, atol=1e-4 * scale, err_msg=weight.path
        )
    assert start == len(changes)


def flatten(layer):
    yield layer
    for part in layer._layers:
        yield from flatten(part)


def denses(model):
    return [x for x in flatten(model) if isinstance(x, keras.layers.Dense)]


def test_lora_freezes_the_kernels_and_is_saved_merged(expected, tmp_path):
    model = build_model()
    for layer in denses(model):
        layer.enable_lora(2)
    assert len(denses(model)) >= 6 * 4
    assert_close(answers(model), expected)
    trainable = {id(w) for w in model.trainable_weights}
    for layer in denses(model):
        assert id(layer._kernel) not in trainable
        assert {id(layer.lora_kernel_a), id(layer.lora_kernel_b)} <= trainable
        layer.lora_kernel_b.assign(ops.ones_like(layer.lora_kernel_b.value) / 20)
    changed = answers(model)
    assert np.abs(changed[0] - expected[0]).max() > 1e-3
    model.save(tmp_path / "lora.keras")
    with keras.saving.custom_object_scope(CUSTOM):
        again = keras.models.load_model(tmp_path / "lora.keras", compile=False)
    assert_close(answers(again), changed)


def test_quantized_to_int8_and_saved(expected, tmp_path):
    model = build_model()
    # Keras collects garbage once a layer. That takes a second while everything that was
    # imported is looked through.
    gc.freeze()
    model.quantize("int8")
    gc.unfreeze()
    assert all(layer.quantization_mode == "int8" for layer in denses(model))
    assert model.get_layer("embedding").quantization_mode == "int8"
    quantized = answers(model)
    for one, other in zip(quantized, expected, strict=True):
        assert np.abs(one - other).max() < 0.1 * np.abs(other).max() + 0.2
    model.save(tmp_path / "int8.keras")
    with keras.saving.custom_object_scope(CUSTOM):
        again = keras.models.load_model(tmp_path / "int8.keras", compile=False)
    assert_close(answers(again), quantized)


if __name__ == "__main__":
    DATA.mkdir(exist_ok=True)
    made = build_model()
    made.save(DATA / "new.keras")
    saved = DATA / f"{keras.backend.backend()}.keras"
    with ZipFile(DATA / "new.keras") as old, ZipFile(saved, "w", ZIP_LZMA) as new:
        for part in old.namelist():  # Keras does not compress
            new.writestr(part, old.read(part))
    (DATA / "new.keras").unlink()
    if keras.backend.backend() == "tensorflow":
        first, second = answers(made)
        changes = changes_by_a_step(compiled_model(jit=False))
        changes = np.concatenate([change.ravel() for change in changes])
        np.savez_compressed(
            DATA / "answers.npz", scores=first, words=second, changes=changes
        )
