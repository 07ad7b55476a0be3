"""The rules of cleaning: what each drops and counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nmt.data.arrow import BLOCK
from nmt.data.cleaning import RULES
from nmt.data.prepare import prepare_corpus
from tests.unit.data.corpora import MANY, RULE_ROWS, VALID, config, holdout_config, write_tsv

TEST = [("auch im test", "in the test too")]


CLEANING = {"max_chars": 30, "max_ratio": 1.9}


def test_each_rule_is_counted_and_held_parts_stay_as_they_are(tmp_path: Path) -> None:
    data = config(
        tmp_path,
        train=write_tsv(tmp_path / "train", RULE_ROWS),
        valid=write_tsv(tmp_path / "valid", VALID),
        test={"news": write_tsv(tmp_path / "news", TEST)},
        cleaning=CLEANING,
    )
    corpus = prepare_corpus(data)
    assert corpus.manifest["read"] == 13
    counts = {"empty": 2, "too_long": 1, "ratio": 1, "duplicate": 3, "overlap": 2, "overlap_source": 1}
    assert {rule: count for rule, count in corpus.manifest["dropped"].items() if count} == counts
    assert list(corpus.part("train")) == [RULE_ROWS[i] for i in (0, 5, 8)]
    assert list(corpus.part("valid")) == VALID
    assert list(corpus.part("test.news")) == TEST
    assert corpus.manifest["sizes"] == {"train": 3, "valid": 3, "test.news": 1}
    assert corpus.tests == ["news"]
    assert corpus.summary() == "\n".join(
        [
            f"corpus {corpus.path}, de to en",
            "  train                3 pairs of 13 read",
            "  valid                3 pairs",
            "  test.news            1 pairs",
            *(f"  dropped    {count:>11} ({count / 13:.1%}) {RULES[rule]}" for rule, count in counts.items()),
        ]
    )


def test_rules_can_be_switched_off(tmp_path: Path) -> None:
    cleaning = {**CLEANING, "drop_duplicates": False, "drop_overlap": False}
    data = config(
        tmp_path,
        train=write_tsv(tmp_path / "train", RULE_ROWS),
        valid=write_tsv(tmp_path / "valid", VALID),
        cleaning=cleaning,
    )
    corpus = prepare_corpus(data)
    assert list(corpus.part("train")) == [RULE_ROWS[i] for i in (0, 5, 6, 7, 8, 9, 10, 11, 12)]
    counts = {"empty": 2, "too_long": 1, "ratio": 1}
    assert {rule: count for rule, count in corpus.manifest["dropped"].items() if count} == counts


def test_duplicates_and_overlap_are_found_across_blocks(tmp_path: Path) -> None:
    """More than a block of pairs, many of them equal: as a set in memory would have it."""
    numbers = np.random.default_rng(0).integers(0, BLOCK // 2, BLOCK + 1000).tolist()
    valid = [(f"s {i}", f"t {i}") for i in range(0, BLOCK // 2, 97)]
    rows = [(f"s {i}", f"t {i}") for i in numbers]
    data = config(tmp_path, train=write_tsv(tmp_path / "t", rows), valid=write_tsv(tmp_path / "v", valid))
    corpus = prepare_corpus(data)
    distinct = list(dict.fromkeys(rows))
    expected = [pair for pair in distinct if pair not in set(valid)]
    assert list(corpus.part("train")) == expected
    assert corpus.manifest["dropped"]["duplicate"] == len(rows) - len(distinct)
    assert corpus.manifest["dropped"]["overlap"] == len(distinct) - len(expected)


def test_a_common_sentence_of_a_test_set_stays_in_training_and_is_counted(tmp_path: Path) -> None:
    data = config(
        tmp_path,
        train=write_tsv(tmp_path / "train", [*MANY, *((f"frage {i}", "yes") for i in range(120))]),
        valid=write_tsv(
            tmp_path / "valid", [("wirklich?", "Yes."), ("Satz Nummer 1!", "x"), ("y", "Sentence, number 2")]
        ),
    )
    corpus = prepare_corpus(data)
    dropped = {rule: count for rule, count in corpus.manifest["dropped"].items() if count}
    assert dropped == {"overlap_source": 1, "overlap_target": 1}
    assert corpus.manifest["shared"] == 1
    assert corpus.summary().splitlines()[-1] == (
        "  shared             1 validation and test pairs share a very common sentence with training pairs"
    )


def test_holdouts_are_cleaned(tmp_path: Path) -> None:
    corpus = prepare_corpus(holdout_config(tmp_path, MANY + [("", f"n {i}") for i in range(500)]))
    assert all(src and tgt for name in ("valid", "test.a") for src, tgt in corpus.part(name))
    assert corpus.manifest["dropped"]["empty"] == 500
