"""Encoders: embedded source sentences to states, for the decoder of any family.

To add one, write its section in ``nmt/config/encoders.py`` and name it in ``EncoderConfig`` there; then write a module
here with a subclass of :class:`~nmt.models.encoders.base.Encoder`, and add both to :data:`ENCODERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nmt.config.encoders import (
    ConvolutionalEncoderConfig,
    EncoderConfig,
    EncoderSection,
    PretrainedEncoderConfig,
    RecurrentEncoderConfig,
    TransformerEncoderConfig,
)
from nmt.models.encoders.base import Encoder
from nmt.models.encoders.convolutional import ConvolutionalEncoder
from nmt.models.encoders.pretrained import PretrainedEncoder
from nmt.models.encoders.recurrent import RecurrentEncoder
from nmt.models.encoders.transformer import TransformerEncoder

ENCODERS: dict[type[EncoderSection], Callable[[Any], Encoder]] = {
    RecurrentEncoderConfig: RecurrentEncoder,
    TransformerEncoderConfig: TransformerEncoder,
    ConvolutionalEncoderConfig: ConvolutionalEncoder,
    PretrainedEncoderConfig: PretrainedEncoder,
}


def build_encoder(config: EncoderConfig) -> Encoder:
    """Build and initialise the encoder of a section."""
    return ENCODERS[type(config)](config)
