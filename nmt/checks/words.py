"""Words of a corpus as evidence: which language a side is in, and which pairs are translations of each other."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Pair = tuple[str, str]

LONGEST = 40  # words of a sentence that are used
ROUNDS = 4  # of expectation maximisation
SURE = 2.0  # difference of log-likelihoods at which a sentence is assigned to a language
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")


def words(text: str) -> list[str]:
    """Words in lower case; each Chinese or Japanese character is one."""
    return _WORD.findall(text.lower())[:LONGEST]


class TwoLanguages:
    """A naive Bayes classifier by words: is a sentence like the sources or like the targets of some pairs?"""

    def __init__(self, pairs: Sequence[Pair]):
        counts = [Counter(word for pair in pairs for word in words(pair[side])) for side in (0, 1)]
        known = counts[0].keys() | counts[1].keys()
        totals = [sum(count.values()) + len(known) for count in counts]
        self.weights = {
            word: math.log((counts[1][word] + 1) / totals[1]) - math.log((counts[0][word] + 1) / totals[0])
            for word in known
        }

    def side(self, text: str) -> int:
        """-1 for a source, 1 for a target, 0 where the words do not tell."""
        score = sum(self.weights.get(word, 0.0) for word in words(text))
        return 0 if abs(score) < SURE else (1 if score > 0 else -1)


class Lexicon:
    """IBM model 1 (Brown et al. 1993): the probability of each target word given a source word."""

    def __init__(self, pairs: Sequence[Pair]):
        src_ids, tgt_ids = dict[str, int](), dict[str, int]()
        entries: list[tuple[int, int, int]] = []  # source word, target word, target position in the corpus
        position = 0
        for src, tgt in pairs:
            sources = {src_ids.setdefault(word, len(src_ids)) for word in words(src)}
            for word in set(words(tgt)):
                target = tgt_ids.setdefault(word, len(tgt_ids))
                entries.extend((source, target, position) for source in sources)
                position += 1
        self.src_ids, self.tgt_ids = src_ids, tgt_ids
        table = np.array(entries, dtype=np.int64).reshape(-1, 3)
        self._keys, entry = np.unique(table[:, 0] * max(1, len(tgt_ids)) + table[:, 1], return_inverse=True)
        self._values = np.ones(len(self._keys))
        rows = self._keys // max(1, len(tgt_ids))
        for _ in range(ROUNDS):
            weights = self._values[entry]
            weights /= np.bincount(table[:, 2], weights, minlength=position)[table[:, 2]]
            counts = np.bincount(entry, weights, minlength=len(self._keys))
            self._values = counts / np.bincount(rows, counts)[rows]
        targets = np.bincount(table[:, 1], minlength=len(tgt_ids)).astype(np.float64)
        self._base = (targets + 1) / (targets.sum() + len(targets))

    def score(self, src: str, tgt: str) -> float:
        """Mean log-ratio of the likelihood of known target words given the source to that without; 0 if none is."""
        sources = [self.src_ids[word] for word in set(words(src)) if word in self.src_ids]
        targets = [self.tgt_ids[word] for word in set(words(tgt)) if word in self.tgt_ids]
        if not sources or not targets:
            return 0.0
        keys = np.array(sources)[:, None] * len(self.tgt_ids) + np.array(targets)
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        likely = np.where(self._keys[places] == keys, self._values[places], 0.0).mean(axis=0)
        base = self._base[targets]
        return float(np.log((likely + 0.1 * base) / base).mean())


def unrelated(lexicon: Lexicon, pairs: Sequence[Pair], seed: int) -> tuple[float, npt.NDArray[np.float64]]:
    """The share of pairs that are like random ones, and the rank [N] of each among random pairs, in [0, 1].

    Storey's estimate of the share of true null hypotheses (2002): half of all random pairs score below their median,
    and few translations do.
    """
    order = np.random.default_rng(seed).permutation(len(pairs))
    scores = np.array([lexicon.score(src, tgt) for src, tgt in pairs])
    nulls = np.sort([lexicon.score(pairs[i][0], pairs[j][1]) for i, j in zip(order, np.roll(order, 1), strict=True)])
    ranks = (np.searchsorted(nulls, scores, "left") + np.searchsorted(nulls, scores, "right")) / (2 * len(nulls))
    return min(1.0, 2 * float((ranks < 0.5).mean())), ranks
