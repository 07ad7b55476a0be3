"""The choice among the successors of a beam as one Triton kernel, a program a sentence; imported on CUDA only.

In PyTorch it takes sixty small kernels, which is a quarter of the time of a step with few sentences.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from nmt.search.triton_candidates import _key

if TYPE_CHECKING:
    from nmt.search.beam import Beam


@triton.jit
def _value(key):
    """The number of a key of ``_key``."""
    bits = (key >> 32).to(tl.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def _successors(
    logits, word, log_probs, norms, live, banned, b, at, real, closing, width, count, vocabulary, bans, eos
):  # fmt: skip
    """Log probabilities of the W·C successors of a sentence, and whether its rows have probabilities.

    Banned tokens are no successors, and a prefix at its maximum length has one, eos.
    """
    prefix = b * width + at // count
    token = tl.load(word + b * width * count + at, mask=real, other=-1)
    log_prob = tl.load(log_probs + b * width * count + at, mask=real, other=-float("inf"))
    for i in range(bans):
        log_prob = tl.where(token == tl.load(banned + i), -float("inf"), log_prob)
    norm = tl.load(norms + prefix, mask=real, other=0.0)
    price = tl.load(logits + prefix * vocabulary + eos, mask=real, other=0.0).to(tl.float32) - norm
    log_prob = tl.where(closing, tl.where(at % count == 0, price, -float("inf")), log_prob)
    total = tl.load(live + prefix, mask=real, other=-float("inf")) + log_prob
    return total, tl.sum((real & ~(tl.abs(norm) < float("inf"))).to(tl.int32), 0) == 0


@triton.jit
def _update_best(best, new_best, scores, b, slot, width, nbest, BEST: tl.constexpr):
    """The ``nbest`` largest of a sentence's best scores and new ones; returns the last of them."""
    place = tl.arange(0, BEST)
    old_keys = _key(tl.load(best + b * nbest + place, mask=place < nbest, other=-float("inf")), place, place < nbest)
    score_keys = _key(scores, slot + BEST, slot < width)
    worst = -float("inf")
    for i in range(nbest):
        highest = tl.maximum(tl.max(old_keys, 0), tl.max(score_keys, 0))
        old_keys = tl.where(old_keys == highest, -0x7FFFFFFFFFFFFFFF, old_keys)
        score_keys = tl.where(score_keys == highest, -0x7FFFFFFFFFFFFFFF, score_keys)
        worst = _value(highest)
        tl.store(new_best + b * nbest + i, worst)
    return worst


@triton.jit
def _front(ends, inside, slot):
    """The place of each of the 2W with those that go on in front, else in their order."""
    goes_on, stops = (inside & ~ends).to(tl.int32), ends.to(tl.int32)
    before = slot[None, :] < slot[:, None]
    going, stopped = (tl.where(before, goes_on[None, :], 0), tl.where(before, stops[None, :], 0))
    return tl.where(ends, tl.sum(goes_on, 0) + tl.sum(stopped, 1), tl.sum(going, 1))


@triton.jit
def _select(
    logits, word, log_probs, norms, live, best, finished, over, max_lengths, bounds, penalties, banned, length,
    new_tokens, new_live, new_best, new_finished, new_over, invalid, rows, trace, ended,
    sentences, width, count, vocabulary, nbest, bans, eos,
    EARLY: tl.constexpr, SUCCESSORS: tl.constexpr, SLOTS: tl.constexpr, BEST: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    t = tl.load(length)
    was_over = tl.load(over + b) != 0
    closing = tl.load(max_lengths + b) < t

    at = tl.arange(0, SUCCESSORS)
    real = at < width * count
    total, numbers = _successors(
        logits, word, log_probs, norms, live, banned, b, at, real, closing, width, count, vocabulary, bans, eos
    )
    if (~numbers) & (~was_over) & (tl.load(invalid) == 0):
        tl.atomic_max(invalid, t)

    # The best 2W, best first; of equal ones, by prefix and word.
    slot = tl.arange(0, SLOTS)
    keys = _key(total, at, real)
    value = tl.full([SLOTS], -float("inf"), tl.float32)
    index = tl.zeros([SLOTS], tl.int64)
    for i in range(2 * width):
        highest = tl.max(keys, 0)
        keys = tl.where(keys == highest, -0x7FFFFFFFFFFFFFFF, keys)
        value = tl.where(slot == i, _value(highest), value)
        index = tl.where(slot == i, 0x7FFFFFFF - (highest & 0x7FFFFFFF), index)
    inside, parent = slot < 2 * width, index // count
    chosen = tl.load(word + b * width * count + index, mask=inside, other=-1)
    chosen = tl.where(closing & (index % count == 0), eos, chosen)
    ends = (chosen == eos) & inside

    # The hypotheses that end.
    accepted = ends & (value > -float("inf")) & (slot < width) & ~was_over
    closed = tl.where(accepted, value, -float("inf"))
    tl.store(ended + (t * sentences + b) * width + slot, closed, mask=slot < width)
    done = tl.load(finished + b) + tl.sum(accepted.to(tl.int64), 0)
    tl.store(new_finished + b, done)
    scores = tl.div_rn(closed, tl.zeros([SLOTS], tl.float32) + tl.load(penalties + t))
    worst = _update_best(best, new_best, scores, b, slot, width, nbest, BEST)

    # The prefixes that go on, in front of those that ended.
    rank = _front(ends, inside, slot)
    kept = inside & (rank < width)
    value = tl.where(ends, -float("inf"), value)
    row = b * width + rank
    tl.store(new_tokens + row, chosen, mask=kept)
    tl.store(new_live + row, value, mask=kept)
    tl.store(rows + row, b * width + parent, mask=kept)
    record = trace + (t * sentences + b) * width * 3
    tl.store(record + rank * 3, chosen.to(tl.int32), mask=kept)
    tl.store(record + rank * 3 + 1, parent.to(tl.int32), mask=kept)
    tl.store(record + slot * 3 + 2, parent.to(tl.int32), mask=slot < width)
    stop = was_over | closing | (done >= width)
    if EARLY:
        first = tl.max(tl.where(kept & (rank == 0), value, -float("inf")), 0)
        stop = stop | (worst >= tl.div_rn(first, tl.load(bounds + b)))
    tl.store(new_over + b, stop)


def select(
    logits: Tensor, word: Tensor, log_probs: Tensor, norm: Tensor, beam: Beam, eos_id: int, early_stop: bool
) -> tuple[Beam, Tensor]:
    """See :func:`nmt.search.beam.select`."""
    sentences, width = beam.live.shape
    nbest, count = beam.best.size(1), word.size(1)
    if not all(x.is_contiguous() for x in (logits, word, log_probs, beam.live, beam.best, beam.trace, beam.ended)):
        raise ValueError("expected contiguous tensors")
    after = replace(
        beam, length=beam.length + 1, tokens=torch.empty_like(beam.tokens), live=torch.empty_like(beam.live),
        best=torch.empty_like(beam.best), finished=torch.empty_like(beam.finished), over=torch.empty_like(beam.over),
        invalid=beam.invalid.clone(),
    )  # fmt: skip
    rows = torch.empty_like(beam.tokens)
    _select[(sentences,)](
        logits, word, log_probs, norm, beam.live, beam.best, beam.finished, beam.over, beam.max_lengths, beam.bounds,
        beam.penalties, beam.banned, beam.length,
        after.tokens, after.live, after.best, after.finished, after.over, after.invalid, rows, beam.trace, beam.ended,
        sentences, width, count, logits.size(1), nbest, beam.banned.numel(), eos_id,
        EARLY=early_stop, SUCCESSORS=triton.next_power_of_2(width * count), SLOTS=triton.next_power_of_2(2 * width),
        BEST=triton.next_power_of_2(nbest), num_warps=1 if width * count <= 512 else 4,
    )  # fmt: skip
    return after, rows
