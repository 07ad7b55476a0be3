"""Variants of the sources of a set, and their losses."""

from collections import Counter

import pytest

from nmt.config.evaluation import EvaluationConfig
from nmt.evaluation.robustness import NOISE, TYPOS, VARIANTS, loss_table, losses, variants
from nmt.evaluation.scores import Scores, score
from nmt.evaluation.sets import TestSet


def changed(line: str) -> dict[str, str]:
    return {name: one.sources[0] for name, one in variants(TestSet("test", [line], ["x"])).items()}


@pytest.mark.parametrize(
    ("line", "upper", "title", "plain"),
    [
        ("he doesn't pay 3.5 euros.", "HE DOESN'T PAY 3.5 EUROS.", "He Doesn't Pay 3.5 Euros.",
         "he doesn't pay 3.5 euros"),
        ("well - yes, “ok”!", "WELL - YES, “OK”!", "Well - Yes, “ok”!", "well yes ok"),
        ("他来了，好。", "他来了，好。", "他来了，好。", "他来了，好"),
        ("...", "...", "...", ""),
        ("", "", "", ""),
    ],
)  # fmt: skip
def test_case_and_punctuation(line: str, upper: str, title: str, plain: str) -> None:
    found = changed(line)
    assert (found["upper"], found["title"], found["no-punctuation"]) == (upper, title, plain)


def test_draws_depend_on_the_line_and_its_number_alone() -> None:
    lines = [f"a sentence of some words with number {i}" for i in range(50)]
    whole, part = (variants(TestSet("t", some, some)) for some in (lines, lines[:20]))
    assert {name: one.sources for name, one in variants(TestSet("t", lines, lines)).items()} == {
        name: one.sources for name, one in whole.items()
    }
    assert whole["typo"].sources[:20] == part["typo"].sources
    assert whole["typo"].name == "t@typo"
    assert whole["typo"].references is lines


def test_rates_of_typos_and_noise() -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    lines = [f"{letters} {letters}"] * 1000
    found = variants(TestSet("t", lines, lines))
    # Noise replaces a character by itself in 1 of 26 cases; spaces stay.
    places = [a != b for line, other in zip(lines, found["noise"].sources, strict=True)
              for a, b in zip(line, other, strict=True)]  # fmt: skip
    assert sum(places) / (52 * 1000) == pytest.approx(NOISE * 25 / 26, rel=0.1)
    assert {len(line) for line in found["noise"].sources} == {53}
    # A third of the typing errors leaves a letter out, a third doubles one: so as many letters as before.
    counts = Counter(len(line) for line in found["typo"].sources)
    assert sum(length * count for length, count in counts.items()) / 1000 == pytest.approx(53, abs=0.15)
    untouched = sum(map(str.__eq__, lines, found["typo"].sources)) / 1000
    assert untouched == pytest.approx((1 - TYPOS) ** 52, abs=0.06)
    assert set("".join(found["typo"].sources)) == set(letters) | {" "}


def test_a_loss_is_positive_where_the_variant_is_worse() -> None:
    original = Scores(30, 50, 40, {"bleu": "b", "chrf": "c", "ter": "t"})
    variant = Scores(21.5, 51, 60, {"bleu": "b", "chrf": "c", "ter": "t"})
    assert losses(original, variant) == {"bleu": 8.5, "chrf": -1, "ter": 20}
    assert loss_table(original, {"upper": variant}, {"upper": 1200}).splitlines()[2].split() == [
        "upper", "1,200", "21.50", "(8.50)", "51.00", "(-1.00)", "60.00", "(20.00)"
    ]  # fmt: skip


def test_no_loss_has_no_sign() -> None:
    original = Scores(30, 50, 40, {"ter": "t"})
    for ter in (40, 39.999, 40.001):
        row = loss_table(original, {"upper": Scores(30, 50, ter, {"ter": "t"})}, {"upper": 0}).splitlines()[2]
        assert row.split()[-1] == "(0.00)"


def test_the_variants_of_an_empty_set_of_characters() -> None:
    lines = ["", "  "]
    found = variants(TestSet("t", lines, lines))
    assert list(found) == list(VARIANTS)
    assert all(len(one.sources) == 2 for one in found.values())
    assert score([""], [""], EvaluationConfig()).signatures


def test_capitals_of_turkish():
    """SpecialCasing.txt of Unicode: the capital of i is İ, that of ı is I."""
    found = variants(TestSet("t", ["izmir ve ısparta"], ["x"]), "tr-TR")
    assert found["upper"].sources == ["İZMİR VE ISPARTA"]
    assert found["title"].sources == ["İzmir Ve Isparta"]
