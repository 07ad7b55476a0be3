"""Validation: loss by teacher forcing, and the scores of translations."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy.typing as npt
import torch
from torch import Tensor

from nmt.config.compare import digest
from nmt.config.experiment import Config
from nmt.config.search import SearchConfig
from nmt.data.examples import Examples
from nmt.data.order import plan_batches
from nmt.data.reader import Reader
from nmt.evaluation.scores import score
from nmt.insight.attention import attention_map
from nmt.models.seq2seq import Seq2Seq
from nmt.run.selection import Quality, varied
from nmt.runtime.device import Place
from nmt.runtime.progress import showing
from nmt.runtime.ranks import Ranks
from nmt.runtime.signals import Paused
from nmt.training.loss import projected_cross_entropy
from nmt.training.prepared import Prepared
from nmt.translation.pytorch import TorchEngine
from nmt.translation.pytorch_loading import new_translator
from nmt.translation.shared import translate_block
from nmt.translation.translator import Translation, Translator

log = logging.getLogger(__name__)

T = TypeVar("T")
Rows = npt.NDArray[Any]


@dataclass(frozen=True)
class Validation:
    """The results of a validation.

    Attributes:
        metrics: values by TensorBoard name.
        distinct: the number of distinct hypotheses, and of all hypotheses.
        samples: source, reference, hypothesis.
        watched: source, hypothesis of each sentence of ``train.watch``.
        maps: name, weights [T, S], source and target subwords, and title of each attention map.
        notes: lines to print.
    """

    metrics: dict[str, float]
    quality: Quality
    distinct: tuple[int, int]
    samples: list[tuple[str, str, str]]
    watched: list[tuple[str, str]]
    maps: list[tuple[str, Tensor, list[str], list[str], str]]
    notes: list[str] = field(default_factory=list)


class Validator:
    """Computes the loss by teacher forcing, and BLEU and chrF by the search and scoring of the final evaluation.

    The ranks share the work; all of them have the result.

    Attributes:
        settings: what the scores of a validation depend on, apart from the weights.
    """

    def __init__(self, config: Config, prepared: Prepared, place: Place):
        self.config = config.model_copy(update={"search": _valid_search(config)})
        self.tokenizer, self.place, self.ranks = prepared.tokenizer, place, place.ranks
        data, text = prepared.encoded.valid, prepared.corpus.part("valid")
        reader = Reader(
            data, prepared.tokenizer, examples=Examples.tagged_part(prepared.corpus, "valid", data, prepared.tokenizer)
        )
        self.limits = prepared.encoded.limits
        self.lengths = src_lengths, tgt_lengths = data.lengths()
        self.plan = plan_batches(src_lengths, tgt_lengths, config.train.batch_tokens, None)
        self.read = reader.read
        self.sources, self.references = prepared.corpus.sources("valid"), text.targets()
        self.fingerprint = digest(self.sources, self.references)
        self.settings = self.settings_under(config)
        # Spread over the set, and never the blank line: the same few at each validation.
        count = min(config.train.samples, len(self.sources))
        self.shown = [i * len(self.sources) // count for i in range(count)] if count else []

    def settings_under(self, config: Config) -> dict[str, Any]:
        """What the scores of this validation set depend on under another configuration, apart from the weights."""
        search = _valid_search(config).compared()
        return {
            **{f"search.{key}": value for key, value in search.items()},
            "evaluation.tokenize": config.evaluation.tokenize or "13a",
            "evaluation.lowercase": config.evaluation.lowercase,
            "validation set": self.fingerprint,
        }

    def __call__(self, model: Seq2Seq[Any]) -> Validation:
        """
        Raises:
            Paused: on all ranks, a postponed signal asks one of them to stop.
        """
        translator = self.translator(model)
        share = self.plan[self.ranks.block(len(self.plan))]
        batches = _paused_together(lambda: self.losses(model, share), self.ranks)
        found = _paused_together(
            lambda: translate_block(translator, self.sources, self.ranks, "validating"), self.ranks
        )
        # Apart from the validation set, whose batches, and so its scores, do not depend on these sentences.
        watched = self._watched(translator)
        return self.ranks.on_main(lambda: self._judge(translator, batches, found, watched))

    def _watched(self, translator: Translator[TorchEngine]) -> list[Translation]:
        lines = self.config.train.watch
        if not lines:
            return []
        return _paused_together(lambda: translate_block(translator, lines, self.ranks, "watched sentences"), self.ranks)

    def translator(self, model: Seq2Seq[Any]) -> Translator[TorchEngine]:
        return new_translator(model, self.tokenizer, self.config, self.limits, self.place)

    def losses(self, model: Seq2Seq[Any], plan: Sequence[Rows]) -> list[tuple[float, int, int]]:
        """Negative log-likelihood, correct tokens and tokens of each batch of rows."""
        batches: list[tuple[float, int, int]] = []
        with torch.inference_mode(), showing("validation loss", len(plan), "batches") as add:
            for rows in plan:
                self.ranks.pulse()
                batch = self.read(rows).to(self.place.device)
                hidden, targets = batch.at_targets(model(*batch.inputs)), batch.targets  # [M, D], [M]
                loss = projected_cross_entropy(hidden, model.output, targets, 0.0, count_correct=True)
                batches.append((float(loss.nll), int(loss.correct), len(targets)))
                add(1)
        return batches

    def _judge(
        self,
        translator: Translator[TorchEngine],
        batches: list[tuple[float, int, int]],
        found: list[Translation],
        watched: list[Translation],
    ) -> Validation:
        """Compute the metrics of what all ranks found, see :meth:`losses`."""
        # Metrics
        nll, correct, tokens = 0.0, 0, 0
        for batch in batches:
            nll, correct, tokens = nll + batch[0], correct + batch[1], tokens + batch[2]
        hypotheses = [t.text for t in found]
        with showing("scoring the validation", unit=""):
            scores = score(hypotheses, self.references, self.config.evaluation, ["bleu", "chrf"])
        loss = nll / tokens
        metrics = {
            "valid/loss": loss, "valid/ppl": math.exp(min(loss, 100)), "valid/accuracy": correct / tokens,
            "valid/bleu": scores.bleu, "valid/chrf": scores.chrf,
        }  # fmt: skip
        # What ranks weights
        cut = sum(t.at_limit for t in found)
        different, ended = varied(hypotheses, self.references), 2 * cut <= len(found)
        quality = Quality(loss, scores.bleu, scores.chrf, scores.matches, different, ended)
        distinct = (len(set(hypotheses)), len(hypotheses))
        # Samples and notes for people
        samples = [(self.sources[i], self.references[i], hypotheses[i]) for i in self.shown]
        chosen = list(zip(self.config.train.watch, watched, strict=True))
        pairs = {_named(f"{n}", self.sources[i]): (self.sources[i], found[i]) for n, i in enumerate(self.shown, 1)}
        pairs |= {_named(f"watch {n}", pair[0]): pair for n, pair in enumerate(chosen, 1)}
        maps, notes = self.attention_maps(translator, pairs), self._at_limit(translator, cut)
        texts = [(source, translation.text) for source, translation in chosen]
        return Validation(metrics, quality, distinct, samples, texts, maps, notes)

    def attention_maps(
        self, translator: Translator[TorchEngine], pairs: Mapping[str, tuple[str, Translation]]
    ) -> list[tuple[str, Tensor, list[str], list[str], str]]:
        """Attention maps of named sentences and translations; an error in one is no reason to end a training."""
        maps = []
        for name, (source, translation) in pairs.items():
            try:
                [src] = translator.encode([source])
                drawn = attention_map(translator.engine.model, self.tokenizer, src, translation.tokens)
            except Exception as error:
                log.warning("attention map %s was not drawn: %s: %s", name, type(error).__name__, error)
                continue
            if drawn is not None:
                maps.append((name, *drawn, f"{shortened(source, 90)}\n{shortened(translation.text, 90)}"))
        return maps

    def _at_limit(self, translator: Translator[TorchEngine], reached: int) -> list[str]:
        """A line if the search's length limit may have cut hypotheses, or is shorter than references."""
        search = translator.search
        limits = [translator.max_length(min(length, search.max_source_tokens)) for length in self.lengths[0].tolist()]
        longer = int((self.lengths[1] > limits).sum())
        if not reached and not longer:
            return []
        return [
            f"{reached:,} of {len(self.sources):,} validation hypotheses are as long as the search allows "
            f"({search.max_length_ratio:g} times the source and {search.max_length_offset} subwords: "
            f"search.max_length_ratio, max_length_offset), {longer:,} of the references are longer"
        ]


def _named(number: str, source: str) -> str:
    """The name of an attention map, by which its sentence is known."""
    return f"{number} “{shortened(source, 50)}”"


def shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def _valid_search(config: Config) -> SearchConfig:
    if config.train.valid_beam_size is None:
        return config.search
    return config.search.model_copy(update={"method": "beam", "beam_size": config.train.valid_beam_size})


def _paused_together(work: Callable[[], list[T]], ranks: Ranks) -> list[T]:
    """Let each rank do its share of the work; all get the results in order of rank.

    Raises:
        Paused: on all ranks, if a signal paused the work on any of them.
    """

    def unless_paused() -> list[T] | None:
        try:
            return work()
        except Paused:
            return None

    made = ranks.gather(ranks.on_every_rank(unless_paused))
    if any(part is None for part in made):
        raise Paused
    return [item for part in made for item in part or []]
