"""Text to translate arrives in blocks that wait for nothing, and no line undoes the work on the others."""

import io
import os
import threading
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.data.lines import read_lines
from nmt.errors import DataError
from nmt.translation import line_stream
from nmt.translation.line_stream import LineStream, read_document
from nmt.translation.translator import Notice


def stream(content, notices=None, **options):
    return LineStream(io.BytesIO(content), "in", [].append if notices is None else notices.append, **options)


def lines(content, notices=None):
    return [line for block in stream(content, notices).blocks() for line in block]


@given(st.text(alphabet="ab\r\n\ufeffé\u2028\x0b", max_size=30).map(str.encode))
def test_lines_are_those_of_every_other_reader(content):
    mac = b"\n" not in content and b"\r" in content[:-1]  # refused by read_lines
    if b"\r\r" not in content and content != b"\r" and not mac:
        assert lines(content) == list(read_lines(io.BytesIO(content), "in"))


def test_the_first_line_from_a_pipe_comes_before_the_second_is_written():
    read, write = os.pipe()
    with open(read, "rb") as file:
        blocks = LineStream(file, "pipe", [].append).blocks()
        for text in ("one\n", "two\nthree\n", "fo"):
            os.write(write, text.encode())
            if text.endswith("\n"):
                assert next(blocks) == text.split()
        threading.Timer(0.2, lambda: (os.write(write, b"ur\n"), os.close(write))).start()
        assert list(blocks) == [["four"]]


def test_a_pipe_that_is_filled_fast_gives_full_blocks():
    read, write = os.pipe()
    count = 30_000

    def fill():
        with open(write, "wb") as file:
            file.writelines(b"line %d\n" % i for i in range(count))

    writer = threading.Thread(target=fill)
    writer.start()
    with open(read, "rb") as file:
        sizes = [len(block) for block in LineStream(file, "pipe", [].append).blocks()]
    writer.join()
    assert sizes == [line_stream.BLOCK_LINES] * (count // line_stream.BLOCK_LINES)


def test_before_each_wait_a_prompt():
    read, write = os.pipe()
    asked = []
    with open(read, "rb") as file:
        blocks = LineStream(file, "terminal", [].append, waiting=lambda: asked.append(1)).blocks()
        os.write(write, b"one\n")
        assert next(blocks) == ["one"]
        assert len(asked) == 1
        os.write(write, b"tw")  # a terminal gives out an unfinished line at Ctrl-D
        threading.Timer(0.2, lambda: os.write(write, b"o\n")).start()
        assert next(blocks) == ["two"]
        assert len(asked) == 2
        os.close(write)
        assert list(blocks) == []
        assert len(asked) == 3


def test_bytes_that_are_no_text_are_replaced_and_named():
    notices: list[Notice] = []
    assert lines(b"good\ncaf\xe9\na\0b\nend", notices) == ["good", "caf\ufffd", "a\ufffdb", "end"]
    assert [notice.line for notice in notices] == [2, 3]
    assert str(notices[0]) == "line 2: not valid UTF-8, replaced by U+FFFD (byte 0xe9 at byte 4)"


def test_a_line_without_an_end_is_cut_and_the_next_is_whole(monkeypatch):
    monkeypatch.setattr(line_stream, "MAX_LINE", 5)
    notices: list[Notice] = []
    assert lines("abcdéfgh\nnext\n".encode(), notices) == ["abcd", "next"]  # half of the é is left out
    assert [str(notice) for notice in notices] == ["line 1: very long line cut (9 bytes, 5 kept)"]


@pytest.mark.parametrize(
    ("content", "strict", "expected"),
    [
        (b"good\n" * 99 + b"caf\xe9\n", False, None),
        (b"good\n" * 99 + b"caf\xe9\n", True, "in:100: not valid UTF-8"),
        (b"good\n" * 99 + b"a\0\n", True, "in:100: contains a NUL"),
        (b"good\ncaf\xe9\n", False, None),
        (b"a\0\n", False, None),
        (b"a\0\n", True, "in:1: contains a NUL"),
        (b"good\n" * 91 + b"caf\xe9\n" * 10, False, None),
        (b"good\n" * 90 + b"caf\xe9\n" * 10, False, "in:91: not valid UTF-8"),  # Latin-1, most likely
        (bytes(range(256)) * 20, False, "in:1: "),
        (b"good\n", True, None),
    ],
)
def test_a_file_of_another_encoding_is_refused_before_the_work(content, strict, expected):
    checked = stream(content, strict=strict)
    if expected is None:
        assert checked.check() == content.count(b"\n")
        assert sum(map(len, checked.blocks())) == content.count(b"\n")
    else:
        with pytest.raises(DataError, match=expected):
            checked.check()


@pytest.mark.parametrize(
    ("bad", "expected"),
    [(b"caf\xe9", "pipe:3: not valid UTF-8 .byte 0xe9 at byte 4"), (b"a\0b", "pipe:3: NUL characters")],
)
def test_strict_refuses_a_bad_line_of_a_pipe_after_the_lines_before(bad, expected):
    read, write = os.pipe()
    with os.fdopen(write, "wb") as file:
        file.write(b"one\ntwo\n" + bad + b"\nthree\n")
    notices: list[Notice] = []
    with os.fdopen(read, "rb") as file:
        piped = LineStream(file, "pipe", notices.append, strict=True)
        assert piped.check() is None
        blocks = piped.blocks()
        assert next(blocks) == ["one", "two"]
        with pytest.raises(DataError, match=expected):
            next(blocks)
    assert not notices


def test_what_came_before_a_read_error_is_given_out():
    class Failing(io.BytesIO):
        def read1(self, size=-1):
            if data := super().read1(size):
                return data
            raise OSError(5, "Input/output error")

    blocks = LineStream(Failing(b"one\ntwo\n"), "disk", [].append).blocks()
    assert next(blocks) == ["one", "two"]
    with pytest.raises(DataError, match="disk: cannot be read after line 2: Input/output error"):
        next(blocks)


def test_of_a_line_without_an_end_a_bounded_part_is_held():
    class Endless(io.RawIOBase):
        given = 0

        def read1(self, size):
            Endless.given += 1
            return b"x" * size if Endless.given < 1000 else b""

    tracemalloc.start()
    try:
        [[line]] = LineStream(Endless(), "in", [].append).blocks()
        assert tracemalloc.get_traced_memory()[1] < 10 << 20  # of 64 MB read
    finally:
        tracemalloc.stop()
    assert len(line) == line_stream.MAX_LINE


def test_a_document_keeps_its_bytes_and_names_those_that_are_no_text():
    notices = []
    content = b"<p>caf\xe9</p>\n\xff\n\0\nlast"
    found = read_document(io.BytesIO(content), "in", notices.append)
    assert found.encode("utf-8", "surrogateescape") == content
    kept = "replaced by U+FFFD in text and kept elsewhere"
    assert [str(notice) for notice in notices] == [
        f"line 1: not valid UTF-8, {kept} (byte 0xe9 at byte 7)",
        f"line 2: not valid UTF-8, {kept} (byte 0xff at byte 1)",
        f"line 3: NUL characters, {kept} (is it a text file?)",
    ]


@pytest.mark.parametrize(
    ("content", "strict", "expected"),
    [
        (b"<html><head>\n\xe9\n", True, "in:2: not valid UTF-8 (byte 0xe9 at column 1); convert the file to UTF-8; "),
        (b"<p>\n\0\n", True, r"in:2: contains a NUL character; is it a text file, in UTF-8? if so, remove them: tr -d"),
        (b"caf\xe9\n" * 10, False, "in:1: not valid UTF-8 (byte 0xe9 at column 4)"),
    ],
)
def test_a_document_of_another_encoding_is_refused(content, strict, expected):
    with pytest.raises(DataError) as error:
        read_document(io.BytesIO(content), "in", pytest.fail, strict)
    assert str(error.value).startswith(expected)
