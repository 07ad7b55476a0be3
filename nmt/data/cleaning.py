"""Cleaning: which pairs read become training pairs, which are held out, and how many each rule drops."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from nmt.config.data import CleaningConfig, HoldoutSource
from nmt.data import splits

# Rules in the order in which they are applied, and the pairs that each one drops.
RULES = {
    "empty": "pairs with an empty side",
    "too_long": "pairs with a side longer than cleaning.max_chars",
    "ratio": "pairs with one side much longer than the other (cleaning.max_ratio)",
    "duplicate": "duplicates",
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
    """

    def __init__(self, config: CleaningConfig, sentences: bool):
        self.config = config
        self.read = 0
        self.dropped = dict.fromkeys(RULES, 0)
        self.pairs = array("Q")  # hashes
        self.sentences = (array("Q"), array("Q")) if sentences else None  # hashes of sources and targets
        self.widths = (array("I"), array("I")) if config.ratio == "relative" else None

    def __call__(self, pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        """Yield the pairs that pass."""
        max_chars, max_ratio = self.config.max_chars, self.config.max_ratio
        sentences, widths = self.sentences, self.widths
        for src, tgt in pairs:
            self.read += 1
            shorter, longer = len(src), len(tgt)
            if shorter > longer:
                shorter, longer = longer, shorter
            # Drop a pair with an empty side, a side that is too long, or sides of too different lengths.
            if not src.strip() or not tgt.strip():
                self.dropped["empty"] += 1
                continue
            if longer > max_chars:
                self.dropped["too_long"] += 1
                continue
            if widths:
                widths[0].append(splits.width(src.strip()))
                widths[1].append(splits.width(tgt.strip()))
            elif longer > max_ratio * max(shorter, 10):
                self.dropped["ratio"] += 1
                continue
            # Store the hashes of a pair that passes.
            self.pairs.frombytes(splits.pair_hash(src, tgt))
            if sentences:
                sentences[0].frombytes(splits.sentence_hash(src))
                sentences[1].frombytes(splits.sentence_hash(tgt))
            yield src, tgt


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
        ends: where the pairs of each dataset end; each dataset has a usual ratio and duplicates of its own.

    Attributes:
        keep: [N] whether each pair is still kept.
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
        self.shared = 0
        self.usual_ratios: list[float] = []

    def drop(self, rule: str, mask: splits.Mask) -> None:
        """Drop the masked pairs [N] and count them under ``rule``."""
        mask = mask & self.keep
        self.cleaner.dropped[rule] += int(mask.sum())
        self.keep &= ~mask

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
