"""Many labels, few of them true: one loss for all against one binary loss a label.

Every sample is a bag of words, and every label has words of its own: a label is true if
one of them occurs. About three labels are true for a sample, however many there are, so
that with many labels nearly all are false. Binary cross-entropy averages one loss a
label, and the false ones drown the true ones; multi-label cross-entropy (see
`bert4keras.losses`) compares each true label with all false ones, as softmax does.

The program trains the same small network with both for several numbers of labels,
prints F1 (micro and macro) and exact matches on unseen samples, all at threshold 0, and
draws F1 against the number of labels. Longer training narrows the gap without closing
it: try `--labels 100 --epochs 60`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import keras
import numpy as np

from bert4keras.losses import MultilabelCategoricalCrossentropy
from bert4keras.metrics import MultilabelExactMatch, MultilabelF1

LOSSES = {
    "binary": lambda: keras.losses.BinaryCrossentropy(from_logits=True),
    "multilabel": MultilabelCategoricalCrossentropy,
}
TITLES = {"binary": "binary cross-entropy", "multilabel": "multi-label cross-entropy"}
METRICS = ("micro_f1", "macro_f1", "exact_match")


def make_samples(
    labels: int, samples: int, seed: int, words_of_a_label: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """Bags of words (samples, words) and their labels (samples, labels), of 0 and 1.

    Labels have frequencies like words': the k-th is true 1/(k + 3) times as often as
    would make the first always true, scaled to three a sample. A true label shows by
    one of its words; as many words again are noise without a label.

    Args:
        labels: number of labels.
        samples: number of samples.
        seed: of the random numbers.
        words_of_a_label: number of words that belong to one label.

    Example:
        >>> x, y = make_samples(labels=5, samples=100, seed=0)
        >>> x.shape, y.shape
        ((100, 40), (100, 5))
    """
    rng = np.random.default_rng(seed)
    frequency = 1 / np.arange(3, labels + 3)
    frequency = np.minimum(3 * frequency / frequency.sum(), 0.9)
    y = rng.uniform(size=(samples, labels)) < frequency
    word = rng.integers(0, words_of_a_label, size=(samples, labels))
    shown = np.zeros((samples, labels, words_of_a_label), bool)
    np.put_along_axis(shown, word[..., None], y[..., None], axis=-1)
    noise = rng.uniform(size=(samples, labels * words_of_a_label)) < 3 / labels / 4
    x = np.concatenate([shown.reshape(samples, -1), noise], axis=1)
    return x.astype("float32"), y.astype("float32")


def train(
    loss: str, data: tuple, unseen: tuple, epochs: int, seed: int
) -> dict[str, float]:
    """Train a network with one hidden layer and measure it.

    Args:
        loss: a key of `LOSSES`.
        data: inputs and labels to train with.
        unseen: inputs and labels to measure with.
        epochs: passes over the data.
        seed: of the initial weights and the order of samples.
    """
    keras.utils.set_random_seed(seed)
    x, y = data
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            keras.layers.Dense(64, activation="gelu"),
            keras.layers.Dense(y.shape[1]),
        ]
    )
    metrics = [MultilabelF1("micro"), MultilabelF1("macro"), MultilabelExactMatch()]
    model.compile(keras.optimizers.Adam(2e-3), LOSSES[loss](), metrics=metrics)
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    values = model.evaluate(*unseen, batch_size=512, verbose=0, return_dict=True)
    return {name: float(values[name]) for name in METRICS}


def compare(options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Metrics of both losses for every number of labels."""
    found = {loss: [] for loss in LOSSES}
    print(f"{'labels':>6} {'loss':12} {'micro F1':>9} {'macro F1':>9} {'exact':>7}")
    for labels in options.labels:
        data, unseen = (
            make_samples(labels, number, seed)
            for number, seed in ((options.samples, 0), (options.samples // 4, 1))
        )
        for loss in LOSSES:
            values = train(loss, data, unseen, options.epochs, options.seed)
            found[loss].append(values)
            micro, macro, exact = (values[name] for name in METRICS)
            print(
                f"{labels:6d} {loss:12} {micro:9.3f} {macro:9.3f} {exact:7.3f}",
                flush=True,
            )
    return found


def draw(found: dict, labels: list[int], path: Path) -> None:
    """F1 against the number of labels, for both losses."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for color, loss in zip(("C0", "C1"), found, strict=True):
        for style, name in (("o-", "micro_f1"), ("s--", "macro_f1")):
            values = [row[name] for row in found[loss]]
            label = f"{TITLES[loss]}, {name.split('_')[0]} F1"
            axis.plot(labels, values, style, color=color, label=label)
    axis.set(
        xscale="log",
        xlabel="number of labels (about 3 true a sample)",
        ylabel="F1 on unseen samples",
        title="The same network, trained with two losses",
        ylim=(0, 1.02),
    )
    axis.set_xticks(labels, labels)
    axis.minorticks_off()
    axis.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> dict:
    """Compare, print, draw; returns the metrics."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--labels", type=int, nargs="+", default=[5, 10, 30, 100, 300])
    add("--samples", type=int, default=4000, help="to train with (%(default)s)")
    add("--epochs", type=int, default=10, help="passes over them (%(default)s)")
    add("--seed", type=int, default=0, help="of the network (%(default)s)")
    add("--figure", type=Path, default=Path("multilabel.png"))
    options = parser.parse_args(arguments)
    found = compare(options)
    draw(found, options.labels, options.figure)
    print(f"\nThe curves are in {options.figure}.")
    return found


if __name__ == "__main__":
    main()
