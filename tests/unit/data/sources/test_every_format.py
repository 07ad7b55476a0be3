"""For every format: a file that is read, a broken one with its message, and rows that are skipped and counted."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nmt.data.sources import read_pairs
from nmt.data.sources.base import Reading
from tests.unit.data.corpora import message, pairs, source

PAIRS = [("one", "eins"), ("three", "drei")]  # of each file; row 2 cannot be read in a broken file
BAD = b"z\xffw\xffi"


def tmx(middle: bytes) -> bytes:
    rows = [(b"one", b"eins"), (b"two", middle), (b"three", b"drei")]
    units = b"".join(b"<tu><tuv xml:lang='en'><seg>%s</seg></tuv><tuv xml:lang='de'><seg>%s</seg></tuv></tu>\n" % row
                     for row in rows)  # fmt: skip
    return (
        b"<?xml version='1.0'?><!DOCTYPE tmx SYSTEM 'tmx14.dtd'>\n<tmx version='1.4'><body>\n%s</body></tmx>\n" % units
    )


def archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in members.items():
            out.writestr(name, data)
    return buffer.getvalue()


def moses(middle: bytes) -> bytes:
    """An archive as OPUS publishes them."""
    other = {"README": b"Corpus Name: x\n", "LICENSE": b"CC0\n", "x.de-en.xml": b"<?xml version='1.0'?><cesAlign/>\n"}
    sides = {
        "x.de-en.en": b"one\ntwo\nthree\n",
        "x.de-en.de": b"eins\n%s\ndrei\n" % middle,
        "x.de-en.ids": b"1\n2\n3\n",
    }
    return archive({**other, **sides})


def parquet(middle: bytes) -> bytes:
    sides = [[b"one", b"two", b"three"], [b"eins", middle, b"drei"]]
    cells = [pa.array(side, pa.binary()).view(pa.string()) for side in sides]
    buffer = io.BytesIO()
    pq.write_table(pa.table({"en": cells[0], "de": cells[1]}), buffer)
    return buffer.getvalue()


def workbook(middle: Any) -> bytes:
    openpyxl = pytest.importorskip("openpyxl")
    book, buffer = openpyxl.Workbook(), io.BytesIO()
    for row in (["one", "eins", "=1"], ["two", middle, "=2"], ["three", "drei", "=3"]):
        book.active.append(row)
    book.save(buffer)
    return buffer.getvalue()


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


# The name of a file, its content by its second target, the second target of the broken file, and what is said of it.
FORMATS: list[tuple[str, Callable[[Any], bytes], Any, str]] = [
    ("a.tsv", lambda m: b"one\teins\ntwo\t%s\nthree\tdrei\n" % m, BAD, "a.tsv:2: not valid UTF-8 (byte 0xff at "
     "column 6); convert the file to UTF-8; if it is Windows-1252 (Western European): iconv -f WINDOWS-1252 -t UTF-8 < "
     "a.tsv > a.tsv.utf8"),
    ("a.csv", lambda m: b"en,de\none,eins\ntwo,%s\nthree,drei\n" % m, b"zwei,2", "a.csv:3: has 3 cells, the first row "
     "2; put a cell that contains a ',' into quotation marks, or delete the ',' that is too much"),
    ("a.jsonl", lambda m: b'{"en": "one", "de": "eins"}\n{"en": "two", "de": %s}\n{"en": "three", "de": "drei"}\n' % m,
     b"2", "a.jsonl:2: key 'de' is 2, which is not text; write each sentence in quotation marks"),
    ("a.parquet", parquet, BAD, "a.parquet: column 'de', rows 1 to 3: a cell is not valid UTF-8; write the dataset "
     "again from text in UTF-8"),
    ("a.xlsx", workbook, "=CONCATENATE(A1)", "a.xlsx: sheet 'Sheet', row 2: contains a formula without a stored value; "
     "open and save the workbook in Excel or LibreOffice, which compute it"),
    ("a.tmx", tmx, b"a&foo;", "a.tmx:4: uses the entity &foo;, which is not declared; write the character"),
    ("a.zip", moses, BAD, "a.zip: x.de-en.de:2: not valid UTF-8 (byte 0xff at column 2); convert the file to UTF-8; "
     "if it is Windows-1252 (Western European): iconv -f WINDOWS-1252 -t UTF-8"),
    ("b.zip", lambda m: archive({"LICENSE": b"x", "b.tmx": tmx(m)}), b"a&foo;", "b.zip: b.tmx:4: uses the entity "
     "&foo;, which is not declared; write the character"),
    ("d", lambda m: b"eins\n%s\ndrei\n" % m, BAD, "d/a.de:2: not valid UTF-8 (byte 0xff at column 2); convert the "
     "file to UTF-8; if it is Windows-1252 (Western European): iconv -f WINDOWS-1252 -t UTF-8 < d/a.de > d/a.de.utf8"),
    ("h", lambda m: b"en,de\none,eins\ntwo,%s\nthree,drei\n" % m, b"z\0", "h: row 2 of train contains a NUL character; "
     "remove it"),
]  # fmt: skip
GOOD = {"a.jsonl": b'"zwei"', "a.xlsx": "zwei"}


def write(name: str, data: bytes) -> None:
    if name in ("d", "h"):
        Path(name).mkdir(exist_ok=True)
    if name == "d":
        Path("d/a.en").write_bytes(b"one\ntwo\nthree\n")
    Path({"d": "d/a.de", "h": "h/train.parquet"}.get(name, name)).write_bytes(data)


@pytest.mark.parametrize(("name", "content", "broken", "said"), FORMATS, ids=[row[0] for row in FORMATS])
def test_a_file_a_broken_one_and_its_rows(
    here: Path, caplog: pytest.LogCaptureFixture, name: str, content: Callable[[Any], bytes], broken: Any, said: str
) -> None:
    if name == "h":
        content = parquet
    write(name, content(GOOD.get(name, b"zwei")))
    assert pairs(kind="auto", path=name) == [PAIRS[0], ("two", "zwei"), PAIRS[1]]
    write(name, content(broken))
    assert message(kind="auto", path=name) == said
    caplog.clear()
    skipped: dict[str, int] = {}
    reading = Reading(("en", "de"), skipped=skipped)
    assert list(read_pairs(source(kind="auto", path=name, on_bad_row="skip"), reading)) == PAIRS
    assert list(skipped.values()) == [1]
    assert caplog.text.count("warning: skipped: ") == 1
    assert "skipped 1 row that cannot be read" in caplog.text


@pytest.mark.parametrize(
    "pack", [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress), (".zst", zstd)]
)
@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.jsonl", "a.tmx", "a.en"])
def test_compressed_files(here: Path, name: str, pack: tuple[str, Callable[[bytes], bytes]]) -> None:
    ending, compress = pack
    contents = {row[0]: row[1] for row in FORMATS} | {"a.en": lambda m: b"one\n%s\nthree\n" % m}
    data = compress(contents[name](GOOD.get(name, b"zwei")))
    Path("a.de" + ending).write_bytes(compress(b"eins\nx\ndrei\n"))
    path = name + ending
    Path(path).write_bytes(data)
    found = pairs(kind="auto", path=path)
    assert [found[0], found[2]] == PAIRS
    Path(path).write_bytes(data[:-9])
    assert message(kind="auto", path=path).startswith(f"{path}: ")
    Path(path).write_bytes(b"one")
    assert message(kind="auto", path=path).startswith(f"{path}: is not ") or name == "a.tmx"


@pytest.mark.parametrize(
    "text", ["one\teins\n", "один\tпервый\n", "一个 上\t二\n", "วันนี้ ดี\tหนึ่ง\n", "واحد\tاثنان\n", "नमस्ते\tभाषा\n"]
)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_recognised(here: Path, text: str, encoding: str) -> None:
    Path("a.tsv").write_bytes((text * 3).encode(encoding))
    name = encoding.upper().replace("16-", "16")
    assert message(kind="auto", path="a.tsv") == (
        f"a.tsv: is text in {name}; convert it to UTF-8: iconv -f {name} -t UTF-8 < a.tsv > a.tsv.utf8"
    )


@pytest.mark.parametrize("text", ["hallo\0welt\n", "при\0вет мир\n", "上\0海 一\n", "a\0b\0c\0 d\n"])
def test_utf8_with_nul_characters_is_not_taken_for_utf16(here: Path, text: str) -> None:
    Path("a.tsv").write_text(f"one\teins\n{text}")
    assert message(kind="tsv", path="a.tsv") == (
        "a.tsv:2: contains a NUL character; is it a text file, in UTF-8? if so, remove them: "
        "tr -d '\\000' < a.tsv > a.tsv.clean"
    )


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_the_line_of_the_first_byte_of_another_encoding(here: Path, encoding: str) -> None:
    Path("a.tsv").write_bytes("one\teins\ntwo\tzwei\nthirty\tdreißig\n".encode(encoding))
    assert message(kind="auto", path="a.tsv") == (
        "a.tsv:3: not valid UTF-8 (byte 0xdf at column 12); convert the file to UTF-8; if it is Windows-1252 (Western "
        "European): iconv -f WINDOWS-1252 -t UTF-8 < a.tsv > a.tsv.utf8"
    )


def test_zip_with_a_member_without_partner(here: Path) -> None:
    Path("a.zip").write_bytes(archive({"a.en": b"one\n", "a.de": b"eins\n", "b.en": b"two\n"}))
    assert message(kind="zip", path="a.zip") == (
        "a.zip: b.en has no partner that ends in .de; set members to those to read"
    )
    assert pairs(kind="zip", path="a.zip", members="a.*") == [("one", "eins")]


def test_workbook_with_formulas_in_other_columns_and_stored_values(here: Path) -> None:
    """Formulas outside the two columns do not matter; a formula with a stored value is that value."""
    Path("a.xlsx").write_bytes(workbook("=A1"))
    with zipfile.ZipFile("a.xlsx") as old, zipfile.ZipFile("b.xlsx", "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename.endswith("sheet1.xml"):
                assert b"<f>A1</f><v" in data
                data = data.replace(b"<f>A1</f><v />", b"<f>A1</f><v>7</v>").replace(
                    b"<f>A1</f><v></v>", b"<f>A1</f><v>7</v>"
                )
            new.writestr(entry.filename, data)
    assert pairs(kind="xlsx", path="b.xlsx") == [PAIRS[0], ("two", "7"), PAIRS[1]]
