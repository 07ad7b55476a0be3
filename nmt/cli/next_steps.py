"""Commands to type next, ready to be pasted into a shell."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path


def after_training(run: Path, has_tests: bool, attends: bool) -> str:
    """Commands for a finished run, to paste into a shell.

    Args:
        attends: whether its model has attention to show.
    """
    nmt, name, runs = own_name(), _quoted(str(run)), _quoted(str(run.parent))
    commands = {
        f"make tensorboard RUN={name}" if _make_suits(run) else f"{_python()} -m tensorboard.main --logdir {runs}": (
            "curves, samples and attention maps"
        ),
        f"{nmt} translate {name}": "translate what is typed; -i FILE translates a file",
        **({attention(run): "a page of attention maps"} if attends else {}),
        **(
            {f"{nmt} evaluate {name}": "score the test sets again"}
            if has_tests
            else {f"{nmt} evaluate {name} --set-name valid": "score the validation set again; there is no test set"}
        ),
    }
    width = max(map(len, commands))
    return "\n".join(f"  {command:<{width}}   {what}" for command, what in commands.items())


def attention(run: str | Path) -> str:
    """The command that shows the attention of a run."""
    return f'{own_name()} attention {_quoted(str(run))} "..."'


def _make_suits(run: Path) -> bool:
    """Whether make, called here, uses this checkout and this environment, and can take the run's path."""
    root = Path(__file__).parents[2]
    try:
        here = Path("Makefile").samefile(root / "Makefile") and Path(".venv").samefile(sys.prefix)
    except OSError:
        return False
    # make splits a path at its spaces
    return here and Path(".venv/.installed").is_file() and shutil.which("make") is not None and _quoted(run) == str(run)


def command(name: str, arguments: argparse.Namespace, overrides: Sequence[str] = ()) -> str:
    """The command ``nmt NAME`` for the configuration of ``arguments``, with further overrides."""
    keys = [override.partition("=")[0] for override in overrides]
    given = [*(one for one in arguments.overrides if one.partition("=")[0] not in keys), *overrides]
    settings = shlex.join(["--set", *given]) if given else ""
    return f"{own_name()} {name} {_quoted(arguments.config)} {settings}".rstrip()


def _quoted(path: str | Path) -> str:
    """A path as a word of a command, which no program takes for an option."""
    return shlex.quote(f"./{path}" if str(path).startswith("-") else str(path))


def own_name() -> str:
    """How to call this program again: it is often not on the path, as in a virtual environment that make uses."""
    if Path(sys.argv[0]).name != "nmt":
        return f"{_python()} -m nmt"
    if _is_on_path("nmt", sys.argv[0]):
        return "nmt"
    path = os.path.relpath(sys.argv[0])
    return shlex.quote(path if os.sep in path else f".{os.sep}{path}")  # the shell looks for a bare name on the path


def _python() -> str:
    """How to call the interpreter that runs this program."""
    return "python" if _is_on_path("python", sys.executable) else shlex.quote(sys.executable)


def _is_on_path(name: str, program: str) -> bool:
    """Whether the shell runs ``program`` by this name. Links are not followed: they tell environments apart."""
    found = shutil.which(name)
    return found is not None and os.path.abspath(found) == os.path.abspath(shutil.which(program) or program)
