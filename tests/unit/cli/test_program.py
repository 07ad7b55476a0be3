"""The table of commands, and what the parser repeats of modules that it does not import."""

from pathlib import Path
from typing import get_args

from nmt.cli.commands import translate
from nmt.cli.program import COMMANDS, new_parser
from nmt.translation.loading import EngineName


def test_every_module_of_a_command_is_in_the_table():
    folder = Path(translate.__file__).parent
    assert sorted(COMMANDS) == sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


def test_each_command_runs_its_module():
    for name, module in COMMANDS.items():
        options = {
            "export": ["--to", "ctranslate2"], "score": ["--src", "a", "--tgt", "b"], "distil": ["--out", "a"],
            "backtranslate": ["--mono", "a", "--out", "b"],
        }  # fmt: skip
        required = ["name", *options.get(name, [])]
        assert new_parser().parse_args([name, *required]).command is module.run


def test_engines_are_those_that_can_be_loaded():
    assert (*translate.ENGINES,) == get_args(EngineName)
