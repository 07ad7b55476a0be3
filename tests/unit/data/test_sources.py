"""What is read from files of every form, and what is said of those that hold something else."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import random
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from nmt.config.data import TrainSource
from nmt.data import lines as lines_module
from nmt.data.lines import MAX_LINE, lookup, open_text, read_lines, unpacked
from nmt.data.provenance import FileHashes, describe
from nmt.data.sources import read_pairs
from nmt.errors import DataError


def pairs(lenient: bool = False, **fields: Any) -> list[tuple[str, str]]:
    source = TypeAdapter(TrainSource).validate_python(fields)
    return list(read_pairs(source, "en", "de", lenient=lenient))


def message(**fields: Any) -> str:
    with pytest.raises(DataError) as error:
        pairs(**fields)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import datasets

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    return tmp_path


# ------------------------------------------------------------------------------------------------------ blocks

PACK: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: bytes(pa.compress(data, codec="zstd", asbytes=True)),
}


class Trickle(io.RawIOBase):
    """Gives a few bytes at a time, as a slow pipe does."""

    def __init__(self, data: bytes, seed: int):
        self.data, self.random = data, random.Random(seed)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self.random.randint(1, 9), len(self.data))
        buffer[:count], self.data = self.data[:count], self.data[count:]
        return count


@pytest.mark.parametrize("form", PACK)
@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("aü\u2028\ud83d\x1f\r \t", max_size=9).map(lambda t: t.encode(errors="ignore").decode())),
       st.sampled_from([b"\n", b"\r\n"]), st.booleans(), st.integers(0, 99))  # fmt: skip
def test_lines_do_not_depend_on_the_blocks_or_the_compression(
    form: str, texts: list[str], end: bytes, last: bool, seed: int
) -> None:
    """Against a reader that takes the whole file at once and splits its bytes."""
    data = end.join(text.encode() for text in texts) + (end if last else b"")
    expected = [raw.removesuffix(b"\r").decode() for raw in data.split(b"\n")]
    if not expected[-1] and not data.endswith(b"\r"):
        expected.pop()
    if b"\n" not in data and b"\r" in data[:-1]:
        return  # refused, see below
    assert list(read_lines(io.BytesIO(PACK[form](data)), "x")) == expected
    if form == "plain":
        assert list(read_lines(io.BufferedReader(Trickle(data, seed), 16), "x")) == expected


@pytest.mark.parametrize("form", [form for form in PACK if form != "plain"])
def test_damage_is_named_with_the_lines_before_it(form: str) -> None:
    data = b"".join(b"line %d\n" % number for number in range(20_000))
    packed = PACK[form](data)
    found: list[str] = []
    with pytest.raises(DataError, match=r"^x: .*after line \d+.*; copy it again$"):
        found.extend(read_lines(io.BytesIO(packed[: len(packed) // 2]), "x"))
    if form == "zst":  # which need not hold a checksum
        return
    middle = len(packed) // 2
    with pytest.raises(DataError, match=r"^x: .*after line \d+.*; copy it again$"):
        found.extend(read_lines(io.BytesIO(packed[:middle] + b"\xa5" * 40 + packed[middle + 40 :]), "x"))


def test_the_name_does_not_decide_what_is_unpacked(here: Path) -> None:
    (here / "a").write_bytes(gzip.compress(b"one\n"))
    (here / "b.gz").write_bytes(lzma.compress(b"eins\n"))
    assert pairs(kind="text", src="a", tgt="b.gz") == [("one", "eins")]


@pytest.mark.parametrize("form", PACK)
def test_a_stream_of_the_content(here: Path, form: str) -> None:
    (here / f"a.{form}").write_bytes(PACK[form](b"one\ntwo\n"))
    with open_text(f"a.{form}") as file:
        stream: Any = unpacked(file, f"a.{form}")
        assert stream.read1(100) == b"one\ntwo\n"
        if stream.seekable():
            stream.seek(0)
            assert list(read_lines(stream, f"a.{form}")) == ["one", "two"]
    (here / "b").write_bytes(PACK[form](b"<?xml version='1.0'?>"))
    if form != "zst":  # cannot be looked into
        with open_text("b") as file, pytest.raises(DataError, match=r"^b: is XML, not lines of text; "):
            unpacked(file, "b")
        (here / "c").write_bytes(PACK[form](b"one\rtwo\r"))
        with open_text("c") as file, pytest.raises(DataError, match=r"^c: its lines end in a carriage return"):
            unpacked(file, "c")


def test_the_longest_line(here: Path) -> None:
    (here / "a").write_bytes(b"y" * MAX_LINE + b"\nz\n")
    (here / "b").write_bytes(b"z\n" + b"y" * (MAX_LINE + 1) + b"\n")
    (here / "c.gz").write_bytes(gzip.compress(b"y" * (MAX_LINE + 1)))
    assert [len(src) for src, _ in pairs(kind="text", src="a", tgt="a")] == [MAX_LINE, 1]
    assert message(kind="text", src="a", tgt="b").startswith("b:2: is longer than 4 MiB; ")
    assert message(kind="jsonl", path="c.gz").startswith("c.gz:1: is longer than 4 MiB; ")


def test_a_file_made_to_fill_the_disk(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "FREE_BYTES", 1 << 20)
    (here / "a.gz").write_bytes(gzip.compress(b"a\n" * (1 << 20)))
    (here / "b.gz").write_bytes(gzip.compress(b"".join(b"%d\n" % n for n in range(1 << 18))))
    assert message(kind="text", src="a.gz", tgt="a.gz").startswith("a.gz: unpacks to more than 250 times its size")
    assert len(pairs(kind="text", src="b.gz", tgt="b.gz")) == 1 << 18
    (here / "d").mkdir()
    (here / "d/train.csv.gz").write_bytes(gzip.compress(b"en,de\n" + b"a,b\n" * (1 << 19)))
    assert message(kind="hub", path="d").startswith("d/train.csv.gz: unpacks to more than 250 times its size")


def test_a_pipe_is_no_corpus(here: Path) -> None:
    os.mkfifo(here / "a")
    assert message(kind="tsv", path="a").startswith("a: is a pipe; a corpus is read more than once: write it")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("hallo\n".encode("utf-16"), "a: is text in UTF-16; convert it to UTF-8: iconv -f UTF-16 -t UTF-8 < a > a"),
        ("hallo welt\n".encode("utf-16-le"), "a: is text in UTF-16LE; "),
        ("hallo welt\n".encode("utf-16-be"), "a: is text in UTF-16BE; "),
        ("hallo\n".encode("utf-32"), "a: is text in UTF-32; "),
        ("für\n".encode("cp1252"), "a:1: not valid UTF-8 (byte 0xfc at column 2); convert the file to UTF-8; if it is "
         "Windows-1252 (Western European): iconv -f WINDOWS-1252 -t UTF-8 < a > a.utf8"),
        ("Привет, мир\n".encode("cp1251"), "a:1: not valid UTF-8 (byte 0xcf at column 1); convert the file to UTF-8; "
         "find its encoding"),
        (gzip.compress("für".encode("cp1252"), mtime=0),  # every process must collect the same name of this test
         "a:1: not valid UTF-8 (byte 0xfc at column 2); convert the file to UTF-8; "
         "if it is Windows-1252 (Western European): gzip -dc a | iconv -f WINDOWS-1252 -t UTF-8 > a.utf8"),
        ("schön f".encode() + b"\xfcr\n", "a:1: not valid UTF-8 (byte 0xfc at column 8); correct that line, or drop"),
        (b"one\rtwo\rthree", "a: its lines end in a carriage return (CR, old Mac OS), not in a newline; convert: tr "),
        (b"\xef\xbb\xbf \n<tmx version='1.4'>", "a: is a translation memory (TMX, XML), not lines of text; "),
        (b"<?xml version='1.0'?><!-- x -->\n<!DOCTYPE tmx SYSTEM 'tmx14.dtd'>\n<tmx>", "a: is a translation memory"),
        (b'<?xml version="1.0"?>\n<xliff version="1.2">', "a: is a translation file (XLIFF, XML), not lines"),
        (b"<?xml version='1.0'?>\n<resources>", "a: is XML, not lines of text; "),
        (b"<!DOCTYPE html>\n<html>", "a: is an HTML page, not lines of text; "),
        (b'<srcset setid="newstest2014" srclang="any">\n', "a: is a WMT test set (SGML or XML), not lines of text; "),
        (b"%PDF-1.7\n", "a: is a PDF document; "),
        (b"PAR1\x15\x04", "a: is a Parquet file; name it with kind: hub and path"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a: is a Git LFS pointer; fetch the file"),
    ],
)  # fmt: skip
def test_what_is_no_text_is_named(here: Path, data: bytes, said: str) -> None:
    (here / "a").write_bytes(data)
    assert message(kind="text", src="a", tgt="a").startswith(said)


SRT = "1\n00:00:01,000 --> 00:00:02,500\nHello there.\n\n2\n00:00:03,000 --> 00:00:04,500\nBye.\n"
DOCUMENTS = {
    "SRT": (SRT, "a subtitle file (SRT)"),
    "SRT of Windows": ("\ufeff" + SRT.replace("\n", "\r\n"), "a subtitle file (SRT)"),
    "WebVTT": ("WEBVTT - a title\n\nNOTE by me\n\nintro\n00:01.000 --> 00:02.000\nHello\n", "a subtitle file (WebVTT)"),
    "ASS": ("[Script Info]\n; by x\nScriptType: v4.00+\n\n[Events]\n", "a subtitle file (ASS or SSA)"),
    "MicroDVD": ("{0}{25}Hello\n{30}{50}Bye\n", "a subtitle file (MicroDVD)"),
    "MPL2": ("[0][25]Hello\n[30][50]Bye\n[60][70]So\n", "a subtitle file (MPL2)"),
    "SBV": ("0:00:01.000,0:00:02.000\nHello\n", "a subtitle file (SBV or SubViewer)"),
    "TTML": ('<tt xmlns="http://www.w3.org/ns/ttml">\n<body>', "a subtitle file (TTML or SAMI)"),
    "PO": ('# x\nmsgid ""\nmsgstr ""\n"Language: de\\n"\n\n#: a.c:1\nmsgid "a"\nmsgstr "b"\n', "a message catalogue"),
    "PO with plurals": ('msgctxt "menu"\nmsgid "%d a"\nmsgid_plural "%d as"\nmsgstr[0] "b"\n', "a message catalogue"),
    "MO": ("\ude12\u0495", "a compiled message catalogue (MO)"),
    "strings": ('/* a * b */\n"open" = "auf";\n"close" = "zu";\n', "a localisation file (Apple strings)"),
    "XLIFF": ('<?xml version="1.0"?>\n<x:xliff xmlns:x="urn:oasis">', "a translation file (XLIFF, XML)"),
    "Qt": ('<?xml version="1.0"?>\n<!DOCTYPE TS>\n<TS version="2.1">\n<context>', "a translation file (Qt TS, XML)"),
    "Android": ("<resources>\n <string name='a'>b</string>\n</resources>", "an Android string resource file (XML)"),
    "HTML": ('<!-- a - b -->\n<html lang="en">\n<title>x</title>', "an HTML page"),
    "XML": ('<corpus>\n<s id="1">hello</s>\n</corpus>', "XML or HTML"),
    "LaTeX": ("% x\n\\documentclass{article}\n", "a LaTeX document"),
    "CoNLL-U": ("# text = a b\n1\ta\ta\tDET\t_\t_\t2\tdet\t_\t_\n", "a treebank (CoNLL-U)"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_documents_with_a_structure_are_named_by_their_content(here: Path, kind: str) -> None:
    text, what = DOCUMENTS[kind]
    (here / "a.txt.gz").write_bytes(gzip.compress(b"\xde\x12\x04\x95\0" if kind == "MO" else text.encode()))
    said = message(kind="text", src="a.txt.gz", tgt="a.txt.gz")
    assert said.startswith(f"a.txt.gz: is {what}")
    assert "; " in said


def test_a_file_of_comments_is_looked_at_in_linear_time(here: Path) -> None:
    (here / "a").write_text("<!---->" * 3000 + "/**/" * 3000 + "\n")
    assert len(pairs(kind="text", src="a", tgt="a")) == 1
    (here / "a").write_text("/**/" * 3000 + '"' * 99 + "\n")
    assert len(pairs(kind="text", src="a", tgt="a")) == 1


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", '{\n "open": "auf"\n}\n', "is JSON, as its name says, not one sentence a line; read JSON lines"),
        ("a.jsonl.gz", '{"en": "one", "de": "eins"}\n', "is JSON, as its name says"),
        ("a.txt", '{\n "open": "auf"\n}\n', "is JSON over several lines, not one sentence a line; "),
        ("a.html", "<h1>Title</h1>\n<p>Hello</p>\n", "is markup (HTML, XML or SGML), as its name says"),
        ("a.yml", "# x\nen:\n  open: Open\n", "is YAML, as its name says"),
        ("a.properties", "# x\nfile.open=Open\n", "is a file of keys and values, as its name says"),
        ("a.LRC", "[00:12.00]Hello\n", "is lyrics with times (LRC), as its name says"),
        ("a.tsv", "one\teins\ntwo\tzwei\n", "holds a table (tab-separated), not one sentence a line; read it with"),
        ("a.csv", 'one,eins\n"two, three",drei\n', "holds a table (comma-separated, CSV), not one sentence a line"),
        ("a.csv", "en,de\none, two,eins\n", "holds a table (comma-separated, CSV)"),
        ("a.csv.gz", "one;eins\ntwo;zwei\n", "holds a table (comma-separated, CSV)"),
        ("a", "source,target\none,eins\ntwo,zwei\n", "holds a table (comma-separated, CSV)"),
        ("a", "en\tde\none\teins\ntwo\tzwei\n", "holds a table (tab-separated)"),
    ],
)  # fmt: skip
def test_files_given_as_text_that_hold_another_kind(
    here: Path, caplog: pytest.LogCaptureFixture, name: str, text: str, said: str
) -> None:
    (here / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    (here / "b").write_text("x\n" * text.count("\n"))
    assert message(kind="text", src=name, tgt="b").startswith(f"{name}: {said}")
    assert message(kind="text", src="b", tgt=name).startswith(f"{name}: {said}")
    caplog.clear()
    assert len(pairs(kind="text", src=name, tgt="b", lenient=True)) == text.count("\n")
    assert f"warning: {name}: {said}" in caplog.text


SENTENCES = [
    "1\nFrom 00:00:01,000 --> 00:00:02,000\n", "1\n2\n3\n", "WEBVTT\nis a format\n", "[Script Info]\nis a title\n",
    "[1] [2]\n[3] see there\n", "{0} files\n{1} folders\n", "msgid is a word\nmsgstr too\n", 'msgid "a"\nis a line\n',
    '"a" = "b"\nyes\n', "<unk>\n<unk> <unk>\n", "<s>\n<s> a </s>\n", "{\n}\n", "[\nok\n", "en: Open\nb\n", "# Title\n",
    "a, b\nc\n", "Yes, sir\nNo\n", "0:00\n0:01\n", "%\n\\begin\n", "/* x\ny\n", "1\ta\nb\n", '{"a": 1}\nok\n',
]  # fmt: skip


@pytest.mark.parametrize("text", SENTENCES)
@pytest.mark.parametrize("name", ["a.txt", "a.de", "a.srt", "a.po", "a.docx", "a.html", "a.tsv"])
def test_sentences_that_begin_oddly_are_read_whatever_the_name(here: Path, name: str, text: str) -> None:
    if name == "a.html" and text.startswith("<"):
        return
    (here / name).write_text(text)
    expected = text.splitlines()
    assert [src for src, _ in pairs(kind="text", src=name, tgt=name)] == expected


@pytest.mark.parametrize("start", ["<", "<b>bold</b> text", "<html> is a tag", "BZh is a name", "%d items", "[1] one"])
def test_text_that_begins_like_another_format(here: Path, start: str) -> None:
    (here / "a").write_text(f"{start}\nx\n")
    assert pairs(kind="text", src="a", tgt="a") == [(start, start), ("x", "x")]


# ----------------------------------------------------------------------------------------------------- warnings


@pytest.mark.parametrize(
    ("src", "tgt", "said"),
    [
        ("one\ntwo\n", "one\ntwo\n", "a and b: source and target are equal in 2 of 2 pairs"),
        ("one\ntwo\nOK\n", "eins\nzwei\nOK\n", ""),
        ("English\none\n", "German\neins\n", "a:1 and b:1 look like headings (English, German)"),
        ("one\rtwo\nthree\n", "eins\ndrei\n", "a:1: holds a carriage return within the line"),
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


# --------------------------------------------------------------------------------------------------------- TSV


@pytest.mark.parametrize("text", ["\n \none\teins\n\n  \ntwo\tzwei\n\n", "\n" * 50 + "one\teins\ntwo\tzwei"])
def test_tsv_passes_over_blank_lines(here: Path, text: str) -> None:
    (here / "a").write_text(text)
    assert pairs(kind="tsv", path="a") == [("one", "eins"), ("two", "zwei")]


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("tsv", "a,b\n", "; comma-separated files (CSV) are kind: hub"),
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
    assert message(kind="tsv", path="a").startswith(f"a:{row}: has 3 tab-separated column(s), the lines before it 2; ")
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


# ------------------------------------------------------------------------------------------------------- JSON


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


# -------------------------------------------------------------------------------------------------------- hub

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
        describe(source, FileHashes(here / "store"))


def test_csv_as_pandas_reads_it(here: Path) -> None:
    (here / "a.csv").write_text("en,de\nNone,Keine\nOpen,Öffnen\n")
    assert pairs(kind="hub", path="a.csv") == [("None", "Keine"), ("Open", "Öffnen")]
    assert pairs(kind="hub", path="a.csv", lenient=True) == [("", "Keine"), ("Open", "Öffnen")]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("en;de\nfür;b\n".encode("cp1252"), "a.csv:2: not valid UTF-8 (byte 0xfc at column 2); convert"),
        ("en;de\na;b\n".encode("utf-16"), "a.csv: is text in UTF-16; convert it to UTF-8: iconv -f UTF-16"),
        (b"PK\x03\x04xl/workbook", "a.csv: is an Excel workbook (XLSX); save it as CSV in UTF-8"),
        (b"fr,es\nun,uno\n", "a.csv:1: no column 'en'; line 1 names: fr, es; set src_column and tgt_column"),
        (b"en,de\na,b\na,b,c,d\n", "a.csv:3: has 4 cells, the first row 2; put a cell that holds a ',' into"),
        (b"en,de\na,b,\nc,d,\n", "a.csv:2: has 3 cells, the first row 2; "),
        (b"en,de\na,b\n\nc\n", "a.csv:4: has 1 cell(s), the first row 2; complete or delete the row"),
        (b'en,de\n"a\nb",c\n"d\ne"\n', "a.csv:4: has 1 cell(s), the first row 2; "),
        (b"id;en;de\r\n1;a;b\r\n2;c\r\n", "a.csv:3: has 2 cell(s), the first row 3; "),
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
    assert message(kind="hub", path="d", split="test").startswith("d/test.csv:2: has 1 cell(s), the first row 2")


def test_a_tsv_file_by_the_hub_reader(here: Path) -> None:
    (here / "a.tsv").write_text("en\tde\none\teins\n")
    assert pairs(kind="hub", path="a.tsv") == [("one", "eins")]
    (here / "a.tsv").write_text('en\tde\n"Yes" he said\teins\n')
    assert message(kind="hub", path="a.tsv").endswith("; kind: tsv takes quotation marks for text")


def test_files_that_the_hub_reader_does_not_know(here: Path) -> None:
    (here / "a.tmx").write_text("<tmx>")
    assert message(kind="hub", path="a.tmx").startswith("a.tmx: kind: hub reads files that end in .parquet, .json, ")


def test_a_zip_made_to_fill_the_disk(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nmt.data.hub.FREE_BYTES", 1 << 20)
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
    assert "column 'pair' holds several texts; name one: pair.en, pair.de" in message(
        kind="hub", path="a.parquet", src_column="pair"
    )
    fields = {"src_column": "pair.en", "tgt_column": "pair.de"}
    assert pairs(kind="hub", path="a.parquet", **fields) == [("one", "eins")]
