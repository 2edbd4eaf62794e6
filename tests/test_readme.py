"""The code blocks of both READMEs run as they stand."""

import json
import re
from pathlib import Path

import keras
import pytest

from bert4keras.models import build_transformer_model

ROOT = Path(__file__).resolve().parent.parent
READMES = ["README.md", "README.zh-CN.md"]


def code_blocks(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def official_release(tmp_path, monkeypatch):
    """A tiny stand-in for Google's release, in the working directory, by its name."""
    folder = tmp_path / "chinese_L-12_H-768_A-12"
    folder.mkdir()
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens += sorted(set("房间很干净，下次还来。电池不到一小时就没电了"))
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    config = {
        "vocab_size": len(tokens),
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
    }
    (folder / "bert_config.json").write_text(json.dumps(config))
    builder = build_transformer_model(
        config, with_nsp=True, with_mlm=True, return_keras_model=False
    )
    builder.save_weights_as_checkpoint(folder / "bert_model.ckpt")
    monkeypatch.chdir(tmp_path)


def test_code_blocks_run(official_release):
    blocks = code_blocks("README.md")
    assert blocks
    names = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert names["model"].optimizer.iterations > 0
    keras.backend.clear_session()


def test_both_languages_have_the_same_code():
    """So that running one of them is enough."""
    english, chinese = map(code_blocks, READMES)
    assert english == chinese


@pytest.mark.parametrize("name", READMES)
def test_commands_exist(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", text, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    for script in re.findall(r"python ((?:examples|benchmarks)/\S+\.py)", text):
        assert (ROOT / script).is_file(), script
