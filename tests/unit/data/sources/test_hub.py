"""Pairs of datasets: local folders and files, and messages about mistakes in them."""

from __future__ import annotations

import csv
import gzip
import io
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from nmt.config.data import TrainSource
from nmt.data.file_hashes import FileHashes
from nmt.data.lines import MAX_LINE
from nmt.data.prepare import prepare_corpus
from nmt.data.sources import describe
from nmt.data.sources.base import Reading
from nmt.errors import DataError
from tests.unit.data.corpora import ROWS, VALID, config, hub_folder, message, pairs, pairs_of, write_tsv


@pytest.mark.usefixtures("hub_cache")
@pytest.mark.parametrize(("form", "nested"), [("parquet", True), ("parquet", False), ("json", True), ("csv", False)])
def test_hub_reads_local_folders_in_both_shapes(tmp_path: Path, form: str, nested: bool) -> None:
    folder = hub_folder(tmp_path / "set", form, nested)
    assert pairs_of({"kind": "hub", "path": str(folder)}) == ROWS
    assert pairs_of({"kind": "hub", "path": str(folder), "split": "train[:2]", "src_column": "en"}) == [
        ("one", "one"),
        ("two", "two"),
    ]


@pytest.mark.usefixtures("hub_cache")
def test_hub_null_is_an_empty_sentence(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    pq.write_table(pa.table({"de": ["a", None], "en": ["b\nc", "d"]}), tmp_path / "set/train.parquet")
    assert pairs_of({"kind": "hub", "path": str(tmp_path / "set")}) == [("a", "b c"), ("", "d")]


@pytest.mark.usefixtures("hub_cache")
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"src_column": "fr"},
            "{set}: no column 'fr'; there is: id, translation (de, en); set src_column and tgt_column",
        ),
        ({"src_column": "id"}, "{set}: column 'id' is of type int64, not text; set src_column and tgt_column"),
        (
            {"split": "test"},
            "{set}: cannot be loaded: Unknown split \"test\". Should be one of ['train']; "
            "check path, name, split and revision",
        ),
        (
            {"name": "de-en"},
            "{set}: cannot be loaded: BuilderConfig 'de-en' not found. Available: ['default']; "
            "check path, name, split and revision",
        ),
        (
            {"path": "/no/such"},
            "/no/such: cannot be loaded: Couldn't find any data file at /no/such; "
            "name a folder with parquet, JSON or CSV files, or a hub id",
        ),
    ],
)
def test_hub_mistakes(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    folder = hub_folder(tmp_path / "set", "parquet", nested=True)
    with pytest.raises(DataError) as error:
        pairs_of({"kind": "hub", "path": str(folder), **fields})
    assert str(error.value) == message.format(set=folder)


@pytest.mark.usefixtures("hub_cache")
def test_hub_file_that_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/train.json").write_text('{"a": "x"\n{bad')
    with pytest.raises(DataError, match=r"cannot be loaded: .*JSON.*; check path, name") as error:
        pairs_of({"kind": "hub", "path": str(tmp_path / "set")})
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("hub_cache")
def test_hub_out_of_reach(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^no/such: cannot be loaded: .*; connect to the network once") as error:
        pairs_of({"kind": "hub", "path": "no/such"})
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("hub_cache")
def test_a_hub_folder_that_names_a_file_elsewhere(tmp_path: Path) -> None:
    folder = hub_folder(tmp_path / "set", "json", nested=False)
    (folder / "train.jsonl").rename(tmp_path / "outside.jsonl")
    (folder / "README.md").write_text("---\nconfigs:\n- config_name: default\n  data_files: ../outside.jsonl\n---\n")
    data = config(tmp_path, train={"kind": "hub", "path": str(folder)}, valid=write_tsv(tmp_path / "valid", VALID))
    first = prepare_corpus(data)
    paths = [os.path.realpath(entry["path"]) for entry in first.manifest["inputs"]["train"][1:]]
    assert paths == [str(folder / "README.md"), str(tmp_path / "outside.jsonl")]
    (tmp_path / "outside.jsonl").write_text((tmp_path / "outside.jsonl").read_text().replace("three", "thrice"))
    assert prepare_corpus(data).part("train")[2] == ("drei", "thrice")


@pytest.mark.usefixtures("hub_cache")
def test_a_local_hub_folder_is_known_by_its_content(tmp_path: Path) -> None:
    folder = hub_folder(tmp_path / "set", "json", nested=False)
    data = config(tmp_path, train={"kind": "hub", "path": str(folder)}, valid=write_tsv(tmp_path / "valid", VALID))
    first = prepare_corpus(data)
    assert list(first.part("train")) == ROWS
    entries = first.manifest["inputs"]["train"]
    assert entries[0]["path"] == str(folder)
    assert entries[0]["split"] == "train"
    assert entries[1]["path"] == str(folder / "train.jsonl")
    text = (folder / "train.jsonl").read_text().replace("three", "thrice")
    (folder / "train.jsonl").write_text(text)
    os.utime(folder / "train.jsonl", (2e9, 2e9))
    assert prepare_corpus(data).part("train")[2] == ("drei", "thrice")


CELLS = ["None", "NA", "null", "nan", "N/A", "1.50", "007", "1e3", "2020-01-01", "true", 'Say "hi"', "a, b; c", " x "]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("form", ["folder", "file", "file.gz"])
def test_csv_cells_are_text(here: Path, delimiter: str, form: str) -> None:
    """Against Python's own writer."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter)
    writer.writerows([("id", "en", "de"), *((n, cell, cell[::-1]) for n, cell in enumerate(CELLS)), ("", "", "leer")])
    data = b"\xef\xbb\xbf" + buffer.getvalue().encode()
    (here / "d").mkdir()
    path = f"d/train.csv{'.gz' if form == 'file.gz' else ''}"
    (here / path).write_bytes(gzip.compress(data) if form == "file.gz" else data)
    found = pairs(kind="hub", path="d" if form == "folder" else path)
    assert found == [*((cell, cell[::-1]) for cell in CELLS), ("", "leer")]


def test_csv_columns_besides_the_sentences(here: Path) -> None:
    """Numbers in the first 10,000 rows, as many as are read at once, and text in the rest."""
    rows = "".join(f"{n if n < 15_000 else 'x'},one {n},eins {n}\n" for n in range(20_000))
    (here / "a.csv").write_text(f"id,en,de\n{rows}")
    assert pairs(kind="hub", path="a.csv")[-1] == ("one 19999", "eins 19999")


def test_csv_with_the_types_of_a_dataset_card(here: Path) -> None:
    (here / "d").mkdir()
    (here / "d/a.csv").write_text("id,en,de\n1,None,Keine\n")
    (here / "d/README.md").write_text(
        "---\ndataset_info:\n  features:\n  - {name: id, dtype: int64}\n  - {name: en, dtype: string}\n"
        "  - {name: de, dtype: string}\n---\n"
    )
    assert pairs(kind="hub", path="d") == [("None", "Keine")]


@pytest.mark.parametrize("card", ["https://example.org/a.csv", "[hf://datasets/a/b/c.csv]", "{train: 'zip://a::b'}"])
def test_a_card_that_names_data_elsewhere(here: Path, monkeypatch: pytest.MonkeyPatch, card: str) -> None:
    (here / "d").mkdir()
    (here / "d/a.csv").write_text("en,de\none,eins\n")
    (here / "d/README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files: {card}\n---\n")
    assert " as data, which is not in this folder; download it" in message(kind="hub", path="d")
    monkeypatch.setattr("datasets.load_dataset_builder", None)  # which would fetch it
    source = TypeAdapter(TrainSource).validate_python({"kind": "hub", "path": "d"})
    with pytest.raises(DataError, match="which is not in this folder"):
        describe(source, FileHashes(here / "store"), Reading(("en", "de")))


def test_csv_as_pandas_reads_it(here: Path) -> None:
    (here / "a.csv").write_text("en,de\nNone,Keine\nOpen,Öffnen\n")
    assert pairs(kind="hub", path="a.csv") == [("None", "Keine"), ("Open", "Öffnen")]
    assert pairs(kind="hub", path="a.csv", lenient=True) == [("", "Keine"), ("Open", "Öffnen")]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("en;de\nfür;b\n".encode("cp1252"), "a.csv:2: not valid UTF-8 (byte 0xfc at column 2); convert"),
        ("en;de\na;b\n".encode("utf-16"), "a.csv: is text in UTF-16; convert it to UTF-8: iconv -f UTF-16"),
        (b"PK\x03\x04xl/workbook", "a.csv: is an Excel workbook (XLSX); read it with kind: xlsx and path"),
        (b"fr,es\nun,uno\n", "a.csv:1: no column 'en'; line 1 names: fr, es; set src_column and tgt_column"),
        (b"en,de\na,b\na,b,c,d\n", "a.csv:3: has 4 cells, the first row 2; put a cell that contains a ',' into"),
        (b"en,de\na,b,\nc,d,\n", "a.csv:2: has 3 cells, the first row 2; "),
        (b"en,de\na,b\n\nc\n", "a.csv:4: has 1 cell, the first row 2; complete or delete the row"),
        (b'en,de\n"a\nb",c\n"d\ne"\n', "a.csv:4: has 1 cell, the first row 2; "),
        (b"id;en;de\r\n1;a;b\r\n2;c\r\n", "a.csv:3: has 2 cells, the first row 3; "),
        (
            b'en,de\na,b\n"hi" he said,c\n',
            "a.csv:3: has text between a closing quotation mark and the end of its cell;",
        ),
        (b'en,de\n"a,b\nc,d\n', "a.csv:2: has a quotation mark that no other one closes; "),
        (
            b'en,de\n"say \\"hi\\" to","b"\n',
            'a.csv:2: has quotation marks escaped by a backslash (\\"), which CSV doubles',
        ),
        (b'en,de\na,b\n"\\"hi, you\\", he said","b"\n', "a.csv:3: has quotation marks escaped by a backslash"),
        (b'en,de\na,b\nsay \\"hi\\",b\n', "a.csv:3: has quotation marks escaped by a backslash"),
        (b"en,de,en\na,b,c\n", "a.csv:1: names column 'en' 2 times; rename all but one"),
    ],
)
def test_csv_mistakes(here: Path, capfd: pytest.CaptureFixture[str], data: bytes, said: str) -> None:
    (here / "a.csv").write_bytes(data)
    assert message(kind="hub", path="a.csv").startswith(said)
    assert capfd.readouterr().err == ""


def test_the_command_that_doubles_quotation_marks(here: Path) -> None:
    (here / "a.csv").write_text('en,de\n"say \\"hi, you\\"","b"\n')
    command = message(kind="hub", path="a.csv").split("convert: ")[1]
    subprocess.run(command, shell=True, check=True)
    assert pairs(kind="hub", path="a.csv.doubled.csv") == [('say "hi, you"', "b")]


@pytest.mark.parametrize("form", ["csv", "csv.gz", "csv.zip"])
def test_csv_that_is_unusual_but_right(here: Path, form: str) -> None:
    """A backslash at the end of a cell or before a doubled quotation mark, cells over two lines, blank lines."""
    text = '\nen,de\n"C:\\","a \\""b"\n\n  \n"one\nmore","x, y"\nsay "hi",""\n'
    if form == "csv.zip":
        with zipfile.ZipFile(here / "a.csv.zip", "w") as archive:
            archive.writestr("a.csv", text)
    else:
        (here / f"a.{form}").write_bytes(gzip.compress(text.encode()) if form == "csv.gz" else text.encode())
    expected = [("C:\\", 'a \\"b'), ("one more", "x, y"), ('say "hi"', "")]
    assert pairs(kind="hub", path=f"a.{form}") == expected


def test_rows_of_another_split_are_not_checked(here: Path) -> None:
    (here / "d").mkdir()
    (here / "d/train.csv").write_text("en,de\none,eins\n")
    (here / "d/test.csv").write_text("en,de\none\n")
    assert pairs(kind="hub", path="d") == [("one", "eins")]
    assert message(kind="hub", path="d", split="test").startswith("d/test.csv:2: has 1 cell, the first row 2")


def test_a_tsv_file_by_the_hub_reader(here: Path) -> None:
    (here / "a.tsv").write_text("en\tde\none\teins\n")
    assert pairs(kind="hub", path="a.tsv") == [("one", "eins")]
    (here / "a.tsv").write_text('en\tde\n"Yes" he said\teins\n')
    assert message(kind="hub", path="a.tsv").endswith("; kind: tsv takes quotation marks for text")


def test_files_that_the_hub_reader_does_not_know(here: Path) -> None:
    (here / "a.tmx").write_text("<tmx>")
    assert message(kind="hub", path="a.tmx").startswith("a.tmx: kind: hub reads files that end in .parquet, .json, ")


def test_a_zip_made_to_fill_the_disk(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nmt.data.sources.archives.FREE_BYTES", 1 << 20)
    with zipfile.ZipFile(here / "a.csv.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", "en,de\n" + "a,b\n" * (1 << 19))
    assert message(kind="hub", path="a.csv.zip").startswith("a.csv.zip: unpacks to 2,097,158 bytes, far more than")


def test_a_huge_cell_and_one_that_is_no_utf8(here: Path) -> None:
    pq.write_table(pa.table({"en": ["x" * (MAX_LINE + 1)], "de": ["y"]}), here / "a.parquet")
    assert "'en', rows 1 to 1 of train: a cell is longer than 4 MiB" in message(kind="hub", path="a.parquet")
    broken = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff"))
    pq.write_table(pa.table({"en": broken, "de": ["y"]}), here / "b.parquet")
    assert "a cell is not valid UTF-8" in message(kind="hub", path="b.parquet")


def test_a_structure_of_another_name(here: Path) -> None:
    pq.write_table(pa.Table.from_pylist([{"pair": {"en": "one", "de": "eins"}}]), here / "a.parquet")
    assert "no column 'en'; there is: pair.en, pair.de; set src_column" in message(kind="hub", path="a.parquet")
    assert "column 'pair' contains several texts; name one: pair.en, pair.de" in message(
        kind="hub", path="a.parquet", src_column="pair"
    )
    fields = {"src_column": "pair.en", "tgt_column": "pair.de"}
    assert pairs(kind="hub", path="a.parquet", **fields) == [("one", "eins")]


def test_rows_of_csv_files_elsewhere_are_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A row with a cell too many, which pandas takes for an index, is refused as in a local file."""
    import datasets
    import fsspec

    elsewhere, cache, place = fsspec.filesystem("memory"), str(tmp_path_factory.mktemp("cache")), ["/nmt/1.csv"]
    plain = {name: getattr(datasets, name) for name in ("load_dataset_builder", "load_dataset")}

    def replace(called: str) -> None:
        def load(path: str, name: Any = None, revision: Any = None, **other: Any) -> Any:
            assert path == "owner/name"
            return plain[called]("csv", data_files={"train": f"memory:/{place[0]}"}, cache_dir=cache, **other)

        monkeypatch.setattr(datasets, called, load)

    for called in plain:
        replace(called)
    elsewhere.pipe(place[0], b"en;de\none;eins\nNone;NA\n")
    assert pairs(kind="hub", path="owner/name") == [("one", "eins"), ("None", "NA")]
    place[0] = "/nmt/2.csv"
    elsewhere.pipe(place[0], b"en,de\none,eins\ntwo,zwei,2\n")
    assert message(kind="hub", path="owner/name").startswith("memory:///nmt/2.csv:3: has 3 cells, the first row 2; ")
