"""Synthetic Chinese reviews whose sentiment a bag of words cannot read.

A review holds one or two opinions about the product itself, all of one polarity, and
up to two sentences that do not count: about the weather, about the delivery, or about
*another* product. An opinion is one of the constructions in `CONSTRUCTIONS`: plain,
negated, contrasted, compared, hedged, expected otherwise, asked back, ironic. Most of
them exist in a version for either polarity made of the same words, so that only who is
said to be what, and under which negation, tells the label.

The texts are invented from word lists; they are no data about anything.

    python examples/synthetic_reviews.py --output FOLDER --seed 1

writes `train.tsv`, `valid.tsv`, `test.tsv` (`label<TAB>text`), `unlabelled.txt` and
`vocab.txt`.
"""

from __future__ import annotations

import argparse
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LABELS = ("negative", "positive")
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class Domain:
    """What is reviewed: its names and its aspects.

    `aspects` maps an aspect to (positive, negative) pairs of adjectives; `this` and
    `other` name the product and one that is not the review's subject.
    """

    this: str
    other: str
    aspects: dict[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class Review:
    """A text, its words in order, its label, and the combinations it is made of."""

    text: str
    words: tuple[str, ...]
    label: str
    combinations: tuple[tuple[str, str], ...]


DOMAINS = (
    Domain(
        "这 款",
        "原来 那 款",
        {
            "屏幕": (("清晰", "模糊"), ("细腻", "粗糙")),
            "系统": (("流畅", "卡顿"), ("稳定", "混乱")),
            "做工": (("精致", "粗糙"), ("扎实", "马虎")),
            "按键": (("灵敏", "迟钝"), ("舒服", "别扭")),
            "客服": (("热情", "冷淡"), ("周到", "敷衍")),
        },
    ),
    Domain(
        "这 家",
        "隔壁 那 家",
        {
            "房间": (("干净", "肮脏"), ("宽敞", "狭小")),
            "床铺": (("舒服", "难受"), ("整洁", "凌乱")),
            "早餐": (("丰盛", "寒酸"), ("新鲜", "变味")),
            "前台": (("热情", "冷淡"), ("利落", "拖拉")),
            "交通": (("方便", "麻烦"), ("顺畅", "拥堵")),
        },
    ),
    Domain(
        "这 间",
        "对面 那 间",
        {
            "味道": (("鲜美", "难吃"), ("地道", "古怪")),
            "环境": (("雅致", "简陋"), ("安静", "吵闹")),
            "上菜": (("迅速", "缓慢"), ("利落", "拖拉")),
            "价格": (("实惠", "离谱"), ("公道", "黑心")),
            "店员": (("周到", "敷衍"), ("和气", "粗鲁")),
        },
    ),
    Domain(
        "这 本",
        "另外 那 本",
        {
            "情节": (("精彩", "乏味"), ("紧凑", "拖沓")),
            "文笔": (("优美", "啰嗦"), ("生动", "呆板")),
            "翻译": (("通顺", "生硬"), ("准确", "混乱")),
            "印刷": (("清晰", "模糊"), ("精致", "粗糙")),
            "观点": (("深刻", "肤浅"), ("新颖", "陈旧")),
        },
    ),
)

# Spaces separate words. {s} is an adjective of the label's polarity, {o} its opposite,
# {t} one of the polarity of {s} for a second aspect {b}; {d} and {e} are adverbs of
# degree.
CONSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "plain": (
        "{a} {d} {s}",
        "{这} 的 {a} {d} {s}",
        "{a} {d} {s} ， {b} 也 {e} {t}",
    ),
    "negation": (
        "{a} 一点 也 不 {o}",
        "{a} 并 不 {o}",
        "我 不 觉得 {a} {o}",
    ),
    "double negation": (
        "不能 说 {a} 不 {s}",
        "{a} 没有 一处 不 {s}",
    ),
    "contrast": (
        "虽然 {a} {d} {o} ， 但是 {b} {e} {t}",
        "{a} 确实 {o} ， 不过 {b} {e} {t}",
        "{b} {e} {t} ， 尽管 {a} {d} {o}",
    ),
    "expectation": (
        "本来 以为 {a} 会 {d} {o} ， 结果 {e} {s}",
        "朋友 说 {a} {d} {o} ， 我 倒 觉得 {e} {s}",
    ),
    "comparison": (
        "{a} 比 {那} {s} 多 了",
        "{那} 的 {a} 比 {这} {o} 多 了",
        "{a} 没有 {那} 那么 {o}",
        "{那} 的 {a} 没有 {这} 这么 {s}",
    ),
    "hedge": (
        "{a} 还 算 {s} 吧",
        "{a} 也 没有 那么 {o}",
    ),
    "question": (
        "这样 的 {a} 也 能 叫 {o} 吗",
        "这样 的 {a} 还 不 够 {s} 吗",
    ),
    "irony": (
        "说 {a} {o} 的 人 一定 没 用 过 {这}",
        "{a} {o} ？ 反正 我 没有 看 出来",
        "真 是 {o} 的 {a} ， 我 差点 就 信 了",
    ),
}
# How often a construction is drawn: a bag of words reads the plain ones rightly and
# some of the others (negation ...) wrongly.
WEIGHTS = {
    "plain": 12,
    "negation": 3,
    "double negation": 2,
    "contrast": 3,
    "expectation": 2,
    "comparison": 4,
    "hedge": 2,
    "question": 2,
    "irony": 2,
}
# Sentences that say nothing about the product; {x} is an adjective of random polarity.
DISTRACTIONS = (
    "周末 刚 收到",
    "替 家里 人 挑 的",
    "第一 次 来 写 评论",
    "朋友 推荐 给 我 的",
    "路上 堵车 ， 心情 糟糕",
    "正在 放假 ， 心情 愉快",
    "今天 天气 真 好",
    "今天 天气 真 差",
    "{那} 的 {b} {d} {x}",
    "{那} 的 {b} 不 {x}",
    "听说 {那} 的 {b} {d} {x}",
)
DEGREES = ("很", "非常", "相当", "挺", "特别", "格外")


def _draw_aspect(rng, domain: Domain, taken=()) -> tuple[str, tuple[str, str]]:
    aspect = rng.choice([name for name in domain.aspects if name not in taken])
    return aspect, rng.choice(domain.aspects[aspect])


def _opinion(rng, domain: Domain, positive: bool) -> tuple[str, tuple[str, str]]:
    """One opinion as words joined by spaces, and the combination it stands for."""
    kind = rng.choices(list(WEIGHTS), weights=list(WEIGHTS.values()))[0]
    template = rng.choice(CONSTRUCTIONS[kind])
    a, first = _draw_aspect(rng, domain)
    b, second = _draw_aspect(rng, domain, taken=(a,))
    d, e = rng.sample(DEGREES, 2)
    same, opposite = (0, 1) if positive else (1, 0)
    words = template.format(
        a=a,
        b=b,
        d=d,
        e=e,
        s=first[same],
        o=first[opposite],
        t=second[same],
        这=domain.this,
        那=domain.other,
    )
    return words, (template, a)


def _distractions(rng, domain: Domain) -> list[str]:
    """No, one or two different sentences that do not count."""
    sentences = []
    for template in rng.sample(DISTRACTIONS, rng.choice((0, 1, 1, 2))):
        b, pair = _draw_aspect(rng, domain)
        d, x = rng.choice(DEGREES), rng.choice(pair)
        sentences.append(template.format(b=b, d=d, x=x, 那=domain.other))
    return sentences


def is_held_out(combination: tuple[str, str]) -> bool:
    """Whether a (template, aspect) pair is kept out of the training reviews.

    One pair in five is, by a checksum: the choice depends on nothing else.
    """
    return zlib.crc32("|".join(combination).encode()) % 5 == 0


def make_review(rng: random.Random) -> Review:
    """Draws one review of random domain and label.

    Example:
        >>> review = make_review(random.Random(0))
        >>> review.label in LABELS and review.text == "".join(review.words)
        True
    """
    domain = rng.choice(DOMAINS)
    positive = rng.random() < 0.5
    opinions = [_opinion(rng, domain, positive) for _ in range(rng.choice((1, 2, 2)))]
    sentences = [words for words, _ in opinions] + _distractions(rng, domain)
    rng.shuffle(sentences)
    words: list[str] = []
    for sentence in sentences:
        words += [*sentence.split(), "。"]
    return Review(
        text="".join(words),
        words=tuple(words),
        label=LABELS[positive],
        combinations=tuple(combination for _, combination in opinions),
    )


def _distinct(rng: random.Random, count: int, seen: set[str], wanted) -> list[Review]:
    """`count` reviews that `wanted` accepts and whose texts are not in `seen`."""
    reviews = []
    while len(reviews) < count:
        review = make_review(rng)
        if review.text not in seen and wanted(review):
            seen.add(review.text)
            reviews.append(review)
    return reviews


def make_splits(
    seed: int = 1, train: int = 5000, valid: int = 600, test: int = 1200
) -> dict[str, list[Review]]:
    """Labelled reviews, `{"train": [...], "valid": [...], "test": [...]}`.

    No text occurs twice. Every opinion of a training review is an admitted
    combination of template and aspect; every validation and test review holds at least
    one combination that no training review has (`is_held_out`).

    Example:
        >>> splits = make_splits(seed=1, train=20, valid=5, test=5)
        >>> [len(reviews) for reviews in splits.values()]
        [20, 5, 5]
    """
    rng = random.Random(seed)
    seen: set[str] = set()

    def familiar(review):
        return not any(map(is_held_out, review.combinations))

    def novel(review):
        return any(map(is_held_out, review.combinations))

    return {
        "train": _distinct(rng, train, seen, familiar),
        "valid": _distinct(rng, valid, seen, novel),
        "test": _distinct(rng, test, seen, novel),
    }


def make_unlabelled(seed: int = 1, count: int = 20000) -> Iterator[str]:
    """Texts for masked-language modelling: the same grammar, other draws, no labels.

    As in the training reviews, no held-out combination occurs, so that no validation
    or test review is among them.
    """
    rng = random.Random(f"unlabelled {seed}")
    while count > 0:
        review = make_review(rng)
        if not any(map(is_held_out, review.combinations)):
            count -= 1
            yield review.text


def _all_phrases() -> Iterator[str]:
    for templates in (*CONSTRUCTIONS.values(), DISTRACTIONS):
        for template in templates:
            yield template.format(**dict.fromkeys("abdestox这那", ""))
    yield from DEGREES
    for domain in DOMAINS:
        yield domain.this + domain.other
        for aspect, pairs in domain.aspects.items():
            yield aspect + "".join(map("".join, pairs))
    yield "。"


def make_vocabulary() -> list[str]:
    """The tokens of `vocab.txt`: the special ones, then every character of the grammar.

    Example:
        >>> make_vocabulary()[:5]
        ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
    """
    characters = set("".join(_all_phrases())) - {" "}
    return [*SPECIAL_TOKENS, *sorted(characters)]


def write_dataset(folder: str | Path, seed: int = 1, **sizes: int) -> dict[str, Path]:
    """Writes the splits, the unlabelled text and the vocabulary.

    Args:
        folder: where to; made if absent.
        seed: of all draws.
        sizes: numbers of texts, `train`, `valid`, `test`, `unlabelled`.

    Returns:
        The paths by name: `train`, `valid`, `test`, `unlabelled`, `vocab`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    unlabelled = sizes.pop("unlabelled", 20000)
    contents = {
        f"{name}.tsv": ["label\ttext", *(f"{r.label}\t{r.text}" for r in reviews)]
        for name, reviews in make_splits(seed, **sizes).items()
    }
    contents["unlabelled.txt"] = list(make_unlabelled(seed, unlabelled))
    contents["vocab.txt"] = make_vocabulary()
    for name, lines in contents.items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {Path(name).stem: folder / name for name in contents}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", default="synthetic-reviews", metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for path in write_dataset(arguments.output, arguments.seed).values():
        print(path)


if __name__ == "__main__":
    main()
