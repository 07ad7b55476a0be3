"""Proportions of sentence pairs, and held-out parts that share nothing with training."""

from __future__ import annotations

import itertools
import random
import re
import unicodedata
from array import array

import numpy as np
import pytest

from nmt.config.sources import HoldoutSource
from nmt.data import splits

# Articles 1, 3, 4, 5, 6 and 9 of the Universal Declaration of Human Rights (United Nations).
ENGLISH = [
    "All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience and "
    "should act towards one another in a spirit of brotherhood.",
    "Everyone has the right to life, liberty and security of person.",
    "No one shall be held in slavery or servitude; slavery and the slave trade shall be prohibited in all their forms.",
    "No one shall be subjected to torture or to cruel, inhuman or degrading treatment or punishment.",
    "Everyone has the right to recognition everywhere as a person before the law.",
    "No one shall be subjected to arbitrary arrest, detention or exile.",
]
OTHERS = {
    "zh": [
        "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
        "人人有权享有生命、自由和人身安全。",
        "任何人不得使为奴隶或奴役；一切形式的奴隶制度和奴隶买卖，均应予以禁止。",
        "任何人不得加以酷刑，或施以残忍的、不人道的或侮辱性的待遇或刑罚。",
        "人人在任何地方有权被承认在法律前的人格。",
        "任何人不得加以任意逮捕、拘禁或放逐。",
    ],
    "ja": [
        "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。人間は、理性と良心とを"
        "授けられており、互いに同胞の精神をもって行動しなければならない。",
        "すべて人は、生命、自由及び身体の安全に対する権利を有する。",
        "何人も、奴隷にされ、又は苦役に服することはない。奴隷制度及び奴隷売買は、いかなる形においても禁止する。",
        "何人も、拷問又は残虐な、非人道的な若しくは屈辱的な取扱若しくは刑罰を受けることはない。",
        "すべて人は、いかなる場所においても、法の下において、人として認められる権利を有する。",
        "何人も、ほしいままに逮捕、拘禁、又は追放されることはない。",
    ],
    "de": [
        "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt "
        "und sollen einander im Geist der Brüderlichkeit begegnen.",
        "Jeder hat das Recht auf Leben, Freiheit und Sicherheit der Person.",
        "Niemand darf in Sklaverei oder Leibeigenschaft gehalten werden; Sklaverei und Sklavenhandel in allen ihren "
        "Formen sind verboten.",
        "Niemand darf der Folter oder grausamer, unmenschlicher oder erniedrigender Behandlung oder Strafe unterworfen "
        "werden.",
        "Jeder hat das Recht, überall als rechtsfähig anerkannt zu werden.",
        "Niemand darf willkürlich festgenommen, in Haft gehalten oder des Landes verwiesen werden.",
    ],
}


def ill_proportioned(pairs: list[tuple[str, str]]) -> list[bool]:
    src, tgt = (np.array([splits.width(text) for text in side], np.uint32) for side in zip(*pairs, strict=True))
    return splits.ill_proportioned(src, tgt, splits.usual_ratio(src, tgt), 4.0).tolist()


@pytest.mark.parametrize("copies", [1, 100])
@pytest.mark.parametrize("language", list(OTHERS))
@pytest.mark.parametrize("back", [False, True])
def test_good_pairs_of_different_scripts_stay_and_bad_ones_go(language: str, copies: int, back: bool) -> None:
    good = list(zip(ENGLISH, OTHERS[language], strict=True)) * copies
    bad = [(ENGLISH[0], OTHERS[language][1][:6]), (ENGLISH[1][:8], OTHERS[language][0] * 2)]
    pairs = [pair[::-1] for pair in good + bad] if back else good + bad
    assert ill_proportioned(pairs) == [False] * len(good) + [True] * len(bad)


def test_the_usual_ratio_is_that_of_the_corpus() -> None:
    """Letters apart: five characters for each of the other side, as by hand."""
    pairs = [("x" * n, "y " * (5 * n // 2)) for n in range(20, 80)]
    assert ill_proportioned([*pairs, ("x" * 40, "y" * 40), ("x" * 40, "y" * 900)]) == [False] * 60 + [True, True]
    assert ill_proportioned([("x" * 40, "y" * 40), ("x" * 40, "y" * 900)]) == [False, True]  # too few to be usual


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("Hello, world!", "hello world"),
        ("Straße", "STRASSE"),
        ("na\u00efve", "nai\u0308ve"),  # composed and decomposed
        ("Ｈｅｌｌｏ　１", "hello1"),  # full width
        ("你好，世界。", "你好世界"),
        ("«Да!»", "да"),
        ("x_y", "xy"),
    ],
)
def test_spellings_of_one_sentence(text: str, other: str) -> None:
    assert splits.sentence_key(text) == splits.sentence_key(other)


@pytest.mark.parametrize(("text", "other"), [("a 1", "a 2"), ("你好", "你们好"), ("да", "нет"), ("kana か", "kana き")])
def test_other_sentences(text: str, other: str) -> None:
    assert splits.sentence_key(text) != splits.sentence_key(other)


# ------------------------------------------------------------------------------------------------------------ holdouts

HOLDOUTS = [HoldoutSource(kind="holdout", fraction=0.04), HoldoutSource(kind="holdout", fraction=0.06, seed=2)]


def hashes(texts: list[str]) -> splits.Hashes:
    found = array("Q")
    for text in texts:
        found.frombytes(splits.sentence_hash(text))
    return splits.to_hashes(found)


def separate(pairs: list[tuple[str, str]]) -> splits.Separation:
    src, tgt = (hashes(list(side)) for side in zip(*pairs, strict=True))
    return splits.separate(src, tgt, np.ones(len(pairs), bool), HOLDOUTS)


def parts(pairs: list[tuple[str, str]], found: splits.Separation) -> dict[int, set[tuple[str, str]]]:
    return {n: {pair for pair, w in zip(pairs, found.where, strict=True) if w == n} for n in (-2, -1, 0, 1)}


def shares(one: set[tuple[str, str]], other: set[tuple[str, str]]) -> int:
    """Pairs of ``one`` with a sentence that stands on the same side in ``other``."""
    sides = [{pair[side] for pair in other} for side in (0, 1)]
    return sum(src in sides[0] or tgt in sides[1] for src, tgt in one)


DRAW = random.Random(0)
CORPORA = {
    "all different": [(f"s {i}", f"t {i}") for i in range(2000)],
    "several translations": [(f"s {i}", f"t {i} {j}") for i in range(400) for j in range(5)],
    "several sources": [(f"s {i} {j}", f"t {i}") for i in range(400) for j in range(5)],
    "clusters": [(f"s {i} {j}", f"t {i} {k}") for i in range(300) for j in range(3) for k in range(3)],
    "a chain through all": [(f"s {i}", f"t {i + d}") for i in range(2000) for d in (0, 1)],
    "drawn": list({(f"s {DRAW.randrange(1500)}", f"t {DRAW.randrange(1500)}") for _ in range(3000)}),
    "a common target": [(f"s {i}", "Thank you." if i % 10 < 3 else f"t {i}") for i in range(2000)],
    "a common source": [("Thank you." if i % 10 < 3 else f"s {i}", f"t {i}") for i in range(2000)],
}


@pytest.mark.parametrize("name", list(CORPORA))
def test_held_out_pairs_share_no_sentence_with_training(name: str) -> None:
    pairs = CORPORA[name]
    found = separate(pairs)
    of = parts(pairs, found)
    assert sum(map(len, of.values())) == len(pairs)
    for holdout, fraction in ((0, 0.04), (1, 0.06)):
        assert shares(of[holdout], of[-1]) == 0
        assert 0.4 * fraction * len(pairs) < len(of[holdout]) < 2 * fraction * len(pairs)
    assert len(of[-1]) > 0.65 * len(pairs)
    assert (found.from_training + found.from_holdouts, found.shared) == (len(of[-2]), 0)


@pytest.mark.parametrize("name", ["all different", "several translations", "several sources", "a common source"])
def test_where_groups_are_clear_nothing_is_lost(name: str) -> None:
    assert parts(CORPORA[name], separate(CORPORA[name]))[-2] == set()


@pytest.mark.parametrize("side", [0, 1])
def test_a_sentence_that_half_of_all_pairs_have_stays_on_both_sides_and_is_counted(side: int) -> None:
    pairs = [((f"s {i}", ("yes", "no")[i % 2]) if side else (("yes", "no")[i % 2], f"s {i}")) for i in range(2000)]
    found = separate(pairs)
    of = parts(pairs, found)
    assert of[-2] == set()
    assert found.shared == len(of[0]) + len(of[1]) == pytest.approx(200, abs=60)
    assert not {pair[1 - side] for pair in of[0] | of[1]} & {pair[1 - side] for pair in of[-1]}


@pytest.mark.parametrize("name", ["all different", "several translations", "clusters", "a chain through all", "drawn"])
def test_what_is_held_out_stays_so_when_the_corpus_grows(name: str) -> None:
    """Whatever is added, in whatever order; groups of sentences grow together meanwhile."""
    pairs = CORPORA[name].copy()
    random.Random(1).shuffle(pairs)
    before = parts(pairs[: len(pairs) // 2], separate(pairs[: len(pairs) // 2]))
    joins = [(a[0], b[1]) for a, b in itertools.pairwise(pairs[:40])]
    grown = joins + pairs[::-1]
    after = parts(grown, separate(grown))
    for holdout in (0, 1):
        assert not before[holdout] & after[-1]
        assert shares(before[holdout] & after[holdout], after[-1]) == 0
        assert len(before[holdout] & after[holdout]) > 0.5 * len(before[holdout])


# ------------------------------------------------------------------------------------------------------------- overlap


def test_overlap_is_by_sentence_but_for_common_ones() -> None:
    sources = [f"s {i}" for i in range(1000)] + ["Yes."] * 60 + ["Or."] * 40 + ["S 1!", "s 1000"]
    mask, common = splits.overlap(
        hashes(sources), np.ones(len(sources), bool), hashes(["s 1", "yes", "or", "s 7", "x"])
    )
    assert np.flatnonzero(mask).tolist() == [1, 7, *range(1060, 1101)]
    assert common.tolist() == [False, True, False, False, False]


@pytest.mark.slow
def test_a_key_is_made_of_characters_one_by_one() -> None:
    """Against case folding and NFKD of the text as a whole, over all of Unicode and over mixed letters."""

    def whole(text: str) -> bytes:
        letters = unicodedata.normalize("NFKD", re.sub(r"[\W_]+", "", text).casefold())
        return re.sub(r"[\W_]+", "", letters).casefold().encode()

    every = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    rng = random.Random(0)
    mixed = ["".join(rng.choices("aA\u0130İßΣσςé e\u0301\u0327.'_ﬁǅ각Ⅳ½", k=12)) for _ in range(2000)]
    for text in [every, *mixed]:
        assert splits.sentence_key(text) == whole(text)
