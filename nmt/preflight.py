"""The cost of a training, measured before the training: for ``nmt check`` and ``nmt init``."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from nmt import pipeline
from nmt.checks.finding import Finding, Level
from nmt.config.experiment import Config
from nmt.evaluation.fidelity import unknown_summary
from nmt.numbers import count_of, plain
from nmt.run.directory import Run
from nmt.runtime.device import Place
from nmt.runtime.progress import duration
from nmt.runtime.ranks import ALONE
from nmt.training import estimate, plan
from nmt.training.prepared import Prepared
from nmt.training.trainer import Trainer


def measure(config: Config) -> list[Finding]:
    """Measure the losses of the tokenizer and the cost of a training on a few real steps; no run is written."""
    # Prepare
    place = pipeline.set_up(config.train, ALONE)
    prepared = pipeline.prepare(config, tell_losses=False)
    findings = [_told("tokenizer", prepared.round_trip.summary(config.tokenizer, config.tokenizer_key))]
    if unknown := unknown_summary(prepared.encoded.unknown, config.tokenizer, config.tokenizer_key):
        findings.append(_told("unknown", unknown))
    # Measure
    trainer, cost = measure_cost(config, prepared, place)
    pace = trainer.pace()
    end = estimate.end(trainer.config, pace, cost)
    # Tell
    worked = f", {cost.share:.0%} of the processors" if place.device.type == "cpu" else ""
    told = [
        ("model", f"{cost.parameters:,} parameters"),
        ("memory", f"{cost.memory / 2**20:,.0f} MiB at the longest batch, on {place.device}"),
        ("step", f"{plain(cost.step_seconds)} seconds{worked}"),
        ("validation", _validation_told(cost)),
        ("disk", f"{cost.disk / 2**20:,.0f} MiB for checkpoints and model"),
    ]
    if end is not None:
        count = f"{count_of(end.steps, 'step')} and {count_of(end.validations, 'validation')}"
        told.append(("time", f"{duration(end.seconds)} for {count}"))
    findings += [Finding("ok", rule, text) for rule, text in told]
    lines = plan.expected(trainer.config, pace, len(prepared.corpus.part("valid")), trainer.stages)
    if end is not None and end.steps != plan.planned_steps(trainer.config, pace):
        why = f" (the time limit, {plain(config.train.max_minutes or 0, 6)} minutes)"
        lines += [line for line in plan.mismatches(trainer.config, end.steps, why) if line not in lines]
    return findings + [_told("advice", line) for line in lines]


def _validation_told(cost: estimate.Cost) -> str:
    usual, longest = cost.validation_seconds, cost.longest_validation
    first = f"; at first up to {plain(longest)}, while translations do not end" if longest > 1.2 * usual else ""
    return f"{plain(usual)} seconds for {count_of(cost.validation_lines, 'line')}{first}"


def measure_cost(config: Config, prepared: Prepared, place: Place) -> tuple[Trainer, estimate.Cost]:
    """The cost of a training, and the trainer that it was measured with, which cannot be used to train."""
    with TemporaryDirectory() as folder:
        trainer = pipeline.build_trainer(config, Run(Path(folder)), prepared, place)
        return trainer, estimate.measure(trainer)


def _told(rule: str, line: str) -> Finding:
    """The finding of a line that a training prints."""
    level: Level = "warning" if line.startswith("warning: ") else "ok"
    return Finding(level, rule, " ".join(line.removeprefix("warning: ").removeprefix("targets ").split()))
