"""From any source of text to a clean parallel corpus on disk.

:func:`prepare_corpus` reads the pairs of its sources (:mod:`nmt.data.sources`), cleans them, splits off held-out
parts and writes all of it, with a manifest, into a folder of the store that is named by its content: the same
configuration and the same files find the same folder and do no work twice. :class:`Corpus` gives the text
back memory-mapped.
"""

from __future__ import annotations

import itertools
import json
import logging
import mmap
import os
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from nmt import __version__
from nmt.config import (
    CleaningConfig,
    DataConfig,
    DemoSource,
    HoldoutSource,
    HubSource,
    JsonlSource,
    TextSource,
    TsvSource,
    as_list,
    digest,
)
from nmt.data.sources import Pairs, Source, cannot_open, load_hub, read_pairs
from nmt.errors import DataError
from nmt.files import build_once, sha256, write_json

log = logging.getLogger(__name__)

FORMAT = 1  # of the prepared folder; another number means another key
BLOCK = 1 << 16  # rows of a record batch: row i is in batch i >> 16
SMALL_FILE = 16 << 20  # bytes of a mapped file that may stay in memory
SCHEMA = pa.schema([("src", pa.large_string()), ("tgt", pa.large_string())])
RULES = {
    "empty": "a side is empty",
    "too_long": "a side is longer than cleaning.max_chars",
    "ratio": "one side is too much longer than the other (cleaning.max_ratio)",
    "duplicate": "the pair has been seen before",
    "overlap": "the pair is also in the validation or a test set",
}

Hashes = npt.NDArray[np.uint64]


# ------------------------------------------------------------------------------------------- prepared folders


class _FileHashes:
    """SHA-256 of files, remembered in the store by (path, size, modification time)."""

    def __init__(self, store: Path):
        self.path = store / "file-hashes.json"
        try:
            self.known: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.known = {}
        self.changed = False

    def entry(self, path: str) -> dict[str, Any]:
        """Path, size in bytes and SHA-256 of a file."""
        try:
            stat = os.stat(path)
            stamp = [stat.st_size, stat.st_mtime_ns]
            name = os.path.abspath(path)
            old = self.known.get(name)
            if isinstance(old, list) and old[:2] == stamp:
                found = old[2]
            else:
                found = sha256(Path(path))
                # A file as young as the clock's grain may change without a new time: not remembered yet.
                if time.time_ns() - stat.st_mtime_ns > 2 * 10**9:
                    self.known[name], self.changed = [*stamp, found], True
        except OSError as error:
            raise DataError(cannot_open(path, error)) from None
        return {"path": path, "bytes": stat.st_size, "sha256": found}

    def save(self) -> None:
        if self.changed:
            with suppress(OSError):  # a store that can only be read is still good for what it holds
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_json(self.path, self.known)


def _describe(source: Source | HoldoutSource, hashes: _FileHashes) -> list[dict[str, Any]]:
    """What a source consists of: an entry for each file, or one for all of a source that has none."""
    if isinstance(source, TextSource):
        return [hashes.entry(path) for path in [*as_list(source.src), *as_list(source.tgt)]]
    if isinstance(source, TsvSource | JsonlSource):
        return [hashes.entry(path) for path in as_list(source.path)]
    entry = source.model_dump(mode="json")
    if isinstance(source, DemoSource):  # its content is that of the grammar: another version makes another corpus
        files = sorted(Path(__file__).with_name("demo").glob("*.py"))
        return [{**entry, "grammar": digest([sha256(file) for file in files])}]
    if not isinstance(source, HubSource):
        return [entry]
    if os.path.isdir(source.path):
        files = sorted(p for p in Path(source.path).rglob("*") if p.is_file() and not p.name.startswith("."))
        return [entry, *(hashes.entry(str(path)) for path in files)]
    pinned = source.revision is not None and len(source.revision) == 40
    # A commit cannot change, so a prepared corpus of one is found again without the hub.
    return [entry if pinned else {**entry, "fingerprint": load_hub(source)._fingerprint}]


# ---------------------------------------------------------------------------------------------------- reading


class TextPart(Sequence[tuple[str, str]]):
    """The pairs of one part of a corpus, memory-mapped."""

    def __init__(self, path: Path):
        self.path = path
        self._file = MappedArrow(path)
        self.batches = self._file.batches
        self._length: int = sum(batch.num_rows for batch in self.batches)

    def __len__(self) -> int:
        return self._length

    def src(self, i: int) -> str:
        return self._cell(0, i)

    def tgt(self, i: int) -> str:
        return self._cell(1, i)

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

    def iter_pairs(self) -> Pairs:
        for batch in self.batches:
            yield from zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True)

    __iter__ = iter_pairs

    def sources(self) -> list[str]:
        return [text for batch in self.batches for text in batch.column(0).to_pylist()]

    def targets(self) -> list[str]:
        return [text for batch in self.batches for text in batch.column(1).to_pylist()]

    def release(self) -> None:
        """See :meth:`MappedArrow.release`."""
        self._file.release()


class MappedArrow:
    """The record batches of an Arrow file, memory-mapped.

    Raises:
        DataError: it is missing or damaged.
    """

    def __init__(self, path: Path):
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            reader = pa.ipc.open_file(pa.py_buffer(self._map))
            self.batches: list[pa.RecordBatch] = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        except (pa.ArrowInvalid, OSError, ValueError) as error:  # ValueError: an empty file has nothing to map
            reason = "is missing" if isinstance(error, FileNotFoundError) else "is damaged"
            raise DataError(f"{path}: {reason}; delete the folder {path.parent} to have it made anew") from None
        self.release()

    def release(self) -> None:
        """Take the pages read so far out of this process's memory; the system's cache of the file keeps them.

        Every page touched stays resident otherwise, with its neighbours: a few hundred batches of scattered rows, and
        the whole file is. A small file may be; what is read stays valid either way.
        """
        if len(self._map) > SMALL_FILE:
            self._map.madvise(mmap.MADV_DONTNEED)


def read_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The record batches of an Arrow file just written or checked, one in memory at a time.

    For a walk through all of a large file: mapped, its pages would stay in memory until others need the room.
    """
    with pa.OSFile(str(path)) as file:
        reader = pa.ipc.open_file(file)
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a prepared folder.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else "is damaged"
        path = folder / "manifest.json"
        raise DataError(f"{path}: {reason}; delete the folder {folder} to have it made anew") from None
    return manifest


@dataclass(frozen=True)
class Corpus:
    """A prepared corpus: the parts ``train``, ``valid`` and ``test.NAME``, and a manifest of their origin."""

    path: Path
    manifest: dict[str, Any]

    @property
    def key(self) -> str:
        """The name of the content: equal keys, equal text."""
        return str(self.manifest["key"])

    @property
    def tests(self) -> list[str]:
        return [name.removeprefix("test.") for name in self.manifest["sizes"] if name.startswith("test.")]

    def part(self, name: str) -> TextPart:
        """
        Raises:
            DataError: there is no part of this name, or its file is damaged.
        """
        if name not in self.manifest["sizes"]:
            raise DataError(f"{self.path}: no part '{name}'; it has: {', '.join(self.manifest['sizes'])}")
        return TextPart(self.path / f"{name}.arrow")

    def summary(self) -> str:
        """A few lines for people: the sizes, and what each cleaning rule dropped."""
        manifest = self.manifest
        width = max(map(len, [*manifest["sizes"], "dropped"]))
        lines = [f"corpus {self.path}, {manifest['src_lang']} to {manifest['tgt_lang']}"]
        for name, size in manifest["sizes"].items():
            of = f" of {manifest['read']:,} read" if name == "train" else ""
            lines.append(f"  {name:<{width}}  {size:>11,} pairs{of}")
        dropped = [(rule, count) for rule, count in manifest["dropped"].items() if count]
        lines += [f"  {'dropped':<{width}}  {count:>11,} {RULES[rule]}" for rule, count in dropped]
        return "\n".join(lines)


# ---------------------------------------------------------------------------------------------------- writing


class ArrowWriter:
    """Writes an Arrow file in record batches of :data:`BLOCK` rows, whatever the size of the pieces given."""

    def __init__(self, path: Path, schema: pa.Schema):
        self.writer, self.schema = pa.ipc.new_file(str(path), schema), schema
        self.waiting: list[pa.RecordBatch] = []
        self.rows = 0  # waiting

    def write(self, batch: pa.RecordBatch) -> None:
        self.waiting.append(batch)
        self.rows += batch.num_rows
        while self.rows >= BLOCK:
            self._flush(BLOCK)

    def _flush(self, count: int) -> None:
        table = pa.Table.from_batches(self.waiting, self.schema)
        for batch in table.slice(0, count).combine_chunks().to_batches():
            self.writer.write_batch(batch)
        self.waiting = table.slice(count).to_batches()
        self.rows -= count

    def __enter__(self) -> ArrowWriter:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None and self.rows:
            self._flush(self.rows)
        self.writer.close()


def _blocks(pairs: Iterable[tuple[str, str]]) -> Iterator[pa.RecordBatch]:
    pairs = iter(pairs)
    while True:
        src, tgt = [], []  # not a list of pairs: Python's garbage collector would go through it again and again
        for one, other in itertools.islice(pairs, BLOCK):
            src.append(one)
            tgt.append(other)
        if not src:
            return
        columns = [pa.array(side, pa.large_string()) for side in (src, tgt)]
        yield pa.record_batch(columns, schema=SCHEMA)


def pair_hash(src: str, tgt: str) -> bytes:
    """8 bytes that stand for a pair, white space at the ends of its sides left out.

    Two different pairs of n share a hash with a probability of n² / 2^65: 3 in a million for ten million
    pairs. Then one of the two is dropped as a duplicate, and no more harm is done.
    """
    return blake2b(f"{src.strip()}\n{tgt.strip()}".encode(), digest_size=8).digest()


class _Cleaner:
    """The rules that look at one pair alone. Every pair is counted under the first rule that drops it."""

    def __init__(self, config: CleaningConfig):
        self.config = config
        self.read = 0
        self.dropped = dict.fromkeys(RULES, 0)
        self.hashes = array("Q")

    def __call__(self, pairs: Pairs) -> Pairs:
        max_chars, max_ratio = self.config.max_chars, self.config.max_ratio
        for src, tgt in pairs:
            self.read += 1
            shorter, longer = len(src), len(tgt)
            if shorter > longer:
                shorter, longer = longer, shorter
            if not src.strip() or not tgt.strip():
                self.dropped["empty"] += 1
            elif longer > max_chars:
                self.dropped["too_long"] += 1
            elif longer > max_ratio * max(shorter, 10):
                self.dropped["ratio"] += 1
            else:
                self.hashes.frombytes(pair_hash(src, tgt))
                yield src, tgt


def _mix(values: Hashes, seed: int) -> npt.NDArray[np.float64]:
    """Seeded pseudo-random numbers in [0, 1), each a function of its value alone (SplitMix64's finaliser)."""
    start = int.from_bytes(blake2b(str(seed).encode(), digest_size=8).digest(), "little")
    x = values + np.uint64(start)  # wraps around, as is meant
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _split(hashes: Hashes, holdouts: dict[str, HoldoutSource]) -> npt.NDArray[np.int16]:
    """For each pair, which holdout takes it (its position in ``holdouts``), or -1 for the training part.

    Holdouts of one seed take neighbouring intervals of the same numbers; of other seeds, the first has it.
    """
    where = np.full(len(hashes), -1, dtype=np.int16)
    taken: dict[int, float] = {}
    for number, holdout in enumerate(holdouts.values()):
        low = taken.get(holdout.seed, 0.0)
        taken[holdout.seed] = high = low + holdout.fraction
        for rows in _stretches(len(hashes)):
            u, found = _mix(hashes[rows], holdout.seed), where[rows]
            found[(found < 0) & (low <= u) & (u < high)] = number
    return where


def _repeats(hashes: Hashes) -> npt.NDArray[np.bool_]:
    """For each pair, whether an equal one stands before it."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    repeats = np.zeros(len(hashes), dtype=bool)
    repeats[order[1:][ordered[1:] == ordered[:-1]]] = True
    return repeats


def _among(hashes: Hashes, others: Hashes) -> npt.NDArray[np.bool_]:
    """For each pair, whether it is one of ``others``."""
    return np.concatenate([np.isin(hashes[rows], others) for rows in _stretches(len(hashes))])


def _stretches(count: int) -> Iterator[slice]:
    """Parts of an array of one number a pair, for work whose copies would take several times its memory."""
    return (slice(start, start + BLOCK) for start in range(0, max(1, count), BLOCK))


# ---------------------------------------------------------------------------------------------------- prepare


def prepare_corpus(data: DataConfig) -> Corpus:
    """Read, clean and store a corpus, or find it in the store if it was made before from the same content.

    Training pairs pass the rules of :data:`RULES`, in that order, and each is counted under the first that
    drops it. Then the holdouts are split off what is left. Validation and test sets with sources of their own
    are kept line by line as they are.

    Raises:
        DataError: a source cannot be read, a part would be empty, or the store cannot be written.
    """
    store = Path(data.store)
    held = {"valid": data.valid, **{f"test.{name}": source for name, source in data.test.items()}}
    hashes = _FileHashes(store)
    inputs = {name: _describe(source, hashes) for name, source in {"train": data.train, **held}.items()}
    hashes.save()
    key = digest(data.model_dump(mode="json", exclude={"store"}), inputs, FORMAT)
    path = store / f"corpus-{key}"
    if not path.is_dir():
        log.info("preparing the corpus, once for this configuration and these files, in %s", path)
        with build_once(path) as folder:
            manifest = _build(data, held, folder, inputs)
            sums = {file.name: sha256(file) for file in sorted(folder.glob("*.arrow"))}
            about = {"format": FORMAT, "nmt": __version__, "key": key}
            languages = {"src_lang": data.src_lang, "tgt_lang": data.tgt_lang}
            write_json(folder / "manifest.json", {**about, **languages, **manifest, "files": sums})
    return Corpus(path, read_manifest(path))


def _build(
    data: DataConfig, held: dict[str, Any], folder: Path, inputs: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    sizes: dict[str, int] = {}
    counts: dict[str, int] = {}
    seen: list[npt.NDArray[np.uint64]] = []  # of the validation and test pairs
    holdouts = {name: source for name, source in held.items() if isinstance(source, HoldoutSource)}
    for name, source in held.items():
        if name in holdouts:
            continue
        with ArrowWriter(folder / f"{name}.arrow", SCHEMA) as out:
            for batch in _blocks(read_pairs(source, data.src_lang, data.tgt_lang, counts)):
                out.write(batch)
        part = TextPart(folder / f"{name}.arrow")
        sizes[name] = len(part)
        _check_held(name, part, inputs[name])
        seen.append(_to_hashes(b"".join(itertools.starmap(pair_hash, part.iter_pairs()))))

    cleaner = _Cleaner(data.cleaning)
    read = folder / "read.arrow"  # what passed the rules that look at one pair alone
    with ArrowWriter(read, SCHEMA) as out:
        for batch in _blocks(cleaner(read_pairs(data.train, data.src_lang, data.tgt_lang, counts))):
            out.write(batch)
    if not cleaner.read:
        raise DataError(f"data.train: {_where(inputs['train'])} holds no sentence pairs")
    pairs = _to_hashes(cleaner.hashes)
    keep = np.ones(len(pairs), dtype=bool)
    if data.cleaning.drop_duplicates:
        keep = ~_repeats(pairs)
        cleaner.dropped["duplicate"] = int((~keep).sum())
    if data.cleaning.drop_overlap and seen:
        overlap = keep & _among(pairs, np.concatenate(seen))
        cleaner.dropped["overlap"] = int(overlap.sum())
        keep &= ~overlap
    where = _split(pairs, holdouts)
    for number, name in [(-1, "train"), *enumerate(holdouts)]:
        mask = keep & (where == number)
        sizes[name] = int(mask.sum())
        if not sizes[name]:
            raise DataError(_nothing_left(name, cleaner, int(keep.sum())))
        _write_rows(read, mask, folder / f"{name}.arrow")
    read.unlink()
    for entries in inputs.values():
        for entry in entries:
            if entry.get("path") in counts:
                entry["lines"] = counts[entry["path"]]
    return {
        "inputs": inputs,
        "read": cleaner.read,
        "dropped": cleaner.dropped,
        "sizes": {name: sizes[name] for name in ("train", *held)},
    }


def _to_hashes(data: bytes | array[int]) -> Hashes:
    return np.frombuffer(data, dtype=np.uint64)


def _write_rows(read: Path, mask: npt.NDArray[np.bool_], path: Path) -> None:
    with ArrowWriter(path, SCHEMA) as out:
        for number, batch in enumerate(read_batches(read)):
            out.write(batch.filter(pa.array(mask[number * BLOCK : number * BLOCK + batch.num_rows])))


def _where(entries: list[dict[str, Any]]) -> str:
    named = entries if "kind" not in entries[0] else entries[:1]  # of a hub folder, not each of its files
    return " and ".join(str(entry.get("path") or entry["kind"]) for entry in named)


def _check_held(name: str, part: TextPart, entries: list[dict[str, Any]]) -> None:
    """A set that nothing can be measured on is a mistake; single blank lines in it are not."""
    if not len(part):
        raise DataError(f"data.{name}: {_where(entries)} holds no sentence pairs")
    sides: list[tuple[str, Callable[[], list[str]]]] = [("source", part.sources), ("target", part.targets)]
    for side, lines in sides:
        if not any(line.strip() for line in lines()):
            raise DataError(f"data.{name}: {_where(entries)}: every {side} sentence is empty")


def _nothing_left(name: str, cleaner: _Cleaner, kept: int) -> str:
    if not kept:
        why = ", ".join(f"{n} {rule}" for rule, n in cleaner.dropped.items() if n)
        return f"data.train: cleaning leaves none of its {cleaner.read} pairs ({why}); see data.cleaning"
    if name == "train":
        return f"data.train: the holdout parts take all of its {kept} pairs; lower their fractions"
    return f"data.{name}: no pair falls into this holdout of {kept} training pairs; raise its fraction"
