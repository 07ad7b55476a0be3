"""Write a corpus: read its sources, clean the pairs, split off the holdouts, store every part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nmt.config.data import DataConfig, HoldoutSource, Source
from nmt.data import splits
from nmt.data.arrow import BLOCK, ArrowWriter, booleans, read_batches
from nmt.data.cleaning import Cleaner, HeldHashes, Selection
from nmt.data.corpus import SCHEMA, TextPart, blocks
from nmt.data.file_hashes import Entry, FileHashes, is_file_entry
from nmt.data.provenance import parts
from nmt.data.sources import describe, read_pairs
from nmt.data.sources.base import Reading
from nmt.errors import DataError
from nmt.runtime.progress import counted, showing


def build_corpus(data: DataConfig, folder: Path, inputs: Mapping[str, list[Entry]]) -> dict[str, Any]:
    """Write the parts of a corpus into ``folder``; return its part of the manifest.

    Args:
        inputs: the content of the sources, see :func:`nmt.data.sources.describe`.

    Raises:
        DataError: a source cannot be read, or a part would be empty.
    """
    sizes, counts, skipped = dict[str, int](), dict[str, int](), dict[str, int]()
    sources = parts(data)
    holdouts = {name: source for name, source in sources.items() if isinstance(source, HoldoutSource)}
    reading = Reading.of(data, counts, skipped)
    held = _write_sets(data, folder, inputs, reading)
    sizes.update({name: len(hashes) for name, hashes in held.parts.items()})

    # Training pairs that pass the rules for one pair alone.
    compared = bool(holdouts) or data.cleaning.drop_overlap
    cleaner = Cleaner(data.cleaning, compared and data.cleaning.apart == "sentences", (data.src_lang, data.tgt_lang))
    read = folder / "read.arrow"
    pairs = read_pairs(data.train, reading)
    passed = _write_pairs(read, counted(cleaner(pairs), "reading data.train", "pairs"))
    if not cleaner.read:
        raise DataError(f"data.train: {_where(inputs['train'])} holds no sentence pairs")

    # Rules for the whole corpus, and the part that each pair belongs to.
    chosen = Selection(cleaner)
    with showing("comparing the pairs", unit=""):
        chosen.clean()
        chosen.drop_overlap(held)
        chosen.add_examples(passed)
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

    ratio = {} if chosen.usual_ratio is None else {"usual_ratio": round(chosen.usual_ratio, 4)}
    return {
        "inputs": {
            name: [_with_counts(entry, counts, skipped) for entry in entries] for name, entries in inputs.items()
        },
        "read": cleaner.read,
        "dropped": cleaner.dropped,
        "examples": {rule: cleaner.examples[rule] for rule in cleaner.dropped if rule in cleaner.examples},
        **ratio,
        "shared": chosen.shared,
        "sizes": {name: sizes[name] for name in sources},
        "repeated": repeated | {name: int(splits.repeats(hashes).sum()) for name, hashes in held.parts.items()},
        "common": _common(held.parts, [name for name in sources if name != "train"]),
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


def _write_sets(data: DataConfig, folder: Path, inputs: Mapping[str, list[Entry]], reading: Reading) -> HeldHashes:
    """Write the validation and test sets that are no holdouts, line by line; return their hashes."""
    held = HeldHashes()
    for name, source in parts(data).items():
        if name == "train" or isinstance(source, HoldoutSource):
            continue
        pairs = read_pairs(source, reading)
        part = _write_pairs(folder / f"{name}.arrow", counted(pairs, f"reading data.{name}", "pairs"))
        _check_held(name, part, inputs[name])
        held.add(name, part)
    return held


def _write_pairs(path: Path, pairs: Iterable[tuple[str, str]]) -> TextPart:
    with ArrowWriter(path, SCHEMA) as out:
        for batch in blocks(pairs):
            out.write(batch)
    return TextPart(path)


def _write_rows(read: Path, mask: splits.Mask, path: Path) -> None:
    """Copy the masked pairs of the file ``read`` to the file ``path``."""
    with ArrowWriter(path, SCHEMA) as out, showing(f"writing {path.stem}", len(mask), "pairs") as add:
        for number, batch in enumerate(read_batches(read)):
            out.write(batch.filter(booleans(mask[number * BLOCK : number * BLOCK + batch.num_rows])))
            add(batch.num_rows)


# ---------------------------------------------------------------------------------------------------- manifest


def _with_counts(entry: Entry, counts: Mapping[str, int], skipped: Mapping[str, int]) -> Entry:
    """The entry of a source with the lines and the skipped rows of its file, where the reader counted them."""
    found = {"lines": counts, "skipped_rows": skipped}
    return entry | {key: numbers[entry["path"]] for key, numbers in found.items() if entry.get("path") in numbers}


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
        raise DataError(f"data.{name}: {_where(entries)} holds no sentence pairs")
    sides: list[tuple[str, Callable[[], list[str]]]] = [("source", part.sources), ("target", part.targets)]
    for side, lines in sides:
        if not any(line.strip() for line in lines()):
            raise DataError(f"data.{name}: {_where(entries)}: every {side} sentence is empty")


def _nothing_left(name: str, cleaner: Cleaner, kept: int) -> str:
    """The message for a part without pairs, when cleaning left ``kept`` pairs in all."""
    why = ", ".join(f"{n} {rule}" for rule, n in cleaner.dropped.items() if n and rule not in ("holdout", "common"))
    if not kept:
        return f"data.train: cleaning leaves none of its {cleaner.read} pairs ({why}); see data.cleaning"
    left = "" if kept == cleaner.read else f", all that cleaning leaves of {cleaner.read} ({why})"
    if name == "train":
        return f"data.train: the holdout parts take all of its {kept} pairs{left}; lower their fractions"
    return f"data.{name}: no pair falls into this holdout of {kept} training pairs{left}; raise its fraction"
