"""BERT (Devlin et al., arXiv 1810.04805), as in google-research/bert's modeling.py."""

from __future__ import annotations

import keras
import numpy as np
from keras.layers import Activation, Dense, Dropout, Input

from bert4keras import activations
from bert4keras.layers import (
    Add,
    AddSharedSegments,
    Embedding,
    FeedForward,
    FirstToken,
    LayerNormalization,
    MultiHeadAttention,
    PositionEmbedding,
    ScaleOffset,
)
from bert4keras.models.transformer import Transformer

# layer_norm() of google-research/bert is tf.contrib.layers.layer_norm, whose
# variance_epsilon is 1e-12.
LAYER_NORM_EPSILON = 1e-12


class BERT(Transformer):
    """The BERT family, with its pooler, next-sentence and masked-language-model heads.

    Inputs are token ids and segment ids, integers (batch, length); id 0 is padding and
    masked everywhere after. The output is the last block's hidden states (batch,
    length, hidden), or what the heads asked for give, in the order pooled or
    next-sentence probabilities, then masked-language-model probabilities.

    Args:
        max_position: size of the position table.
        segment_vocab_size: number of segments; 0 leaves the segment input away.
        with_pool: whether to return the pooled vector (batch, hidden); instead of True
            the name of an activation other than tanh.
        with_nsp: whether to return next-sentence probabilities (batch, 2), class 0
            for "is next".
        with_mlm: whether to return token probabilities (batch, length, vocabulary);
            `"linear"` gives logits.
        hierarchical_position: see `PositionEmbedding`.
        custom_position_ids: whether position ids are a third input (batch, length).
        shared_segment_embeddings: whether segments use rows 0 and 1 of the token table.
        **kwargs: the arguments of `Transformer`.

    Example:
        >>> bert = BERT(vocab_size=10, hidden_size=8, num_hidden_layers=1,
        ...             num_attention_heads=2, intermediate_size=16, hidden_act="gelu",
        ...             max_position=16)
        >>> bert.build()
        >>> bert.model.output.shape  # (None, None, 8)
    """

    def __init__(
        self,
        max_position: int,
        segment_vocab_size: int = 2,
        with_pool: bool | str = False,
        with_nsp: bool = False,
        with_mlm: bool | str = False,
        hierarchical_position: bool | float | None = None,
        custom_position_ids: bool = False,
        shared_segment_embeddings: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._check_sizes(max_position=max_position)
        self._check_sizes(0, segment_vocab_size=segment_vocab_size)
        self.max_position = max_position
        self.segment_vocab_size = segment_vocab_size
        self.with_pool = with_pool or with_nsp
        self.with_nsp = with_nsp
        self.with_mlm = with_mlm
        self.hierarchical_position = hierarchical_position
        self.custom_position_ids = custom_position_ids
        self.shared_segment_embeddings = shared_segment_embeddings

    # --- inputs and embeddings ------------------------------------------------------

    def get_inputs(self):
        """Token ids, segment ids, and position ids if those are given."""
        names = ["Input-Token"]
        if self.segment_vocab_size > 0:
            names.append("Input-Segment")
        if self.custom_position_ids:
            names.append("Input-Position")
        shape = (self.sequence_length,)
        return [
            self.apply(layer=Input, shape=shape, dtype="int32", name=name)
            for name in names
        ]

    def apply_embeddings(self, inputs):
        """The sum of token, segment and position vectors, normalized."""
        self._check_length()
        inputs = list(inputs)
        x = self.apply(
            inputs=inputs.pop(0),
            layer=Embedding,
            input_dim=self.vocab_size,
            output_dim=self.embedding_size,
            embeddings_initializer=self.initializer,
            mask_zero=True,
            name="Embedding-Token",
        )
        if self.segment_vocab_size > 0:
            shared = self.shared_segment_embeddings
            s = self.apply(
                inputs=inputs.pop(0),
                layer=Embedding,
                input_dim=self.segment_vocab_size,
                output_dim=self.embedding_size,
                embeddings_initializer=self.initializer,
                name="Embedding-Token" if shared else "Embedding-Segment",
            )
            x = self.apply(
                inputs=[x, s],
                layer=AddSharedSegments if shared else Add,
                name="Embedding-Token-Segment",
            )
        x = self.apply(
            inputs=self.simplify([x, *inputs]),
            layer=PositionEmbedding,
            input_dim=self.max_position,
            output_dim=self.embedding_size,
            merge_mode="add",
            hierarchical=self.hierarchical_position,
            embeddings_initializer=self.initializer,
            custom_position_ids=self.custom_position_ids,
            name="Embedding-Position",
        )
        x = self._normalize(x, "Embedding-Norm")
        x = self._drop(x, "Embedding-Dropout")
        if self.embedding_size != self.hidden_size:
            x = self.apply(
                inputs=x,
                layer=Dense,
                units=self.hidden_size,
                kernel_initializer=self.initializer,
                name="Embedding-Mapping",
            )
        return x

    def _check_length(self):
        """A fixed length must have positions; else the first batch would fail."""
        length = self.sequence_length or 0
        if length > self.max_position and not self.hierarchical_position:
            raise ValueError(
                f"sequence_length={length} is more than the {self.max_position} "
                "positions; shorten it, or set hierarchical_position=True."
            )

    # --- block ----------------------------------------------------------------------

    def apply_main_layers(self, inputs, index):
        """Attention and feed-forward, each with dropout, residual and normalization."""
        x = self.apply_attention(inputs, f"Transformer-{index}-MultiHeadSelfAttention")
        return self.apply_feed_forward(x, f"Transformer-{index}-FeedForward")

    def apply_attention(self, inputs, name):
        """The attention half of a block."""
        bias = self.compute_attention_bias(inputs)
        attention_inputs = [inputs, inputs, inputs]
        arguments = {}
        if bias is not None:
            attention_inputs.append(bias)
            arguments["a_bias"] = True
        x = self.apply(
            inputs=attention_inputs,
            layer=MultiHeadAttention,
            arguments=arguments,
            heads=self.num_attention_heads,
            head_size=self.attention_head_size,
            out_dim=self.hidden_size,
            key_size=self.attention_key_size,
            attention_dropout=self.attention_dropout_rate,
            kernel_initializer=self.initializer,
            name=name,
        )
        return self._close_residual(inputs, x, name)

    def apply_feed_forward(self, inputs, name):
        """The feed-forward half of a block."""
        x = self.apply(
            inputs=inputs,
            layer=FeedForward,
            units=self.intermediate_size,
            activation=self.hidden_act,
            kernel_initializer=self.initializer,
            name=name,
        )
        return self._close_residual(inputs, x, name)

    def _close_residual(self, inputs, outputs, name):
        x = self._drop(outputs, f"{name}-Dropout")
        x = self.apply(inputs=[inputs, x], layer=Add, name=f"{name}-Add")
        return self._normalize(x, f"{name}-Norm")

    def _drop(self, x, name):
        return self.apply(inputs=x, layer=Dropout, rate=self.dropout_rate, name=name)

    def _normalize(self, x, name):
        condition, hidden_units, hidden_activation = self.layer_norm_conds
        return self.apply(
            inputs=self.simplify([x, condition]),
            layer=LayerNormalization,
            conditional=condition is not None,
            hidden_units=hidden_units,
            hidden_activation=hidden_activation,
            hidden_initializer=self.initializer,
            epsilon=LAYER_NORM_EPSILON,
            name=name,
        )

    # --- heads ----------------------------------------------------------------------

    def apply_final_layers(self, inputs):
        """The heads that were asked for, or the hidden states."""
        outputs = []
        if self.with_pool:
            outputs.append(self.apply_pooler(inputs))
        if self.with_mlm:
            outputs.append(self.apply_language_model(inputs))
        return self.simplify(outputs) if outputs else inputs

    def apply_pooler(self, inputs):
        """The first token's vector through a dense layer, and next-sentence on top."""
        x = self.apply(inputs=inputs, layer=FirstToken, name="Pooler")
        x = self.apply(
            inputs=x,
            layer=Dense,
            units=self.hidden_size,
            activation="tanh" if self.with_pool is True else self.with_pool,
            kernel_initializer=self.initializer,
            name="Pooler-Dense",
        )
        if self.with_nsp:
            x = self.apply(
                inputs=x,
                layer=Dense,
                units=2,
                activation="softmax",
                kernel_initializer=self.initializer,
                name="NSP-Proba",
            )
        return x

    def apply_language_model(self, inputs):
        """Transform, project onto the token table, add a bias, activate."""
        x = self.apply(
            inputs=inputs,
            layer=Dense,
            units=self.embedding_size,
            activation=activations.get(self.hidden_act),
            kernel_initializer=self.initializer,
            name="MLM-Dense",
        )
        x = self._normalize(x, "MLM-Norm")
        x = self.apply(
            inputs=x,
            layer=Embedding,
            arguments={"mode": "dense"},
            name="Embedding-Token",
        )
        x = self.apply(inputs=x, layer=ScaleOffset, scale=False, name="MLM-Bias")
        return self.apply(
            inputs=x,
            layer=Activation,
            activation="softmax" if self.with_mlm is True else self.with_mlm,
            # Probabilities in full precision under a mixed policy: losses need it.
            dtype=keras.config.dtype_policy().variable_dtype,
            name="MLM-Activation",
        )

    # --- weights --------------------------------------------------------------------

    def load_variable(self, checkpoint, name: str) -> np.ndarray:
        """A variable, with its tokens selected or its matrix turned round."""
        variable = super().load_variable(checkpoint, name)
        if name in ("bert/embeddings/word_embeddings", "cls/predictions/output_bias"):
            return self.load_embeddings(variable)
        if name == "cls/seq_relationship/output_weights":
            return variable.T
        return variable

    def create_variable(self, name: str, value: np.ndarray, dtype=None) -> np.ndarray:
        """The inverse of `load_variable`."""
        if name == "cls/seq_relationship/output_weights":
            value = value.T
        return super().create_variable(name, value, dtype)

    def variable_mapping(self) -> dict[str, list[str]]:
        """The names in google-research/bert's checkpoints."""
        mapping = {
            "Embedding-Token": ["bert/embeddings/word_embeddings"],
            "Embedding-Segment": ["bert/embeddings/token_type_embeddings"],
            "Embedding-Position": ["bert/embeddings/position_embeddings"],
            "Embedding-Norm": _norm("bert/embeddings"),
            "Embedding-Mapping": _dense("bert/encoder/embedding_hidden_mapping_in"),
            "Pooler-Dense": _dense("bert/pooler/dense"),
            "NSP-Proba": [
                "cls/seq_relationship/output_weights",
                "cls/seq_relationship/output_bias",
            ],
            "MLM-Dense": _dense("cls/predictions/transform/dense"),
            "MLM-Norm": _norm("cls/predictions/transform"),
            "MLM-Bias": ["cls/predictions/output_bias"],
        }
        for i in range(self.num_hidden_layers):
            there = f"bert/encoder/layer_{i}"
            attention = f"Transformer-{i}-MultiHeadSelfAttention"
            feed_forward = f"Transformer-{i}-FeedForward"
            mapping[attention] = [
                *_dense(f"{there}/attention/self/query"),
                *_dense(f"{there}/attention/self/key"),
                *_dense(f"{there}/attention/self/value"),
                *_dense(f"{there}/attention/output/dense"),
            ]
            mapping[f"{attention}-Norm"] = _norm(f"{there}/attention/output")
            mapping[feed_forward] = [
                *_dense(f"{there}/intermediate/dense"),
                *_dense(f"{there}/output/dense"),
            ]
            mapping[f"{feed_forward}-Norm"] = _norm(f"{there}/output")
        return mapping


def _dense(name):
    return [f"{name}/kernel", f"{name}/bias"]


def _norm(name):
    return [f"{name}/LayerNorm/beta", f"{name}/LayerNorm/gamma"]
