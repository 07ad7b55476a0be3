"""Lines in another language than that of their side."""

import sys

import pytest

from nmt.checks.part import Part
from nmt.checks.rules import Data, identified
from nmt.config.load import load_config
from nmt.data.sources import read_pairs
from nmt.data.sources.base import Reading

FRENCH = [
    "Le chat dort sur le canapé pendant que nous mangeons.",
    "Nous avons acheté du pain et du fromage au marché.",
    "Il faudrait que tu viennes avec moi demain matin.",
    "Les enfants jouent dans le jardin de leurs grands-parents.",
]


@pytest.fixture(scope="module")
def pairs():
    data = load_config("demo").data
    return [pair for pair, _ in zip(read_pairs(data.train, Reading.of(data)), range(400), strict=False)]


def found(pairs, codes=("en", "de"), tagged=False):
    return list(identified(Data({"train": Part("train", 1, tagged=tagged).read(pairs)}, {}, codes, 1)))


@pytest.fixture
def lingua():
    return pytest.importorskip("lingua", reason="the extra languages is not installed")


def french(pairs, side):
    """Every tenth line of a side in French."""
    mixed = list(pairs)
    for n in range(0, len(pairs), 10):
        pair = list(pairs[n])
        pair[side] = FRENCH[n // 10 % len(FRENCH)]
        mixed[n] = tuple(pair)
    return mixed


@pytest.mark.parametrize(("side", "told"), [(0, "source lines looked at are not in en"), (1, "target lines looked")])
def test_lines_of_a_third_language_are_counted_by_side(lingua, pairs, side, told):
    [result] = found(french(pairs, side))
    assert result.level == "warning"
    assert told in result.text
    assert 38 <= int(result.text.removeprefix("train: ").split(" ")[0]) <= 44  # 40, and a mistake or two
    assert result.text.endswith("most of them in fr")
    assert sum(example.startswith("fr ") for example in result.examples) >= 9
    assert len(result.examples) == 10


def test_what_is_fine_or_the_job_of_another_rule(lingua, pairs):
    assert found(pairs) == []
    assert found(pairs, ("eng", "de-AT")) == []
    assert found([(tgt, src) for src, tgt in pairs]) == []  # exchanged
    assert found([(src, src) if n % 5 == 0 else (src, tgt) for n, (src, tgt) in enumerate(pairs)]) == []  # untranslated
    assert found(french(pairs, 0), tagged=True) == []
    assert found(pairs, ("xx", "tlh")) == []  # languages that lingua does not know


def test_the_extra_is_named_where_it_is_missing(pairs, monkeypatch):
    monkeypatch.setitem(sys.modules, "lingua", None)
    [result] = found(french(pairs, 0))
    assert result.level == "ok"
    assert "pip install 'nmt-trainer[languages]'" in result.advice
