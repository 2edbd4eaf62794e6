"""Tokenizers: WordPiece for BERT and its relatives, SentencePiece for T5."""

from bert4keras.tokenizers.base import TokenizerBase
from bert4keras.tokenizers.sentencepiece import SpTokenizer
from bert4keras.tokenizers.vocabulary import load_vocab, save_vocab
from bert4keras.tokenizers.wordpiece import Tokenizer

__all__ = ["SpTokenizer", "Tokenizer", "TokenizerBase", "load_vocab", "save_vocab"]
