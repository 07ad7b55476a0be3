"""The interface of both model families.

Shape legend for the comments of the package:

    B batch (sentences)    S source length    T target length    D model width    V vocabulary
    H attention heads      K head width       W beam width       N = B·W rows of a search

Everything is batch first. Masks are boolean and True means "may be attended".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, Protocol, Self, TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from nmt.errors import ConfigError


@dataclass(frozen=True)
class Memory:
    """The encoded source, as input of the decoder.

    Attributes:
        states: encoder states [B, S, D_enc].
        mask: [B, S], True at tokens, False at padding.
        summary: the source in one vector [B, D_sum], from encoders that have one.
    """

    states: Tensor
    mask: Tensor
    summary: Tensor | None = None

    def vector(self) -> Tensor:
        """The source in one vector [B, D_sum]: the summary, or the mean of the states where the encoder has none."""
        if self.summary is not None:
            return self.summary
        tokens = self.mask.unsqueeze(-1)  # [B, S, 1]
        return (self.states * tokens).sum(1) / tokens.sum(1)

    def filled_up(self, positions: int) -> Memory:
        """The same sources with ``positions`` positions each; those added are not attended."""
        more = positions - self.mask.size(1)
        return replace(self, states=F.pad(self.states, (0, 0, 0, more)), mask=F.pad(self.mask, (0, more)))


class Decoded(NamedTuple):
    """What a forward pass returns while training, where terms of the loss need more than hidden states.

    Attributes:
        hidden: [B, T, D]
        extras: other quantities of the target positions, each [B, T, ...].
    """

    hidden: Tensor
    extras: Mapping[str, Tensor]


class State(Protocol):
    """The state of a decoder between two search steps: recurrent vectors, or cached keys and values.

    A state for beam width W has N = B·W rows; the W rows of a sentence are adjacent.
    """

    def select(self, rows: Tensor) -> Self:
        """Return the state whose row i is row ``rows[i]`` of this state: reorder hypotheses, remove sentences.

        Args:
            rows: [N'] indices, N' a multiple of W; each group of W new rows comes from one group of old rows.
        """
        ...


class FixedState(State, Protocol):
    """A state whose tensors a step leaves in their shapes, so that a step can be recorded once and replayed."""

    def grown(self, room: int) -> Self:
        """The same state with room for ``room`` positions."""
        ...


StateT = TypeVar("StateT", bound=State)
Keep = tuple[Tensor | None, Tensor | None]


class Seq2Seq(nn.Module, ABC, Generic[StateT]):
    """An encoder–decoder. Teacher forcing uses :meth:`decode`, search uses :meth:`step`; both give the same logits."""

    src_embedding: nn.Embedding
    tgt_embedding: nn.Embedding
    output: nn.Linear  # [V, D]; `project` applies only this layer, so the loss can compute logits in pieces
    guided: tuple[int, Sequence[int]] | None = None  # layer and heads whose attention a training needs, from 0
    uniform = True  # whether every batch of a training takes the same operations, as a CUDA graph of an update needs

    @abstractmethod
    def encode(self, src: Tensor, src_mask: Tensor, keep: Tensor | None = None) -> Memory:
        """Encode the source: ids [B, S] and mask [B, S].

        Args:
            keep: factors of the embeddings, of a shape that broadcasts to [B, S, D]; None: all 1.
        """

    @abstractmethod
    def decode(self, memory: Memory, tgt_in: Tensor, keep: Tensor | None = None) -> Tensor:
        """Hidden states [B, T, D] for all target positions at once, given the gold prefix ``tgt_in`` [B, T].

        Args:
            keep: factors of the embeddings, of a shape that broadcasts to [B, T, D]; None: all 1.
        """

    def project(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of hidden states [..., D]."""
        logits: Tensor = self.output(hidden)
        return logits

    @abstractmethod
    def init_state(self, memory: Memory, beam_size: int = 1, room: int | None = None) -> StateT:
        """The state before the first step, with ``beam_size`` rows for each sentence of ``memory``.

        Args:
            room: number of positions of a :class:`FixedState`, whose steps read no number from the device; None: a
                state that grows.
        """

    @abstractmethod
    def step(self, tokens: Tensor, state: StateT) -> tuple[Tensor, StateT]:
        """Feed the last ``tokens`` [N]; return the next logits [N, V] and the new state."""

    def attending_step(self, tokens: Tensor, state: StateT) -> tuple[Tensor, StateT, Tensor]:
        """As :meth:`step`, and the attention of the step to the source: weights [N, S] whose sum is at most 1, 0 at
        padding.

        Not for a :class:`FixedState`.

        Raises:
            ConfigError: the model has no attention.
        """
        raise ConfigError("search.coverage_penalty: needs a model with attention; remove the penalty")

    @abstractmethod
    def attention_maps(self, src: Tensor, src_mask: Tensor, tgt_in: Tensor) -> Tensor | None:
        """Attention weights [layers, B, H, T, S] of each target position over the source; None without attention."""

    def lr_factors(self) -> dict[nn.Parameter, float]:
        """Factors of the learning rate of parameters, other than 1."""
        encoder = getattr(self, "encoder", None)
        factor = getattr(encoder, "lr_factor", 1.0)
        if not isinstance(encoder, nn.Module) or factor == 1.0:
            return {}
        return dict.fromkeys([*encoder.parameters(), *self.src_embedding.parameters()], factor)

    def forward(self, src: Tensor, src_mask: Tensor, tgt_in: Tensor, *, keep: Keep = (None, None)) -> Tensor | Decoded:
        """Hidden states [B, T, D] under teacher forcing; with other quantities if a term of the loss needs them.

        Args:
            keep: factors of the embeddings of source and target.
        """
        return self.decode(self.encode(src, src_mask, keep[0]), tgt_in, keep[1])
