"""Beam search over a batch of sentences, given only a step function.

A beam of width W keeps, for each sentence, the W unfinished ("live") prefixes of highest log probability.
At every step each live prefix is continued by every token. Of these W·V candidates, best first:

- those among the first W that end (their token is eos) are finished and set aside with their normalised
  score;
- the first W that do not end are the live prefixes of the next step. Each prefix has one eos, so at most W
  of the best 2W candidates end, and these 2W always suffice.

A sentence is over when W hypotheses have finished, or at its maximum length, where every live prefix is
closed with eos at the price of that eos. Its result is the ``nbest`` finished hypotheses of highest score.
With W = 1 this is greedy search; with W at least the number of all prefixes it is exact.

**Early stop.** A sentence also leaves as soon as no live prefix can change its result. A live prefix of log
probability p <= 0 finishes with some p' <= p, since every token adds a log probability <= 0, and with some
length n <= M, the maximum length + 1 for the eos. The penalty is positive and never falls with the length,
so

    score = p' / penalty(n)  <=  p / penalty(n)  <=  p / penalty(M)      (the second because p <= 0)

and the best live prefix bounds the others. Once the ``nbest``-th finished score is not below this bound,
whatever finishes later is at best a tie, and ties go to the hypothesis finished first: the result stands.
Rounding keeps the argument intact, because floating-point addition and division are monotone.

A coverage penalty (:mod:`nmt.search.coverage`) is added to the score of a finished hypothesis and is at most 0,
so the bound holds with it: p' / penalty(n) + cp <= p' / penalty(n). Constraints (:mod:`nmt.search.constraints`) only
remove candidates, and the bound holds for those that remain.

**All finished hypotheses.** Without an early stop, log probabilities alone decide which prefixes live, which
hypotheses finish, and when a sentence is over; scores only order what has finished. So one search finds the
finished hypotheses of every length penalty. At most W - 1 finish before the step in which W are reached, and at
most W in that step: ``nbest`` = 2W - 1 returns all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nmt.runtime.kernels import Kernel
from nmt.search.candidates import candidates, top_k_by_column
from nmt.search.constraints import NO_CONSTRAINTS, Constraints
from nmt.search.coverage import Covered, coverage_penalty
from nmt.search.method import Task, not_a_number
from nmt.search.scoring import Hypothesis, LengthPenalty

if TYPE_CHECKING:
    from nmt.config.search import SearchConfig
    from nmt.models.seq2seq import State

StateT = TypeVar("StateT", bound="State")
LENGTHS = 32  # tokens for which the record of a search has room at first


@dataclass(frozen=True)
class Beam:
    """The state of a search of B sentences before a step, in tensors whose shapes a step does not change.

    Attributes:
        length: [1], of the candidates of the step, the new token counted.
        tokens: [N], the last tokens.
        live: [B, W], log probabilities of the live prefixes.
        best: [B, nbest], the best finished scores, best first.
        finished: [B], how many hypotheses have finished.
        over: [B], True where the result stands.
        max_lengths: [B].
        bounds: [B], penalties of the longest hypotheses that are possible.
        penalties: [room], of each length.
        banned: ids that are never produced.
        invalid: [1], length at which an output was first not a number; 0 if none.
        trace: [room, B, W, 3], int32. At each length: token and parent of each live prefix, parent of each hypothesis
            that ended. A parent is a row at the length before. A step writes into it.
        ended: [room, B, W], log probabilities of the hypotheses that ended at each length, -inf where none. A step
            writes into it.
        coverage: [room, B, W], coverage penalties of these hypotheses; None without the penalty. A step writes into it.
    """

    length: Tensor
    tokens: Tensor
    live: Tensor
    best: Tensor
    finished: Tensor
    over: Tensor
    max_lengths: Tensor
    bounds: Tensor
    penalties: Tensor
    banned: Tensor
    invalid: Tensor
    trace: Tensor
    ended: Tensor
    coverage: Tensor | None = None

    def select(self, sentences: Tensor) -> Beam:
        """The beam of the given sentences [B']."""
        tokens = self.tokens.view(self.live.shape)[sentences].flatten()
        rows = {name: getattr(self, name)[sentences] for name in _OF_SENTENCES}
        trace, ended = self.trace.index_select(1, sentences), self.ended.index_select(1, sentences)
        coverage = None if self.coverage is None else self.coverage.index_select(1, sentences)
        return replace(self, tokens=tokens, trace=trace, ended=ended, coverage=coverage, **rows)

    def grown(self, room: int, penalty: LengthPenalty) -> Beam:
        """The same beam with a record of lengths below ``room``."""
        trace, ended = self.trace, self.ended
        trace = torch.cat([trace, trace.new_zeros(room - len(trace), *trace.shape[1:])])
        ended = torch.cat([ended, ended.new_full((room - len(ended), *ended.shape[1:]), -torch.inf)])
        penalties = penalty(torch.arange(room, dtype=torch.float64)).to(ended.device, torch.float32)
        coverage = self.coverage
        if coverage is not None:
            coverage = torch.cat([coverage, coverage.new_zeros(room - len(coverage), *coverage.shape[1:])])
        return replace(self, trace=trace, ended=ended, penalties=penalties, coverage=coverage)

    def prefixes(self, length: int) -> Tensor:
        """The tokens [N, ``length``] of the live prefixes, bos left out, after ``length`` steps."""
        trace = self.trace[1 : length + 1].long()  # [T, B, W, 3]
        tokens = trace.new_zeros(*self.live.shape, length)  # [B, W, T]
        row = torch.arange(self.live.size(1), device=trace.device).expand(self.live.shape)
        for t in range(length - 1, -1, -1):
            tokens[:, :, t] = trace[t, :, :, 0].gather(1, row)
            row = trace[t, :, :, 1].gather(1, row)
        return tokens.flatten(0, 1)

    def hypotheses(self, sentences: Tensor, length: int) -> list[list[Hypothesis]]:
        """The ``nbest`` best of each of the sentences [b] at ``length``, best first; of equal ones the first."""
        width, nbest = self.live.size(1), self.best.size(1)
        log_probs = self.ended[1 : length + 1].index_select(1, sentences)  # [T, b, W]
        scores = log_probs / self.penalties[1 : length + 1].view(-1, 1, 1)  # [T, b, W]
        coverage = None if self.coverage is None else self.coverage[1 : length + 1].index_select(1, sentences)
        scores = (scores if coverage is None else scores + coverage).transpose(0, 1).flatten(1)  # [b, T·W]
        order = scores.sort(descending=True, stable=True).indices[:, :nbest].cpu()  # [b, nbest]
        trace = self.trace[1 : length + 1].index_select(1, sentences).cpu()  # [T, b, W, 3]
        log_probs, scores = log_probs.transpose(0, 1).flatten(1).cpu().gather(1, order), scores.cpu().gather(1, order)
        if coverage is None:
            coverage = torch.zeros_like(scores)
        else:
            coverage = coverage.transpose(0, 1).flatten(1).cpu().gather(1, order)

        # Follow the parents back, all hypotheses at once; NumPy, because PyTorch takes longer to call than to compute.
        steps, best = trace.numpy(), order.numpy()
        ends, column = best // width, best % width  # [b, nbest], a hypothesis that ends at t has t tokens
        sentence = np.arange(len(best))[:, None]  # [b, 1]
        row = steps[ends, sentence, column, 2]
        tokens = np.zeros((*best.shape, length), np.int64)  # [b, nbest, T]
        for t in range(int(ends.max()) - 1, -1, -1):
            chosen = steps[t, sentence, row]  # [b, nbest, 3]
            tokens[:, :, t] = chosen[:, :, 0]
            row = np.where(t < ends, chosen[:, :, 1], row)
        numbers = zip(*(x.tolist() for x in (tokens, ends, log_probs, scores, coverage)), strict=True)
        return [
            [Hypothesis(ids[:end], p, *score) for ids, end, p, *score in zip(*row, strict=True) if p > -torch.inf]
            for row in numbers
        ]


_OF_SENTENCES = ("live", "best", "finished", "over", "max_lengths", "bounds")


@dataclass(frozen=True)
class Advance:
    """One step of a search, a function of tensors alone: no number is read from the device, but for constraints."""

    step: Callable[[Tensor, Any], tuple[Tensor, Any]]
    eos_id: int
    early_stop: bool
    beta: float = 0.0
    constraints: Constraints = NO_CONSTRAINTS

    def __call__(self, beam: Beam, state: StateT) -> tuple[Beam, StateT]:
        width = beam.live.size(1)
        logits, state = self.step(beam.tokens, state)
        coverage = coverage_penalty(state.coverage, self.beta) if isinstance(state, Covered) else None  # [N]
        # The best 2W of the W·V candidates of a sentence are among the best 2W of each prefix.
        count = min(2 * width + beam.banned.numel(), logits.size(1))
        if self.constraints:
            prefixes = beam.prefixes(int(beam.length) - 1)
            found = self.constraints.candidates(logits, count, prefixes, beam.banned, self.eos_id)
            after, rows = plain_select(logits, *found, beam, self.eos_id, self.early_stop, coverage)
        else:
            word, log_probs, norm = candidates(logits, count)  # [N, C]
            after, rows = select(logits, word, log_probs, norm, beam, self.eos_id, self.early_stop, coverage)
        # A greedy row follows itself: nothing to reorder.
        return after, state.select(rows) if width > 1 else state


def select(
    logits: Tensor,
    word: Tensor,
    log_probs: Tensor,
    norm: Tensor,
    beam: Beam,
    eos_id: int,
    early_stop: bool,
    coverage: Tensor | None = None,
) -> tuple[Beam, Tensor]:
    """Choose among the successors of a beam, and record the choice in ``beam.trace`` and ``beam.ended``.

    Args:
        logits: [N, V].
        word: the candidates of each row, [N, C]; see :func:`nmt.search.candidates.candidates`.
        log_probs: their log probabilities, [N, C].
        norm: [N, 1], not finite where a row has no probabilities.
        coverage: [N], coverage penalty of a hypothesis that ends from each row; None without the penalty. The Triton
            kernel knows none.

    Returns:
        The beam after the step, and which row [N] each of its rows continues.
    """
    if coverage is not None:
        return plain_select(logits, word, log_probs, norm, beam, eos_id, early_stop, coverage)
    chosen: tuple[Beam, Tensor] = _select(logits, word, log_probs, norm, beam, eos_id, early_stop)
    return chosen


def plain_select(
    logits: Tensor,
    word: Tensor,
    log_probs: Tensor,
    norm: Tensor,
    beam: Beam,
    eos_id: int,
    early_stop: bool,
    coverage: Tensor | None = None,
) -> tuple[Beam, Tensor]:
    sentences, width = beam.live.shape
    # The successors of each prefix; a prefix at its maximum length has one, eos.
    eos, valid = logits[:, eos_id] - norm[:, 0], norm[:, 0].isfinite()  # [N]
    log_probs = log_probs.masked_fill((word.unsqueeze(-1) == beam.banned).any(-1), -torch.inf)
    word, log_probs = (x.view(sentences, width, -1) for x in (word, log_probs))  # [B, W, C]
    closing = beam.max_lengths < beam.length  # [B]
    closed = closing.unsqueeze(1)
    log_probs = log_probs.masked_fill(closed.unsqueeze(-1), -torch.inf)
    log_probs[:, :, 0] = torch.where(closed, eos.view(sentences, width), log_probs[:, :, 0])
    word = torch.cat([word[:, :, :1].masked_fill(closed.unsqueeze(-1), eos_id), word[:, :, 1:]], dim=2)
    successors = (beam.live.unsqueeze(-1) + log_probs).flatten(1)  # [B, W·C]

    # The best 2W.
    values, index = top_k_by_column(successors, min(2 * width, successors.size(1)))  # [B, 2W]
    values, order = values.sort(descending=True, stable=True)  # best first; of equal ones, by prefix and word
    index = index.gather(1, order)
    parent = index // word.size(2)  # [B, 2W], which of the W prefixes
    token = word.flatten(1).gather(1, index)  # [B, 2W]
    ends = token == eos_id

    # The hypotheses that end.
    accepted = (ends & (values > -torch.inf))[:, :width] & ~beam.over.unsqueeze(1)  # [B, W]
    ended = values[:, :width].masked_fill(~accepted, -torch.inf)
    scores = ended / beam.penalties.index_select(0, beam.length)
    if coverage is not None and beam.coverage is not None:
        penalties = coverage.view(sentences, width).gather(1, parent[:, :width])
        beam.coverage.index_copy_(0, beam.length, penalties.unsqueeze(0))
        scores = scores + penalties
    best = torch.cat([beam.best, scores], dim=1).topk(beam.best.size(1)).values
    finished = beam.finished + accepted.sum(1)

    # A stable sort of "ends" brings the candidates that go on to the front, still best first.
    order = ends.int().sort(stable=True).indices[:, :width]
    live = values.masked_fill(ends, -torch.inf).gather(1, order)  # [B, W]
    origin, token = parent.gather(1, order), token.gather(1, order)
    over = beam.over | closing | (finished >= width)
    if early_stop:
        over = over | (best[:, -1] >= live[:, 0] / beam.bounds)

    record = torch.stack([token, origin, parent[:, :width]], dim=-1).int()  # [B, W, 3]
    beam.trace.index_copy_(0, beam.length, record.unsqueeze(0))
    beam.ended.index_copy_(0, beam.length, ended.unsqueeze(0))
    valid = (valid.view(sentences, width).all(1) | beam.over).all()
    invalid = torch.where(valid | (beam.invalid > 0), beam.invalid, beam.length)
    first = torch.arange(0, sentences * width, width, device=origin.device).unsqueeze(1)  # [B, 1]
    after = replace(
        beam, length=beam.length + 1, tokens=token.flatten(), live=live, best=best, finished=finished, over=over,
        invalid=invalid,
    )  # fmt: skip
    return after, (first + origin).flatten()


_select = Kernel("nmt.search.triton_selection", "select", plain_select)


@dataclass(frozen=True)
class Execution:
    """How a search is executed; the result does not depend on it. By default a sentence is removed once it is over.

    Attributes:
        every: steps between two readings of the device.
        run: takes a step: called with an :class:`Advance`, a beam and a state.
        size: to how many sentences a batch is filled up; sentences leave where that makes it smaller.
        least: a batch of this number of sentences does not become smaller.
        room: of a number of positions, for how many there is room.
        grow: the state with room for a number of positions.
    """

    every: int = 1
    run: Callable[[Advance, Beam, Any], tuple[Beam, Any]] = lambda advance, beam, state: advance(beam, state)
    size: Callable[[int], int] = lambda count: count
    least: int = 0
    room: Callable[[int], int] = lambda length: max(LENGTHS, 1 << (length - 1).bit_length())
    grow: Callable[[Any, int], Any] = lambda state, room: state


def beam_search(
    step: Callable[[Tensor, StateT], tuple[Tensor, StateT]],
    state: StateT,
    max_lengths: Tensor,
    *,
    beam_size: int,
    bos_id: int,
    eos_id: int,
    penalty: LengthPenalty,
    nbest: int = 1,
    forbidden: Sequence[int] = (),
    early_stop: bool = True,
    execution: Execution = Execution(),
    beta: float = 0.0,
    constraints: Constraints = NO_CONSTRAINTS,
) -> list[list[Hypothesis]]:
    """Search as the module describes.

    Args:
        step: from the last tokens [N] and the state to the next logits [N, V] and the new state.
        state: for N = B·W rows, the W rows of a sentence together; B is ``execution.size`` of the number of sentences,
            and what stands after these is not searched.
        max_lengths: of each sentence, the most tokens of a hypothesis, eos not counted; on the device of the state.
        beam_size: W.
        nbest: hypotheses wanted for each sentence, at most 2 ``beam_size`` - 1.
        forbidden: ids that are never produced. The probabilities of the others stay those of the model.
        early_stop: False continues until every sentence is over; slower, with the same result.
        execution: what suits the device.
        beta: of the coverage penalty. If above 0, ``state`` and the states of ``step`` are :class:`Covered`.
        constraints: on the hypotheses. With any, ``execution`` cannot record the steps.

    Returns:
        For each sentence its best hypotheses, best first: ``nbest``, or all if fewer are possible (have a
        probability above 0). Of equal scores the one that finished first comes first; within one step, the
        more probable, then the one of the better prefix.

    Raises:
        TrainingError: a logit is NaN or infinite where no probability can be made of it.
        ValueError: ``nbest`` or ``forbidden`` make no sense.
    """
    if not 1 <= nbest <= 2 * beam_size - 1:
        raise ValueError(f"nbest must be from 1 to {2 * beam_size - 1} with a beam of {beam_size}, found {nbest}")
    if eos_id in forbidden:
        raise ValueError("eos cannot be forbidden: no hypothesis would ever end")
    found: list[list[Hypothesis]] = [[] for _ in range(max_lengths.numel())]
    if not found:
        return found
    advance = Advance(step, eos_id, early_stop, beta, constraints)
    beam = _start(max_lengths, execution.size(len(found)), beam_size, bos_id, penalty, nbest, forbidden)
    if isinstance(state, Covered):
        beam = replace(beam, coverage=beam.ended)
    places, longest = list(range(len(found))), int(max_lengths.max())  # places in ``found``, of the first sentences

    for length in range(1, longest + 2):  # of the candidates of this step, the new token counted
        if length >= len(beam.trace):
            room = execution.room(length)
            beam, state = beam.grown(room + 1, penalty), execution.grow(state, room)
        beam, state = execution.run(advance, beam, state)
        if length % execution.every and length <= longest:
            continue

        # Each number that is read waits for the device: one small tensor says what else has to be read.
        over = beam.over[: len(places)]
        flags = torch.stack([beam.invalid[0], over.sum()])
        invalid, left = flags.tolist()
        if invalid:  # one NaN or +inf of a row makes its sum so
            raise not_a_number(invalid)
        size = execution.size(len(places) - left) if left < len(places) else 0
        if left == 0 or (size and (size >= len(beam.over) or len(beam.over) <= execution.least)):
            continue
        gone = over.nonzero()[:, 0]
        for place, hypotheses in zip(gone.tolist(), beam.hypotheses(gone, length), strict=True):
            found[places[place]] = hypotheses
        if left == len(places):
            break
        staying = (~over).nonzero()[:, 0]
        places = [places[place] for place in staying.tolist()]
        filled = torch.cat([staying, gone[:1].expand(size - len(places))])
        rows = filled.unsqueeze(1) * beam_size + torch.arange(beam_size, device=filled.device)  # [B', W]
        beam, state = beam.select(filled), state.select(rows.flatten())

    return found


def _start(
    max_lengths: Tensor, size: int, width: int, bos_id: int, penalty: LengthPenalty, nbest: int, banned: Sequence[int]
) -> Beam:
    """The beam before the first step; sentences after those of ``max_lengths`` are over."""
    device, count = max_lengths.device, max_lengths.numel()
    max_lengths = F.pad(max_lengths, (0, size - count))
    live = torch.full((size, width), -torch.inf, device=device)
    live[:, 0] = 0.0  # the W rows of a sentence start out equal: only one of them may have successors
    bounds = penalty((max_lengths + 1).cpu().double()).to(device, torch.float32)
    return Beam(
        length=torch.ones(1, dtype=torch.long, device=device),
        tokens=torch.full((size * width,), bos_id, dtype=torch.long, device=device),
        live=live,
        best=torch.full((size, nbest), -torch.inf, device=device),
        finished=torch.zeros(size, dtype=torch.long, device=device),
        over=torch.arange(size, device=device) >= count,
        max_lengths=max_lengths,
        bounds=bounds,
        penalties=bounds[:0],
        banned=torch.tensor(sorted(set(banned)), dtype=torch.long, device=device),
        invalid=torch.zeros(1, dtype=torch.long, device=device),
        trace=torch.zeros(0, size, width, 3, dtype=torch.int32, device=device),
        ended=live.new_zeros(0, size, width),
    )


class BeamSearch:
    """Beam search as a :class:`nmt.search.method.SearchMethod`."""

    def __init__(self, search: SearchConfig):
        self.beam_size, self.beta = search.beam_size, search.coverage_penalty
        self.penalty = LengthPenalty(search.length_penalty, search.alpha_or_default)
        self.constraints = Constraints(search.min_length, search.no_repeat_ngram)

    @property
    def capturable(self) -> bool:
        return not self.beta and not self.constraints

    @property
    def attends(self) -> bool:
        return self.beta > 0.0

    def width(self, nbest: int) -> int:
        return self.beam_size

    def __call__(
        self,
        step: Callable[[Tensor, StateT], tuple[Tensor, StateT]],
        state: StateT,
        task: Task,
        execution: Execution | None = None,
    ) -> list[list[Hypothesis]]:
        return beam_search(
            step,
            state,
            task.max_lengths,
            beam_size=self.beam_size,
            bos_id=task.bos_id,
            eos_id=task.eos_id,
            penalty=self.penalty,
            nbest=task.nbest,
            forbidden=task.forbidden,
            execution=execution or Execution(),
            beta=self.beta,
            constraints=self.constraints,
        )
