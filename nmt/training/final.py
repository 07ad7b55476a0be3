"""The final model: the best checkpoint, a mean of several, or a moving average, chosen by validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from nmt.errors import CheckpointError
from nmt.numbers import count_of
from nmt.run import checkpoint as checkpoints
from nmt.run.selection import TITLES, UNKNOWN, Quality
from nmt.runtime.progress import showing
from nmt.storage.atomic import OtherFormatError, UnreadableError
from nmt.training.optim import mean_weights
from nmt.training.progress import Progress
from nmt.training.saving import Saving


@dataclass(frozen=True)
class Candidate:
    """Weights that may become the final model.

    Attributes:
        averaged: whether the weights are a mean of several checkpoints, or a moving average (``train.ema_decay``).
    """

    checkpoints: list[checkpoints.Checkpoint]
    averaged: bool
    quality: Quality = UNKNOWN

    def weights(self) -> dict[str, Tensor]:
        if len(self.checkpoints) > 1:
            return mean_weights([one.weights for one in self.checkpoints])
        return self.checkpoints[0].weights if self.averaged else self.checkpoints[0].tensors("model")

    def identity(self) -> dict[str, Any]:
        """Identify the weights: steps, checksums, and whether they are averaged."""
        raw = len(self.checkpoints) == 1 and not self.averaged
        return {
            "steps": [one.step for one in self.checkpoints],
            "weights": [one.model_sha256 if raw else one.weights_sha256 for one in self.checkpoints],
            "averaged": self.averaged,
        }


class FinalModel:
    """Makes the final model of a run from its checkpoints.

    Args:
        quality: validates the model with the given weights.
    """

    def __init__(self, saving: Saving, quality: Callable[[Mapping[str, Tensor]], Quality]):
        self.config, self.run, self.ranking, self.ranks = saving.config, saving.run, saving.ranking, saving.ranks
        self.saving, self.quality = saving, quality

    def is_written(self, progress: Progress, warn: Callable[[str], None]) -> bool:
        """Whether the run has the final model that :meth:`write` would write now."""
        if not self.run.has_model:
            return False
        try:
            found = checkpoints.read_origin(self.run.model)
        except (OtherFormatError, UnreadableError):
            raise
        except CheckpointError as error:
            warn(f"{error}; writing it again from the checkpoints")
            return False
        if found.get("last_step") == progress.step and self._was_pruned(found["steps"]):
            return True  # what is left may be worse
        candidates = self.candidates(warn)
        if "candidates" in found:  # the same candidates give the same choice: validations are deterministic
            stored = [{key: one.get(key) for key in ("steps", "weights", "averaged")} for one in found["candidates"]]
            return stored == [one.identity() for one in candidates] and found["last_step"] == progress.step
        expected = self._origin(candidates[0], progress)
        # An early model.json has neither; there the training time identifies the checkpoint.
        keys = ["last_step", "weights"] if "last_step" in found else ["training_seconds"]
        return all(found.get(key) == expected[key] for key in ("steps", "averaged", *keys))

    def _was_pruned(self, steps: Sequence[int]) -> bool:
        """Whether the checkpoints at ``steps``, of which the final model was made, are gone, and choices are the same.

        A person may have deleted them to free disk space.
        """
        there = {path.name for path in checkpoints.list_checkpoints(self.run.checkpoints)}
        former, keys = self.run.load_config().train, ("selection", "average", "average_of")
        return not there.issuperset(map(checkpoints.name_of, steps)) and all(
            getattr(former, key) == getattr(self.config, key) for key in keys
        )

    def write(self, progress: Progress, warn: Callable[[str], None]) -> dict[str, Any]:
        """Write the final model, load it, and return its origin.

        The final model is the best checkpoint or the mean of several (``train.average``). A mean or a moving average is
        validated and compared with the raw weights; the better one is taken (``train.selection: validated``).

        Raises:
            CheckpointError: no intact checkpoint is left.
            TrainingError: the disk is full, or writing failed in another way.
            RunError: the run directory was replaced meanwhile.
        """
        # Choose
        self.ranks.on_main(self.run.check_held)
        candidates = self.ranks.on_main(lambda: self.candidates(warn))
        if len(candidates) > 1:
            candidates = [self._validated(one) for one in candidates]
        chosen = max(candidates, key=lambda one: self.ranking.of(one.quality))  # the first of equals
        with showing("reading the final weights", unit=""):
            weights = self.ranks.on_every_rank(chosen.weights)
        # Write
        origin = {
            **self._origin(chosen, progress),
            "score": self.config.score,
            "chosen_by": self.ranking.measure(chosen.quality),
            "candidates": [{**one.identity(), **one.quality.as_dict(), "chosen": one is chosen} for one in candidates],
        }
        info = {**origin, "environment": self.saving.environment}
        with showing("writing the final model", unit=""):
            self.ranks.on_main(lambda: checkpoints.save_model(self.run.model, weights, info))
        # Load
        checkpoints.load_weights(self.saving.model, weights, self.run.model)
        self.saving.model.eval()
        return origin

    def ranked(self, warn: Callable[[str], None]) -> list[checkpoints.Checkpoint]:
        """Validated checkpoints, best first."""
        return checkpoints.ranked(self.run.checkpoints, warn, self.ranking.of_state)

    def candidates(self, warn: Callable[[str], None]) -> list[Candidate]:
        """Candidates for the final model; the configured one is first."""
        # The configured candidate
        c, folder, ema = self.config, self.run.checkpoints, self.saving.updater.ema is not None
        ranked = self.ranked(warn)
        chosen = ranked[: c.average or 1]
        if c.average is not None and c.average_of == "last":
            chosen = [one for one in checkpoints.whole(folder, warn) if one.scheduled][-c.average :]
            if self.ranking.fallback and ranked and ranked[0].step not in [one.step for one in chosen]:
                chosen = [ranked[0], *chosen[1:]]  # with patience, all of the last checkpoints may be worse
        if not chosen:
            raise CheckpointError(f"{folder}: no intact checkpoint is left to make the final model from")
        if c.average is not None and len(chosen) < c.average:
            warn(f"warning: train.average: {c.average}, but only {count_of(len(chosen), 'checkpoint')} can be averaged")
        asked = Candidate(chosen, averaged=ema or len(chosen) > 1)
        best = Candidate(ranked[:1], averaged=ema)
        if len(chosen) == 1:
            asked = replace(asked, quality=Quality.of(chosen[0].state, c.score) or UNKNOWN)
        # Alternatives: the best checkpoint, its raw weights
        if not self.ranking.fallback or not ranked:
            return [asked]
        best = replace(best, quality=Quality.of(ranked[0].state, c.score) or UNKNOWN)
        raw = [Candidate(ranked[:1], averaged=False)] if ema else []
        return [asked, *([best] if len(chosen) > 1 else []), *raw]

    def _validated(self, one: Candidate) -> Candidate:
        if one.quality.complete:
            return one
        return replace(one, quality=self.quality(self.ranks.on_every_rank(one.weights)))

    def _origin(self, chosen: Candidate, progress: Progress) -> dict[str, Any]:
        """The origin of the final model, for ``model.json``: its weights, and the progress of the training."""
        return {
            **chosen.identity(),
            "last_step": progress.step,
            "identity": self.saving.identity,
            "training_seconds": progress.seconds,
        }


def describe(origin: dict[str, Any]) -> list[str]:
    """Lines about the choice of the final model: the measure, if not ``train.score``, and the other candidates' scores.

    Args:
        origin: the origin that :meth:`FinalModel.write` returned.
    """
    candidates, lines = origin["candidates"], []
    if (measure := origin["chosen_by"]) != origin["score"]:
        lines.append(
            f"the final model was chosen by {TITLES[measure]}: {TITLES[origin['score']]} in validation says too "
            "little (too few matching 4-grams, or translations that do not differ or never end)"
        )

    def words(one: dict[str, Any]) -> str:
        steps = ", ".join(map(str, one["steps"]))
        kind = "mean of steps" if len(one["steps"]) > 1 else "moving average of step" if one["averaged"] else "step"
        return f"{kind} {steps} ({Quality.of({'quality': one}, 'loss')})"

    if len(candidates) > 1:
        chosen = next(one for one in candidates if one["chosen"])
        others = "; ".join(words(one) for one in candidates if one is not chosen)
        lines.append(f"final model: {words(chosen)}, not worse in validation than {others}")
    return lines
