"""The Transformer of Vaswani et al. 2017, with today's usual options.

Pre- or post-norm (Xiong et al. 2020), ReLU, GELU or SwiGLU (Shazeer 2020) feed-forward layers, sinusoidal, learned or
rotary positions (Su et al. 2021). Attention runs through PyTorch's fused ``scaled_dot_product_attention``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nmt.config import TransformerConfig
from nmt.models.layers import Dropout, embedding
from nmt.models.seq2seq import Memory, Seq2Seq

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu, "swiglu": F.silu}

KeyValue = tuple[Tensor, Tensor]  # two of [B, H, S, K]


def sinusoidal_positions(start: int, length: int, d_model: int, like: Tensor) -> Tensor:
    """Positions start … start+length-1 as sines and cosines, [length, D] (Vaswani et al. 2017, section 3.5)."""
    position = torch.arange(start, start + length, device=like.device, dtype=torch.float32)
    rate = torch.exp(torch.arange(0, d_model, 2, device=like.device) * (-math.log(10_000.0) / d_model))  # [D/2]
    angle = position[:, None] * rate  # [length, D/2]
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).to(like.dtype)


def rotate(x: Tensor, start: int) -> Tensor:
    """Turn each pair of coordinates of x [B, H, T, K] by an angle that grows with the position (Su et al. 2021)."""
    table = sinusoidal_positions(start, x.size(2), x.size(3), x).unflatten(-1, (-1, 2))  # [T, K/2, 2]
    sin, cos = table.unbind(-1)
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)


class MultiHeadAttention(nn.Module):
    """MultiHead(Q, K, V) of Vaswani et al. 2017, section 3.2.2, with the projections of keys and values fused.

    Self-attention also fuses the queries: one product for all three.
    """

    def __init__(self, config: TransformerConfig, cross: bool):
        super().__init__()
        d_model = config.d_model
        self.heads = config.num_heads
        self.rotary = config.positions == "rotary" and not cross
        self.dropout = config.attention_dropout
        self.query = nn.Linear(d_model, d_model) if cross else None
        self.project_in = nn.Linear(d_model, (2 if cross else 3) * d_model)
        self.project_out = nn.Linear(d_model, d_model)
        # Xavier over each D x D block, not over the fused matrix, whose fan-out would be two or three times as large.
        for block in [*self.project_in.weight.chunk(2 if cross else 3), *([self.query.weight] if self.query else [])]:
            nn.init.xavier_uniform_(block)
        for linear in self.children():
            assert isinstance(linear, nn.Linear)
            nn.init.zeros_(linear.bias)
        nn.init.xavier_uniform_(self.project_out.weight)

    def split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """[B, T, parts·D] to ``parts`` tensors [B, H, T, K]."""
        return x.view(x.size(0), x.size(1), parts, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)

    def read(self, memory: Tensor) -> KeyValue:
        """Keys and values of the encoder states [B, S, D] (cross-attention)."""
        keys, values = self.split(self.project_in(memory), 2)
        return keys, values

    def cross(self, x: Tensor, memory: KeyValue, mask: Tensor) -> Tensor:
        """Queries from x [B, T, D] over the source; mask [B, S]."""
        return self._attend(self.cross_query(x), memory, mask[:, None, None, :], causal=False)

    def cross_query(self, x: Tensor) -> Tensor:
        assert self.query is not None
        return self.split(self.query(x), 1)[0]  # [B, H, T, K]

    def own(self, x: Tensor, mask: Tensor | None = None, past: KeyValue | None = None) -> tuple[Tensor, KeyValue]:
        """Self-attention of x [B, T, D]: over the positions of ``mask`` [B, T], or causal when there is none.

        With ``past`` (keys and values of the positions before x) x is one new position that sees them all.
        """
        query, keys, values = self.split(self.project_in(x), 3)
        start = 0 if past is None else past[0].size(2)
        if self.rotary:
            query, keys = rotate(query, start), rotate(keys, start)
        if past is not None:
            keys, values = torch.cat([past[0], keys], dim=2), torch.cat([past[1], values], dim=2)
        visible = None if mask is None else mask[:, None, None, :]
        out = self._attend(query, (keys, values), visible, causal=mask is None and past is None)
        return out, (keys, values)

    def _attend(self, query: Tensor, memory: KeyValue, mask: Tensor | None, causal: bool) -> Tensor:
        p = self.dropout if self.training else 0.0
        keys, values = memory
        if query.device.type == "cpu" and query.dtype == torch.bfloat16:
            # The backward pass of PyTorch's CPU kernel is 15 times slower in bf16.
            with torch.autocast("cpu", enabled=False):
                out = F.scaled_dot_product_attention(
                    query.float(), keys.float(), values.float(), attn_mask=mask, dropout_p=p, is_causal=causal
                )
        else:
            out = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, dropout_p=p, is_causal=causal)
        merged: Tensor = self.project_out(out.transpose(1, 2).flatten(2))  # [B, T, D]
        return merged


class FeedForward(nn.Module):
    """Position-wise feed-forward layer (Vaswani et al. 2017, section 3.3; SwiGLU: Shazeer 2020, eq. 6)."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.gated = config.activation == "swiglu"
        self.activation = _ACTIVATIONS[config.activation]
        self.inner = nn.Linear(config.d_model, config.d_ff * (2 if self.gated else 1))
        self.dropout = Dropout(config.activation_dropout)
        self.outer = nn.Linear(config.d_ff, config.d_model)
        for block in [*self.inner.weight.chunk(2 if self.gated else 1), self.outer.weight]:
            nn.init.xavier_uniform_(block)
        nn.init.zeros_(self.inner.bias)
        nn.init.zeros_(self.outer.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inner(x)
        if self.gated:
            x, gate = x.chunk(2, dim=-1)
            x = self.activation(x) * gate
        else:
            x = self.activation(x)
        out: Tensor = self.outer(self.dropout(x))
        return out


class Residual(nn.Module):
    """A sublayer's surroundings: pre-norm x + f(norm(x)), post-norm norm(x + f(x)); dropout on f's output."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.norm = nn.LayerNorm(config.d_model)
        self.dropout = Dropout(config.dropout)
        self.pre = config.norm == "pre"

    def input(self, x: Tensor) -> Tensor:
        """What the sublayer reads."""
        return self.norm(x) if self.pre else x

    def output(self, x: Tensor, y: Tensor) -> Tensor:
        """What goes on, from the residual x and the sublayer's output y."""
        x = x + self.dropout(y)
        return x if self.pre else self.norm(x)


class EncoderLayer(nn.Module):
    residuals: list[Residual]

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.self_attention = MultiHeadAttention(config, cross=False)
        self.feed_forward = FeedForward(config)
        self.residuals = nn.ModuleList(Residual(config) for _ in range(2))  # type: ignore[assignment]

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        attend, feed = self.residuals
        x = attend.output(x, self.self_attention.own(attend.input(x), mask)[0])
        return feed.output(x, self.feed_forward(feed.input(x)))


class DecoderLayer(nn.Module):
    residuals: list[Residual]

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.self_attention = MultiHeadAttention(config, cross=False)
        self.cross_attention = MultiHeadAttention(config, cross=True)
        self.feed_forward = FeedForward(config)
        self.residuals = nn.ModuleList(Residual(config) for _ in range(3))  # type: ignore[assignment]

    def attend_self(self, x: Tensor, past: KeyValue | None = None) -> tuple[Tensor, KeyValue]:
        residual = self.residuals[0]
        out, cache = self.self_attention.own(residual.input(x), past=past)
        return residual.output(x, out), cache

    def attend_source(self, x: Tensor, memory: KeyValue, mask: Tensor) -> Tensor:
        """x [B, T, D] over the source. In a search, [N, 1, D]: the W rows of a sentence are W queries on one source."""
        residual = self.residuals[1]
        query = residual.input(x).view(mask.size(0), -1, x.size(-1))  # [B, W, D]
        return residual.output(x, self.cross_attention.cross(query, memory, mask).view_as(x))

    def feed(self, x: Tensor) -> Tensor:
        residual = self.residuals[2]
        return residual.output(x, self.feed_forward(residual.input(x)))

    def forward(
        self, x: Tensor, memory: KeyValue, mask: Tensor, past: KeyValue | None = None
    ) -> tuple[Tensor, KeyValue]:
        x, cache = self.attend_self(x, past)
        return self.feed(self.attend_source(x, memory, mask)), cache


@dataclass(frozen=True)
class TransformerState:
    """Keys and values: of the source, once per sentence [B, H, S, K]; of the target so far [N, H, t, K]."""

    memory: list[KeyValue]
    mask: Tensor  # [B, S]
    cache: list[KeyValue]  # empty before the first step
    beam_size: int

    def select(self, rows: Tensor) -> TransformerState:
        sentences = rows[:: self.beam_size] // self.beam_size
        unchanged = sentences.numel() == self.mask.size(0)  # sentences only ever leave; they do not change places
        return TransformerState(
            self.memory if unchanged else [_rows(kv, sentences) for kv in self.memory],
            self.mask if unchanged else self.mask.index_select(0, sentences),
            [_rows(kv, rows) for kv in self.cache],
            self.beam_size,
        )


def _rows(kv: KeyValue, rows: Tensor) -> KeyValue:
    return kv[0].index_select(0, rows), kv[1].index_select(0, rows)


class Transformer(Seq2Seq[TransformerState]):
    encoder: list[EncoderLayer]
    decoder: list[DecoderLayer]

    def __init__(self, config: TransformerConfig, src_vocab_size: int, tgt_vocab_size: int, pad_id: int):
        super().__init__()
        self.config = config
        d_model = config.d_model
        self.tgt_embedding = embedding(tgt_vocab_size, d_model, pad_id)
        tied = config.tie_embeddings == "all"
        self.src_embedding = self.tgt_embedding if tied else embedding(src_vocab_size, d_model, pad_id)
        learned = config.positions == "learned"
        self.src_positions = nn.Embedding(config.max_positions, d_model) if learned else None
        self.tgt_positions = nn.Embedding(config.max_positions, d_model) if learned else None
        self.dropout = Dropout(config.dropout)
        layers = range(config.encoder_layers), range(config.decoder_layers)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in layers[0])  # type: ignore[assignment]
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in layers[1])  # type: ignore[assignment]
        # Post-norm layers end normalised; a pre-norm stack needs one norm at its end.
        self.encoder_norm = nn.LayerNorm(d_model) if config.norm == "pre" else nn.Identity()
        self.decoder_norm = nn.LayerNorm(d_model) if config.norm == "pre" else nn.Identity()
        self.output = nn.Linear(d_model, tgt_vocab_size, bias=False)
        if config.tie_embeddings == "none":
            nn.init.normal_(self.output.weight, std=1 / math.sqrt(d_model))
        else:
            self.output.weight = self.tgt_embedding.weight

    def encode(self, src: Tensor, src_mask: Tensor) -> Memory:
        x = self._embed(self.src_embedding, self.src_positions, src)  # [B, S, D]
        for layer in self.encoder:
            x = layer(x, src_mask)
        return Memory(self.encoder_norm(x), src_mask)

    def decode(self, memory: Memory, tgt_in: Tensor) -> Tensor:
        x = self._embed(self.tgt_embedding, self.tgt_positions, tgt_in)  # [B, T, D]
        for layer in self.decoder:
            x, _ = layer(x, layer.cross_attention.read(memory.states), memory.mask)
        hidden: Tensor = self.decoder_norm(x)
        return hidden

    def init_state(self, memory: Memory, beam_size: int = 1) -> TransformerState:
        return TransformerState(
            [layer.cross_attention.read(memory.states) for layer in self.decoder], memory.mask, [], beam_size
        )

    def step(self, tokens: Tensor, state: TransformerState) -> tuple[Tensor, TransformerState]:
        start = state.cache[0][0].size(2) if state.cache else 0
        x = self._embed(self.tgt_embedding, self.tgt_positions, tokens.unsqueeze(1), start)  # [N, 1, D]
        cache = []
        for number, layer in enumerate(self.decoder):
            past = state.cache[number] if state.cache else None
            x, grown = layer(x, state.memory[number], state.mask, past)
            cache.append(grown)
        logits = self.project(self.decoder_norm(x).squeeze(1))  # [N, V]
        return logits, TransformerState(state.memory, state.mask, cache, state.beam_size)

    def attention_maps(self, src: Tensor, src_mask: Tensor, tgt_in: Tensor) -> Tensor:
        memory = self.encode(src, src_mask)
        x = self._embed(self.tgt_embedding, self.tgt_positions, tgt_in)
        maps = []
        for layer in self.decoder:
            x, _ = layer.attend_self(x)
            keys, values = layer.cross_attention.read(memory.states)
            query = layer.cross_attention.cross_query(layer.residuals[1].input(x))  # [B, H, T, K]
            scores = query @ keys.transpose(-1, -2) / math.sqrt(keys.size(-1))  # [B, H, T, S]
            maps.append(scores.masked_fill(~src_mask[:, None, None, :], -torch.inf).softmax(-1))
            x = layer.feed(layer.attend_source(x, (keys, values), src_mask))
        return torch.stack(maps)

    def _embed(self, table: nn.Module, positions: nn.Module | None, ids: Tensor, start: int = 0) -> Tensor:
        """Embeddings [B, T, D] of ids [B, T] at positions start, start + 1, …; scaled as in section 3.4."""
        x = table(ids) * math.sqrt(self.config.d_model)
        if positions is not None:
            x = x + positions(torch.arange(start, start + ids.size(1), device=ids.device))
        elif self.config.positions == "sinusoidal":
            x = x + sinusoidal_positions(start, ids.size(1), self.config.d_model, x)
        embedded: Tensor = self.dropout(x)
        return embedded
