"""The example that compares optimizers, on a few texts."""

import sys
from pathlib import Path

import numpy as np
import pytest


def test_example(backend, tmp_path, monkeypatch, capsys):
    if backend != "tensorflow":
        pytest.skip("the tricks' own tests run on every backend; this takes long")
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples"))
    import compare_optimizers

    figure = tmp_path / "curves.png"
    names = ["Adam", "Adam, averages"]
    found = compare_optimizers.main(
        [
            *("--folder", str(tmp_path), "--figure", str(figure), "--epochs", "1"),
            *("--train", "64", "--unlabelled", "64", "--only", *names),
        ]
    )
    sys.modules.pop("compare_optimizers")
    assert list(found) == names
    # Averages change nothing in training, only what is measured afterwards.
    np.testing.assert_array_equal(found["Adam"]["curve"], found[names[1]]["curve"])
    assert found["Adam"]["loss"] != found[names[1]]["loss"]
    assert all(np.isfinite(values["loss"]) for values in found.values())
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "Adam, averages" in capsys.readouterr().out
