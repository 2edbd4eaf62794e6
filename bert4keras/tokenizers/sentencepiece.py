"""Tokenizers of SentencePiece models, for T5 and its relatives."""

from __future__ import annotations

import os
from collections.abc import Iterable

from bert4keras.tokenizers.base import TokenizerBase


class SpTokenizer(TokenizerBase):
    """Cuts a text into the pieces of a SentencePiece model.

    The work is done by the package `sentencepiece`, which is not installed with
    bert4keras: `pip install "bert4keras[sentencepiece]"`.

    Args:
        sp_model_path: the model file.
        token_start, token_end, pre_tokenize, token_translate: see `TokenizerBase`; T5
            has `token_start=None, token_end="</s>"`. The words of `pre_tokenize` are
            joined with spaces again.

    Raises:
        ImportError: the package `sentencepiece` is not installed.
        FileNotFoundError: there is no such file.
        ValueError: the file is no SentencePiece model, or `token_start` or `token_end`
            is none of its pieces.

    Example:
        >>> tokenizer = SpTokenizer(  # doctest: +SKIP
        ...     "sentencepiece.model", token_start=None, token_end="</s>"
        ... )
        >>> tokenizer.encode("今天天气不错")  # doctest: +SKIP
    """

    def __init__(self, sp_model_path: str | os.PathLike, **kwargs):
        super().__init__(**kwargs)
        self.sp_model = _load_model(os.fspath(sp_model_path))
        self._vocab_size = self.sp_model.get_piece_size()
        self._token_unk = self.sp_model.id_to_piece(self.sp_model.unk_id())
        pad_id = self.sp_model.pad_id()
        # A model without padding has the pad id -1.
        self._token_pad = self.sp_model.id_to_piece(pad_id) if pad_id >= 0 else None
        for name in ("pad", "unk", "mask", "start", "end"):
            token = getattr(self, f"_token_{name}")
            known = token is not None and self._is_piece(token)
            token_id = self.sp_model.piece_to_id(token) if known else None
            setattr(self, f"_token_{name}_id", token_id)
            if name in ("start", "end") and token is not None and not known:
                raise ValueError(
                    f"{token!r} is none of the {self._vocab_size} pieces of "
                    f"{sp_model_path}: pass another token_{name}, or None for none."
                )

    def token_to_id(self, token: str) -> int:
        return self.sp_model.piece_to_id(token)

    def id_to_token(self, i: int) -> str:
        """Returns the piece with the id `i`; an empty one for an id beyond the model's,
        which the padded vocabularies of mT5 have."""
        return self.sp_model.id_to_piece(int(i)) if i < self._vocab_size else ""

    def decode(self, ids: Iterable[int]) -> str:
        """Turns ids into readable text, without control and unknown pieces."""
        pieces = self.ids_to_tokens(i for i in ids if self._is_decodable(int(i)))
        return self.sp_model.decode_pieces(
            [self._token_translate_inv.get(piece) or piece for piece in pieces]
        )

    def _tokenize(self, text: str) -> list[str]:
        if self._pre_tokenize is not None:
            text = " ".join(self._pre_tokenize(text))
        return self.sp_model.encode_as_pieces(text)

    def _is_piece(self, token: str) -> bool:
        return token == self.sp_model.id_to_piece(self.sp_model.piece_to_id(token))

    def _is_special(self, i: int) -> bool:
        model = self.sp_model
        return model.is_control(i) or model.is_unknown(i) or model.is_unused(i)

    def _is_decodable(self, i: int) -> bool:
        return 0 <= i < self._vocab_size and not self._is_special(i)


def _load_model(path: str):
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise ImportError(
            "SpTokenizer needs the package `sentencepiece`: "
            'pip install "bert4keras[sentencepiece]".'
        ) from error
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no SentencePiece model at {path}.")
    model = SentencePieceProcessor()
    try:
        model.Load(path)
    except RuntimeError as error:
        raise ValueError(f"{path} is no SentencePiece model: {error}.") from error
    return model
