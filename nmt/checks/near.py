"""Training sentences that nearly equal one of a validation or test set.

Sets of character n-grams are compared. Only n-grams whose hash is a multiple of :data:`KEPT` are looked up (Broder's
sketch modulo m, 1997), and the candidates are compared exactly. The sketch of the small sets is stored; the training
part streams past it, so that memory does not depend on its size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

GRAM = 5  # characters
KEPT = 4  # one n-gram of so many is in the sketch
SHORTEST = 25  # characters: shorter sentences are often alike by chance
ALIKE = 0.8  # Jaccard similarity of near-duplicates


def normal(text: str) -> str:
    return " ".join(text.lower().split())


def grams(text: str) -> frozenset[str]:
    return frozenset(text[i : i + GRAM] for i in range(len(text) - GRAM + 1))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / max(1, len(one | other))


def _hashes(texts: Sequence[str]) -> tuple[Hashes, npt.NDArray[np.int64]]:
    """Hashes of the sketches of texts, and the text of each."""
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    owner = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    if len(codes) < GRAM:
        return codes[:0], owner[:0]
    count = len(codes) - GRAM + 1
    value = np.zeros(count, np.uint64)
    for place in range(GRAM):
        value = (value + codes[place : place + count]) * np.uint64(0x9E3779B97F4A7C15)  # wraps around on purpose
    value ^= value >> np.uint64(29)
    kept = (value % np.uint64(KEPT) == 0) & (owner[:count] == owner[GRAM - 1 :])
    return value[kept], owner[:count][kept]


class Index:
    """The sketches of the sentences of a held-out set."""

    def __init__(self, texts: Sequence[str]):
        self.texts = [normal(text) for text in texts]
        hashes, owners = _hashes([text if len(text) >= SHORTEST else "" for text in self.texts])
        order = np.argsort(hashes, kind="stable")
        self.hashes, self.owners = hashes[order], owners[order]
        self.sizes = np.bincount(owners, minlength=len(self.texts))

    def find(self, texts: Sequence[str]) -> list[tuple[int, int]]:
        """Near-duplicates among ``texts``: their places, and those of the sentences of the set."""
        texts = [normal(text) for text in texts]
        hashes, owners = _hashes([text if len(text) >= SHORTEST else "" for text in texts])
        low, high = (np.searchsorted(self.hashes, hashes, side) for side in ("left", "right"))
        repeats = np.minimum(high - low, 50)  # n-grams of very many sentences tell little
        hits = np.repeat(owners, repeats)
        offsets = np.arange(len(hits)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        others = self.owners[np.repeat(low, repeats) + offsets] if len(hits) else hits
        keys, counts = np.unique(hits * len(self.texts) + others, return_counts=True)
        candidates = keys[counts >= np.maximum(2, 0.6 * self.sizes[keys % len(self.texts)])] if len(keys) else keys
        pairs = [divmod(int(key), len(self.texts)) for key in candidates]
        return [(i, j) for i, j in pairs if jaccard(grams(texts[i]), grams(self.texts[j])) >= ALIKE]
