"""Write a corpus: read its sources, clean the pairs, split off the holdouts, store every part."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nmt.config.data import DataConfig, MixtureSource
from nmt.config.sources import HoldoutSource, Source, has_alignments, has_weights
from nmt.data import splits
from nmt.data.arrow import BLOCK, ArrowWriter, booleans, read_batches
from nmt.data.cleaning import Cleaner, HeldHashes, Selection
from nmt.data.cleaning_processes import clean_in_processes
from nmt.data.corpus import TextPart, blocks, schema_with
from nmt.data.file_hashes import Entry, FileHashes, is_file_entry
from nmt.data.provenance import held_sources, part_names, training_sources
from nmt.data.sources import describe, read_pairs
from nmt.data.sources.base import Beside, Reading
from nmt.errors import DataError
from nmt.numbers import count_of
from nmt.runtime.progress import counted, showing


def build_corpus(data: DataConfig, folder: Path, inputs: Mapping[str, list[Entry]]) -> dict[str, Any]:
    """Write the parts of a corpus into ``folder``; return its part of the manifest.

    Args:
        inputs: the content of the sources, see :func:`nmt.data.sources.describe`.

    Raises:
        DataError: a source cannot be read, or a part would be empty.
    """
    sizes, counts, skipped = dict[str, int](), dict[str, int](), dict[str, int]()
    holdouts = {name: source for name, source in held_sources(data).items() if isinstance(source, HoldoutSource)}
    reading = Reading.of(data, counts, skipped)
    held = _write_sets(data, folder, inputs, reading)
    sizes.update({name: len(hashes) for name, hashes in held.parts.items()})

    # Training pairs that pass the rules for one pair alone.
    compared = bool(holdouts) or data.cleaning.drop_overlap
    cleaner = Cleaner(data.cleaning, compared and data.cleaning.apart == "sentences", (data.src_lang, data.tgt_lang))
    read, ends, counted_of = folder / "read.arrow", list[int](), list[int]()
    beside = _columns_beside(data)
    pairs = _training_pairs(data, inputs, reading, cleaner, ends, counted_of, beside)
    passed = _write_pairs(read, pairs, reading, beside)

    # Rules for the whole corpus, and the part that each pair belongs to.
    chosen, datasets = Selection(cleaner, ends), dict[str, list[int]]()
    with showing("comparing the pairs", unit=""):
        chosen.clean()
        chosen.drop_overlap(held)
        chosen.add_examples(passed)
        left = int(chosen.keep.sum())
        where, repeated = chosen.split(list(holdouts.values())), dict[str, int]()
    for number, name in [(-1, "train"), *enumerate(holdouts)]:
        mask = chosen.keep & (where == number)
        sizes[name] = int(mask.sum())
        datasets[name] = [int(mask[rows].sum()) for rows in chosen.datasets]
        if not sizes[name]:
            raise DataError(_nothing_left(name, cleaner, left))
        if name != "train":
            held.parts[name] = chosen.pairs[mask]
        elif not data.cleaning.drop_duplicates:
            repeated["train"] = int(splits.repeats(chosen.pairs[mask]).sum())
        _write_rows(read, mask, folder / f"{name}.arrow")
    read.unlink()

    ratio = {"usual_ratio": round(chosen.usual_ratios[0], 4)} if len(chosen.usual_ratios) == 1 else {}
    return {
        "inputs": {
            name: [_with_counts(entry, counts, skipped) for entry in entries] for name, entries in inputs.items()
        },
        "read": cleaner.read,
        "dropped": cleaner.dropped,
        "examples": {rule: cleaner.examples[rule] for rule in cleaner.dropped if rule in cleaner.examples},
        **ratio,
        **_datasets(data, chosen, counted_of, datasets),
        "shared": chosen.shared,
        "sizes": {name: sizes[name] for name in part_names(data)},
        "repeated": repeated | {name: int(splits.repeats(hashes).sum()) for name, hashes in held.parts.items()},
        "common": _common(held.parts, list(held_sources(data))),
    }


def read_set(name: str, source: Source | HoldoutSource, data: DataConfig, hashes: FileHashes) -> TextPart:
    """Read a validation or test set into memory.

    Raises:
        DataError: the set is a holdout, is empty, cannot be read, or changes while it is read.
    """
    if isinstance(source, HoldoutSource):
        raise DataError(
            f"data.{name}: a holdout cannot be added to a run, whose training part has its pairs; remove it"
        )
    entries = describe(source, hashes, Reading.of(data))
    part = TextPart(Path(_where(entries)), list(blocks(read_pairs(source, Reading.of(data)))))
    hashes.check_unchanged(entries)
    _check_held(name, part, entries)
    return part


# ---------------------------------------------------------------------------------------------------- writing


def _training_pairs(
    data: DataConfig,
    inputs: Mapping[str, list[Entry]],
    reading: Reading,
    cleaner: Cleaner,
    ends: list[int],
    read: list[int],
    beside: Sequence[str],
) -> Iterator[tuple[str, str]]:
    """The training pairs that pass the rules for one pair alone, one dataset after another.

    Args:
        ends: filled with where the pairs of each dataset end.
        read: filled with the number of pairs read of each dataset.
        beside: what pairs have beside their texts, which ``reading.beside`` has of each pair that is yielded.

    Raises:
        DataError: a dataset cannot be read, or has no pairs.
    """
    for name, source in training_sources(data).items():
        before = cleaner.read
        reading.beside.clear()
        pairs = read_pairs(source, reading)
        clean = partial(clean_in_processes, cleaner, processes=data.processes)
        cleaned = _keeping_beside(clean, pairs, reading.beside) if beside else clean(pairs)
        yield from counted(cleaned, f"reading data.{name}", "pairs")
        read.append(cleaner.read - before)
        ends.append(len(cleaner.pairs))
        if not read[-1]:
            raise DataError(f"data.{name}: no sentence pairs in {_where(inputs[name])}")


def _write_sets(data: DataConfig, folder: Path, inputs: Mapping[str, list[Entry]], reading: Reading) -> HeldHashes:
    """Write the validation and test sets that are no holdouts, line by line; return their hashes."""
    held = HeldHashes()
    for name, source in held_sources(data).items():
        if isinstance(source, HoldoutSource):
            continue
        pairs = read_pairs(source, reading)
        part = _write_pairs(folder / f"{name}.arrow", counted(pairs, f"reading data.{name}", "pairs"))
        _check_held(name, part, inputs[name])
        held.add(name, part)
    return held


def _keeping_beside(
    clean: Callable[[Iterator[tuple[str, str]]], Iterator[tuple[str, str]]],
    pairs: Iterator[tuple[str, str]],
    beside: Beside,
) -> Iterator[tuple[str, str]]:
    """The pairs that pass the cleaning, which may read ahead; ``beside`` has the values of each when it is yielded."""
    waiting: deque[tuple[str, str, float, str]] = deque()

    def read() -> Iterator[tuple[str, str]]:
        for src, tgt in pairs:
            waiting.append((src, tgt, beside.weight, beside.links))
            yield src, tgt

    for src, tgt in clean(read()):
        one, other, weight, links = waiting.popleft()
        while one is not src or other is not tgt:  # dropped
            one, other, weight, links = waiting.popleft()
        before = beside.weight, beside.links  # of the pair that was read last
        beside.weight, beside.links = weight, links
        yield src, tgt
        beside.weight, beside.links = before


def _columns_beside(data: DataConfig) -> list[str]:
    """The columns that the training pairs have beside their texts."""
    sources = training_sources(data).values()
    found = {"weight": any(map(has_weights, sources)), "links": any(map(has_alignments, sources))}
    return [name for name, present in found.items() if present]


def _write_pairs(
    path: Path, pairs: Iterable[tuple[str, str]], reading: Reading | None = None, beside: Sequence[str] = ()
) -> TextPart:
    with ArrowWriter(path, schema_with(beside)) as out:
        for batch in blocks(pairs, reading and reading.beside, beside):
            out.write(batch)
    return TextPart(path)


def _write_rows(read: Path, mask: splits.Mask, path: Path) -> None:
    """Copy the masked pairs of the file ``read`` to the file ``path``."""
    with pa.OSFile(str(read)) as file:
        schema = pa.ipc.open_file(file).schema
    with ArrowWriter(path, schema) as out, showing(f"writing {path.stem}", len(mask), "pairs") as add:
        for number, batch in enumerate(read_batches(read)):
            out.write(batch.filter(booleans(mask[number * BLOCK : number * BLOCK + batch.num_rows])))
            add(batch.num_rows)


# ---------------------------------------------------------------------------------------------------- manifest


def _with_counts(entry: Entry, counts: Mapping[str, int], skipped: Mapping[str, int]) -> Entry:
    """The entry of a source with the lines and the skipped rows of its file, where the reader counted them."""
    found = {"lines": counts, "skipped_rows": skipped}
    return entry | {key: numbers[entry["path"]] for key, numbers in found.items() if entry.get("path") in numbers}


def _datasets(
    data: DataConfig, chosen: Selection, read: Sequence[int], kept: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    """The datasets of a mixture: pairs read, usual ratio, and pairs in each part; nothing for a single source.

    Raises:
        DataError: no training pair of a dataset is left.
    """
    found: dict[str, Any] = {}
    for number, dataset in enumerate(data.train.datasets if isinstance(data.train, MixtureSource) else []):
        ratio = {"usual_ratio": round(chosen.usual_ratios[number], 4)} if chosen.usual_ratios else {}
        pairs = {part: counts[number] for part, counts in kept.items()}
        if not pairs["train"]:
            raise DataError(
                f"data.train.{dataset.name}: no pair of {read[number]:,} is left after cleaning and the holdouts; see "
                "data.cleaning"
            )
        found[dataset.name] = {"read": read[number], **ratio, "pairs": pairs}
    return {"datasets": found} if found else {}


def _common(hashes: Mapping[str, splits.Hashes], names: Sequence[str]) -> dict[str, int]:
    """For each held-out part, the number of its pairs that are also in a part before it."""
    found, before = {}, np.zeros(0, dtype=np.uint64)
    for name in names:
        found[name] = int(splits.among(hashes[name], before).sum())
        before = np.concatenate([before, hashes[name]])
    return found


# ------------------------------------------------------------------------------------------------------ errors


def _where(entries: list[Entry]) -> str:
    """The files of a source, or the folder that holds them."""
    named = entries if is_file_entry(entries[0]) else entries[:1]
    return " and ".join(str(entry.get("path") or entry["kind"]) for entry in named)


def _check_held(name: str, part: TextPart, entries: list[Entry]) -> None:
    """Refuse a validation or test set that nothing can be measured on; single blank lines are allowed.

    Raises:
        DataError: the set has no pairs, or all sentences of one side are empty.
    """
    if not len(part):
        raise DataError(f"data.{name}: no sentence pairs in {_where(entries)}")
    sides: list[tuple[str, Callable[[], list[str]]]] = [("source", part.sources), ("target", part.targets)]
    for side, lines in sides:
        if not any(line.strip() for line in lines()):
            raise DataError(f"data.{name}: {_where(entries)}: every {side} sentence is empty")


def _nothing_left(name: str, cleaner: Cleaner, kept: int) -> str:
    """The message for a part without pairs, when cleaning left ``kept`` pairs in all."""
    why = ", ".join(f"{n} {rule}" for rule, n in cleaner.dropped.items() if n and rule not in ("holdout", "common"))
    if not kept:
        return f"data.train: cleaning leaves none of its {count_of(cleaner.read, 'pair')} ({why}); see data.cleaning"
    left = "" if kept == cleaner.read else f", all that cleaning leaves of {cleaner.read} ({why})"
    if name == "train":
        return f"data.train: the holdout parts take all of its {count_of(kept, 'pair')}{left}; lower their fractions"
    return f"data.{name}: no pair falls into this holdout of {kept} training pairs{left}; raise its fraction"
