"""``nmt runs``: the runs of a folder."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from dataclasses import asdict
from pathlib import Path

from nmt.cli.parser import Parser
from nmt.errors import RunError
from nmt.runtime.streams import require_output

HELP = "list runs with model, steps, scores and state"


def add_arguments(parser: Parser) -> None:
    parser.add_argument("folder", metavar="DIR", nargs="?", default="runs", help="folder of the runs (default: runs)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="print CSV with a header")
    form.add_argument("--json", action="store_true", help="print a JSON list of objects")


def run(arguments: argparse.Namespace) -> None:
    from nmt.run import listing

    require_output(", so that the table would not be shown; redirect it to a file (> FILE)")
    folder = Path(arguments.folder)
    if not arguments.folder or not folder.is_dir():
        why = "is not a folder" if arguments.folder and folder.exists() else "no such folder"
        raise RunError(f"{arguments.folder or 'DIR is empty'}: {why}; name the folder of the runs: nmt runs DIR")
    found = listing.rows(folder)
    if arguments.json:
        print(json.dumps([asdict(row) for row in found], indent=2, ensure_ascii=False))
    elif arguments.csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows(listing.cells(found))
    elif found:
        print(listing.table(found))
    else:
        print(f"no runs in {folder}; nmt train creates one")
