"""``nmt tune``: beam size and length penalty for a finished run, chosen on its validation set."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from nmt.cli.parser import Parser
from nmt.errors import DataError
from nmt.runtime import garbage
from nmt.runtime.progress import showing
from nmt.runtime.streams import require_output

if TYPE_CHECKING:
    from nmt.run.directory import Run

HELP = "choose beam size and length penalty on the validation set, for all commands that translate"


def add_arguments(parser: Parser) -> None:
    parser.add_run()
    text = "beam sizes to try, beside that of the run (default: 1 2 4 5 8)"
    parser.add_argument("--beams", type=int, nargs="+", metavar="N", help=text)
    text = "maximum number of validation sentences (default: 2000)"
    parser.add_argument("--sentences", type=int, default=2000, metavar="N", help=text)
    parser.add_choice("--device", "train.device", ["auto", "cpu", "cuda", "mps"], help="override train.device")
    parser.add_argument("--dry-run", action="store_true", help="show the table, and write nothing")
    text = "remove an earlier choice: the run translates with its configuration again"
    parser.add_argument("--reset", action="store_true", help=text)


def run(arguments: argparse.Namespace) -> None:
    """
    Raises:
        DataError: an option is out of bounds.
    """
    # Options
    require_output(", so that the table would not be shown; redirect it to a file (> FILE)")
    from nmt.config.search import MAX_BEAM
    from nmt.run.directory import Run

    opened = Run.open(arguments.run)
    if arguments.sentences < 1:
        raise DataError(f"--sentences {arguments.sentences}: must be 1 or more")
    for beam in arguments.beams or ():
        if not 1 <= beam <= MAX_BEAM:
            raise DataError(f"--beams {beam}: must be from 1 to {MAX_BEAM}")
    if arguments.reset:
        _reset(opened, arguments.dry_run)
        return
    # Search
    with showing("loading PyTorch", unit=""):
        from nmt import pipeline
        from nmt.evaluation import tuning
        from nmt.run.alpha import with_alpha

    garbage.resume()
    found = pipeline.tune(opened, arguments.beams or tuning.BEAMS, arguments.sentences, arguments.device)
    # Output
    print(tuning.table(found, with_alpha(opened, opened.load_config().search)))
    if arguments.dry_run:
        return
    with opened.lock():
        opened.refuse_links()
        found.write(opened)
    print(f"written to {opened.tuned}; translate, evaluate, serve and export use it (nmt tune --reset removes it)")


def _reset(run: Run, dry_run: bool) -> None:
    exists = run.tuned.exists()
    if exists and not dry_run:
        with run.lock():
            run.tuned.unlink()
    print(f"{run.tuned}: {'would be removed' if dry_run else 'removed'}" if exists else f"{run.path}: was not tuned")
