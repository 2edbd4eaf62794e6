"""BERT against bert4keras 0.11.5, google-research/bert and Hugging Face's BERT."""

import json

import keras
import numpy as np
import pytest

from bert4keras.activations import set_gelu
from bert4keras.checkpoints import CheckpointReader, write_checkpoint
from bert4keras.models import build_transformer_model

CASES = [
    "bert",
    "bert_custom_positions",
    "bert_embedding_size",
    "bert_gelu_tanh",
    "bert_head_sizes",
    "bert_hierarchical_position",
    "bert_lm",
    "bert_mlm",
    "bert_no_segments",
    "bert_nsp_mlm",
    "bert_pool",
    "bert_residual_scores",
    "bert_shared_segments",
    "bert_unilm",
]


@pytest.fixture(autouse=True)
def gelu():
    """Each test says which GELU it wants; the exact one is in force after it."""
    yield
    set_gelu("erf")


def run(model, inputs):
    """Outputs as a list of NumPy arrays; eager, which is faster for one batch."""
    inputs = [keras.ops.convert_to_tensor(x, "int32") for x in inputs]
    outputs = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
    return [keras.ops.convert_to_numpy(x) for x in outputs]


def assert_close(found, expected):
    """Within 1e-5 of the size of the values."""
    scale = max(1.0, np.abs(expected).max())
    assert found.shape == expected.shape
    np.testing.assert_allclose(found / scale, expected / scale, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_recorded_case(reference, name):
    folder = reference / "bert4keras-0.11.5" / name
    case = json.loads((folder / "case.json").read_text())
    set_gelu(case["gelu"])
    model = build_transformer_model(
        case["config"],
        folder / "model.ckpt",
        model=case["model"],
        application=case["application"],
    )
    assert [x.name for x in model.inputs] == case["inputs"]
    recorded = np.load(folder / "io.npz")
    real = recorded["in_0"] != 0
    outputs = run(model, [recorded[f"in_{i}"] for i in range(len(case["inputs"]))])
    assert len(outputs) == sum(key.startswith("out_") for key in recorded)
    for i, output in enumerate(outputs):
        expected = recorded[f"out_{i}"]
        if expected.ndim == 3:
            output, expected = output[real], expected[real]
        assert_close(output, expected)


def test_google_bert(reference):
    folder = reference / "google-bert" / "chinese_L-2_H-128_A-2"
    set_gelu("tanh")
    builder = build_transformer_model(
        folder, with_nsp=True, with_mlm=True, return_keras_model=False
    )
    layer = builder.model.get_layer
    outputs = {
        "embedding": layer("Embedding-Norm").output,
        "layer_0": layer("Transformer-0-FeedForward-Norm").output,
        "layer_1": layer("Transformer-1-FeedForward-Norm").output,
        "pooled": layer("Pooler-Dense").output,
        "nsp": builder.outputs[0],
        "mlm": builder.outputs[1],
    }
    model = keras.Model(builder.inputs, list(outputs.values()))
    recorded = np.load(folder / "reference.npz")
    assert ((recorded["ids"] != 0) == recorded["mask"].astype(bool)).all()
    values = run(model, [recorded["ids"], recorded["seg"]])
    found = dict(zip(outputs, values, strict=True))
    real = recorded["mask"].astype(bool)
    for name in ("embedding", "layer_0", "layer_1"):
        assert_close(found[name][real], recorded[name][real])
    assert_close(found["layer_1"][real], recorded["sequence"][real])
    assert_close(found["pooled"], recorded["pooled"])
    assert_close(found["nsp"], recorded["nsp"])
    rows = np.arange(3)[:, None], recorded["positions"]
    assert_close(found["mlm"][rows].reshape(12, -1), recorded["mlm"])


def test_real_index_is_covered_and_nothing_left_over(reference):
    folder = reference / "google-bert" / "chinese_L-12_H-768_A-12"
    config = json.loads((folder / "bert_config.json").read_text())
    there = CheckpointReader(folder / "bert_model.ckpt")
    arrays = {name: np.broadcast_to(np.float32(0), there.shape(name)) for name in there}
    taken = []

    class Arrays(dict):
        def __getitem__(self, name):
            taken.append(name)
            return super().__getitem__(name)

    with keras.StatelessScope(initialize_variables=False):
        builder = build_transformer_model(
            config, with_nsp=True, with_mlm=True, return_keras_model=False
        )
        builder.load_weights_from_checkpoint(Arrays(arrays))
    assert len(taken) == 206
    assert sorted(taken) == sorted(there)
    names = [name for names in builder.variable_mapping().values() for name in names]
    unmapped = set(there) ^ set(names)
    assert unmapped == {
        f"bert/encoder/embedding_hidden_mapping_in/{x}" for x in ("kernel", "bias")
    }


def hugging_face_to_official(model):
    """Names and arrays of google-research/bert for a BertForPreTraining.

    The two differ in names, and in that PyTorch keeps dense kernels transposed.
    """
    rename = (
        ("layer.", "layer_"),
        (".", "/"),
        ("word_embeddings/weight", "word_embeddings"),
        ("position_embeddings/weight", "position_embeddings"),
        ("token_type_embeddings/weight", "token_type_embeddings"),
        ("LayerNorm/weight", "LayerNorm/gamma"),
        ("LayerNorm/bias", "LayerNorm/beta"),
        ("seq_relationship/weight", "seq_relationship/output_weights"),
        ("seq_relationship/bias", "seq_relationship/output_bias"),
        ("predictions/bias", "predictions/output_bias"),
        ("weight", "kernel"),
    )
    arrays = {}
    for name, tensor in model.state_dict().items():
        if "position_ids" in name or "predictions.decoder" in name:
            continue  # a constant; the tied table and the bias again
        array = tensor.detach().numpy()
        for old, new in rename:
            if new != "kernel" or not name.endswith("output_weights"):
                name = name.replace(old, new)
        if name.endswith("kernel"):
            array = array.T
        arrays[name] = array
    return arrays


def test_hugging_face_bert(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=20,
        initializer_range=0.3,
    )
    theirs = transformers.BertForPreTraining(config).eval()
    with torch.no_grad():
        for weight in theirs.parameters():  # biases and norms are constant at first
            weight.add_(0.1 * torch.randn_like(weight))
    (tmp_path / "bert_config.json").write_text(json.dumps(config.to_dict()))
    write_checkpoint(tmp_path / "bert_model.ckpt", hugging_face_to_official(theirs))

    ours = build_transformer_model(tmp_path, with_nsp=True, with_mlm="linear")
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 50, (3, 11))
    ids[1, 7:] = ids[2, 2:] = 0
    segments = rng.integers(0, 2, (3, 11))
    nsp, logits = run(ours, [ids, segments])
    with torch.no_grad():
        expected = theirs(
            input_ids=torch.tensor(ids),
            attention_mask=torch.tensor((ids != 0).astype("int64")),
            token_type_ids=torch.tensor(segments),
        )
    real = ids != 0
    assert_close(logits[real], expected.prediction_logits.numpy()[real])
    assert_close(nsp, expected.seq_relationship_logits.softmax(-1).numpy())
