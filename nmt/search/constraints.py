"""Constraints on hypotheses: a minimum length, and no n-gram that occurs twice (Paulus et al. 2018, section 2.5).

A constraint removes candidates. The probabilities of the others stay those of the model. At the longest length the
search closes a prefix with eos whatever its length, and so it does a prefix that no other token may follow. A token
that is the only one with a probability, as in a forced prefix, may always follow.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nmt.search.candidates import top_k_by_column


class Constraints(NamedTuple):
    """
    Attributes:
        min_length: least tokens of a hypothesis, eos not counted.
        no_repeat_ngram: n, if no n tokens may occur twice; 0 if they may.
    """

    min_length: int = 0
    no_repeat_ngram: int = 0

    def __bool__(self) -> bool:
        return any(self)

    def candidates(
        self, logits: Tensor, count: int, prefixes: Tensor, banned: Tensor, eos_id: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The best tokens that may follow, as of :func:`nmt.search.candidates.candidates`.

        Args:
            logits: [N, V].
            count: C.
            prefixes: [N, T].
            banned: ids that are never produced.

        Returns:
            Words [N, C], their log probabilities [N, C], -inf for what may not follow, and logsumexp [N, 1].
        """
        logits = logits.float()
        norm = logits.logsumexp(-1, keepdim=True)
        refused = self._repeating(prefixes, logits.size(1)).index_fill(1, banned, True)  # [N, V]
        refused[:, eos_id] = prefixes.size(1) < self.min_length
        refused[:, eos_id] &= ~refused.all(1)
        possible = (logits > -torch.inf).index_fill(1, banned, False)  # [N, V]
        refused &= ~(possible & (possible.sum(1, keepdim=True) == 1))
        log_probs, word = top_k_by_column((logits - norm).masked_fill(refused, -torch.inf), count)
        return word, log_probs, norm

    def _repeating(self, prefixes: Tensor, vocabulary: int) -> Tensor:
        """True [N, V] at each token that would end an n-gram of its prefix a second time."""
        repeating = torch.zeros(len(prefixes), vocabulary, dtype=torch.bool, device=prefixes.device)
        n, length = self.no_repeat_ngram, prefixes.size(1)
        if not n or length < n:
            return repeating
        grams = prefixes.unfold(1, n, 1)  # [N, T - n + 1, n]
        equal = (grams[:, :, : n - 1] == prefixes[:, None, length - n + 1 :]).all(-1)  # [N, T - n + 1]
        counts = torch.zeros(len(prefixes), vocabulary, dtype=torch.int32, device=prefixes.device)
        return counts.scatter_add_(1, grams[:, :, -1], equal.int()) > 0


NO_CONSTRAINTS = Constraints()
