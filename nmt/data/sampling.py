"""Subword sampling whose draw is a function of a seed, in whatever process.

SentencePiece samples too, but up to 0.2.1 its generator takes one seed a thread, and from 0.2.2 on every process draws
otherwise, whatever the seed; a resumed training is another process. So the draw is made here, by the same rules, from
SentencePiece's own normalisation, pieces, scores and n-best lists.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterable
from typing import Any

import sentencepiece as spm
from sentencepiece import sentencepiece_model_pb2

proto: Any = sentencepiece_model_pb2  # generated code, without types

Arc = tuple[float, int, int]  # log weight of all ways to its end that end with it, start, piece


class Sampler:
    """Draws segmentations from a unigram or a BPE model."""

    def __init__(self, model: spm.SentencePieceProcessor):
        about = proto.ModelProto()
        about.ParseFromString(model.serialized_model_proto())
        self.model = model
        self.is_bpe = about.trainer_spec.model_type == proto.TrainerSpec.BPE
        kinds = proto.ModelProto.SentencePiece
        self.pieces = {
            piece.piece: (i, piece.score)
            for i, piece in enumerate(about.pieces)
            if piece.type in (kinds.NORMAL, kinds.USER_DEFINED)
        }
        self.longest = max(map(len, self.pieces))
        self.bytes = {piece.piece: i for i, piece in enumerate(about.pieces) if piece.type == kinds.BYTE}
        # What SentencePiece charges for an unknown character: 10 nats more than for the rarest piece.
        self.unknown_score = min(score for _, score in self.pieces.values()) - 10.0

    def sample(self, text: str, alpha: float, nbest: int, seed: int) -> list[int]:
        """One segmentation of ``text``, a function of the arguments alone.

        Args:
            alpha: unigram: segmentations are drawn with probabilities in proportion to P(segmentation) ** alpha
                (Kudo 2018, section 3.2); BPE: the probability that a merge is left out (Provilkov et al. 2020).
            nbest: unigram: draw among so many best ones, or all (-1).
        """
        rng = random.Random(seed)
        if self.is_bpe:
            return self._ids(self._merge(self.model.normalize(text), alpha, rng))
        if nbest > 1:
            found = self.model.nbest_encode_as_proto(text, nbest_size=nbest).nbests
            chosen = _draw([alpha * one.score for one in found], rng)
            return [piece.id for piece in found[chosen].pieces]
        return self._ids(self._lattice(self.model.normalize(text), alpha, rng))

    def _lattice(self, text: str, alpha: float, rng: random.Random) -> list[str]:
        """Forward filtering, backward sampling over all segmentations of normalised ``text``."""
        arcs: list[list[Arc]] = [[] for _ in range(len(text) + 1)]  # by the position where they end
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
        """Merges in the order of their rank; each that comes up is left out with a probability of ``dropout``."""
        parts: list[str] = list(text)  # a part that was merged into the one before it is empty
        after, before = list(range(1, len(parts) + 1)), list(range(-1, len(parts) - 1))
        agenda: list[tuple[float, int, str]] = []

        def consider(left: int) -> None:
            if left >= 0 and (right := after[left]) < len(parts):
                merged = parts[left] + parts[right]
                if (found := self.pieces.get(merged)) is not None:
                    heapq.heappush(agenda, (-found[1], left, merged))

        for left in range(len(parts) - 1):
            consider(left)
        while agenda:
            _, left, merged = heapq.heappop(agenda)
            right = after[left]
            if not parts[left] or right >= len(parts) or parts[left] + parts[right] != merged:
                continue  # one of the two was merged otherwise meanwhile
            if rng.random() < dropout:
                continue
            parts[left], parts[right] = merged, ""
            after[left] = after[right]
            if after[left] < len(parts):
                before[after[left]] = left
            consider(before[left])
            consider(left)
        return [part for part in parts if part]

    def _ids(self, parts: list[str]) -> list[int]:
        ids: list[int] = []
        unknown = self.model.unk_id()
        for part in parts:
            if (found := self.pieces.get(part)) is not None:
                ids.append(found[0])
            elif self.bytes:
                ids += [self.bytes[f"<0x{byte:02X}>"] for byte in part.encode()]
            elif not ids or ids[-1] != unknown:  # unknown characters in a row are one unknown piece
                ids.append(unknown)
        return ids


def _log_sum(values: Iterable[float]) -> float:
    values = list(values)
    highest = max(values)
    return highest + math.log(math.fsum(math.exp(value - highest) for value in values))


def _draw(log_weights: list[float], rng: random.Random) -> int:
    """A place in the list, with a probability in proportion to the exponential of what stands there."""
    highest = max(log_weights)
    weights = [math.exp(weight - highest) for weight in log_weights]
    left = rng.random() * math.fsum(weights)
    for place, weight in enumerate(weights):
        left -= weight
        if left < 0:
            return place
    return len(weights) - 1
