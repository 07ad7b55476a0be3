"""Mixtures: which examples of which datasets each epoch reads, as a pure function of (seed, epoch).

A *pass* of a dataset reads each of its pairs once, in a shuffled order. The passes of a dataset follow one another in
a stage. Each epoch of the stage takes the next stretch of them, as long as the weights say. So an epoch may read a
pair several times, or leave it to a later epoch.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor
from typing import Any

import numpy as np
import numpy.typing as npt

from nmt.config.data import DataConfig, DatasetConfig
from nmt.config.modifiers import Modifier, NoiseModifier
from nmt.data.splits import mix
from nmt.numbers import count_of, plain

Rows = npt.NDArray[np.int64]

SEGMENT = 1 << 10  # neighbouring pairs of a large dataset that stay together in a pass
SHUFFLED = 1 << 19  # pairs of a dataset that are shuffled without segments


@dataclass(frozen=True)
class Stage:
    """A stage of the training.

    Attributes:
        shares: of the datasets; their sum is 1.
        size: pairs of an epoch.
        epochs: of the stage; None: it has no end.
        steps: updates of the stage, which is one epoch then; None: ``size`` limits its epochs.
        modifiers: of each dataset.
    """

    name: str
    shares: tuple[Fraction, ...]
    size: Fraction
    epochs: int | None
    steps: int | None
    modifiers: tuple[tuple[Modifier, ...], ...]


class Mixture:
    """The datasets of a training, one after another in its encoded part, and the stages that read them.

    An *example* is a pair as one epoch reads it: ``row + pairs * (2 * repeat + noise)``. ``repeat`` counts the passes
    since the first one that the epoch reads. ``noise`` is 1 for an additional pair, see
    :class:`nmt.config.modifiers.NoiseModifier`.

    Args:
        starts: row at which each dataset begins, and the end of the last one.
    """

    def __init__(self, starts: Sequence[int], stages: Sequence[Stage], seed: int):
        self.starts, self.stages, self.seed = np.array(starts, np.int64), tuple(stages), seed
        self.sizes = np.diff(self.starts).tolist()
        self.pairs = int(self.starts[-1])

    @classmethod
    def of(cls, data: DataConfig, starts: Sequence[int], seed: int) -> Mixture:
        """The mixture of a configuration, whose datasets begin at the rows ``starts``."""
        return cls(starts, stages_of(data, np.diff(starts).tolist()), seed)

    def locate(self, epoch: int) -> tuple[int, int]:
        """The number of the stage of an epoch, and of the epoch in the stage."""
        for number, stage in enumerate(self.stages[:-1]):
            if epoch < (stage.epochs or 1):
                return number, epoch
            epoch -= stage.epochs or 1
        return len(self.stages) - 1, epoch

    def stage(self, epoch: int) -> Stage:
        return self.stages[self.locate(epoch)[0]]

    def described(self, names: Sequence[str]) -> list[str]:
        """One line for each stage, with the shares of the datasets of these names."""
        lines = []
        for stage in self.stages:
            shares = [f"{plain(float(share))} {name}" for name, share in zip(names, stage.shares, strict=True) if share]
            epochs = count_of(stage.epochs, "epoch") if stage.epochs else ""
            length = count_of(stage.steps, "step") if stage.steps else epochs
            about = ", ".join(filter(None, [stage.name and f"stage {stage.name}", length]))
            lines.append(f"{about}: {', '.join(shares)}" if about else ", ".join(shares))
        return lines

    @property
    def begins(self) -> list[tuple[str, int]]:
        """The name and the first epoch of each stage."""
        firsts = itertools.accumulate((stage.epochs or 1 for stage in self.stages[:-1]), initial=0)
        return [(stage.name, first) for stage, first in zip(self.stages, firsts, strict=True)]

    @property
    def epochs(self) -> int | None:
        """Epochs until the last stage ends; None where it has no end."""
        last = self.stages[-1]
        if last.epochs is None and last.steps is None:
            return None
        return sum(stage.epochs or 1 for stage in self.stages)

    def rows(self, examples: Rows) -> Rows:
        """The rows of examples [N]."""
        return examples % self.pairs

    def datasets(self, examples: Rows) -> npt.NDArray[np.intp]:
        """The number of the dataset of each example [N]."""
        return np.searchsorted(self.starts, self.rows(examples), side="right") - 1

    def noise(self, examples: Rows) -> npt.NDArray[np.bool_]:
        """Whether each example [N] is an additional pair."""
        return (examples // self.pairs) % 2 == 1

    def examples(self, epoch: int, part: int, parts: int) -> Rows:
        """The examples of one of ``parts`` equal parts of an epoch, dataset by dataset.

        Args:
            part: from 0; in a stage with a number of steps, whose epoch has no other end, also above ``parts``.
        """
        number, within = self.locate(epoch)
        stage = self.stages[number]
        found = []
        for dataset, (size, share) in enumerate(zip(self.sizes, stage.shares, strict=True)):
            each = stage.size * share  # pairs of the dataset in an epoch
            first, start, end = (floor(each * (within + Fraction(n, parts))) for n in (0, part, part + 1))
            while start < end:
                turn = start // size
                stop = min(end, (turn + 1) * size)
                rows = self._pass(number, dataset, turn, start - turn * size, stop - turn * size)
                found.append(rows + self.pairs * 2 * (turn - first // size))
                start = stop
        examples = np.concatenate(found) if found else np.zeros(0, np.int64)
        return self._with_noise(stage, examples, epoch)

    def _pass(self, stage: int, dataset: int, turn: int, start: int, stop: int) -> Rows:
        """The rows from ``start`` to before ``stop`` of a pass of a dataset."""
        size, first = self.sizes[dataset], int(self.starts[dataset])
        if size <= SHUFFLED:
            return first + _permutation((self.seed, stage, dataset, turn), size)[start:stop]
        segments = _permutation((self.seed, stage, dataset, turn), -(-size // SEGMENT))
        lengths = np.minimum(SEGMENT, size - segments * SEGMENT)
        ends = np.cumsum(lengths)
        chosen = range(int(np.searchsorted(ends, start, side="right")), int(np.searchsorted(ends, stop)) + 1)
        rows = np.concatenate([np.arange(lengths[i]) + segments[i] * SEGMENT for i in chosen])
        skipped = start - int(ends[chosen[0]] - lengths[chosen[0]])
        return first + rows[skipped : skipped + stop - start]

    def _with_noise(self, stage: Stage, examples: Rows, epoch: int) -> Rows:
        """The examples, and the additional ones of modifiers."""
        found = [examples]
        datasets = self.datasets(examples)
        for dataset, modifiers in enumerate(stage.modifiers):
            for number, modifier in enumerate(modifiers):
                if isinstance(modifier, NoiseModifier):
                    here = examples[datasets == dataset]
                    found.append(here[chosen(here, self.seed, epoch, number, modifier.probability)] + self.pairs)
        return np.concatenate(found)


def chosen(
    examples: Rows, seed: int, epoch: int, modifier: int, probability: float | npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Whether a modifier, by its number, changes each of the examples [N] in an epoch.

    Args:
        probability: of all examples, or of each [N].
    """
    return mix(examples.astype(np.uint64), (seed << 96) + (epoch << 32) + modifier) < probability


@lru_cache(maxsize=8)
def _permutation(entropy: tuple[int, ...], size: int) -> Rows:
    return np.random.default_rng(list(entropy)).permutation(size)


def stages_of(data: DataConfig, sizes: Sequence[int]) -> list[Stage]:
    """The stages of a configuration, for datasets of these sizes; one without end where it names none."""
    datasets = data.datasets
    own = tuple(tuple(dataset.modifiers) for dataset in datasets)
    if not data.stages:
        shares = _shares([_weight(dataset, size) for dataset, size in zip(datasets, sizes, strict=True)])
        return [Stage("", shares, Fraction(sum(sizes)), None, None, own)]
    found = []
    for stage in data.stages:
        shares = _shares([Fraction(repr(stage.weights.get(dataset.name, 0.0))) for dataset in datasets])
        size = Fraction(sum(itertools.compress(sizes, shares)))
        for dataset, pairs, share in zip(datasets, sizes, shares, strict=True):
            if dataset.name == stage.epoch_of:
                size = pairs / share
        modifiers = own if stage.modifiers is None else tuple(tuple(stage.modifiers) for _ in datasets)
        found.append(Stage(stage.name, shares, size, stage.epochs, stage.steps, modifiers))
    return found


def _weight(dataset: DatasetConfig, size: int) -> Fraction:
    if dataset.weight is not None:
        return Fraction(repr(dataset.weight))
    if dataset.temperature in (None, 1.0):
        return Fraction(size)
    # Twelve digits: the last ones of a power depend on the machine.
    return Fraction(f"{size ** (1 / dataset.temperature):.12g}")


def _shares(weights: Sequence[Fraction]) -> tuple[Fraction, ...]:
    return tuple(weight / sum(weights) for weight in weights)


def parts_of(size: Fraction, pool: int) -> int:
    """The number of equal parts of an epoch, of at most ``pool`` pairs each."""
    return max(1, ceil(size / pool))


def first_rows(dataset: Any, counts: Sequence[int]) -> list[int]:
    """Rows of an encoded part at which its datasets begin, and the end of the last one.

    Args:
        dataset: the encoded part, see :class:`nmt.data.encoded.ParallelDataset`.
        counts: pairs of each dataset in the part before it was encoded.
    """
    return [dataset.before(end) for end in (0, *itertools.accumulate(counts))]
