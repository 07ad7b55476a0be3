"""An argument parser whose errors name the nearest right command, option or value, in one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from nmt.advice import COMMANDS, nearest, value_for

# Options that other toolkits have for what is an argument without a name here, with its name in the help.
POSITIONALS = {
    "config": "CONFIG",
    "configs": "CONFIG",
    "cfg": "CONFIG",
    "run": "RUN",
    "runs": "RUN",
    "model": "RUN",
    "checkpoint": "RUN",
}
PARTING = "\0"  # stands for -- among the words of a command with ``parted``: no name of a file has it
EXAMPLES = {"CONFIG": "configs/demo.yaml", "RUN": "demo"}
# Options of other toolkits, with ours; those that a command lacks are skipped.
OPTIONS = {
    "out": ["--output"],
    "output": ["--out"],
    "input": ["--mono", "--source"],
    "out_file": ["--output"],
    "output_file": ["--output"],
    "file": ["--input"],
    "infile": ["--input"],
    "src": ["--src", "--input"],
    "source": ["--src", "--input"],
    "target": ["--ref"],
    "tgt": ["--ref"],
    "reference": ["--ref"],
    "beam": ["--beam-size"],
    "num_beams": ["--beam-size"],
    "n_best": ["--nbest"],
    "gpu": ["--device"],
    "json": ["--jsonl"],
    "backend": ["--engine"],
    "format": ["--to"],
    "test_set": ["--set-name"],
    "override": ["--set"],
    "overrides": ["--set"],
}


def choice(key: str, allowed: Sequence[str]) -> Callable[[str], str]:
    """The type of an argument with a few values; the error names the one that was probably meant."""

    def parse(text: str) -> str:
        if text in allowed:
            return text
        near = value_for(key, text, allowed)
        hint = f"; did you mean {near}?" if near else ""
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(allowed)}{hint}")

    return parse


class Parser(argparse.ArgumentParser):
    """One command, or all of them: a mistake ends in one line on standard error and exit code 2."""

    commands: Iterable[str] = ()
    given: Sequence[str] = ()
    parted = False  # whether -- stands between two groups of words, each of which options may follow
    words = ""  # name of the argument that takes any number of words, which may stand after options as well

    def add_config(self, count: str | None = None, text: str | None = None) -> None:
        """Add the arguments of a configuration: its file, and overrides."""
        text = text or "YAML file of the experiment, or the name of a built-in one: demo"
        self.add_argument("config", metavar="CONFIG", nargs=count, help=text)
        self.add_argument(
            "--set",
            dest="overrides",
            metavar="KEY=VALUE",
            nargs="+",
            action="extend",
            default=[],
            help="override configuration keys: --set train.max_steps=100 seed=2",
        )

    def add_run(self) -> None:
        self.add_argument("run", metavar="RUN", help="run directory, or its name under runs/")

    def add_search(self) -> None:
        text = "override keys of the section search: --search method=sample temperature=0.8"
        self.add_argument("--search", metavar="KEY=VALUE", nargs="+", action="extend", default=[], help=text)

    def add_tags(self) -> None:
        text = "tag before each source, one of the tags of the training; repeat the option for several"
        self.add_argument("--tag", metavar="TAG", action="append", default=[], help=text)

    def add_ensemble(self) -> None:
        """Add the options of an ensemble."""
        text = "runs of the same vocabulary, whose probabilities are averaged with those of RUN"
        self.add_argument("--ensemble", metavar="RUN", nargs="+", action="extend", default=[], help=text)
        text = "average of --ensemble (default: probability); log_probability: the geometric mean"
        self.add_choice("--ensemble-average", "ensemble_average", ["probability", "log_probability"], help=text)

    def add_choice(self, option: str, key: str, allowed: Sequence[str], **more: Any) -> None:
        """Add an option with a few values; ``key`` is what :data:`nmt.advice.VALUES` calls it."""
        self.add_argument(option, type=choice(key, allowed), metavar=f"{{{','.join(allowed)}}}", **more)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does, but refuse unknown arguments here, so that the error names this command."""
        self.given = list(sys.argv[1:] if args is None else args)
        first = self.given[0] if self.commands and self.given else "-h"
        if first.startswith("-"):
            if first != "--" and not any(each.startswith(first) for each in self._option_string_actions):
                self.error(f"{first}: unknown option; a command comes first: {', '.join(self.commands)}")
        elif first not in self.commands:
            self.error(f"{first}: no such command; {self._command_advice(first)}")
        if self.parted:  # argparse would take every option after -- as a word
            self.given = [PARTING if word == "--" else word for word in self.given]
        found, unknown = super().parse_known_args(self.given, namespace)
        if self.words:  # argparse takes those before the first option only
            late = [word for word in unknown if not word.startswith("-")]
            setattr(found, self.words, [*getattr(found, self.words), *late])
            unknown = [word for word in unknown if word.startswith("-")]
        if unknown:
            self.error(self._explain(unknown[0]))
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """End the program. An unknown option is the better explanation of an argument that seems to be missing."""
        if "are required" in message and (unknown := next(filter(self._is_unknown, self.given), None)):
            message = self._explain(unknown)
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def _command_advice(self, word: str) -> str:
        if word.endswith((".yaml", ".yml")):
            return f"did you mean {self.prog} train {word}?"
        near = COMMANDS.get(word.lower()) or nearest(word, self.commands)
        return f"did you mean {near}?" if near else f"one of: {', '.join(self.commands)}"

    def _options(self) -> list[str]:
        return [name for name in self._option_string_actions if name.startswith("--")]

    def _is_unknown(self, word: str) -> bool:
        name = word.partition("=")[0]
        return name.startswith("--") and len(name) > 2 and not any(each.startswith(name) for each in self._options())

    def _explain(self, word: str) -> str:
        """Say why ``word`` is out of place, and what to write instead."""
        option, equals, value = word.partition("=")
        if not option.startswith("-"):
            if equals and "." in option and "--set" in self._options():
                return f"{word}: overrides come after --set: --set {word}"
            return f"{word}: unexpected argument"
        name = option.lstrip("-").lower().replace("-", "_")
        options = self._options()
        ours = next((each for each in OPTIONS.get(name, []) if each in options), None)
        positional = POSITIONALS.get(name, "")
        if ours is None and positional in (action.metavar for action in self._actions if not action.option_strings):
            example = f"{self.prog} {EXAMPLES[positional]}"
            return f"{option}: unknown option; {positional} stands without one: {example}"
        if ours := ours or nearest(option, options, 0.7):
            return f"{option}: unknown option; did you mean {ours}?"
        if "--set" in options and (key := _key_for(name)):
            return f"{option}: unknown option; did you mean --set {key}={value or 'VALUE'}?"
        return f"{option}: unknown option; valid here: {', '.join(options)}"


def _key_for(name: str) -> str | None:
    from nmt.config.explain import key_for  # loads pydantic, for a mistake only

    return key_for(name)
