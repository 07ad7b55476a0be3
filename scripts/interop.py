"""Export a run for every program, compare each with the run in the environment of that program, and print one table.

    scripts/interop.py RUN ENVIRONMENTS PEER...

``ENVIRONMENTS/PEER`` is a virtual environment with the program; ``make interop`` makes them. CTranslate2 is checked in
the environment of the caller. The lines are those of the first test set of the run. One process for each program
measures all types of weights; a translation of the run is made once for all programs that are compared under the same
search. Each row is reported on standard error when it is measured.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nmt.data.corpus import Corpus
from nmt.data.file_hashes import read_manifest
from nmt.errors import DataError, NmtError
from nmt.interop.export import check_exportable
from nmt.interop.parity import Lines, compare, judge
from nmt.interop.targets import TARGETS, Exported, load_target
from nmt.run.directory import Run
from nmt.translation.loading import load_translator
from nmt.translation.translator import Translation

ROOT = Path(__file__).resolve().parents[1]
LINES = 1000
# By environment: the target and the package that computes.
PEERS = {
    "ctranslate2": ("ctranslate2", "ctranslate2"),
    "transformers": ("huggingface", "transformers"),
    "argos": ("argos", "argostranslate"),
    "marian": ("marian", "pymarian"),
    "onnx": ("onnx", "onnxruntime"),
}


def lines_of(run: Run) -> Lines:
    config = run.load_config()
    folder = Path(config.data.store) / f"corpus-{run.load_manifest()['key']}"
    name = next(iter(config.data.test))
    if not folder.is_dir():
        raise DataError(f"{folder}: the prepared corpus is missing; start in the folder where the run was trained")
    part = Corpus(folder, read_manifest(folder)).part(f"test.{name}")
    return Lines(f"test set {name}", part.sources()[:LINES], part.targets()[:LINES])


def weights_of(peer: str) -> tuple[str, ...]:
    return ("float32", *TARGETS[PEERS[peer][0]].weights)


# ------------------------------------------------------------------------------------ in the environment of a program


def measure(path: str, peer: str, known: dict[str, list[Translation]]) -> Iterator[dict[str, Any]]:
    """The rows of the table for one program, as JSON data.

    Args:
        known: see :func:`nmt.interop.parity.compare`.
    """
    name, package = PEERS[peer]
    run, target = Run.open(path), load_target(name)
    config = run.load_config()
    try:
        check_exportable(name, target, run, config, "float32")
        exported = Exported(run, config, load_translator(run), "float32", lines_of(run))
    except NmtError as error:
        for weights in weights_of(peer):
            yield {"peer": peer, "weights": weights, "error": str(error)}
        return
    assert target.unverified() is None, f"{package} is not installed"
    with tempfile.TemporaryDirectory() as temporary:
        earlier = None  # the export with float32 weights
        for weights in weights_of(peer):
            row, begun, folder = {"peer": peer, "weights": weights}, time.monotonic(), Path(temporary, weights)
            folder.mkdir()
            one = exported._replace(weights=weights, earlier=earlier)
            try:
                found = compare(target, folder, one, target.write(folder, one), known)
                judge(found, one.quantize, target.own_search)
            except NmtError as error:
                yield row | {"error": str(error)}
                continue
            measured = {"package": f"{package} {version(package)}", "seconds": time.monotonic() - begun}
            yield row | measured | asdict(found)
            earlier = earlier or folder


def measure_all(path: str, peer: str, file: Path) -> None:
    """Print a row for each type of weights.

    Args:
        file: translations of the run, read and written again.
    """
    logger = logging.getLogger("nmt")
    logger.addHandler(logging.StreamHandler())
    logger.setLevel(logging.INFO)
    stored = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    known = {search: [Translation(**row) for row in rows] for search, rows in stored.items()}
    for row in measure(path, peer, known):
        print(json.dumps(row), flush=True)
    stored = {search: [asdict(row) for row in rows] for search, rows in known.items()}
    file.write_text(json.dumps(stored), encoding="utf-8")


# ------------------------------------------------------------------------------------------- in that of the caller


def rows_of(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The rows of all programs, each in its environment; one with an error for a program that ended too early."""
    with tempfile.TemporaryDirectory() as folder:
        for peer in ("ctranslate2", *arguments.peers):
            python = sys.executable if peer == "ctranslate2" else str(arguments.environments / peer / "bin/python")
            more = ["--measure", peer, str(Path(folder, "known.json"))]
            with subprocess.Popen(
                [python, __file__, arguments.run, str(arguments.environments), *more],
                stdout=subprocess.PIPE,
                text=True,
                # An environment sees the packages of .venv, and nmt through PYTHONPATH alone.
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            ) as process:
                assert process.stdout is not None
                for line in process.stdout:
                    if line.startswith('{"peer": '):
                        yield json.loads(line)
                    else:
                        print(line, end="", file=sys.stderr)  # of a library
            if code := process.returncode:
                yield {"peer": peer, "weights": "any", "error": f"the measurement ended with code {code}, see above"}


def greedy(row: dict[str, Any]) -> float:
    found: float = row["same"] if row["greedy"] is None else row["greedy"]
    return found


def told(row: dict[str, Any]) -> str:
    """A row in one line, for people who wait."""
    if "error" in row:
        return f"{row['peer']} {row['weights']}: {row['error']}"
    equal = f"{greedy(row):.1%} equal with greedy search, {row['same']:.1%} with the beam"
    return f"{row['package']} {row['weights']}: {equal}, in {row['seconds']:.0f} s"


def table(rows: list[dict[str, Any]]) -> str:
    out = [
        "| program | weights | lines | equal, greedy | equal, beam | BLEU of the run | BLEU of the export | log p |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "error" in row:
            out.append(f"| {row['peer']} | {row['weights']} | {row['error']} ||||||")
            continue
        apart = "" if row["difference"] is None else f"{row['difference']:.0e}"
        ours, theirs = row["bleu"]
        out.append(
            f"| {row['package']} | {row['weights']} | {row['lines']:,} | {greedy(row):.1%} | {row['same']:.1%} | "
            f"{ours:.2f} | {theirs:.2f} | {apart} |"
        )
    return "\n".join(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("environments", type=Path)
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"of {', '.join(PEERS)}")
    parser.add_argument("--measure", nargs=2, metavar=("PEER", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure_all(arguments.run, arguments.measure[0], Path(arguments.measure[1]))
        return
    count = sum(len(weights_of(peer)) for peer in ("ctranslate2", *arguments.peers))
    print(f"comparing {count} exports of {arguments.run} on up to {LINES:,} lines", file=sys.stderr)
    rows = []
    for row in rows_of(arguments):
        rows.append(row)
        print(f"[{len(rows)} of {count}] {told(row)}", file=sys.stderr, flush=True)
    print(table(rows))
    failed = sum("error" in row for row in rows)
    print(f"{len(rows) - failed} of {count} exports translate as the run does")
    sys.exit(len(rows) - failed < count)


if __name__ == "__main__":
    main()
