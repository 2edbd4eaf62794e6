"""Checkpoint files: one module a format."""

from bert4keras.checkpoints.bundle_files import find_checkpoint
from bert4keras.checkpoints.bundle_writer import write_checkpoint
from bert4keras.checkpoints.errors import (
    CheckpointError,
    CorruptCheckpointError,
    MissingCheckpointError,
    MissingVariableError,
    UnsupportedCheckpointError,
)
from bert4keras.checkpoints.tensor_bundle import CheckpointReader

__all__ = [
    "CheckpointError",
    "CheckpointReader",
    "CorruptCheckpointError",
    "MissingCheckpointError",
    "MissingVariableError",
    "UnsupportedCheckpointError",
    "find_checkpoint",
    "write_checkpoint",
]
