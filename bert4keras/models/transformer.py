"""The builder that people subclass to make their own Transformer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from typing import Any

import keras
import numpy as np

from bert4keras.checkpoints import CheckpointReader, write_checkpoint
from bert4keras.layers import MultiHeadAttention, RecomputableLayer
from bert4keras.models import loading


class Transformer:
    """Base of all model families: named layers, weights, and seams to override.

    A family says what its inputs, embeddings, block and heads are by overriding
    `get_inputs`, `apply_embeddings`, `apply_main_layers` and `apply_final_layers`, and
    how its layers are called in official checkpoints by `variable_mapping`. Layers are
    made by `apply`, under names by which scripts find them again
    (`Transformer-0-MultiHeadSelfAttention`).

    Args:
        vocab_size: number of tokens in the checkpoint.
        hidden_size: width of the hidden states.
        num_hidden_layers: number of blocks.
        num_attention_heads: heads of each attention.
        intermediate_size: inner width of the feed-forward layers.
        hidden_act: activation of the feed-forward layers.
        dropout_rate: rate after embeddings, attention and feed-forward.
        attention_dropout_rate: rate on the attention weights.
        embedding_size: width of the token vectors; None is `hidden_size`.
        attention_head_size: width of a head's values; None is
            `hidden_size // num_attention_heads`.
        attention_key_size: width of a head's keys; None is the head size.
        sequence_length: fixed length of the inputs; None is any.
        keep_tokens: ids of the tokens to keep; they become 0, 1, ...
        compound_tokens: for each token to append, the ids (after `keep_tokens`) whose
            vectors it averages, or a pair of ids and their shares.
        residual_attention_scores: whether each attention adds the scores of the one
            before it (RealFormer, arXiv 2012.11747).
        ignore_invalid_weights: whether variables that the checkpoint lacks, or holds in
            another shape, keep their initial values instead of raising an error.
        autoresize_weights: whether arrays of another shape are cut or extended.
        layers: layers to reuse, by name, for models that share weights.
        prefix: put before every layer's name.
        name: name of the Keras model.
        talking_heads: False, `"before"` the softmax, `"after"` it, or `"both"`; this
            and the next three are for every `MultiHeadAttention`, see there.
        attention_key_heads: heads of queries and keys, if not `num_attention_heads`.
        attention_value_heads: heads of the values, if not `num_attention_heads`.
        attention_normalization: how scores become weights, if not by `"softmax"`.
        recompute: whether attention and feed-forward layers are computed again for
            their gradients instead of being kept; or the numbers of the blocks for
            which they are (see `RecomputableLayer`).
        **kwargs: what else the configuration holds; ignored.

    Raises:
        ValueError: for sizes that cannot be, before any layer is made.

    Example:
        >>> class Mine(BERT):
        ...     def apply_final_layers(self, inputs):
        ...         return self.apply(inputs=inputs, layer=Dense, units=2, name="Out")
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int,
        num_hidden_layers: int,
        num_attention_heads: int,
        intermediate_size: int,
        hidden_act: str | Callable,
        dropout_rate: float | None = None,
        attention_dropout_rate: float | None = None,
        embedding_size: int | None = None,
        attention_head_size: int | None = None,
        attention_key_size: int | None = None,
        sequence_length: int | None = None,
        keep_tokens: list[int] | None = None,
        compound_tokens: list | None = None,
        residual_attention_scores: bool = False,
        ignore_invalid_weights: bool = False,
        autoresize_weights: bool = False,
        layers: dict | None = None,
        prefix: str | None = None,
        name: str | None = None,
        talking_heads: bool | str = False,
        attention_key_heads: int | None = None,
        attention_value_heads: int | None = None,
        attention_normalization: str | None = None,
        recompute: bool | list[int] = False,
        **kwargs,
    ):
        self._check_sizes(
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            num_attention_heads=num_attention_heads,
            intermediate_size=intermediate_size,
        )
        self._check_sizes(0, num_hidden_layers=num_hidden_layers)
        optional = {
            "embedding_size": embedding_size,
            "attention_head_size": attention_head_size,
            "attention_key_size": attention_key_size,
            "attention_key_heads": attention_key_heads,
            "attention_value_heads": attention_value_heads,
            "sequence_length": sequence_length,
        }
        self._check_sizes(**{k: v for k, v in optional.items() if v is not None})
        if attention_head_size is None and hidden_size % num_attention_heads:
            raise ValueError(
                f"hidden_size={hidden_size} is not a multiple of num_attention_heads="
                f"{num_attention_heads}; change one, or give attention_head_size."
            )
        self._check_recompute(recompute, num_hidden_layers)
        self.keep_tokens = keep_tokens
        self.compound_tokens = compound_tokens
        self.checkpoint_vocab_size = vocab_size
        self.vocab_size = len(keep_tokens) if keep_tokens is not None else vocab_size
        self.vocab_size += len(compound_tokens or ())
        self._check_tokens()
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.attention_head_size = attention_head_size or (
            hidden_size // num_attention_heads
        )
        self.attention_key_size = attention_key_size or self.attention_head_size
        self.intermediate_size = intermediate_size
        self.dropout_rate = dropout_rate or 0
        self.attention_dropout_rate = attention_dropout_rate or 0
        self.hidden_act = hidden_act
        self.embedding_size = embedding_size or hidden_size
        self.sequence_length = sequence_length
        self.residual_attention_scores = residual_attention_scores
        self.recompute = recompute
        options = {
            "talking_heads": talking_heads,
            "key_heads": attention_key_heads,
            "value_heads": attention_value_heads,
            "normalization": attention_normalization,
            "return_attention_scores": residual_attention_scores,
        }
        self.attention_options = {k: v for k, v in options.items() if v}
        self.ignore_invalid_weights = ignore_invalid_weights
        self.autoresize_weights = autoresize_weights
        self.layers = {} if layers is None else layers
        self.prefix = prefix or ""
        self.name = name
        self.attention_bias = None
        self.position_bias = None
        self.attention_scores = None
        self.built = False

    @staticmethod
    def _check_sizes(least=1, /, **sizes):
        for name, size in sizes.items():
            whole = isinstance(size, int | np.integer) and not isinstance(size, bool)
            if not whole or size < least:
                raise ValueError(
                    f"{name}={size!r} must be an integer of at least {least}."
                )

    @staticmethod
    def _check_recompute(recompute, blocks):
        if isinstance(recompute, bool):
            return
        known = isinstance(recompute, list | tuple | set | range)
        if not known or any(block not in range(blocks) for block in recompute):
            raise ValueError(
                f"recompute={recompute!r} must be True, False, or a list of block "
                f"numbers from 0 to {blocks - 1}."
            )

    def _check_tokens(self):
        """Token ids must exist: NumPy would take -1 for the last one."""
        kept = [] if self.keep_tokens is None else self.keep_tokens
        size = len(kept) if self.keep_tokens is not None else self.checkpoint_vocab_size
        parts = [loading.compound_parts(item)[0] for item in self.compound_tokens or []]
        for name, ids, limit in (
            ("keep_tokens", kept, self.checkpoint_vocab_size),
            ("compound_tokens", [i for part in parts for i in part], size),
        ):
            wrong = [i for i in ids if not 0 <= i < limit]
            if wrong:
                raise ValueError(
                    f"{name} holds the id {wrong[0]}, but the ids go from 0 to "
                    f"{limit - 1}; were they made with another vocabulary?"
                )

    # --- building -----------------------------------------------------------------

    def build(
        self,
        attention_caches: dict | None = None,
        layer_norm_cond=None,
        layer_norm_cond_hidden_size: int | None = None,
        layer_norm_cond_hidden_act: str | Callable | None = None,
        additional_input_layers=None,
        **kwargs,
    ) -> None:
        """Make the layers and the Keras model, `self.model`; once only.

        Args:
            attention_caches: by attention layer's name, a pair of tensors (batch,
                length, hidden) that go before its keys and values.
            layer_norm_cond: a tensor (batch, size) that conditions every normalization.
            layer_norm_cond_hidden_size: width of a dense layer on that condition.
            layer_norm_cond_hidden_act: its activation.
            additional_input_layers: Keras inputs that the model takes besides its own.
            **kwargs: ignored, so that a whole configuration can be passed.
        """
        if self.built:
            return
        inputs = self.get_inputs()
        self.set_inputs(inputs, additional_input_layers)
        self.attention_caches = attention_caches or {}
        self.layer_norm_conds = [
            layer_norm_cond,
            layer_norm_cond_hidden_size,
            layer_norm_cond_hidden_act or "linear",
        ]
        outputs = self.call(inputs)
        self.set_outputs(outputs)
        self.model = keras.Model(self.input, self.output, name=self.name)
        self.built = True

    def call(self, inputs):
        """Embeddings, blocks and heads, one after the other.

        Args:
            inputs: what `get_inputs` returned.

        Returns:
            The model's output tensor, or a list of them.
        """
        outputs = self.apply_embeddings(inputs)
        for index in range(self.num_hidden_layers):
            outputs = self.apply_main_layers(outputs, index)
        return self.apply_final_layers(outputs)

    def prefixed(self, name: str | None) -> str | None:
        """A layer's name with this builder's prefix."""
        return name if name is None else self.prefix + name

    def apply(
        self,
        inputs=None,
        layer: Callable | None = None,
        arguments: Mapping | None = None,
        **kwargs,
    ):
        """Call the layer of a given name, which is made the first time.

        Args:
            inputs: tensor or list of tensors; None returns the layer itself.
            layer: the layer's class.
            arguments: keyword arguments of the call.
            **kwargs: the constructor's arguments, `name` among them.

        Returns:
            The layer's output, or the layer.

        Example:
            >>> x = self.apply(inputs=x, layer=Dense, units=2, name="Head")
        """
        if layer is keras.layers.Dropout and not self.dropout_rate:
            return inputs
        arguments = dict(arguments or {})
        name = kwargs["name"] = self.prefixed(kwargs.get("name"))
        if name not in self.layers:
            if isinstance(layer, type) and issubclass(layer, MultiHeadAttention):
                kwargs = {**self.attention_options, **kwargs}
            if isinstance(layer, type) and issubclass(layer, RecomputableLayer):
                kwargs = {"recompute": self._recomputes(name), **kwargs}
            made = layer(**kwargs)
            name = made.name
            self.layers[name] = made
        made = self.layers[name]
        if inputs is None:
            return made
        if isinstance(made, MultiHeadAttention):
            return self._apply_attention(made, inputs, arguments)
        return made(inputs, **arguments)

    def _recomputes(self, name):
        """Whether the layer of this name is in a block to be recomputed."""
        if isinstance(self.recompute, bool):
            return self.recompute
        block = re.search(r"Transformer-(\d+)-", name or "")
        return block is not None and int(block[1]) in self.recompute

    def _apply_attention(self, layer, inputs, arguments):
        """Call an attention, with its cache and the scores of the one before it."""
        if layer.name in self.attention_caches:
            for i, cached in enumerate(self.attention_caches[layer.name], start=1):
                join = keras.layers.Concatenate(1, name=f"{layer.name}-Cache-{i}")
                inputs[i] = join([cached, inputs[i]])
        if not self.residual_attention_scores:
            return layer(inputs, **arguments)
        if self.attention_scores is not None:
            bias = self.attention_scores
            rest = inputs[3:]
            if arguments.get("a_bias"):
                join = keras.layers.Add(name=f"{layer.name}-Attention-Bias")
                bias, rest = join([rest[0], bias]), rest[1:]
            inputs = [*inputs[:3], bias, *rest]
            arguments["a_bias"] = True
        outputs, self.attention_scores = layer(inputs, **arguments)
        return outputs

    # --- seams --------------------------------------------------------------------

    def get_inputs(self):
        """The model's own inputs, a tensor or a list of them."""
        raise NotImplementedError(f"{type(self).__name__} must define get_inputs.")

    def apply_embeddings(self, inputs):
        """Inputs to hidden states (batch, length, hidden)."""
        raise NotImplementedError(f"{type(self).__name__} must define it.")

    def apply_main_layers(self, inputs, index: int):
        """Block number `index`, from hidden states to hidden states."""
        raise NotImplementedError(f"{type(self).__name__} must define it.")

    def apply_final_layers(self, inputs):
        """The last block's hidden states to the model's outputs."""
        raise NotImplementedError(f"{type(self).__name__} must define it.")

    def compute_attention_bias(self, inputs=None):
        """A bias for the scores of every attention, or None (see `LM_Mask`)."""
        return self.attention_bias

    def compute_position_bias(self, inputs=None):
        """What a family with relative positions gives every attention, or None."""
        return self.position_bias

    @property
    def initializer(self) -> keras.initializers.Initializer:
        """Initializer of kernels and tables: truncated normal, deviation 0.02.

        Source: `initializer_range` in google-research/bert, modeling.py.
        """
        return keras.initializers.TruncatedNormal(stddev=0.02)

    # --- inputs and outputs -------------------------------------------------------

    def set_inputs(self, inputs, additional_input_layers=None) -> None:
        """Keep the model's inputs as `self.inputs` (list) and `self.input`."""
        self.inputs = _as_list(inputs) + _as_list(additional_input_layers)
        self.input = self.simplify(self.inputs)

    def set_outputs(self, outputs) -> None:
        """Keep the model's outputs as `self.outputs` (list) and `self.output`."""
        self.outputs = _as_list(outputs)
        self.output = self.simplify(self.outputs)

    def simplify(self, inputs: Iterable):
        """Drop what is None from a list; return the only one left, or the list."""
        kept = [i for i in inputs if i is not None]
        return kept[0] if len(kept) == 1 else kept

    # --- weights ------------------------------------------------------------------

    def load_embeddings(self, embeddings: np.ndarray) -> np.ndarray:
        """Rows of a checkpoint's table (or entries of its bias) for this vocabulary.

        Args:
            embeddings: array with the checkpoint's tokens along axis 0.

        Returns:
            An array with the model's tokens along axis 0.

        Raises:
            ValueError: if the checkpoint has another number of tokens than the
                configuration says.
        """
        return loading.select_tokens(
            embeddings,
            self.checkpoint_vocab_size,
            self.keep_tokens,
            self.compound_tokens,
        )

    def load_variable(self, checkpoint, name: str) -> np.ndarray:
        """One variable of a checkpoint, as the model needs it; override to adapt.

        Args:
            checkpoint: a `CheckpointReader`, a mapping of arrays, or a path.
            name: the variable's name there.

        Returns:
            The array.

        Raises:
            KeyError: if the checkpoint has no such variable.
        """
        if isinstance(checkpoint, str | PathLike):
            checkpoint = CheckpointReader(checkpoint)
        return checkpoint[name]

    def create_variable(self, name: str, value: np.ndarray, dtype=None) -> np.ndarray:
        """One variable as a checkpoint holds it: the inverse of `load_variable`.

        Args:
            name: the variable's name in the checkpoint.
            value: the model's array.
            dtype: NumPy dtype to store, None for the array's own.

        Returns:
            The array to write.
        """
        return np.asarray(value, dtype=dtype)

    def variable_mapping(self) -> dict[str, list[str]]:
        """For each layer's name, its weights' names in the checkpoint, in order."""
        return {}

    def load_weights_from_checkpoint(
        self, checkpoint: str | PathLike | Mapping | Any, mapping: dict | None = None
    ) -> None:
        """Set the weights that a checkpoint holds; all of them or none.

        Args:
            checkpoint: the path of an official checkpoint (prefix, `.index` file or
                folder), an open reader, or a mapping from name to array.
            mapping: instead of `self.variable_mapping()`.

        Raises:
            FileNotFoundError: if files are missing.
            CheckpointError: if they are damaged, or lack a variable.
            ValueError: if a variable has another shape than the model's.
                Nothing was changed in any of these cases.

        Example:
            >>> builder.load_weights_from_checkpoint("chinese_L-12_H-768_A-12")
        """
        loading.load_weights(self, checkpoint, mapping)

    def save_weights_as_checkpoint(
        self, filename: str | PathLike, mapping: dict | None = None, dtype=None
    ) -> None:
        """Write the weights as an official TensorFlow checkpoint.

        Args:
            filename: prefix of the files, such as `out/bert_model.ckpt`.
            mapping: instead of `self.variable_mapping()`.
            dtype: NumPy dtype to store, None for the weights' own.

        Raises:
            OSError: if the files cannot be written; none is left half-written.

        Example:
            >>> builder.save_weights_as_checkpoint("out/bert_model.ckpt")
        """
        write_checkpoint(filename, loading.collect_weights(self, mapping, dtype))


def _as_list(x):
    if x is None:
        return []
    return list(x) if isinstance(x, list | tuple) else [x]
