"""Sequence-level distillation (Kim and Rush 2016): training sources with the translations of a teacher."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from nmt.augment.backtranslation import BLANK, EMPTY, lines_of, settings_of, translated
from nmt.augment.output import Output, Row
from nmt.augment.parts import WHOLE, Made, Maker, Progress, Result, Share
from nmt.config.evaluation import EvaluationConfig
from nmt.config.sources import as_tags
from nmt.data.arrow import releasing
from nmt.data.prepare import prepare_corpus
from nmt.data.sources.jsonl import checked_line
from nmt.data.tagged import TaggedLine
from nmt.errors import DataError
from nmt.evaluation.scores import sentence_scores
from nmt.numbers import count_of
from nmt.run.directory import Run
from nmt.translation.translator import Translator

BY_REFERENCE = "bleu", "chrf"


class Candidate(NamedTuple):
    text: str
    score: float | None = None


class Given(NamedTuple):
    """A source sentence to distil.

    Attributes:
        tags: before the source.
        candidates: its translations, if they are known.
    """

    text: str
    reference: str | None = None
    tags: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()


class Choice:
    """Which translation of a source becomes its target.

    By a metric, this is sequence-level interpolation (Kim and Rush 2016, section 3.3): the hypothesis of the n best
    that is most similar to the reference.

    Args:
        by: ``score``, the highest score; or ``bleu`` or ``chrf``, the highest of the sentence against its reference.
        evaluation: settings of the metric, with the choices made that depend on the target language.
    """

    def __init__(self, by: str, evaluation: EvaluationConfig):
        self.by = by
        self.evaluation = evaluation.model_copy(update={"metrics": [by]}) if by in BY_REFERENCE else evaluation

    def settings(self) -> dict[str, Any]:
        """The settings that the choice depends on, as JSON data."""
        if self.by not in BY_REFERENCE:
            return {"choose": self.by}
        return {"choose": self.by, "tokenize": self.evaluation.tokenize, "lowercase": self.evaluation.lowercase}

    def __call__(self, candidates: Sequence[Candidate], reference: str | None) -> Candidate:
        """The chosen one; of equal ones the first."""
        if self.by in BY_REFERENCE:
            assert reference is not None
            found = sentence_scores([one.text for one in candidates], [reference] * len(candidates), self.evaluation)
            values = [scores[self.by] for scores in found]
        else:
            values = [one.score if one.score is not None else float("-inf") for one in candidates]
        return candidates[values.index(max(values))]


def distil(
    translator: Translator[Any],
    lines: Callable[[], Iterable[Given]],
    output: Output,
    choice: Choice,
    nbest: int = 1,
    share: Share = WHOLE,
) -> Result:
    """Write a corpus of sources and the chosen translations of a teacher.

    Args:
        lines: gives the sources; called twice.
        nbest: translations of each source to choose from.

    Raises:
        DataError: the sources cannot be read, or the output cannot be written.
    """
    settings = {"command": "distil", **settings_of(translator), "nbest": nbest, **choice.settings()}

    def work(first: int, block: Sequence[Given], progress: Progress) -> Made:
        found = translated(translator, [TaggedLine.of(one.text, one.tags) for one in block], progress, nbest)
        made = Made(skipped=found.skipped)
        for number, best in found.best.items():
            given = block[number]
            chosen = choice([Candidate(one.text, one.score) for one in best], given.reference)
            made.rows.append(Row(given.text, chosen.text, first + number))
        return made

    return Maker(output, settings, share).make(lines, work)


def choose_candidates(
    lines: Callable[[], Iterable[Given]], output: Output, choice: Choice, share: Share = WHOLE
) -> Result:
    """Write a corpus of sources and the chosen one of the candidates that they have.

    Raises:
        DataError: see :func:`distil`.
    """

    def work(first: int, block: Sequence[Given], progress: Progress) -> Made:
        made = Made()
        for number, given in enumerate(block, first):
            whole = [one for one in given.candidates if one.text.strip()]
            if not given.text.strip() or not whole:
                made.skipped[EMPTY if given.text.strip() else BLANK] += 1
            else:
                made.rows.append(Row(given.text, choice(whole, given.reference).text, number))
        progress(len(block))
        return made

    return Maker(output, {"command": "distil --candidates", **choice.settings()}, share).make(lines, work)


# ------------------------------------------------------------------------------------------------------------- sources


def training_lines(run: Run, dataset: str | None = None) -> tuple[Callable[[], Iterator[Given]], tuple[str, ...]]:
    """The training pairs of a run, after cleaning; and the tags before their sources.

    Args:
        dataset: name of one of the datasets of a list in ``data.train``.

    Raises:
        DataError: no dataset has this name, or the datasets have different tags and none is named.
    """
    # Choose
    data = run.load_config().data
    corpus = prepare_corpus(data, run.recorded_data())
    part, sizes = corpus.part("train"), corpus.datasets("train")
    tags = {one.name: as_tags(one.tag) for one in data.datasets} or {"": ()}
    if dataset is not None and dataset not in sizes:
        known = f"the datasets are: {', '.join(sizes)}" if sizes else "data.train is not a list; remove --dataset"
        raise DataError(f"--dataset {dataset}: no such dataset in {run.path}; {known}")
    if dataset is None and len({*tags.values()}) > 1:
        raise DataError(
            f"{run.path}: its datasets have different tags; make a corpus of each: --dataset {', '.join(tags)}"
        )
    # Read
    before = sum(list(sizes.values())[: list(sizes).index(dataset)]) if dataset is not None else 0
    rows = range(before, before + sizes[dataset]) if dataset is not None else range(len(part))
    chosen = tags[dataset] if dataset is not None else next(iter(tags.values()))
    return lambda: (Given(*part[row], chosen) for row in releasing(rows, part)), chosen


def file_lines(source: str, reference: str | None, tags: Sequence[str] = ()) -> Iterator[Given]:
    """The lines of a file, each with the line of the file of references, if one is given.

    Raises:
        DataError: a file cannot be read, or they have different numbers of lines.
    """
    for text, other in _beside(lines_of(source), source, reference):
        yield Given(text.strip(), other, tuple(tags))


def candidate_lines(path: str, reference: str | None, by: str) -> Iterator[Given]:
    """The sources of a file of ``nmt translate --jsonl``, with their translations.

    Raises:
        DataError: a file cannot be read, a line is something else, or a score that is to decide is missing.
    """
    for number, (line, other) in enumerate(_beside(lines_of(path), path, reference), 1):
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
            source, rows = row["source"], row["translations"]
            found = [Candidate(checked_line(one["text"], "text", where), one.get("score")) for one in rows]
            source = checked_line(source, "source", where)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise DataError(
                f'{where}: must be {{"source": TEXT, "translations": [{{"text": TEXT, "score": NUMBER}}]}}, as '
                "nmt translate --jsonl --nbest N writes it"
            ) from None
        for one in found if by not in BY_REFERENCE else ():
            if not _is_number(one.score):
                is_ = "no score" if one.score is None else f"the score {json.dumps(one.score)}, which is no number"
                raise DataError(f"{where}: a translation has {is_}; correct it, or add --choose bleu and --reference")
        yield Given(source, other, candidates=tuple(found))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _beside(lines: Iterable[str], path: str, reference: str | None) -> Iterator[tuple[str, str | None]]:
    if reference is None:
        yield from ((line, None) for line in lines)
        return
    for number, (line, other) in enumerate(zip_longest(lines, lines_of(reference)), 1):
        if line is None or other is None:
            shorter, longer = (path, reference) if line is None else (reference, path)
            raise DataError(
                f"{shorter} has {count_of(number - 1, 'line')}, fewer than {longer}; line n of one must match "
                "line n of the other"
            )
        yield line, other
