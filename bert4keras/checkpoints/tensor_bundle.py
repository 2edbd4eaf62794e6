"""Reads TensorFlow's checkpoint files, without TensorFlow.

A checkpoint `PREFIX` is an index, `PREFIX.index`, and the bytes of the variables, in
one or more shards `PREFIX.data-00000-of-00001`. The index is a sorted string table
(`table.py`) of small records (`bundle_fields.py`); the shards have no structure of
their own. This is the format of the official BERT releases ("V2", "tensor bundle").

Source: tensorflow/core/util/tensor_bundle/tensor_bundle.h and .cc.
"""

from __future__ import annotations

import difflib
import itertools
import mmap
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

import google_crc32c
import numpy as np

from bert4keras.checkpoints.bundle_fields import (
    STRING,
    Entry,
    decode_entry,
    decode_header,
    numpy_dtype,
    slice_index,
    slice_key,
)
from bert4keras.checkpoints.bundle_files import (
    find_checkpoint,
    index_path,
    shard_path,
)
from bert4keras.checkpoints.bundle_strings import decode_strings
from bert4keras.checkpoints.errors import (
    CheckpointError,
    CorruptCheckpointError,
    MissingCheckpointError,
    MissingVariableError,
    UnsupportedCheckpointError,
)
from bert4keras.checkpoints.table import mask_crc, read_table

RELEASE_BYTES = 1 << 26  # verified between two releases of the memory map's pages


class CheckpointReader:
    """A TensorFlow checkpoint, read without TensorFlow.

    Opening reads the index, checksums included, and nothing else: names, shapes and
    dtypes are known even where the data files are absent. A data file is mapped into
    memory when the first of its tensors is asked for. `get_tensor` returns views of
    that map, which stay valid after `close`.

    Args:
        prefix: The checkpoint, as `find_checkpoint` takes it: a prefix, an index or a
            folder.
        verify: If true, all data are compared with their checksums at once.

    Attributes:
        prefix: The path without `.index`.
        num_shards: The number of data files.

    Raises:
        MissingCheckpointError: There is no such checkpoint.
        CorruptCheckpointError: The index is damaged, or is none.
        UnsupportedCheckpointError: The index is of a kind that is not read here.
        CheckpointError: The folder holds several checkpoints.

    Example:

    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from bert4keras.checkpoints import CheckpointReader, write_checkpoint
    >>> prefix = Path(tempfile.mkdtemp()) / "bert_model.ckpt"
    >>> kernel = np.arange(6, dtype="float32").reshape(2, 3)
    >>> write_checkpoint(prefix, {"dense/kernel": kernel})
    >>> with CheckpointReader(prefix) as reader:
    ...     print(reader.keys(), reader.shape("dense/kernel"))
    ...     print(reader["dense/kernel"].sum())
    ['dense/kernel'] (2, 3)
    15.0
    """

    def __init__(self, prefix: str | os.PathLike, verify: bool = False):
        self.prefix = find_checkpoint(prefix)
        path = index_path(self.prefix)
        try:
            self._index = path.read_bytes()
        except FileNotFoundError:  # moved away since it was found
            raise MissingCheckpointError(f"there is no {path} any more") from None
        self._maps: dict[int, mmap.mmap | bytes] | None = {}
        self._slices: dict[str, list[Entry]] = {}
        try:
            self.num_shards, self._entries = _read_index(self._index)
            for name, entry in self._entries.items():
                self._check_entry(name, entry)
            self._drop_slice_keys()
        except CheckpointError as error:
            raise type(error)(f"{path}: {error}") from None
        if verify:
            self.verify()

    def keys(self) -> list[str]:
        """The names of all variables, sorted."""
        return sorted(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def __enter__(self) -> CheckpointReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a variable.

        Raises:
            MissingVariableError: There is no variable of this name.
        """
        return self._entry(name).shape

    def dtype(self, name: str) -> np.dtype:
        """The NumPy dtype of a variable; `object` for strings, which are `bytes`.

        Raises:
            MissingVariableError: There is no variable of this name.
            UnsupportedCheckpointError: NumPy has no such dtype.
        """
        return numpy_dtype(self._entry(name).dtype)

    def get_tensor(self, name: str) -> np.ndarray:
        """The value of a variable, read-only.

        It is a view of the memory map: pages are read when they are used. Copies are
        made of strings, of variables saved in slices, and where the checkpoint does
        not align the data as NumPy needs them.

        Raises:
            MissingVariableError: There is no variable of this name.
            MissingCheckpointError: The data file is not there.
            CorruptCheckpointError: The data file is cut off, or not of this index.
            UnsupportedCheckpointError: NumPy has no such dtype.
            CheckpointError: The reader was closed.
        """
        entry = self._entry(name)
        numpy_dtype(entry.dtype)  # an error of the dtype before one of the files
        if name not in self._slices:
            value = self._read(entry, name)
        else:
            parts = [self._read(part, name) for part in self._slices[name]]
            value = np.empty(entry.shape, parts[0].dtype)
            for part, stored in zip(entry.slices, parts, strict=True):
                value[slice_index(part, entry.shape)] = stored
        value.flags.writeable = False
        return value

    __getitem__ = get_tensor

    def check_complete(self) -> None:
        """Checks that every data file is there, and as long as the index needs it.

        Raises:
            MissingCheckpointError: A data file is not there.
            CorruptCheckpointError: A data file is too short.
        """
        needed: dict[int, int] = {}
        for entry in self._stored_entries():
            end = entry.offset + entry.size
            needed[entry.shard] = max(end, needed.get(entry.shard, 0))
        for shard in range(self.num_shards):
            self._check_size(shard, needed.get(shard, 0))

    def verify(self, names: Iterable[str] | None = None) -> None:
        """Compares the data of variables with their checksums.

        Args:
            names: The variables; all of them if absent, and then the completeness of
                the data files is checked first.

        Raises:
            CorruptCheckpointError: The data of a variable are not those that were
                saved; the message names it.
            MissingVariableError, MissingCheckpointError, UnsupportedCheckpointError:
                As `get_tensor` raises them.
        """
        if names is None:
            self.check_complete()
            names = self.keys()
        seen = 0
        for name in names:
            entry = self._entry(name)
            for part in self._slices.get(name, [entry]):
                numpy_dtype(part.dtype)  # others have checksums of their own kind
                data = self._data(part, name)
                if part.dtype == STRING:
                    found = decode_strings(data.tobytes(), part.elements, name)[1]
                else:
                    found = google_crc32c.value(data)
                if mask_crc(found) != part.crc32c:
                    raise CorruptCheckpointError(
                        f"{self._shard_path(part.shard)}: the {part.size} bytes at "
                        f"{part.offset}, of the variable {name!r}, have the checksum "
                        f"{mask_crc(found):#010x} instead of {part.crc32c:#010x}: the "
                        "file is damaged, get it again"
                    )
                seen += part.size
                if seen >= RELEASE_BYTES:
                    self.release()
                    seen = 0

    def release(self) -> None:
        """Gives back the memory of the data that were read so far.

        Views stay valid: what is used again is read from the file again. Called now
        and then while weights are copied into a model, it keeps the process from
        holding all of them twice. Does nothing where the system has no `madvise`.
        """
        for data in (self._maps or {}).values():
            if hasattr(data, "madvise"):
                data.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Lets go of the data files; each stays mapped while views of it exist."""
        self._maps = None

    def _entry(self, name: str) -> Entry:
        if name in self._entries:
            return self._entries[name]
        similar = difflib.get_close_matches(str(name), self._entries, n=3)
        raise MissingVariableError(
            f"{self.prefix} has no variable {name!r} among its {len(self)}"
            + (f"; similar names: {', '.join(similar)}" if similar else "")
        )

    def _stored_entries(self) -> Iterator[Entry]:
        for name, entry in self._entries.items():
            yield from self._slices.get(name, [entry])

    def _check_entry(self, name: str, entry: Entry) -> None:
        """Compares what the index says of a variable with itself."""
        if entry.slices:
            self._slices[name] = self._find_slices(name, entry)
            return
        if entry.shard >= self.num_shards:
            raise CorruptCheckpointError(
                f"{name!r} lies in shard {entry.shard} of {self.num_shards}"
            )
        try:
            itemsize = numpy_dtype(entry.dtype).itemsize
        except UnsupportedCheckpointError:
            return  # an error when it is asked for; the others can be read
        if entry.dtype == STRING:
            wrong = entry.size < entry.elements + 4
        else:
            wrong = entry.size != entry.elements * itemsize
        if wrong:
            raise CorruptCheckpointError(
                f"{name!r} of shape {entry.shape} and dtype "
                f"{numpy_dtype(entry.dtype)} cannot have {entry.size} bytes"
            )

    def _find_slices(self, name: str, entry: Entry) -> list[Entry]:
        """The entries of a variable's slices, which must fill it without overlap."""
        found = []
        for part in entry.slices:
            index = slice_index(part, entry.shape)
            key = _decode_name(slice_key(_encode_name(name), part))
            stored = self._entries.get(key)
            shape = tuple(extent.stop - extent.start for extent in index)
            if stored is None or stored[:2] != (entry.dtype, shape) or stored.slices:
                raise CorruptCheckpointError(
                    f"the slice {part} of {name!r} of shape {entry.shape} is "
                    + ("not there" if stored is None else f"stored as {stored}")
                )
            found.append(stored)
        boxes = [slice_index(part, entry.shape) for part in entry.slices]
        overlap = any(
            all(
                one.start < other.stop and other.start < one.stop
                for one, other in zip(*pair, strict=True)
            )
            for pair in itertools.combinations(boxes, 2)
        )
        if overlap or sum(part.elements for part in found) != entry.elements:
            raise CorruptCheckpointError(
                f"the slices of {name!r} do not make up its shape {entry.shape}"
            )
        return found

    def _drop_slice_keys(self) -> None:
        for key in [key for key in self._entries if key.startswith("\0")]:
            del self._entries[key]

    def _shard_path(self, shard: int) -> Path:
        return shard_path(self.prefix, shard, self.num_shards)

    def _check_size(self, shard: int, needed: int) -> None:
        path = self._shard_path(shard)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            self._raise_missing(path)
        if size < needed:
            self._check_unchanged()
            raise CorruptCheckpointError(
                f"{path} has {size} bytes, and its index asks for {needed}: the file "
                "is cut off, get it again"
            )

    def _raise_missing(self, path: Path) -> NoReturn:
        self._check_unchanged()
        raise MissingCheckpointError(
            f"the data file {path} is not there: put it beside "
            f"{index_path(self.prefix).name}, which it belongs to"
        ) from None

    def _check_unchanged(self) -> None:
        """Data belong to the index that was read only while that one is in place.

        `write_checkpoint` takes the old index away before it moves a data file.
        """
        path = index_path(self.prefix)
        try:
            unchanged = path.read_bytes() == self._index
        except FileNotFoundError:
            unchanged = False
        if not unchanged:
            raise CheckpointError(
                f"{path} has changed since it was opened: the checkpoint was written "
                "anew or removed, open it again"
            ) from None

    def _read(self, entry: Entry, name: str) -> np.ndarray:
        """A tensor that is stored in one piece."""
        data = self._data(entry, name)
        if entry.dtype == STRING:
            value = np.empty(entry.elements, object)
            value[:] = decode_strings(data.tobytes(), entry.elements, name)[0]
        else:
            value = data.view(numpy_dtype(entry.dtype))
            if not value.flags.aligned:
                value = value.copy()
        return value.reshape(entry.shape)

    def _data(self, entry: Entry, name: str) -> np.ndarray:
        """The bytes of a tensor that is stored in one piece, as `uint8`."""
        if self._maps is None:
            raise CheckpointError(f"{self.prefix} was closed: open it again")
        if entry.shard not in self._maps:
            self._maps[entry.shard] = self._map(entry.shard)
        data = np.frombuffer(self._maps[entry.shard], np.uint8)
        end = entry.offset + entry.size
        if end > data.size:
            raise CorruptCheckpointError(
                f"{self._shard_path(entry.shard)} has {data.size} bytes, and {name!r} "
                f"ends at {end}: the file is cut off, get it again"
            )
        return data[entry.offset : end]

    def _map(self, shard: int) -> mmap.mmap | bytes:
        path = self._shard_path(shard)
        data: mmap.mmap | bytes = b""
        try:
            with open(path, "rb") as file:
                if os.fstat(file.fileno()).st_size:  # no system maps an empty file
                    data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            self._raise_missing(path)
        self._check_unchanged()
        return data


def _read_index(data: bytes) -> tuple[int, dict[str, Entry]]:
    """Reads the number of shards, and all entries, those of slices too."""
    records = read_table(data)
    key, value = next(records, (None, b""))
    if key != b"":
        raise CorruptCheckpointError("the index has no header")
    num_shards = decode_header(value)
    return num_shards, {
        _decode_name(key): decode_entry(value) for key, value in records
    }


def _decode_name(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _encode_name(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
