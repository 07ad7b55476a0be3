"""Export a run for every program, compare each with the run in the environment of that program, and print one table.

    scripts/interop.py RUN ENVIRONMENTS PEER...

``ENVIRONMENTS/PEER`` is a virtual environment with the program; ``make interop`` makes them. CTranslate2 is checked in
the environment of the caller. The lines are those of the first test set of the run.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nmt.data.corpus import Corpus
from nmt.data.file_hashes import read_manifest
from nmt.errors import DataError, NmtError
from nmt.interop.export import export
from nmt.interop.parity import Lines
from nmt.interop.targets import TARGETS
from nmt.run.directory import Run

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


def measure(path: str, peer: str, weights: str) -> dict[str, Any]:
    """One row of the table, as JSON data."""
    target, package = PEERS[peer]
    run = Run.open(path)
    with tempfile.TemporaryDirectory() as folder:
        try:
            _, found = export(run, target, weights, Path(folder, "export"), lines_of(run))
        except NmtError as error:
            return {"peer": peer, "weights": weights, "error": str(error)}
    assert found is not None, f"{package} is not installed"
    return {"peer": peer, "weights": weights, "package": f"{package} {version(package)}", **asdict(found)}


def table(rows: list[dict[str, Any]]) -> str:
    out = [
        "| program | weights | lines | equal, greedy | equal, beam | BLEU of the run | BLEU of the export | log p |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "error" in row:
            out.append(f"| {row['peer']} | {row['weights']} | {row['error']} ||||||")
            continue
        greedy = row["same"] if row["greedy"] is None else row["greedy"]
        apart = "" if row["difference"] is None else f"{row['difference']:.0e}"
        ours, theirs = row["bleu"]
        out.append(
            f"| {row['package']} | {row['weights']} | {row['lines']:,} | {greedy:.1%} | {row['same']:.1%} | "
            f"{ours:.2f} | {theirs:.2f} | {apart} |"
        )
    return "\n".join(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("environments", type=Path)
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"of {', '.join(PEERS)}")
    parser.add_argument("--measure", nargs=2, metavar=("PEER", "WEIGHTS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.run, *arguments.measure)))
        return
    rows = []
    for peer in ("ctranslate2", *arguments.peers):
        python = sys.executable if peer == "ctranslate2" else str(arguments.environments / peer / "bin/python")
        for weights in ("float32", *TARGETS[PEERS[peer][0]].weights):
            command = [python, __file__, arguments.run, str(arguments.environments), "--measure", peer, weights]
            # An environment sees the packages of .venv, and nmt through PYTHONPATH alone.
            done = subprocess.run(
                command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
            )
            rows.append(json.loads(done.stdout.splitlines()[-1]))
    print(table(rows))
    sys.exit(any("error" in row for row in rows))


if __name__ == "__main__":
    main()
