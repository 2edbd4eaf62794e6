"""Absolute positions: trained and sinusoidal."""

from __future__ import annotations

from numbers import Real

import keras
import numpy as np
from keras import ops

from bert4keras.checks import check_choice, check_sizes


def sinusoidal_embeddings(pos, dim: int, base: float = 10000.0):
    """Sines and cosines of positions, interleaved.

    Entry 2i is sin(p / base^(2i/dim)), entry 2i + 1 the cosine (Vaswani et al., arXiv
    1706.03762, section 3.5; 10000 is the value there).

    Args:
        pos: tensor of positions, of any shape, integer or float.
        dim: width of a vector, an even number.
        base: ratio of the longest wave length to the shortest.

    Returns:
        A float32 tensor (*pos.shape, dim).

    Raises:
        ValueError: if `dim` is odd or less than 2.

    Example:
        >>> sinusoidal_embeddings(keras.ops.arange(3), 4).shape  # (3, 4)
    """
    if dim < 2 or dim % 2:
        raise ValueError(
            f"sinusoidal positions were asked for with dim={dim}; "
            "it must be an even number of at least 2."
        )
    frequencies = np.float64(base) ** (-np.arange(0, dim, 2) / dim)
    angles = ops.cast(pos, "float32")[..., None]
    angles = angles * ops.convert_to_tensor(frequencies.astype("float32"))
    pairs = ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1)
    return ops.reshape(pairs, (*ops.shape(pairs)[:-2], dim))


@keras.saving.register_keras_serializable(package="bert4keras")
class Sinusoidal(keras.initializers.Initializer):
    """Initializer of a position table: `sinusoidal_embeddings` of 0, 1, 2, ...

    Example:
        >>> PositionEmbedding(512, 64, embeddings_initializer=Sinusoidal())
    """

    def __call__(self, shape, dtype=None):
        """The table (positions, size)."""
        positions, size = shape
        table = sinusoidal_embeddings(ops.arange(positions), size)
        return ops.cast(table, dtype or keras.config.floatx())


def merge_positions(x, positions, merge_mode: str):
    """Combine a sequence with its position vectors: add, mul, concat or zero.

    Args:
        x: float tensor (batch, length, hidden).
        positions: float tensor (1 or batch, length, size).
        merge_mode: `"add"`: x + p; `"mul"`: x * (1 + p); `"concat"`: both side by side;
            `"zero"`: p alone.

    Returns:
        A float tensor (batch, length, ...).

    Example:
        >>> merge_positions(x, positions, "add")
    """
    if merge_mode == "add":
        return x + positions
    if merge_mode == "mul":
        return x * (positions + 1.0)
    if merge_mode == "zero":
        return positions
    shape = ops.shape(x)
    positions = ops.broadcast_to(positions, (*shape[:2], positions.shape[-1]))
    return ops.concatenate([x, positions], axis=-1)


MERGE_MODES = ("add", "mul", "concat", "zero")


class _PositionLayer(keras.layers.Layer):
    """What position layers share: merging, and ids given from outside."""

    def __init__(self, output_dim, merge_mode, custom_position_ids, **kwargs):
        super().__init__(**kwargs)
        check_choice(type(self).__name__, MERGE_MODES, merge_mode=merge_mode)
        check_sizes(type(self).__name__, output_dim=output_dim)
        self.output_dim = output_dim
        self.merge_mode = merge_mode
        self.custom_position_ids = custom_position_ids
        self.supports_masking = True
        # Position ids must not be cast to float16, which ends at 65504.
        self._convert_input_args = False

    def position_vectors(self, position_ids, dtype):
        """The vectors (batch or 1, length, output_dim) of integer positions."""
        raise NotImplementedError

    def check_shape(self, shape):
        """Refuse sequences (batch, length, hidden) that positions do not fit."""
        if self.merge_mode in ("add", "mul") and shape[-1] != self.output_dim:
            raise ValueError(
                f"{type(self).__name__} was given vectors of width {shape[-1]}, to be "
                f"merged by {self.merge_mode!r} with positions of output_dim="
                f"{self.output_dim}; the two must be equal."
            )

    def call(self, inputs):
        """Look the positions up and merge them with the sequence."""
        if self.custom_position_ids:
            x, position_ids = inputs
        else:
            x, position_ids = inputs, ops.arange(ops.shape(inputs)[1])[None]
        self.check_shape(x.shape)
        x = ops.cast(x, self.compute_dtype)
        vectors = self.position_vectors(position_ids, x.dtype)
        return merge_positions(x, vectors, self.merge_mode)

    def compute_mask(self, inputs, previous_mask=None):
        """The mask of the sequence."""
        if self.custom_position_ids and isinstance(previous_mask, list | tuple):
            return previous_mask[0]
        return previous_mask

    def compute_output_shape(self, input_shape):
        """(batch, length, hidden), or the sum of both sizes for `concat`."""
        shape = input_shape[0] if self.custom_position_ids else input_shape
        self.check_shape(shape)
        if self.merge_mode == "concat":
            return (*shape[:-1], shape[-1] + self.output_dim)
        if self.merge_mode == "zero":
            return (*shape[:-1], self.output_dim)
        return tuple(shape)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "output_dim": self.output_dim,
            "merge_mode": self.merge_mode,
            "custom_position_ids": self.custom_position_ids,
        }


@keras.saving.register_keras_serializable(package="bert4keras")
class PositionEmbedding(_PositionLayer):
    """Trained absolute positions, optionally decomposed for longer texts.

    With `hierarchical=a`, position i * n + j of a table p_0..p_{n-1} gets
    a * u_i + (1 - a) * u_j with u_i = (p_i - a p_0) / (1 - a), which equals p_j for the
    first n positions (J. Su, "Hierarchical decomposition of position encodings",
    kexue.fm/archives/7947), so n positions reach n^2.

    Args:
        input_dim: number n of positions in the table.
        output_dim: width of a position's vector.
        merge_mode: `"add"`, `"mul"`, `"concat"` or `"zero"`; see `merge_positions`.
        hierarchical: None or False; True for a = 0.4; or a itself.
        embeddings_initializer: initializer of the table.
        custom_position_ids: whether the input is `[x, position_ids]`.

    Call arguments:
        inputs: float tensor (batch, length, hidden), or that and integer ids
            (batch, length).

    Returns:
        A float tensor (batch, length, ...).

    Raises:
        ValueError: for an unknown merge mode, sizes under 1, a outside (0, 1), or a
            sequence that is longer than the positions reach, or of another width.

    Example:
        >>> PositionEmbedding(8, 4)(keras.ops.ones((2, 3, 4))).shape
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        merge_mode: str = "add",
        hierarchical: bool | float | None = None,
        embeddings_initializer="zeros",
        custom_position_ids: bool = False,
        **kwargs,
    ):
        super().__init__(output_dim, merge_mode, custom_position_ids, **kwargs)
        check_sizes("PositionEmbedding", input_dim=input_dim)
        # 0.4 is the value of the source above.
        alpha = 0.4 if hierarchical is True else hierarchical or None
        if alpha and not (isinstance(alpha, Real) and 0 < alpha < 1):
            raise ValueError(
                f"PositionEmbedding was given hierarchical={hierarchical}; it must be "
                "a boolean, None, or a number between 0 and 1."
            )
        self.input_dim = input_dim
        self.hierarchical = hierarchical
        self.alpha = alpha
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)

    def build(self, input_shape):
        """Create the table."""
        self.embeddings = self.add_weight(
            shape=(self.input_dim, self.output_dim),
            initializer=self.embeddings_initializer,
            name="embeddings",
        )

    def call(self, inputs):
        """Add the positions' vectors."""
        if self.custom_position_ids or self.alpha or self.merge_mode == "concat":
            return super().call(inputs)
        self.check_shape(inputs.shape)
        # A slice is cheaper than a look-up, in its gradient above all.
        table = ops.convert_to_tensor(self.embeddings)[None, : ops.shape(inputs)[1]]
        x = ops.cast(inputs, self.compute_dtype)
        return merge_positions(x, ops.cast(table, x.dtype), self.merge_mode)

    def check_shape(self, shape):
        """Refuse also sequences that are longer than the table reaches."""
        super().check_shape(shape)
        reach = self.input_dim**2 if self.alpha else self.input_dim
        if self.custom_position_ids or shape[1] is None or shape[1] <= reach:
            return
        advice = "" if self.alpha else ", or use hierarchical_position"
        raise ValueError(
            f"A sequence of {shape[1]} positions does not fit the {reach} that the "
            f"position table reaches; shorten it{advice}."
        )

    def position_vectors(self, position_ids, dtype):
        """Look up, or compose from two entries of the table."""
        table = ops.convert_to_tensor(self.embeddings)
        position_ids = ops.cast(position_ids, "int32")
        if self.alpha:
            table = (table - self.alpha * table[:1]) / (1 - self.alpha)
            blocks = ops.take(table, position_ids // self.input_dim, axis=0)
            offsets = ops.take(table, position_ids % self.input_dim, axis=0)
            vectors = self.alpha * blocks + (1 - self.alpha) * offsets
        else:
            vectors = ops.take(table, position_ids, axis=0)
        return ops.cast(vectors, dtype)

    def get_config(self):
        """The constructor's arguments."""
        initializer = keras.initializers.serialize(self.embeddings_initializer)
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "hierarchical": self.hierarchical,
            "embeddings_initializer": initializer,
        }


@keras.saving.register_keras_serializable(package="bert4keras")
class SinusoidalPositionEmbedding(_PositionLayer):
    """Fixed absolute positions: see `sinusoidal_embeddings`.

    Args:
        output_dim: width of a position's vector, an even number.
        merge_mode: `"add"`, `"mul"`, `"concat"` or `"zero"`; see `merge_positions`.
            What rotary attention takes is made with `"zero"`.
        custom_position_ids: whether the input is `[x, position_ids]`; ids may be
            fractions.

    Call arguments:
        inputs: float tensor (batch, length, hidden), or that and ids (1 or batch,
            length).

    Returns:
        A float tensor (batch, length, ...); for `"zero"` without ids (1, length,
        output_dim).

    Raises:
        ValueError: for an unknown merge mode, or an odd size.

    Example:
        >>> SinusoidalPositionEmbedding(4)(keras.ops.ones((2, 3, 4))).shape
    """

    def __init__(
        self,
        output_dim: int,
        merge_mode: str = "add",
        custom_position_ids: bool = False,
        **kwargs,
    ):
        super().__init__(output_dim, merge_mode, custom_position_ids, **kwargs)
        if output_dim % 2:
            raise ValueError(
                f"{type(self).__name__} was given output_dim={output_dim}; "
                "it must be even, a sine and a cosine for each frequency."
            )

    def position_vectors(self, position_ids, dtype):
        """Sines and cosines, taken in float32."""
        return ops.cast(sinusoidal_embeddings(position_ids, self.output_dim), dtype)
