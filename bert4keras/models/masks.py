"""Mix-ins that turn an encoder into a language model: `lm` and `unilm`."""

from __future__ import annotations

import keras
from keras import ops

from bert4keras.masking import causal_mask, large_negative, unilm_mask


def _as_bias(mask, dtype):
    zero, floor = ops.cast(0, dtype), ops.cast(large_negative(dtype), dtype)
    return ops.where(mask, zero, floor)


@keras.saving.register_keras_serializable(package="bert4keras")
class CausalBias(keras.layers.Layer):
    """The attention bias of a left-to-right language model.

    Call arguments:
        inputs: any tensor (batch, length, ...); only its length counts.

    Returns:
        A float tensor (1, 1, length, length), 0 where position i may look at position
        j <= i, and a large negative number elsewhere.

    Example:
        >>> CausalBias()(keras.ops.ones((2, 3))).shape  # (1, 1, 3, 3)
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._convert_input_args = False
        self.supports_masking = True

    def call(self, inputs):
        """The mask as a bias."""
        mask = causal_mask(ops.shape(inputs)[1])
        return _as_bias(mask[None, None], self.compute_dtype)

    def compute_mask(self, inputs, previous_mask=None):
        """Scores have no padding mask."""
        return None

    def compute_output_shape(self, input_shape):
        """(1, 1, length, length)."""
        return (1, 1, input_shape[1], input_shape[1])


@keras.saving.register_keras_serializable(package="bert4keras")
class UniLMBias(CausalBias):
    """The attention bias of UniLM (arXiv 1905.03197, figure 1).

    Call arguments:
        inputs: segment ids (batch, length), 0 for the source and 1 for the target.

    Returns:
        A float tensor (batch, 1, length, length), 0 where a position may look.

    Example:
        >>> UniLMBias()(keras.ops.array([[0, 0, 1]])).shape  # (1, 1, 3, 3)
    """

    def call(self, inputs):
        """The mask as a bias."""
        return _as_bias(unilm_mask(inputs)[:, None], self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """(batch, 1, length, length)."""
        return (input_shape[0], 1, input_shape[1], input_shape[1])


class LM_Mask:
    """Mix-in: every position sees itself and those before it."""

    def compute_attention_bias(self, inputs=None):
        """The causal bias, made once."""
        if self.attention_bias is None:
            self.attention_bias = self.apply(
                inputs=self.inputs[0], layer=CausalBias, name="Attention-Mask"
            )
        return self.attention_bias


class UniLM_Mask:
    """Mix-in: the source sees itself, the target the source and what it has written.

    Source: UniLM, arXiv 1905.03197. Segment 0 is the source, segment 1 the target.
    """

    def compute_attention_bias(self, inputs=None):
        """The bias of the segments, made once."""
        if self.attention_bias is None:
            if len(self.inputs) < 2:
                raise ValueError(
                    "application='unilm' tells source and target by the segment ids, "
                    "but the model has no segment input; set segment_vocab_size to 2."
                )
            self.attention_bias = self.apply(
                inputs=self.inputs[1], layer=UniLMBias, name="Attention-Mask"
            )
        return self.attention_bias


def extend_with_language_model(BaseModel: type) -> type:  # noqa: N803
    """A family's left-to-right language model, predicting the next token.

    Example:
        >>> extend_with_language_model(BERT).__name__
        'LanguageModel'
    """

    class LanguageModel(LM_Mask, BaseModel):
        """The base family under a causal mask, with its language-model head."""

        def __init__(self, *args, **kwargs):
            kwargs["with_mlm"] = kwargs.get("with_mlm") or True
            super().__init__(*args, **kwargs)

    return LanguageModel


def extend_with_unified_language_model(BaseModel: type) -> type:  # noqa: N803
    """A family's UniLM, for sequence to sequence in one model.

    Example:
        >>> extend_with_unified_language_model(BERT).__name__
        'UnifiedLanguageModel'
    """

    class UnifiedLanguageModel(UniLM_Mask, BaseModel):
        """The base family under UniLM's mask, with its language-model head."""

        def __init__(self, *args, **kwargs):
            kwargs["with_mlm"] = kwargs.get("with_mlm") or True
            super().__init__(*args, **kwargs)

    return UnifiedLanguageModel
