"""Pairs of CSV, XLSX, Parquet, TMX and ZIP files, written by other programs, and messages about mistakes in them."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import random
import re
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nmt.data.lines import MAX_LINE
from nmt.errors import DataError
from tests.unit.data.corpora import message, pairs, pairs_of


def write(path: str, data: str | bytes) -> None:
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_bytes(data if isinstance(data, bytes) else data.encode())


def zstd(data: bytes) -> bytes:
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as packed:
        packed.write(data)
    return bytes(out.getvalue())


# ----------------------------------------------------------------------------------------------------------------- CSV

CELLS = ["None", "NA", "1.50", "007", 'Say "hi"', "a, b; c | d\te", " x ", "two\nlines", ""]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_of_pythons_writer(here: Path, delimiter: str) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter)
    writer.writerows([("id", "de", "en"), *((n, cell[::-1], cell) for n, cell in enumerate(CELLS))])
    write("a.csv", b"\xef\xbb\xbf" + buffer.getvalue().encode())
    expected = [(cell.replace("\n", " "), cell[::-1].replace("\n", " ")) for cell in CELLS]
    assert pairs(kind="csv", path="a.csv") == expected
    assert pairs(kind="csv", path="a.csv", src_column="en", tgt_column="de", delimiter=delimiter) == expected
    assert pairs(kind="csv", path="a.csv", src_column=2, tgt_column=1, header=True) == expected
    assert pairs(kind="auto", path="a.csv") == expected


@pytest.mark.parametrize(
    ("text", "fields", "expected"),
    [
        ("one,eins\ntwo,zwei\n", {}, [("one", "eins"), ("two", "zwei")]),
        ("sep=;\none, two;eins, zwei\n", {}, [("one, two", "eins, zwei")]),
        ("EN;De\none;eins\n", {}, [("one", "eins")]),
        ("German,English\neins,one\n", {"src_column": "English", "tgt_column": "German"}, [("one", "eins")]),
        ("\n\none,eins\n \n", {}, [("one", "eins")]),
        ('the "one",die "eins"\n', {"quotes": False}, [('the "one"', 'die "eins"')]),
        ("one:eins\n", {"delimiter": ":"}, [("one", "eins")]),
        ('"one, two"\teins\n', {"delimiter": "\t"}, [("one, two", "eins")]),
        ("", {}, []),
    ],
)
def test_csv_forms(here: Path, text: str, fields: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    write("a.csv", text)
    assert pairs(kind="csv", path="a.csv", **fields) == expected


@pytest.mark.parametrize(
    ("data", "fields", "said"),
    [
        ("one\ntwo\n", {}, "a: its first row has one cell, by each delimiter of ',', ';', 'tab', '|'; a row has a "
         "pair: set delimiter to what separates its cells"),
        ("a,b;c\n", {}, "a: its cells may be separated by ',', ';'; set delimiter to the right one"),
        ("German,French\na,b\n", {}, "a:1: looks like a header (German, French); set header: true to skip it, or "
         "header: false if it is a pair of sentences"),
        ("x,de\na,b\n", {"src_column": "en"}, "a:1: no column 'en'; the header names: x, de"),
        ("en,de,en\na,b,c\n", {}, "a:1: names column 'en' 2 times; rename all but one"),
        ("a,b\n", {"src_column": 2}, "a:1: has 2 columns, but src_column is 2 and tgt_column 1, counted from 0"),
        ("a,b\nc\n", {}, "a:2: has 1 cell, the first row 2; complete or delete the row"),
        ("en,de\na,b\na,b,c\n", {}, "a:3: has 3 cells, the first row 2; put a cell that contains a ',' into quotation "
         "marks, or delete the ',' that is too much"),
        ('a,b\n"a,b\nc,d\n', {}, "a:2: has a quotation mark that no other one closes; close it, or delete it"),
        ("für;b\n".encode("cp1252"), {}, "a:1: not valid UTF-8 (byte 0xfc at column 2); convert the file to UTF-8; if "
         "it is Windows-1252 (Western European): iconv -f WINDOWS-1252 -t UTF-8 < a > a.utf8"),
        ("a;b\n".encode("utf-16"), {}, "a: is text in UTF-16; convert it to UTF-8: iconv -f UTF-16 -t UTF-8 < a > "
         "a.utf8"),
        (b"PK\x03\x04xl/workbook", {}, "a: is an Excel workbook (XLSX); read it with kind: xlsx and path"),
        ("# of 2024\n" + "one,eins\n" * 3, {}, "a: its first row has one cell, and those below have several, "
         "separated by ','; set skip_rows: 1 to skip a title or a comment"),
        ("# of 2024\n\nA glossary\n" + "one,eins\n" * 3, {}, "a: its first row has one cell, and those below have "
         "several, separated by ','; set skip_rows: 3 to skip a title or a comment"),
        ("'one, two','eins'\n" * 3, {}, "a: its cells stand in apostrophes, which CSV does not know; save it again "
         "with quotation marks (\"), or take them for text by quotes: false"),
    ],
)  # fmt: skip
def test_csv_mistakes(here: Path, data: str | bytes, fields: dict[str, Any], said: str) -> None:
    write("a", data)
    assert message(kind="csv", path="a", **fields) == said


# ----------------------------------------------------------------------------------------------------------- bad rows


@pytest.mark.parametrize(
    ("kind", "data", "problems"),
    [
        ("tsv", b"one\teins\ntwo\n\xff\tx\nthree\tdrei\n", ["a:2: has 1 tab-sep", "a:3: not valid UTF-8"]),
        ("csv", b'one,eins\ntwo\n"x"y,z\na,b,c\nn\0,u\nthree,drei\n',
         ["a:5: contains a NUL", "a:2: has 1 cell", "a:3: has text between", "a:4: has 3 cells"]),
        ("jsonl", b'{"en": "one", "de": "eins"}\n{\n{"en": "x"}\n[]\n{"en": "three", "de": "drei"}\n',
         ["a:2: not valid JSON", "a:3: no key 'de'", "a:4: is an array"]),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_read(
    here: Path, caplog: pytest.LogCaptureFixture, kind: str, data: bytes, problems: list[str]
) -> None:
    write("a", data)
    assert message(kind=kind, path="a").startswith(tuple(problems))  # some of the first rows are read together
    assert pairs(kind=kind, path="a", on_bad_row="skip") == [("one", "eins"), ("three", "drei")]
    for problem in problems[:3]:
        assert f"warning: skipped: {problem}" in caplog.text
    assert f"warning: a: skipped {len(problems)} rows that cannot be read" in caplog.text
    assert caplog.text.count("warning: ") == min(3, len(problems)) + 1


def test_lines_that_cannot_be_read_leave_out_the_pair(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    write("a.en", b"one\nf\xfcr\n" + b"x" * (2 * MAX_LINE) + b"\nfour\nfive\n")
    write("a.de", b"eins\nzwei\ndrei\nvier\n\xff\n")
    fields = {"kind": "text", "src": "a.en", "tgt": "a.de"}
    assert message(**fields).startswith("a.en:2: not valid UTF-8 (byte 0xfc at column 2); ")
    assert pairs(**fields, on_bad_row="skip") == [("one", "eins"), ("four", "vier")]
    assert "skipped: a.en:3: is longer than 4 MiB" in caplog.text
    assert "a.en: skipped 2 rows" in caplog.text
    assert "a.de: skipped 1 row" in caplog.text
    write("a.de", b"eins\n")
    assert message(**fields, on_bad_row="skip").startswith("a.en has 5 lines but a.de has 1; ")


def test_an_open_quotation_mark_ends_reading_whatever_is_skipped(here: Path) -> None:
    write("a", 'one,eins\n"two,zwei\nthree,drei\n')
    assert message(kind="csv", path="a", on_bad_row="skip").startswith("a:2: has a quotation mark that no other")


# ----------------------------------------------------------------------------------------------------------------- TMX

START = (
    '<?xml version="1.0"?>\n<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n<tmx version="1.4">\n<header srclang="en"/>\n<body>\n'
)
END = "</body>\n</tmx>\n"


def unit(*variants: tuple[str, str], attribute: str = "xml:lang") -> str:
    inner = "".join(f'<tuv {attribute}="{code}"><seg>{text}</seg></tuv>' for code, text in variants)
    return f"<tu tuid='1'><note>n</note>{inner}</tu>\n"


@pytest.mark.parametrize(
    ("variants", "expected"),
    [
        ([("en", "one"), ("de", "eins")], [("one", "eins")]),
        ([("de-AT", "eins"), ("EN_us", "one")], [("one", "eins")]),
        ([("en", "one"), ("den", "x"), ("fr", "un"), ("de", "eins")], [("one", "eins")]),
        ([("en-GB", "colour"), ("en-US", "color"), ("de", "Farbe")], [("colour", "Farbe"), ("color", "Farbe")]),
        ([("en-GB", "colour"), ("en", "color"), ("de", "Farbe")], [("color", "Farbe")]),
        ([("en", "a"), ("de", "b"), ("de", "c"), ("de", "b")], [("a", "b"), ("a", "c")]),
        ([("en", "&lt;a&gt; &amp; &#228;"), ("de", "<![CDATA[<b>]]>")], [("<a> & ä", "<b>")]),
        ([("en", "\n   one\n   two "), ("de", "eins\tzwei")], [("one two", "eins zwei")]),
        ([("en", "a <hi type='b'>bold</hi> word"), ("de", "<ph/>")], [("a bold word", "")]),
        ([("en", "<bpt i='1'>{\\b <sub>x</sub></bpt>bold<ept i='1'>}</ept><it pos='begin'>y</it>!"), ("de", "z")],
         [("bold!", "z")]),
    ],
)  # fmt: skip
def test_tmx(here: Path, variants: list[tuple[str, str]], expected: list[tuple[str, str]]) -> None:
    write("a.tmx", START + unit(*variants) + unit(("fr", "un"), ("en", "one")) + END)
    assert pairs(kind="tmx", path="a.tmx") == expected
    write("old.tmx", START + unit(*variants, attribute="lang") + END)
    assert pairs(kind="auto", path="old.tmx") == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "windows-1252", "iso-8859-1"])
def test_tmx_in_the_encoding_that_it_declares(here: Path, encoding: str) -> None:
    text = START.replace('"1.0"', f'"1.0" encoding="{encoding}"') + unit(("en", "é"), ("de", "ß")) + END
    write("a.tmx", text.encode(encoding))
    assert pairs(kind="tmx", path="a.tmx") == [("é", "ß")]


def test_tmx_of_a_language_and_its_region(here: Path) -> None:
    write("a.tmx", START + unit(("pt-PT", "autocarro"), ("pt-BR", "ônibus")) + END)
    assert pairs_of({"kind": "tmx", "path": "a.tmx"}, "pt", "pt-BR") == [("autocarro", "ônibus")]
    assert pairs_of({"kind": "tmx", "path": "a.tmx"}, "pt_br", "pt") == [("ônibus", "autocarro")]


@pytest.mark.parametrize(
    ("codes", "languages", "expected"),
    [
        (("zh-CN", "en-US"), ("zh-Hans", "en"), True),
        (("zh-TW", "en-US"), ("zh-Hans", "en"), False),
        (("zh-HK", "en"), ("zh-Hant", "en"), True),
        (("bod", "eng"), ("bo", "en"), True),
        (("tib", "en-GB"), ("bo-IN", "eng_Latn"), False),  # Tibetan without a region is that of China
        (("sr-ME", "en"), ("sr-Latn", "en"), True),
        (("sr", "en"), ("sr-Latn", "en"), False),
        (("que", "spa"), ("qu", "es"), True),
    ],
)
def test_tmx_codes_that_mean_the_language(
    here: Path, codes: tuple[str, str], languages: tuple[str, str], expected: bool
) -> None:
    write("a.tmx", START + unit((codes[0], "a"), (codes[1], "b")) + END)
    if expected:
        assert pairs_of({"kind": "tmx", "path": "a.tmx"}, *languages) == [("a", "b")]
    else:
        with pytest.raises(DataError, match="no unit has both"):
            pairs_of({"kind": "tmx", "path": "a.tmx"}, *languages)


def test_tmx_prefers_the_nearest_code(here: Path) -> None:
    write("a.tmx", START + unit(("zh-CN", "c"), ("zh", "b"), ("zh-Hans", "a"), ("en", "x")) + END)
    assert pairs_of({"kind": "tmx", "path": "a.tmx"}, "zh-Hans", "en") == [("a", "x")]
    assert pairs_of({"kind": "tmx", "path": "a.tmx"}, "zh-CN", "en") == [("c", "x")]


def test_tmx_in_an_encoding_that_has_to_be_converted(here: Path) -> None:
    text = START.replace('"1.0"', '"1.0" encoding="Shift_JIS"') + unit(("en", "cat"), ("de", "猫")) + END
    write("a b.tmx", text.encode("shift_jis"))
    said = message(kind="tmx", path="a b.tmx")
    assert said.startswith(
        "a b.tmx: declares the encoding Shift_JIS, which cannot be read; convert it to UTF-8: (iconv"
    )
    subprocess.run(said.split("UTF-8: ")[1], shell=True, check=True)
    assert pairs(kind="tmx", path="a b.tmx.utf8") == [("cat", "猫")]
    write("a.tmx", text.replace("Shift_JIS", "nothing").encode("shift_jis"))
    assert message(kind="tmx", path="a.tmx").startswith("a.tmx: declares the encoding nothing, which cannot be read; ")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstd])
def test_compressed_files_of_every_kind(here: Path, pack: Any) -> None:
    for name, text in [
        ("a.tmx", START + unit(("en", "one"), ("de", "eins")) + END),
        ("a.csv", "one,eins\n"),
        ("a.tsv", "one\teins\n"),
        ("a.jsonl", '{"en": "one", "de": "eins"}\n'),
    ]:
        ending = {"zstd": ".zst", "compress": f".{pack.__module__.replace('lzma', 'xz').replace('gzip', 'gz')}"}
        path = f"{name}{ending[pack.__name__]}"
        write(path, pack(text.encode()))
        assert pairs(kind="auto", path=path) == [("one", "eins")], path


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (START + unit(("en-US", "a"), ("fr", "b")) + END, "a: no unit has both en and de; it has: en-US (1 units), fr "
         "(1 units); name two of them as the languages (data.src_lang and data.tgt_lang, or --langs)"),
        (START + END, "a: contains no translation units (<tu>); export it again"),
        (START + unit(("en", "a"), ("de", "b")), "a:7: ends before </tmx>; is the file cut off? copy it again"),
        (START + "<tu><tuv><seg>a</seg></tuv></tu>" + END, "a:6: has a variant without a language (xml:lang); add it"),
        (START + unit(("en", "a < b"), ("de", "c")) + END, "a:6: not valid XML: not well-formed (invalid token) "
         "(column 55); correct the file, or export it again"),
        ((START + unit(("en", "für"), ("de", "c")) + END).encode("cp1252"), "a:6: not valid XML: not well-formed "
         "(invalid token) (column 53); if the file is Windows-1252 (Western European): iconv -f WINDOWS-1252 -t UTF-8 "
         "< a > a.utf8"),
        (START + unit(("en", "a&nbsp;b"), ("de", "c")) + END, "a:6: uses the entity &nbsp;, which is not declared; "
         "write the character"),
        ("", "a: is empty; a translation memory (TMX) is XML"),
        ("one\teins\n", "a: is not a translation memory (TMX): it does not begin with XML"),
        ("<html><body/></html>", "a: is XML of another kind (<html>), not a translation memory (<tmx>)"),
        (b"PK\x03\x04xl/workbook", "a: is an Excel workbook (XLSX); read it with kind: xlsx and path"),
        ("<tmx>" + "<a>" * 100, "a:1: nests more than 64 elements; is it a TMX file?"),
    ],
)  # fmt: skip
def test_tmx_mistakes(here: Path, data: str | bytes, said: str) -> None:
    write("a", data)
    assert message(kind="tmx", path="a") == said


@pytest.mark.parametrize(
    ("text", "said", "left"),
    [
        ("a & b", "has an & that begins no entity; write it as &amp;", "a & b"),
        ("AT&T &lt;", "has an & that begins no entity; write it as &amp;", "AT&T <"),
        ("a&nbsp;b", "XML does not know &nbsp;; replace it", "a\xa0b"),
        ("a&nosuch;b", "XML does not know &nosuch;; replace it", "ab"),
        ("a&#x1F;b", "XML does not know &#x1F;; replace it", "ab"),
        ("a\x0bb", "contains the control character 0x0b, which XML excludes; remove it", "ab"),
    ],
)
def test_tmx_that_a_command_corrects(here: Path, text: str, said: str, left: str) -> None:
    write("a", START.replace('<!DOCTYPE tmx SYSTEM "tmx14.dtd">', "") + unit(("en", text), ("de", "c")) + END)
    told = message(kind="tmx", path="a")
    start, command = told.split(f"{said}: ")
    assert re.fullmatch(r"a:\d: ", start)
    subprocess.run(["sh", "-c", command], check=True)
    assert pairs(kind="tmx", path="a.clean") == [(left, "c")]


def test_tmx_documents_that_a_command_corrects(here: Path) -> None:
    text = "<tmx><body>" + unit(("en", "one"), ("de", "eins")) + END
    head = '<?xml version="1.0" encoding="{}"?>\n'
    for written, said, made in [
        (text + text, "a:4: begins a second document; write it to a separate file, and delete it here: ", "a.2"),
        (head.format("UTF-8") + text + head.format("UTF-8") + text, "a:5: begins a second document; ", "a.2"),
        ("\n \n" + head.format("UTF-8") + text, "a:3: has lines before the XML declaration; remove them: ", "a.clean"),
        (head.format("UTF-16") + text, "a:1: declares another encoding than it has; if it is UTF-8: ", "a.utf8"),
    ]:
        write("a", written)
        told = message(kind="tmx", path="a")
        assert told.startswith(said), told
        subprocess.run(["sh", "-c", told.rpartition(": ")[2]], check=True)
        assert pairs(kind="tmx", path=made) == [("one", "eins")]


def test_tmx_in_capitals(here: Path) -> None:
    text = START + unit(("en", "one"), ("de", "eins")) + END
    write("a", re.sub("</?[a-z]+|xml:lang", lambda found: found[0].upper(), text.split("\n", 2)[2]))
    assert pairs(kind="tmx", path="a") == [("one", "eins")]


@pytest.mark.parametrize(
    "declared",
    ['<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">', '<!ENTITY x SYSTEM "file:///etc/passwd">', '<!ENTITY % p "x">'],
)
def test_tmx_that_declares_entities(here: Path, declared: str) -> None:
    write("a", START.replace('SYSTEM "tmx14.dtd"', f"[{declared}]") + unit(("en", "&b;"), ("de", "x")) + END)
    said = message(kind="tmx", path="a", on_bad_row="skip")
    assert said.startswith("a:2: declares the entity '")
    assert said.endswith(
        "entities can expand without bound; replace the entity by its text, and remove the declaration"
    )


def test_tmx_units_that_cannot_be_read(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    wrong = [("x" * (MAX_LINE + 1), "y"), ("a&foo;", "y")]
    units = [*(unit(("en", en), ("de", de)) for en, de in wrong), unit(*([("en", "a"), ("de", "b")] * 101))]
    write("a", START + "".join(units) + unit(("en", "one"), ("de", "eins")) + END)
    assert message(kind="tmx", path="a").startswith("a:6: contains more than 4 Mi characters; ")
    assert pairs(kind="tmx", path="a", on_bad_row="skip") == [("one", "eins")]
    assert "a: skipped 3 rows that cannot be read" in caplog.text


def test_memory_does_not_grow_with_a_translation_memory(here: Path) -> None:
    """Peaks of Python's memory, which holds the units; a token of the parser's own memory is bounded as well."""
    peaks = []
    for count in (500, 4_000):
        write("a", START + unit(("en", "one " * 200), ("de", "eins " * 200)) * count + END)
        tracemalloc.start()
        assert sum(1 for _ in pairs_lazily("a")) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
    write("a", f"{START}<!-- {'x' * (2 * MAX_LINE)}")
    assert message(kind="tmx", path="a") == "a:6: has a tag or a comment of more than 4 MiB; remove it"


def pairs_lazily(path: str) -> Iterator[tuple[str, str]]:
    from nmt.data.sources import read_pairs
    from nmt.data.sources.base import Reading
    from tests.unit.data.corpora import source

    return read_pairs(source(kind="tmx", path=path), Reading(("en", "de")))


# ------------------------------------------------------------------------------------------------------ damaged files

PIECES = [b'"', b"<", b"&", b"\0", b"\xff\xfe", b"\r", b"\n", b"<tu>", b"</seg>", b"\x80", b"]]>", b'encoding="x"']


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The data with some bytes changed, deleted, repeated or cut off."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        i = rng.randrange(len(out) + 1)
        match rng.randrange(5):
            case 0:
                out[i : i + 1] = bytes([rng.randrange(256)])
            case 1:
                del out[i : i + rng.randint(1, 20)]
            case 2:
                out[i:i] = out[rng.randrange(len(out) + 1) :][:30]
            case 3:
                out[i:i] = rng.choice(PIECES)
            case _:
                del out[i:]
    return bytes(out)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["a.csv", "a.csv.gz", "a.tsv", "a.jsonl", "a.tmx", "b.tmx", "a.parquet", "a.xlsx", "a.zip"]
)
@pytest.mark.parametrize("mode", ["error", "skip"])
def test_damage_gives_a_message_or_pairs(here: Path, name: str, mode: str) -> None:
    """Nothing but DataError comes out of a damaged file; a pair has no newlines and no NUL characters."""
    table = 'en;de\n"one; ""x""";eins\ntwo;"zw\nei"\n'
    memory = START + unit(("en", "one <bpt i='1'/>a&amp;"), ("de", "eins")) * 3 + END
    match name:
        case "a.parquet":
            pq.write_table(pa.table({"en": ["one", "two"] * 50, "de": ["eins", "zwei"] * 50}), name)
        case "a.xlsx":
            workbook(name, {"T": [["en", "de"], ["one", "eins"], ["x & y", "z"]]})
        case "a.zip":
            archive(name, {"a.en": "one\n" * 20, "a.de": "eins\n" * 20})
        case "b.tmx":
            write(name, memory.replace('"1.0"', '"1.0" encoding="utf-16"').encode("utf-16"))
        case "a.tmx":
            write(name, memory)
        case "a.csv" | "a.csv.gz":
            write(name, gzip.compress(table.encode(), mtime=0) if name.endswith("gz") else table)
        case "a.tsv":
            write(name, "en\tde\none\teins\ntwo\tzwei\n")
        case "a.jsonl":
            write(name, '{"en": "one", "de": "eins"}\n' * 3)
    assert pairs(kind="auto", path=name)
    data, rng = Path(name).read_bytes(), random.Random(1)
    for _ in range(40 if name == "a.xlsx" else 100):
        write(name, damaged(data, rng))
        said, found = "", list[tuple[str, str]]()
        try:
            found = pairs(kind="auto", path=name, on_bad_row=mode)
        except DataError as error:
            said = str(error)
        assert "\n" not in said
        assert not any("\n" in side or "\0" in side for pair in found for side in pair)


# ------------------------------------------------------------------------------------------------------------- Parquet


def test_parquet(here: Path) -> None:
    rows = [{"id": 1, "en": "one", "de": "eins"}, {"id": 2, "en": "NA", "de": None}, {"id": 3, "en": "a\nb", "de": "c"}]
    expected = [("one", "eins"), ("NA", ""), ("a b", "c")]
    pq.write_table(pa.Table.from_pylist(rows), here / "a.parquet", row_group_size=1, compression="zstd")
    assert pairs(kind="parquet", path="a.parquet") == expected
    assert pairs(kind="auto", path="a.parquet") == expected
    nested = [{"translation": {"en": row["en"], "de": row["de"]}} for row in rows]
    pq.write_table(pa.Table.from_pylist(nested), here / "b.parquet", use_dictionary=True)
    assert pairs(kind="parquet", path=["a.parquet", "b.parquet"]) == expected * 2
    assert pairs(kind="parquet", path="a.parquet", src_column="de", tgt_column="en")[0] == ("eins", "one")


def test_parquet_mistakes(here: Path) -> None:
    pq.write_table(pa.table({"en": ["one", "a\0b"], "fr": ["un", "x"], "n": [1, 2]}), here / "a.parquet")
    assert message(kind="parquet", path="a.parquet") == (
        "a.parquet: no column 'de'; there is: en, fr, n; set src_column and tgt_column"
    )
    fields = {"kind": "parquet", "path": "a.parquet", "tgt_column": "fr"}
    assert message(**fields) == "a.parquet: row 2 contains a NUL character; remove it"
    assert pairs(**fields, on_bad_row="skip") == [("one", "un")]
    assert message(kind="parquet", path="a.parquet", tgt_column="n").startswith(
        "a.parquet: column 'n' is of type int64, not"
    )
    write("b.parquet", (here / "a.parquet").read_bytes()[:-20])
    assert message(kind="parquet", path="b.parquet").startswith("b.parquet: Parquet file damaged or cut off (")
    write("c.parquet", "one,eins\n")
    said = "c.parquet: is not a Parquet file; name one, or set the kind to that of the file"
    assert message(kind="parquet", path="c.parquet") == said
    write("c.parquet", START)
    said = "c.parquet: is a translation memory (TMX, XML), not lines of text; read it with kind: tmx and path"
    assert message(kind="parquet", path="c.parquet") == said


def test_parquet_cells_that_are_no_utf8(here: Path) -> None:
    broken = pa.StringArray.from_buffers(2, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"\xffa"))
    pq.write_table(pa.table({"en": broken, "de": ["x", "y"]}), here / "a.parquet")
    fields = {"kind": "parquet", "path": "a.parquet"}
    assert "column 'en', rows 1 to 2: a cell is not valid UTF-8" in message(**fields)
    assert pairs(**fields, on_bad_row="skip") == [("a", "y")]


# ---------------------------------------------------------------------------------------------------------------- XLSX


def workbook(path: str, sheets: dict[str, list[list[Any]]]) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(path)


def test_xlsx(here: Path) -> None:
    rows = [["id", "EN", "de"], [1, "one", "eins"], [2, "a\nb", None], [], [3, 1.5, 2], [4, "NA", "x"], [5, True, "y"]]
    expected = [("one", "eins"), ("a b", ""), ("1.5", "2"), ("NA", "x"), ("TRUE", "y")]
    workbook("a.xlsx", {"Text": rows, "Other": [["one", "eins"]]})
    assert pairs(kind="xlsx", path="a.xlsx") == expected
    assert pairs(kind="auto", path="a.xlsx") == expected
    assert pairs(kind="xlsx", path="a.xlsx", src_column=1, tgt_column="de") == expected
    assert pairs(kind="xlsx", path="a.xlsx", sheet="Other") == [("one", "eins")]


def test_xlsx_mistakes(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows: list[list[Any]] = [["German", "French"], ["one", "eins"]]
    bad: list[list[Any]] = [["one", "eins"], ["#N/A", "x"], ["two", "zwei"]]
    workbook("a.xlsx", {"Text": rows, "Empty": [], "Data": bad})
    for fields, said in [
        ({}, "a.xlsx: sheet 'Text', row 1: looks like a header (German, French); set header: true to skip it, or "
         "header: false if it is a pair of sentences"),
        ({"sheet": "Data"}, "a.xlsx: sheet 'Data', row 2: contains the error #N/A; correct the formula"),
        ({"src_column": "en"}, "a.xlsx: sheet 'Text', row 1: no column 'en'; the header names: German, French"),
        ({"sheet": "Empty"}, "a.xlsx: sheet 'Empty' is empty; name another one as sheet: Text, Data"),
        ({"sheet": "text"}, "a.xlsx: no sheet 'text'; it has: Text, Empty, Data"),
        ({"sheet": "Text", "tgt_column": 2}, "a.xlsx: sheet 'Text', row 1: has 2 columns, but src_column is 0 and "
         "tgt_column 2, counted from 0"),
    ]:  # fmt: skip
        assert message(kind="xlsx", path="a.xlsx", **fields) == said
    workbook("b.xlsx", {"Read me": [["How to use this file"]], "Terms": bad})
    assert message(kind="xlsx", path="b.xlsx") == (
        "b.xlsx: sheet 'Read me', row 1: has 1 column, but src_column is 0 and tgt_column 1, counted from 0; or "
        "name another sheet: Terms"
    )
    assert pairs(kind="xlsx", path="a.xlsx", sheet="Data", on_bad_row="skip") == [("one", "eins"), ("two", "zwei")]
    assert "a.xlsx: skipped 1 row that cannot be read" in caplog.text


OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1016)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (OLE + "EncryptedPackage".encode("utf-16-le"), "a: is a workbook protected by a password; save it without a "
         "password"),
        (OLE + "Workbook".encode("utf-16-le"), "a: is an old Excel workbook (XLS); save it as XLSX or as CSV in UTF-8"),
        (b"one;eins\n", "a: is not an Excel workbook (XLSX); name one, or set the kind to that of the file"),
        (b"PAR1", "a: is a Parquet file; read it with kind: parquet and path"),
        (b"PK\x03\x04" + bytes(100), "a: ZIP archive damaged or cut off (File is not a zip file); copy it again"),
    ],
)  # fmt: skip
def test_files_that_are_no_workbooks(here: Path, data: bytes, said: str) -> None:
    pytest.importorskip("openpyxl")
    write("a", data)
    assert message(kind="xlsx", path="a") == said


def changed_workbook(path: str, content: bytes) -> None:
    """The workbook ``a.xlsx`` with other content of its sheet, deflated."""
    workbook("a.xlsx", {"Text": [["one", "eins"]]})
    with zipfile.ZipFile("a.xlsx") as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, content if entry.filename.endswith("sheet1.xml") else old.read(entry))


def test_workbooks_made_to_harm(here: Path) -> None:
    changed_workbook("b.xlsx", b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><worksheet/>')
    assert message(kind="xlsx", path="b.xlsx") == (
        "b.xlsx: xl/worksheets/sheet1.xml declares a document type, as no workbook does; save it again by Excel"
    )
    changed_workbook("c.xlsx", bytes(20 << 20))
    assert "c.xlsx: unpacks to 20,9" in message(kind="xlsx", path="c.xlsx")
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    far = f'<worksheet {main}><sheetData><row r="99999999"><c r="A99999999"><v>1</v></c></row></sheetData></worksheet>'
    changed_workbook("d.xlsx", far.encode())
    assert message(kind="xlsx", path="d.xlsx") == (
        "d.xlsx: sheet 'Text' has more than 1,048,576 rows, the most that Excel has"
    )
    changed_workbook("e.xlsx", f"<worksheet {main}><sheetData><row>".encode())
    assert message(kind="xlsx", path="e.xlsx").startswith("e.xlsx: workbook damaged or cut off (")


def test_workbooks_need_openpyxl(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.xlsx", b"PK")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    assert message(kind="xlsx", path="a.xlsx") == (
        "a.xlsx: reading Excel workbooks needs openpyxl, which is not installed; "
        f"{sys.executable} -m pip install openpyxl, or save the sheet as CSV in UTF-8 and read it with kind: csv"
    )


# ----------------------------------------------------------------------------------------------------------------- ZIP


def archive(path: str, members: dict[str, str | bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in members.items():
            out.writestr(name, data)


def test_zip_of_text_files(here: Path) -> None:
    books = {"README": "x", "Books.de-en.de": "eins\n", "Books.de-en.en": "one\n", "Books.de-en.ids": "1 1\n"}
    archive("a.zip", {**books, "__MACOSX/Books.de-en.en": "\0"})
    assert pairs(kind="zip", path="a.zip") == [("one", "eins")]
    assert pairs(kind="auto", path="a.zip") == [("one", "eins")]
    archive(
        "b.zip", {"d/train.en.gz": gzip.compress(b"two\n"), "d/train.de": "zwei\n", "d/dev.en": "x\n", "d/dev.de": "y"}
    )
    assert pairs(kind="zip", path=["a.zip", "b.zip"]) == [("one", "eins"), ("x", "y"), ("two", "zwei")]
    assert pairs(kind="zip", path="b.zip", members="*/train.*") == [("two", "zwei")]


def test_zip_of_a_translation_memory(here: Path) -> None:
    archive("a.zip", {"LICENSE": "x", "de-en.tmx": START + unit(("en", "one"), ("de", "eins")) + END})
    assert pairs(kind="zip", path="a.zip") == [("one", "eins")]
    archive("a.zip", {"de-en.tmx": START})
    assert message(kind="zip", path="a.zip") == (
        "a.zip: de-en.tmx:6: ends before </tmx>; is the file cut off? copy it again"
    )


def test_zip_mistakes(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    archive("a.zip", {"README": "x", "a.en": "one\n", "a.fr": "un\n"})
    assert message(kind="zip", path="a.zip") == (
        "a.zip: contains no files that end in .en and .de, and no .tmx file; check the languages (src_lang, tgt_lang) "
        "and members; it contains: README, a.en, a.fr"
    )
    archive("h.zip", {"README": "x", "d/corpus.csv": "en,de\none,eins\n"})
    assert message(kind="zip", path="h.zip") == (
        "h.zip: contains no files that end in .en and .de, and no .tmx file; unpack it, and name d/corpus.csv; it "
        "contains: README, d/corpus.csv"
    )
    archive("b.zip", {"a.en": "one\n", "a.de": "eins\n", "a.tmx": "<tmx/>"})
    assert message(kind="zip", path="b.zip") == (
        "b.zip: contains both text files and translation memories; set members to those to read; it contains: a.en, "
        "a.de, a.tmx"
    )
    archive("c.zip", {"a.en": b"one\n\xff\nthree\n", "a.de": "eins\nzwei\ndrei\n"})
    assert message(kind="zip", path="c.zip").startswith("c.zip: a.en:2: not valid UTF-8 (byte 0xff at column 1); ")
    assert pairs(kind="zip", path="c.zip", on_bad_row="skip") == [("one", "eins"), ("three", "drei")]
    assert caplog.text.count("c.zip: skipped 1 row") == 1
    write("d.zip", Path("c.zip").read_bytes()[:-30])
    assert message(kind="zip", path="d.zip").startswith("d.zip: ZIP archive damaged or cut off (")
    write("e.zip", "one\n")
    assert message(kind="zip", path="e.zip") == (
        "e.zip: is not a ZIP archive; name one, or set the kind to that of the file"
    )
    write("i.zip", gzip.compress(b"one\n"))
    assert message(kind="zip", path="i.zip") == (
        "i.zip: is packed by gzip, and is not a ZIP archive; end its name in that of its content, as in .tsv.gz"
    )
    data = bytearray(Path("c.zip").read_bytes())
    data[data.index(b"a.en") + 4] ^= 0x40  # the first byte of the packed text
    write("f.zip", bytes(data))
    assert message(kind="zip", path="f.zip").startswith("f.zip: a.en: damaged ZIP file after line 0 (")
    data = bytearray(Path("c.zip").read_bytes())
    for header, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the bit of encryption in both headers
        data[data.index(header) + place] |= 1
    write("g.zip", bytes(data))
    assert message(kind="zip", path="g.zip") == (
        "g.zip: a.en: is protected by a password; unpack the archive and name its files"
    )


def test_zips_made_to_fill_the_disk(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("nmt.data.lines", "nmt.data.sources.archives"):
        monkeypatch.setattr(f"{module}.FREE_BYTES", 1 << 20)
    archive("a.zip", {"a.en": "a\n" * (1 << 20), "a.de": "a\n" * (1 << 20)})
    assert message(kind="zip", path="a.zip").startswith("a.zip: unpacks to 4,194,304 bytes, far more than text does; ")
    archive("b.zip", {"a.en": gzip.compress(b"a\n" * (1 << 20)), "a.de": "a\n"})
    assert message(kind="zip", path="b.zip").startswith("b.zip: a.en: unpacks to more than 250 times its size")
