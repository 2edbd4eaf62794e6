"""Larger attention that starts with the function of the smaller one.

Queries are filled up with zeros and keys with random numbers: all products stay what
they are, and yet the new columns of the queries have gradients from the first step on.
As scores are divided by sqrt(key_size), queries are multiplied by sqrt(new / old).
Position biases go on acting on the old columns (`MultiHeadAttention.position_size`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from os import PathLike

import keras
import numpy as np

from bert4keras.checkpoints import CheckpointReader
from bert4keras.checks import check_choice, check_sizes
from bert4keras.layers import MultiHeadAttention
from bert4keras.layers.attention import TALKING_HEADS

# attention/self/query/kernel and its like, in google-research/bert's checkpoints.
_QUERY_OR_KEY = re.compile(r"(?:^|/)(query|key)/(kernel|bias)$")

# Deviation of google-research/bert's initializer (`initializer_range`).
_DEVIATION = 0.02


def grow_key_size(
    model_or_checkpoint: keras.Model | str | PathLike | Mapping,
    key_size: int,
    heads: int | None = None,
    seed: int = 0,
):
    """Enlarge the keys of every attention without changing its outputs.

    Args:
        model_or_checkpoint: a functional Keras model, whose layers may be models
            themselves; or a checkpoint of the BERT family (its path, or a mapping from
            names to arrays), without rotary or other positions that depend on the key
            size.
        key_size: the new width of a head's queries and keys.
        heads: number of heads, needed for a checkpoint only.
        seed: of the keys' new columns, for a checkpoint only.

    Returns:
        A new Keras model with weights of its own; or a mapping of arrays, to be given
        as `checkpoint_path` to `build_transformer_model` together with
        `attention_key_size=key_size`.

    Raises:
        ValueError: if there is no attention to enlarge, its keys are larger already,
            or the model is quantized or has LoRA weights.

    Example:
        >>> grown = grow_key_size("chinese_L-12_H-768_A-12", 128, heads=12)
        >>> model = build_transformer_model(
        ...     "chinese_L-12_H-768_A-12/bert_config.json", grown,
        ...     attention_key_size=128)
    """
    check_sizes("grow_key_size", key_size=key_size)
    if isinstance(model_or_checkpoint, keras.Model):
        return _grow_model(model_or_checkpoint, key_size)
    if heads is None:
        raise ValueError(
            "grow_key_size was given heads=None; for a checkpoint it must be the "
            "configuration's num_attention_heads."
        )
    check_sizes("grow_key_size", heads=heads)
    return _grow_checkpoint(model_or_checkpoint, key_size, heads, seed)


def add_talking_heads(model: keras.Model, talking_heads: str = "both") -> keras.Model:
    """Let the heads of every attention talk, which changes no output at first.

    For a checkpoint nothing of the kind is needed: `build_transformer_model(...,
    talking_heads="both")` loads it, and what mixes heads starts as the identity.

    Args:
        model: a Keras model.
        talking_heads: `"before"` the normalization, `"after"` it, or `"both"`.

    Returns:
        A new Keras model with weights of its own.

    Raises:
        ValueError: if the model has no attention, or one whose heads talk already.

    Example:
        >>> model = add_talking_heads(model)
    """
    check_choice(
        "add_talking_heads", (True, *TALKING_HEADS), talking_heads=talking_heads
    )
    for layer in _attentions(model):
        if layer.talking_heads:
            raise ValueError(f"the heads of {layer.name!r} talk already.")
    return _rebuild(model, _with_mixing, talking_heads=talking_heads)


def _with_mixing(old, new):
    """The weights of `old`, followed by what mixes heads in `new`."""
    weights = old.get_weights()
    return weights + new.get_weights()[len(weights) :]


def _leaves(model):
    """A model's layers, with those of the models among them instead of these."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        else:
            yield layer


def _attentions(model):
    found = [x for x in _leaves(model) if isinstance(x, MultiHeadAttention)]
    if not found:
        raise ValueError(
            f"the model {model.name!r} has no MultiHeadAttention among its layers."
        )
    for layer in model._flatten_layers():
        if getattr(layer, "lora_enabled", False):
            raise ValueError(
                f"{layer.path!r} has LoRA weights; save the model and load it again, "
                "which merges them, before it grows."
            )
        if getattr(layer, "quantization_mode", None) is not None:
            raise ValueError(
                f"{layer.path!r} is quantized; let the model grow before that."
            )
    return found


def _rebuild(model, grown_weights, **changes):
    """The model with other arguments for its attentions.

    Args:
        model: a functional model.
        grown_weights: function of an attention and its successor, for whose weights.
        **changes: the attentions' new arguments.
    """
    pairs = []

    def clone(layer):
        config = layer.get_config()
        if isinstance(layer, MultiHeadAttention):
            config.update(changes)
        made = type(layer).from_config(config)
        pairs.append((layer, made))
        return made

    grown = keras.models.clone_model(model, clone_function=clone, recursive=True)
    for old, new in pairs:
        if isinstance(old, MultiHeadAttention):
            new.set_weights(grown_weights(old, new))
        elif old.weights and not isinstance(old, keras.Model):
            new.set_weights(old.get_weights())
    return grown


def _check_growth(old, new, owner):
    if new < old:
        raise ValueError(
            f"grow_key_size was given key_size={new}, but {owner} has {old} already."
        )


def _grow_model(model, key_size):
    for layer in _attentions(model):
        _check_growth(layer.key_size, key_size, layer.name)
    return _rebuild(model, _grown_weights, key_size=key_size)


def _grown_weights(old, new):
    """The weights of `old` in the shapes of `new`, whose fresh keys fill them up."""
    factor = np.sqrt(new.key_size / old.key_size) if old.attention_scale else 1.0
    weights, fresh = old.get_weights(), new.get_weights()
    a_dense = 2 if old.use_bias else 1
    for i in range(2 * a_dense):  # query, then key
        is_query, is_kernel = i < a_dense, i % a_dense == 0
        filling = fresh[i] if is_kernel and not is_query else np.zeros_like(fresh[i])
        weights[i] = _widen(weights[i], filling, old.key_heads)
        if is_query:
            weights[i] = weights[i] * np.asarray(factor, weights[i].dtype)
    return weights


def _widen(array, filling, heads):
    """Every head's columns, followed by the further ones that `filling` has."""
    old = array.reshape(*array.shape[:-1], heads, -1)
    wide = filling.reshape(*array.shape[:-1], heads, -1).copy()
    wide[..., : old.shape[-1]] = old
    return wide.reshape(filling.shape)


class _GrownCheckpoint(Mapping):
    """A checkpoint whose queries and keys are widened when they are asked for."""

    def __init__(self, checkpoint, key_size, heads, seed):
        self.checkpoint, self.seed = checkpoint, seed
        self.key_size, self.heads = key_size, heads
        self.names = sorted(checkpoint)

    def __getitem__(self, name):
        array = np.asarray(self.checkpoint[name])
        match = _QUERY_OR_KEY.search(name)
        if match is None:
            return array
        kind, part = match.groups()
        old = array.shape[-1] // self.heads
        shape = (*array.shape[:-1], self.heads * self.key_size)
        filling = np.zeros(shape, array.dtype)
        if (kind, part) == ("key", "kernel"):
            rng = np.random.default_rng([self.seed, self.names.index(name)])
            filling = (rng.standard_normal(shape) * _DEVIATION).astype(array.dtype)
        grown = _widen(array, filling, self.heads)
        if kind == "query":
            grown = grown * np.sqrt(self.key_size / old).astype(array.dtype)
        return grown

    def __iter__(self):
        return iter(self.names)

    def __len__(self):
        return len(self.names)


def _grow_checkpoint(checkpoint, key_size, heads, seed):
    if isinstance(checkpoint, str | PathLike):
        checkpoint = CheckpointReader(checkpoint)
    names = [name for name in checkpoint if _QUERY_OR_KEY.search(name)]
    if not names:
        raise ValueError(
            "the checkpoint has no variables named .../query/kernel and .../key/kernel;"
            " build a model from it, and give that to grow_key_size."
        )
    for name in names:
        width = np.asarray(checkpoint[name]).shape[-1]
        if width % heads:
            raise ValueError(
                f"{name!r} is {width} wide, no multiple of heads={heads}; heads must "
                "be the configuration's num_attention_heads."
            )
        _check_growth(width // heads, key_size, name)
    return _GrownCheckpoint(checkpoint, key_size, heads, seed)
