"""The rules about data: each a small function in :data:`RULES`.

To add a rule, write a function from :class:`Data` to findings, and name it in :data:`RULES`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nmt.advice import install
from nmt.checks import languages
from nmt.checks.finding import Finding, Level, pair, share
from nmt.checks.near import Alike
from nmt.checks.part import EXAMPLES, SAMPLE, Pair, Part
from nmt.checks.scripts import script, usual
from nmt.checks.words import Lexicon, TwoLanguages, unrelated
from nmt.data import splits
from nmt.data.sources.headings import like_names
from nmt.numbers import count_of

FEW = 100  # pairs: with fewer, words tell too little
LEARNED = 5000  # pairs that a lexicon is learned from
SCORED = 2000  # pairs that it scores
NOISY = 0.15  # share of random pairs at which a warning starts
MANY = 0.5  # share at which the data are wrong as a whole
HEADINGS = frozenset({"text", "sentence", "segment", "line"})  # of a file of one language


@dataclass(frozen=True)
class Data:
    """Parts of a corpus as read, by name.

    Attributes:
        training: ``train``, or of a mixture ``train.NAME`` for each dataset.
        held: the validation set and the test sets.
        languages: codes of the source and the target language.
        alike: the rows of each held-out set that training pairs nearly equal.
    """

    training: dict[str, Part]
    held: dict[str, Part]
    languages: tuple[str, str]
    seed: int
    alike: Mapping[str, Alike] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, Part]:
        return {**self.training, **self.held}

    @property
    def references(self) -> list[Part]:
        """The held-out sets that are not empty."""
        return [part for part in self.held.values() if len(part)]

    def learned(self) -> list[Pair]:
        """Training pairs to learn words from, as many of each source."""
        return [each for part in self.training.values() for each in part.pairs(LEARNED // len(self.training))]


Findings = Iterator[Finding]


def sizes(data: Data) -> Findings:
    for name, part in data.parts.items():
        if not len(part):
            yield Finding("problem", "size", f"{name} has no pairs", f"check the files that data.{name} names")
            continue
        at = [np.percentile(part.lengths(side), (50, 95, 100)) for side in (0, 1)]
        told = " and ".join(f"{a:.0f} / {b:.0f} / {c:.0f}" for a, b, c in at)
        yield Finding("ok", "size", f"{name} has {len(part):,} pairs of {told} characters (median / 95% / longest)")


def single(rule: str, what: str, advice: str, warn: float, wrong: float) -> Callable[[Data], Findings]:
    """A rule about one pair alone: from the share ``warn`` on a warning, from ``wrong`` on a problem."""

    def check(data: Data) -> Findings:
        for name, part in data.parts.items():
            seen, total = part.seen[rule], max(1, len(part))
            text = f"{name}: {share(seen.count, total)} pairs {what}"
            if seen.count > warn * total:
                level: Level = "problem" if seen.count > wrong * total else "warning"
                yield Finding(level, rule, text, advice, tuple(seen.examples))
            elif seen.count:
                yield Finding("ok", rule, text)

    return check


def header(data: Data) -> Findings:
    for name, part in data.parts.items():
        if part.first and (
            like_names(part.first, data.languages) or all(side.strip().lower() in HEADINGS for side in part.first)
        ):
            example = (pair(1, *part.first),)
            yield Finding("warning", "header", f"{name}: the first pair is a header", "remove the first line", example)


def duplicates(data: Data) -> Findings:
    hashes = np.concatenate([splits.to_hashes(part.hashes) for part in data.training.values()])
    if count := int(splits.repeats(hashes).sum()):
        text = f"train: {share(count, len(hashes))} pairs repeat an earlier one"
        level: Level = "warning" if count > 0.2 * len(hashes) else "ok"
        yield Finding(level, "duplicates", text, "data.cleaning.drop_duplicates drops them" if level != "ok" else "")


def overlap(data: Data) -> Findings:
    """Held-out pairs that are nearly in the training part; equal pairs are the job of the cleaning."""
    for part in data.references:
        found = data.alike.get(part.name, Alike())
        text = f"{share(len(found.both), len(part))} pairs of {part.name} are nearly equal to a training pair"
        if 0 < len(found.both) <= max(1, 0.01 * len(part)):
            yield Finding("ok", "near-duplicates", text)
        elif found.both:
            advice = "scores on this set will be too high; remove these pairs from the training part"
            yield Finding("warning", "near-duplicates", text, advice, tuple(found.both.values())[:EXAMPLES])
        for side, word in ((0, "source"), (1, "target")):
            alone = found.alone(side)
            if len(alone) > max(1, 0.05 * len(part)):
                other = ("target", "source")[side]
                text = f"{share(len(alone), len(part))} pairs of {part.name} have nearly the {word} of a training pair"
                advice = f"the {other} differs; scores on this set may be too high: compare the examples"
                yield Finding(
                    "warning", "near-duplicates", f"{text}, with another {other}", advice,
                    tuple(alone.values())[:EXAMPLES],
                )  # fmt: skip


def scripts(data: Data) -> Findings:
    for side, word in ((0, "source"), (1, "target")):
        for name, part in data.parts.items():
            if not (expected := usual([each[side] for _, each in part.sample])):
                continue
            wrong = [(n, each) for n, each in part.sample if script(each[side]) not in ("", expected)]
            text = f"{name}: {share(len(wrong), len(part.sample))} {word} lines looked at are not in {expected}"
            if 0 < len(wrong) <= 0.01 * len(part.sample):
                yield Finding("ok", "script", text)
            elif wrong:
                examples = tuple(pair(n, *each) for n, each in wrong[:EXAMPLES])
                yield Finding("warning", "script", text, "remove lines of another language", examples)


def swapped(data: Data) -> Findings:
    """Sides that are exchanged in a held-out set, compared with each source of the training part."""
    for train in data.training.values():
        if len(train) < FEW or train.tagged:
            continue
        words = TwoLanguages(train.pairs(LEARNED))
        for part in data.references:
            pairs = part.pairs(SCORED)
            sides = [(words.side(src), words.side(tgt)) for src, tgt in pairs]
            exchanged = sum(each == (1, -1) for each in sides)
            if exchanged > MANY * len(pairs):
                text = (
                    f"source and target are exchanged in {part.name} or in {train.name}: "
                    f"{share(exchanged, len(pairs))} pairs"
                )
                examples = tuple(pair(n, *each) for n, each in part.sample[:EXAMPLES])
                yield Finding("problem", "swapped", text, "swap src and tgt of one of them", examples)


def untranslated(data: Data) -> Findings:
    """Targets in the source language; those that equal their source are another rule's."""
    if sum(map(len, data.training.values())) < FEW:
        return
    words = TwoLanguages(data.learned())
    for name, part in data.parts.items():
        sample = [(n, p) for n, p in part.some(LEARNED) if p[0] != p[1]]
        found = [(n, p) for n, p in sample if words.side(p[0]) == -1 and words.side(p[1]) == -1]
        if len(found) > 0.02 * len(sample):
            text = f"{name}: {share(len(found), len(sample))} targets looked at are in the source language"
            examples = tuple(pair(n, *each) for n, each in found[:EXAMPLES])
            yield Finding("warning", "untranslated", text, "remove untranslated pairs", examples)


def identified(data: Data) -> Findings:
    """Lines in another language than that of their side; exchanged and untranslated pairs are other rules'."""
    if not languages.is_installed():
        hint = f"{install('nmt-trainer[languages]')} lets this check name languages"
        yield Finding("ok", "language", "the languages of lines are not identified: lingua is not installed", hint)
        return
    texts = [text for part in data.parts.values() for each in part.pairs(SCORED // 4) for text in each]
    identifier = languages.Identifier(data.languages, texts)
    expected = [identifier.expected(code) for code in data.languages]
    for name, part in data.parts.items():
        if part.tagged:
            continue
        lines = [(n, p, [identifier.language(text) for text in p]) for n, p in part.some(SCORED)]
        for side, word in ((0, "source"), (1, "target")):
            other = expected[1 - side]
            wrong = [
                (n, p, found[side])
                for n, p, found in lines
                if expected[side] and found[side] and found[side] not in expected[side]
                if not (found[side] in other and (side == 1 or found[1] in expected[0]))
            ]
            if len(wrong) > 0.02 * len(lines):
                often = Counter(code for *_, code in wrong).most_common(1)[0][0]
                text = (
                    f"{name}: {share(len(wrong), len(lines))} {word} lines looked at are not in "
                    f"{data.languages[side]}, most of them in {often}"
                )
                examples = tuple(f"{code} {pair(n, *p)}" for n, p, code in wrong[:EXAMPLES])
                yield Finding("warning", "language", text, "remove lines of another language", examples)


def misaligned(data: Data) -> Findings:
    for name, part in data.parts.items():
        for found in part.shifts[:3]:
            where = f"from pair {found.first + 1:,} to {found.last + 1:,}"
            text = f"{name}: targets are shifted by {count_of(abs(found.lines), 'line')} {where}"
            more, fewer = ("target", "source") if found.lines > 0 else ("source", "target")
            advice = (
                f"near the first of them, remove lines from the {more} side, or add those that the {fewer} side lacks"
            )
            inside = [(n, p) for n, p in part.sample if found.first < n <= found.last + 1]
            examples = tuple(pair(n, *each) for n, each in inside[:EXAMPLES])
            yield Finding("problem", "shifted", text, advice, examples)


def noise(data: Data) -> Findings:
    """Pairs that are no translations, by a lexicon of one half of a sample that scores the other half.

    Pairs in shifted runs are no translations either, for a reason that is reported already: they are left out.
    """
    references = [part for part in data.references if len(part) >= FEW]
    for train in data.training.values():
        sample = [(n, each) for n, each in train.sample if not train.is_shifted(n)]
        if len(sample) >= 10 * FEW and references:
            yield from _noise_of(train, sample, references, data.seed)


def _noise_of(train: Part, sample: Sequence[tuple[int, Pair]], references: Sequence[Part], seed: int) -> Findings:
    order = np.random.default_rng(seed).permutation(len(sample))
    learned = [sample[i][1] for i in order[: min(LEARNED, len(order) * 3 // 4)]]
    scored = [sample[i] for i in order[len(learned) :][:SCORED]]
    lexicon = Lexicon(learned)
    # The lexicon takes some translations for random pairs; the held-out sets show how many.
    clean = min(unrelated(lexicon, part.pairs(SCORED), seed)[0] for part in references)
    random, ranks = unrelated(lexicon, [each for _, each in scored], seed)
    if clean > MANY:
        return
    part = (random - clean) / (1 - clean)
    if part > NOISY:
        worst = [scored[i] for i in np.argsort(ranks)[:EXAMPLES]]
        examples = tuple(pair(n, *each) for n, each in worst)
        text = (
            f"{train.name}: about {part:.0%} of the pairs are not translations of each other (the held-out sets: none)"
        )
        yield Finding("problem", "noise", text, "look at the examples, and at how the files were aligned", examples)


def random_pairs(data: Data) -> Findings:
    several = len(data.training) > 1
    sample = [
        f"{part.name if several else ''} {pair(n, *each)}".lstrip()
        for part in data.training.values()
        for n, each in part.some(SAMPLE // len(data.training))
    ]
    if sample:
        drawn = np.random.default_rng(data.seed).permutation(len(sample))[:5]
        examples = tuple(sample[i] for i in drawn)
        yield Finding("ok", "pairs", "five random training pairs: are they translations?", "", examples)


RULES: dict[str, Callable[[Data], Findings]] = {
    "size": sizes,
    "header": header,
    "empty": single("empty", "have an empty side", "the cleaning drops them from the training part", 0.05, 0.5),
    "equal": single("equal", "have equal sides", "remove untranslated pairs", 0.02, 0.5),
    "encoding": single(
        "encoding", "have text such as Ã¤ for ä", "the text was UTF-8, encoded twice: run ftfy over it", 0.001, 0.2
    ),
    "markup": single(
        "markup",
        "have HTML tags, or characters such as &amp;",
        "data.cleaning.rules.html_tag: true drops pairs with tags; html.unescape of Python replaces such characters",
        0.01,
        1.0,
    ),
    "duplicates": duplicates,
    "near-duplicates": overlap,
    "script": scripts,
    "language": identified,
    "swapped": swapped,
    "untranslated": untranslated,
    "shifted": misaligned,
    "noise": noise,
    "pairs": random_pairs,
}
