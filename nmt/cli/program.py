"""The program ``nmt``: its commands, and how one of them runs."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import Protocol

from nmt import __version__
from nmt.cli.commands import (
    attention,
    backtranslate,
    check,
    compare,
    config,
    distil,
    evaluate,
    export,
    init,
    prepare,
    reproduce,
    runs,
    score,
    serve,
    sweep,
    train,
    translate,
    tune,
)
from nmt.cli.errors import guarded, stopped
from nmt.cli.parser import Parser
from nmt.runtime import garbage, signals
from nmt.runtime.memory import restart_without_caches
from nmt.runtime.progress import leave
from nmt.runtime.streams import open_standard_streams
from nmt.runtime.threads import spin_briefly

EXAMPLES = """\
examples:
  nmt init NAME train.en train.de --langs en-de     write a configuration for your own data
  nmt train demo                                    train and evaluate the built-in demonstration
  nmt train demo --set train.max_steps=50 name=try  the same with other settings
  nmt translate demo -i FILE -o FILE                translate a file with the trained run
"""


class Command(Protocol):
    """A module of :mod:`nmt.cli.commands`.

    Attributes:
        HELP: one line for ``nmt --help``.
    """

    HELP: str

    def add_arguments(self, parser: Parser, /) -> None: ...

    def run(self, arguments: argparse.Namespace, /) -> None:
        """Call one function, print; an error of the user is an :class:`nmt.errors.NmtError`."""


COMMANDS: dict[str, Command] = {
    "init": init,
    "check": check,
    "prepare": prepare,
    "train": train,
    "translate": translate,
    "attention": attention,
    "export": export,
    "evaluate": evaluate,
    "tune": tune,
    "runs": runs,
    "compare": compare,
    "sweep": sweep,
    "reproduce": reproduce,
    "score": score,
    "backtranslate": backtranslate,
    "distil": distil,
    "serve": serve,
    "config": config,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0 done, 1 failed, 2 an error that the user can fix, 128+n a signal."""
    try:
        return _main(argv)
    except KeyboardInterrupt as error:  # before or after the command, which answers signals itself
        return stopped("nmt", signals.number_of(error))


def _main(argv: Sequence[str] | None) -> int:
    # Parse
    open_standard_streams()
    parser = new_parser()
    if not (sys.argv[1:] if argv is None else argv):
        parser.print_help()
        return 0
    arguments = parser.parse_args(argv)
    logging.basicConfig(stream=sys.stderr, format=f"{_clear_line()}%(message)s", level=logging.WARNING)
    logging.getLogger("nmt").setLevel(logging.INFO)
    # Prepare a process that is this program alone, and has loaded nothing yet
    if argv is None:
        signals.ignore_save()  # until there is something to save
        spin_briefly()
        if arguments.command in (train.run, init.run, check.run, sweep.run):
            restart_without_caches()
        garbage.pause()
    # Run
    with signals.ending():
        code = guarded("nmt", lambda: arguments.command(arguments), arguments.debug)
    if argv is None:
        signals.ignore_save()
        leave(code)
    return code


def _clear_line() -> str:
    """The characters that clear a progress bar before a message is printed."""
    shown = sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    return "\r\x1b[K" if shown else ""


def new_parser() -> Parser:
    parser = Parser(
        prog="nmt",
        description="Neural machine translation from one YAML file to BLEU.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"nmt {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    parser.commands = commands.choices
    for name, command in COMMANDS.items():
        text = command.HELP
        sub: Parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        sub.set_defaults(command=command.run)
        sub.add_argument("--debug", action="store_true", help="show tracebacks")
        command.add_arguments(sub)
    return parser
