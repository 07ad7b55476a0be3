"""A comparison of groups of runs on one test set, computed once; :mod:`nmt.evaluation.comparison_report` shows it.

The tests of significance are sacreBLEU's (``sacrebleu --paired-bs``, ``--paired-ar``): of one translation of the set
against one other. They say whether a difference would remain with other sentences, not with other training seeds; the
standard deviation over the runs of a group says how much seeds matter.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from statistics import mean, stdev
from typing import Any, TypeVar

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import PairedTest

from nmt.config.base import unused_keys
from nmt.config.compare import flatten
from nmt.config.evaluation import EvaluationConfig, Metric
from nmt.config.experiment import Config
from nmt.errors import NmtError
from nmt.evaluation import neural
from nmt.evaluation.evaluated import Cost, EvaluatedRun
from nmt.evaluation.scores import METRICS, MOST, Scores, metric_of, score
from nmt.runtime.progress import showing

T = TypeVar("T")
Runs = Sequence[EvaluatedRun]
Groups = Sequence[Runs]
LENGTHS = (5, 10, 15, 20, 30, 40, 60)  # upper ends of the bins of source length, in words
FREQUENCIES = (0, 1, 4, 9, 99, 999)  # upper ends of the bins of training frequency
LOOPED = 4  # words of the n-grams whose repetition counts
LOOPS = 2  # how much more often such an n-gram occurs than in source and reference
COPIED = 0.5  # share of a source's words in its translation from which the source counts as copied
WORDS = 4  # words of the shortest source that can count as copied
SHARE = 0.01  # of the sentences, from which repetition or copying is an alarm
UNUSED = "-"  # in place of a value without effect
LENGTH = 0.1  # difference between the lengths of translations and references from which it is an alarm


@dataclass(frozen=True)
class Difference:
    """A key of the configuration, with the distinct values of each group, as JSON."""

    key: str
    values: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Group:
    """A number over the runs of a group; ``sd`` is the sample standard deviation, nan of a single run.

    Attributes:
        bootstrap: the 95 % interval of a single run over other sentences; None where it is not known.
    """

    values: tuple[float, ...]
    bootstrap: tuple[float, float] | None = None

    @property
    def mean(self) -> float:
        return mean(self.values)

    @property
    def sd(self) -> float:
        return stdev(self.values) if len(self.values) > 1 else math.nan

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean over training seeds, by Student's t; of a single run, ``bootstrap``."""
        if len(self.values) < 2:
            return self.bootstrap
        half = student_quantile(0.975, len(self.values) - 1) * self.sd / math.sqrt(len(self.values))
        return self.mean - half, self.mean + half


def student_quantile(share: float, freedom: int) -> float:
    """Quantile of Student's t distribution, for ``share`` above 0.5, to 6 digits."""

    def above_zero(end: float) -> float:
        """Simpson's rule from 0 to ``end`` in the variable u of t = tan(u) √freedom, where the density is cosⁿ⁻¹."""
        last, steps = math.atan(end / math.sqrt(freedom)), 200
        heights = [math.cos(last * i / steps) ** (freedom - 1) for i in range(steps + 1)]
        area = heights[0] + heights[-1] + 4 * sum(heights[1::2]) + 2 * sum(heights[2:-1:2])
        scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
        return scale * area * last / steps / 3

    low, high = 0.0, 1.0
    while above_zero(high) < share - 0.5:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if above_zero(middle) < share - 0.5 else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True)
class Test:
    """sacreBLEU's tests of one run of B against one of A.

    Attributes:
        difference: score of B less that of A.
        bootstrap: p-value of paired bootstrap resampling (Koehn 2004), 1,000 resamples.
        randomisation: p-value of paired approximate randomisation (Riezler and Maxwell 2005), 10,000 trials.
    """

    metric: Metric
    a: str
    b: str
    difference: float
    bootstrap: float
    randomisation: float


@dataclass(frozen=True)
class Bin:
    """Sentences of a kind, and the mean BLEU of each group on them."""

    label: str
    sentences: int
    bleu: tuple[float, ...]


@dataclass(frozen=True)
class Sentence:
    """A sentence, the mean sentence chrF of two groups, and of both the translation whose chrF is nearest to it.

    Attributes:
        number: of the line, from 1.
        runs: those that made the translations.
    """

    number: int
    source: str
    reference: str
    runs: tuple[str, str]
    hypotheses: tuple[str, str]
    chrf: tuple[float, float]


@dataclass(frozen=True)
class Health:
    """Shares of sentences with repetition, copying or wrong length in the translations of a run.

    Attributes:
        loops: translations that repeat themselves (Raunak et al. 2021, with :data:`LOOPED` and :data:`LOOPS`).
        copies: translations that have :data:`COPIED` of the words of the source, where the reference has fewer
            (Ott et al. 2018).
        empty: translations without a word.
        length: words of all translations divided by those of the references.
    """

    run: str
    loops: float
    copies: float
    empty: float
    length: float

    @property
    def alarms(self) -> list[str]:
        """Each alarm in words."""
        found = [
            f"{share:.1%} of the translations {what}"
            for share, what in (
                (self.loops, "repeat themselves"), (self.copies, "copy the source"), (self.empty, "are empty"),
            )
            if share >= SHARE
        ]  # fmt: skip
        if abs(self.length - 1) > LENGTH:
            found.append(f"the translations have {self.length:.0%} of the length of the references")
        return found


@dataclass(frozen=True)
class Comparison:
    """The comparison of groups of runs on a test set.

    Attributes:
        labels: name of each group.
        names: runs of each group.
        settings: signature of each metric; of a learned one, its model.
        differing: keys of the configuration that differ.
        groups: by metric, the scores of each group.
        costs: by the names of :class:`nmt.evaluation.evaluated.Cost`, what each group took, where it is known.
        tests: of runs of each group against runs of the first.
        by_length: bins of the number of words of the source.
        by_frequency: bins of the training frequency of the rarest word of the reference; empty without training text.
        opponents: places of the two groups whose sentences are compared: the first group and the best of the others.
        sentences: in descending order of the difference of chrF, the second opponent less the first.
        notes: what is missing, in words.
    """

    test_set: str
    labels: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]
    count: int
    settings: dict[str, str]
    differing: list[Difference]
    groups: dict[str, tuple[Group, ...]]
    costs: dict[str, tuple[Group, ...]]
    tests: list[Test]
    by_length: list[Bin]
    by_frequency: list[Bin]
    opponents: tuple[int, int]
    sentences: list[Sentence]
    health: list[Health]
    notes: list[str]

    def extremes(self, count: int) -> tuple[list[Sentence], list[Sentence]]:
        """At most ``count`` sentences each, on which the second opponent is better and on which the first is.

        The largest difference comes first.
        """
        better = [one for one in self.sentences[:count] if one.chrf[1] > one.chrf[0]]
        worse = [one for one in self.sentences[: -count - 1 : -1] if one.chrf[1] < one.chrf[0]]
        return better, worse


def compare(
    name: str,
    groups: Groups,
    training: Callable[[], Iterable[str]],
    labels: Sequence[str] | None = None,
    lengths: Sequence[int] = LENGTHS,
) -> Comparison:
    """Compare groups of runs that have translated the same sources with the same references.

    All are scored with the settings of the first run.

    Args:
        name: of the test set.
        groups: one or more; each has a run.
        training: returns the target side of the training text; where that cannot be read, a note says so.
        labels: names of the groups; by default A, B and so on.
        lengths: upper ends of the bins of source length, in words, increasing.
    """
    runs = [one for group in groups for one in group]
    first, config, notes = runs[0], runs[0].config.evaluation, list[str]()
    if len({one.config.evaluation.model_dump_json() for one in runs}) > 1:
        notes.append(f"the runs have other settings of evaluation; all are scored here with those of {first.name}")
    # Scores
    table, shown = _scored(groups, config, notes)
    metrics = [metric for metric in METRICS if metric in table]
    # Tests
    tests: list[Test] = []
    if first.count > MOST:
        notes.append(f"no tests of significance: they are computed for at most {MOST:,} sentences")
    else:
        tests = significance(groups, metrics, config)
        notes += _without_difference(runs, tests)
    # Kinds of sentences
    words = Words(config)
    by_length = binned(groups, [len(line.split()) for line in first.sources], lengths, config, 1)
    by_frequency: list[Bin] = []
    try:
        with showing("counting the words of the training text", unit=""):
            rarest = rarest_words(first.references, training(), words)
        by_frequency = binned(groups, rarest, FREQUENCIES, config)
    except (OSError, NmtError) as error:
        notes.append(f"no BLEU by training frequency: {error}")
    opponents = (0, best_of(table["bleu"][1:], 0) + 1 if len(groups) > 1 else 0)
    return Comparison(
        name,
        tuple(labels or map(letter, range(len(groups)))),
        each(groups, lambda group: tuple(run.name for run in group)),
        first.count,
        shown,
        differing_keys(each(groups, lambda group: [run.config for run in group])),
        table,
        costs(groups),
        tests,
        by_length,
        by_frequency,
        opponents,
        differing_sentences((groups[opponents[0]], groups[opponents[1]]), config) if len(groups) > 1 else [],
        [health(one, words) for one in runs],
        notes,
    )


def _scored(
    groups: Groups, config: EvaluationConfig, notes: list[str]
) -> tuple[dict[str, tuple[Group, ...]], dict[str, str]]:
    """Scores of each group by metric, and the signature of each metric; skipped metrics are added to ``notes``."""
    # sacreBLEU's metrics
    runs = [one for group in groups for one in group]
    first = runs[0]
    with showing("scoring", unit=""):
        scored = {
            id(one): score(one.hypotheses, first.references, config, intervals=len(group) == 1, further=first.further)
            for group in groups
            for one in group
        }
    settings = scored[id(first)].signatures
    shown = {str(metric): settings[metric] for metric in METRICS if metric in settings}
    table: dict[str, tuple[Group, ...]] = {
        metric: tuple(_group([scored[id(one)] for one in group], metric) for group in groups)
        for metric in METRICS
        if metric in settings
    }
    # Learned metrics
    for learned in dict.fromkeys(name for one in runs for name in one.neural):
        models = {one.neural[learned].model for one in runs if learned in one.neural}
        if len(models) > 1 or not all(learned in one.neural for one in runs):
            notes.append(f"{neural.TITLES[learned]} is skipped: the runs have no scores, or scores of other models")
            continue
        table[learned] = tuple(
            Group(tuple(one.neural[learned].score for one in group), group[0].neural[learned].interval)
            for group in groups
        )
        shown[learned] = f"{models.pop()}, {neural.BETTER[learned]} is better, without tests of significance"
    return table, shown


def _group(scores: Sequence[Scores], metric: Metric) -> Group:
    return Group(tuple(one.value(metric) for one in scores), scores[0].intervals.get(metric))


def letter(place: int) -> str:
    """A, B and so on; Z is followed by A1."""
    return chr(ord("A") + place % 26) + (str(place // 26) if place >= 26 else "")


def best_of(groups: Sequence[Group], default: int) -> int:
    """The place of the highest mean."""
    return max(range(len(groups)), key=lambda place: groups[place].mean, default=default)


def each(groups: Groups, function: Callable[[Runs], T]) -> tuple[T, ...]:
    """A function of each group."""
    return tuple(map(function, groups))


def costs(groups: Groups) -> dict[str, tuple[Group, ...]]:
    """The costs of the groups that are recorded for every run."""
    found = {}
    for field in fields(Cost):
        values = each(groups, lambda group, name=field.name: [getattr(run.cost, name) for run in group])  # type: ignore[misc]
        if all(value is not None for group in values for value in group):
            found[field.name] = tuple(Group(tuple(map(float, group))) for group in values)
    return found


def differing_keys(configs: Sequence[Sequence[Config]]) -> list[Difference]:
    """The keys that do not have one value in all runs where they have an effect, apart from names and folders."""
    flat = [[_effective(one) for one in side] for side in configs]
    keys = dict.fromkeys(key for side in flat for one in side for key in one)
    found = []
    for key in keys:
        values = [tuple(dict.fromkeys(_json(one.get(key)) for one in side)) for side in flat]
        if len({value for side in values for value in side} - {UNUSED}) > 1:
            found.append(Difference(key, tuple(values)))
    return found


def _effective(config: Config) -> dict[str, Any]:
    """Dotted keys and values; ``UNUSED`` in place of a value without effect."""
    unused = {f"{path}.{key}": UNUSED for path, _, key, _ in unused_keys(config)}
    return flatten(config.model_dump(mode="json", exclude={"name", "runs"})) | unused


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def significance(groups: Groups, metrics: Sequence[Metric], config: EvaluationConfig) -> list[Test]:
    """sacreBLEU's tests of each group against the first.

    Runs of equal seeds are compared where both groups have each seed once, else each pair of runs.
    """
    # Pairs of runs to test
    first = groups[0]
    references = [list(lines) for lines in (first[0].references, *first[0].further)]
    steps = []
    for group in groups[1:]:
        seeds = each((first, group), lambda runs: [run.config.seed for run in runs])
        paired = sorted(seeds[0]) == sorted(seeds[1]) and len({*seeds[0]}) == len(seeds[0])
        steps += [(a, [b for b in group if not paired or b.config.seed == a.config.seed]) for a in first]
    # Tests
    tests = []
    with showing("testing significance", len(steps) * len(metrics), unit="tests") as step:
        for a, others in steps:
            systems: list[tuple[str, Sequence[str]]] = [
                (str(i), list(run.hypotheses)) for i, run in enumerate([a, *others])
            ]
            for name in metrics:
                found = [
                    next(iter(_results(PairedTest(systems, {name: metric_of(name, config)}, references, kind))))
                    for kind in ("bs", "ar")
                ]
                base = found[0][0].score
                for b, bootstrap, randomised in zip(others, found[0][1:], found[1][1:], strict=True):
                    difference = float(bootstrap.score - base)
                    tests.append(
                        Test(name, a.name, b.name, difference, float(bootstrap.p_value), float(randomised.p_value))
                    )
                step(1)
    return tests


def _without_difference(runs: Sequence[EvaluatedRun], tests: Sequence[Test]) -> list[str]:
    """A note for each tested pair with identical translations, to which sacreBLEU gives its least p-value."""
    hypotheses = {run.name: list(run.hypotheses) for run in runs}
    pairs = dict.fromkeys((one.a, one.b) for one in tests)
    same = [(a, b) for a, b in pairs if hypotheses[a] == hypotheses[b]]
    return [f"{a} and {b} have the same translations, where the p-values of sacreBLEU mean nothing" for a, b in same]


def _results(test: PairedTest) -> Iterable[Any]:
    """Results of each system, by metric, under sacreBLEU's names."""
    _, scores = test()
    return (results for name, results in scores.items() if name != "System")


def binned(
    groups: Groups, values: Sequence[int], ends: Sequence[int], config: EvaluationConfig, least: int = 0
) -> list[Bin]:
    """Mean BLEU of each group in bins of a number that each sentence has; empty bins are left out.

    Args:
        ends: upper ends, increasing; a last bin has the larger numbers.
        least: the lowest number that a label names.
    """
    starts = [least, *(end + 1 for end in ends)]
    labels = [f"{a}-{b}" if a < b else f"{b}" for a, b in zip(starts, ends, strict=False)] + [f"{starts[-1]}+"]
    members: list[list[int]] = [[] for _ in labels]
    for i, value in enumerate(values):
        members[bisect_left(ends, value)].append(i)

    def bleu(rows: Sequence[int], group: Runs) -> float:
        scores = []
        for run in group:
            hypotheses, *streams = (
                [lines[i] for i in rows] for lines in (run.hypotheses, run.references, *run.further)
            )
            scores.append(score(hypotheses, streams[0], config, ["bleu"], further=streams[1:]))
        return mean(one.bleu for one in scores)

    return [
        Bin(label, len(rows), each(groups, partial(bleu, rows)))
        for label, rows in zip(labels, members, strict=True)
        if rows
    ]


class Words:
    """The words of a text as BLEU counts them."""

    def __init__(self, config: EvaluationConfig):
        metric = metric_of("bleu", config)
        assert isinstance(metric, BLEU)
        self.tokenizer, self.lowercase = metric.tokenizer, config.lowercase

    def __call__(self, line: str) -> list[str]:
        text = self.tokenizer(line.lower() if self.lowercase else line)
        return str(text).split()


def rarest_words(references: Sequence[str], training: Iterable[str], words: Words) -> list[int]:
    """How often the rarest word of each reference occurs in the training text; 0 for an empty reference."""
    lines = [words(line) for line in references]
    counts = dict.fromkeys((word for line in lines for word in line), 0)
    for text in training:
        for word in words(text):
            if word in counts:
                counts[word] += 1
    return [min((counts[word] for word in line), default=0) for line in lines]


def differing_sentences(groups: tuple[Runs, Runs], config: EvaluationConfig) -> list[Sentence]:
    """All sentences, in descending order of the difference of mean chrF, second group less first."""
    metric, first = metric_of("chrf", config), groups[0][0]

    def typical(i: int, group: Runs) -> tuple[EvaluatedRun, float]:
        streams = [first.references, *first.further]
        values = [float(metric.sentence_score(run.hypotheses[i], [one[i] for one in streams]).score) for run in group]
        middle = mean(values)
        return group[min(range(len(group)), key=lambda place: abs(values[place] - middle))], middle

    found = []
    for i in range(first.count):
        (a, a_chrf), (b, b_chrf) = each(groups, partial(typical, i))
        lines = (a.name, b.name), (a.hypotheses[i], b.hypotheses[i])
        found.append(Sentence(i + 1, first.sources[i], first.references[i], *lines, (a_chrf, b_chrf)))
    return sorted(found, key=lambda one: (one.chrf[0] - one.chrf[1], one.number))


def health(run: EvaluatedRun, words: Words) -> Health:
    """Repetition, copying and length of the translations of a run."""
    loops = copies = empty = 0
    lengths = [0, 0]
    for lines in zip(run.sources, run.references, run.hypotheses, strict=True):
        source, reference, hypothesis = map(words, lines)
        lengths = [lengths[0] + len(hypothesis), lengths[1] + len(reference)]
        empty += not hypothesis
        loops += _repeats(hypothesis) >= max(_repeats(source), _repeats(reference)) + LOOPS
        copies += len(source) >= WORDS and _overlap(source, hypothesis) >= COPIED > _overlap(source, reference)
    return Health(run.name, loops / run.count, copies / run.count, empty / run.count, lengths[0] / max(lengths[1], 1))


def _repeats(words: Sequence[str]) -> int:
    """How often the most frequent n-gram of :data:`LOOPED` words occurs."""
    grams = Counter(zip(*(words[i:] for i in range(LOOPED)), strict=False))
    return max(grams.values(), default=0)


def _overlap(source: Sequence[str], words: Sequence[str]) -> float:
    """Share of the words of ``source`` that ``words`` has as well, each as often."""
    return (Counter(source) & Counter(words)).total() / len(source)
