"""Lines in, lines out: same order, same number."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from nmt.config.limits import ResolvedSearch, resolve_search
from nmt.config.search import SearchConfig
from nmt.data.tagged import TaggedLine
from nmt.errors import ConfigError
from nmt.runtime.progress import showing
from nmt.search.scoring import Hypothesis

if TYPE_CHECKING:
    from nmt.data.tokenizer import Tokenizer


CHARACTERS_PER_TOKEN = 64  # at most read of a line for each subword that is kept; a piece of SentencePiece has up to 16


@dataclass(frozen=True)
class Translation:
    """One translation of one line.

    Attributes:
        text: one line, without a newline.
        score: normalised by length, comparable among the translations of a line.
        log_prob: natural logarithm of the model's probability.
        tokens: target ids, without bos and eos.
        at_limit: it is as long as the search allows, so that it may have been cut.
    """

    text: str
    score: float
    log_prob: float
    tokens: list[int]
    at_limit: bool = False


def one_line(text: str) -> str:
    """``text`` without newlines, which would shift every later line away from its source."""
    return re.sub(r"[\r\n]+", " ", text)


def input_line(text: str) -> str:
    """``text`` in one line, with U+FFFD in place of halves of surrogate pairs and of NUL, as when lines are read."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")
    return " ".join(whole.splitlines())


class Notice(NamedTuple):
    """Something that the user should know about one line, or one paragraph of a document.

    Attributes:
        line: its number, from 1.
        kind: the same words for every line that it happens to.
        detail: of this line.
    """

    line: int
    kind: str
    detail: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.kind} ({self.detail})"


class Notices:
    """Passes the first notices of each kind on, and at last the number of all.

    Args:
        tell: called with one line of text.
        most: notices of a kind that are passed on.
        unit: of what is numbered.
    """

    def __init__(self, tell: Callable[[str], None], most: int = 10, unit: str = "line") -> None:
        self.tell, self.most, self.unit = tell, most, unit
        self.counts: Counter[str] = Counter()

    def __call__(self, notice: Notice) -> None:
        self.counts[notice.kind] += 1
        if self.counts[notice.kind] <= self.most:
            self.tell(f"warning: {self.unit} {notice.line}: {notice.kind} ({notice.detail})")

    def close(self) -> None:
        for kind, count in self.counts.items():
            if count > 1:
                self.tell(f"warning: {count:,} {self.unit}s: {kind}")
        self.counts.clear()


def read_text(search: ResolvedSearch, line: str) -> str:
    """The text that is read of a line to translate."""
    return line.strip("\r\n")[: CHARACTERS_PER_TOKEN * search.max_source_tokens]


class Engine(Protocol):
    """Finds target ids of source ids (:mod:`nmt.translation.pytorch`, :mod:`nmt.translation.ctranslate2`)."""

    @property
    def device(self) -> object:
        """Where the engine works; as text ``cpu``, ``cuda`` or the like, with a number."""
        ...

    @property
    def progress(self) -> Callable[[int], object]:
        """Called with the number of sentences whenever some have been searched."""
        ...

    @progress.setter
    def progress(self, value: Callable[[int], object]) -> None: ...

    def search(
        self,
        sources: Sequence[Sequence[int]],
        max_lengths: Sequence[int],
        nbest: int,
        prefixes: Sequence[Sequence[int]] = (),
    ) -> list[list[Hypothesis]]:
        """Search any number of sources, in batches of ``search.batch_tokens``.

        Never produced: pad and bos, which stand for nothing, and unk, which helps nobody (as in Marian) unless
        ``search.copy_unknown`` replaces it.

        Args:
            sources: ids of each source, without eos; none is empty.
            max_lengths: for each source, the most tokens of a hypothesis, eos not counted.
            prefixes: for each source the ids that its hypotheses begin with, at most as many as its maximum length and
                none of those that are never produced; nothing where all of them are free.
            nbest: hypotheses wanted of each source, at most ``search.most``.

        Returns:
            For each source its hypotheses, best first or in the order of samples; none where every output has
            probability 0.
        """
        ...


EngineT = TypeVar("EngineT", bound=Engine)


@contextmanager
def showing_search(engine: Engine, label: str, count: int) -> Iterator[None]:
    """Show the progress of the searches of an engine over ``count`` sentences."""
    before = engine.progress
    with showing(label, count) as engine.progress:
        try:
            yield
        finally:
            engine.progress = before


class Translator(Generic[EngineT]):
    """An engine, the tokenizer of its model and the settings of the search.

    Args:
        max_target_tokens: the most positions the decoder has (eos takes one), beside the limits in ``search``;
            None where any length goes.
        longest_source: subwords of the longest source of the training; None where it is not known.

    Attributes:
        checksum: SHA-256 of the file of weights; empty for a model that was not loaded from one.
        tags: before each source without its own tags, see :class:`nmt.data.tagged.TaggedLine`.
    """

    checksum = ""
    tags: Sequence[str] = ()

    def __init__(
        self,
        engine: EngineT,
        tokenizer: Tokenizer,
        search: SearchConfig,
        max_target_tokens: int | None = None,
        longest_source: int | None = None,
    ) -> None:
        self.engine = engine
        self.tokenizer = tokenizer
        self.search = resolve_search(search)
        self.max_target_tokens = max_target_tokens
        self.longest_source = longest_source

    def translate(
        self,
        lines: Sequence[str],
        nbest: int = 1,
        warn: Callable[[Notice], None] | None = None,
        first_line: int = 1,
        prefixes: Sequence[str] = (),
    ) -> list[list[Translation]]:
        """Translate each line.

        Args:
            nbest: translations wanted of each line, at most ``search.most``.
            warn: called for each line whose source is cut to ``search.max_source_tokens`` or is longer than any in the
                training, and for each whose best translation is as long as the search allows.
            first_line: number of the first line in notices.
            prefixes: for each line the text that its translations begin with, see :meth:`prefix_ids`; nothing if all
                of them are free. The length limit grows to the length of a longer prefix.

        Returns:
            For each line its translations, best first (samples: in the order in which they are drawn). A line without
            subwords, such as a blank one, has one empty translation, for which the model is not asked.

        Raises:
            ConfigError: ``nbest`` is not from 1 to ``search.most``.
            ValueError: there are not as many prefixes as lines.
            TrainingError: the model's output is not a number.
        """
        if not 1 <= nbest <= self.search.most:
            most = f"search.beam_size ({self.search.most})" if self.search.uses_beam else f"{self.search.most}"
            raise ConfigError(f"{nbest} translations of a line asked for; must be from 1 to {most}")
        sources = self.encode(lines, warn, first_line)
        results = [[Translation("", 0.0, 0.0, [])] for _ in lines]
        rows = [index for index, source in enumerate(sources) if source]
        chosen = [sources[index] for index in rows]
        limits = [self.max_length(len(source)) for source in chosen]
        starts = self._starts(lines, rows, prefixes, warn, first_line)
        limits = [max(limit, len(start)) for limit, start in zip(limits, starts, strict=True)] if starts else limits
        found = self.engine.search(chosen, limits, nbest, starts)
        texts = iter(self.texts([lines[index] for index in rows], chosen, found))
        for index, limit, hypotheses in zip(rows, limits, found, strict=True):
            translations = [
                Translation(one_line(next(texts)), one.score, one.log_prob, one.tokens, len(one.tokens) >= limit)
                for one in hypotheses
            ]
            # No hypothesis (every output has probability 0) still has to leave a line.
            results[index] = translations or results[index]
            if warn is not None and results[index][0].at_limit:
                kind, why = (
                    "translation reached its length limit, it may be cut",
                    self._why(limit, len(sources[index])),
                )
                warn(Notice(first_line + index, kind, why))
        return results

    def _starts(
        self,
        lines: Sequence[str],
        rows: Sequence[int],
        prefixes: Sequence[str],
        warn: Callable[[Notice], None] | None,
        first_line: int,
    ) -> list[list[int]]:
        """The prefixes of the lines ``rows`` as ids; nothing without any. See :meth:`translate`."""
        if not any(prefixes):
            return []
        ids = self.prefix_ids([prefix for _, prefix in zip(lines, prefixes, strict=True)], warn, first_line)
        return [ids[index] for index in rows]

    def encode(
        self, lines: Sequence[str], warn: Callable[[Notice], None] | None = None, first_line: int = 1
    ) -> list[list[int]]:
        """Source ids of each line, cut to the limit, after its tags; none for a blank line."""
        limit = self.search.max_source_tokens
        most = CHARACTERS_PER_TOKEN * limit
        texts = [line.strip("\r\n") for line in lines]
        sources: list[list[int]] = self.tokenizer.encode_src([read_text(self.search, line) for line in lines])
        for index, (text, ids) in enumerate(zip(texts, sources, strict=True)):
            kind, detail = "", ""
            if not text.strip():
                sources[index] = []
            elif len(ids) > limit:
                sources[index] = ids[:limit]
                kind, detail = "source cut", f"{len(ids)} subwords, search.max_source_tokens is {limit}"
            elif len(text) > most:
                kind, detail = "source cut", f"{len(text):,} characters, the first {most:,} are read"
            elif self.longest_source is not None and len(ids) > self.longest_source:
                kind = "source longer than any in the training"
                detail = f"{len(ids)} subwords, the longest in the training had {self.longest_source}"
            if kind and warn is not None:
                warn(Notice(first_line + index, kind, detail))
        return [self.tag_ids(line) + ids if ids else ids for line, ids in zip(lines, sources, strict=True)]

    def texts(
        self, lines: Sequence[str], sources: Sequence[Sequence[int]], found: Sequence[Sequence[Hypothesis]]
    ) -> list[str]:
        """The texts of the hypotheses of each line, all in one list.

        Args:
            sources: the ids of each line, see :meth:`encode`.
        """
        if not self.search.copy_unknown:
            return self.tokenizer.decode([hypothesis.tokens for hypotheses in found for hypothesis in hypotheses])
        from nmt.translation.copying import Row, copied

        rows = [
            Row(read_text(self.search, line), len(self.tags_of(line)), source, hypothesis.tokens)
            for line, source, hypotheses in zip(lines, sources, found, strict=True)
            for hypothesis in hypotheses
        ]
        engine: Any = self.engine  # that of PyTorch: CTranslate2 refuses this search
        return copied(engine.model, self.tokenizer, rows)

    def prefix_ids(
        self, prefixes: Sequence[str], warn: Callable[[Notice], None] | None = None, first_line: int = 1
    ) -> list[list[int]]:
        """Target ids of the beginnings of translations.

        A prefix is cut before what the vocabulary lacks, and to the longest translation that the search allows.

        Args:
            warn: called for each prefix that is cut.
            first_line: number of the first prefix in notices.
        """
        limit, unknown = self.max_length(self.search.max_source_tokens), self.tokenizer.unk_id
        found = []
        texts = [prefix.strip("\r\n")[: CHARACTERS_PER_TOKEN * limit] for prefix in prefixes]
        for number, ids in enumerate(self.tokenizer.encode_tgt(texts), first_line):
            known = ids.index(unknown) if unknown in ids else len(ids)
            if warn is not None and known < min(len(ids), limit):
                warn(Notice(number, "prefix cut", f"the vocabulary has no piece for its subword {known + 1}"))
            elif warn is not None and len(ids) > limit:
                warn(Notice(number, "prefix cut", f"{len(ids)} subwords, a translation has at most {limit}"))
            found.append(ids[: min(known, limit)])
        return found

    def use_tags(self, tags: Sequence[str]) -> None:
        """Put tags before each source.

        Raises:
            TokenizerError: the vocabulary has no such tag.
        """
        self.tokenizer.tag_ids(tags)
        self.tags = tuple(tags)

    def tags_of(self, line: str) -> Sequence[str]:
        return line.tags if isinstance(line, TaggedLine) else self.tags

    def tag_ids(self, line: str) -> list[int]:
        """The ids of the tags of a line, the first of its source ids."""
        return self.tokenizer.tag_ids(tags) if (tags := self.tags_of(line)) else []

    def max_length(self, source: int) -> int:
        """The most subwords of a translation of a source of so many."""
        limit = int(self.search.max_length_ratio * source + self.search.max_length_offset)
        return limit if self.max_target_tokens is None else min(limit, self.max_target_tokens - 1)

    def _why(self, limit: int, source: int) -> str:
        search = self.search
        if limit > self.max_length(source):
            return f"{limit} subwords, those of its prefix"
        if self.max_target_tokens is not None and limit == self.max_target_tokens - 1:
            return f"{limit} subwords, from model.max_positions"
        return f"{limit} subwords: {search.max_length_ratio:g} times the source and {search.max_length_offset}"
