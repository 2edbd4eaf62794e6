"""What can be wrong with a checkpoint. Every error is a `CheckpointError`."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A checkpoint cannot be read or written; the message says why and what to do."""


class CorruptCheckpointError(CheckpointError):
    """The bytes are damaged, cut off, or were never a checkpoint."""


class UnsupportedCheckpointError(CheckpointError):
    """The checkpoint is sound, but uses a feature that is not read here."""


class MissingCheckpointError(CheckpointError, FileNotFoundError):
    """A file of the checkpoint is not there. Also a `FileNotFoundError`."""


class MissingVariableError(CheckpointError, KeyError):
    """The checkpoint has no variable of this name. Also a `KeyError`."""

    __str__ = Exception.__str__  # KeyError would show the message quoted
