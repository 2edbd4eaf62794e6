"""Multi-head attention."""

from __future__ import annotations

import keras
from keras import ops

from bert4keras.masking import large_negative

NORMALIZATIONS = ("softmax",)


@keras.saving.register_keras_serializable(package="bert4keras")
class MultiHeadAttention(keras.layers.Layer):
    """Attention of several heads whose queries and keys may have a size of their own.

    Per head: A = softmax(Q K^T / sqrt(key_size) + bias), output A V; the heads side by
    side go through one more dense layer (Vaswani et al., arXiv 1706.03762, 3.2).
    A `key_size` larger than `head_size` lifts the low-rank bottleneck of the scores
    (Bhojanapalli et al., arXiv 2002.07028).

    Args:
        heads: number of heads.
        head_size: width of a head's values.
        out_dim: width of the output; None is `heads * head_size`.
        key_size: width of a head's queries and keys; None is `head_size`.
        use_bias: whether the projections have a bias.
        normalization: how scores become weights.
        attention_scale: whether scores are divided by sqrt(key_size).
        attention_dropout: rate at which weights are dropped in training, or None.
        return_attention_scores: whether to return the scores too.
        kernel_initializer: initializer of the kernels.

    Call arguments:
        inputs: `[query, key, value]`, float tensors (batch, length, hidden), followed
            by the attention bias if `a_bias`, then by what `p_bias` needs.
        mask: list of the inputs' padding masks; Keras fills it in.
        a_bias: whether an attention bias is among the inputs. It is added to the
            scores and broadcasts to (batch, heads, query length, key length);
            a bias of three axes is for all heads.
        p_bias: None; kinds of position biases are named in `position_biases`.

    Returns:
        A float tensor (batch, query length, out_dim); with `return_attention_scores`
        also the scores before the normalization (batch, heads, query, key length).

    Raises:
        ValueError: for sizes under 1, an unknown normalization or position bias, or
            inputs that do not match `a_bias` and `p_bias`.

    Example:
        >>> x = keras.ops.ones((2, 5, 8))
        >>> MultiHeadAttention(2, 4, key_size=16)([x, x, x]).shape  # (2, 5, 8)
    """

    def __init__(
        self,
        heads: int,
        head_size: int,
        out_dim: int | None = None,
        key_size: int | None = None,
        use_bias: bool = True,
        normalization: str = "softmax",
        attention_scale: bool = True,
        attention_dropout: float | None = None,
        return_attention_scores: bool = False,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.heads = heads
        self.head_size = head_size
        self.out_dim = heads * head_size if out_dim is None else out_dim
        self.key_size = head_size if key_size is None else key_size
        for name in ("heads", "head_size", "out_dim", "key_size"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"MultiHeadAttention was given {name}={getattr(self, name)}; "
                    "it must be at least 1."
                )
        if normalization not in NORMALIZATIONS:
            raise ValueError(
                f"MultiHeadAttention was given normalization={normalization!r}; "
                f"choose one of {NORMALIZATIONS}."
            )
        self.use_bias = use_bias
        self.normalization = normalization
        self.attention_scale = attention_scale
        self.attention_dropout = attention_dropout
        self.return_attention_scores = return_attention_scores
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.supports_masking = True
        if attention_dropout:
            self.dropout = keras.layers.Dropout(
                attention_dropout, dtype=self.dtype_policy
            )

    def _dense(self, units, name, input_shape):
        dense = keras.layers.Dense(
            units,
            use_bias=self.use_bias,
            # A fresh copy: one initializer object would give equal kernels.
            kernel_initializer=self.kernel_initializer.clone(),
            dtype=self.dtype_policy,
            name=name,
        )
        dense.build(input_shape)
        return dense

    def build(self, input_shape):
        """Create the four projections."""
        query, key, value = input_shape[:3]
        self.query_dense = self._dense(self.heads * self.key_size, "query", query)
        self.key_dense = self._dense(self.heads * self.key_size, "key", key)
        self.value_dense = self._dense(self.heads * self.head_size, "value", value)
        self.output_dense = self._dense(
            self.out_dim, "output", (*query[:-1], self.heads * self.head_size)
        )

    def call(self, inputs, mask=None, a_bias=None, p_bias=None, training=None):
        """Project, attend, project back."""
        query, key, value = inputs[:3]
        queries = self._split_heads(self.query_dense(query), self.key_size)
        keys = self._split_heads(self.key_dense(key), self.key_size)
        values = self._split_heads(self.value_dense(value), self.head_size)
        outputs, scores = self.pay_attention_to(
            [queries, keys, values, *inputs[3:]],
            mask,
            a_bias=a_bias,
            p_bias=p_bias,
            training=training,
        )
        shape = ops.shape(outputs)
        outputs = ops.reshape(outputs, (*shape[:2], self.heads * self.head_size))
        outputs = self.output_dense(outputs)
        return [outputs, scores] if self.return_attention_scores else outputs

    def _split_heads(self, x, size):
        batch, length = ops.shape(x)[:2]
        return ops.reshape(x, (batch, length, self.heads, size))

    def pay_attention_to(
        self, inputs, mask=None, a_bias=None, p_bias=None, training=None
    ):
        """Attention itself, the part that variants override.

        Args:
            inputs: `[queries, keys, values]` (batch, length, heads, size), then biases.
            mask: list of padding masks; that of the values counts.
            a_bias: as for the layer's call.
            p_bias: as for the layer's call.
            training: whether dropout is active.

        Returns:
            Outputs (batch, query length, heads, head_size), and the scores before the
            normalization, or None where nothing looks at them.
        """
        queries, keys, values = inputs[:3]
        bias = self._attention_bias(inputs, mask, a_bias, queries.dtype)
        drops = bool(self.attention_dropout) and training is not False
        # JAX's fused attention takes keys and values of one size only.
        fits = self.key_size == self.head_size or keras.backend.backend() != "jax"
        if fits and not self.return_attention_scores and not drops:
            scale = None if self.attention_scale else 1.0
            outputs = ops.dot_product_attention(
                queries, keys, values, bias=bias, scale=scale
            )
            return outputs, None
        scores = ops.einsum("bqhd,bkhd->bhqk", queries, keys)
        if self.attention_scale:
            scores = scores / self.key_size**0.5
        biased = scores if bias is None else scores + bias
        weights = ops.softmax(biased, axis=-1)
        if drops:
            weights = self.dropout(weights, training=training)
        return ops.einsum("bhqk,bkhd->bqhd", weights, values), scores

    def _attention_bias(self, inputs, mask, a_bias, dtype):
        """Attention bias and padding mask of the values as one additive bias."""
        bias = None
        if a_bias:
            bias = ops.cast(inputs[3], dtype)
            if len(bias.shape) == 3:
                bias = bias[:, None]
        value_mask = mask[2] if mask else None
        if value_mask is not None:
            keep = ops.cast(value_mask, "bool")[:, None, None, :]
            floor = ops.cast(large_negative(dtype), dtype)
            zero = ops.cast(0, dtype)
            bias = ops.where(keep, zero if bias is None else bias, floor)
        return bias

    def compute_mask(self, inputs, mask=None):
        """The mask of the queries; scores have none."""
        query_mask = mask[0] if mask else None
        return [query_mask, None] if self.return_attention_scores else query_mask

    def compute_output_shape(self, input_shape):
        """(batch, query length, out_dim), and the scores' shape if returned."""
        query, _, value = input_shape[:3]
        shape = (*query[:-1], self.out_dim)
        if not self.return_attention_scores:
            return shape
        return [shape, (query[0], self.heads, query[1], value[1])]

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "heads": self.heads,
            "head_size": self.head_size,
            "out_dim": self.out_dim,
            "key_size": self.key_size,
            "use_bias": self.use_bias,
            "normalization": self.normalization,
            "attention_scale": self.attention_scale,
            "attention_dropout": self.attention_dropout,
            "return_attention_scores": self.return_attention_scores,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
