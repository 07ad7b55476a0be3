"""REINFORCE for hard attention."""

from __future__ import annotations

import torch
from torch import Tensor

from nmt.config.model import HardAttentionConfig
from nmt.data.batch import Batch
from nmt.models.rnn import RNN
from nmt.training.terms.base import Found, Term


class Reinforce(Term[HardAttentionConfig]):
    """The gradient of the expected log-likelihood through the positions that hard attention draws.

    With draws a_t of probability α_t(a_t), targets y_t, a baseline b and weights λ, this adds to the loss

        - Σ_t [λ_r A_t log α_t(a_t) + λ_e H(α_t)],     A_t = Σ_{t' ≥ t} (log p(y_t' | y_<t', a_≤t') - b)

    (Williams 1992; Xu et al. 2015, eq. 11 to 13). A_t is a constant for the gradient. Xu et al. multiply each
    log α_t(a_t) by the log-likelihood of the whole sentence. The tokens before t do not depend on a_t, so leaving them
    out changes no expectation and lowers the variance. The tokens after t depend on a_t through the decoder's state:
    the log-likelihood of y_t alone would give another gradient.

    b is a moving average of the mean log-likelihood of a token, see :meth:`observe`. A sentence that used the expected
    context has no draws, only the entropy. The log has the mean entropy in nats.
    """

    observes = True

    def __init__(self, config: HardAttentionConfig, model: RNN):
        super().__init__(config, model)
        assert model.baseline is not None
        self.baseline = model.baseline

    def __call__(self, found: Found) -> tuple[Tensor, Tensor]:
        batch, extras = found.batch, found.first.extras
        assert isinstance(batch, Batch)
        gain = torch.zeros(batch.tgt_in.shape, device=found.log_probs.device)  # [B, T]
        gain.view(-1)[batch.target_positions] = found.log_probs - self.baseline
        advantage = batch.at_targets(gain.flip(1).cumsum(1).flip(1))  # [M]
        chosen = (advantage * extras["log_probs"]).masked_fill(~extras["drawn"], 0.0).sum()
        entropy = extras["entropy"].sum()
        return -self.config.reinforce_weight * chosen - self.config.entropy_weight * entropy, entropy

    def observe(self, log_prob: Tensor) -> None:
        average = torch.lerp(log_prob.to(self.baseline), self.baseline, self.config.baseline_decay)
        self.baseline.copy_(torch.where(average.isfinite(), average, self.baseline))
