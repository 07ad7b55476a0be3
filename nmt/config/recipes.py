"""Settings for a corpus of a given size: the table that ``nmt init`` chooses from.

The choice has two parts. :data:`RECIPES` has a row for each range of sentence pairs, and :data:`SIZES` the models that
the rows name. A row names several models, largest first; the time decides between them, see :meth:`Recipe.enough`.

Sources, by the letters in the rows:

a. Runs of nmt on the first 1,000, 3,000 and 10,000 and on all 29,000 pairs of Multi30k English–German, and on the demo.
   The GRU of the table had 12.7 BLEU on test_2016_flickr from 1,000 pairs (1,000 updates of 1,024 tokens, 151 s of
   processor time), 20.0 from 3,000 (1,500 updates, 225 s) and 28.0 from 10,000 (1,500 of 2,048 tokens, 391 s), all with
   dropout 0.3. On 3,000 pairs, a Transformer of width 128 with 3 + 3 layers had 16.7 BLEU in validation after 500
   updates of 2,048 tokens, the GRU 17.9 after 500 of 1,024. On 29,000 pairs, the table has the settings of
   ``configs/multi30k-transformer.yaml`` (40.4 BLEU in 58 minutes on two cores).
b. Sennrich and Zhang 2019 (Revisiting Low-Resource Neural Machine Translation): small vocabularies, small batches, high
   dropout and recurrent models for little data.
c. Gowda and May 2020 (Finding the Optimal Vocabulary Size for Neural Machine Translation, Findings of EMNLP, 352): the
   largest vocabulary of which 95 % of the subwords occur at least 100 times. About 1,000 subwords for 30,000 pairs,
   8,000 for 500,000 to 1,300,000 and 32,000 or more for 4,500,000. Rows under 100,000 pairs have more subwords, because
   the runs (a) did: a short corpus of captions repeats its words.
d. Vaswani et al. 2017, and Ott et al. 2018 (Scaling Neural Machine Translation) for large batches.
e. The usual settings of IWSLT 2014 (160,000 pairs), as in fairseq's ``transformer_iwslt_de_en``.

Sources of :data:`TUNINGS`, which continue from a trained model:

f. The runs of docs/finetuning.md: 2,000 new pairs, best after about 20 passes; 1,000 to 2,500 new pieces.
g. Luong and Manning 2015, and Freitag and Al-Onaizan 2016: a few passes over the new text at a low rate; more make the
   model forget the old text.
h. Chu et al. 2017 (mixed fine tuning): old pairs beside the new ones, in equal shares, against forgetting.
i. Miceli Barone et al. 2017: the learning rate of the first training is too high where the new text is short.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FEWEST = 200  # pairs, below which nothing is learnt that a held-out set could show
CPU_BATCH = 4096  # tokens of a batch on a CPU; larger updates accumulate batches
ENOUGH = 1 / 3  # of the updates of a row; with fewer, a smaller model learns more in the same time
WARMUP = 0.1, 100, 4000  # share of the updates, at least, at most
VALIDATIONS = 12  # in a run
FEWEST_VALIDATIONS = 4
RESERVE = 0.05, 0.25, 15.0  # share of the time for all but training, and bounds in minutes


@dataclass(frozen=True)
class Size:
    """A model, and the learning rate and the largest update that suit it.

    Attributes:
        title: what people call the model.
        model: keys of the section ``model``, without dropout.
        lr: peak learning rate of Adam with a cosine schedule.
        batch: tokens of an update on each side.
        vocab_size: the largest vocabulary, of which the output layer takes much of the time.
    """

    title: str
    model: Mapping[str, Any]
    lr: float
    batch: int
    vocab_size: int


def _transformer(title: str, width: int, inner: int, heads: int, layers: int, *more: Any) -> Size:
    depth = {"encoder_layers": layers, "decoder_layers": layers}
    return Size(title, {"type": "transformer", "d_model": width, "d_ff": inner, "num_heads": heads, **depth}, *more)


_GRU = {"type": "rnn", "d_model": 128, "d_hidden": 128, "d_attention": 128}
SIZES = {
    #                                                           rate  batch  vocabulary
    "gru": Size("a GRU of width 128 with attention", _GRU,      4e-3,  2048,  8_000),
    #                                             width inner heads layers
    "tiny": _transformer("a Transformer of width 128",  128,  512,  4, 4, 4e-3,  4096,  8_000),
    "small": _transformer("a Transformer of width 256", 256, 1024,  4, 4, 2e-3,  8192, 16_000),
    "medium": _transformer("a Transformer of width 512", 512, 1024, 4, 6, 1e-3,  8192, 32_000),
    "base": _transformer("the base Transformer",        512, 2048,  8, 6, 1e-3, 24576, 32_000),
    "big": _transformer("the big Transformer",         1024, 4096, 16, 6, 5e-4, 49152, 32_000),
}  # fmt: skip


@dataclass(frozen=True)
class Tuning:
    """What suits the fine-tuning of a trained model by the number of new pairs.

    Attributes:
        passes: over the new pairs.
        batch: tokens of an update on each side.
        pieces: ``init.extend_vocabulary`` where the vocabulary lacks many characters of the text.
        held: pairs to hold out for validation, and for a test set.
        sources: letters of the sources in the docstring of this module.
    """

    pairs: float
    passes: int
    batch: int
    pieces: int
    held: int
    sources: str


@dataclass(frozen=True)
class Recipe:
    """A row: settings for corpora of up to ``pairs`` pairs.

    Attributes:
        pairs: the most pairs that the row is for; infinite in the last row.
        vocab_size: subwords of the joint vocabulary, if the model does not take fewer.
        dropout: the names of the models in :data:`SIZES`, largest first, each with its dropout.
        label_smoothing: see ``train.label_smoothing``.
        batch: tokens of an update on each side, if that of the model is not smaller.
        steps: updates after which more bring little.
        held: pairs to hold out for validation, and for a test set.
        sources: letters of the sources in the docstring of this module.
    """

    pairs: float
    vocab_size: int
    dropout: Mapping[str, float]
    label_smoothing: float
    batch: int
    steps: int
    held: int
    sources: str

    @property
    def sizes(self) -> list[str]:
        return list(self.dropout)

    def enough(self, steps: float, size: str) -> bool:
        """Whether this number of updates is worth a model of this size. The smallest one is always worth it."""
        return steps >= ENOUGH * self.steps or size == self.sizes[-1]


# pairs, vocabulary, {model: dropout}, smoothing, batch, updates, held out, sources
RECIPES = (
    Recipe(2_000, 1_000, {"gru": 0.3}, 0.1, 1024, 1_200, 100, "ab"),
    Recipe(6_000, 2_000, {"gru": 0.3}, 0.1, 1024, 2_000, 240, "ab"),
    Recipe(20_000, 4_000, {"tiny": 0.3, "gru": 0.3}, 0.1, 4096, 4_000, 500, "ab"),
    Recipe(60_000, 8_000, {"tiny": 0.3, "gru": 0.3}, 0.1, 4096, 8_000, 500, "a"),
    Recipe(300_000, 8_000, {"medium": 0.3, "small": 0.2, "tiny": 0.1}, 0.1, 8192, 20_000, 1_000, "ce"),
    Recipe(2_000_000, 16_000, {"base": 0.2, "small": 0.1, "tiny": 0.1}, 0.1, 16384, 50_000, 2_000, "cd"),
    Recipe(8_000_000, 32_000, {"base": 0.1, "small": 0.1, "tiny": 0.1}, 0.1, 24576, 100_000, 2_000, "cd"),
    Recipe(math.inf, 32_000, {"big": 0.1, "base": 0.1, "small": 0.1, "tiny": 0.1}, 0.1, 49152, 200_000, 3_000, "cd"),
)


# pairs, passes, batch, new pieces, held out, sources
TUNINGS = (
    Tuning(6_000, 20, 1024, 500, 240, "fgi"),
    Tuning(60_000, 10, 2048, 1_000, 500, "fgi"),
    Tuning(600_000, 4, 8192, 2_000, 1_000, "gi"),
    Tuning(math.inf, 2, 16384, 4_000, 2_000, "gi"),
)
TUNED_RATE = 0.25  # of the peak of the first training; between the tenth and the half of docs/finetuning.md
EXTENDED_RATE = 0.5  # of the same, where new pieces have to be learned
USUAL_RATE = 3e-4  # peak of trainings with Marian, by its guide; for models that do not say theirs
REPLAYED = 4  # times the new pairs: with more old ones, a part held out of all pairs says little about the new ones


def tuning_for(pairs: int) -> Tuning:
    """The row for the fine-tuning on ``pairs`` pairs."""
    return next(tuning for tuning in TUNINGS if pairs <= tuning.pairs)


def recipe_for(pairs: int) -> Recipe:
    """The row for a corpus of ``pairs`` pairs."""
    return next(recipe for recipe in RECIPES if pairs <= recipe.pairs)


def vocabulary(recipe: Recipe, size: str) -> int:
    """``tokenizer.vocab_size`` for a model of this size."""
    return min(recipe.vocab_size, SIZES[size].vocab_size)


def model_settings(recipe: Recipe, size: str) -> dict[str, Any]:
    """The section ``model``."""
    return {**SIZES[size].model, "dropout": recipe.dropout[size]}


def update(recipe: Recipe, size: str, device: str, halvings: int = 0) -> dict[str, int]:
    """``batch_tokens`` and ``accumulate`` of the section ``train``.

    Args:
        device: its type; a CPU takes smaller batches.
        halvings: how often the batch is to be halved to fit into the memory of the device.
    """
    return batches(min(recipe.batch, SIZES[size].batch), device, halvings)


def batches(tokens: int, device: str, halvings: int = 0) -> dict[str, int]:
    """As :func:`update`, for updates of another number of tokens."""
    batch = min(tokens, CPU_BATCH) if device == "cpu" else tokens
    batch = max(512, batch >> halvings)
    accumulate = max(1, tokens // batch)
    return {"batch_tokens": batch, **({"accumulate": accumulate} if accumulate > 1 else {})}


def held_fraction(held: int, pairs: int) -> float:
    """The ``fraction`` of a holdout of ``pairs`` pairs: at most a tenth of them."""
    return rounded(min(0.1, held / pairs), 2)


def training_minutes(minutes: float) -> float:
    """The ``max_minutes`` of a training, of a time that corpus, tokenizer and test sets need a part of."""
    share, least, most = RESERVE
    return rounded(minutes - min(most, max(least, share * minutes)), 3)


def warmup(steps: float) -> int:
    """``schedule.warmup_steps`` of a run of ``steps`` updates."""
    share, least, most = WARMUP
    return int(rounded(min(most, max(min(least, steps / 2), share * steps)), 1))


def validate_every(steps: float, seconds_per_step: float, seconds_per_validation: float) -> int:
    """Updates between validations.

    :data:`VALIDATIONS` are usual in a run; fewer where they would take over a tenth of the time, but not fewer than
    :data:`FEWEST_VALIDATIONS`.
    """
    affordable = 10 * seconds_per_validation / seconds_per_step
    every = min(max(steps / VALIDATIONS, affordable), steps / FEWEST_VALIDATIONS)
    return max(1, int(rounded(every, 1)))


def rounded(number: float, digits: int) -> float:
    """A number rounded to ``digits`` digits."""
    return float(f"{number:.{digits}g}")
