import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4keras.data.text import (
    convert_to_str,
    convert_to_unicode,
    is_string,
    lowercase_and_normalize,
    string_matching,
    strQ2B,
    text_segmentate,
)

pytestmark = pytest.mark.pure

texts = st.text(alphabet="ab \n。,", max_size=60)


def without(text, characters):
    return "".join(c for c in text if c not in characters)


@given(texts, st.integers(1, 12))
def test_segments_lose_nothing_but_white_space(text, maxlen):
    pieces = text_segmentate(text, maxlen, "\n。,")
    assert without("".join(pieces), " \n") == without(text, " \n")


@given(texts, st.integers(1, 12))
def test_segments_are_short_where_separators_allow(text, maxlen):
    for piece in text_segmentate(text, maxlen, "\n。,"):
        # The separator that ends it cannot be split off it.
        splittable = any(s in piece[:-1] for s in "\n。,")
        assert len(piece) <= maxlen or not splittable


@given(texts, st.integers(1, 12))
def test_segments_are_stripped(text, maxlen):
    pieces = text_segmentate(text, maxlen, "\n。,", strips="。,")
    assert all(piece == piece.strip(" \n。,") for piece in pieces)
    assert without("".join(pieces), " \n。,") == without(text, " \n。,")


@pytest.mark.parametrize(
    ("text", "maxlen", "seps", "pieces"),
    [
        ("", 5, "\n", [""]),
        ("abc", 2, "", ["abc"]),
        ("ab\ncd\nef", 6, "\n", ["ab\ncd", "ef"]),
        ("ab。cd。ef", 6, "。", ["ab。cd。", "ef"]),
        # Only a part that is too long is split at the weaker separator.
        ("a,b。cd,ef。", 4, "。,", ["a,b。", "cd,", "ef。"]),
        ("a<br>b", 1, ["<br>"], ["a<br>", "b"]),
    ],
)
def test_segments(text, maxlen, seps, pieces):
    assert text_segmentate(text, maxlen, seps) == pieces


@pytest.mark.parametrize(
    ("maxlen", "seps", "message"),
    [(0, "\n", "maxlen is 0"), (3, ["\n", ""], "must not be empty")],
)
def test_errors_of_segmentation(maxlen, seps, message):
    with pytest.raises(ValueError, match=message):
        text_segmentate("abc", maxlen, seps)


@given(st.text(alphabet=st.characters(min_codepoint=0xFF01, max_codepoint=0xFF5E)))
def test_half_width_is_the_compatibility_form(text):
    assert strQ2B(text) == unicodedata.normalize("NFKC", text)


def test_half_width_leaves_others():
    assert strQ2B("　中文ＡＢ，。") == " 中文AB,。"


def test_decoding():
    assert convert_to_unicode("中文".encode()) == "中文"
    assert convert_to_unicode("中文".encode("gbk"), "gbk") == "中文"
    assert convert_to_str(b"a\xffb") == "ab"
    assert convert_to_str("a") == "a"
    with pytest.raises(TypeError, match="found int; expected str or bytes"):
        convert_to_unicode(3)
    with pytest.raises(UnicodeDecodeError):
        convert_to_unicode(b"\xff", errors="strict")


def test_lower_case_without_accents():
    assert lowercase_and_normalize("ÀÉÎõü 中文 BERT") == "aeiou 中文 bert"


def test_matching():
    assert string_matching("服务很好", ["差", "好"])
    assert not string_matching("服务很好", ["差", "^很"])
    assert not string_matching("服务很好", [])


def test_is_string():
    assert is_string("a")
    assert not is_string(b"a")
