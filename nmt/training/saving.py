"""Checkpoints of a training: resume from the last, write the next, prune old ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from nmt.config.train import TrainConfig
from nmt.errors import CheckpointError, RunError, TrainingError
from nmt.models.seq2seq import Seq2Seq
from nmt.numbers import count_of
from nmt.run import checkpoint as checkpoints
from nmt.run.directory import Run
from nmt.run.selection import Ranking
from nmt.runtime.environment import changes, earlier_starts
from nmt.runtime.ranks import Ranks
from nmt.runtime.sharding import gathered_on_main
from nmt.training.progress import Progress, Window
from nmt.training.updater import Updater


class Saving:
    """Writes and reads the checkpoints of one run.

    Args:
        identity: must be equal in a checkpoint to resume from it: the fixed settings (``configuration``), and hashes of
            the ``tokenizer`` and the ``data``.
        differing: names the differences from the fixed settings of a checkpoint; empty if none exist.
        environment: code, libraries, device and precision (:func:`nmt.runtime.environment.environment`); recorded, and
            compared when the run is resumed.
        scored_with: the settings that the scores of a validation depend on.

    Attributes:
        saved_step: step of the last checkpoint; 0 before the first.
        tell: prints a line.
    """

    def __init__(
        self,
        config: TrainConfig,
        run: Run,
        model: Seq2Seq[Any],
        updater: Updater,
        identity: dict[str, Any],
        differing: Callable[[Mapping[str, Any]], str],
        environment: dict[str, Any],
        scored_with: dict[str, Any],
        ranks: Ranks,
    ):
        self.config, self.run, self.model, self.updater = config, run, model, updater
        self.identity, self.differing = identity, differing
        self.environment, self.scored_with, self.ranks = environment, scored_with, ranks
        self.ranking = Ranking(config.score, config.selection == "validated")
        self.saved_step = 0
        self.tell: Callable[[str], None] = lambda _: None

    # --------------------------------------------------------------------------------------------------------- resuming

    def resume(self, warn: Callable[[str], None]) -> Progress | None:
        """Restore the last intact checkpoint of the run; return its progress, or None without a checkpoint.

        Raises:
            CheckpointError: the checkpoint belongs to another configuration, or all checkpoints are damaged.
        """
        # Restore
        last = self.ranks.on_main(lambda: self._last(warn))
        if last is None:
            return None
        self.ranks.on_every_rank(lambda: self._restore(last))
        progress = Progress.of_state(last.state["progress"])
        windows = [last.state["progress"]["window"], *(other["window"] for other in last.others)]
        progress.window = Window.of_rank(self.ranks.rank, self.ranks.size, windows)
        self.saved_step = progress.step
        if self.updater.scaler.is_enabled():
            self.updater.scaler.load_state_dict(progress.scaler)
        # Report differences
        if differing := changes(last.environment, self.environment):
            warn(f"warning: {last.path}: was saved in another environment; results may differ slightly ({differing})")
        self.environment = {**self.environment, "earlier": earlier_starts(last.environment, self.environment)}
        if last.ranks != self.ranks.size:
            warn(
                f"{last.path}: was saved by {last.ranks} process(es) and is resumed by {self.ranks.size}: no data is "
                "skipped or repeated, but an update has another number of batches and dropout draws other numbers; "
                f"results are the same to the bit only with {last.ranks}"
            )
        return progress

    def ended(self) -> Progress | None:
        """The progress that the final model records, for a finished run whose checkpoints were deleted; else None.

        Raises:
            RunError: ``train`` has a higher limit than the training of the final model.
            CheckpointError: the model belongs to another configuration, or is damaged.
        """
        # The final model alone
        if not self.run.has_model or self.run.has_checkpoints:
            return None
        origin = checkpoints.read_origin(self.run.model)
        if "identity" in origin:
            self._check_identity(self.run.model, origin["identity"])
        step = origin.get("last_step", max(origin["steps"]))  # an early model.json has no last step
        progress = Progress(step=step, seconds=origin["training_seconds"], src_tokens=None, tgt_tokens=None)
        # Limits
        former = self.run.load_config().train
        raised = [
            f"train.{key}={now}"
            for key in ("max_steps", "max_epochs", "max_minutes", "patience")
            if (before := getattr(former, key)) and (not (now := getattr(self.config, key)) or now > before)
        ]
        steps = count_of(step, "step")
        if raised and progress.reason_to_stop(self.config) is None:
            raise RunError(
                f"{self.run.path}: is finished ({steps}) and cannot be continued ({', '.join(raised)}): "
                f"its checkpoints were deleted; put the last one back into {self.run.checkpoints}, or train under "
                "another name (--set name=...)"
            )
        return progress

    def _last(self, warn: Callable[[str], None]) -> checkpoints.Checkpoint | None:
        last = checkpoints.last_good(self.run.checkpoints, warn)
        if last is None:
            self.run.begin()
            return None
        with suppress(OSError):
            self.run.note_saved()
        self._check_identity(last.path, last.state["identity"])
        return last

    def _check_identity(self, path: Path, saved: Mapping[str, Any]) -> None:
        """Check that a checkpoint, or the final model, belongs to this configuration, tokenizer and data."""
        kind, now = "final model" if path == self.run.model else "checkpoint", self.identity
        if differing := self.differing(saved["configuration"]):
            raise CheckpointError(f"{path}: was made with another configuration ({differing})")
        for key in ("tokenizer", "data"):
            if saved[key] != now[key]:
                raise CheckpointError(
                    f"{path}: was made with another {key} ({saved[key]} in the {kind}, {now[key]} now); "
                    "it belongs to another run, or the manifest.json of this run is missing: restore the missing file"
                )
        if saved.get("teacher") != now.get("teacher"):
            raise CheckpointError(
                f"{path}: was made with another teacher ({saved.get('teacher')} in the {kind}, "
                f"{now.get('teacher')} now); give its folder as train.terms.distillation.from, or name another run"
            )

    def _restore(self, last: checkpoints.Checkpoint) -> None:
        checkpoints.restore(last, self.model, self.updater.optimizer, self.ranks.rank)
        if self.updater.ema is not None:
            self.updater.ema.load(last.tensors("ema"))

    # ---------------------------------------------------------------------------------------------------------- writing

    def save(self, progress: Progress, window: Window, scheduled: bool) -> None:
        """Write a checkpoint of all ranks.

        Args:
            scheduled: whether the checkpoint was due; only these are averaged.

        Raises:
            TrainingError: writing failed, under ``train.on_save_error: stop``.
        """
        progress.window = window.tolist()
        progress.scaler = self.updater.scaler.state_dict()
        ranks = self.ranks.gather(checkpoints.RankState.now(progress.window))
        average = None if self.updater.ema is None else self.updater.ema.tensors()
        parts = checkpoints.training_tensors(self.model, self.updater.optimizer, average)
        tensors = {file: gathered_on_main(part, self.ranks.is_main) for file, part in parts.items()}
        if self.ranks.on_main(lambda: self._write(progress, tensors, ranks, scheduled)):
            self.saved_step = progress.step

    def _write(
        self,
        progress: Progress,
        tensors: Mapping[str, Mapping[str, Tensor]],
        ranks: list[checkpoints.RankState],
        scheduled: bool,
    ) -> bool:
        """Write a checkpoint and prune old ones; return False if writing failed but the training may continue."""
        # Write
        validated = progress.validated_step == progress.step
        try:
            checkpoints.save(
                self.run.checkpoints,
                tensors=tensors,
                progress=asdict(progress),
                score=progress.score if validated else None,
                quality=progress.quality if validated else None,
                scored_with=self.scored_with if validated else None,
                scheduled=scheduled,
                identity=self.identity,
                environment=self.environment,
                ranks=ranks,
            )
        # Report a failure, or prune
        except OSError as error:
            reason = f"step {progress.step}: the checkpoint could not be saved: {error.strerror or error}"
            kept = f"the one of step {self.saved_step} is kept" if self.saved_step else "no earlier one exists"
            if self.config.on_save_error == "stop":
                raise TrainingError(f"{reason}; {kept}; free disk space and run the same command again") from error
            self.tell(f"{reason}; {kept}; the training continues (train.on_save_error: continue)")
            return False
        with suppress(OSError):
            self.run.note_saved()
        self.prune()
        return True

    def prune(self) -> None:
        """Delete the checkpoints that are neither among the best nor among the last."""
        c = self.config
        try:
            checkpoints.prune(self.run.checkpoints, c.keep_best, c.keep_last, self.ranking.of_state)
        except OSError as error:
            where = error.filename or self.run.checkpoints
            self.tell(f"warning: {where}: an old checkpoint could not be deleted: {error.strerror or error}")
