"""Training files: columns and header found out, every bad line named."""

import random

import pytest
from classifier_data import (
    COLUMNS,
    detect_columns,
    label_key,
    read_labelled_file,
    read_rows,
    read_texts,
    read_training_file,
)

pytestmark = pytest.mark.pure

GOOD = "positive\t很好\nnegative\t不好\npositive\t还行\nnegative\t真差\n"


@pytest.fixture
def write(tmp_path):
    def write(content, name="train.tsv"):
        path = tmp_path / name
        if isinstance(content, str):
            content = content.encode()
        path.write_bytes(content)
        return path

    return write


def message(function, *arguments, error=ValueError, **options):
    with pytest.raises(error) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_label_first(write):
    examples = read_training_file(write(GOOD))
    assert examples.columns == ("label", "text")
    assert examples.header is None
    assert examples.labels == ("positive", "negative", "positive", "negative")
    assert examples.texts[1] == ("不好",)
    assert examples.numbers == (1, 2, 3, 4)


def test_text_first_and_header(write):
    path = write("text\tlabel\n好\t1\n坏\t0\n很好\t1\n")
    examples = read_training_file(path)
    assert examples.columns == ("text", "label")
    assert examples.header == ("text", "label")
    assert examples.numbers == (2, 3, 4)
    assert examples.describe() == (
        f"{path}: 3 examples, text<TAB>label, header in line 1 (text, label), "
        "2 classes: 0 (1), 1 (2)"
    )


def test_pairs(write):
    path = write("甲乙\t丙丁\t1\n甲\t丁\t0\n戊\t戊己\t1\n")
    examples = read_training_file(path)
    assert examples.columns == ("text", "text", "label")
    assert examples.texts[0] == ("甲乙", "丙丁")
    assert "no header" in examples.describe()


def test_pairs_with_the_label_first(write):
    path = write("label\ttext_a\ttext_b\n1\t甲乙\t丙丁\n0\t甲\t丁\n1\t戊\t戊己\n")
    assert read_training_file(path).columns == ("label", "text", "text")


def test_unfamiliar_header(write):
    """A label that occurs once, in line 1, where every other occurs twice: a header."""
    assert read_training_file(write("mood\topinion\n" + GOOD)).header == (
        "mood",
        "opinion",
    )
    assert read_training_file(write("mood\t好\n" + GOOD + "fair\t可\n")).header is None
    assert read_training_file(write("mood\t好\n" + GOOD), header=False).header is None
    numbers = read_training_file(write("mood\topinion of us\n0\t好\n1\t坏\n"))
    assert numbers.header == ("mood", "opinion of us")


@pytest.mark.parametrize(
    "line",
    ["2\t可以\n", "3.5\t可以\n", "fair\t房间干净，服务周到。\n", "y\t可以 吧\n"],
)
def test_an_example_with_a_label_of_its_own_is_no_header(write, line):
    assert read_training_file(write(line + GOOD)).header is None


@pytest.mark.parametrize(
    "names, advice",
    [
        ("id\tlabel\ttext", "delete the column id"),
        ("qid\ttext_a\tlabel", "delete the column qid"),
        ("text_a\tlabel\ttext_b", "move the label"),
    ],
)
def test_columns_that_a_header_names_but_nobody_uses(write, names, advice):
    path = write(f"{names}\n1\t甲\t0\n2\t乙\t1\n3\t丙\t0\n4\t丁\t1\n")
    text = message(read_training_file, path)
    assert text.startswith(f"{path}, line 1") and advice in text


def test_a_word_that_is_a_label_is_no_header(write):
    path = write("label\t好\nother\t坏\nlabel\t很好\n")
    assert read_training_file(path).header is None


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_any_layout_is_found_out(write, columns, header, end):
    rng = random.Random(str(columns))
    wanted, lines = [], []
    for i in range(40):
        label = rng.choice(["体育", "财经", "娱乐"])
        texts = [f"{'字' * rng.randint(3, 9)}{i} {j}" for j in range(len(columns) - 1)]
        wanted.append((tuple(texts), label))
        texts.insert(columns.index("label"), label)
        lines.append("\t".join(texts))
    if header:
        names = [f"text{i}" for i in range(1, len(columns))]
        names.insert(columns.index("label"), "label")
        lines.insert(0, "\t".join(names))
    content = b"\xef\xbb\xbf" + end.join(lines).encode()
    examples = read_training_file(write(content))
    assert examples.columns == columns
    assert (examples.header is not None) == header
    found = list(zip(examples.texts, examples.labels, strict=True))
    assert found == wanted


def test_line_separators_of_unicode_do_not_end_a_line(write):
    examples = read_training_file(write("1\t甲\u2028乙\x0b丙\x85丁\n0\t戊\n"))
    assert examples.texts[0] == ("甲\u2028乙\x0b丙\x85丁",)


def test_columns_that_look_alike(write):
    path = write("甲\t乙\n丙\t丁\n")
    assert "--columns" in message(read_training_file, path)
    examples = read_training_file(path, columns=("text", "label"))
    assert examples.labels == ("乙", "丁")


def test_missing_file(tmp_path):
    path = tmp_path / "absent.tsv"
    text = message(read_rows, path, error=FileNotFoundError)
    assert text == f"{path}: no such file"


@pytest.mark.parametrize("content", ["", "\n", "  \n\n"])
def test_empty_file(write, content):
    assert "the file is empty" in message(read_rows, write(content))


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("positive 好", "1 tab-separated fields found, expected 2 as in line 1"),
        ("positive\t好\t坏", "3 tab-separated fields found, expected 2 as in line 1"),
        ("", "the line is empty"),
        (" \t ", "the line is empty"),
        ("positive\t", "the text is empty"),
        ("positive\t \u3000", "the text is empty"),
        ("\t好", "the label is empty"),
        (b"positive\t\xc4\xe3", "byte 10 (0xc4) is not UTF-8"),
    ],
)
@pytest.mark.parametrize("header", ["", "label\ttext\n"])
def test_bad_line(write, bad, why, header):
    bad = bad.encode() if isinstance(bad, str) else bad
    content = (header + GOOD).encode() + bad + b"\n" + GOOD.encode()
    number = 5 + bool(header)
    text = message(read_training_file, write(content))
    assert f"train.tsv, line {number}: " in text and why in text


@pytest.mark.parametrize("width", [1, 4])
def test_wrong_number_of_columns(write, width):
    text = message(detect_columns, read_rows(write("\t".join("甲乙丙丁"[:width]))), "f")
    assert text.startswith(f"f, line 1: {width} tab-separated field")


def test_single_class(write):
    assert "a single class found (1)" in message(
        read_training_file, write("1\t甲\n1\t乙\n")
    )


def test_header_only(write):
    path = write("label\ttext\n")
    assert "a header and no example" in message(read_training_file, path)
    path = write("label\ttext\n", "valid.tsv")
    training = read_training_file(write(GOOD))
    assert "a header and no example" in message(read_labelled_file, path, training)


def test_unknown_label(write):
    training = read_training_file(write(GOOD))
    path = write(GOOD + "neutral\t一般\n", "valid.tsv")
    text = message(read_labelled_file, path, training)
    assert "valid.tsv, line 5: unknown label 'neutral'" in text
    assert "negative, positive" in text


def test_validation_file_follows_the_training_file(write):
    training = read_training_file(write("mood\topinion\n" + GOOD))
    same = read_labelled_file(write("mood\topinion\n" + GOOD, "a.tsv"), training)
    assert same.header == ("mood", "opinion") and len(same) == 4
    bare = read_labelled_file(write("positive\t好\n", "b.tsv"), training)
    assert bare.header is None and bare.labels == ("positive",)
    text = message(read_labelled_file, write("甲\t乙\t1\n", "c.tsv"), training)
    assert "c.tsv, line 1: 3 tab-separated fields found, expected 2" in text


def test_texts_to_predict(write):
    columns, labels = ("label", "text"), {"0", "1"}
    bare = read_texts(write("好\n坏\n"), columns, labels)
    assert bare.labels is None and bare.texts == (("好",), ("坏",))
    labelled = read_texts(write("label\ttext\n1\t好\n"), columns, labels)
    assert labelled.labels == ("1",) and labelled.texts == (("好",),)
    assert "line 2: unknown label '2'" in message(
        read_texts, write("1\t好\n2\t坏\n"), columns, labels
    )
    assert "line 1: 3 tab-separated" in message(
        read_texts, write("1\t好\t坏\n"), columns, labels
    )


def test_labels_sort_as_numbers_where_they_are():
    labels = ["10", "b", "-1", "9", "a", "--2"]
    assert sorted(labels, key=label_key) == ["-1", "9", "10", "--2", "a", "b"]
