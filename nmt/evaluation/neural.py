"""Learned metrics, COMET (Rei et al. 2020) and MetricX (Juraska et al. 2024), each in a separate process.

The packages are not among the requirements of nmt, and their models are never downloaded here: a model is a folder or
file, or a name that the cache of Hugging Face holds. ``nmt.evaluation.neural_worker`` is the process.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from nmt.config.evaluation import EvaluationConfig
from nmt.errors import ConfigError, DataError
from nmt.runtime.progress import waiting

WORKER = Path(__file__).with_name("neural_worker.py")
PACKAGES = {"comet": "comet", "metricx": "metricx24"}  # module of each metric
INSTALL = {
    "comet": "pip install unbabel-comet",
    "metricx": "clone https://github.com/google-research/metricx and put its folder on PYTHONPATH",
}
TITLES = {"comet": "COMET", "metricx": "MetricX"}
BETTER = {"comet": "higher", "metricx": "lower"}
RESAMPLES, SEED = 1000, 12345  # of the bootstrap, as for sacreBLEU's metrics


@dataclass(frozen=True)
class Neural:
    """The score of a learned metric: the mean over the sentences, of the mean over their references.

    Attributes:
        model: that was asked for.
        version: of the package; None where it has none.
        interval: 95 % bootstrap interval of the mean; None of a single sentence.
        sentences: score of each; empty of a stored record.
    """

    model: str
    version: str | None
    score: float
    interval: tuple[float, float] | None
    sentences: list[float] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        ends = None if self.interval is None else list(self.interval)
        return {"model": self.model, "version": self.version, "score": self.score, "interval": ends}

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> Neural:
        ends = record.get("interval")
        interval = None if ends is None else (float(ends[0]), float(ends[1]))
        return cls(str(record["model"]), record.get("version"), float(record["score"]), interval)


def wanted(config: EvaluationConfig) -> dict[str, str]:
    """The learned metrics that are asked for, each with its model."""
    named = {"comet": config.comet, "metricx": config.metricx}
    return {name: model for name, model in named.items() if model is not None}


def python_of(name: str) -> str:
    """The interpreter that runs a metric: that of ``NMT_COMET_PYTHON`` or ``NMT_METRICX_PYTHON``, else this one.

    Both packages need older libraries than nmt, so that they usually have a separate environment.
    """
    return os.environ.get(f"NMT_{name.upper()}_PYTHON") or sys.executable


def check(config: EvaluationConfig) -> None:
    """
    Raises:
        ConfigError: the package of a metric that is asked for is not installed.
    """
    for name in wanted(config):
        python, variable = python_of(name), f"NMT_{name.upper()}_PYTHON"
        try:
            seek = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({PACKAGES[name]!r}) is None)"
            found = subprocess.run([python, "-c", seek], capture_output=True, stdin=subprocess.DEVNULL).returncode == 0
        except OSError as error:
            raise ConfigError(f"{variable}={python}: cannot be started: {error.strerror}") from None
        if not found:
            raise ConfigError(
                f"evaluation.{name}: needs the package {PACKAGES[name]}, which {shlex.quote(python)} does not have: "
                f"{INSTALL[name]}, in a separate environment, and set {variable} to its python; or set "
                f"evaluation.{name}: null"
            )


def score(
    config: EvaluationConfig, sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, Neural]:
    """Score translations by the learned metrics of ``config``.

    Args:
        references: one or more, each with a line for each source.

    Raises:
        ConfigError: a package or a model is missing.
        DataError: a metric failed.
    """
    check(config)
    found = {}
    for name, model in wanted(config).items():
        streams, version = [], None
        for number, lines in enumerate(references, 1):
            of = f" (reference {number} of {len(references)})" if len(references) > 1 else ""
            rows = [
                {"source": s, "hypothesis": h, "reference": r}
                for s, h, r in zip(sources, hypotheses, lines, strict=True)
            ]
            label = f"scoring with {TITLES[name]}{of}"
            answer = waiting(label, lambda name=name, model=model, rows=rows: _ask(name, model, rows))  # type: ignore[misc]
            streams.append(answer["scores"])
            version = answer["version"]
        sentences = [fmean(values) for values in zip(*streams, strict=True)]
        found[name] = Neural(model, version, fmean(sentences), interval(sentences), sentences)
    return found


def interval(sentences: Sequence[float]) -> tuple[float, float] | None:
    """The middle 95 % of the means of resamples (Koehn 2004)."""
    if len(sentences) < 2:
        return None
    draw, values = np.random.default_rng(SEED), np.array(sentences)
    means = [float(values[draw.integers(len(values), size=len(values))].mean()) for _ in range(RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _ask(name: str, model: str, rows: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Run the metric in a process, without network.

    Raises:
        ConfigError: the model is neither on disk nor in the cache.
        DataError: the process failed, or answered something else.
    """
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with TemporaryDirectory(prefix="nmt-metric-") as folder:
        source, target = Path(folder) / "in.jsonl", Path(folder) / "out.json"
        source.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
        command = [python_of(name), str(WORKER), name, model, str(source), str(target)]
        ended = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        try:
            answer = json.loads(target.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            last = (ended.stderr.strip() or f"exit code {ended.returncode}").splitlines()[-1]
            raise DataError(f"evaluation.{name}: {TITLES[name]} failed with the model {model}: {last}") from None
    if "missing" in answer:
        raise ConfigError(
            f"evaluation.{name}: the model {model} is neither on disk nor in the cache ({answer['missing']}); download "
            f"it (hf download {shlex.quote(model)}), or name a folder or file"
        )
    scores = answer["scores"]
    if len(scores) != len(rows) or not np.isfinite(np.array(scores, dtype=float)).all():
        raise DataError(
            f"evaluation.{name}: {TITLES[name]} gave {len(scores)} scores for {len(rows)} sentences, or no numbers"
        )
    return dict(answer)
