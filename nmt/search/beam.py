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
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nmt.errors import TrainingError
from nmt.search.log_norm import log_norm
from nmt.search.scoring import Hypothesis, LengthPenalty

if TYPE_CHECKING:
    from nmt.models.seq2seq import State

StateT = TypeVar("StateT", bound="State")
LENGTHS = 32  # tokens for which the record of a search has room at first


@dataclass(frozen=True)
class Beam:
    """What is known of the B sentences of a search before a step: tensors, whose shapes a step does not change.

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

    def select(self, sentences: Tensor) -> Beam:
        """The beam of the given sentences [B']."""
        tokens = self.tokens.view(self.live.shape)[sentences].flatten()
        rows = {name: getattr(self, name)[sentences] for name in _OF_SENTENCES}
        trace, ended = self.trace.index_select(1, sentences), self.ended.index_select(1, sentences)
        return replace(self, tokens=tokens, trace=trace, ended=ended, **rows)

    def grown(self, room: int, penalty: LengthPenalty) -> Beam:
        """The same beam with a record of lengths below ``room``."""
        trace, ended = self.trace, self.ended
        trace = torch.cat([trace, trace.new_zeros(room - len(trace), *trace.shape[1:])])
        ended = torch.cat([ended, ended.new_full((room - len(ended), *ended.shape[1:]), -torch.inf)])
        penalties = penalty(torch.arange(room, dtype=torch.float64)).to(ended.device, torch.float32)
        return replace(self, trace=trace, ended=ended, penalties=penalties)

    def hypotheses(self, sentences: Tensor, length: int) -> list[list[Hypothesis]]:
        """The ``nbest`` best of each of the sentences [b] at ``length``, best first; of equal ones the first."""
        width, nbest = self.live.size(1), self.best.size(1)
        log_probs = self.ended[1 : length + 1].index_select(1, sentences)  # [T, b, W]
        scores = (log_probs / self.penalties[1 : length + 1].view(-1, 1, 1)).transpose(0, 1).flatten(1)  # [b, T·W]
        order = scores.sort(descending=True, stable=True).indices[:, :nbest].cpu()  # [b, nbest]
        trace = self.trace[1 : length + 1].index_select(1, sentences).cpu()  # [T, b, W, 3]
        log_probs, scores = log_probs.transpose(0, 1).flatten(1).cpu().gather(1, order), scores.cpu().gather(1, order)

        # Follow the parents back, all hypotheses at once.
        ends, column = order // width, order % width  # [b, nbest], a hypothesis that ends at t has t tokens
        sentence = torch.arange(len(order)).unsqueeze(1)  # [b, 1]
        row = trace[ends, sentence, column, 2].long()
        tokens = order.new_zeros(*order.shape, length)  # [b, nbest, T]
        for t in range(int(ends.max()) - 1, -1, -1):
            chosen = trace[t].gather(1, row.unsqueeze(-1).expand(-1, -1, 3))  # [b, nbest, 3]
            tokens[:, :, t] = chosen[:, :, 0]
            row = torch.where(t < ends, chosen[:, :, 1].long(), row)
        numbers = zip(tokens.tolist(), ends.tolist(), log_probs.tolist(), scores.tolist(), strict=True)
        return [
            [Hypothesis(ids[:end], p, score) for ids, end, p, score in zip(*row, strict=True) if p > -torch.inf]
            for row in numbers
        ]


_OF_SENTENCES = ("live", "best", "finished", "over", "max_lengths", "bounds")


@dataclass(frozen=True)
class Advance:
    """One step of a search, a function of tensors alone: no number is read from the device."""

    step: Callable[[Tensor, Any], tuple[Tensor, Any]]
    eos_id: int
    early_stop: bool

    def __call__(self, beam: Beam, state: StateT) -> tuple[Beam, StateT]:
        sentences, width = beam.live.shape
        logits, state = self.step(beam.tokens, state)
        # The best 2W of the W·V candidates of a sentence are among the best 2W of each prefix.
        _, word = top_k_by_column(logits, min(2 * width + beam.banned.numel(), logits.size(1)))  # [N, C]
        log_probs, eos, valid = _log_probabilities(logits, word, self.eos_id)
        log_probs.masked_fill_((word.unsqueeze(-1) == beam.banned).any(-1), -torch.inf)
        word, log_probs = (x.view(sentences, width, -1) for x in (word, log_probs))  # [B, W, C]
        closing = beam.max_lengths < beam.length  # [B]
        closed = closing.unsqueeze(1)  # a prefix at its maximum length has one successor, eos
        log_probs.masked_fill_(closed.unsqueeze(-1), -torch.inf)
        log_probs[:, :, 0] = torch.where(closed, eos.view(sentences, width), log_probs[:, :, 0])
        word[:, :, 0].masked_fill_(closed, self.eos_id)
        candidates = (beam.live.unsqueeze(-1) + log_probs).flatten(1)  # [B, W·C]

        values, index = top_k_by_column(candidates, min(2 * width, candidates.size(1)))  # [B, 2W]
        values, order = values.sort(descending=True, stable=True)  # best first; of equal ones, by prefix and word
        index = index.gather(1, order)
        parent = index // word.size(2)  # [B, 2W], which of the W prefixes
        token = word.flatten(1).gather(1, index)  # [B, 2W]
        ends = token == self.eos_id

        accepted = (ends & (values > -torch.inf))[:, :width] & ~beam.over.unsqueeze(1)  # [B, W]
        ended = values[:, :width].masked_fill(~accepted, -torch.inf)
        scores = ended / beam.penalties.index_select(0, beam.length)
        best = torch.cat([beam.best, scores], dim=1).topk(beam.best.size(1)).values
        finished = beam.finished + accepted.sum(1)

        # A stable sort of "ends" brings the candidates that go on to the front, still best first.
        order = ends.int().sort(stable=True).indices[:, :width]
        live = values.masked_fill(ends, -torch.inf).gather(1, order)  # [B, W]
        origin, token = parent.gather(1, order), token.gather(1, order)
        over = beam.over | closing | (finished >= width)
        if self.early_stop:
            over = over | (best[:, -1] >= live[:, 0] / beam.bounds)

        record = torch.stack([token, origin, parent[:, :width]], dim=-1).int()  # [B, W, 3]
        beam.trace.index_copy_(0, beam.length, record.unsqueeze(0))
        beam.ended.index_copy_(0, beam.length, ended.unsqueeze(0))
        valid = (valid.view(sentences, width).all(1) | beam.over).all()
        invalid = torch.where(valid | (beam.invalid > 0), beam.invalid, beam.length)
        if width > 1:  # a greedy row follows itself: nothing to reorder
            first = torch.arange(0, sentences * width, width, device=origin.device).unsqueeze(1)  # [B, 1]
            state = state.select((first + origin).flatten())
        return replace(
            beam, length=beam.length + 1, tokens=token.flatten(), live=live, best=best, finished=finished, over=over,
            invalid=invalid,
        ), state  # fmt: skip


@dataclass(frozen=True)
class Execution:
    """How a search is carried out; the result does not depend on it. By default a sentence leaves once it is over.

    Attributes:
        every: steps between two readings of the device.
        run: takes a step: called with an :class:`Advance`, a beam and a state.
        size: to how many sentences a batch is filled up; sentences leave where that makes it smaller.
        least: a batch of so many sentences does not become smaller.
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
) -> list[list[Hypothesis]]:
    """Search as the module describes.

    Args:
        step: from the last tokens [N] and the state to the next logits [N, V] and the new state.
        state: for N = B·W rows, the W rows of a sentence together; B is ``execution.size`` of the number of sentences,
            and what stands after these is not searched.
        max_lengths: of each sentence, the most tokens of a hypothesis, eos not counted; on the device of the state.
        beam_size: W.
        nbest: hypotheses wanted for each sentence, at most ``beam_size``.
        forbidden: ids that are never produced. The probabilities of the others stay those of the model.
        early_stop: False continues until every sentence is over; slower, with the same result.
        execution: what suits the device.

    Returns:
        For each sentence its best hypotheses, best first: ``nbest``, or all if fewer are possible (have a
        probability above 0). Of equal scores the one that finished first comes first; within one step, the
        more probable, then the one of the better prefix.

    Raises:
        TrainingError: a logit is NaN or infinite where no probability can be made of it.
        ValueError: ``nbest`` or ``forbidden`` make no sense.
    """
    if not 1 <= nbest <= beam_size:
        raise ValueError(f"nbest must be from 1 to the beam size {beam_size}, found {nbest}")
    if eos_id in forbidden:
        raise ValueError("eos cannot be forbidden: no hypothesis would ever end")
    found: list[list[Hypothesis]] = [[] for _ in range(max_lengths.numel())]
    if not found:
        return found
    advance = Advance(step, eos_id, early_stop)
    beam = _start(max_lengths, execution.size(len(found)), beam_size, bos_id, penalty, nbest, forbidden)
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
            raise TrainingError(
                f"the model's output is not a number (token {invalid} of a search): its "
                "training has diverged, or the precision does not suit it; try float32"
            )
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


def _log_probabilities(logits: Tensor, columns: Tensor, eos_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """Log probabilities in fp32 of the ``columns`` [N, C] of logits [N, V] and of eos [N], and where they are numbers.

    A row with a NaN or +inf, or of -inf alone, has no probabilities.
    """
    norm = log_norm(logits)  # [N, 1]
    return logits.gather(1, columns) - norm, logits[:, eos_id] - norm[:, 0], norm[:, 0].isfinite()


def top_k_by_column(values: Tensor, k: int, piece: int = 64) -> tuple[Tensor, Tensor]:
    """The ``k`` largest of each row of ``values`` [N, V] and their columns, in the order of the columns.

    A long row is cut into pieces: its k largest are in the k pieces of largest maxima, and finding these takes one fast
    pass. What is left to choose from is short.
    """
    pieces = values.size(1) // piece
    if pieces <= 2 * k:
        columns = values.topk(k, sorted=False).indices
    else:
        body = values[:, : pieces * piece].unflatten(1, (pieces, piece))  # [N, V/64, 64]
        chosen = body.amax(-1).topk(k, sorted=False).indices.unsqueeze(-1)  # [N, k, 1]
        places = (chosen * piece + torch.arange(piece, device=values.device)).flatten(1)  # [N, 64 k]
        rest = torch.arange(pieces * piece, values.size(1), device=values.device).expand(values.size(0), -1)
        places = torch.cat([places, rest], dim=1)
        columns = places.gather(1, values.gather(1, places).topk(k, sorted=False).indices)
    columns = columns.sort().values
    return values.gather(1, columns), columns
