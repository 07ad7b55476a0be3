"""Sampling: each token is drawn from the model's probabilities (ancestral sampling).

The probabilities of a step are those of the logits divided by the temperature, over the allowed tokens. ``top_k`` keeps
the k most probable tokens (Fan et al. 2018); ``top_p`` then keeps the fewest most probable tokens that have at least
that share of what is left (Holtzman et al. 2020). At its maximum length a hypothesis is closed with eos.

**One draw depends on nothing but its place.** The Gumbel-max trick (Maddison et al. 2014) takes the token with the
largest log p + g, with independent Gumbel noise g for each token. The noise is a hash of (seed, source, number of the
sample, position, token) and no generator has a state. So the sample of a line is the same in every batch and order, and
the first samples are the same however many are drawn. Rounding, which differs between batches, hardly ever matters: the
largest of the sums stays the same unless two are equal up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nmt.search.method import Task, not_a_number
from nmt.search.scoring import Hypothesis, LengthPenalty

if TYPE_CHECKING:
    from nmt.config.search import SearchConfig
    from nmt.search.beam import Execution


class Sampling:
    """Sampling as a :class:`nmt.search.method.SearchMethod`; the hypotheses are in the order in which they are drawn.

    ``Hypothesis.log_prob`` is that of the model, whatever temperature and filter are.
    """

    capturable = attends = False

    def __init__(self, search: SearchConfig):
        self.temperature, self.top_k, self.top_p = search.temperature, search.top_k, search.top_p
        self.seed = search.seed
        self.penalty = LengthPenalty(search.length_penalty, search.alpha_or_default)

    def width(self, nbest: int) -> int:
        return nbest

    def __call__(
        self,
        step: Callable[[Tensor, Any], tuple[Tensor, Any]],
        state: Any,
        task: Task,
        execution: Execution | None = None,
    ) -> list[list[Hypothesis]]:
        found: list[list[Hypothesis]] = [[] for _ in task.keys]
        if not found:
            return found
        # Start
        device, width = task.max_lengths.device, task.nbest
        limits = task.max_lengths.repeat_interleave(width)  # [N]
        streams = self._streams(torch.tensor(task.keys, device=device), width)  # [N]
        steps = torch.arange(int(task.max_lengths.max()) + 2, device=device) * POSITIONS
        tokens = torch.full_like(limits, task.bos_id)
        log_probs, done = torch.zeros(len(limits), device=device), torch.zeros_like(limits, dtype=torch.bool)
        drawn = torch.empty(len(limits), 0, dtype=torch.long, device=device)  # [N, T], eos after the end
        forbidden = torch.tensor(sorted(set(task.forbidden)), dtype=torch.long, device=device)
        places = list(range(len(found)))

        for length in range(1, len(steps)):  # of the tokens with this step's
            # Draw
            logits, state = step(tokens, state)
            logits = logits.float()
            norm = logits.logsumexp(-1)  # [N]
            invalid = (~norm.isfinite() & ~done).any()
            logits = logits.index_fill(1, forbidden, -torch.inf)
            tokens = self.draw(logits, mixed(streams + steps[length]))
            tokens = tokens.masked_fill(done | (limits < length), task.eos_id)
            chosen = logits.gather(1, tokens.unsqueeze(1)).squeeze(1) - norm
            log_probs = torch.where(done, log_probs, log_probs + chosen)
            drawn = torch.cat([drawn, tokens.unsqueeze(1)], dim=1)
            done = done | (tokens == task.eos_id)
            # Take out the sentences whose samples have all ended
            over = done.view(-1, width).all(1)  # [B]
            if bool(invalid):
                raise not_a_number(length)
            if not bool(over.any()):
                continue
            rows, staying = (_rows(each, width) for each in (over, ~over))
            hypotheses = self._hypotheses(drawn[rows].tolist(), log_probs[rows].tolist(), task.eos_id)
            for i, place in enumerate([place for place, gone in zip(places, over.tolist(), strict=True) if gone]):
                found[place] = [each for each in hypotheses[i * width : (i + 1) * width] if each.log_prob > -torch.inf]
            if not len(staying):
                break
            places = [place for place, gone in zip(places, over.tolist(), strict=True) if not gone]
            state, limits, streams = state.select(staying), limits[staying], streams[staying]
            tokens, log_probs, done, drawn = tokens[staying], log_probs[staying], done[staying], drawn[staying]
        return found

    def _streams(self, keys: Tensor, width: int) -> Tensor:
        """A number for each row [N], of the keys [B] of its sentence and its number in the sentence."""
        seed = torch.tensor(self.seed, device=keys.device) * SEEDS
        return mixed(mixed(keys + seed).unsqueeze(1) + torch.arange(width, device=keys.device) * DRAWS).flatten()

    def draw(self, logits: Tensor, streams: Tensor) -> Tensor:
        """A token [N] for each row of logits [N, V], of noise that the number of the row decides (streams [N])."""
        logits = (logits - logits.amax(1, keepdim=True)) / self.temperature  # at most 0: no overflow
        words = torch.arange(logits.size(1), device=logits.device)  # [V]
        if self.top_k is not None and self.top_k < logits.size(1):
            logits, words = logits.topk(self.top_k, dim=1)  # [N, k], most probable first
        if self.top_p < 1.0:
            if words.dim() == 1:
                logits, words = logits.sort(dim=1, descending=True)
            probabilities = logits.softmax(-1)
            before = probabilities.cumsum(-1) - probabilities  # of the more probable ones
            before[:, 0] = 0.0  # rounding aside: the most probable token always remains
            logits = logits.masked_fill(before >= self.top_p, -torch.inf)
        index = (logits + gumbel(streams.unsqueeze(1), words)).argmax(-1, keepdim=True)  # [N, 1]
        return (index if words.dim() == 1 else words.gather(1, index)).squeeze(1)

    def _hypotheses(self, drawn: list[list[int]], log_probs: list[float], eos_id: int) -> list[Hypothesis]:
        found = []
        for row, log_prob in zip(drawn, log_probs, strict=True):
            tokens = row[: row.index(eos_id)]
            found.append(Hypothesis(tokens, log_prob, log_prob / self.penalty(len(tokens) + 1)))
        return found


def _rows(sentences: Tensor, width: int) -> Tensor:
    """The rows of the sentences [B] that are True."""
    return sentences.repeat_interleave(width).nonzero()[:, 0]


# --------------------------------------------------------------------------------------------------------------- noise

# Odd constants that keep the inputs of the hash apart; int64 arithmetic wraps around.
SEEDS, DRAWS, POSITIONS, WORDS = 0x1F83D9ABFB41BD6B, 0x2545F4914F6CDD1D, 0x5851F42D4C957F2D, 0x369DEA0F31A53F85


def mixed(x: Tensor) -> Tensor:
    """A bijection of int64 that makes near numbers unrelated (splitmix64; Steele, Lea and Flood 2014)."""
    x = (x ^ _shifted(x, 30)) * -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
    x = (x ^ _shifted(x, 27)) * -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Logical shift to the right."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def gumbel(streams: Tensor, words: Tensor) -> Tensor:
    """Standard Gumbel noise in fp32, a function of streams [N, 1] and token ids [V] or [N, V].

    -log(-log u) with u = 1 - v; v keeps 53 bits, so that the right tail, which decides for rare tokens, is not coarse.
    """
    bits = _shifted(mixed(streams + words * WORDS), 11)  # 53 bits
    v = ((bits.float() + 0.5) * 2.0**-53).clamp(max=1 - 2.0**-24)
    return -torch.log(-torch.log1p(-v))
