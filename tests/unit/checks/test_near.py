"""Near-duplicates, against a comparison of every sentence with every other."""

import random

import pytest

from nmt.checks import near
from nmt.checks.near import ALIKE, HeldOut, Index, normal

WORDS = [
    "a",
    "man",
    "in",
    "blue",
    "shirt",
    "walks",
    "the",
    "dog",
    "runs",
    "über",
    "große",
    "Straße",
    "ha",
    "two",
    "women",
    "child",
    "playing",
    "with",
    "ball",
    "猫",
    "water",
]


def sentences(count, seed):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, 14))) for _ in range(count)]


def edited(texts, count, seed):
    """Some of the texts, with up to two other words."""
    rng = random.Random(seed)
    made = []
    for text in rng.choices(texts, k=count):
        words = text.split()
        for _ in range(rng.randint(0, 2)):
            words[rng.randrange(len(words))] = rng.choice(WORDS)
        made.append(" ".join(words))
    return made


def grams(text):
    """n-grams of 5 characters, or of 2 where most characters are Chinese; such a character counts as 3 of 25."""
    text = normal(text)
    wide = sum("\u4e00" <= char <= "\u9fff" for char in text)
    size = 2 if wide > len(text) / 2 else 5
    return {text[i : i + size] for i in range(len(text) - size + 1)} if len(text) + 2 * wide >= 25 else set()


def alike(texts, held):
    sets = [grams(text) for text in held]
    return {
        (i, j)
        for i, text in enumerate(texts)
        for j, other in enumerate(sets)
        if other and len(grams(text) & other) >= ALIKE * len(grams(text) | other)
    }


@pytest.mark.parametrize("block", [7, near.BLOCK])
def test_the_search_is_exact(monkeypatch, block):
    monkeypatch.setattr(near, "BLOCK", block)
    held = [*sentences(60, 1), "", "  ", "ha " * 30, "a" * 30]
    texts = [*sentences(200, 2), *edited(held[:60], 300, 3), "ha " * 40, "a" * 50, "", held[3].upper()]
    held, texts = [*map(normal, held)], [*map(normal, texts)]
    found = Index(held).find(texts)
    assert len(found) > 50
    assert set(found) == alike(texts, held)
    assert len(set(found)) == len(found)


def test_many_common_ngrams_are_looked_at_in_parts(monkeypatch):
    monkeypatch.setattr(near, "MOST", 10)
    held = sentences(40, 1)
    texts = edited(held, 100, 3)
    assert set(Index(held).find(texts)) == alike(texts, held)


@pytest.mark.parametrize("held", [[], ["short"], [""]])
def test_nothing_to_compare_with(held):
    assert Index(held).find(sentences(20, 1)) == []
    assert Index(sentences(20, 1)).find([]) == []


def test_sides_and_repeated_pairs():
    one, two, three = "the man walks with a blue dog", "a child plays with the red ball", "two women in the cold water"
    other = "quite another sentence without any of the words"
    held = HeldOut({"valid": [(one, two), (one, two), (two, three), (three, one)], "test.x": [(one, two)]})
    held.compare(1, [(f"{one}!", two), (two, other), (two, other)])
    held.compare(4, [(other, one), (one, other)])
    valid = held.alike["valid"]
    assert valid.both.keys() == {0, 1}
    assert valid.both[0].startswith("1: the man walks")
    assert valid.alone(0).keys() == {2}
    assert valid.alone(0)[2].startswith("2: ")
    assert valid.alone(1).keys() == {3}
    assert held.alike["test.x"].both.keys() == {0}
    assert held.alike["test.x"].alone(0) == {}


def test_short_chinese_sentences_are_compared():
    rng = random.Random(1)
    held = [
        "".join(rng.choices("我你他们在学校图书馆看新的中文书和报纸今天明天下午", k=rng.randint(6, 24)))
        for _ in range(200)
    ]
    texts = [text[:-1] + rng.choice("书吗") for text in held] + [f"{text}。" for text in held]
    found = set(Index(held).find(texts))
    assert found == alike(texts, held)
    assert sum(len(held[j]) < 25 for _, j in found) > 200
