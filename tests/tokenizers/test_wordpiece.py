import copy
import doctest
import gzip
import json
import pickle
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4keras.tokenizers import (
    Tokenizer,
    base,
    batch,
    sentencepiece,
    vocabulary,
    wordpiece,
)
from bert4keras.tokenizers import normalization as chars

pytestmark = pytest.mark.pure

# Sigmas, letters that lower or decompose to several characters, marks that NFD sorts,
# removed characters, other white space, special tokens, punctuation.
PIECES = (
    "中文 试 卷 か ab abc playing Playing Σ σ ΑΣ ΌΣΟΣ İ ß ŉ é e\u0301\u0327 Ǖ \u0344 "
    "한국 가 か\u3099 が \u1715 \u1b44\u302e \U0001d15f\u0345 \U0001d165\u1715 ≠ "
    "\u037e \u1fef \uf900 \U0002f800 \ufffd \x00 \x1c \x85 \u200b \u2028 \u3000 \xa0 "
    "\u034f \ufe0f \U0001f600 \U000e0001 [MASK] [CLS] [UNK] [unused1] ## ##a a## "
    "... —— “”"
)
FRAGMENTS = PIECES.split(" ")
FRAGMENTS += [" ", "\t", "\r\n", "\n", "\ud800", "x" * 201, "é" * 101]

any_character = st.characters(exclude_categories=())
hostile_text = st.lists(
    st.one_of(st.sampled_from(FRAGMENTS), st.text(any_character, max_size=3)),
    max_size=12,
).map("".join)

TOKENS = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] [unused1] 中 文 国 试 豈 a b c d e i p s u x ab "
    "abc ##a ##b ##c ##d ##e ##s ##x play ##ing ##e\u0301 é ae ##ae σ α ##σ ##ς ᄒ ᅡ ##ᅡ "
    "##ᆫ . , ! = [ ] # mask ##中 中文 か ##\u1715"
)
VOCABULARY = TOKENS.split(" ")

IDS = {token: i for i, token in enumerate(VOCABULARY)}
UNCASED = Tokenizer(IDS, do_lower_case=True)
CASED = Tokenizer(IDS)
both = pytest.mark.parametrize("tokenizer", [UNCASED, CASED], ids=["uncased", "cased"])


def brute_words(text, lower):
    """The steps of google-research/bert's BasicTokenizer on whole strings."""
    kept = "".join(ch for ch in text if not chars.is_removed(ch))
    spaced = "".join(f" {ch} " if chars.is_cjk_character(ch) else ch for ch in kept)
    words = []
    for word in "".join(" " if chars.is_space(ch) else ch for ch in spaced).split():
        if lower:
            word = unicodedata.normalize("NFD", word.lower())
            word = "".join(ch for ch in word if unicodedata.category(ch) != "Mn")
        split = (f" {ch} " if chars.is_punctuation(ch) else ch for ch in word)
        words.extend("".join(split).split())
    return words


def brute_pieces(word, vocabulary):
    """Longest match first, by trying every end."""
    if len(word) > 200:
        return [word]
    pieces, rest = [], word
    while rest:
        mark = "##" if pieces else ""
        ends = [n for n in range(len(rest), 0, -1) if mark + rest[:n] in vocabulary]
        if not ends:
            return [word]
        pieces.append(mark + rest[: ends[0]])
        rest = rest[ends[0] :]
    return pieces


@pytest.mark.parametrize("case", ["uncased", "cased"])
def test_ids_are_those_of_google(reference, case):
    folder = reference / "google-bert"
    tokenizer = Tokenizer(
        str(folder / "chinese_L-12_H-768_A-12" / "vocab.txt"),
        do_lower_case=case == "uncased",
    )
    with gzip.open(folder / "tokenizer" / "ids.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    assert len(rows) == 4200
    encoded, _ = tokenizer.encode_batch([row["text"] for row in rows])
    for row, ids in zip(rows, encoded, strict=True):
        assert ids[1:-1] == row[case]
        assert tokenizer.encode(row["text"])[0] == ids
        tokens = tokenizer.tokenize(row["text"])
        assert tokenizer.tokens_to_ids(tokens) == ids
        origins = tokenizer.rematch(row["text"], tokens)
        assert all(origins[1:-1]) and origins[0] == origins[-1] == []
        assert tokenizer.rematch(row["text"], tokenizer.ids_to_tokens(ids)) == origins


@both
@given(text=hostile_text)
def test_tokens_are_those_of_the_definition(tokenizer, text):
    words = brute_words(text, tokenizer._do_lower_case)
    expected = [piece for word in words for piece in brute_pieces(word, IDS)]
    assert tokenizer.tokenize(text) == ["[CLS]", *expected, "[SEP]"]


@pytest.mark.parametrize("lower", [True, False])
def test_form_of_every_character(lower):
    """All planes but those that hold nothing or private characters."""
    normalizer = chars.Normalizer(lower)
    for first in [*range(0, 0x32000, 256), 0xE0000, 0xE0100, 0xF0000, 0x10FF00]:
        texts = [f"a{chr(code)}b" for code in range(first, first + 256)]
        words = [word for text in texts for word in normalizer(text).split()]
        assert words == brute_words(" ".join(texts), lower), hex(first)


# Ranges whose properties are the same in every version of Unicode since 8.0; without
# the sigma, which the other program lowers without looking at its neighbours, and
# without "[", for it takes special tokens out of a text.
SETTLED = [(0x20, 0x241), (0x3B1, 0x481), (0x2010, 0x2026), (0x3000, 0x3029)]
SETTLED += [(0x3041, 0x3096), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3), (0xFF01, 0xFF5E)]


def test_ids_are_those_of_tokenizers():
    tokenizers = pytest.importorskip("tokenizers")
    settled = [chr(c) for first, last in SETTLED for c in range(first, last + 1)]
    settled.remove("[")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ab", "##ab"]
    tokens += [mark + ch for mark in ("", "##") for ch in settled if ch.strip()]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    others = {
        lower: tokenizers.BertWordPieceTokenizer(vocabulary, lowercase=lower)
        for lower in (True, False)
    }
    own = {lower: Tokenizer(vocabulary, lower) for lower in (True, False)}

    @given(
        text=st.text(st.one_of(st.sampled_from("ab 中"), st.sampled_from(settled))),
        lower=st.booleans(),
    )
    def compare(text, lower):
        assert own[lower].encode(text)[0] == others[lower].encode(text).ids

    compare()


@both
@settings(max_examples=200)
@given(data=st.data())
def test_batch_is_one_by_one(tokenizer, data):
    token = st.sampled_from(VOCABULARY)
    text = st.one_of(hostile_text, st.lists(token, max_size=8))
    texts = data.draw(st.lists(st.one_of(text, st.tuples(text, text)), max_size=5))
    options = data.draw(
        st.fixed_dictionaries(
            {},
            optional={
                "maxlen": st.integers(4, 20),
                "pattern": st.sampled_from(["S*E*E", "S*ES*E"]),
                "truncate_from": st.sampled_from(["left", "right", -1, 0, 3, -4]),
            },
        )
    )
    rows = [
        tokenizer.encode(*(text if isinstance(text, tuple) else (text,)), **options)
        for text in texts
    ]
    token_ids, segment_ids = tokenizer.encode_batch(texts, **options)
    assert token_ids == [ids for ids, _ in rows]
    assert segment_ids == [segments for _, segments in rows]
    for ids, segments in rows:
        assert len(ids) == len(segments) <= options.get("maxlen", len(ids))


def test_batch_larger_than_a_chunk():
    texts = ["中文ab " * 30, "", "ΑΣ b", "x" * 300] * (batch.CHUNK // 200)
    assert sum(map(len, texts)) > 2 * batch.CHUNK
    single = {text: UNCASED.encode(text)[0] for text in set(texts)}
    assert UNCASED.encode_batch(texts)[0] == [single[text] for text in texts]


@both
@given(text=hostile_text)
def test_rematch_covers_the_text(tokenizer, text):
    tokens = tokenizer.tokenize(text)
    origins = tokenizer.rematch(text, tokens)
    assert len(origins) == len(tokens)
    assert origins[0] == origins[-1] == []
    flat = [position for positions in origins[1:-1] for position in positions]
    # Sorting by combining class is the one thing that can move a character.
    if not any(unicodedata.combining(ch) for ch in unicodedata.normalize("NFD", text)):
        assert flat == sorted(flat)
    for token, positions in zip(tokens[1:-1], origins[1:-1], strict=True):
        assert positions and positions == sorted(set(positions))
        form = "".join(text[i] for i in positions)
        if tokenizer._do_lower_case:
            form = unicodedata.normalize("NFD", form.lower())
        # Cut out of its word, a sigma may lower to its other form.
        stem = tokenizer.stem(token).replace("ς", "σ")
        assert set(stem) <= set(form.replace("ς", "σ"))
        assert len(positions) <= len(stem)
    # Only what the tokenizer drops belongs to no token.
    for position in set(range(len(text))) - set(flat):
        left_out = text[position]
        if tokenizer._do_lower_case:
            left_out = "".join(
                ch
                for ch in unicodedata.normalize("NFD", left_out)
                if unicodedata.category(ch) != "Mn"
            )
        assert all(chars.is_removed(ch) or chars.is_space(ch) for ch in left_out)


@both
@given(text=hostile_text)
def test_rematch_of_unknown_words_by_their_token(tokenizer, text):
    tokens = tokenizer.tokenize(text)
    shown = tokenizer.ids_to_tokens(tokenizer.tokens_to_ids(tokens))
    assert tokenizer.rematch(text, shown) == tokenizer.rematch(text, tokens)


@given(text=hostile_text, maxlen=st.integers(2, 12))
def test_rematch_of_a_text_cut_on_the_right(text, maxlen):
    tokens = UNCASED.tokenize(text)
    cut = UNCASED.tokenize(text, maxlen)
    expected = UNCASED.rematch(text, tokens)
    inner = len(cut) - 2
    assert UNCASED.rematch(text, cut) == [[], *expected[1 : 1 + inner], []]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [[], []]),
        ("İB", [[], [0], [1], []]),
        ("e\u0301a", [[], [0], [2], []]),
        ("é\u200bs", [[], [0], [2], []]),
        ("\ufffd中 文\x00", [[], [1], [3], []]),
        ("한가", [[], [0, 1], []]),
        ("qq 中", [[], [0, 1], [3], []]),
        ("[MASK]", [[], [0], [1, 2, 3, 4], [5], []]),
        ("\U0001f600中", [[], [0], [1], []]),
    ],
)
def test_rematch_examples(text, expected):
    assert UNCASED.rematch(text, UNCASED.tokenize(text)) == expected


def test_one_character_may_give_several_tokens():
    tokens = ["[UNK]", "[CLS]", "[SEP]", "\u1112", "##\u1161", "##\u11ab"]
    tokenizer = Tokenizer({t: i for i, t in enumerate(tokens)}, True)
    text = "한"
    assert tokenizer.tokenize(text) == ["[CLS]", *tokens[3:], "[SEP]"]
    assert tokenizer.rematch(text, tokens[3:]) == [[0], [0], [0]]


def test_rematch_of_changed_tokens():
    text = "中文 playing 中"
    masked = ["[CLS]", "中", "[MASK]", "play", "##ing", "[MASK]", "[SEP]"]
    positions = [[], [0], [], [3, 4, 5, 6], [7, 8, 9], [], []]
    assert UNCASED.rematch(text, masked) == positions
    left_cut = ["[CLS]", "##ing", "中", "[SEP]"]
    assert UNCASED.rematch(text, left_cut) == [[], [7, 8, 9], [11], []]
    single = ["文", "p", "##l", "中", "豈"]
    assert UNCASED.rematch(text, single) == [[1], [3], [4], [11], []]
    assert UNCASED.rematch(text, []) == []


def test_special_tokens_in_a_text_are_text():
    assert UNCASED.tokenize("[MASK]") == ["[CLS]", "[", "mask", "]", "[SEP]"]


def test_default_keeps_case():
    assert Tokenizer(IDS).tokenize("ABC")[1:-1] == ["ABC"]
    assert Tokenizer(IDS, do_lower_case=True).tokenize("ABC")[1:-1] == ["abc"]


def test_word_maxlen():
    tokenizer = Tokenizer(IDS, word_maxlen=3)
    assert tokenizer.tokenize("abc abca")[1:-1] == ["abc", "abca"]
    assert tokenizer.encode("abca")[0][1:-1] == [IDS["[UNK]"]]
    assert CASED.tokenize("x" * 200)[1:3] == ["x", "##x"]
    assert CASED.encode("x" * 201)[0][1:-1] == [IDS["[UNK]"]]


def test_pre_tokenize():
    tokenizer = Tokenizer(
        IDS,
        do_lower_case=True,
        pre_tokenize=lambda text: text.replace("|", "|\n").split("\n"),
    )
    text = "中文|É ABC|[MASK]"
    tokens = ["中", "文", "|", "e", "abc", "|", "[", "mask", "]"]
    assert tokenizer.tokenize(text)[1:-1] == tokens
    words = Tokenizer(IDS, pre_tokenize=lambda text: ["中文", "国", "不在", "[MASK]"])
    assert words.tokenize("中文国[MASK]")[1:-1] == ["中文", "国", "不", "在", "[MASK]"]
    origins = words.rematch("中文国[MASK]", words.tokenize("中文国[MASK]"))
    assert origins[1:-1] == [[0, 1], [2], [], [], [3, 4, 5, 6, 7, 8]]
    assert tokenizer.rematch(text, tokenizer.tokenize(text))[1:-1] == [
        [0],
        [1],
        [2],
        [3],
        [5, 6, 7],
        [8],
        [9],
        [10, 11, 12, 13],
        [14],
    ]
    texts = [text, ("中文", text)]
    assert tokenizer.encode_batch(texts)[0] == [
        tokenizer.encode(text)[0],
        tokenizer.encode("中文", text)[0],
    ]


def test_token_translate():
    tokenizer = Tokenizer(IDS, token_translate={"文": "国"})
    assert tokenizer.tokenize("中文") == ["[CLS]", "中", "国", "[SEP]"]
    assert tokenizer.encode_batch(["中文"])[0] == [tokenizer.encode("中国")[0]]
    assert tokenizer.rematch("中文", ["中", "国"]) == [[0], [1]]


def test_overridden_steps_count_in_batches_too():
    class Characters(Tokenizer):
        def _tokenize(self, text):
            return list(text)

    class Unknowing(Tokenizer):
        def token_to_id(self, token):
            return 7

    class Greeting(Tokenizer):
        def encode(self, first_text, *args, **kwargs):
            return super().encode("中" + first_text, *args, **kwargs)

    assert Characters(IDS).encode("abc")[0] == [2, IDS["a"], IDS["b"], IDS["c"], 3]
    for cls in (Characters, Unknowing, Greeting):
        tokenizer = cls(IDS)
        expected = [tokenizer.encode(text)[0] for text in ("abc", "文")]
        assert tokenizer.encode_batch(["abc", "文"])[0] == expected
    assert Characters(IDS).rematch("abc", ["[CLS]", "a", "b", "c", "[SEP]"]) == [
        [],
        [0],
        [1],
        [2],
        [],
    ]


def test_attributes_that_scripts_read():
    tokenizer = Tokenizer(IDS, token_start="中")
    assert tokenizer._vocab_size == len(IDS)
    assert tokenizer._token_dict == IDS and tokenizer._token_dict is not IDS
    assert tokenizer._token_dict_inv[2] == "[CLS]"
    assert (tokenizer._token_pad_id, tokenizer._token_unk_id) == (0, 1)
    assert (tokenizer._token_start_id, tokenizer._token_end_id) == (IDS["中"], 3)
    assert tokenizer._token_mask_id == IDS["[MASK]"]
    without = Tokenizer({"[UNK]": 0}, token_start=None, token_end=None)
    assert without._token_start_id is without._token_mask_id is None
    assert without.encode("ab") == ([0], [0])


def test_incomplete_vocabularies():
    with pytest.raises(ValueError, match="empty"):
        Tokenizer({})
    with pytest.raises(ValueError, match=r"lacks '\[UNK\]'"):
        Tokenizer({"[CLS]": 0, "[SEP]": 1})
    with pytest.raises(ValueError, match=r"lacks '\[SEP\]'.*token_end=None"):
        Tokenizer({"[CLS]": 0, "[UNK]": 1})


def test_unknown_ids():
    with pytest.raises(ValueError, match=f"No token has the id {len(IDS)}"):
        CASED.id_to_token(len(IDS))
    assert CASED.token_to_id("not there") == IDS["[UNK]"]


def test_examples_in_the_documentation():
    for module in (base, batch, chars, sentencepiece, vocabulary, wordpiece):
        assert doctest.testmod(module).failed == 0


def test_caches_stay_bounded():
    cache = chars.BoundedCache(str.upper, limit=3)
    for word in ["a", "b", "a", "c", "d", "e", "x" * 1000]:
        assert cache[word] == word.upper()
        assert len(cache) <= 3
    assert "x" * 1000 not in cache

    def fail(key):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        chars.BoundedCache(fail, limit=3)["a"]


def test_copies_work_alike():
    tokenizer = Tokenizer(IDS, do_lower_case=True)
    text = "Playing 中文 ΑΣ"
    expected = tokenizer.encode_batch([text])
    for other in (copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):
        assert other.encode_batch([text]) == expected
        assert other.tokenize(text) == tokenizer.tokenize(text)


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("[CLS] 今 天 不 错 ， 是 吗 ？ [SEP]", "今天不错，是吗？"),
        ("play ##ing with fire , ok ?", "playing with fire, ok?"),
        ("我 爱 nba 球 队", "我爱nba球队"),
        ("好 , 不 错", "好,不错"),
        ("it ' s 3 . 5 % - off", "it's 3.5%-off"),
        ("don ' t ' the ' s ##ir", "don't' the' sir"),
        ("a . b 3 . 14", "a. b 3.14"),
        ("中国 人民 nba 中国 ， ok", "中国人民nba中国，ok"),
        ("[PAD] [unused1] [UNK]", ""),
        ("a [MASK] b", "a b"),
        ("1 + 1 = 2", "1+1=2"),
        ("##ing 中 ##文", "ing中文"),
    ],
)
def test_decode(tokens, text):
    assert CASED.decode([], tokens=tokens.split()) == text


def test_decode_of_ids():
    ids, _ = UNCASED.encode("Playing 中文, abc!")
    assert UNCASED.decode(ids) == "playing中文, abc!"
    assert UNCASED.decode([]) == ""
    with pytest.raises(ValueError, match="No token has the id -1"):
        UNCASED.decode([-1])


@given(ids=st.lists(st.integers(0, len(IDS) - 1)))
def test_decode_takes_all_ids(ids):
    text = CASED.decode(ids)
    assert text == text.strip() and "  " not in text
    kept = "".join(
        token.removeprefix("##")
        for token in CASED.ids_to_tokens(ids)
        if not token.endswith("]") or token == "]"
    )
    assert text.replace(" ", "") == kept


@given(
    words=st.lists(st.sampled_from(["中", "文", "abc", "playing", "a", "b", ",", "."]))
)
def test_decoded_text_has_the_same_ids(words):
    ids, _ = UNCASED.encode(" ".join(words))
    assert UNCASED.encode(UNCASED.decode(ids))[0] == ids


def test_batch_of_what_is_no_text():
    for bad in (None, float("nan"), 3, (None, "a")):
        with pytest.raises(TypeError, match="where a text was expected"):
            UNCASED.encode_batch(["a", bad])
