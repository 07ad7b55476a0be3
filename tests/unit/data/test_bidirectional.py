"""Pairs that the first epochs read from target to source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nmt.data.bidirectional import Bidirectional
from nmt.data.corpus import Corpus
from nmt.data.encoded import encode_corpus
from nmt.data.order import TrainingOrder
from nmt.data.reader import Reader
from tests.unit.data.corpora import Make, sampling_config


def test_two_epochs_read_every_pair_in_both_directions() -> None:
    both, rows = Bidirectional(seed=3, epochs=4), np.arange(1000)
    epochs = [both.backwards(rows, epoch) for epoch in range(6)]
    assert (epochs[0] ^ epochs[1]).all()
    assert (epochs[2] ^ epochs[3]).all()
    assert not epochs[4].any()
    assert not epochs[5].any()
    assert 450 < epochs[0].sum() < 550
    assert 400 < (epochs[0] ^ epochs[2]).sum() < 600  # drawn again for every two epochs
    assert 400 < (epochs[0] ^ Bidirectional(seed=4, epochs=4).backwards(rows, 0)).sum() < 600
    assert (both.backwards(rows[500:], 1) == epochs[1][500:]).all()  # whatever the batch


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("alpha", [None, 0.1])
def test_batches_hold_turned_pairs_within_the_budget(
    corpus: Corpus, make: Make, tmp_path: Path, packed: bool, alpha: float | None
) -> None:
    tokenizer, budget, text = make(type="unigram"), 300, corpus.part("train")
    dataset, both = encode_corpus(corpus, tokenizer, 60, tmp_path).train, Bidirectional(1, 2)
    sampling = None if alpha is None else sampling_config(alpha)
    reader = Reader(dataset, tokenizer, text, sampling, 60, 1, budget, packed, both)
    order = TrainingOrder(dataset, budget, 1, 1, reader.room, reader.packing, both)
    directions: dict[int, list[bool]] = {}
    for epoch in range(3):
        for (rows,) in order.updates(epoch):
            batch = reader.read(rows, epoch)  # a packed batch that does not fit raises an error
            if not packed:
                assert max(batch.inputs[0].numel(), batch.inputs[2].numel()) <= budget
            ids = [x.flatten().tolist() for x in (batch.inputs[0], batch.targets)]
            found = zip(*(sentences(side, tokenizer.eos_id, tokenizer.pad_id) for side in ids), strict=True)
            for row, pair in zip(rows.tolist(), list(found)[: len(rows)], strict=True):
                src, tgt = text[dataset.index(row)]
                back = bool(both.backwards(np.array([row]), epoch)[0])
                assert tokenizer.decode([list(side) for side in pair]) == ([tgt, src] if back else [src, tgt])
                directions.setdefault(row, []).append(back)
    assert all(one != other and not third for one, other, third in directions.values())
    assert len(directions) == len(dataset)


def sentences(ids: list[int], eos: int, pad: int) -> list[list[int]]:
    found: list[list[int]] = [[]]
    for token in ids:
        if token == eos:
            found.append([])
        elif token != pad:
            found[-1].append(token)
    return found[:-1]


@pytest.mark.parametrize("packed", [False, True])
def test_the_largest_batch_has_the_longer_sides_as_targets_or_fits(
    corpus: Corpus, make: Make, tmp_path: Path, packed: bool
) -> None:
    tokenizer = make(type="unigram")
    dataset, both = encode_corpus(corpus, tokenizer, 60, tmp_path).train, Bidirectional(1, 2)
    reader = Reader(dataset, tokenizer, budget=300, packed=packed, bidirectional=both)
    order = TrainingOrder(dataset, 300, 1, 1, packing=reader.packing, bidirectional=both)
    rows = order.longest_batch()
    batch = reader.largest(rows)
    if not packed:
        assert batch.src_tokens <= batch.tgt_tokens
        assert batch.inputs[2].shape[1] == max(len(side) for i in rows for side in (dataset.src(i), dataset.tgt(i))) + 1
