"""Fine-tunes the demonstration's classifier with one optimizer after the other.

    python examples/compare_optimizers.py
    python examples/compare_optimizers.py --only Adam LAMB --epochs 3

It pre-trains a tiny BERT on synthetic reviews (once; `--folder` keeps it), and trains
the same sentiment classifier from there with several optimizers and the tricks of
`bert4keras.optimizers` on them: the same data in the same order, a learning rate that
suits each. It prints a table (the last validation loss, test accuracy, seconds for a
batch, memory of the optimizer's state) and saves the training curves.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import keras
import numpy as np
from classifier_data import read_labelled_file, read_training_file
from classifier_training import (
    build_classifier,
    encode_examples,
    predict_probabilities,
    scores,
    set_seed,
)
from synthetic_reviews import make_vocabulary, write_dataset

from bert4keras import optimizers as o
from bert4keras.tokenizers import Tokenizer

BATCH_SIZE, ACCUMULATED, MAXLEN = 32, 2, 96
NOT_DECAYED = ["Norm", "bias"]


def make_optimizers(steps: int) -> dict[str, keras.optimizers.Optimizer]:
    """The optimizers to compare, for so many steps."""
    warmup = max(1, steps // 10)
    decay = {"weight_decay_rate": 0.01, "exclude_from_weight_decay": NOT_DECAYED}
    schedule = {"lr_schedule": {warmup: 1, steps: 0}}
    adam_w = o.extend_with_weight_decay(o.Adam)
    return {
        "SGD": keras.optimizers.SGD(0.01, momentum=0.9),
        "Adam": o.Adam(1e-3),
        "Lion": o.Lion(2e-4),
        "AdaFactor": o.AdaFactor(1e-2),
        "Adam, schedule": o.extend_with_piecewise_linear_lr(o.Adam)(1e-3, **schedule),
        "Adam, weight decay, schedule": o.extend_with_piecewise_linear_lr(adam_w)(
            1e-3, **decay, **schedule
        ),
        "LAMB": o.extend_with_layer_adaptation(adam_w)(
            3e-3, exclude_from_layer_adaptation=NOT_DECAYED, **decay
        ),
        "Adam, accumulation": o.extend_with_gradient_accumulation(o.Adam)(
            1e-3, grad_accum_steps=ACCUMULATED
        ),
        "Adam, Lookahead": o.extend_with_lookahead(o.Adam)(1e-3),
        "Adam, averages": o.extend_with_exponential_moving_average(o.Adam)(
            1e-3, ema_momentum=0.98
        ),
        "Adam, lazy embedding": o.extend_with_lazy_optimization(o.Adam)(
            1e-3, include_in_lazy_optimization=["Embedding-Token"]
        ),
        "Adam, 10 x for the head": o.extend_with_parameter_wise_lr(o.Adam)(
            5e-4, paramwise_lr_schedule={"Classifier": 10}
        ),
    }


def prepare(folder: Path, train: int, unlabelled: int) -> tuple[Path, dict[str, Path]]:
    """The checkpoint of a tiny BERT, and the files of labelled reviews."""
    sizes = {"train": train, "valid": 500, "test": 1000, "unlabelled": unlabelled}
    paths = write_dataset(folder / "synthetic-reviews", seed=1, **sizes)
    checkpoint = folder / "tiny-bert"
    if not (checkpoint / "bert_model.ckpt.index").exists():
        from tiny_bert import pretrain

        texts = paths["unlabelled"].read_text(encoding="utf-8").splitlines()
        print(f"Pre-training a tiny BERT on {len(texts)} texts", flush=True)
        pretrain(checkpoint, texts, make_vocabulary())
    return checkpoint, paths


def train(optimizer, checkpoint: Path, data: dict, epochs: int) -> dict:
    """Trains from the checkpoint; returns the measurements and the loss curve."""
    set_seed(1)
    model = build_classifier(2, checkpoint / "bert_config.json", checkpoint, "mean")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # XLA compiles a step anew for each length; TensorFlow alone does not.
    on_tensorflow = keras.backend.backend() == "tensorflow"
    model.compile(optimizer, loss, jit_compile=False if on_tensorflow else "auto")
    losses, times = [], []
    for epoch in range(epochs):
        batches = data["train"]
        for indices in batches.order(epoch):
            start = time.perf_counter()
            losses.append(float(model.train_on_batch(*batches.gather(indices))))
            times.append(time.perf_counter() - start)
    if hasattr(optimizer, "apply_ema_weights"):
        optimizer.apply_ema_weights()
    found = {
        name: scores(predict_probabilities(model, data[name]), data[name].labels)
        for name in ("valid", "test")
    }
    state = sum(int(np.prod(v.shape)) * 4 for v in optimizer.variables)
    return {
        "loss": found["valid"]["loss"],
        "accuracy": found["test"]["accuracy"],
        # The median leaves out the steps that compile.
        "seconds": float(np.median(times)),
        "state": state / 2**20,
        "curve": losses,
    }


def draw(found: dict[str, dict], path: Path) -> None:
    """The training loss of all optimizers, smoothed, in one picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(9, 5.5), layout="constrained")
    styles = ["-", "--", ":"]
    for number, (name, values) in enumerate(found.items()):
        curve = np.asarray(values["curve"])
        window = max(1, len(curve) // 15)
        smooth = np.convolve(curve, np.ones(window) / window, mode="valid")
        steps = np.arange(window, len(curve) + 1)
        style = styles[number // 10 % len(styles)]
        axis.plot(steps, smooth, style, color=f"C{number % 10}", label=name)
    axis.set(
        xlabel=f"batches of {BATCH_SIZE}",
        ylabel="training loss (nats, running mean)",
        title="The same classifier, trained with different optimizers",
    )
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, ncols=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> dict[str, dict]:
    """Compares, prints, draws; returns the measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--folder", type=Path, default=Path("demo-output"))
    add("--figure", type=Path, default=Path("compare_optimizers.png"))
    add("--epochs", type=int, default=3, help="passes over the data (%(default)s)")
    add("--train", type=int, default=4000, help="reviews to train with (%(default)s)")
    add("--unlabelled", type=int, default=20000, help="to pre-train with (%(default)s)")
    add("--only", nargs="+", metavar="NAME", help="of the optimizers in the table")
    options = parser.parse_args(arguments)
    if min(options.epochs, options.train) < 1:
        parser.error("--epochs and --train must be at least 1")
    batches = -(-options.train // BATCH_SIZE)
    made = make_optimizers(options.epochs * batches)
    names = options.only or list(made)
    if unknown := [name for name in names if name not in made]:
        parser.error(f"unknown optimizers {unknown}; there are {list(made)}")
    checkpoint, paths = prepare(options.folder, options.train, options.unlabelled)
    tokenizer = Tokenizer(str(checkpoint / "vocab.txt"), do_lower_case=True)
    training = read_training_file(paths["train"])
    labels = sorted(set(training.labels))
    data = {"train": encode_examples(tokenizer, training, labels, MAXLEN, BATCH_SIZE)}
    for name in ("valid", "test"):
        examples = read_labelled_file(paths[name], training)
        data[name] = encode_examples(tokenizer, examples, labels, MAXLEN, BATCH_SIZE)
    print(f"{'':30}{'loss':>8}{'accuracy':>10}{'s/batch':>9}{'state, MiB':>12}")
    found = {}
    for name in names:
        found[name] = values = train(made[name], checkpoint, data, options.epochs)
        print(
            f"{name:30}{values['loss']:8.3f}{values['accuracy']:10.3f}"
            f"{values['seconds']:9.3f}{values['state']:12.2f}",
            flush=True,
        )
    draw(found, options.figure)
    print(f"\nThe curves are in {options.figure}.")
    return found


if __name__ == "__main__":
    main()
