"""The guide's code runs, from top to bottom."""

import json
import re
from pathlib import Path

import keras
import numpy as np

from bert4keras.models import build_transformer_model

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "custom_transformers.md"
CONFIG = {
    "vocab_size": 20,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 12,
    "intermediate_size": 16,
    "hidden_act": "gelu",
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
}
INPUTS = [np.array([[2, 3, 4, 0]]), np.zeros((1, 4), "int32")]


def test_the_guides_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "chinese_L-12_H-768_A-12"
    folder.mkdir()
    (folder / "bert_config.json").write_text(json.dumps(CONFIG))
    builder = build_transformer_model(CONFIG, return_keras_model=False)
    builder.save_weights_as_checkpoint(folder / "bert_model.ckpt")
    plain = builder.model.predict_on_batch(INPUTS)

    text = GUIDE.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    names, models = {}, []
    for block in blocks:
        exec(block, names)
        if names["model"] not in models:
            models.append(names["model"])
    talking, grown, classifier = models
    for model in (talking, grown):  # the outputs of the plain model, as promised
        found = model.predict_on_batch(INPUTS)
        np.testing.assert_allclose(found, plain, rtol=1e-4, atol=1e-5)
    assert classifier.output_shape == (None, 2)
    lora = classifier.get_layer("Transformer-0-MultiHeadSelfAttention").query_dense
    assert lora.lora_enabled

    attention = names["CosineAttention"](2, 4)
    x = keras.ops.convert_to_tensor(np.random.RandomState(0).normal(size=(1, 3, 8)))
    x = keras.ops.cast(x, "float32")
    expected = keras.ops.convert_to_numpy(attention([x, x, x]))
    # Longer queries and keys make no difference.
    attention.query_dense.kernel.assign(attention.query_dense.kernel * 5.0)
    found = keras.ops.convert_to_numpy(attention([x, x, x]))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
