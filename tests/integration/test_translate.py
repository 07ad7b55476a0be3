"""``nmt translate`` in use: talked to by people and programs, with odd text, and to files that must not be lost."""

import io
import os
import pty
import select
import subprocess
import sys

import pytest

from nmt.cli import main
from nmt.cli.commands import translate
from nmt.cli.errors import guarded
from nmt.config.load import load_config
from nmt.run.directory import Run
from nmt.translation.translator import Translator

NMT = [sys.executable, "-m", "nmt"]


def test_a_program_that_waits_for_each_answer_gets_it(place):
    with subprocess.Popen(
        [*NMT, "translate", "c"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
    ) as talk:
        assert talk.stdin is not None
        assert talk.stdout is not None
        for sentence in (b"one two\n", b"three\n", b"caf\xe9\n", b"four\n"):
            talk.stdin.write(sentence)
            ready, _, _ = select.select([talk.stdout], [], [], 120)
            assert ready, "no answer"
            assert talk.stdout.readline().endswith(b"\n")
        talk.stdin.close()
        assert talk.stdout.read() == b""
        assert talk.wait() == 0


def test_a_person_at_a_terminal_is_prompted_and_answered(place):
    def until_prompt() -> list[bytes]:
        seen = b""
        while not seen.endswith(b"en> "):
            assert select.select([ours], [], [], 120)[0], seen
            seen += os.read(ours, 1000)
        return seen.split(b"\r\n")

    ours, theirs = pty.openpty()
    talk = subprocess.Popen([*NMT, "translate", "c"], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        assert b"en to de: type a sentence and press Enter; Ctrl-D ends" in until_prompt()
        os.write(ours, b"one two\n")
        echo, *_, answer, _ = until_prompt()  # between them maybe a warning: this model has learned nothing
        assert echo == b"one two"
        assert answer
        os.write(ours, b"\x04")
        assert talk.wait(120) == 0
    finally:
        talk.kill()
        talk.wait()
        os.close(ours)


@pytest.mark.parametrize("bad", [b"caf\xe9\n", b"a\0b\n", b"\xff\xfe\n"])
def test_a_bad_line_among_many_does_not_lose_the_others(place, caplog, bad):
    place.write("in", b"one two\n" * 60 + bad + b"three\n" * 60)
    assert main(["translate", "c", "-i", "in", "-o", "out", "--beam-size", "1"]) == 0
    assert (place.path / "out").read_bytes().count(b"\n") == 121
    assert any("line 61: " in message and "U+FFFD" in message for message in caplog.messages)


def test_strict_refuses_a_bad_line_before_the_work(place, capfd, monkeypatch):
    place.write("in", b"one two\n" * 60 + b"caf\xe9\n")
    monkeypatch.setattr(Translator, "translate", None)
    assert main(["translate", "c", "-i", "in", "-o", "out", "--strict"]) == 2
    assert "in:61: not valid UTF-8 (byte 0xe9 at column 4)" in capfd.readouterr().err
    assert not (place.path / "out").exists()


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("x" * 300, "cannot be opened: File name too long"),
        ("no/where", "cannot be opened: No such file or directory"),
        ("c.yaml/out", "cannot be opened: Not a directory"),
        ("runs", "is a folder; name a file"),
    ],
)
def test_a_file_that_cannot_be_written_is_found_before_the_work(place, capfd, monkeypatch, output, expected):
    monkeypatch.setattr(translate, "load_searching", None)
    place.write("in", b"one\n")
    assert main(["translate", "c", "-i", "in", "-o", output]) == 2
    assert expected in capfd.readouterr().err


def test_the_longest_name_that_can_be_written_is(place):
    place.write("in", b"one\n")
    name = "x" * 255
    assert main(["translate", "c", "-i", "in", "-o", name]) == 0
    assert (place.path / name).read_bytes().count(b"\n") == 1


def test_a_file_keeps_its_mode(place):
    place.write("in", b"one\n")
    (place.path / "out").touch(mode=0o600)
    assert main(["translate", "c", "-i", "in", "-o", "out"]) == 0
    assert (place.path / "out").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device"), MemoryError])
def test_what_was_translated_before_an_error_is_kept(place, monkeypatch, caplog, error):
    def translate(self, lines, *rest):
        if rest[-1] > 1:
            raise error
        return original(self, lines, *rest)

    original = Translator.translate
    monkeypatch.setattr(Translator, "translate", translate)
    monkeypatch.setattr("nmt.translation.line_stream.BLOCK_LINES", 3)
    place.write("in", b"one\n" * 5)
    place.write("out", b"earlier\n")
    for name in ("out.partial", "out.partial2"):
        assert main(["translate", "c", "-i", "in", "-o", "out", "--beam-size", "1"]) in (1, 130)
        assert (place.path / name).read_bytes().count(b"\n") == 3
        assert caplog.messages[-1] == f"not finished; the translations made so far are in {place.path.resolve() / name}"
    assert (place.path / "out").read_bytes() == b"earlier\n"
    assert not list(place.path.glob("*.tmp"))


def test_translating_loads_nothing_that_only_a_training_needs(place):
    """Each of these libraries delays the first translation by tenths of a second."""
    heavy = {"tensorboard", "torch.utils.tensorboard", "pyarrow", "datasets", "sacrebleu", "matplotlib", "pandas"}
    code = (
        "import sys; from nmt.cli import main; code = main(sys.argv[1:]);"
        "ours = {name for name in sys.modules if name.startswith(('nmt.training', 'nmt.pipeline', 'nmt.evaluation'))};"
        f"print(sorted(ours | {heavy} & {{*sys.modules}}), 'torch' in sys.modules); sys.exit(code)"
    )
    command = [sys.executable, "-c", code, "translate", "c", "-i", "test.src", "-o", "out"]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert done.stdout == "[] True\n"


def test_a_line_of_20_mb_takes_little_memory(place, caplog):
    place.write("in", b"one two " * 2_500_000 + b"\nthree\n")
    code = (
        "import resource, sys; from nmt.cli import main; code = main(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10); sys.exit(code)"
    )
    peaks = []
    for name in ("small", "in"):
        place.write("small", b"one two\n")
        command = [sys.executable, "-c", code, "translate", "c", "-i", name, "-o", "out", "--beam-size", "1"]
        done = subprocess.run(command, capture_output=True, check=True, text=True)
        peaks.append(int(done.stdout))
    assert "very long line cut (20,000,000 bytes" in done.stderr
    assert (place.path / "out").read_bytes().count(b"\n") == 2
    assert peaks[1] < peaks[0] + 100  # MB


# ---------------------------------------------------------------------------------------- terminals of other encodings


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "euc-jp"])
def test_characters_that_a_terminal_lacks_are_shown_as_numbers(encoding, monkeypatch):
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding=encoding, write_through=True))
    assert guarded("nmt", lambda: print("a \N{GRINNING FACE} b")) == 0
    assert shown.getvalue() == b"a \\U0001f600 b\n"


def test_every_command_ends_well_on_a_terminal_of_another_encoding(place):
    text = (place.path / "c.yaml").read_text(encoding="utf-8").replace("store: store", "store: 語料")
    (place.path / "c.yaml").write_text(text, encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    for command in (["prepare", "c.yaml"], ["train", "c.yaml"], ["evaluate", "c"], ["config", "c.yaml"]):
        done = subprocess.run([*NMT, *command], env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
    (place.path / "shown.yaml").write_bytes(done.stdout)
    # With the end of the schedule that the run has recorded
    assert load_config("shown.yaml") == Run(place.run).settle(load_config("c.yaml"))
