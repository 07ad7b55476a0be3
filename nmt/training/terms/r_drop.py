"""R-Drop."""

from __future__ import annotations

from torch import Tensor

from nmt.config.terms import RDropConfig
from nmt.training.divergence import symmetric_kl
from nmt.training.terms.base import Found, Term
from nmt.training.terms.inputs import Inputs


class RDrop(Term[RDropConfig]):
    """Regularized dropout (Liang et al. 2021, section 2): two passes, whose dropout differs, must predict alike.

    With the distributions p and q of both passes, the loss is NLL(p) + NLL(q) + α · ½ (KL(p‖q) + KL(q‖p)). NLL is the
    label-smoothed cross entropy. The reported loss is that of the first pass alone. The log has the symmetric
    divergence ½ (KL(p‖q) + KL(q‖p)) in nats per target.
    """

    def second_inputs(self, inputs: Inputs) -> Inputs:
        return inputs

    def __call__(self, found: Found) -> tuple[Tensor, Tensor]:
        assert found.second is not None
        divergence = found.divergence(symmetric_kl)
        return found.second.loss.smoothed + self.config.alpha * divergence, divergence
