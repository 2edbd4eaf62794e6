"""Pre-trains a tiny BERT by masked-language modelling, into an official-format folder.

The folder holds `bert_config.json`, `vocab.txt` and `bert_model.ckpt.*`, like the
official releases, and is loaded like them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from synthetic_reviews import SPECIAL_TOKENS

from bert4keras.data import PaddedBatches
from bert4keras.models import build_transformer_model
from bert4keras.optimizers import Adam
from bert4keras.tokenizers import Tokenizer, load_vocab

MASKED = 0.15  # share of tokens to predict, Devlin et al. 2019, section 3.1
IGNORED = -1  # target of a token that is not predicted
LENGTH_STEP = 16  # lengths of batches are multiples of this, for few compilations


def tiny_config(vocab_size: int, maxlen: int) -> dict:
    """`bert_config.json` of a BERT with 2 layers, 128 hidden units and 2 heads.

    Those are the sizes of BERT-Tiny (Turc et al. 2019, arXiv:1908.08962).
    """
    return {
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": 128,
        "initializer_range": 0.02,
        "intermediate_size": 512,
        "max_position_embeddings": maxlen,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "type_vocab_size": 2,
        "vocab_size": vocab_size,
    }


def mask_tokens(
    token_ids: np.ndarray, rng: np.random.Generator, vocab_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Hides tokens for the model to predict (Devlin et al. 2019, section 3.1).

    Of 15 % of the tokens, 80 % become [MASK], 10 % a random token, 10 % stay. They are
    chosen in spans of two (as in SpanBERT, Joshi et al. 2020): most Chinese words have
    two characters, and one of them would give the other away.

    Args:
        token_ids: integers (batch, length), of a vocabulary that begins with
            `SPECIAL_TOKENS`, which are never hidden.
        rng: of all draws.
        vocab_size: number of tokens, special ones included.

    Returns:
        The ids with some replaced, and the targets: the original id where the model
        must predict, `IGNORED` elsewhere.
    """
    first = len(SPECIAL_TOKENS)
    # A token is left alone if neither it nor the one before begins a span.
    begins = rng.random(token_ids.shape) < 1 - (1 - MASKED) ** 0.5
    chosen = begins.copy()
    chosen[:, 1:] |= begins[:, :-1]
    chosen &= token_ids >= first
    kind = rng.random(token_ids.shape)
    others = rng.integers(first, vocab_size, token_ids.shape, dtype=token_ids.dtype)
    mask_id = SPECIAL_TOKENS.index("[MASK]")
    hidden = np.where(chosen & (kind < 0.8), mask_id, token_ids)
    hidden = np.where(chosen & (kind >= 0.9), others, hidden)
    return hidden, np.where(chosen, token_ids, IGNORED)


def masked_loss(y_true, y_pred):
    """Mean cross-entropy in nats over the tokens to predict, from logits."""
    y_true = keras.ops.cast(y_true, "int32")
    wanted = keras.ops.cast(keras.ops.not_equal(y_true, IGNORED), y_pred.dtype)
    losses = keras.losses.sparse_categorical_crossentropy(
        keras.ops.maximum(y_true, 0), y_pred, from_logits=True
    )
    return keras.ops.sum(losses * wanted) / keras.ops.maximum(keras.ops.sum(wanted), 1)


def pretrain(
    folder: str | Path,
    texts: Sequence[str],
    vocabulary: Sequence[str],
    *,
    epochs: int = 3,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    maxlen: int = 96,
    seed: int = 1,
) -> Path:
    """Pre-trains on `texts` and writes the official-format folder.

    Args:
        folder: where to; made if absent.
        texts: one text each.
        vocabulary: tokens in the order of their ids, `SPECIAL_TOKENS` first.
        epochs: passes over `texts`; every pass hides other tokens.
        batch_size: texts in a step.
        learning_rate: at its highest, after a tenth of all steps.
        maxlen: the most tokens of one text, and the length of the position table.
        seed: of everything random.

    Returns:
        The folder.
    """
    folder = Path(folder)
    vocab_path, config_path = _write_description(folder, vocabulary, maxlen)
    keras.utils.set_random_seed(seed)
    tokenizer = Tokenizer(load_vocab(vocab_path), do_lower_case=True)
    columns = [
        [np.asarray(ids, "int32") for ids in column]
        for column in tokenizer.encode_batch(texts, maxlen=maxlen)
    ]
    batches = PaddedBatches(
        columns, batch_size=batch_size, pad_to_multiple=LENGTH_STEP, seed=seed
    )
    # The pooler is in every official checkpoint; here it keeps its initial values.
    builder = build_transformer_model(
        config_path, with_pool=True, with_mlm="linear", return_keras_model=False
    )
    model = keras.Model(builder.model.inputs, builder.model.outputs[-1])
    _compile(model, epochs * len(batches), learning_rate)
    for epoch in range(epochs):
        print(f"Pre-training {epoch + 1}/{epochs}", flush=True)
        _train_epoch(model, batches, epoch)
    builder.save_weights_as_checkpoint(folder / "bert_model.ckpt")
    return folder


def _write_description(folder, vocabulary, maxlen) -> tuple[Path, Path]:
    """The vocabulary's file and the configuration's, in a new folder."""
    folder.mkdir(parents=True, exist_ok=True)
    vocab_path = folder / "vocab.txt"
    vocab_path.write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    config_path = folder / "bert_config.json"
    config = tiny_config(len(vocabulary), maxlen)
    config_path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return vocab_path, config_path


def _compile(model: keras.Model, steps: int, learning_rate: float) -> None:
    rate = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        warmup_target=learning_rate,
        warmup_steps=steps // 10,
        decay_steps=steps - steps // 10,
    )
    model.compile(
        # The clipping is that of google-research/bert's optimization.py.
        optimizer=Adam(learning_rate=rate, global_clipnorm=1.0),
        loss=masked_loss,
        # XLA compiles a step anew for each length; TensorFlow alone does not.
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
    )


def _train_epoch(model: keras.Model, batches: PaddedBatches, epoch: int) -> None:
    rng = np.random.default_rng([batches.seed, epoch])
    bar = keras.utils.Progbar(
        len(batches),
        verbose=1 if sys.stdout.isatty() else 2,
        unit_name="batch",
    )
    for number, indices in enumerate(batches.order(epoch), start=1):
        ((token_ids, segment_ids),) = batches.gather(indices)
        hidden, targets = mask_tokens(token_ids, rng, model.output_shape[-1])
        logs = model.train_on_batch((hidden, segment_ids), targets, return_dict=True)
        bar.update(number, [("loss", logs["loss"])], finalize=number == len(batches))
