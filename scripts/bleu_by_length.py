"""BLEU by source length for several evaluated runs: a table, and a plot as in Bahdanau et al. 2015, figure 2.

scripts/bleu_by_length.py runs/a runs/b --set-name test_2016_flickr --labels additive none --plot docs/lengths.png
"""

import argparse
import sys
from pathlib import Path

from matplotlib.figure import Figure

from nmt.cli import guarded
from nmt.data.corpus import sets_of_run
from nmt.evaluation.scores import bleu_by_length
from nmt.run.directory import Run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", nargs="+", help="evaluated runs that share a test set")
    parser.add_argument("--set-name", required=True, help="name of the test set")
    parser.add_argument("--labels", nargs="+", help="names in the table and plot (default: those of the runs)")
    parser.add_argument(
        "--edges", nargs="+", type=int, default=[8, 10, 12, 14, 16, 20], help="upper ends of the bins, in words"
    )
    parser.add_argument("--plot", type=Path, help="PNG file to write")
    arguments = parser.parse_args()
    series = {}
    labels = arguments.labels or arguments.runs
    for label, name in zip(labels, arguments.runs, strict=True):
        run = Run.open(name)
        config = run.load_config()
        name = f"test.{arguments.set_name}"
        part = sets_of_run(config.data, run.load_manifest(), [name]).part(name)
        text = (run.evaluation / f"{arguments.set_name}.hyp").read_text(encoding="utf-8")
        hypotheses = text.removesuffix("\n").split("\n")
        series[label] = bleu_by_length(hypotheses, part.targets(), part.sources(), arguments.edges, config.evaluation)
    bins = next(iter(series.values()))
    print("| source words | sentences | " + " | ".join(series) + " |")
    print("|---|---|" + "---|" * len(series))
    for row, (label, count, _) in enumerate(bins):
        print(f"| {label} | {count} | " + " | ".join(f"{found[row][2]:.1f}" for found in series.values()) + " |")
    if arguments.plot is not None:
        plot(series, arguments.plot)


def plot(series: dict[str, list[tuple[str, int, float]]], path: Path) -> None:
    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    for label, bins in series.items():
        axes.plot([b[0] for b in bins], [b[2] for b in bins], marker="o", label=label)
    axes.set_xlabel("source length (words)")
    axes.set_ylabel("BLEU")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


if __name__ == "__main__":
    sys.exit(guarded("bleu_by_length", main))
