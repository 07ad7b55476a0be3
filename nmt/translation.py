"""Lines in, lines out: same order, same number."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from nmt.config import SearchConfig
from nmt.errors import ConfigError
from nmt.search.scoring import Hypothesis

if TYPE_CHECKING:
    from nmt.data.tokenizer import Tokenizer


@dataclass(frozen=True)
class Translation:
    """One translation of one line.

    Attributes:
        text: one line, without a newline.
        score: normalised by length, comparable among the translations of a line.
        log_prob: natural logarithm of the model's probability.
        tokens: target ids, without bos and eos.
    """

    text: str
    score: float
    log_prob: float
    tokens: list[int]


class Engine(Protocol):
    """Finds target ids of source ids (:mod:`nmt.engines`)."""

    def search(
        self, sources: Sequence[Sequence[int]], max_lengths: Sequence[int], nbest: int
    ) -> list[list[Hypothesis]]:
        """Search any number of sources, in batches of ``search.batch_tokens``.

        Never produced: pad and bos, which stand for nothing, and unk, which helps nobody (as in Marian).

        Args:
            sources: ids of each source, without eos; none is empty.
            max_lengths: for each source, the most tokens of a hypothesis, eos not counted.
            nbest: hypotheses wanted of each source, at most the beam size.

        Returns:
            For each source its hypotheses, best first; none where every output has probability 0.
        """
        ...


EngineT = TypeVar("EngineT", bound=Engine)


class Translator(Generic[EngineT]):
    """An engine, the tokenizer of its model and the settings of the search.

    Args:
        max_target_tokens: the most positions the decoder has (eos takes one), beside the limits in ``search``;
            None where any length goes.
    """

    def __init__(
        self, engine: EngineT, tokenizer: Tokenizer, search: SearchConfig, max_target_tokens: int | None = None
    ) -> None:
        self.engine = engine
        self.tokenizer = tokenizer
        self.search = search
        self.max_target_tokens = max_target_tokens

    def translate(
        self,
        lines: Sequence[str],
        nbest: int = 1,
        warn: Callable[[str], None] | None = None,
        first_line: int = 1,
    ) -> list[list[Translation]]:
        """Translate each line.

        Args:
            nbest: translations wanted of each line, at most the beam size.
            warn: called with one line of text for each source that is cut to ``search.max_source_tokens``.
            first_line: number of the first line in warnings.

        Returns:
            For each line its translations, best first. A line without subwords, such as a blank one, has one
            empty translation, for which the model is not asked.

        Raises:
            ConfigError: ``nbest`` is not from 1 to the beam size.
            TrainingError: the model's output is not a number.
        """
        if not 1 <= nbest <= self.search.beam_size:
            raise ConfigError(
                f"{nbest} translations of a line asked for; must be from 1 to search.beam_size "
                f"({self.search.beam_size})"
            )
        sources = self.encode(lines, warn, first_line)
        results = [[Translation("", 0.0, 0.0, [])] for _ in lines]
        rows = [index for index, source in enumerate(sources) if source]
        chosen = [sources[index] for index in rows]
        found = self.engine.search(chosen, [self._max_length(source) for source in chosen], nbest)
        texts = iter(self.tokenizer.decode([hypothesis.tokens for hypotheses in found for hypothesis in hypotheses]))
        for index, hypotheses in zip(rows, found, strict=True):
            # A newline within a translation would shift every line after it away from its source.
            translations = [
                Translation(re.sub(r"[\r\n]+", " ", next(texts)), one.score, one.log_prob, one.tokens)
                for one in hypotheses
            ]
            # No hypothesis (every output has probability 0) still has to leave a line.
            results[index] = translations or results[index]
        return results

    def translate_stream(
        self,
        lines: Iterable[str],
        nbest: int = 1,
        warn: Callable[[str], None] | None = None,
        chunk: int = 2000,
    ) -> Iterator[list[Translation]]:
        """As :meth:`translate`, holding ``chunk`` lines at a time: for inputs larger than memory."""
        source, first_line = iter(lines), 1
        while block := list(islice(source, chunk)):
            yield from self.translate(block, nbest, warn, first_line)
            first_line += len(block)

    def encode(
        self, lines: Sequence[str], warn: Callable[[str], None] | None = None, first_line: int = 1
    ) -> list[list[int]]:
        """Source ids of each line, cut to the limit; none for a blank line."""
        limit = self.search.max_source_tokens
        sources: list[list[int]] = self.tokenizer.encode_src([line.strip("\r\n") for line in lines])
        for index, ids in enumerate(sources):
            if not lines[index].strip():
                sources[index] = []
            elif len(ids) > limit:
                sources[index] = ids[:limit]
                if warn is not None:
                    warn(f"line {first_line + index}: {len(ids)} subwords, cut to {limit}")
        return sources

    def _max_length(self, source: Sequence[int]) -> int:
        limit = int(self.search.max_length_ratio * len(source) + self.search.max_length_offset)
        return limit if self.max_target_tokens is None else min(limit, self.max_target_tokens - 1)
