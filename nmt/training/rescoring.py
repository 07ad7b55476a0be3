"""Scoring kept checkpoints again when the settings of the validation have changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from nmt.run import checkpoint as checkpoints
from nmt.run.selection import Quality
from nmt.training.progress import Progress, score_of
from nmt.training.saving import Saving


class Rescoring:
    """Validates kept checkpoints again whose scores cannot be compared with new ones.

    These scores were made with other settings of the search or the evaluation, or are incomplete.

    Args:
        quality: validates the model with the given weights.
        formerly: the settings behind the scores of the run's last start, for checkpoints that do not record them.
    """

    def __init__(
        self, saving: Saving, quality: Callable[[Mapping[str, Tensor]], Quality], formerly: dict[str, Any] | None
    ):
        self.saving, self.quality, self.formerly = saving, quality, formerly
        self.config, self.run, self.ranking = saving.config, saving.run, saving.ranking
        self.ranks, self.scored_with = saving.ranks, saving.scored_with

    def __call__(self, progress: Progress, tell: Callable[[str], None]) -> bool:
        """Score the outdated checkpoints again, and update the best validation in ``progress``.

        Returns:
            Whether anything changed.

        Raises:
            Paused: a signal came. The remaining checkpoints are scored when the run is resumed.
        """
        # Find
        former = progress.scored_with or self.formerly or self.scored_with
        kept = self.ranks.on_main(self._outdated_checkpoints)
        if not kept and former == self.scored_with:
            return False
        changed = sorted(key for key, value in self.scored_with.items() if former.get(key) != value)
        if changed:
            differing = ", ".join(f"{key}: {former.get(key)}, now {self.scored_with[key]}" for key in changed)
            tell(
                f"warning: settings of the validation changed ({differing}), so earlier scores cannot be compared with "
                f"new ones: the kept checkpoints ({len(kept)}) are scored again, and patience counts from 0"
            )
        # Score
        for one in kept:
            tell(f"step {one.step}  scored again: {self._score(one)}")
        # Compare
        found = self.ranks.on_main(
            lambda: checkpoints.ranked(self.run.checkpoints, lambda _: None, self.ranking.of_state)[:1]
        )
        best = found[0] if found else None
        quality = Quality.of(best.state, self.config.score) if best else None
        progress.start_scores_again((quality, best.score, best.step) if best else (None, None, 0), self.scored_with)
        return True

    def _score(self, one: checkpoints.Checkpoint) -> Quality:
        """Validate a checkpoint and store the result in it."""
        quality = self.quality(self.ranks.on_every_rank(lambda: one.weights))
        changes = {
            "quality": quality.as_dict(),
            "score": score_of(quality, self.config),
            "scored_with": self.scored_with,
        }
        self.ranks.on_main(self.run.check_held)
        self.ranks.on_main(lambda: checkpoints.amend(one, **changes))
        return quality

    def _outdated_checkpoints(self) -> list[checkpoints.Checkpoint]:
        """The intact checkpoints to score again. Damaged ones are reported when the final model is made."""
        states = checkpoints.states(self.run.checkpoints)
        outdated = [path for path, state in states.items() if self._is_outdated(state)]
        return checkpoints.whole(self.run.checkpoints, lambda _: None, outdated)

    def _is_outdated(self, state: Mapping[str, Any]) -> bool:
        """Whether the score of a checkpoint cannot be compared with those of new validations."""
        quality = Quality.of(state, self.config.score)
        if quality is None:
            return False
        made_with = state.get("scored_with") or self.formerly or self.scored_with
        return made_with != self.scored_with or (self.ranking.fallback and not quality.complete)
