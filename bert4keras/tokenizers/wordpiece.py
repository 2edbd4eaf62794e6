"""The WordPiece tokenizer of BERT."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from bert4keras.tokenizers.base import Text, TokenizerBase, as_pair, check_pattern
from bert4keras.tokenizers.batch import BatchEncoder
from bert4keras.tokenizers.normalization import (
    BoundedCache,
    Normalizer,
    is_cjk_character,
    is_control,
    is_punctuation,
    is_space,
)
from bert4keras.tokenizers.vocabulary import is_redundant, load_vocab, stem

# Words whose tokens are remembered. A CJK character is a word, and so is each mark of
# punctuation; 2**16 hold all of these that a corpus uses and its frequent words.
CACHED_WORDS = 1 << 16
# `decode` writes no space after these, nor after any punctuation outside ASCII.
BINDING_PUNCTUATION = frozenset("+-/={(<[")
CONTRACTIONS = frozenset(("re", "m", "s", "t", "ve", "d", "ll"))


class Tokenizer(TokenizerBase):
    """Cuts a text into the word pieces of a vocabulary, as google-research/bert does.

    The ids are those of its `FullTokenizer`. A special token that stands in a text,
    such as `[MASK]`, is text like any other. A word that the vocabulary cannot
    spell is one token, the word itself, whose id is that of `[UNK]`.

    Args:
        token_dict: the path of a vocabulary file, or a dictionary from token to id. The
            dictionary is copied, later changes to it have no effect.
        do_lower_case: lower the text and drop its accents; True for uncased
            vocabularies, such as all official Chinese ones.
        word_maxlen: a word of more characters is unknown.
        token_start, token_end, pre_tokenize, token_translate: see `TokenizerBase`.
            `pre_tokenize` gets the lowered text; a word of it that is in the
            vocabulary becomes one token.

    Raises:
        ValueError: the vocabulary is empty, or lacks `[UNK]`, `token_start` or
            `token_end`.

    Example:
        >>> tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "你", "好", "play", "##ing"]
        >>> tokenizer = Tokenizer({t: i for i, t in enumerate(tokens)}, True)
        >>> tokenizer.tokenize("你好 Playing")
        ['[CLS]', '你', '好', 'play', '##ing', '[SEP]']
        >>> tokenizer.encode("你好", "Playing")
        ([2, 4, 5, 3, 6, 7, 3], [0, 0, 0, 0, 1, 1, 1])
        >>> tokenizer.rematch("你好 Playing", tokenizer.tokenize("你好 Playing"))
        [[], [0], [1], [3, 4, 5, 6], [7, 8, 9], []]
    """

    def __init__(
        self,
        token_dict: str | os.PathLike | Mapping[str, int],
        do_lower_case: bool = False,
        word_maxlen: int = 200,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not isinstance(token_dict, Mapping):
            token_dict = load_vocab(token_dict)
        self._do_lower_case = do_lower_case
        self._token_dict = dict(token_dict)
        self._token_dict_inv = {i: token for token, i in self._token_dict.items()}
        self._vocab_size = len(self._token_dict)
        self._word_maxlen = word_maxlen
        self._find_special_tokens()
        self._normalizer = Normalizer(do_lower_case)
        self._longest = max(len(stem(token)) for token in self._token_dict)
        self._pieces_of = BoundedCache(self._split_word, CACHED_WORDS)
        self._ids_of = BoundedCache(self._ids_of_word, CACHED_WORDS)
        self._batch = BatchEncoder(self._normalizer, self._ids_of_words)

    def _find_special_tokens(self) -> None:
        if not self._token_dict:
            raise ValueError("The vocabulary is empty: pass one with at least [UNK].")
        self._token_pad_id = self._token_dict.get(self._token_pad)
        self._token_unk_id = self._token_dict.get(self._token_unk)
        self._token_mask_id = self._token_dict.get(self._token_mask)
        self._token_start_id = self._token_dict.get(self._token_start)
        self._token_end_id = self._token_dict.get(self._token_end)
        for name in ("unk", "start", "end"):
            token = getattr(self, f"_token_{name}")
            if token is not None and token not in self._token_dict:
                advice = "" if name == "unk" else f" or pass token_{name}=None"
                raise ValueError(
                    f"The vocabulary of {self._vocab_size} tokens lacks {token!r}: "
                    f"add it (load_vocab has startswith for that){advice}."
                )

    def token_to_id(self, token: str) -> int:
        return self._token_dict.get(token, self._token_unk_id)

    def id_to_token(self, i: int) -> str:
        """Returns the token with the id `i`.

        Raises:
            ValueError: no token has this id.
        """
        try:
            return self._token_dict_inv[i]
        except KeyError:
            raise ValueError(
                f"No token has the id {i}: the vocabulary has {self._vocab_size}, the "
                f"largest id is {max(self._token_dict_inv)}."
            ) from None

    def encode_batch(
        self,
        texts: Iterable[Text | tuple[Text, Text]],
        maxlen: int | None = None,
        pattern: str = "S*E*E",
        truncate_from: str | int = "right",
    ) -> tuple[list[list[int]], list[list[int]]]:
        if not (self._is_plain() and type(self).encode is Tokenizer.encode):
            return super().encode_batch(texts, maxlen, pattern, truncate_from)
        check_pattern(pattern)
        pairs = [as_pair(text) for text in texts]
        strings = [text for pair in pairs for text in pair if isinstance(text, str)]
        encoded = iter(self._batch(strings))

        def ids_of(text):
            if isinstance(text, str):
                return self._enclosed(next(encoded))
            return self._text_to_ids(text)

        token_ids, segment_ids = [], []
        for first, second in pairs:
            first = ids_of(first)
            second = None if second is None else ids_of(second)
            ids, segments = self._joined(first, second, maxlen, pattern, truncate_from)
            token_ids.append(ids)
            segment_ids.append(segments)
        return token_ids, segment_ids

    def decode(self, ids: Iterable[int], tokens: Sequence[str] | None = None) -> str:
        """Turns ids into readable text.

        Special tokens are left out and word pieces joined. Next to a CJK character
        there is no space; punctuation joins what precedes it, and what follows it
        too if it is not ASCII or one of `+-/={(<[`; so do a point between digits and
        the apostrophe of an English contraction. What the tokenizer dropped (case,
        accents, spaces between CJK characters) is not restored.

        Args:
            ids: a sequence of ids.
            tokens: tokens to use instead of those of `ids`.
        """
        tokens = self.ids_to_tokens(ids) if tokens is None else tokens
        tokens = [token for token in tokens if token and not self._is_special(token)]
        text = ""
        for i, token in enumerate(tokens):
            whole = i + 1 == len(tokens) or tokens[i + 1][:2] != "##"
            if self._needs_space(text, token, whole):
                text += " "
            text += stem(token)
        return text.strip()

    def _needs_space(self, text: str, token: str, whole: bool) -> bool:
        """Whether `token` is set apart from the text before it; `whole` says that no
        further piece continues the word."""
        if not text or (token[:2] == "##" and len(token) > 2):
            return False
        before, after = text[-1], token[0]
        if is_punctuation(after) or is_cjk_character(before) or is_cjk_character(after):
            return False
        if not is_punctuation(before):
            return True
        if before in BINDING_PUNCTUATION or not before.isascii():
            return False
        if before == "." and text[-2:-1].isdigit() and after.isdigit():
            return False
        is_contraction = text[-2:-1].isalpha() and whole and token in CONTRACTIONS
        return not (before == "'" and is_contraction)

    def stem(self, token: str) -> str:
        """Returns `token` without the `##` that marks the continuation of a word."""
        return stem(token)

    def rematch(self, text: str, tokens: Sequence[str]) -> list[list[int]]:
        """Finds the characters of `text` that each token comes from.

        The positions are followed through every step of the tokenizer, not searched
        for, so they hold where lowering, decomposition or a dropped character changes
        the length. Characters that vanish (spaces, control characters, separate accent
        marks) belong to no token; a character that decomposes may belong to several.

        Args:
            text: the text that was tokenized.
            tokens: the result of `tokenize`, also cut by one block, with `[UNK]` for
                unknown words or with other tokens for some of its own (`[MASK]`).
                Where they differ otherwise from what this tokenizer makes of `text`,
                they are searched for from left to right.

        Returns:
            For each token the ascending list of its positions in `text`; empty for
            special tokens and those not found.
        """
        pieces = list(self._tokens_with_origins(text))
        expected = self._translated(token for token, _ in pieces)
        origins = [positions for _, positions in pieces]
        result: list[list[int]] = [[] for _ in tokens]
        start = int(len(tokens) > 0 and tokens[0] == self._token_start)
        stop = len(tokens)
        if stop > start and tokens[-1] == self._token_end:
            stop -= 1

        head = 0
        while start < stop and head < len(expected):
            if not self._is_same(tokens[start], expected[head]):
                break
            result[start] = origins[head]
            start, head = start + 1, head + 1
        tail = len(expected)
        while start < stop and head < tail:
            if not self._is_same(tokens[stop - 1], expected[tail - 1]):
                break
            result[stop - 1] = origins[tail - 1]
            stop, tail = stop - 1, tail - 1

        # What is left are replaced tokens ([MASK]), or tokens made in another way.
        left = list(zip(tokens[start:stop], expected[head:tail], strict=False))
        if len(left) == stop - start == tail - head and all(
            self._is_special(token) or self._is_same(token, own) for token, own in left
        ):
            for i, (token, _) in enumerate(left):
                if not self._is_special(token) or token == self._token_unk:
                    result[start + i] = origins[head + i]
        else:
            first = origins[head - 1][-1] + 1 if head and origins[head - 1] else 0
            result[start:stop] = self._search(text, tokens[start:stop], first)
        return result

    def _is_same(self, token: str, expected: str) -> bool:
        if token == expected:
            return True
        return token == self._token_unk and expected not in self._token_dict

    def _search(self, text: str, tokens: Sequence[str], first: int) -> list[list[int]]:
        """Finds tokens in `text` from position `first` on, one after the other."""
        lowered, origins = self._normalizer.lowered(text)
        cursor = sum(origin < first for origin in origins)
        result = []
        for token in tokens:
            form = "" if self._is_special(token) else self.stem(token)
            at = lowered.find(form, cursor) if form else -1
            result.append(_distinct(origins[at : at + len(form)]) if at >= 0 else [])
            cursor = at + len(form) if at >= 0 else cursor
        return result

    def _tokens_with_origins(self, text: str) -> Iterable[tuple[str, list[int]]]:
        if self._pre_tokenize is None:
            yield from self._pieces_with_origins(text)
            return
        lowered, lowered_origins = self._normalizer.lowered(text)
        cursor = 0
        for word in filter(None, self._pre_tokenize(lowered)):
            at = lowered.find(word, cursor)
            origins = lowered_origins[at : at + len(word)] if at >= 0 else []
            cursor = at + len(word) if at >= 0 else cursor
            if word in self._token_dict:
                yield word, _distinct(origins)
                continue
            for token, positions in self._pieces_with_origins(word):
                found = [origins[i] for i in positions] if origins else []
                yield token, _distinct(found)

    def _pieces_with_origins(self, text: str) -> Iterable[tuple[str, list[int]]]:
        spaced, origins = self._normalizer.with_origins(text)
        start = 0
        for word in spaced.split():
            start = spaced.index(word, start)
            for token in self._pieces_of[word]:
                # A word is no continuation: punctuation splits it, so no word has "##".
                stop = start + len(stem(token))
                yield token, _distinct(origins[start:stop])
                start = stop

    def _tokenize(self, text: str, pre_tokenize: bool = True) -> list[str]:
        if pre_tokenize and self._pre_tokenize is not None:
            lowered, _ = self._normalizer.lowered(text)
            tokens = []
            for word in filter(None, self._pre_tokenize(lowered)):
                known = word in self._token_dict
                tokens.extend([word] if known else self._tokenize(word, False))
            return tokens
        words = self._normalizer(text).split()
        return list(chain.from_iterable(map(self._pieces_of.__getitem__, words)))

    def _text_to_ids(self, text: Text) -> list[int]:
        if not (isinstance(text, str) and self._is_plain()):
            return super()._text_to_ids(text)
        return self._enclosed(self._ids_of_words(self._normalizer(text).split()))

    def _ids_of_words(self, words: Iterable[str]) -> list[int]:
        return list(chain.from_iterable(map(self._ids_of.__getitem__, words)))

    def _enclosed(self, ids: list[int]) -> list[int]:
        """Puts the start and end token around the ids of a text."""
        if self._token_start is not None:
            ids.insert(0, self._token_start_id)
        if self._token_end is not None:
            ids.append(self._token_end_id)
        return ids

    def _is_plain(self) -> bool:
        """Whether a word's ids depend on the word alone: nobody has overridden a step
        from text to ids, and no option comes between."""
        cls = type(self)
        return (
            self._pre_tokenize is None
            and not self._token_translate
            and cls.tokenize is Tokenizer.tokenize
            and cls._tokenize is Tokenizer._tokenize
            and cls._word_piece_tokenize is Tokenizer._word_piece_tokenize
            and cls.tokens_to_ids is Tokenizer.tokens_to_ids
            and cls.token_to_id is Tokenizer.token_to_id
        )

    def _split_word(self, word: str) -> tuple[str, ...]:
        return tuple(self._word_piece_tokenize(word))

    def _ids_of_word(self, word: str) -> tuple[int, ...]:
        return tuple(map(self.token_to_id, self._word_piece_tokenize(word)))

    def _word_piece_tokenize(self, word: str) -> list[str]:
        """Cuts a word into the longest known pieces from left to right; a word that
        cannot be cut so is returned whole."""
        if len(word) > self._word_maxlen:
            return [word]
        tokens, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            for stop in range(min(len(word), start + self._longest), start, -1):
                piece = prefix + word[start:stop]
                if piece in self._token_dict:
                    break
            else:
                return [word]
            tokens.append(piece)
            start = stop
        return tokens

    _is_space = staticmethod(is_space)
    _is_punctuation = staticmethod(is_punctuation)
    _is_cjk_character = staticmethod(is_cjk_character)
    _is_control = staticmethod(is_control)
    _is_redundant = staticmethod(is_redundant)

    @staticmethod
    def _is_special(token: str) -> bool:
        """Whether `token` is written in brackets, as `[CLS]` or `[unused1]`."""
        return len(token) > 2 and token[0] == "[" and token[-1] == "]"


def _distinct(origins: list[int]) -> list[int]:
    return sorted(set(origins))
