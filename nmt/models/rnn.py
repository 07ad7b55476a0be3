"""Recurrent encoder–decoder with attention, after Bahdanau, Cho and Bengio 2015.

The equations are those of appendix A of the paper, with s for decoder states, h for encoder states, c for contexts:

    c_t = attention(s_{t-1}, h)
    s_t = RNN(s_{t-1}, [E y_{t-1}; c_t])
    logits_t = W_o maxout(U s_t + V E y_{t-1} + C c_t)          (deep output, Goodfellow et al. 2013)

Only the first decoder layer takes part in attention; the layers above it read (s_t, c_t). So, under teacher forcing,
these layers and the deep output process all positions at once, outside the loop over time.

D_ctx is the width of the context: that of the encoder states, or without attention that of the encoder's summary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nmt.config.model import RNNConfig
from nmt.models.attention import SCORES, Source
from nmt.models.encoders import build_encoder
from nmt.models.layers import Dropout, embedding, kept, raise_forget_bias, recurrent
from nmt.models.seq2seq import Memory, Seq2Seq


@dataclass(frozen=True)
class RNNState:
    """``first``: state of the attentional layer [N, Hid] (and the LSTM's cell); ``upper``: of the layers above it."""

    source: Source | None
    summary: Tensor  # [B, D_sum], the source in one vector
    first: tuple[Tensor, ...]
    upper: list[tuple[Tensor, ...]]

    def select(self, rows: Tensor) -> RNNState:
        beam = self.first[0].size(0) // self.summary.size(0)
        sentences = rows[::beam] // beam
        unchanged = sentences.numel() == self.summary.size(0)  # sentences leave the batch, but are never reordered
        return RNNState(
            self.source if unchanged or self.source is None else self.source.select(sentences),
            self.summary if unchanged else self.summary.index_select(0, sentences),
            tuple(t.index_select(0, rows) for t in self.first),
            [tuple(t.index_select(0, rows) for t in layer) for layer in self.upper],
        )

    def grown(self, room: int) -> RNNState:
        return self


class Cell(nn.Module):
    """A recurrent layer with a split input: a part known beforehand, and the context, known only inside the loop.

    The result equals that of ``nn.GRUCell`` / ``nn.LSTMCell`` for the concatenated input. The product with the known
    part is one matrix product for all positions.
    """

    def __init__(self, kind: str, d_known: int, d_context: int, d_hidden: int, forget_bias: float = 0.0):
        super().__init__()
        self.gates = {"gru": 3, "lstm": 4}[kind]
        self.d_hidden = d_hidden
        self.known = nn.Linear(d_known, self.gates * d_hidden)
        self.context = nn.Linear(d_context, self.gates * d_hidden, bias=False)
        self.hidden = nn.Linear(d_hidden, self.gates * d_hidden)
        if kind == "lstm":
            raise_forget_bias(self.known.bias, forget_bias)

    def forward(self, known: Tensor, context: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """``known``: self.known(inputs) [N, gates·Hid]; ``context`` [N, D_ctx]; returns the new state."""
        x = known + self.context(context)
        h = self.hidden(state[0])
        if self.gates == 3:
            rz = torch.sigmoid(x[:, : 2 * self.d_hidden] + h[:, : 2 * self.d_hidden])
            r, z = rz.chunk(2, dim=-1)
            n = torch.tanh(torch.addcmul(x[:, 2 * self.d_hidden :], r, h[:, 2 * self.d_hidden :]))
            return (torch.lerp(n, state[0], z),)
        i, f, g, o = (x + h).chunk(4, dim=-1)
        cell = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(cell), cell


class RNN(Seq2Seq[RNNState]):
    def __init__(self, config: RNNConfig, src_vocab_size: int, tgt_vocab_size: int, pad_id: int):
        super().__init__()
        self.config = config
        d_hidden, source = config.d_hidden, config.source_encoder
        self.tgt_embedding = embedding(tgt_vocab_size, config.d_model, pad_id)
        tied = config.tie_embeddings == "all"
        self.src_embedding = self.tgt_embedding if tied else embedding(src_vocab_size, source.d_model, pad_id)
        # Rows of norm one suit an output layer; a recurrent layer needs inputs of order one.
        self.scale = config.d_model**0.5
        self.dropout = Dropout(config.dropout)
        self.encoder = build_encoder(source)
        states = 2 if config.cell == "lstm" else 1
        self.initial = nn.Linear(self.encoder.d_summary, config.decoder_layers * states * d_hidden)
        score = SCORES.get(config.attention)
        d_memory = self.encoder.d_out
        self.attention = score(d_hidden, d_memory, config.d_attention) if score is not None else None
        d_context = self.encoder.d_summary if self.attention is None else d_memory
        self.first = Cell(config.cell, config.d_model, d_context, d_hidden, config.forget_bias)
        self.upper = nn.ModuleList(
            recurrent(config.cell, d_hidden + d_context, d_hidden, config.forget_bias)
            for _ in range(config.decoder_layers - 1)
        )
        self.readout = nn.Linear(d_hidden + config.d_model + d_context, 2 * config.d_model)
        self.output = nn.Linear(config.d_model, tgt_vocab_size, bias=False)
        if config.tie_embeddings != "none":
            self.output.weight = self.tgt_embedding.weight

    def encode(self, src: Tensor, src_mask: Tensor, keep: Tensor | None = None) -> Memory:
        memory: Memory = self.encoder(kept(self.src_embedding(src) * self.encoder.d_in**0.5, keep), src_mask)
        return memory

    def decode(self, memory: Memory, tgt_in: Tensor, keep: Tensor | None = None) -> Tensor:
        state = self.init_state(memory)
        embedded = self._embed(tgt_in, keep)  # [B, T, D]
        first, outputs, contexts = state.first, [], []
        for known in self.first.known(embedded).unbind(1):
            context, _ = self._attend(first[0], state)
            first = self.first(known, context, first)
            outputs.append(first[0])
            contexts.append(context)
        context = torch.stack(contexts, dim=1)  # [B, T, D_ctx]
        top, _ = self._upper(torch.stack(outputs, dim=1), context, state.upper)
        return self._read_out(top, embedded, context)

    def init_state(self, memory: Memory, beam_size: int = 1, room: int | None = None) -> RNNState:
        summary = memory.vector()
        vectors = torch.tanh(self.initial(summary)).repeat_interleave(beam_size, dim=0)  # [N, ...]
        states = vectors.split(self.config.d_hidden, dim=-1)
        per_layer = 2 if self.config.cell == "lstm" else 1
        layers = [tuple(states[i : i + per_layer]) for i in range(0, len(states), per_layer)]
        source = self.attention.read(memory.states, memory.mask) if self.attention is not None else None
        return RNNState(source, summary, layers[0], layers[1:])

    def step(self, tokens: Tensor, state: RNNState) -> tuple[Tensor, RNNState]:
        logits, after, _ = self._step(tokens, state)
        return logits, after

    def attending_step(self, tokens: Tensor, state: RNNState) -> tuple[Tensor, RNNState, Tensor]:
        if self.attention is None:
            return super().attending_step(tokens, state)
        logits, after, weights = self._step(tokens, state)
        return logits, after, weights.flatten(0, 1)  # [B, W, S] to [N, S]

    def _step(self, tokens: Tensor, state: RNNState) -> tuple[Tensor, RNNState, Tensor]:
        embedded = self._embed(tokens)  # [N, D]
        context, weights = self._attend(state.first[0], state)
        first = self.first(self.first.known(embedded), context, state.first)
        top, upper = self._upper(first[0].unsqueeze(1), context.unsqueeze(1), state.upper)
        hidden = self._read_out(top.squeeze(1), embedded, context)
        return self.project(hidden), RNNState(state.source, state.summary, first, upper), weights

    def attention_maps(self, src: Tensor, src_mask: Tensor, tgt_in: Tensor) -> Tensor | None:
        if self.attention is None:
            return None
        state = self.init_state(self.encode(src, src_mask))
        first, maps = state.first, []
        for known in self.first.known(self._embed(tgt_in)).unbind(1):
            context, weights = self._attend(first[0], state)
            first = self.first(known, context, first)
            maps.append(weights)
        return torch.cat(maps, dim=1)[None, :, None]  # one layer, one head: [1, B, 1, T, S]

    def _embed(self, ids: Tensor, keep: Tensor | None = None) -> Tensor:
        embedded: Tensor = self.dropout(kept(self.tgt_embedding(ids) * self.scale, keep))
        return embedded

    def _attend(self, query: Tensor, state: RNNState) -> tuple[Tensor, Tensor]:
        """Context [N, D_ctx] of queries [N, Hid]; without attention the summary vector for every query."""
        sentences = state.summary.size(0)
        beam = query.size(0) // sentences
        if self.attention is None or state.source is None:
            return state.summary.repeat_interleave(beam, dim=0) if beam > 1 else state.summary, query
        context, weights = self.attention(query.view(sentences, beam, -1), state.source)
        return context.reshape(query.size(0), -1), weights

    def _upper(
        self, x: Tensor, context: Tensor, states: list[tuple[Tensor, ...]]
    ) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        """Apply the layers above the first to x [N, T, Hid] and context [N, T, D_ctx]."""
        after = []
        for number, (layer, state) in enumerate(zip(self.upper, states, strict=True), 2):
            before = tuple(t.unsqueeze(0).contiguous() for t in state)
            y, last = layer(torch.cat([self.dropout(x), context], dim=-1), before if len(before) == 2 else before[0])
            after.append(tuple(t.squeeze(0) for t in (last if isinstance(last, tuple) else (last,))))
            x = x + y if self.config.residual and number >= self.config.residual_from else y
        return x, after

    def _read_out(self, top: Tensor, embedded: Tensor, context: Tensor) -> Tensor:
        """Maxout of width 2 over [s; E y; c], [..., D]."""
        one, other = self.readout(torch.cat([self.dropout(top), embedded, context], dim=-1)).chunk(2, dim=-1)
        hidden: Tensor = self.dropout(torch.maximum(one, other))
        return hidden
