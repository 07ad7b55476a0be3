"""A program that was started with closed or broken standard streams loses nothing and mixes nothing up."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(redirection: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", "-c", f'exec "$@" {redirection}', "bash", sys.executable, "-m", "nmt", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)})


@pytest.mark.parametrize("redirection", ["2>&-", ">&-", "<&- >&- 2>&-"])
def test_a_training_ends_well(place, redirection):
    result = run(redirection, "train", "c.yaml", "--set", "name=other", "train.max_steps=2")
    assert result.returncode == 0, result.stderr
    shown = {"2>&-": result.stdout, ">&-": result.stderr, "<&- >&- 2>&-": ""}[redirection]
    assert "The run is in" in shown or not shown
    assert ("The run is in" in result.stdout) == (redirection == "2>&-")
    assert "resuming" not in result.stdout
    assert "starting at step 0" not in result.stdout
    assert (place.path / "runs" / "other" / "evaluation" / "tiny.json").is_file()
    assert (place.path / "runs" / "other" / "metrics.jsonl").read_text().startswith("{")


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["prepare", "c.yaml"], "prepared store/encoded-"),
        (["export", "c", "--to", "ctranslate2"], "CTranslate2 runs Transformers"),
        (["--help"], "usage: nmt"),
        (["--version"], "nmt 0."),
    ],
)
def test_what_is_printed_for_people_is_on_standard_error_instead(place, arguments, shown):
    result = run(">&-", *arguments)
    assert shown in result.stderr
    assert result.stdout == ""


def test_a_translation_to_a_file_needs_no_stream(place):
    result = run("<&- >&- 2>&-", "translate", "c", "-i", "test.src", "-o", "out")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert len(Path("out").read_text().splitlines()) == len(Path("test.src").read_text().splitlines())


@pytest.mark.parametrize(
    ("redirection", "arguments", "code", "said"),
    [
        (">&-", ["translate", "c", "-i", "test.src"], 2, "nmt: standard output is closed; name a file with -o\n"),
        ("<&-", ["translate", "c"], 2, "nmt: standard input is closed; name a file with -i\n"),
        (">&-", ["config", "c.yaml"], 2, "nmt: standard output is closed, so that nothing can be printed\n"),
        (">&-", ["evaluate", "c"], 2, "nmt: standard output is closed, so that the scores would not be shown; "),
        (">/dev/full", ["config", "c.yaml"], 1, "nmt: standard output: No space left on device; "),
        ("2>/dev/full", ["translate", "nosuch"], 2, ""),
        ("2>&-", ["translate", "nosuch"], 2, ""),
        ("2> >(exit)", ["translate", "nosuch"], 2, ""),
    ],
)
def test_what_needs_a_stream_says_so(place, redirection, arguments, code, said):
    result = run(redirection, *arguments)
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith(said)
    assert len(result.stderr.splitlines()) == bool(said)
