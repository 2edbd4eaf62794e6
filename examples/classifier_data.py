"""Tab-separated training files: what the columns are, and whether every line is good.

A file has one example a line, UTF-8, fields separated by tabs, no quoting: a label and
a text in either order, or two texts and a label. A first line that names the columns is
recognised. Nothing here imports Keras, so that a mistake in a file is reported at once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Names of columns, in lower case, by which a header is known.
LABEL_NAMES = frozenset(
    """label labels class category polarity sentiment target
    标签 类别 情感 分类""".split()  # noqa: SIM905
)
TEXT_NAMES = frozenset(
    """text text1 text2 text_a text_b texta textb review title content comment query
    sentence sentence1 sentence2 question1 question2 文本 句子 评论 内容""".split()  # noqa: SIM905
)
# Columns that are neither: numbers of examples.
OTHER_NAMES = frozenset("id qid idx index guid 编号 序号".split())  # noqa: SIM905
COLUMNS = (
    ("label", "text"),
    ("text", "label"),
    ("text", "text", "label"),
    ("label", "text", "text"),
)


@dataclass(frozen=True)
class Row:
    """One line of a file: its number, counted from 1, and its fields."""

    number: int
    fields: tuple[str, ...]


@dataclass(frozen=True)
class Examples:
    """The examples of one file.

    `texts[i]` is a tuple of one text or two; `labels` is None where the file has none;
    `header` is the first line's fields if they name the columns; `numbers[i]` is the
    line that holds example i.
    """

    path: Path
    columns: tuple[str, ...]
    header: tuple[str, ...] | None
    numbers: tuple[int, ...]
    texts: tuple[tuple[str, ...], ...]
    labels: tuple[str, ...] | None

    def __len__(self) -> int:
        return len(self.texts)

    def describe(self) -> str:
        """One line: how many examples, which columns, header or not, label counts."""
        if self.header is None:
            header = "no header"
        else:
            header = f"header in line 1 ({', '.join(self.header)})"
        columns = "<TAB>".join(self.columns)
        line = f"{self.path}: {len(self)} examples, {columns}, {header}"
        if self.labels is not None:
            counts = sorted(Counter(self.labels).items(), key=lambda x: label_key(x[0]))
            shown = ", ".join(f"{label} ({count})" for label, count in counts[:10])
            more = f" and {len(counts) - 10} more" if len(counts) > 10 else ""
            line += f", {len(counts)} classes: {shown}{more}"
        return line


def label_key(label: str) -> tuple:
    """Sorts labels that are integers as such, before all others."""
    integer = re.fullmatch(r"-?[0-9]+", label)
    return (0, int(label), label) if integer else (1, 0, label)


def read_rows(path: str | Path) -> list[Row]:
    """The lines of a tab-separated file, all with as many fields as the first.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an empty file, a line that is empty, not UTF-8, or has another
            number of fields than the first one. Names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise ValueError(f"{path}: the file is empty; expected one example a line")
    rows: list[Row] = []
    for number, line in enumerate(lines, start=1):
        fields = _split(path, number, line)
        if rows and len(fields) != len(rows[0].fields):
            raise ValueError(
                f"{path}, line {number}: {len(fields)} tab-separated fields found, "
                f"expected {len(rows[0].fields)} as in line 1"
            )
        rows.append(Row(number, fields))
    return rows


def _split(path: Path, number: int, line: bytes) -> tuple[str, ...]:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}, line {number}: byte {error.start + 1} "
            f"(0x{line[error.start]:02x}) is not UTF-8; save the file as UTF-8"
        ) from None
    if not text.strip():
        raise ValueError(f"{path}, line {number}: the line is empty; delete it")
    return tuple(field.strip() for field in text.rstrip("\r").split("\t"))


def detect_columns(rows: Sequence[Row], path: str | Path) -> tuple[str, ...]:
    """Which column is the label: one of `COLUMNS`.

    The outer column named like a label in line 1, else the one with fewer distinct
    values, else the one with shorter ones.

    Raises:
        ValueError: neither two nor three columns, columns that look alike, or a header
            that names columns other than texts and an outer label.
    """
    width = len(rows[0].fields)
    candidates = [columns for columns in COLUMNS if len(columns) == width]
    if not candidates:
        raise ValueError(
            f"{path}, line 1: {width} tab-separated field{'s' * (width > 1)} found, "
            "expected 2 (a label and a text) or 3 (two texts and a label)"
        )
    named = [c for c in candidates if _label(rows[0], c).casefold() in LABEL_NAMES]
    _check_names(rows[0], path)
    if len(named) == 1:
        return named[0]

    def shape(columns):
        values = [_label(row, columns) for row in rows]
        return len(set(values)), sum(map(len, values))

    best, second = sorted(candidates, key=shape)[:2]
    if shape(best) == shape(second):
        raise ValueError(
            f"{path}: cannot tell which column is the label; say it with --columns"
        )
    return best


def _check_names(header: Row, path: str | Path) -> None:
    names = [field.casefold() for field in header.fields]
    if not LABEL_NAMES.intersection(names):
        return
    others = [name for name in names if name in OTHER_NAMES]
    if others or (names[0] not in LABEL_NAMES and names[-1] not in LABEL_NAMES):
        raise ValueError(
            f"{path}, line 1: the columns are {', '.join(header.fields)}; expected one "
            "text or two, and a label in the first or the last column; "
            + (f"delete the column {others[0]}" if others else "move the label")
        )


def _label(row: Row, columns: tuple[str, ...]) -> str:
    return row.fields[columns.index("label")]


def detect_header(rows: Sequence[Row], columns: tuple[str, ...]) -> bool:
    """Whether line 1 names the columns.

    It does if its label occurs in no other line, is not a number, and one of these
    holds: it is a known name of a column; it stands beside such names; all other labels
    are numbers; every other label occurs at least twice and all fields of line 1 look
    like names.
    """
    if "label" not in columns:
        return False
    first, *others = (_label(row, columns) for row in rows)
    counts = Counter(others)
    if first in counts:
        return False
    if first.casefold() in LABEL_NAMES:
        return True
    if not others or _is_number(first):
        return False
    if all(map(_is_number, counts)):
        return True
    index = columns.index("label")
    texts = [f for i, f in enumerate(rows[0].fields) if i != index]
    if all(text.casefold() in TEXT_NAMES for text in texts):
        return True
    return min(counts.values()) > 1 and all(map(str.isidentifier, texts))


def _is_number(label: str) -> bool:
    return re.fullmatch(r"[-+]?[0-9.]+", label) is not None


def read_training_file(
    path: str | Path,
    columns: tuple[str, ...] | None = None,
    header: bool | None = None,
) -> Examples:
    """Reads the file that defines the classes.

    Args:
        path: of the file.
        columns: one of `COLUMNS`; None to detect them.
        header: whether line 1 names the columns; None to detect it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a bad line (named), or fewer than two classes.
    """
    rows = read_rows(path)
    columns = columns or detect_columns(rows, path)
    _check_width(rows, columns, path)
    if header is None:
        header = detect_header(rows, columns)
    examples = _examples(rows, columns, header, path)
    classes = set(examples.labels)
    if len(classes) < 2:
        raise ValueError(
            f"{path}: a single class found ({classes.pop()}), expected at least two"
        )
    return examples


def read_labelled_file(
    path: str | Path, training: Examples, header: bool | None = None
) -> Examples:
    """Reads validation or test examples, in the columns and classes of `training`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a bad line or a label that `training` lacks (line and label named).
    """
    rows = read_rows(path)
    _check_width(rows, training.columns, path)
    known = set(training.labels)
    if header is None:
        first = _label(rows[0], training.columns)
        named_alike = rows[0].fields == training.header
        header = first not in known and (named_alike or first.casefold() in LABEL_NAMES)
    examples = _examples(rows, training.columns, header, path)
    check_labels(examples, known)
    return examples


def check_labels(examples: Examples, known: set[str]) -> None:
    """Raises a ValueError that names the first line whose label is not in `known`."""
    for number, label in zip(examples.numbers, examples.labels, strict=True):
        if label not in known:
            shown = sorted(known, key=label_key)
            raise ValueError(
                f"{examples.path}, line {number}: unknown label {label!r}, expected "
                f"one of the training file's: {', '.join(shown[:10])}"
                f"{' ...' if len(shown) > 10 else ''}"
            )


def read_texts(path: str | Path, columns: tuple[str, ...], labels: set[str]):
    """Reads examples to predict: with labels as in training, or the texts alone.

    Args:
        path: of the file.
        columns: those of the training file.
        labels: the classes.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a bad line (named), or another number of columns.
    """
    rows = read_rows(path)
    texts = tuple(column for column in columns if column != "label")
    width = len(rows[0].fields)
    if width == len(texts):
        header = all(field.casefold() in TEXT_NAMES for field in rows[0].fields)
        return _examples(rows, texts, header, path)
    if width != len(columns):
        raise ValueError(
            f"{path}, line 1: {width} tab-separated fields found, expected "
            f"{'<TAB>'.join(texts)} or {'<TAB>'.join(columns)}"
        )
    first = _label(rows[0], columns)
    header = first not in labels and first.casefold() in LABEL_NAMES
    examples = _examples(rows, columns, header, path)
    check_labels(examples, labels)
    return examples


def _check_width(rows: list[Row], columns: tuple[str, ...], path) -> None:
    width = len(rows[0].fields)
    if width != len(columns):
        raise ValueError(
            f"{path}, line 1: {width} tab-separated fields found, expected "
            f"{len(columns)} ({'<TAB>'.join(columns)})"
        )


def _examples(
    rows: list[Row], columns: tuple[str, ...], header: bool, path: str | Path
) -> Examples:
    """Checks every row and separates texts from labels."""
    body = rows[1:] if header else rows
    if not body:
        raise ValueError(f"{path}: a header and no example found")
    for row in body:
        for column, field in zip(columns, row.fields, strict=True):
            if not field:
                raise ValueError(f"{path}, line {row.number}: the {column} is empty")
    text_columns = [i for i, column in enumerate(columns) if column == "text"]
    labelled = "label" in columns
    return Examples(
        path=Path(path),
        columns=columns,
        header=rows[0].fields if header else None,
        numbers=tuple(row.number for row in body),
        texts=tuple(tuple(row.fields[i] for i in text_columns) for row in body),
        labels=tuple(_label(row, columns) for row in body) if labelled else None,
    )
