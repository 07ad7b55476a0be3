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
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from nmt.errors import TrainingError
from nmt.search.scoring import LengthPenalty

if TYPE_CHECKING:
    from nmt.models.seq2seq import State

StateT = TypeVar("StateT", bound="State")


@dataclass(frozen=True)
class Hypothesis:
    """A finished output.

    Attributes:
        tokens: ids, without bos and eos.
        log_prob: natural logarithm of the model's probability of the tokens and the eos after them.
        score: ``log_prob`` divided by the length penalty of ``len(tokens) + 1``.
    """

    tokens: list[int]
    log_prob: float
    score: float


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
) -> list[list[Hypothesis]]:
    """Search as the module describes.

    Args:
        step: from the last tokens [N] and the state to the next logits [N, V] and the new state.
        state: for N = B·W rows, the W rows of a sentence together.
        max_lengths: [B], the most tokens of a hypothesis, eos not counted; on the device of the state.
        beam_size: W.
        nbest: hypotheses wanted for each sentence, at most ``beam_size``.
        forbidden: ids that are never produced. The probabilities of the others stay those of the model.
        early_stop: False goes on until every sentence is over; slower, with the same result.

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
    device, width = max_lengths.device, beam_size
    shortest, longest = int(max_lengths.min()), int(max_lengths.max())
    penalties = penalty(torch.arange(longest + 2, dtype=torch.float64)).to(device, torch.float32)
    banned = torch.tensor(sorted(set(forbidden)), dtype=torch.long, device=device)

    # What is known of the B sentences still searched; B shrinks as they leave.
    sentences = torch.arange(len(found), device=device)  # [B] their places in the batch
    live = torch.full((len(found), width), -torch.inf, device=device)  # [B, W] log probabilities
    live[:, 0] = 0.0  # the W rows of a sentence start out equal: only one of them may have successors
    best = torch.full((len(found), nbest), -torch.inf, device=device)  # [B, nbest] finished scores
    finished = torch.zeros_like(sentences)  # [B] how many
    tokens = torch.full((len(found) * width,), bos_id, dtype=torch.long, device=device)  # [N]
    prefixes = tokens.new_empty((tokens.numel(), 0))  # [N, length - 1]

    for length in range(1, longest + 2):  # of the candidates of this step, the new token counted
        logits, state = step(tokens, state)
        log_probs = logits.float().log_softmax(-1)  # [N, V]
        vocab = log_probs.size(-1)
        # One NaN or +inf makes a whole row NaN, so one column tells.
        if bool(log_probs[:, eos_id].isnan().any()):
            raise TrainingError(
                f"the model's output is not a number (token {length} of a search): its "
                "training has diverged, or the precision does not suit it; try float32"
            )
        log_probs.index_fill_(1, banned, -torch.inf)
        candidates = live.unsqueeze(-1) + log_probs.view(-1, width, vocab)  # [B, W, V]
        closing = max_lengths < length  # [B]
        if length > shortest:
            goes_on = torch.arange(vocab, device=device) != eos_id  # [V]
            candidates.masked_fill_(closing[:, None, None] & goes_on, -torch.inf)

        values, index = _top(candidates.flatten(1), min(2 * width, width * vocab))  # [B, 2W]
        first_rows = torch.arange(0, tokens.numel(), width, device=device).unsqueeze(1)  # [B, 1]
        rows, token = first_rows + index // vocab, index % vocab  # [B, 2W]
        ends = token == eos_id

        accepted = ends & (values > -torch.inf)
        accepted[:, width:] = False
        scores = (values / penalties[length]).masked_fill(~accepted, -torch.inf)
        best = torch.cat([best, scores], dim=1).topk(nbest).values
        finished = finished + accepted.sum(1)
        where = accepted.nonzero()[:, 0]
        if where.numel():
            columns = (sentences[where], prefixes[rows[accepted]], values[accepted], scores[accepted])
            for sentence, *parts in zip(*(column.tolist() for column in columns), strict=True):
                found[sentence].append(Hypothesis(*parts))

        # A stable sort of "ends" brings the candidates that go on to the front, still best first.
        order = ends.int().sort(stable=True).indices[:, :width]
        live = values.masked_fill(ends, -torch.inf).gather(1, order)  # [B, W]
        rows, token = rows.gather(1, order), token.gather(1, order)
        over = closing | (finished >= width)
        if early_stop:
            over |= best[:, -1] >= live[:, 0] / penalties[max_lengths + 1]
        staying = (~over).nonzero()[:, 0]
        if not staying.numel():
            break
        left = staying.numel() < over.numel()
        if left:
            sentences, max_lengths, live = sentences[staying], max_lengths[staying], live[staying]
            best, finished, rows, token = best[staying], finished[staying], rows[staying], token[staying]
        rows, tokens = rows.flatten(), token.flatten()  # [N]
        prefixes = torch.cat([prefixes[rows], tokens.unsqueeze(1)], dim=1)
        if left or width > 1:  # a greedy row follows itself: nothing to reorder
            state = state.select(rows)

    return [sorted(hypotheses, key=lambda h: h.score, reverse=True)[:nbest] for hypotheses in found]


def _top(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row and their places, best first; equal ones by place (``topk`` has no rule)."""
    index = values.topk(k, sorted=False).indices.sort().values
    values, order = values.gather(1, index).sort(descending=True, stable=True)
    return values, index.gather(1, order)
