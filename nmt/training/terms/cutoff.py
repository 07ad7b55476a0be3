"""Cutoff and SimCut: a second pass on inputs of which a part is cut off must predict as the first does."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from nmt.config.terms import CutoffConfig, SimCutConfig
from nmt.training.divergence import jensen_shannon, kl
from nmt.training.terms.base import Found, Term
from nmt.training.terms.inputs import Inputs, Side


class Cutoff(Term[CutoffConfig]):
    """Cutoff (Shen et al. 2020) with one augmented copy.

    With the distributions p of the batch and q of the copy, the loss is CE(p) + α CE(q) + β JS(p, q), where JS is
    ½ KL(p‖m) + ½ KL(q‖m), m = ½ (p + q). The copy has embeddings of both sides set to 0: of tokens, of one span of each
    sentence, or of coordinates in a whole sentence. Embeddings of bos and eos stay, except under ``feature``. The log
    has JS in nats per target.
    """

    def second_inputs(self, inputs: Inputs) -> Inputs:
        return cut(inputs, self.config.kind, self.config.rate, self.widths)

    def __call__(self, found: Found) -> tuple[Tensor, Tensor]:
        assert found.second is not None
        divergence = found.divergence(jensen_shannon)
        added = self.config.beta * divergence
        if self.config.alpha:
            added = added + self.config.alpha * found.second.loss.smoothed
        return added, divergence


class SimCut(Term[SimCutConfig]):
    """SimCut (Gao et al. 2022): token cutoff without a cross entropy of the copy.

    The loss is CE(p) + α KL(p‖q), with a gradient through p and q. The log has KL(p‖q) in nats per target.
    """

    def second_inputs(self, inputs: Inputs) -> Inputs:
        return cut(inputs, "token", self.config.rate, self.widths)

    def __call__(self, found: Found) -> tuple[Tensor, Tensor]:
        divergence = found.divergence(kl)
        return self.config.alpha * divergence, divergence


def cut(inputs: Inputs, kind: str, rate: float, widths: tuple[int, int]) -> Inputs:
    """Inputs whose embeddings are partly set to 0 on both sides.

    Args:
        kind: ``token``, ``span`` or ``feature``, see :class:`Cutoff`.
        rate: probability of a token or coordinate, or share of a sentence that its span covers, rounded up.
        widths: of the embeddings of source and target.
    """
    src, tgt = (_cut(side, kind, rate, width) for side, width in zip((inputs.src, inputs.tgt), widths, strict=True))
    return replace(inputs, src=src, tgt=tgt)


def _cut(side: Side, kind: str, rate: float, width: int) -> Side:
    if kind == "feature":
        keep = torch.rand(len(side.lengths), width, device=side.ids.device) >= rate  # [B, D]
        keep = keep.unsqueeze(1) if side.ids.dim() == 2 else keep.index_select(0, side.sentence)
    elif kind == "span":
        keep = ~(_span(side, rate) & side.words).unsqueeze(-1)
    else:
        keep = ~((torch.rand(side.ids.shape, device=side.ids.device) < rate) & side.words).unsqueeze(-1)
    return replace(side, keep=keep.float())


def _span(side: Side, rate: float) -> Tensor:
    """True at one span of random place in each sentence, [B, S] or [N]."""
    words = side.lengths
    length = torch.ceil(rate * words - 1e-4)  # 0.07 * 100 is a little over 7
    start = torch.floor(torch.rand(len(words), device=words.device) * (words - length + 1))
    start, length = start[side.sentence], length[side.sentence]
    return (side.word_positions >= start) & (side.word_positions < start + length)
