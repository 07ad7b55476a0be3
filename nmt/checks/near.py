"""Training sentences that nearly equal one of a validation or test set.

Two sentences are alike if the Jaccard similarity of their sets of character n-grams is at least :data:`ALIKE`. The
search is exact, by the prefix filter (Chaudhuri et al. 2006; Bayardo et al. 2007): of n elements in a common order,
similar sets share one of the first n - ceil(ALIKE n) + 1. In the order of rarity, few pairs of sets do. The held-out
sets are indexed and the training part streams past them, so that memory does not depend on its size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from nmt.checks.finding import pair
from nmt.data.splits import width

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Pair = tuple[str, str]

GRAM = 5  # characters
DENSE_GRAM = 2  # characters of a sentence that is mostly Chinese, Japanese or Korean
SHORTEST = 25  # characters, one of those counting as three: shorter sentences are often alike by chance
ALIKE = 0.8  # Jaccard similarity of near-duplicates
BLOCK = 4096  # texts that are looked up together
MOST = 4_000_000  # n-grams in common that are looked at together
_BITS = 52  # of a hash; the other 12 number the texts of a block
_UNKNOWN = 0  # rank of an n-gram that no indexed text has: the rarest


def normal(text: str) -> str:
    return " ".join(text.lower().split())


def _sets(texts: Sequence[str]) -> tuple[Hashes, Ints]:
    """The distinct n-grams of at most :data:`BLOCK` texts as hashes, ascending for each text, and the text of each.

    Args:
        texts: as :func:`normal` makes them.
    """
    widths = [width(text) for text in texts]
    texts = [text if wide >= SHORTEST else "" for text, wide in zip(texts, widths, strict=True)]
    lengths = np.array([DENSE_GRAM if wide > 2 * len(text) else GRAM for text, wide in zip(texts, widths, strict=True)])
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    owner = np.repeat(np.arange(len(texts), dtype=np.uint64), [len(text) for text in texts])
    size = lengths[owner.astype(np.int64)]
    last = np.arange(len(codes)) + size - 1
    value = np.zeros(len(codes), np.uint64)
    for place in range(GRAM):
        count = max(0, len(codes) - place)
        part = (value[:count] + codes[place:]) * np.uint64(0x9E3779B97F4A7C15)  # wraps around on purpose
        value[:count] = np.where(place < size[:count], part ^ part >> np.uint64(29), value[:count])
    within = (last < len(codes)) & (owner == owner[np.minimum(last, len(codes) - 1)])
    keys = np.sort(owner[within] << np.uint64(_BITS) | value[within] >> np.uint64(64 - _BITS))
    keys = keys[np.diff(keys, prepend=np.uint64(2**64 - 1)) != 0]
    return keys & np.uint64(2**_BITS - 1), (keys >> np.uint64(_BITS)).astype(np.int64)


def _starts(sizes: Ints) -> Ints:
    """The place at which each of some neighbouring stretches begins."""
    return np.cumsum(sizes) - sizes


def _places(starts: Ints, sizes: Ints) -> Ints:
    """The places of stretches that begin at ``starts``, one after another."""
    return np.repeat(starts - _starts(sizes), sizes) + np.arange(sizes.sum())


def _prefix(sizes: Ints) -> Ints:
    """The length of the prefix of sets of these sizes; 0 for an empty one."""
    return np.where(sizes > 0, sizes - np.ceil(ALIKE * sizes - 1e-9).astype(np.int64) + 1, 0)


class Index:
    """Sentences to which others are compared. All texts are as :func:`normal` makes them.

    Attributes:
        vocabulary: hashes of all n-grams, ascending; ``ranks`` has their places in the order of rarity, from 1.
        sizes: number of n-grams of each sentence.
        members: the n-grams of all sentences, as sentence times n-grams plus rank, ascending.
        owners: of each n-gram by rank, the sentences whose prefixes have it; those of rank r begin at ``begins[r]``.
    """

    def __init__(self, texts: Sequence[str]):
        # The n-grams, and how many sentences have each
        blocks = [(start, *_sets(texts[start : start + BLOCK])) for start in range(0, len(texts), BLOCK)]
        hashes = np.concatenate([np.zeros(0, np.uint64), *(each for _, each, _ in blocks)])
        owner = np.concatenate([np.zeros(0, np.int64), *(each + start for start, _, each in blocks)])
        self.vocabulary, place, counts = np.unique(hashes, return_inverse=True, return_counts=True)
        self.ranks = np.empty(len(counts), np.int64)
        self.ranks[np.argsort(counts, kind="stable")] = np.arange(1, len(counts) + 1)
        # The sentences as ascending ranks
        self.sizes = np.bincount(owner, minlength=len(texts))
        self.members = np.sort(owner * (len(counts) + 1) + self.ranks[place])
        # The sentences by the ranks of their prefixes
        lengths = _prefix(self.sizes)
        ranks = self.members[_places(_starts(self.sizes), lengths)] % (len(counts) + 1)
        owner = np.repeat(np.arange(len(texts)), lengths)
        self.owners = owner[np.argsort(ranks, kind="stable")]
        self.begins = np.searchsorted(np.sort(ranks), np.arange(len(counts) + 2))

    def find(self, texts: Sequence[str], skipped: Mask | None = None) -> list[tuple[int, int]]:
        """Near-duplicates among ``texts``: their places, and those of the sentences of the index.

        Args:
            skipped: sentences of the index that are not looked for; None: all are.
        """
        looked_for = np.ones(len(self.sizes), bool) if skipped is None else ~skipped
        found: list[tuple[int, int]] = []
        for start in range(0, len(texts), BLOCK):
            found += [(start + i, j) for i, j in self._find(texts[start : start + BLOCK], looked_for)]
        return found

    def _find(self, texts: Sequence[str], looked_for: Mask) -> list[tuple[int, int]]:
        if not len(self.vocabulary):
            return []
        # Sets of ranks. A set that shares too few n-grams with all sentences together is like none of them.
        hashes, owner = _sets(texts)
        place = np.minimum(np.searchsorted(self.vocabulary, hashes), len(self.vocabulary) - 1)
        ranks = np.where(self.vocabulary[place] == hashes, self.ranks[place], _UNKNOWN)
        sizes = np.bincount(owner, minlength=len(texts))
        known = np.bincount(owner[ranks != _UNKNOWN], minlength=len(texts))
        kept = (sizes > 0) & (known >= ALIKE * sizes - 1e-9)
        kept_rows, kept_grams = np.flatnonzero(kept), kept[owner]
        span = len(self.vocabulary) + 1
        ranks = np.sort(owner[kept_grams] * span + ranks[kept_grams]) % span
        sizes = sizes[kept_rows]
        # Candidates: sentences whose prefixes share an n-gram, and whose sizes differ little
        starts, lengths = _starts(sizes), _prefix(sizes)
        prefix = ranks[_places(starts, lengths)]
        low, high = self.begins[prefix], self.begins[prefix + 1]
        if (high - low).sum() > MOST and len(texts) > 1:
            half = len(texts) // 2
            later = [(half + i, j) for i, j in self._find(texts[half:], looked_for)]
            return self._find(texts[:half], looked_for) + later
        rows = np.repeat(np.repeat(np.arange(len(sizes)), lengths), high - low)
        others = self.owners[_places(low, high - low)]
        near = (sizes[rows] >= ALIKE * self.sizes[others]) & (self.sizes[others] >= ALIKE * sizes[rows])
        near &= looked_for[others]
        keys = np.unique(rows[near] * len(self.sizes) + others[near])
        rows, others = np.divmod(keys, max(1, len(self.sizes)))
        # Similarities
        shared = self._shared(ranks, starts[rows], sizes[rows], others)
        alike = shared >= ALIKE * (sizes[rows] + self.sizes[others] - shared) - 1e-9
        return list(zip(kept_rows[rows[alike]].tolist(), others[alike].tolist(), strict=True))

    def _shared(self, ranks: Ints, starts: Ints, sizes: Ints, others: Ints) -> Ints:
        """The number of n-grams that sets have in common with sentences, pair by pair."""
        shared = np.zeros(len(others), np.int64)
        for first in range(0, len(others), BLOCK):  # bounds the memory
            part = slice(first, first + BLOCK)
            pair = np.repeat(np.arange(len(others[part])), sizes[part])
            key = others[part][pair] * (len(self.vocabulary) + 1) + ranks[_places(starts[part], sizes[part])]
            place = np.minimum(np.searchsorted(self.members, key), len(self.members) - 1)
            shared[part] = np.bincount(pair[self.members[place] == key], minlength=len(others[part]))
        return shared


@dataclass
class Alike:
    """The rows of a held-out set that training pairs nearly equal, each with the first such pair as an example.

    Attributes:
        both: source and target are nearly equal to those of one training pair.
        sides: nearly equal on the source side alone, and on the target side alone.
    """

    both: dict[int, str] = field(default_factory=dict)
    sides: tuple[dict[int, str], dict[int, str]] = field(default_factory=lambda: ({}, {}))

    def alone(self, side: int) -> dict[int, str]:
        """The rows with a nearly equal side, and no training pair that is alike on both."""
        return {row: example for row, example in self.sides[side].items() if row not in self.both}


class HeldOut:
    """The held-out sets, to which training pairs are compared.

    Equal pairs of a set are indexed once, and a pair that was found is not looked for again. So sentences that both
    parts have very often cost little.
    """

    def __init__(self, sets: Mapping[str, Sequence[Pair]]):
        self.alike = {name: Alike() for name in sets}
        rows: dict[tuple[str, str, str], list[int]] = {}
        for name, pairs in sets.items():
            for row, (src, tgt) in enumerate(pairs):
                rows.setdefault((name, normal(src), normal(tgt)), []).append(row)
        self._rows = [(name, same) for (name, *_), same in rows.items()]
        self._indexes = tuple(Index([key[side] for key in rows]) for side in (1, 2))
        self._found = np.zeros(len(rows), bool)

    def compare(self, first: int, pairs: Sequence[Pair]) -> None:
        """Note which rows are alike to some training pairs, of which the first one has this number."""
        distinct = {(normal(src), normal(tgt)): i for i, (src, tgt) in reversed(list(enumerate(pairs)))}
        places, texts = list(distinct.values()), list(distinct)
        if self._found.all():
            return
        found = [set(self._indexes[side].find([text[side] for text in texts], self._found)) for side in (0, 1)]
        for i, j in sorted(found[0] | found[1]):
            name, rows = self._rows[j]
            alike, example = self.alike[name], pair(first + places[i], *pairs[places[i]])
            sides = [side for side in (0, 1) if (i, j) in found[side]]
            for each in (alike.both,) if len(sides) == 2 else (alike.sides[sides[0]],):
                each.update((row, example) for row in rows if row not in each)
            self._found[j] |= len(sides) == 2
