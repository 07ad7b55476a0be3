"""Batches read with stored and sampled segmentations, and the thread that reads ahead."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path

import numpy as np
import pytest

from nmt.data.corpus import Corpus
from nmt.data.encoded import encode_corpus
from nmt.data.order import TrainingOrder
from nmt.data.reader import Reader, Room, prefetch
from tests.unit.data.corpora import Make, sampling_config


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "alpha", "nbest"), [("unigram", None, -1), ("unigram", 0.1, -1), ("bpe", None, -1), ("unigram", 0.1, 16)]
)
def test_sampled_batches_stay_within_the_budget_and_whole(
    corpus: Corpus, make: Make, tmp_path: Path, kind: str, alpha: float | None, nbest: int
) -> None:
    tokenizer, budget, text = make(type=kind), 300, corpus.part("train")
    dataset = encode_corpus(corpus, tokenizer, 60, tmp_path).train
    reader = Reader(dataset, tokenizer, text, sampling_config(alpha, nbest), 60, 1, budget)
    order = TrainingOrder(dataset, budget, 1, 1, reader.room)
    longer = batches = 0
    read: dict[tuple[int, int], list[int]] = {}
    for epoch in range(100):
        for (rows,) in order.updates(epoch):
            batch = reader.read(rows, epoch)
            batches += 1
            assert max(batch.src.numel(), batch.tgt_in.numel()) <= budget
            for row, src, tgt in zip(rows.tolist(), batch.src.tolist(), batch.tgt_out.tolist(), strict=True):
                src, tgt = ([i for i in ids if i not in (0, 3)] for ids in (src, tgt))
                assert max(len(src), len(tgt)) <= 60
                assert tokenizer.decode([src, tgt]) == list(text[dataset.index(row)])
                longer += len(tgt) > len(dataset.tgt(row))
                read[epoch, row] = tgt
        if batches >= 250:
            break
    assert batches >= 250
    assert longer > len(read) / 20
    other = Reader(dataset, tokenizer, text, sampling_config(alpha, nbest), 60, 1, budget)  # as in a resumed run
    for (epoch, row), tgt in random.Random(0).sample(sorted(read.items()), 20):
        found = other.read(np.array([row]), epoch).tgt_out[0].tolist()
        assert [i for i in found if i not in (0, 3)] == tgt


def test_a_pair_that_fits_alone_is_sampled_within_the_budget(corpus: Corpus, make: Make, tmp_path: Path) -> None:
    tokenizer, text = make(type="unigram"), corpus.part("train")
    dataset = encode_corpus(corpus, tokenizer, 60, tmp_path).train
    longest = int(dataset.lengths().max())
    reader = Reader(dataset, tokenizer, text, sampling_config(0.1), 60, 1, longest + 1)
    order = TrainingOrder(dataset, longest + 1, 1, 1, reader.room)
    for (rows,) in itertools.islice(order.updates(0), 100):
        batch = reader.read(rows, 0)
        assert max(batch.src.numel(), batch.tgt_in.numel()) <= longest + 1


def test_the_batch_that_is_tried_is_as_long_as_it_was_planned(corpus: Corpus, make: Make, tmp_path: Path) -> None:
    tokenizer, text, budget = make(type="unigram"), corpus.part("train"), 300
    dataset = encode_corpus(corpus, tokenizer, 60, tmp_path).train
    reader = Reader(dataset, tokenizer, text, sampling_config(0.1), 60, 1, budget)
    order = TrainingOrder(dataset, budget, 1, 1, reader.room)
    assert reader.room is not None
    rows = order.longest_batch()
    tried = reader.largest(rows)
    lengths = np.array([[len(dataset.src(i)), len(dataset.tgt(i))] for i in rows.tolist()], np.int32).T
    assert tried.src.shape[1] == reader.room(lengths)[0].max() + 1
    assert tried.tgt_in.shape[1] == reader.room(lengths)[1].max() + 1
    assert max(tried.src.numel(), tried.tgt_in.numel()) <= budget
    assert tried.tgt_in.numel() > reader.read(rows).tgt_in.numel() * 0.99
    plain = Reader(dataset, tokenizer)
    assert plain.largest(rows).tgt_in.tolist() == plain.read(rows).tgt_in.tolist()


def test_room_is_the_mean_and_two_standard_deviations() -> None:
    """By hand: twice as long on average, one more or one less of 4; half as long again, exactly."""
    best = np.array([[4, 4], [2, 2]], np.int32)
    room = Room.measure(best, np.array([[9, 7], [3, 3]], np.int32), 12)
    assert room.ratio == (2.0, 1.5)
    assert room.spread == (0.5, 0.0)  # √(mean of 1²/4)
    lengths = np.array([[1, 4, 9, 20], [1, 4, 9, 20]], np.int32)
    # 2·1 + 2·0.5·1 = 3; 8 + 2 = 10; 18 + 3 = 21, but 12 at most; 20 is longer than that already
    assert room(lengths).tolist() == [[3, 10, 12, 20], [2, 6, 12, 20]]


def test_the_line_method_draws_what_it_drew(make: Make, corpus: Corpus, tmp_path: Path) -> None:
    """Its batches are planned by the best segmentations, and a side is cut."""
    tokenizer, text = make(type="unigram"), corpus.part("train")
    dataset = encode_corpus(corpus, tokenizer, 60, tmp_path).train
    reader = Reader(dataset, tokenizer, text, sampling_config(0.1, -1, "line"), 10, 1, 300)
    assert reader.room is None
    batch = reader.read(np.arange(50), 3)
    assert batch.src.shape[1] == 11


def test_prefetch_keeps_order_passes_errors_and_stops():
    assert list(prefetch(lambda: iter(range(50)))) == list(range(50))

    def broken():
        yield 1
        raise RuntimeError("disk gone")

    items = prefetch(broken)
    assert next(items) == 1
    with pytest.raises(RuntimeError, match="disk gone"):
        next(items)
    endless = prefetch(itertools.count)
    assert next(endless) == 0
    endless.close()  # joins its thread; would hang if it did not stop


@pytest.mark.parametrize("size", [0, 1, 5000])
def test_the_room_of_a_sample_is_its_mean_and_two_deviations_up_to_a_limit(size: int) -> None:
    room = Room((1.3, 1.1), (0.8, 0.5), 60)
    best = np.random.default_rng(1).integers(1, 90, (2, size)).astype(np.int32)
    found = room(best)
    assert (found.dtype, found.shape) == (np.int32, (2, size))
    for side, ratio, spread in ((0, 1.3, 0.8), (1, 1.1, 0.5)):
        for n, planned in zip(best[side].tolist(), found[side].tolist(), strict=True):
            assert planned == max(n, min(60, math.ceil(ratio * n + 2 * spread * math.sqrt(n))))
