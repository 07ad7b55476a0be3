"""Print and plot BLEU by source length for several evaluated runs, as in figure 2 of Bahdanau et al. 2015.

scripts/bleu_by_length.py runs/a runs/b --set-name test_2016_flickr --labels additive none --plot docs/lengths.png
"""

import argparse
import sys
from pathlib import Path

from matplotlib.figure import Figure

from nmt.cli.errors import guarded
from nmt.data.prepare import sets_of_run
from nmt.errors import DataError
from nmt.evaluation.results import Results
from nmt.evaluation.scores import bleu_by_length
from nmt.insight.figures import image_format, save_figure
from nmt.run.directory import Run
from nmt.runtime.streams import require_output

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito 2008
LINES = ("-", "--", ":")


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
    # Check
    require_output(", so that the table would not be shown; redirect it to a file (> FILE)")
    labels = arguments.labels or arguments.runs
    if len(labels) != len(arguments.runs):
        raise DataError(f"--labels: {len(labels)} names for {len(arguments.runs)} runs; give one for each")
    if sorted({*arguments.edges, 0}) != [0, *arguments.edges]:
        raise DataError(f"--edges: {' '.join(map(str, arguments.edges))} must increase and be at least 1")
    if arguments.plot is not None:
        image_format(arguments.plot)
    # Compute, show
    runs = [Run.open(name) for name in arguments.runs]
    series = {
        label: by_length(run, arguments.set_name, arguments.edges) for label, run in zip(labels, runs, strict=True)
    }
    if len({tuple((label, count) for label, count, _ in found) for found in series.values()}) > 1:
        raise DataError(f"{arguments.set_name}: is not the same test set in all of these runs")
    bins = next(iter(series.values()))
    print("| source words | sentences | " + " | ".join(series) + " |")
    print("|---|---|" + "---|" * len(series))
    for row, (label, count, _) in enumerate(bins):
        print(f"| {label} | {count} | " + " | ".join(f"{found[row][2]:.1f}" for found in series.values()) + " |")
    if arguments.plot is not None:
        plot(series, arguments.plot)


def by_length(run: Run, name: str, edges: list[int]) -> list[tuple[str, int, float]]:
    """(bin, number of sentences, BLEU) of the stored translations of a test set.

    Raises:
        DataError: the run has no such test set, or it was not evaluated.
    """
    config = run.load_config()
    if name not in config.data.test:
        raise DataError(f"{run.path}: no test set {name}; there are: {', '.join(config.data.test) or 'none'}")
    try:
        hypotheses = Results(run).hypotheses(name)
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}; evaluate the run first (nmt evaluate)") from None
    part = sets_of_run(config.data, run.load_manifest(), [f"test.{name}"]).part(f"test.{name}")
    return bleu_by_length(hypotheses, part.targets(), part.sources(), edges, config.evaluation)


def plot(series: dict[str, list[tuple[str, int, float]]], path: Path) -> None:
    """Draw a line for each of ``series``; the legend beside the axes lists them from the best to the worst."""
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    ranked = sorted(series, key=lambda label: -sum(count * bleu for _, count, bleu in series[label]))
    for number, label in enumerate(ranked):
        bins, dashes = series[label], LINES[number // len(COLOURS) % len(LINES)]
        axes.plot(
            [f"{words}\n({count})" for words, count, _ in bins],
            [bleu for _, _, bleu in bins],
            color=COLOURS[number % len(COLOURS)], linestyle=dashes, marker="o", markersize=4, label=label,
        )  # fmt: skip
    axes.set_xlabel("source length in words (number of sentences)")
    axes.set_ylabel("BLEU")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save_figure(figure, path)


if __name__ == "__main__":
    sys.exit(guarded("bleu_by_length", main))
