"""Text files of which single lines can be read by their number."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import IO

import numpy as np


def open(  # the name that scripts import
    name: str,
    mode: str = "r",
    encoding: str | None = None,
    errors: str = "strict",
    indexable: bool = False,
) -> IO | IndexedLines:
    """Python's `open`, which can also give a text file's lines by number.

    Args:
        name, mode, encoding, errors: as for Python's `open`.
        indexable: whether to return `IndexedLines`, for reading only.

    Example:

    >>> with open(__file__, encoding="utf-8", indexable=True) as lines:
    ...     lines[0][3:13]
    'Text files'
    """
    if not indexable:
        if "b" in mode:
            return builtins.open(name, mode)
        return builtins.open(name, mode, encoding=encoding, errors=errors)
    if mode not in ("r", "rt"):
        raise ValueError(f"mode is {mode!r}; an indexable file is for reading ('r')")
    return IndexedLines(name, encoding or "utf-8", errors)


class IndexedLines:
    """The lines of a text file as a sequence that stays on disk.

    Opening reads through the file once and keeps eight bytes a line. Good as the data
    of a `DataGenerator`. Close it, or use it in a `with` statement.

    Args:
        name: the file.
        encoding: one in which a line ends with the byte `\\n`: UTF-8, GBK, GB18030,
            not UTF-16.
        errors: as for Python's `open`.
    """

    def __init__(self, name: str, encoding: str = "utf-8", errors: str = "strict"):
        self.encoding, self.errors = encoding, errors
        self.file = builtins.open(name, "rb")  # noqa: SIM115 - closed by close()
        sizes = np.fromiter(map(len, self.file), dtype=np.int64)
        self.offsets = np.concatenate([[0], np.cumsum(sizes)])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> str:
        """Line number `index`, with its line end as `\\n`."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"line {index} of a file of {len(self)} lines")
        start, stop = self.offsets[index % len(self) :][:2].tolist()
        self.file.seek(start)
        line = self.file.read(stop - start).decode(self.encoding, self.errors)
        return line[:-2] + "\n" if line.endswith("\r\n") else line

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def __enter__(self) -> IndexedLines:
        return self

    def __exit__(self, *_) -> None:
        self.close()
