"""Vocabulary files: one token a line, the line number (from 0) is the token's id."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from bert4keras.tokenizers.normalization import is_cjk_character, is_punctuation

BYTE_ORDER_MARK = "\ufeff"


def stem(token: str) -> str:
    """Returns `token` without the `##` that marks the continuation of a word."""
    return token[2:] if token[:2] == "##" else token


def is_redundant(token: str) -> bool:
    """Whether WordPiece on plain text can never produce `token`.

    CJK characters and punctuation are words of their own: they occur neither in
    longer tokens nor as continuations. So `##中`, `中国`, `...` and `[MASK]` are
    redundant, `中`, `.` and `##ing` are not.
    """
    return len(token) > 1 and any(
        is_cjk_character(ch) or is_punctuation(ch) for ch in stem(token)
    )


def load_vocab(
    dict_path: str | os.PathLike,
    encoding: str = "utf-8",
    simplified: bool = False,
    startswith: Iterable[str] | None = None,
) -> dict[str, int] | tuple[dict[str, int], list[int]]:
    """Reads a vocabulary file.

    A token is its line up to the first tab, without surrounding white space, as in
    google-research/bert (the official Chinese vocabulary has two lines that hold a
    U+2028 there and read as `""` and `"##"`). Blank lines at the end of the file are
    no tokens.

    Args:
        dict_path: the file, one token a line.
        encoding: of the file.
        simplified: drop the tokens that plain text cannot give, see `is_redundant`.
            New ids then count the tokens of `startswith` first and after them the
            others that stay, in the order of the file. The special tokens are dropped
            too unless `startswith` names them.
        startswith: the tokens that come first; without `simplified` it says nothing.

    Returns:
        `token_dict`, from token to id. With `simplified`, `(token_dict, keep_tokens)`
        where `keep_tokens[i]` is the id in the file of the token whose new id is `i`:
        pass it to `build_transformer_model`.

    Raises:
        ValueError: the file is empty or not in this encoding, two lines hold the same
            token, or a token of `startswith` is not in it or is named twice.

    Example:
        >>> token_dict, keep_tokens = load_vocab(  # doctest: +SKIP
        ...     "vocab.txt",
        ...     simplified=True,
        ...     startswith=["[PAD]", "[UNK]", "[CLS]", "[SEP]"],
        ... )
    """
    token_dict = _read(Path(dict_path), encoding)
    if not simplified:
        return token_dict

    first = list(startswith or [])
    for token in first:
        if token not in token_dict:
            raise ValueError(
                f"startswith names {token!r}, which is not in {dict_path} "
                f"({len(token_dict)} tokens)."
            )
    if len(set(first)) < len(first):
        raise ValueError(f"startswith names a token twice: {first}.")
    rest = (t for t in token_dict if not is_redundant(t) and t not in set(first))
    kept = [*first, *rest]
    return {t: i for i, t in enumerate(kept)}, [token_dict[t] for t in kept]


def _read(path: Path, encoding: str) -> dict[str, int]:
    try:
        # Python would also end a line at a lone "\r"; the official reader does not.
        with open(path, encoding=encoding, newline="\n") as file:
            lines = file.read().removeprefix(BYTE_ORDER_MARK).split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not a text in {encoding} ({error}): pass its encoding."
        ) from error
    tokens = [line.split("\t", 1)[0].strip() for line in lines]
    while tokens and not tokens[-1]:
        tokens.pop()
    if not tokens:
        raise ValueError(f"{path} is empty: a vocabulary holds one token a line.")
    token_dict: dict[str, int] = {}
    for i, token in enumerate(tokens):
        if token in token_dict:
            raise ValueError(
                f"{path} holds {token!r} twice, on lines {token_dict[token] + 1} and "
                f"{i + 1}: every line must hold another token, for the line number is "
                "the token's id."
            )
        token_dict[token] = i
    return token_dict


def save_vocab(
    dict_path: str | os.PathLike,
    token_dict: Mapping[str, int],
    encoding: str = "utf-8",
) -> None:
    """Writes a vocabulary file that `load_vocab` reads back as the same dictionary.

    Args:
        dict_path: the file to write; a file of that name is replaced.
        token_dict: from token to id; the ids are 0, 1, 2 ... without a gap.
        encoding: of the file.

    Raises:
        ValueError: the dictionary is empty, its ids have a gap, or a token cannot
            stand on a line (a tab, a line break, white space at its start or end).

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "vocab.txt")
        >>> save_vocab(path, {"[PAD]": 0, "[UNK]": 1})
        >>> load_vocab(path)
        {'[PAD]': 0, '[UNK]': 1}
    """
    tokens = sorted(token_dict, key=token_dict.__getitem__)
    if not any(tokens):
        raise ValueError("The vocabulary is empty: there is nothing to save.")
    if not tokens[-1]:
        raise ValueError(
            f"The last token, of id {len(tokens) - 1}, is empty and would be taken for "
            "the end of the file: remove it."
        )
    for expected, token in enumerate(tokens):
        if token_dict[token] != expected:
            raise ValueError(
                f"{token!r} has the id {token_dict[token]} where {expected} was "
                "expected: a file holds the ids 0, 1, 2 ... each once."
            )
        if token != token.strip() or any(ch in token for ch in "\t\r\n"):
            raise ValueError(
                f"{token!r} cannot be saved: a tab, a line break or white space at "
                "the start or end of a token does not survive in a file."
            )
    if tokens[0].startswith(BYTE_ORDER_MARK):
        raise ValueError("The first token starts with a byte order mark: remove it.")
    data = "".join(f"{token}\n" for token in tokens).encode(encoding)
    path = Path(dict_path)
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_bytes(data)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
