"""Encoding speed: `Tokenizer.encode_batch` beside `tokenizers.BertWordPieceTokenizer`.

Both turn the same texts into ids, in turns, in one process. Ours uses one core; the
other as many threads as it likes. Needs `pip install tokenizers`.

    python benchmarks/tokenizer.py --data train.tsv --vocab vocab.txt
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time

from bert4keras.tokenizers import Tokenizer, load_vocab

BUILT_IN = (
    "房间干净，离地铁站只有5分钟，前台态度也很好，下次来还住这里。",
    "电池太差了！充满电只能用2个小时，屏幕还有一个亮点……要求退货。",
    "故事前半部分拖沓，后半部分却让人放不下，读到凌晨3点才睡。",
    "CPU温度一直在60度以上，风扇很吵，Windows 7装驱动花了半天时间。",
    "The café near the hotel is lovely, but breakfast costs 48 RMB per person.",
)


def main() -> int:
    options = parse_options()
    texts = read_texts(options.data)
    vocab = load_vocab(options.vocab) if options.vocab else vocabulary_of(texts)
    lower = not options.cased

    import tokenizers

    other = tokenizers.BertWordPieceTokenizer(vocab, lowercase=lower)
    ours = Tokenizer(vocab, do_lower_case=lower)
    contenders = {
        "bert4keras": lambda: ours.encode_batch(texts),
        "tokenizers": lambda: other.encode_batch(texts),
    }
    answers, first, seconds = {}, {}, {name: [] for name in contenders}
    for name, run in contenders.items():
        first[name], answers[name] = timed(run)
    for _ in range(options.repeat):
        for name, run in contenders.items():
            seconds[name].append(timed(run)[0])

    characters = sum(map(len, texts))
    print(f"{len(texts)} texts, {characters} characters, {os.cpu_count()} cores seen")
    print(f"{'seconds':12}{'first':>9}{'min':>9}{'median':>9}")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"{name:12}{first[name]:9.4f}{min(values):9.4f}{median:9.4f}")
    for what, pick in (("min", min), ("median", statistics.median)):
        ratio = pick(seconds["tokenizers"]) / pick(seconds["bert4keras"])
        print(f"ratio of {what}: {ratio:.2f}")
    print(f"ratio of first: {first['tokenizers'] / first['bert4keras']:.2f}")
    pairs = zip(answers["bert4keras"][0], answers["tokenizers"], strict=True)
    differing = sum(ids != row.ids for ids, row in pairs)
    print(f"texts with other ids: {differing}")
    return int(differing > 0)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--data",
        help="a file with one example a line; of tab-separated fields the "
        "longest counts (default: a few built-in sentences, repeated)",
    )
    parser.add_argument("--vocab", help="vocab.txt (default: the characters seen)")
    parser.add_argument("--cased", action="store_true", help="do not lower the text")
    parser.add_argument("--repeat", type=int, default=7, help="timed runs of each")
    return parser.parse_args()


def read_texts(path: str | None) -> list[str]:
    if path is None:
        return list(BUILT_IN) * 400
    with open(path, encoding="utf-8") as file:
        return [max(line.rstrip("\n").split("\t"), key=len) for line in file]


def vocabulary_of(texts: list[str]) -> dict[str, int]:
    letters = sorted({ch for text in texts for ch in text.lower() if not ch.isspace()})
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens += [prefix + ch for prefix in ("", "##") for ch in letters]
    return {token: i for i, token in enumerate(tokens)}


def timed(run):
    start = time.perf_counter()
    answer = run()
    return time.perf_counter() - start, answer


if __name__ == "__main__":
    sys.exit(main())
