"""Every command that a command prints as the next step works when it is pasted into a shell."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from nmt.cli import main, next_steps
from nmt.cli.program import new_parser


def words(command: str) -> list[str]:
    """The words that a shell makes of a command."""
    line = f"printf '%s\\0' {command}"
    found = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True).stdout
    return found.split("\0")[:-1]


def arguments(command: str) -> list[str]:
    """Those of a command that calls nmt with this interpreter."""
    program, *rest = words(command)
    assert Path(shutil.which(program)).samefile(sys.executable)
    assert rest[:2] == ["-m", "nmt"]
    return rest[2:]


def printed_steps(out: str) -> list[str]:
    """The commands after ``Next:``, without what is said of each."""
    return [line.strip().partition("   ")[0].strip() for line in out.rpartition("Next:\n")[2].splitlines()]


def configuration(file: str, tests: bool = True, **changes: object) -> str:
    """``c.yaml`` with other keys, under another name."""
    raw = {**yaml.safe_load(Path("c.yaml").read_text()), **changes}
    if not tests:
        del raw["data"]["test"]
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_text(yaml.safe_dump(raw, allow_unicode=True))
    return file


SITUATIONS = {
    "plain": ("d.yaml", {}, []),
    "no test set": ("d.yaml", {"tests": False}, []),
    "spaces and quotes": ("my config's/é e.yaml", {"name": "e", "runs": "my ru'ns $HOME"}, []),
    "names like options": ("-f.yaml", {"name": "f", "runs": "--runs"}, []),
    "overrides": ("d.yaml", {}, ["name=g", "train.max_steps=2", "search={beam_size: 1}", "runs=a b"]),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_is_printed_works(place, capsys, situation):
    file, changes, overrides = SITUATIONS[situation]
    configuration(file, **changes)
    assert main(["prepare", *(["--set", *overrides] if overrides else []), "--", file]) == 0
    train = arguments(capsys.readouterr().out.strip().rpartition("next: ")[2])
    assert main(train) == 0
    trained = capsys.readouterr().out
    assert ("these are scores of the validation set" in trained) == (situation == "no test set")

    watch, translate, attend, evaluate = printed_steps(trained)
    logs = Path(words(watch)[-1])
    assert words(watch)[1:-1] == ["-m", "tensorboard.main", "--logdir"]
    assert list(logs.glob("*/events.*"))
    Path("in").write_text("one two\n")
    assert main([*arguments(translate), "-i", "in"]) == 0
    assert capsys.readouterr().out.count("\n") == 1
    assert main(arguments(attend)) == 0
    assert capsys.readouterr().out.startswith("attention.html: 1 sentence")
    assert main(arguments(evaluate)) == 0
    scored = "valid" if situation == "no test set" else "tiny"
    assert any(line.startswith(f"{scored} ") for line in capsys.readouterr().out.splitlines())

    assert main(train) == 0  # now it prints how to train further
    further = capsys.readouterr().out.splitlines()[1]
    assert main(arguments(further)) == 0
    assert not capsys.readouterr().out.startswith("This run is finished")


def test_the_program_is_named_as_the_shell_finds_it(tmp_path, monkeypatch):
    folder = tmp_path / "my env" / "bin"
    folder.mkdir(parents=True)
    (folder / "nmt").write_text("#!/bin/sh\necho called\n")
    (folder / "nmt").chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(folder / "nmt")])
    for place in (tmp_path, folder, tmp_path / "my env"):
        monkeypatch.chdir(place)
        called = subprocess.run(["bash", "-c", next_steps.own_name()], capture_output=True, text=True, check=True)
        assert called.stdout == "called\n"
    assert words(next_steps.command("train", new_parser().parse_args(["train", "a b.yaml"]))) == [
        "bin/nmt", "train", "a b.yaml",
    ]  # fmt: skip


def test_make_is_named_only_where_it_is_that_of_this_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Makefile").write_text("all:\n\techo another project\n")
    assert "make" not in next_steps.after_training(Path("runs/c"), True, True)
