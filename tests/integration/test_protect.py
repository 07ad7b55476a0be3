"""Placeholders through a model that has hardly learned anything: they survive whatever it does."""

import contextlib
import random

import pytest

from nmt.cli import main
from nmt.insight.alignment import Aligner
from nmt.run.directory import Run
from nmt.translation.loading import load_translator
from nmt.translation.protected import Protected
from tests.placeholders import check, line


@pytest.mark.parametrize("attention", [True, False])
def test_500_lines_keep_every_placeholder(template, attention):
    rng = random.Random(1)
    lines = [line(rng) for _ in range(500)]
    short = {"beam_size": 1, "max_length_ratio": 0.0, "max_length_offset": 6}
    translator = load_translator(Run(template / "runs" / "c"), short)
    protected = Protected(translator, align=Aligner(translator) if attention else None)
    found = protected.translate([text for text, _ in lines])
    for (text, placeholders), [best] in zip(lines, found, strict=True):
        check(text, placeholders, best.text)
    assert protected.lines == sum(bool(placeholders) for _, placeholders in lines)
    assert protected.placeholders == sum(len(placeholders) for _, placeholders in lines)
    assert sum(protected.ways.values()) == protected.lines


def test_documents_by_the_command(place, capfd, caplog):
    srt = "1\r\n00:00:01,000 --> 00:00:02,000\r\n<i>one</i> two\r\n\r\n2\r\n00:00:03,000 --> 00:00:04,000\r\nthree\r\n"
    place.write("in.srt", b"\xef\xbb\xbf" + srt.encode())
    place.write("in.html", b"<!doctype html><p title='caf\xe9'>one <b>{x}</b></p>\r\n<pre>two</pre>")
    quick = ["--beam-size", "1", "--search", "max_length_ratio=0", "max_length_offset=4"]
    for name in ("in.srt", "in.html"):
        command = ["translate", "c", "-i", name, "-o", f"out-{name}", "--protect", *quick]
        assert main([*command, "--split"]) == 0
        assert main(command) == 2
        assert (
            capfd.readouterr()
            .err.splitlines()[-1]
            .endswith(f"; --document-format {name.removeprefix('in.')} translates it and keeps its format")
        )
    said = "--split keeps the format of this file; without it, each line is translated as plain text"
    assert not any(said in message for message in caplog.messages)
    place.write("in.md", b"# one\n")
    assert main(["translate", "c", "-i", "in.md", *quick]) == 0
    assert f"in.md: {said}" in caplog.messages
    subtitles = (place.path / "out-in.srt").read_bytes()
    assert subtitles.startswith(b"\xef\xbb\xbf1\r\n00:00:01,000 --> 00:00:02,000\r\n")
    assert [subtitles.count(each) for each in (b"\r\n", b"\n", b"-->", b"<i>", b"</i>")] == [7, 7, 2, 1, 1]
    page = (place.path / "out-in.html").read_bytes()
    assert page.startswith(b"<!doctype html><p title='caf\xe9'>")
    assert page.endswith(b"</p>\r\n<pre>two</pre>")
    assert page.count(b"{x}") == page.count(b"<b>") == page.count(b"</b>") == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--document-format", "md", "--scores"], "--scores: a document has one translation"),
        (["--document-format", "md", "--no-split"], "--no-split: --document-format splits"),
        (["--split", "--alignments", "x"], "--alignments: need whole lines"),
        (["--protect", "tags,names"], "'names' is not a kind of placeholder"),
        (["--protect", "none,tags"], "none stands alone"),
        (["--document-format", "srt", "--strict", "-i", "bad"], "bad:2: not valid UTF-8 (byte 0xe9 at column 4)"),
        (["--document-format", "html", "-i", "nowhere"], "nowhere: no such file"),
    ],
)
def test_options_that_make_no_sense_are_refused(place, capfd, words, expected):
    place.write("bad", b"one\ncaf\xe9\n")
    with contextlib.suppress(SystemExit):
        assert main(["translate", "c", *words]) == 2
    assert expected in capfd.readouterr().err


def test_a_run_that_protects_and_splits_says_so_in_its_configuration(place):
    config = place.run / "config.yaml"
    text = config.read_text(encoding="utf-8")
    assert "translate:\n  protect: []\n  split: false\n" in text
    config.write_text(
        text.replace("protect: []\n  split: false", "protect: [variables]\n  split: true"), encoding="utf-8"
    )
    place.write("in", b"\xef\xbb\xbf  One {x} two. Three\r\n\nfour\n")
    quick = ["--beam-size", "1", "--search", "max_length_ratio=0", "max_length_offset=4"]
    assert main(["translate", "c", "-i", "in", "-o", "out", *quick]) == 0
    found = (place.path / "out").read_bytes().decode().split("\n")
    assert found[0].startswith("\ufeff  ")
    assert found[0].endswith("\r")
    assert found[0].count("{x}") == 1
    assert [len(found), found[1], found[3]] == [4, "", ""]
    assert main(["translate", "c", "-i", "in", "-o", "plain", "--protect", "none", "--no-split", *quick]) == 0
    [[best]] = load_translator(
        Run(place.run), {"beam_size": 1, "max_length_ratio": 0.0, "max_length_offset": 4}
    ).translate(["  One {x} two. Three"])
    assert (place.path / "plain").read_text(encoding="utf-8").split("\n")[0] == best.text
