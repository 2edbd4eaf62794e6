"""A tiny BERT, as a configuration and as an official-format folder."""

import json

import keras
import numpy as np
import pytest

from bert4keras.models import build_transformer_model

CONFIG = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 20,
    "type_vocab_size": 2,
}


@pytest.fixture
def config():
    """Settings of a BERT with 30 tokens, 2 blocks and 16 units; a fresh copy."""
    return dict(CONFIG)


@pytest.fixture(scope="session")
def official_folder(tmp_path_factory):
    """A folder as Google's releases are, with random weights for every head."""
    folder = tmp_path_factory.mktemp("official")
    (folder / "bert_config.json").write_text(json.dumps(CONFIG))
    keras.utils.set_random_seed(7)
    builder = build_transformer_model(
        CONFIG, with_nsp=True, with_mlm=True, return_keras_model=False
    )
    rng = np.random.default_rng(7)
    for weight in builder.model.weights:
        weight.assign(rng.normal(0, 0.3, weight.shape))
    builder.save_weights_as_checkpoint(folder / "bert_model.ckpt")
    return folder
