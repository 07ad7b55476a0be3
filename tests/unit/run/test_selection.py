"""Which of two validations is better, where a score can tell and where it cannot."""

import math

import pytest

from nmt.run.selection import Quality, Ranking, varied

BLEU = Ranking("bleu", fallback=True)


def quality(bleu=0.0, chrf=0.0, loss=1.0, matches=0, varied=True, ended=True):
    return Quality(loss, bleu, chrf, matches, varied, ended)


BETTER = [  # the second is better than the first
    ("higher BLEU", quality(20, 50, 1.0, 100), quality(21, 49, 1.1, 100)),
    ("BLEU 0 at the start for ever, chrF rises", quality(0, 37, 0.65), quality(0, 96, 0.02)),
    ("BLEU and chrF 0, loss falls", quality(0, 0, 5.0), quality(0, 0, 4.0)),
    ("equal BLEU, chrF decides", quality(30, 50, 1.0, 50), quality(30, 51, 1.1, 50)),
    ("equal BLEU and chrF, loss decides", quality(30, 50, 1.0, 50), quality(30, 50, 0.9, 50)),
    ("a chance 4-gram", quality(14, 15, 4.0, 1), quality(3, 60, 1.0, 0)),
    (
        "BLEU that rests on enough matches is above BLEU that does not",
        quality(40, 60, 1.0, 9),
        quality(30, 60, 1.0, 10),
    ),
    ("chrF of chance", quality(0, 9, 5.0), quality(0, 3, 4.0)),
    ("always the same sentence", quality(4, 20, 4.0, 200, varied=False), quality(1, 18, 3.0, 30)),
    ("one word up to the length limit", quality(0, 24, 3.3, ended=False), quality(0, 16, 2.1)),
    ("a score that is no number", quality(math.nan, 50, 1.0, 100), quality(0, 0, 9.0)),
    ("a loss that is no number", quality(20, 50, math.nan, 100), quality(0, 0, 9.0)),
]


@pytest.mark.parametrize(("worse", "better"), [pair[1:] for pair in BETTER], ids=[pair[0] for pair in BETTER])
def test_better_and_worse(worse, better):
    assert BLEU.better(better, worse)
    assert not BLEU.better(worse, better)
    assert not BLEU.better(better, better)


def test_what_is_no_number_is_never_the_best():
    for ranking in (BLEU, Ranking("loss", True), Ranking("loss", False), Ranking("chrf", True)):
        assert not ranking.better(quality(math.nan, math.nan, math.nan, 0), None)
        assert ranking.better(quality(1, 1, 1.0, 20), None)
    unknown = Quality.of({"score": math.nan}, "bleu")
    assert BLEU.better(quality(), unknown)
    assert Ranking("bleu", False).better(quality(), unknown)


def test_the_score_alone_as_earlier_versions():
    strict = Ranking("bleu", fallback=False)
    assert strict.better(quality(14, 15, 4.0, 1), quality(3, 60, 1.0, 0))
    assert not strict.better(quality(0, 96, 0.02), quality(0, 37, 0.65))
    assert Ranking("loss", False).better(quality(0, 0, 1.0), quality(30, 0, 2.0))


def test_checkpoints_of_earlier_versions_hold_a_score_alone():
    assert Quality.of({"score": None}, "bleu") is None
    assert Quality.of({"score": 12.5}, "bleu") == Quality(bleu=12.5)
    assert Quality.of({"score": -2.5}, "loss") == Quality(loss=2.5)
    ranks = [BLEU.of_state({"score": score}) for score in (0.0, 3.0, 12.5)]
    assert sorted(ranks) == ranks
    whole = quality(3, 60, math.nan, 5)
    assert whole.as_dict()["loss"] is None
    again = Quality.of({"quality": whole.as_dict(), "score": 3.0}, "bleu")
    assert (again.bleu, again.chrf, again.matches, math.isnan(again.loss)) == (3, 60, 5, True)


def test_hypotheses_are_compared_with_as_varied_references():
    sentences = [f"sentence {n}" for n in range(100)]
    assert not varied(["the same"] * 100, sentences)
    assert not varied(["one", "two", "three", "four", "five"] * 20, sentences)
    assert varied(sentences, sentences)
    assert varied(["yes", "no"] * 50, ["no", "yes"] * 50)
    assert varied(["yes"] * 100, ["yes", "no"] * 50)  # the commonest answer
    assert varied(["no"] * 100, ["no"] * 95 + sentences[:5])
    assert not varied(["a"] * 10, [f"{n}" for n in range(10)])
