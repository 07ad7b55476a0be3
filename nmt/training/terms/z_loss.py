"""Z-loss."""

from __future__ import annotations

from torch import Tensor

from nmt.training.terms.base import Found, Term


class ZLoss(Term[float]):
    """Coefficient times log² Z of each target, where Z = Σ exp(logits) (Chowdhery et al. 2022, section 5).

    Logits stay near 0 so that half precision represents them well. :mod:`nmt.training.loss` computes the term with the
    cross entropy of each pass, from the same logits; here only log² Z of the first pass is logged.
    """

    def __call__(self, found: Found) -> tuple[Tensor, Tensor]:
        squared = found.first.loss.squared_log_norm
        assert squared is not None
        return squared.new_zeros(()), squared
