"""What a finished training run has to show: scores, some sentences, curves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, zip_longest
from pathlib import Path

import numpy as np
from classifier_data import Examples

# matplotlib is imported where it draws: the scores can be had without it.


def save_curves(history: Sequence[dict], best: dict, path: str | Path) -> None:
    """Draws loss and validation scores over the epochs into a PNG file.

    Args:
        history: for each epoch `epoch`, `loss`, `val_loss`, `val_accuracy` and
            `val_macro_f1`.
        best: the entry of the epoch whose weights were kept.
        path: of the file.
    """
    import matplotlib
    from matplotlib.figure import Figure

    colours = matplotlib.color_sequences["tab10"]
    epochs = [entry["epoch"] for entry in history]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    losses, values = figure.subplots(1, 2)
    for axes, title, curves in (
        (
            losses,
            "Cross-entropy (nats)",
            {"loss": "training", "val_loss": "validation"},
        ),
        (
            values,
            "Validation scores",
            {"val_accuracy": "accuracy", "val_macro_f1": "macro F1"},
        ),
    ):
        # The second one is drawn such that the first shows where they coincide.
        styles = ({"marker": "o", "linewidth": 2.5}, {"marker": ".", "linestyle": "--"})
        for i, (key, label) in enumerate(curves.items()):
            y = [entry[key] for entry in history]
            axes.plot(epochs, y, color=colours[i], label=label, **styles[i])
        axes.axvline(
            best["epoch"], color="grey", linestyle=":", label="kept weights", zorder=0
        )
        axes.set(title=title, xlabel="epoch", xticks=_ticks(epochs))
        axes.grid(alpha=0.3)
        axes.legend()
    losses.set_ylim(0, 1.1 * max(max(e["loss"], e["val_loss"]) for e in history))
    figure.savefig(path, dpi=150)


def _ticks(epochs: Sequence[int]) -> list[int]:
    step = -(-len(epochs) // 10)
    return list(epochs[::step])


def sample_lines(
    examples: Examples, probabilities: np.ndarray, labels: Sequence[str], count: int = 6
) -> list[str]:
    """Some examples with predicted label, probability and the text.

    The first of each label in turn, and one or two mistakes if there are any.

    Args:
        examples: labelled ones.
        probabilities: (examples, classes).
        labels: the classes.
        count: how many lines.
    """
    predicted = [labels[i] for i in probabilities.argmax(axis=1)]
    is_wrong = [p != t for p, t in zip(predicted, examples.labels, strict=True)]
    wrong = [i for i, value in enumerate(is_wrong) if value][: count // 3]
    queues = [[] for _ in labels]
    for i, label in enumerate(predicted):
        if not is_wrong[i]:
            queues[labels.index(label)].append(i)
    turns = (i for turn in zip_longest(*queues) for i in turn if i is not None)
    lines = []
    for i in [*islice(turns, count - len(wrong)), *wrong]:
        text = " | ".join(
            t if len(t) <= 60 else t[:59] + "…" for t in examples.texts[i]
        )
        note = f"  (wrong: {examples.labels[i]})" if is_wrong[i] else ""
        lines.append(f"  {predicted[i]} {probabilities[i].max():.3f}  {text}{note}")
    return lines
