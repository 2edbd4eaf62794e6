"""The generator of the demo's reviews: reproducible, disjoint, hard to read."""

import random

import pytest
from bag_of_words import bag_of_words_accuracy
from synthetic_reviews import (
    CONSTRUCTIONS,
    DOMAINS,
    LABELS,
    SPECIAL_TOKENS,
    WEIGHTS,
    is_held_out,
    make_review,
    make_splits,
    make_unlabelled,
    make_vocabulary,
    write_dataset,
)

pytestmark = pytest.mark.pure


@pytest.fixture(scope="module")
def splits():
    return make_splits(seed=1)


def test_same_seed_same_reviews(splits):
    assert make_splits(seed=1) == splits
    assert list(make_unlabelled(1, 50)) == list(make_unlabelled(1, 50))


def test_other_seed_other_reviews(splits):
    assert make_splits(seed=2)["train"] != splits["train"]
    assert list(make_unlabelled(1, 50)) != list(make_unlabelled(2, 50))


def test_sizes_and_balance(splits):
    assert {name: len(reviews) for name, reviews in splits.items()} == {
        "train": 5000,
        "valid": 600,
        "test": 1200,
    }
    for reviews in splits.values():
        positive = sum(review.label == "positive" for review in reviews)
        # Five standard deviations of a fair coin.
        assert abs(positive - len(reviews) / 2) < 2.5 * len(reviews) ** 0.5


def test_no_text_occurs_twice(splits):
    texts = [review.text for reviews in splits.values() for review in reviews]
    assert len(set(texts)) == len(texts)


def test_held_out_combinations(splits):
    trained = {c for review in splits["train"] for c in review.combinations}
    assert not any(map(is_held_out, trained))
    for review in splits["valid"] + splits["test"]:
        assert not trained.issuperset(review.combinations)


def test_unlabelled_text_shares_nothing_with_the_test(splits):
    tested = {review.text for name in ("valid", "test") for review in splits[name]}
    assert tested.isdisjoint(make_unlabelled(1, 20000))


def test_every_construction_and_aspect_is_trained(splits):
    assert WEIGHTS.keys() == CONSTRUCTIONS.keys()
    trained = {c for review in splits["train"] for c in review.combinations}
    templates = {template for kind in CONSTRUCTIONS.values() for template in kind}
    assert {template for template, _ in trained} == templates
    aspects = {aspect for domain in DOMAINS for aspect in domain.aspects}
    assert {aspect for _, aspect in trained} == aspects


def test_polarity_of_the_words_decides_the_label():
    """A plain review without distraction holds adjectives of its label only."""
    positive = {p for d in DOMAINS for pairs in d.aspects.values() for p, _ in pairs}
    negative = {n for d in DOMAINS for pairs in d.aspects.values() for _, n in pairs}
    assert positive.isdisjoint(negative)
    plain = set(CONSTRUCTIONS["plain"])
    rng = random.Random(5)
    seen = 0
    for _ in range(500):
        review = make_review(rng)
        only_plain = all(template in plain for template, _ in review.combinations)
        if only_plain and not {"隔壁", "原来", "对面", "另外"} & set(review.words):
            words = positive if review.label == "positive" else negative
            others = positive if review.label == "negative" else negative
            assert words & set(review.words) and not others & set(review.words)
            seen += 1
    assert seen > 50


def test_vocabulary_covers_every_text(splits):
    vocabulary = make_vocabulary()
    assert tuple(vocabulary[:5]) == SPECIAL_TOKENS
    assert len(set(vocabulary)) == len(vocabulary)
    texts = [review.text for reviews in splits.values() for review in reviews]
    used = set("".join(texts)) | set("".join(make_unlabelled(1, 2000)))
    assert used <= set(vocabulary)
    assert set(vocabulary[5:]) <= used


@pytest.mark.parametrize("unit", ["text", "words"])
def test_single_words_do_not_tell_the_label(splits, unit):
    """The baseline stays between chance and 75 %; the demo's model passes 90 %."""

    def examples(name):
        return [(getattr(review, unit), review.label) for review in splits[name]]

    accuracy = bag_of_words_accuracy(examples("train"), examples("test"))
    assert 0.55 < accuracy < 0.75


def test_bag_of_words_learns_what_single_words_tell():
    rng = random.Random(3)
    sets = []
    for _ in range(2):
        labels = [rng.choice("abc") for _ in range(200)]
        sets.append([("".join(rng.sample("uvwxyz", 3)) + c, c) for c in labels])
    assert bag_of_words_accuracy(*sets) == 1.0


def test_files(tmp_path):
    sizes = {"train": 30, "valid": 6, "test": 12, "unlabelled": 40}
    paths = write_dataset(tmp_path / "new", seed=3, **sizes)
    for name, size in sizes.items():
        lines = paths[name].read_text(encoding="utf-8").splitlines()
        if name == "unlabelled":
            assert len(lines) == size
            continue
        assert lines[0] == "label\ttext"
        assert [line.split("\t")[0] in LABELS for line in lines[1:]] == [True] * size
    assert paths["vocab"].read_text(encoding="utf-8").startswith("[PAD]\n[UNK]\n")
