import itertools

import numpy as np
import pytest

from nmt.data.batching import collate, plan_batches, prefetch


def lengths(n=500, seed=0):
    rng = np.random.default_rng(seed)
    src = rng.integers(1, 40, n)
    return src, np.clip(src + rng.integers(-5, 6, n), 1, None)


def test_every_row_once_and_within_the_budget_padding_counted():
    src, tgt = lengths()
    batches = plan_batches(src, tgt, 200, np.random.default_rng(1))
    assert sorted(itertools.chain.from_iterable(b.tolist() for b in batches)) == list(range(500))
    for rows in batches:
        longest = max(src[rows].max(), tgt[rows].max()) + 1  # eos
        assert len(rows) * longest <= 200


def test_a_sentence_over_the_budget_stands_alone():
    batches = plan_batches(np.array([3, 500, 3]), np.array([3, 2, 3]), 20, None)
    assert [b.tolist() for b in batches] == [[0, 2], [1]]


def test_order_is_a_function_of_the_seed_and_changes_with_it():
    src, tgt = lengths()

    def plan(seed):
        return [b.tolist() for b in plan_batches(src, tgt, 200, np.random.default_rng(seed))]

    assert plan([1, 0]) == plan([1, 0])
    assert plan([1, 0]) != plan([1, 1])
    assert {frozenset(b) for b in plan([1, 0])} != {frozenset(b) for b in plan([1, 1])}  # other company, not only order


def test_like_lengths_stand_together():
    src, tgt = lengths(100_000)
    padded = real = 0
    for rows in plan_batches(src, tgt, 4096, np.random.default_rng(0)):
        padded += len(rows) * (src[rows].max() + tgt[rows].max() + 2)
        real += (src[rows] + tgt[rows] + 2).sum()
    assert 1 - real / padded < 0.05


def test_collate_by_hand():
    pairs = [(np.array([5, 6]), np.array([7])), (np.array([8]), np.array([9, 10, 11]))]
    batch = collate(pairs, np.array([3, 1]), pad_id=0, bos_id=2, eos_id=3)
    assert batch.src.tolist() == [[5, 6, 3], [8, 3, 0]]
    assert batch.src_mask.tolist() == [[True, True, True], [True, True, False]]
    assert batch.tgt_in.tolist() == [[2, 7, 0, 0], [2, 9, 10, 11]]
    assert batch.tgt_out.tolist() == [[7, 3, 0, 0], [9, 10, 11, 3]]
    assert batch.tgt_mask.tolist() == [[True, True, False, False], [True] * 4]
    assert (batch.src_tokens, batch.tgt_tokens) == (5, 6)
    assert batch.padding == (3, 14)


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
