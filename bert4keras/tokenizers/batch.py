"""WordPiece ids of many texts at once, with array operations.

Most characters of Chinese text are words of their own with one id each. So one table
over all code points turns a whole batch into ids, and only the runs of other characters
(Latin letters, digits ...) are looked at as words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from bert4keras.tokenizers.normalization import (
    BoundedCache,
    DependsOnNeighboursError,
    Normalizer,
)

# Characters worked on at a time: the arrays made of them stay in the processor's cache.
CHUNK = 1 << 16
CACHED_RUNS = 1 << 16
# What a code point is, if not a word with an id; ids are stored from `FIRST_ID` on.
UNSEEN, SPACE, PART_OF_WORD, DEPENDS_ON_NEIGHBOURS, FIRST_ID = range(5)
CODE_POINTS = 0x110000


class BatchEncoder:
    """Turns lists of texts into lists of ids, without special tokens.

    Args:
        normalizer: how texts become words.
        ids_of_words: from the words of a text to its ids.
    """

    def __init__(
        self,
        normalizer: Normalizer,
        ids_of_words: Callable[[Iterable[str]], list[int]],
    ):
        self._normalizer = normalizer
        self._ids_of_words = ids_of_words
        self._kinds = np.zeros(CODE_POINTS, np.int32)
        self._ids_of_run = BoundedCache(self._ids_of_text, CACHED_RUNS)

    def __reduce__(self):
        return type(self), (self._normalizer, self._ids_of_words)

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        result: list[list[int]] = []
        for chunk in _chunks(texts):
            result.extend(self._encode(chunk))
        return result

    def _encode(self, texts: list[str]) -> list[list[int]]:
        joined = "\n".join(["", *texts, ""])
        codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
        kinds = self._kinds_of(codes)
        # How many ids each character gives; a run of letters gives all at its first.
        counts = (kinds >= FIRST_ID).astype(np.int64)
        in_run = kinds == PART_OF_WORD
        edges = np.flatnonzero(in_run[1:] != in_run[:-1]) + 1
        starts, stops = edges[0::2], edges[1::2]
        spans = zip(starts.tolist(), stops.tolist(), strict=True)
        runs = [self._ids_of_run[joined[start:stop]] for start, stop in spans]
        counts[starts] = [len(ids) for ids in runs]

        from_run = np.repeat(in_run, counts)
        ids = np.empty(len(from_run), np.int32)
        ids[~from_run] = kinds[kinds >= FIRST_ID] - FIRST_ID
        ids[from_run] = [i for run in runs for i in run]
        ends = np.cumsum([len(text) + 1 for text in texts])
        id_ends = np.cumsum(counts)[ends].tolist()
        flat = ids.tolist()
        result = [
            flat[start:stop]
            for start, stop in zip([0, *id_ends], id_ends, strict=False)
        ]
        special = np.flatnonzero(kinds == DEPENDS_ON_NEIGHBOURS)
        for text in np.unique(np.searchsorted(ends, special)).tolist():
            result[text] = list(self._ids_of_text(texts[text]))
        return result

    def _kinds_of(self, codes: np.ndarray) -> np.ndarray:
        kinds = self._kinds[codes]
        unseen = codes[kinds == UNSEEN]
        if len(unseen):
            for code in np.unique(unseen).tolist():
                self._kinds[code] = self._kind(code)
            kinds = self._kinds[codes]
        return kinds

    def _kind(self, code: int) -> int:
        try:
            form = self._normalizer.form(code)
        except DependsOnNeighboursError:
            return DEPENDS_ON_NEIGHBOURS
        if form.isspace():
            return SPACE
        ids = self._ids_of_words(form.split())
        if form[:1] == " " and form[-1:] == " " and len(ids) == 1:
            return FIRST_ID + ids[0]
        return PART_OF_WORD

    def _ids_of_text(self, text: str) -> tuple[int, ...]:
        return tuple(self._ids_of_words(self._normalizer(text).split()))


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    """Cuts a list of texts where about `CHUNK` characters have come together."""
    start, size = 0, 0
    for i, text in enumerate(texts):
        size += len(text) + 1
        if size >= CHUNK:
            yield list(texts[start : i + 1])
            start, size = i + 1, 0
    if start < len(texts):
        yield list(texts[start:])
