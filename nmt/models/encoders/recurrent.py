"""Bidirectional recurrent layers, after Bahdanau, Cho and Bengio 2015, appendix A.2.1."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nmt.config.encoders import RecurrentEncoderConfig
from nmt.models.encoders.base import Encoder
from nmt.models.layers import Dropout, recurrent
from nmt.models.seq2seq import Memory


class RecurrentEncoder(Encoder):
    """Bidirectional recurrent layers; the backward direction starts at the last token of each sentence.

    The states have 2·Hid coordinates, as the summary [→h_S; ←h_1] of the last layer.
    """

    def __init__(self, config: RecurrentEncoderConfig):
        super().__init__(config.d_model, 2 * config.d_hidden)
        widths = [config.d_model] + [2 * config.d_hidden] * (config.num_layers - 1)
        self.forwards = nn.ModuleList(recurrent(config.cell, w, config.d_hidden) for w in widths)
        self.backwards = nn.ModuleList(recurrent(config.cell, w, config.d_hidden) for w in widths)
        self.dropout = Dropout(config.dropout)
        self.residual = config.residual

    def forward(self, x: Tensor, src_mask: Tensor) -> Memory:
        x = self.dropout(x)
        lengths = src_mask.sum(1, keepdim=True)  # [B, 1]
        positions = torch.arange(x.size(1), device=x.device)
        # Reverses the tokens of each row but not the padding; this permutation is its own inverse.
        flip = torch.where(src_mask, lengths - 1 - positions, positions).unsqueeze(-1)  # [B, S, 1]
        for layer, (forwards, backwards) in enumerate(zip(self.forwards, self.backwards, strict=True)):
            ahead = forwards(x)[0]
            behind = _gather(backwards(_gather(x, flip))[0], flip)
            y = torch.cat([ahead, behind], dim=-1)  # [B, S, 2·Hid]
            x = x + self.dropout(y) if self.residual and layer > 0 else self.dropout(y)
        last = ahead.gather(1, (lengths - 1).unsqueeze(-1).expand(-1, 1, ahead.size(-1))).squeeze(1)
        return Memory(x, src_mask, torch.cat([last, behind[:, 0]], dim=-1))


def _gather(x: Tensor, index: Tensor) -> Tensor:
    """Reorder the positions of x [B, S, D] by index [B, S, 1]."""
    return x.gather(1, index.expand(-1, -1, x.size(-1)))
