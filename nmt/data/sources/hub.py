"""Datasets that the ``datasets`` library reads: from the Hugging Face hub, a local folder, or one local file."""

from __future__ import annotations

import csv
import glob
import logging
import os
import re
import sys
import zipfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from nmt.config.sources import HubSource
from nmt.data.file_hashes import Entry, FileHashes
from nmt.data.lines import check_unpacked_size, open_text, read_lines
from nmt.data.provenance import key_settings
from nmt.data.sources.archives import open_zip
from nmt.data.sources.arrow_columns import choose_columns, table_pairs
from nmt.data.sources.base import BadRows, Pairs, Reading
from nmt.data.sources.csv_rows import SEPARATORS, csv_rows
from nmt.errors import DataError, SettingsError

log = logging.getLogger(__name__)

# Endings of single files, with the builder of the datasets library and its options.
_BUILDERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".parquet": ("parquet", {}),
    ".json": ("json", {}),
    ".jsonl": ("json", {}),
    ".ndjson": ("json", {}),
    ".csv": ("csv", {}),
    ".tsv": ("csv", {"sep": "\t"}),
    ".arrow": ("arrow", {}),
}
CARD_SIZE = 1 << 20  # characters of a dataset card that are read
# Options of the CSV reader, set by a dataset card, under which rows are not checked.
_CSV_FORM = (
    "names", "column_names", "header", "skiprows", "comment", "quotechar", "quoting", "escapechar", "doublequote",
    "lineterminator", "skipinitialspace", "dialect", "on_bad_lines", "encoding",
)  # fmt: skip


def read(source: HubSource, reading: Reading) -> Pairs:
    """The sentence pairs of a dataset. An empty (null) cell is an empty sentence, as in CSV files."""
    given = (source.src_column, source.tgt_column)
    columns = (given[0] or reading.languages[0], given[1] or reading.languages[1])
    bad, row = BadRows(source.path, source.on_bad_row, reading), 0
    dataset = load_hub(source, columns, reading.lenient).with_format("arrow")
    columns = choose_columns(dataset.features.arrow_schema, given, reading.languages, source.path)
    for table in dataset.iter(batch_size=8192):
        yield from table_pairs(table, columns, source.path, f" of {source.split}", row, _advice(source), bad)
        row += table.num_rows
    bad.close()


def describe(source: HubSource, hashes: FileHashes, reading: Reading) -> list[Entry]:
    """The settings; of a local dataset also its files; of a dataset of the hub without a commit its fingerprint.

    A commit cannot change, so that the corpus of a commit is found in the store without the hub.
    """
    settings = key_settings(source)
    if os.path.isfile(source.path):
        return [settings, hashes.entry(source.path)]
    if os.path.isdir(source.path):
        return [settings, *(hashes.entry(path) for path in _folder_files(source))]
    pinned = source.revision is not None and len(source.revision) == 40
    return [settings if pinned else {**settings, "fingerprint": load_hub(source, lenient=reading.lenient)._fingerprint}]


def name(source: HubSource) -> str:
    return source.path


# ------------------------------------------------------------------------------------------------------ loading


def load_hub(source: HubSource, columns: Sequence[str] = (), lenient: bool = False) -> Any:
    """Load the ``datasets.Dataset`` of a source. Code of a dataset is never run.

    Args:
        columns: names of columns of CSV files to read as text.
        lenient: read CSV files by the rules of pandas, to which cells such as ``NA`` and ``None`` are missing.

    Raises:
        DataError: the dataset cannot be loaded.
    """
    import datasets

    arguments, names = _arguments(source), dict[str, str]()
    if not os.path.exists(source.path):
        log.info("%s: no such file or folder here; looking for a dataset of the Hugging Face hub", source.path)
    check_card(source.path)
    try:
        with _quiet(datasets):
            builder = datasets.load_dataset_builder(**arguments)
            files, others = _local_files(builder, source)
            for file in [*files, *others]:
                _check_size(file)
            if not (lenient or os.path.exists(source.path)) and columns:
                names = _downloaded_csv(datasets, builder, source)
                files = list(names)
            options = {} if lenient else _csv_options(builder, files or others, columns, source)
            if "sep" in options:
                for file in files:
                    with _table_lines(file) as lines:
                        deque(csv_rows(lines, file, options["sep"]), maxlen=0)
            # Bypass the library's cache of local files, which goes by their times. The store loads only new content.
            fresh = "force_redownload" if os.path.exists(source.path) else None
            return datasets.load_dataset(**{**arguments, **options}, split=source.split, download_mode=fresh)
    except DataError as error:
        said = str(error)
        for file, name in names.items():
            said = said.replace(file, name)
        raise type(error)(said) from None
    except Exception as error:  # anything from ValueError to errors of its many backends
        raise DataError(_reason(error, source)) from None


@contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Silence the logs of the library and of the hub, which repeat the error that the library raises, and its bars."""
    hub = logging.getLogger("huggingface_hub")
    before, level, bars = datasets.logging.get_verbosity(), hub.level, datasets.is_progress_bar_enabled()
    datasets.logging.set_verbosity(logging.CRITICAL)
    hub.setLevel(logging.CRITICAL)
    if bars and not (sys.stderr is not None and sys.stderr.isatty()):
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(before)
        hub.setLevel(level)
        if bars:
            datasets.enable_progress_bars()


def _arguments(source: HubSource) -> dict[str, Any]:
    """Arguments of ``datasets.load_dataset``, without the split."""
    if not os.path.isfile(source.path):
        return {"path": source.path, "name": source.name, "revision": source.revision}
    builder = _builder(source.path)
    if builder is None:
        raise DataError(
            f"{source.path}: kind: hub reads files that end in {', '.join(_BUILDERS)}; kind: auto reads other "
            "formats, and lines of text are kind: text"
        )
    return {"path": builder[0], "data_files": glob.escape(source.path), **builder[1]}


def _builder(path: str) -> tuple[str, dict[str, Any]] | None:
    endings = [ending.lower() for ending in Path(path).suffixes[-2:]]
    if endings and endings[-1] in (".gz", ".bz2", ".xz", ".zst", ".zip"):
        endings.pop()
    return _BUILDERS.get(endings[-1]) if endings else None


def _local_files(builder: Any, source: HubSource) -> tuple[list[str], list[str]]:
    """The files of a local dataset: those of the split, and those of the other splits."""
    if not os.path.exists(source.path):
        return [], []
    split = re.split(r"[\[+]", source.split)[0]
    parts = {
        str(name): [path if os.path.isabs(source.path) else os.path.relpath(path) for path in map(str, paths)]
        for name, paths in (builder.config.data_files or {}).items()
    }
    return parts.pop(split, []), [path for paths in parts.values() for path in paths]


def _downloaded_csv(datasets: Any, builder: Any, source: HubSource) -> dict[str, str]:
    """The CSV files of a split on the hub: their paths in the cache of the library, and their names there."""
    named = builder.config.data_files or {}
    if type(builder.config).__name__ != "CsvConfig":
        return {}
    urls = list(named.get(re.split(r"[\[+]", source.split)[0], []))
    settings = datasets.DownloadConfig(
        cache_dir=builder._cache_downloaded_dir, token=builder.token, storage_options=builder.storage_options
    )
    manager = datasets.DownloadManager(
        dataset_name=builder.dataset_name, download_config=settings, base_path=builder.base_path
    )
    return dict(zip(map(str, manager.download_and_extract(urls)), map(str, urls), strict=True))


def _check_size(path: str) -> None:
    """Refuse an archive that would fill the disk.

    Raises:
        DataError: the archive unpacks to more than any text would.
    """
    if not zipfile.is_zipfile(path):
        check_unpacked_size(path)
        return
    with open_zip(path):
        pass


def check_card(path: str) -> None:
    """Refuse a local folder whose dataset card (``README.md``) names data on the network.

    A corpus of local files is identified by their content, which data on the network can change at any time.

    Raises:
        DataError: the card names data on the network.
    """
    if not os.path.isdir(path):
        return
    for name in ("README.md", ".huggingface.yaml"):
        try:
            if not Path(path, name).is_file():
                continue
            with Path(path, name).open(encoding="utf-8", errors="replace") as file:
                text = file.read(CARD_SIZE)
        except OSError:
            continue
        front = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", text, re.S) if name == "README.md" else None
        if name == "README.md" and front is None:
            continue
        try:
            card = yaml.safe_load(front.group(1) if front else text)
        except (yaml.YAMLError, RecursionError):
            continue  # the datasets library reports it
        for found in _strings(card.get("configs") if isinstance(card, dict) else None, set()):
            if "://" in found or "::" in found:
                raise DataError(
                    f"{path}/{name}: names {found} as data, which is not in this folder; download it into the folder"
                )


def _folder_files(source: HubSource) -> list[str]:
    """The files of a local folder, and the files elsewhere on this machine that its README names as data.

    Raises:
        DataError: the README names data on the network.
    """
    folder = Path(source.path)
    files = sorted(str(p) for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    if not (folder / "README.md").is_file():
        return files
    check_card(source.path)
    import datasets

    try:
        named = datasets.load_dataset_builder(source.path, name=source.name).config.data_files or {}
    except Exception:  # load_hub reads the folder next and reports the error
        return files
    inside = {os.path.realpath(path) for path in files}
    others = {str(path) for paths in named.values() for path in paths}
    return [*files, *sorted(p for p in others if os.path.isfile(p) and os.path.realpath(p) not in inside)]


def _strings(value: Any, seen: set[int]) -> Iterator[str]:
    """All strings in plain data. A value that YAML aliases repeat comes once."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list) and id(value) not in seen:
        seen.add(id(value))
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner, seen)


def _csv_options(builder: Any, files: Sequence[str], columns: Sequence[str], source: HubSource) -> dict[str, Any]:
    """Options with which the CSV reader returns every cell of the columns as text, unchanged."""
    config = builder.config
    if not columns or type(config).__name__ != "CsvConfig":
        return {}
    options = {"converters": dict.fromkeys(columns, str), "keep_default_na": False, "na_filter": False}
    usual = type(config)(name=config.name)
    if not files or any(getattr(config, name) != getattr(usual, name) for name in _CSV_FORM):
        return options
    with _table_lines(files[0]) as lines:
        number, line = next(((number, line) for number, line in enumerate(lines, 1) if line.strip()), (1, ""))
    where = f"{files[0]}:{number}"
    rows = {sep: next(csv.reader([line], delimiter=sep), []) for sep in dict.fromkeys([config.sep, *SEPARATORS])}
    sep = next((sep for sep, names in rows.items() if set(columns) <= set(names)), None)
    if sep is None:
        names = max(rows.values(), key=len)
        absent = next(column for column in columns if column not in names)
        raise SettingsError(
            f"{where}: no column '{absent}'; line {number} names: {', '.join(names)}; {_advice(source)}"
        )
    for column in columns:
        if rows[sep].count(column) > 1:
            raise DataError(f"{where}: names column '{column}' {rows[sep].count(column)} times; rename all but one")
    # Convert all columns: a column of numbers first and text later would be refused. Do not use usecols, with which
    # pandas accepts rows with too many cells, such as after an unquoted separator in a sentence.
    typed = config.features is not None or builder.info.features is not None  # by a dataset card
    return {**options, "converters": dict.fromkeys(columns if typed else rows[sep], str), "sep": sep}


@contextmanager
def _table_lines(path: str) -> Iterator[Iterator[str]]:
    """The lines of a CSV file, or of the only file in a ZIP archive; none for an archive of several files."""
    if not zipfile.is_zipfile(path):
        with open_text(path) as file:
            yield read_lines(file, path)
        return
    with zipfile.ZipFile(path) as archive:
        names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
        if len(names) != 1:
            yield iter(())
            return
        with archive.open(names[0]) as member:
            yield read_lines(member, path)


def _reason(error: Exception, source: HubSource) -> str:
    """The message for a dataset that cannot be loaded."""
    import datasets

    cause = error.__cause__ if isinstance(error, datasets.exceptions.DatasetGenerationError) else None
    reason = " ".join(str(cause or error).split()).rstrip(".") or type(error).__name__
    reason = reason if len(reason) <= 300 else f"{reason[:297]}..."
    if "scripts are no longer supported" in reason:
        advice = "give the revision refs/convert/parquet, which most such datasets have"
    elif isinstance(error, datasets.exceptions.DatasetNotFoundError):
        advice = "check the id (owner/name) and, for a gated dataset, that you are logged in"
    elif isinstance(error, ConnectionError) or "ffline" in type(error).__name__:
        advice = "connect to the network once to fetch it, or name a local file or folder"
    elif "codec can't decode" in reason:
        advice = "convert its files to UTF-8, from Windows-1252 with iconv -f WINDOWS-1252 -t UTF-8"
    elif "Error tokenizing data" in reason:
        advice = "put a cell that contains the separator or a quotation mark into quotation marks"
    elif isinstance(error, FileNotFoundError) and (named := _candidates(source.path)):
        advice = f"name the file itself, such as path: {named[0]}"
    elif isinstance(error, FileNotFoundError):
        advice = "name a folder with parquet, JSON or CSV files, or a hub id"
    else:
        advice = "check path, name, split and revision"
    return f"{source.path}: cannot be loaded: {reason}; {advice}"


def _candidates(path: str) -> list[str]:
    """Files in a folder that can be the path of a source."""
    if not os.path.isdir(path):
        return []
    return sorted(str(file) for file in Path(path).iterdir() if file.is_file() and _builder(str(file)))


def _advice(source: HubSource) -> str:
    """Advice for a missing column."""
    named = _candidates(source.path)
    which = f", or name the file, such as path: {named[0]}" if len(named) > 1 else ""
    return f"set src_column and tgt_column{which}"
