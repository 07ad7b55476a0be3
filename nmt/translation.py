"""Lines in, lines out: same order, same number."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from nmt.config import SearchConfig
from nmt.errors import ConfigError
from nmt.search.beam import Hypothesis, beam_search
from nmt.search.scoring import LengthPenalty

if TYPE_CHECKING:
    from nmt.data.tokenizer import Tokenizer
    from nmt.models.seq2seq import Seq2Seq


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


class Translator:
    """A model, its tokenizer and the settings of the search.

    Never produced: pad and bos, which stand for nothing, and unk, which helps nobody (as in Marian).

    Args:
        model: on ``device``; in evaluation mode while it translates, and back in its own mode afterwards.
        precision: autocast type, or None for the model's own.
        max_target_tokens: the most positions the decoder has (eos takes one), beside the limits in ``search``;
            None where any length goes.
    """

    def __init__(
        self,
        model: Seq2Seq[Any],
        tokenizer: Tokenizer,
        search: SearchConfig,
        device: torch.device,
        precision: torch.dtype | None = None,
        max_target_tokens: int | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.search = search
        self.device = device
        self.precision = precision
        self.max_target_tokens = max_target_tokens
        self.penalty = LengthPenalty(search.length_penalty, search.alpha)

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
        sources = self._encode(lines, warn, first_line)
        results = [[Translation("", 0.0, 0.0, [])] for _ in lines]
        training = self.model.training
        self.model.eval()
        try:
            with torch.inference_mode(), self._autocast():
                for batch in self._batches(sources):
                    found = self._search([sources[index] for index in batch], nbest)
                    for index, hypotheses in zip(batch, found, strict=True):
                        # No hypothesis (every output has probability 0) still has to leave a line.
                        results[index] = self._decode(hypotheses) or results[index]
        finally:
            self.model.train(training)
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

    def _encode(self, lines: Sequence[str], warn: Callable[[str], None] | None, first_line: int) -> list[list[int]]:
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

    def _batches(self, sources: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Places of the sources with subwords, in batches of like length within ``search.batch_tokens``.

        The longest come first, so that a batch too large for the device fails at once and not after an hour.
        """
        batch: list[int] = []
        for index in sorted(range(len(sources)), key=lambda index: -len(sources[index])):
            if not sources[index]:
                break
            longest = len(sources[batch[0] if batch else index]) + 1  # + 1: eos
            if batch and (len(batch) + 1) * self.search.beam_size * longest > self.search.batch_tokens:
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    def _search(self, sources: Sequence[Sequence[int]], nbest: int) -> list[list[Hypothesis]]:
        tokenizer, search = self.tokenizer, self.search
        lengths = torch.tensor([len(source) for source in sources])
        src = torch.full((len(sources), int(lengths.max()) + 1), tokenizer.pad_id)  # [B, S]
        for row, source in zip(src, sources, strict=True):
            row[: len(source) + 1] = torch.tensor([*source, tokenizer.eos_id])
        src_mask = torch.arange(src.size(1)) <= lengths.unsqueeze(1)  # [B, S]
        max_lengths = (search.max_length_ratio * lengths + search.max_length_offset).long()
        if self.max_target_tokens is not None:
            max_lengths = max_lengths.clamp(max=self.max_target_tokens - 1)
        memory = self.model.encode(src.to(self.device), src_mask.to(self.device))
        return beam_search(
            self.model.step,
            self.model.init_state(memory, search.beam_size),
            max_lengths.to(self.device),
            beam_size=search.beam_size,
            bos_id=tokenizer.bos_id,
            eos_id=tokenizer.eos_id,
            penalty=self.penalty,
            nbest=nbest,
            forbidden=(tokenizer.pad_id, tokenizer.bos_id, tokenizer.unk_id),
        )

    def _decode(self, hypotheses: Sequence[Hypothesis]) -> list[Translation]:
        texts = self.tokenizer.decode([hypothesis.tokens for hypothesis in hypotheses])
        # A newline within a translation would shift every line after it away from its source.
        return [
            Translation(re.sub(r"[\r\n]+", " ", text), found.score, found.log_prob, found.tokens)
            for text, found in zip(texts, hypotheses, strict=True)
        ]

    def _autocast(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.precision is None else torch.autocast(self.device.type, self.precision)
