"""The cost of a training, measured on a few of its updates and validation sentences: memory, time and disk."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from nmt.config.train import TrainConfig
from nmt.data.batch import Batch
from nmt.data.packing import PackedBatch
from nmt.evaluation.scores import score
from nmt.models.build import count_parameters
from nmt.models.seq2seq import Seq2Seq
from nmt.run.directory import Run
from nmt.runtime.device import peak_memory, reset_peak_memory
from nmt.runtime.memory import release_freed_memory
from nmt.runtime.progress import showing
from nmt.training import plan
from nmt.training.reporting import Reporter
from nmt.training.trainer import Trainer
from nmt.training.validation import Validator
from nmt.translation.batches import search_batches
from nmt.translation.translator import Translation

T = TypeVar("T")
Shape = tuple[tuple[int, ...], ...]

WARMUP = 2  # updates on the longest batch, which are not timed
TIMED = 32  # updates that are timed, spread over the first epoch
FEWEST = 3  # timed updates, however long they take
SECONDS = 10.0  # of the processor, or of a GPU, after which no further update or batch of a validation is measured
PATIENCE = 6  # times as long is the most that is waited for them beside other programs
LOOKED_AT = 500  # batches whose shapes are counted
IMPROBABLE = -1e4  # logit, a number of every precision
BATCHES = 3  # batches of the search, and of the loss, that are timed of a validation


@dataclass(frozen=True)
class Cost:
    """The cost of the parts of a training.

    Attributes:
        memory: peak in bytes, the longest batch included: of the process on a CPU, of PyTorch's tensors on CUDA.
        step_seconds: mean time of an update.
        share: of the processors that this process asked for and got, on a CPU; less than 1 beside other programs.
        epoch_steps: updates of the first epoch.
        validation_seconds: time of a validation of the whole set, with hypotheses as long as the references.
        longest_validation: the same with hypotheses that end only at the length limit, as those of the first one.
        pictures: seconds of these for the attention maps, whose number does not depend on the set.
        validation_lines: sentences of the set.
        checkpoint: bytes of a checkpoint: weights, their average and the state of the optimizer.
        disk: bytes of all checkpoints that are kept, and of the final model.
    """

    parameters: int
    memory: int
    step_seconds: float
    share: float
    epoch_steps: int
    validation_seconds: float
    longest_validation: float
    pictures: float
    validation_lines: int
    checkpoint: int
    disk: int


@dataclass(frozen=True)
class End:
    """The end of a training.

    Attributes:
        steps: the last step that the limits allow.
        validations: their number until then.
        seconds: training time until then, with validations.
    """

    steps: int
    validations: int
    seconds: float


def measure(trainer: Trainer) -> Cost:
    """Make real updates, and search real validation sentences; the trainer cannot be used afterwards.

    Raises:
        TrainingError: out of memory.
    """
    device = trainer.place.device
    release_freed_memory()
    reset_peak_memory(device)
    _warm_up(trainer)
    step_seconds, share, growth = _update_cost(trainer)
    assert isinstance(trainer.validate, Validator)
    validation_seconds, longest_validation, pictures = _validation_cost(trainer, trainer.validate)
    checkpoint, disk = _sizes(trainer)
    return Cost(
        parameters=count_parameters(trainer.model)[0],
        memory=peak_memory(device) + growth,
        step_seconds=step_seconds,
        share=share,
        epoch_steps=len(trainer.order.updates(0)),
        validation_seconds=validation_seconds,
        longest_validation=longest_validation,
        pictures=pictures,
        validation_lines=len(trainer.validate.sources),
        checkpoint=checkpoint,
        disk=disk,
    )


def end(config: TrainConfig, pace: plan.Pace, cost: Cost) -> End | None:
    """The end by the first of the limits; None if only patience ends the training.

    Translations of the first validation are taken for those of a model that has not learned to end them.
    """
    every = cost.epoch_steps if config.validate_every == "epoch" else config.validate_every
    more = cost.longest_validation - cost.validation_seconds
    steps = plan.planned_steps(config, pace)
    if config.max_minutes:
        # A validation and the updates before it, as often as they fit; then the updates of the rest
        seconds = max(0.0, 60 * config.max_minutes - more)
        rounds, rest = divmod(seconds, every * cost.step_seconds + cost.validation_seconds)
        in_time = max(1, int(rounds) * every + min(every, int(rest / cost.step_seconds)))
        steps = min(steps or in_time, in_time)
    if steps is None:
        return None
    validations = -(-steps // every)  # the last step is always validated
    return End(steps, validations, steps * cost.step_seconds + validations * cost.validation_seconds + more)


# -------------------------------------------------------------------------------------------------------------- updates


def _warm_up(trainer: Trainer) -> None:
    """Update on the longest batch: twice, because the first update allocates the state of the optimizer."""
    order, updater = trainer.order, trainer.updater
    trainer.model.train()
    if trainer.place.device.type == "cuda":
        updater.prepare(order.longest_batch(), trainer.window)
    for _ in range(WARMUP):
        trainer.update([trainer.reader.largest(order.longest_batch())])


def _update_cost(trainer: Trainer) -> tuple[float, float, int]:
    """Mean seconds of an update, the share of the processors, and the bytes by which the memory will grow."""
    device, epoch = trainer.place.device, trainer.order.updates(0)
    chosen = np.unique(np.linspace(0, len(epoch) - 1, TIMED).astype(int))
    clock, done = _Clock(device), 0
    growth = _Growth(device)
    with showing("measuring updates", total=len(chosen), unit="updates") as add:
        for number in np.random.default_rng(0).permutation(chosen):  # any first part of them is spread, too
            batches = [trainer.reader.read(rows, 0) for rows in epoch[int(number)]]
            trainer.update(batches)
            growth.add(batches)
            done += 1
            add(1)
            if done >= FEWEST and clock.is_over():
                break
    return clock.seconds() / done, clock.share(), growth.until(_shapes(trainer))


def _shapes(trainer: Trainer) -> int:
    """The number of distinct shapes among the first batches of the training."""
    found: set[Shape] = set()
    read, epochs = 0, trainer.config.max_epochs or LOOKED_AT
    for epoch in range(epochs):
        for update in trainer.order.updates(epoch):
            for rows in update:
                found.add(_shape(trainer.reader.read(rows, epoch)))
                read += 1
                if read >= min(LOOKED_AT, (trainer.config.max_steps or LOOKED_AT) * trainer.order.accumulate):
                    return len(found)
    return len(found)


def _shape(batch: Batch | PackedBatch) -> Shape:
    return tuple(tuple(each.shape) for each in batch.inputs if isinstance(each, Tensor))


class _Growth:
    """How the memory of a process on a CPU grows with the distinct shapes of its batches.

    Buffers of other sizes do not fit into the gaps that freed ones leave. So each new shape adds a little, and ever
    less: in measured trainings of both families, the memory grew like the root of the number of shapes.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.shapes: set[Shape] = set()
        self.points: list[tuple[float, float]] = []  # root of the number of shapes, bytes

    def add(self, batches: Sequence[Batch | PackedBatch]) -> None:
        """Note the memory after an update."""
        self.shapes |= {_shape(batch) for batch in batches}
        self.points.append((math.sqrt(len(self.shapes)), float(peak_memory(self.device))))

    def until(self, shapes: int) -> int:
        """Bytes by which the memory grows until this number of shapes has occurred; 0 on other devices."""
        roots, memory = np.array(self.points).T
        later = roots > roots.max() / 3  # the first updates allocate more than they leave gaps
        if self.device.type != "cpu" or len(np.unique(roots[later])) < 3:
            return 0
        slope, _ = np.polyfit(roots[later], memory[later], 1)
        return int(max(0.0, slope) * max(0.0, math.sqrt(shapes) - roots.max()))


# ----------------------------------------------------------------------------------------------------------- validation


def _validation_cost(trainer: Trainer, validator: Validator) -> tuple[float, float, float]:
    """Seconds of a validation: loss, search and scores, each measured on a part of the set, and its pictures.

    Returns:
        Those of a trained model, those of a model whose hypotheses end only at the length limit, and their part for
        the pictures.
    """
    trainer.model.eval()
    try:
        with showing("measuring a validation", unit=""):
            loss, pictures = _loss_cost(trainer, validator), _picture_cost(trainer, validator)
            search, longest, scores = _search_cost(trainer, validator)
    finally:
        trainer.model.train()
    always = loss + scores + pictures
    return always + search, always + longest, pictures


def _loss_cost(trainer: Trainer, validator: Validator) -> float:
    clock, done = _Clock(trainer.place.device), 0
    for rows in _spread(validator.plan):
        validator.losses(trainer.model, [rows])
        done += len(rows)
        if clock.is_over():
            break
    return clock.seconds() * len(validator.sources) / done


def _picture_cost(trainer: Trainer, validator: Validator) -> float:
    """Seconds of the attention maps of a validation, drawn of references in place of hypotheses."""
    chosen = [row for row in validator.shown if validator.sources[row].strip() and validator.references[row].strip()]
    if not chosen:
        return 0.0
    with tempfile.TemporaryDirectory() as folder:
        reporter = Reporter(Run(Path(folder)), {})
        try:
            _draw(trainer, validator, reporter, chosen[0])  # imports matplotlib, which a training does once
            clock = _Clock(trainer.place.device)
            for row in chosen:
                _draw(trainer, validator, reporter, row)
            seconds = clock.seconds()
        finally:
            reporter.close()
    return seconds / len(chosen) * (len(validator.shown) + len(trainer.config.watch))


def _draw(trainer: Trainer, validator: Validator, reporter: Reporter, row: int) -> None:
    translator = validator.translator(trainer.model)
    [tgt] = validator.tokenizer.encode_tgt([validator.references[row]])
    pair = validator.sources[row], Translation(validator.references[row], 0.0, 0.0, tgt)
    for drawn in validator.attention_maps(translator, {"picture": pair}):
        reporter.attention(0, *drawn)


def _search_cost(trainer: Trainer, validator: Validator) -> tuple[float, float, float]:
    """Seconds of the search, of one whose hypotheses end only at the length limit, and of the scores.

    A model that has learned little ends all hypotheses at once, or none. So each is made as long as its reference, as
    those of a trained model are.
    """
    # Sentences
    translator = validator.translator(trainer.model)
    engine, sources = translator.engine, translator.encode(validator.sources)
    rows = [row for row, source in enumerate(sources) if source]
    longest = {row: translator.max_length(len(sources[row])) for row in rows}
    limits = {row: max(1, min(int(validator.lengths[1][row]), longest[row])) for row in rows}
    width, budget = engine.method.width(1), engine.config.batch_tokens
    batches = [[rows[i] for i in batch] for batch in search_batches([sources[row] for row in rows], width, budget)]
    # Search
    clock, tokens = _Clock(trainer.place.device), 0
    found: dict[int, list[int]] = {}
    with _unending(trainer.model, validator.tokenizer.eos_id):
        for batch in _spread(batches):
            searched = engine.search([sources[row] for row in batch], [limits[row] for row in batch], 1)
            found |= {row: each[0].tokens if each else [] for row, each in zip(batch, searched, strict=True)}
            tokens = sum(len(each) + 1 for each in found.values())
            if clock.is_over():
                break
    token = clock.seconds() / max(1, tokens)
    search, unending = (token * sum(limit + 1 for limit in each.values()) for each in (limits, longest))
    # Scores
    clock = _Clock(trainer.place.device)
    hypotheses = validator.tokenizer.decode(list(found.values()))
    score(hypotheses, [validator.references[row] for row in found], validator.config.evaluation, ["bleu", "chrf"])
    return search, unending, clock.seconds() * len(validator.sources) / max(1, len(found))


@contextmanager
def _unending(model: Seq2Seq[Any], eos_id: int) -> Iterator[None]:
    """Inside the block, the model ends no hypothesis before its length limit."""

    def improbable(module: nn.Module, inputs: object, logits: Tensor) -> None:
        logits[..., eos_id] = IMPROBABLE

    hook = model.output.register_forward_hook(improbable)
    try:
        yield
    finally:
        hook.remove()


def _spread(batches: Sequence[T]) -> list[T]:
    """At most :data:`BATCHES` of some batches in the order of their lengths: the middle ones of equal parts."""
    count = min(BATCHES, len(batches))
    places = [(2 * part + 1) * len(batches) // (2 * count) for part in range(count)]
    middle = count // 2  # the most usual length first, as the time may end before the others
    return [batches[i] for i in [*places[middle:], *places[:middle]]]


# ---------------------------------------------------------------------------------------------------------------- sizes


def _sizes(trainer: Trainer) -> tuple[int, int]:
    """Bytes of a checkpoint, and of all that a run keeps."""
    updater, config = trainer.updater, trainer.config
    weights = _bytes(trainer.model.parameters())
    state = _bytes(value for each in updater.optimizer.state.values() for value in each.values())
    checkpoint = weights + state + (weights if updater.ema is not None else 0)
    start = sum(path.stat().st_size for path in trainer.run.init.rglob("*") if path.is_file())
    kept = config.keep_best + config.keep_last + 1  # one is written before another is deleted
    return checkpoint, kept * checkpoint + weights + start


def _bytes(tensors: Iterable[object]) -> int:
    return sum(each.numel() * each.element_size() for each in tensors if isinstance(each, Tensor))


class _Clock:
    """Time since it was made, and processor time of this process."""

    def __init__(self, device: torch.device):
        self.device = device
        self.begun = self._now()

    def _now(self) -> tuple[float, float]:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.monotonic(), time.process_time()

    def seconds(self) -> float:
        return self._now()[0] - self.begun[0]

    def is_over(self) -> bool:
        """Whether enough was measured."""
        passed, worked = (now - then for now, then in zip(self._now(), self.begun, strict=True))
        return passed > PATIENCE * SECONDS or (worked if self.device.type == "cpu" else passed) > SECONDS

    def share(self) -> float:
        """The share of the processors that the process asked for and got; 1 for a GPU."""
        if self.device.type != "cpu":
            return 1.0
        passed, worked = (now - then for now, then in zip(self._now(), self.begun, strict=True))
        return min(1.0, worked / passed / torch.get_num_threads())
