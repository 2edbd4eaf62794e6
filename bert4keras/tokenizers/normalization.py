"""From text to words, with the steps of `BasicTokenizer` in google-research/bert.

The steps are: drop control characters, put spaces around CJK characters, split at white
space, then for an uncased vocabulary lower each word, decompose it (NFD) and drop the
accents, at last put spaces around punctuation. Nearly every character can be looked at
alone, so all steps together are one table for `str.translate`; the few whose form
depends on their neighbours are in `Normalizer.with_origins`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from itertools import groupby

# The blocks that google-research/bert separates into single characters: CJK Unified
# Ideographs with the Extensions A to E, and the CJK Compatibility Ideographs.
CJK_RANGES = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
SIGMA = "Σ"
LONGEST_KEY = 256


def is_cjk_character(ch: str) -> bool:
    """Whether `ch` is a CJK ideograph, a word of its own."""
    return any(first <= ord(ch) <= last for first, last in CJK_RANGES)


def is_punctuation(ch: str) -> bool:
    """Whether `ch` is a visible ASCII character that is no letter or digit, or is in
    one of Unicode's categories of punctuation."""
    if "!" <= ch <= "~":
        return not ch.isalnum()
    return unicodedata.category(ch).startswith("P")


def is_space(ch: str) -> bool:
    """Whether `ch` separates words: a tab, a line break or a Unicode separator."""
    return ch in "\t\n\r" or unicodedata.category(ch).startswith("Z")


def is_control(ch: str) -> bool:
    """Whether `ch` is a control or format character that separates no words."""
    return ch not in "\t\n\r" and unicodedata.category(ch) in ("Cc", "Cf")


def is_removed(ch: str) -> bool:
    """Whether `ch` vanishes from the text: NUL, U+FFFD and control characters."""
    return ch == "\ufffd" or is_control(ch)


def is_accent(ch: str) -> bool:
    """Whether `ch` is a mark without a width of its own (category Mn)."""
    return unicodedata.category(ch) == "Mn"


class BoundedCache(dict):
    """A dictionary that computes what it lacks and forgets all when it is full.

    Args:
        compute: from key to value; what it raises is passed on and not remembered.
        limit: the most entries ever held. Strings longer than `LONGEST_KEY` are never
            held, so that the memory used is bounded too.
    """

    def __init__(self, compute: Callable, limit: int):
        super().__init__()
        self._compute = compute
        self._limit = limit

    def __missing__(self, key):
        value = self._compute(key)
        if isinstance(key, str) and len(key) > LONGEST_KEY:
            return value
        if len(self) >= self._limit:
            self.clear()
        self[key] = value
        return value

    def __reduce__(self):
        return type(self), (self._compute, self._limit)


class DependsOnNeighboursError(Exception):
    """A character's form cannot be told without the characters around it."""


class Normalizer:
    """Turns a text into its words, separated by spaces.

    Args:
        do_lower_case: lower the text and drop its accents, for uncased vocabularies.
        cache_limit: the most characters whose form is remembered.

    Example:
        >>> Normalizer(do_lower_case=True)("Café不错!").split()
        ['cafe', '不', '错', '!']
    """

    def __init__(self, do_lower_case: bool, cache_limit: int = 1 << 16):
        self.do_lower_case = do_lower_case
        self._table = BoundedCache(self.form, cache_limit)

    def __call__(self, text: str) -> str:
        try:
            return text.translate(self._table)
        except DependsOnNeighboursError:
            return self.with_origins(text)[0]

    def with_origins(self, text: str) -> tuple[str, list[int]]:
        """Returns what `normalizer(text)` returns, and for each of its characters the
        position in `text` that it came from."""
        kept = [i for i, ch in enumerate(text) if not is_removed(ch)]
        chars, origins = self.lowered(text, kept)
        pairs = [
            (out, origin)
            for ch, origin in zip(chars, origins, strict=True)
            for out in _separated(ch)
        ]
        return "".join(ch for ch, _ in pairs), [origin for _, origin in pairs]

    def lowered(
        self, text: str, kept: list[int] | None = None
    ) -> tuple[str, list[int]]:
        """Returns `text` lowered and without accents (if this normalizer does that),
        and for each of its characters the position in `text` that it came from.

        Args:
            text: any string.
            kept: the positions to look at; None for all.
        """
        if kept is None:
            kept = list(range(len(text)))
        if not self.do_lower_case:
            return "".join(text[i] for i in kept), kept
        # Lowering makes a sigma that ends a word a "ς". "İ" is the one character that
        # lowers to two; without it positions stay.
        aligned = "".join(text[i] for i in kept).replace("İ", "I").lower()
        pairs = []
        for lower, origin in zip(aligned, kept, strict=True):
            ch = text[origin]
            form = lower if ch == SIGMA else ch.lower()
            pairs.extend((out, origin) for out in unicodedata.normalize("NFD", form))
        pairs = [(ch, i) for ch, i in _in_canonical_order(pairs) if not is_accent(ch)]
        return "".join(ch for ch, _ in pairs), [origin for _, origin in pairs]

    def form(self, code: int) -> str:
        """Returns what becomes of the character with this code point.

        Raises:
            DependsOnNeighboursError: that depends on the characters around it.
        """
        ch = chr(code)
        if is_removed(ch):
            return ""
        if not self.do_lower_case:
            return _separated(ch)
        form = unicodedata.normalize("NFD", ch.lower())
        if ch == SIGMA or any(map(_is_sorted_and_kept, form)):
            raise DependsOnNeighboursError(ch)
        return "".join(_separated(out) for out in form if not is_accent(out))


def _separated(ch: str) -> str:
    if is_space(ch):
        return " "
    if is_cjk_character(ch) or is_punctuation(ch):
        return f" {ch} "
    return ch


def _is_sorted_and_kept(ch: str) -> bool:
    return unicodedata.combining(ch) != 0 and not is_accent(ch)


def _in_canonical_order(pairs: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Sorts each run of combining characters by combining class, as NFD does (Unicode
    Standard Annex #15): decomposing character by character leaves that to be done."""

    def combining(pair):
        return unicodedata.combining(pair[0])

    runs = groupby(pairs, lambda pair: combining(pair) > 0)
    return [pair for _, run in runs for pair in sorted(run, key=combining)]
