"""A Transformer of one's own, with all that an official checkpoint has to give.

The model: BERT with normalization before each sublayer instead of after it (pre-norm),
keys twice as wide as values, and talking heads. What it can use of a checkpoint is
loaded, wider keys included (`grow_key_size`), and what is left over on either side is
printed. Then it learns a small task, to show that it trains.

    python custom_transformer.py --checkpoint chinese_L-12_H-768_A-12

Without a checkpoint, a small one with random weights is made in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import keras
import numpy as np
from keras.layers import Dense, Dropout

from bert4keras.checkpoints import CheckpointReader
from bert4keras.layers import (
    Add,
    FeedForward,
    FirstToken,
    LayerNormalization,
    MultiHeadAttention,
)
from bert4keras.models import BERT, build_transformer_model
from bert4keras.models.build import find_config
from bert4keras.models.growth import grow_key_size


class PreNormBERT(BERT):
    """BERT with pre-norm blocks; the head gives the logits of two classes."""

    def apply_main_layers(self, inputs, index):
        """x + sublayer(norm(x)), for the attention and for the feed-forward layer."""
        kernel = {"kernel_initializer": self.initializer}
        name = f"Transformer-{index}-MultiHeadSelfAttention"
        x = self.apply_norm(inputs, f"{name}-Norm")
        sizes = {"key_size": self.attention_key_size, "out_dim": self.hidden_size}
        heads = {
            "heads": self.num_attention_heads,
            "head_size": self.attention_head_size,
        }
        x = self.apply(
            [x] * 3, MultiHeadAttention, name=name, **kernel, **sizes, **heads
        )
        x = self.apply_residual(inputs, x, name)
        name = f"Transformer-{index}-FeedForward"
        y = self.apply_norm(x, f"{name}-Norm")
        inner = {"units": self.intermediate_size, "activation": self.hidden_act}
        y = self.apply(y, FeedForward, name=name, **kernel, **inner)
        return self.apply_residual(x, y, name)

    def apply_norm(self, x, name):
        return self.apply(x, LayerNormalization, epsilon=1e-12, name=name)

    def apply_residual(self, x, y, name):
        y = self.apply(y, Dropout, rate=self.dropout_rate, name=f"{name}-Dropout")
        return self.apply([x, y], Add, name=f"{name}-Add")

    def apply_final_layers(self, inputs):
        """A last normalization, since no block has one at its end."""
        x = self.apply(self.apply_norm(inputs, "Final-Norm"), FirstToken, name="First")
        return self.apply(x, Dense, units=2, name="Classes")

    def variable_mapping(self):
        """Every normalization moves on to the sublayer that it comes before."""
        mapping, n = super().variable_mapping(), self.num_hidden_layers
        halves = ("MultiHeadSelfAttention-Norm", "FeedForward-Norm")
        norms = [f"Transformer-{i}-{half}" for i in range(n) for half in halves]
        official = [mapping.pop(name) for name in norms]
        moved = zip([*norms[1:], "Final-Norm"], official, strict=True)
        return {**mapping, **dict(moved)}


def load(folder: Path, key_factor: int = 2) -> tuple[BERT, CheckpointReader]:
    """The custom model with what the checkpoint in a folder has for it.

    Args:
        folder: an official release, with `bert_config.json` and the checkpoint.
        key_factor: how many times wider than the checkpoint's keys the model's are.

    Returns:
        The builder, and the checkpoint's reader.
    """
    config = json.loads(find_config(folder).read_text(encoding="utf-8"))
    heads = config["num_attention_heads"]
    key_size = key_factor * config["hidden_size"] // heads
    reader = CheckpointReader(folder)
    builder = build_transformer_model(
        config,
        grow_key_size(reader, key_size, heads),
        model=PreNormBERT,
        attention_key_size=key_size,
        talking_heads="both",
        return_keras_model=False,
    )
    return builder, reader


def left_over(builder: BERT, reader: CheckpointReader) -> tuple[list[str], list[str]]:
    """Weights that the checkpoint had nothing for, and variables of it without use."""
    mapping = builder.variable_mapping()
    fresh, used = [], set()
    for layer in builder.model.layers:
        names = mapping.get(layer.name, [])
        used.update(names)
        fresh += [weight.path for weight in layer.weights[len(names) :]]
    return fresh, [name for name in reader if name not in used]


def make_checkpoint(folder: Path) -> None:
    """A small official-format checkpoint with random weights."""
    config = {
        "vocab_size": 50,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "max_position_embeddings": 32,
        "type_vocab_size": 2,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bert_config.json").write_text(json.dumps(config))
    builder = build_transformer_model(config, with_mlm=True, return_keras_model=False)
    builder.save_weights_as_checkpoint(folder / "bert_model.ckpt")


def make_task(samples: int, length: int, vocab_size: int, seed: int):
    """Token ids whose class says whether one certain token is among them."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(3, min(vocab_size, 20), size=(samples, length))
    tokens[:, 0] = 2  # what the class is read from
    classes = (tokens == 7).any(axis=1).astype("int32")
    return [tokens, np.zeros_like(tokens)], classes


def main(arguments: list[str] | None = None) -> dict:
    """Load, report, train; returns what was left over and the accuracies."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--checkpoint", type=Path, help="folder of an official release")
    add("--samples", type=int, default=2000, help="to learn from (%(default)s)")
    add("--epochs", type=int, default=8, help="passes over them (%(default)s)")
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.checkpoint or Path(temporary) / "made"
        if options.checkpoint is None:
            make_checkpoint(folder)
        builder, reader = load(folder)
        fresh, unused = left_over(builder, reader)
        total = len(builder.model.weights)
        print(f"{total - len(fresh)} of {total} weights come from the checkpoint.")
        print("Not in it, so at their initial values:", *fresh, sep="\n  ")
        print("In it, but not in the model:", *unused, sep="\n  ")
        reader.close()
    model = builder.model
    rate = 1e-3 if options.checkpoint is None else 3e-5
    model.compile(
        keras.optimizers.Adam(rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    task = (16, builder.vocab_size)
    history = model.fit(
        *make_task(options.samples, *task, seed=0),
        batch_size=32,
        epochs=options.epochs,
        verbose=2,
    )
    unseen = make_task(options.samples // 4, *task, seed=1)
    accuracy = model.evaluate(*unseen, verbose=0)[1]
    print(f"accuracy on unseen samples: {accuracy:.3f}")
    return {"fresh": fresh, "unused": unused, "losses": history.history["loss"]}


if __name__ == "__main__":
    main()
