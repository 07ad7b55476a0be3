"""Progress of a training: position, metric sums, validations, and stopping conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from nmt.config.schedule import Descent
from nmt.config.train import TrainConfig
from nmt.numbers import count_of, plain
from nmt.run.selection import TITLES, Quality, Ranking

# The metric sums, in the order in which checkpoints store them; those of terms of the loss follow, per rank.
SUMS = ("smoothed", "nll", "grad_norm", "updates", "skipped", "tokens", "padding", "positions", "seconds")
PER_RANK = ("smoothed", "nll", "tokens", "padding", "positions")  # the others are equal on all ranks


class Window:
    """This rank's metric sums since the last log line. They are on the device, so adding does not synchronize.

    Args:
        values: the initial sums, in the order of ``names``; 0 for those that are missing.
        terms: names of the terms of the loss that are counted.

    Attributes:
        names: of the sums.
    """

    def __init__(self, values: Sequence[float], device: torch.device, terms: Sequence[str] = ()):
        exact = torch.float32 if device.type == "mps" else torch.float64
        self.names = (*SUMS, *terms)
        missing = [0.0] * (len(self.names) - len(values))
        self.sums = torch.tensor([*values, *missing], dtype=exact, device=device)

    def add(self, finite: Tensor, losses: Tensor, norm: Tensor, tokens: float | Tensor) -> None:
        """Count what one update found.

        Args:
            finite: whether the gradient was finite; the losses of a skipped update do not count.
            losses: sums of the smoothed and of the plain loss, and of each term, [2 + terms].
            norm: gradient norm.
            tokens: target tokens, each with the weight of its sentence.
        """
        self.sums[:2] += torch.where(finite, losses[:2], 0)
        if len(losses) > 2:
            self.sums[len(SUMS) :] += torch.where(finite, losses[2:], 0)
        self.sums[2] += torch.where(finite, norm, 0)
        self.sums[4] += ~finite
        self.sums[5] += torch.where(finite, tokens, 0)

    def add_update(self, padding: int, positions: int) -> None:
        """Count one update, its padded and all its positions of both sides."""
        self.sums[3] += 1
        self.sums[6] += padding
        self.sums[7] += positions

    def add_seconds(self, seconds: float) -> None:
        self.sums[8] += seconds

    def mean_loss(self) -> float:
        """Smoothed loss per target token; synchronizes."""
        return float(self.sums[0] / self.sums[5])

    def tolist(self) -> list[float]:
        found: list[float] = self.sums.tolist()
        return found

    def clear(self) -> None:
        self.sums.zero_()

    @staticmethod
    def total(windows: Sequence[Sequence[float]]) -> list[float]:
        """Add the sums of ``PER_RANK`` and of terms over all ranks; take rank 0's of the others, equal on all ranks."""
        columns = zip_longest(SUMS, zip(*windows, strict=True))
        return [sum(values) if name is None or name in PER_RANK else values[0] for name, values in columns]

    @staticmethod
    def of_rank(rank: int, size: int, windows: Sequence[list[float]]) -> list[float]:
        """The stored sums that a rank resumes with.

        If the number of ranks changed, rank 0 takes the total and the others start at 0.
        """
        if len(windows) == size:
            return windows[rank]
        return Window.total(windows) if rank == 0 else [0.0] * len(windows[0])


@dataclass
class Progress:
    """Progress of a training, as plain data that ``state.json`` stores."""

    step: int = 0
    epoch: int = 0
    position: int = 0  # batches processed in this epoch
    pools: list[int] = field(default_factory=list)  # see TrainingOrder.ends; empty: the batches are counted
    seconds: float = 0.0  # training time with validations, over all starts
    best_score: float | None = None
    best_step: int = 0
    score: float | None = None  # of the last validation
    validated_step: int = 0
    validation_due: bool = False  # a signal came between the step and its validation
    stale_validations: int = 0  # since the last better score
    plateau_stale: int = 0
    plateau_cuts: int = 0
    window: list[float] = field(default_factory=lambda: [0.0] * len(SUMS))  # metric sums at the last checkpoint
    files: dict[str, int] = field(default_factory=dict)  # length of each metrics file, see Reporter
    scaler: dict[str, Any] = field(default_factory=dict)  # fp16 loss scaling
    best: dict[str, Any] | None = None  # quality of the best validation
    quality: dict[str, Any] | None = None  # of the last validation
    scored_with: dict[str, Any] | None = None  # the settings that the validation scores depend on
    lowest_loss: float | None = None  # of all validations
    bad_steps: int = 0  # updates skipped in a row (not counted on CUDA, which would synchronize)
    first_loss: float | None = None  # of the first validation
    descent: Descent | None = None  # of a schedule that max_minutes ends
    descents: list[Descent] | None = field(default_factory=list)  # all of them; None: one of them was not recorded
    src_tokens: int | None = 0  # read by all updates on all ranks, eos counted; None: begun by a version without count
    tgt_tokens: int | None = 0

    def __post_init__(self) -> None:
        if isinstance(self.descent, dict):  # from state.json
            self.descent = Descent(**self.descent)
        if self.descents is not None:
            self.descents = [Descent(**one) if isinstance(one, dict) else one for one in self.descents]

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Progress:
        """The progress that a checkpoint stores. Earlier versions counted no tokens, and kept the last descent only."""
        descents: list[Any] | None = None if state.get("descent") else []
        return cls(**{"src_tokens": None, "tgt_tokens": None, "descents": descents, **state})

    def descend(self, descent: Descent | None) -> None:
        """Replace the decay of the schedule from now on."""
        if descent == self.descent:
            return
        self.descent = descent
        if self.descents is not None:
            self.descents = [*self.descents, descent] if descent is not None else None

    def add_tokens(self, src: int, tgt: int) -> None:
        """Count the tokens of an update, unless those before it are not known."""
        if self.src_tokens is not None and self.tgt_tokens is not None:
            self.src_tokens, self.tgt_tokens = self.src_tokens + src, self.tgt_tokens + tgt

    @property
    def tokens(self) -> dict[str, int] | None:
        """Tokens of both sides that were trained on, repeats counted; None where they are not known."""
        if self.src_tokens is None or self.tgt_tokens is None:
            return None
        return {"source": self.src_tokens, "target": self.tgt_tokens}

    def reason_to_stop(self, c: TrainConfig) -> str | None:
        """Name the limit that was reached; None if the training continues."""
        if c.max_steps and self.step >= c.max_steps:
            return f"max_steps ({c.max_steps})"
        if c.max_epochs and self.epoch >= c.max_epochs:
            return f"max_epochs ({c.max_epochs})"
        if c.max_minutes and self.seconds >= 60 * c.max_minutes:
            return f"max_minutes ({plain(c.max_minutes, 6)})"
        if c.patience and self.stale_validations >= c.patience:
            return f"patience ({count_of(c.patience, 'validation')} without a better {TITLES[c.score]})"
        return None

    def has_reached_its_length(self, c: TrainConfig) -> bool:
        """Whether ``max_steps`` or ``max_epochs`` was reached; on all ranks alike, unlike the time."""
        return bool((c.max_steps and self.step >= c.max_steps) or (c.max_epochs and self.epoch >= c.max_epochs))

    def validation_is_due(self, c: TrainConfig, epoch_ended: bool) -> bool:
        return epoch_ended if c.validate_every == "epoch" else self.step % c.validate_every == 0

    def checkpoint_is_due(self, c: TrainConfig) -> bool:
        return c.checkpoint_every is not None and self.step % c.checkpoint_every == 0

    def record(self, quality: Quality, ranking: Ranking, c: TrainConfig, scored_with: dict[str, Any]) -> bool:
        """Update the best validation, patience and the plateau schedule; return whether this validation is the best."""
        self.score = score_of(quality, c)
        self.quality, self.validated_step, self.validation_due = quality.as_dict(), self.step, False
        # The best so far. Earlier versions recorded only its score.
        best = Quality.of({"quality": self.best, "score": self.best_score}, c.score)
        better = ranking.better(quality, best)
        if better:
            self.best, self.best_score, self.best_step = quality.as_dict(), self.score, self.step
        self.scored_with = scored_with
        # If the score cannot decide, a falling loss counts as progress.
        falling = self.lowest_loss is None or quality.loss < self.lowest_loss
        if falling:
            self.lowest_loss = quality.loss
        undecided = ranking.measure(quality) != c.score or self.score == self.best_score
        if better or (falling and undecided and ranking.fallback):
            self.stale_validations = self.plateau_stale = 0
            return better
        # Patience and the plateau schedule count validations without improvement.
        self.stale_validations += 1
        self.plateau_stale += 1
        if self.plateau_stale > c.schedule.patience:
            self.plateau_cuts += 1
            self.plateau_stale = 0
        return False

    def start_scores_again(self, best: tuple[Quality | None, float | None, int], scored_with: dict[str, Any]) -> None:
        """Replace the best validation by one made with the current settings; patience restarts at 0.

        Args:
            best: quality, score and step of the best checkpoint.
        """
        quality, self.best_score, self.best_step = best
        self.best = quality.as_dict() if quality else None
        self.stale_validations = self.plateau_stale = 0
        self.scored_with = scored_with


def score_of(quality: Quality, c: TrainConfig) -> float:
    """The score selected by ``train.score``; higher is better."""
    score: float = -quality.loss if c.score == "loss" else getattr(quality, c.score)
    return score
