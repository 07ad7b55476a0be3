"""The interface of a term of the training loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from nmt.data.batch import Batch
from nmt.data.packing import PackedBatch
from nmt.models.seq2seq import Seq2Seq
from nmt.training.divergence import OfLogits, summed_over_vocabulary
from nmt.training.loss import Loss, token_log_probs
from nmt.training.terms.inputs import Inputs

ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True)
class Pass:
    """The results of a forward pass at the M target positions of a batch, including padding if it is packed.

    Attributes:
        hidden: [M, D]
        cross_entropy: computes :attr:`loss`.
        extras: other quantities that the model returned, see :class:`nmt.models.seq2seq.Decoded`, [M, ...].
    """

    hidden: Tensor
    cross_entropy: Callable[[Tensor], Loss]
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    @cached_property
    def loss(self) -> Loss:
        """Label-smoothed cross entropy, with z-loss if that is on, summed over the targets."""
        return self.cross_entropy(self.hidden)


@dataclass(frozen=True)
class Found:
    """The inputs of a term.

    Attributes:
        batch: on the device of the training.
        first: the pass that the reported loss is of.
        second: the pass on the inputs of :meth:`Term.second_inputs`; None if the term asked for none.
        output: the output layer [V, D]: logits are products with it. Take them piece by piece, as
            :func:`nmt.training.divergence.summed_over_vocabulary` does.
    """

    batch: Batch | PackedBatch
    first: Pass
    second: Pass | None
    output: nn.Linear

    @property
    def weights(self) -> Tensor | None:
        """[M] weights of the targets, 0 at padding; None: all count 1."""
        return self.batch.weights

    def divergence(self, function: OfLogits) -> Tensor:
        """Sum over the targets of a function of the logits of both passes (:mod:`nmt.training.divergence`)."""
        assert self.second is not None
        hidden = [self.first.hidden, self.second.hidden]
        return summed_over_vocabulary(function, hidden, self.output, self.weights)

    @cached_property
    def log_probs(self) -> Tensor:
        """log p of each target in the first pass, [M], without gradient: the reward of REINFORCE."""
        return token_log_probs(self.first.hidden, self.output, self.batch.targets)


class Term(Generic[ConfigT]):
    """One term of the training loss.

    A subclass overrides what it needs. Random draws come from the global generator of the device, which checkpoints
    contain. A running quantity belongs into a parameter of the model without gradient, which they contain as well.

    Args:
        config: what stands under the term's key in ``train.terms``, or in the model's section.
        model: the model that is trained.

    Attributes:
        is_summand: whether the term adds to the loss; False for a term that only changes inputs.
        observes: whether :meth:`observe` is called.
    """

    is_summand = True
    observes = False

    def __init__(self, config: ConfigT, model: Seq2Seq[Any]):
        self.config, self.model = config, model

    @property
    def widths(self) -> tuple[int, int]:
        """Widths of the embeddings of source and target."""
        return self.model.src_embedding.embedding_dim, self.model.tgt_embedding.embedding_dim

    def second_inputs(self, inputs: Inputs) -> Inputs | None:
        """The inputs of a further pass; None: the term needs none."""
        return None

    def change(self, inputs: Inputs) -> Inputs:
        """The inputs of all passes together, changed."""
        return inputs

    def __call__(self, found: Found) -> tuple[Tensor, Tensor]:
        """What is added to the loss, with gradient, and what is logged under the term's name.

        Both are scalars: sums over the targets of the batch, in which padding counts 0. The update divides the first by
        the target tokens of all its batches, the log the second by those of its window.
        """
        raise NotImplementedError

    def observe(self, log_prob: Tensor) -> None:
        """Follow an update, without gradient.

        Args:
            log_prob: mean log p of the targets of all its batches and ranks, a scalar; the same on all ranks.
        """
        raise NotImplementedError
