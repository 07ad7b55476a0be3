"""The Transformer of Vaswani et al. 2017, with the usual options.

Pre- or post-norm (Xiong et al. 2020), ReLU, GELU or SwiGLU (Shazeer 2020) feed-forward layers, sinusoidal, learned or
rotary positions (Su et al. 2021).

A training may also pack its sentences, one after another instead of padded (:mod:`nmt.data.packing`). Then rows [N, D]
take the place of [B, T, D], and attention alone knows where a sentence ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from nmt.config.model import TransformerConfig
from nmt.models.layer_drop import apply_layers
from nmt.models.layers import Dropout, Linear, add_norm, embedding, output_layer
from nmt.models.norms import NORMS, QUERY_KEY_NORMS, UnitRows, fixed_embedding
from nmt.models.packed import packed_cross_attention, packed_self_attention
from nmt.models.scaled_dot import attention, cross_step, leave_window_, own_step, windowed_attention
from nmt.models.seq2seq import Memory, Seq2Seq
from nmt.sentences import Sentences

# In-place ReLU: its input is a temporary result of a product, and its gradient needs only the output.
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu_, "gelu": F.gelu, "swiglu": F.silu}

KeyValue = tuple[Tensor, Tensor]  # two of [B, H, S, K]
GROWTH = 16  # target positions by which a cache grows


def sinusoidal_positions(start: int | Tensor, length: int, d_model: int, like: Tensor) -> Tensor:
    """Positions start … start+length-1 as sines and cosines, [length, D] (Vaswani et al. 2017, section 3.5)."""
    position = torch.arange(length, device=like.device, dtype=torch.float32) + start
    rate = torch.exp(torch.arange(0, d_model, 2, device=like.device) * (-math.log(10_000.0) / d_model))  # [D/2]
    angle = position[:, None] * rate  # [length, D/2]
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).to(like.dtype)


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
    """

    def __init__(self, config: TransformerConfig, cross: bool):
        super().__init__()
        d_model = config.d_model
        self.heads = config.num_heads
        self.rotary = config.positions == "rotary" and not cross
        self.dropout = config.attention_dropout
        self.window = None if cross else config.attention_window
        self.query = Linear(d_model, d_model) if cross else None
        self.project_in = Linear(d_model, (2 if cross else 3) * d_model)
        self.project_out = Linear(d_model, d_model)
        # Initialise each D x D block separately: the fan-out of the fused matrix is two or three times as large.
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
        """Keys and values of the encoder states [B, S, D] (cross-attention)."""
        keys, values = self.split(self.project_in(memory), 2)
        return self._norm_keys(keys), values

    def cross_attention(self, x: Tensor, memory: KeyValue, mask: Tensor) -> Tensor:
        """Queries from x [B, T, D] over the source; mask [B, S]."""
        return self._attend(self.cross_query(x), memory, mask[:, None, None, :], causal=False)

    def cross_query(self, x: Tensor) -> Tensor:
        assert self.query is not None
        return self._norm_queries(self.split(self.query(x), 1)[0])  # [B, H, T, K]

    def self_attention(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Self-attention of x [B, T, D]: over the positions of ``mask`` [B, T], or causal when there is none."""
        query, keys, values = self.split(self.project_in(x), 3)
        query, keys = self._norm_queries(query), self._norm_keys(keys)
        if self.rotary:
            query, keys = (rotate(each, 0, x.size(1)) for each in (query, keys))
        if self.window is not None:
            dropout = self.dropout if self.training else 0.0
            out = windowed_attention(query, keys, values, mask, self.window, dropout, causal=mask is None)
            merged: Tensor = self.project_out(out)
            return merged
        visible = None if mask is None else mask[:, None, None, :]
        return self._attend(query, (keys, values), visible, causal=mask is None)

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
        """Queries from x [N, D] over the encoder states [M, D] of the same sentences."""
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
        """Self-attention of the W rows of a search, x [B, W, D], all at ``position``; see :class:`TransformerState`."""
        query, keys, values = self.split(self.project_in(x), 3)  # [B, H, W, K]
        query, keys = self._norm_queries(query), self._norm_keys(keys)
        if self.rotary:
            query, keys = (rotate(each, position, 1) for each in (query, keys))
        width = x.size(1)
        if cache[0].size(2) == position * width:  # full
            room = keys.new_zeros(*keys.shape[:2], GROWTH * width, keys.size(3))
            cache = torch.cat([cache[0], room], dim=2), torch.cat([cache[1], room], dim=2)
        for stored, new in zip(cache, (keys, values), strict=True):
            stored[:, :, position * width : (position + 1) * width] = new
        first = 0 if self.window is None else max(0, position + 1 - self.window) * width
        past = cache[0][:, :, first : (position + 1) * width], cache[1][:, :, first : (position + 1) * width]
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

    def __init__(self, config: TransformerConfig):
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

    def __init__(self, config: TransformerConfig):
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

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.self_attention = MultiHeadAttention(config, cross=False)
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


class DecoderLayer(nn.Module):
    residuals: list[Residual]

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.self_attention = MultiHeadAttention(config, cross=False)
        self.cross_attention = MultiHeadAttention(config, cross=True)
        self.feed_forward = FeedForward(config)
        self.residuals = nn.ModuleList(Residual(config) for _ in range(3))  # type: ignore[assignment]

    def attend_self(self, x: Tensor) -> Tensor:
        residual = self.residuals[0]
        return residual.output(x, self.self_attention.self_attention(residual.input(x)))

    def attend_source(self, x: Tensor, memory: KeyValue, mask: Tensor) -> Tensor:
        residual = self.residuals[1]
        return residual.output(x, self.cross_attention.cross_attention(residual.input(x), memory, mask))

    def feed(self, x: Tensor) -> Tensor:
        residual = self.residuals[2]
        return residual.output(x, self.feed_forward(residual.input(x)))

    def forward(self, x: Tensor, memory: KeyValue, mask: Tensor) -> Tensor:
        """Decode x [B, T, D] with causal self-attention."""
        return self.feed(self.attend_source(self.attend_self(x), memory, mask))

    def packed(self, x: Tensor, memory: Tensor, sentences: Sentences, src_sentences: Sentences) -> Tensor:
        """x [N, D], each row seeing those before it in its sentence; memory [M, D]."""
        own, cross, _ = self.residuals
        x = own.output(x, self.self_attention.own_packed(own.input(x), sentences, causal=True))
        attended = self.cross_attention.cross_packed(cross.input(x), memory, sentences, src_sentences)
        return self.feed(cross.output(x, attended))

    def step(
        self, x: Tensor, memory: KeyValue, mask: Tensor, cache: KeyValue, position: int, lineage: Tensor | None
    ) -> tuple[Tensor, KeyValue]:
        """One search step of the W rows x [B, W, D] of each sentence: W queries on one source and one cache."""
        residual = self.residuals[0]
        out, cache = self.self_attention.self_attention_step(residual.input(x), cache, position, lineage)
        return self.feed(self.attend_source(residual.output(x, out), memory, mask)), cache

    def fixed_step(
        self,
        x: Tensor,
        read: Tensor,
        memory: KeyValue,
        state: FixedTransformerState,
        cache: Tensor,
        following: nn.Module,
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`step`, on a :class:`FixedTransformerState`.

        Args:
            x, read: the residual, and what the first sublayer reads of it; returned for the next layer.
            following: the norm of the next layer.
        """
        own, cross, feed = self.residuals
        attended = self.self_attention.fixed_step(read, cache, state.position, state.visible)
        x, read = own.output_and_input(x, attended, cross.norm)
        x, read = cross.output_and_input(x, self.cross_attention.fixed_cross(read, memory, state.mask), feed.norm)
        return feed.output_and_input(x, self.feed_forward(read), following)


@dataclass(frozen=True)
class TransformerState:
    """Cached keys and values of the source and of the target so far, once per sentence.

    Beam search reorders hypotheses at every step, but the cache of the target is not reordered. It stores what all W
    rows computed at each position, and a boolean mask (``lineage``) lets each row attend only to its ancestors. So
    reordering copies nothing, and the rows of a sentence share one product with its keys.

    Attributes:
        memory: keys and values of the source in each layer, [B, H, S, K].
        mask: source mask, [B, S].
        cache: keys and values of the target in each layer, [B, H, positions·W, K], with room for later positions. A
            step writes into it, so a state can make only one step.
        position: number of filled positions.
        lineage: [B, W, position, W], True where a row descends from that row of the position; None for W = 1.
    """

    memory: list[KeyValue]
    mask: Tensor
    cache: list[KeyValue]
    position: int
    lineage: Tensor | None

    def select(self, rows: Tensor) -> TransformerState:
        lineage, sentences = self.lineage, rows
        if lineage is not None:
            width = lineage.size(1)
            lineage, sentences = lineage.flatten(0, 1)[rows].unflatten(0, (-1, width)), rows[::width] // width
        if sentences.numel() == self.mask.size(0):  # sentences leave the batch, but are never reordered
            return replace(self, lineage=lineage)
        memory, cache = ([_rows(kv, sentences) for kv in kvs] for kvs in (self.memory, self.cache))
        return TransformerState(memory, self.mask.index_select(0, sentences), cache, self.position, lineage)


@dataclass(frozen=True)
class FixedTransformerState:
    """As :class:`TransformerState`, with tensors whose shapes a step does not change: for steps that are recorded.

    Both masks are added to the scores of attention: 0 where a key is seen, else -inf.

    Attributes:
        memory: of each layer, [B, H, S, K].
        mask: [B, S], of the source.
        cache: of each layer, keys and values [B, room·W, 2, H, K]. A step writes into it: a state that has made a step
            is used up.
        position: [1], how many positions are filled.
        visible: [B, W, room·W], which places of the cache a row descends from. A step writes into it.
    """

    memory: list[KeyValue]
    mask: Tensor
    cache: list[Tensor]
    position: Tensor
    visible: Tensor

    def select(self, rows: Tensor) -> FixedTransformerState:
        width = self.visible.size(1)
        visible = self.visible.flatten(0, 1).index_select(0, rows).unflatten(0, (-1, width))
        if len(visible) == len(self.mask):  # sentences only ever leave; they do not change places
            return replace(self, visible=visible)
        sentences = rows[::width] // width
        return FixedTransformerState(
            [_rows(kv, sentences) for kv in self.memory],
            self.mask.index_select(0, sentences),
            [kv.index_select(0, sentences) for kv in self.cache],
            self.position,
            visible,
        )

    def grown(self, room: int) -> FixedTransformerState:
        more = room * self.visible.size(1) - self.visible.size(2)
        if more == 0:
            return self
        cache = [F.pad(kv, (0, 0, 0, 0, 0, 0, 0, more)) for kv in self.cache]
        return replace(self, cache=cache, visible=F.pad(self.visible, (0, more), value=-torch.inf))


AnyState = TransformerState | FixedTransformerState


def _fixed_state(memory: list[KeyValue], mask: Tensor, width: int, room: int) -> FixedTransformerState:
    """The state before the first step."""
    keys = memory[0][0]  # [B, H, S, K]
    sentences, heads, _, d_key = keys.shape
    added = keys.new_zeros(mask.shape).masked_fill_(~mask, -torch.inf)
    cache = [keys.new_zeros(sentences, room * width, 2, heads, d_key) for _ in memory]
    visible = keys.new_full((sentences, width, room * width), -torch.inf)
    # With the strides that the memory keeps: a kernel is compiled for strides, which a capture does not allow.
    memory = [(keys.contiguous(), values.contiguous()) for keys, values in memory]
    return FixedTransformerState(memory, added, cache, mask.new_zeros(1, dtype=torch.long), visible)


def _rows(kv: KeyValue, rows: Tensor) -> KeyValue:
    return kv[0].index_select(0, rows), kv[1].index_select(0, rows)


class Transformer(Seq2Seq[AnyState]):
    encoder: list[EncoderLayer]
    decoder: list[DecoderLayer]

    def __init__(self, config: TransformerConfig, src_vocab_size: int, tgt_vocab_size: int, pad_id: int):
        super().__init__()
        self.config = config
        self.uniform = config.layer_drop == 0
        d_model = config.d_model
        table = fixed_embedding if config.fix_norm else embedding
        self.tgt_embedding = table(tgt_vocab_size, d_model, pad_id)
        tied = config.tie_embeddings == "all"
        self.src_embedding = self.tgt_embedding if tied else table(src_vocab_size, d_model, pad_id)
        learned = config.positions == "learned"
        self.src_positions = nn.Embedding(config.max_positions, d_model) if learned else None
        self.tgt_positions = nn.Embedding(config.max_positions, d_model) if learned else None
        self.dropout = Dropout(config.dropout)
        layers = range(config.encoder_layers), range(config.decoder_layers)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in layers[0])  # type: ignore[assignment]
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in layers[1])  # type: ignore[assignment]
        # The output of a post-norm layer is normalised; a pre-norm stack needs a norm at its end.
        self.encoder_norm = NORMS[config.norm_type](d_model) if config.norm == "pre" else nn.Identity()
        self.decoder_norm = NORMS[config.norm_type](d_model) if config.norm == "pre" else nn.Identity()
        self.output = output_layer(d_model, tgt_vocab_size, config.output_bias)
        if config.tie_embeddings == "none":
            nn.init.normal_(self.output.weight, std=1 / math.sqrt(d_model))
        else:
            self.output.weight = self.tgt_embedding.weight
        if config.fix_norm:
            register_parametrization(self.output, "weight", UnitRows())

    def encode(self, src: Tensor, src_mask: Tensor) -> Memory:
        x = self._embed(self.src_embedding, self.src_positions, src)  # [B, S, D]
        x = apply_layers(self.encoder, x, self._layer_drop, lambda layer, x: layer(x, src_mask))
        return Memory(self.encoder_norm(x), src_mask)

    def decode(self, memory: Memory, tgt_in: Tensor) -> Tensor:
        x = self._embed(self.tgt_embedding, self.tgt_positions, tgt_in)  # [B, T, D]
        x = apply_layers(
            self.decoder,
            x,
            self._layer_drop,
            lambda layer, x: layer(x, layer.cross_attention.project_memory(memory.states), memory.mask),
        )
        hidden: Tensor = self.decoder_norm(x)
        return hidden

    def forward(
        self, src: Tensor, src_mask: Tensor | Sentences, tgt_in: Tensor, sentences: Sentences | None = None
    ) -> Tensor:
        """Hidden states under teacher forcing, [B, T, D], or [N, D] of a packed batch.

        Args:
            src, tgt_in: [B, S] and [B, T], or the rows [M] and [N] of a packed batch.
            src_mask: [B, S], or the sentences of ``src``.
            sentences: of ``tgt_in``.
        """
        if sentences is None:
            assert isinstance(src_mask, Tensor)
            return super().forward(src, src_mask, tgt_in)
        assert isinstance(src_mask, Sentences)
        memory = self._embed_packed(self.src_embedding, self.src_positions, src, src_mask)  # [M, D]
        memory = apply_layers(self.encoder, memory, self._layer_drop, lambda layer, x: layer.packed(x, src_mask))
        memory = self.encoder_norm(memory)
        x = self._embed_packed(self.tgt_embedding, self.tgt_positions, tgt_in, sentences)  # [N, D]
        x = apply_layers(
            self.decoder, x, self._layer_drop, lambda layer, x: layer.packed(x, memory, sentences, src_mask)
        )
        hidden: Tensor = self.decoder_norm(x)
        return hidden

    def init_state(self, memory: Memory, beam_size: int = 1, room: int | None = None) -> AnyState:
        memories = [layer.cross_attention.project_memory(memory.states) for layer in self.decoder]
        if room is not None:
            return _fixed_state(memories, memory.mask, beam_size, room)
        cache = [(keys[:, :, :0], values[:, :, :0]) for keys, values in memories]
        lineage = memory.mask.new_empty(memory.mask.size(0), beam_size, 0, beam_size) if beam_size > 1 else None
        return TransformerState(memories, memory.mask, cache, 0, lineage)

    def step(self, tokens: Tensor, state: AnyState) -> tuple[Tensor, AnyState]:
        if isinstance(state, FixedTransformerState):
            return self._fixed_step(tokens, state)
        sentences, position = state.mask.size(0), state.position
        x = self._embed(self.tgt_embedding, self.tgt_positions, tokens.unsqueeze(1), position)  # [N, 1, D]
        x = x.view(sentences, -1, x.size(-1))  # [B, W, D]
        lineage = visible = None
        if state.lineage is not None:
            width = x.size(1)
            itself = torch.eye(width, dtype=torch.bool, device=x.device).view(1, width, 1, width)
            lineage = torch.cat([state.lineage, itself.expand(sentences, -1, -1, -1)], dim=2)  # [B, W, t, W]
            visible = lineage.flatten(2).unsqueeze(1)  # [B, 1, W, t·W]
        cache = []
        for layer, memory, past in zip(self.decoder, state.memory, state.cache, strict=True):
            x, grown = layer.step(x, memory, state.mask, past, position, visible)
            cache.append(grown)
        logits = self.project(self.decoder_norm(x).flatten(0, 1))  # [N, V]
        return logits, TransformerState(state.memory, state.mask, cache, position + 1, lineage)

    def _fixed_step(self, tokens: Tensor, state: FixedTransformerState) -> tuple[Tensor, FixedTransformerState]:
        x = self._embed(self.tgt_embedding, self.tgt_positions, tokens.unsqueeze(1), state.position)  # [N, 1, D]
        x = x.view(*state.visible.shape[:2], -1)  # [B, W, D]
        if self.config.attention_window is not None:
            leave_window_(state.visible, state.position, self.config.attention_window)
        read = self.decoder[0].residuals[0].input(x)
        norms = *(layer.residuals[0].norm for layer in self.decoder[1:]), self.decoder_norm
        for layer, memory, cache, norm in zip(self.decoder, state.memory, state.cache, norms, strict=True):
            x, read = layer.fixed_step(x, read, memory, state, cache, norm)
        logits = self.project(read.flatten(0, 1))  # [N, V]
        return logits, replace(state, position=state.position + 1)

    def attention_maps(self, src: Tensor, src_mask: Tensor, tgt_in: Tensor) -> Tensor:
        memory = self.encode(src, src_mask)
        x = self._embed(self.tgt_embedding, self.tgt_positions, tgt_in)
        maps = []
        for layer in self.decoder:
            x = layer.attend_self(x)
            keys, values = layer.cross_attention.project_memory(memory.states)
            query = layer.cross_attention.cross_query(layer.residuals[1].input(x))  # [B, H, T, K]
            scores = query @ keys.transpose(-1, -2) / math.sqrt(keys.size(-1))  # [B, H, T, S]
            maps.append(scores.masked_fill(~src_mask[:, None, None, :], -torch.inf).softmax(-1))
            x = layer.feed(layer.attend_source(x, (keys, values), src_mask))
        return torch.stack(maps)

    @property
    def _layer_drop(self) -> float:
        return self.config.layer_drop if self.training else 0.0

    def _embed(self, table: nn.Module, positions: nn.Module | None, ids: Tensor, start: int | Tensor = 0) -> Tensor:
        """Embeddings [B, T, D] of ids [B, T] at positions start, start + 1, …; scaled as in section 3.4."""
        x = table(ids) * math.sqrt(self.config.d_model)
        if positions is not None:
            x = x + positions(torch.arange(ids.size(1), device=ids.device) + start)
        elif self.config.positions == "sinusoidal":
            x = x + sinusoidal_positions(start, ids.size(1), self.config.d_model, x)
        embedded: Tensor = self.dropout(x)
        return embedded

    def _embed_packed(self, table: nn.Module, positions: nn.Module | None, ids: Tensor, sentences: Sentences) -> Tensor:
        """Embeddings [N, D] of ids [N], each at its position in its sentence."""
        x = table(ids) * math.sqrt(self.config.d_model)
        if positions is not None:
            x = x + positions(sentences.positions)
        elif self.config.positions == "sinusoidal":
            places = sinusoidal_positions(0, sentences.longest, self.config.d_model, x)
            x = x + places.index_select(0, sentences.positions)
        embedded: Tensor = self.dropout(x)
        return embedded
