"""Writes TensorFlow's checkpoint files, so that no half of one is ever visible."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np

from bert4keras.checkpoints.bundle_fields import (
    DTYPE_CODES,
    STRING,
    Entry,
    encode_entry,
    encode_header,
)
from bert4keras.checkpoints.bundle_files import index_path, shard_path
from bert4keras.checkpoints.bundle_strings import encode_strings
from bert4keras.checkpoints.errors import CheckpointError
from bert4keras.checkpoints.table import mask_crc, write_table

ALIGNMENT = 64  # bytes; a cache line, and enough for every vector instruction
MAX_SHARDS = 99999  # five digits in the file names


def write_checkpoint(
    prefix: str | os.PathLike,
    tensors: Mapping[str, np.ndarray] | Iterable[tuple[str, np.ndarray]],
    num_shards: int = 1,
) -> None:
    """Writes arrays as a TensorFlow checkpoint.

    All files are written under other names beside the target and flushed to the disk.
    Then an older checkpoint of the same prefix is moved aside, its index first, and
    the new files are moved in, the index last. Who opens the prefix at any moment
    therefore finds the old checkpoint, or the new one, or (for the instant of the
    moves, or if the machine stops at that instant) none. After an error everything is
    as it was before.

    Args:
        prefix: The path without an ending, as `folder/bert_model.ckpt`; the folder
            must exist.
        tensors: Names and arrays. An iterable of pairs is consumed one by one, so that
            not all arrays need be in memory at once. Dtypes: booleans, integers,
            floats (`float16`, `bfloat16`, `float32`, `float64`), complex numbers, and
            strings (`bytes`, or `str` to be saved as UTF-8; in arrays of objects or of
            NumPy's own string dtypes).
        num_shards: The number of data files; each array goes to the shortest so far.

    Raises:
        CheckpointError: A name is empty or occurs twice, a dtype cannot be saved, or
            the number of shards is out of range.
        FileNotFoundError: The folder does not exist.
        OSError: The files cannot be written.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from bert4keras.checkpoints import write_checkpoint
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_checkpoint(folder / "bert_model.ckpt", {"step": np.int64(7)})
    >>> sorted(path.name for path in folder.iterdir())
    ['bert_model.ckpt.data-00000-of-00001', 'bert_model.ckpt.index']
    """
    prefix = Path(prefix)
    if not 1 <= num_shards <= MAX_SHARDS:
        raise CheckpointError(f"{num_shards} shards: expected 1 to {MAX_SHARDS}")
    if not prefix.parent.is_dir():
        raise FileNotFoundError(f"the folder {prefix.parent} is not there: make it")
    pairs = tensors.items() if isinstance(tensors, Mapping) else tensors
    shards = [shard_path(prefix, i, num_shards).name for i in range(num_shards)]
    index = index_path(prefix).name
    token = secrets.token_hex(4)
    written = {name: f"{name}.new-{token}" for name in [*shards, index]}
    try:
        entries = _write_shards([prefix.with_name(written[s]) for s in shards], pairs)
        with open(prefix.with_name(written[index]), "xb") as file:
            file.write(_encode_index(entries, num_shards))
            _flush(file)
        _swap(prefix, written)
    finally:
        for name in written.values():
            prefix.with_name(name).unlink(missing_ok=True)
    _remove_leftovers(prefix)


def _write_shards(
    paths: list[Path], pairs: Iterable[tuple[str, np.ndarray]]
) -> dict[bytes, Entry]:
    """Writes the data files; returns what the index must say, by name."""
    entries: dict[bytes, Entry] = {}
    sizes = [0] * len(paths)
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(path, "xb")) for path in paths]
        for name, value in pairs:
            key = _encode_name(name)
            if key in entries:
                raise CheckpointError(f"the name {name!r} occurs twice")
            entry, data = _encode_tensor(name, np.asarray(value))
            shard = sizes.index(min(sizes))
            padding = -sizes[shard] % ALIGNMENT
            files[shard].write(b"\0" * padding)
            files[shard].write(data)
            offset = sizes[shard] + padding
            entries[key] = entry._replace(shard=shard, offset=offset)
            sizes[shard] = offset + entry.size
        for file in files:
            _flush(file)
    return entries


def _encode_name(name: str) -> bytes:
    try:
        key = name.encode("utf-8", "surrogateescape")
    except (AttributeError, UnicodeEncodeError):
        raise CheckpointError(f"{name!r} cannot be the name of a variable") from None
    if not key or key.startswith(b"\0"):
        raise CheckpointError(
            f"{name!r} cannot be the name of a variable: the format keeps the empty "
            "name and those that begin with a zero byte for itself"
        )
    return key


def _encode_tensor(name: str, array: np.ndarray) -> tuple[Entry, bytes | np.ndarray]:
    """What the index must say of a tensor, without its place, and its bytes."""
    if array.dtype.kind in "OSU":
        encoded, crc = encode_strings([_to_bytes(name, x) for x in array.ravel()])
        entry = Entry(STRING, array.shape, size=len(encoded), crc32c=mask_crc(crc))
        return entry, encoded
    if array.dtype.name not in DTYPE_CODES:
        raise CheckpointError(
            f"{name!r} has the dtype {array.dtype}, which cannot be saved: expected "
            f"strings or one of {', '.join(DTYPE_CODES)}"
        )
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    data = np.ascontiguousarray(little).reshape(-1).view(np.uint8)
    crc = mask_crc(google_crc32c.value(data))
    code = DTYPE_CODES[little.dtype.name]
    return Entry(code, array.shape, size=data.size, crc32c=crc), data


def _to_bytes(name: str, value: object) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if not isinstance(value, bytes):
        raise CheckpointError(
            f"{name!r} holds the {type(value).__name__} {value!r:.60}, which cannot be "
            "saved: an array of objects may hold bytes and str only"
        )
    return value


def _encode_index(entries: dict[bytes, Entry], num_shards: int) -> bytes:
    records = [(key, encode_entry(entry)) for key, entry in sorted(entries.items())]
    return write_table([(b"", encode_header(num_shards)), *records])


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _swap(prefix: Path, written: dict[str, str]) -> None:
    """Moves an old checkpoint aside and the new one in; undoes it after an error."""
    token = secrets.token_hex(4)
    old = sorted(_files(prefix), key=lambda name: not name.endswith(".index"))
    aside = {name: f"{name}.old-{token}" for name in old}
    moves = [*aside.items(), *((new, name) for name, new in written.items())]
    done: list[tuple[Path, Path]] = []
    try:
        for source, target in moves:
            step = prefix.with_name(source), prefix.with_name(target)
            done.append(step)  # first: an interrupt may fall between the two lines
            os.replace(*step)
            _flush_folder(prefix.parent)
    except BaseException:
        for source, target in reversed(done):
            if not source.exists():
                os.replace(target, source)
        raise


def _flush_folder(folder: Path) -> None:
    """Makes the moves so far reach the disk, and in this order."""
    if os.name != "posix":
        return  # where a folder cannot be opened
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _files(prefix: Path, ending: str = "") -> Iterator[str]:
    """The names of the files of a checkpoint that end so."""
    name = re.escape(prefix.name) + r"\.(index|data-\d{5}-of-\d{5})" + ending
    for path in prefix.parent.iterdir():
        if re.fullmatch(name, path.name):
            yield path.name


def _remove_leftovers(prefix: Path) -> None:
    """Removes the old checkpoint, and what writes that were killed have left."""
    for name in list(_files(prefix, r"\.(new|old)-[0-9a-f]{8}")):
        prefix.with_name(name).unlink(missing_ok=True)
