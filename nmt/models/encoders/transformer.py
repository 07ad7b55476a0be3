"""The encoder of the Transformer (Vaswani et al. 2017, section 3.1) as a separate module."""

from __future__ import annotations

from torch import Tensor

from nmt.config.encoders import TransformerEncoderConfig
from nmt.models.encoders.base import Encoder
from nmt.models.layers import Dropout
from nmt.models.seq2seq import Memory
from nmt.models.transformer_layers import EncoderLayers, add_positions, final_norm, position_table


class TransformerEncoder(Encoder):
    """Self-attentional layers; no summary.

    A Transformer without ``model.encoder`` has the same layers under other names: those of its earlier checkpoints.
    """

    def __init__(self, config: TransformerEncoderConfig):
        super().__init__(config.d_model, config.d_model)
        self.kind = config.positions
        self.positions = position_table(config)
        self.dropout = Dropout(config.dropout)
        self.layers = EncoderLayers(config, config.num_layers)
        self.norm = final_norm(config)

    def forward(self, x: Tensor, src_mask: Tensor) -> Memory:
        x = self.dropout(add_positions(x, self.kind, self.positions))
        return Memory(self.norm(self.layers(x, src_mask)), src_mask)
