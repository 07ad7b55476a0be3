"""The training loop: updates, validations and checkpoints, resumable to the last bit."""

from __future__ import annotations

import math
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nmt.config import Config, config_diff
from nmt.data.batching import Batch, Reader, TrainingOrder, prefetch
from nmt.errors import CheckpointError, TrainingError
from nmt.models.seq2seq import Seq2Seq
from nmt.run import checkpoint as checkpoints
from nmt.run.directory import Run
from nmt.runtime.device import autocast
from nmt.runtime.environment import changes, earlier_starts
from nmt.runtime.ranks import World
from nmt.runtime.signals import Interrupted, Paused, heard, postponing
from nmt.storage.atomic import OtherFormatError, UnreadableError
from nmt.training import plan
from nmt.training.loss import projected_cross_entropy
from nmt.training.optim import MovingAverage, borrowed, build_optimizer, learning_rate, mean_weights
from nmt.training.reporting import Reporter, Silence
from nmt.training.selection import TITLES, UNKNOWN, Quality, Ranking

_LESS_MEMORY = "Lower train.batch_tokens (and raise train.accumulate to keep the batch), or data.cleaning.max_tokens"


WINDOW = ("smoothed", "nll", "grad_norm", "updates", "skipped", "tokens", "padding", "positions", "seconds")
SHARES = ("smoothed", "nll", "tokens", "padding", "positions")  # each rank has its own; the rest is the same for all


@dataclass
class Progress:
    """Where a training stands; plain data, so that it is a part of ``state.json`` as it is."""

    step: int = 0
    epoch: int = 0
    position: int = 0  # batches taken in this epoch
    seconds: float = 0.0  # of training, validations included, earlier starts counted in
    best_score: float | None = None
    best_step: int = 0
    score: float | None = None  # of the last validation
    validated_step: int = 0
    validation_due: bool = False  # a signal came between the step and its validation
    stale_validations: int = 0  # without a better score
    plateau_stale: int = 0
    plateau_cuts: int = 0
    # Sums since the last line of metrics; see Trainer._log.
    window: list[float] = field(default_factory=lambda: [0.0] * len(WINDOW))
    files: dict[str, int] = field(default_factory=dict)  # length of each metrics file, see Reporter
    scaler: dict[str, Any] = field(default_factory=dict)  # fp16 loss scaling
    best: dict[str, Any] | None = None  # quality of the best validation
    quality: dict[str, Any] | None = None  # of the last validation
    scored_with: dict[str, Any] | None = None  # the settings that the validation scores depend on
    lowest_loss: float | None = None  # of all validations
    bad_steps: int = 0  # updates skipped in a row, where that is known at each step
    first_loss: float | None = None  # of the first validation


@dataclass(frozen=True)
class Validation:
    """What a validation found: metrics by TensorBoard name, and samples to show."""

    metrics: dict[str, float]
    quality: Quality
    distinct: tuple[int, int]  # different hypotheses, and hypotheses
    samples: list[tuple[str, str, str]]  # source, reference, hypothesis
    maps: list[tuple[str, Tensor, list[str], list[str]]]  # name, weights [T, S], source and target subwords
    notes: list[str] = field(default_factory=list)  # lines for people


def describe(origin: dict[str, Any]) -> list[str]:
    """In words, by what the final model was chosen where not by the score asked for, and what others scored.

    Args:
        origin: what :meth:`Trainer.finish` returned.
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


class Trainer:
    """Trains one model.

    Args:
        identity: what a checkpoint must agree on to be resumed: the lasting settings of its ``configuration``, and
            hashes of the ``tokenizer`` and the ``data``.
        environment: code, libraries, device and precision (:func:`nmt.runtime.environment.environment`); recorded, and
            compared when the run is resumed.
        validate: runs a validation of the model it is given (in evaluation mode).
        scored_with: the settings that the scores of a validation depend on.
        formerly: those of the run's last start, for checkpoints that do not record them.
        order: the batches of each update, of all ranks together.
        world: the processes that train this model.
    """

    def __init__(
        self,
        config: Config,
        run: Run,
        model: Seq2Seq[Any],
        reader: Reader,
        order: TrainingOrder,
        validate: Callable[[Seq2Seq[Any]], Validation],
        identity: dict[str, Any],
        environment: dict[str, Any],
        device: torch.device,
        dtype: torch.dtype,
        world: World,
        scored_with: dict[str, Any] | None = None,
        formerly: dict[str, Any] | None = None,
    ):
        self.config, self.train_config, self.run = config, config.train, run
        self.model, self.reader, self.order, self.validate = model, reader, order, validate
        self.identity, self.environment = identity, environment
        self.device, self.dtype, self.world = device, dtype, world
        self.scored_with, self.formerly = scored_with or {}, formerly
        self.ranking = Ranking(config.train.score, config.train.selection == "validated")
        parallel = world.parallel(model)
        self.forward = torch.compile(parallel, dynamic=True) if config.train.compile else parallel
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = build_optimizer(model, config.train.optimizer, device)
        self.ema = MovingAverage(model, config.train.ema_decay) if config.train.ema_decay else None
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
        self.progress = Progress()
        self.window = self._window()
        self.saved_step = 0
        self._told_forecast = self._told_unvaried = False
        self.signal: int | None = None  # by any rank, which all know
        self.save_asked = False
        # The last updates: which examples, and whether the gradient was finite (a tensor on the device).
        self.recent: deque[tuple[list[Batch], Tensor]] = deque(maxlen=config.train.max_bad_steps)

    # ------------------------------------------------------------------------------------------------------- resuming

    def resume(self, warn: Callable[[str], None]) -> bool:
        """Take up the last whole checkpoint of the run, if there is one.

        Raises:
            CheckpointError: it belongs to another configuration, or all are damaged.
        """
        last = self.world.first(lambda: self._last_checkpoint(warn))
        if last is None:
            return False
        self.world.each(lambda: self._restore(last))
        self.progress = Progress(**last.state["progress"])
        self.progress.window = self._own_window(last)
        self.saved_step = self.progress.step
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(self.progress.scaler)
        if differing := changes(last.environment, self.environment):
            warn(f"warning: {last.path}: was saved under another environment, which may change the bits ({differing})")
        self.environment = {**self.environment, "earlier": earlier_starts(last.environment, self.environment)}
        if last.ranks != self.world.size:
            warn(
                f"{last.path}: was saved by {last.ranks} process(es) and goes on with {self.world.size}: the data goes "
                "on at the same batch, nothing is left out or taken twice, but an update holds another number of "
                f"batches and dropout draws other numbers; only {last.ranks} would give the same bits"
            )
        return True

    def _restore(self, last: checkpoints.Checkpoint) -> None:
        checkpoints.restore(last, self.model, self.optimizer, self.world.rank)
        if self.ema is not None:
            self.ema.load(last.tensors("ema"))

    def _last_checkpoint(self, warn: Callable[[str], None]) -> checkpoints.Checkpoint | None:
        last = checkpoints.last_good(self.run.checkpoints, warn)
        if last is None:
            self.run.begin()
            return None
        with suppress(OSError):
            self.run.note_saved()
        there, here = last.state["identity"], self.identity
        if differing := config_diff(there["configuration"], self.config):
            raise CheckpointError(f"{last.path}: is of another configuration ({differing})")
        for key in ("tokenizer", "data"):
            if there[key] != here[key]:
                raise CheckpointError(
                    f"{last.path}: is of another {key} ({there[key]} there, {here[key]} now); "
                    "it belongs to another run, or the manifest.json of this one is missing: bring back what is its"
                )
        return last

    def _own_window(self, last: checkpoints.Checkpoint) -> list[float]:
        """This rank's sums since the last line of metrics; of another number of ranks, all of them go to rank 0."""
        windows = [last.state["progress"]["window"], *(other["window"] for other in last.others)]
        if len(windows) == self.world.size:
            return windows[self.world.rank]
        return _total(windows) if self.world.is_main else [0.0] * len(WINDOW)

    # ------------------------------------------------------------------------------------------------------- the loop

    def fit(self) -> str:
        """Train until something says stop; return what did.

        Raises:
            Interrupted: a signal came; the state was saved.
            TrainingError: the loss is no number any more, the device's memory does not suffice, or the disk is full.
        """
        progress = self.progress
        self.reporter = self.world.each(self._report)
        self.window = self._window()
        if progress.step == 0:
            self.reporter.text("config", f"```yaml\n{self.config.to_yaml()}```", 0)
        self.world.first(self._prune)  # what a kill between a save and its pruning has left
        self._clock = time.monotonic()
        self._started = (progress.step, progress.seconds)
        updates = prefetch(self._read_updates)
        self.model.train()
        try:
            with postponing(acknowledge=self.world.is_main):
                if self.device.type == "cuda":
                    self.world.each(self._try_longest_batch)
                self._score_again()
                while True:
                    self._agree()
                    self._stop_if_asked()
                    if progress.validation_due:
                        self._validate()
                        self._save()
                        self._agree()
                    if (reason := self.reason_to_stop()) is not None:
                        break
                    self._stop_if_asked()
                    epoch, position, is_last, batches = next(updates)
                    self._update(batches)
                    self._stop_if_diverged()
                    progress.epoch, progress.position = (epoch + 1, 0) if is_last else (epoch, position)
                    self._tick()
                    if progress.step % self.train_config.log_every == 0:
                        self._log()
                        self._count_time()
                    progress.validation_due = self._validation_is_due(is_last)
                    if not progress.validation_due and self._checkpoint_is_due():
                        self._save()
                if progress.validated_step != progress.step:
                    self._validate()
                    self._save()
                self._agree()
                self._stop_if_asked()
                self._stop_if_unsaved()
                return reason
        finally:
            updates.close()
            self.reporter.close()

    def _report(self) -> Reporter:
        if not self.world.is_main:
            return Silence()
        progress, c = self.progress, self.train_config
        return Reporter(self.run, progress.files, progress.step, c.max_steps, c.on_save_error)

    def _window(self) -> Tensor:
        """The sums since the last line of metrics, on the device: adding to them waits for nothing."""
        exact = torch.float32 if self.device.type == "mps" else torch.float64
        return torch.tensor(self.progress.window, dtype=exact, device=self.device)

    def _read_updates(self) -> Iterator[tuple[int, int, bool, list[Batch]]]:
        """This rank's batches of each update, with the epoch, the batches taken of it by then, and whether it ends."""
        epoch, position = self.progress.epoch, self.progress.position
        while True:
            updates = self.order.updates(epoch, position)
            for number, update in enumerate(updates, 1):
                position += len(update)
                own = [self.reader.read(rows, epoch) for rows in update[self.world.block(len(update))]]
                # At the end of an epoch there may be fewer batches than ranks, but every rank must take part.
                own = own or [self.reader.read(update[0][:1], epoch).without_targets()]
                if self.device.type == "cuda":
                    own = [batch.pinned() for batch in own]
                yield epoch, position, number == len(updates), own
            epoch, position = epoch + 1, 0

    def _update(self, batches: list[Batch]) -> None:
        """One optimizer step on the mean loss per target token of all ``batches``, those of all ranks together."""
        progress = self.progress
        tokens = sum(batch.tgt_tokens for batch in batches)
        total = sum(int(numbers[0]) for numbers in self.world.exchange([tokens]))
        rate = learning_rate(progress.step + 1, self.train_config, progress.plateau_cuts)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # The gradient is the mean over the ranks, each of which sums over its tokens.
        tokens_a_rank = total / self.world.size
        sums = None
        with suppress(torch.OutOfMemoryError):  # while held, it holds what the failed pass has made
            sums = self._accumulate(batches, tokens_a_rank)
        if sums is None:
            sums = self._accumulate_halves(batches, tokens_a_rank)
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.train_config.clip_norm or math.inf)
        finite = torch.isfinite(norm)
        if self.scaler.is_enabled():
            self.scaler.step(self.optimizer)
            self.scaler.update()
        elif self.device.type == "cuda" or finite:  # on CUDA the fused kernel skips by itself, without waiting for it
            self.optimizer.found_inf = (~finite).float() if self.device.type == "cuda" else None  # type: ignore[attr-defined]
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        progress.step += 1
        if self.ema is not None:
            self.ema.update(progress.step)
        self.recent.append((batches, finite))
        padding = [batch.padding for batch in batches]
        self.window[:2] += torch.where(finite, sums, 0)
        self.window[2] += torch.where(finite, norm, 0)
        self.window[3] += 1
        self.window[4] += ~finite
        self.window[5] += torch.where(finite, tokens, 0)
        self.window[6] += sum(p for p, _ in padding)
        self.window[7] += sum(n for _, n in padding)

    def _accumulate(self, batches: list[Batch], tokens: float) -> Tensor:
        """Gradients of all batches; returns the sums of the smoothed and the plain loss of this rank's."""
        sums = torch.zeros(2, device=self.device)
        for number, batch in enumerate(batches, 1):
            with self.world.apart() if number < len(batches) else nullcontext():
                loss, nll = self._forward(batch.to(self.device))
                self.scaler.scale(loss / tokens).backward()
            sums += torch.stack([loss.detach(), nll.detach()])
        return sums

    def _accumulate_halves(self, batches: list[Batch], tokens: float) -> Tensor:
        """The update again from its start, with every batch in two: the same gradient in less memory."""
        if self.world.size > 1:  # the others wait for the rest of gradients of which they have the beginning
            raise TrainingError(
                f"out of memory at step {self.progress.step + 1}; the last checkpoint is kept. {_LESS_MEMORY}"
            )
        self.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        self.reporter.line(f"step {self.progress.step + 1}: out of memory; the batch is split. {_LESS_MEMORY}")
        epoch = self.progress.epoch
        halves = [self.reader.read(rows, epoch) for b in batches for rows in np.array_split(b.rows, 2) if len(rows)]
        try:
            return self._accumulate(halves, tokens)
        except torch.OutOfMemoryError:
            raise TrainingError(
                f"out of memory at step {self.progress.step + 1}, even with the batch split; "
                f"the last checkpoint is kept. {_LESS_MEMORY}"
            ) from None

    def _try_longest_batch(self) -> None:
        """Fail at the start, not after an hour: the batch with most positions must fit. Leaves no trace."""
        rows = self.order.longest_batch()
        state = torch.cuda.get_rng_state(self.device)
        moments: list[Tensor] = []  # Adam's come with the first update and stay: a batch must fit beside them
        try:
            if not self.optimizer.state:
                moments += [torch.empty_like(p) for p in self.parameters for _ in range(2)]
            with self.world.apart():
                self._accumulate([self.reader.largest(rows)], 1)
        except torch.OutOfMemoryError:
            raise TrainingError(
                f"the longest batch does not fit into the memory of {self.device}. {_LESS_MEMORY}"
            ) from None
        finally:
            moments.clear()
            self.optimizer.zero_grad(set_to_none=True)
            torch.cuda.set_rng_state(state, self.device)

    def _forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        with autocast(self.device, self.dtype):
            hidden = self.forward(batch.src, batch.src_mask, batch.tgt_in)  # [B, T, D]
            smoothing = self.train_config.label_smoothing
            targets = batch.at_real(batch.tgt_out)
            loss = projected_cross_entropy(batch.at_real(hidden), self.model.output, targets, smoothing)
            return loss.smoothed, loss.nll

    # ---------------------------------------------------------------------------------------------------- when to stop

    def _stop_if_diverged(self) -> None:
        """End a training whose gradients are not finite any more, naming the sentences of the last bad batch."""
        progress, limit = self.progress, self.train_config.max_bad_steps
        if self.device.type == "cuda":  # reading a number waits for the device: look only now and then
            if progress.step % limit or len(self.recent) < limit or any(bool(ok) for _, ok in self.recent):
                return
            bad = limit
        else:
            bad = progress.bad_steps = 0 if self.recent[-1][1] else progress.bad_steps + 1
        if bad < limit:
            return
        own = [self.reader.dataset.index(int(row)) for batch in self.recent[-1][0] for row in batch.rows]
        rows = sorted(self.world.collect(own))
        shown = ", ".join(map(str, rows[:10])) + (f" and {len(rows) - 10} more" if len(rows) > 10 else "")
        example = self.reader.text[rows[0]] if self.reader.text is not None else ("", "")
        error = TrainingError(
            f"the gradient was not finite for {bad} updates in a row, up to step {progress.step}; the last batch held "
            f"the training pairs {shown} (the first: {' ||| '.join(example)[:200]}); the last good checkpoint is kept; "
            "lower train.optimizer.lr, lengthen train.schedule.warmup_steps, or set train.precision: fp32"
        )
        raise self.world.common(error)

    def reason_to_stop(self) -> str | None:
        c, p = self.train_config, self.progress
        if c.max_steps and p.step >= c.max_steps:
            return f"max_steps ({c.max_steps})"
        if c.max_epochs and p.epoch >= c.max_epochs:
            return f"max_epochs ({c.max_epochs})"
        if c.max_minutes and p.seconds >= 60 * c.max_minutes:
            return f"max_minutes ({c.max_minutes:g})"
        if c.patience and p.stale_validations >= c.patience:
            return f"patience ({c.patience} validations without a better {TITLES[c.score]})"
        return None

    def pace(self) -> plan.Pace:
        """How far the training has come, in updates of the size that this start makes."""
        epoch_steps = len(self.order.updates(self.progress.epoch))
        return plan.Pace.of(self.progress, epoch_steps, self.order.accumulate)

    def _validation_is_due(self, epoch_ended: bool) -> bool:
        every = self.train_config.validate_every
        return epoch_ended if every == "epoch" else self.progress.step % every == 0

    def _checkpoint_is_due(self) -> bool:
        every = self.train_config.checkpoint_every
        return every is not None and self.progress.step % every == 0

    def _agree(self) -> None:
        """The clock of rank 0 and the signals of any rank hold for all."""
        told = self.world.exchange([self.progress.seconds, heard.stop, heard.save])
        heard.save = False
        self.progress.seconds = told[0][0]
        self.signal = max(int(number) for _, number, _ in told) or None
        self.save_asked = any(save for _, _, save in told)

    def _stop_if_asked(self) -> None:
        if not self.save_asked and self.signal is None:
            return
        step = self.progress.step
        if self.saved_step != step:  # at step 0 there is nothing to save
            self._save(scheduled=False)
        if self.save_asked and self.saved_step == step > 0:
            self.reporter.line(f"step {step}  saved, as SIGUSR1 asked")
        self.save_asked = False
        if self.signal is not None:
            kept = "all saved" if self.saved_step == step else f"saved up to step {self.saved_step}"
            name = signal.Signals(self.signal).name
            error = Interrupted(f"stopped by {name} at step {step}, {kept}; the same command goes on", self.signal)
            raise self.world.common(error)

    def _stop_if_unsaved(self) -> None:
        """No final model is made of a training whose last steps are not saved (``train.on_save_error: continue``)."""
        if self.saved_step != self.progress.step:
            kept = f"up to step {self.saved_step}" if self.saved_step else "nothing of it"
            raise self.world.common(
                TrainingError(
                    f"step {self.progress.step}: the training has ended, but its last checkpoint could not be saved "
                    f"({kept} is saved); make room and run the same command again"
                )
            )

    # ----------------------------------------------------------------------------------------- metrics and validations

    def _count_time(self, of_updates: bool = False) -> None:
        """Count the time since the last call as training, and as time of updates, from which tokens/s is computed."""
        now = time.monotonic()
        self.progress.seconds += now - self._clock
        if of_updates:
            self.window[8] += now - self._clock
        self._clock = now

    def _tick(self) -> None:
        self._count_time(of_updates=True)
        if self.device.type == "cpu":  # elsewhere reading a number would wait for the device
            self.reporter.progress(self.progress.step, f"loss {self.window[0] / self.window[5]:.3f}")

    def _log(self) -> None:
        self.world.first(self.run.check_held)
        w = dict(zip(WINDOW, _total(self.world.exchange(self.window.tolist())), strict=True))
        self.window.zero_()
        step, tokens = self.progress.step, max(1.0, w["tokens"])  # no token counts where every update was skipped
        nll = w["nll"] / tokens
        metrics = {
            "train/loss": w["smoothed"] / tokens,
            "train/ppl": math.exp(min(nll, 100)),
            "train/lr": self.optimizer.param_groups[0]["lr"],
            "train/grad_norm": w["grad_norm"] / max(1, w["updates"] - w["skipped"]),
            "train/tokens_per_second": w["tokens"] / w["seconds"],
            "train/padding": w["padding"] / w["positions"],
            "train/skipped": w["skipped"],
        }
        self.reporter.metrics_at(step, self.progress.epoch, metrics)
        self._forecast()
        self.reporter.progress(step, f"loss {metrics['train/loss']:.3f}")
        if self.reporter.bar.disable or w["skipped"]:
            skipped = f"  {w['skipped']:.0f} updates skipped (not finite)" if w["skipped"] else ""
            self.reporter.line(
                f"step {step}  epoch {self.progress.epoch}  loss {metrics['train/loss']:.3f}  "
                f"ppl {metrics['train/ppl']:.2f}  lr {metrics['train/lr']:.2e}  "
                f"{metrics['train/tokens_per_second']:,.0f} tokens/s{skipped}"
            )

    def _forecast(self) -> None:
        """Once in each start, when the speed is known: will the time limit end the schedule too early?"""
        steps, seconds = self.progress.step - self._started[0], self.progress.seconds - self._started[1]
        if self._told_forecast or steps < 20 or seconds <= 0:
            return
        self._told_forecast = True
        for line in plan.forecast(self.train_config, self.pace(), steps / seconds):
            self.reporter.line(line)

    def _validate(self) -> None:
        progress = self.progress
        result = self._validate_model()
        self.world.first(self.run.check_held)
        better = self._record(result.quality)
        self._count_time()
        self.reporter.metrics_at(progress.step, progress.epoch, result.metrics)
        if result.samples:
            self.reporter.try_to("samples", partial(self.reporter.samples, progress.step, result.samples))
        for name, weights, src, tgt in result.maps:
            show = partial(self.reporter.attention, progress.step, name, weights, src, tgt)
            self.reporter.try_to(f"attention map {name}", show)
        self._warn_if_stuck(result)
        for note in result.notes:
            self.reporter.line(note)
        m, measure = result.metrics, self.ranking.measure(result.quality)
        by = "" if measure == self.train_config.score else f" by {TITLES[measure]}"
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
        self.model.eval()
        try:
            with self.ema.applied() if self.ema is not None else nullcontext():
                return self.validate(self.model)
        except Paused:
            self.progress.validation_due = True
        finally:
            self.model.train()
        raise self._interrupted()

    def _interrupted(self) -> BaseException:
        """Save the state where a signal has paused a validation, and raise what ends the training."""
        self._agree()
        self._stop_if_asked()
        return AssertionError("a validation is paused only by a signal")

    def _record(self, quality: Quality) -> bool:
        """Take a validation into account for the best, patience and the plateau; returns whether it is the best."""
        progress, c = self.progress, self.train_config
        progress.score = self._score(quality)
        progress.quality, progress.validated_step, progress.validation_due = quality.as_dict(), progress.step, False
        better = self.ranking.better(quality, self._best())
        if better:
            progress.best, progress.best_score, progress.best_step = quality.as_dict(), progress.score, progress.step
        progress.scored_with = self.scored_with
        # Where the score cannot tell, a loss that falls is progress too.
        falling = progress.lowest_loss is None or quality.loss < progress.lowest_loss
        if falling:
            progress.lowest_loss = quality.loss
        undecided = self.ranking.measure(quality) != c.score or progress.score == progress.best_score
        if better or (falling and undecided and self.ranking.fallback):
            progress.stale_validations = progress.plateau_stale = 0
            return better
        progress.stale_validations += 1
        progress.plateau_stale += 1
        if progress.plateau_stale > c.schedule.patience:
            progress.plateau_cuts += 1
            progress.plateau_stale = 0
        return False

    def _best(self) -> Quality | None:
        """The best validation so far; earlier versions recorded its score alone."""
        return Quality.of({"quality": self.progress.best, "score": self.progress.best_score}, self.train_config.score)

    def _score_again(self) -> None:
        """Validate the kept checkpoints again whose scores cannot be compared with those to come.

        They were made under other settings of the search or the evaluation, or not recorded whole.
        """
        progress = self.progress
        former = progress.scored_with or self.formerly or self.scored_with
        kept = self.world.first(self._outdated_checkpoints)
        if not kept and former == self.scored_with:
            return
        changed = sorted(key for key, value in self.scored_with.items() if former.get(key) != value)
        if changed:
            differing = ", ".join(f"{key}: {former.get(key)}, now {self.scored_with[key]}" for key in changed)
            self.reporter.line(
                f"warning: settings of the validation changed ({differing}), and scores of before and after cannot be "
                f"compared: {len(kept)} kept checkpoint(s) are scored again, and patience counts from 0"
            )
        try:
            for one in kept:
                self._score_checkpoint(one)
        except Paused:  # those that are left are scored when the run is resumed
            raise self._interrupted() from None
        best = self.world.first(lambda: next(iter(self._ranked(lambda _: None)), None))
        quality_of_best = Quality.of(best.state, self.train_config.score) if best else None
        progress.best = quality_of_best.as_dict() if quality_of_best else None
        progress.best_score, progress.best_step = (best.score, best.step) if best else (None, 0)
        progress.stale_validations = progress.plateau_stale = 0
        progress.scored_with = self.scored_with
        self._clock = time.monotonic()

    def _score_checkpoint(self, one: checkpoints.Checkpoint) -> None:
        """Validate a checkpoint and put what was found into it."""
        quality = self._quality(self.world.each(lambda: one.weights))
        changes = {"quality": quality.as_dict(), "score": self._score(quality), "scored_with": self.scored_with}
        self.world.first(self.run.check_held)
        self.world.first(lambda: checkpoints.amend(one, **changes))
        self.reporter.line(f"step {one.step}  scored again: {quality}")

    def _score(self, quality: Quality) -> float:
        """The number that train.score asks for, higher is better."""
        score: float = -quality.loss if self.train_config.score == "loss" else getattr(quality, self.train_config.score)
        return score

    def _outdated_checkpoints(self) -> list[checkpoints.Checkpoint]:
        """Whole checkpoints to score again; the damaged are named where the final model is made."""
        states = checkpoints.states(self.run.checkpoints)
        outdated = [path for path, state in states.items() if self._outdated(state)]
        return checkpoints.whole(self.run.checkpoints, lambda _: None, outdated)

    def _outdated(self, state: Mapping[str, Any]) -> bool:
        """Whether the score of a checkpoint cannot be compared with those of today's validations."""
        quality = Quality.of(state, self.train_config.score)
        if quality is None:
            return False
        made_with = state.get("scored_with") or self.formerly or self.scored_with
        return made_with != self.scored_with or (self.ranking.fallback and not quality.complete)

    def _ranked(self, warn: Callable[[str], None]) -> list[checkpoints.Checkpoint]:
        return checkpoints.ranked(self.run.checkpoints, warn, self.ranking.of_state)

    def _quality(self, weights: Mapping[str, Tensor]) -> Quality:
        """Of the model with other weights."""
        training = self.model.training
        self.model.eval()
        try:
            with borrowed(self.model, weights):
                return self.validate(self.model).quality
        finally:
            self.model.train(training)

    def _warn_if_stuck(self, result: Validation) -> None:
        """Two signs of a training that leads nowhere, with their usual causes."""
        progress, warmup = self.progress, self.train_config.schedule.warmup_steps
        if progress.first_loss is None:
            progress.first_loss = result.quality.loss
        elif (
            (progress.lowest_loss or 0.0) > 0.99 * progress.first_loss  # no validation was ever better
            and progress.step >= warmup
            and result.metrics["valid/accuracy"] < 0.9
        ):
            self.reporter.line(
                "warning: the validation loss has not moved since the first validation; the learning rate may be far "
                "too high or too low, or source and target lines may not belong together"
            )
        if not result.quality.varied and (progress.step >= warmup or not self._told_unvaried):
            self._told_unvaried = True  # in the warm-up, once
            different, lines = result.distinct
            rising = f"; the learning rate is still warming up ({progress.step:,} of {warmup:,} steps)"
            self.reporter.line(
                f"warning: the {lines:,} validation translations are only {different:,} different sentence(s): the "
                "model does not use the source yet. This is usual in the first few hundred steps"
                f"{rising if progress.step < warmup else ''}. If it stays, check that the source and target files are "
                "aligned line by line, and try another learning rate"
            )

    # ----------------------------------------------------------------------------------------------------- checkpoints

    def _save(self, scheduled: bool = True) -> None:
        self.world.first(self.run.check_held)
        progress = self.progress
        self._count_time()
        progress.window = self.window.tolist()
        progress.files = self.reporter.lengths()
        progress.scaler = self.scaler.state_dict()
        ranks = self.world.gather(checkpoints.RankState.now(progress.window))
        if self.world.first(lambda: self._write(ranks, scheduled)):
            self.saved_step = progress.step
        self._count_time()

    def _write(self, ranks: list[checkpoints.RankState], scheduled: bool) -> bool:
        """Write a checkpoint and delete those it replaces; False where that failed but the training may go on."""
        progress, c = self.progress, self.train_config
        validated = progress.validated_step == progress.step
        try:
            checkpoints.save(
                self.run.checkpoints,
                model=self.model,
                optimizer=self.optimizer,
                ema=self.ema.tensors() if self.ema is not None else None,
                progress=asdict(progress),
                score=progress.score if validated else None,
                quality=progress.quality if validated else None,
                scored_with=self.scored_with if validated else None,
                scheduled=scheduled,
                identity=self.identity,
                environment=self.environment,
                ranks=ranks,
            )
        except OSError as error:
            reason = f"step {progress.step}: the checkpoint could not be saved: {error.strerror or error}"
            kept = f"the one of step {self.saved_step} is kept" if self.saved_step else "there is none before it"
            if c.on_save_error == "stop":
                raise TrainingError(f"{reason}; {kept}; make room and run the same command again") from error
            self.reporter.line(f"{reason}; {kept}; going on (train.on_save_error: continue)")
            return False
        with suppress(OSError):
            self.run.note_saved()
        self._prune()
        return True

    def _prune(self) -> None:
        c = self.train_config
        try:
            checkpoints.prune(self.run.checkpoints, c.keep_best, c.keep_last, self.ranking.of_state)
        except OSError as error:
            where = error.filename or self.run.checkpoints
            self.reporter.line(f"warning: {where}: an old checkpoint could not be deleted: {error.strerror or error}")

    # ----------------------------------------------------------------------------------------------------- final model

    def is_finished(self, warn: Callable[[str], None]) -> bool:
        """Whether the training has reached its end and the run's final model is what :meth:`finish` would write now."""
        if self.reason_to_stop() is None or not self.run.has_model:
            return False
        try:
            found = checkpoints.read_origin(self.run.model)
        except (OtherFormatError, UnreadableError):
            raise
        except CheckpointError as error:
            warn(f"{error}; making it again from the checkpoints")
            return False
        candidates = self._candidates(warn)
        if "candidates" in found:  # which of them is better does not change: their validations are deterministic
            stored = [{key: one.get(key) for key in ("steps", "weights", "averaged")} for one in found["candidates"]]
            return stored == [one.identity() for one in candidates] and found["last_step"] == self.progress.step
        expected = self._origin(candidates[0])
        # A model of before these were recorded is told by the time trained, which no two checkpoints share.
        keys = ["last_step", "weights"] if "last_step" in found else ["training_seconds"]
        return all(found.get(key) == expected[key] for key in ("steps", "averaged", *keys))

    def finish(self, warn: Callable[[str], None]) -> dict[str, Any]:
        """Write the final model and return its origin.

        It is the best checkpoint or the mean of several (``train.average``). A mean, and a moving average of the
        weights, is validated beside what it stands for, and the better is taken (``train.selection: validated``).

        Raises:
            CheckpointError: there is no whole checkpoint to make it from.
            TrainingError: the disk is full, or writing failed in another way.
            RunError: the run directory is another one by now.
        """
        self.world.first(self.run.check_held)
        candidates = self.world.first(lambda: self._candidates(warn))
        if len(candidates) > 1:
            candidates = [self._validated(one) for one in candidates]
        chosen = max(candidates, key=lambda one: self.ranking.of(one.quality))  # of equal ones the first
        weights = self.world.each(chosen.weights)
        origin = {
            **self._origin(chosen),
            "score": self.train_config.score,
            "chosen_by": self.ranking.measure(chosen.quality),
            "candidates": [{**one.identity(), **one.quality.as_dict(), "chosen": one is chosen} for one in candidates],
        }
        info = {**origin, "environment": self.environment}
        self.world.first(lambda: checkpoints.save_model(self.run.model, weights, info))
        checkpoints.load_weights(self.model, weights, self.run.model)
        self.model.eval()
        return origin

    def _origin(self, chosen: Candidate) -> dict[str, Any]:
        """What ``model.json`` says of the final model: of which weights it is, and of how far a training."""
        return {
            **chosen.identity(),
            "last_step": self.progress.step,
            "identity": self.identity,
            "training_seconds": self.progress.seconds,
        }

    def _candidates(self, warn: Callable[[str], None]) -> list[Candidate]:
        """What the final model may be, what was asked for first."""
        c, folder, ema = self.train_config, self.run.checkpoints, self.ema is not None
        ranked = self._ranked(warn)
        chosen = ranked[: c.average or 1]
        if c.average is not None and c.average_of == "last":
            chosen = [one for one in checkpoints.whole(folder, warn) if one.scheduled][-c.average :]
            if self.ranking.fallback and ranked and ranked[0].step not in [one.step for one in chosen]:
                chosen = [ranked[0], *chosen[1:]]  # patience ends a training when all the last ones are worse
        if not chosen:
            raise CheckpointError(f"{folder}: no whole checkpoint is left to make the final model from")
        if c.average is not None and len(chosen) < c.average:
            warn(f"warning: train.average: {c.average}, but there are only {len(chosen)} checkpoint(s) to average")
        asked = Candidate(chosen, averaged=ema or len(chosen) > 1)
        best = Candidate(ranked[:1], averaged=ema)
        if len(chosen) == 1:
            asked = replace(asked, quality=Quality.of(chosen[0].state, c.score) or UNKNOWN)
        if not self.ranking.fallback or not ranked:
            return [asked]
        best = replace(best, quality=Quality.of(ranked[0].state, c.score) or UNKNOWN)
        raw = [Candidate(ranked[:1], averaged=False)] if ema else []
        return [asked, *([best] if len(chosen) > 1 else []), *raw]

    def _validated(self, one: Candidate) -> Candidate:
        if one.quality.complete:
            return one
        return replace(one, quality=self._quality(self.world.each(one.weights)))


@dataclass(frozen=True)
class Candidate:
    """Weights that may become the final model.

    Attributes:
        averaged: whether they are a mean of several checkpoints, or of the steps of one (``train.ema_decay``).
    """

    checkpoints: list[checkpoints.Checkpoint]
    averaged: bool
    quality: Quality = UNKNOWN

    def weights(self) -> dict[str, Tensor]:
        if len(self.checkpoints) > 1:
            return mean_weights([one.weights for one in self.checkpoints])
        return self.checkpoints[0].weights if self.averaged else self.checkpoints[0].tensors("model")

    def identity(self) -> dict[str, Any]:
        """Which weights they are."""
        raw = len(self.checkpoints) == 1 and not self.averaged
        return {
            "steps": [one.step for one in self.checkpoints],
            "weights": [one.model_sha256 if raw else one.weights_sha256 for one in self.checkpoints],
            "averaged": self.averaged,
        }


def _total(windows: Sequence[Sequence[float]]) -> list[float]:
    """The sums over all ranks of what each has its share of, and rank 0's of the rest."""
    return [
        sum(values) if name in SHARES else values[0]
        for name, values in zip(WINDOW, zip(*windows, strict=True), strict=True)
    ]
