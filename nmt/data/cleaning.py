"""Cleaning: which pairs read become training pairs, which are held out, and how many each rule drops."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, islice

import numpy as np

from nmt.config.data import CleaningConfig
from nmt.config.sources import HoldoutSource
from nmt.data import splits
from nmt.data.rules import PAIR_RULES, Side

BATCH = 4096  # pairs that the rules of data.cleaning.rules look at together
SHOWN = 3  # examples of a rule
SHOWN_CHARS = 200  # of a side of an example

# Rules in the order in which they are applied, and the pairs that each one drops.
RULES = {
    "empty": "pairs with an empty side",
    "too_long": "pairs with a side longer than cleaning.max_chars",
    "ratio": "pairs with one side much longer than the other (cleaning.max_ratio)",
    **{name: description for name, (description, _) in PAIR_RULES.items()},
    "duplicate": "duplicates",
    "duplicate_source": "pairs with the source of one before them",
    "duplicate_target": "pairs with the target of one before them",
    "overlap": "pairs that are also in the validation or a test set",
    "overlap_source": "pairs whose source is also in the validation or a test set",
    "overlap_target": "pairs whose target is also in the validation or a test set",
    "holdout": "pairs whose source or target is also in a held-out part",
    "common": "pairs drawn for a held-out part whose source or target is common in training",
}


class Cleaner:
    """The rules that look at one pair alone. Every pair is counted under the first rule that drops it.

    The cleaner stores hashes and lengths of the pairs that pass, which the rules for the whole corpus need.

    Args:
        sentences: store a hash of each sentence as well, to compare sentences across parts.
        languages: codes of the source and the target language.

    Attributes:
        dropped: number of pairs by the rule.
        examples: the first pairs that a rule dropped, by the rule, shortened.
    """

    def __init__(self, config: CleaningConfig, sentences: bool, languages: tuple[str, str] = ("", "")):
        self.config, self.languages = config, languages
        self.rules = config.rules.active()
        self.read = 0
        self.dropped = {rule: 0 for rule in RULES if not hasattr(config.rules, rule) or rule in self.rules}
        self.examples: dict[str, list[tuple[str, str]]] = {}
        self.pairs = array("Q")  # hashes
        self.sentences = (array("Q"), array("Q")) if sentences else None  # hashes of sources and targets
        self.side_hashes = {rule: array("Q") for rule in ("duplicate_source", "duplicate_target") if rule in self.rules}
        self.widths = (array("I"), array("I")) if config.ratio == "relative" else None

    def __call__(self, pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        """Yield the pairs that pass."""
        sentences, widths, hashes = self.sentences, self.widths, self.side_hashes
        passed = self._by_length(pairs)
        for src, tgt in self._by_rules(passed) if any(rule in PAIR_RULES for rule in self.rules) else passed:
            if widths:
                widths[0].append(splits.width(src.strip()))
                widths[1].append(splits.width(tgt.strip()))
            self.pairs.frombytes(splits.pair_hash(src, tgt))
            if sentences:
                sentences[0].frombytes(splits.sentence_hash(src))
                sentences[1].frombytes(splits.sentence_hash(tgt))
            for rule in hashes:
                hashes[rule].frombytes(splits.text_hash(src if rule == "duplicate_source" else tgt))
            yield src, tgt

    @property
    def stored(self) -> list[array[int]]:
        """What is stored of the pairs that pass, an array a kind."""
        return [self.pairs, *(self.sentences or ()), *self.side_hashes.values(), *(self.widths or ())]

    def add(self, read: int, dropped: dict[str, int], examples: dict[str, list[tuple[str, str]]]) -> None:
        """Add what a cleaner of later pairs counted; what it stored is added to :attr:`stored`."""
        self.read += read
        for rule, count in dropped.items():
            if missing := max(0, SHOWN - self.dropped[rule]):
                self.examples.setdefault(rule, []).extend(examples.get(rule, [])[:missing])
            self.dropped[rule] += count
        self.examples = {rule: pairs for rule, pairs in self.examples.items() if pairs}

    def drop(self, rule: str, src: str, tgt: str) -> None:
        """Count a pair that a rule drops, and store it if it is one of the first."""
        self.dropped[rule] += 1
        if self.dropped[rule] <= SHOWN:
            self.add_example(rule, src, tgt)

    def add_example(self, rule: str, src: str, tgt: str) -> None:
        self.examples.setdefault(rule, []).append((_shortened(src), _shortened(tgt)))

    def _by_length(self, pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        """Drop a pair with an empty side, a side that is too long, or sides of too different lengths."""
        max_chars, max_ratio = self.config.max_chars, self.config.max_ratio
        compared = self.config.ratio == "characters"
        for src, tgt in pairs:
            self.read += 1
            shorter, longer = len(src), len(tgt)
            if shorter > longer:
                shorter, longer = longer, shorter
            if not src.strip() or not tgt.strip():
                self.drop("empty", src, tgt)
            elif longer > max_chars:
                self.drop("too_long", src, tgt)
            elif compared and longer > max_ratio * max(shorter, 10):
                self.drop("ratio", src, tgt)
            else:
                yield src, tgt

    def _by_rules(self, pairs: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        """Drop the pairs that a rule of ``data.cleaning.rules`` drops."""
        rules = [(name, PAIR_RULES[name][1], rule) for name, rule in self.rules.items() if name in PAIR_RULES]
        while batch := list(islice(pairs, BATCH)):
            src, tgt = zip(*batch, strict=True)
            sides = Side(src, self.languages[0]), Side(tgt, self.languages[1])
            keep = np.ones(len(batch), dtype=bool)
            for name, drops, rule in rules:
                mask = drops(sides, rule) & keep
                keep &= ~mask
                for place in np.flatnonzero(mask).tolist():
                    self.drop(name, *batch[place])
            yield from compress(batch, keep.tolist())


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 1] + "…"


class HeldHashes:
    """Hashes of the validation and test sets that are no holdouts.

    Attributes:
        pairs: of the pairs of all sets, one set after another.
        sentences: of their sources and targets, in the same order.
        parts: of the pairs of each set, by its name.
    """

    def __init__(self) -> None:
        self.pairs, self.sentences = array("Q"), (array("Q"), array("Q"))
        self.parts: dict[str, splits.Hashes] = {}

    def add(self, name: str, part: Iterable[tuple[str, str]]) -> None:
        """Add the pairs of a set."""
        pairs = array("Q")
        for src, tgt in part:
            pairs.frombytes(splits.pair_hash(src, tgt))
            for side, text in zip(self.sentences, (src, tgt), strict=True):
                side.frombytes(splits.sentence_hash(text) if text.strip() else splits.BLANK)
        self.pairs.extend(pairs)
        self.parts[name] = splits.to_hashes(pairs)


class Selection:
    """The rules that look at the whole corpus, applied to the pairs that a cleaner let pass.

    Args:
        ends: where the pairs of each dataset end; each dataset has its own usual ratio and duplicates.

    Attributes:
        keep: [N] whether each pair is still kept.
        examples: indices of the first pairs that a rule dropped, by the rule.
        shared: number of held-out pairs with a sentence that stays in training.
        usual_ratios: target over source length of each dataset, see :func:`nmt.data.splits.usual_ratio`; empty if not
            needed.
    """

    def __init__(self, cleaner: Cleaner, ends: Sequence[int] | None = None):
        self.cleaner, self.config = cleaner, cleaner.config
        ends = [len(cleaner.pairs)] if ends is None else ends
        self.datasets = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
        self.pairs = splits.to_hashes(cleaner.pairs)
        self.sides = [splits.to_hashes(side) for side in cleaner.sentences or ()]  # sources and targets, or none
        self.keep = np.ones(len(self.pairs), dtype=bool)
        self.examples: dict[str, list[int]] = {}
        self.shared = 0
        self.usual_ratios: list[float] = []

    def drop(self, rule: str, mask: splits.Mask) -> None:
        """Drop the masked pairs [N] and count them under ``rule``."""
        mask = mask & self.keep
        self.cleaner.dropped[rule] += int(mask.sum())
        self.examples[rule] = np.flatnonzero(mask)[:SHOWN].tolist()
        self.keep &= ~mask

    def add_examples(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Add the first pairs that each rule dropped to the examples of the cleaner.

        Args:
            pairs: [N] the pairs that the cleaner let pass.
        """
        for rule, rows in self.examples.items():
            for row in rows:
                self.cleaner.add_example(rule, *pairs[row])

    def clean(self) -> None:
        """Drop pairs of too different lengths, and duplicates."""
        if self.cleaner.widths:
            src, tgt = (np.frombuffer(side, dtype=np.uint32) for side in self.cleaner.widths)
            self.usual_ratios = [splits.usual_ratio(src[rows], tgt[rows]) for rows in self.datasets]
            found = [
                splits.ill_proportioned(src[rows], tgt[rows], usual, self.config.max_ratio)
                for rows, usual in zip(self.datasets, self.usual_ratios, strict=True)
            ]
            self.drop("ratio", np.concatenate(found))
        if self.config.drop_duplicates:
            self.drop("duplicate", np.concatenate([splits.repeats(self.pairs[rows]) for rows in self.datasets]))
        for rule, hashes in self.cleaner.side_hashes.items():
            mask, sides = np.zeros(len(self.keep), dtype=bool), splits.to_hashes(hashes)
            for rows in self.datasets:
                kept = rows.start + np.flatnonzero(self.keep[rows])
                mask[kept[splits.repeats(sides[kept])]] = True
            self.drop(rule, mask)

    def drop_overlap(self, held: HeldHashes) -> None:
        """Drop pairs with a pair or a sentence of the validation and test sets that are no holdouts."""
        if not (self.config.drop_overlap and held.pairs):
            return
        self.drop("overlap", splits.among(self.pairs, splits.to_hashes(held.pairs)))
        common = np.zeros(len(held.pairs), dtype=bool)  # by the pair of the sets
        for rule, side, there in zip(("overlap_source", "overlap_target"), self.sides, held.sentences, strict=False):
            mask, too_common = splits.overlap(side, self.keep, splits.to_hashes(there))
            self.drop(rule, mask)
            common |= too_common
        self.shared += int(common.sum())

    def split(self, holdouts: Sequence[HoldoutSource]) -> splits.Assignment:
        """For each pair [N], the index of the holdout that takes it; -1 for training, -2 for no part."""
        if not (self.sides and holdouts):
            return splits.split(self.pairs, holdouts)
        found = splits.separate(self.sides[0], self.sides[1], self.keep, holdouts)
        self.cleaner.dropped["holdout"] = found.from_training
        self.cleaner.dropped["common"] = found.from_holdouts
        self.shared += found.shared
        return found.where
