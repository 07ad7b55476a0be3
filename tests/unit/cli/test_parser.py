"""What the command line answers to words that it does not know."""

import re
import subprocess
import sys
from typing import Literal, get_args, get_origin

import pytest

from nmt.advice import COMMANDS, KEYS, VALUES
from nmt.cli import main
from nmt.config.experiment import all_keys

MISTAKES = [
    ("trian", "nmt: trian: no such command; did you mean train?"),
    ("decode x", "nmt: decode: no such command; did you mean translate?"),
    ("demo.yaml", "nmt: demo.yaml: no such command; did you mean nmt train demo.yaml?"),
    ("--configs demo", "nmt: --configs: unknown option; a command comes first: init, check, prepare, train"),
    ("train --configs demo", "nmt train: --configs: unknown option; CONFIG stands without one: nmt train configs/"),
    ("train --config=demo", "nmt train: --config: unknown option; CONFIG stands without one: nmt train configs/"),
    ("train demo --max-steps 3", "nmt train: --max-steps: unknown option; did you mean --set train.max_steps=VALUE?"),
    ("train demo --lr=0.1", "nmt train: --lr: unknown option; did you mean --set train.optimizer.lr=0.1?"),
    ("train demo --train.max_step 3", "nmt train: --train.max_step: unknown option; did you mean --set train.max_"),
    ("train demo --zzz", "nmt train: --zzz: unknown option; valid here: --help, --debug, --set"),
    ("train demo seed.x=3", "nmt train: seed.x=3: overrides come after --set: --set seed.x=3"),
    ("translate r --inptu x", "nmt translate: --inptu: unknown option; did you mean --input?"),
    ("translate --inptu x", "nmt translate: --inptu: unknown option; did you mean --input?"),
    ("translate --out-file x r", "nmt translate: --out-file: unknown option; did you mean --output?"),
    ("translate --model r", "nmt translate: --model: unknown option; RUN stands without one: nmt translate demo"),
    ("translate r s", "nmt translate: s: unexpected argument"),
    ("translate r --device gpu", "nmt translate: argument --device: 'gpu' is not one of auto, cpu, cuda, mps; "
     "did you mean cuda?"),
    ("attention r a --sefl b", "nmt attention: --sefl: unknown option; did you mean --self?"),
    ("plot r", "nmt: plot: no such command; did you mean attention?"),
    ("export r --to ct2", "nmt export: argument --to: 'ct2' is not one of ctranslate2, huggingface, marian, argos, "
     "onnx; did you mean ctranslate2?"),
    ("train", "nmt train: the following arguments are required: CONFIG"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "message"), MISTAKES)
def test_a_mistake_is_one_line_with_the_right_word(command, message, capsys):
    with pytest.raises(SystemExit) as end:
        main(command.split())
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", ["translate run -i x", "translate run --in x", "translate run --input=x"])
def test_short_and_shortened_options_are_known(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 2  # there is no such run
    assert "run: no such run" in capsys.readouterr().err


def test_without_a_command_there_is_help_with_three_examples(capsys):
    assert main([]) == 0
    bare = capsys.readouterr().out
    assert len(re.findall(r"^  nmt \w+ demo ", bare, re.MULTILINE)) == 3
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out == bare


def test_help_loads_neither_torch_nor_the_configuration():
    slow = {"torch", "pydantic", "yaml", "numpy"}
    code = f"import sys; from nmt.cli import main; main([]); print(*{slow} & {{*sys.modules}})"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == ""


def test_the_examples_of_help_are_right(capsys):
    """Each would be accepted: a run or file that is missing is the only mistake left."""
    from nmt.cli.program import EXAMPLES, new_parser

    for line in EXAMPLES.splitlines()[1:]:
        new_parser().parse_args(line.split("  ")[1].split()[1:])


def test_advice_leads_to_what_exists(capsys):
    keys = {key for key, _ in all_keys()}
    assert {*KEYS.values()} <= keys
    assert not {*KEYS} & {key.rpartition(".")[2] for key in keys} - {
        "scheduler", "num_layers", "epochs", "steps", "max_word_length", "heads",
    }  # fmt: skip
    main([])
    commands = re.findall(r"^    (\w+)", capsys.readouterr().out, re.MULTILINE)
    assert {name.split()[0] for name in COMMANDS.values()} <= {*commands, "--help", "--version"}
    assert not {*COMMANDS} & {*commands}


def _allowed(name: str) -> set[str]:
    """The values of every key whose dotted name ends with ``name``."""

    def literals(annotation):
        inner = get_args(annotation)
        return {*inner} if get_origin(annotation) is Literal else set().union(*map(literals, inner))

    return set().union(*(literals(field.annotation) for key, field in all_keys() if f".{key}".endswith(f".{name}")))


@pytest.mark.parametrize("name", [name for name in VALUES if name not in ("quantize", "engine", "to")])
def test_each_habit_stands_for_an_allowed_value_and_is_none_itself(name):
    allowed = _allowed(name)
    assert allowed
    assert {meant.split()[0] for meant in VALUES[name].values()} <= allowed
    assert not {*VALUES[name]} & allowed
