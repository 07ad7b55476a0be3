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
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from nmt.errors import TrainingError
from nmt.search.scoring import Hypothesis, LengthPenalty

if TYPE_CHECKING:
    from nmt.models.seq2seq import State

StateT = TypeVar("StateT", bound="State")


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
        logits = logits.float()
        norm = logits.logsumexp(-1, keepdim=True)  # [N, 1]
        # The best 2W of the W·V candidates of a sentence are among the best 2W of each prefix.
        words, word = largest(logits, min(2 * width + banned.numel(), logits.size(1)))  # [N, C]
        log_probs = (words - norm).masked_fill(torch.isin(word, banned), -torch.inf)
        closing = max_lengths < length  # [B]
        if length > shortest:  # a prefix at its maximum length has one successor, eos
            closed = closing.repeat_interleave(width)  # [N]
            log_probs.masked_fill_(closed.unsqueeze(1), -torch.inf)
            log_probs[:, 0] = torch.where(closed, logits[:, eos_id] - norm[:, 0], log_probs[:, 0])
            word[:, 0].masked_fill_(closed, eos_id)
        candidates = live.unsqueeze(-1) + log_probs.view(-1, width, log_probs.size(1))  # [B, W, C]

        values, index = largest(candidates.flatten(1), min(2 * width, candidates[0].numel()))  # [B, 2W]
        values, order = values.sort(descending=True, stable=True)  # best first; of equal ones, by prefix and word
        index = index.gather(1, order)
        first_rows = torch.arange(0, tokens.numel(), width, device=device).unsqueeze(1)  # [B, 1]
        candidate_rows = first_rows + index // word.size(1)  # [B, 2W]
        token = word.view(-1, width * word.size(1)).gather(1, index)  # [B, 2W]
        ends = token == eos_id

        accepted = ends & (values > -torch.inf)
        accepted[:, width:] = False
        scores = (values / penalties[length]).masked_fill(~accepted, -torch.inf)
        best = torch.cat([best, scores], dim=1).topk(nbest).values
        finished = finished + accepted.sum(1)

        # A stable sort of "ends" brings the candidates that go on to the front, still best first.
        order = ends.int().sort(stable=True).indices[:, :width]
        live = values.masked_fill(ends, -torch.inf).gather(1, order)  # [B, W]
        rows, token = candidate_rows.gather(1, order), token.gather(1, order)
        over = closing | (finished >= width)
        if early_stop:
            over |= best[:, -1] >= live[:, 0] / penalties[max_lengths + 1]

        # On a GPU, each number that is read waits for the device: one small tensor says what else has to be read.
        flags = torch.stack([norm.isfinite().all(), accepted.any(), over.any(), over.all()])
        finite, any_accepted, left, finished_all = flags.tolist()
        if not finite:  # one NaN or +inf of a row makes its sum so
            raise TrainingError(
                f"the model's output is not a number (token {length} of a search): its "
                "training has diverged, or the precision does not suit it; try float32"
            )
        if any_accepted:
            where, column = accepted.nonzero().unbind(1)
            numbers = torch.stack([values[where, column], scores[where, column]], dim=1)
            ids = torch.cat([sentences[where].unsqueeze(1), prefixes[candidate_rows[where, column]]], dim=1)
            for (sentence, *prefix), (log_prob, score) in zip(ids.tolist(), numbers.tolist(), strict=True):
                found[sentence].append(Hypothesis(prefix, log_prob, score))
        if finished_all:
            break
        if left:
            staying = (~over).nonzero()[:, 0]
            sentences, max_lengths, live = sentences[staying], max_lengths[staying], live[staying]
            best, finished, rows, token = best[staying], finished[staying], rows[staying], token[staying]
        rows, tokens = rows.flatten(), token.flatten()  # [N]
        prefixes = torch.cat([prefixes[rows], tokens.unsqueeze(1)], dim=1)
        if left or width > 1:  # a greedy row follows itself: nothing to reorder
            state = state.select(rows)

    return [sorted(hypotheses, key=lambda h: h.score, reverse=True)[:nbest] for hypotheses in found]


def largest(values: Tensor, k: int, piece: int = 64) -> tuple[Tensor, Tensor]:
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
