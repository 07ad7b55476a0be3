"""The typed configuration: the only home of a default.

One YAML file states what differs from the defaults below; :func:`load_config` reads it, applies ``--set`` overrides and
validates the whole. Every mistake is reported with its file, line and dotted path, the value found, what is allowed
and, for an unknown key, the nearest valid one.
"""

from __future__ import annotations

import copy
import difflib
import functools
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from nmt import advice
from nmt.advice import KEYS, nearest, value_for
from nmt.errors import ConfigError

# Version of the defaults. A run keeps the version that it was started with, so that an upgrade changes no training.
DEFAULTS = 2
# What an omitted key meant under an earlier version, for each key whose default has changed since.
FORMER_DEFAULTS: dict[int, dict[str, Any]] = {
    1: {
        "search.max_length_ratio": 2.0,
        "search.max_length_offset": 10,
        "search.max_source_tokens": 512,
        "search.batch_tokens": 8192,
        "data.reading": "lenient",
        "data.cleaning.ratio": "characters",
        "data.cleaning.apart": "pairs",
        "tokenizer.normalization": "nmt_nfkc",
        "tokenizer.sampling.alpha": 0.1,
        "tokenizer.sampling.method": "line",
        "evaluation.tokenize": "13a",
        "evaluation.ter_asian_support": False,
        "train.selection": "score",
        "train.batching": "padded",
    },
}
MAX_BEAM = 1000  # hypotheses of a search
RESUMABLE: dict[str, Any] = {"resumable": True}  # marks a key that may differ when a run is resumed


class Section(BaseModel):
    """A part of the configuration: frozen, no unknown keys, no silent conversion between types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def unused(self) -> dict[str, str]:
        """Keys that have no effect beside the values of other keys of this section, each with the reason."""
        return {}


Probability = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[int, Field(gt=0)]
Paths = str | Annotated[list[str], Field(min_length=1)]


# ---------------------------------------------------------------------------------------------------------------- data


class TextSource(Section):
    """Parallel text files: line n of ``src`` goes with line n of ``tgt``. Compressed files are unpacked."""

    kind: Literal["text"] = Field(description="two files with a sentence a line")
    src: Paths = Field(
        description="source file, or several read one after the other; a run knows its files by their SHA-256",
        json_schema_extra=RESUMABLE,
    )
    tgt: Paths = Field(description="target file(s), as many as in src", json_schema_extra=RESUMABLE)

    @model_validator(mode="after")
    def _same_number_of_files(self) -> Self:
        if len(as_list(self.src)) != len(as_list(self.tgt)):
            raise ValueError(f"src names {len(as_list(self.src))} file(s) but tgt {len(as_list(self.tgt))}")
        return self


class TsvSource(Section):
    """Tab-separated files, plain or compressed; no quoting, a tab always separates."""

    kind: Literal["tsv"] = Field(description="tab-separated text")
    path: Paths = Field(
        description="file, or several read one after the other; a run knows its files by their SHA-256",
        json_schema_extra=RESUMABLE,
    )
    src_column: int | str = Field(0, description="column of the source sentence: its number, from 0, or its heading")
    tgt_column: int | str = Field(1, description="column of the target sentence: its number, from 0, or its heading")
    header: bool | None = Field(
        None,
        description="whether the first line names the columns and is no pair; default: true where a column is given by"
        " its heading, else a line that looks like a header is refused",
    )

    @model_validator(mode="after")
    def _columns_can_be_found(self) -> Self:
        for column in (self.src_column, self.tgt_column):
            if isinstance(column, int) and column < 0:
                raise ValueError(f"there is no column {column}; columns are counted from 0")
        if self.header is False and not (isinstance(self.src_column, int) and isinstance(self.tgt_column, int)):
            raise ValueError("columns by their headings need header: true; give their numbers, from 0")
        return self


class JsonlSource(Section):
    """JSON lines, plain or compressed; a key may be dotted (``translation.en``)."""

    kind: Literal["jsonl"] = Field(description="JSON lines")
    path: Paths = Field(
        description="file, or several read one after the other; a run knows its files by their SHA-256",
        json_schema_extra=RESUMABLE,
    )
    src_key: str | None = Field(None, description="key of the source sentence; default: the source language code")
    tgt_key: str | None = Field(None, description="key of the target sentence; default: the target language code")


class HubSource(Section):
    """A dataset that ``datasets.load_dataset`` reads: a hub id, or a local folder or file of parquet, JSON or CSV.

    Both usual shapes are read: a ``translation`` column holding ``{language: sentence}``, or one column a language. A
    key of another structure is dotted (``pair.en``).
    """

    kind: Literal["hub"] = Field(description="a dataset of the Hugging Face hub, or local Parquet, JSON or CSV")
    path: str = Field(
        description="hub id (owner/name), local folder or local file, whose files a run knows by their SHA-256",
        json_schema_extra=RESUMABLE,
    )
    name: str | None = Field(None, description="configuration of the dataset, such as de-en")
    split: str = Field("train", description="split, slices allowed: train[:10%]")
    revision: str | None = Field(None, description="commit or tag of the dataset; pin it to reproduce a run")
    src_column: str | None = Field(None, description="source column or key; default: the source language code")
    tgt_column: str | None = Field(None, description="target column or key; default: the target language code")


class DemoSource(Section):
    """A part of the built-in English–German demo corpus, generated from a synchronous grammar."""

    kind: Literal["demo"] = Field(description="the built-in demo corpus")
    part: Literal["train", "valid", "test"] = Field(description="part of the demo corpus")
    seed: int = Field(1, description="seed of the generated corpus; the same for all its parts")


class HoldoutSource(Section):
    """A part split off the training data by a seeded hash, so that what is held out stays so when the corpus grows.

    See ``data.cleaning.apart`` for what the part has not in common with training.
    """

    kind: Literal["holdout"] = Field(description="a part split off the training data")
    fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(description="share of the training pairs")
    seed: int = Field(1, description="seed of the hash; parts with the same seed never overlap")


TrainSource = Annotated[TextSource | TsvSource | JsonlSource | HubSource | DemoSource, Field(discriminator="kind")]
HeldSource = Annotated[
    TextSource | TsvSource | JsonlSource | HubSource | DemoSource | HoldoutSource, Field(discriminator="kind")
]


class CleaningConfig(Section):
    """Rules that drop pairs from the training part; each is counted in the manifest. Empty sides always go."""

    max_chars: Positive = Field(1000, description="drop a pair with a side of more characters")
    max_ratio: Annotated[float, Field(ge=1.0)] = Field(
        4.0,
        description="drop a pair whose longer side is more than this many times as long as the shorter"
        " (the shorter counts as at least 10 characters)",
    )
    ratio: Literal["relative", "characters"] = Field(
        "relative",
        description="lengths that max_ratio compares. relative: to the usual ratio of the two languages in this corpus,"
        " a Chinese, Japanese or Korean character counting as three; characters: as they are",
    )
    max_tokens: Positive = Field(256, description="drop a pair with a side of more subwords")
    drop_duplicates: bool = Field(True, description="keep only the first of equal pairs")
    drop_overlap: bool = Field(
        True, description="drop pairs that overlap with a validation or test set that is not a holdout, see apart"
    )
    apart: Literal["sentences", "pairs"] = Field(
        "sentences",
        description="what training and the validation and test sets have not in common. sentences: no source and no"
        " target, whatever its case, punctuation and spaces, but for very common ones; pairs: no equal pair",
    )


class DataConfig(Section):
    src_lang: Annotated[str, Field(min_length=1)] = Field("src", description="source language code")
    tgt_lang: Annotated[str, Field(min_length=1)] = Field("tgt", description="target language code")
    train: TrainSource = Field(description="training pairs")
    valid: HeldSource = Field(description="validation pairs, which choose the best checkpoint")
    test: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")], HeldSource] = Field(
        default_factory=dict,
        description="named test sets; one that is added to a run is scored, and takes no pair out of its training part",
    )
    reading: Literal["strict", "lenient"] = Field(
        "strict",
        description="strict: refuse TSV rows of another width and TSV headers that are not declared, and take each CSV"
        " cell for text; lenient: accept both, and take CSV cells such as NA or None for missing",
    )
    cleaning: CleaningConfig = Field(CleaningConfig(), description="rules that drop training pairs")
    store: str = Field(
        "data/prepared",
        description="folder of prepared corpora, shared by runs, keyed by content",
        json_schema_extra=RESUMABLE,
    )

    @model_validator(mode="after")
    def _holdouts_fit(self) -> Self:
        by_seed: dict[int, float] = {}
        for source in [self.valid, *self.test.values()]:
            if isinstance(source, HoldoutSource):
                by_seed[source.seed] = by_seed.get(source.seed, 0.0) + source.fraction
        for total in by_seed.values():
            if total >= 0.9:
                raise ValueError(f"the holdout parts take {total:.0%} of the training data; keep them under 90%")
        return self


# ----------------------------------------------------------------------------------------------------------- tokenizer


class SamplingConfig(Section):
    """Subword regularisation while training: a new segmentation at each reading (Kudo 2018; Provilkov et al. 2020)."""

    alpha: Annotated[float, Field(gt=0.0, le=1.0)] | None = Field(
        None,
        description="unigram: exponent that flattens the probabilities of the segmentations, default 0.3 (Kudo 2018"
        " uses 0.2 or 0.5 where nbest is -1); bpe: probability of skipping a merge, default 0.1",
    )
    nbest: int = Field(
        -1, description="unigram: sample among this many best segmentations; -1: among all, several times as fast"
    )
    method: Literal["batch", "line"] = Field(
        "batch",
        description="batch: draw for a whole batch at once, within its budget; line: the slower method of earlier"
        " versions, which may exceed batch_tokens and cuts at cleaning.max_tokens",
    )

    @model_validator(mode="after")
    def _nbest_is_usable(self) -> Self:
        if self.nbest != -1 and self.nbest < 2:
            raise ValueError("nbest must be -1 (all segmentations) or at least 2")
        return self

    def strength(self, kind: str) -> float:
        """``alpha``, or its default for the type of tokenizer."""
        return self.alpha if self.alpha is not None else {"unigram": 0.3, "bpe": 0.1}[kind]


Normalization = Literal["nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf", "whitespace", "identity"]
VocabSize = Annotated[int, Field(ge=8, le=1_000_000)]


class NormalizationConfig(Section):
    """How the text of each side is normalised before it is segmented.

    The target comes back as it was normalised: only ``whitespace`` and ``identity`` leave its characters alone.
    """

    src: Normalization = Field("nmt_nfkc", description="rule for the source")
    tgt: Normalization = Field("whitespace", description="rule for the target")


class VocabSizeConfig(Section):
    """A vocabulary size for each language."""

    src: VocabSize = Field(description="most pieces of the source vocabulary")
    tgt: VocabSize = Field(description="most pieces of the target vocabulary")


# One value for both languages, or a mapping with one for each. The discriminator keeps the complaint to one line.
_ONE_OR_EACH = Discriminator(lambda value: "each" if isinstance(value, dict | Section) else "one")
Normalizations = Annotated[
    Annotated[Normalization, Tag("one")] | Annotated[NormalizationConfig, Tag("each")], _ONE_OR_EACH
]
VocabSizes = Annotated[Annotated[VocabSize, Tag("one")] | Annotated[VocabSizeConfig, Tag("each")], _ONE_OR_EACH]


class TokenizerConfig(Section):
    type: Literal["unigram", "bpe", "char", "word"] = Field("unigram", description="SentencePiece model type")
    vocab_size: VocabSizes = Field(
        8000,
        description="most pieces, special ones included, lowered to what the training text can fill; with joint: false"
        " for each language, or {src: ..., tgt: ...}",
    )
    joint: bool = Field(True, description="one model for both languages, or one each")
    character_coverage: Annotated[float, Field(gt=0.9, le=1.0)] = Field(
        1.0, description="share of characters the model covers; 0.9995 for Chinese or Japanese"
    )
    byte_fallback: bool = Field(False, description="spell unknown characters in bytes instead of <unk>")
    normalization: Normalizations = Field(
        NormalizationConfig(),
        description="SentencePiece's rule for both languages, or {src: ..., tgt: ...}; _cf folds case, whitespace makes"
        " tabs and line separators spaces and removes control characters, identity changes nothing",
    )
    train_sentences: Positive = Field(
        2_000_000, description="train on a random sample of at most this many lines, and of about 60 MB of text"
    )
    sampling: SamplingConfig | None = Field(None, description="subword sampling while training; null: off")

    @model_validator(mode="after")
    def _sampling_has_a_meaning(self) -> Self:
        if self.sampling is not None and self.type not in ("unigram", "bpe"):
            raise ValueError(f"a {self.type} tokenizer has one segmentation only; sampling needs unigram or bpe")
        return self

    @model_validator(mode="after")
    def _one_size_for_one_vocabulary(self) -> Self:
        if self.joint and isinstance(self.vocab_size, VocabSizeConfig):
            raise ValueError("a joint vocabulary has one vocab_size; give one number, or set joint: false")
        return self

    def unused(self) -> dict[str, str]:
        if self.sampling is not None and self.type != "unigram":
            return {"sampling.nbest": f"a {self.type} model has no list of best segmentations; unigram has"}
        return {}

    @property
    def rules(self) -> tuple[Normalization, Normalization]:
        """The normalization of source and target."""
        if isinstance(self.normalization, NormalizationConfig):
            return self.normalization.src, self.normalization.tgt
        return self.normalization, self.normalization

    @property
    def sizes(self) -> tuple[int, int]:
        """The largest vocabulary of source and target."""
        if isinstance(self.vocab_size, VocabSizeConfig):
            return self.vocab_size.src, self.vocab_size.tgt
        return self.vocab_size, self.vocab_size


# --------------------------------------------------------------------------------------------------------------- model


TieEmbeddings = Literal["all", "decoder", "none"]
TIE_HELP = "all: source, target and output share one matrix; decoder: target and output; none: three matrices"


class RNNConfig(Section):
    """Recurrent encoder–decoder with attention (Bahdanau et al. 2015)."""

    type: Literal["rnn"] = Field(description="recurrent encoder and decoder with attention")
    cell: Literal["gru", "lstm"] = Field(
        "gru", description="gru (Cho et al. 2014) or lstm (Hochreiter and Schmidhuber 1997)"
    )
    d_model: Positive = Field(256, description="width of the embeddings and of the deep output")
    d_hidden: Positive = Field(256, description="width of the recurrent state; the encoder has it in each direction")
    encoder_layers: Positive = Field(1, description="layers of the encoder")
    decoder_layers: Positive = Field(1, description="layers of the decoder")
    residual: bool = Field(False, description="add the input of each layer above the first to its output")
    attention: Literal["additive", "general", "dot", "scaled_dot", "euclidean", "none"] = Field(
        "additive", description="score of the alignment; none squeezes the source into one vector"
    )
    d_attention: Positive = Field(256, description="width of the space in which queries and keys are compared")
    dropout: Probability = Field(0.2, description="on embeddings, between layers and on the deep output")
    tie_embeddings: TieEmbeddings = Field("decoder", description=TIE_HELP)

    @property
    def max_target_tokens(self) -> None:
        """Any number of steps can be taken."""

    def unused(self) -> dict[str, str]:
        if self.attention in ("general", "none"):
            return {"d_attention": f"attention: {self.attention} has no space of its own for queries and keys"}
        return {}


class TransformerConfig(Section):
    """Transformer encoder–decoder (Vaswani et al. 2017)."""

    type: Literal["transformer"] = Field(description="Transformer encoder and decoder")
    d_model: Positive = Field(512, description="width of the model")
    d_ff: Positive = Field(2048, description="inner width of the feed-forward layers")
    num_heads: Positive = Field(8, description="attention heads; divides d_model")
    encoder_layers: Positive = Field(6, description="layers of the encoder")
    decoder_layers: Positive = Field(6, description="layers of the decoder")
    norm: Literal["pre", "post"] = Field("pre", description="layer norm before each sublayer, or after its residual")
    activation: Literal["relu", "gelu", "swiglu"] = Field(
        "relu", description="of the feed-forward layers; swiglu has a third matrix (Shazeer 2020)"
    )
    positions: Literal["sinusoidal", "learned", "rotary"] = Field(
        "sinusoidal",
        description="sinusoidal and learned are added to the embeddings (Vaswani et al. 2017); rotary turns queries and"
        " keys of self-attention (Su et al. 2021)",
    )
    max_positions: Positive = Field(1024, description="longest sequence of learned positions")
    dropout: Probability = Field(0.1, description="on embeddings and on each sublayer's output")
    attention_dropout: Probability = Field(0.0, description="on attention weights; 0 lets fused kernels run")
    activation_dropout: Probability = Field(0.0, description="inside the feed-forward layers")
    tie_embeddings: TieEmbeddings = Field("all", description=TIE_HELP)

    @property
    def max_target_tokens(self) -> int | None:
        """The most positions the decoder has; None where any length goes."""
        return self.max_positions if self.positions == "learned" else None

    def unused(self) -> dict[str, str]:
        if self.positions != "learned":
            return {"max_positions": f"{self.positions} positions have no longest sequence; learned ones do"}
        return {}

    @model_validator(mode="after")
    def _widths_divide(self) -> Self:
        if self.d_model % self.num_heads:
            near = [h for h in range(1, self.d_model + 1) if self.d_model % h == 0]
            near = sorted(sorted(near, key=lambda h: abs(h - self.num_heads))[:3])
            raise ValueError(
                f"num_heads ({self.num_heads}) must divide d_model ({self.d_model}); near it: "
                + ", ".join(map(str, near))
            )
        if self.positions == "rotary" and (self.d_model // self.num_heads) % 2:
            raise ValueError(f"rotary positions need an even head width, not {self.d_model // self.num_heads}")
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise ValueError(f"sinusoidal positions need an even d_model, not {self.d_model}")
        return self


ModelConfig = Annotated[RNNConfig | TransformerConfig, Field(discriminator="type")]


# ------------------------------------------------------------------------------------------------------------ training


class OptimizerConfig(Section):
    name: Literal["adam", "adamw"] = Field(
        "adam",
        description="adam (Kingma and Ba 2015), or adamw with decoupled weight decay (Loshchilov and Hutter 2019)",
    )
    lr: Annotated[float, Field(gt=0.0)] = Field(1e-3, description="peak learning rate")
    betas: Annotated[list[Probability], Field(min_length=2, max_length=2)] = Field(
        [0.9, 0.98], description="decay rates of the moment estimates"
    )
    eps: Annotated[float, Field(gt=0.0)] = Field(1e-9, description="added to the denominator of the update")
    weight_decay: Annotated[float, Field(ge=0.0)] = Field(
        0.0, description="strength of weight decay, for matrices only"
    )


class ScheduleConfig(Section):
    """Learning rate over steps; each schedule starts with a linear warmup from 0 to ``optimizer.lr``."""

    name: Literal["inverse_sqrt", "cosine", "linear", "constant", "plateau"] = Field(
        "inverse_sqrt", description="shape of the learning rate after warmup"
    )
    warmup_steps: Annotated[int, Field(ge=0)] = Field(1000, description="steps of the linear rise from 0")
    total_steps: Positive | None = Field(
        None,
        description="cosine, linear: step at which the lowest rate is reached; default: train.max_steps as it is at the"
        " first start, which a later start with another train.max_steps does not change",
        json_schema_extra=RESUMABLE,
    )
    min_lr: Annotated[float, Field(ge=0.0)] = Field(0.0, description="floor of the learning rate")
    factor: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(0.5, description="plateau: what the rate is multiplied by")
    patience: Annotated[int, Field(ge=0)] = Field(2, description="plateau: validations without progress before that")

    def unused(self) -> dict[str, str]:
        owners = {"total_steps": ("cosine", "linear"), "factor": ("plateau",), "patience": ("plateau",)}
        return {
            key: f"the {self.name} schedule does not use it; {' and '.join(names)} {'do' if len(names) > 1 else 'does'}"
            for key, names in owners.items()
            if self.name not in names
        }


class TrainConfig(Section):
    batch_tokens: Positive = Field(
        4096,
        description="budget of a batch: sentences times the longest side, padding counted, stays within it, or with"
        " batching: packed the tokens of each side;"
        " each process of torchrun has batches of its own, so this is per device",
    )
    batching: Literal["auto", "padded", "packed"] = Field(
        "auto",
        description="padded: sentences of like length together, filled up to the longest; packed: sentences in random"
        " order, one after another without padding, at most batch_tokens a side; auto: packed for a Transformer on"
        " CUDA, where an update is then one CUDA graph. A run keeps what it was started with",
        json_schema_extra=RESUMABLE,
    )
    accumulate: Positive = Field(
        1,
        description="batches per update and process: N processes accumulating k make the same updates as one that"
        " accumulates N * k",
    )
    max_steps: Positive | None = Field(None, description="stop after this many updates", json_schema_extra=RESUMABLE)
    max_epochs: Positive | None = Field(
        None, description="stop after this many passes over the corpus", json_schema_extra=RESUMABLE
    )
    max_minutes: Annotated[float, Field(gt=0.0)] | None = Field(
        None,
        description="stop after this many minutes of training, validation included, restarts added up",
        json_schema_extra=RESUMABLE,
    )
    patience: Positive | None = Field(
        None, description="stop after this many validations without progress, see score", json_schema_extra=RESUMABLE
    )
    score: Literal["bleu", "chrf", "loss"] = Field(
        "bleu", description="validation score that the best checkpoint, patience and plateau go by; see selection"
    )
    selection: Literal["validated", "score"] = Field(
        "validated",
        description="validated: where score cannot tell (BLEU that rests on fewer than 10 matching 4-grams, equal"
        " scores), chrF and then the loss decide, and a mean of weights becomes the final model only if it validates"
        " better than the weights it stands for; score: by the score alone, and means of weights unseen",
        json_schema_extra=RESUMABLE,
    )
    label_smoothing: Probability = Field(
        0.1, description="probability mass spread over all subwords in the training loss (Szegedy et al. 2016)"
    )
    optimizer: OptimizerConfig = Field(OptimizerConfig(), description="optimizer and peak learning rate")
    schedule: ScheduleConfig = Field(ScheduleConfig(), description="learning rate over steps")
    clip_norm: Annotated[float, Field(gt=0.0)] | None = Field(
        1.0, description="largest gradient norm; null: no clipping"
    )
    ema_decay: Probability | None = Field(
        None,
        description="keep an exponential moving average of the weights, and validate and decode with it. The decay of"
        " step s is at most (1 + s) / (10 + s): 0.999 is reached at step 9,000",
    )
    average: Positive | None = Field(
        None,
        description="final model: mean of this many checkpoints, see average_of, or the best checkpoint where that"
        " validates better; null: the best checkpoint",
        json_schema_extra=RESUMABLE,
    )
    average_of: Literal["best", "last"] = Field(
        "last",
        description="which checkpoints train.average takes: those with the best scores, or the last ones (where the"
        " best one is not among them, it takes the place of the oldest)",
        json_schema_extra=RESUMABLE,
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 where the device multiplies matrices in it, else fp32"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="auto: cuda, else mps, else cpu", json_schema_extra=RESUMABLE
    )
    threads: Positive | None = Field(
        None, description="CPU threads of PyTorch; default: one per core", json_schema_extra=RESUMABLE
    )
    compile: bool = Field(
        False,
        description="run the model through torch.compile: slower on a CPU; on an H100 a Transformer base trained 1.3"
        " times as fast, after 40 seconds of compiling",
    )
    deterministic: bool = Field(
        False,
        description="use only PyTorch's deterministic algorithms, so that the same seed gives the same bits on CUDA"
        " (measured on an H100: under 1% slower for a Transformer base); on a CPU it always does",
        json_schema_extra=RESUMABLE,
    )
    validate_every: Positive | Literal["epoch"] = Field("epoch", description="steps between validations")
    valid_beam_size: Positive | None = Field(
        None, description="beam of the search during training; default: search.beam_size; 1 is greedy and fast"
    )
    checkpoint_every: Positive | None = Field(
        None, description="steps between checkpoints; default: one at each validation", json_schema_extra=RESUMABLE
    )
    keep_best: Positive = Field(1, description="best checkpoints kept", json_schema_extra=RESUMABLE)
    keep_last: Positive = Field(1, description="last checkpoints kept", json_schema_extra=RESUMABLE)
    on_save_error: Literal["stop", "continue"] = Field(
        "stop",
        description="when a checkpoint cannot be written (disk full): end the training, or warn and continue",
        json_schema_extra=RESUMABLE,
    )
    max_bad_steps: Positive = Field(
        10,
        description="stop after this many updates in a row were skipped because the gradient was not finite",
        json_schema_extra=RESUMABLE,
    )
    log_every: Positive = Field(50, description="steps between two lines of metrics", json_schema_extra=RESUMABLE)
    samples: Annotated[int, Field(ge=0)] = Field(
        3, description="validation sentences shown as translations and attention maps", json_schema_extra=RESUMABLE
    )

    @model_validator(mode="after")
    def _can_end(self) -> Self:
        if not (self.max_steps or self.max_epochs or self.max_minutes or self.patience):
            raise ValueError("nothing would end the training: set max_steps, max_epochs, max_minutes or patience")
        if self.schedule.name in ("cosine", "linear") and not (self.schedule.total_steps or self.max_steps):
            raise ValueError(f"a {self.schedule.name} schedule needs its end: set schedule.total_steps or max_steps")
        if self.average is not None:
            kept, key = (self.keep_best, "keep_best") if self.average_of == "best" else (self.keep_last, "keep_last")
            if kept < self.average:
                raise ValueError(f"averaging {self.average} checkpoints needs {key} of at least that, not {kept}")
        return self


# ---------------------------------------------------------------------------------------------- search and evaluation


class SearchConfig(Section):
    beam_size: Annotated[int, Field(ge=1, le=MAX_BEAM)] = Field(5, description="hypotheses kept; 1 is greedy search")
    length_penalty: Literal["gnmt", "average", "none"] = Field(
        "gnmt", description="gnmt: ((5 + length) / 6) ** alpha (Wu et al. 2016); average: length ** alpha"
    )
    alpha: Annotated[float, Field(ge=0.0)] = Field(1.0, description="strength of the length penalty")
    max_length_ratio: Annotated[float, Field(ge=0.0)] | None = Field(
        None,
        description="longest hypothesis: ratio times the source length plus max_length_offset, in subwords; default: "
        "learned from the lengths of the training pairs, at least 2 (2 if only the offset is set)",
    )
    max_length_offset: Positive | None = Field(
        None,
        description="default: learned with the ratio, at least 10 (10 if only the ratio is set)",
    )
    max_source_tokens: Positive | None = Field(
        None, description="a source with more subwords is cut, with a warning; default: data.cleaning.max_tokens"
    )
    batch_tokens: Positive | None = Field(
        None,
        description="budget of a search batch: sentences times beam times source length; default: 8192; for PyTorch on "
        "CUDA 65536, or 262144 with 40 GiB of memory or more",
    )


class EvaluationConfig(Section):
    tokenize: Literal["13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "none"] | None = Field(
        None,
        description="sacreBLEU's tokenizer for BLEU; null: the one for data.tgt_lang, as sacreBLEU's command chooses it"
        " (zh, ja-mecab, ko-mecab, else 13a), and char for other languages without spaces, such as Thai",
    )
    ter_asian_support: bool | None = Field(
        None,
        description="TER of single characters for Chinese and Japanese text (sacreBLEU's --ter-normalized"
        " --ter-asian-support); null: where the target language is Chinese, Japanese or Korean",
    )
    lowercase: bool = Field(False, description="score BLEU, chrF and TER without case")


class Config(Section):
    """One experiment."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] = Field(
        description="name of the run; default: the file name of the configuration"
    )
    runs: str = Field("runs", description="folder of the run directories", json_schema_extra=RESUMABLE)
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(1, description="seed of the weights, the batches and dropout")
    data: DataConfig = Field(description="languages, corpora and cleaning")
    tokenizer: TokenizerConfig = Field(TokenizerConfig(), description="subword vocabulary")
    model: ModelConfig = Field(description="model family and its sizes")
    train: TrainConfig = Field(description="optimization, validation and checkpoints")
    search: SearchConfig = Field(SearchConfig(), description="beam search", json_schema_extra=RESUMABLE)
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="scores", json_schema_extra=RESUMABLE)
    defaults: Annotated[int, Field(ge=1, le=DEFAULTS)] = Field(
        DEFAULTS,
        description="version of the defaults that omitted keys take; a run keeps the version it was started with",
        json_schema_extra=RESUMABLE,
    )

    @model_validator(mode="before")
    @classmethod
    def _take_former_defaults(cls, raw: Any) -> Any:
        """Fill in what omitted keys meant under the version of the defaults that ``raw`` asks for."""
        if not isinstance(raw, Mapping) or type(version := raw.get("defaults")) is not int:
            return raw
        raw = copy.deepcopy(dict(raw))
        for number in range(max(1, version), DEFAULTS):
            for key, value in FORMER_DEFAULTS[number].items():
                _put_default(raw, key.split("."), value, cls)
        return raw

    @model_validator(mode="after")
    def _keys_have_an_effect(self) -> Self:
        """Refuse a setting that another setting makes meaningless; earlier versions ignored it."""
        if self.defaults >= 2:
            for path, section, key, why in unused_keys(self):
                value = getattr(section, key)
                if value != type(section).model_fields[key].default:
                    raise ValueError(f"{path}.{key}: {json.dumps(value)} has no effect: {why}; remove it")
        return self

    @model_validator(mode="after")
    def _test_sets_have_files_of_their_names(self) -> Self:
        """Refuse test sets whose results would share a file; earlier versions let one overwrite the other."""
        seen = {"valid": "the validation set"}
        for name in self.data.test if self.defaults >= 2 else ():
            if other := seen.get(name.lower()):
                raise ValueError(f"data.test.{name}: results would have the file names of {other}; rename the test set")
            if len(name) > 100:
                raise ValueError(f"data.test.{name[:20]}...: a name of {len(name)} characters; at most 100 fit")
            seen[name.lower()] = f"data.test.{name}"
        return self

    @model_validator(mode="after")
    def _schedule_reaches_its_peak(self) -> Self:
        schedule = self.train.schedule
        if self.defaults >= 2 and schedule.total_steps is not None and schedule.total_steps < schedule.warmup_steps:
            raise ValueError(
                f"train.schedule.total_steps ({schedule.total_steps}) is under warmup_steps ({schedule.warmup_steps}): "
                "the schedule would end before its peak; raise the one or lower the other"
            )
        return self

    @model_validator(mode="after")
    def _batches_can_be_packed(self) -> Self:
        if self.train.batching == "packed" and (why := unpackable(self)) is not None:
            raise ValueError(f"train.batching: packed is not possible: {why}; use auto or padded")
        return self

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if self.model.tie_embeddings == "all" and not self.tokenizer.joint:
            raise ValueError("model.tie_embeddings: all needs one vocabulary; set tokenizer.joint: true or tie less")
        if isinstance(self.model, TransformerConfig) and self.model.positions == "learned":
            # +1: the target is fed with a begin-of-sentence symbol before it.
            longest = max(self.data.cleaning.max_tokens, self.search.max_source_tokens or 0) + 1
            if self.model.max_positions < longest:
                raise ValueError(
                    f"model.max_positions ({self.model.max_positions}) is under the longest sequence "
                    f"({longest}, from data.cleaning.max_tokens and search.max_source_tokens)"
                )
        return self

    @property
    def run_dir(self) -> Path:
        return Path(self.runs) / self.name

    def to_yaml(self, allow_unicode: bool = True) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=allow_unicode)


def unpackable(config: Config) -> str | None:
    """Why the batches of this configuration cannot be packed, on any device; None where they can."""
    sampling = config.tokenizer.sampling
    if isinstance(config.model, RNNConfig):
        return "a recurrent model steps through all sentences of a batch at once"
    if config.model.attention_dropout:
        return "attention without padding has no dropout (model.attention_dropout)"
    if sampling is not None and sampling.method == "line":
        return "tokenizer.sampling.method: line keeps no budget"
    return None


def _put_default(raw: dict[str, Any], key: Sequence[str], value: Any, model: Any) -> None:
    """Set a dotted key that is missing. A section that is off unless it is given (``tokenizer.sampling``) stays off."""
    for part in key[:-1]:
        field = model.model_fields.get(part) if model is not None else None
        if raw.get(part) is None:
            if part in raw or field is None or field.default is None:
                return
            raw[part] = {}
        raw = raw[part]
        if not isinstance(raw, dict):
            return  # a mistake, which validation explains
        model = field.annotation if field is not None and isinstance(field.annotation, type) else None
    raw.setdefault(key[-1], value)


# --------------------------------------------------------------------------------------------------- comparing settings


def sections(section: Section, path: str = "") -> Iterator[tuple[str, Section]]:
    """A section and all sections in it, each with its dotted path."""
    yield path, section
    for name in type(section).model_fields:
        value = getattr(section, name)
        inner = value.items() if isinstance(value, dict) else [("", value)]
        for key, part in inner:
            if isinstance(part, Section):
                yield from sections(part, ".".join(filter(None, (path, name, key))))


def unused_keys(config: Config) -> list[tuple[str, Section, str, str]]:
    """Keys without an effect: dotted path of the section, the section, the key, and the reason."""
    found = []
    for path, section in sections(config):
        for dotted_key, why in section.unused().items():
            *inner, key = dotted_key.split(".")  # of a section inside, whose keys depend on this one
            owner = functools.reduce(getattr, inner, section)
            found.append((".".join([path, *inner]), owner, key, why))
    return found


def _sections_of(annotation: Any) -> Iterator[type[Section]]:
    """The sections that a value of this type may be."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for inner in get_args(annotation):
        yield from _sections_of(inner)


def all_keys(model: type[Section] | None = None, path: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Each dotted key of a configuration with its field; ``*`` is a key that the user chooses.

    A key that several variants of a section have comes once for each.
    """
    for name, field in (model or Config).model_fields.items():
        yield f"{path}{name}", field
        free = ".*" if get_origin(field.annotation) is dict else ""
        for inner in _sections_of(field.annotation):
            yield from all_keys(inner, f"{path}{name}{free}.")


@cache
def _resumable_keys() -> re.Pattern[str]:
    """What matches the dotted keys, and all keys below them, that may differ when a run is resumed."""

    def walk(model: type[Section], path: str) -> Iterator[str]:
        for name, field in model.model_fields.items():
            where = f"{path}{re.escape(name)}"
            if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("resumable"):
                yield where
                continue
            free = r"\..+" if get_origin(field.annotation) is dict else ""  # keys that the user chooses
            for inner in _sections_of(field.annotation):
                yield from walk(inner, rf"{where}{free}\.")

    return re.compile(rf"(?:{'|'.join(walk(Config, ''))})(?:\..*)?")


def fixed_settings(config: Config) -> dict[str, Any]:
    """Dotted keys and values of all that must stay the same from a run's first step to its last."""
    settings = flatten(config.model_dump(mode="json", exclude={"name"}))
    unused = {f"{path}.{key}" for path, _, key, _ in unused_keys(config)}
    return {k: v for k, v in settings.items() if k not in unused and not _resumable_keys().fullmatch(k)}


def config_diff(before: Mapping[str, Any], config: Config) -> str:
    """In words, which fixed settings differ from those stored ``before``; empty where none does.

    A stored setting that may differ on resume, or has no effect, is left out. A key that ``before`` does not know was
    added to nmt later: it differs only if its value is not the default.
    """
    now = fixed_settings(config)
    unused = {f"{path}.{key}" for path, _, key, _ in unused_keys(config)}
    before = {k: v for k, v in before.items() if k not in unused and not _resumable_keys().fullmatch(k)}
    # Test sets come and go: those that both sides have are compared.
    both = {k.rpartition(".")[0] for k in before} & {k.rpartition(".")[0] for k in now}
    before, now = (
        {
            k: v
            for k, v in side.items()
            if not f"{k}.".startswith("data.test.") or k.rpartition(".")[0] in both - {"data"}
        }
        for side in (before, now)
    )
    changed = flatten(config.model_dump(mode="json", exclude_defaults=True))
    former = FORMER_DEFAULTS.get(config.defaults, {})
    added = {k for k in now.keys() - before.keys() if k not in changed or (k in former and now[k] == former[k])}
    differing = [
        f"{key} is {json.dumps(before.get(key))} in the run, {json.dumps(now.get(key))} in your configuration"
        for key in sorted((before.keys() | now.keys()) - added)
        if before.get(key) != now.get(key)
    ]
    return "; ".join(differing[:5]) + (f"; and {len(differing) - 5} more" if len(differing) > 5 else "")


# --------------------------------------------------------------------------------------------------------- reading YAML


MAX_BYTES = 1 << 20  # of a configuration file
MAX_NODES = 10_000  # values and keys of a configuration, those that aliases repeat counted each time
MAX_PROBLEMS = 20  # shown of one configuration


class _Loader(yaml.SafeLoader):
    """``yaml.safe_load`` with the scalars of YAML 1.2: ``1e-4`` is a number, ``no`` (Norwegian) is text.

    Raises:
        yaml.MarkedYAMLError: the text has more than :data:`MAX_NODES` nodes.
    """

    nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise yaml.MarkedYAMLError(problem=_TOO_MANY, problem_mark=self.peek_event().start_mark)
        return super().compose_node(parent, index)


_TOO_MANY = f"more than {MAX_NODES:,} keys and values; a configuration has a few hundred"

_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in [
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:[0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
]:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)

Key = tuple[str | int, ...]


def load_stored_yaml(path: Path) -> Any:
    """The value of a YAML file that nmt wrote, within the same bounds as a configuration.

    Raises:
        OSError, ValueError, yaml.YAMLError, RecursionError: it cannot be read.
        ConfigError: it is too large.
    """
    loader = _Loader(_read_bounded(path).decode())
    try:
        root = loader.get_single_node()
        if root is not None:
            _collect_lines(root, (), {}, str(path))
        return None if root is None else loader.construct_document(root)
    finally:
        loader.dispose()


def _read_bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path}: is larger than {MAX_BYTES:,} bytes; name a YAML file of settings")
    return content


def _read_yaml(text: str, where: str) -> tuple[Any, dict[Key, int]]:
    """Parse ``text``; return its value and the line (from 1) of every key in it."""
    try:
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            lines: dict[Key, int] = {}
            if root is not None:
                _collect_lines(root, (), lines, where)
            return (None if root is None else loader.construct_document(root)), lines
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        hint = "; indent with spaces, not tabs" if "\\t" in str(error.problem) else ""
        raise ConfigError(f"{where}{line}: not valid YAML: {error.problem or error.context}{hint}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        if reason.startswith("Exceeds the limit (4300 digits)"):
            reason = "a number has more than 4,300 digits"
        raise ConfigError(f"{where}: not valid YAML: {reason}") from None


def _collect_lines(node: yaml.Node, path: Key, lines: dict[Key, int], where: str) -> None:
    if path in lines:  # an alias that contains itself would come round again
        return
    lines[path] = node.start_mark.line + 1
    if len(path) > 32:
        raise ConfigError(f"{where}:{node.start_mark.line + 1}: nested too deeply; a configuration has few levels")
    if len(lines) > MAX_NODES:  # aliases of aliases: a few bytes stand for any number of values
        raise ConfigError(f"{where}:{node.start_mark.line + 1}: not valid YAML: {_TOO_MANY}")
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"{where}:{key.start_mark.line + 1}: a key must be a word, not a {key.id}")
            name = str(key.value)
            if name in seen and name != "<<":
                raise ConfigError(f"{where}:{key.start_mark.line + 1}: {dotted((*path, name))}: given twice; keep one")
            seen.add(name)
            _collect_lines(value, (*path, name), lines, where)
            lines[(*path, name)] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _collect_lines(value, (*path, index), lines, where)


def built_in_configs() -> dict[str, Path]:
    """The configurations that are installed with nmt, by name."""
    return {
        path.stem: path for path in sorted(Path(__file__).with_name("configs").glob("*.yaml"), key=lambda p: p.stem)
    }


def _config_path(given: str | Path) -> Path:
    """The file that ``given`` names: itself, ``configs/GIVEN.yaml`` here, or a configuration installed with nmt."""
    path = Path(given)
    if path.exists() or path.suffix or len(path.parts) != 1:
        return path
    here = Path("configs") / f"{path}.yaml"
    return here if here.is_file() else built_in_configs().get(str(path), path)


def _nearest_config(path: Path) -> str:
    """What to write instead of a path that does not exist."""
    known = built_in_configs()
    if path.stem in known:
        return f"; nmt has a built-in one of that name: {path.stem}"
    here = sorted(str(p) for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    if near := difflib.get_close_matches(str(path), [*here, *known], 1):
        return f"; did you mean {near[0]}?"
    return f"; built-in ones: {', '.join(known)}" if not path.suffix and len(path.parts) == 1 else ""


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, apply ``key.path=value`` overrides (values are YAML) and validate.

    A name without an ending, such as ``demo``, means ``configs/demo.yaml`` or the configuration installed with nmt.

    Raises:
        ConfigError: the file is missing or is not YAML, or a key, type or value is wrong; one line for each mistake.
    """
    path = _config_path(path)
    try:
        text = _read_bounded(path).decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file{_nearest_config(path)}") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; name a YAML file in it") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from None
    raw, lines = _read_yaml(text, str(path))
    if raw is None:
        raise ConfigError(f"{path}: is empty; start from a file in configs/")
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must be a mapping of keys to values, not a {_kind(raw)}")
    raw.setdefault("name", path.stem)
    places = {key: f"{path}:{line}" for key, line in lines.items()}
    for override in overrides:
        key, value = _parse_override(override)
        _apply(raw, key, value, override, places)
    return validate_config(raw, str(path), places)


def validate_config(raw: Mapping[str, Any], where: str, places: Mapping[Key, str] | None = None) -> Config:
    """Validate plain data, naming ``where`` it came from and, where known, the place of each key."""
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        paths = [_user_path(e["loc"]) for e in errors]
        # A value that fits no member of a union is reported once for each; the number's complaint says more.
        literals = {path: e["ctx"]["expected"] for path, e in zip(paths, errors, strict=True) if _is_literal(e)}
        counts = Counter(paths)
        told = [(p, e) for p, e in zip(paths, errors, strict=True) if not _is_literal(e) or counts[p] == 1]
        problems = []
        for path, details in told[:MAX_PROBLEMS]:
            other = None if _is_literal(details) else literals.get(path)
            problems.append(_explain(details, where, places or {}, f", or {other}" if other else ""))
        more = [f"{where}: {len(told) - MAX_PROBLEMS:,} more mistakes"] if len(told) > MAX_PROBLEMS else []
        raise ConfigError("\n".join([*dict.fromkeys(problems), *more])) from None
    except RecursionError:
        raise ConfigError(f"{where}: an alias contains itself") from None


def _is_literal(error: ErrorDetails) -> bool:
    return error["type"] == "literal_error"


def _parse_override(override: str) -> tuple[list[str], Any]:
    key, equals, value = override.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"--set {override}: must be key=value, such as train.max_steps=100")
    return key.split("."), _read_yaml(value, f"--set {override}")[0]


def _apply(raw: dict[str, Any], key: list[str], value: Any, override: str, places: dict[Key, str]) -> None:
    """Put ``value`` at ``key``; what it replaces, or brings with it, has its place on the command line from now on."""
    for depth, part in enumerate(key[:-1], 1):
        if part not in raw:
            places[tuple(key[:depth])] = "--set"
        raw = raw.setdefault(part, {})
        if not isinstance(raw, dict):
            raise ConfigError(f"--set {override}: {dotted(key[:depth])} is not a mapping, it has no keys")
    raw[key[-1]] = value
    for replaced in [k for k in places if list(k[: len(key)]) == key]:
        del places[replaced]
    places[tuple(key)] = "--set"


# ---------------------------------------------------------------------------------------------------- explaining errors


def dotted(path: Iterable[str | int]) -> str:
    """``("train", "betas", 0)`` as ``train.betas[0]``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".") or "(top)"


def _kind(value: Any) -> str:
    names = {dict: "mapping", list: "list", str: "text", bool: "truth value", int: "integer", float: "number"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def _show(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"a {_kind(value)}"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _explain(error: ErrorDetails, where: str, places: Mapping[Key, str], other: str = "") -> str:
    """One line for one mistake; ``other`` is what else the key would take."""
    # pydantic puts the tag of a union into the path (model.transformer.d_model); the user never wrote it.
    path = _user_path(error["loc"])
    place = next((places[path[:n]] for n in range(len(path), 0, -1) if path[:n] in places), where)
    name, kind, value, context = dotted(path), error["type"], error.get("input"), error.get("ctx", {})
    if kind == "union_tag_invalid":  # the mistake is at the tag, which has a place of its own
        tag = context["discriminator"].strip("'")
        place = places.get((*path, tag), place)
    if kind == "extra_forbidden":
        return f"{place}: {name}: unknown key; {_key_advice(error['loc'])}"
    if kind == "missing":
        return f"{place}: {name}: missing; it has no default"
    if kind == "union_tag_not_found":
        tag = context["discriminator"].strip("'")
        return f"{place}: {dotted((*path, tag))}: missing; one of: {', '.join(_tags(error['loc']))}"
    if kind == "union_tag_invalid":
        expected = _tags(error["loc"])
        near = value_for(dotted((*path, tag)), str(context["tag"]), expected)
        hint = f"did you mean {near}?" if near else f"one of: {', '.join(expected)}"
        if tag == "kind":
            hint = advice.KINDS.get(str(context["tag"]).lower(), hint)
        return f"{place}: {dotted((*path, tag))}: {_show(context['tag'])} is not known; {hint}"
    if kind == "value_error":
        return f"{place}: {name}: {context['error']}" if path else f"{place}: {context['error']}"
    if kind == "literal_error":
        expected = re.findall(r"'([^']+)'", context["expected"])
        text = json.dumps(value) if isinstance(value, bool | int) else str(value)  # false, as it was written
        near = value_for(name, text, expected)
        hint = f" (did you mean {near}?)" if near else _default_advice(value, error["loc"])
        return f"{place}: {name}: {_show(value)} is not one of {context['expected']}{hint}"
    if kind == "string_pattern_mismatch":
        return (
            f"{place}: {name}: {_show(value)} must be letters, digits, '_', '-' and '.', not starting with '.' or '-'"
        )
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"{place}: {name}: must be a mapping of keys to values, not {_article(value)}{_section_advice(error)}"
    if kind in ("too_short", "too_long"):
        bound = f"at least {context['min_length']}" if kind == "too_short" else f"at most {context['max_length']}"
        return f"{place}: {name}: must have {bound} items, not {context['actual_length']}"
    message = error["msg"].removeprefix("Input should be ").replace("a valid ", "a ").replace("a integer", "an integer")
    hint = _default_advice(value, error["loc"])
    return f"{place}: {name}: {_show(value)} ({_kind(value)}) should be {message}{other}{hint}"


def _key_advice(loc: tuple[str | int, ...]) -> str:
    """What to write instead of an unknown key, with its section."""
    *section, unknown = _user_path(loc)
    word = str(unknown)
    valid = _valid_keys(loc[:-1])
    known = dict.fromkeys(key for key, _ in all_keys())
    written = dotted((*section, unknown))
    if owners := {tag for tag, keys in _variants(loc[:-1]).items() if word in keys}:
        return f"it belongs to {' and '.join(sorted(owners))}; remove it, or start from a configuration of that type"
    # A near key of the same section, a key of another toolkit, the same key of another section, any near key.
    near = nearest(word, valid, 0.75)
    habit = KEYS.get(word.lower().replace("-", "_"))
    elsewhere = [key for key in known if key.rpartition(".")[2] == word]
    if near is None and habit is not None and habit != written:
        return f"did you mean {habit}?"
    if near is None and elsewhere:
        return f"did you mean {' or '.join(elsewhere[:3])}?"
    near = near or nearest(word, valid, 0.5)
    if near is not None:
        return f"did you mean {dotted((*section, near))}?"
    near = nearest(word, {key.rpartition(".")[2] for key in known}, 0.8)
    if near is not None:
        return f"did you mean {next(key for key in known if key.rpartition('.')[2] == near)}?"
    return "valid here: " + ", ".join(valid)


def key_for(word: str) -> str | None:
    """The dotted key that was probably meant by ``word``, a key without its section or with a wrong one."""
    known = [key for key, _ in all_keys()]
    last = word.replace("-", "_").rpartition(".")[2]
    if word in known or (word := word.replace("-", "_")) in known:
        return word
    if last.lower() in KEYS:
        return KEYS[last.lower()]
    near = next((key for key in known if key.rpartition(".")[2] == last), None)
    return near or nearest(word, known, 0.8)


def _section_advice(error: ErrorDetails) -> str:
    """For ``schedule: cosine``, the key of the section that takes such a word."""
    path, value = _user_path(error["loc"]), error.get("input")
    if not isinstance(value, str):
        return ""
    union = _schema_at(error["loc"]).get("discriminator", {}).get("propertyName")
    for tag in [union] if union else ["name", "type"]:
        if tag == "kind" and value.lower() in advice.KINDS:
            return f"; {advice.KINDS[value.lower()]}"
        allowed = _tags(error["loc"]) if union else _schema_at((*error["loc"], tag)).get("enum", [])
        if near := value_for(dotted((*path, tag)), value, allowed):
            return f"; did you mean {dotted((*path, tag))}: {near}?"
    return ""


def _default_advice(value: Any, loc: tuple[str | int, ...]) -> str:
    """For a word such as ``auto``, that leaving the key out takes the default."""
    if not isinstance(value, str) or value.lower() not in ("auto", "default"):
        return ""
    schema = _schema_at(loc)
    default = f", {json.dumps(schema['default'])}" if schema.get("default") is not None else ""
    return f"; for the default{default}, leave the key out"


def _article(value: Any) -> str:
    return f"{_show(value)} ({_kind(value)})" if not isinstance(value, dict | list | None) else _show(value)


# What pydantic puts into a path for the members of a plain union that are not sections.
_MEMBER_NAMES = (
    "str", "int", "float", "bool", "list[str]",
    "constrained-int", "constrained-float", "list[constrained-str]", "literal['epoch']", "one", "each",
)  # fmt: skip


@cache
def _schema() -> dict[str, Any]:
    return Config.model_json_schema()


def _walk(loc: tuple[str | int, ...]) -> Iterator[tuple[str | int, Any, bool]]:
    """Follow ``loc`` through the JSON schema: (part, schema below it, whether the user wrote that part)."""
    schema = _schema()
    definitions = schema.get("$defs", {})

    def resolve(node: Any) -> Any:
        while "$ref" in node:
            node = definitions[node["$ref"].rsplit("/", 1)[1]]
        return node

    node: Any = schema
    for part in loc:
        node = resolve(node)
        if "discriminator" in node and part in (mapping := node["discriminator"]["mapping"]):
            node, written = resolve({"$ref": mapping[part]}), False
        elif isinstance(part, str) and part in node.get("properties", {}):
            node, written = node["properties"][part], True
        elif part == "[key]":  # pydantic's word for "the key itself is wrong"
            written = False
        elif isinstance(values := _values(node), dict):
            node, written = values, True
        elif isinstance(part, int):
            node, written = next((o["items"] for o in [node, *node.get("anyOf", [])] if "items" in o), {}), True
        else:
            choices = [resolve(option) for option in _members(node)]
            inner = next((c for c in choices if part in c.get("properties", {})), None)
            titled = next((c for c in choices if c.get("title") == part), None)
            if inner is not None:
                node, written = inner["properties"][part], True
            elif (
                titled is not None or part in _MEMBER_NAMES
            ):  # a member of a plain union, named by its type: str, list[str], SamplingConfig
                node, written = titled or node, False
            else:
                node, written = {}, True
        yield part, resolve(node), written


def _members(union: Any) -> list[Any]:
    """The schemas of the members of a union, which has no discriminator or one that is a function."""
    found: list[Any] = union.get("anyOf") or union.get("oneOf") or []
    return found


def _values(mapping: Any) -> Any:
    """The schema of the values of a mapping with free keys."""
    return next(iter(mapping.get("patternProperties", {}).values()), mapping.get("additionalProperties"))


def _user_path(loc: tuple[str | int, ...]) -> Key:
    return tuple(part for part, _, written in _walk(loc) if written)


def _schema_at(loc: tuple[str | int, ...]) -> Any:
    node: Any = _schema()
    for _, node, _ in _walk(loc):  # noqa: B007  (the last one is wanted)
        pass
    return node


def _valid_keys(loc: tuple[str | int, ...]) -> list[str]:
    node = _schema_at(loc)
    found = list(node.get("properties", {}))
    for option in _members(node):
        if "$ref" in option:
            found += _schema()["$defs"][option["$ref"].rsplit("/", 1)[1]]["properties"]
    return found


def _variants(loc: tuple[str | int, ...]) -> dict[str, list[str]]:
    """For a section inside a union, the keys of the other variants, by ``type: NAME``."""
    if not loc:
        return {}
    union = _schema_at(loc[:-1]).get("discriminator", {})
    return {
        f"{union['propertyName']}: {tag}": list(_schema()["$defs"][ref.rsplit("/", 1)[1]]["properties"])
        for tag, ref in union.get("mapping", {}).items()
        if tag != loc[-1]
    }


def _tags(loc: tuple[str | int, ...]) -> list[str]:
    return list(_schema_at(loc).get("discriminator", {}).get("mapping", {}))


# -------------------------------------------------------------------------------------------------------------- helpers


def as_list(paths: str | list[str]) -> list[str]:
    return [paths] if isinstance(paths, str) else paths


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Nested mappings as one: ``{"train": {"seed": 1}}`` becomes ``{"train.seed": 1}``."""
    if not isinstance(value, dict) or not value:
        return {path: value}
    return {k: v for key, inner in value.items() for k, v in flatten(inner, f"{path}.{key}".lstrip(".")).items()}


def digest(value: Any, *more: Any) -> str:
    """A short stable name (16 hex digits) for plain data and configuration sections."""

    def plain(item: Any) -> Any:
        return item.model_dump(mode="json") if isinstance(item, BaseModel) else item

    text = json.dumps([plain(item) for item in (value, *more)], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def json_schema() -> dict[str, Any]:
    """The JSON schema of a configuration file, for editors. ``name`` is optional there: the file name stands in."""
    schema = Config.model_json_schema()
    schema["required"].remove("name")
    return schema
