"""Ctrl-C before the command runs: while modules are loaded, and while arguments are read."""

import subprocess
import sys

from nmt.cli import main, program

LOADING = """
import sys
from importlib.abc import MetaPathFinder

class Interrupting(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "nmt.cli.parser":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupting())
import nmt.cli
"""


def test_while_modules_are_loaded():
    done = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "nmt: interrupted\n")


def test_while_arguments_are_read(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "new_parser", interrupted)
    assert main(["config"]) == 130
    assert capsys.readouterr().err == "nmt: interrupted\n"
