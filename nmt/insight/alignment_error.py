"""Alignment error rate of attention (Och and Ney 2003), on sentences whose word alignment is known.

The model reads source and reference by teacher forcing. Weights of subwords are merged to words as for
``nmt translate --alignments`` (:func:`nmt.insight.attention.merged`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from nmt.errors import DataError
from nmt.insight.alignment import attention_layers
from nmt.insight.attention import merged
from nmt.numbers import count_of
from nmt.translation.attended import BATCH_WEIGHTS, evaluating, forced_maps
from nmt.translation.batches import search_batches
from nmt.translation.translator import read_text

if TYPE_CHECKING:
    from nmt.translation.pytorch import TorchEngine
    from nmt.translation.translator import Translator

Link = tuple[int, int]  # source word, target word


@dataclass(frozen=True)
class Gold:
    """The known alignment of a sentence.

    Attributes:
        sure: links that an alignment must have.
        possible: links that it may have, those of ``sure`` included.
    """

    sure: frozenset[Link]
    possible: frozenset[Link]

    @classmethod
    def parse(cls, text: str, first: int = 0) -> Gold:
        """Links as ``0-0 1-2 1p3``: p (or ?) marks a possible link that is not sure.

        Args:
            first: number of the first word.

        Raises:
            ValueError: the text has another form.
        """
        sure, possible = set(), set()
        for link in text.split():
            found = re.fullmatch(r"(\d+)([-p?])(\d+)", link, re.ASCII)
            if found is None or min(int(found[1]), int(found[3])) < first:
                raise ValueError(link)
            place = int(found[1]) - first, int(found[3]) - first
            possible.add(place)
            if found[2] == "-":
                sure.add(place)
        return cls(frozenset(sure), frozenset(possible))


class Rates(NamedTuple):
    """Shares of 0 to 1; see :func:`rates`."""

    error: float
    precision: float
    recall: float


def rates(found: Sequence[set[Link]], gold: Sequence[Gold]) -> Rates:
    """Alignment error rate of a corpus, 1 - (|A & S| + |A & P|) / (|A| + |S|), with precision |A & P| / |A| and recall
    |A & S| / |S| (Och and Ney 2003, eq. 8 to 10), where A are the links found, S the sure and P the possible ones.
    """
    links = sum(map(len, found))
    sure = sum(len(one.sure) for one in gold)
    in_sure = sum(len(each & one.sure) for each, one in zip(found, gold, strict=True))
    in_possible = sum(len(each & one.possible) for each, one in zip(found, gold, strict=True))
    error = 1 - (in_sure + in_possible) / (links + sure) if links + sure else 0.0
    return Rates(error, in_possible / links if links else 1.0, in_sure / sure if sure else 1.0)


def least_error(gold: Sequence[Gold]) -> float:
    """The error rate of an alignment with one link for each aligned target word, all of them right."""
    best = []
    for one in gold:
        links = sorted(one.possible, key=lambda link: link not in one.sure)
        best.append({tgt: (src, tgt) for src, tgt in reversed(links)}.values())
    return rates([set(links) for links in best], gold).error


def largest(weights: Tensor) -> set[Link]:
    """For each target word, a row of weights [T, S], the source word with the largest one; none where all are 0."""
    values, places = weights.max(dim=1)
    return {
        (place, row) for row, (value, place) in enumerate(zip(values.tolist(), places.tolist(), strict=True)) if value
    }


def above(threshold: float) -> Callable[[Tensor], set[Link]]:
    """For each target word all source words of at least this weight."""

    def extract(weights: Tensor) -> set[Link]:
        return {(src, tgt) for tgt, src in (weights >= threshold).nonzero().tolist()}

    return extract


def word_weights(
    translator: Translator[TorchEngine], sources: Sequence[str], targets: Sequence[str], shift: int = 0
) -> Iterator[tuple[int, Tensor]]:
    """Attention of each pair on words, in any order.

    Args:
        sources, targets: with words on both sides.
        shift: 0 takes for a target token the weights with which the decoder predicted it; 1 those of the next step,
            when the decoder reads it (Chen et al. 2020, section 3).

    Returns:
        The number of the pair, and weights [layers, H, T, S] of the words of its texts (``split()``). The end of the
        source has none, so a row may sum to less than 1.

    Raises:
        DataError: the model has no attention.
    """
    model, tokenizer = translator.engine.model, translator.tokenizer
    attention_layers(model, tokenizer)
    src, tgt = translator.encode(sources), tokenizer.encode_tgt(targets)
    areas = [range(max(len(one), len(other)) ** 2) for one, other in zip(src, tgt, strict=True)]
    for batch in search_batches(areas, 1, BATCH_WEIGHTS):
        pairs = [(src[i], tgt[i]) for i in batch]
        with evaluating(model):
            found = list(forced_maps(model, tokenizer, pairs))
        for i, maps in zip(batch, found, strict=True):
            words = tokenizer.src_words(read_text(translator.search, sources[i])), tokenizer.tgt_text_words(targets[i])
            tags = len(translator.tags_of(sources[i]))
            rows = maps[:, :, shift : shift + len(tgt[i]), tags:-1]
            yield i, merged(rows, words[1], words[0][: rows.size(-1)])


def error_rates(
    translator: Translator[TorchEngine],
    sources: Sequence[str],
    targets: Sequence[str],
    gold: Sequence[Gold],
    extract: Callable[[Tensor], set[Link]] = largest,
    shift: int = 0,
) -> tuple[list[Rates], list[list[Rates]]]:
    """Alignment error rates of each layer, the mean over its heads, and of each head of each layer.

    Args:
        extract: links of weights [T, S]: :func:`largest`, or of :func:`above`.
        shift: see :func:`word_weights`.

    Raises:
        DataError: a link leads to no word, or see :func:`word_weights`.
    """
    for number, (source, target, one) in enumerate(zip(sources, targets, gold, strict=True), 1):
        for side, word, count in (
            (name, link[place], len(text.split()))
            for place, (name, text) in enumerate((("source", source), ("target", target)))
            for link in one.possible
        ):
            if word >= count:
                raise DataError(
                    f"line {number}: word {word} of the {side}, which has {count_of(count, 'word')}, counted from 0"
                )
    means: list[list[set[Link]]] = []
    heads: list[list[list[set[Link]]]] = []
    for i, weights in word_weights(translator, sources, targets, shift):
        if not means:
            empty: Callable[[], list[set[Link]]] = lambda: [set() for _ in gold]  # noqa: E731
            means = [empty() for _ in weights]
            heads = [[empty() for _ in layer] for layer in weights]
        for number, layer in enumerate(weights):
            means[number][i] = extract(layer.mean(0))
            for head, one_head in enumerate(layer):
                heads[number][head][i] = extract(one_head)
    of = [rates(layer, gold) for layer in means]
    return of, [[rates(head, gold) for head in layer] for layer in heads]
