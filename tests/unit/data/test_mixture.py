"""Which examples each epoch of a mixture reads."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from nmt.data import mixture as mixtures
from nmt.data.mixture import Mixture, Stage, stages_of
from tests.unit.data.corpora import config


def stage(*weights, size, epochs=None, steps=None, modifiers=None):
    shares = tuple(Fraction(weight, sum(weights)) for weight in weights)
    return Stage("", shares, Fraction(size), epochs, steps, modifiers or tuple(() for _ in weights))


def read(mixture, epoch, parts=1):
    return np.concatenate([mixture.examples(epoch, part, parts) for part in range(parts)])


def counts(mixture, examples):
    return np.bincount(mixture.datasets(examples), minlength=len(mixture.sizes)).tolist()


@pytest.mark.parametrize("weights", [(3, 1), (1, 3), (1, 99), (7, 5)])
def test_shares_are_those_of_the_weights_in_every_epoch(weights):
    mixture = Mixture([0, 700, 1000], [stage(*weights, size=1000)], seed=1)
    for epoch in range(7):
        found = counts(mixture, read(mixture, epoch))
        assert abs(sum(found) - 1000) <= 1
        assert all(abs(n - 1000 * w / sum(weights)) < 1 for n, w in zip(found, weights, strict=True))


@pytest.mark.parametrize("segment", [1 << 10, 7])
def test_a_dataset_is_read_without_replacement_until_it_is_exhausted(segment, monkeypatch):
    monkeypatch.setattr(mixtures, "SEGMENT", segment)
    monkeypatch.setattr(mixtures, "SHUFFLED", 20 if segment == 7 else 1 << 19)
    mixture = Mixture([0, 100, 133], [stage(1, 1, size=133)], seed=5)
    rows = np.concatenate([mixture.rows(read(mixture, epoch, parts=3)) for epoch in range(20)])
    for start, end in ((0, 100), (100, 133)):
        stream = rows[(rows >= start) & (rows < end)]
        passes = np.split(stream, range(end - start, len(stream), end - start))
        assert len(passes) > 10
        assert all(sorted(one) == list(range(start, end)) for one in passes[:-1])
        assert len({tuple(one) for one in passes[:-1]}) > len(passes) / 2  # five segments: some orders come twice


def test_examples_of_an_epoch_are_distinct_and_count_the_passes():
    mixture = Mixture([0, 10, 40], [stage(3, 1, size=40)], seed=1)
    for epoch in range(5):
        examples = read(mixture, epoch)
        assert len(set(examples.tolist())) == len(examples)
    repeats = Counter((read(mixture, 0) // mixture.pairs // 2).tolist())
    assert repeats == {0: 20, 1: 10, 2: 10}  # 30 of the 10 pairs of the first dataset: three passes


def test_examples_are_a_function_of_seed_and_epoch_alone():
    def examples(seed, epoch):
        return read(Mixture([0, 50, 90], [stage(2, 1, size=90)], seed), epoch).tolist()

    assert examples(3, 4) == examples(3, 4)
    assert examples(3, 4) != examples(4, 4)
    assert examples(3, 4) != examples(3, 5)


def test_parts_make_an_epoch():
    mixture = Mixture([0, 50, 90], [stage(5, 2, size=90)], seed=1)
    assert sorted(read(mixture, 3, parts=7).tolist()) == sorted(read(mixture, 3).tolist())


def test_stages_follow_one_another():
    stages = [stage(1, 0, size=20, epochs=2), stage(1, 1, size=30, steps=9), stage(0, 1, size=10, epochs=3)]
    mixture = Mixture([0, 20, 30], stages, seed=1)
    assert [mixture.locate(epoch) for epoch in range(6)] == [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (2, 2)]
    assert mixture.locate(60) == (2, 57)
    assert mixture.epochs == 6
    assert [counts(mixture, read(mixture, epoch)) for epoch in (0, 1, 2, 3)] == [[20, 0], [20, 0], [15, 15], [0, 10]]


# ------------------------------------------------------------------------------------------------------ configuration

SOURCE = {"kind": "demo", "part": "train"}


def shares(tmp_path, *fields, sizes, stages=()):
    data = [{"name": f"d{n}", "source": SOURCE, **field} for n, field in enumerate(fields)]
    found = stages_of(config(tmp_path, train=data, valid=SOURCE, stages=list(stages)), sizes)
    return [([float(share) for share in one.shares], float(one.size)) for one in found]


def test_weights_and_temperatures(tmp_path):
    assert shares(tmp_path, {"weight": 3}, {"weight": 1.0}, sizes=[10, 90]) == [([0.75, 0.25], 100.0)]
    assert shares(tmp_path, {}, {}, sizes=[10, 90]) == [([0.1, 0.9], 100.0)]
    [(found, _)] = shares(tmp_path, {"temperature": 2}, {"temperature": 2.0}, sizes=[100, 900])
    assert found == pytest.approx([0.25, 0.75])  # 10 : 30
    [(found, _)] = shares(tmp_path, {"temperature": 5}, {"temperature": 5}, sizes=[1, 32])
    assert found == pytest.approx([1 / 3, 2 / 3])


def test_an_epoch_of_a_stage_reads_one_dataset_once(tmp_path):
    stages = [{"name": "a", "weights": {"d0": 1, "d1": 3}, "epochs": 2, "epoch_of": "d1"},
              {"name": "b", "weights": {"d0": 1}}]  # fmt: skip
    assert shares(tmp_path, {}, {}, sizes=[10, 90], stages=stages) == [([0.25, 0.75], 120.0), ([1.0, 0.0], 10.0)]
