"""Weights of self-attention, for every model that has Transformer layers on either side."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nmt.models.seq2seq import Seq2Seq
from nmt.models.transformer import DecoderLayer
from nmt.models.transformer_layers import EncoderLayer

Part = Literal["encoder", "decoder"]


def self_attention_maps(model: Seq2Seq[Any], src: Tensor, src_mask: Tensor, tgt_in: Tensor) -> dict[Part, Tensor]:
    """Weights of self-attention under teacher forcing; nothing for a side without self-attention.

    Returns:
        ``encoder`` [layers, B, H, S, S] and ``decoder`` [layers, B, H, T, T]: the weights with which each position
        (row) attends to each other (column). A row of the decoder ends at its position.
    """
    weights: dict[Part, list[Tensor]] = {"encoder": [], "decoder": []}

    def record(part: Part, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, EncoderLayer | DecoderLayer)
        x = layer.residuals[0].input(inputs[0])
        mask = inputs[1] if part == "encoder" else None
        weights[part].append(layer.self_attention.self_weights(x, mask))

    kinds: dict[type[nn.Module], Part] = {EncoderLayer: "encoder", DecoderLayer: "decoder"}
    hooks = [
        layer.register_forward_pre_hook(partial(record, kinds[type(layer)]))
        for layer in model.modules()
        if type(layer) in kinds
    ]
    try:
        model.decode(model.encode(src, src_mask), tgt_in)
    finally:
        for hook in hooks:
            hook.remove()
    return {part: torch.stack(found) for part, found in weights.items() if found}
