"""Weights of sentence pairs: read from columns, stored, and used by the loss."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nmt.data.batch import collate
from nmt.data.packing import Packing
from nmt.data.prepare import prepare_corpus
from nmt.errors import DataError
from nmt.training.loss import projected_cross_entropy
from tests.unit.data.corpora import config, write_tsv

ROWS = [("guten tag", "good day", "0.5"), ("eins", "one", "2"), ("", "empty", "7"), ("zwei", "two", "1.5e0")]


def stored(tmp_path, **source):
    data = config(tmp_path, train=source, valid=write_tsv(tmp_path / "v.tsv", [("x", "y")]))
    part = prepare_corpus(data).part("train")
    return [(part.src(i), part.weight(i)) for i in range(len(part))]


KEPT = [("guten tag", 0.5), ("eins", 2.0), ("zwei", 1.5)]


def test_weights_are_read_from_every_kind_of_table(tmp_path):
    table = tmp_path / "t.tsv"
    table.write_text("".join("\t".join(row) + "\n" for row in ROWS))
    assert stored(tmp_path, kind="tsv", path=str(table), weight_column=2) == KEPT
    table = tmp_path / "t.csv"
    table.write_text("de,en,score\n" + "".join(",".join(row) + "\n" for row in ROWS))
    assert stored(tmp_path, kind="csv", path=str(table), weight_column="score") == KEPT
    table = tmp_path / "t.jsonl"
    table.write_text("".join(json.dumps({"de": s, "en": t, "by": {"w": float(w)}}) + "\n" for s, t, w in ROWS))
    assert stored(tmp_path, kind="jsonl", path=str(table), weight_key="by.w") == KEPT
    table = tmp_path / "t.parquet"
    pq.write_table(pa.Table.from_pylist([{"de": s, "en": t, "w": float(w)} for s, t, w in ROWS]), table)
    assert stored(tmp_path, kind="parquet", path=str(table), weight_column="w") == KEPT


@pytest.mark.parametrize("weight", ["", "much", "0", "-1", "nan", "inf"])
def test_a_weight_is_a_number_above_0(tmp_path, weight):
    table = tmp_path / "t.tsv"
    table.write_text(f"a\tb\t1\nc\td\t{weight}\n")
    source = {"kind": "tsv", "path": str(table), "weight_column": 2}
    with pytest.raises(DataError, match=rf"t\.tsv:2: the weight is '{weight}'; it must be a number above 0"):
        stored(tmp_path, **source)
    assert stored(tmp_path, **source, on_bad_row="skip") == [("a", 1.0)]


@pytest.mark.parametrize("weight", ["1e-13", "2e12", "1e-320"])
def test_a_weight_whose_ratio_may_vanish_is_refused(tmp_path, weight):
    table = tmp_path / "t.tsv"
    table.write_text(f"a\tb\t1e-12\nc\td\t1e12\ne\tf\t{weight}\n")
    with pytest.raises(DataError, match=rf"t\.tsv:3: the weight is '{weight}'; it must be a number from 1e-12 to 1e"):
        stored(tmp_path, kind="tsv", path=str(table), weight_column=2)
    smallest, largest = np.float32(1e-12), np.float32(1e12)
    assert smallest / largest >= np.finfo(np.float32).tiny


def test_a_weight_of_null_is_refused_and_not_that_of_the_pair_before(tmp_path):
    table = tmp_path / "t.jsonl"
    table.write_text('{"de": "a", "en": "b", "w": 5}\n{"de": "c", "en": "d", "w": null}\n')
    source = {"kind": "jsonl", "path": str(table), "weight_key": "w"}
    with pytest.raises(DataError, match=r"t\.jsonl:2: the weight is 'null'; it must be a number above 0"):
        stored(tmp_path, **source)
    assert stored(tmp_path, **source, on_bad_row="skip") == [("a", 5.0)]


def test_pairs_of_a_dataset_without_weights_weigh_1(tmp_path):
    table = tmp_path / "t.tsv"
    table.write_text("a\tb\t0.25\n")
    plain = write_tsv(tmp_path / "p.tsv", [("c", "d")])
    datasets = [{"name": "t", "source": {"kind": "tsv", "path": str(table), "weight_column": 2}},
                {"name": "p", "source": plain}]  # fmt: skip
    data = config(tmp_path, train=datasets, valid=write_tsv(tmp_path / "v.tsv", [("x", "y")]))
    part = prepare_corpus(data).part("train")
    assert [part.weight(0), part.weight(1)] == [0.25, 1.0]


def test_weights_stay_with_their_pairs_when_rules_read_ahead(tmp_path):
    table = tmp_path / "t.tsv"
    rows = [(f"satz {n} x", f"sentence {n} {'!' * 30 if n % 7 == 0 else ''}", n + 1) for n in range(3000)]
    table.write_text("".join(f"{src}\t{tgt}\t{weight}\n" for src, tgt, weight in rows))
    source = {"kind": "tsv", "path": str(table), "weight_column": 2}
    rules = {"rules": {"character_score": {"src": "Latin", "tgt": "Latin"}}}
    data = config(tmp_path, train=source, valid=write_tsv(tmp_path / "v.tsv", [("q", "z")]), cleaning=rules)
    part = prepare_corpus(data).part("train")
    assert len(part) > 2000
    assert all(part.weight(i) == int(part.src(i).split()[1]) + 1 for i in range(len(part)))


# ---------------------------------------------------------------------------------------------------------------- loss

PAIRS = [(np.array([4, 5]), np.array([6])), (np.array([7]), np.array([8, 9, 4])), (np.array([5]), np.array([5, 6]))]
WEIGHTS = np.array([0.5, 2.0, 1.0], np.float32)
ROW_NUMBERS = np.arange(3)


def weighted_loss(batch, output, embedding, smoothing=0.1):
    """The summed loss of a model that predicts each target from the token before it, and the sum of the weights."""
    hidden = batch.at_targets(embedding(batch.tgt_in if hasattr(batch, "tgt_in") else batch.part("tgt_in").long()))
    found = projected_cross_entropy(hidden, output, batch.targets, smoothing, weights=batch.weights)
    return found.smoothed, batch.total_weight


@pytest.fixture
def model():
    torch.manual_seed(1)
    return SimpleNamespace(output=nn.Linear(6, 12, bias=False), embedding=nn.Embedding(12, 6))


def test_the_loss_is_the_weighted_mean_over_target_tokens(model):
    batch = collate(PAIRS, ROW_NUMBERS, 0, 2, 3, WEIGHTS)
    loss, weight = weighted_loss(batch, model.output, model.embedding)
    assert weight == 0.5 * 2 + 2.0 * 4 + 1.0 * 3  # eos counted
    expected = torch.zeros(())
    for (_, tgt), each in zip(PAIRS, WEIGHTS.tolist(), strict=True):
        before, after = torch.tensor([2, *tgt]), torch.tensor([*tgt, 3])
        logits = model.output(model.embedding(before))
        expected = expected + each * F.cross_entropy(logits, after, label_smoothing=0.1, reduction="sum")
    assert torch.allclose(loss, expected)
    ours = torch.autograd.grad(loss / weight, model.output.weight)[0]
    assert torch.allclose(ours, torch.autograd.grad(expected / 12, model.output.weight)[0], atol=1e-6)


def test_packed_and_padded_batches_agree(model):
    packing = Packing(32, 32, 8, 256, weighted=True)
    packed = packing.collate(PAIRS, ROW_NUMBERS, 0, 2, 3, WEIGHTS)
    padded = collate(PAIRS, ROW_NUMBERS, 0, 2, 3, WEIGHTS)
    results = [weighted_loss(batch, model.output, model.embedding) for batch in (packed, padded)]
    assert torch.allclose(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    grads = [torch.autograd.grad(loss, model.output.weight)[0] for loss, _ in results]
    assert torch.allclose(*grads, atol=1e-6)
    assert packed.without_targets().total_weight == padded.without_targets().total_weight == 0
    assert packed.without_targets().weights.sum() == 0


def test_without_weights_a_batch_counts_its_tokens():
    batch = collate(PAIRS, ROW_NUMBERS, 0, 2, 3)
    assert batch.weights is None
    assert batch.total_weight == batch.tgt_tokens == 9
    assert Packing(32, 32, 8, 256).collate(PAIRS, ROW_NUMBERS, 0, 2, 3).total_weight == 9
