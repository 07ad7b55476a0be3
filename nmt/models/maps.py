"""Attention inside a model: self-attention weights, and norms of the vectors that cross-attention adds."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nmt.models.rnn import RNN
from nmt.models.seq2seq import Seq2Seq
from nmt.models.transformer import DecoderLayer, Transformer
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


def value_norms(model: Seq2Seq[Any], src: Tensor, src_mask: Tensor) -> Tensor | None:
    """Norms of what attention adds to the decoder for a source token of weight 1 (Kobayashi et al. 2020, eq. 4).

    Of a Transformer's head, the value vector times the head's part of the output layer. A recurrent decoder reads the
    encoder states themselves.

    Returns:
        [layers, B, H, S] as the maps of :meth:`nmt.models.seq2seq.Seq2Seq.attention_maps`; None without attention.
    """
    states = model.encode(src, src_mask).states
    if isinstance(model, Transformer):
        norms = []
        for layer in model.decoder:
            attention = layer.cross_attention
            _, values = attention.project_memory(states)  # [B, H, S, K]
            outputs = attention.project_out.weight.unflatten(1, (attention.heads, -1))  # [D, H, K]
            norms.append(torch.einsum("bhsk,dhk->bhsd", values, outputs).norm(dim=-1))
        return torch.stack(norms)
    if isinstance(model, RNN) and model.attention is not None:
        return states.norm(dim=-1)[None, :, None].expand(model.config.hops, -1, -1, -1)
    return None
