"""Token embedding."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable(package="bert4keras")
class Embedding(keras.layers.ReversibleEmbedding):
    """Token embedding that can also project back to the vocabulary.

    Args:
        input_dim: number of tokens.
        output_dim: width of a token's vector.
        **kwargs: the arguments of `keras.layers.ReversibleEmbedding`; with
            `mask_zero=True` token 0 is padding.

    Call arguments:
        inputs: integer tensor (batch, length), or with `mode="dense"` a float tensor
            (batch, length, output_dim).
        mode: `"embedding"` looks vectors up; `"dense"` multiplies by the transposed
            table and gives (batch, length, input_dim).

    Returns:
        A float tensor.

    Raises:
        ValueError: for another mode.

    Example:
        >>> layer = Embedding(10, 4)
        >>> layer(layer(keras.ops.array([[1, 2]])), mode="dense").shape
    """

    def call(self, inputs, mode="embedding"):
        """Look vectors up, or project back."""
        return super().call(inputs, reverse=self._is_reverse(mode))

    def quantized_call(self, inputs, mode="embedding"):
        """The same with a quantized table."""
        return super().quantized_call(inputs, reverse=self._is_reverse(mode))

    def quantize(self, mode=None, type_check=True, config=None):
        """Quantize the table; Keras's own refuses for classes derived from it."""
        type_check = type_check and type(self) is not Embedding
        return super().quantize(mode, type_check=type_check, config=config)

    def compute_output_spec(self, inputs, mode="embedding"):
        """Shape and dtype of the result."""
        return super().compute_output_spec(inputs, reverse=self._is_reverse(mode))

    def compute_mask(self, inputs, previous_mask=None):
        """The padding mask of ids; projecting back keeps the mask there was."""
        if keras.backend.is_float_dtype(keras.backend.standardize_dtype(inputs.dtype)):
            return previous_mask
        return super().compute_mask(inputs, previous_mask)

    @staticmethod
    def _is_reverse(mode):
        if mode not in ("embedding", "dense"):
            raise ValueError(
                f"Embedding was called with mode={mode!r}; use 'embedding' or 'dense'."
            )
        return mode == "dense"
