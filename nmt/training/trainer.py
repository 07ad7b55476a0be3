"""The training loop: updates, validations and checkpoints, resumable to the last bit."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from nmt.config import Config
from nmt.data.batching import Batch, Reader, TrainingOrder, prefetch
from nmt.device import autocast
from nmt.errors import CheckpointError, NmtError
from nmt.models.seq2seq import Seq2Seq
from nmt.run import Run
from nmt.training import checkpoint as checkpoints
from nmt.training.loss import projected_cross_entropy
from nmt.training.optim import MovingAverage, build_optimizer, learning_rate, mean_weights
from nmt.training.reporting import Reporter


class Interrupted(NmtError):
    """A signal asked the training to stop; its state is saved."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number


WINDOW = ("smoothed", "nll", "grad_norm", "updates", "skipped", "tokens", "padding", "positions", "seconds")


@dataclass
class Progress:
    """Where a training stands; plain data, so that it is a part of ``state.json`` as it is."""

    step: int = 0
    epoch: int = 0
    position: int = 0  # updates taken in this epoch
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


@dataclass(frozen=True)
class Validation:
    """What a validation found: metrics by TensorBoard name, and samples to show."""

    metrics: dict[str, float]
    samples: list[tuple[str, str, str]]  # source, reference, hypothesis
    maps: list[tuple[str, Tensor, list[str], list[str]]]  # name, weights [T, S], source and target subwords


class Trainer:
    """Trains one model.

    Args:
        identity: what a checkpoint must agree on to be resumed: hashes of the architecture, tokenizer and data.
        validate: runs a validation of the model it is given (in evaluation mode).
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
        device: torch.device,
        dtype: torch.dtype,
    ):
        self.config, self.train_config, self.run = config, config.train, run
        self.model, self.reader, self.order, self.validate = model, reader, order, validate
        self.identity, self.device, self.dtype = identity, device, dtype
        self.forward = torch.compile(model, dynamic=True) if config.train.compile else model
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = build_optimizer(model, config.train.optimizer, device)
        self.ema = MovingAverage(model, config.train.ema_decay) if config.train.ema_decay else None
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
        self.progress = Progress()
        self.window = self._window()
        self.saved_step = 0
        self.signal: int | None = None

    # ------------------------------------------------------------------------------------------------------- resuming

    def resume(self, warn: Callable[[str], None]) -> bool:
        """Take up the last whole checkpoint of the run, if there is one.

        Raises:
            CheckpointError: it belongs to another configuration, or all are damaged.
        """
        last = checkpoints.last_good(self.run.checkpoints, warn)
        if last is None:
            return False
        for key, value in self.identity.items():
            if (found := last.state["identity"].get(key)) != value:
                raise CheckpointError(f"{last.path}: is of another {key} ({found}, this run has {value})")
        checkpoints.restore(last, self.model, self.optimizer)
        if self.ema is not None:
            self.ema.load(last.tensors("ema"))
        self.progress = Progress(**last.state["progress"])
        self.saved_step = self.progress.step
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(self.progress.scaler)
        return True

    # ------------------------------------------------------------------------------------------------------- the loop

    def fit(self) -> str:
        """Train until something says stop; return what did.

        Raises:
            Interrupted: a signal came; the state was saved.
        """
        progress = self.progress
        self.reporter = Reporter(self.run, progress.files, progress.step, self.train_config.max_steps)
        self.window = self._window()
        if progress.step == 0:
            self.reporter.text("config", f"```yaml\n{self.config.to_yaml()}```", 0)
        self._clock = time.monotonic()
        updates = prefetch(self._read_updates)
        self.model.train()
        try:
            with self._signals():
                while True:
                    if progress.validation_due:
                        self._validate()
                        self._save()
                    if (reason := self.reason_to_stop()) is not None:
                        break
                    self._stop_if_asked()
                    epoch, position, is_last, batches = next(updates)
                    self._update(batches)
                    progress.epoch, progress.position = (epoch + 1, 0) if is_last else (epoch, position + 1)
                    self._tick()
                    if progress.step % self.train_config.log_every == 0:
                        self._log()
                    progress.validation_due = self._validation_is_due(is_last)
                    if not progress.validation_due and self._checkpoint_is_due():
                        self._save()
                    self._stop_if_asked()
                if progress.validated_step != progress.step:
                    self._validate()
                    self._save()
                return reason
        finally:
            updates.close()
            self.reporter.close()

    def _window(self) -> Tensor:
        """The sums since the last line of metrics, on the device: adding to them waits for nothing."""
        exact = torch.float32 if self.device.type == "mps" else torch.float64
        return torch.tensor(self.progress.window, dtype=exact, device=self.device)

    def _read_updates(self) -> Iterator[tuple[int, int, bool, list[Batch]]]:
        epoch, start = self.progress.epoch, self.progress.position
        while True:
            updates = self.order.updates(epoch)
            for position in range(start, len(updates)):
                yield (
                    epoch,
                    position,
                    position == len(updates) - 1,
                    [self.reader.read(r, epoch) for r in updates[position]],
                )
            epoch, start = epoch + 1, 0

    def _update(self, batches: list[Batch]) -> None:
        """One optimizer step on the mean loss per target token of all ``batches`` together."""
        progress = self.progress
        tokens = sum(batch.tgt_tokens for batch in batches)
        rate = learning_rate(progress.step + 1, self.train_config, progress.plateau_cuts)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        for batch in batches:
            loss, nll = self._forward(batch.to(self.device))
            self.scaler.scale(loss / tokens).backward()
            self.window[0] += loss.detach()
            self.window[1] += nll.detach()
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.train_config.clip_norm or math.inf)
        finite = torch.isfinite(norm)
        self.window[2] += torch.where(finite, norm, 0)
        self.window[4] += ~finite
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
        padding = [batch.padding for batch in batches]
        self.window[3] += 1
        self.window[5] += tokens
        self.window[6] += sum(p for p, _ in padding)
        self.window[7] += sum(n for _, n in padding)

    def _forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        with autocast(self.device, self.dtype):
            hidden = self.forward(batch.src, batch.src_mask, batch.tgt_in)  # [B, T, D]
            real = hidden[batch.tgt_mask]  # [M, D]
            smoothing = self.train_config.label_smoothing
            return projected_cross_entropy(real, self.model.output, batch.tgt_out[batch.tgt_mask], smoothing)

    # ---------------------------------------------------------------------------------------------------- when to stop

    def reason_to_stop(self) -> str | None:
        c, p = self.train_config, self.progress
        if c.max_steps and p.step >= c.max_steps:
            return f"max_steps ({c.max_steps})"
        if c.max_epochs and p.epoch >= c.max_epochs:
            return f"max_epochs ({c.max_epochs})"
        if c.max_minutes and p.seconds >= 60 * c.max_minutes:
            return f"max_minutes ({c.max_minutes:g})"
        if c.patience and p.stale_validations >= c.patience:
            return f"patience ({c.patience} validations without a better {c.score})"
        return None

    def _validation_is_due(self, epoch_ended: bool) -> bool:
        every = self.train_config.validate_every
        return epoch_ended if every == "epoch" else self.progress.step % every == 0

    def _checkpoint_is_due(self) -> bool:
        every = self.train_config.checkpoint_every
        return every is not None and self.progress.step % every == 0

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn SIGINT and SIGTERM into a request to stop after the step; a second SIGINT ends at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, _: Any) -> None:
            if self.signal == number == signal.SIGINT:
                raise KeyboardInterrupt
            self.signal = number

        before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop_if_asked(self) -> None:
        if self.signal is not None:
            if self.saved_step != self.progress.step:
                self._save(scheduled=False)
            name = signal.Signals(self.signal).name
            raise Interrupted(
                f"stopped by {name} at step {self.progress.step}, all saved; the same command goes on", self.signal
            )

    # ----------------------------------------------------------------------------------------- metrics and validations

    def _tick(self) -> None:
        """Count the time since the last tick as training."""
        now = time.monotonic()
        self.progress.seconds += now - self._clock
        self.window[8] += now - self._clock
        self._clock = now
        if self.device.type == "cpu":  # elsewhere reading a number would wait for the device
            self.reporter.progress(self.progress.step, f"loss {self.window[0] / self.window[5]:.3f}")

    def _log(self) -> None:
        w = dict(zip(WINDOW, self.window.tolist(), strict=True))
        self.window.zero_()
        step, nll = self.progress.step, w["nll"] / w["tokens"]
        metrics = {
            "train/loss": w["smoothed"] / w["tokens"],
            "train/ppl": math.exp(min(nll, 100)),
            "train/lr": self.optimizer.param_groups[0]["lr"],
            "train/grad_norm": w["grad_norm"] / max(1, w["updates"] - w["skipped"]),
            "train/tokens_per_second": w["tokens"] / w["seconds"],
            "train/padding": w["padding"] / w["positions"],
            "train/skipped": w["skipped"],
        }
        self.reporter.metrics_at(step, self.progress.epoch, metrics)
        self.reporter.progress(step, f"loss {metrics['train/loss']:.3f}")
        if self.reporter.bar.disable or w["skipped"]:
            skipped = f"  {w['skipped']:.0f} updates skipped (not finite)" if w["skipped"] else ""
            self.reporter.line(
                f"step {step}  epoch {self.progress.epoch}  loss {metrics['train/loss']:.3f}  "
                f"ppl {metrics['train/ppl']:.2f}  lr {metrics['train/lr']:.2e}  "
                f"{metrics['train/tokens_per_second']:,.0f} tokens/s{skipped}"
            )

    def _validate(self) -> None:
        progress, c = self.progress, self.train_config
        self.model.eval()
        with self.ema.applied() if self.ema is not None else nullcontext():
            result = self.validate(self.model)
        self.model.train()
        score = result.metrics["valid/bleu"] if c.score == "bleu" else -result.metrics["valid/loss"]
        progress.score, progress.validated_step, progress.validation_due = score, progress.step, False
        better = progress.best_score is None or score > progress.best_score
        if better:
            progress.best_score, progress.best_step = score, progress.step
            progress.stale_validations = progress.plateau_stale = 0
        else:
            progress.stale_validations += 1
            progress.plateau_stale += 1
            if progress.plateau_stale > c.schedule.patience:
                progress.plateau_cuts += 1
                progress.plateau_stale = 0
        now = time.monotonic()
        progress.seconds += now - self._clock  # training time, but not the window's: tokens/s is of updates alone
        self._clock = now
        self.reporter.metrics_at(progress.step, progress.epoch, result.metrics)
        if result.samples:
            self.reporter.samples(progress.step, result.samples)
        for name, weights, src, tgt in result.maps:
            self.reporter.attention(progress.step, name, weights, src, tgt)
        m = result.metrics
        self.reporter.line(
            f"step {progress.step}  valid: loss {m['valid/loss']:.3f}  ppl {m['valid/ppl']:.2f}  "
            f"accuracy {m['valid/accuracy']:.3f}  BLEU {m['valid/bleu']:.2f}  chrF {m['valid/chrf']:.2f}"
            f"{'  (best)' if better else ''}  {progress.seconds / 60:.1f} min"
        )

    # ----------------------------------------------------------------------------------------------------- checkpoints

    def _save(self, scheduled: bool = True) -> None:
        progress, c = self.progress, self.train_config
        progress.window = self.window.tolist()
        progress.files = self.reporter.lengths()
        progress.scaler = self.scaler.state_dict()
        validated = progress.validated_step == progress.step
        checkpoints.save(
            self.run.checkpoints,
            model=self.model,
            optimizer=self.optimizer,
            ema=self.ema.tensors() if self.ema is not None else None,
            progress=asdict(progress),
            score=progress.score if validated else None,
            scheduled=scheduled,
            identity=self.identity,
        )
        self.saved_step = progress.step
        checkpoints.prune(self.run.checkpoints, c.keep_best, c.keep_last)

    def finish(self) -> dict[str, Any]:
        """Write the final model: the best checkpoint, or the mean of several (``train.average``); return its origin."""
        c = self.train_config
        best = checkpoints.ranked(self.run.checkpoints)
        if c.average is None:
            chosen = best[:1]
        elif c.average_of == "best":
            chosen = best[: c.average]
        else:
            everyone = map(checkpoints.open_checkpoint, checkpoints.list_checkpoints(self.run.checkpoints))
            chosen = [one for one in everyone if one.scheduled][-c.average :]
        weights = chosen[0].weights if len(chosen) == 1 else mean_weights([one.weights for one in chosen])
        info = {
            "steps": [one.step for one in chosen],
            "averaged": self.ema is not None or len(chosen) > 1,
            "identity": self.identity,
            "training_seconds": self.progress.seconds,
        }
        checkpoints.save_model(self.run.model, weights, info)
        checkpoints.load_weights(self.model, weights, self.run.model)
        self.model.eval()
        return info
