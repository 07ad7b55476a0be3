"""Runs that have translated a common test set, from the stored results; nothing is translated."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nmt.config.experiment import Config
from nmt.data.corpus import Corpus
from nmt.data.prepare import sets_of_run
from nmt.errors import DataError, NmtError
from nmt.evaluation.neural import Neural
from nmt.evaluation.results import Results
from nmt.run.card import translation_seconds
from nmt.run.directory import Run
from nmt.run.listing import row_of


@dataclass(frozen=True)
class Cost:
    """The cost of a run; None where it is not known.

    Attributes:
        parameters: number of weights.
        steps: updates of the training.
        minutes: training time.
        seconds: time to translate 1,000 sentences of the set: processor time on a CPU, elapsed time on a GPU.
    """

    parameters: int | None = None
    steps: int | None = None
    minutes: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class EvaluatedRun:
    """A run with its translations of a test set, and its cost.

    Attributes:
        further: further reference translations, each as ``references``.
        neural: scores of learned metrics.
    """

    name: str
    config: Config
    sources: Sequence[str]
    references: Sequence[str]
    hypotheses: Sequence[str]
    cost: Cost = Cost()
    further: Sequence[Sequence[str]] = ()
    neural: Mapping[str, Neural] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return len(self.sources)


def _neural(record: Mapping[str, Any]) -> dict[str, Neural]:
    """The scores of learned metrics in a record; those that are damaged are left out."""
    found, stored = {}, record.get("neural")
    for name, one in stored.items() if isinstance(stored, dict) else ():
        with suppress(LookupError, TypeError, ValueError):
            found[name] = Neural.of_record(one)
    return found


class Stored:
    """The stored results of a run, by name of the test set.

    Args:
        name: of the run, for people.

    Raises:
        DataError: the run has no results.
    """

    def __init__(self, name: str, run: Run):
        self.name, self.run, self.results, self.config = name, run, Results(run), run.load_config()
        self._read: dict[str, EvaluatedRun] = {}
        try:
            names = sorted(path.stem for path in run.evaluation.glob("*.json") if path.is_file())
        except OSError as error:
            raise DataError(f"{run.evaluation}: cannot be read: {error.strerror}") from None
        self.names = [one for one in names if self.results.record(one) is not None]
        if not self.names:
            raise DataError(f"{name}: not evaluated yet; run nmt evaluate {_quoted(run)} first")

    @cached_property
    def plain(self) -> list[str]:
        """The test sets in the order of the configuration, then the validation set and results of other searches."""
        order = [*self.config.data.test, "valid"]
        return sorted(self.names, key=lambda one: (order.index(one) if one in order else len(order), one))

    def read(self, name: str) -> EvaluatedRun:
        """The translations of a set.

        Raises:
            DataError: they are damaged, or their sources are missing.
        """
        if name not in self._read:
            self._read[name] = self._load(name)
        return self._read[name]

    def _load(self, name: str) -> EvaluatedRun:
        record = self.results.record(name) or {}
        path, further = self.run.evaluation / f"{name}.jsonl", list[list[str]]()
        again = f"evaluate the run again: nmt evaluate {_quoted(self.run)}"
        if "model" in record and record["model"] != self._checksum(record["model"]):
            raise DataError(f"{self.name}: the results of {name} are of earlier weights; {again}")
        try:
            hypotheses = self.results.hypotheses(name)
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
            columns = [[line[key] for line in lines] for key in ("source", "reference", "hypothesis")]
            more = [line.get("further_references", []) for line in lines]
            further = [[str(text) for text in column] for column in zip(*more, strict=True)]
        except FileNotFoundError as error:
            if error.filename != str(path):
                raise DataError(f"{error.filename}: no such file; {again}") from None
            columns = [*self._of_data(name), hypotheses]  # an earlier version stored the translations only
        except OSError as error:
            raise DataError(f"{error.filename}: cannot be read: {error.strerror}; {again}") from None
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DataError(f"{path}: damaged; {again}") from None
        text = "".join(f"{line}\n" for line in hypotheses).encode()
        sums = record.get("hypotheses", hashlib.sha256(text).hexdigest())
        whole = all(isinstance(line, str) for column in columns for line in column) and len(hypotheses) > 0
        if not whole or columns[2] != hypotheses or hashlib.sha256(text).hexdigest() != sums:
            raise DataError(f"{path.with_suffix('.hyp')}: damaged, or of another evaluation; {again}")
        if not len(columns[0]) == len(columns[1]) == len(hypotheses):
            raise DataError(f"{path.with_suffix('.hyp')}: has another number of lines than its sources; {again}")
        return EvaluatedRun(
            self.name, self.config, columns[0], columns[1], hypotheses, self._cost(name), further, _neural(record)
        )

    def _cost(self, name: str) -> Cost:
        row, seconds = row_of(self.run.path, self.run.path.parent), translation_seconds(self.run, name)
        return Cost(row.parameters, row.steps, row.minutes, seconds)

    def _checksum(self, recorded: str) -> str:
        """The checksum of the final weights; ``recorded`` where it is not known."""
        try:
            return self.run.model_checksum()
        except NmtError:
            return recorded

    def _of_data(self, name: str) -> list[list[str]]:
        """Sources and references of a set from the data of the run."""
        stem = name.partition("@")[0]
        part = stem if stem == "valid" else f"test.{stem}"
        try:
            text = sets_of_run(self.config.data, self.run.load_manifest(), [part]).part(part)
        except (NmtError, KeyError) as error:
            raise DataError(
                f"{self.name}: the sources of {name} are not stored with its translations: {error}; evaluate the run "
                f"again: nmt evaluate {_quoted(self.run)}"
            ) from None
        return [text.sources(), text.targets()]


def common(runs: Sequence[Stored], wanted: str | None = None) -> tuple[str, list[EvaluatedRun]]:
    """The name of a test set that all runs have translated, and their translations.

    A run has the set under its name, or under another name with identical sources. Test sets come before the validation
    set; of several, the first in the configuration of the first run is taken.

    Raises:
        DataError: no set is common, or its sources or references differ.
    """
    first, problem = runs[0], ""
    if wanted is not None and not any(wanted in run.names for run in runs):
        listed = "; ".join(f"{run.name}: {', '.join(run.plain)}" for run in runs[:5])
        raise DataError(f"--set-name {wanted}: no run has results of this set; evaluated are {listed}")
    if wanted is not None and wanted not in first.names:
        first = next(run for run in runs if wanted in run.names)
    for name in [wanted] if wanted is not None else first.plain:
        model = first.read(name)
        found = [_same(run, name, model) for run in runs]
        if all(one is not None for one in found):
            evaluated = [one for one in found if one is not None]
            check_same(name, evaluated)
            return name, evaluated
        missing = next(run for run, one in zip(runs, found, strict=True) if one is None)
        problem = problem or (
            f"{name}: evaluated for {first.name} but not for {missing.name} (which has {', '.join(missing.plain)}); "
            f"{_how(missing, name)}"
        )
    raise DataError(f"no common test set: {problem}")


def _same(run: Stored, name: str, model: EvaluatedRun) -> EvaluatedRun | None:
    """The results of a run on a set: by name, else by identical sources."""
    if name in run.names:
        return run.read(name)
    others = (run.read(other) for other in run.plain if "@" not in other)
    return next((one for one in others if one.sources == model.sources), None)


def _how(run: Stored, name: str) -> str:
    """How to evaluate a run on a set."""
    if name.partition("@")[0] in (*run.config.data.test, "valid"):
        return f"evaluate it there: nmt evaluate {_quoted(run.run)}"
    return f"add it to data.test of {run.name} and repeat nmt train, which evaluates a finished run without training"


def check_same(name: str, runs: Sequence[EvaluatedRun]) -> None:
    """
    Raises:
        DataError: the runs have other sources or references than the first one.
    """
    first = runs[0]
    for other in runs[1:]:
        for what, one, two in (
            ("sources", first.sources, other.sources),
            ("references", _all_references(first), _all_references(other)),
        ):
            if len(one) != len(two):
                raise DataError(f"{name}: has {len(one)} {what} in {first.name} but {len(two)} in {other.name}")
            if one != two:
                line = next(i for i, (a, b) in enumerate(zip(one, two, strict=True), 1) if a != b)
                raise DataError(
                    f"{name}: the {what} of {first.name} and {other.name} differ, first in line {line}; compare runs "
                    "that were evaluated on the same text"
                )


def _all_references(run: EvaluatedRun) -> Sequence[tuple[str, ...]]:
    return list(zip(run.references, *run.further, strict=True))


def _quoted(run: Run) -> str:
    return shlex.quote(str(run.path))


def training_targets(run: Run, config: Config) -> Iterator[str]:
    """The target side of the training text of a run, from the store.

    Raises:
        DataError: the store does not hold it.
    """
    manifest = run.load_manifest()
    path = Path(config.data.store) / f"corpus-{manifest.get('key')}"
    if not (path / "train.arrow").is_file():
        raise DataError(f"{path} does not hold the training text of {run.path}")
    for _, target in Corpus(path, manifest).part("train"):
        yield target
