"""Finding a checkpoint by what people give as its path."""

import pytest

from bert4keras.checkpoints import (
    CheckpointError,
    MissingCheckpointError,
    UnsupportedCheckpointError,
    find_checkpoint,
)

pytestmark = pytest.mark.pure


@pytest.fixture
def touch(tmp_path):
    def make(*names):
        for name in names:
            (tmp_path / name).write_text("")
        return tmp_path

    return make


def test_a_file_of_the_checkpoint(touch):
    folder = touch("a.ckpt.index", "a.ckpt.data-00000-of-00001", "b.ckpt.index")
    prefix = folder / "a.ckpt"
    assert find_checkpoint(prefix) == prefix
    assert find_checkpoint(str(prefix) + ".index") == prefix
    assert find_checkpoint(str(prefix) + ".data-00000-of-00001") == prefix


def test_a_folder_with_one(touch):
    folder = touch("a.ckpt.index", "vocab.txt", "x.index.new-01234567")
    assert find_checkpoint(folder) == folder / "a.ckpt"


def test_a_folder_with_the_official_one(touch):
    folder = touch("a.ckpt.index", "bert_model.ckpt.index")
    assert find_checkpoint(folder) == folder / "bert_model.ckpt"


@pytest.mark.parametrize(
    "path", ["model-20", "/elsewhere/run/model-20", "D:\\model-20"]
)
def test_a_folder_with_a_state_file(touch, path):
    folder = touch("model-10.index", "model-20.index")
    state = f'model_checkpoint_path: "{path}"\nall_model_checkpoint_paths: "model-10"\n'
    (folder / "checkpoint").write_text(state)
    assert find_checkpoint(folder) == folder / "model-20"


@pytest.mark.parametrize("state", [None, "", 'model_checkpoint_path: "model-30"', "\0"])
def test_a_folder_with_several(touch, state):
    folder = touch("model-10.index", "model-20.index")
    if state is not None:
        (folder / "checkpoint").write_text(state)
    with pytest.raises(CheckpointError, match=r"2 checkpoints.*model-10, model-20"):
        find_checkpoint(folder)


def test_nothing_there(touch):
    folder = touch("vocab.txt")
    with pytest.raises(MissingCheckpointError, match="has no checkpoint"):
        find_checkpoint(folder)
    with pytest.raises(FileNotFoundError, match=r"there is no .*model\.ckpt\.index"):
        find_checkpoint(folder / "model.ckpt")


def test_the_old_format(touch):
    folder = touch("model.ckpt")
    with pytest.raises(UnsupportedCheckpointError, match="V1"):
        find_checkpoint(folder / "model.ckpt")
