"""Strings: splitting long texts, normalising characters, searching."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence


def text_segmentate(
    text: str, maxlen: int, seps: str | Sequence[str] = "\n", strips: str | None = None
) -> list[str]:
    """Split a text at separators into few pieces of at most `maxlen` characters.

    The text is split at the first separator, and neighbouring parts are joined again
    as long as they fit. A part that alone is too long is split at the next
    separators. What no separator splits stays longer than `maxlen`.

    Args:
        text: the text.
        maxlen: the longest piece, in characters, its closing separator included.
        seps: the separators, the strongest first, for example `"\\n。;,"`; a
            sequence of strings if some are longer than one character.
        strips: characters to remove from both ends of every piece, besides the
            white space that is always removed.

    Returns:
        The pieces in order, at least one. A separator ends the piece before it.

    Raises:
        ValueError: if `maxlen` is not positive or a separator is empty.

    Example:

    >>> text_segmentate("好。不贵,但是远。再说。", 6, "。,")
    ['好。', '不贵,', '但是远。', '再说。']
    """
    if maxlen < 1:
        raise ValueError(f"maxlen is {maxlen}; expected at least 1")
    if "" in list(seps):
        raise ValueError(f"seps is {seps!r}; a separator must not be empty")
    return _segments(text, maxlen, seps, strips) or [""]


def _segments(text: str, maxlen: int, seps, strips: str | None) -> list[str]:
    unstripped = None
    while text != unstripped:
        unstripped, text = text, text.strip().strip(strips)
    if len(text) <= maxlen or not seps:
        return [text] if text else []
    sep, *weaker = seps
    *closed, last = text.split(sep)
    pieces, piece = [], ""
    for part in [*(p + sep for p in closed), last]:
        if piece and len(piece) + len(part) > maxlen:
            pieces.extend(_segments(piece, maxlen, weaker, strips))
            piece = ""
        piece += part
    pieces.extend(_segments(piece, maxlen, weaker, strips))
    return pieces


def is_string(s: object) -> bool:
    """Whether `s` is a text string."""
    return isinstance(s, str)


def convert_to_unicode(
    text: str | bytes, encoding: str = "utf-8", errors: str = "ignore"
) -> str:
    """`text` as `str`; bytes are decoded.

    Raises:
        TypeError: if `text` is neither.

    Example:

    >>> convert_to_unicode(b"abc")
    'abc'
    """
    if isinstance(text, bytes):
        return text.decode(encoding, errors)
    if isinstance(text, str):
        return text
    raise TypeError(f"found {type(text).__name__}; expected str or bytes")


# Scripts that also ran on Python 2 distinguish the two.
convert_to_str = convert_to_unicode


def strQ2B(ustring: str) -> str:  # noqa: N802 - the name that scripts import
    """Full-width characters (U+FF01 to U+FF5E, and the space) as half-width ones.

    Example:

    >>> strQ2B("ＢＥＲＴ　１２！")
    'BERT 12!'
    """
    return ustring.translate(_HALF_WIDTH)


# Unicode lays out the full-width forms in the order of ASCII's printable characters.
_HALF_WIDTH = {0xFF01 + i: 0x21 + i for i in range(94)} | {0x3000: 0x20}


def string_matching(s: str, keywords: Iterable[str]) -> bool:
    """Whether at least one of the regular expressions `keywords` is found in `s`.

    Example:

    >>> string_matching("服务很好", ["差", "很."])
    True
    """
    return any(re.search(keyword, s) for keyword in keywords)


def lowercase_and_normalize(text: str) -> str:
    """Lower case without accents, as BERT's uncased vocabularies expect it.

    The text is decomposed (Unicode NFD) and loses its nonspacing marks.

    Example:

    >>> lowercase_and_normalize("Café")
    'cafe'
    """
    text = unicodedata.normalize("NFD", text.lower())
    return "".join(c for c in text if unicodedata.category(c) != "Mn")
