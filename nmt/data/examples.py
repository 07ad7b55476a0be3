"""The examples of a mixture as training reads them: ids, tags and random changes.

Every random change is drawn from (seed, epoch, example), so that a resumed training needs no saved state.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nmt.config.data import DataConfig
from nmt.config.modifiers import Modifier, NoiseModifier, TagsModifier
from nmt.config.sources import as_tags
from nmt.data.arrow import releasing
from nmt.data.corpus import Corpus, TextPart
from nmt.data.encoded import Lengths, ParallelDataset
from nmt.data.mixture import Mixture, Rows, Stage, chosen, first_rows
from nmt.data.modifiers import Around, Links, Pair, modify, parse_links, symbols_among
from nmt.data.tokenizer import Tokenizer
from nmt.errors import DataError
from nmt.text.case import has_dotless_i

Ids = npt.NDArray[Any]


class Changed(NamedTuple):
    """A pair as modifiers changed it: text, ids without tags, and word alignments, if there are any."""

    src: str
    tgt: str
    src_ids: Ids
    tgt_ids: Ids
    links: Links | None = None


class Examples:
    """The examples of a mixture, see :class:`nmt.data.mixture.Mixture`.

    Args:
        dataset: the encoded pairs of all datasets, one dataset after another.
        text: the corpus part that ``dataset`` was encoded from.
        tags: ids of the tags before the source, of each dataset.
        max_tokens: a pair that would have more subwords on a side when changed stays as it is.

    Attributes:
        most_tags: of a source.
        modifies: whether any stage changes pairs.
    """

    def __init__(
        self,
        mixture: Mixture,
        dataset: ParallelDataset,
        text: TextPart,
        tokenizer: Tokenizer,
        tags: Sequence[Sequence[int]],
        max_tokens: int,
        dotless: tuple[bool, bool] = (False, False),
    ):
        self.dotless = dotless
        self.mixture, self.dataset, self.text, self.tokenizer = mixture, dataset, text, tokenizer
        self.max_tokens, self.seed, self._aligned = max_tokens, mixture.seed, text.has("links")
        self._tags = [np.array(ids, np.int64) for ids in tags]
        self._tag_counts = np.array([len(ids) for ids in tags], np.int32)
        self.most_tags = max(len(ids) for ids in tags)
        self.modifies = any(modifiers for stage in mixture.stages for modifiers in stage.modifiers)

    @classmethod
    def of(
        cls, data: DataConfig, corpus: Corpus, dataset: ParallelDataset, tokenizer: Tokenizer, seed: int
    ) -> Examples | None:
        """The examples of a mixture; None for a plain source, of which each epoch reads every pair once.

        Raises:
            DataError: no pair of a dataset is left in ``dataset``.
        """
        if not data.datasets:
            return None
        text = corpus.part("train")
        starts = first_rows(dataset, list(corpus.datasets("train").values()) or [len(text)])
        for one, (start, end) in zip(data.datasets, pairwise(starts), strict=True):
            if start == end:
                raise DataError(
                    f"data.train.{one.name}: no pair has {data.cleaning.max_tokens} subwords per side or fewer; raise "
                    "data.cleaning.max_tokens"
                )
        tags = [tokenizer.tag_ids(as_tags(one.tag)) for one in data.datasets]
        dotless = has_dotless_i(data.src_lang), has_dotless_i(data.tgt_lang)
        return cls(Mixture.of(data, starts, seed), dataset, text, tokenizer, tags, data.cleaning.max_tokens, dotless)

    @classmethod
    def tagged_part(cls, corpus: Corpus, part: str, dataset: ParallelDataset, tokenizer: Tokenizer) -> Examples | None:
        """The pairs of a validation set, each read as it is after its tags; None where it has none."""
        ranges = corpus.tags.get(part)
        if not ranges:
            return None
        starts = first_rows(dataset, [count for count, _ in ranges])
        none = tuple(() for _ in ranges)
        stage = Stage(part, (Fraction(1, len(ranges)),) * len(ranges), Fraction(len(dataset)), None, None, none)
        tags = [tokenizer.tag_ids(tags) for _, tags in ranges]
        return cls(Mixture(starts, [stage], 0), dataset, corpus.part(part), tokenizer, tags, 0)

    # ----------------------------------------------------------------------------------------------------- what is read

    def stored(self, examples: Rows) -> list[tuple[Ids, Ids]]:
        """The stored ids of examples, without tags and changes."""
        rows = self.mixture.rows(examples).tolist()
        return [(self.dataset.src(i).copy(), self.dataset.tgt(i).copy()) for i in releasing(rows, self.dataset)]

    def indices(self, examples: Rows) -> list[int]:
        """The rows of examples in the corpus part."""
        return [self.dataset.index(row) for row in self.mixture.rows(examples).tolist()]

    def tagged(self, pairs: Sequence[tuple[Ids, Ids]], examples: Rows) -> list[tuple[Ids, Ids]]:
        """The pairs with the tags of their datasets before the source."""
        datasets = self.mixture.datasets(examples).tolist()
        return [
            (np.concatenate([self._tags[number], src]) if len(self._tags[number]) else src, tgt)
            for (src, tgt), number in zip(pairs, datasets, strict=True)
        ]

    def planned_lengths(self, examples: Rows, epoch: int, room: Callable[[Lengths], Lengths] | None = None) -> Lengths:
        """Lengths [2, N] to plan the batches of these examples with, tags and changes included.

        Args:
            room: maps lengths of best segmentations to those to plan with; see :class:`nmt.data.reader.Room`.
        """
        lengths = self.dataset.lengths_of(self.mixture.rows(examples))
        for place, pair in self.changed(examples, epoch).items():
            lengths[:, place] = len(pair.src_ids), len(pair.tgt_ids)
        if room is not None:
            lengths = room(lengths)
        lengths[0] += self.tag_counts(examples)
        return lengths

    def tag_counts(self, examples: Rows) -> npt.NDArray[np.int32]:
        """The number of tags of each example [N]."""
        found: npt.NDArray[np.int32] = self._tag_counts[self.mixture.datasets(examples)]
        return found

    # -------------------------------------------------------------------------------------------------- random changes

    def changed(self, examples: Rows, epoch: int) -> dict[int, Changed]:
        """The pairs that modifiers change, by their place among the examples [N].

        A pair that becomes empty or too long is left out: it is read as it is.
        """
        pairs = self._modified(examples, epoch)
        if not pairs:
            return {}
        sources = self.tokenizer.encode_src([pair.src for pair in pairs.values()])
        targets = self.tokenizer.encode_tgt([pair.tgt for pair in pairs.values()])
        found = {}
        for (place, pair), src, tgt in zip(pairs.items(), sources, targets, strict=True):
            if src and tgt and max(len(src), len(tgt)) <= self.max_tokens:
                found[place] = Changed(pair.src, pair.tgt, np.array(src), np.array(tgt), pair.links)
        return found

    def _modified(self, examples: Rows, epoch: int) -> dict[int, Pair]:
        if not self.modifies:
            return {}
        modifiers, datasets = self.mixture.stage(epoch).modifiers, self.mixture.datasets(examples)
        noise = self.mixture.noise(examples)
        found: dict[int, Pair] = {}
        for number, of_dataset in enumerate(modifiers):
            here = np.flatnonzero(datasets == number) if of_dataset else np.zeros(0, np.intp)
            if not len(here):
                continue
            # Which modifiers change which of the examples of this dataset, [modifiers, examples]
            changes = np.stack([self._chosen(n, one, examples[here], epoch) for n, one in enumerate(of_dataset)])
            self._leave_noise_out(changes, of_dataset, noise[here])
            for column in np.flatnonzero(changes.any(axis=0)).tolist():
                place = int(here[column])
                chosen = [(n, of_dataset[n]) for n in np.flatnonzero(changes[:, column]).tolist()]
                found[place] = self._change(int(examples[place]), number, epoch, chosen)
        return found

    def _chosen(self, number: int, modifier: Modifier, examples: Rows, epoch: int) -> npt.NDArray[np.bool_]:
        """Whether a modifier has work on each of the examples."""
        if isinstance(modifier, TagsModifier):  # draws for each word
            return np.full(len(examples), modifier.probability > 0)
        return chosen(examples, self.seed, epoch, number, modifier.probability)

    @staticmethod
    def _leave_noise_out(
        changes: npt.NDArray[np.bool_], modifiers: Sequence[Modifier], noise: npt.NDArray[np.bool_]
    ) -> None:
        """Let noise be made for additional pairs alone, which the modifiers before it do not change."""
        for number, modifier in enumerate(modifiers):
            if isinstance(modifier, NoiseModifier):
                changes[:number, noise] = False
                changes[number] = noise

    def _change(self, example: int, dataset: int, epoch: int, modifiers: Sequence[tuple[int, Modifier]]) -> Pair:
        pair = self._pair(example % self.mixture.pairs)
        first, end = int(self.mixture.starts[dataset]), int(self.mixture.starts[dataset + 1])
        symbols = symbols_among(self.mixture.stage(epoch).modifiers[dataset])
        around = Around(lambda rng: self._pair(rng.randrange(first, end)), symbols, self.dotless)
        for number, modifier in modifiers:
            rng = random.Random(f"{self.seed} {epoch} {example} {number}")
            pair = modify(modifier, pair, rng, around)
        return pair

    def _pair(self, row: int) -> Pair:
        where = self.dataset.index(row)
        links = parse_links(self.text.links(where)) if self._aligned else None
        return Pair(self.text.src(where), self.text.tgt(where), links)
