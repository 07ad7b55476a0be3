"""Gated convolutions over the source, after Gehring et al. 2017 ("Convolutional Sequence to Sequence Learning").

With e for embeddings plus positions (section 3.1) and z^l for the output of layer l (sections 3.2 and 3.3):

    z^0 = W_in e
    z^l = √½ (GLU(W^l [z^{l-1}_{i-k/2}; …; z^{l-1}_{i+k/2}] + b^l) + z^{l-1})      with GLU([a; b]) = a ⊙ σ(b)
    states = √½ (W_out z^L + e)

In the paper, a decoder attends to the keys W_out z^L, and reads the values W_out z^L + e. A :class:`Memory` has one
tensor for both: its keys include e as well. The factor √½ keeps the variance. The paper also divides the gradient of
the encoder by the number of attention layers, which belongs to its decoder and is left out.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nmt.config.encoders import ConvolutionalEncoderConfig
from nmt.models.encoders.base import Encoder
from nmt.models.layers import Dropout, Linear
from nmt.models.seq2seq import Memory
from nmt.models.transformer_layers import add_positions, position_table

_HALF = math.sqrt(0.5)  # the sum of two independent terms, times √½, has their variance


def _linear(d_in: int, d_out: int, gain: float) -> Linear:
    """A layer with weights from N(0, gain / D_in) and biases of 0 (section 3.5)."""
    layer = Linear(d_in, d_out)
    nn.init.normal_(layer.weight, std=math.sqrt(gain / d_in))
    nn.init.zeros_(layer.bias)
    return layer


class GatedConvolution(nn.Module):
    """One layer: dropout, convolution, gated linear unit (Dauphin et al. 2017) and residual connection.

    The convolution is one matrix product with the windows of ``kernel`` tokens, side by side.
    """

    def __init__(self, d_hidden: int, kernel: int, p: float):
        super().__init__()
        self.kernel = kernel
        self.dropout = Dropout(p)
        # The gate quarters the variance of small inputs; dropout divides it by 1 - p.
        self.window = _linear(kernel * d_hidden, 2 * d_hidden, gain=4 * (1 - p))

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """x [B, S, Hid] to the same shape; ``tokens`` [B, S, 1] is False at padding, which is read as 0."""
        half, length = self.kernel // 2, x.size(1)
        padded = F.pad(self.dropout(x) * tokens, (0, 0, half, half))  # [B, S + k - 1, Hid]
        windows = torch.cat([padded[:, i : i + length] for i in range(self.kernel)], dim=-1)  # [B, S, k·Hid]
        return _HALF * (F.glu(self.window(windows), dim=-1) + x)


class ConvolutionalEncoder(Encoder):
    """Layers of gated convolutions; no summary. A state depends on num_layers · (kernel - 1) / 2 tokens each side."""

    def __init__(self, config: ConvolutionalEncoderConfig):
        super().__init__(config.d_model, config.d_model)
        self.kind = config.positions
        self.positions = position_table(config)
        self.dropout = Dropout(config.dropout)
        self.project_in = _linear(config.d_model, config.d_hidden, gain=1 - config.dropout)
        self.layers = nn.ModuleList(
            GatedConvolution(config.d_hidden, config.kernel, config.dropout) for _ in range(config.num_layers)
        )
        self.project_out = _linear(config.d_hidden, config.d_model, gain=1.0)

    def forward(self, x: Tensor, src_mask: Tensor) -> Memory:
        embedded = self.dropout(add_positions(x, self.kind, self.positions))  # [B, S, D]
        z, tokens = self.project_in(embedded), src_mask.unsqueeze(-1)  # [B, S, Hid], [B, S, 1]
        for layer in self.layers:
            z = layer(z, tokens)
        return Memory(_HALF * (self.project_out(z) + embedded), src_mask)
