"""From any source of text to a clean parallel corpus on disk.

:func:`prepare_corpus` reads the pairs of its sources (:mod:`nmt.data.sources`), cleans them, splits off held-out
parts and writes all of it, with a manifest, into a folder of the store that is named by its content: the same
configuration and the same files find the same folder and do no work twice. :class:`Corpus` gives the text
back memory-mapped.
"""

from __future__ import annotations

import itertools
import logging
import mmap
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa

from nmt import __version__
from nmt.config.data import CleaningConfig, DataConfig, HoldoutSource
from nmt.data import splits
from nmt.data.provenance import (
    Entry,
    FileHashes,
    corpus_key,
    describe,
    differences,
    first_corpus_key,
    is_file_entry,
    moved_from,
    parts,
    read_manifest,
)
from nmt.data.sources import Pairs, Source, read_pairs
from nmt.errors import DataError
from nmt.storage.atomic import build_once, sha256, write_json

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
    "overlap_source": "its source is also in the validation or a test set",
    "overlap_target": "its target is also in the validation or a test set",
    "holdout": "its source or target is also in a held-out part",
    "common": "drawn for a held-out part, but many training pairs have its source or target",
}


# ---------------------------------------------------------------------------------------------------- reading


class TextPart(Sequence[tuple[str, str]]):
    """The pairs of one part of a corpus, memory-mapped.

    Args:
        batches: the pairs, where they are in memory and not in a file.
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
        if self._file:
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
            raise DataError(f"{path}: {reason}; delete the folder {path.parent} and run again") from None
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


@dataclass(frozen=True)
class Corpus:
    """A prepared corpus: the parts ``train``, ``valid`` and ``test.NAME``, and a manifest of their origin.

    ``parts`` holds the open ones: they can be read to the end whatever becomes of the store meanwhile.
    """

    path: Path
    manifest: dict[str, Any]
    parts: dict[str, TextPart] = field(default_factory=dict, compare=False)

    @property
    def key(self) -> str:
        """The name of the content: equal keys, equal text."""
        return str(self.manifest["key"])

    @property
    def tests(self) -> list[str]:
        names = self.parts or self.manifest["sizes"]
        return [name.removeprefix("test.") for name in names if name.startswith("test.")]

    def part(self, name: str) -> TextPart:
        """
        Raises:
            DataError: there is no part of this name, or its file is damaged.
        """
        if name in self.parts:
            return self.parts[name]
        if name not in self.manifest["sizes"]:
            raise DataError(f"{self.path}: no part '{name}'; it has: {', '.join(self.manifest['sizes'])}")
        return TextPart(self.path / f"{name}.arrow")

    def summary(self) -> str:
        """A few lines for people: the sizes, and what each cleaning rule dropped."""
        manifest = self.manifest
        sizes = manifest["sizes"] | {name: len(part) for name, part in self.parts.items()}
        width = max(map(len, [*sizes, "dropped"]))
        lines = [f"corpus {self.path}, {manifest['src_lang']} to {manifest['tgt_lang']}"]
        for name, size in sizes.items():
            lines.append(f"  {name:<{width}}  {size:>11,} pairs{self._origin(name)}")
        dropped = [(rule, count) for rule, count in manifest["dropped"].items() if count]
        lines += [f"  {'dropped':<{width}}  {count:>11,} {RULES[rule]}" for rule, count in dropped]
        if shared := manifest.get("shared"):
            what = "validation and test pairs share a very common sentence with training pairs"
            lines.append(f"  {'shared':<{width}}  {shared:>11,} {what}")
        return "\n".join(lines)

    def _origin(self, name: str) -> str:
        """Of which pairs a part is, and how many of them are not its alone."""
        manifest = self.manifest
        known = name in manifest["sizes"]
        held = known and manifest["inputs"].get(name, [{}])[0].get("kind") == "holdout"
        text = " held out of those read" if held else f" of {manifest['read']:,} read" if name == "train" else ""
        notes = []
        if known and (count := manifest.get("repeated", {}).get(name)):
            notes.append(f"{count:,} repeat one before them")
        if known and (count := manifest.get("common", {}).get(name)):
            notes.append(f"{count:,} also in a held-out part before it")
        return text + "".join(f", {note}" for note in notes)


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


class _Cleaner:
    """The rules that look at one pair alone. Every pair is counted under the first rule that drops it.

    Of the pairs that pass, it keeps what the rules for the whole corpus need.
    """

    def __init__(self, config: CleaningConfig, sentences: bool):
        self.config = config
        self.read = 0
        self.dropped = dict.fromkeys(RULES, 0)
        self.pairs = array("Q")  # hashes
        self.sentences = (array("Q"), array("Q")) if sentences else None  # hashes of sources and targets
        self.widths = (array("I"), array("I")) if config.ratio == "relative" else None

    def __call__(self, pairs: Pairs) -> Pairs:
        max_chars, max_ratio, sentences, widths = (
            self.config.max_chars,
            self.config.max_ratio,
            self.sentences,
            self.widths,
        )
        for src, tgt in pairs:
            self.read += 1
            shorter, longer = len(src), len(tgt)
            if shorter > longer:
                shorter, longer = longer, shorter
            if not src.strip() or not tgt.strip():
                self.dropped["empty"] += 1
                continue
            if longer > max_chars:
                self.dropped["too_long"] += 1
                continue
            if widths:
                widths[0].append(splits.width(src.strip()))
                widths[1].append(splits.width(tgt.strip()))
            elif longer > max_ratio * max(shorter, 10):
                self.dropped["ratio"] += 1
                continue
            self.pairs.frombytes(splits.pair_hash(src, tgt))
            if sentences:
                sentences[0].frombytes(splits.sentence_hash(src))
                sentences[1].frombytes(splits.sentence_hash(tgt))
            yield src, tgt


class _Selection:
    """The pairs that are left, by the rules that look at the corpus as a whole."""

    def __init__(self, cleaner: _Cleaner):
        self.cleaner, self.config = cleaner, cleaner.config
        self.pairs = splits.to_hashes(cleaner.pairs)
        self.sides = [splits.to_hashes(side) for side in cleaner.sentences or ()]  # sources and targets, or none
        self.keep = np.ones(len(self.pairs), dtype=bool)
        self.shared = 0  # held-out pairs with a sentence that stays in training
        self.usual_ratio: float | None = None

    def drop(self, rule: str, mask: splits.Mask) -> None:
        mask = mask & self.keep
        self.cleaner.dropped[rule] += int(mask.sum())
        self.keep &= ~mask

    def clean(self) -> None:
        """Drop pairs of unequal lengths, and repeated ones."""
        if self.cleaner.widths:
            src, tgt = (np.frombuffer(side, dtype=np.uint32) for side in self.cleaner.widths)
            self.usual_ratio = splits.usual_ratio(src, tgt)
            self.drop("ratio", splits.ill_proportioned(src, tgt, self.usual_ratio, self.config.max_ratio))
        if self.config.drop_duplicates:
            self.drop("duplicate", splits.repeats(self.pairs))

    def drop_overlap(self, held: _HeldHashes) -> None:
        """Drop what is also in the validation and test sets that are no holdouts."""
        if not (self.config.drop_overlap and held.pairs):
            return
        self.drop("overlap", splits.among(self.pairs, splits.to_hashes(held.pairs)))
        common = np.zeros(len(held.pairs), dtype=bool)  # of the pairs of the sets
        for rule, side, there in zip(("overlap_source", "overlap_target"), self.sides, held.sentences, strict=False):
            mask, too_common = splits.overlap(side, self.keep, splits.to_hashes(there))
            self.drop(rule, mask)
            common |= too_common
        self.shared += int(common.sum())

    def split(self, holdouts: Sequence[HoldoutSource]) -> splits.Assignment:
        """For each pair, the position of the holdout that takes it, or -1 for training."""
        if not (self.sides and holdouts):
            return splits.split(self.pairs, holdouts)
        found = splits.separate(self.sides[0], self.sides[1], self.keep, holdouts)
        self.cleaner.dropped["holdout"] = found.from_training
        self.cleaner.dropped["common"] = found.from_holdouts
        self.shared += found.shared
        return found.where


class _HeldHashes:
    """Hashes of the pairs of the validation and test sets that are no holdouts, and of their sentences."""

    def __init__(self) -> None:
        self.pairs, self.sentences = array("Q"), (array("Q"), array("Q"))
        self.parts: dict[str, splits.Hashes] = {}  # of the pairs

    def add(self, name: str, part: TextPart) -> None:
        pairs = array("Q")
        for src, tgt in part.iter_pairs():
            pairs.frombytes(splits.pair_hash(src, tgt))
            for side, text in zip(self.sentences, (src, tgt), strict=True):
                side.frombytes(splits.sentence_hash(text) if text.strip() else splits.BLANK)
        self.pairs.extend(pairs)
        self.parts[name] = splits.to_hashes(pairs)


# ---------------------------------------------------------------------------------------------------- prepare


def prepare_corpus(data: DataConfig, run: Mapping[str, Any] | None = None) -> Corpus:
    """Read, clean and store a corpus, or find it in the store if it was made before from the same content.

    Training pairs pass the rules of :data:`RULES`, in that order, and each is counted under the first that
    drops it. Then the holdouts are split off what is left. Validation and test sets with sources of their own
    are kept line by line as they are.

    Args:
        run: the manifest of a run that was started. Then the corpus is the one of the run, and test sets that the run
            did not have are read beside it.

    Raises:
        DataError: a source cannot be read, is not the one of the run, or changes while it is read; a part would be
            empty; the store is damaged or cannot be written.
    """
    store, hashes = Path(data.store), FileHashes(Path(data.store))
    if run is not None:
        return _corpus_of_run(data, run, store, hashes)
    lenient = data.reading == "lenient"
    inputs = {name: describe(source, hashes, lenient) for name, source in parts(data).items()}
    hashes.save()
    path, key = _find(data, inputs, store)
    if not path.is_dir():
        _make(path, key, data, inputs, hashes)
    return _opened(path, list(inputs), hashes)


def _find(data: DataConfig, inputs: Mapping[str, list[Entry]], store: Path) -> tuple[Path, str]:
    """Where the corpus is, or is to be made, and its key."""
    key = corpus_key(data, inputs, FORMAT)
    path = store / f"corpus-{key}"
    if not path.is_dir() and (first := first_corpus_key(data, inputs)):
        if (store / f"corpus-{first}").is_dir():
            return store / f"corpus-{first}", first
        for folder in sorted(store.glob("corpus-*")):
            try:
                manifest = read_manifest(folder)
            except DataError:
                continue
            if moved_from(manifest, data, inputs):
                return folder, str(manifest["key"])
    return path, key


def _make(
    path: Path,
    key: str,
    data: DataConfig,
    inputs: Mapping[str, list[Entry]],
    hashes: FileHashes,
    sizes: Mapping[str, int] | None = None,
) -> None:
    """Put a corpus into the store.

    Args:
        sizes: of the parts, where it was there before.
    """
    log.info("preparing the corpus, once for this configuration and these files, in %s", path)
    with build_once(path) as folder:
        manifest = _build(data, folder, inputs)
        hashes.check_unchanged(itertools.chain.from_iterable(inputs.values()))
        again = {name: manifest["sizes"][name] for name in sizes or {} if name in manifest["sizes"]}
        if sizes and any(again[name] != sizes[name] for name in again):
            raise DataError(
                f"{path}: is not in the store any more, and made again from the same files it has other sizes "
                f"({again} instead of {dict(sizes)}); make it with the version of nmt that the run was started with"
            )
        about = {"format": FORMAT, "nmt": __version__, "key": key}
        languages = {"src_lang": data.src_lang, "tgt_lang": data.tgt_lang}
        sums = {file.name: sha256(file) for file in sorted(folder.glob("*.arrow"))}
        write_json(folder / "manifest.json", {**about, **languages, **manifest, "files": sums})


def _opened(path: Path, names: Sequence[str], hashes: FileHashes) -> Corpus:
    """A corpus of the store, with the named parts open, each compared with its checksum."""
    manifest = read_manifest(path)
    sums = manifest.get("files", {})
    hashes.verify(path, {file: sums[file] for file in (f"{name}.arrow" for name in names) if file in sums})
    hashes.save()
    corpus = Corpus(path, manifest)
    corpus.parts.update({name: corpus.part(name) for name in names})
    return corpus


# ------------------------------------------------------------------------------------------------ data of a run


def _corpus_of_run(data: DataConfig, run: Mapping[str, Any], store: Path, hashes: FileHashes) -> Corpus:
    """The corpus that a run was started with, from the store or made again, with the test sets of now."""
    path, recorded = store / f"corpus-{run['key']}", run["inputs"]
    sources, lenient = parts(data), data.reading == "lenient"
    inputs: dict[str, list[Entry]] = {}
    for name in [name for name in sources if name in recorded]:
        try:
            inputs[name] = describe(sources[name], hashes, lenient)
        except DataError as error:
            if not path.is_dir():
                raise
            log.warning("%s; data.%s is taken from the store, where this run has it", error, name)
    hashes.save()
    if changed := [line for name, entries in inputs.items() for line in differences(name, recorded[name], entries)]:
        raise DataError(
            f"the data are not those that this run was started with: {'; '.join(changed)}; "
            "bring the files back, give a changed test set another name, or start another run (--set name=...)"
        )
    if not path.is_dir():
        if lacking := [name for name in recorded if name not in sources]:
            raise DataError(
                f"data.{lacking[0]}: is missing; this run was started with it, and its corpus has to be made again, "
                f"since {path} is not there any more; put it back into the configuration"
            )
        then = data.model_copy(update={"test": {n: s for n, s in data.test.items() if f"test.{n}" in recorded}})
        _make(path, run["key"], then, inputs, hashes, run["sizes"])
    corpus = _opened(path, [name for name in sources if name in recorded], hashes)
    for name in [name for name in sources if name not in recorded]:
        corpus.parts[name] = _read_set(name, sources[name], data, hashes)
    return corpus


def sets_of_run(data: DataConfig, run: Mapping[str, Any], names: Sequence[str]) -> Corpus:
    """The named validation or test sets of a run: from its corpus in the store, else from the files they came from.

    Nothing else of the corpus is read or needed, but for holdouts of a corpus that is not in the store any more.

    Args:
        names: ``valid``, ``test.NAME``; also test sets that the run did not have when it was started.

    Raises:
        DataError: a set cannot be read, or is not the one of the run, which is not in the store any more.
    """
    store, hashes = Path(data.store), FileHashes(Path(data.store))
    path, recorded, sources = store / f"corpus-{run['key']}", run["inputs"], parts(data)
    if unknown := [name for name in names if name not in sources]:
        raise DataError(f"data.{unknown[0]}: no such set; there are: {', '.join(sources)}")
    if not path.is_dir() and any(isinstance(sources[name], HoldoutSource) for name in names):
        return _corpus_of_run(data, run, store, hashes)
    lenient = data.reading == "lenient"
    stored = [name for name in names if name in recorded] if path.is_dir() else []
    corpus = _opened(path, stored, hashes) if stored else Corpus(path, dict(run))
    for name in names:
        if name not in recorded:
            corpus.parts[name] = _read_set(name, sources[name], data, hashes)
            continue
        origin = "train" if isinstance(sources[name], HoldoutSource) else name
        try:
            changed = differences(origin, recorded[origin], describe(sources[origin], hashes, lenient))
        except DataError:
            if not path.is_dir():
                raise
            changed = []  # the files are gone: nothing contradicts the store
        if changed and not path.is_dir():
            raise DataError(
                f"data.{name}: is not the set that this run was started with: {'; '.join(changed)}; bring the files "
                "back, or score these with --src and --ref"
            )
        if changed:
            log.warning(
                "the data have changed since this run was started: %s; data.%s is scored as the run has it in %s "
                "(score other files with --src and --ref)", "; ".join(changed), name, path,
            )  # fmt: skip
        if name not in stored:
            corpus.parts[name] = _read_set(name, sources[name], data, hashes)
    hashes.save()
    return corpus


def _read_set(name: str, source: Source | HoldoutSource, data: DataConfig, hashes: FileHashes) -> TextPart:
    """A validation or test set, in memory."""
    if isinstance(source, HoldoutSource):
        raise DataError(
            f"data.{name}: a holdout cannot be added to a run, whose training part has its pairs; remove it"
        )
    lenient = data.reading == "lenient"
    entries = describe(source, hashes, lenient)
    part = TextPart(
        Path(_where(entries)), list(_blocks(read_pairs(source, data.src_lang, data.tgt_lang, lenient=lenient)))
    )
    hashes.check_unchanged(entries)
    _check_held(name, part, entries)
    return part


# ------------------------------------------------------------------------------------------------------- build


def _build(data: DataConfig, folder: Path, inputs: Mapping[str, list[Entry]]) -> dict[str, Any]:
    sizes: dict[str, int] = {}
    counts: dict[str, int] = {}
    lenient = data.reading == "lenient"
    held, sources = _HeldHashes(), parts(data)
    holdouts = {name: source for name, source in sources.items() if isinstance(source, HoldoutSource)}
    # Validation and test sets that are no holdouts, line by line.
    for name, source in sources.items():
        if name == "train" or isinstance(source, HoldoutSource):
            continue
        _write_pairs(folder / f"{name}.arrow", read_pairs(source, data.src_lang, data.tgt_lang, counts, lenient))
        part = TextPart(folder / f"{name}.arrow")
        sizes[name] = len(part)
        _check_held(name, part, inputs[name])
        held.add(name, part)

    # What passes the rules that look at one pair alone.
    compared = bool(holdouts) or data.cleaning.drop_overlap
    cleaner = _Cleaner(data.cleaning, compared and data.cleaning.apart == "sentences")
    read = folder / "read.arrow"
    _write_pairs(read, cleaner(read_pairs(data.train, data.src_lang, data.tgt_lang, counts, lenient)))
    if not cleaner.read:
        raise DataError(f"data.train: {_where(inputs['train'])} holds no sentence pairs")

    # What passes the others, and which part it goes to.
    chosen = _Selection(cleaner)
    chosen.clean()
    chosen.drop_overlap(held)
    left = int(chosen.keep.sum())
    where, repeated = chosen.split(list(holdouts.values())), dict[str, int]()
    for number, name in [(-1, "train"), *enumerate(holdouts)]:
        mask = chosen.keep & (where == number)
        sizes[name] = int(mask.sum())
        if not sizes[name]:
            raise DataError(_nothing_left(name, cleaner, left))
        if name != "train":
            held.parts[name] = chosen.pairs[mask]
        elif not data.cleaning.drop_duplicates:
            repeated["train"] = int(splits.repeats(chosen.pairs[mask]).sum())
        _write_rows(read, mask, folder / f"{name}.arrow")
    read.unlink()

    lined = {
        name: [{**entry, "lines": counts[entry["path"]]} if entry.get("path") in counts else entry for entry in entries]
        for name, entries in inputs.items()
    }
    ratio = {} if chosen.usual_ratio is None else {"usual_ratio": round(chosen.usual_ratio, 4)}
    return {
        "inputs": lined,
        "read": cleaner.read,
        "dropped": cleaner.dropped,
        **ratio,
        "shared": chosen.shared,
        "sizes": {name: sizes[name] for name in sources},
        "repeated": repeated | {name: int(splits.repeats(hashes).sum()) for name, hashes in held.parts.items()},
        "common": _common(held.parts, [name for name in sources if name != "train"]),
    }


def _write_pairs(path: Path, pairs: Pairs) -> None:
    with ArrowWriter(path, SCHEMA) as out:
        for batch in _blocks(pairs):
            out.write(batch)


def _common(hashes: Mapping[str, splits.Hashes], names: Sequence[str]) -> dict[str, int]:
    """For each held-out part, how many of its pairs are also in those named before it."""
    found, before = {}, np.zeros(0, dtype=np.uint64)
    for name in names:
        found[name] = int(splits.among(hashes[name], before).sum())
        before = np.concatenate([before, hashes[name]])
    return found


def _write_rows(read: Path, mask: splits.Mask, path: Path) -> None:
    with ArrowWriter(path, SCHEMA) as out:
        for number, batch in enumerate(read_batches(read)):
            out.write(batch.filter(pa.array(mask[number * BLOCK : number * BLOCK + batch.num_rows])))


def _where(entries: list[Entry]) -> str:
    named = entries if is_file_entry(entries[0]) else entries[:1]  # of a hub folder, not each of its files
    return " and ".join(str(entry.get("path") or entry["kind"]) for entry in named)


def _check_held(name: str, part: TextPart, entries: list[Entry]) -> None:
    """A set that nothing can be measured on is a mistake; single blank lines in it are not."""
    if not len(part):
        raise DataError(f"data.{name}: {_where(entries)} holds no sentence pairs")
    sides: list[tuple[str, Callable[[], list[str]]]] = [("source", part.sources), ("target", part.targets)]
    for side, lines in sides:
        if not any(line.strip() for line in lines()):
            raise DataError(f"data.{name}: {_where(entries)}: every {side} sentence is empty")


def _nothing_left(name: str, cleaner: _Cleaner, kept: int) -> str:
    why = ", ".join(f"{n} {rule}" for rule, n in cleaner.dropped.items() if n and rule not in ("holdout", "common"))
    if not kept:
        return f"data.train: cleaning leaves none of its {cleaner.read} pairs ({why}); see data.cleaning"
    left = "" if kept == cleaner.read else f", all that cleaning leaves of {cleaner.read} ({why})"
    if name == "train":
        return f"data.train: the holdout parts take all of its {kept} pairs{left}; lower their fractions"
    return f"data.{name}: no pair falls into this holdout of {kept} training pairs{left}; raise its fraction"
