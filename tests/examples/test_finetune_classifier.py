"""The fine-tuning program at tiny sizes: results, interruption, bad input."""

import errno
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import finetune_classifier
import numpy as np
import pytest
from finetune_classifier import (
    main,
    make_parser,
    parse_arguments,
    prepare_demo,
    remove_outputs,
)
from synthetic_reviews import make_vocabulary, write_dataset

PROGRAM = Path(finetune_classifier.__file__)
CONFIG = {
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 16,
    "initializer_range": 0.02,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "type_vocab_size": 2,
    "vocab_size": len(make_vocabulary()),
}
SAVE_EVERY = 3
BATCHES = 8  # in an epoch


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    sizes = {"train": 4 * BATCHES, "valid": 8, "test": 8, "unlabelled": 1}
    return write_dataset(tmp_path_factory.mktemp("data"), seed=1, **sizes)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, files):
    import keras

    from bert4keras.models import build_transformer_model

    folder = tmp_path_factory.mktemp("checkpoint")
    (folder / "bert_config.json").write_text(json.dumps(CONFIG))
    (folder / "vocab.txt").write_bytes(files["vocab"].read_bytes())
    keras.utils.set_random_seed(3)
    builder = build_transformer_model(
        folder / "bert_config.json", with_pool=True, return_keras_model=False
    )
    builder.save_weights_as_checkpoint(folder / "bert_model.ckpt")
    return folder


@pytest.fixture(scope="module")
def command(checkpoint, files):
    """The arguments of a run of two epochs, but for --output."""
    arguments = ["--checkpoint", checkpoint, "--maxlen", 16, "--epochs", 2]
    for name in ("train", "valid", "test"):
        arguments += [f"--{name}", files[name]]
    # Three does not divide 8: at an epoch's end gradients are left over.
    arguments += ["--batch-size", 4, "--accumulate", 3, "--save-every", SAVE_EVERY]
    return [str(argument) for argument in [*arguments, "--learning-rate", 1e-3]]


def arrays(output):
    """Everything that a run ends with: state and best weights, by name."""
    import h5py

    with np.load(output / "state.npz") as state:
        found = dict(state)
    with h5py.File(output / "best.weights.h5") as file:

        def collect(name, item):
            if isinstance(item, h5py.Dataset):
                found[name] = item[()]

        file.visititems(collect)
    return found


def assert_same(output, expected):
    found = arrays(output)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.fixture(scope="module")
def undisturbed(command, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed") / "run"
    assert main([*command, "--output", str(output)]) == 0
    return output


def test_what_a_run_leaves(undisturbed, command, capsys):
    assert sorted(path.name for path in undisturbed.iterdir()) == [
        "bert_config.json",
        "best.weights.h5",
        "curves.png",
        "results.json",
        "settings.json",
        "state.npz",
        "vocab.txt",
    ]
    assert (undisturbed / "curves.png").read_bytes()[:4] == b"\x89PNG"
    results = json.loads((undisturbed / "results.json").read_text())
    assert [entry["epoch"] for entry in results["history"]] == [1, 2]
    best = max(entry["val_accuracy"] for entry in results["history"])
    assert results["best"]["val_accuracy"] == best


class Crash(BaseException):
    """Nothing catches this."""


def crash_at(monkeypatch, owner, name, number):
    """Lets the `number`-th call of a function crash, counted from 1."""
    original, calls = getattr(owner, name), []

    def function(*arguments, **options):
        calls.append(name)
        if len(calls) == number:
            raise Crash
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, function)


def crashed_run(monkeypatch, command, output, owner, name, number):
    with monkeypatch.context() as patch:
        crash_at(patch, owner, name, number)
        with pytest.raises(Crash):
            main([*command, "--output", str(output)])


# The renames are of settings, configuration, vocabulary, first state, states after
# batches 3 and 6, best weights, state of the first epoch.
@pytest.mark.parametrize("rename", [5, 8])
def test_resume_after_a_crash_before_a_rename(
    rename, monkeypatch, command, undisturbed, tmp_path
):
    output = tmp_path / "run"
    crashed_run(monkeypatch, command, output, os, "replace", rename)
    assert main([*command, "--output", str(output), "--resume"]) == 0
    assert_same(output, arrays(undisturbed))


def test_resume_after_crashes_at_batches(monkeypatch, command, undisturbed, tmp_path):
    """In mid-epoch and mid-accumulation, twice; then once more after the end."""
    import keras

    output = tmp_path / "run"
    crashed_run(monkeypatch, command, output, keras.Model, "train_on_batch", 5)
    resume = [*command, "--resume"]
    # Five batches from the third on end the epoch; two more are lost.
    crashed_run(monkeypatch, resume, output, keras.Model, "train_on_batch", 8)
    assert not (output / "results.json").exists()
    for _ in range(2):
        assert main([*resume, "--output", str(output)]) == 0
        assert_same(output, arrays(undisturbed))
    results = [(o / "results.json").read_bytes() for o in (output, undisturbed)]
    assert results[0] == results[1]


def test_resume_before_the_first_state(monkeypatch, command, undisturbed, tmp_path):
    """Nothing but a file that was being written: the run begins anew."""
    output = tmp_path / "run"
    crashed_run(monkeypatch, command, output, os, "replace", 1)
    assert not list(output.iterdir())
    (output / "settings.json.tmp").write_bytes(b"{")  # as a killed process leaves it
    settings = ["--output", str(output), "--resume"]
    run = finetune_classifier.Run(parse_arguments(make_parser(), [*command, *settings]))
    assert run.trainer.progress["epoch"] == 0


def test_full_disk(monkeypatch, command, tmp_path, capsys):
    """One line, and nothing half-written; the fourth rename is of the first state."""
    output = tmp_path / "run"
    renamed = []

    def replace(source, target, original=os.replace):
        renamed.append(target)
        if len(renamed) == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(source, target)

    monkeypatch.setattr(os, "replace", replace)
    assert main([*command, "--output", str(output)]) == 1
    error = capsys.readouterr().err.strip()
    assert "No space left" in error and "--resume" in error and "\n" not in error
    assert sorted(path.name for path in output.iterdir()) == [
        "bert_config.json",
        "settings.json",
        "vocab.txt",
    ]


def test_no_matplotlib(monkeypatch, command, undisturbed, tmp_path, capsys):
    """Hours of training are not lost for want of a picture."""
    output = tmp_path / "run"
    shutil.copytree(undisturbed, output)
    (output / "curves.png").unlink()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main([*command, "--output", str(output), "--resume"]) == 0
    assert "matplotlib is not installed" in capsys.readouterr().out
    assert not (output / "curves.png").exists()


def test_resume_after_kill(command, undisturbed, tmp_path):
    """A process of its own, killed by the system at whatever it is doing."""
    output = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), *command, "--output", str(output)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    deadline = time.monotonic() + 120
    while not (output / "state.npz").exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.stdout.read().decode()
        time.sleep(0.02)
    time.sleep(1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode in (-signal.SIGKILL, 0)
    assert main([*command, "--output", str(output), "--resume"]) == 0
    assert_same(output, arrays(undisturbed))


def test_predict(undisturbed, files, tmp_path, capsys):
    texts = [line.split("\t")[1] for line in files["test"].read_text().splitlines()[1:]]
    bare = tmp_path / "texts.txt"
    bare.write_text("\n".join(texts) + "\n")
    outputs = []
    for path in (bare, files["test"]):
        arguments = ["--output", str(undisturbed), "--predict", str(path)]
        assert main(arguments) == 0
        outputs.append(capsys.readouterr())
    assert outputs[0].out == outputs[1].out
    rows = [line.split("\t") for line in outputs[0].out.splitlines()]
    assert [row[2] for row in rows] == texts
    assert all(0.5 <= float(row[1]) <= 1 for row in rows)
    results = json.loads((undisturbed / "results.json").read_text())
    assert f"Accuracy {results['test']['accuracy']:.4f}" in outputs[1].err


def test_masked_tokens():
    """The shares that the BERT paper states, and nothing hidden but ordinary tokens."""
    from tiny_bert import IGNORED, mask_tokens

    rng = np.random.default_rng(0)
    vocab_size, special = 50, 5
    ids = rng.integers(0, vocab_size, (500, 200))
    hidden, targets = mask_tokens(ids, rng, vocab_size)
    chosen = targets != IGNORED
    ordinary = ids >= special
    np.testing.assert_array_equal(targets[chosen], ids[chosen])
    np.testing.assert_array_equal(hidden[~chosen], ids[~chosen])
    assert not chosen[~ordinary].any()
    assert hidden[chosen].min() >= special - 1  # [MASK] is the last special token

    def close(found, expected, count):
        # Five standard deviations; spans of two double the variance of a share.
        return (
            abs(found - expected) < 5 * (2 * expected * (1 - expected) / count) ** 0.5
        )

    n = chosen.sum()
    assert close(chosen[ordinary].mean(), 0.15, ordinary.sum())
    assert close(np.mean(hidden[chosen] == special - 1), 0.8, n)
    kept = 0.1 + 0.1 / (vocab_size - special)
    assert close(np.mean(hidden[chosen] == ids[chosen]), kept, n)
    neighbours = chosen[:, 1:] & ordinary[:, :-1]
    together = np.mean(chosen[:, :-1][neighbours])
    assert together > 0.5


def test_masked_loss_is_that_of_the_hidden_tokens():
    import keras
    from tiny_bert import IGNORED, masked_loss

    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 3, 4)).astype("float32")
    targets = np.array([[IGNORED, 2, IGNORED], [0, IGNORED, 3]])
    logs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    expected = -(logs[0, 1, 2] + logs[1, 0, 0] + logs[1, 2, 3]) / 3
    loss = keras.ops.convert_to_numpy(masked_loss(targets, logits))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    nothing = np.full((2, 3), IGNORED)
    assert keras.ops.convert_to_numpy(masked_loss(nothing, logits)) == 0


def test_scores_against_counting():
    from classifier_training import scores

    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), size=60)
    classes = rng.integers(0, 3, 60)
    found = scores(probabilities, classes)
    predicted = probabilities.argmax(axis=1)
    f1 = []
    for c in range(4):
        tp = sum((p, t) == (c, c) for p, t in zip(predicted, classes, strict=True))
        precision = tp / max(1, sum(predicted == c))
        recall = tp / max(1, sum(classes == c))
        f1.append(2 * precision * recall / (precision + recall) if tp else 0.0)
    assert found["macro_f1"] == pytest.approx(np.mean(f1), rel=1e-12)
    assert found["accuracy"] == np.mean(predicted == classes)
    logs = [np.log(p[t]) for p, t in zip(probabilities, classes, strict=True)]
    assert found["loss"] == pytest.approx(-np.mean(logs), rel=1e-12)


def test_pairs_with_three_classes(checkpoint, tmp_path, capsys):
    lines = [
        f"很{a}\t不{b}\t{(i + j) % 3 - 1}"
        for i, a in enumerate("好坏多少真")
        for j, b in enumerate("好坏多少真")
    ]
    path = tmp_path / "pairs.tsv"
    path.write_text("\n".join(lines) + "\n")
    files = ["--train", str(path), "--valid", str(path)]
    output = str(tmp_path / "run")
    options = ["--epochs", "1", "--maxlen", "16", "--pooling", "mean"]
    options += ["--batch-size", "25"]
    command = ["--checkpoint", str(checkpoint), *files, *options, "--output", output]
    assert main(command) == 0
    assert (
        "25 examples, text<TAB>text<TAB>label, no header, 3 classes: -1 (8), 0 (9)"
        in (capsys.readouterr().out)
    )
    assert main(["--output", output, "--predict", str(path)]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert {row[0] for row in rows} <= {"-1", "0", "1"}
    assert [row[2:] for row in rows] == [line.split("\t")[:2] for line in lines]


def test_demonstration(monkeypatch, tmp_path, capsys):
    """From nothing to results; the folder it pre-trains is in the official format."""
    import tiny_bert

    from bert4keras.checkpoints import CheckpointReader

    def one_layer(*arguments, original=tiny_bert.tiny_config):
        return {**original(*arguments), "num_hidden_layers": 1}

    monkeypatch.setattr(tiny_bert, "tiny_config", one_layer)
    folder = tmp_path / "demo"
    options = ["--output", str(folder), "--epochs", "1", "--maxlen", "16"]
    arguments = parse_arguments(make_parser(), options)
    sizes = {"train": 32, "valid": 16, "test": 16, "unlabelled": 40}
    prepared = prepare_demo(arguments, sizes, epochs=1, batch_size=20, maxlen=16)
    run = finetune_classifier.Run(prepared)
    run.train()
    results = run.report()
    assert 0 <= results["test"]["accuracy"] <= 1
    names = {path.name for path in (folder / "tiny-bert").iterdir()}
    assert names >= {"bert_config.json", "vocab.txt", "bert_model.ckpt.index"}
    reader = CheckpointReader(folder / "tiny-bert" / "bert_model.ckpt")
    config = json.loads((folder / "tiny-bert" / "bert_config.json").read_text())
    shape = reader["bert/embeddings/word_embeddings"].shape
    assert shape == (config["vocab_size"], config["hidden_size"])
    printed = capsys.readouterr().out
    assert "Accuracy on test" in printed and "Macro F1 on test" in printed
    # What another demonstration does first: an output in use would be refused.
    remove_outputs(folder / "classifier")
    assert not list((folder / "classifier").iterdir())


# --- bad input ------------------------------------------------------------------------


def refused(capsys, arguments, output):
    """The one line that the program prints, having written nothing."""
    before = sorted(output.rglob("*")) if output.exists() else None
    assert main([*map(str, arguments), "--output", str(output)]) == 2
    assert (sorted(output.rglob("*")) if output.exists() else None) == before
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "Traceback" not in error
    return error


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("train", lambda s: s + "positive 好\n", "line 34: 1 tab-separated fields"),
        ("train", lambda s: s + "positive\t\n", "line 34: the text is empty"),
        ("train", lambda s: s + "positive\t\u200b\n", "line 34: a text without tokens"),
        ("train", lambda s: "", "the file is empty"),
        ("valid", lambda s: s + "neutral\t一般\n", "line 10: unknown label 'neutral'"),
        ("test", lambda s: s + "\n好\n", "line 10: the line is empty"),
        ("test", None, "no such file"),
    ],
)
def test_bad_files(name, change, message, command, files, tmp_path, capsys):
    path = tmp_path / f"{name}.tsv"
    if change is not None:
        path.write_text(change(files[name].read_text()))
    arguments = [path if a == str(files[name]) else a for a in command]
    error = refused(capsys, arguments, tmp_path / "run")
    assert message in error and str(path) in error


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bert_config.json", "no such file"),
        ("vocab.txt", "no such file"),
        ("bert_model.ckpt.index", "bert_model.ckpt"),
    ],
)
def test_incomplete_checkpoint(name, message, command, checkpoint, tmp_path, capsys):
    copy = tmp_path / "checkpoint"
    copy.mkdir()
    for path in checkpoint.iterdir():
        if path.name != name:
            (copy / path.name).write_bytes(path.read_bytes())
    arguments = [copy if a == str(checkpoint) else a for a in command]
    assert message in refused(capsys, arguments, tmp_path / "run")


def test_maxlen_beyond_the_positions(command, tmp_path, capsys):
    error = refused(capsys, [*command, "--maxlen", 65], tmp_path / "run")
    assert "--maxlen is 65, but the checkpoint has 64 positions" in error


def test_output_in_use(command, undisturbed, capsys):
    assert "is not empty; add --resume" in refused(capsys, command, undisturbed)


def test_resume_with_other_settings(command, undisturbed, capsys):
    arguments = [*command, "--resume", "--batch-size", 5]
    error = refused(capsys, arguments, undisturbed)
    assert "batch_size was 4, now 5" in error


def test_resume_from_a_damaged_state(command, undisturbed, tmp_path, capsys):
    output = tmp_path / "run"
    output.mkdir()
    for path in undisturbed.iterdir():
        (output / path.name).write_bytes(path.read_bytes())
    state = output / "state.npz"
    state.write_bytes(state.read_bytes()[:-100])
    error = refused(capsys, [*command, "--resume"], output)
    assert "is no complete training state" in error


def test_predict_without_a_run(files, tmp_path, capsys):
    arguments = ["--predict", files["test"]]
    assert "settings.json: no such file" in refused(capsys, arguments, tmp_path / "no")


def test_interrupted_from_the_keyboard(monkeypatch, command, tmp_path, capsys):
    def interrupt(run):
        raise KeyboardInterrupt

    monkeypatch.setattr(finetune_classifier.Run, "train", interrupt)
    assert main([*command, "--output", str(tmp_path / "run")]) == 130
    assert "--resume" in capsys.readouterr().err


@pytest.mark.pure
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train", "a"], "--checkpoint and --valid missing"),
        (["--test", "a"], "--test without"),
        (["--predict", "a"], "--predict needs --output"),
        (["--epochs", "0"], "--epochs must be at least 1"),
        (["--maxlen", "7"], "--maxlen must be at least 8"),
        (["--learning-rate", "nan"], "--learning-rate must be positive"),
        (["--warmup", "1"], "--warmup must be"),
    ],
)
def test_bad_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
