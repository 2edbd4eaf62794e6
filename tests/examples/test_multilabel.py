import multilabel as example
import numpy as np


def test_samples_show_their_labels():
    x, y = example.make_samples(labels=30, samples=400, seed=0)
    assert x.shape == (400, 2 * 30 * 4)
    words = x[:, : 30 * 4].reshape(400, 30, 4)
    np.testing.assert_array_equal(words.sum(-1), y)
    assert 2 < y.sum(1).mean() < 4
    # Early labels are more frequent than late ones.
    assert y[:, :5].mean() > 2 * y[:, -5:].mean()


def test_samples_are_the_same_for_a_seed():
    first, second = (example.make_samples(5, 20, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    assert not np.array_equal(first[0], example.make_samples(5, 20, seed=4)[0])


def test_few_labels_are_learned_with_both_losses_and_curves_drawn(tmp_path, capsys):
    path = tmp_path / "made" / "curves.png"
    options = ["--labels", "6", "--samples", "600", "--epochs", "12"]
    found = example.main([*options, "--figure", str(path)])
    assert set(found) == set(example.LOSSES)
    # Always answering "no label" has an F1 of 0.
    assert found["multilabel"][0]["micro_f1"] > 0.9
    assert found["multilabel"][0]["micro_f1"] >= found["binary"][0]["micro_f1"]
    assert "exact" in capsys.readouterr().out
    assert path.read_bytes().startswith(b"\x89PNG")
