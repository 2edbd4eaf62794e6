"""Between a builder's layers and a checkpoint's variables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from os import PathLike

import keras
import numpy as np

from bert4keras.checkpoints import CheckpointReader, MissingVariableError
from bert4keras.data.arrays import orthogonally_resize


def _nothing() -> None:
    pass


class InitialValue:
    """An initializer that hands over a checkpoint's array instead of random numbers.

    Args:
        array: the value, perhaps a view of a checkpoint's file.
        done: called when the value has been copied.
    """

    def __init__(self, array: np.ndarray, done: Callable[[], None] = _nothing):
        self.array = array
        self.done = done

    def __call__(self, shape, dtype=None):
        """A tensor with memory of its own: the file is read-only, and may go away."""
        # Keras copies arrays for TensorFlow and PyTorch; JAX may go on using them.
        aliased = keras.backend.backend() == "jax"
        array = _aligned_copy(self.array) if aliased else self.array
        tensor = keras.ops.convert_to_tensor(array, dtype=dtype)
        self.done()
        return tensor


# JAX takes an array over without a second copy if it starts at a multiple of this
# (XLA's alignment of CPU buffers).
ALIGNMENT = 64


def _aligned_copy(array: np.ndarray) -> np.ndarray:
    memory = np.empty(array.nbytes + ALIGNMENT, dtype="uint8")
    start = -memory.ctypes.data % ALIGNMENT
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def deferred_initialization() -> keras.StatelessScope:
    """A scope in which new variables wait for their first value until its end.

    Keras itself builds layers this way inside compiled functions. Weights that
    `load_weights` sets inside the scope are never filled with random numbers.

    Example:
        >>> with deferred_initialization():
        ...     builder.build()
        ...     builder.load_weights_from_checkpoint(path)
    """
    return keras.StatelessScope()


def set_value(variable: keras.Variable, value: InitialValue) -> None:
    """Give a variable a value, as its first one if it is still waiting for that."""
    if variable._value is None:
        # Keras has no public way to change what a waiting variable will start from.
        variable._initializer = value
    else:
        variable.assign(value(variable.shape, variable.dtype))


def compound_parts(item) -> tuple[list[int], list[float] | None]:
    """Ids and shares of a compound token: a list of ids, or a pair of lists."""
    is_pair = len(item) == 2 and not np.isscalar(item[0])
    return (item[0], item[1]) if is_pair else (item, None)


def select_tokens(
    array: np.ndarray,
    vocab_size: int,
    keep_tokens: list[int] | None,
    compound_tokens: list | None,
) -> np.ndarray:
    """Keep some rows of a table and append averages of rows.

    Args:
        array: (tokens, ...).
        vocab_size: how many tokens the configuration says there are.
        keep_tokens: rows to keep, None for all.
        compound_tokens: for each row to append, the rows (after `keep_tokens`) that it
            averages, or a pair of rows and their shares.

    Returns:
        An array (kept and appended tokens, ...).

    Raises:
        ValueError: if the array has another number of rows than `vocab_size`.
    """
    if keep_tokens is not None and array.shape[0] != vocab_size:
        raise ValueError(
            f"keep_tokens was made for a vocabulary of {vocab_size} tokens, but the "
            f"checkpoint has {array.shape[0]}; use the vocab.txt and the configuration "
            "that came with this checkpoint."
        )
    if keep_tokens is not None:
        array = array[np.asarray(keep_tokens, dtype="int64")]
    if compound_tokens:
        rows = []
        for item in compound_tokens:
            ids, shares = compound_parts(item)
            rows.append(np.average(array[ids], axis=0, weights=shares))
        array = np.concatenate([array, np.asarray(rows, dtype=array.dtype)], axis=0)
    return array


def _mapped_layers(builder, mapping) -> Iterator[tuple]:
    """Pairs of a layer and its weights' names, for the layers that the model has."""
    if mapping is None:
        mapping = builder.variable_mapping()
    for name, variables in mapping.items():
        layer = builder.layers.get(builder.prefixed(name))
        if layer is not None:
            yield layer, variables


def _own_weights(layer) -> list[keras.Variable]:
    """A layer's weights without those that LoRA adds, which no checkpoint has."""
    return [w for w in layer.weights if not w.name.startswith("lora_")]


def _shape_error(layer, variable, name, found) -> ValueError:
    expected = tuple(variable.shape)
    message = (
        f"the checkpoint's {name!r} has shape {tuple(found)}, but weight "
        f"{variable.path!r} of layer {layer.name!r} has {expected}."
    )
    if layer.name.endswith(("Embedding-Token", "MLM-Bias")):
        message += (
            f" The checkpoint's vocabulary has {found[0]} tokens and the model's "
            f"{expected[0]}: set vocab_size to {found[0]} and use the vocab.txt that "
            "came with the checkpoint, or say by keep_tokens which tokens to keep."
        )
    elif layer.name.endswith("Embedding-Position"):
        message += (
            f" Set max_position to {found[0]}; for longer texts add "
            "hierarchical_position=True."
        )
    else:
        message += (
            " Change the model's sizes, or pass autoresize_weights=True to cut or "
            "extend the arrays, or ignore_invalid_weights=True to leave this weight "
            "at its initial value."
        )
    return ValueError(message)


def _check_real(array, layer, name) -> None:
    # NumPy calls the dtypes of ml_dtypes, bfloat16 among them, "V" like structures.
    if array.dtype.kind in "fiub" or array.dtype.name == "bfloat16":
        return
    raise ValueError(
        f"the checkpoint's {name!r} has the dtype {array.dtype}, but layer "
        f"{layer.name!r} needs real numbers; map the layer to another variable."
    )


def _find_values(builder, checkpoint, mapping) -> list[tuple]:
    """Pairs of a weight and its array; raises before anything is changed."""
    pairs = []
    for layer, names in _mapped_layers(builder, mapping):
        weights = _own_weights(layer)
        if len(weights) < len(names):
            raise ValueError(
                f"variable_mapping names {len(names)} variables for layer "
                f"{layer.name!r}, which has {len(weights)} weights: "
                f"{[w.path for w in weights]}."
            )
        for variable, name in zip(weights, names, strict=False):
            try:
                array = np.asarray(builder.load_variable(checkpoint, name))
            except KeyError as error:
                if builder.ignore_invalid_weights:
                    continue
                raise MissingVariableError(
                    f"the checkpoint has no variable {name!r}, which weight "
                    f"{variable.path!r} of layer {layer.name!r} needs; build the model "
                    "without that layer, map it to another name in variable_mapping, "
                    "or pass ignore_invalid_weights=True to keep its initial value."
                ) from error
            if tuple(array.shape) != tuple(variable.shape):
                if builder.autoresize_weights and array.ndim == len(variable.shape):
                    array = orthogonally_resize(array, tuple(variable.shape))
                elif builder.ignore_invalid_weights:
                    continue
                else:
                    raise _shape_error(layer, variable, name, array.shape)
            _check_real(array, layer, name)
            pairs.append((variable, array))
    return pairs


def load_weights(
    builder, checkpoint: str | PathLike | Mapping, mapping: dict | None = None
) -> None:
    """Set a builder's weights from a checkpoint; see `Transformer`'s method."""
    done = _nothing
    is_path = isinstance(checkpoint, str | PathLike)
    if is_path:
        checkpoint = CheckpointReader(checkpoint)
        checkpoint.check_complete()
        # Else the file's pages would stay in memory beside the weights.
        done = checkpoint.release
    pairs = _find_values(builder, checkpoint, mapping)
    if is_path:
        used = [name for _, names in _mapped_layers(builder, mapping) for name in names]
        checkpoint.verify(name for name in used if name in checkpoint)
    for variable, array in pairs:
        set_value(variable, InitialValue(array, done))


def collect_weights(
    builder, mapping: dict | None = None, dtype=None
) -> Iterator[tuple[str, np.ndarray]]:
    """Pairs of a variable's name in the checkpoint and its array, layer by layer."""
    for layer, names in _mapped_layers(builder, mapping):
        for variable, name in zip(_own_weights(layer), names, strict=False):
            value = keras.ops.convert_to_numpy(variable)
            yield name, builder.create_variable(name, value, dtype)
