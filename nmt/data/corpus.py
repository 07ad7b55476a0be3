"""A prepared corpus: its parts as text, memory-mapped, and the manifest that describes their origin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from nmt.data.arrow import BLOCK, MappedArrow, numbers, strings, to_numpy
from nmt.data.cleaning import RULES
from nmt.data.sources.base import file_lines
from nmt.data.tagged import tagged
from nmt.errors import DataError
from nmt.numbers import count_of

SCHEMA = pa.schema([("src", pa.large_string()), ("tgt", pa.large_string())])
BESIDE = {"weight": pa.float32(), "links": pa.large_string()}  # columns that training pairs may have, too


class TextPart(Sequence[tuple[str, str]]):
    """The pairs of one part of a corpus, memory-mapped.

    Args:
        batches: the pairs of a part that is in memory instead of a file.
    """

    def __init__(self, path: Path, batches: list[pa.RecordBatch] | None = None):
        self.path = path
        self._file = MappedArrow(path) if batches is None else None
        self.batches = self._file.batches if self._file else batches or []
        self._length: int = sum(batch.num_rows for batch in self.batches)

    def __len__(self) -> int:
        return self._length

    def src(self, i: int) -> str:
        return self._cell(0, i)

    def tgt(self, i: int) -> str:
        return self._cell(1, i)

    def has(self, name: str) -> bool:
        """Whether the pairs have a column of :data:`BESIDE`."""
        return bool(self.batches) and name in self.batches[0].schema.names

    def weights(self) -> Iterator[npt.NDArray[np.float32]]:
        """The weights of the pairs, block by block."""
        number = self.batches[0].schema.get_field_index("weight")
        return (to_numpy(batch.column(number)) for batch in self.batches)

    def weight(self, i: int) -> float:
        number = self.batches[0].schema.get_field_index("weight")
        return float(to_numpy(self.batches[i >> 16].column(number))[i & (BLOCK - 1)])

    def links(self, i: int) -> str:
        """The word alignments of a pair, as they were written."""
        return self._cell(self.batches[0].schema.get_field_index("links"), i)

    def _cell(self, column: int, i: int) -> str:
        if not -self._length <= i < self._length:
            raise IndexError(f"row {i} of {self._length}")
        i %= self._length
        text: str = self.batches[i >> 16].column(column)[i & (BLOCK - 1)].as_py()
        return text

    @overload
    def __getitem__(self, i: int) -> tuple[str, str]: ...
    @overload
    def __getitem__(self, i: slice) -> list[tuple[str, str]]: ...
    def __getitem__(self, i: int | slice) -> tuple[str, str] | list[tuple[str, str]]:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(self._length))]
        return self.src(i), self.tgt(i)

    def iter_pairs(self) -> Iterator[tuple[str, str]]:
        for batch in self.batches:
            yield from zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True)

    __iter__ = iter_pairs

    def sources(self) -> list[str]:
        return [text for batch in self.batches for text in batch.column(0).to_pylist()]

    def targets(self) -> list[str]:
        return [text for batch in self.batches for text in batch.column(1).to_pylist()]

    def release(self) -> None:
        """See :meth:`nmt.data.arrow.MappedArrow.release`."""
        if self._file:
            self._file.release()


def schema_with(names: Iterable[str]) -> pa.Schema:
    """The schema of pairs with some columns of :data:`BESIDE`."""
    return pa.schema([*SCHEMA, *((name, BESIDE[name]) for name in names)])


def blocks(pairs: Iterable[tuple[str, str]], beside: Any = None, names: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
    """Pairs as record batches of :data:`nmt.data.arrow.BLOCK` rows, the last one shorter.

    Args:
        beside: has what the source of ``pairs`` has beside the last pair, as attributes of these ``names``.
    """
    pairs, schema = iter(pairs), schema_with(names)
    while True:
        src, tgt = [], []  # two lists of texts: Python's garbage collector scans a list of tuples again and again
        more: dict[str, list[Any]] = {name: [] for name in names}
        for one, other in islice(pairs, BLOCK):
            src.append(one)
            tgt.append(other)
            for name, values in more.items():
                values.append(getattr(beside, name))
        if not src:
            return
        columns = [numbers(values) if name == "weight" else strings(values) for name, values in more.items()]
        yield pa.record_batch([strings(src), strings(tgt), *columns], schema=schema)


def _share(count: int, total: int) -> str:
    return f"{count / total:.1%}" if count >= total / 1000 else "under 0.1%"


def _excerpt(text: str, most: int = 60) -> str:
    """The start of a text, quoted, without characters that would change a terminal."""
    return repr(text if len(text) <= most else text[: most - 1] + "…")


@dataclass(frozen=True)
class Corpus:
    """A prepared corpus: the parts ``train``, ``valid`` and ``test.NAME``, and a manifest of their origin.

    Attributes:
        parts: the open parts. They stay readable if the store is deleted meanwhile.
        tags: of the sources of validation and test sets, as ranges of lines; see
            :func:`nmt.data.tagged.tagged`.
        references: files of further reference translations of test sets.
    """

    path: Path
    manifest: dict[str, Any]
    parts: dict[str, TextPart] = field(default_factory=dict, compare=False)
    tags: dict[str, list[tuple[int, tuple[str, ...]]]] = field(default_factory=dict, compare=False)
    references: dict[str, list[str]] = field(default_factory=dict, compare=False)

    @property
    def key(self) -> str:
        """The name of the content: equal keys mean equal text."""
        return str(self.manifest["key"])

    @property
    def tests(self) -> list[str]:
        names = self.parts or self.manifest["sizes"]
        return [name.removeprefix("test.") for name in names if name.startswith("test.")]

    def part(self, name: str) -> TextPart:
        """The part of this name.

        Raises:
            DataError: the corpus has no such part, or its file is damaged.
        """
        if name in self.parts:
            return self.parts[name]
        if name not in self.manifest["sizes"]:
            raise DataError(f"{self.path}: no part '{name}'; it has: {', '.join(self.manifest['sizes'])}")
        return TextPart(self.path / f"{name}.arrow")

    def sources(self, part: str) -> list[str]:
        """The source sentences of a part, with their tags."""
        return tagged(self.part(part).sources(), self.tags.get(part, []))

    def further_references(self, part: str) -> list[list[str]]:
        """The further reference translations of a part, a list for each file.

        Raises:
            DataError: a file cannot be read, or has another number of lines.
        """
        found, count = [], len(self.part(part)) if part in self.references else 0
        for path in self.references.get(part, []):
            lines = list(file_lines(path))
            if len(lines) != count:
                raise DataError(
                    f"{path} has {count_of(len(lines), 'line')}, but {part} has {count_of(count, 'pair')}; line n is "
                    "of pair n"
                )
            found.append(lines)
        return found

    def datasets(self, part: str) -> dict[str, int]:
        """The datasets of a mixture, and the pairs of each in a part, in order; empty for a part of one source."""
        datasets = self.manifest.get("datasets", {})
        return {name: about["pairs"][part] for name, about in datasets.items() if part in about["pairs"]}

    def summary(self) -> str:
        """A few lines for users: the size of each part and the pairs that each cleaning rule dropped."""
        manifest = self.manifest
        sizes = manifest["sizes"] | {name: len(part) for name, part in self.parts.items()}
        width = max(map(len, [*sizes, "dropped"]))
        lines = [f"corpus {self.path}, {manifest['src_lang']} to {manifest['tgt_lang']}"]
        for name, size in sizes.items():
            lines.append(f"  {name:<{width}}  {size:>11,} pairs{self._origin(name)}")
            if name == "train":
                read = {dataset: about["read"] for dataset, about in manifest.get("datasets", {}).items()}
                kept = self.datasets(name).items()
                lines += [f"  {'':<{width}}  {count:>11,} of {one}, of {read[one]:,} read" for one, count in kept]
        dropped = [(rule, count) for rule, count in manifest["dropped"].items() if count]
        lines += [
            f"  {'dropped':<{width}}  {count:>11,} ({_share(count, manifest['read'])}) {RULES[rule]}"
            for rule, count in dropped
        ]
        if shared := manifest.get("shared"):
            what = "validation and test pairs share a very common sentence with training pairs"
            lines.append(f"  {'shared':<{width}}  {shared:>11,} {what}")
        return "\n".join(lines)

    def examples(self) -> list[str]:
        """A few lines for users: pairs that each cleaning rule dropped, shortened."""
        return [
            f"dropped by {rule}: {_excerpt(src)} | {_excerpt(tgt)}"
            for rule, pairs in self.manifest.get("examples", {}).items()
            for src, tgt in pairs
        ]

    def _origin(self, name: str) -> str:
        """Where the pairs of a part come from, and how many of them are not unique."""
        manifest = self.manifest
        known = name in manifest["sizes"]
        held = known and manifest["inputs"].get(name, [{}])[0].get("kind") == "holdout"
        text = " held out of those read" if held else f" of {manifest['read']:,} read" if name == "train" else ""
        notes = []
        if known and (count := sum(entry.get("skipped_rows", 0) for entry in manifest["inputs"].get(name, []))):
            notes.append(f"{count:,} rows skipped that cannot be read")
        if known and (count := manifest.get("repeated", {}).get(name)):
            notes.append(f"{count:,} repeat one before them")
        if known and (count := manifest.get("common", {}).get(name)):
            notes.append(f"{count:,} also in a held-out part before it")
        return text + "".join(f", {note}" for note in notes)
