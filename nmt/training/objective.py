"""The training objective: the cross entropy of a batch, and the terms of ``train.terms``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nmt.config.train import TrainConfig
from nmt.data.batch import Batch
from nmt.data.packing import PackedBatch
from nmt.models.seq2seq import Decoded, Seq2Seq
from nmt.training.loss import Loss, projected_cross_entropy
from nmt.training.terms import build_terms
from nmt.training.terms.base import Found, Pass
from nmt.training.terms.inputs import Inputs


class Objective:
    """The loss of a batch.

    Args:
        model: the model that is trained.

    Attributes:
        terms: those of the configuration and of the model, by name.
        logged: names of the values that are logged beside the loss.
    """

    def __init__(self, config: TrainConfig, model: Seq2Seq[Any]):
        self.smoothing, self.z_loss, self.output = config.label_smoothing, config.terms.z_loss or 0.0, model.output
        self.terms = build_terms(config.terms, model)
        self.logged = [name for name, term in self.terms.items() if term.is_summand]

    def __call__(self, forward: Callable[..., Any], batch: Batch | PackedBatch) -> tuple[Tensor, Tensor]:
        """The loss to differentiate, and what is counted; sums over the target tokens of a batch.

        Args:
            forward: the model's forward pass, as DDP and torch.compile wrap it.

        Returns:
            The loss, and without gradient [2 + logged]: the smoothed and the plain cross entropy of the batch, which
            no term changes the meaning of, and what each term logs.
        """
        # Passes, all in one: DDP's hooks must fire once, and a recurrent loop over twice the rows is faster than two
        inputs = [Inputs.of(batch)]
        seconds = {name: term.second_inputs(inputs[0]) for name, term in self.terms.items()}
        inputs += [second for second in seconds.values() if second is not None]
        joined = Inputs.joined(inputs)
        for term in self.terms.values():
            joined = term.change(joined)
        first, *further = self._passes(forward(*joined.arguments, **joined.keywords), batch, len(inputs))
        # Sum
        loss: Tensor = first.loss.smoothed
        squared = first.loss.squared_log_norm
        reported = loss.detach() if squared is None else loss.detach() - self.z_loss * squared
        counted = [reported, first.loss.nll.detach()]
        for name, term in self.terms.items():
            second = further.pop(0) if seconds[name] is not None else None
            if term.is_summand:
                added, shown = term(Found(batch, first, second, self.output))
                loss = loss + added
                counted.append(shown.detach())
        return loss, torch.stack(counted)

    def _passes(self, result: Tensor | Decoded, batch: Batch | PackedBatch, count: int) -> list[Pass]:
        """Divide the result of ``count`` joined passes."""
        targets, weights = batch.targets, batch.weights

        def cross_entropy(hidden: Tensor) -> Loss:
            return projected_cross_entropy(
                hidden, self.output, targets, self.smoothing, weights=weights, z_loss=self.z_loss
            )

        def divided(x: Tensor) -> list[Tensor]:
            parts = x.chunk(count) if count > 1 else [x]
            return [batch.at_targets(part) for part in parts]

        hidden, extras = (result, {}) if isinstance(result, Tensor) else result
        others = {name: divided(x) for name, x in extras.items()}
        return [
            Pass(one, cross_entropy, {name: parts[number] for name, parts in others.items()})
            for number, one in enumerate(divided(hidden))
        ]
