"""Train a finished run again, or search again with its weights, and compare with what the run holds."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from nmt import pipeline
from nmt.config.compare import config_diff
from nmt.config.evaluation import Metric
from nmt.config.experiment import Config
from nmt.config.load import validate_config
from nmt.data.prepare import prepare_corpus, sets_of_run
from nmt.errors import DataError, RunError
from nmt.evaluation.evaluated import how_to_evaluate
from nmt.evaluation.results import Results
from nmt.evaluation.scores import METRICS, TITLES
from nmt.evaluation.sets import TestSet, score_set
from nmt.run import card
from nmt.run.alpha import read_tuned
from nmt.run.checkpoint import read_origin
from nmt.run.directory import Run
from nmt.runtime.device import resolve_device, resolve_precision
from nmt.runtime.environment import changes, environment
from nmt.storage.atomic import sha256
from nmt.training.plan import Replay
from nmt.training.progress import Progress
from nmt.translation.loading import load_translator

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SetFound:
    """The recorded and the new results of a test set.

    Attributes:
        equal, count: hypotheses that are the same, of all.
        first: number, from 1, of the first line that differs; None where all are the same.
        scores: by metric, then and now, and the 95 % interval that the run recorded (None: none).
    """

    name: str
    equal: int
    count: int
    first: int | None
    scores: dict[Metric, tuple[float, float, tuple[float, float] | None]]

    @property
    def is_same(self) -> bool:
        return self.first is None and all(then == now for then, now, _ in self.scores.values())

    @property
    def is_within(self) -> bool:
        """Whether each score is inside the interval of the recorded one, or equal where none was recorded."""
        return all(
            now == then if ends is None else ends[0] <= now <= ends[1] for then, now, ends in self.scores.values()
        )


@dataclass(frozen=True)
class Reproduction:
    """The result of a reproduction.

    Attributes:
        run: where the new run is; None for a search alone.
        environment: differences from the environment of the training; empty: the same.
        weights: whether the final weights have the same bits; None for a search alone.
        notes: why equality cannot be expected.
    """

    run: Path | None
    environment: str
    weights: bool | None
    sets: list[SetFound]
    notes: list[str] = field(default_factory=list)

    @property
    def is_exact(self) -> bool:
        return self.weights is not False and all(one.is_same for one in self.sets)

    @property
    def is_success(self) -> bool:
        """Equal to the last digit; or, where equality cannot be expected, every score inside its interval."""
        expected = not self.environment and not self.notes
        return self.is_exact or (not expected and all(one.is_within for one in self.sets))

    def table(self) -> str:
        lines = []
        for one in self.sets:
            told = "all the same" if one.first is None else f"the first other one is line {one.first:,}"
            lines.append(f"{one.name}: {one.equal:,} of {one.count:,} translations are the same, {told}")
            width = max((len(TITLES[metric]) for metric in one.scores), default=0)
            for metric, (then, now, ends) in one.scores.items():
                inside = "" if ends is None else f", 95 % interval {ends[0]:.2f} to {ends[1]:.2f}"
                lines.append(f"  {TITLES[metric]:<{width}} {then:.4f} then, {now:.4f} now{inside}")
        return "\n".join(lines)


def reproduce(run: Run, into: str | None = None, decode_only: bool = False) -> Reproduction:
    """Train the run again in a new directory, or search again with its weights, and compare.

    Args:
        into: directory of the new run; None: beside the run, with ``-reproduced`` after its name. A reproduction that
            was interrupted resumes there.
        decode_only: search and score with the stored weights, and store nothing.

    Raises:
        RunError: the run is not finished, was not scored, or its configuration was edited; ``into`` is the run itself.
        DataError: the data are not those of the run, or its stored translations are damaged.
    """
    if not run.has_model:
        raise RunError(f"{run.path}: is not finished: there is nothing to reproduce yet; run nmt train")
    origin, config, results = read_origin(run.model), run.load_config(), Results(run)
    names = _scored(run, results, [*config.data.test, "valid"])
    if decode_only:
        return _search_again(run, origin, names)
    # Configure
    if differing := config_diff(origin["identity"]["configuration"], config):
        raise RunError(f"{run.config_path}: was edited after the training; restore it ({differing})")
    raw, path = config.model_dump(mode="json"), _directory(run, into)
    raw |= {"name": path.name, "runs": str(path.parent)}
    raw["train"] |= {"max_steps": origin["last_step"], "max_minutes": None, "max_epochs": None, "patience": None}
    again = validate_config(raw, str(run.config_path) if into is None else f"--into {into}")
    corpus = prepare_corpus(again.data)
    if corpus.key != run.load_manifest().get("key"):
        raise DataError(f"{run.path}: its data have changed since the training; restore the files that it was made of")
    # Train
    replay = _replay(run, config)
    pipeline.train(again, replay=replay)
    # Compare
    new = Run(again.run_dir)
    found, now = read_origin(new.model), Results(new)
    records = {name: now.record(name) or {} for name in names}
    scored = {name: record for name, record in records.items() if _metrics(results, name) <= record.keys()}
    sets = [_judged(name, results, record, now.hypotheses(name)) for name, record in scored.items()]
    sets += _searched(new, run, [name for name in names if name not in scored])
    trained = _environments(run, origin)
    notes = _doubts(trained, found["environment"], replay)
    same = origin["weights"] == found["weights"]
    return Reproduction(new.path, changes(trained[-1], found["environment"]), same, sets, notes)


def _scored(run: Run, results: Results, names: Sequence[str]) -> list[str]:
    """The sets of which the run has scores.

    Raises:
        RunError: it has none.
        DataError: a record cannot be read, or stored translations are not those that were scored.
    """
    if damaged := next(filter(results.is_damaged, names), None):
        how = how_to_evaluate(run, damaged)
        raise DataError(f"{run.evaluation / damaged}.json: damaged; evaluate the run again: {how}")
    found = [name for name in names if results.record(name) is not None]
    if not found:
        raise RunError(f"{run.path}: has no scores to compare with; run nmt evaluate first")
    for name in found:
        path, record = run.evaluation / f"{name}.hyp", results.record(name) or {}
        again = f"evaluate the run again: {how_to_evaluate(run, name)}"
        if not path.is_file():
            raise DataError(f"{path}: no such file; {again}")
        if record.get("hypotheses", checksum := sha256(path)) != checksum:
            raise DataError(f"{path}: damaged, or of another evaluation; {again}")
    return found


def _directory(run: Run, into: str | None) -> Path:
    """Where the run is trained again; by default beside the run, whose folder may have any name.

    Raises:
        RunError: ``into`` is the run, or a copy of the run: nothing would be trained.
    """
    plain = re.sub(r"[^A-Za-z0-9_.-]", "-", run.path.resolve().name)
    path = run.path.with_name(f"{plain}-reproduced") if into is None else Path(into)
    began = [(card.load(each) or {}).get("sittings", [{}])[:1] for each in (run, Run(path))]
    same, copied = path.resolve() == run.path.resolve(), bool(began[0]) and began[0] == began[1]
    if same or copied:
        what = "the run" if same else "a copy of the run"
        raise RunError(f"{path}: is {what}, so that nothing would be trained; name another folder with --into DIR")
    return path


def _doubts(trained: Sequence[Mapping[str, Any]], now: Mapping[str, Any], replay: Replay | None) -> list[str]:
    """Reasons why the training may not be repeated exactly, apart from a changed environment."""
    notes = []
    if replay is None:
        notes.append("the schedule followed the clock, of which an earlier version of nmt kept no record")
    for number, (one, other) in enumerate(pairwise(trained), 2):
        if differing := changes(one, other):
            notes.append(f"start {number} of the training had another environment than the one before ({differing})")
    if len({one.get("ranks", 1) for one in [*trained, now]}) > 1:
        notes.append("a start of the training had another number of processes")
    if trained[0].get("earlier") == "other" and not notes:
        notes.append("a start of the training had another environment or number of processes")
    return notes


def _replay(run: Run, config: Config) -> Replay | None:
    """The recorded decays of a schedule that follows the clock; None if they were not recorded."""
    schedule, state = config.train.schedule, run.last_state() or {}
    has_end = not schedule.ends or schedule.total_steps is not None
    try:
        descents = Progress.of_state(state["progress"]).descents
    except (KeyError, TypeError):
        descents = [] if has_end and config.train.max_minutes is None else None
    return None if descents is None else Replay(descents, has_end)


def _environments(run: Run, origin: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The environments of the starts that trained the final model, from the run card; else that of the last start."""
    sittings, last = (card.load(run) or {}).get("sittings", []), origin["last_step"]
    found: list[Mapping[str, Any]] = [one for one in sittings if one.get("first_step", 0) < max(last, 1)]
    complete = bool(found) and found[0].get("first_step") == 0
    return found if complete else [origin.get("environment") or {}]


def _search_again(run: Run, origin: Mapping[str, Any], names: list[str]) -> Reproduction:
    config, sets = run.load_config(), _searched(run, run, names)
    device = resolve_device(config.train.device)
    now = environment(device, resolve_precision(config.train.precision, device))
    return Reproduction(None, changes(_environments(run, origin)[-1], now), None, sets)


def _searched(searching: Run, run: Run, names: list[str]) -> list[SetFound]:
    """Search sets with the weights of one run, and compare with what ``run`` holds."""
    if not names:
        return []
    config, results, recorded = run.load_config(), Results(run), run.recorded_data()
    if recorded is None:
        raise RunError(f"{run.path}: has no account of its data, manifest.json")
    parts = {name: "valid" if name == "valid" else f"test.{name}" for name in names}
    corpus = sets_of_run(config.data, recorded, list(parts.values()))
    translators: dict[str, Any] = {}
    found = []
    for name, part in parts.items():
        settings = _settings(searching, run, results.record(name) or {})
        if (key := str(settings)) not in translators:
            translators[key] = load_translator(searching, settings)
        translator = translators[key]
        stored = [metric for metric in METRICS if metric in _metrics(results, name)]
        evaluation = config.evaluation.model_copy(update={"metrics": stored})
        scores, hypotheses, *_ = score_set(translator, TestSet.of(corpus, part), evaluation)
        found.append(_judged(name, results, scores.as_dict(), hypotheses))
    return found


def _metrics(results: Results, name: str) -> set[Metric]:
    """The metrics that the record of a set has scores of."""
    record = results.record(name) or {}
    return {metric for metric in METRICS if record.get(metric) is not None}


def _settings(searching: Run, run: Run, record: Mapping[str, Any]) -> dict[str, Any]:
    """Overrides with which a set is searched as it was, where ``nmt tune`` has changed a run's search."""
    search = record.get("search")
    if not isinstance(search, dict) or (read_tuned(run) or read_tuned(searching)) is None:
        return {}
    return {key: search[key] for key in ("beam_size", "alpha") if key in search and search.get("method") is None}


def _judged(name: str, results: Results, now: Mapping[str, Any], after: list[str]) -> SetFound:
    """A set as the run stored it, beside new scores and translations."""
    then, before = results.record(name) or {}, results.hypotheses(name)
    same = [one == other for one, other in zip(before, after, strict=False)]
    whole = len(before) == len(after)
    first = None if all(same) and whole else (same.index(False) if False in same else len(same)) + 1
    intervals = then.get("intervals") or {}
    scores = {
        metric: (
            then[metric],
            now.get(metric, math.nan),
            (intervals[metric][0], intervals[metric][1]) if metric in intervals else None,
        )
        for metric in METRICS
        if metric in _metrics(results, name)
    }
    return SetFound(name, sum(same), len(before), first, scores)
