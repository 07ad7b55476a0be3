"""Columns of text in Arrow tables: by name, by a dotted path into structures, or by a key in ``translation``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from nmt.data.lines import MAX_LINE
from nmt.data.sources.base import BadRows, Pairs, lookup, one_line
from nmt.data.sources.headings import columns
from nmt.data.sources.table import tell_columns
from nmt.errors import DataError, SettingsError


def texts(
    table: pa.Table,
    column: str,
    path: str,
    part: str,
    row: int,
    advice: str,
    bad: Callable[[int, str], None] | None = None,
) -> list[str | None]:
    """The cells of a column of text.

    Args:
        path, part: name of the file or the dataset, and of the part of it, for messages.
        row: number of earlier rows.
        advice: for a column that is missing or no text.
        bad: called with the place in the table and the problem of a cell that cannot be read, which is None then.
            Default: it is an error.

    Raises:
        DataError: no such column, or a cell cannot be read.
    """
    import pyarrow.compute as pc  # not at the top: other sources start without it

    found = _column(table, column, path, advice)
    where = f"{path}: column '{column}', rows {row + 1} to {row + table.num_rows}{part}:"
    longest = pc.max(pc.binary_length(found)).as_py()
    if longest is not None and longest > MAX_LINE:
        raise DataError(f"{where} a cell is longer than {MAX_LINE >> 20} MiB; a cell has one sentence: split it")
    try:
        cells: list[str | None] = found.to_pylist()
    except UnicodeDecodeError:
        if bad is None:
            raise DataError(f"{where} a cell is not valid UTF-8; write the dataset again from text in UTF-8") from None
        cells = []
        for place, cell in enumerate(found):
            try:
                cells.append(cell.as_py())
            except UnicodeDecodeError:
                bad(place, f"{path}: column '{column}', row {row + place + 1}{part}: is not valid UTF-8")
                cells.append(None)
    return cells


def table_pairs(
    table: pa.Table,
    columns: tuple[str, str],
    name: str,
    part: str,
    row: int,
    advice: str,
    bad: BadRows,
    before: Callable[[int], None] | None = None,
) -> Pairs:
    """The pairs of a table; the arguments are those of :func:`texts`. An empty (null) cell is an empty sentence.

    Args:
        before: called with the place of a pair in the table before the pair is yielded; may raise a DataError.

    Raises:
        DataError: no such column, or a row cannot be read and is not to be skipped.
    """
    unreadable: set[int] = set()

    def note(place: int, problem: str) -> None:
        if place not in unreadable:
            bad(problem)
        unreadable.add(place)

    sides = [texts(table, column, name, part, row, advice, note if bad.skip else None) for column in columns]
    for place, (src, tgt) in enumerate(zip(*sides, strict=True)):
        if place in unreadable:
            continue
        src, tgt = src or "", tgt or ""
        if before is not None:
            try:
                before(place)
            except DataError as error:
                bad(str(error))
                continue
        if "\0" in src or "\0" in tgt:
            bad(f"{name}: row {row + place + 1}{part} contains a NUL character; remove it")
        else:
            yield one_line(src), one_line(tgt)


def find_column(schema: pa.Schema, column: str, name: str, advice: str) -> tuple[str, ...]:
    """The path of a column through structures, from the name of a column of the table.

    Raises:
        DataError: no such column.
    """
    tree = _tree(schema, ())
    path: Any = None
    for key in (column, f"translation.{column}"):
        try:
            path = lookup(tree, key)
            break
        except KeyError:
            pass
    if path is None:
        there = ", ".join(_names(schema))
        raise SettingsError(f"{name}: no column '{column}'; there is: {there}; {advice}")
    if isinstance(path, Mapping):
        inner = ", ".join(f"{column}.{name}" for name in path)
        raise DataError(f"{name}: column '{column}' contains several texts; name one: {inner}")
    found: tuple[str, ...] = path
    return found


def choose_columns(
    schema: pa.Schema, given: tuple[str | None, str | None], languages: tuple[str, str], name: str
) -> tuple[str, str]:
    """The columns of source and target, by the schema where the configuration names none."""
    if given == (None, None):
        leaves = [".".join(path) for path in _leaves(_tree(schema, ()))]
        translation = [leaf.removeprefix("translation.") for leaf in leaves]
        if not set(languages) <= set(translation):
            src, tgt = columns(leaves, languages)
            if src and tgt:
                tell_columns(name, (src, tgt), languages)
                return src, tgt
    return given[0] or languages[0], given[1] or languages[1]


def cells(table: pa.Table, column: str, name: str, advice: str) -> list[Any]:
    """The cells of a column of any type.

    Raises:
        DataError: no such column.
    """
    found: list[Any] = _any_column(table, column, name, advice).to_pylist()
    return found


def _any_column(table: pa.Table, column: str, name: str, advice: str) -> pa.ChunkedArray:
    import pyarrow.compute as pc

    path = find_column(table.schema, column, name, advice)
    found = table[path[0]]
    for part in path[1:]:
        found = pc.struct_field(found, part)
    if pa.types.is_dictionary(found.type):
        found = found.cast(found.type.value_type)
    return found


def _column(table: pa.Table, column: str, name: str, advice: str) -> pa.ChunkedArray:
    found = _any_column(table, column, name, advice)
    if not (pa.types.is_string(found.type) or pa.types.is_large_string(found.type)):
        raise DataError(f"{name}: column '{column}' is of type {found.type}, not text; {advice}")
    return found


def _tree(fields: Any, path: tuple[str, ...]) -> dict[str, Any]:
    """The columns by name, nested like structures. A leaf is its path."""
    return {
        field.name: _tree(field.type, (*path, field.name)) if pa.types.is_struct(field.type) else (*path, field.name)
        for field in fields
    }


def _leaves(tree: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for value in tree.values():
        if isinstance(value, Mapping):
            yield from _leaves(value)
        else:
            yield value


def _names(schema: pa.Schema) -> list[str]:
    """The names of the columns for a message, in the form in which they can be set."""
    names = []
    for field in schema:
        inner = [one.name for one in field.type] if pa.types.is_struct(field.type) else []
        if field.name == "translation" and inner:
            names.append(f"translation ({', '.join(inner)})")
        else:
            names += [f"{field.name}.{name}" for name in inner] or [field.name]
    return names
