"""What one pass over a part of a corpus collects: 16 bytes a pair, and a sample of fixed size."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

import numpy as np
import numpy.typing as npt

from nmt.checks.finding import pair
from nmt.checks.lengths import Shift, shifts
from nmt.checks.near import HeldOut
from nmt.data import splits
from nmt.data.rules import has_tag

Pair = tuple[str, str]

SAMPLE = 20_000  # pairs that the rules about words look at
BLOCK = 4096
EXAMPLES = 10

# A character of Windows-1252 that begins, and one that continues, two or three bytes of UTF-8 read as such.
_BROKEN = re.compile("[\u00c2-\u00c5\u00d0\u00d1\u00e2][\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]")
_ENTITY = re.compile("&(?:amp|lt|gt|quot|apos|nbsp|#[0-9]{2,5}|#x[0-9a-fA-F]{2,4});")


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
        held: the held-out sets to which the pairs are compared; None: none.
        tagged: whether a tag before the sources may ask for another direction or language than those of the data.

    Attributes:
        widths: characters of both sides, see :func:`nmt.data.splits.width`.
        hashes: of the pairs.
        seen: pairs of each rule about one pair alone.
        sample: pairs with their numbers, uniformly drawn.
        first: the first pair.
    """

    def __init__(self, name: str, seed: int, held: HeldOut | None = None, tagged: bool = False):
        self.name, self.held, self.tagged = name, held, tagged
        self.widths, self.hashes = (array("I"), array("I")), array("Q")
        self.seen = {rule: Seen() for rule in ("empty", "equal", "encoding", "markup")}
        self.sample: list[tuple[int, Pair]] = []
        self.first: Pair | None = None
        self._rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self.hashes)

    def some(self, count: int) -> list[tuple[int, Pair]]:
        """At most ``count`` pairs of the sample, spread over the part, with their numbers."""
        places = np.linspace(0, len(self.sample) - 1, min(count, len(self.sample))).astype(int)
        return [self.sample[place] for place in places.tolist()]

    def pairs(self, count: int) -> list[Pair]:
        """As :meth:`some`, without numbers."""
        return [each for _, each in self.some(count)]

    @cached_property
    def shifts(self) -> list[Shift]:
        """Runs of pairs whose targets are shifted."""
        return shifts(self.lengths(0), self.lengths(1))

    def is_shifted(self, number: int) -> bool:
        """Whether the pair of this number is in a shifted run."""
        return any(found.first < number <= found.last + 1 for found in self.shifts)

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
        if self.held is not None:
            self.held.compare(start + 1, block)

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
    if any(has_tag(text) or _ENTITY.search(text) for text in (src, tgt)):
        yield "markup"


def _is_broken(text: str) -> bool:
    """Whether a text was UTF-8 that was read as Windows-1252 and written as UTF-8 once more."""
    return any(_decodes(found[0]) for found in _BROKEN.finditer(text))


def _decodes(two: str) -> bool:
    raw = bytes(ord(c) if ord(c) < 256 else c.encode("cp1252")[0] for c in two)
    return 0xC2 <= raw[0] <= 0xE2 and 0x80 <= raw[1] <= 0xBF
