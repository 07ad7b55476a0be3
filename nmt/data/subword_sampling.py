"""Subword sampling whose draw is a function of a seed, the same in every process.

SentencePiece samples too. Up to 0.2.1 its generator takes one seed per thread; from 0.2.2 on each process draws
differently, whatever the seed. A resumed training is another process, so this module draws, by the same rules, from
SentencePiece's normalisation, pieces, scores and n-best lists.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import re
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import sentencepiece as spm
from sentencepiece import sentencepiece_model_pb2

from nmt.config.tokenizer import SamplingConfig
from nmt.data.sentencepiece_model import SPACE
from nmt.data.splits import mix

proto: Any = sentencepiece_model_pb2  # generated code, without types

Arc = tuple[float, int, int]  # log weight of all segmentations that end with the arc, start, piece
Ids = npt.NDArray[np.int32]
Keys = npt.NDArray[np.uint64]

UNKNOWN, NOTHING = -1, -2  # an unknown character; no piece begins here
KEPT_ARCS = 1 << 21  # of cached words: about 40 MB
KEPT_MERGES = 1 << 18  # cached segmentations of words: about 100 MB
KEPT_LENGTH = 24  # longer words are too rare to cache
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # the step of SplitMix64


class Pieces:
    """The pieces and scores of a unigram or a BPE model.

    A segmentation of a unigram model is drawn with a probability proportional to P(segmentation) ** alpha (Kudo 2018,
    section 3.2), from the ``nbest`` best ones or from all. With a BPE model each merge is left out with probability
    alpha (Provilkov et al. 2020).

    Args:
        size: pieces from this id on are unknown; None: all are known.
    """

    def __init__(self, model: spm.SentencePieceProcessor, size: int | None = None):
        about = proto.ModelProto()
        about.ParseFromString(model.serialized_model_proto())
        self.model = model
        self.size = model.get_piece_size() if size is None else size
        self.is_bpe = about.trainer_spec.model_type == proto.TrainerSpec.BPE
        self.kind = "bpe" if self.is_bpe else "unigram"
        kinds = proto.ModelProto.SentencePiece
        self.pieces = {
            piece.piece: (i, piece.score)
            for i, piece in enumerate(about.pieces)
            if piece.type in (kinds.NORMAL, kinds.USER_DEFINED)
        }
        self.longest = max(map(len, self.pieces))
        # Symbols that the user defined, which no segmentation divides
        self.symbols = {piece.piece for piece in about.pieces if piece.type == kinds.USER_DEFINED}
        self.bytes = {piece.piece: i for i, piece in enumerate(about.pieces) if piece.type == kinds.BYTE}
        # SentencePiece's score of an unknown character: 10 nats below the rarest piece.
        self.unknown_score = min(score for _, score in self.pieces.values()) - 10.0

    def to_ids(self, parts: Iterable[str]) -> list[int]:
        """The ids of the parts of a text. A part that is not a piece is one unknown character."""
        ids: list[int] = []
        unknown = self.model.unk_id()
        for part in parts:
            if (found := self.pieces.get(part)) is not None:
                ids.append(found[0])
            elif self.bytes:
                ids += [self.bytes[f"<0x{byte:02X}>"] for byte in part.encode()]
            elif not ids or ids[-1] != unknown:  # adjacent unknown characters are one unknown piece
                ids.append(unknown)
        return ids


class Sampler(Pieces):
    """Draw segmentations of one text at a time."""

    def sample(self, text: str, sampling: SamplingConfig, seed: int) -> list[int]:
        """One segmentation of ``text``, a function of the arguments alone."""
        return [i if i < self.size else self.model.unk_id() for i in self._sample(text, sampling, seed)]

    def _sample(self, text: str, sampling: SamplingConfig, seed: int) -> list[int]:
        rng = random.Random(seed)
        alpha, nbest = sampling.strength(self.kind), sampling.nbest
        if self.is_bpe:
            return self.to_ids(self._merge(self.model.normalize(text), alpha, rng))
        if nbest > 1:
            found = self.model.nbest_encode_as_proto(text, nbest_size=nbest).nbests
            chosen = _draw([alpha * one.score for one in found], rng)
            return [piece.id for piece in found[chosen].pieces]
        return self.to_ids(self._lattice(self.model.normalize(text), alpha, rng))

    def _lattice(self, text: str, alpha: float, rng: random.Random) -> list[str]:
        """Forward filtering, backward sampling over all segmentations of normalised ``text``."""
        arcs: list[list[Arc]] = [[] for _ in range(len(text) + 1)]  # by end position
        total = 0.0  # log Σ P(segmentation of text[:start]) ** alpha
        for start in range(len(text)):
            if start:
                total = _log_sum(weight for weight, _, _ in arcs[start])
            for end in range(start + 1, min(start + self.longest, len(text)) + 1):
                if (found := self.pieces.get(text[start:end])) is not None:
                    arcs[end].append((total + alpha * found[1], start, end))
            if text[start] not in self.pieces:
                arcs[start + 1].append((total + alpha * self.unknown_score, start, start + 1))
        parts, end = [], len(text)
        while end:
            start = arcs[end][_draw([weight for weight, _, _ in arcs[end]], rng)][1]
            parts.append(text[start:end])
            end = start
        return parts[::-1]

    def _merge(self, text: str, dropout: float, rng: random.Random) -> list[str]:
        return merge(self.pieces, text, lambda: rng.random() < dropout)


def merge(pieces: Mapping[str, tuple[int, float]], text: str, leave_out: Callable[[], bool]) -> list[str]:
    """The parts of ``text`` after all merges, in the order of their rank, that ``leave_out`` does not forbid."""
    # A linked list of parts, and an agenda of possible merges by rank
    parts: list[str] = list(text)  # empty: merged into the part before it
    after, before = list(range(1, len(parts) + 1)), list(range(-1, len(parts) - 1))
    agenda: list[tuple[float, int, str]] = []

    def consider(left: int) -> None:
        if left >= 0 and (right := after[left]) < len(parts):
            merged = parts[left] + parts[right]
            if (found := pieces.get(merged)) is not None:
                heapq.heappush(agenda, (-found[1], left, merged))

    for left in range(len(parts) - 1):
        consider(left)
    # Merge
    while agenda:
        _, left, merged = heapq.heappop(agenda)
        right = after[left]
        if not parts[left] or right >= len(parts) or parts[left] + parts[right] != merged:
            continue  # one of the two was merged with another part meanwhile
        if leave_out():
            continue
        parts[left], parts[right] = merged, ""
        after[left] = after[right]
        if after[left] < len(parts):
            before[after[left]] = left
        consider(before[left])
        consider(left)
    return [part for part in parts if part]


def _log_sum(values: Iterable[float]) -> float:
    values = list(values)
    highest = max(values)
    return highest + math.log(math.fsum(math.exp(value - highest) for value in values))


def _draw(log_weights: list[float], rng: random.Random) -> int:
    """Draw an index with probability proportional to exp(log_weights[index])."""
    highest = max(log_weights)
    weights = [math.exp(weight - highest) for weight in log_weights]
    left = rng.random() * math.fsum(weights)
    for place, weight in enumerate(weights):
        left -= weight
        if left < 0:
            return place
    return len(weights) - 1


# ------------------------------------------------------------------------------------------------ a batch at a time


class BatchSampler(Pieces):
    """Draw segmentations of the texts of a batch."""

    def __init__(self, model: spm.SentencePieceProcessor, sampling: SamplingConfig, size: int | None = None):
        super().__init__(model, size)
        self.alpha, self.nbest = sampling.strength(self.kind), sampling.nbest
        self.by_word = not any(SPACE in piece[1:] for piece in self.pieces)
        self.lattices = Lattices(self.pieces, self.unknown_score, self.alpha, self.symbols)
        longest_first = sorted(self.symbols, key=len, reverse=True)
        self.symbol = re.compile(f"({'|'.join(map(re.escape, longest_first))})") if self.symbols else None
        self.merges: dict[tuple[str, tuple[int, ...]], tuple[int, list[int]]] = {}
        self.lock = threading.Lock()  # batches are read in the prefetching thread and sometimes in the main thread

    def sample(self, texts: Sequence[str], keys: Keys) -> list[Ids]:
        """The ids of one segmentation per text, a function of the text and its key alone."""
        found = self._sample(texts, keys)
        if self.size < self.model.get_piece_size():
            found = [np.where(ids < self.size, ids, np.int32(self.model.unk_id())) for ids in found]
        return found

    def _sample(self, texts: Sequence[str], keys: Keys) -> list[Ids]:
        if not texts:
            return []
        with self.lock:
            if not self.is_bpe and self.nbest > 1:
                return self._among_best(texts, _uniforms(keys, np.ones(len(texts), np.int64)))
            normalised = self.model.normalize(list(texts))
            words = [self._words(text) for text in normalised]
            if self.is_bpe:
                return self._merged(words, keys)
            return self._drawn(normalised, list(itertools.chain.from_iterable(words)), keys)

    def _words(self, text: str) -> list[str]:
        if not self.by_word:
            words = [text] if text else []
        else:
            words = text.replace(SPACE, f" {SPACE}").split(" ")  # normalised text has no other spaces
            words = words if words[0] else words[1:]
        if self.symbol is None:
            return words
        return [part for word in words for part in self.symbol.split(word) if part]

    def _drawn(self, texts: list[str], words: list[str], keys: Keys) -> list[Ids]:
        """Unigram: draw from all segmentations of each text. ``words`` are the words of all texts."""
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        ends = np.cumsum(lengths)
        begins = self.lattices.draw(words, _uniforms(keys, lengths))  # [characters of all texts]
        counts = np.concatenate([[0], np.cumsum(begins != NOTHING)])
        pieces = begins[begins != NOTHING]
        found = [pieces[a:b] for a, b in zip(counts[ends - lengths], counts[ends], strict=True)]
        for number in {int(np.searchsorted(ends, place, side="right")) for place in np.flatnonzero(begins == UNKNOWN)}:
            part = begins[ends[number] - lengths[number] : ends[number]]
            cuts = [*np.flatnonzero(part != NOTHING).tolist(), len(part)]
            found[number] = np.array(self.to_ids(texts[number][a:b] for a, b in itertools.pairwise(cuts)), np.int32)
        return found

    def _among_best(self, texts: Sequence[str], uniforms: npt.NDArray[np.float64]) -> list[Ids]:
        """Unigram: draw from the ``nbest`` best segmentations of each text."""
        scores = np.zeros(self.model.get_piece_size())
        for number, score in self.pieces.values():
            scores[number] = score
        found: list[Ids] = []
        for text, uniform in zip(texts, uniforms.tolist(), strict=True):
            best = self.model.nbest_encode(text, nbest_size=self.nbest)
            if self.symbols:
                best = self._undivided(best)
            ids = np.fromiter(itertools.chain.from_iterable(best), np.int32)
            ends = np.cumsum([len(one) for one in best])
            # Unknown characters have the same score in all segmentations, so 0 suffices.
            sums = np.concatenate([[0.0], np.cumsum(scores[ids])])[ends]
            weights = self.alpha * np.diff(sums, prepend=0.0)
            shares = np.cumsum(np.exp(weights - weights.max()))
            chosen = min(int(np.searchsorted(shares, uniform * shares[-1], side="right")), len(best) - 1)
            found.append(ids[ends[chosen] - len(best[chosen]) : ends[chosen]])
        return found

    def _undivided(self, best: list[list[int]]) -> list[list[int]]:
        """The segmentations that divide no symbol that the best one has."""
        symbols = {self.pieces[symbol][0] for symbol in self.symbols}
        counts = [sum(piece in symbols for piece in one) for one in best]
        return [one for one, count in zip(best, counts, strict=True) if count == counts[0]]

    def _merged(self, texts: list[list[str]], keys: Keys) -> list[Ids]:
        """BPE: draw the number of merges until the next one is left out, instead of one number per merge."""
        if len(self.merges) > KEPT_MERGES:
            self.merges.clear()
        # A word of n characters considers at most 3 n merges: n - 1 at first, and 2 more after each merge.
        lengths = np.array([4 * sum(map(len, words)) for words in texts])
        with np.errstate(divide="ignore"):
            waits = np.floor(np.log1p(-_uniforms(keys, lengths)) / np.log1p(-self.alpha))
        waits = np.minimum(waits, 1 << 30).astype(np.int64)
        found, place = [], 0
        for words in texts:
            ids: list[int] = []
            for word in words:
                part = waits[place : place + 4 * len(word)]
                place += len(part)
                ids += self._merge_word(word, part) if len(word) <= KEPT_LENGTH else self._merge_once(word, part)[1]
            found.append(np.array(self._join_unknown(ids), np.int32))
        return found

    def _merge_word(self, word: str, waits: npt.NDArray[np.int64]) -> list[int]:
        taken: tuple[int, ...] = ()
        while True:
            known = self.merges.get((word, taken))
            if known is None:
                known = self.merges[word, taken] = self._merge_once(word, taken)
            left, ids = known
            if (wait := int(waits[len(taken)])) >= left:
                return ids
            taken += (wait,)

    def _merge_once(self, word: str, waits: Iterable[int]) -> tuple[int, list[int]]:
        """Ids when one merge is left out after each of ``waits`` merges, and the merges since the last one."""
        if word in self.symbols:
            return 0, [self.pieces[word][0]]
        remaining: Iterator[int] = iter(waits)
        wait, since = next(remaining, None), 0

        def leave_out() -> bool:
            nonlocal wait, since
            if since != wait:
                since += 1
                return False
            wait, since = next(remaining, None), 0
            return True

        parts = merge(self.pieces, word, leave_out)
        return since, self.to_ids(parts)

    def _join_unknown(self, ids: list[int]) -> list[int]:
        unknown = self.model.unk_id()
        if unknown not in ids:
            return ids
        return [one for before, one in itertools.pairwise([NOTHING, *ids]) if one != unknown or before != unknown]


class Lattices:
    """The lattices of words: the pieces that may end at each position, with the probability of drawing them.

    Forward filtering, backward sampling: draw the last piece of a word by the probability of all segmentations that
    end with it, then the piece before it, and so on.
    """

    def __init__(
        self,
        pieces: Mapping[str, tuple[int, float]],
        unknown_score: float,
        alpha: float,
        symbols: Collection[str] = (),
    ):
        self.pieces, self.unknown_score, self.alpha, self.symbols = pieces, unknown_score, alpha, symbols
        self.longest: dict[str, int] = {}  # length of the longest piece, by first character
        for piece in pieces:
            self.longest[piece[0]] = max(self.longest.get(piece[0], 0), len(piece))
        self.clear()

    def clear(self) -> None:
        self.words: dict[str, int] = {}
        self.first = Growing(np.int64)  # position of each word among the positions of all words
        self.length = Growing(np.int64)
        # For each arc, ordered by end position: that position and the upper bound of its share, in 32 bits each.
        self.bound = Growing(np.uint64)
        self.start = Growing(np.int32)  # position in its word
        self.piece = Growing(np.int32)
        self.places = 0

    def draw(self, words: list[str], uniforms: npt.NDArray[np.float64]) -> Ids:
        """For each character of the words, the piece that begins there, or :data:`NOTHING`.

        Args:
            uniforms: one number per character; the number of a piece's last character draws the piece.
        """
        if self.bound.size > KEPT_ARCS:
            self.clear()
        if new := [word for word in dict.fromkeys(words) if word not in self.words]:
            self._add(new)
        numbers = np.fromiter(map(self.words.__getitem__, words), np.int64, len(words))
        first, end = self.first.values[numbers], self.length.values[numbers]
        offset = np.cumsum(end) - end
        # Compare shares as integers: the rounding of a float would depend on the position of the word.
        shares = (uniforms * 2.0**32).astype(np.uint64)
        begins = np.full(len(uniforms), NOTHING, np.int32)
        while len(end):
            wanted = (first + end - 1).astype(np.uint64) << np.uint64(32) | shares[offset + end - 1]
            arcs = np.searchsorted(self.bound.values, wanted, side="right")
            start = self.start.values[arcs]
            begins[offset + start] = self.piece.values[arcs]
            more = start > 0
            first, offset, end = first[more], offset[more], start[more].astype(np.int64)
        return begins

    def _add(self, words: list[str]) -> None:
        # Find all pieces that occur in the words, ordered by end position.
        lengths = np.fromiter(map(len, words), np.int64, len(words))
        word, start, end, piece, score = self._arcs(words)
        order = np.lexsort((start, word, end))
        bound = np.empty(len(order), np.uint64)
        # Forward pass over all words at once: log Σ P(segmentation) ** alpha of the first 0, 1, ... characters.
        offset = np.cumsum(lengths + 1) - lengths - 1
        total = np.zeros(int((lengths + 1).sum()))
        limits = np.searchsorted(end[order], np.arange(1, lengths.max() + 2))
        for length, (a, b) in enumerate(itertools.pairwise(limits.tolist()), 1):
            if a == b:  # inside a symbol
                continue
            arcs = order[a:b]
            present, row = np.unique(word[arcs], return_inverse=True)
            column = np.arange(len(arcs)) - np.searchsorted(row, np.arange(len(present)))[row]
            weights = np.full((len(present), int(column.max()) + 1), -np.inf)
            weights[row, column] = total[offset[word[arcs]] + start[arcs]] + self.alpha * score[arcs]
            highest = weights.max(axis=1, keepdims=True)
            sums = np.cumsum(np.exp(weights - highest), axis=1)
            total[offset[present] + length] = highest[:, 0] + np.log(sums[:, -1])
            bound[arcs] = (sums / sums[:, -1:] * 2.0**32)[row, column].astype(np.uint64)
        # Store the arcs by word, so that the shares of all words are one ascending array.
        order = np.lexsort((start, end, word))
        first = self.places + np.cumsum(lengths) - lengths
        place = (first[word] + end - 1).astype(np.uint64) << np.uint64(32)
        self.bound.extend((place + bound)[order])
        self.start.extend(start[order])
        self.piece.extend(piece[order])
        self.words.update(zip(words, range(len(self.words), len(self.words) + len(words)), strict=True))
        self.first.extend(first)
        self.length.extend(lengths)
        self.places += int(lengths.sum())

    def _arcs(self, words: list[str]) -> tuple[npt.NDArray[Any], ...]:
        """Word, start, end, piece and score of every piece that occurs in the words."""
        word, start, end, piece, score = list[int](), list[int](), list[int](), list[int](), list[float]()
        for number, text in enumerate(words):
            if text in self.symbols:
                word.append(number)
                start.append(0)
                end.append(len(text))
                piece.append(self.pieces[text][0])
                score.append(0.0)
                continue
            for a, char in enumerate(text):
                for b in range(a + 1, min(a + self.longest.get(char, 0), len(text)) + 1):
                    if (found := self.pieces.get(text[a:b])) is not None:
                        word.append(number)
                        start.append(a)
                        end.append(b)
                        piece.append(found[0])
                        score.append(found[1])
                if char not in self.pieces:
                    word.append(number)
                    start.append(a)
                    end.append(a + 1)
                    piece.append(UNKNOWN)
                    score.append(self.unknown_score)
        return (*(np.array(side, np.int64) for side in (word, start, end, piece)), np.array(score))


class Growing:
    """An array with appending in amortised constant time."""

    def __init__(self, dtype: npt.DTypeLike):
        self._room: npt.NDArray[Any] = np.empty(1024, dtype)
        self.size = 0

    @property
    def values(self) -> npt.NDArray[Any]:
        return self._room[: self.size]

    def extend(self, values: npt.NDArray[Any]) -> None:
        size = self.size + len(values)
        if size > len(self._room):
            grown = np.empty(max(size, 2 * len(self._room)), self._room.dtype)
            grown[: self.size] = self.values
            self._room = grown
        self._room[self.size : size] = values
        self.size = size


def _uniforms(keys: Keys, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Numbers in [0, 1), ``lengths[i]`` of them for ``keys[i]``: functions of the key and their position alone."""
    place = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return mix(np.repeat(keys, lengths) + (place + 1).astype(np.uint64) * GOLDEN, 0)
