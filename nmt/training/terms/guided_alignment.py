"""Guided alignment: attention learns the word alignments of the training data."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from nmt.config.terms import GuidedAlignmentConfig
from nmt.data.batch import Batch
from nmt.models.rnn import RNN
from nmt.models.seq2seq import Seq2Seq
from nmt.models.transformer import Transformer
from nmt.training.terms.base import Found, Term


class GuidedAlignment(Term[GuidedAlignmentConfig]):
    """Cross entropy between given alignments G and attention A (Chen et al. 2016; Garg et al. 2019, eq. 6).

    This adds -λ Σ_t Σ_s G_ts log A_ts to the loss. A_t are the weights with which the decoder predicts target token t;
    G_t is uniform over the source tokens that t is aligned to. A token without alignment adds nothing. With several
    heads, each learns G, and the mean over the heads counts. The log has the cross entropy in nats per target.
    """

    def __init__(self, config: GuidedAlignmentConfig, model: Seq2Seq[Any]):
        assert isinstance(model, RNN | Transformer)
        super().__init__(config, model)
        usual = model.config.hops if isinstance(model, RNN) else max(1, model.config.decoder_layers - 1)
        model.guided = (config.layer or usual) - 1, [head - 1 for head in config.heads]

    def __call__(self, found: Found) -> tuple[Tensor, Tensor]:
        batch = found.batch
        assert isinstance(batch, Batch)
        assert batch.guide is not None
        guide, log_attention = batch.guide, found.first.extras["log_attention"]  # [M, heads, S]
        weight = guide.weight if batch.weights is None else guide.weight * batch.weights[guide.target]
        chosen = log_attention[guide.target, :, guide.source]  # [K, heads]
        divergence = -(weight * chosen.mean(-1)).sum()
        return self.config.weight * divergence, divergence
