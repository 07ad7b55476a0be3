"""Back-translation (Sennrich, Haddow and Birch 2016): monolingual target text, with synthetic sources."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import compress
from typing import Any

from nmt.augment.output import Output, Row
from nmt.augment.parts import WHOLE, Made, Maker, Progress, Result, Share
from nmt.data.lines import cannot_open, check_regular, open_text, read_lines
from nmt.data.tagged import TaggedLine
from nmt.errors import DataError
from nmt.translation.forced import Scorer
from nmt.translation.translator import Translation, Translator, read_text

BLANK, LONG = "blank lines", "lines with more subwords than the model reads"
EMPTY, CUT, LOW = "empty translations", "translations that reached the length limit", "scores below --min-score"


def back_translate(
    translator: Translator[Any],
    mono: str,
    output: Output,
    scores: bool = False,
    min_score: float | None = None,
    share: Share = WHOLE,
) -> Result:
    """Write a corpus whose targets are the lines of a file, and whose sources are their translations.

    Skipped lines leave no pair, so that the corpus is not aligned with the file; a row has the number of its line.

    Args:
        translator: of the reverse direction.
        mono: file with a sentence per line, plain or compressed.
        scores: whether rows have the mean log-probability of their synthetic side, as ``nmt score --mean``.
        min_score: pairs with a lower score are skipped.

    Raises:
        DataError: the file cannot be read, or the output cannot be written.
    """
    settings = {
        "command": "backtranslate",
        **settings_of(translator),
        "scores": scores or min_score is not None,
        "min_score": min_score,
    }
    scorer = Scorer(translator) if settings["scores"] else None

    def work(first: int, lines: Sequence[str], progress: Progress) -> Made:
        found = translated(translator, lines, progress)
        made = Made(skipped=found.skipped)
        pairs = [(number, found.texts[number], best[0]) for number, best in found.best.items()]
        values = _scores(scorer, [text for _, text, _ in pairs], [best for *_, best in pairs])
        for (number, text, best), score in zip(pairs, values, strict=True):
            if min_score is not None and score is not None and score < min_score:
                made.skipped[LOW] += 1
            else:
                made.rows.append(Row(best.text, text, first + number, score))
        return made

    return Maker(output, settings, share).make(lambda: lines_of(mono), work)


def settings_of(translator: Translator[Any]) -> dict[str, Any]:
    """The settings that translations depend on, as JSON data."""
    return {
        "weights": translator.checksum,
        "tokenizer": translator.tokenizer.fingerprint,
        "search": translator.search.compared(),
        "tags": list(translator.tags),
    }


def lines_of(path: str) -> Iterator[str]:
    """The lines of a text file, which is read more than once.

    Raises:
        DataError: the file cannot be read, or only once, or has no lines.
    """
    try:
        check_regular(path, os.stat(path).st_mode)
    except OSError as error:
        raise DataError(cannot_open(path, error)) from None
    line = None
    with open_text(path) as file:
        for line in read_lines(file, path):
            yield line
    if line is None:
        raise DataError(f"{path}: has no lines; name another file")


class Found:
    """The translations of some lines.

    Attributes:
        texts: the lines, without line ends.
        best: the hypotheses of the lines that have one that is whole, by place.
        skipped: the other lines, by the reason.
    """

    def __init__(self, texts: Sequence[str]):
        self.texts, self.skipped = texts, Counter[str]()
        self.best: dict[int, list[Translation]] = {}


def translated(translator: Translator[Any], lines: Sequence[str], progress: Progress, nbest: int = 1) -> Found:
    """Translate the lines that the model can read whole.

    Args:
        progress: called with the number of lines that are done.
        nbest: hypotheses of each line; those that are empty or reached the length limit are left out.
    """
    found = Found([line if isinstance(line, TaggedLine) else line.strip() for line in lines])
    kept = _readable(translator, found)
    progress(len(lines) - sum(kept))
    with _showing(translator, progress):
        hypotheses = translator.translate(list(compress(found.texts, kept)), nbest)
    for number, each in zip(compress(range(len(lines)), kept), hypotheses, strict=True):
        if whole := [one for one in each if one.text.strip() and not one.at_limit]:
            found.best[number] = whole
        else:
            found.skipped[CUT if any(one.at_limit for one in each) else EMPTY] += 1
    return found


def _readable(translator: Translator[Any], found: Found) -> list[bool]:
    """Whether the model reads each line whole; the other lines are counted."""
    kept = []
    for text, ids in zip(found.texts, translator.tokenizer.encode_src(list(found.texts)), strict=True):
        blank = not text.strip() or not ids
        long = len(ids) > translator.search.max_source_tokens or read_text(translator.search, text) != text
        if blank or long:
            found.skipped[BLANK if blank else LONG] += 1
        kept.append(not (blank or long))
    return kept


@contextmanager
def _showing(translator: Translator[Any], progress: Callable[[int], object]) -> Iterator[None]:
    before = translator.engine.progress
    translator.engine.progress = progress
    try:
        yield
    finally:
        translator.engine.progress = before


def _scores(scorer: Scorer | None, sources: Sequence[str], best: Sequence[Translation]) -> list[float | None]:
    """The mean log-probability of each translation; None where it is not asked for."""
    if scorer is None:
        return [None] * len(sources)
    return [score.mean for score in scorer(sources, [one.text for one in best])]
