import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4keras.tokenizers import TokenizerBase

pytestmark = pytest.mark.pure


class Letters(TokenizerBase):
    """Each character is a token, its code point the id; "<" starts and ">" ends."""

    def _tokenize(self, text):
        return list(text)

    def token_to_id(self, token):
        return ord(token)

    def id_to_token(self, i):
        return chr(i)

    def decode(self, ids):
        return "".join(self.ids_to_tokens(ids)).strip("<>")


def letters(**kwargs):
    return Letters(**{"token_start": "<", "token_end": ">", **kwargs})


def text_of(tokenizer, *texts, **options):
    ids, segments = tokenizer.encode(*texts, **options)
    return "".join(map(chr, ids)), "".join(map(str, segments))


def test_single_texts_and_pairs():
    assert letters().tokenize("ab") == ["<", "a", "b", ">"]
    assert letters().decode(letters().encode("ab")[0]) == "ab"
    assert text_of(letters(), "ab") == ("<ab>", "0000")
    assert text_of(letters(), "") == ("<>", "00")
    assert text_of(letters(), "ab", "c") == ("<ab>c>", "000011")
    assert text_of(letters(), "ab", "") == ("<ab>>", "00001")
    assert text_of(letters(), "ab", "c", pattern="S*ES*E") == ("<ab><c>", "0000111")
    assert text_of(letters(token_start=None), "ab", "c") == ("ab>c>", "00011")
    assert text_of(letters(token_end=None), "ab", "c") == ("<abc", "0001")


def test_texts_may_be_tokens_already():
    tokenizer = letters()
    first, second = tokenizer.tokenize("ab"), tokenizer.tokenize("cde")
    expected = tokenizer.encode("ab", "cde", maxlen=6)
    assert tokenizer.encode(first, second, maxlen=6) == expected
    assert first == list("<ab>") and second == list("<cde>")
    assert text_of(tokenizer, ["a"], ["b"]) == ("ab", "01")
    assert text_of(tokenizer, [], []) == ("", "")


def test_truncation():
    tokenizer = letters()
    assert tokenizer.tokenize("abcdef", maxlen=4) == list("<ab>")
    assert text_of(tokenizer, "abcdef", maxlen=4) == ("<ab>", "0000")
    assert text_of(tokenizer, "abcdef", maxlen=4, truncate_from="left")[0] == "<ef>"
    assert text_of(tokenizer, "abcdef", maxlen=6, truncate_from=3)[0] == "<abef>"
    assert text_of(tokenizer, "abcdef", maxlen=6, truncate_from=-3)[0] == "<abcf>"
    assert text_of(tokenizer, "abcdef", maxlen=3, truncate_from=4)[0] == "<ab"
    assert text_of(tokenizer, "abcdef", "gh", maxlen=8)[0] == "<abc>gh>"
    assert text_of(tokenizer, "ab", "cdefgh", maxlen=8)[0] == "<ab>cde>"
    assert text_of(tokenizer, "abcd", "efgh", maxlen=7)[0] == "<ab>ef>"
    assert text_of(tokenizer, "abcd", "efgh", maxlen=8)[0] == "<ab>efg>"
    assert text_of(tokenizer, "ab", "cd", maxlen=3)[0] == "<>>"


def pop_one_by_one(first, second, maxlen, index):
    """What truncation means: as long as it is too much, the longer list (the first if
    equal) loses the item at `index`."""
    first, second = list(first), list(second)
    while len(first) + len(second) > maxlen:
        longer = first if len(first) >= len(second) else second
        longer.pop(index)
    return first, second


@given(
    st.text("abc", max_size=12),
    st.text("xyz", max_size=12),
    st.integers(4, 30),
    st.sampled_from([("right", -2), ("left", 1), (-2, -2), (1, 1), (0, 0), (-1, -1)]),
)
def test_truncation_is_taking_one_at_a_time(first, second, maxlen, where):
    name, index = where
    lists = pop_one_by_one(f"<{first}>", f"<{second}>", maxlen, index)
    expected = "".join(lists[0] + lists[1])
    options = {"maxlen": maxlen, "pattern": "S*ES*E", "truncate_from": name}
    assert text_of(letters(), first, second, **options)[0] == expected


@given(
    st.text(max_size=12),
    st.one_of(st.none(), st.text(max_size=12)),
    st.integers(0, 30),
    st.sampled_from(["S*E*E", "S*ES*E"]),
    st.one_of(st.sampled_from(["left", "right"]), st.integers(-20, 20)),
    st.booleans(),
    st.booleans(),
)
def test_maxlen_is_never_exceeded(first, second, maxlen, pattern, where, start, end):
    tokenizer = letters(
        token_start="<" if start else None, token_end=">" if end else None
    )
    least = (start + end) * (1 if second is None else 2)
    least -= start and second is not None and pattern == "S*E*E"
    options = {"maxlen": maxlen, "pattern": pattern, "truncate_from": where}
    if maxlen < least:
        with pytest.raises(ValueError, match=f"special tokens alone are {least}"):
            tokenizer.encode(first, second, **options)
        return
    ids, segments = tokenizer.encode(first, second, **options)
    whole, _ = tokenizer.encode(first, second, pattern=pattern)
    assert len(ids) == len(segments)
    if isinstance(where, str) or len(whole) <= maxlen:
        assert len(ids) == min(maxlen, len(whole))
    assert len(ids) <= maxlen


def test_batches():
    tokenizer = letters()
    token_ids, segment_ids = tokenizer.encode_batch(["ab", ("c", "d"), ["e"]], maxlen=4)
    assert ["".join(map(chr, ids)) for ids in token_ids] == ["<ab>", "<>d>", "e"]
    assert segment_ids == [[0, 0, 0, 0], [0, 0, 1, 1], [0]]
    assert tokenizer.encode_batch([]) == ([], [])
    with pytest.raises(ValueError, match="tuple of 3"):
        tokenizer.encode_batch([("a", "b", "c")])


def test_token_translate_and_its_inverse():
    tokenizer = letters(token_translate={" ": "_"})
    assert tokenizer.tokenize("a b") == ["<", "a", "_", "b", ">"]
    assert tokenizer._token_translate == {" ": "_"}
    assert tokenizer._token_translate_inv == {"_": " "}


@pytest.mark.parametrize("text", [None, 3, float("nan"), b"ab", {"a"}])
def test_what_is_no_text(text):
    with pytest.raises(TypeError, match=f"Found {type(text).__name__}"):
        letters().encode(text)
    with pytest.raises(TypeError, match=f"Found {type(text).__name__}"):
        letters().tokenize(text)
    with pytest.raises(TypeError, match=f"Found {type(text).__name__}"):
        letters().encode_batch(["a", text])
    with pytest.raises(TypeError, match=f"Found {type(text).__name__}"):
        letters().encode(["a", text])


def test_unknown_options():
    with pytest.raises(ValueError, match=r"pattern is 'S\*E'"):
        letters().encode("a", pattern="S*E")
    with pytest.raises(ValueError, match="truncate_from is 'middle'"):
        letters().encode("a", maxlen=3, truncate_from="middle")


def test_base_class_defines_no_tokens():
    base = TokenizerBase()
    with pytest.raises(NotImplementedError):
        base.tokenize("a")
    with pytest.raises(NotImplementedError):
        base.token_to_id("a")
    with pytest.raises(NotImplementedError):
        base.id_to_token(0)
    with pytest.raises(NotImplementedError):
        base.decode([0])
