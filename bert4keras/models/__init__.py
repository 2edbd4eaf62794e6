"""Model families and `build_transformer_model`."""

from bert4keras.models.bert import BERT
from bert4keras.models.build import build_transformer_model
from bert4keras.models.masks import (
    LM_Mask,
    UniLM_Mask,
    extend_with_language_model,
    extend_with_unified_language_model,
)
from bert4keras.models.transformer import Transformer

__all__ = [
    "BERT",
    "LM_Mask",
    "Transformer",
    "UniLM_Mask",
    "build_transformer_model",
    "extend_with_language_model",
    "extend_with_unified_language_model",
]
