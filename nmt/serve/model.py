"""A served run: its languages, and the translation of its lines."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from nmt.serve.batching import Batcher
from nmt.serve.computing import Workers, compute
from nmt.translation.texts import Lines, Texts

if TYPE_CHECKING:
    from nmt.config.experiment import Config
    from nmt.serve.limits import Limits
    from nmt.serve.metrics import Metrics
    from nmt.translation.protected import Align
    from nmt.translation.translator import Notice, Translator


class Ask(NamedTuple):
    """The options of a line to translate.

    Attributes:
        protect: kinds of placeholders to keep.
        split: translate sentence by sentence.
        document: the line is a paragraph of a document, with its markup.
    """

    nbest: int = 1
    attention: bool = False
    protect: tuple[str, ...] = ()
    split: bool = False
    document: bool = False


@dataclass(frozen=True)
class Answer:
    """
    Attributes:
        texts: translations, best first.
        scores: normalised by length, of each translation.
        warnings: on the line, such as a source that was cut.
        attention: of each translation, between words; see :meth:`Translating._read`.
    """

    texts: list[str]
    scores: list[float]
    warnings: list[str]
    attention: dict[str, Any] = field(default_factory=dict)


class Translating:
    """Answers lines; all that computes of a served run."""

    def __init__(self, config: Config, translator: Translator[Any]) -> None:
        self.language, self.translator = config.data.src_lang, translator

    @cached_property
    def aligner(self) -> Align | None:
        """What places tags by attention; None without attention."""
        from nmt.insight.alignment import aligner_of

        return aligner_of(self.translator)

    def __call__(self, ask: Ask, lines: list[str]) -> list[Answer]:
        notices = list["Notice"]()
        if ask.attention:
            return [self._read(line, ask.nbest) for line in lines]
        found = self._lines(ask).translate(lines, ask.nbest, notices.append)
        warnings = _by_line(notices, len(lines))
        return [
            Answer([one.text for one in each], [one.score for one in each], told)
            for each, told in zip(found, warnings, strict=True)
        ]

    def _lines(self, ask: Ask) -> Lines:
        """What translates lines that are asked for like this."""
        texts = Texts(self.translator, ask.protect, ask.split, self.language, lambda: self.aligner)
        return texts.for_documents() if ask.document else texts.lines

    def _read(self, line: str, nbest: int) -> Answer:
        """Translations of a line that is not blank, with the words of both sides and the weights between them.

        A weight is the mean over all layers and heads: of each word of the translation over the words of the source.
        """
        from nmt.insight.attention import merged
        from nmt.insight.collect import read_sentences

        if not self.translator.encode([line])[0]:  # characters that the tokenizer drops
            return Answer([""], [0.0], [], {"words": [], "translations": []})
        notices = list["Notice"]()
        [sentence] = read_sentences(self.translator, [line], nbest, warn=notices.append)
        translations = []
        for output in sentence.outputs:
            cross = output.maps[0].cross
            assert cross is not None
            weights = merged(cross.mean(dim=(0, 1)), output.side.word_of, sentence.side.word_of)
            rows = [[round(weight, 4) for weight in row] for row in weights.tolist()]
            translations.append({"text": output.text, "words": output.side.words, "weights": rows})
        return Answer(
            [output.text for output in sentence.outputs],
            [output.score for output in sentence.outputs],
            _by_line(notices, 1)[0],
            {"words": sentence.side.words, "translations": translations},
        )


class Served:
    """
    Args:
        workers: processes that translate; None: this process does.

    Attributes:
        usual: the section ``translate`` of the run, for requests that do not say otherwise.
        attends: attention can be asked for.
        most: translations of a line that can be asked for.
    """

    def __init__(
        self,
        name: str,
        config: Config,
        translating: Translating,
        limits: Limits,
        metrics: Metrics,
        workers: Workers | None = None,
    ) -> None:
        self.name = name
        self.source, self.target = config.data.src_lang, config.data.tgt_lang
        self.usual = config.translate
        self.translating, self.workers = translating, workers
        self.translator = translator = translating.translator
        self.most: int = translator.search.most
        self.attends = _attends(translator)
        assert translator.search.batch_tokens is not None
        budget = translator.search.batch_tokens // max(1, translator.search.beam_size)
        self.metrics = metrics
        observe, threads = partial(metrics.batch, name), 1 if workers is None else workers.count
        self.batcher = Batcher[Ask, Answer](name, self.answer, budget, limits.queue, limits.gather, observe, threads)

    def submit(self, ask: Ask, lines: Sequence[str]) -> list[Future[Answer]]:
        """Queue lines to be answered.

        Raises:
            Refused: see :meth:`nmt.serve.batching.Batcher.submit`.
        """
        costs = [len(ids) + 1 for ids in self.translator.encode(lines)]
        self.metrics.add("nmt_source_tokens_total", {"model": self.name}, sum(costs))
        return self.batcher.submit(ask, list(zip(lines, costs, strict=True)))

    def answer(self, ask: Ask, lines: list[str]) -> list[Answer]:
        """Translate lines; called by the threads of the batcher alone."""
        if self.workers is None:
            return compute(partial(self.translating, ask, lines))
        answers: list[Answer] = self.workers(self.name, ask, lines)
        return answers

    @property
    def alive(self) -> bool:
        """Whether no thread and no process that translates has ended, as after a fault."""
        return self.batcher.alive and (self.workers is None or self.workers.alive)


def _by_line(notices: Sequence[Notice], count: int) -> list[list[str]]:
    found: list[list[str]] = [[] for _ in range(count)]
    for notice in notices:
        found[notice.line - 1].append(f"{notice.kind} ({notice.detail})")
    return found


def _attends(translator: Translator[Any]) -> bool:
    """Whether attention weights can be read: PyTorch's engine, and a model that has attention."""
    model = getattr(translator.engine, "model", None)
    if model is None:
        return False
    from nmt.insight.attention import read_maps

    return read_maps(model, translator.tokenizer, [translator.tokenizer.unk_id], [[]])[0].cross is not None
