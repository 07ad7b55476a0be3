"""Stored results of evaluations. Each result records its basis and is reused only for the same basis.

runs/NAME/evaluation/
    SET.hyp, SET.json      a test set: translations; scores, signatures, and their basis
    SET.jsonl              a line for each sentence: source, reference, hypothesis, whether it is as long as the
                           search allows ("cut"), and its scores
    SET@KEY=VALUE.*        results with another search, named by what differs from the run's
    SET@VARIANT.*          results with changed sources (:mod:`nmt.evaluation.robustness`)
    earlier/SET.ID.*       results of the same set with another model, search, metric or other data
    files/FILE.ID.*        results of a file named by ``nmt evaluate --src``
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nmt.config.compare import digest
from nmt.config.evaluation import EvaluationConfig
from nmt.config.experiment import FORMER_DEFAULTS
from nmt.config.limits import ResolvedSearch
from nmt.data.tagged import written
from nmt.evaluation.neural import wanted
from nmt.evaluation.scores import METRICS, Scores, score
from nmt.run.directory import Run
from nmt.storage.atomic import fsync, write_json, write_text

Lines = Sequence[Mapping[str, Any]]  # what is stored of each sentence


@dataclass(frozen=True)
class Basis:
    """The basis of scores. Two results with equal bases are interchangeable.

    Attributes:
        model: SHA-256 of the file of weights.
        search: search settings, without the batch size.
        signatures: signatures of the metrics, without sacreBLEU's version; a record may have further ones.
        data: SHA-256 of the sources and references.
        sentences: number of sources.
        neural: model of each learned metric; a record may have further ones.
    """

    model: str
    search: dict[str, Any]
    signatures: dict[str, str]
    data: str
    sentences: int
    neural: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: str,
        search: ResolvedSearch,
        evaluation: EvaluationConfig,
        sources: Sequence[str],
        references: Sequence[str],
        further: Sequence[Sequence[str]] = (),
    ) -> Basis:
        sums = hashlib.sha256()
        for lines in (sources, references, *further):
            for line in lines:
                sums.update(written(line).encode() + b"\n")
            sums.update(b"\n\n")
        signatures = score(
            ["x"], ["x"], evaluation, further=[["x"] for _ in further]
        ).signatures  # of any text: signatures depend only on settings
        return cls(
            model, _settings(search), _unversioned(signatures), sums.hexdigest(), len(sources), wanted(evaluation)
        )

    @property
    def id(self) -> str:
        """A short name for files."""
        return digest(self.model, self.search, self.signatures, self.data)

    def is_of(self, record: Mapping[str, Any]) -> bool:
        """Whether a stored record has this basis.

        A search setting that the record lacks has its former default.
        """
        former = {k.removeprefix("search."): v for k, v in FORMER_DEFAULTS[1].items() if k.startswith("search.")}
        try:
            return (
                all(record[key] == getattr(self, key) for key in ("model", "data") if "model" in record)
                and record["sentences"] == self.sentences
                and all(record["neural"][name]["model"] == model for name, model in self.neural.items())
                and self.signatures.items() <= _unversioned(record["signatures"]).items()
                and _settings(ResolvedSearch.model_validate({**former, **record["search"]})) == self.search
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return False


def _settings(search: ResolvedSearch) -> dict[str, Any]:
    return search.compared()


def _unversioned(signatures: Mapping[str, str]) -> dict[str, str]:
    return {metric: signature.partition("|version:")[0] for metric, signature in signatures.items()}


class Results:
    """The results in a run directory."""

    def __init__(self, run: Run):
        self.run, self.folder, self.model = run, run.evaluation, run.model / "model.json"

    def find(self, name: str, basis: Basis) -> Scores | None:
        """Stored scores of test set ``name`` on exactly this basis, or None.

        Scores found among the earlier results are moved back to the name of the set.
        """
        here, earlier = self.folder / name, self._earlier(name, basis.id)
        for stem in (here, earlier):
            record = _read(stem)
            if record is None or not basis.is_of(record) or not self._is_whole(record, stem):
                continue
            if stem == earlier:
                self._make_way(name)
                _move(earlier, here)
            return Scores.of_record(record)
        return None

    def store(self, name: str, basis: Basis, scores: Scores, hypotheses: Sequence[str], lines: Lines = ()) -> Path:
        """Store a result under the name of its test set; a result on another basis is moved to the earlier ones.

        Returns:
            The JSON file.
        """
        self._check()
        stem = self.folder / name
        contents = _contents(stem, basis, scores, hypotheses, lines)
        record = _read(stem)
        if record is not None and not basis.is_of(record):
            self._make_way(name)
        return _write(stem, *contents)

    def store_file(self, file: str, basis: Basis, scores: Scores, hypotheses: Sequence[str], lines: Lines = ()) -> Path:
        """Store a result of a file named by the user, apart from those of the test sets; return the JSON file."""
        self._check()
        name = file.encode()[:100].decode(errors="ignore")  # a file name has at most 255 bytes
        stem = self.folder / "files" / f"{name}.{basis.id}"
        return _write(stem, *_contents(stem, basis, scores, hypotheses, lines))

    def record(self, name: str) -> dict[str, Any] | None:
        """The stored record of a test set, with its scores under the names of ``METRICS``; None if there is none."""
        return _read(self.folder / name)

    def is_damaged(self, name: str) -> bool:
        """Whether a test set has a record that cannot be read."""
        return _path(self.folder / name, "json").is_file() and self.record(name) is None

    def hypotheses(self, name: str) -> list[str]:
        """The stored translations of a test set."""
        return _path(self.folder / name, "hyp").read_text(encoding="utf-8").split("\n")[:-1]

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The stored record of each sentence of a test set; empty in a run of an earlier version."""
        path = self.folder / f"{name}.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]

    def _check(self) -> None:
        """Check that the run may be written to.

        Raises:
            RunError: the run directory was replaced, or contains links.
        """
        self.run.check_held()
        self.run.refuse_links()

    def _earlier(self, name: str, identifier: str) -> Path:
        return self.folder / "earlier" / f"{name}.{identifier}"

    def _make_way(self, name: str) -> None:
        """Move a stored result to the earlier ones."""
        here = self.folder / name
        record = _read(here)
        if record is not None:
            parts = [record.get(key) for key in ("model", "search", "signatures", "data")]
            if isinstance(parts[2], dict):
                parts[2] = _unversioned(parts[2])
            earlier = self._earlier(name, digest(*parts))
            earlier.parent.mkdir(exist_ok=True)
            _move(here, earlier)

    def _is_whole(self, record: Mapping[str, Any], stem: Path) -> bool:
        """Whether the stored translations belong to the record."""
        try:
            text = _path(stem, "hyp").read_bytes()
            if "model" in record:
                return bool(record["hypotheses"] == hashlib.sha256(text).hexdigest())
            # An early record, without model and data. It was written after its model, so a newer model is another one.
            if _path(stem, "json").stat().st_mtime_ns < self.model.stat().st_mtime_ns:
                return False
            return text.count(b"\n") == record["sentences"]
        except (OSError, KeyError):
            return False


def _path(stem: Path, extension: str) -> Path:
    return stem.with_name(f"{stem.name}.{extension}")


def _read(stem: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(_path(stem, "json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _contents(
    stem: Path, basis: Basis, scores: Scores, hypotheses: Sequence[str], lines: Lines
) -> tuple[str, list[dict[str, Any]], dict[str, Any]]:
    """The translations, a row for each sentence, and the record of a result.

    A result of the same translations at ``stem`` adds the scores that are not computed now, such as those of an
    evaluation with ``--robust`` or ``--comet``.
    """
    text, rows = "".join(f"{line}\n" for line in hypotheses), [dict(line) for line in lines]
    of_metrics = scores.as_dict()
    identity = {"data": basis.data, "hypotheses": hashlib.sha256(text.encode()).hexdigest()}
    earlier = _read(stem)
    if earlier is not None and identity.items() <= earlier.items() and _agree(earlier, of_metrics):
        of_metrics = {name: earlier[name] for name in METRICS if name in earlier} | of_metrics
        for section in ("signatures", "intervals", "neural"):
            if section in earlier:
                of_metrics[section] = earlier[section] | of_metrics.get(section, {})
        before = _rows(stem)
        rows = [old | new for old, new in zip(before, rows, strict=True)] if len(before) == len(rows) else rows
    record = {
        "sentences": basis.sentences,
        **({"cut": sum(line["cut"] for line in lines)} if lines else {}),
        **of_metrics,
        "search": basis.search,
        "model": basis.model,
        **identity,
    }
    return text, rows, record


def _agree(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two records have the same signature for each metric of both."""
    signatures = [_unversioned(record.get("signatures", {})) for record in (one, other)]
    return all(signatures[0][name] == signatures[1][name] for name in signatures[0].keys() & signatures[1].keys())


def _rows(stem: Path) -> list[dict[str, Any]]:
    """The stored row of each sentence; empty if they cannot be read."""
    try:
        text = _path(stem, "jsonl").read_text(encoding="utf-8")
        return [dict(json.loads(line)) for line in text.split("\n") if line]
    except (OSError, ValueError, TypeError, RecursionError):
        return []


def _write(stem: Path, text: str, rows: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> Path:
    """Write the translations first, then the record: translations without a record are ignored."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    write_text(_path(stem, "hyp"), text)
    write_text(_path(stem, "jsonl"), "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows))
    write_json(_path(stem, "json"), record)
    return _path(stem, "json")


def _move(source: Path, target: Path) -> None:
    """Move the translations, then the record. A kill in between leaves a record without translations, which is moved
    at the next call."""
    for extension in ("hyp", "jsonl", "json"):
        if _path(source, extension).exists():
            _path(source, extension).replace(_path(target, extension))
    fsync(target.parent)
    fsync(source.parent)
