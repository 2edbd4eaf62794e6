"""What a run shows at its end."""

from pathlib import Path

import numpy as np
import pytest
from classifier_data import Examples
from classifier_report import sample_lines, save_curves

pytestmark = pytest.mark.pure


def test_samples_alternate_labels_and_show_mistakes():
    labels = ["no", "yes"]
    true = ("no", "no", "no", "yes", "yes", "no")
    p = np.array([0.1, 0.2, 0.9, 0.8, 0.7, 0.3])
    texts = (*((f"text {i}",) for i in range(5)), ("字" * 80,))
    examples = Examples(
        Path("test.tsv"), ("label", "text"), None, tuple(range(6)), texts, true
    )
    probabilities = np.stack([1 - p, p], axis=1)
    assert sample_lines(examples, probabilities, labels, count=4) == [
        "  no 0.900  text 0",
        "  yes 0.800  text 3",
        "  no 0.800  text 1",
        "  yes 0.900  text 2  (wrong: no)",
    ]
    assert sample_lines(examples, probabilities, labels, 99)[4].endswith("字…")


@pytest.mark.parametrize("epochs", [1, 25])
def test_curves(tmp_path, epochs):
    history = [
        {"epoch": e, "loss": 1 / e, "val_loss": 2 / e, "val_accuracy": 1 - 1 / e}
        | {"val_macro_f1": 0.5}
        for e in range(1, epochs + 1)
    ]
    save_curves(history, history[0], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
