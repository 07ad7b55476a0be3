"""Recurrent layers: all bidirectional (Bahdanau et al. 2015, appendix A.2.1), or the first alone (Wu et al. 2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nmt.config.encoders import RecurrentEncoderConfig
from nmt.models.encoders.base import Encoder
from nmt.models.layers import Dropout, recurrent
from nmt.models.seq2seq import Memory


class RecurrentEncoder(Encoder):
    """Recurrent layers; the backward direction starts at the last token of each sentence.

    The summary is [→h_S; ←h_1] of the last layer, or its →h_S where that layer has one direction. So states and summary
    have 2·Hid or Hid coordinates. With ``residual``, x^l = x^{l-1} + h^l where both have one width (Wu et al. 2016,
    eq. 6).
    """

    def __init__(self, config: RecurrentEncoderConfig):
        both = config.num_layers if config.bidirectional == "all" else 1
        widths = [config.d_model] + [(2 if layer < both else 1) * config.d_hidden for layer in range(config.num_layers)]
        super().__init__(config.d_model, widths[-1])
        cell, d_hidden, bias = config.cell, config.d_hidden, config.forget_bias
        self.forwards = nn.ModuleList(recurrent(cell, width, d_hidden, bias) for width in widths[:-1])
        self.backwards = nn.ModuleList(recurrent(cell, width, d_hidden, bias) for width in widths[:both])
        self.dropout = Dropout(config.dropout)
        self.residual_from = config.residual_from if config.residual else config.num_layers + 1

    def forward(self, x: Tensor, src_mask: Tensor) -> Memory:
        x = self.dropout(x)
        lengths = src_mask.sum(1, keepdim=True)  # [B, 1]
        positions = torch.arange(x.size(1), device=x.device)
        # Reverses the tokens of each row but not the padding; this permutation is its own inverse.
        flip = torch.where(src_mask, lengths - 1 - positions, positions).unsqueeze(-1)  # [B, S, 1]
        for layer, forwards in enumerate(self.forwards):
            y = ahead = forwards(x)[0]
            if two := layer < len(self.backwards):
                behind = _gather(self.backwards[layer](_gather(x, flip))[0], flip)
                y = torch.cat([ahead, behind], dim=-1)  # [B, S, 2·Hid]
            y = self.dropout(y)
            x = x + y if layer + 1 >= self.residual_from and x.size(-1) == y.size(-1) else y
        last = ahead.gather(1, (lengths - 1).unsqueeze(-1).expand(-1, 1, ahead.size(-1))).squeeze(1)
        return Memory(x, src_mask, torch.cat([last, behind[:, 0]], dim=-1) if two else last)


def _gather(x: Tensor, index: Tensor) -> Tensor:
    """Reorder the positions of x [B, S, D] by index [B, S, 1]."""
    return x.gather(1, index.expand(-1, -1, x.size(-1)))
