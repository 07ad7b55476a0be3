"""What one pass over a part of a corpus collects: 16 bytes a pair, and a sample of fixed size."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import numpy.typing as npt

from nmt.checks.finding import pair
from nmt.checks.near import Index
from nmt.data import splits

Pair = tuple[str, str]

SAMPLE = 20_000  # pairs that the rules about words look at
BLOCK = 4096
EXAMPLES = 10

# A character of Windows-1252 that begins, and one that continues, two or three bytes of UTF-8 read as such.
_BROKEN = re.compile("[\u00c2-\u00c5\u00d0\u00d1\u00e2][\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]")


@dataclass
class Seen:
    """A number of pairs, and the first of them as examples."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, number: int, src: str, tgt: str) -> None:
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(pair(number, src, tgt))


class Part:
    """A part of a corpus as read, before cleaning.

    Args:
        name: as in the configuration: ``train``, ``valid``, ``test.NAME``.
        indexes: sketches of source and target of each held-out set, to which the pairs are compared.

    Attributes:
        widths: characters of both sides, see :func:`nmt.data.splits.width`.
        hashes: of the pairs.
        seen: pairs of each rule about one pair alone.
        near: pairs of each held-out set that nearly equal one of this part.
        sample: pairs with their numbers, uniformly drawn.
        first: the first pair.
    """

    def __init__(self, name: str, seed: int, indexes: dict[str, tuple[Index, Index]] | None = None):
        self.name, self.indexes = name, indexes or {}
        self.widths, self.hashes = (array("I"), array("I")), array("Q")
        self.seen = {rule: Seen() for rule in ("empty", "equal", "encoding")}
        self.near: dict[str, dict[int, str]] = {name: {} for name in self.indexes}
        self.sample: list[tuple[int, Pair]] = []
        self.first: Pair | None = None
        self._rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self.hashes)

    @property
    def pairs(self) -> list[Pair]:
        """The sample, without numbers."""
        return [each for _, each in self.sample]

    def lengths(self, side: int) -> npt.NDArray[np.uint32]:
        return np.frombuffer(self.widths[side], np.uint32)

    def read(self, pairs: Iterable[Pair]) -> Part:
        """Collect all pairs."""
        stream = iter(pairs)
        while block := list(islice(stream, BLOCK)):
            self._add(block)
        self.sample.sort(key=lambda each: each[0])
        return self

    def _add(self, block: Sequence[Pair]) -> None:
        start = len(self)
        if not start:
            self.first = block[0]
        for number, (src, tgt) in enumerate(block, start + 1):
            self.hashes.frombytes(splits.pair_hash(src, tgt))
            self.widths[0].append(splits.width(src))
            self.widths[1].append(splits.width(tgt))
            for rule in _rules_of(src, tgt):
                self.seen[rule].add(number, src, tgt)
        self._draw(start, block)
        for name, (sources, targets) in self.indexes.items():
            alike = set(sources.find([src for src, _ in block])) & set(targets.find([tgt for _, tgt in block]))
            for i, j in alike:
                self.near[name].setdefault(j, pair(start + i + 1, *block[i]))

    def _draw(self, start: int, block: Sequence[Pair]) -> None:
        """Reservoir sampling (Vitter 1985, algorithm R)."""
        draws = self._rng.integers(0, np.arange(start + 1, start + len(block) + 1))
        for i, (place, each) in enumerate(zip(draws.tolist(), block, strict=True)):
            if len(self.sample) < SAMPLE:
                self.sample.append((start + i + 1, each))
            elif place < SAMPLE:
                self.sample[place] = (start + i + 1, each)


def _rules_of(src: str, tgt: str) -> Iterator[str]:
    if not src.strip() or not tgt.strip():
        yield "empty"
    elif src == tgt and len(src.split()) > 2:
        yield "equal"
    for text in (src, tgt):
        if not text.isascii() and _is_broken(text):
            yield "encoding"
            break


def _is_broken(text: str) -> bool:
    """Whether a text was UTF-8 that was read as Windows-1252 and written as UTF-8 once more."""
    return any(_decodes(found[0]) for found in _BROKEN.finditer(text))


def _decodes(two: str) -> bool:
    raw = bytes(ord(c) if ord(c) < 256 else c.encode("cp1252")[0] for c in two)
    return 0xC2 <= raw[0] <= 0xE2 and 0x80 <= raw[1] <= 0xBF
