"""Sentences with their hypotheses and attention weights, from a trained run and through its training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from nmt.errors import DataError, RunError
from nmt.insight.attention import Maps, read_maps
from nmt.insight.explain import Method
from nmt.insight.page import Output, Sentence, Side
from nmt.run import checkpoint as checkpoints
from nmt.runtime.progress import showing
from nmt.translation.translator import Notice, read_text, showing_search

if TYPE_CHECKING:
    from nmt.run.directory import Run
    from nmt.translation.pytorch import TorchEngine
    from nmt.translation.translator import Translation, Translator

log = logging.getLogger(__name__)

Warn = Callable[[Notice], None]


def read_sentences(
    translator: Translator[TorchEngine],
    lines: Sequence[str],
    nbest: int,
    self_maps: bool = False,
    warn: Warn | None = None,
    methods: Sequence[Method] = (),
) -> list[Sentence]:
    """Translate lines; of each the ``nbest`` hypotheses with their attention weights.

    Args:
        self_maps: read self-attention, too.
        methods: contributions of the source that are computed beside attention, see :mod:`nmt.insight.explain`.
        warn: as for :meth:`nmt.translation.translator.Translator.translate`.

    Raises:
        DataError: the model has no attention, or a line no text.
    """
    sources = _encode(translator, lines)
    found = _translate(translator, lines, nbest, warn)
    read = []
    with showing("reading attention", len(lines)) as add:
        for source, hypotheses in zip(sources, found, strict=True):
            read.append([[maps] for maps in _read(translator, source, hypotheses, self_maps, methods)])
            add(1)
    return _sentences(translator, lines, sources, found, read, [[] for _ in lines])


def read_through_training(
    run: Run,
    translator: Translator[TorchEngine],
    lines: Sequence[str],
    self_maps: bool = False,
    warn: Warn | None = None,
    methods: Sequence[Method] = (),
) -> tuple[list[str], list[Sentence]]:
    """As :func:`read_sentences`, of one hypothesis as every checkpoint reads it.

    The hypothesis is the translation by the final model, so that its words stay in their places. Afterwards the model
    has the weights of the last checkpoint.

    Returns:
        The names of the checkpoints, oldest first, and of the final model; the sentences.

    Raises:
        RunError: the run has no checkpoint.
    """
    # Final model
    model, sources = translator.engine.model, _encode(translator, lines)
    found = _translate(translator, lines, 1, warn)
    how = self_maps, methods
    final = [_read(translator, source, each, *how)[0] for source, each in zip(sources, found, strict=True)]
    # Checkpoints
    kept = checkpoints.whole(run.checkpoints, log.warning)
    if not kept:
        raise RunError(f"{run.path}: has no checkpoint; keep checkpoints of a training with train.keep_last")
    if len(kept) == 1:
        log.warning("%s has one checkpoint; train.keep_last keeps more", run.path)
    read: list[list[Maps]] = [[] for _ in lines]
    translations: list[list[str]] = [[] for _ in lines]
    with showing("reading checkpoints", len(kept), "checkpoints") as add:
        for checkpoint in kept:
            checkpoints.load_weights(model, checkpoint.weights, checkpoint.path)
            for number, [best] in enumerate(translator.translate(lines)):
                read[number] += _read(translator, sources[number], found[number], *how)
                translations[number].append(best.text)
            add(1)
    # Together
    names = [*(f"step {checkpoint.step:,}" for checkpoint in kept), "final model"]
    everything = [[[*maps, last]] for maps, last in zip(read, final, strict=True)]
    texts = [[*each, best.text] for each, [best] in zip(translations, found, strict=True)]
    return names, _sentences(translator, lines, sources, found, everything, texts)


def _encode(translator: Translator[TorchEngine], lines: Sequence[str]) -> list[list[int]]:
    sources = translator.encode(lines)
    for number, source in enumerate(sources, 1):
        if not source:
            raise DataError(f"sentence {number} is empty; give a sentence to translate")
    return sources


def _translate(
    translator: Translator[TorchEngine], lines: Sequence[str], nbest: int, warn: Warn | None
) -> list[list[Translation]]:
    """Translate, and show the progress."""
    with showing_search(translator.engine, "translating", len(lines)):
        return translator.translate(lines, nbest, warn)


def _read(
    translator: Translator[TorchEngine],
    source: Sequence[int],
    hypotheses: Sequence[Translation],
    self_maps: bool,
    methods: Sequence[Method],
) -> list[Maps]:
    tokens = [hypothesis.tokens for hypothesis in hypotheses]
    read = read_maps(translator.engine.model, translator.tokenizer, source, tokens, self_maps, methods)
    if read[0].cross is None and not read[0].self_maps and not read[0].methods:
        raise DataError("the model has no attention (model.attention: none): nothing to show")
    return read


def _sentences(
    translator: Translator[TorchEngine],
    lines: Sequence[str],
    sources: Sequence[Sequence[int]],
    found: Sequence[Sequence[Translation]],
    read: Sequence[Sequence[list[Maps]]],
    translations: Sequence[list[str]],
) -> list[Sentence]:
    """Put the sentences together; ``read`` has the maps of each sentence, hypothesis and checkpoint."""
    tokenizer, sentences = translator.tokenizer, []
    for number, (line, source) in enumerate(zip(lines, sources, strict=True)):
        text, tags = read_text(translator.search, line), translator.tags_of(line)
        words = [*range(len(tags)), *(word + len(tags) for word in tokenizer.src_words(text))]
        text = " ".join([*tags, text])
        side = Side.of(text, tokenizer.src_pieces(source), words[: len(source)])
        outputs = [
            Output(
                one.text,
                one.score,
                Side.of(one.text, tokenizer.tgt_pieces(one.tokens), tokenizer.tgt_words(one.tokens)),
                maps,
            )
            for one, maps in zip(found[number], read[number], strict=True)
        ]
        sentences.append(Sentence(text, side, outputs, translations[number]))
    return sentences
