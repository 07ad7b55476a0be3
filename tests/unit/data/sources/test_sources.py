"""Pairs of text, TSV, JSON lines and demo sources, and messages about mistakes in them."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nmt.data import demo
from nmt.data.sources import demo as demo_source
from nmt.data.sources.base import lookup
from nmt.errors import DataError
from tests.unit.data.corpora import message, pairs, pairs_of


def test_a_line_of_a_million_characters(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x" * 1_000_000 + "\nb\n")
    assert [len(s) for s, _ in pairs_of({"kind": "text", "src": str(tmp_path / "a"), "tgt": str(tmp_path / "a")})] == [
        1_000_000,
        1,
    ]


def test_text_several_files_plain_and_gz(tmp_path: Path) -> None:
    (tmp_path / "1.de").write_text("eins\nzwei\n")
    (tmp_path / "1.en").write_text("one\ntwo")
    with gzip.open(tmp_path / "2.de.gz", "wb") as out:
        out.write("drei\u2028\n".encode())
    (tmp_path / "2.en").write_bytes(b"three\r\n")
    fields = {
        "kind": "text",
        "src": [str(tmp_path / "1.de"), str(tmp_path / "2.de.gz")],
        "tgt": [str(tmp_path / "1.en"), str(tmp_path / "2.en")],
    }
    assert pairs_of(fields) == [("eins", "one"), ("zwei", "two"), ("drei\u2028", "three")]


def test_tsv_has_no_quoting(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('7\t"the\tdas "\n8\t a\tb\n')
    found = pairs_of({"kind": "tsv", "path": str(tmp_path / "a.tsv"), "src_column": 2, "tgt_column": 1})
    assert found == [('das "', '"the'), ("b", " a")]


def test_jsonl_dotted_keys_blank_lines_and_newlines(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"id": 1, "t": {"de": "a\\nb", "en": "c\\r\\nd"}}\n\n{"t": {"en": "\\u00e4", "de": "\\ud83d\\ude00"}}\n'
    )
    found = pairs_of({"kind": "jsonl", "path": str(tmp_path / "a.jsonl"), "src_key": "t.de", "tgt_key": "t.en"})
    assert found == [("a b", "c d"), ("😀", "ä")]


def test_jsonl_keys_default_to_the_languages(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"en": "one", "de": "eins"}')
    assert pairs_of({"kind": "jsonl", "path": str(tmp_path / "a.jsonl")}) == [("eins", "one")]


def test_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_source, "_corpus", lambda seed: {"test": [demo.Pair(f"a{seed}", "b")], "train": []})
    assert pairs_of({"kind": "demo", "part": "test"}) == [("a1", "b")]
    assert pairs_of({"kind": "demo", "part": "test", "seed": 2}) == [("a2", "b")]


NUMBERS = b"".join(b"line %d\n" % i for i in range(20_000))


GZ = gzip.compress(NUMBERS, mtime=0)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "a.txt",
            b"ok\n\xc3\xa4b\xffc\n",
            "a.txt:2: not valid UTF-8 (byte 0xff at column 3); correct that line, or drop all such bytes: "
            "iconv -c -f UTF-8 -t UTF-8 < a.txt > a.txt.utf8",
        ),
        (
            "a.txt",
            "hallo".encode("utf-16"),
            "a.txt: is text in UTF-16; convert it to UTF-8: iconv -f UTF-16 -t UTF-8 < a.txt > a.txt.utf8",
        ),
        (
            "a.txt",
            b"a\nb\0c\n",
            "a.txt:2: contains a NUL character; is it a text file, in UTF-8? if so, remove "
            "them: tr -d '\\000' < a.txt > a.txt.clean",
        ),
        (
            "a.txt",
            b"ok\xed\xa0\x80\n",
            "a.txt:1: not valid UTF-8 (byte 0xed at column 3); convert the file to UTF-8; find its encoding "
            "(iconv -l lists them all): iconv -f ENCODING -t UTF-8 < a.txt > a.txt.utf8",
        ),
        ("a.gz", b"plain text\n", "a.gz: is not gzip-compressed, despite its name; rename or compress it"),
        ("a.gz", GZ[:-4], "a.gz: gzip file cut off after line 20000; copy it again"),
        (
            "a.gz",
            GZ[:-8] + b"\0\0\0\0" + GZ[-4:],
            "a.gz: damaged gzip file after line 20000 "
            f"(CRC check failed 0x0 != {zlib.crc32(NUMBERS):#x}); copy it again",
        ),
        (
            "a.gz",
            GZ[:10] + b"\xff" * 100 + GZ[110:],
            "a.gz: damaged gzip file after line 0 "
            "(Error -3 while decompressing data: invalid block type); copy it again",
        ),
    ],
)
def test_unreadable_text(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError) as error:
        pairs_of({"kind": "text", "src": str(tmp_path / name), "tgt": str(tmp_path / name)})
    assert str(error.value).replace(f"{tmp_path}/", "") == message


def test_missing_files(tmp_path: Path) -> None:
    (tmp_path / "b.gz").write_bytes(GZ)
    (tmp_path / "c").touch()
    for name, expected in [
        ("a", "a: no such file; check the path"),
        ("b", "b: no such file; did you mean b.gz?"),
        ("c.gz", "c.gz: no such file; did you mean c?"),
        ("", ": is a folder; name a file in it"),
    ]:
        with pytest.raises(DataError) as error:
            pairs_of({"kind": "tsv", "path": f"{tmp_path}/{name}"})
        assert str(error.value).replace(f"{tmp_path}/", "") == expected


def test_links_and_the_home_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "home").mkdir()
    (here / "home/a.tsv").write_text("one\teins\n")
    (here / "good").symlink_to("home/a.tsv")
    (here / "gone").symlink_to("nowhere/a.tsv")
    monkeypatch.setenv("HOME", str(here / "home"))
    assert pairs(kind="tsv", path="good") == [("one", "eins")]
    for path, said in [
        ("gone", "gone: is a link to nowhere/a.tsv, which does not exist; correct the link"),
        ("~/a.tsv", f"~/a.tsv: no such file; did you mean {here}/home/a.tsv?"),
        ("~/b.tsv", "~/b.tsv: no such file; check the path"),
    ]:
        assert message(kind="tsv", path=path) == said
        assert message(kind="auto", path=path) == said


@pytest.mark.parametrize("kind", ["csv", "tsv", "xlsx"])
def test_a_column_of_numbers_beside_text_is_refused(here: Path, kind: str) -> None:
    """As in the downloads of Tatoeba: number, sentence, number, sentence."""
    rows = [(str(n), word, str(10 * n), word.upper()) for n, word in enumerate(("one", "two", "3 dogs", "four"), 1)]
    two = [(str(n), word) for n, word, *_ in rows]  # numbers and their names are a corpus, too
    for name, content in (("a", rows), ("b", two)):
        if kind == "xlsx":
            book = pytest.importorskip("openpyxl").Workbook()
            for row in content:
                book.active.append(row)
            book.save(f"{name}.xlsx")
        else:
            sep = "\t" if kind == "tsv" else ";"
            (here / f"{name}.{kind}").write_text("".join(sep.join(row) + "\n" for row in content))
    said = "column 0 contains numbers, not sentences; set src_column and tgt_column, counted from 0"
    assert message(kind=kind, path=f"a.{kind}").endswith(f"1: {said} (columns of text: 1, 3)")
    assert pairs(kind=kind, path=f"a.{kind}", src_column=1, tgt_column=3)[0] == ("one", "ONE")
    assert pairs(kind=kind, path=f"a.{kind}", src_column=0, tgt_column=1)[0] == ("1", "one")
    assert pairs(kind=kind, path=f"a.{kind}", lenient=True)[0] == ("1", "one")
    assert pairs(kind=kind, path=f"b.{kind}")[0] == ("1", "one")


def test_an_empty_column_beside_text_is_refused(here: Path) -> None:
    (here / "a.csv").write_text(";one;eins\n" * 3)
    assert message(kind="csv", path="a.csv") == (
        "a.csv:1: column 0 is empty; set src_column and tgt_column, counted from 0 (columns of text: 1, 2)"
    )


@pytest.mark.parametrize(
    "above", [[("Nº", "Kara", "Taru", "By")], [("Our words", "", "", ""), ("Nº", "Kara", "Taru", "By")]]
)
def test_numbers_below_headings_of_no_known_language(here: Path, above: list[tuple[str, ...]]) -> None:
    rows = [*above, *((str(n), f"word {n}", f"other {n}", "") for n in range(1, 9))]
    (here / "a.csv").write_text("".join(";".join(row) + "\n" for row in rows))
    said = "a.csv:1: column 0 contains numbers, not sentences; set src_column and tgt_column, counted from 0 "
    assert message(kind="csv", path="a.csv") == (
        f"{said}(columns of text: 1, 2) and header: true, if the first row is a header"
    )


@pytest.mark.parametrize(("first", "is_header"), [
    ("Kara\tGerman", True), ("English\tKara text", True), ("German\tKara", False), ("Kara\tTaru", False),
    ("She likes to speak English.\tDeutsch", False),
])  # fmt: skip
def test_the_name_of_one_language_in_the_first_row(here: Path, first: str, is_header: bool) -> None:
    (here / "a").write_text(f"{first}\neins zwei\tone two\ndrei\tthree\n")
    if is_header:
        assert message(kind="tsv", path="a").startswith(f"a:1: looks like a header ({first.replace(chr(9), ', ')}); ")
    else:
        assert pairs(kind="tsv", path="a")[0] == tuple(first.split("\t"))


def test_a_header_below_a_title_is_read_with_skip_rows(here: Path) -> None:
    said = "; set skip_rows: 2 to skip the rows above it, or header: false if it is a pair of sentences"
    (here / "a.csv").write_text("Glossary,2024\n,\nEnglish,German\none,eins\n")
    assert message(kind="csv", path="a.csv") == f"a.csv:1: a row below looks like a header (English, German){said}"
    assert ("English", "German") in pairs(kind="csv", path="a.csv", header=False)
    assert pairs(kind="csv", path="a.csv", skip_rows=2) == [("one", "eins")]
    assert pairs(kind="auto", path="a.csv", skip_rows=2) == [("one", "eins")]
    assert pairs(kind="csv", path="a.csv", skip_rows=9) == []
    (here / "a.tsv").write_text("Glossary\t2024\t\n\nn\tGerman\tEnglish\n1\teins\tone\n2\tzwei\ttwo\n")
    assert message(kind="auto", path="a.tsv").startswith(
        "a.tsv:1: a row below looks like a header (n, German, English)"
    )
    assert pairs(kind="auto", path="a.tsv", skip_rows=2) == [("one", "eins"), ("two", "zwei")]
    assert pairs(kind="tsv", path="a.tsv", src_column="English", tgt_column=1, skip_rows=2) == [
        ("one", "eins"), ("two", "zwei"),
    ]  # fmt: skip
    # The number of a line counts those that are skipped; Excel's line is the first of the file.
    (here / "b.csv").write_text('sep=;\nGlossary\n"of\n2024"\nEnglish;German\none;eins\ntwo\n')
    assert (
        message(kind="csv", path="b.csv", skip_rows=4)
        == "b.csv:7: has 1 cell, the first row 2; complete or delete the row"
    )
    book = pytest.importorskip("openpyxl").Workbook()
    for row in (["Glossary"], [], ["No.", "English", "German"], [1, "one", "eins"], [2, "two", "zwei"]):
        book.active.append(row)
    book.save("a.xlsx")
    assert message(kind="xlsx", path="a.xlsx") == (
        f"a.xlsx: sheet 'Sheet', row 1: a row below looks like a header (No., English, German){said}"
    )
    assert pairs(kind="xlsx", path="a.xlsx", skip_rows=2) == [("one", "eins"), ("two", "zwei")]
    assert message(kind="xlsx", path="a.xlsx", skip_rows=5).startswith(
        "a.xlsx: sheet 'Sheet' is empty below row 5 (skip_rows); "
    )


def test_ends_of_lines_in_a_cell_are_spaces(here: Path) -> None:
    (here / "a.jsonl").write_text(json.dumps({"en": "one\rtwo\r\nthree\nfour", "de": "eins"}) + "\n")
    assert pairs(kind="jsonl", path="a.jsonl") == [("one two three four", "eins")]
    book = pytest.importorskip("openpyxl").Workbook()
    book.active.append(["one_x000D_two_x000D_\nthree", "eins"])
    book.save("a.xlsx")
    assert pairs(kind="xlsx", path="a.xlsx") == [("one two three", "eins")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    (tmp_path / "a").touch(0o000)
    with pytest.raises(DataError, match=r"/a: no permission to read it; check its owner and mode$"):
        pairs_of({"kind": "tsv", "path": f"{tmp_path}/a"})


@pytest.mark.parametrize(("short", "long"), [("src", "tgt"), ("tgt", "src")])
def test_mismatched_counts(tmp_path: Path, short: str, long: str) -> None:
    (tmp_path / short).write_text("a\n" * 10)
    (tmp_path / long).write_text("a\n" * 12)
    with pytest.raises(DataError) as error:
        pairs_of({"kind": "text", "src": f"{tmp_path}/src", "tgt": f"{tmp_path}/tgt"})
    counts = {short: 10, long: 12}
    assert str(error.value).replace(f"{tmp_path}/", "") == (
        f"src has {counts['src']} lines but tgt has {counts['tgt']}; line n of one must translate line n of the other"
    )


def test_blank_lines_at_the_end_of_one_file(here: Path) -> None:
    (here / "a").write_text("one\ntwo\n\n \n")
    (here / "b").write_text("eins\nzwei\n")
    said = "line n of one must translate line n of the other; delete the blank lines at the end of a"
    assert message(kind="text", src="a", tgt="b") == f"a has 4 lines but b has 2; {said}"
    assert message(kind="text", src="b", tgt="a") == f"b has 2 lines but a has 4; {said}"


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        (
            "tsv",
            "a\tb\nc\n",
            "f:2: has 1 tab-separated column, the lines before it 2; correct it (a tab in a sentence?) or drop such "
            "lines: awk -F '\\t' 'NF == 2' f > f.clean",
        ),
        (
            "jsonl",
            '{"de": "a", "en": "b"}\n{"de": "a" "en"}\n',
            "f:2: not valid JSON: Expecting ',' delimiter (column 12); correct the line, or set on_bad_row: skip",
        ),
        ("jsonl", "[" * 100_000, "f:1: not valid JSON: nested too deeply"),
        (
            "jsonl",
            '{"de": "a", "x": {"en": 1}}',
            "f:1: no key 'en'; there is: de, x.en; set src_key and tgt_key",
        ),
        (
            "jsonl",
            '["a"]',
            "f:1: is an array, not an object with keys; JSON lines have one object on each line, converted by: "
            """jq -c '{"de": .[0], "en": .[1]}' f > f.jsonl""",
        ),
        (
            "jsonl",
            '{"de": "a", "en": null}',
            "f:1: key 'en' is null, which is not text; write \"\" for an empty sentence",
        ),
        (
            "jsonl",
            '{"de": 3, "en": "b"}',
            "f:1: key 'de' is 3, which is not text; write each sentence in quotation marks",
        ),
        (
            "jsonl",
            "{'de': 'a', 'en': 'b'}",
            "f:1: not valid JSON: Expecting property name enclosed in double quotes (column 2); it is a dictionary of "
            "Python: write the rows by json.dumps",
        ),
        ("jsonl", '{"de": "a\\u0000", "en": "b"}', "f:1: key 'de' contains a NUL character; remove it"),
        (
            "jsonl",
            '{"de": "a", "en": "\\ud800"}',
            "f:1: key 'en' contains \\ud800, half of a surrogate pair and no character; remove it",
        ),
    ],
)
def test_malformed_rows(tmp_path: Path, kind: str, data: str, message: str) -> None:
    (tmp_path / "f").write_text(data)
    with pytest.raises(DataError) as error:
        pairs_of({"kind": kind, "path": f"{tmp_path}/f"})
    assert str(error.value).replace(f"{tmp_path}/", "") == message


@pytest.mark.parametrize(
    ("src", "tgt", "said"),
    [
        ("one\ntwo\n", "one\ntwo\n", "a and b: source and target are equal in 2 of 2 pairs"),
        ("one\ntwo\nOK\n", "eins\nzwei\nOK\n", ""),
        ("English\none\n", "German\neins\n", "a:1 and b:1 look like headings (English, German)"),
        ("one\rtwo\nthree\n", "eins\ndrei\n", "a:1: contains a carriage return within the line"),
        ('{"en": "one"}\n{"en": "two"}\n', "eins\nzwei\n", "a:1: is a JSON object, read as a sentence; kind: jsonl"),
        ("one\teins\ntwo\tzwei\n", "eins\nzwei\n", "a: has a tab in every line, read as white space; kind: tsv"),
        ("one\ttab\ntwo\n", "eins\nzwei\n", ""),
        ("1\none\n", "1\neins\n", ""),
        ("2020\none\n", "2021\neins\n", ""),
        ("Text\none\n", "Text\neins\n", ""),
        ("Sentence 1\none\n", "Sentence 2\neins\n", "a:1 and b:1 look like headings (Sentence 1, Sentence 2)"),
    ],
)
def test_text_that_is_suspicious(here: Path, caplog: pytest.LogCaptureFixture, src: str, tgt: str, said: str) -> None:
    (here / "a").write_bytes(src.encode())
    (here / "b").write_bytes(tgt.encode())
    assert len(pairs(kind="text", src="a", tgt="b")) == src.count("\n")
    assert said in caplog.text
    assert bool(said) == bool(caplog.text)


@pytest.mark.parametrize("text", ["\n \none\teins\n\n  \ntwo\tzwei\n\n", "\n" * 50 + "one\teins\ntwo\tzwei"])
def test_tsv_passes_over_blank_lines(here: Path, text: str) -> None:
    (here / "a").write_text(text)
    assert pairs(kind="tsv", path="a") == [("one", "eins"), ("two", "zwei")]


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("tsv", "a,b\n", "; comma-separated files (CSV) are kind: csv"),
        ("tsv", '{"en": "a", "de": "b"}\n', "; JSON lines are kind: jsonl"),
        ("tsv", "a b\n", "counted from 0"),
        ("jsonl", "a\tb\n", "; tab-separated files are kind: tsv"),
    ],
)
def test_a_file_of_another_kind(here: Path, kind: str, text: str, said: str) -> None:
    (here / "a").write_text(text)
    assert message(kind=kind, path="a").endswith(said)


def test_tsv_keeps_empty_cells(here: Path) -> None:
    (here / "a").write_text("one\teins\n\tzwei\n\t\n")
    assert pairs(kind="tsv", path="a") == [("one", "eins"), ("", "zwei"), ("", "")]


@pytest.mark.parametrize("row", [3, 40])
def test_tsv_rows_have_one_width(here: Path, row: int) -> None:
    rows = [f"one {n}\teins {n}" for n in range(50)]
    rows[row - 1] = "he said\tone\ter sagte eins"
    (here / "a").write_text("\n".join(rows))
    assert message(kind="tsv", path="a").startswith(f"a:{row}: has 3 tab-separated columns, the lines before it 2; ")
    assert pairs(kind="tsv", path="a", lenient=True)[row - 1] == ("he said", "one")


@pytest.mark.parametrize(
    "header", ["en\tde", "source\ttarget", "src_text\ttgt_text", "English\tGerman", "EN-US\tde", "Source (en)\tde text"]
)
def test_tsv_headers(here: Path, header: str) -> None:
    (here / "a").write_text(f"\n{header}\none\teins\ntwo\tzwei\n")
    rows = [("one", "eins"), ("two", "zwei")]
    names = header.split("\t")
    if header.startswith(("EN-US", "Source (")):
        assert pairs(kind="tsv", path="a", header=True) == rows
    else:
        assert message(kind="tsv", path="a").startswith(f"a:2: looks like a header ({', '.join(names)}); set header: ")
    assert pairs(kind="tsv", path="a", header=True) == rows
    assert pairs(kind="tsv", path="a", header=False) == [(names[0], names[1]), *rows]
    assert pairs(kind="tsv", path="a", lenient=True) == [(names[0], names[1]), *rows]
    assert pairs(kind="tsv", path="a", src_column=names[1], tgt_column=names[0]) == [(de, en) for en, de in rows]


def test_tsv_header_over_a_column_of_numbers(here: Path) -> None:
    rows = "".join(f"{n}\tone {n}\teins {n}\t0.{n}\n" for n in range(9))
    (here / "a").write_text(f"No.\tSätze\tÜbersetzungen\tGüte\n{rows}")
    fields = {"kind": "tsv", "path": "a", "src_column": 1, "tgt_column": 2}
    assert message(**fields).startswith("a:1: looks like a header (No., Sätze, Übersetzungen, Güte); ")
    (here / "a").write_text(rows)
    assert len(pairs(**fields)) == 9


@pytest.mark.parametrize(
    "first",
    ["text me\tschreib mir", "1\teins", "Source of life\tQuelle", "one\teins", "1\t1", "2020\t2021", "3.5\t3,5",
     "Text\tText", "Input\tEingabe", "German\tDeutsch sein", "Original\tOriginal", "en\ten", "-\t-"],
)  # fmt: skip
def test_tsv_first_rows_that_are_no_headers(here: Path, caplog: pytest.LogCaptureFixture, first: str) -> None:
    (here / "a").write_text(f"{first}\n2\tzwei\n3\tdrei\n4\tvier\n")
    assert len(pairs(kind="tsv", path="a")) == 4
    assert caplog.text == ""


@pytest.mark.parametrize("cell", ["n/a", "-", "NaN", "", "0.7", "None"])
def test_a_missing_number_does_not_make_a_header(here: Path, caplog: pytest.LogCaptureFixture, cell: str) -> None:
    (here / "a").write_text(f"one\teins\t{cell}\na\tb\t0.1\nc\td\t0.2\ne\tf\t0.3\n")
    assert len(pairs(kind="tsv", path="a")) == 4
    assert caplog.text == ""


@pytest.mark.parametrize("first", ["German text\tEnglish text", "Sentence 1\tSentence 2", "Satz\tÜbersetzung\tGüte"])
def test_a_likely_header_is_told_and_read(here: Path, caplog: pytest.LogCaptureFixture, first: str) -> None:
    more = "\t0.5" if "Güte" in first else ""
    (here / "a").write_text(f"{first}\n" + "".join(f"one {n}\teins {n}{more}\n" for n in range(5)))
    assert len(pairs(kind="tsv", path="a")) == 6
    assert f"a:1: may be a header ({first.replace(chr(9), ', ')}) and is read as a pair; set header" in caplog.text


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ({"text.en": "x"}, "text.en"),
        ({"text": {"en": "x"}}, "text.en"),
        ({"a": {"b.c": "x"}}, "a.b.c"),
        ({"a.b": {"c": "x"}}, "a.b.c"),
        ({"a.b": {"d": "y"}, "a": {"b.c": "x"}}, "a.b.c"),
        ({"a": {"b": {"c": "x"}}, "a.b": "y"}, "a.b.c"),
    ],
)
def test_keys_with_dots(here: Path, row: dict[str, Any], key: str) -> None:
    (here / "a").write_text(json.dumps({**row, "de": "eins"}))
    assert pairs(kind="jsonl", path="a", src_key=key) == [("x", "eins")]
    with pytest.raises(KeyError):
        lookup(row, f"{key}.e")
    (here / "d").mkdir()
    pq.write_table(pa.Table.from_pylist([{**row, "de": "eins"}]), here / "d/train.parquet")
    assert pairs(kind="hub", path="d", src_column=key) == [("x", "eins")]
