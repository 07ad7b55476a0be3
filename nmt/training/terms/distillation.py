"""Word-level distillation."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from nmt.config.terms import DistillationConfig
from nmt.training.divergence import summed_over_vocabulary, top_k_kl
from nmt.training.terms.base import Found, Term


class Distillation(Term[DistillationConfig]):
    """Word-level distillation (Kim and Rush 2016, section 3.1) of a teacher's most probable tokens.

    With the teacher's distribution p and the student's q, both at temperature T, the loss is (1 - α) CE + α T² KL(p‖q)
    (Hinton et al. 2015, section 2). CE is the reported cross entropy, smoothing and z-loss included. Its gradient is
    that of α T² times the cross entropy of q against p. The log has KL(p‖q) in nats per target.
    """

    def __call__(self, found: Found) -> tuple[Tensor, Tensor]:
        assert found.batch.teacher is not None
        ids, log_probs = found.batch.teacher
        function = partial(top_k_kl, temperature=self.config.temperature, tail=self.config.tail)
        beside = ids.long(), log_probs
        divergence = summed_over_vocabulary(function, [found.first.hidden], found.output, found.weights, beside)
        scaled = self.config.temperature**2 * divergence
        return self.config.alpha * (scaled - found.first.loss.smoothed), divergence
