"""``nmt export``: a trained run for another program."""

from __future__ import annotations

import argparse
from pathlib import Path

from nmt.cli.parser import Parser
from nmt.cli.searching import checked_search
from nmt.interop.targets import TARGETS
from nmt.runtime import garbage
from nmt.runtime.progress import showing

HELP = "export a trained run for another program, and verify the export"


def add_arguments(parser: Parser) -> None:
    parser.add_run()
    parser.add_choice("--to", "to", [*TARGETS], required=True, help="target program")
    weights = dict.fromkeys(each for listed in TARGETS.values() for each in listed.weights)
    parser.add_choice("--quantize", "quantize", [*weights], help="smaller weights (default: float32)")
    parser.add_argument("-o", "--output", metavar="FOLDER", help="folder to write (default: RUN/export/...)")
    parser.add_argument(
        "--check", metavar="FILE", help="file of source lines to verify on (default: the validation set)"
    )
    parser.add_search()


def run(arguments: argparse.Namespace) -> None:
    from nmt.run.directory import Run

    opened = Run.open(arguments.run)
    with showing("loading PyTorch", unit=""):
        from nmt.interop.export import export

    garbage.resume()
    output, check = (Path(path) if path else None for path in (arguments.output, arguments.check))
    search = checked_search(opened, arguments.search)
    folder, found = export(opened, arguments.to, arguments.quantize or "float32", output, check, search)
    if found is not None:
        print(found.summary())
    print(f"exported to {folder}; its README.md says how to use it")
