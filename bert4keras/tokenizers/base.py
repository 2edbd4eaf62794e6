"""What all tokenizers share: special tokens, pairs, truncation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral

# A text, or the tokens that `tokenize` made of it.
Text = str | Sequence[str]


class TokenizerBase:
    """Base class of the tokenizers.

    A tokenizer of another kind defines `_tokenize(text)`, from string to tokens, and
    `token_to_id`, `id_to_token` and `decode`.

    Args:
        token_start: the token put before each text, or None for none.
        token_end: the token put after each text, or None for none.
        pre_tokenize: cuts a text into words, `pre_tokenize(text) -> iterable of str`,
            before these are cut into tokens.
        token_translate: tokens to replace, from the tokenizer's token to the one used.
    """

    def __init__(
        self,
        token_start: str | None = "[CLS]",
        token_end: str | None = "[SEP]",
        pre_tokenize: Callable[[str], Iterable[str]] | None = None,
        token_translate: Mapping[str, str] | None = None,
    ):
        self._token_pad = "[PAD]"
        self._token_unk = "[UNK]"
        self._token_mask = "[MASK]"
        self._token_start = token_start
        self._token_end = token_end
        self._pre_tokenize = pre_tokenize
        self._token_translate = dict(token_translate or {})
        self._token_translate_inv = {v: k for k, v in self._token_translate.items()}

    def tokenize(self, text: str, maxlen: int | None = None) -> list[str]:
        """Cuts `text` into tokens, with the start and end token.

        Args:
            text: any string; an empty one gives the special tokens alone.
            maxlen: the most tokens to return; those before the end token go.
        """
        tokens = self._translated(self._tokenize(_checked_text(text)))
        if self._token_start is not None:
            tokens.insert(0, self._token_start)
        if self._token_end is not None:
            tokens.append(self._token_end)
        if maxlen is not None:
            tokens, _ = self._truncated(tokens, None, maxlen, self._position("right"))
        return tokens

    def token_to_id(self, token: str) -> int:
        """Returns the id of a token, that of the unknown token if it has none."""
        raise NotImplementedError

    def tokens_to_ids(self, tokens: Iterable[str]) -> list[int]:
        """Returns the id of each token."""
        return [self.token_to_id(token) for token in tokens]

    def encode(
        self,
        first_text: Text,
        second_text: Text | None = None,
        maxlen: int | None = None,
        pattern: str = "S*E*E",
        truncate_from: str | int = "right",
    ) -> tuple[list[int], list[int]]:
        """Turns a text or a pair of texts into ids.

        With the default pattern and special tokens a text becomes `[CLS] a [SEP]` and a
        pair `[CLS] a [SEP] b [SEP]`. What is too long loses tokens one by one from the
        longer of the two, from the first if both are equally long (the second's start
        token is counted, also where the pattern then drops it).

        Args:
            first_text: a string, or a list of tokens as `tokenize` returns it.
            second_text: the same, or None.
            maxlen: the most ids to return.
            pattern: `"S*E*E"`, or `"S*ES*E"` to give the second text its own start
                token.
            truncate_from: `"right"` deletes the tokens before the end token, `"left"`
                those after the start token; an integer is the index that each deleted
                token has at its turn (-2 and 1 are the two above).

        Returns:
            `(token_ids, segment_ids)`, two lists of one length; segment ids are 0 for
            the first text and 1 for the second, with their special tokens.

        Raises:
            TypeError: a text is neither a string nor a sequence of tokens.
            ValueError: `maxlen` is too small for the special tokens, or `pattern` or
                `truncate_from` is none of the above.
        """
        check_pattern(pattern)
        first = self._text_to_ids(first_text)
        second = None if second_text is None else self._text_to_ids(second_text)
        return self._joined(first, second, maxlen, pattern, truncate_from)

    def encode_batch(
        self,
        texts: Iterable[Text | tuple[Text, Text]],
        maxlen: int | None = None,
        pattern: str = "S*E*E",
        truncate_from: str | int = "right",
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Encodes many texts; the result is that of `encode` on each.

        Args:
            texts: strings, or `(first_text, second_text)` tuples for pairs.
            maxlen, pattern, truncate_from: as in `encode`.

        Returns:
            `(token_ids, segment_ids)`, each with one list a text, not padded.

        Raises:
            TypeError, ValueError: as `encode`; nothing is returned then.
        """
        token_ids, segment_ids = [], []
        for first, second in map(as_pair, texts):
            ids, segments = self.encode(first, second, maxlen, pattern, truncate_from)
            token_ids.append(ids)
            segment_ids.append(segments)
        return token_ids, segment_ids

    def id_to_token(self, i: int) -> str:
        """Returns the token with the id `i`."""
        raise NotImplementedError

    def ids_to_tokens(self, ids: Iterable[int]) -> list[str]:
        """Returns the token of each id."""
        return [self.id_to_token(i) for i in ids]

    def decode(self, ids: Iterable[int]) -> str:
        """Turns ids into readable text, without special tokens."""
        raise NotImplementedError

    def _tokenize(self, text: str) -> list[str]:
        """Cuts `text` into tokens, without special tokens."""
        raise NotImplementedError

    def _translated(self, tokens: Iterable[str]) -> list[str]:
        return [self._token_translate.get(token) or token for token in tokens]

    def _text_to_ids(self, text: Text) -> list[int]:
        if isinstance(text, str):
            text = self.tokenize(text)
        elif isinstance(text, bytes) or not isinstance(text, Sequence):
            _checked_text(text)
        return self.tokens_to_ids(map(_checked_text, text))

    def _joined(self, first, second, maxlen, pattern, truncate_from):
        """Makes `(token_ids, segment_ids)` of the ids of one or two texts."""
        drops_start = (
            second is not None
            and pattern == "S*E*E"
            and self._token_start is not None
            and second[:1] == [self.token_to_id(self._token_start)]
        )
        if maxlen is not None:
            position = self._position(truncate_from)
            first, second = self._truncated(
                first, second, maxlen, position, extra=int(drops_start)
            )
        if second is None:
            return first, [0] * len(first)
        if drops_start:
            second = second[1:]
        return first + second, [0] * len(first) + [1] * len(second)

    def _position(self, truncate_from: str | int) -> int:
        if truncate_from == "right":
            return -1 - (self._token_end is not None)
        if truncate_from == "left":
            return int(self._token_start is not None)
        if isinstance(truncate_from, Integral):
            return truncate_from
        raise ValueError(
            f"truncate_from is {truncate_from!r}: expected 'right', 'left' or an index."
        )

    def _truncated(self, first, second, maxlen, position, extra=0):
        """Cuts two lists so that they have `maxlen + extra` items together.

        Taking one at a time from the longer of two lists, the first where they are
        equal, leaves a list whole if the other can bear the loss alone, and else half
        of the room (rounded down) to the first and the rest to the second.

        Args:
            first, second: lists of tokens or ids; `second` may be None.
            maxlen: the most items that remain in the end.
            position: the index at which items are deleted.
            extra: how many items the caller is going to drop himself.
        """
        specials = (self._token_start is not None) + (self._token_end is not None)
        m, n = len(first), len(second or ())
        least = min(specials, m) + min(specials, n) - extra
        if maxlen < least:
            raise ValueError(
                f"maxlen is {maxlen}, but the special tokens alone are {least}: "
                f"pass at least {least}."
            )
        room = maxlen + extra
        if second is None:
            return _without(first, m - room, position), None
        first_room = max(room - n, room // 2)
        second_room = max(room - m, room - room // 2)
        return (
            _without(first, m - first_room, position),
            _without(second, n - second_room, position),
        )


def as_pair(text: object) -> tuple:
    """Returns the two texts of a pair, None for the second of a text alone."""
    if not isinstance(text, tuple):
        return text, None
    if len(text) != 2:
        raise ValueError(f"Found a tuple of {len(text)} where a pair was expected.")
    return text


def check_pattern(pattern: str) -> None:
    """Raises ValueError unless `pattern` is one that `encode` knows."""
    if pattern not in ("S*E*E", "S*ES*E"):
        raise ValueError(f"pattern is {pattern!r}: expected 'S*E*E' or 'S*ES*E'.")


def _checked_text(text: object) -> str:
    if not isinstance(text, str):
        raise TypeError(
            f"Found {type(text).__name__} {text!r:.60} where a text was expected: "
            "pass a str, or a list of tokens."
        )
    return text


def _without(items: list, count: int, position: int) -> list:
    """Deletes `count` items, each the one at index `position` at its turn.

    Where there are too few items from there on, those before it go too.
    """
    if count <= 0:
        return items
    size = len(items)
    start = position if position >= 0 else size + position - count + 1
    start = max(0, min(start, size - count))
    return items[:start] + items[start + count :]
