"""Sources of sentence pairs: a section for each kind, read by the module of its name in :mod:`nmt.data.sources`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, Self, TypeVar, Union, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from nmt.advice import KINDS
from nmt.config.base import RESUMABLE, Section
from nmt.config.modifiers import RESERVED
from nmt.numbers import count_of

Paths = str | Annotated[list[str], Field(min_length=1)]
Files = Annotated[
    Paths,
    Field(
        description="file, or several read one after the other; its files are identified by their SHA-256",
        json_schema_extra=RESUMABLE,
    ),
]
OnBadRow = Annotated[
    Literal["error", "skip"],
    Field(description="what to do with a row that cannot be read. error: stop; skip: count, show and skip the row"),
]
# Keys of tables whose first row may name the columns.
SrcColumn = Annotated[
    int | str | None,
    Field(
        description="column of the source sentence: its number, from 0, or its heading; default: the column whose"
        " heading is the language (code, or name) or a word such as source, else the first"
    ),
]
TgtColumn = Annotated[
    int | str | None,
    Field(
        description="column of the target sentence: its number, from 0, or its heading; default: the column whose"
        " heading is the language (code, or name) or a word such as target, else the second"
    ),
]
Header = Annotated[
    bool | None,
    Field(
        description="whether the first row names the columns and is not a pair; default: true where a column is given"
        " or found by its heading, else a row that looks like a header is refused"
    ),
]
SkipRows = Annotated[
    int,
    Field(
        ge=0,
        description="number of first rows that are not read, such as titles above the header; in TSV and CSV, of lines",
    ),
]
WeightColumn = Annotated[
    int | str | None,
    Field(
        description="column of the weight of each pair in the loss, a number above 0: its number, from 0, or its"
        " heading; default: all pairs have the same weight"
    ),
]


def as_list(paths: str | list[str]) -> list[str]:
    return [paths] if isinstance(paths, str) else paths


class Table(Protocol):
    """The keys that sections of tables share."""

    @property
    def model_fields_set(self) -> set[str]: ...
    @property
    def src_column(self) -> int | str | None: ...
    @property
    def tgt_column(self) -> int | str | None: ...
    @property
    def header(self) -> bool | None: ...


TableT = TypeVar("TableT", bound=Table)


def _columns_can_be_found(table: TableT) -> TableT:
    """Refuse columns of a table that cannot be found."""
    more = (getattr(table, "weight_column", None), getattr(table, "alignment_column", None))
    columns = (table.src_column, table.tgt_column, *more)
    for column in columns:
        if isinstance(column, int) and column < 0:
            raise ValueError(f"there is no column {column}; columns are counted from 0")
    if table.header is False and any(isinstance(column, str) for column in columns):
        raise ValueError("columns by their headings need header: true; give their numbers, from 0")
    return table


def _check_tag(tag: str) -> None:
    """Refuse a tag that is no word, or that the vocabulary has already."""
    if not tag or len(tag) > 50 or any(char.isspace() or char == "\u2581" for char in tag) or not tag.isprintable():
        raise ValueError(f"a tag must be a word of 1 to 50 printable characters, not {tag!r}")
    if RESERVED.fullmatch(tag):
        raise ValueError(f"{tag} is a symbol of every vocabulary; choose another tag")


def _check_tags(tags: str | list[str]) -> str | list[str]:
    for tag in as_tags(tags):
        _check_tag(tag)
    return tags


Tags = Annotated[Paths, AfterValidator(_check_tags)]


def as_tags(tags: str | list[str] | None) -> tuple[str, ...]:
    return () if tags is None else (tags,) if isinstance(tags, str) else tuple(tags)


class SourceSection(Section):
    """A kind of source of sentence pairs: each subclass here is one, read by the module of its name in
    :mod:`nmt.data.sources`.
    """

    kind: str
    tag: Tags | None = Field(
        None,
        description="one or more symbols before each source sentence: a language, a domain, back-translation;"
        " in a list of data.train, the tag is beside the source",
    )
    references: Paths | None = Field(
        None,
        description="for a test set: one or more text files of further reference translations, one line per pair;"
        " BLEU, chrF and TER use all references",
        json_schema_extra=RESUMABLE,
    )


class AutoSource(SourceSection):
    """A file, a folder or a dataset whose kind its name tells; a source that is only a name means this kind.

    Endings of files: ``.tsv``, ``.csv``, ``.xlsx``, ``.jsonl``, ``.parquet``, ``.tmx`` and ``.zip``. The name may also
    be one of two text files that end in the language codes, what is common to their names, a folder of such files, or
    the id of a dataset of the Hugging Face hub.
    """

    kind: Literal["auto"] = Field(description="the kind is detected from the name of the file")
    path: str = Field(
        description="file, folder, or hub id (owner/name); its files are identified by their SHA-256",
        json_schema_extra=RESUMABLE,
    )
    src_column: SrcColumn = None
    tgt_column: TgtColumn = None
    header: Header = None
    skip_rows: SkipRows = 0
    name: str | None = Field(None, description="configuration of a dataset of the hub")
    split: str | None = Field(None, description="split of a dataset of the hub; default: train")
    revision: str | None = Field(None, description="commit or tag of a dataset of the hub")
    on_bad_row: OnBadRow = "error"

    _check_columns = model_validator(mode="after")(_columns_can_be_found)


class TextSource(SourceSection):
    """Parallel text files: line n of ``tgt`` is the translation of line n of ``src``. Compressed files are unpacked."""

    kind: Literal["text"] = Field(description="two files, one sentence per line")
    src: Paths = Field(
        description="source file, or several read one after the other; its files are identified by their SHA-256",
        json_schema_extra=RESUMABLE,
    )
    tgt: Paths = Field(description="target file(s), as many as in src", json_schema_extra=RESUMABLE)
    alignments: Paths | None = Field(
        None,
        description="file(s) of word alignments (0-0 1-2), line n for line n of src and tgt, for"
        " train.terms.guided_alignment and the modifier Tags",
        json_schema_extra=RESUMABLE,
    )
    on_bad_row: OnBadRow = "error"

    @model_validator(mode="after")
    def _same_number_of_files(self) -> Self:
        if len(as_list(self.src)) != len(as_list(self.tgt)):
            raise ValueError(f"src names {count_of(len(as_list(self.src)), 'file')} but tgt {len(as_list(self.tgt))}")
        if self.alignments is not None and len(as_list(self.src)) != len(as_list(self.alignments)):
            raise ValueError(
                f"src names {count_of(len(as_list(self.src)), 'file')} but alignments {len(as_list(self.alignments))}"
            )
        return self


class TsvSource(SourceSection):
    """Tab-separated files, plain or compressed; no quoting, a tab always separates."""

    kind: Literal["tsv"] = Field(description="tab-separated text")
    path: Files
    src_column: int | str = Field(0, description="column of the source sentence: its number, from 0, or its heading")
    tgt_column: int | str = Field(1, description="column of the target sentence: its number, from 0, or its heading")
    header: bool | None = Field(
        None,
        description="whether the first line names the columns and is not a pair; default: true where a column is given"
        " by its heading, else a line that looks like a header is refused",
    )
    skip_rows: SkipRows = 0
    weight_column: WeightColumn = None
    alignment_column: int | str | None = Field(
        None,
        description="column of word alignments (0-0 1-2), for train.terms.guided_alignment and the modifier Tags: its"
        " number, from 0, or heading",
    )
    on_bad_row: OnBadRow = "error"

    _check_columns = model_validator(mode="after")(_columns_can_be_found)


class CsvSource(SourceSection):
    """CSV files, plain or compressed; a cell may stand in quotation marks, and hold the delimiter or newlines then."""

    kind: Literal["csv"] = Field(description="comma-separated values (CSV), or with another delimiter")
    path: Files
    src_column: SrcColumn = None
    tgt_column: TgtColumn = None
    header: Header = None
    skip_rows: SkipRows = 0
    delimiter: str | None = Field(
        None, description="character between the cells; default: the comma, semicolon, tab or bar that fits the rows"
    )
    quotes: bool = Field(True, description="whether cells may be quoted; false: quotation marks are text")
    weight_column: WeightColumn = None
    on_bad_row: OnBadRow = "error"

    _check_columns = model_validator(mode="after")(_columns_can_be_found)

    @model_validator(mode="after")
    def _delimiter_is_a_character(self) -> Self:
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n\0'):
            raise ValueError('delimiter must be one character, and no quotation mark or newline; a tab is "\\t"')
        return self


class XlsxSource(SourceSection):
    """A sheet of Excel workbooks (XLSX). The cells are text; a cell with a formula has its stored value."""

    kind: Literal["xlsx"] = Field(description="Excel workbook; needs openpyxl (nmt-trainer[formats])")
    path: Files
    sheet: str | None = Field(None, description="name of the sheet; default: the first one")
    src_column: SrcColumn = None
    tgt_column: TgtColumn = None
    header: Header = None
    skip_rows: SkipRows = 0
    on_bad_row: OnBadRow = "error"

    _check_columns = model_validator(mode="after")(_columns_can_be_found)


class ParquetSource(SourceSection):
    """Parquet files, read in place; a column inside a structure is dotted (``translation.en``)."""

    kind: Literal["parquet"] = Field(description="Parquet files")
    path: Files
    src_column: str | None = Field(None, description="source column or key; default: the source language code")
    tgt_column: str | None = Field(None, description="target column or key; default: the target language code")
    weight_column: str | None = Field(
        None,
        description="column of the weight of each pair in the loss, above 0; default: all pairs have the same weight",
    )
    on_bad_row: OnBadRow = "error"


class TmxSource(SourceSection):
    """Translation memories (TMX), plain or compressed.

    A variant belongs to a language if its code is that of the language or of a variety (``en-US`` for ``en``). A unit
    with several variants of a language gives a pair for each combination. Inline markup (``bpt``, ``ept``, ``it``,
    ``ph``, ``ut``) is dropped with its content, and the text in ``hi`` is kept.
    """

    kind: Literal["tmx"] = Field(description="translation memory (TMX)")
    path: Files
    on_bad_row: OnBadRow = "error"


class ZipSource(SourceSection):
    """ZIP archives as OPUS publishes them: pairs of text files named by the language codes (Moses), or TMX files."""

    kind: Literal["zip"] = Field(description="ZIP archive of text files or translation memories")
    path: Files
    members: str = Field("*", description="pattern of the names of the files to read, such as */train.*")
    on_bad_row: OnBadRow = "error"


class JsonlSource(SourceSection):
    """JSON lines, plain or compressed; a key may be dotted (``translation.en``)."""

    kind: Literal["jsonl"] = Field(description="JSON lines")
    path: Files
    src_key: str | None = Field(None, description="key of the source sentence; default: the source language code")
    tgt_key: str | None = Field(None, description="key of the target sentence; default: the target language code")
    weight_key: str | None = Field(
        None, description="key of the weight of each pair in the loss, above 0; default: all pairs have the same weight"
    )
    on_bad_row: OnBadRow = "error"


class HubSource(SourceSection):
    """A dataset that ``datasets.load_dataset`` reads: a hub id, or a local folder or file of parquet, JSON or CSV.

    Both usual shapes are read: a ``translation`` column of ``{language: sentence}``, and one column per language. A key
    inside another structure is dotted (``pair.en``).
    """

    kind: Literal["hub"] = Field(description="a dataset of the Hugging Face hub, or local Parquet, JSON or CSV")
    path: str = Field(
        description="hub id (owner/name), local folder or local file, whose files are identified by their SHA-256",
        json_schema_extra=RESUMABLE,
    )
    name: str | None = Field(None, description="configuration of the dataset, such as de-en")
    split: str = Field("train", description="split, slices allowed: train[:10%]")
    revision: str | None = Field(None, description="commit or tag of the dataset; pin it to reproduce a run")
    src_column: str | None = Field(None, description="source column or key; default: the source language code")
    tgt_column: str | None = Field(None, description="target column or key; default: the target language code")
    on_bad_row: OnBadRow = "error"


class DemoSource(SourceSection):
    """A part of the built-in English–German demo corpus, generated from a synchronous grammar."""

    kind: Literal["demo"] = Field(description="the built-in demo corpus")
    part: Literal["train", "valid", "test"] = Field(description="part of the demo corpus")
    seed: int = Field(1, description="seed of the generated corpus; the same for all its parts")
    alignments: bool = Field(False, description="whether training pairs have the word alignments of the grammar")


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


def named_only(value: Any) -> Any:
    """A source that is only a name is one of ``kind: auto``. The name of a kind alone stays a mistake."""
    if not isinstance(value, str) or not value or value in KIND_NAMES or value.lower() in KINDS:
        return value
    return {"kind": "auto", "path": value}


KIND_NAMES = {get_args(section.model_fields["kind"].annotation)[0] for section in (*get_args(Source), HoldoutSource)}
_Named = BeforeValidator(named_only)
PlainSource = Annotated[Source, Field(discriminator="kind"), _Named]
HeldSource = Annotated[Source | HoldoutSource, Field(discriminator="kind"), _Named]


def has_weights(source: Any) -> bool:
    """Whether the pairs of a source have weights."""
    return getattr(source, "weight_column", None) is not None or getattr(source, "weight_key", None) is not None


def has_alignments(source: Any) -> bool:
    """Whether the pairs of a source have word alignments."""
    return getattr(source, "alignment_column", None) is not None or bool(getattr(source, "alignments", None))
