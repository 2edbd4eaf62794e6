"""The files of a TensorFlow checkpoint: their names, and how one is found."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

from bert4keras.checkpoints.errors import (
    CheckpointError,
    MissingCheckpointError,
    UnsupportedCheckpointError,
)

OFFICIAL_NAME = "bert_model.ckpt"  # of every release at google-research/bert


def find_checkpoint(path: str | os.PathLike) -> Path:
    """Finds the prefix of a checkpoint's files.

    Args:
        path: The prefix itself (`bert_model.ckpt`), the index
            (`bert_model.ckpt.index`), or a folder. Of a folder, the one checkpoint in
            it is taken; of several, `bert_model.ckpt`, or else the one that the state
            file `checkpoint`, which TensorFlow writes, names as the latest.

    Returns:
        The prefix.

    Raises:
        MissingCheckpointError: There is no checkpoint.
        CheckpointError: The folder has several, and none of them is marked.
        UnsupportedCheckpointError: The file is of TensorFlow's old one-file format.
    """
    path = Path(path)
    if path.is_dir():
        return _find_in_folder(path)
    prefix = path.with_name(path.name.removesuffix(".index"))
    if shard_like := re.fullmatch(r"(.+)\.data-\d{5}-of-\d{5}", path.name):
        prefix = path.with_name(shard_like[1])
    index = index_path(prefix)
    if index.is_file():
        return prefix
    if path.is_file() and prefix == path:
        raise UnsupportedCheckpointError(
            f"{path} is a file, and {index} is not there: expected a checkpoint of an "
            "index and data files (one file alone is TensorFlow's format V1; save it "
            "again with tf.compat.v1.train.Saver, whose default is V2)"
        )
    if interrupted := sorted(path.parent.glob(glob.escape(index.name) + ".old-*")):
        ending = interrupted[0].suffix
        raise MissingCheckpointError(
            f"there is no {index}, because a write goes on or was interrupted: take "
            f"the ending {ending} off the names of all files that have it, and the "
            "checkpoint from before that write is back"
        )
    raise MissingCheckpointError(
        f"there is no {index}: give the path of a checkpoint without its ending "
        f"(.../{OFFICIAL_NAME}), or the folder that it lies in"
    )


def _find_in_folder(folder: Path) -> Path:
    indexes = [path for path in folder.glob("*.index") if path.is_file()]
    names = sorted(path.name.removesuffix(".index") for path in indexes)
    if len(names) == 1:
        return folder / names[0]
    if not names:
        raise MissingCheckpointError(
            f"the folder {folder} has no checkpoint: expected a file NAME.index "
            f"({OFFICIAL_NAME}.index in the official releases)"
        )
    if OFFICIAL_NAME in names:
        return folder / OFFICIAL_NAME
    state = folder / "checkpoint"
    text = state.read_text("utf-8", "replace") if state.is_file() else ""
    latest = re.search(r'^model_checkpoint_path:\s*"(.*)"', text, re.MULTILINE)
    # the path may be that of another machine; the name is what counts
    name = re.split(r"[/\\]", latest[1])[-1] if latest else None
    if name in names:
        return folder / name
    raise CheckpointError(
        f"the folder {folder} has {len(names)} checkpoints ({', '.join(names)}): give "
        "the path of one of them"
    )


def index_path(prefix: Path) -> Path:
    """The index, `PREFIX.index`."""
    return prefix.with_name(prefix.name + ".index")


def shard_path(prefix: Path, shard: int, num_shards: int) -> Path:
    """The data file of one shard, `PREFIX.data-SSSSS-of-NNNNN`."""
    return prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{num_shards:05d}")
