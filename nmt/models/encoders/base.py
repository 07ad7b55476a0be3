"""The interface of an encoder."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from nmt.models.seq2seq import Memory


class Encoder(nn.Module, ABC):
    """Embedded source sentences to encoder states; a decoder knows its encoder by this interface alone.

    Attributes:
        d_in: width of the source embeddings.
        d_out: width of the states.
        d_summary: width of the summary, or of the mean of the states where the encoder has no summary.
        lr_factor: factor of the learning rate for its parameters and the source embedding.
    """

    lr_factor = 1.0

    def __init__(self, d_in: int, d_out: int, d_summary: int | None = None):
        super().__init__()
        self.d_in, self.d_out = d_in, d_out
        self.d_summary = d_out if d_summary is None else d_summary

    @abstractmethod
    def forward(self, x: Tensor, src_mask: Tensor) -> Memory:
        """Encode the source; padding changes no state of a token.

        Args:
            x: embeddings [B, S, D_in], multiplied by √D_in. Positions and dropout are the encoder's.
            src_mask: [B, S], True at tokens, False at padding.

        Returns:
            States [B, S, D_out], the mask, and the summary [B, D_summary] of an encoder that has one.
        """
