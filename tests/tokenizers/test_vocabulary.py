import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4keras.tokenizers import Tokenizer, load_vocab, save_vocab

pytestmark = pytest.mark.pure

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[PAD]\n中\n##a\n", ["[PAD]", "中", "##a"]),
        ("[PAD]\r\n中\r\n", ["[PAD]", "中"]),
        ("\ufeff[PAD]\n中", ["[PAD]", "中"]),
        ("[PAD]\t0\n中\t1\n", ["[PAD]", "中"]),
        ("a \n\u2028\n##\u2028\nb\n", ["a", "", "##", "b"]),
        ("a\u2028b\nc\x85d\n", ["a\u2028b", "c\x85d"]),
        ("a b\n", ["a b"]),
        ("a\n\nb\n\n \r\n\n", ["a", "", "b"]),
    ],
)
def test_lines_are_ids(tmp_path, content, expected):
    vocab = load_vocab(write(tmp_path / "vocab.txt", content))
    assert vocab == {token: i for i, token in enumerate(expected)}


def test_encoding(tmp_path):
    path = write(tmp_path / "vocab.txt", "中\n文\n", "gbk")
    assert load_vocab(path, encoding="gbk") == {"中": 0, "文": 1}
    with pytest.raises(ValueError, match="not a text in utf-8"):
        load_vocab(path)


@pytest.mark.parametrize("content", ["", "\n", "\u2028\n", "\n\n\n", "\ufeff"])
def test_empty_vocabulary(tmp_path, content):
    with pytest.raises(ValueError, match="empty"):
        load_vocab(write(tmp_path / "vocab.txt", content))
    with pytest.raises(ValueError, match="empty"):
        Tokenizer(str(tmp_path / "vocab.txt"))


def test_token_on_two_lines(tmp_path):
    path = write(tmp_path / "vocab.txt", "a\nb\nc\nb\n")
    with pytest.raises(ValueError, match="'b' twice, on lines 2 and 4"):
        load_vocab(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_vocab(tmp_path / "vocab.txt")


def test_simplified(tmp_path):
    tokens = (
        "[PAD] [unused1] [UNK] [CLS] [SEP] ！ 中 a ##中 ##a 中国 ... . ##！ ab a. 1"
    )
    path = write(tmp_path / "vocab.txt", "\n".join(tokens.split()))
    vocab, keep = load_vocab(path, simplified=True, startswith=SPECIAL)
    assert list(vocab) == [*SPECIAL, "！", "中", "a", "##a", ".", "ab", "1"]
    assert list(vocab.values()) == list(range(len(vocab)))
    whole = load_vocab(path)
    assert [whole[token] for token in vocab] == keep
    assert load_vocab(path, startswith=SPECIAL) == whole
    assert list(load_vocab(path, simplified=True)[0])[:2] == ["！", "中"]


def test_startswith_errors(tmp_path):
    path = write(tmp_path / "vocab.txt", "[PAD]\na\n")
    with pytest.raises(ValueError, match=r"'\[UNK\]', which is not in"):
        load_vocab(path, simplified=True, startswith=["[UNK]"])
    with pytest.raises(ValueError, match="names a token twice"):
        load_vocab(path, simplified=True, startswith=["a", "a"])


def test_simplified_official_vocabulary(reference):
    """Every id that the official tokenizer gave is kept, and few others go missing."""
    folder = reference / "google-bert"
    path = folder / "chinese_L-12_H-768_A-12" / "vocab.txt"
    whole = load_vocab(path)
    assert len(whole) == 21128 and whole[""] == 343 and whole["##"] == 13502
    vocab, keep = load_vocab(path, simplified=True, startswith=SPECIAL)
    assert len(vocab) == len(keep) == len(set(keep)) == 13584
    assert [whole[token] for token in vocab] == keep
    tokenizer = Tokenizer(vocab, do_lower_case=True)
    with gzip.open(folder / "tokenizer" / "ids.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    ids, _ = tokenizer.encode_batch([row["text"] for row in rows])
    for row, new in zip(rows, ids, strict=True):
        assert [keep[i] for i in new[1:-1]] == row["uncased"]


token = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
line = token.filter(lambda t: t == t.strip() and not set(t) & set("\t\r\n\ufeff"))


@given(tokens=st.lists(line, min_size=1, unique=True).filter(lambda t: t[-1]))
def test_saving_and_loading(tmp_path_factory, tokens):
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    vocab = {token: i for i, token in enumerate(tokens)}
    save_vocab(path, dict(reversed(vocab.items())))
    assert load_vocab(path) == vocab
    assert [file.name for file in path.parent.iterdir()] == ["vocab.txt"]


@pytest.mark.parametrize(
    ("vocab", "message"),
    [
        ({}, "empty"),
        ({"a": 0, "b": 2}, "'b' has the id 2 where 1"),
        ({"a": 0, "b": 0}, "'b' has the id 0 where 1"),
        ({"a": 0, "": 1}, "id 1, is empty"),
        ({"a\nb": 0}, "cannot be saved"),
        ({"a": 0, " b": 1}, "cannot be saved"),
        ({"\ufeffa": 0}, "byte order mark"),
    ],
)
def test_what_cannot_be_saved(tmp_path, vocab, message):
    path = write(tmp_path / "vocab.txt", "before\n")
    with pytest.raises(ValueError, match=message):
        save_vocab(path, vocab)
    assert path.read_text() == "before\n"
    assert [file.name for file in tmp_path.iterdir()] == ["vocab.txt"]
