"""Multi-head attention."""

from __future__ import annotations

import keras
from keras import ops

from bert4keras.checks import (
    check_choice,
    check_optional_sizes,
    check_rate,
    check_sizes,
    is_one_shape,
)
from bert4keras.layers.recompute import RecomputableLayer, draw_seed
from bert4keras.layers.scores import (
    NORMALIZATIONS,
    apply_rotary_position_embeddings,
    check_rotary_size,
    fused_attention,
    normalize_scores,
)

POSITION_BIASES = ("rotary", "typical_relative", "t5_relative")
TALKING_HEADS = ("before", "after", "both")


@keras.saving.register_keras_serializable(package="bert4keras")
class HeadMixing(keras.layers.Layer):
    """One matrix that mixes heads: the talking of talking heads.

    Args:
        heads: number of heads that come out.
        initializer: initializer of the matrix.

    Call arguments:
        inputs: float tensor (batch, heads that go in, query length, key length).

    Returns:
        A float tensor (batch, heads, query length, key length).

    Raises:
        ValueError: if `heads` is less than 1.

    Example:
        >>> HeadMixing(3)(keras.ops.ones((2, 4, 5, 5))).shape  # (2, 3, 5, 5)
    """

    def __init__(self, heads: int, initializer="identity", **kwargs):
        super().__init__(**kwargs)
        check_sizes("HeadMixing", heads=heads)
        self.heads = heads
        self.initializer = keras.initializers.get(initializer)

    def build(self, input_shape):
        """Create the matrix."""
        self.kernel = self.add_weight(
            shape=(input_shape[1], self.heads),
            initializer=self.initializer,
            name="kernel",
        )

    def call(self, inputs):
        """Mix."""
        return ops.einsum("bgqk,gh->bhqk", inputs, self.kernel)

    def compute_output_shape(self, input_shape):
        """(batch, heads, query length, key length)."""
        return (input_shape[0], self.heads, *input_shape[2:])

    def get_config(self):
        """The constructor's arguments."""
        initializer = keras.initializers.serialize(self.initializer)
        return {
            **super().get_config(),
            "heads": self.heads,
            "initializer": initializer,
        }


@keras.saving.register_keras_serializable(package="bert4keras")
class MultiHeadAttention(RecomputableLayer):
    """Attention of several heads whose queries and keys may have a size of their own.

    Per head: A = normalize(Q K^T / sqrt(key_size) + bias), output A V; the heads side
    by side go through one more dense layer (Vaswani et al., arXiv 1706.03762, 3.2).
    A `key_size` larger than `head_size` lifts the low-rank bottleneck of the scores
    (Bhojanapalli et al., arXiv 2002.07028).

    Talking heads (Shazeer et al., arXiv 2003.02436, section 3) mix the scores of all
    heads by one matrix before the normalization, the weights by another after it, or
    both. There may then be as many heads for queries and keys, for the normalization,
    and for the values as one likes. The matrices come last among the layer's weights
    and start as the identity, so that a checkpoint without them keeps its function.

    Where nothing looks at the weights (`softmax`, no talking heads, scores not
    returned, no active dropout, no `typical_relative`), the backend's fused attention
    computes the same.

    A query all of whose keys are padding or hidden by the bias gets the mean of all
    values under `softmax`, and 0 under `squared_relu`; never NaN.

    Args:
        heads: number of heads.
        head_size: width of a head's values.
        out_dim: width of the output; None is `value_heads * head_size`.
        key_size: width of a head's queries and keys; None is `head_size`.
        use_bias: whether the projections have a bias.
        normalization: `"softmax"`, `"squared_relu"` or `"softmax_plus"`; see
            `normalize_scores`.
        attention_scale: whether scores are divided by sqrt(key_size).
        attention_dropout: rate at which weights are dropped in training, or None.
        return_attention_scores: whether to return the scores too.
        kernel_initializer: initializer of the kernels.
        talking_heads: False, `"before"` the normalization, `"after"` it, or `"both"`
            (True is `"both"`).
        key_heads: heads of queries and keys; None is `heads`. Another number needs
            talking heads before the normalization.
        value_heads: heads of the values; None is `heads`. Another number needs talking
            heads after the normalization.
        talking_initializer: initializer of the matrices that mix heads.
        position_size: how many columns of queries and keys, from the first on, the
            position biases are made for; None is all of them. `grow_key_size` adds
            columns without positions.
        recompute: whether training keeps the inputs only and computes the attention
            again for its gradients; see `RecomputableLayer`.

    Call arguments:
        inputs: `[query, key, value]`, float tensors (batch, length, hidden), followed
            by the attention bias if `a_bias`, then by what `p_bias` needs.
        mask: list of the inputs' padding masks; Keras fills it in. That of the value
            hides keys.
        a_bias: whether an attention bias is among the inputs. It is added to the
            scores and broadcasts to (batch, heads, query length, key length); one of
            three axes is for all heads. Minus infinity hides a key.
        p_bias: None, or which position bias is the last input:
            `"rotary"`: sinusoidal positions (1 or batch, length, position_size), by
            which queries and keys are rotated;
            `"typical_relative"`: vectors (query length, key length, head_size), added
            to keys and values (Shaw et al., arXiv 1803.02155, equations 3 and 4), which
            `position_size` must equal;
            `"t5_relative"`: a bias (query length, key length, heads), added to the
            scores; it is divided by sqrt(position_size) as they are by sqrt(key_size).

    Returns:
        A float tensor (batch, query length, out_dim); with `return_attention_scores`
        also the scores before bias and normalization (batch, heads, query length, key
        length).

    Raises:
        ValueError: for sizes under 1, head counts that do not fit, an unknown
            normalization or position bias, or inputs whose number or shapes do not
            match `a_bias` and `p_bias`.

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
        talking_heads: bool | str = False,
        key_heads: int | None = None,
        value_heads: int | None = None,
        talking_initializer="identity",
        position_size: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_sizes("MultiHeadAttention", heads=heads, head_size=head_size)
        check_optional_sizes(
            "MultiHeadAttention",
            out_dim=out_dim,
            key_size=key_size,
            key_heads=key_heads,
            value_heads=value_heads,
            position_size=position_size,
        )
        self.heads = heads
        self.key_heads = heads if key_heads is None else key_heads
        self.value_heads = heads if value_heads is None else value_heads
        self.head_size = head_size
        self.key_size = head_size if key_size is None else key_size
        self.position_size = self.key_size if position_size is None else position_size
        self.out_dim = self.value_heads * head_size if out_dim is None else out_dim
        if talking_heads is None or talking_heads is True:
            talking_heads = "both" if talking_heads else False
        self.talking_heads = talking_heads
        check_choice("MultiHeadAttention", NORMALIZATIONS, normalization=normalization)
        check_rate("MultiHeadAttention", attention_dropout=attention_dropout)
        self._check_arguments()
        self.use_bias = use_bias
        self.normalization = normalization
        self.attention_scale = attention_scale
        self.attention_dropout = attention_dropout
        self.return_attention_scores = return_attention_scores
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.talking_initializer = keras.initializers.get(talking_initializer)
        self.supports_masking = True
        if attention_dropout:
            self.seed_generator = keras.random.SeedGenerator()

    def _check_arguments(self):
        if self.position_size > self.key_size:
            raise ValueError(
                f"MultiHeadAttention was given position_size={self.position_size}, but "
                f"keys have only {self.key_size} columns."
            )
        check_choice(
            "MultiHeadAttention",
            (False, *TALKING_HEADS),
            talking_heads=self.talking_heads,
        )
        for name, where in (("key_heads", "before"), ("value_heads", "after")):
            number = getattr(self, name)
            if number != self.heads and self.talking_heads not in (where, "both"):
                raise ValueError(
                    f"MultiHeadAttention was given {name}={number} and heads="
                    f"{self.heads}; different numbers need talking_heads={where!r} or "
                    f"'both', not {self.talking_heads!r}."
                )

    def _mixing(self, name, heads_in, heads_out):
        mixing = HeadMixing(
            heads_out,
            self.talking_initializer.clone(),
            dtype=self.dtype_policy,
            name=name,
        )
        mixing.build((None, heads_in, None, None))
        return mixing

    def build(self, input_shape):
        """Create the four projections, and what mixes heads."""
        if len(input_shape) < 3 or is_one_shape(input_shape):
            raise ValueError(
                "MultiHeadAttention takes a list that begins with query, key and "
                f"value, but was given an input of shape {input_shape}."
            )
        query, key, value = input_shape[:3]
        self.query_dense = self.add_dense(
            self.key_heads * self.key_size, "query", query
        )
        self.key_dense = self.add_dense(self.key_heads * self.key_size, "key", key)
        width = self.value_heads * self.head_size
        self.value_dense = self.add_dense(width, "value", value)
        self.output_dense = self.add_dense(self.out_dim, "output", (*query[:-1], width))
        self.score_mixing = self.weight_mixing = None
        if self.talking_heads in ("before", "both"):
            self.score_mixing = self._mixing("score_mixing", self.key_heads, self.heads)
        if self.talking_heads in ("after", "both"):
            self.weight_mixing = self._mixing(
                "weight_mixing", self.heads, self.value_heads
            )

    def call(self, inputs, mask=None, a_bias=None, p_bias=None, training=None):
        """Project, attend, project back."""
        self._check_inputs(inputs, a_bias, p_bias)
        seed = None
        if self.attention_dropout and training:
            seed = draw_seed(self.seed_generator)

        def attend(*tensors):
            return self._attend(tensors, mask, a_bias, p_bias, seed)

        return self.compute(attend, inputs, training)

    def _attend(self, inputs, mask, a_bias, p_bias, seed):
        query, key, value = inputs[:3]
        queries = _split_heads(self.query_dense(query), self.key_heads, self.key_size)
        keys = _split_heads(self.key_dense(key), self.key_heads, self.key_size)
        values = self.value_dense(value)
        values = _split_heads(values, self.value_heads, self.head_size)
        outputs, scores = self.pay_attention_to(
            [queries, keys, values, *inputs[3:]],
            mask,
            a_bias=a_bias,
            p_bias=p_bias,
            seed=seed,
        )
        shape = ops.shape(outputs)
        width = self.value_heads * self.head_size
        outputs = self.output_dense(ops.reshape(outputs, (*shape[:2], width)))
        return [outputs, scores] if self.return_attention_scores else outputs

    def _check_inputs(self, inputs, a_bias, p_bias):
        if p_bias and p_bias not in POSITION_BIASES:
            raise ValueError(
                f"MultiHeadAttention was called with p_bias={p_bias!r}; "
                f"choose one of {POSITION_BIASES}, or None."
            )
        expected = 3 + bool(a_bias) + bool(p_bias)
        if len(inputs) != expected:
            raise ValueError(
                f"MultiHeadAttention was called with {len(inputs)} inputs, but "
                f"query, key and value with a_bias={a_bias!r} and p_bias={p_bias!r} "
                f"make {expected}."
            )
        if a_bias:
            self._check_bias(inputs[3])
        if p_bias == "rotary":
            check_rotary_size(inputs[-1], self.position_size)
        elif p_bias:
            self._check_positions(inputs[-1], p_bias)

    def _check_bias(self, bias):
        rank = len(bias.shape)
        heads = bias.shape[1] if rank == 4 else 1
        if rank > 4 or heads not in (1, self.heads, None):
            raise ValueError(
                "MultiHeadAttention was called with an attention bias of shape "
                f"{tuple(bias.shape)}; it must broadcast to (batch, {self.heads}, "
                "query length, key length), or have three axes, for all heads."
            )

    def _check_positions(self, positions, p_bias):
        size, name = self.heads, "heads"
        if p_bias == "typical_relative":
            size, name = self.head_size, "head_size"
            if self.position_size != size:
                raise ValueError(
                    "p_bias='typical_relative' adds the same vectors to keys and "
                    f"values, but position_size={self.position_size} (key_size, unless "
                    f"given) and head_size={size} differ."
                )
        if len(positions.shape) != 3 or positions.shape[-1] != size:
            raise ValueError(
                f"MultiHeadAttention was called with p_bias={p_bias!r} and positions "
                f"of shape {tuple(positions.shape)}; they must be (query length, key "
                f"length, {size}), {name} being {size}."
            )

    def pay_attention_to(self, inputs, mask=None, a_bias=None, p_bias=None, seed=None):
        """Attention itself, the part that variants override.

        Args:
            inputs: `[queries, keys, values]` (batch, length, heads, size), then biases.
            mask: list of padding masks; that of the values counts.
            a_bias: as for the layer's call.
            p_bias: as for the layer's call.
            seed: of the weights' dropout; None without it.

        Returns:
            Outputs (batch, query length, value heads, head_size), and the scores before
            bias and normalization, or None where nothing looks at them.
        """
        queries, keys, values = inputs[:3]
        keep = mask[2] if mask else None
        if keep is not None:
            keep = ops.cast(keep, "bool")[:, None, None, :]
        bias = _with_heads(inputs[3]) if a_bias else None
        positions = inputs[-1] if p_bias else None
        if p_bias == "rotary":
            queries, keys = self._rotate(positions, queries, keys)
        if self._is_fused(p_bias, seed):
            if p_bias == "t5_relative":
                positions = self._t5_bias(positions)
                bias = positions if bias is None else bias + positions
            outputs = fused_attention(queries, keys, values, keep, bias, self._scale)
            return outputs, None
        scores = self._scores(queries, keys, positions, p_bias)
        weights = normalize_scores(scores, self.normalization, keep, bias)
        if seed is not None:
            weights = keras.random.dropout(weights, self.attention_dropout, seed=seed)
        if self.weight_mixing is not None:
            weights = self.weight_mixing(weights)
        outputs = ops.einsum("bhqk,bkhd->bqhd", weights, values)
        if p_bias == "typical_relative":
            outputs = outputs + ops.einsum("bhqk,qkd->bqhd", weights, positions)
        return outputs, scores

    def _rotate(self, positions, *tensors):
        """Queries and keys with their first `position_size` columns rotated."""
        size = self.position_size
        rotated = [
            apply_rotary_position_embeddings(positions, x[..., :size]) for x in tensors
        ]
        if size == self.key_size:
            return rotated
        return [
            ops.concatenate([turned, x[..., size:]], axis=-1)
            for turned, x in zip(rotated, tensors, strict=True)
        ]

    @property
    def _scale(self):
        return self.key_size**-0.5 if self.attention_scale else 1.0

    def _is_fused(self, p_bias, seed):
        """Whether nothing needs the scores or the weights themselves."""
        return not (
            self.normalization != "softmax"
            or self.talking_heads
            or self.return_attention_scores
            or p_bias == "typical_relative"
            or seed is not None
        )

    def _scores(self, queries, keys, positions, p_bias):
        """Scores (batch, heads, query length, key length), heads mixed already."""
        # The queries are scaled, which are fewer numbers than the scores, and float16
        # does not overflow.
        queries = queries * self._scale if self.attention_scale else queries
        scores = ops.einsum("bqhd,bkhd->bhqk", queries, keys)
        if p_bias == "typical_relative":
            queries = queries[..., : self.position_size]
            scores = scores + ops.einsum("bqhd,qkd->bhqk", queries, positions)
        if self.score_mixing is not None:
            scores = self.score_mixing(scores)
        if p_bias == "t5_relative":
            scores = scores + self._t5_bias(positions)
        return scores

    def _t5_bias(self, positions):
        """Positions (query length, key length, heads) as scores."""
        bias = ops.transpose(positions, (2, 0, 1))[None]
        return bias * self.position_size**-0.5 if self.attention_scale else bias

    def compute_mask(self, inputs, mask=None):
        """The mask of the queries; scores have none."""
        query_mask = mask[0] if mask else None
        return [query_mask, None] if self.return_attention_scores else query_mask

    def compute_output_spec(
        self, inputs, mask=None, a_bias=None, p_bias=None, training=None
    ):
        """Shapes and dtypes; refuses inputs that do not fit as the model is built."""
        self._check_inputs(inputs, a_bias, p_bias)
        return super().compute_output_spec(inputs)

    def compute_output_shape(self, input_shape):
        """(batch, query length, out_dim), and the scores' shape if returned."""
        query, _, value = input_shape[:3]
        shape = (*query[:-1], self.out_dim)
        if not self.return_attention_scores:
            return shape
        return [shape, (query[0], self.heads, query[1], value[1])]

    def get_config(self):
        """The constructor's arguments."""
        initializers = {
            name: keras.initializers.serialize(getattr(self, name))
            for name in ("kernel_initializer", "talking_initializer")
        }
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
            "talking_heads": self.talking_heads,
            "key_heads": self.key_heads,
            "value_heads": self.value_heads,
            "position_size": self.position_size,
            **initializers,
        }


def _split_heads(x, heads, size):
    batch, length = ops.shape(x)[:2]
    return ops.reshape(x, (batch, length, heads, size))


def _with_heads(bias):
    """Four axes; a bias (batch, query length, key length) is for all heads."""
    if len(bias.shape) == 3:
        return bias[:, None]
    return ops.expand_dims(bias, list(range(4 - len(bias.shape))))
