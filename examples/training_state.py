"""Everything that a training run needs to go on as if nothing had happened.

One file holds the whole state: the values of all variables (weights, optimizer with its
accumulators, random generators) and the progress as JSON. It is written
beside its name and then renamed, so that at every moment there is either the old state
or the new one. `keras.callbacks.BackupAndRestore` is not enough: it renames nothing,
keeps weights and progress in two files, and always goes on at the start of an epoch.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import keras
import numpy as np


@contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of `path` when it is complete.

    Example:
        >>> with replacing("progress.json") as file:  # doctest: +SKIP
        ...     file.write(b"{}")
    """
    with _beside(path, ".tmp") as temporary:
        with open(temporary, "wb") as file:
            yield file
        _replace(temporary, path)


@contextmanager
def _beside(path: str | Path, ending: str) -> Iterator[Path]:
    """A name to write to first; an error leaves nothing there."""
    temporary = Path(path).with_name(Path(path).name + ending)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _replace(temporary: Path, path: str | Path) -> None:
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_json(path: str | Path, content: dict) -> None:
    """Writes a JSON file by `replacing`."""
    text = json.dumps(content, ensure_ascii=False, indent=1)
    with replacing(path) as file:
        file.write(text.encode("utf-8") + b"\n")


def save_weights(path: str | Path, model: keras.Model) -> None:
    """Writes `*.weights.h5`, without the optimizer, beside its name and renames it."""
    with _beside(path, ".tmp.weights.h5") as temporary:  # Keras asks for the ending
        _without_optimizer(model).save_weights(temporary)
        _replace(temporary, path)


def load_weights(path: str | Path, model: keras.Model) -> None:
    """Reads what `save_weights` wrote."""
    _without_optimizer(model).load_weights(path)


def _without_optimizer(model: keras.Model) -> keras.Model:
    return keras.Model(model.inputs, model.outputs)


def save_state(path: str | Path, model: keras.Model, progress: dict) -> None:
    """Writes the state of a compiled model, and `progress`, which JSON must hold."""
    model.optimizer.build(model.trainable_variables)
    text = json.dumps(progress).encode("utf-8")
    arrays = {"progress": np.frombuffer(text, dtype="uint8")}
    for i, variable in enumerate(model.variables):
        arrays[f"model_{i}"] = keras.ops.convert_to_numpy(variable.value)
    # Not `optimizer.variables`: an accumulator may hold more than these.
    optimizer: dict[str, np.ndarray] = {}
    model.optimizer.save_own_variables(optimizer)
    arrays.update({f"optimizer_{key}": value for key, value in optimizer.items()})
    with replacing(path) as file:
        np.savez(file, **arrays)


def load_state(path: str | Path, model: keras.Model) -> dict:
    """Gives a compiled model, not yet trained, its saved state; returns the progress.

    Raises:
        ValueError: the file is damaged or of another model; nothing was changed.
    """
    try:
        with np.load(path) as file:
            arrays = dict(file)
        progress = json.loads(arrays["progress"].tobytes())
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise ValueError(
            f"{path} is no complete training state ({error}); delete it to begin anew"
        ) from error
    variables = model.variables
    count = sum(key.startswith("model_") for key in arrays)
    values = [arrays[f"model_{i}"] for i in range(count)]
    if [v.shape for v in values] != [tuple(v.shape) for v in variables]:
        raise ValueError(
            f"{path} holds {len(values)} variables that are not the {len(variables)} "
            "of this model; resume with the arguments of the interrupted run"
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    model.optimizer.build(model.trainable_variables)
    prefix = "optimizer_"
    model.optimizer.load_own_variables(
        {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    )
    return progress
