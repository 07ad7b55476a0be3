"""The corpus of a configuration or of a run: found in the store, or built there once.

The folder of a corpus is named by its content. The same configuration and the same files lead to the same folder, and
no work is done twice.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from nmt import __version__
from nmt.config.data import DataConfig
from nmt.config.sources import HoldoutSource, SourceSection, as_list, as_tags
from nmt.data.build import build_corpus, read_set
from nmt.data.corpus import Corpus
from nmt.data.file_hashes import Entry, FileHashes, read_manifest
from nmt.data.provenance import (
    corpus_key,
    differences,
    first_corpus_key,
    held_sources,
    moved_from,
    origins,
    part_names,
    training_sources,
)
from nmt.data.sources import describe
from nmt.data.sources.base import Reading
from nmt.errors import DataError
from nmt.storage.atomic import build_once, sha256, write_json

log = logging.getLogger(__name__)

FORMAT = 1  # of the prepared folder; another number means another key


def prepare_corpus(data: DataConfig, run: Mapping[str, Any] | None = None) -> Corpus:
    """Read, clean and store a corpus, or find it in the store if it was prepared before from the same content.

    Training pairs pass the rules of :data:`nmt.data.cleaning.RULES` in order, and each is counted under the first that
    drops it. The holdouts are split off the pairs that pass. Validation and test sets from separate files are kept
    line by line, unchanged.

    Args:
        run: the manifest of a run, to get its corpus. Test sets that the run does not know are read into memory.

    Raises:
        DataError: a source cannot be read, is not the one of the run, or changes while it is read; a part would be
            empty; the store is damaged or cannot be written.
    """
    store, hashes = Path(data.store), FileHashes(Path(data.store))
    if run is not None:
        return _corpus_of_run(data, run, store, hashes)
    inputs = {name: describe(source, hashes, Reading.of(data)) for name, source in origins(data).items()}
    hashes.save()
    path, key = _find(data, inputs, store)
    if built := not path.is_dir():
        _make(path, key, data, inputs, hashes)
    corpus = _opened(path, part_names(data), hashes)
    for line in corpus.examples() if built else ():
        log.info("%s", line)
    return with_tags(corpus, data)


def _find(data: DataConfig, inputs: Mapping[str, list[Entry]], store: Path) -> tuple[Path, str]:
    """The folder in which the corpus is, or is to be built, and its key."""
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
    """Build a corpus in the store.

    Args:
        sizes: of the parts, of a corpus that the store held before.

    Raises:
        DataError: see :func:`prepare_corpus`; also if the parts have other sizes than ``sizes``.
    """
    log.info("preparing the corpus (cached in %s)", path)
    with build_once(path) as folder:
        manifest = build_corpus(data, folder, inputs)
        hashes.check_unchanged(chain.from_iterable(inputs.values()))
        again = {name: manifest["sizes"][name] for name in sizes or {} if name in manifest["sizes"]}
        if sizes and any(again[name] != sizes[name] for name in again):
            raise DataError(
                f"{path}: is no longer in the store, and rebuilt from the same files it has other sizes "
                f"({again} instead of {dict(sizes)}); rebuild it with the version of nmt that the run was started with"
            )
        about = {"format": FORMAT, "nmt": __version__, "key": key}
        languages = {"src_lang": data.src_lang, "tgt_lang": data.tgt_lang}
        sums = {file.name: sha256(file) for file in sorted(folder.glob("*.arrow"))}
        write_json(folder / "manifest.json", {**about, **languages, **manifest, "files": sums})


def _opened(path: Path, names: Sequence[str], hashes: FileHashes) -> Corpus:
    """Open the named parts of a corpus of the store, after comparing each with its checksum."""
    manifest = read_manifest(path)
    sums = manifest.get("files", {})
    hashes.verify(path, {file: sums[file] for file in (f"{name}.arrow" for name in names) if file in sums})
    hashes.save()
    corpus = Corpus(path, manifest)
    corpus.parts.update({name: corpus.part(name) for name in names})
    return corpus


def with_tags(corpus: Corpus, data: DataConfig) -> Corpus:
    """The corpus, with the tags of its validation and test sets, and their files of further references.

    A holdout has the tags of the datasets it is from.
    """
    of_datasets = {dataset.name: as_tags(dataset.tag) for dataset in data.datasets}
    for name, source in held_sources(data).items():
        if name not in corpus.parts:
            continue
        if isinstance(source, SourceSection) and source.references is not None:
            corpus.references[name] = as_list(source.references)
        if not isinstance(source, HoldoutSource):
            found = [(len(corpus.part(name)), as_tags(source.tag))]
        elif counts := corpus.datasets(name):
            found = [(count, of_datasets[dataset]) for dataset, count in counts.items()]
        else:
            found = [(len(corpus.part(name)), tags) for tags in of_datasets.values()]
        if any(tags for _, tags in found):
            corpus.tags[name] = found
        elif of_datasets and all(of_datasets.values()):
            there = ", ".join(data.tags)
            log.warning("warning: data.%s: has no tag, but every training pair has one; set its tag: %s", name, there)
    return corpus


# ------------------------------------------------------------------------------------------------ data of a run


def _corpus_of_run(data: DataConfig, run: Mapping[str, Any], store: Path, hashes: FileHashes) -> Corpus:
    """The corpus that a run was started with, from the store or rebuilt, with today's test sets.

    Raises:
        DataError: see :func:`prepare_corpus`.
    """
    path, recorded = store / f"corpus-{run['key']}", run["inputs"]
    sources = origins(data)
    # Compare the sources with those of the run. A source that cannot be read is taken from the store.
    inputs: dict[str, list[Entry]] = {}
    for name in [name for name in sources if name in recorded]:
        try:
            inputs[name] = describe(sources[name], hashes, Reading.of(data))
        except DataError as error:
            if not path.is_dir():
                raise
            log.warning("%s; using data.%s from the store", error, name)
    hashes.save()
    if changed := [line for name, entries in inputs.items() for line in differences(name, recorded[name], entries)]:
        raise DataError(
            f"the data are not those that this run was started with: {'; '.join(changed)}; "
            "restore the files, give a changed test set another name, or start another run (--set name=...)"
        )
    # Rebuild a corpus that is no longer in the store.
    if not path.is_dir():
        if lacking := [name for name in recorded if name not in sources]:
            raise DataError(
                f"data.{lacking[0]}: is missing; this run was started with it, and its corpus has to be rebuilt, "
                f"because {path} no longer exists; add it to the configuration again"
            )
        then = data.model_copy(update={"test": {n: s for n, s in data.test.items() if f"test.{n}" in recorded}})
        _make(path, run["key"], then, inputs, hashes, run["sizes"])
    # Open the parts, and read the test sets that the run does not know.
    known = [name for name in part_names(data) if name == "train" or name in recorded]
    corpus = _opened(path, known, hashes)
    for name in [name for name in part_names(data) if name not in known]:
        corpus.parts[name] = read_set(name, sources[name], data, hashes)
    return with_tags(corpus, data)


def sets_of_run(data: DataConfig, run: Mapping[str, Any], names: Sequence[str]) -> Corpus:
    """The named validation or test sets of a run: from its corpus in the store, else from their files.

    No other part is read or needed, except for a holdout of a corpus that is no longer in the store.

    Args:
        names: ``valid``, ``test.NAME``; also test sets that the run did not have when it was started.

    Raises:
        DataError: a set cannot be read, or has changed and the corpus of the run is no longer in the store.
    """
    store, hashes = Path(data.store), FileHashes(Path(data.store))
    path, recorded, sources = store / f"corpus-{run['key']}", run["inputs"], origins(data)
    if unknown := [name for name in names if name not in sources]:
        raise DataError(f"data.{unknown[0]}: no such set; there are: {', '.join(sources)}")
    if not path.is_dir() and any(isinstance(sources[name], HoldoutSource) for name in names):
        return _corpus_of_run(data, run, store, hashes)
    # Open what the store holds, then read the rest from the files.
    stored = [name for name in names if name in recorded] if path.is_dir() else []
    corpus = _opened(path, stored, hashes) if stored else Corpus(path, dict(run))
    for name in names:
        if name not in recorded:
            corpus.parts[name] = read_set(name, sources[name], data, hashes)
            continue
        # A set that has changed is taken from the store if possible.
        held_out = isinstance(sources[name], HoldoutSource)
        compared = [one for one in (training_sources(data) if held_out else [name]) if one in recorded]
        try:
            here = {one: describe(sources[one], hashes, Reading.of(data)) for one in compared}
            changed = [line for one in compared for line in differences(one, recorded[one], here[one])]
        except DataError:
            if not path.is_dir():
                raise
            changed = []  # the files are missing, so nothing contradicts the store
        if changed and not path.is_dir():
            raise DataError(
                f"data.{name}: is not the set that this run was started with: {'; '.join(changed)}; restore the "
                "files, or score these with --src and --ref"
            )
        if changed:
            log.warning(
                "the data have changed since this run was started: %s; data.%s is scored as the run has it in %s "
                "(score other files with --src and --ref)", "; ".join(changed), name, path,
            )  # fmt: skip
        if name not in stored:
            corpus.parts[name] = read_set(name, sources[name], data, hashes)
    hashes.save()
    return with_tags(corpus, data)
