"""The Transformer of Vaswani et al. 2017, with the usual options.

Pre- or post-norm (Xiong et al. 2020), ReLU, GELU, Swish or SwiGLU (Shazeer 2020) feed-forward layers, sinusoidal,
learned or rotary positions (Su et al. 2021).

A training may also pack its sentences, one after another instead of padded (:mod:`nmt.data.packing`). Then rows [N, D]
take the place of [B, T, D], and attention alone knows where a sentence ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from nmt.config.model import TransformerConfig
from nmt.models.encoders import build_encoder
from nmt.models.encoders.base import Encoder
from nmt.models.layer_drop import apply_layers
from nmt.models.layers import Dropout, embedding, keep_zero_row, kept, output_layer
from nmt.models.norms import UnitRows, fixed_embedding
from nmt.models.scaled_dot import leave_window_
from nmt.models.seq2seq import Decoded, Keep, Memory, Seq2Seq
from nmt.models.transformer_layers import (
    GROWTH,
    EncoderLayer,
    EncoderLayers,
    FeedForward,
    KeyValue,
    MultiHeadAttention,
    Residual,
    add_packed_positions,
    add_positions,
    added_positions,
    final_norm,
    position_table,
)
from nmt.sentences import Sentences


class DecoderLayer(nn.Module):
    residuals: list[Residual]

    def __init__(self, config: TransformerConfig, d_memory: int):
        super().__init__()
        self.self_attention = MultiHeadAttention(config)
        self.cross_attention = MultiHeadAttention(config, d_memory)
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

    def forward(self, x: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        """Decode x [B, T, D] with causal self-attention; states of the encoder [B, S, D_enc], mask [B, S]."""
        memory = self.cross_attention.project_memory(states)
        return self.feed(self.attend_source(self.attend_self(x), memory, mask))

    def attending(self, x: Tensor, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`forward`, and the logarithms of the weights over the source, [B, H, T, S]."""
        memory = self.cross_attention.project_memory(states)
        x = self.attend_self(x)
        scores = self.cross_attention.cross_scores(self.residuals[1].input(x), memory[0], mask)
        return self.feed(self.attend_source(x, memory, mask)), scores.float().log_softmax(-1)

    def packed(self, x: Tensor, memory: Tensor, sentences: Sentences, src_sentences: Sentences) -> Tensor:
        """x [N, D], each row seeing those before it in its sentence; memory [M, D]."""
        own, cross, _ = self.residuals
        x = own.output(x, self.self_attention.own_packed(own.input(x), sentences, causal=True))
        attended = self.cross_attention.cross_packed(cross.input(x), memory, sentences, src_sentences)
        return self.feed(cross.output(x, attended))

    def step(
        self, x: Tensor, memory: KeyValue, mask: Tensor, cache: KeyValue, position: int, lineage: Tensor | None
    ) -> tuple[Tensor, KeyValue, Tensor]:
        """One search step of the W rows x [B, W, D] of each sentence: W queries on one source and one cache.

        Returns:
            The output of the layer, the cache, and what :meth:`attend_source` was given.
        """
        residual = self.residuals[0]
        out, cache = self.self_attention.self_attention_step(residual.input(x), cache, position, lineage)
        x = residual.output(x, out)
        return self.feed(self.attend_source(x, memory, mask)), cache, x

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
        added: [P, D], positions that are computed and added, for the first P; None: a step computes its own.
    """

    memory: list[KeyValue]
    mask: Tensor
    cache: list[KeyValue]
    position: int
    lineage: Tensor | None
    added: Tensor | None = None

    def select(self, rows: Tensor) -> TransformerState:
        lineage, sentences = self.lineage, rows
        if lineage is not None:
            width = lineage.size(1)
            lineage, sentences = lineage.flatten(0, 1)[rows].unflatten(0, (-1, width)), rows[::width] // width
        if sentences.numel() == self.mask.size(0):  # sentences leave the batch, but are never reordered
            return replace(self, lineage=lineage)
        memory, cache = ([_rows(kv, sentences) for kv in kvs] for kvs in (self.memory, self.cache))
        mask = self.mask.index_select(0, sentences)
        return replace(self, memory=memory, mask=mask, cache=cache, lineage=lineage)


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
    """Without ``model.encoder``, the layers of the encoder belong to the model: ``encoder`` are these layers alone."""

    encoder: Encoder | EncoderLayers
    decoder: list[DecoderLayer]

    def __init__(
        self, config: TransformerConfig, src_vocab_size: int, tgt_vocab_size: int, pad_id: int, bos_id: int = 2
    ):
        super().__init__()
        self.config = config
        self.uniform = config.layer_drop == 0
        d_model, other = config.d_model, config.encoder
        table = fixed_embedding if config.fix_norm else embedding
        self.tgt_embedding = table(tgt_vocab_size, d_model, pad_id)
        self.d_source = d_model if other is None else other.d_model
        tied = config.tie_embeddings == "all"
        self.src_embedding = self.tgt_embedding if tied else table(src_vocab_size, self.d_source, pad_id)
        # Without model.encoder, the parameters keep the names and the order of earlier checkpoints.
        self.src_positions = position_table(config) if other is None else None
        self.tgt_positions = position_table(config)
        self.dropout = Dropout(config.dropout)
        self.encoder = EncoderLayers(config, config.encoder_layers) if other is None else build_encoder(other)
        d_memory = self.encoder.d_out if isinstance(self.encoder, Encoder) else d_model
        decoder = (DecoderLayer(config, d_memory) for _ in range(config.decoder_layers))
        self.decoder = nn.ModuleList(decoder)  # type: ignore[assignment]
        self.encoder_norm = final_norm(config) if other is None else nn.Identity()
        self.decoder_norm = final_norm(config)
        self.output = output_layer(d_model, tgt_vocab_size, config.output_bias)
        if config.tie_embeddings == "none":
            nn.init.normal_(self.output.weight, std=1 / math.sqrt(d_model))
        else:
            self.output.weight = self.tgt_embedding.weight
        if config.fix_norm:
            register_parametrization(self.output, "weight", UnitRows())
        if config.start == "zero":
            keep_zero_row(self.tgt_embedding.weight, bos_id)

    def encode(self, src: Tensor, src_mask: Tensor, keep: Tensor | None = None) -> Memory:
        x = kept(self.src_embedding(src) * math.sqrt(self.d_source), keep)  # [B, S, D_in]
        if isinstance(self.encoder, Encoder):
            memory: Memory = self.encoder(x, src_mask)
            return memory
        x = self.dropout(add_positions(x, self.config.positions, self.src_positions))
        return Memory(self.encoder_norm(self.encoder(x, src_mask)), src_mask)

    def decode(self, memory: Memory, tgt_in: Tensor, keep: Tensor | None = None) -> Tensor:
        return self._decode(memory, tgt_in, keep)

    def _decode(
        self, memory: Memory, tgt_in: Tensor, keep: Tensor | None = None, seen: list[Tensor] | None = None
    ) -> Tensor:
        """See :meth:`decode`; ``seen`` gets what the guided layer attends to, see :meth:`DecoderLayer.attending`."""
        x = self._embed(tgt_in, keep=keep)  # [B, T, D]
        guided = None if self.guided is None or seen is None else self.decoder[self.guided[0]]

        def apply(layer: DecoderLayer, x: Tensor) -> Tensor:
            if seen is not None and layer is guided:
                result, log_attention = layer.attending(x, memory.states, memory.mask)
                seen.append(log_attention)
            else:
                result = layer(x, memory.states, memory.mask)
            return result

        x = apply_layers(self.decoder, x, self.config.layer_drop, self.training, apply, memory.states)
        hidden: Tensor = self.decoder_norm(x)
        return hidden

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | Sentences,
        tgt_in: Tensor,
        sentences: Sentences | None = None,
        *,
        keep: Keep = (None, None),
    ) -> Tensor | Decoded:
        """Hidden states under teacher forcing, [B, T, D], or [N, D] of a packed batch.

        In training, the term for guided alignment also needs ``log_attention`` [B, T, heads, S] of the guided heads.

        Args:
            src, tgt_in: [B, S] and [B, T], or the rows [M] and [N] of a packed batch.
            src_mask: [B, S], or the sentences of ``src``.
            sentences: of ``tgt_in``.
            keep: factors of the embeddings of source and target.
        """
        if sentences is None:
            assert isinstance(src_mask, Tensor)
            memory = self.encode(src, src_mask, keep[0])
            if self.guided is None or not self.training:
                return self.decode(memory, tgt_in, keep[1])
            seen: list[Tensor] = []
            hidden = self._decode(memory, tgt_in, keep[1], seen)
            return Decoded(hidden, {"log_attention": seen[0][:, self.guided[1]].transpose(1, 2)})
        assert isinstance(src_mask, Sentences)
        assert isinstance(self.encoder, EncoderLayers)
        states = self._embed_packed(self.src_embedding, self.src_positions, src, src_mask, keep[0])  # [M, D]
        states = self.encoder_norm(self.encoder.packed(states, src_mask))
        x = self._embed_packed(self.tgt_embedding, self.tgt_positions, tgt_in, sentences, keep[1])  # [N, D]

        def apply(layer: DecoderLayer, x: Tensor) -> Tensor:
            return layer.packed(x, states, sentences, src_mask)

        x = apply_layers(self.decoder, x, self.config.layer_drop, self.training, apply, states)
        normed: Tensor = self.decoder_norm(x)
        return normed

    def init_state(self, memory: Memory, beam_size: int = 1, room: int | None = None) -> AnyState:
        memories = [layer.cross_attention.project_memory(memory.states) for layer in self.decoder]
        if room is not None:
            return _fixed_state(memories, memory.mask, beam_size, room)
        cache = [(keys[:, :, :0], values[:, :, :0]) for keys, values in memories]
        lineage = memory.mask.new_empty(memory.mask.size(0), beam_size, 0, beam_size) if beam_size > 1 else None
        added = self._added(GROWTH) if self.config.positions.startswith("sinusoidal") else None
        return TransformerState(memories, memory.mask, cache, 0, lineage, added)

    def step(self, tokens: Tensor, state: AnyState) -> tuple[Tensor, AnyState]:
        if isinstance(state, FixedTransformerState):
            return self._fixed_step(tokens, state)
        logits, after, _ = self._step(tokens, state)
        return logits, after

    def attending_step(self, tokens: Tensor, state: AnyState) -> tuple[Tensor, AnyState, Tensor]:
        """See :meth:`Seq2Seq.attending_step`: the weights of the last decoder layer, averaged over the heads."""
        assert isinstance(state, TransformerState)
        logits, after, attending = self._step(tokens, state)
        last = self.decoder[-1]
        read = last.residuals[1].input(attending)
        weights = last.cross_attention.cross_weights(read, state.memory[-1][0], state.mask)  # [B, H, W, S]
        return logits, after, weights.mean(1).flatten(0, 1)

    def _step(self, tokens: Tensor, state: TransformerState) -> tuple[Tensor, TransformerState, Tensor]:
        """Logits, the new state, and the input [B, W, D] of the last layer's attention to the source."""
        sentences, position = state.mask.size(0), state.position
        x, added = self._embed_step(tokens.view(sentences, -1), state)  # [B, W, D]
        lineage = visible = None
        if state.lineage is not None:
            width = x.size(1)
            itself = torch.eye(width, dtype=torch.bool, device=x.device).view(1, width, 1, width)
            lineage = torch.cat([state.lineage, itself.expand(sentences, -1, -1, -1)], dim=2)  # [B, W, t, W]
            visible = lineage.flatten(2).unsqueeze(1)  # [B, 1, W, t·W]
        cache, attending = [], x
        for layer, memory, past in zip(self.decoder, state.memory, state.cache, strict=True):
            x, grown, attending = layer.step(x, memory, state.mask, past, position, visible)
            cache.append(grown)
        logits = self.project(self.decoder_norm(x).flatten(0, 1))  # [N, V]
        return logits, replace(state, cache=cache, position=position + 1, lineage=lineage, added=added), attending

    def _embed_step(self, tokens: Tensor, state: TransformerState) -> tuple[Tensor, Tensor | None]:
        """Embeddings [B, W, D] of ``tokens`` [B, W] at the position of the state, and its ``added``, which grows."""
        added, position = state.added, state.position
        if added is None:
            return self._embed(tokens.view(-1, 1), position).view(*tokens.shape, -1), None
        if position >= len(added):
            added = self._added(position + GROWTH)
        return self.tgt_embedding(tokens) * math.sqrt(self.config.d_model) + added[position], added

    def _added(self, count: int) -> Tensor:
        """The first positions, for many steps at once: the sines of one take as long."""
        return added_positions(self.config.positions, 0, count, self.tgt_embedding.weight)

    def _fixed_step(self, tokens: Tensor, state: FixedTransformerState) -> tuple[Tensor, FixedTransformerState]:
        x = self._embed(tokens.unsqueeze(1), state.position)  # [N, 1, D]
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
        x = self._embed(tgt_in)
        maps = []
        for layer in self.decoder:
            x = layer.attend_self(x)
            keys, values = layer.cross_attention.project_memory(memory.states)
            maps.append(layer.cross_attention.cross_weights(layer.residuals[1].input(x), keys, src_mask))
            x = layer.feed(layer.attend_source(x, (keys, values), src_mask))
        return torch.stack(maps)

    def _embed(self, ids: Tensor, start: int | Tensor = 0, keep: Tensor | None = None) -> Tensor:
        """Embeddings [B, T, D] of target ids [B, T] at positions start, start + 1, …; scaled as in section 3.4."""
        x = kept(self.tgt_embedding(ids) * math.sqrt(self.config.d_model), keep)
        embedded: Tensor = self.dropout(add_positions(x, self.config.positions, self.tgt_positions, start))
        return embedded

    def _embed_packed(
        self, table: nn.Module, positions: nn.Module | None, ids: Tensor, sentences: Sentences, keep: Tensor | None
    ) -> Tensor:
        """Embeddings [N, D] of ids [N], each at its position in its sentence."""
        x = kept(table(ids) * math.sqrt(self.config.d_model), keep)
        embedded: Tensor = self.dropout(add_packed_positions(x, self.config.positions, positions, sentences))
        return embedded


def stack_layers(model: nn.Module) -> list[nn.Module]:
    """The layers of all stacks of a model; a training calls their methods, and reads no parameter of them itself."""
    return [module for module in model.modules() if isinstance(module, EncoderLayer | DecoderLayer)]
