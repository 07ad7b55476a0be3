"""Recurrent encoder–decoder with attention, after Bahdanau, Cho and Bengio 2015.

The equations are those of appendix A of the paper, with s for decoder states, h for encoder states, c for contexts:

    c_t = attention(s_{t-1}, h)
    s_t = RNN(s_{t-1}, [E y_{t-1}; c_t])
    d_t = maxout(U s_t + V E y_{t-1} + C c_t)                   (deep output, Goodfellow et al. 2013)
    logits_t = W_o d_t

Only the first decoder layer takes part in attention; the layers above it read (s_t, c_t). So, under teacher forcing,
these layers and the deep output process all positions at once, outside the loop over time.

With ``hops: n``, c_t = c_t^n of n attentions with q^1 = s_{t-1}, c_t^k = attention^k(q^k, h), q^{k+1} = q^k + R^k c_t^k
(Sukhbaatar et al. 2015, section 2.2). With ``input_feeding``, s_t = RNN(s_{t-1}, [E y_{t-1}; c_t; d_{t-1}]) (Luong et
al. 2015, section 3.3): d_t is this model's attentional vector, and everything stays inside the loop.

D_ctx is the width of the context: that of the encoder states, or without attention that of the encoder's summary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nmt.config.model import RNNConfig
from nmt.models.alignment import Chance, Draws
from nmt.models.attention import Attention, Read, Source, build_attention
from nmt.models.encoders import build_encoder
from nmt.models.layers import Dropout, embedding, kept, output_layer, raise_forget_bias, recurrent
from nmt.models.seq2seq import Decoded, Keep, Memory, Seq2Seq


@dataclass(frozen=True)
class RNNState:
    """The decoder between two steps.

    Attributes:
        sources: of each hop of attention; empty without attention.
        summary: the source in one vector.
        first: state of the attentional layer (and the LSTM's cell).
        upper: states of the layers above it.
        fed: attentional vector of the last step, with input feeding.
        time: number of the next step, for an alignment that depends on it.
    """

    sources: tuple[Source, ...]
    summary: Tensor  # [B, D_sum]
    first: tuple[Tensor, ...]  # of [N, Hid]
    upper: list[tuple[Tensor, ...]]
    fed: Tensor | None = None  # [N, D]
    time: Tensor | None = None  # [1]

    def select(self, rows: Tensor) -> RNNState:
        beam = self.first[0].size(0) // self.summary.size(0)
        sentences = rows[::beam] // beam
        unchanged = sentences.numel() == self.summary.size(0)  # sentences leave the batch, but are never reordered
        return RNNState(
            self.sources if unchanged else tuple(source.select(sentences) for source in self.sources),
            self.summary if unchanged else self.summary.index_select(0, sentences),
            tuple(t.index_select(0, rows) for t in self.first),
            [tuple(t.index_select(0, rows) for t in layer) for layer in self.upper],
            None if self.fed is None else self.fed.index_select(0, rows),
            self.time,
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


class Hop(nn.Module):
    """A further attention, whose query is refined by the context of the one before."""

    def __init__(self, config: RNNConfig, d_memory: int):
        super().__init__()
        self.refine = nn.Linear(d_memory, config.d_hidden, bias=False)
        attention = build_attention(config, d_memory)
        assert attention is not None
        self.attention = attention

    def forward(
        self, query: Tensor, context: Tensor, source: Source, time: Tensor | None, chance: Chance | None
    ) -> tuple[Tensor, Read]:
        """The refined query [B, W, Hid] and what it reads, from the query and the context of the hop before."""
        query = query + self.refine(context)
        return query, self.attention(query, source, time, chance)


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
        d_memory = self.encoder.d_out
        self.attention = build_attention(config, d_memory)
        has_attention = self.attention is not None
        self.hops = nn.ModuleList(Hop(config, d_memory) for _ in range(config.hops - 1 if has_attention else 0))
        self.input_feeding = config.input_feeding and has_attention
        # The mean log-likelihood of a target token, followed by the term REINFORCE of the loss. No gradient changes it;
        # it is a parameter because checkpoints contain parameters. An untrained model has this value.
        reinforced = has_attention and config.alignment == "hard" and config.hard.estimator == "reinforce"
        start = torch.tensor(-math.log(tgt_vocab_size))
        self.baseline = nn.Parameter(start, requires_grad=False) if reinforced else None
        d_context = d_memory if has_attention else self.encoder.d_summary
        d_fed = config.d_model if self.input_feeding else 0
        self.first = Cell(config.cell, config.d_model, d_context + d_fed, d_hidden, config.forget_bias)
        self.upper = nn.ModuleList(
            recurrent(config.cell, d_hidden + d_context, d_hidden, config.forget_bias)
            for _ in range(config.decoder_layers - 1)
        )
        self.readout = nn.Linear(d_hidden + config.d_model + d_context, 2 * config.d_model)
        self.output = output_layer(config.d_model, tgt_vocab_size, config.output_bias)
        if config.tie_embeddings != "none":
            self.output.weight = self.tgt_embedding.weight

    def encode(self, src: Tensor, src_mask: Tensor, keep: Tensor | None = None) -> Memory:
        memory: Memory = self.encoder(kept(self.src_embedding(src) * self.encoder.d_in**0.5, keep), src_mask)
        return memory

    def forward(self, src: Tensor, src_mask: Tensor, tgt_in: Tensor, *, keep: Keep = (None, None)) -> Tensor | Decoded:
        """See :meth:`Seq2Seq.forward`.

        In training, the term REINFORCE needs what :class:`Draws` has, and that for guided alignment ``log_attention``
        [B, T, 1, S] of the guided hop.
        """
        memory = self.encode(src, src_mask, keep[0])
        if not self.training or (self.baseline is None and self.guided is None):
            return self.decode(memory, tgt_in, keep[1])
        chances, seen = self._chances(memory.mask, tgt_in.size(1)), list[Sequence[Read]]()
        hidden = self._decode(memory, tgt_in, chances, seen, keep[1])
        hops = [[torch.cat(parts, dim=1) for parts in zip(*reads, strict=True)] for reads in zip(*seen, strict=True)]
        if self.guided is not None:
            _, weights, scores = hops[self.guided[0]]  # [B, T, S]
            soft = self.config.alignment == "soft"
            floor = torch.finfo(torch.float32).tiny  # outside of a window, weights are 0
            log_weights = scores.float().log_softmax(-1) if soft else weights.float().clamp_min(floor).log()
            return Decoded(hidden, {"log_attention": log_weights.unsqueeze(2)})
        weights, scores = (torch.stack(each, dim=2) for each in list(zip(*hops, strict=True))[1:])  # [B, T, n, S]
        expected = None if chances[0] is None else chances[0][0].expected
        return Decoded(hidden, vars(Draws.of(scores, weights, memory.mask, expected)))

    def decode(self, memory: Memory, tgt_in: Tensor, keep: Tensor | None = None) -> Tensor:
        return self._decode(memory, tgt_in, self._chances(memory.mask, tgt_in.size(1)), keep=keep)

    def _decode(
        self,
        memory: Memory,
        tgt_in: Tensor,
        chances: Sequence[Sequence[Chance] | None],
        seen: list[Sequence[Read]] | None = None,
        keep: Tensor | None = None,
    ) -> Tensor:
        """See :meth:`decode`.

        Args:
            chances: what :meth:`_chances` drew for each step.
            seen: gets what each step read of the source.
        """
        # What is known beforehand
        state = self.init_state(memory)
        embedded = self._embed(tgt_in, keep)  # [B, T, D]
        known = self.first.known(embedded).unbind(1)
        # The loop over time
        if self.input_feeding:
            return self._decode_feeding(known, embedded.unbind(1), state, chances, seen)
        first, time, outputs, contexts = state.first, state.time, [], []
        for each, chance in zip(known, chances, strict=True):
            context, reads = self._attend(first[0], state, time, chance)
            first = self.first(each, context, first)
            time = None if time is None else time + 1
            outputs.append(first[0])
            contexts.append(context)
            if seen is not None:
                seen.append(reads)
        # The layers above and the deep output
        context = torch.stack(contexts, dim=1)  # [B, T, D_ctx]
        top, _ = self._upper(torch.stack(outputs, dim=1), context, state.upper)
        return self._read_out(top, embedded, context)

    def _decode_feeding(
        self,
        known: Sequence[Tensor],
        embedded: Sequence[Tensor],
        state: RNNState,
        chances: Sequence[Sequence[Chance] | None],
        seen: list[Sequence[Read]] | None,
    ) -> Tensor:
        """The loop over time with input feeding: whole steps, each of which needs the deep output of the last."""
        outputs = []
        for t, chance in enumerate(chances):
            hidden, state, reads = self._step(known[t], embedded[t], state, chance)
            outputs.append(hidden)
            if seen is not None:
                seen.append(reads)
        return torch.stack(outputs, dim=1)

    def _chances(self, mask: Tensor, steps: int) -> Sequence[Sequence[Chance] | None]:
        """Random numbers of each hop, for each of ``steps`` steps; None where the alignment needs none."""
        if self.attention is None or not self.training:
            return [None] * steps
        hops = 1 + len(self.hops)
        drawn = self.attention.alignment.chances(mask, steps * hops)
        if drawn is None:
            return [None] * steps
        return [drawn[start : start + hops] for start in range(0, steps * hops, hops)]

    def init_state(self, memory: Memory, beam_size: int = 1, room: int | None = None) -> RNNState:
        summary = memory.vector()
        vectors = torch.tanh(self.initial(summary)).repeat_interleave(beam_size, dim=0)  # [N, ...]
        states = vectors.split(self.config.d_hidden, dim=-1)
        per_layer = 2 if self.config.cell == "lstm" else 1
        layers = [tuple(states[i : i + per_layer]) for i in range(0, len(states), per_layer)]
        attentions = self._attentions()
        sources = tuple(attention.read(memory.states, memory.mask) for attention in attentions)
        timed = any(attention.alignment.timed for attention in attentions)
        time = torch.zeros(1, dtype=torch.long, device=vectors.device) if timed else None
        fed = vectors.new_zeros(len(vectors), self.config.d_model) if self.input_feeding else None
        return RNNState(sources, summary, layers[0], layers[1:], fed, time)

    def step(self, tokens: Tensor, state: RNNState) -> tuple[Tensor, RNNState]:
        embedded = self._embed(tokens)  # [N, D]
        hidden, state, _ = self._step(self.first.known(embedded), embedded, state)
        return self.project(hidden), state

    def attending_step(self, tokens: Tensor, state: RNNState) -> tuple[Tensor, RNNState, Tensor]:
        """See :meth:`Seq2Seq.attending_step`: the weights of the last hop, whose context the decoder gets."""
        if self.attention is None:
            return super().attending_step(tokens, state)
        embedded = self._embed(tokens)  # [N, D]
        hidden, state, reads = self._step(self.first.known(embedded), embedded, state)
        return self.project(hidden), state, reads[-1].weights.flatten(0, 1)  # [B, W, S] to [N, S]

    def _step(
        self, known: Tensor, embedded: Tensor, state: RNNState, chance: Sequence[Chance] | None = None
    ) -> tuple[Tensor, RNNState, Sequence[Read]]:
        """One step of the whole decoder: its deep output [N, D], the new state, and what it read of the source."""
        context, reads = self._attend(state.first[0], state, state.time, chance)
        inputs = context if state.fed is None else torch.cat([context, state.fed], dim=-1)
        first = self.first(known, inputs, state.first)
        top, upper = self._upper(first[0].unsqueeze(1), context.unsqueeze(1), state.upper)
        hidden = self._read_out(top.squeeze(1), embedded, context)
        fed, time = None if state.fed is None else hidden, None if state.time is None else state.time + 1
        return hidden, RNNState(state.sources, state.summary, first, upper, fed, time), reads

    def attention_maps(self, src: Tensor, src_mask: Tensor, tgt_in: Tensor) -> Tensor | None:
        if self.attention is None:
            return None
        seen: list[Sequence[Read]] = []
        self._decode(self.encode(src, src_mask), tgt_in, [None] * tgt_in.size(1), seen)
        hops = [torch.cat([read.weights for read in reads], dim=1) for reads in zip(*seen, strict=True)]
        return torch.stack(hops).unsqueeze(2)  # a layer for each hop, one head: [n, B, 1, T, S]

    def _attentions(self) -> list[Attention]:
        hops = [hop.attention for hop in self.hops if isinstance(hop, Hop)]
        return [] if self.attention is None else [self.attention, *hops]

    def _embed(self, ids: Tensor, keep: Tensor | None = None) -> Tensor:
        embedded: Tensor = self.dropout(kept(self.tgt_embedding(ids) * self.scale, keep))
        return embedded

    def _attend(
        self, query: Tensor, state: RNNState, time: Tensor | None, chance: Sequence[Chance] | None
    ) -> tuple[Tensor, Sequence[Read]]:
        """Context [N, D_ctx] of queries [N, Hid], and each hop's read; without attention the summary vector."""
        rows, sentences = query.size(0), state.summary.size(0)
        if self.attention is None:
            beam = rows // sentences
            return state.summary.repeat_interleave(beam, dim=0) if beam > 1 else state.summary, ()
        query = query.view(sentences, rows // sentences, -1)
        read = self.attention(query, state.sources[0], time, None if chance is None else chance[0])
        reads = [read]
        for number, hop in enumerate(self.hops, 1):
            source, one = state.sources[number], None if chance is None else chance[number]
            query, read = hop(query, read.context, source, time, one)
            reads.append(read)
        return read.context.reshape(rows, -1), reads

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
