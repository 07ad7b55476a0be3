"""The rules about data: each a small function in :data:`RULES`.

To add a rule, write a function from :class:`Data` to findings, and name it in :data:`RULES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from nmt.checks.finding import Finding, Level, pair, share
from nmt.checks.lengths import shifts
from nmt.checks.part import EXAMPLES, Part
from nmt.checks.scripts import script, usual
from nmt.checks.words import Lexicon, TwoLanguages, unrelated
from nmt.data import splits

FEW = 100  # pairs: with fewer, words tell too little
LEARNED = 5000  # pairs that a lexicon is learned from
SCORED = 2000  # pairs that it scores
NOISY = 0.15  # share of random pairs at which a warning starts
MANY = 0.5  # share at which the data are wrong as a whole
HEADERS = frozenset({
    "source", "target", "src", "tgt", "text", "sentence", "translation", "reference", "english", "german", "french",
    "spanish", "id", "line", "segment",
})  # fmt: skip


@dataclass(frozen=True)
class Data:
    """Parts of a corpus as read, by name; ``train`` is the first.

    Attributes:
        languages: codes of the source and the target language.
    """

    parts: dict[str, Part]
    languages: tuple[str, str]
    seed: int

    @property
    def train(self) -> Part:
        return self.parts["train"]

    @property
    def held(self) -> list[Part]:
        return [part for name, part in self.parts.items() if name != "train" and len(part)]


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
            if seen.count > warn * total:
                level: Level = "problem" if seen.count > wrong * total else "warning"
                text = f"{name}: {share(seen.count, total)} pairs {what}"
                yield Finding(level, rule, text, advice, tuple(seen.examples))

    return check


def header(data: Data) -> Findings:
    names = HEADERS | {code.lower() for code in data.languages}
    for name, part in data.parts.items():
        if part.first and all(side.strip().lower() in names for side in part.first):
            example = (pair(1, *part.first),)
            yield Finding("warning", "header", f"{name}: the first pair is a header", "remove the first line", example)


def duplicates(data: Data) -> Findings:
    count = int(splits.repeats(splits.to_hashes(data.train.hashes)).sum())
    if count > 0.2 * len(data.train):
        text = f"train: {share(count, len(data.train))} pairs repeat an earlier one"
        yield Finding("warning", "duplicates", text, "data.cleaning.drop_duplicates drops them")


def overlap(data: Data) -> Findings:
    """Held-out pairs that are nearly in the training part; equal pairs are the job of the cleaning."""
    for part in data.held:
        found = data.train.near.get(part.name, {})
        if len(found) > max(1, 0.01 * len(part)):
            text = f"{share(len(found), len(part))} pairs of {part.name} are nearly equal to a training pair"
            advice = "scores on this set will be too high; remove these pairs from the training part"
            yield Finding("warning", "near-duplicates", text, advice, tuple(found.values())[:EXAMPLES])


def scripts(data: Data) -> Findings:
    for side, word in ((0, "source"), (1, "target")):
        for name, part in data.parts.items():
            if not (expected := usual([each[side] for each in part.pairs])):
                continue
            wrong = [(n, each) for n, each in part.sample if script(each[side]) not in ("", expected)]
            if len(wrong) > 0.01 * len(part.sample):
                text = f"{name}: {share(len(wrong), len(part.sample))} {word} lines looked at are not in {expected}"
                examples = tuple(pair(n, *each) for n, each in wrong[:EXAMPLES])
                yield Finding("warning", "script", text, "remove lines of another language", examples)


def swapped(data: Data) -> Findings:
    """Sides that are exchanged in a held-out set, compared with the training part."""
    if len(data.train) < FEW:
        return
    languages = TwoLanguages(data.train.pairs[:LEARNED])
    for part in data.held:
        pairs = part.pairs[:SCORED]
        sides = [(languages.side(src), languages.side(tgt)) for src, tgt in pairs]
        exchanged = sum(each == (1, -1) for each in sides)
        if exchanged > MANY * len(pairs):
            text = f"source and target are exchanged in {part.name} or in train: {share(exchanged, len(pairs))} pairs"
            examples = tuple(pair(n, *each) for n, each in part.sample[:EXAMPLES])
            yield Finding("problem", "swapped", text, "exchange src and tgt of one of them", examples)


def untranslated(data: Data) -> Findings:
    """Targets in the source language."""
    if len(data.train) < FEW:
        return
    languages = TwoLanguages(data.train.pairs[:LEARNED])
    for name, part in data.parts.items():
        sample = part.sample[:LEARNED]
        found = [(n, p) for n, p in sample if languages.side(p[0]) == -1 and languages.side(p[1]) == -1]
        if len(found) > 0.02 * len(sample):
            text = f"{name}: {share(len(found), len(sample))} targets looked at are in the source language"
            examples = tuple(pair(n, *each) for n, each in found[:EXAMPLES])
            yield Finding("warning", "untranslated", text, "remove untranslated pairs", examples)


def misaligned(data: Data) -> Findings:
    for name, part in data.parts.items():
        for found in shifts(part.lengths(0), part.lengths(1))[:3]:
            where = f"from pair {found.first + 1:,} to {found.last + 1:,}"
            text = f"{name}: targets are shifted by {abs(found.lines)} line(s) {where}"
            more, fewer = ("target", "source") if found.lines > 0 else ("source", "target")
            advice = (
                f"near the first of them, remove lines from the {more} side, or add those that the {fewer} side lacks"
            )
            inside = [(n, p) for n, p in part.sample if found.first < n <= found.last + 1]
            examples = tuple(pair(n, *each) for n, each in inside[:EXAMPLES])
            yield Finding("problem", "shifted", text, advice, examples)


def noise(data: Data) -> Findings:
    """Pairs that are no translations, by a lexicon of one half of a sample that scores the other half."""
    train = data.train
    references = [part for part in data.held if len(part) >= FEW]
    if len(train) < 10 * FEW or not references:
        return
    order = np.random.default_rng(data.seed).permutation(len(train.sample))
    learned = [train.sample[i][1] for i in order[: min(LEARNED, len(order) * 3 // 4)]]
    scored = [train.sample[i] for i in order[len(learned) :][:SCORED]]
    lexicon = Lexicon(learned)
    # The lexicon takes some translations for random pairs; the held-out sets show how many.
    clean = min(unrelated(lexicon, part.pairs[:SCORED], data.seed)[0] for part in references)
    random, ranks = unrelated(lexicon, [each for _, each in scored], data.seed)
    if clean > MANY:
        return
    part = (random - clean) / (1 - clean)
    if part > NOISY:
        worst = [scored[i] for i in np.argsort(ranks)[:EXAMPLES]]
        examples = tuple(pair(n, *each) for n, each in worst)
        text = f"train: about {part:.0%} of the pairs are no translations of each other (the held-out sets: none)"
        yield Finding("problem", "noise", text, "look at the examples, and at how the files were aligned", examples)


def random_pairs(data: Data) -> Findings:
    sample = data.train.sample
    if sample:
        drawn = np.random.default_rng(data.seed).permutation(len(sample))[:5]
        examples = tuple(pair(n, *each) for n, each in (sample[i] for i in drawn))
        yield Finding("ok", "pairs", "five random training pairs: are they translations?", "", examples)


RULES: dict[str, Callable[[Data], Findings]] = {
    "size": sizes,
    "header": header,
    "empty": single("empty", "have an empty side", "the cleaning drops them from the training part", 0.05, 0.5),
    "equal": single("equal", "have equal sides", "remove untranslated pairs", 0.02, 0.5),
    "encoding": single(
        "encoding", "have text such as Ã¤ for ä", "the text was UTF-8, encoded twice: run ftfy over it", 0.001, 0.2
    ),
    "duplicates": duplicates,
    "near-duplicates": overlap,
    "script": scripts,
    "swapped": swapped,
    "untranslated": untranslated,
    "shifted": misaligned,
    "noise": noise,
    "pairs": random_pairs,
}
