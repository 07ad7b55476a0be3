"""Sets of sentence pairs: translated, scored, stored."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from nmt.config.evaluation import EvaluationConfig, Metric
from nmt.config.limits import ResolvedSearch
from nmt.data.corpus import Corpus
from nmt.evaluation import neural
from nmt.evaluation.results import Basis, Lines, Results
from nmt.evaluation.scores import Scores, score, sentence_scores
from nmt.numbers import count_of
from nmt.runtime.progress import showing
from nmt.runtime.ranks import ALONE, Ranks
from nmt.translation.shared import translate_shared
from nmt.translation.translator import Notices, Translator

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TestSet:
    """Lines to translate and to score.

    Attributes:
        name: of its results: that of the test set, or ``valid``.
        further: further reference translations, each as ``references``.
    """

    name: str
    sources: Sequence[str]
    references: Sequence[str]
    further: Sequence[Sequence[str]] = ()

    @classmethod
    def of(cls, corpus: Corpus, part: str) -> TestSet:
        name, further = part.removeprefix("test."), corpus.further_references(part)
        return cls(name, corpus.sources(part), corpus.part(part).targets(), further)

    @classmethod
    def all_of(cls, corpus: Corpus, part: str) -> list[TestSet]:
        """A set and, where it was held out of several datasets, the part of each: ``NAME.DATASET``."""
        whole, found, start = cls.of(corpus, part), list[TestSet](), 0
        counts = corpus.datasets(part)
        for dataset, count in counts.items() if len(counts) > 1 and part != "valid" else ():
            rows = slice(start, start := start + count)
            if count and f"test.{whole.name}.{dataset}" not in corpus.parts:
                found.append(cls(f"{whole.name}.{dataset}", whole.sources[rows], whole.references[rows]))
        return [whole, *found]

    def lines(self, found: Scored, evaluation: EvaluationConfig) -> Lines:
        """The record of each sentence: text and scores, including learned metrics."""
        by_sentence = sentence_scores(found.hypotheses, self.references, evaluation, self.further)
        rows: list[dict[str, Any]] = []
        for i, (source, reference, scores) in enumerate(zip(self.sources, self.references, by_sentence, strict=True)):
            row: dict[str, Any] = {"source": source, "reference": reference}
            if self.further:
                row["further_references"] = [lines[i] for lines in self.further]
            row |= {"hypothesis": found.hypotheses[i], "cut": found.cut[i], **scores}
            rows.append(row | {name: one.sentences[i] for name, one in found.scores.neural.items()})
        return rows

    def basis(self, model: str, search: ResolvedSearch, evaluation: EvaluationConfig) -> Basis:
        """What scores of this set depend on.

        Args:
            model: SHA-256 of the file of weights.
        """
        return Basis.of(model, search, evaluation, self.sources, self.references, self.further)


def sets_of(corpus: Corpus) -> list[TestSet]:
    """The test sets; the validation set where there are none."""
    parts = [f"test.{name}" for name in corpus.tests] or ["valid"]
    return [one for part in parts for one in TestSet.all_of(corpus, part)]


class Scored(NamedTuple):
    """Scores and translations of a set.

    Attributes:
        cut: whether each hypothesis may have been cut at the length limit.
        search: what the search took on this rank: sentences, seconds, device.
    """

    scores: Scores
    hypotheses: list[str]
    cut: list[bool]
    search: dict[str, Any]


def score_set(translator: Translator[Any], one: TestSet, evaluation: EvaluationConfig, ranks: Ranks = ALONE) -> Scored:
    """Translate and score a set; all ranks have the scores and the hypotheses."""
    notices, begun, busy = Notices(log.warning, most=3), time.perf_counter(), time.process_time()
    found = translate_shared(translator, one.sources, ranks, f"translating {one.name}", notices)
    search = {
        "sentences": len(found),
        "seconds": round(time.perf_counter() - begun, 3),
        "processor_seconds": round(time.process_time() - busy, 3),
        "device": str(translator.engine.device).partition(":")[0],
    }
    notices.close()
    hypotheses = [each.text for each in found]
    with showing(f"scoring {one.name}", unit=""):
        scores = ranks.on_main(
            lambda: score(hypotheses, one.references, evaluation, intervals=True, further=one.further)
        )
    if neural.wanted(evaluation):
        streams = [one.references, *one.further]
        learned = ranks.on_main(lambda: neural.score(evaluation, one.sources, hypotheses, streams))
        scores = replace(scores, neural=learned)
    return Scored(scores, hypotheses, [each.at_limit for each in found], search)


@dataclass(frozen=True)
class Evaluated:
    """Scores of a set.

    Attributes:
        stored: the JSON file that holds the scores; None where it could not be written, as a warning has said.
        sources: the lines that were translated.
        took: what the search took, see :class:`Scored`.
        cut: how many translations may have been cut at the length limit.
    """

    scores: Scores
    stored: Path | None
    search: ResolvedSearch
    engine: str
    sources: Sequence[str]
    took: dict[str, Any]
    cut: int

    @property
    def about(self) -> str:
        """The search in words."""
        search = self.search
        how = f"beam {search.beam_size}" if search.method == "beam" else search.method
        cut = f", {count_of(self.cut, 'translation')} at the length limit" if self.cut else ""
        return f"{count_of(len(self.sources), 'sentence')}, {how}, alpha {search.alpha:g}, engine {self.engine}{cut}"


def score_and_store(
    translator: Translator[Any],
    one: TestSet,
    evaluation: EvaluationConfig,
    store: Callable[[str, Basis, Scores, list[str], Lines], Path],
    differing: Mapping[str, Any] | None = None,
    further: Sequence[Metric] = (),
) -> Evaluated:
    """Score a set and store the results, where that is possible: a run that can only be read is scored all the same.

    Args:
        translator: loaded from a run.
        store: a method of :class:`Results`.
        differing: settings that differ from the run's; they become part of the name that the results have.
        further: metrics beside those of ``evaluation``; they are no part of the basis.
    """
    basis = one.basis(translator.checksum, translator.search, evaluation)
    evaluation = evaluation.model_copy(update={"metrics": list(dict.fromkeys([*evaluation.metrics, *further]))})
    found = score_set(translator, one, evaluation)
    engine = type(translator.engine).__name__.removesuffix("Engine")
    about = translator.search, engine, one.sources, found.search, sum(found.cut)
    try:
        name = name_of(one.name, differing or {})
        stored = store(name, basis, found.scores, found.hypotheses, one.lines(found, evaluation))
        return Evaluated(found.scores, stored, *about)
    except OSError as error:
        where = error.filename or one.name
        log.warning(
            "the scores of %s are not stored: %s: %s; to keep them, redirect the output to a file (> FILE)",
            one.name, where, error.strerror or error,
        )  # fmt: skip
        return Evaluated(found.scores, None, *about)


def find_stored(
    translator: Translator[Any],
    one: TestSet,
    evaluation: EvaluationConfig,
    results: Results,
    differing: Mapping[str, Any],
) -> Evaluated | None:
    """What :func:`score_and_store` stored with the same weights, search and text; None if nothing."""
    name = name_of(one.name, differing)
    scores = results.find(name, one.basis(translator.checksum, translator.search, evaluation))
    if scores is None:
        return None
    engine = type(translator.engine).__name__.removesuffix("Engine")
    cut = sum(line.get("cut", False) for line in results.lines(name))
    return Evaluated(scores, results.folder / f"{name}.json", translator.search, engine, one.sources, {}, cut)


def name_of(name: str, differing: Mapping[str, Any]) -> str:
    """The name of results under settings that differ from the run's, such as ``test@beam_size=1``."""
    label = ",".join(f"{key}={value}" for key, value in sorted(differing.items()))
    return f"{name}@{re.sub(r'[^A-Za-z0-9_.,=+-]', '_', label)[:100]}" if label else name


def samples(results: Results, one: TestSet, count: int = 3) -> list[tuple[str, str, str]]:
    """Source, reference and stored hypothesis of a few lines, spread over an evaluated set."""
    hypotheses = results.hypotheses(one.name)
    lines = [(2 * i + 1) * len(hypotheses) // (2 * count) for i in range(count)]
    return [(one.sources[i], one.references[i], hypotheses[i]) for i in lines]
