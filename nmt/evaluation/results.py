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
from nmt.evaluation.scores import Scores, score
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
        record = _read(self.folder / name)
        if record is not None and not basis.is_of(record):
            self._make_way(name)
        return _write(self.folder / name, basis, scores, hypotheses, lines)

    def store_file(self, file: str, basis: Basis, scores: Scores, hypotheses: Sequence[str], lines: Lines = ()) -> Path:
        """Store a result of a file named by the user, apart from those of the test sets; return the JSON file."""
        self._check()
        stem = file.encode()[:100].decode(errors="ignore")  # a file name has at most 255 bytes
        return _write(self.folder / "files" / f"{stem}.{basis.id}", basis, scores, hypotheses, lines)

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


def _write(stem: Path, basis: Basis, scores: Scores, hypotheses: Sequence[str], lines: Lines) -> Path:
    """Write the translations first, then the record: translations without a record are ignored."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{line}\n" for line in hypotheses)
    write_text(_path(stem, "hyp"), text)
    write_text(_path(stem, "jsonl"), "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines))
    record = {
        "sentences": basis.sentences,
        **({"cut": sum(line["cut"] for line in lines)} if lines else {}),
        **scores.as_dict(),
        "search": basis.search,
        "model": basis.model,
        "data": basis.data,
        "hypotheses": hashlib.sha256(text.encode()).hexdigest(),
    }
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
