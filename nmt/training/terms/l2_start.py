"""L2 towards the weights that a training starts from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nmt.models.seq2seq import Seq2Seq
from nmt.training.terms.base import Found, Term


class L2Start(Term[float]):
    """Weight / 2 times ‖θ - θ₀‖², where θ₀ are the weights when the training starts (L2-SP, Li et al. 2018, eq. 1).

    Miceli Barone et al. 2017 use it to keep a translation model from forgetting its first domain. Frozen parameters do
    not take part. A resumed training starts from the same θ₀: this is built before a checkpoint is restored.
    """

    def __init__(self, config: float, model: Seq2Seq[Any]):
        super().__init__(config, model)
        self.moving = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.start = [parameter.detach().clone() for parameter in self.moving]

    def __call__(self, found: Found) -> tuple[Tensor, Tensor]:
        pairs = zip(self.moving, self.start, strict=True)
        distance = torch.stack([(now.float() - start).square().sum() for now, start in pairs]).sum()
        weights = found.weights
        tokens = len(found.first.hidden) if weights is None else weights.sum()
        added = 0.5 * self.config * distance * tokens  # the update divides by all tokens
        return added, added
