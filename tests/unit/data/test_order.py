"""Batches by a budget of tokens, in an order that is a function of (seed, epoch)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nmt.data import order
from nmt.data.order import TrainingOrder, plan_batches
from nmt.data.packing import Packing
from tests.unit.data.corpora import Lengths


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


def flat(updates):
    return [[rows.tolist() for rows in update] for update in updates]


@pytest.fixture
def small_pools(monkeypatch):
    """At most 100 pairs in a pool, dealt out by tens."""
    monkeypatch.setattr(order, "POOL", 100)
    monkeypatch.setattr(order, "SEGMENT", 10)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_corpus_of_one_pool_is_planned_as_a_whole(accumulate):
    src, tgt = lengths()
    batches = plan_batches(src, tgt, 200, np.random.default_rng([7, 2]))
    updates = TrainingOrder(Lengths([src, tgt]), 200, accumulate, seed=7).updates(2)
    expected = [[b.tolist() for b in batches[i : i + accumulate]] for i in range(0, len(batches), accumulate)]
    assert flat(updates) == expected
    assert len(updates) == len(expected)


@pytest.mark.usefixtures("small_pools")
@pytest.mark.parametrize("size", [101, 990, 1003])
@pytest.mark.parametrize("accumulate", [1, 4])
def test_pools_hold_every_row_once_within_the_budget(size, accumulate):
    src, tgt = lengths(size)
    updates = TrainingOrder(Lengths([src, tgt]), 200, accumulate, seed=1).updates(0)
    batches = list(itertools.chain.from_iterable(updates))
    assert sorted(itertools.chain.from_iterable(b.tolist() for b in batches)) == list(range(size))
    for rows in batches:
        assert len(rows) * (max(src[rows].max(), tgt[rows].max()) + 1) <= 200
    assert len(updates) == -(-len(batches) // accumulate)
    assert {len(update) for update in list(updates)[:-1]} == {accumulate}  # across the seams too
    with pytest.raises(IndexError):
        updates[len(updates)]


@pytest.mark.usefixtures("small_pools")
def test_pools_follow_each_other_and_are_dealt_anew_in_each_epoch():
    src, tgt = lengths(1000)
    order = TrainingOrder(Lengths([src, tgt]), 200, 1, seed=1)

    def pools(epoch):
        rows = [row for update in order.updates(epoch) for row in update[0].tolist()]
        return [{row // 10 for row in rows[i : i + 100]} for i in range(0, 1000, 100)]

    assert [len(segments) for segments in pools(0)] == [10] * 10  # whole segments: no pool shares one
    assert sorted(itertools.chain.from_iterable(pools(0))) == list(range(100))
    assert set(map(frozenset, pools(0))).isdisjoint(map(frozenset, pools(1)))
    assert max(map(max, pools(0)[:1])) - min(map(min, pools(0)[:1])) > 50  # from all over the corpus
    firsts = [order.updates(0)[i][0] for i in range(0, len(order.updates(0)), 10)]
    assert len({int(rows[0]) % 10 for rows in firsts}) > 3  # and mixed within


@pytest.mark.usefixtures("small_pools")
@pytest.mark.parametrize("accumulate", [1, 4])
def test_any_update_can_be_asked_for_first(accumulate):
    """A resume starts in the middle of an epoch, in another process."""
    src, tgt = lengths(1000)
    dataset = Lengths([src, tgt])
    whole = flat(TrainingOrder(dataset, 200, accumulate, seed=3).updates(4))
    for position in (0, len(whole) // 2, len(whole) - 1):
        again = TrainingOrder(dataset, 200, accumulate, seed=3).updates(4)
        assert flat([again[position]]) == whole[position : position + 1]
    order = TrainingOrder(dataset, 200, accumulate, seed=3)
    backwards = [flat([order.updates(4)[i]])[0] for i in reversed(range(len(whole)))]
    assert backwards == whole[::-1]
    assert flat(order.updates(5)) != whole
    assert flat(order.updates(4)) == whole
    assert flat(TrainingOrder(dataset, 200, accumulate, seed=4).updates(4)) != whole


@pytest.mark.parametrize("size", [80, 1000])
@pytest.mark.usefixtures("small_pools")
def test_the_longest_batch_has_most_positions(size):
    src, tgt = lengths(size)

    def positions(rows):
        return len(rows) * (src[rows].max() + tgt[rows].max())

    order = TrainingOrder(Lengths([src, tgt]), 200, 1, seed=1)
    pool, taken = [], 0  # the batches of the first pool
    for (rows,) in order.updates(0):
        if taken < min(size, 100):
            pool.append(rows)
            taken += len(rows)
    assert taken == min(size, 100)
    assert positions(order.longest_batch()) == max(map(positions, pool))


def test_an_epoch_goes_on_with_the_same_batches_in_updates_of_another_size():
    dataset = Lengths(lengths())

    def updates(accumulate, taken=0):
        order = TrainingOrder(dataset, 200, accumulate, 1)
        return [[rows.tolist() for rows in update] for update in order.updates(0, taken)]

    batches = [rows for update in updates(1) for rows in update]
    assert len(batches) % 5, "the test needs a short last update"
    for taken in (0, 10, 12):
        rest = updates(5, taken)
        assert [len(update) for update in rest[:-1]] == [5] * (len(rest) - 1)
        assert list(itertools.chain(*rest)) == batches[taken:]


class Watched(Lengths):
    """Remembers which rows' lengths were asked for."""

    def __init__(self, sides):
        super().__init__(sides)
        self.asked = set()

    def lengths(self, start=0, stop=None):
        self.asked.update(range(start, min(stop or len(self), len(self))))
        return super().lengths(start, stop)


@pytest.mark.usefixtures("small_pools")
def test_reading_updates_in_order_counts_pool_by_pool():
    dataset = Watched(lengths(1000))
    whole = flat(TrainingOrder(Lengths(lengths(1000)), 200, 3, seed=2).updates(1))
    epoch = TrainingOrder(dataset, 200, 3, seed=2).updates(1)
    assert flat([epoch[0]]) == whole[:1]
    assert len(dataset.asked) == 100  # one pool
    read = []
    for number, update in enumerate(epoch, 1):
        assert epoch.has(number) == (number < len(whole))
        read.append([rows.tolist() for rows in update])
    assert read == whole
    assert not epoch.has(-1)


@pytest.mark.usefixtures("small_pools")
def test_the_length_of_an_epoch_of_many_pools_is_estimated_from_the_first(monkeypatch):
    dataset = Watched(lengths(1000))
    order_of = TrainingOrder(dataset, 200, 2, seed=2)
    exact = len(order_of.updates(0))
    assert order_of.length(0) == (exact, True)
    monkeypatch.setattr(order, "COUNTED", 8)
    dataset.asked.clear()
    again = TrainingOrder(dataset, 200, 2, seed=2)
    estimated, is_exact = again.length(0)
    assert estimated == pytest.approx(exact, rel=0.15)
    assert not is_exact
    assert len(dataset.asked) == 100
    assert len(again.updates(0)) == exact  # is counted where it is asked for


@pytest.mark.usefixtures("small_pools")
@pytest.mark.parametrize("packed", [False, True])
def test_an_epoch_whose_pools_are_known_continues_without_counting_them(packed):
    sides = np.array(lengths(1000), np.int32)
    packing = Packing.measure([sides], 200) if packed else None
    order = TrainingOrder(Lengths(sides), 200, 3, seed=2, packing=packing)
    whole = [rows.tolist() for update in order.updates(1) for rows in update]
    list(order.updates(2))  # read ahead
    taken = len(whole) // 2
    ends = order.ends(1, taken)
    assert 3 < len(ends) < 8
    assert order.ends(1, len(whole)) == [*ends, *order.ends(1, len(whole))[len(ends) :]]
    assert order.ends(7, 100) == order.ends(1, 0) == []

    dataset = Watched(sides)
    again = TrainingOrder(dataset, 200, 3, seed=2, packing=packing)
    again.resume(1, ends)
    assert [again.updates(1, taken)[0][0].tolist()] == whole[taken : taken + 1]
    assert len(dataset.asked) <= 200  # the pool of the position, and the next one where the update reaches it
    assert [rows.tolist() for update in again.updates(1, taken) for rows in update] == whole[taken:]
    assert again.ends(1, len(whole)) == order.ends(1, len(whole))
