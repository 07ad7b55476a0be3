"""Lines of files of every form, and messages about files that are no text."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.data import lines as lines_module
from nmt.data.lines import MAX_LINE, open_text, read_lines, unpacked
from nmt.errors import DataError
from tests.unit.data.corpora import lines, message, pairs


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\nb", ["a", "b"]),
        (b"a\nb\n", ["a", "b"]),
        (b"a\n\n", ["a", ""]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\r\r\nb\r", ["a\r", "b"]),
        (b"a\rb\n", ["a\rb"]),
        ("a\u2028b\x85c\x0bd\x0ce\x1cf\u2029g\n".encode(), ["a\u2028b\x85c\x0bd\x0ce\x1cf\u2029g"]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", ["a", "\ufeffb"]),
        (b"\xef\xbb\xbf", []),
        (b"\xef\xbb\xbf\n", [""]),
    ],
)
def test_a_line_ends_at_newline_only(data: bytes, expected: list[str]) -> None:
    assert lines(data) == expected


LINE = st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"])).filter(
    lambda text: not text.endswith("\r")
)


@settings(max_examples=200, deadline=None)
@given(st.lists(LINE), st.sampled_from(["\n", "\r\n"]))
def test_any_lines_come_back(texts: list[str], end: str) -> None:
    data = "".join(text + end for text in texts).encode()
    assert lines(b"\xef\xbb\xbf" + data) == texts


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
        (b"PAR1\x15\x04", "a: is a Parquet file; read it with kind: parquet and path"),
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
        ("a.tsv", "one\teins\ntwo\tzwei\n", "contains a table (tab-separated), not one sentence a line; read it with"),
        ("a.csv", 'one,eins\n"two, three",drei\n', "contains a table (comma-separated, CSV), not one sentence a line"),
        ("a.csv", "en,de\none, two,eins\n", "contains a table (comma-separated, CSV)"),
        ("a.csv.gz", "one;eins\ntwo;zwei\n", "contains a table (comma-separated, CSV)"),
        ("a", "source,target\none,eins\ntwo,zwei\n", "contains a table (comma-separated, CSV)"),
        ("a", "en\tde\none\teins\ntwo\tzwei\n", "contains a table (tab-separated)"),
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


@pytest.mark.parametrize("good", [b"caf\xc3\xa9\n", b"caf\xc3\xa9\n" + 100_000 * b"coffee\n"])
def test_one_line_in_another_encoding_is_not_an_encoding_of_the_file(good: bytes) -> None:
    """Converting the whole file from Windows-1252 would encode its good lines twice."""
    with pytest.raises(DataError) as error:
        list(read_lines(io.BytesIO(good + b"caf\xe9 au lait\n"), "a"))
    said = str(error.value)
    assert said.startswith(
        f"a:{good.count(10) + 1}: not valid UTF-8 (byte 0xe9 at column 4); lines before it are UTF-8; "
    )
    assert "correct that line" in said
    assert "1252" not in said
