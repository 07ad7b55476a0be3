"""Building a model from its configuration."""

from __future__ import annotations

from typing import Any

from torch import nn

from nmt.config.encoders import PretrainedEncoderConfig
from nmt.config.model import ModelConfig, RNNConfig
from nmt.models.rnn import RNN
from nmt.models.seq2seq import Seq2Seq
from nmt.models.transformer import Transformer


def build_model(
    config: ModelConfig, src_vocab_size: int, tgt_vocab_size: int, pad_id: int, bos_id: int = 2
) -> Seq2Seq[Any]:
    """Build and initialise a model; its weights depend only on PyTorch's global random state.

    Args:
        bos_id: the target id that a decoder begins with.
    """
    model: Seq2Seq[Any] = (
        RNN(config, src_vocab_size, tgt_vocab_size, pad_id)
        if isinstance(config, RNNConfig)
        else Transformer(config, src_vocab_size, tgt_vocab_size, pad_id, bos_id)
    )
    if isinstance(config.encoder, PretrainedEncoderConfig) and config.encoder.freeze:
        model.src_embedding.requires_grad_(False)
    return model


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Count all parameters, and those of embedding tables (a tied matrix counts once)."""
    tables = {id(m.weight): m.weight.numel() for m in model.modules() if isinstance(m, nn.Embedding)}
    return sum(p.numel() for p in model.parameters()), sum(tables.values())
