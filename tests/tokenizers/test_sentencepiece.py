import sys

import pytest

from bert4keras.tokenizers import SpTokenizer

pytestmark = pytest.mark.pure

SENTENCES = ["今天 天气 不错", "明天 天气 很 好", "hello world", "the weather is nice"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    spm = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    prefix = tmp_path_factory.mktemp("sp") / "tiny"
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20),
        model_prefix=str(prefix),
        vocab_size=29,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return f"{prefix}.model"


def t5(model, **kwargs):
    return SpTokenizer(model, token_start=None, token_end="</s>", **kwargs)


def test_same_as_the_package(model):
    import sentencepiece as spm

    processor = spm.SentencePieceProcessor(model_file=model)
    tokenizer = t5(model)
    assert tokenizer._vocab_size == processor.get_piece_size() == 29
    for text in [*SENTENCES, "", "  ", "unseen ☃ 字"]:
        ids, segments = tokenizer.encode(text)
        assert ids == [*processor.encode(text), 1]
        assert segments == [0] * len(ids)
        assert tokenizer.tokenize(text) == [
            *processor.encode(text, out_type=str),
            "</s>",
        ]
    assert tokenizer.encode_batch(SENTENCES)[0] == [
        tokenizer.encode(text)[0] for text in SENTENCES
    ]


def test_decode(model):
    tokenizer = t5(model)
    for text in SENTENCES:
        ids, _ = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        # Ids beyond the model occur where its vocabulary was padded.
        assert tokenizer.decode([0, *ids, 0, 29, 1000]) == text
    assert tokenizer.decode([]) == ""
    assert tokenizer.id_to_token(29) == ""


def test_pairs_and_truncation(model):
    tokenizer = t5(model)
    ids, segments = tokenizer.encode(SENTENCES[2], SENTENCES[3], maxlen=9)
    assert len(ids) == len(segments) == 9
    assert [ids[segments.index(1) - 1], ids[-1]] == [1, 1]


def test_attributes(model):
    tokenizer = t5(model)
    assert (tokenizer._token_pad, tokenizer._token_pad_id) == ("<pad>", 0)
    assert (tokenizer._token_unk, tokenizer._token_unk_id) == ("<unk>", 2)
    assert (tokenizer._token_end, tokenizer._token_end_id) == ("</s>", 1)
    assert tokenizer._token_start_id is tokenizer._token_mask_id is None


def test_pre_tokenize_and_translate(model):
    cut = t5(model, pre_tokenize=lambda text: text.replace("天气", " 天气 ").split())
    assert cut.encode("今天天气不错") == t5(model).encode("今天 天气 不错")
    space = t5(model, token_translate={"▁": "▂"})
    assert "▁" not in space.tokenize("a ☃ b")
    assert space._token_translate_inv == {"▂": "▁"}


def test_errors(model, tmp_path):
    with pytest.raises(ValueError, match=r"'\[CLS\]' is none of the 29 pieces"):
        SpTokenizer(model)
    with pytest.raises(FileNotFoundError, match="no SentencePiece model at"):
        t5(tmp_path / "absent.model")
    (tmp_path / "other.model").write_text("no model")
    with pytest.raises(ValueError, match="is no SentencePiece model"):
        t5(tmp_path / "other.model")


def test_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ImportError, match=r"bert4keras\[sentencepiece\]"):
        SpTokenizer("any.model")
