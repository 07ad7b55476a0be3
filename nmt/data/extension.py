"""New pieces for a trained tokenizer, from new text: old ids keep their meaning.

First come characters and pieces that the old vocabulary lacks, by their frequency. Then adjacent pieces are merged, the
most frequent pair first, as byte-pair encoding does (Sennrich et al. 2016): within words, and letters, digits and other
characters apart. The old tokenizer splits the text, so a new piece is a string that it splits too finely for this text.
"""

from __future__ import annotations

import heapq
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from nmt.data.sentencepiece_model import EOS_ID, SPACE, UNK_ID, processor_of
from nmt.data.tokenizer_training import Symbols
from nmt.errors import TokenizerError

LEAST = 2  # occurrences of a new piece
MARGIN = 0.1  # by which the log-probability of a new piece exceeds that of its parts

Word = tuple[str, ...]
Pair = tuple[str, str]
Kind = Literal["NORMAL", "CONTROL", "USER_DEFINED"]


@dataclass(frozen=True)
class Piece:
    """A new piece.

    Attributes:
        count: how often the text has it.
        parts: the old pieces that it was split into; an empty text stands for the unknown piece.
        kind: of SentencePiece.
    """

    text: str
    count: int
    parts: Word
    kind: Kind = "NORMAL"


class Learner:
    """Learns pieces from words that are split by one or two models with one vocabulary.

    Args:
        models: of the sides, as ``ModelProto``.
        sizes: pieces of each model from this id on are not in the vocabulary.
    """

    def __init__(self, models: Sequence[Any], sizes: Sequence[int]):
        self.models, self.sizes = models, sizes
        self.processors = [processor_of(model.SerializeToString()) for model in models]
        kinds = type(models[0].pieces[0])
        usable = (kinds.NORMAL, kinds.USER_DEFINED)
        self.fixed = {p.piece for m in models for p in m.pieces if p.type in (kinds.USER_DEFINED, kinds.CONTROL)}
        self.bytes = {p.piece: int(p.piece[3:5], 16) for m in models for p in m.pieces if p.type == kinds.BYTE}
        listed = [p for m, size in zip(models, sizes, strict=True) for p in m.pieces[:size]]
        self.taken = {p.piece for p in listed}
        self.known = {p.piece for p in listed if p.type in usable}
        spec = models[0].trainer_spec
        self.kind, self.longest = spec.model_type, max(1, spec.max_sentencepiece_length)
        self.whole_words, self.characters = self.kind == spec.WORD, self.kind == spec.CHAR
        self.words: Counter[Word] = Counter()

    @property
    def total(self) -> int:
        """How many pieces the text was split into."""
        return sum(len(word) * number for word, number in self.words.items())

    def read(self, side: int, texts: Sequence[str]) -> None:
        """Split ``texts`` of a side, and count its words."""
        for pieces in self.processors[side].encode(list(texts), out_type=str):
            word: list[str] = []
            for piece in self._with_characters(pieces):
                if piece.startswith(SPACE) and word:
                    self.words[tuple(word)] += 1
                    word = []
                word.append(piece)
            if word:
                self.words[tuple(word)] += 1

    def _with_characters(self, pieces: Iterable[str]) -> Iterable[str]:
        """``pieces``, with characters in place of the bytes that spell them, and unknown words apart."""
        spelled = bytearray()
        for piece in pieces:
            if piece in self.bytes:
                spelled.append(self.bytes[piece])
                continue
            yield from spelled.decode(errors="ignore")
            spelled.clear()
            # Adjacent unknown words are one unknown piece.
            yield from [piece] if piece in self.taken else re.findall(f"{SPACE}?[^{SPACE}]+|{SPACE}", piece)
        yield from spelled.decode(errors="ignore")

    def learn(self, count: int) -> list[Piece]:
        """At most ``count`` new pieces, in the order in which they are found."""
        found = self._lacking(count)
        if not self.whole_words and not self.characters:
            found += self._merges(count - len(found), {piece.text: piece.parts for piece in found})
        return found

    def _lacking(self, count: int) -> list[Piece]:
        """The characters of the text that the vocabulary lacks, and the pieces of a model that it lacks."""
        lacking: Counter[str] = Counter()
        for word, number in self.words.items():
            for piece in word:
                if piece in self.known or piece in self.fixed:
                    continue
                for part in [piece] if self._is_whole(piece) else piece:
                    lacking[part] += number
        frequent = sorted(((n, part) for part, n in lacking.items() if n >= LEAST), key=lambda one: (-one[0], one[1]))
        spelled = {value: name for name, value in self.bytes.items()}
        found = [
            Piece(part, n, tuple(spelled[byte] for byte in part.encode()) if spelled else ("",))
            for n, part in frequent
            if part != SPACE
        ]
        return found[:count]

    def _is_whole(self, piece: str) -> bool:
        """Whether an unknown piece is a word of a word model or a piece of a model, not a stretch of characters."""
        return self.whole_words or any(processor.piece_to_id(piece) > EOS_ID for processor in self.processors)

    def _merges(self, count: int, parts: dict[str, Word]) -> list[Piece]:
        """Merges of adjacent pieces, the most frequent pair first.

        Args:
            parts: new pieces so far, with their old pieces; merges are added.
        """
        # Count the pairs of adjacent pieces
        words = [(list(self._split(word, parts)), number) for word, number in self.words.items()]
        pairs: Counter[Pair] = Counter()
        where: dict[Pair, set[int]] = defaultdict(set)

        def tally(index: int, sign: int) -> set[Pair]:
            word, number = words[index]
            found = {pair for pair in pairwise(word) if self._mergeable(pair, parts)}
            for pair in pairwise(word):
                if pair in found:
                    pairs[pair] += sign * number
                    if sign > 0:
                        where[pair].add(index)
            return found

        for index in range(len(words)):
            tally(index, 1)
        # Merge the most frequent pair, and count the pairs around it again
        agenda = [(-number, pair) for pair, number in pairs.items()]
        heapq.heapify(agenda)
        found: list[Piece] = []
        while agenda and len(found) < count and -agenda[0][0] >= LEAST:
            negative, pair = heapq.heappop(agenda)
            if -negative != pairs[pair]:  # an earlier merge took some; another entry has it where there are more now
                if -negative > pairs[pair] > 0:
                    heapq.heappush(agenda, (-pairs[pair], pair))
                continue
            merged = "".join(pair)
            if merged not in parts:
                parts[merged] = tuple(old for piece in pair for old in parts.get(piece, (piece,)))
                found.append(Piece(merged, -negative, parts[merged]))
            changed: set[Pair] = set()
            for index in sorted(where.pop(pair)):
                tally(index, -1)
                words[index] = (_join(words[index][0], pair), words[index][1])
                changed |= tally(index, 1)
            for each in sorted(changed):
                heapq.heappush(agenda, (-pairs[each], each))
        return found

    def _mergeable(self, pair: Pair, new: Container[str]) -> bool:
        usable = all((piece in self.known or piece in new) and piece not in self.fixed for piece in pair)
        merged = "".join(pair)
        one_kind = len({_kind(char) for char in merged.removeprefix(SPACE)}) < 2
        return usable and one_kind and len(merged) <= self.longest and merged not in self.taken

    def _split(self, word: Word, new: Container[str]) -> Iterable[str]:
        for piece in word:
            if piece in self.taken or piece in new or self._is_whole(piece):
                yield piece
            else:
                yield from piece


def symbol_pieces(model: Any, size: int, symbols: Symbols) -> list[Piece]:
    """Tags and words as new pieces of a model whose first ``size`` pieces are its vocabulary.

    Raises:
        TokenizerError: the vocabulary has one of them as a piece of text.
    """
    processor, kinds = processor_of(model.SerializeToString()), type(model.pieces[0])
    listed = {piece.piece for piece in model.pieces[:size] if piece.type != kinds.UNUSED}
    found: list[Piece] = []
    sides: tuple[tuple[Kind, Sequence[str]], ...] = ("CONTROL", symbols.tags), ("USER_DEFINED", symbols.words)
    for kind, texts in sides:
        for text in texts:
            if text in listed:
                raise TokenizerError(f"data.train: {text} is a piece of text in the vocabulary; choose another symbol")
            parts = tuple(processor.encode(text, out_type=str)) or ("",)
            found.append(Piece(text, 0, parts, kind))
    return found


def _kind(char: str) -> str:
    """Letters, digits and the rest do not share a new piece, as where SentencePiece trains."""
    category = unicodedata.category(char)[0]
    return "L" if category == "M" else category if category in "LN" else "P"


def _join(word: list[str], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    for piece in word:
        if joined and (joined[-1], piece) == pair:
            joined[-1] = "".join(pair)
        else:
            joined.append(piece)
    return joined


def extend(model: Any, size: int, pieces: Sequence[Piece], total: int) -> list[list[int]]:
    """Add pieces to a model behind the first ``size``, and return the ids of the old pieces of each.

    A model that has further pieces behind ``size``, which are unknown, keeps those that are not new.

    Args:
        total: how many pieces the text was split into.
    """
    # The old model
    kinds, spec = type(model.pieces[0]), model.trainer_spec
    ids = {piece.piece: number for number, piece in enumerate(model.pieces[:size])}
    scores = {p.piece: p.score for p in model.pieces if p.type in (kinds.NORMAL, kinds.USER_DEFINED)}
    lowest, highest = min(scores.values()), max(scores.values())
    unigram = spec.model_type == spec.UNIGRAM
    # Scores: those of BPE are ranks, those of a unigram model log-probabilities
    made = []
    for number, piece in enumerate(pieces):
        if piece.text in scores or piece.kind != "NORMAL":
            score = scores.get(piece.text, 0.0)
        elif unigram and len(piece.parts) > 1 and "" not in piece.parts and not piece.parts[0].startswith("<0x"):
            parts = sum(scores.get(part, lowest) for part in piece.parts)
            score = min(highest, max(math.log(piece.count / total), parts + MARGIN))
        elif unigram:
            score = max(lowest, math.log(piece.count / total))
        else:
            score = lowest - 1.0 - number
        made.append((piece.text, score, getattr(kinds, piece.kind)))
    # The new model
    new = {piece.text for piece in pieces}
    listed, behind = ([(p.piece, p.score, p.type) for p in part] for part in (model.pieces[:size], model.pieces[size:]))
    del model.pieces[:]
    for text, score, kind in [*listed, *made, *(one for one in behind if one[0] not in new)]:
        model.pieces.add(piece=text, score=score, type=kind)
    spec.vocab_size = len(model.pieces)
    return [[ids.get(part, UNK_ID) for part in piece.parts] for piece in pieces]
