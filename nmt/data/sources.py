"""Sentence pairs from every kind of source: text, TSV and JSON lines files, datasets of the hub, the demo corpus."""

from __future__ import annotations

import itertools
import json
import logging
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from nmt.config.data import DemoSource, HubSource, JsonlSource, TextSource, TsvSource, as_list
from nmt.data.formats import not_sentences
from nmt.data.hub import hub_pairs
from nmt.data.lines import cannot_open, check_regular, lookup, one_line, open_text, read_lines
from nmt.errors import DataError

log = logging.getLogger(__name__)

Source = TextSource | TsvSource | JsonlSource | HubSource | DemoSource
Pairs = Iterator[tuple[str, str]]

SAMPLE = 20  # lines at the start of a file that tell what it holds


def read_pairs(
    source: Source, src_lang: str, tgt_lang: str, counts: dict[str, int] | None = None, lenient: bool = False
) -> Pairs:
    r"""The sentence pairs of a source, in order.

    A sentence is one line: a newline inside one (JSON and parquet allow it) becomes a space.

    Args:
        counts: filled with the number of lines of each file read to its end.
        lenient: see ``data.reading``.

    Raises:
        DataError: something is missing, unreadable or inconsistent; the message names file and line.
    """
    pairs = equal = 0
    for pair in _pairs(source, (src_lang, tgt_lang), counts, lenient):
        pairs += 1
        if pair[0] == pair[1]:
            equal += 1
        yield pair
    if pairs > 1 and equal > pairs / 2:
        log.warning(
            "warning: %s: source and target are equal in %s of %s pairs; check the files or columns that it names",
            _name(source),
            f"{equal:,}",
            f"{pairs:,}",
        )


def _pairs(source: Source, languages: tuple[str, str], counts: dict[str, int] | None, lenient: bool) -> Pairs:
    if isinstance(source, TextSource):
        for src, tgt in zip(as_list(source.src), as_list(source.tgt), strict=True):
            yield from _text_pairs(src, tgt, languages, counts, lenient)
    elif isinstance(source, TsvSource):
        for path in as_list(source.path):
            yield from _tsv_pairs(path, source, languages, counts, lenient)
    elif isinstance(source, JsonlSource):
        keys = (source.src_key or languages[0], source.tgt_key or languages[1])
        for path in as_list(source.path):
            yield from _jsonl_pairs(path, keys, counts)
    elif isinstance(source, HubSource):
        columns = (source.src_column or languages[0], source.tgt_column or languages[1])
        yield from hub_pairs(source, *columns, lenient)
    else:
        from nmt.data import demo

        for pair in demo.generate(source.seed)[source.part]:
            yield pair.src, pair.tgt


def _name(source: Source) -> str:
    if isinstance(source, TextSource):
        return f"{as_list(source.src)[0]} and {as_list(source.tgt)[0]}"
    return "the demo corpus" if isinstance(source, DemoSource) else as_list(source.path)[0]


def _file_lines(path: str, counts: dict[str, int] | None) -> Iterator[str]:
    try:
        check_regular(path, os.stat(path).st_mode)
    except OSError as error:
        raise DataError(cannot_open(path, error)) from None
    with open_text(path) as file:
        yield from read_lines(file, path, counts)


# ------------------------------------------------------------------------------------------------------- text


def _text_pairs(
    src_path: str, tgt_path: str, languages: tuple[str, str], counts: dict[str, int] | None, lenient: bool
) -> Pairs:
    src_lines, tgt_lines = (
        _looked_at(path, _file_lines(path, counts), languages, lenient) for path in (src_path, tgt_path)
    )
    for number, (src, tgt) in enumerate(itertools.zip_longest(src_lines, tgt_lines)):
        if src is None or tgt is None:
            rest = 1 + sum(1 for _ in (tgt_lines if src is None else src_lines))
            src_count, tgt_count = (number, number + rest) if src is None else (number + rest, number)
            raise DataError(
                f"{src_path} has {src_count} lines but {tgt_path} has {tgt_count}; "
                "line n of one must translate line n of the other"
            )
        if number == 0 and _like_names((src, tgt), languages):
            log.warning(
                "warning: %s:1 and %s:1 look like headings (%s, %s) and are read as a pair; delete both lines if so",
                src_path,
                tgt_path,
                src,
                tgt,
            )
        yield src, tgt


def _looked_at(path: str, lines: Iterator[str], languages: tuple[str, str], lenient: bool) -> Iterator[str]:
    """The lines, after a warning where they look like records of another kind of source.

    Raises:
        DataError: they are certain to be, and ``lenient`` is not set.
    """
    first = list(islice(lines, SAMPLE))
    if problem := not_sentences(path, first, {*_TITLES, *map(str.lower, languages)}):
        if not lenient:
            raise DataError(f"{path}: {problem}")
        log.warning("warning: %s: %s", path, problem)
        return itertools.chain(first, lines)
    if first and first[0].startswith("{") and isinstance(_json_or_none(first[0]), dict):
        log.warning("warning: %s:1: is a JSON object, read as a sentence; kind: jsonl reads JSON lines", path)
    tabs = {line.count("\t") for line in first if line.strip()}
    if len(first) > 1 and len(tabs) == 1 and tabs != {0}:
        log.warning("warning: %s: has a tab in every line, read as white space; kind: tsv reads columns", path)
    return itertools.chain(first, lines)


def _json_or_none(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


# -------------------------------------------------------------------------------------------------------- TSV


def _tsv_pairs(
    path: str, source: TsvSource, languages: tuple[str, str], counts: dict[str, int] | None, lenient: bool
) -> Pairs:
    # A blank line is passed over, as editors and concatenation leave them; one with a tab has empty cells.
    lines = (
        (number, line)
        for number, line in enumerate(_file_lines(path, counts), 1)
        if line and (not line.isspace() or "\t" in line)
    )
    first = list(islice(lines, SAMPLE))
    if not first:
        return
    rows = [line.split("\t") for _, line in first]
    where = f"{path}:{first[0][0]}"
    columns = _column_numbers(rows[0], source, where)
    header = source.header
    if header is None:
        header = isinstance(source.src_column, str) or isinstance(source.tgt_column, str)
        if not header and not lenient:
            _check_header(rows, columns, languages, where)
    yield from _cells(path, itertools.chain(first[header:], lines), columns, len(rows[0]), lenient)


def _cells(path: str, lines: Iterable[tuple[int, str]], columns: tuple[int, int], width: int, lenient: bool) -> Pairs:
    """The cells of two columns of numbered lines, all of them of one ``width``."""
    src, tgt = columns
    quoted = False
    for number, line in lines:
        cells = line.split("\t")
        if len(cells) != width and (not lenient or len(cells) <= max(src, tgt)):
            raise DataError(_other_width(path, number, len(cells), width))
        if '""' in line and not quoted and any(re.fullmatch('".*"".*"', cell) for cell in (cells[src], cells[tgt])):
            quoted = True
            log.warning("warning: %s:%d: has quotation marks as a spreadsheet sets them, kept as text", path, number)
        yield cells[src], cells[tgt]


def _column_numbers(row: list[str], source: TsvSource, where: str) -> tuple[int, int]:
    """The places of the source and the target column in a row."""
    numbers = []
    for column in (source.src_column, source.tgt_column):
        if isinstance(column, int):
            numbers.append(column)
        elif column in row:
            numbers.append(row.index(column))
        else:
            raise DataError(f"{where}: no column '{column}'; the header names: {', '.join(row)}")
    if len(row) <= max(numbers):
        advice = ""
        if len(row) == 1 and row[0].startswith("{"):
            advice = "; JSON lines are kind: jsonl"
        elif len(row) == 1 and re.search("[,;]", row[0]):
            advice = "; comma-separated files (CSV) are kind: hub"
        raise DataError(
            f"{where}: has {len(row)} tab-separated column(s), but src_column is {source.src_column} "
            f"and tgt_column {source.tgt_column}, counted from 0{advice}"
        )
    return numbers[0], numbers[1]


def _other_width(path: str, number: int, found: int, width: int) -> str:
    name = shlex.quote(path)
    return (
        f"{path}:{number}: has {found} tab-separated column(s), the lines before it {width}; correct it (a tab in a "
        f"sentence?) or drop such lines: awk -F '\\t' 'NF == {width}' {name} > {shlex.quote(path + '.clean')}"
    )


# What columns of parallel text are called: cells that are such a name as a whole, and words of longer names.
_LANGUAGES = (
    "english|german|french|spanish|italian|portuguese|dutch|polish|czech|russian|ukrainian|turkish|arabic|hebrew|"
    "persian|hindi|chinese|japanese|korean|vietnamese|thai|indonesian|swedish|danish|norwegian|finnish|hungarian|"
    "romanian|bulgarian|greek|serbian|croatian|slovak|slovenian|lithuanian|latvian|estonian"
)
_NATIVE = (
    "deutsch|français|español|italiano|português|nederlands|polski|čeština|русский|українська|türkçe|العربية|עברית|"
    "فارسی|हिन्दी|中文|日本語|한국어|ไทย|svenska|dansk|norsk|suomi|magyar|română|български|ελληνικά"
)
_TITLES = {
    *["source", "src", "target", "tgt", "trg", "input", "output", "original", "translation", "reference"],
    *_LANGUAGES.split("|"),
    *_NATIVE.split("|"),
}
_WORD = re.compile(
    "source|src|target|tgt|trg|text|sentences?|segment|string|original|translat(ion|ed)|reference|ref|input|output|lang|"
    f"language|{_LANGUAGES}"
)
_NUMBER = re.compile(r"\s*[-+]?[0-9.,]*[0-9][0-9.,]*(?:[eE][-+]?[0-9]+)?%?\s*")
_MISSING = {"n/a", "na", "nan", "none", "null", "nil", "inf", "unknown", "missing"}


def _are_names(cells: Sequence[str], languages: tuple[str, str]) -> bool:
    """Whether every cell is the name of a column as a whole, and of another one: ``source``, ``en``, ``src_text``."""
    codes = {language.lower() for language in languages}
    names = [cell.strip().lower() for cell in cells]
    return len(set(names)) > 1 and all(
        name in codes
        or name in _TITLES
        or ("_" in name and all(word in codes or _WORD.fullmatch(word) for word in name.split("_")))
        for name in names
    )


def _like_names(cells: Sequence[str], languages: tuple[str, str]) -> bool:
    """Whether different cells consist of words of which names of columns do: ``German text``, ``Sentence 2``."""
    codes = {part for language in languages for part in re.split(r"[\W_]+", language.lower())}
    words = [[word for word in re.split(r"[\W\d_]+", cell.strip().lower()) if word] for cell in cells]
    return _are_names(cells, languages) or (
        len({cell.strip().lower() for cell in cells}) > 1
        and all(parts and all(word in codes or _WORD.fullmatch(word) for word in parts) for parts in words)
    )


def _check_header(rows: list[list[str]], columns: tuple[int, int], languages: tuple[str, str], where: str) -> None:
    """Find a first row that names the columns, by its words or as the only one without a number in some columns.

    Raises:
        DataError: the names are those of two columns, or several columns hold numbers below the first row.
    """
    cells = [rows[0][column] for column in columns]
    others = [row for row in rows[1:] if len(row) == len(rows[0])]
    above_numbers = 0
    for place, cell in enumerate(rows[0]):
        if place in columns or len(others) < 3 or not all(_NUMBER.fullmatch(row[place]) for row in others):
            continue
        if _NUMBER.fullmatch(cell) or cell.strip().lower() in _MISSING or not any(map(str.isalpha, cell)):
            above_numbers = 0  # a row of numbers is no header, whatever its other cells say
            break
        above_numbers += 1
    named = ", ".join(cell[:40] for cell in rows[0])
    if _are_names(cells, languages) or above_numbers > 1:
        raise DataError(
            f"{where}: looks like a header ({named}); set header: true to leave it out, or header: false if it is a "
            "pair of sentences"
        )
    if above_numbers or _like_names(cells, languages):
        log.warning(
            "warning: %s: may be a header (%s) and is read as a pair; set header: true if it is one", where, named
        )


# ------------------------------------------------------------------------------------------------- JSON lines


def _jsonl_pairs(path: str, keys: tuple[str, str], counts: dict[str, int] | None) -> Pairs:
    first = True
    for number, line in enumerate(_file_lines(path, counts), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            advice = _one_value(path, line) if first else ""
            raise DataError(f"{where}: not valid JSON: {error.msg} (column {error.colno}){advice}") from None
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise DataError(f"{where}: not valid JSON: {reason}") from None
        if not isinstance(row, dict):
            kind = "an array" if isinstance(row, list) else "a single value"
            raise DataError(f"{where}: is {kind}, not an object with keys{_one_value(path, line) if first else ''}")
        first = False
        yield _json_text(row, keys[0], where), _json_text(row, keys[1], where)


def _one_value(path: str, line: str) -> str:
    """Advice for a file whose first line is no JSON object."""
    start = line.strip()[0]
    if start not in "[{":
        return "; tab-separated files are kind: tsv" if "\t" in line else ""
    name, query = shlex.quote(path), "'.[]'" if start == "[" else "."
    return f"; JSON lines have one object on each line, converted by: jq -c {query} {name} > {name}.jsonl"


def _json_text(row: dict[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if value is None:
        try:
            value = lookup(row, key)
        except KeyError:
            there = ", ".join(islice(_json_keys(row, ""), 20))
            raise DataError(f"{where}: no key '{key}'; there is: {there}; set src_key and tgt_key") from None
    if not isinstance(value, str):
        advice = 'write "" for an empty sentence' if value is None else "write each sentence in quotation marks"
        raise DataError(f"{where}: key '{key}' holds {json.dumps(value)[:40]}, which is not text; {advice}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        code = f"\\u{ord(value[error.start]):04x}"
        raise DataError(
            f"{where}: key '{key}' holds {code}, half of a surrogate pair and no character; remove it"
        ) from None
    if "\0" in value:
        raise DataError(f"{where}: key '{key}' holds a NUL character; remove it")
    return one_line(value)


def _json_keys(row: dict[str, Any], path: str) -> Iterator[str]:
    """The keys of an object, those of an object in it with a dot."""
    for key, value in row.items():
        if isinstance(value, dict) and value and not path:
            yield from _json_keys(value, f"{key}.")
        else:
            yield f"{path}{key}"
