"""``nmt reproduce``: train a run again, and compare translations, scores and weights."""

from __future__ import annotations

import argparse

from nmt.cli.parser import Parser
from nmt.errors import NotReproduced
from nmt.runtime import garbage
from nmt.runtime.streams import require_output

HELP = "train a finished run again, and compare translations, scores and weights"


def add_arguments(parser: Parser) -> None:
    parser.add_run()
    parser.add_argument("--into", metavar="DIR", help="directory of the new run (default: RUN-reproduced)")
    text = "search and score again with the stored weights, without training"
    parser.add_argument("--decode-only", action="store_true", help=text)


def run(arguments: argparse.Namespace) -> None:
    """
    Raises:
        NotReproduced: the run was not reproduced; the exit code is 1.
    """
    require_output(", so that the result would not be shown; redirect it to a file (> FILE)")
    from nmt.run.directory import Run

    opened = Run.open(arguments.run)
    from nmt.reproduction import reproduce

    garbage.resume()
    found = reproduce(opened, arguments.into, arguments.decode_only)
    # Report
    print(found.table())
    if found.weights is not None:
        print(f"final weights: {'the same bits' if found.weights else 'other bits'}")
    print(f"environment: {found.environment or 'the same machine, versions, precision and threads'}")
    for note in found.notes:
        print(f"note: {note}")
    if not found.is_success:
        raise NotReproduced(f"{opened.path}: was not reproduced, see above")
    print("reproduced to the last digit" if found.is_exact else "reproduced: every score is inside its 95 % interval")
