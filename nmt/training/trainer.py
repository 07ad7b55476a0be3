"""The training loop: updates, validations and checkpoints. A resumed run gives exactly the same weights."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from torch import Tensor

from nmt.config.train import TrainConfig
from nmt.data.batch import Batch
from nmt.data.order import TrainingOrder
from nmt.data.packing import PackedBatch
from nmt.data.reader import Reader, in_order, prefetch
from nmt.errors import TrainingError
from nmt.models.seq2seq import Seq2Seq
from nmt.numbers import count_of, plain
from nmt.run.selection import TITLES, Quality
from nmt.runtime.device import Place, generators, restore_generators
from nmt.runtime.progress import showing
from nmt.runtime.signals import Interrupted, Paused, heard, postponing
from nmt.training import plan
from nmt.training.final import FinalModel
from nmt.training.progress import Progress, Window
from nmt.training.reporting import NullReporter, Reporter
from nmt.training.rescoring import Rescoring
from nmt.training.saving import Saving
from nmt.training.updater import Counts
from nmt.training.utilisation import Utilisation
from nmt.training.validation import Validation

_Planned = tuple[int, int, bool, list[Batch | PackedBatch]]  # see Trainer._read_updates


class Validate(Protocol):
    """Validates a model, which is in evaluation mode.

    Attributes:
        settings: the settings that the scores of a validation depend on.
    """

    settings: dict[str, Any]

    def __call__(self, model: Seq2Seq[Any]) -> Validation:
        """Validate ``model``.

        Raises:
            Paused: on all ranks, if one of them received a signal to stop.
        """


class Trainer:
    """Trains one model.

    Args:
        saving: the checkpoints of the run, with the model and its updater.
        order: the batches of each update, for all ranks.
        formerly: ``validate.settings`` of the run's last start, for checkpoints that do not record them.
        follows_clock: whether the schedule ends with ``max_minutes``.
        batching: a description of the batches, as :func:`nmt.training.batching.choose_batching` returns it.
        parallel: a description of the parallelism, as :func:`nmt.training.parallel.choose_parallel` returns it.
    """

    def __init__(
        self,
        config: TrainConfig,
        saving: Saving,
        reader: Reader,
        order: TrainingOrder,
        validate: Validate,
        place: Place,
        formerly: dict[str, Any] | None = None,
        follows_clock: bool = False,
        batching: str = "",
        parallel: str = "",
    ):
        self.follows_clock, self.batching, self.parallel = follows_clock, batching, parallel
        self.replayed: plan.Replay | None = None  # of a run whose training is reproduced
        self.config, self.saving, self.reader, self.order = config, saving, reader, order
        self.validate, self.place, self.ranks = validate, place, place.ranks
        self.run, self.model, self.updater, self.ranking = saving.run, saving.model, saving.updater, saving.ranking
        self.final = FinalModel(self.saving, self.quality)
        self.rescoring = Rescoring(self.saving, self.quality, formerly)
        self.progress = Progress()
        self.window = self._new_window()
        self.utilisation: Utilisation | None = None  # measured on CUDA alone
        self.reporter: Reporter = NullReporter()
        self.saved_at_limit = False  # whether the last checkpoint records that a limit was reached
        self.signal: int | None = None  # received by any rank, known to all
        self.save_asked = False
        self._upcoming: _Planned | None = None  # the next update, read ahead
        self._counts: Counts | None = None  # of the batches of all ranks in it, once they have exchanged theirs
        self._clock = time.monotonic()
        self._started = (0, 0.0)
        self._aimed = 0.0  # training time up to which the end of the schedule was estimated
        self._saved_at = 0.0  # training time at the last checkpoint
        self._last_step: int | None = None  # that max_steps and max_epochs allow
        self._shown_loss: float | None = None
        self._told_forecast = self._told_unvaried = self._told_notes = False

    @property
    def environment(self) -> dict[str, Any]:
        """Code, libraries, device and precision of this start, and whether earlier starts had the same."""
        return self.saving.environment

    # --------------------------------------------------------------------------------------------------------- the loop

    def resume(self, warn: Callable[[str], None]) -> bool:
        """Restore the last intact checkpoint of the run, if there is one.

        Raises:
            CheckpointError: the checkpoint belongs to another configuration, or all checkpoints are damaged.
        """
        if (found := self.saving.resume(warn)) is None:
            return False
        self.progress = found
        self.order.resume(found.epoch, found.pools)
        self.saved_at_limit = self.reason_to_stop() is not None
        return True

    def fit(self) -> str:
        """Train until a limit is reached; return the limit in words.

        Raises:
            Interrupted: a signal came; the state was saved.
            TrainingError: the training diverged, the device is out of memory, or the disk is full.
        """
        progress, c = self.progress, self.config
        self._begin()
        updates = prefetch(self._read_updates)
        try:
            with postponing(acknowledge=self.ranks.is_main):
                # Before the first step
                if self.place.device.type == "cuda":
                    with showing("preparing the first step", unit=""):
                        self.ranks.on_every_rank(lambda: self.updater.prepare(self.order.longest_batch(), self.window))
                self._score_again()
                while True:
                    # Stop, or validate
                    self._read_ahead(updates)
                    self.heed_signals()
                    if progress.validation_due:
                        self._validate()
                        self.save()
                        self._agree()
                    if (reason := self.reason_to_stop()) is not None:
                        break
                    self._stop_if_asked()
                    self._heed_clock()
                    # Update
                    epoch, position, is_last, batches = self._take()
                    self.step(batches)
                    progress.epoch, progress.position = (epoch + 1, 0) if is_last else (epoch, position)
                    if is_last and (stage := self.order.stage_begun(epoch + 1)):
                        self.reporter.line(f"step {progress.step}  stage {stage} begins")
                    # Report, save
                    if progress.step % c.log_every == 0:
                        self._log()
                        self._count_time()
                    progress.validation_due = progress.validation_is_due(c, is_last)
                    if not progress.validation_due and progress.checkpoint_is_due(c):
                        self.save()
                # After the last step
                if progress.validated_step != progress.step:
                    self._validate()
                    self.save()
                elif not self.ranks.on_main(lambda: self.saved_at_limit):  # the time ended during the last save
                    self.save()
                self.heed_signals()
                self._stop_if_unsaved()
                self.ranks.on_main(self.saving.prune)  # what could not be deleted after the last save
                return reason
        finally:
            self._upcoming = self._counts = None
            updates.close()
            self.reporter.close()

    def step(self, batches: Sequence[Batch | PackedBatch]) -> None:
        """Make an update; raise an error if the training diverges.

        Raises:
            Interrupted: a signal came between two batches of the update; the state before the update is saved.
        """
        drawn = generators(self.place.device)
        if self.replayed is not None:
            self.progress.descent = self.replayed.at(self.progress.step)
        try:
            self.update(batches)
        except Paused:
            restore_generators(drawn, self.place.device)
            raise self._interrupted() from None
        self.updater.stop_if_diverged(self.progress)
        self._tick(batches)

    def update(self, batches: Sequence[Batch | PackedBatch]) -> None:
        """Make one optimizer step on ``batches``, this rank's share of the update."""
        total, self._counts = self._counts, None
        self.updater.update(batches, self.progress, self.window, total)

    def heed_signals(self) -> None:
        """Save, or save and stop, if any rank received a signal to do so.

        Raises:
            Interrupted: the signal asks to stop.
        """
        self._agree()
        self._stop_if_asked()

    def reason_to_stop(self) -> str | None:
        return self.progress.reason_to_stop(self.config)

    @property
    def stages(self) -> list[tuple[str, int]]:
        """The name and the first epoch of each stage of a mixture."""
        return self.order.examples.mixture.begins if self.order.examples is not None else []

    def pace(self) -> plan.Pace:
        """Progress of the training, in updates of the size of this start."""
        return plan.Pace.of(self.progress, self.order)

    def save(self, scheduled: bool = True) -> None:
        """Write a checkpoint, see :meth:`Saving.save`."""
        self.ranks.on_main(self.run.check_held)
        self._count_time()
        self.progress.files = self.reporter.lengths()
        self.progress.pools = self.order.ends(self.progress.epoch, self.progress.position)
        self.saved_at_limit = self.reason_to_stop() is not None
        self.saving.save(self.progress, self.window, scheduled)
        self._count_time()
        self.progress.seconds = self.ranks.on_main(lambda: self.progress.seconds)  # limits are those of one clock
        self._saved_at = self.progress.seconds

    def quality(self, weights: Mapping[str, Tensor]) -> Quality:
        """Validate the model with the given weights."""
        with self.updater.evaluated(weights) as model:
            return self.validate(model).quality

    def is_finished(self, warn: Callable[[str], None]) -> bool:
        """Whether the training has ended and the run has the final model that :meth:`finish` would write now."""
        return self.reason_to_stop() is not None and self.final.is_written(self.progress, warn)

    def finish(self, warn: Callable[[str], None]) -> dict[str, Any]:
        """Write the final model and return its origin, see :meth:`FinalModel.write`."""
        return self.final.write(self.progress, warn)

    def _begin(self) -> None:
        """Open the metrics, prune checkpoints, start the clock."""
        progress = self.progress
        self.reporter = self.ranks.on_every_rank(self._open_reporter)
        self.updater.tell = self.saving.tell = self.reporter.line
        self.window = self._new_window()
        if progress.step == 0 and self.ranks.is_main:
            self.reporter.text("settings", f"```yaml\n{self.run.config_path.read_text(encoding='utf-8')}```", 0)
        self.ranks.on_main(self.saving.prune)  # the process may have been killed between saving and pruning
        self.utilisation = Utilisation.of_training(self.place, self.model)
        self._clock = time.monotonic()
        self._started, self._aimed = (progress.step, progress.seconds), progress.seconds
        self._saved_at = progress.seconds
        self._last_step = plan.planned_steps(self.config, self.pace())
        if progress.descent is not None and progress.descent.max_minutes != self.config.max_minutes:
            self._aim()
        self.model.train()

    def _new_window(self) -> Window:
        return Window(self.progress.window, self.place.device, self.updater.objective.logged)

    def _open_reporter(self) -> Reporter:
        if not self.ranks.is_main:
            return NullReporter()
        progress, c = self.progress, self.config
        return Reporter(self.run, progress.files, c.on_save_error)

    def _read_ahead(self, updates: Iterator[_Planned]) -> None:
        """Read the next update, so that one exchange has its tokens as well as signals and the clock."""
        if self._upcoming is None and not self.progress.has_reached_its_length(self.config):
            self._upcoming = next(updates)

    def _take(self) -> _Planned:
        assert self._upcoming is not None
        taken, self._upcoming = self._upcoming, None
        return taken

    def _read_updates(self) -> Iterator[_Planned]:
        """Yield for each update: epoch, position in the epoch after it, whether the epoch ends, this rank's batches."""

        def read(planned: tuple[int, int, bool, list[Any]]) -> _Planned:
            epoch, position, is_last, update = planned
            batches = [self.reader.read(rows, epoch) for rows in update[self.ranks.block(len(update))]]
            # At the end of an epoch there may be fewer batches than ranks, but every rank must take part: in each pass
            # of a model in shards.
            passes = 1 if self.updater.shards is None else -(-len(update) // self.ranks.size)
            for _ in range(passes - len(batches)):
                batches.append(self.reader.read(update[0][:1], epoch).without_targets())
            if self.place.device.type == "cuda":
                batches = [batch.pinned() for batch in batches]
            return epoch, position, is_last, batches

        return in_order(read, self._planned_updates(), self.config.readers)

    def _planned_updates(self) -> Iterator[tuple[int, int, bool, list[Any]]]:
        """As :meth:`_read_updates`, with the rows of the batches of all ranks."""
        epoch, position = self.progress.epoch, self.progress.position
        while True:
            updates = self.order.updates(epoch, position)
            for number, update in enumerate(updates, 1):
                position += len(update)
                yield epoch, position, not updates.has(number), update
            epoch, position = epoch + 1, 0

    def _heed_clock(self) -> None:
        """Do what is due by the training time: estimate the end of the schedule, save."""
        if self._aim_is_due():
            self._aim()
        if self._save_is_due():
            self.save(scheduled=False)

    def _aim_is_due(self) -> bool:
        """Whether the training time has passed a point at which the end of the schedule is estimated.

        All ranks have the clock of rank 0 then.
        """
        limit, progress = self.config.max_minutes, self.progress
        if not self.follows_clock or limit is None or progress.step == 0:
            return False
        before, self._aimed = self._aimed, progress.seconds
        return plan.aim_is_due(limit, before, progress.seconds)

    def _save_is_due(self) -> bool:
        """Whether the last checkpoint is old. All ranks have the clock of rank 0 then."""
        every, progress = self.config.checkpoint_every_minutes, self.progress
        return (
            every is not None
            and progress.seconds - self._saved_at >= 60 * every
            and self.saving.saved_step != progress.step
        )

    def _aim(self) -> None:
        """Estimate the step at which the run ends, and let the schedule end there."""
        progress, former = self.progress, self.progress.descent
        progress.descend(plan.aim(self.config, progress.step, progress.seconds, former))
        if former is None and progress.descent is not None:
            self.reporter.line(
                f"step {progress.step}  the {self.config.schedule.name} schedule will end with max_minutes, at about "
                f"step {progress.descent.end:,} at the pace so far"
            )

    # ---------------------------------------------------------------------------------------------------------- signals

    def _agree(self) -> None:
        """Give all ranks the clock of rank 0, the signals that any rank received, and the size of the next update.

        This is the only exchange of an update, apart from the gradients.
        """
        counts = Counts.of(self._upcoming[-1] if self._upcoming else [])
        everyone = self.ranks.exchange([self.progress.seconds, heard.stop, heard.save, *counts])
        heard.save = False
        self.progress.seconds = everyone[0][0]
        self.signal = max(int(number) for _, number, *_ in everyone) or None
        self.save_asked = any(save for _, _, save, *_ in everyone)
        self._counts = Counts.sum(numbers[3:] for numbers in everyone) if self._upcoming else None

    def _stop_if_asked(self) -> None:
        if not self.save_asked and self.signal is None:
            return
        step = self.progress.step
        if self.saving.saved_step != step:  # at step 0 there is nothing to save
            self.save(scheduled=False)
        saved = self.saving.saved_step
        if self.save_asked and saved == step > 0:
            self.reporter.line(f"step {step}  saved on SIGUSR1")
        self.save_asked = False
        if self.signal is not None:
            kept = "all saved" if saved == step else f"saved up to step {saved}"
            name = signal.Signals(self.signal).name
            error = Interrupted(
                f"stopped by {name} at step {step}, {kept}; run the same command to resume", self.signal
            )
            raise self.ranks.raised_once(error)

    def _stop_if_unsaved(self) -> None:
        """Refuse to make a final model if the last checkpoint is not saved (``train.on_save_error: continue``)."""
        step, saved = self.progress.step, self.saving.saved_step
        if saved != step:
            kept = f"up to step {saved}" if saved else "nothing of it"
            raise self.ranks.raised_once(
                TrainingError(
                    f"step {step}: the training has ended, but its last checkpoint could not be saved "
                    f"({kept} is saved); free disk space and run the same command again"
                )
            )

    def _interrupted(self) -> BaseException:
        """Save the state after a signal has paused an update or a validation, and raise :class:`Interrupted`."""
        self.heed_signals()
        return AssertionError("work is paused only by a signal")

    # ---------------------------------------------------------------------------------------------------------- metrics

    def _count_time(self) -> float:
        """Add the time since the last call to the training time; return it."""
        now = time.monotonic()
        passed, self._clock = now - self._clock, now
        self.progress.seconds += passed
        return passed

    def _tick(self, batches: Sequence[Batch | PackedBatch]) -> None:
        """Add the time of an update to the training time and, for tokens/s, to the time of updates."""
        passed = self._count_time()
        self.window.add_seconds(passed)
        if self.utilisation is not None:
            self.utilisation.add(batches, passed)
        if self.place.device.type == "cpu":  # on other devices reading a number would synchronize
            self._shown_loss = self.window.mean_loss()
        self._show()

    def _show(self) -> None:
        """Show the progress of the training."""
        progress, (step, seconds) = self.progress, self._started
        passed = progress.seconds - seconds
        rate = (progress.step - step) / passed if passed > 0 else 0.0
        outlook = plan.outlook(self.config, self._last_step, progress.step, progress.seconds, rate)
        shown = plain(rate, 2 if rate < 1 else 3)
        loss = [] if self._shown_loss is None else [f"loss {self._shown_loss:.3f}"]
        self.reporter.progress(outlook, *loss, f"{shown} steps/s")

    def _log(self) -> None:
        # Add up
        self.ranks.on_main(self.run.check_held)
        w = dict(zip(self.window.names, Window.total(self.ranks.exchange(self.window.tolist())), strict=True))
        self.window.clear()
        step, tokens = self.progress.step, max(1.0, w["tokens"])  # 0 if every update was skipped
        nll = w["nll"] / tokens
        metrics = {
            "train/loss": w["smoothed"] / tokens,
            "train/ppl": math.exp(min(nll, 100)),
            "train/lr": self.updater.rate,
            "train/grad_norm": w["grad_norm"] / max(1, w["updates"] - w["skipped"]),
            "train/tokens_per_second": w["tokens"] / w["seconds"],
            "train/padding": w["padding"] / w["positions"],
            "train/skipped": w["skipped"],
            **{f"train/{term}": w[term] / tokens for term in self.updater.objective.logged},
        }
        share = None if self.utilisation is None else self.utilisation.take()
        metrics |= {} if share is None else {"train/mfu": share}
        # Show
        self.reporter.metrics_at(step, self.progress.epoch, metrics)
        self._forecast()
        self._shown_loss = metrics["train/loss"]
        self._show()
        skipped = f"  {w['skipped']:.0f} updates skipped (not finite)" if w["skipped"] else ""
        tell = self.reporter.line if skipped else self.reporter.step
        tell(
            f"step {step}  epoch {self.progress.epoch}  loss {metrics['train/loss']:.3f}  "
            f"ppl {metrics['train/ppl']:.2f}  lr {metrics['train/lr']:.2e}  "
            f"{metrics['train/tokens_per_second']:,.0f} tokens/s"
            f"{'' if share is None else f'  {share:.1%} MFU'}{skipped}"
        )

    def _forecast(self) -> None:
        """Warn once per start, when the speed is known, if the time limit will end the schedule too early."""
        steps, seconds = self.progress.step - self._started[0], self.progress.seconds - self._started[1]
        if self._told_forecast or steps < 20 or seconds <= 0:
            return
        self._told_forecast = True
        for line in plan.forecast(self.config, self.pace(), steps / seconds, self.follows_clock):
            self.reporter.line(line)

    # ------------------------------------------------------------------------------------------------------ validations

    def _validate(self) -> None:
        # Judge
        progress, c = self.progress, self.config
        result = self._validate_model()
        self.ranks.on_main(self.run.check_held)
        better = progress.record(result.quality, self.ranking, c, self.saving.scored_with)
        self._count_time()
        # Show
        self.reporter.metrics_at(progress.step, progress.epoch, result.metrics)
        if result.samples:
            self.reporter.try_to("samples", partial(self.reporter.samples, progress.step, result.samples))
        if result.watched:
            self.reporter.try_to("watched sentences", partial(self.reporter.watched, progress.step, result.watched))
        with showing("drawing attention maps", unit=""):
            for name, weights, src, tgt, title in result.maps:
                show = partial(self.reporter.attention, progress.step, name, weights, src, tgt, title)
                self.reporter.try_to(f"attention map {name}", show)
        self._warn_if_stuck(result)
        if not self._told_notes:  # as long as the model is weak, each validation has one
            for note in result.notes:
                self.reporter.line(note)
            self._told_notes = bool(result.notes)
        m, measure = result.metrics, self.ranking.measure(result.quality)
        by = "" if measure == c.score else f" by {TITLES[measure]}"
        self.reporter.line(
            f"step {progress.step}  valid: loss {m['valid/loss']:.3f}  ppl {m['valid/ppl']:.2f}  "
            f"accuracy {m['valid/accuracy']:.3f}  BLEU {m['valid/bleu']:.2f}  chrF {m['valid/chrf']:.2f}"
            f"{f'  (best{by})' if better else ''}  {progress.seconds / 60:.1f} min"
        )

    def _validate_model(self) -> Validation:
        """Validate the model, or the average of its weights.

        Raises:
            Interrupted: a signal came; the state is saved, and the validation is repeated when the run is resumed.
        """
        try:
            with self.updater.evaluated() as model:
                return self.validate(model)
        except Paused:
            self.progress.validation_due = True
        raise self._interrupted()

    def _score_again(self) -> None:
        """Score kept checkpoints again if the settings of the validation changed."""
        try:
            if self.rescoring(self.progress, self.reporter.line):
                self._clock = time.monotonic()
        except Paused:
            raise self._interrupted() from None

    def _warn_if_stuck(self, result: Validation) -> None:
        """Warn about two signs of a failing training, with their usual causes."""
        # The loss does not fall
        progress, warmup = self.progress, self.config.schedule.warmup_steps
        if progress.first_loss is None:
            progress.first_loss = result.quality.loss
        elif (
            (progress.lowest_loss or 0.0) > 0.99 * progress.first_loss  # no validation was ever better
            and progress.step >= warmup
            and result.metrics["valid/accuracy"] < 0.9
        ):
            self.reporter.line(
                "warning: the validation loss has not moved since the first validation; the learning rate may be far "
                "too high or too low, or the source and target files may not be aligned line by line"
            )
        # The hypotheses do not differ
        if not result.quality.varied and (progress.step >= warmup or not self._told_unvaried):
            self._told_unvaried = True  # in the warm-up, once
            different, lines = result.distinct
            rising = f"; the learning rate is still warming up ({progress.step:,} of {warmup:,} steps)"
            self.reporter.line(
                f"warning: the {lines:,} validation translations have only {count_of(different, 'different one')}: "
                "the model does not use the source yet. This is usual in the first few hundred steps"
                f"{rising if progress.step < warmup else ''}. If it stays, check that the source and target files are "
                "aligned line by line, and try another learning rate"
            )
