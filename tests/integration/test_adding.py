"""The diffs of ``docs/adding.md`` apply to this version of the code, and what the page says to run after them runs."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Task

ROOT = Path(__file__).parents[2]
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", (ROOT / "docs/adding.md").read_text("utf-8"), re.M | re.S))
DIFFS = {name: re.findall(r"^```diff\n(.*?)^```", text, re.M | re.S) for name, text in SECTIONS.items()}
COMMANDS = {name: re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S) for name, text in SECTIONS.items()}
# In one process, because loading PyTorch takes longest: arguments of pytest in the checkout, of nmt in a folder beside
DRIVER = """\
import json, os, sys
import pytest
from nmt.cli import main
work, checkout = os.getcwd(), os.environ["PYTHONPATH"]
for program, *arguments in json.load(sys.stdin):
    os.chdir(checkout if program == "pytest" else work)
    code = pytest.main(["-q", "-p", "no:cacheprovider", *arguments]) if program == "pytest" else main(arguments)
    if code:
        sys.exit(f"{program} {arguments}: exit code {code}")
"""
SMALL = {
    "data.train": "{kind: text, src: train.en, tgt: train.de}", "data.valid": "{kind: text, src: val.en, tgt: val.de}",
    "data.test": "{tiny: {kind: text, src: val.en, tgt: val.de}}", "tokenizer.vocab_size": "36",
    "train.max_steps": "2", "train.validate_every": "2", "train.batch_tokens": "256", "train.device": "cpu",
    "train.log_every": "1", "train.samples": "0", "search.alpha": "1.0", "search.beam_size": "2",
    "evaluation.metrics": "[bleu]",
}  # fmt: skip


def apply(diff: str, checkout: Path, *options: str) -> None:
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(checkout.parent)}  # no repository of the user's
    done = subprocess.run(["git", "apply", *options, "-"], input=diff, text=True, capture_output=True, cwd=checkout,
                          env=environment)  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    if shutil.which("git") is None:
        pytest.skip("no git, which applies the diffs")
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("nmt", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "*.xz")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copyfile(ROOT / "pyproject.toml", folder / "pyproject.toml")
    return folder


def test_each_section_has_a_diff_and_what_to_run() -> None:
    assert list(SECTIONS) == ["An attention score", "A model", "A schedule", "A source", "A loss", "A command"]
    for name, text in SECTIONS.items():
        assert len(DIFFS[name]) == len(COMMANDS[name]) == 1, name
        assert "+++ b/tests/" in text, name  # with its test


@pytest.mark.parametrize("name", SECTIONS)
def test_each_diff_applies_alone(checkout, name) -> None:
    apply(DIFFS[name][0], checkout, "--check")


def test_what_the_page_says_runs(checkout, tmp_path) -> None:
    """All diffs together, on a corpus and a number of steps that take seconds."""
    for [diff] in DIFFS.values():
        apply(diff, checkout)
    task = Task(tmp_path, train=300)
    for theirs, ours in (("train.src", "train.en"), ("train.tgt", "train.de"), ("valid.src", "val.en"),
                         ("valid.tgt", "val.de"), ("test.src", "sentences.txt")):  # fmt: skip
        task.paths[theirs].rename(tmp_path / ours)
    # The tests of all sections in one go, then the commands
    lines = [line for [block] in COMMANDS.values() for line in block.splitlines()]
    tested = [shlex.split(line)[3:] for line in lines if " -m pytest " in line]
    chosen = [words for words in tested if "-k" in words]
    files = sorted({word for words in chosen for word in words if word.startswith("tests/")})
    whole = [word for words in tested if "-k" not in words for word in words]
    run = [["pytest", *files, "-k", " or ".join(words[-1] for words in chosen)]]
    run += [
        ["pytest", "tests/unit/test_house.py", *whole, "-k", "not functions and not every_module"]
    ]  # those are slow
    for line in lines:
        line = line.replace("pieces demo", "pieces stable")  # a run that was trained here
        if line.startswith(".venv/bin/nmt "):
            run.append(small(["nmt", *shlex.split(line)[1:]]))
        elif " -m pytest " not in line:
            subprocess.run(["bash", "-c", line], cwd=tmp_path, check=True)
    done = subprocess.run([sys.executable, "-c", DRIVER], input=json.dumps(run), text=True, capture_output=True,
                          cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(checkout)})  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    # What came out
    trained = {path.parent.name for path in tmp_path.glob("runs/*/run.json")}
    assert trained == {"cosine", "window", "stable", "confident"}
    assert (tmp_path / "window.html").stat().st_size > 10_000
    assert "train/confidence_penalty" in (tmp_path / "runs/confident/metrics.jsonl").read_text()


def small(command: list[str]) -> list[str]:
    """The command with small settings; what the page sets stays."""
    if "--set" not in command:
        return command
    given = {word.partition("=")[0] for word in command}
    return [*command, *(f"{key}={value}" for key, value in SMALL.items() if key not in given)]
