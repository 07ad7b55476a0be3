"""The section ``data``: languages, parallel corpora, and the rules that clean them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self, Union

from pydantic import Field, model_validator

from nmt.config.base import RESUMABLE, Positive, Section

Paths = str | Annotated[list[str], Field(min_length=1)]


def as_list(paths: str | list[str]) -> list[str]:
    return [paths] if isinstance(paths, str) else paths


class SourceSection(Section):
    """A kind of source of sentence pairs: each subclass here is one, read by the module of its name in
    :mod:`nmt.data.sources`.
    """

    kind: str


class TextSource(SourceSection):
    """Parallel text files: line n of ``src`` goes with line n of ``tgt``. Compressed files are unpacked."""

    kind: Literal["text"] = Field(description="two files, one sentence per line")
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


class TsvSource(SourceSection):
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


class JsonlSource(SourceSection):
    """JSON lines, plain or compressed; a key may be dotted (``translation.en``)."""

    kind: Literal["jsonl"] = Field(description="JSON lines")
    path: Paths = Field(
        description="file, or several read one after the other; a run knows its files by their SHA-256",
        json_schema_extra=RESUMABLE,
    )
    src_key: str | None = Field(None, description="key of the source sentence; default: the source language code")
    tgt_key: str | None = Field(None, description="key of the target sentence; default: the target language code")


class HubSource(SourceSection):
    """A dataset that ``datasets.load_dataset`` reads: a hub id, or a local folder or file of parquet, JSON or CSV.

    Both usual shapes are read: a ``translation`` column of ``{language: sentence}``, and one column per language. A key
    inside another structure is dotted (``pair.en``).
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


class DemoSource(SourceSection):
    """A part of the built-in English–German demo corpus, generated from a synchronous grammar."""

    kind: Literal["demo"] = Field(description="the built-in demo corpus")
    part: Literal["train", "valid", "test"] = Field(description="part of the demo corpus")
    seed: int = Field(1, description="seed of the generated corpus; the same for all its parts")


class HoldoutSource(Section):
    """A part split off the training data by a seeded hash: a pair held out stays so when the corpus grows.

    ``data.cleaning.apart`` says what the part and the training data must not share.
    """

    kind: Literal["holdout"] = Field(description="a part split off the training data")
    fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(description="share of the training pairs")
    seed: int = Field(1, description="seed of the hash; parts with the same seed never overlap")


if TYPE_CHECKING:
    Source = SourceSection
else:
    Source = Union[tuple(SourceSection.__subclasses__())]  # noqa: UP007  (the kinds, told apart by ``kind``)
TrainSource = Annotated[Source, Field(discriminator="kind")]
HeldSource = Annotated[Source | HoldoutSource, Field(discriminator="kind")]


class CleaningConfig(Section):
    """Rules that drop pairs from the training part; the manifest counts the pairs of each rule.

    A pair with an empty side is always dropped.
    """

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
        description="what training must not share with the validation and test sets. sentences: sources and targets,"
        " whatever their case, punctuation and spaces, except very common ones; pairs: equal pairs",
    )


class DataConfig(Section):
    src_lang: Annotated[str, Field(min_length=1)] = Field("src", description="source language code")
    tgt_lang: Annotated[str, Field(min_length=1)] = Field("tgt", description="target language code")
    train: TrainSource = Field(description="training pairs")
    valid: HeldSource = Field(description="validation pairs, which choose the best checkpoint")
    test: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")], HeldSource] = Field(
        default_factory=dict,
        description="named test sets; a set added to a run later is scored, and its pairs stay in the training part",
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
