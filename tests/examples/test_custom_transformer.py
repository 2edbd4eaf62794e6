import inspect

import custom_transformer as example
import keras
import numpy as np
import pytest

from bert4keras.models import build_transformer_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("official")
    keras.utils.set_random_seed(0)
    example.make_checkpoint(folder)
    return folder


def test_the_model_is_at_most_40_lines():
    lines = inspect.getsource(example.PreNormBERT).splitlines()
    assert len([line for line in lines if line.strip()]) <= 40


def test_what_is_left_over_is_what_differs(folder):
    builder, reader = example.load(folder)
    fresh, unused = example.left_over(builder, reader)
    assert len(fresh) == 2 + 2 * 2 + 2
    assert all(
        "-0-MultiHeadSelfAttention-Norm/" in name
        or "_mixing/" in name
        or name.startswith("Classes/")
        for name in fresh
    )
    assert unused
    assert all(name.startswith("cls/predictions/") for name in unused)


def test_every_weight_is_where_it_belongs(folder):
    """Against the plain model: norms move on by one, keys compute the same scores."""
    builder, _ = example.load(folder)
    plain = build_transformer_model(folder)
    mine, theirs = builder.model.get_layer, plain.get_layer

    def same(one, other):
        for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)

    name = "Transformer-{}-{}".format
    attention, inner = "MultiHeadSelfAttention", "FeedForward"
    same(mine(name(0, f"{inner}-Norm")), theirs(name(0, f"{attention}-Norm")))
    same(mine(name(1, f"{attention}-Norm")), theirs(name(0, f"{inner}-Norm")))
    same(mine(name(1, f"{inner}-Norm")), theirs(name(1, f"{attention}-Norm")))
    same(mine("Final-Norm"), theirs(name(1, f"{inner}-Norm")))
    same(mine("Embedding-Token"), theirs("Embedding-Token"))
    layers = [m(name(1, attention)) for m in (mine, theirs)]
    assert [layer.key_size for layer in layers] == [16, 8]
    x = np.random.RandomState(0).normal(size=(2, 5, 32)).astype("float32")
    outputs = [keras.ops.convert_to_numpy(layer([x, x, x])) for layer in layers]
    np.testing.assert_allclose(*outputs, rtol=1e-4, atol=1e-6)


def test_the_program_runs_and_the_model_trains(capsys):
    found = example.main(["--samples", "512", "--epochs", "4"])
    assert found["losses"][-1] < found["losses"][0]
    assert "weights come from the checkpoint" in capsys.readouterr().out
