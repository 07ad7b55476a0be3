"""Ensembles of runs that share a vocabulary: which runs, and the settings that all of them allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast, get_args

from nmt.config.compare import digest
from nmt.config.experiment import Config
from nmt.config.model import ModelConfig, RNNConfig
from nmt.config.search import Average, SearchConfig
from nmt.data.tokenizer import Tokenizer
from nmt.errors import ConfigError
from nmt.run.directory import Run


@dataclass(frozen=True)
class Others:
    """The further members of an ensemble, whose first run decides tokenizer, search and precision.

    Attributes:
        runs: at least one.
        average: what is averaged, see :mod:`nmt.models.ensemble`.
    """

    runs: Sequence[Run]
    average: Average = "probability"

    @classmethod
    def open(cls, names: Sequence[str], average: str | None = None) -> Others | None:
        """Open runs by their paths or names; None without names.

        Raises:
            ConfigError: ``average`` has no such value, or there is nothing to average.
            RunError: a run does not exist.
        """
        if average is not None and average not in get_args(Average):
            raise ConfigError(f"average {average!r}: must be {' or '.join(get_args(Average))}")
        if not names and average is not None:
            raise ConfigError(f"average {average}: needs other runs to average with (--ensemble RUN)")
        if not names:
            return None
        return cls([Run.open(name) for name in names], cast(Average, average or "probability"))

    @property
    def label(self) -> str:
        """The runs and the average, for the names of results."""
        average = "" if self.average == "probability" else f",average={self.average}"
        return "+".join(run.path.name for run in self.runs) + average

    def described(self, first: Run) -> str:
        """The ensemble in a line for users."""
        runs = ", ".join(str(run.path) for run in (first, *self.runs))
        mean = "mean" if self.average == "probability" else "geometric mean"
        return f"ensemble of {1 + len(self.runs)} runs: {runs} ({mean} of their probabilities)"

    def checksum(self, weights: Sequence[str]) -> str:
        """A checksum that stands for the weights of all members."""
        return digest(list(weights), self.average)

    def check(self, first: Run, tokenizer: Tokenizer, search: SearchConfig) -> None:
        """
        Raises:
            ConfigError: a run has another vocabulary than the first, or no attention where ``search`` needs it.
        """
        needed = [key for key in ("coverage_penalty", "copy_unknown") if getattr(search, key)]
        for run, model in zip(self.runs, self._models, strict=True):
            if needed and isinstance(model, RNNConfig) and model.attention == "none":
                raise ConfigError(
                    f"search.{needed[0]}: needs attention, which {run.path} has not; remove the key or the run"
                )
            if Tokenizer.load(run.tokenizer).fingerprint != tokenizer.fingerprint:
                raise ConfigError(
                    f"{run.path}: has another vocabulary than {first.path}; the runs of an ensemble need the same "
                    "tokenizer (train them with equal data and section tokenizer, or with init.from)"
                )

    def readable(self, config: Config) -> Config:
        """The first member's configuration with a limit of sources that every member can read."""
        source = config.search.max_source_tokens or config.data.cleaning.max_tokens
        for model in self._models:
            most = model.max_target_tokens if model.encoder is None else model.encoder.max_source_tokens
            if most is not None:
                source = min(source, max(1, most - 1 - config.data.most_tags))  # eos takes one, as each tag
        return config.model_copy(update={"search": config.search.model_copy(update={"max_source_tokens": source})})

    def most_target(self, config: Config) -> int | None:
        """The most positions that the decoder of every member has; ``config`` is the first member's."""
        found = [model.max_target_tokens for model in (config.model, *self._models)]
        return min((most for most in found if most is not None), default=None)

    @cached_property
    def _models(self) -> list[ModelConfig]:
        return [run.load_config().model for run in self.runs]
