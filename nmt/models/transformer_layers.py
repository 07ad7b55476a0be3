"""Layers and positions of the Transformer, for the encoder and the decoder."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nmt.config.encoders import ConvolutionalEncoderConfig, TransformerStack
from nmt.models.layer_drop import apply_layers
from nmt.models.layers import Dropout, Linear, add_norm
from nmt.models.norms import NORMS, QUERY_KEY_NORMS
from nmt.models.packed import packed_cross_attention, packed_self_attention
from nmt.models.scaled_dot import attention, cross_step, own_step, windowed_attention
from nmt.sentences import Sentences

# In-place ReLU: its input is a temporary result of a product, and its gradient needs only the output.
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu_,
    "gelu": F.gelu,
    "swish": F.silu,
    "swiglu": F.silu,
}

KeyValue = tuple[Tensor, Tensor]  # two of [B, H, S, K]
GROWTH = 16  # target positions by which a cache grows


def sinusoidal_positions(start: int | Tensor, length: int, d_model: int, like: Tensor) -> Tensor:
    """Positions start … start+length-1 as sines and cosines, [length, D] (Vaswani et al. 2017, section 3.5)."""
    position = torch.arange(length, device=like.device, dtype=torch.float32) + start
    rate = torch.exp(torch.arange(0, d_model, 2, device=like.device) * (-math.log(10_000.0) / d_model))  # [D/2]
    angle = position[:, None] * rate  # [length, D/2]
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).to(like.dtype)


def added_positions(kind: str, start: int | Tensor, length: int, like: Tensor) -> Tensor:
    """Positions start … start+length-1 that are computed and added, [length, D]; D is the last dimension of ``like``.

    Args:
        kind: ``sinusoidal``; ``sinusoidal_halves``: the same numbers, with all sines before all cosines; or
            ``sinusoidal_marian``: as the latter, but the D/2 rates end at 1/10000 instead of going towards it.
    """
    if kind == "sinusoidal":
        return sinusoidal_positions(start, length, like.size(-1), like)
    half = like.size(-1) // 2
    steps = half if kind == "sinusoidal_halves" else max(1, half - 1)
    position = torch.arange(length, device=like.device, dtype=torch.float32) + start
    rate = torch.exp(torch.arange(half, device=like.device) * (-math.log(10_000.0) / steps))  # [D/2]
    angle = position[:, None] * rate  # [length, D/2]
    return torch.cat([angle.sin(), angle.cos()], dim=-1).to(like.dtype)


def position_table(config: TransformerStack | ConvolutionalEncoderConfig) -> nn.Embedding | None:
    """A table [P, D] of learned positions; None for positions of other kinds."""
    return nn.Embedding(config.max_positions, config.d_model) if config.positions == "learned" else None


def add_positions(x: Tensor, kind: str, table: nn.Module | None, start: int | Tensor = 0) -> Tensor:
    """x [B, T, D] plus the positions start, start + 1, …; rotary ones are not added.

    Args:
        kind: a value of ``positions`` of the configuration.
        table: of :func:`position_table`.
    """
    if table is not None:
        return x + table(torch.arange(x.size(1), device=x.device) + start)
    return x + added_positions(kind, start, x.size(1), x) if kind.startswith("sinusoidal") else x


def add_packed_positions(x: Tensor, kind: str, table: nn.Module | None, sentences: Sentences) -> Tensor:
    """As :func:`add_positions`, for packed rows x [N, D]."""
    if table is not None:
        return x + table(sentences.positions)
    if not kind.startswith("sinusoidal"):
        return x
    return x + added_positions(kind, 0, sentences.longest, x).index_select(0, sentences.positions)


def rotate(x: Tensor, start: int | Tensor, length: int) -> Tensor:
    """Turn each pair of coordinates of x [B, H, T, K] by an angle that grows with the position (Su et al. 2021).

    The T rows are at the positions start … start+length-1; with a length of 1 they are all at the first.
    """
    return _turn(x, sinusoidal_positions(start, length, x.size(-1), x))


def rotate_packed(x: Tensor, sentences: Sentences) -> Tensor:
    """As :func:`rotate`, for packed rows x [N, H, K]."""
    table = sinusoidal_positions(0, sentences.longest, x.size(2), x).index_select(0, sentences.positions)
    return _turn(x, table.unsqueeze(1))  # [N, 1, K]


def _turn(x: Tensor, table: Tensor) -> Tensor:
    """x [..., K], turned by angles of which ``table`` holds the sines and cosines in turn."""
    sin, cos = table.unflatten(-1, (-1, 2)).unbind(-1)  # [..., K/2]
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)


class MultiHeadAttention(nn.Module):
    """MultiHead(Q, K, V) of Vaswani et al. 2017, section 3.2.2, with the projections of keys and values fused.

    Self-attention also fuses the queries: one product for all three.

    Args:
        d_memory: width of the encoder states, for cross-attention; None: self-attention.
    """

    def __init__(self, config: TransformerStack, d_memory: int | None = None):
        super().__init__()
        d_model, cross = config.d_model, d_memory is not None
        self.heads = config.num_heads
        self.rotary = config.positions == "rotary" and not cross
        self.dropout = config.attention_dropout
        self.window = None if cross else config.attention_window
        self.query = Linear(d_model, d_model) if cross else None
        self.project_in = Linear(d_model, 3 * d_model) if d_memory is None else Linear(d_memory, 2 * d_model)
        self.project_out = Linear(d_model, d_model)
        # Initialise each block of D rows separately: the fan-out of the fused matrix is two or three times as large.
        for block in [*self.project_in.weight.chunk(2 if cross else 3), *([self.query.weight] if self.query else [])]:
            nn.init.xavier_uniform_(block)
        for linear in self.children():
            assert isinstance(linear, nn.Linear)
            nn.init.zeros_(linear.bias)
        nn.init.xavier_uniform_(self.project_out.weight)
        norm = QUERY_KEY_NORMS.get(config.qk_norm)
        self.qk_norm = None if norm is None else norm(d_model // config.num_heads)

    def split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """[B, T, parts·D] to ``parts`` tensors [B, H, T, K].

        Unbinding before transposing lets the backward pass stack the gradients in the layout of x, without a copy.
        """
        separate = x.view(x.size(0), x.size(1), parts, self.heads, -1).unbind(2)  # [B, T, H, K]
        return tuple(one.transpose(1, 2) for one in separate)

    def project_memory(self, memory: Tensor) -> KeyValue:
        """Keys and values of the encoder states [B, S, D_enc] (cross-attention)."""
        keys, values = self.split(self.project_in(memory), 2)
        return self._norm_keys(keys), values

    def cross_attention(self, x: Tensor, memory: KeyValue, mask: Tensor) -> Tensor:
        """Queries from x [B, T, D] over the source; mask [B, S]."""
        return self._attend(self.cross_query(x), memory, mask[:, None, None, :], causal=False)

    def cross_query(self, x: Tensor) -> Tensor:
        assert self.query is not None
        return self._norm_queries(self.split(self.query(x), 1)[0])  # [B, H, T, K]

    def cross_weights(self, x: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Weights [B, H, T, S] of queries from x [B, T, D] over the keys [B, H, S, K] of the source; mask [B, S]."""
        return self.cross_scores(x, keys, mask).softmax(-1)

    def cross_scores(self, x: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Scores whose softmax :meth:`cross_weights` returns, -inf at padding."""
        scores = self.cross_query(x) @ keys.transpose(-1, -2) / math.sqrt(keys.size(-1))  # [B, H, T, S]
        return scores.masked_fill(~mask[:, None, None, :], -torch.inf)

    def self_attention(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Self-attention of x [B, T, D]: over the positions of ``mask`` [B, T], or causal when there is none."""
        out: Tensor = self.project_out(self._self_context(*self._self_heads(x), mask))  # [B, T, D]
        return out

    def self_weights(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Weights of :meth:`self_attention`, [B, H, T, T]: the context of values that are the unit vectors."""
        query, keys, values = self._self_heads(x)
        positions = torch.eye(x.size(1), dtype=values.dtype, device=x.device).expand(*values.shape[:2], -1, -1)
        context = self._self_context(query, keys, positions, mask)  # [B, T, H·T]
        return context.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _self_heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of x [B, T, D], each [B, H, T, K]."""
        query, keys, values = self.split(self.project_in(x), 3)
        query, keys = self._norm_queries(query), self._norm_keys(keys)
        if self.rotary:
            query, keys = (rotate(each, 0, x.size(1)) for each in (query, keys))
        return query, keys, values

    def _self_context(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """What each head reads, [B, T, H·K]; see :meth:`self_attention`."""
        dropout = self.dropout if self.training else 0.0
        if self.window is not None:
            return windowed_attention(query, keys, values, mask, self.window, dropout, causal=mask is None)
        visible = None if mask is None else mask[:, None, None, :]
        return attention(query, keys, values, visible, dropout, causal=mask is None)

    def own_packed(self, x: Tensor, sentences: Sentences, causal: bool) -> Tensor:
        """Self-attention of x [N, D] within each sentence."""
        projected = self.project_in(x).unflatten(-1, (3, self.heads, -1))  # [N, 3, H, K]
        if self.rotary or self.qk_norm is not None:
            query, keys, values = projected.unbind(1)
            query, keys = self._norm_queries(query), self._norm_keys(keys)
            if self.rotary:
                query, keys = (rotate_packed(each, sentences) for each in (query, keys))
            projected = torch.stack([query, keys, values], dim=1)
        out: Tensor = self.project_out(packed_self_attention(projected, sentences, causal, self.window).flatten(1))
        return out

    def cross_packed(self, x: Tensor, memory: Tensor, sentences: Sentences, src_sentences: Sentences) -> Tensor:
        """Queries from x [N, D] over the encoder states [M, D_enc] of the same sentences."""
        assert self.query is not None
        query = self._norm_queries(self.query(x).unflatten(-1, (self.heads, -1)))  # [N, H, K]
        projected = self.project_in(memory).unflatten(-1, (2, self.heads, -1))  # [M, 2, H, K]
        if self.qk_norm is not None:
            keys, values = projected.unbind(1)
            projected = torch.stack([self._norm_keys(keys), values], dim=1)
        out: Tensor = self.project_out(packed_cross_attention(query, projected, sentences, src_sentences).flatten(1))
        return out

    def self_attention_step(
        self, x: Tensor, cache: KeyValue, position: int, lineage: Tensor | None
    ) -> tuple[Tensor, KeyValue]:
        """Self-attention of the W rows of a search, x [B, W, D], all at ``position``.

        Cache and lineage are those of :class:`nmt.models.transformer.TransformerState`.
        """
        query, keys, values = self.split(self.project_in(x), 3)  # [B, H, W, K]
        query, keys = self._norm_queries(query), self._norm_keys(keys)
        if self.rotary:
            query, keys = (rotate(each, position, 1) for each in (query, keys))
        width = x.size(1)
        if cache[0].size(2) == position * width:  # full
            room = keys.new_zeros(*keys.shape[:2], GROWTH * width, keys.size(3))
            cache = torch.cat([cache[0], room], dim=2), torch.cat([cache[1], room], dim=2)
        for stored, new in zip(cache, (keys, values), strict=True):
            stored.narrow(2, position * width, width).copy_(new)
        first = 0 if self.window is None else max(0, position + 1 - self.window) * width
        kept = (position + 1) * width - first
        past = cache[0].narrow(2, first, kept), cache[1].narrow(2, first, kept)
        visible = None if lineage is None else lineage[..., first:]
        return self._attend(query, past, visible, causal=False), cache

    def fixed_step(self, x: Tensor, cache: Tensor, position: Tensor, visible: Tensor) -> Tensor:
        """As :meth:`self_attention_step`, on the cache and mask of :class:`FixedTransformerState`; fills the cache."""
        parts = self.project_in(x).view(*x.shape[:2], 3, self.heads, -1)  # [B, W, 3, H, K]
        compared = parts[:, :, :2]
        if self.qk_norm is not None:
            query, keys = compared.unbind(2)
            compared = torch.stack([self._norm_queries(query), self._norm_keys(keys)], dim=2)
        if self.rotary:
            compared = rotate(compared, position, 1)
        if self.rotary or self.qk_norm is not None:
            parts = torch.cat([compared, parts[:, :, 2:]], dim=2)
        out: Tensor = self.project_out(own_step(parts, cache, position, visible))
        return out

    def fixed_cross(self, x: Tensor, memory: KeyValue, mask: Tensor) -> Tensor:
        """As :meth:`cross_attention`, with the mask of :class:`FixedTransformerState`."""
        assert self.query is not None
        query = self.query(x)
        if self.qk_norm is not None:
            query = self._norm_queries(query.unflatten(-1, (self.heads, -1))).flatten(-2)
        out: Tensor = self.project_out(cross_step(query, *memory, mask))
        return out

    def _norm_queries(self, query: Tensor) -> Tensor:
        """Queries [..., K], normalised if ``qk_norm`` says so; in their type, which attention needs."""
        return query if self.qk_norm is None else self.qk_norm.query(query).type_as(query)

    def _norm_keys(self, keys: Tensor) -> Tensor:
        """As :meth:`_norm_queries`."""
        return keys if self.qk_norm is None else self.qk_norm.key(keys).type_as(keys)

    def _attend(self, query: Tensor, memory: KeyValue, mask: Tensor | None, causal: bool) -> Tensor:
        out = attention(query, *memory, mask, self.dropout if self.training else 0.0, causal)
        merged: Tensor = self.project_out(out)  # [B, T, D]
        return merged


class FeedForward(nn.Module):
    """Position-wise feed-forward layer (Vaswani et al. 2017, section 3.3; SwiGLU: Shazeer 2020, eq. 6)."""

    def __init__(self, config: TransformerStack):
        super().__init__()
        self.gated = config.activation == "swiglu"
        self.activation = _ACTIVATIONS[config.activation]
        self.inner = Linear(config.d_model, config.d_ff * (2 if self.gated else 1))
        self.dropout = Dropout(config.activation_dropout)
        self.outer = Linear(config.d_ff, config.d_model)
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
    """Residual connection of a sublayer f: pre-norm x + f(norm(x)), post-norm norm(x + f(x)); dropout on f's output."""

    def __init__(self, config: TransformerStack):
        super().__init__()
        self.norm = NORMS[config.norm_type](config.d_model)
        self.dropout = Dropout(config.dropout)
        self.pre = config.norm == "pre"

    def input(self, x: Tensor) -> Tensor:
        """The input of the sublayer, from the residual x."""
        return self.norm(x) if self.pre else x

    def output(self, x: Tensor, y: Tensor) -> Tensor:
        """The output of the layer, from the residual x and the sublayer's output y."""
        x = x + self.dropout(y)
        return x if self.pre else self.norm(x)

    def output_and_input(self, x: Tensor, y: Tensor, following: nn.Module) -> tuple[Tensor, Tensor]:
        """In evaluation: :meth:`output`, and what the next sublayer, of norm ``following``, reads of it."""
        if self.pre:
            return add_norm(y, x, following)
        x = self.output(x, y)
        return x, x


class EncoderLayer(nn.Module):
    residuals: list[Residual]

    def __init__(self, config: TransformerStack):
        super().__init__()
        self.self_attention = MultiHeadAttention(config)
        self.feed_forward = FeedForward(config)
        self.residuals = nn.ModuleList(Residual(config) for _ in range(2))  # type: ignore[assignment]

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        attend, feed = self.residuals
        x = attend.output(x, self.self_attention.self_attention(attend.input(x), mask))
        return feed.output(x, self.feed_forward(feed.input(x)))

    def packed(self, x: Tensor, sentences: Sentences) -> Tensor:
        """x [N, D]"""
        attend, feed = self.residuals
        x = attend.output(x, self.self_attention.own_packed(attend.input(x), sentences, causal=False))
        return feed.output(x, self.feed_forward(feed.input(x)))


class EncoderLayers(nn.ModuleList):
    """The layers of an encoder, one after another."""

    def __init__(self, config: TransformerStack, num_layers: int):
        super().__init__(EncoderLayer(config) for _ in range(num_layers))
        self.layer_drop = config.layer_drop

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [B, S, D], mask [B, S]"""
        return apply_layers(self, x, self.layer_drop, self.training, lambda layer, x: layer(x, mask))

    def packed(self, x: Tensor, sentences: Sentences) -> Tensor:
        """x [N, D]"""
        return apply_layers(self, x, self.layer_drop, self.training, lambda layer, x: layer.packed(x, sentences))


def final_norm(config: TransformerStack) -> nn.Module:
    """The norm at the end of a pre-norm stack; the output of a post-norm layer is normalised."""
    return NORMS[config.norm_type](config.d_model) if config.norm == "pre" else nn.Identity()
