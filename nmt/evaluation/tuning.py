"""The strength of the length penalty, and with ``nmt tune`` the beam size, chosen on the validation set.

One search serves all values of alpha: the finished hypotheses of a beam search do not depend on the length penalty
(:mod:`nmt.search.beam`), which only orders them. For each alpha the first in order is exactly what the search with
this alpha finds. So the choice costs one translation of at most :data:`SENTENCES` lines, without an early stop, and the
scores of 11 sets of translations.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nmt.config.compare import digest
from nmt.config.experiment import Config
from nmt.config.search import ALPHA, SearchConfig
from nmt.errors import RunError
from nmt.evaluation.scores import Scores, score
from nmt.evaluation.sets import TestSet
from nmt.run.alpha import Chosen, Row, Tuned, read
from nmt.run.directory import Run
from nmt.run.selection import TITLES, Quality, Score, varied
from nmt.runtime.progress import showing
from nmt.runtime.ranks import Ranks
from nmt.search.scoring import Hypothesis, LengthPenalty
from nmt.translation.pytorch import TorchEngine
from nmt.translation.translator import Translator, one_line, showing_search

ALPHAS = tuple(i / 5 for i in range(11))  # 0.0, 0.2, ... 2.0
SENTENCES = 2000
BEAMS = (1, 2, 4, 5, 8)
NEGLIGIBLE = 0.1  # points of BLEU or chrF, for which no wider beam is chosen


def lines_of(valid: TestSet, most: int = SENTENCES) -> TestSet:
    """At most ``most`` pairs, spread evenly over the validation set."""
    count = min(len(valid.sources), most)
    rows = [i * len(valid.sources) // count for i in range(count)]
    return TestSet(valid.name, [valid.sources[i] for i in rows], [valid.references[i] for i in rows])


def basis_of(valid: TestSet, config: Config) -> dict[str, Any]:
    """What a choice depends on, apart from the weights, as JSON data."""
    search = {key: value for key, value in config.search.compared().items() if key != "alpha"}
    evaluation = config.evaluation.model_dump(mode="json")
    lines = digest(valid.sources, valid.references)
    return {"search": search, "evaluation": evaluation, "score": config.train.score, "lines": lines}


def stored(run: Run, basis: dict[str, Any]) -> Chosen | None:
    """The choice for the final model, if it was made on this basis."""
    chosen = read(run)
    return chosen if chosen is not None and chosen.basis == basis else None


def choose_alpha(
    translator: Translator[TorchEngine], valid: TestSet, config: Config, model: str, ranks: Ranks
) -> Chosen:
    """Choose alpha by ``train.score``, or by BLEU where that is the loss; the ranks share the search, rank 0 decides.

    BLEU is replaced by chrF where it says too little, as in validations. Of equal values the one nearest to 1 is
    chosen, and 1.0 if the model is too weak to compare translations.

    Args:
        model: SHA-256 of the file of weights.
    """
    block = ranks.block(len(valid.sources))
    found = ranks.on_every_rank(lambda: translations(translator, valid.sources[block], ALPHAS))
    columns = [list(column) for column in zip(*ranks.gather_items(found), strict=True)]
    with showing("scoring each length penalty", unit=""):
        measure, scores = ranks.on_main(lambda: _scores(columns, valid, config))
    return Chosen(_best(scores), model, basis_of(valid, config), measure, scores)


def _best(scores: Mapping[str, float]) -> float:
    """The best alpha; of equal ones that nearest to 1."""
    return max(ALPHAS, key=lambda alpha: (scores[f"{alpha:g}"], -round(abs(alpha - ALPHA), 6), -alpha))


def translations(translator: Translator[TorchEngine], lines: Sequence[str], alphas: Sequence[float]) -> list[list[str]]:
    """For each line its best translations under each alpha, of one search."""
    search, sources = translator.search, translator.encode(lines)
    rows = [i for i, source in enumerate(sources) if source]
    limits = [translator.max_length(len(sources[i])) for i in rows]
    with showing_search(translator.engine, "choosing the length penalty", len(rows)):
        found = translator.engine.search([sources[i] for i in rows], limits, 2 * search.beam_size - 1)
    penalties = [LengthPenalty(search.length_penalty, alpha) for alpha in alphas]
    results = [[""] * len(alphas) for _ in lines]
    for row, hypotheses in zip(rows, found, strict=True):
        if hypotheses:
            best = [_first(hypotheses, penalty) for penalty in penalties]
            distinct = list(dict.fromkeys(best))
            texts = translator.texts([lines[row]], [sources[row]], [[hypotheses[i] for i in distinct]])
            by_place = dict(zip(distinct, map(one_line, texts), strict=True))
            results[row] = [by_place[i] for i in best]
    return results


def _first(hypotheses: Sequence[Hypothesis], penalty: LengthPenalty) -> int:
    """The place of the hypothesis that a search with ``penalty`` puts first; of equal ones, that finished first."""

    def order(i: int) -> tuple[float, int]:
        one = hypotheses[i]
        divisor = np.float32(penalty(len(one.tokens) + 1))  # fp32, as in the search
        return -float(np.float32(one.log_prob) / divisor + np.float32(one.coverage)), len(one.tokens)

    return min(range(len(hypotheses)), key=order)


def _scores(
    columns: list[list[str]], valid: TestSet, config: Config, measure: Score | None = None
) -> tuple[Score, dict[str, float]]:
    """The measure, and the score of each alpha by it; 0 for all where no measure says enough.

    Args:
        measure: that of other beams; None: choose it.
    """
    measure = measure or _measure(columns, valid, config)
    if measure == "loss":
        return measure, dict.fromkeys(map("{:g}".format, ALPHAS), 0.0)
    # Neighbours often have the same translations
    known: dict[tuple[str, ...], Scores] = {}
    found = {}
    for alpha, column in zip(ALPHAS, columns, strict=True):
        key = tuple(column)
        if key not in known:
            known[key] = score(column, valid.references, config.evaluation, [measure])
        found[f"{alpha:g}"] = float(getattr(known[key], measure))
    return measure, found


def _measure(columns: list[list[str]], valid: TestSet, config: Config) -> Score:
    wanted: Score = "bleu" if config.train.score == "loss" else config.train.score
    usual = columns[ALPHAS.index(ALPHA)]
    scores = score(usual, valid.references, config.evaluation, ["bleu", "chrf"])
    different = varied(usual, list(valid.references))
    return Quality(math.nan, scores.bleu, scores.chrf, scores.matches, different).measure(wanted)


def tune(
    loaded: Translator[TorchEngine], valid: TestSet, config: Config, search: SearchConfig, beams: Sequence[int]
) -> Tuned:
    """Choose alpha for each beam size, and the smallest beam whose score is within :data:`NEGLIGIBLE` of the best.

    Args:
        loaded: of the run, under any beam search.
        search: what the run translates with now; its beam size is tried, too.

    Raises:
        RunError: the model is too weak to compare translations.
    """
    measure: Score | None = None
    rows = list[Row]()
    for beam in sorted({*beams, search.beam_size}, key=lambda beam: (beam != search.beam_size, beam)):
        translator = _with(loaded, beam, search.alpha_or_default)
        columns = [list(column) for column in zip(*translations(translator, valid.sources, ALPHAS), strict=True)]
        measure, scores = _scores(columns, valid, config, measure)
        if measure == "loss":
            raise RunError("the translations of the validation set are too poor to tune; train longer")
        alpha = _best(scores)
        # Search as other commands do, for the time
        translator = _with(loaded, beam, alpha)
        started = time.monotonic()
        with showing_search(translator.engine, f"beam {beam}, alpha {alpha:g}", len(valid.sources)):
            found = [best.text for best, *_ in translator.translate(valid.sources)]
        seconds = time.monotonic() - started
        exact = score(found, valid.references, config.evaluation, [measure], intervals=True)
        rows.append(Row(beam, alpha, float(getattr(exact, measure)), exact.intervals.get(measure), seconds, scores))
    assert measure is not None
    best = max(row.score for row in rows)
    chosen = min((row for row in rows if row.score >= best - NEGLIGIBLE), key=lambda row: row.beam_size)
    rows.sort(key=lambda row: row.beam_size)
    penalty = search.length_penalty
    return Tuned(chosen.beam_size, chosen.alpha, loaded.checksum, penalty, measure, len(valid.sources), rows)


def _with(loaded: Translator[TorchEngine], beam_size: int, alpha: float) -> Translator[TorchEngine]:
    """A translator of the same model with another search."""
    search = loaded.search.model_copy(update={"beam_size": beam_size, "alpha": alpha})
    old = loaded.engine
    engine = TorchEngine(old.model, old.tokenizer, search, old.device, old.precision)
    return Translator(engine, loaded.tokenizer, search, loaded.max_target_tokens, loaded.longest_source)


def table(tuned: Tuned, before: SearchConfig) -> str:
    """A table of the tried settings, with the choice."""
    measure = TITLES[tuned.measure]
    lines = [f"  {'beam':>4}  {'alpha':>5}  {measure + ' [95 % interval]':<24}  {'seconds':>8}"]
    for row in tuned.rows:
        ends = f" [{row.interval[0]:.2f}, {row.interval[1]:.2f}]" if row.interval else ""
        alpha = "-" if row.beam_size == 1 else f"{row.alpha:g}"
        mark = "*" if row == tuned.chosen else " "
        lines.append(f"{mark} {row.beam_size:>4}  {alpha:>5}  {f'{row.score:.2f}{ends}':<24}  {row.seconds:>8.1f}")
    now = next(row for row in tuned.rows if row.beam_size == before.beam_size)
    usual = now.scores.get(f"{before.alpha_or_default:g}")
    known = f" ({measure} {usual:.2f})" if usual is not None else ""
    lines.append(
        f"chosen (*): beam {tuned.beam_size}, alpha {tuned.alpha:g}, the smallest beam within {NEGLIGIBLE} of the best "
        f"on {tuned.sentences:,} validation sentences; before: beam {before.beam_size}, alpha "
        f"{before.alpha_or_default:g}{known}"
    )
    return "\n".join(lines)


def summary(chosen: Chosen, sentences: int) -> str:
    """A line about a choice."""
    text = f"length penalty: alpha {chosen.alpha:g}"
    if chosen.measure == "loss":
        return f"{text}; the translations of the validation set are too poor to choose it"
    measure = TITLES[chosen.measure]
    best, usual = (chosen.scores[f"{alpha:g}"] for alpha in (chosen.alpha, ALPHA))
    return (
        f"{text}, with {measure} {best:.2f} on {sentences:,} validation sentences ({measure} {usual:.2f} with {ALPHA})"
    )
