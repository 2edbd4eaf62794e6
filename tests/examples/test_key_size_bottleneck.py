import key_size_bottleneck as example
import numpy as np
import pytest
from keras import ops


def test_targets_are_stochastic():
    targets = example.random_distributions(2, 5, 2.0, seed=0)
    assert targets.shape == (1, 2, 5, 5)
    np.testing.assert_allclose(targets.sum(-1), 1, rtol=1e-5)
    assert np.all(targets > 0)


def test_the_layer_measures_the_divergence():
    targets = example.random_distributions(2, 4, 1.0, seed=1)
    layer = example.Scores(2, 4, 3, mixed=2)
    found = ops.convert_to_numpy(layer(targets))
    queries, keys, mixing = (
        ops.convert_to_numpy(w).astype("float64")
        for w in (layer.queries, layer.keys, layer.mixing.kernel)
    )
    scores = np.einsum("hqd,hkd,hg->gqk", queries, keys, mixing)
    attention = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    expected = (targets[0] * np.log(targets[0] / attention)).sum(-1).mean()
    np.testing.assert_allclose(found, [expected], rtol=1e-4)


def test_the_bounds():
    """n = 4: three columns are enough, and so is one in each of three talking heads."""
    targets = example.random_distributions(3, 4, 2.0, seed=0)
    narrow = example.fit(targets[:, :1], heads=1, key_size=1, talking=False, steps=200)
    enough = example.fit(targets[:, :1], heads=1, key_size=3, talking=False, steps=200)
    talking = example.fit(targets[:, :1], heads=3, key_size=1, talking=True, steps=200)
    assert narrow > 0.05
    assert enough < narrow / 20
    assert talking < narrow / 20


def test_the_program_prints_and_draws(tmp_path, capsys):
    path = tmp_path / "made" / "curves.png"
    sizes = ["--length", "3", "--heads", "2", "--key-sizes", "1", "2"]
    found = example.main([*sizes, "--steps", "20", "--figure", str(path)])
    assert [len(values) for values in found.values()] == [2, 2, 2]
    assert "divergence" in capsys.readouterr().out
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_help(capsys):
    with pytest.raises(SystemExit):
        example.main(["--help"])
    assert "--key-sizes" in capsys.readouterr().out
