"""Packed batches: nothing is lost or doubled, everything fits, and the order is a function of seed and epoch."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.data.order import TrainingOrder
from nmt.data.packing import ALIGN, Packing
from tests.unit.data.corpora import Lengths

PAD, BOS, EOS = 0, 2, 3

corpora = st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=60)


def pairs_of(lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [tuple(rng.integers(4, 90, n).astype(np.uint16) for n in pair) for pair in lengths]


def sides(batch):
    """Source and target sentences, closed by eos, as the model and the loss meet them."""
    src, of_src, tgt_in, of_tgt = batch.inputs
    for ids, sentences, total in ((src, of_src, batch.src_tokens), (tgt_in, of_tgt, batch.tgt_tokens)):
        starts = [s for s in sentences.starts.tolist() if s <= total]
        yield [ids[a:b].tolist() for a, b in itertools.pairwise(starts)][: len(batch.rows)]


@settings(deadline=None, max_examples=150)
@given(corpora, st.integers(1, 3000), st.integers(0, 5))
def test_every_pair_once_and_whole(lengths, budget, seed):
    dataset = Lengths(np.array(lengths, np.int32).T)
    packing = Packing.measure([dataset.both], budget)
    plan = packing.plan(dataset.both, np.random.default_rng(seed))
    assert sorted(np.concatenate(plan).tolist()) == list(range(len(lengths)))
    pairs = pairs_of(lengths)
    for rows in plan:
        chosen = [pairs[i] for i in rows.tolist()]
        batch = packing.collate(chosen, rows, PAD, BOS, EOS)
        assert batch.buffer.shape == (packing.size,)
        src, tgt_in = sides(batch)
        assert src == [[*one.tolist(), EOS] for one, _ in chosen]
        assert tgt_in == [[BOS, *one.tolist()] for _, one in chosen]
        targets = [[*one.tolist(), EOS] for _, one in chosen]
        assert batch.targets[: batch.tgt_tokens].tolist() == list(itertools.chain(*targets))
        assert batch.weights.tolist() == [1] * batch.tgt_tokens + [0] * (packing.tgt - batch.tgt_tokens)
        assert batch.padding == (
            packing.src + packing.tgt - batch.src_tokens - batch.tgt_tokens,
            packing.src + packing.tgt,
        )


@settings(deadline=None, max_examples=100)
@given(corpora, st.integers(1, 3000), st.data())
def test_sentences_cover_all_rows_and_have_a_counterpart(lengths, budget, data):
    """What attention needs, also of batches that are shorter than planned, as those of sampling are."""
    dataset = Lengths(np.array(lengths, np.int32).T)
    packing = Packing.measure([dataset.both], budget)
    for rows in packing.plan(dataset.both, np.random.default_rng(0)):
        shorter = [tuple(data.draw(st.integers(1, n)) for n in lengths[i]) for i in rows.tolist()]
        for batch in (
            packing.collate(pairs_of([lengths[i] for i in rows.tolist()]), rows, PAD, BOS, EOS),
            packing.collate(pairs_of(shorter), rows, PAD, BOS, EOS),
        ):
            src, of_src, tgt_in, of_tgt = batch.inputs
            sizes = [sentences.starts.diff() for sentences in (of_src, of_tgt)]
            for ids, of_ids, each, total in (
                (src, of_src, sizes[0], batch.src_tokens),
                (tgt_in, of_tgt, sizes[1], batch.tgt_tokens),
            ):
                assert of_ids.starts[0] == 0
                assert of_ids.starts[-1] == len(ids) == len(of_ids.positions)
                assert each.min() >= 0
                assert each.max() <= of_ids.longest
                assert (ids[total:] == PAD).all()
                expected = np.concatenate([np.arange(n) for n in each[: len(rows)].tolist()])
                assert of_ids.positions.tolist() == expected.tolist() + [0] * (len(ids) - total)
            assert ((sizes[0] > 0) == (sizes[1] > 0)).all()


@settings(deadline=None, max_examples=100)
@given(corpora, st.integers(600, 3000))
def test_no_side_exceeds_the_budget_where_a_sentence_fits_in(lengths, budget):
    packing = Packing.measure([np.array(lengths).T], budget)
    assert max(packing.src, packing.tgt) < budget + ALIGN
    assert packing.src % ALIGN == packing.tgt % ALIGN == 0


def wmt_like(pairs):
    """Log-normal lengths with a mean of 28, as of English and German in 32,000 joint subwords."""
    rng = np.random.default_rng(0)
    src = np.exp(rng.normal(3.1, 0.6, pairs)).round().clip(1, 199)
    return np.array([src, (src * np.exp(rng.normal(0.0, 0.22, pairs))).round().clip(1, 199)], np.int32)


@pytest.mark.parametrize("ratio", [1.0, 1.6])
def test_batches_are_full(ratio):
    lengths = wmt_like(50_000)
    lengths[1] = lengths[1] * ratio
    packing = Packing.measure([lengths], 25_000)
    plan = packing.plan(lengths, np.random.default_rng(0))[:-1]
    real = sum(int((lengths[:, rows] + 1).sum()) for rows in plan)
    assert real / (len(plan) * (packing.src + packing.tgt)) > 0.96


def test_pairs_that_do_not_fit_are_refused():
    packing = Packing.measure([np.array([[5], [5]])], 16)
    with pytest.raises(ValueError, match="do not fit"):
        packing.collate(pairs_of([(5, 5)] * 4), np.arange(4), PAD, BOS, EOS)


def updates(dataset, seed, epoch, accumulate=1, taken=0):
    packing = Packing.measure([dataset.both], 600)
    order = TrainingOrder(dataset, 600, accumulate, seed, packing=packing)
    return [[rows.tolist() for rows in update] for update in order.updates(epoch, taken)]


@pytest.mark.parametrize("pool", [1 << 19, 100])
def test_the_order_is_a_function_of_seed_and_epoch(monkeypatch, pool):
    monkeypatch.setattr("nmt.data.order.POOL", pool)
    monkeypatch.setattr("nmt.data.order.SEGMENT", 10)
    dataset = Lengths(np.clip(wmt_like(990), 1, 90))
    whole = updates(dataset, 1, 0)
    assert sorted(itertools.chain(*(rows for (rows,) in whole))) == list(range(990))
    assert updates(dataset, 1, 0) == whole
    assert updates(dataset, 1, 1) != whole
    assert updates(dataset, 2, 0) != whole
    # An epoch continues with the same batches, in updates of another size.
    rest = updates(dataset, 1, 0, accumulate=3, taken=4)
    assert list(itertools.chain(*rest)) == [rows for (rows,) in whole[4:]]


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_batches_are_counted_as_they_are_planned(dtype):
    lengths = np.random.default_rng(3).integers(1, 60, (2, 5000)).astype(dtype)
    packing = Packing.measure([lengths], 300)
    for seed in range(20):
        found = packing.count(lengths, np.random.default_rng(seed))
        assert found == len(packing.plan(lengths, np.random.default_rng(seed)))
