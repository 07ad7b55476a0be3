"""Scores of translations by sacreBLEU, always on plain text against the raw references.

Validation scores and final scores come from the same function, :func:`score`. The signatures make them comparable with
other work (Post 2018).
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, get_args

import numpy as np
from sacrebleu.metrics.base import Signature
from sacrebleu.metrics.bleu import BLEU, BLEUScore
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER
from sacrebleu.significance import _bootstrap_resample, estimate_ci

from nmt.advice import install
from nmt.config.evaluation import EvaluationConfig, Metric
from nmt.errors import ConfigError, DataError
from nmt.evaluation import neural
from nmt.evaluation.languages import Writing, writing_of_code, writing_of_text
from nmt.evaluation.neural import Neural
from nmt.numbers import count_of

log = logging.getLogger(__name__)

RESAMPLES = 1000  # of the bootstrap
SEED = 12345  # of the bootstrap: sacreBLEU's default, which SACREBLEU_SEED changes there and here
MOST = 5000  # sentences of a set that has intervals: sacreBLEU holds all resamples in memory
METRICS: tuple[Metric, ...] = get_args(Metric)
_TOKENIZERS: dict[Writing, Literal["zh", "ja-mecab", "ko-mecab", "char"]] = {
    "chinese": "zh",
    "japanese": "ja-mecab",
    "korean": "ko-mecab",
    "unspaced": "char",
}
TITLES: dict[Metric, str] = {
    "bleu": "BLEU",
    "bleu-uncased": "uncased BLEU",
    "chrf": "chrF2",
    "chrf++": "chrF2++",
    "spbleu": "spBLEU",
    "ter": "TER",
}


@dataclass(frozen=True)
class Scores:
    """Corpus scores in percent; nan for a metric that was not requested.

    Attributes:
        bleu: BLEU (Papineni et al. 2002), higher is better.
        chrf: chrF2 (Popović 2015), higher is better.
        ter: translation edit rate (Snover et al. 2006), lower is better.
        signatures: full sacreBLEU signature of each requested metric.
        matches: number of 4-grams of the hypotheses found in their references, on which BLEU rests.
        chrfpp: chrF2++ (Popović 2017), higher is better.
        bleu_uncased: BLEU of case-folded text, higher is better.
        spbleu: BLEU on the pieces of FLORES-200 (Goyal et al. 2022), higher is better.
        intervals: lower and upper end of the 95 % bootstrap interval (Koehn 2004) of each metric that has one.
        neural: scores of learned metrics, by name.
    """

    bleu: float
    chrf: float
    ter: float
    signatures: dict[str, str]
    matches: int | None = None
    chrfpp: float = math.nan
    bleu_uncased: float = math.nan
    spbleu: float = math.nan
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    neural: dict[str, Neural] = field(default_factory=dict)

    def value(self, metric: Metric) -> float:
        return float(getattr(self, _attribute(metric)))

    def as_dict(self) -> dict[str, Any]:
        """JSON data: the requested metrics, ``signatures``, and ``intervals`` where they were computed."""
        found: dict[str, Any] = {name: self.value(name) for name in METRICS if name in self.signatures}
        found["signatures"] = dict(self.signatures)
        if self.intervals:
            found["intervals"] = {name: list(ends) for name, ends in self.intervals.items()}
            found["bootstrap"] = {"resamples": RESAMPLES, "seed": os.environ.get("SACREBLEU_SEED", str(SEED))}
        if self.neural:
            found["neural"] = {name: one.as_dict() for name, one in self.neural.items()}
        return found

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Scores:
        """Scores from the JSON data of :meth:`as_dict`."""
        values: dict[str, Any] = {_attribute(name): float(record.get(name, math.nan)) for name in METRICS}
        intervals = {name: (float(low), float(high)) for name, (low, high) in record.get("intervals", {}).items()}
        neural = {name: Neural.of_record(one) for name, one in record.get("neural", {}).items()}
        return cls(**values, signatures=record["signatures"], intervals=intervals, neural=neural)


def score(
    hypotheses: Sequence[str],
    references: Sequence[str],
    config: EvaluationConfig,
    metrics: Sequence[Metric] | None = None,
    *,
    intervals: bool = False,
    further: Sequence[Sequence[str]] = (),
) -> Scores:
    """Score a corpus. TER takes far longer than the other metrics; omit it from ``metrics`` if time matters.

    Args:
        metrics: by default those of ``config``.
        intervals: whether to compute 95 % intervals by sacreBLEU's bootstrap, for at most :data:`MOST` sentences.
        further: further reference translations of all sentences, as ``references``; every metric is over all of them.

    Raises:
        ConfigError: ``evaluation.tokenize`` needs a package that is not installed.
        DataError: the numbers of hypotheses and references differ, or both are 0.
    """
    streams = [references, *further]
    for stream in streams:
        _check_counts(hypotheses, references=stream)
    values: dict[str, Any] = dict.fromkeys(map(_attribute, METRICS), math.nan)
    signatures: dict[str, str] = {}
    ends: dict[str, tuple[float, float]] = {}
    matches = None
    resampled = intervals and 1 < len(hypotheses) <= MOST
    for name in config.metrics if metrics is None else metrics:
        if name == "spbleu" and not _has_flores():
            continue
        metric = metric_of(name, config)
        found = metric.corpus_score(hypotheses, streams)
        values[_attribute(name)] = float(found.score)
        if resampled:
            ends[name] = _interval(metric, hypotheses, streams)
        signatures[name] = str(metric.get_signature())
        if name == "bleu" and isinstance(found, BLEUScore):
            matches = int(found.counts[-1])
    return Scores(**values, signatures=signatures, matches=matches, intervals=ends)


def _interval(
    metric: BLEU | CHRF | TER, hypotheses: Sequence[str], streams: Sequence[Sequence[str]]
) -> tuple[float, float]:
    """sacreBLEU's bootstrap interval: mean and half width of the middle 95 %.

    ``corpus_score(n_bootstrap=...)`` fails where resamples have scores of several types (float and NumPy's).
    """
    statistics = metric._extract_corpus_statistics(hypotheses, streams)
    _, found = _bootstrap_resample(statistics, metric, RESAMPLES)
    middle, half = estimate_ci(np.array([float(one.score) for one in found]))
    return float(middle - half), float(middle + half)


def sentence_scores(
    hypotheses: Sequence[str],
    references: Sequence[str],
    config: EvaluationConfig,
    further: Sequence[Sequence[str]] = (),
) -> list[dict[str, float]]:
    """Scores of each sentence. BLEU has the effective order, as in sacreBLEU's ``sentence_bleu``."""
    for stream in [references, *further]:
        _check_counts(hypotheses, references=stream)
    metrics = {name: metric_of(name, config) for name in config.metrics if name != "spbleu" or _has_flores()}
    for metric in metrics.values():
        if isinstance(metric, BLEU):
            metric.effective_order = True
    return [
        {name: float(metric.sentence_score(hypothesis, found).score) for name, metric in metrics.items()}
        for hypothesis, *found in zip(hypotheses, references, *further, strict=True)
    ]


def resolve(
    config: EvaluationConfig, language: str, references: Sequence[str], say: Callable[[str], None]
) -> EvaluationConfig:
    """Resolve the evaluation settings that depend on the target language.

    If the tokenizer is null, the default of sacreBLEU's command for the language is used, or characters for another
    language without spaces. If the language code is not known, the text decides.

    Args:
        language: target language code, see :mod:`nmt.evaluation.languages`.
        references: target text, such as that of the validation set.
        say: called with a line about each choice that may surprise.

    Raises:
        ConfigError: the package of a tokenizer or a metric is not installed.
    """
    # BLEU's tokenizer
    written, text = writing_of_code(language), writing_of_text(references)
    seen = written or text
    tokenize = config.tokenize
    if tokenize is None:
        tokenize = _TOKENIZERS[seen] if seen else "13a"
        if seen and not written:
            say(
                f"evaluation.tokenize: {tokenize}, because the target text has no spaces between words "
                f"(data.tgt_lang: {language})"
            )
        try:
            metric_of("bleu", config.model_copy(update={"tokenize": tokenize}))
        except ConfigError as error:
            say(f"warning: {error}. Until then BLEU is computed on characters, and its signature says tok:char")
            tokenize = "char"
    elif text and tokenize in ("13a", "intl", "none"):
        say(
            f"warning: evaluation.tokenize: {tokenize} splits at spaces, but the target text has none: BLEU and the "
            f"choice of the best checkpoint are unreliable. Remove the key to use {_TOKENIZERS[written or text]}"
        )
    # TER's handling of Asian scripts
    asian = config.ter_asian_support
    if asian is None:
        asian = seen in ("chinese", "japanese", "korean") or tokenize in ("zh", "ja-mecab", "ko-mecab")
    resolved = config.model_copy(update={"tokenize": tokenize, "ter_asian_support": asian})
    metric_of("bleu", resolved)
    neural.check(resolved)
    return resolved


def table(rows: Mapping[str, Scores]) -> str:
    """Format the scores of test sets as an aligned plain-text table, with the signatures below."""
    metrics = [metric for metric in METRICS if any(metric in scores.signatures for scores in rows.values())]
    learned = list(dict.fromkeys(name for scores in rows.values() for name in scores.neural))
    cells = [["test set", *(TITLES[metric] for metric in metrics), *(neural.TITLES[name] for name in learned)]]
    for name, scores in rows.items():
        cells.append(
            [name, *(_cell(scores, metric) for metric in metrics), *(_learned(scores, one) for one in learned)]
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells]
    signatures = [
        f"{TITLES[metric]}: {scores.signatures[metric]}"
        for metric in metrics
        for scores in rows.values()
        if metric in scores.signatures
    ]
    signatures += [
        f"{neural.TITLES[name]}: {scores.neural[name].model}, {neural.BETTER[name]} is better"
        for name in learned
        for scores in rows.values()
        if name in scores.neural
    ]
    if any(scores.intervals for scores in rows.values()):
        signatures.append(f"[ ]: 95 % intervals by {RESAMPLES:,} bootstrap resamples of the sentences")
    return "\n".join([*lines, "", *dict.fromkeys(signatures)])  # once each: test sets share them


def _cell(scores: Scores, metric: Metric) -> str:
    value, ends = scores.value(metric), scores.intervals.get(metric)
    text = "-" if math.isnan(value) else f"{value:.2f}"
    return text if ends is None else f"{text} [{ends[0]:.2f}, {ends[1]:.2f}]"


def _learned(scores: Scores, name: str) -> str:
    if (one := scores.neural.get(name)) is None:
        return "-"
    return f"{one.score:.4f}" + ("" if one.interval is None else f" [{one.interval[0]:.4f}, {one.interval[1]:.4f}]")


def _attribute(metric: Metric) -> str:
    return metric.replace("+", "p").replace("-", "_")


@cache
def _has_flores() -> bool:
    """Whether sacreBLEU has the tokenizer of spBLEU, or can download it; a warning says that it cannot."""
    try:
        BLEU(tokenize="flores200")
    except Exception as error:  # of the network, the file system or the package: each leaves spBLEU out
        log.warning("spBLEU is skipped: sacreBLEU cannot load the tokenizer flores200: %s", error)
        return False
    return True


class UncasedBLEU(BLEU):
    """BLEU of case-folded text. ``lowercase`` alone counts STRASSE against Straße as an error."""

    def _preprocess_segment(self, sent: str) -> str:
        return super()._preprocess_segment(sent.casefold())

    def get_signature(self) -> Signature:
        """sacreBLEU's signature with ``case:folded``."""
        signature = super().get_signature()
        signature.info["case"] = "folded"
        return signature


def metric_of(name: Metric, config: EvaluationConfig) -> BLEU | CHRF | TER:
    """sacreBLEU's metric with these settings.

    Raises:
        ConfigError: ``evaluation.tokenize`` needs a package that is not installed.
    """
    if name in ("chrf", "chrf++"):
        return CHRF(lowercase=config.lowercase, word_order=2 if name == "chrf++" else 0)
    if name == "spbleu":
        return BLEU(tokenize="flores200", lowercase=config.lowercase)
    if name == "ter":  # sacreBLEU splits Asian characters only where it normalizes
        asian = bool(config.ter_asian_support)
        return TER(case_sensitive=not config.lowercase, normalized=asian, asian_support=asian)
    tokenize = config.tokenize or "13a"
    try:
        return (UncasedBLEU if name == "bleu-uncased" else BLEU)(tokenize=tokenize, lowercase=config.lowercase)
    except (RuntimeError, ImportError):
        extra = tokenize.removesuffix("-mecab")
        raise ConfigError(
            f"evaluation.tokenize: {tokenize} needs packages that are not installed: "
            f"{install(f'sacrebleu[{extra}]')}, or set evaluation.tokenize: char"
        ) from None


def _check_counts(hypotheses: Sequence[str], **others: Sequence[str]) -> None:
    for name, lines in others.items():
        if len(lines) != len(hypotheses):
            raise DataError(
                f"cannot score {count_of(len(hypotheses), 'hypothesis', 'hypotheses')} against {len(lines)} {name}; "
                "line n of one must match line n of the other"
            )
    if not hypotheses:
        raise DataError("nothing to score: there are no hypotheses")
