"""The gated attention unit."""

from __future__ import annotations

import keras
from keras import ops

from bert4keras import activations
from bert4keras.checks import check_choice, check_rate, check_sizes, is_one_shape
from bert4keras.layers.normalization import ScaleOffset
from bert4keras.layers.recompute import RecomputableLayer, draw_seed
from bert4keras.layers.scores import (
    NORMALIZATIONS,
    apply_rotary_position_embeddings,
    check_rotary_size,
    normalize_scores,
)


@keras.saving.register_keras_serializable(package="bert4keras")
class GatedAttentionUnit(RecomputableLayer):
    """Attention of one head and a gated feed-forward layer in one.

    activation(x W) is split into u, v and z of widths units, units and key_size;
    queries q and keys k are made from z by a scale and an offset each. The output is
    (u * (A v)) W_o with A = normalize(q k^T / sqrt(key_size)) (Hua et al., arXiv
    2202.10447, section 3.1).

    Args:
        units: width of u and v.
        key_size: width of queries and keys.
        activation: activation of the projection.
        use_bias: whether projections have a bias, and queries and keys an offset.
        normalization: `"squared_relu"`, `"softmax"` or `"softmax_plus"`.
        self_attention: if false, u and q come from the first input, k from the second
            and v from the third, each by a dense layer of its own.
        attention_scale: whether scores are divided by sqrt(key_size).
        attention_dropout: rate at which weights are dropped in training, or None.
        kernel_initializer: initializer of the kernels.
        recompute: whether training keeps the inputs only and computes the unit again
            for its gradients; see `RecomputableLayer`.

    Call arguments:
        inputs: float tensor (batch, length, hidden), or a list of it (of three tensors
            without `self_attention`), followed by the attention bias if `a_bias`, then
            by the sinusoidal positions if `p_bias`.
        mask: the padding masks; Keras fills them in.
        a_bias: whether an attention bias (batch, query length, key length) or one that
            broadcasts against it is among the inputs; an axis of size 1 for heads may
            come second. Minus infinity hides a key.
        p_bias: None or `"rotary"`.

    Returns:
        A float tensor (batch, length, hidden).

    Raises:
        ValueError: for sizes under 1, an unknown normalization or position bias, or
            inputs that do not match `a_bias` and `p_bias`.

    Example:
        >>> GatedAttentionUnit(16, 4)(keras.ops.ones((2, 5, 8))).shape  # (2, 5, 8)
    """

    def __init__(
        self,
        units: int,
        key_size: int,
        activation="swish",
        use_bias: bool = True,
        normalization: str = "squared_relu",
        self_attention: bool = True,
        attention_scale: bool = True,
        attention_dropout: float | None = None,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_sizes("GatedAttentionUnit", units=units, key_size=key_size)
        check_choice("GatedAttentionUnit", NORMALIZATIONS, normalization=normalization)
        check_rate("GatedAttentionUnit", attention_dropout=attention_dropout)
        self.units = units
        self.key_size = key_size
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.normalization = normalization
        self.self_attention = self_attention
        self.attention_scale = attention_scale
        self.attention_dropout = attention_dropout
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.supports_masking = True
        if attention_dropout:
            self.seed_generator = keras.random.SeedGenerator()

    def build(self, input_shape):
        """Create the projections, the scales and the offsets."""
        shapes = _as_shapes(input_shape)
        query, f = shapes[0], self.activation
        if self.self_attention:
            width = 2 * self.units + self.key_size
            self.inner_dense = self.add_dense(width, "inner", query, f)
        else:
            width = self.units + self.key_size
            self.query_dense = self.add_dense(width, "query", query, f)
            self.key_dense = self.add_dense(self.key_size, "key", shapes[1], f)
            self.value_dense = self.add_dense(self.units, "value", shapes[2], f)
        for name in ("query_scale", "key_scale"):
            layer = ScaleOffset(
                offset=self.use_bias, dtype=self.dtype_policy, name=name
            )
            layer.build((*query[:-1], self.key_size))
            setattr(self, name, layer)
        self.output_dense = self.add_dense(
            query[-1], "output", (*query[:-1], self.units)
        )

    def call(self, inputs, mask=None, a_bias=None, p_bias=None, training=None):
        """Project, attend, gate, project back."""
        if not isinstance(inputs, list | tuple):
            inputs, mask = [inputs], [mask]
        masks = mask or [None] * len(inputs)
        first = 1 if self.self_attention else 3
        self._check_inputs(inputs, a_bias, p_bias)
        seed = None
        if self.attention_dropout and training:
            seed = draw_seed(self.seed_generator)
        keep = masks[first - 1]
        if keep is not None:
            keep = ops.cast(keep, "bool")[:, None]

        def attend(*tensors):
            bias = _without_heads(tensors[first]) if a_bias else None
            return self._attend(tensors, keep, bias, p_bias, seed)

        return self.compute(attend, inputs, training)

    def _attend(self, inputs, keep, bias, p_bias, seed):
        gates, queries, keys, values = self._project(inputs)
        if p_bias:
            queries, keys = apply_rotary_position_embeddings(inputs[-1], queries, keys)
        scores = ops.einsum("bqd,bkd->bqk", queries, keys)
        if self.attention_scale:
            scores = scores / self.key_size**0.5
        weights = normalize_scores(scores, self.normalization, keep, bias)
        if seed is not None:
            weights = keras.random.dropout(weights, self.attention_dropout, seed=seed)
        return self.output_dense(gates * ops.einsum("bqk,bkd->bqd", weights, values))

    def _project(self, inputs):
        """u, queries, keys and v."""
        if self.self_attention:
            ends = [self.units, 2 * self.units]
            gates, values, shared = ops.split(self.inner_dense(inputs[0]), ends, -1)
            queries = keys = shared
        else:
            gates, queries = ops.split(self.query_dense(inputs[0]), [self.units], -1)
            keys, values = self.key_dense(inputs[1]), self.value_dense(inputs[2])
        return gates, self.query_scale(queries), self.key_scale(keys), values

    def _check_inputs(self, inputs, a_bias, p_bias):
        number = len(inputs) if isinstance(inputs, list | tuple) else 1
        if p_bias not in (None, False, "rotary"):
            raise ValueError(
                f"GatedAttentionUnit was called with p_bias={p_bias!r}; "
                "choose 'rotary' or None."
            )
        expected = 1 if self.self_attention else 3
        expected += bool(a_bias) + bool(p_bias)
        if number != expected:
            raise ValueError(
                f"GatedAttentionUnit was called with {number} inputs, but "
                f"self_attention={self.self_attention}, a_bias={a_bias!r} and "
                f"p_bias={p_bias!r} need {expected}."
            )
        if p_bias:
            check_rotary_size(inputs[-1], self.key_size)
        if a_bias:
            shape = tuple(inputs[1 if self.self_attention else 3].shape)
            if len(shape) > 4 or (len(shape) == 4 and shape[1] not in (1, None)):
                raise ValueError(
                    "GatedAttentionUnit was called with an attention bias of shape "
                    f"{shape}; there is one head, so that it must be (batch, query "
                    "length, key length) or (batch, 1, query length, key length)."
                )

    def compute_mask(self, inputs, previous_mask=None):
        """The mask of the first input."""
        if isinstance(previous_mask, list | tuple):
            return previous_mask[0]
        return previous_mask

    def compute_output_spec(
        self, inputs, mask=None, a_bias=None, p_bias=None, training=None
    ):
        """Shape and dtype; refuses inputs that do not fit as the model is built."""
        self._check_inputs(inputs, a_bias, p_bias)
        return super().compute_output_spec(inputs)

    def compute_output_shape(self, input_shape):
        """The shape of the first input."""
        return tuple(_as_shapes(input_shape)[0])

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "key_size": self.key_size,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "normalization": self.normalization,
            "self_attention": self.self_attention,
            "attention_scale": self.attention_scale,
            "attention_dropout": self.attention_dropout,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def _without_heads(bias):
    """A bias (batch, 1, query length, key length), as masks of language models are."""
    return bias[:, 0] if len(bias.shape) == 4 else bias


def _as_shapes(input_shape):
    return [input_shape] if is_one_shape(input_shape) else input_shape
