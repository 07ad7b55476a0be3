"""The input of ``nmt translate``: a source per line, and optionally a prefix of its translations."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

from nmt.cli.streams import reading_lines
from nmt.errors import DataError
from nmt.numbers import count_of


class Prefixes:
    """The lines of a file of prefixes, one for each line of the input."""

    def __init__(self, path: str, lines: Iterable[str]):
        self.path, self.lines = path, iter(lines)

    def take(self, count: int, first_line: int, name: str) -> list[str]:
        """The next ``count`` prefixes.

        Args:
            first_line: number of the first of them.
            name: of the input.

        Raises:
            DataError: there are not so many.
        """
        found = list(islice(self.lines, count))
        if len(found) < count:
            lines = first_line - 1 + len(found)
            raise DataError(
                f"{self.path} has {count_of(lines, 'line')}, fewer than {name}; line n of one must match line n "
                "of the other"
            )
        return found

    def check(self, count: int, name: str) -> None:
        """Compare the number of prefixes with the ``count`` lines of an input that is a file.

        Raises:
            DataError: the numbers differ.
        """
        if not os.path.isfile(self.path):  # a pipe can be read only once
            return
        with reading_lines(self.path) as lines:
            found = sum(1 for _ in lines)
        if found != count:
            raise DataError(
                f"{self.path} has {count_of(found, 'line')} but {name} has {count:,}; line n of one must match line n "
                "of the other"
            )


@contextmanager
def reading_prefixes(path: str | None) -> Iterator[Prefixes | None]:
    """The prefixes of a file; None without one."""
    if path is None:
        yield None
        return
    with reading_lines(path) as lines:
        yield Prefixes(path, lines)


def check_inputs(prefix_file: str | None, jsonl: bool) -> None:
    """
    Raises:
        DataError: the options contradict each other.
    """
    if prefix_file is not None and jsonl:
        raise DataError("--prefix-file: --jsonl-input reads prefixes from the input; use only one of them")


def with_prefixes(
    blocks: Iterable[Sequence[str]], name: str, jsonl: bool, prefixes: Prefixes | None
) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    """The sources of each block of lines, and their prefixes; no prefix where none was given.

    Args:
        name: of the input.
        jsonl: whether the lines are JSON objects.
    """
    first_line = 1
    for block in blocks:
        if jsonl:
            rows = [_object(line, number, name) for number, line in enumerate(block, first_line)]
            yield [source for source, _ in rows], [prefix for _, prefix in rows]
        else:
            yield block, () if prefixes is None else prefixes.take(len(block), first_line, name)
        first_line += len(block)


def _object(line: str, number: int, name: str) -> tuple[str, str]:
    """Source and prefix of a line.

    Raises:
        DataError: the line is no such JSON object.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f'{name}:{number}: not JSON ({error}); write {{"source": "..."}} on each line') from None
    if not isinstance(row, dict) or not isinstance(row.get("source"), str):
        raise DataError(
            f'{name}:{number}: no text named source; write {{"source": "...", "prefix": "..."}} on each line'
        )
    prefix = row.get("prefix")
    if prefix is not None and not isinstance(prefix, str):
        raise DataError(f"{name}:{number}: prefix must be a string, not {json.dumps(prefix)[:40]}")
    from nmt.translation.translator import input_line

    return input_line(row["source"]), input_line(prefix or "")
