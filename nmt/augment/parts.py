"""A synthetic corpus is made block by block: a command that was killed resumes after its last whole block.

The name of a block is a hash of the settings and of its text, so that blocks of other settings never mix. Each block is
written atomically. Several processes may share the blocks of one corpus; the one that finds all of them puts the corpus
together.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from nmt.augment.output import Output, Row
from nmt.config.compare import digest
from nmt.errors import DataError
from nmt.numbers import count_of
from nmt.runtime.progress import showing
from nmt.storage.atomic import clear, write_text

log = logging.getLogger(__name__)

FORMAT = 1  # of blocks and corpora; another number means other names
BLOCK = 2000  # lines

T = TypeVar("T")


class _GoneError(Exception):
    """A block was removed while the corpus was being written."""


@dataclass
class Made:
    """The pairs of a block.

    Attributes:
        skipped: lines without a pair, by the reason.
    """

    rows: list[Row] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


class Share(NamedTuple):
    """The ``number``-th of ``of`` processes that share the blocks of a corpus."""

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str | None) -> Share:
        """
        Raises:
            DataError: the text is not ``i/n``.
        """
        if text is None:
            return cls()
        number, slash, count = text.partition("/")
        if not (slash and number.isascii() and count.isascii() and number.isdigit() and count.isdigit()):
            raise DataError(f"--shard {text}: must be i/n, such as 1/4")
        found = cls(int(number), int(count))
        if not 1 <= found.number <= found.of:
            raise DataError(f"--shard {text}: the shards of {found.of} are 1/{count} to {count}/{count}")
        return found


WHOLE = Share()


@dataclass(frozen=True)
class Result:
    """The state of a corpus after a command.

    Attributes:
        missing: blocks that other shards have still to make; 0: the corpus is whole.
        already: whether it was whole before the command.
    """

    blocks: int
    missing: int = 0
    already: bool = False
    pairs: int = 0
    lines: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)


class Maker:
    """Makes a corpus of lines.

    Args:
        settings: JSON data on which the rows depend, besides the lines.
        share: which blocks this process makes.
    """

    def __init__(self, output: Output, settings: Mapping[str, Any], share: Share = WHOLE):
        self.output, self.settings, self.share, self.size = output, dict(settings), share, BLOCK
        self.key = digest(FORMAT, self.settings, BLOCK)

    def make(self, lines: Callable[[], Iterable[T]], work: Callable[[int, Sequence[T], Progress], Made]) -> Result:
        """Make the missing blocks of this share, and the corpus if all blocks exist.

        Args:
            lines: gives the lines, JSON data, from the first; called twice.
            work: makes the rows of the lines from a number on, from 1.

        Raises:
            DataError: the output cannot be written, or is another corpus; the lines change meanwhile.
        """
        # Name the blocks
        names, count = [], 0
        for number, block in enumerate(self._blocks(lines)):
            names.append(self._name(number, block))
            count += len(block)
        if not names:
            raise DataError("the text has no lines; name another file")
        whole = digest(self.key, names)
        if (account := self.output.account(whole, self.settings)) is not None:
            return _result(account, already=True)
        # Make those that are missing
        folder = self._folder()
        mine = [number % self.share.of == self.share.number - 1 for number in range(len(names))]
        todo = [own and self._read(folder / name) is None for own, name in zip(mine, names, strict=True)]
        self._tell(names, mine, todo)
        size = sum(min(self.size, count - number * self.size) for number, do in enumerate(todo) if do)
        with self._kept(folder), showing("translating", size) as add:
            for number, block in enumerate(self._blocks(lines)):
                if number >= len(names) or self._name(number, block) != names[number]:
                    raise DataError("the text changed while it was read; run the same command again")
                if todo[number]:
                    made = work(1 + number * self.size, block, add)
                    content = {"rows": made.rows, "skipped": made.skipped}
                    write_text(folder / names[number], json.dumps(content, ensure_ascii=False))
        # Put the corpus together
        missing = sum(self._read(folder / name) is None for name in names)
        if missing and (account := self.output.account(whole, self.settings)) is None:  # no other process was faster
            return Result(len(names), missing)
        return _result(account) if missing and account else self._finish(whole, folder, names, count)

    def _blocks(self, lines: Callable[[], Iterable[T]]) -> Iterator[list[T]]:
        rest = iter(lines())
        while block := list(islice(rest, self.size)):
            yield block

    def _name(self, number: int, block: Sequence[T]) -> str:
        return f"{number:06d}-{digest(self.key, block)}.json"

    def _folder(self) -> Path:
        folder = self.output.parts
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise DataError(f"{folder}: cannot be written: {error.strerror}; name another --out") from None
        return folder

    @contextmanager
    def _kept(self, folder: Path) -> Iterator[None]:
        """If a signal ends the block, log that complete blocks are kept."""
        try:
            yield
        except KeyboardInterrupt:
            log.warning("complete blocks are kept in %s; run the same command to resume", folder)
            raise

    @staticmethod
    def _read(path: Path) -> dict[str, Any] | None:
        """A block; None where it is missing or damaged."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) and {"rows", "skipped"} <= found.keys() else None

    def _present(self, path: Path) -> dict[str, Any]:
        """
        Raises:
            _GoneError: the block is missing or damaged.
        """
        if (found := self._read(path)) is None:
            raise _GoneError(str(path))
        return found

    def _tell(self, names: Sequence[str], mine: Sequence[bool], todo: Sequence[bool]) -> None:
        done = sum(mine) - sum(todo)
        if done:
            log.info("resuming: %s of %s blocks are complete in %s", f"{done:,}", f"{sum(mine):,}", self.output.parts)
        if self.share.of > len(names):
            text = "warning: the text has %s of %s, fewer than the %d shards"
            log.warning(text, count_of(len(names), "block"), count_of(self.size, "line"), self.share.of)

    def _finish(self, whole: str, folder: Path, names: Sequence[str], lines: int) -> Result:
        """Write the corpus and its account, and remove the blocks."""
        pairs, skipped = 0, Counter[str]()
        try:
            for name in names:
                block = self._present(folder / name)
                pairs += len(block["rows"])
                skipped.update(block["skipped"])
            if not pairs:
                self._clear(folder, names)
                raise DataError(
                    f"{self.output.path}: not written, no pair of {count_of(lines, 'line')} is left ({_words(skipped)})"
                )
            account = {
                "format": FORMAT, "key": whole, "blocks": len(names), "lines": lines, "pairs": pairs,
                "skipped": dict(sorted(skipped.items())), "settings": self.settings,
            }  # fmt: skip
            self.output.write((Row(*row) for name in names for row in self._present(folder / name)["rows"]), account)
        except _GoneError as error:  # another shard has put the corpus together, and removed its blocks
            if (written := self.output.account(whole, self.settings)) is None:
                raise DataError(f"{error}: was removed meanwhile; run the same command again") from None
            return _result(written)
        self._clear(folder, names)
        return _result(account)

    @staticmethod
    def _clear(folder: Path, names: Sequence[str]) -> None:
        """Remove the blocks, and their folder if it holds no others."""
        for name in names:
            (folder / name).unlink(missing_ok=True)
            clear(folder / name)
        with suppress(OSError):
            folder.rmdir()
        if folder.exists():
            log.warning("%s: contains blocks of other settings; remove it if they are not needed", folder)


Progress = Callable[[int], object]


def _result(account: Mapping[str, Any], already: bool = False) -> Result:
    counts = {name: account[name] for name in ("blocks", "pairs", "lines", "skipped")}
    return Result(**counts, already=already)


def _words(skipped: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {why}" for why, count in sorted(skipped.items())) or "no line was skipped"


def summary(result: Result, output: Output) -> list[str]:
    """The result in words, for people."""
    if result.missing:
        total, missing = f"{result.blocks:,}", f"{result.missing:,}"
        return [
            f"{missing} of {total} blocks are left to other shards, in {output.parts}; the last one writes the corpus"
        ]
    before = "was whole already" if result.already else "written"
    lines = [f"{output.path}: {before}, {count_of(result.pairs, 'pair')} of {count_of(result.lines, 'line')}"]
    return lines + [f"  {count:>11,} skipped: {why}" for why, count in sorted(result.skipped.items())]
