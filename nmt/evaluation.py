"""Scores of translations: sacreBLEU, always on plain text against the raw references.

The numbers during training and the final ones come from the same :func:`score`, with the signatures that make
them comparable with those of others (Post 2018).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from nmt.config import EvaluationConfig
from nmt.errors import ConfigError, DataError

Metric = Literal["bleu", "chrf", "ter"]
METRICS: tuple[Metric, ...] = get_args(Metric)
_TITLES: dict[Metric, str] = {"bleu": "BLEU", "chrf": "chrF2", "ter": "TER"}


@dataclass(frozen=True)
class Scores:
    """Corpus scores in percent; nan where a metric was not asked for.

    Attributes:
        bleu: BLEU (Papineni et al. 2002), higher is better.
        chrf: chrF2 (Popović 2015), higher is better.
        ter: translation edit rate (Snover et al. 2006), lower is better.
        signatures: metric to full sacreBLEU signature, for the metrics asked for.
    """

    bleu: float
    chrf: float
    ter: float
    signatures: dict[str, str]

    def as_dict(self) -> dict[str, float | dict[str, str]]:
        """Plain data for JSON: the metrics asked for and ``signatures``."""
        return {
            **{name: getattr(self, name) for name in METRICS if name in self.signatures},
            "signatures": dict(self.signatures),
        }


def score(
    hypotheses: Sequence[str],
    references: Sequence[str],
    config: EvaluationConfig,
    metrics: Sequence[Metric] = METRICS,
) -> Scores:
    """Score a corpus. TER takes far longer than the others; leave it out of ``metrics`` where time matters.

    Raises:
        ConfigError: ``evaluation.tokenize`` needs a package that is not installed.
        DataError: the numbers of hypotheses and references differ, or both are 0.
    """
    _check_counts(hypotheses, references=references)
    values = dict.fromkeys(METRICS, math.nan)
    signatures: dict[str, str] = {}
    for name in metrics:
        metric = _metric(name, config)
        values[name] = float(metric.corpus_score(hypotheses, [references]).score)
        signatures[name] = str(metric.get_signature())
    return Scores(**values, signatures=signatures)


def bleu_by_length(
    hypotheses: Sequence[str],
    references: Sequence[str],
    sources: Sequence[str],
    edges: Sequence[int],
    config: EvaluationConfig,
) -> list[tuple[str, int, float]]:
    """Corpus BLEU in bins of source length, as Bahdanau et al. 2015, figure 2, plot it.

    Args:
        edges: growing upper ends of the bins, in words; a last bin takes the longer sentences. (10, 20) makes
            the bins "1-10" (empty sources too), "11-20" and "21+".

    Returns:
        (label, number of sentences, BLEU) of the bins that hold a sentence, shortest first.

    Raises:
        ConfigError: ``evaluation.tokenize`` needs a package that is not installed.
        DataError: the numbers of hypotheses, references and sources differ, or are 0.
        ValueError: ``edges`` do not grow, or one is under 1.
    """
    _check_counts(hypotheses, references=references, sources=sources)
    starts = [1, *(edge + 1 for edge in edges)]
    if any(after <= before for before, after in pairwise(starts)):
        raise ValueError(f"edges must grow and be at least 1, found {list(edges)}")
    labels = [f"{start}-{edge}" for start, edge in zip(starts, edges, strict=False)] + [f"{starts[-1]}+"]
    bins: list[list[int]] = [[] for _ in labels]
    for index, source in enumerate(sources):
        bins[bisect_left(edges, len(source.split()))].append(index)
    return [
        (
            label,
            len(members),
            score([hypotheses[i] for i in members], [references[i] for i in members], config, ["bleu"]).bleu,
        )
        for label, members in zip(labels, bins, strict=True)
        if members
    ]


def table(rows: Mapping[str, Scores]) -> str:
    """The scores of test sets, by name, as aligned plain text, with the signatures below."""
    metrics = [metric for metric in METRICS if any(metric in scores.signatures for scores in rows.values())]
    cells = [["test set", *(_TITLES[metric] for metric in metrics)]]
    for name, scores in rows.items():
        values = [getattr(scores, metric) for metric in metrics]
        cells.append([name, *("-" if math.isnan(value) else f"{value:.2f}" for value in values)])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells]
    signatures = [
        f"{_TITLES[metric]}: {scores.signatures[metric]}"
        for metric in metrics
        for scores in rows.values()
        if metric in scores.signatures
    ]
    return "\n".join([*lines, "", *dict.fromkeys(signatures)])  # once each: test sets share them


def _metric(name: Metric, config: EvaluationConfig) -> BLEU | CHRF | TER:
    if name == "chrf":
        return CHRF(lowercase=config.lowercase)
    if name == "ter":
        return TER(case_sensitive=not config.lowercase)
    try:
        return BLEU(tokenize=config.tokenize, lowercase=config.lowercase)
    except (RuntimeError, ImportError):
        extra = config.tokenize.removesuffix("-mecab")
        raise ConfigError(
            f"evaluation.tokenize: {config.tokenize} needs packages that are not installed: "
            f"pip install 'sacrebleu[{extra}]'"
        ) from None


def _check_counts(hypotheses: Sequence[str], **others: Sequence[str]) -> None:
    for name, lines in others.items():
        if len(lines) != len(hypotheses):
            raise DataError(
                f"cannot score {len(hypotheses)} hypotheses against {len(lines)} {name}; "
                "line n of one must go with line n of the other"
            )
    if not hypotheses:
        raise DataError("nothing to score: there are no hypotheses")
