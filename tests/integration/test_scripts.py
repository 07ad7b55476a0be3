"""The thin programs in scripts/ do what their first lines say."""

import runpy
import shutil
import sys
from pathlib import Path

import pytest

from nmt.cli import main

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def run(task):
    assert main(["train", str(task.config_file("rnn"))]) == 0
    return str(task.folder / "runs" / "run")


def script(monkeypatch, name, *arguments):
    """Run a script in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    try:
        runpy.run_path(str(SCRIPTS / name), run_name="__main__")
    except SystemExit as end:
        return end.code or 0
    return 0


def test_decode_equals_nmt_translate(task, run, monkeypatch):
    source, one, other = (str(task.folder / name) for name in ("in", "one", "other"))
    Path(source).write_text("one two\n\nthree four\n")
    assert main(["translate", run, "-i", source, "-o", one]) == 0
    assert script(monkeypatch, "decode.py", run, "-i", source, "-o", other) == 0
    assert Path(one).read_text() == Path(other).read_text()
    assert Path(one).read_text().count("\n") == 3
    assert script(monkeypatch, "decode.py", "nowhere") == 2


def test_bleu_by_length_prints_a_table_and_draws_a_plot(task, run, monkeypatch, capsys):
    plot = task.folder / "lengths.png"
    arguments = [run, "--set-name", "tiny", "--labels", "ours", "--edges", "3", "5", "--plot", str(plot)]
    capsys.readouterr()
    assert script(monkeypatch, "bleu_by_length.py", *arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| source words | sentences | ours |"
    counts = [int(line.split("|")[2]) for line in lines[2:]]
    lengths = [len(line.split()) for line in task.paths["test.src"].read_text().splitlines()]
    assert counts == [sum(n <= 3 for n in lengths), sum(3 < n <= 5 for n in lengths), sum(n > 5 for n in lengths)]
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_attention_draws_one_sentence(task, run, monkeypatch):
    picture = task.folder / "attention.png"
    assert script(monkeypatch, "attention.py", run, "one two three", "-o", str(picture)) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("picture.xyz", "picture.xyz: .xyz is not an image format that can be written; use .png, .svg or .pdf"),
        ("folder", "folder: cannot be written: Is a directory; name another file with -o FILE"),
        ("file/picture.png", "file/picture.png: cannot be written: File exists; name another file with -o FILE"),
    ],
)
def test_attention_says_where_it_cannot_draw(place, monkeypatch, capsys, output, said):
    Path("folder").mkdir()
    Path("file").touch()
    assert script(monkeypatch, "attention.py", "c", "one two", "-o", output) == 2
    assert capsys.readouterr() == ("", f"attention: {said}\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["c", "--set-name", "x"], "runs/c: no test set x; there are: tiny"),
        (["c", "--set-name", "tiny", "--labels", "a", "b"], "--labels: 2 names for 1 runs; give one for each"),
        (["c", "--set-name", "tiny", "--edges", "3", "2"], "--edges: 3 2 must increase and be at least 1"),
        (["c", "--set-name", "tiny", "--plot", "a.b"], "a.b: .b is not an image format that can be written; use"),
        (["c", "copy", "--set-name", "tiny"], "copy/evaluation/tiny.hyp: No such file or directory; evaluate the run"),
    ],
)
def test_bleu_by_length_refuses_in_one_line(place, monkeypatch, capsys, arguments, said):
    shutil.copytree(place.run, "copy")
    Path("copy/evaluation/tiny.hyp").unlink()
    assert script(monkeypatch, "bleu_by_length.py", *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"bleu_by_length: {said}")
    assert len(err.splitlines()) == 1
