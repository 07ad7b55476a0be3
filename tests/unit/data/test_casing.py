"""The case of lines that a tokenizer is trained on."""

from __future__ import annotations

import numpy as np
import pytest

from nmt.config.tokenizer import TokenizerConfig
from nmt.data.casing import Casing, Chances
from nmt.data.prepare import prepare_corpus
from nmt.data.tokenizer import Tokenizer
from nmt.data.tokenizer_training import sample_lines
from tests.unit.data.corpora import config

WORDS = "one two three four five six seven eight nine ten".split()


def made(path, stages=None, **modifiers):
    """Data and corpus of two datasets with distinct words, whose modifiers are given."""
    for name, end in (("a", ""), ("b", "b")):
        rng = np.random.default_rng(len(end))
        lines = [" ".join(f"{w}{end}" for w in rng.choice(WORDS, 4)) + f" {n}" for n in range(500)]
        (path / f"{name}.tsv").write_text("".join(f"{line}\t{line}{end} .\n" for line in lines))
    (path / "v.tsv").write_text("v\tw\n")
    weights = {} if stages else {"weight": 1}
    datasets = [
        {"name": n, "source": {"kind": "tsv", "path": str(path / f"{n}.tsv")}, **weights}
        | {"modifiers": modifiers.get(n, [])}
        for n in ("a", "b")
    ]
    more = {"stages": stages} if stages else {}
    data = config(path, train=datasets, valid={"kind": "tsv", "path": str(path / "v.tsv")}, **more)
    return data, prepare_corpus(data)


def shares(lines):
    """Of the lines, the shares in upper case and in title case."""
    upper, title = (sum(getattr(line, test)() for line in lines) / len(lines) for test in ("isupper", "istitle"))
    return upper, title


def test_lines_change_as_often_as_the_modifiers_of_their_dataset_say(tmp_path):
    data, corpus = made(tmp_path, b=[{"TitleCase": 0.2}, {"UpperCase": 0.3}, {"Typos": 0.5}])
    casing = Casing.of(data, corpus)
    assert casing.chances == [Chances(500, 0, 0), Chances(1000, 0.3, 0.2)]
    lines = list(sample_lines(corpus.part("train"), (0,), 10**6, casing=casing))
    plain = list(sample_lines(corpus.part("train"), (0,), 10**6))
    assert lines[:500] == plain[:500]
    assert [line.lower() for line in lines] == plain
    upper, title = shares(lines[500:])
    assert upper == pytest.approx(0.3, abs=0.06)
    assert title == pytest.approx(0.7 * 0.2, abs=0.05)  # of the lines that are not in upper case
    assert lines == list(sample_lines(corpus.part("train"), (0,), 10**6, casing=casing))


def test_both_sides_of_a_pair_change_alike(tmp_path):
    data, corpus = made(tmp_path, a=[{"UpperCase": 0.5}])
    lines = list(sample_lines(corpus.part("train"), (0, 1), 10**6, casing=Casing.of(data, corpus)))
    sources, targets = lines[:1000], lines[1000:]
    assert [line.isupper() for line in sources] == [line.isupper() for line in targets]


def test_the_case_of_each_side_is_that_of_its_language():
    casing = Casing([Chances(9, 1, 0)], (True, False))
    assert [casing(np.arange(1), ["izmir ısparta"], side) for side in (0, 1)] == [["İZMİR ISPARTA"], ["IZMIR ISPARTA"]]
    assert casing.settings != Casing([Chances(9, 1, 0)]).settings


def test_the_largest_share_of_all_stages_counts(tmp_path):
    stages = [
        {"name": "first", "weights": {"a": 1}, "epochs": 1, "modifiers": [{"UpperCase": 0.4}]},
        {"name": "then", "weights": {"a": 1, "b": 1}},
    ]
    data, corpus = made(tmp_path, stages, a=[{"UpperCase": 0.1}], b=[{"TitleCase": 0.2}])
    assert Casing.of(data, corpus).chances == [Chances(500, 0.4, 0), Chances(1000, 0, 0.2)]


def test_no_casing_without_these_modifiers(tmp_path):
    assert Casing.of(*made(tmp_path, a=[{"Typos": 0.5}])) is None


def test_upper_cased_words_are_whole_pieces(tmp_path):
    data, corpus = made(tmp_path, a=[{"UpperCase": 0.5}])
    tokenizer = Tokenizer.train(
        TokenizerConfig(type="bpe", vocab_size=150), corpus, tmp_path / "t", casing=Casing.of(data, corpus)
    )
    assert len(tokenizer.encode_src([" ".join(WORDS).upper()])[0]) == len(WORDS)
