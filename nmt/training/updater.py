"""One optimizer step: forward, backward, clipping, and the handling of out-of-memory errors and divergence."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nmt.config.train import TrainConfig
from nmt.data.batch import Batch
from nmt.data.packing import PackedBatch
from nmt.data.reader import Reader
from nmt.errors import TrainingError
from nmt.models.seq2seq import Seq2Seq
from nmt.models.transformer import stack_layers
from nmt.run.checkpoint import weights_of
from nmt.runtime.device import Place, autocast
from nmt.runtime.sharding import gathered
from nmt.training.captured import CapturedUpdate, Graphs, capture
from nmt.training.objective import Objective
from nmt.training.optim import MovingAverage, borrowed, build_optimizer, set_learning_rate
from nmt.training.progress import Progress, Window

_LESS_MEMORY = "Lower train.batch_tokens (and raise train.accumulate to keep the batch), or data.cleaning.max_tokens"


class Counts(NamedTuple):
    """What the batches of an update hold.

    Attributes:
        weight: of the targets, each with the weight of its sentence.
        src, tgt: real tokens of each side.
    """

    weight: float
    src: float
    tgt: float

    @classmethod
    def of(cls, batches: Sequence[Batch | PackedBatch]) -> Counts:
        weight = sum(batch.total_weight for batch in batches)
        return cls(weight, sum(batch.src_tokens for batch in batches), sum(batch.tgt_tokens for batch in batches))

    @classmethod
    def sum(cls, counts: Iterable[Sequence[float]]) -> Counts:
        """Those of all ranks."""
        return cls(*map(sum, zip(*counts, strict=True)))


class Updater:
    """Makes optimizer steps of a model.

    Args:
        sharded: divide the model among the ranks, see :class:`nmt.runtime.sharding.Shards`.

    Attributes:
        shards: the division of the model; None where every rank has all of it.
        objective: what is minimised.
        optimizer, scaler, ema: the state of the optimization beside the weights. ``scaler`` scales the loss in fp16.
        rate: the learning rate of the last update.
        packed: whether batches are packed.
        capturable: whether the update may become one CUDA graph: all packed batches have the same shape.
        captured: the CUDA graph of the update, once made.
        recent: for each of the last updates its batches, and whether its gradient was finite (a tensor on the device).
        tell: prints a line.
    """

    def __init__(self, config: TrainConfig, model: Seq2Seq[Any], reader: Reader, place: Place, sharded: bool = False):
        self.config, self.model, self.reader = config, model, reader
        self.device, self.dtype, self.ranks = place.device, place.dtype, place.ranks
        compress = config.compress_gradients == "bf16"
        self.shards = self.ranks.shard(model, stack_layers(model), compress) if sharded else None
        parallel = model if sharded else self.ranks.parallel(model, compress)
        self.packed = reader.packed
        self.capturable = (
            self.packed and self.device.type == "cuda" and self.ranks.size == 1 and self.dtype != torch.float16
        )
        self.captured: CapturedUpdate | None = None
        self.forward = torch.compile(parallel, dynamic=not self.packed) if config.compile else parallel
        self.objective = Objective(config, model)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = build_optimizer(model, config.optimizer, self.device, self.capturable, model.lr_factors())
        self.rate = config.optimizer.lr
        self.ema = MovingAverage(model, config.ema_decay) if config.ema_decay else None
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.recent: deque[tuple[Sequence[Batch | PackedBatch], Tensor]] = deque(maxlen=config.max_bad_steps)
        self.tell: Callable[[str], None] = lambda _: None

    def update(
        self, batches: Sequence[Batch | PackedBatch], progress: Progress, window: Window, total: Counts | None = None
    ) -> None:
        """Make one step on the mean loss per target token of the batches of all ranks.

        Args:
            batches: this rank's batches.
            progress: ``progress.step`` is incremented.
            window: the losses are added to these sums.
            total: the counts of all ranks, if they have exchanged them.

        Raises:
            Paused: a signal asks to stop, see :meth:`_pause_between`.
            TrainingError: out of memory, even with every batch split into halves.
        """
        # Each rank sums over its tokens, and the all-reduce takes the mean over ranks: divide by tokens per rank.
        # A token counts with the weight of its sentence.
        own = Counts.of(batches)
        if total is None:
            total = Counts.sum(self.ranks.exchange(own))
        self.rate = self.config.learning_rate(progress.step + 1, progress.plateau_cuts, progress.descent)
        set_learning_rate(self.optimizer, self.rate)
        if self.captured is not None:
            packed = [batch for batch in batches if isinstance(batch, PackedBatch)]
            finite = self.captured(packed, total.weight, self._pause_between)
        else:
            losses = self._gradients(batches, total.weight / self.ranks.size, progress)
            self._observe(losses, total.weight)
            finite = self._apply(losses, own.weight, window)
            self.optimizer.zero_grad(set_to_none=True)
        progress.step += 1
        progress.add_tokens(int(total.src), int(total.tgt))
        if self.ema is not None:
            self.ema.update(progress.step)
        self.recent.append((batches, finite))
        padding = [batch.padding for batch in batches]
        window.add_update(sum(p for p, _ in padding), sum(n for _, n in padding))

    def loss(self, batch: Batch | PackedBatch) -> tuple[Tensor, Tensor]:
        """The loss to differentiate and what is counted, see :class:`Objective`."""
        with autocast(self.device, self.dtype):
            return self.objective(self.forward, batch)

    @contextmanager
    def evaluated(self, weights: Mapping[str, Tensor] | None = None) -> Iterator[Seq2Seq[Any]]:
        """Inside the block, a model in evaluation mode, of whose parameters every rank has all; a collective call.

        Args:
            weights: of the model, whole tensors by name; None: their average if there is one, else the trained ones.
        """
        if self.shards is not None:
            average = None if self.ema is None else self.ema.tensors()
            with self.shards.filled(weights or average or weights_of(self.model)) as whole:
                yield whole
            return
        training = self.model.training
        self.model.eval()
        try:
            replaced: AbstractContextManager[None]
            if weights is not None:
                replaced = borrowed(self.model, weights)
            else:
                replaced = nullcontext() if self.ema is None else self.ema.applied()
            with replaced:
                yield self.model
        finally:
            self.model.train(training)

    @property
    def searchable(self) -> Seq2Seq[Any]:
        """The model that is searched: of one in shards the whole, without weights outside of :meth:`evaluated`."""
        return self.model if self.shards is None else self.shards.whole

    def allocated(self) -> Seq2Seq[Any]:
        """:attr:`searchable` with memory for weights of all kinds, after the training; a collective call."""
        return self.model if self.shards is None else self.shards.fill(weights_of(self.model))

    def prepare(self, rows: Any, window: Window) -> None:
        """Prepare the first step on CUDA, see :meth:`try_longest_batch` and :meth:`capture`."""
        self.try_longest_batch(rows)
        self.capture(rows, window)

    def try_longest_batch(self, rows: Any) -> None:
        """Check at the start that the batch with the most positions fits into memory. All state is restored.

        Args:
            rows: the sentence pairs of that batch.
        """
        state, host = torch.cuda.get_rng_state(self.device), torch.get_rng_state()
        moments: list[Tensor] = []  # room for Adam's moments, which the first update allocates
        try:
            if not self.optimizer.state:
                moments += [torch.empty_like(p) for p in self.parameters for _ in range(2)]
            with self.ranks.no_sync():
                self._accumulate([self.reader.largest(rows)], 1)
        except torch.OutOfMemoryError:
            raise TrainingError(
                f"the longest batch does not fit into the memory of {self.device}. {_LESS_MEMORY}"
            ) from None
        finally:
            moments.clear()
            self.optimizer.zero_grad(set_to_none=True)
            torch.cuda.set_rng_state(state, self.device)
            torch.set_rng_state(host)

    def capture(self, rows: Any, window: Window) -> None:
        """Capture the update as one CUDA graph, if possible. All state is restored.

        Args:
            rows: the sentence pairs of any batch.
            window: the sums to which the losses will be added.

        Raises:
            TrainingError: out of memory.
        """
        if not self.capturable:
            return
        if not self.model.uniform:
            self.tell(
                "the update is not captured as a CUDA graph and runs operation by operation: model.layer_drop skips "
                "other layers in each batch"
            )
            return
        batch = self.reader.largest(rows)
        assert isinstance(batch, PackedBatch)

        def make() -> CapturedUpdate:
            return CapturedUpdate(
                Graphs(self.device), batch, self.parameters,
                accumulate=lambda one, tokens: self._accumulate([one], tokens),
                apply=lambda losses, tokens: self._apply(losses, tokens, window),
                several=self.config.accumulate > 1, losses=self._no_losses(),
            )  # fmt: skip

        try:
            self.captured = capture(make, window.sums, self.tell)
        except torch.OutOfMemoryError:
            raise TrainingError(
                f"an update does not fit into the memory of {self.device} as one CUDA graph. {_LESS_MEMORY}, or set "
                "train.batching: padded"
            ) from None
        finally:
            if self.captured is None:
                self.optimizer.zero_grad(set_to_none=True)

    def stop_if_diverged(self, progress: Progress) -> None:
        """Raise an error if the gradients stay non-finite, and name the sentences of the last batch.

        Raises:
            TrainingError: ``train.max_bad_steps`` updates in a row were skipped.
        """
        # Count
        limit = self.config.max_bad_steps
        if self.device.type == "cuda":  # reading a number synchronizes: look only once in `limit` steps
            if progress.step % limit or len(self.recent) < limit or any(bool(ok) for _, ok in self.recent):
                return
            bad = limit
        else:
            bad = progress.bad_steps = 0 if self.recent[-1][1] else progress.bad_steps + 1
        if bad < limit:
            return
        # Report
        local = [row for batch in self.recent[-1][0] for row in self.reader.indices(batch.rows)]
        rows = sorted(self.ranks.gather_items(local))
        shown = ", ".join(map(str, rows[:10])) + (f" and {len(rows) - 10} more" if len(rows) > 10 else "")
        example = self.reader.text[rows[0]] if self.reader.text is not None else ("", "")
        error = TrainingError(
            f"the gradient was not finite for {bad} updates in a row, up to step {progress.step}; the last batch has "
            f"the training pairs {shown} (the first: {' ||| '.join(example)[:200]}); the last good checkpoint is kept; "
            "lower train.optimizer.lr, lengthen train.schedule.warmup_steps, or set train.precision: fp32"
        )
        raise self.ranks.raised_once(error)

    # -------------------------------------------------------------------------------------------------- parts of a step

    def _gradients(self, batches: Sequence[Batch | PackedBatch], tokens: float, progress: Progress) -> Tensor:
        """Compute the gradients of the loss over ``tokens``; when out of memory, with every batch split into halves."""
        with suppress(torch.OutOfMemoryError):  # leave the block first: the traceback keeps the failed pass's tensors
            return self._accumulate(batches, tokens)
        return self._accumulate_halves(batches, tokens, progress)

    def _accumulate(self, batches: Sequence[Batch | PackedBatch], tokens: float | Tensor) -> Tensor:
        """Add up the gradients of all batches; return this rank's sums of what is counted, see :class:`Objective`."""
        sums = self._no_losses()
        for number, batch in enumerate(batches, 1):
            self._pause_between(number)
            with self.ranks.no_sync() if number < len(batches) else nullcontext():
                loss, counted = self.loss(batch.to(self.device))
                self.scaler.scale(loss / tokens).backward()
            sums += counted
        return sums

    def _pause_between(self, number: int) -> None:
        """Let a signal stop an update of several batches before batch ``number``.

        Raises:
            Paused: a signal asks to stop. The weights are unchanged, but not the random generators.
        """
        if number > 1 and self.ranks.size == 1:  # several ranks would wait for each other in the all-reduce
            self.ranks.pulse()

    def _no_losses(self) -> Tensor:
        """Zeros for the sums of what is counted."""
        return torch.zeros(2 + len(self.objective.logged), device=self.device)

    def _accumulate_halves(self, batches: Sequence[Batch | PackedBatch], tokens: float, progress: Progress) -> Tensor:
        """Restart the update with every batch split into halves: the same gradient in less memory."""
        step = progress.step + 1
        # A retry on one rank would deadlock: the others are inside this step's all-reduce. Half a packed batch takes as
        # much memory as a whole one.
        if self.ranks.size > 1 or self.packed:
            raise TrainingError(f"out of memory at step {step}; the last checkpoint is kept. {_LESS_MEMORY}")
        self.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        self.tell(f"step {step}: out of memory; the batch is split. {_LESS_MEMORY}")
        epoch = progress.epoch
        halves = [self.reader.read(rows, epoch) for b in batches for rows in np.array_split(b.rows, 2) if len(rows)]
        try:
            return self._accumulate(halves, tokens)
        except torch.OutOfMemoryError:
            raise TrainingError(
                f"out of memory at step {step}, even with the batch split; the last checkpoint is kept. {_LESS_MEMORY}"
            ) from None

    @torch.no_grad()
    def _observe(self, losses: Tensor, total: float) -> None:
        """Tell terms the mean log p of the ``total`` targets of all ranks; ``losses`` has this rank's sums."""
        terms = [term for term in self.objective.terms.values() if term.observes]
        if not terms:
            return
        nll = losses[1]
        if self.ranks.size > 1:
            nll = nll.new_tensor(sum(numbers[0] for numbers in self.ranks.exchange([float(nll)])))
        for term in terms:
            term.observe(-nll / total)

    def _apply(self, losses: Tensor, tokens: float | Tensor, window: Window) -> Tensor:
        """Update the weights if the gradient is finite; return whether it is.

        Args:
            losses: sums of what is counted over this rank's ``tokens``, for ``window``.
        """
        self.scaler.unscale_(self.optimizer)
        norm = gathered(torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm or math.inf))
        finite = torch.isfinite(norm)
        if self.scaler.is_enabled():
            self.scaler.step(self.optimizer)
            self.scaler.update()
        elif self.device.type == "cuda" or finite:  # on CUDA the fused kernel skips without a synchronization
            self.optimizer.found_inf = (~finite).float() if self.device.type == "cuda" else None  # type: ignore[attr-defined]
            self.optimizer.step()
        window.add(finite, losses, norm, tokens)
        return finite
