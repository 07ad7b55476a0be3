"""Print the alignment error rate of attention in trained runs, on the demo grammar or a corpus with known alignments.

scripts/alignment_error.py demo rnn-additive
scripts/alignment_error.py RUN --src test.en --tgt test.de --gold test.align
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from nmt.cli.errors import guarded
from nmt.data import demo
from nmt.data.lines import open_text, read_lines
from nmt.errors import DataError
from nmt.insight.alignment_error import Gold, Rates, above, error_rates, largest, least_error
from nmt.run.directory import Run
from nmt.runtime.streams import require_output
from nmt.translation.loading import load_translator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", nargs="+", help="trained runs with attention")
    parser.add_argument("--sentences", type=int, metavar="N", default=500, help="at most so many pairs (default: 500)")
    parser.add_argument("--seed", type=int, default=1, help="of the demo corpus, whose test part is read (default: 1)")
    text = "files of other pairs: sentences, references and known alignments (0-0 1-2; 1p3 is possible, not sure)"
    for name in ("--src", "--tgt", "--gold"):
        parser.add_argument(name, metavar="FILE", help=text)
    parser.add_argument("--from-one", action="store_true", help="words of --gold are counted from 1")
    text = "link all source words of at least this weight (default: the one with the largest weight)"
    parser.add_argument("--threshold", type=float, metavar="W", help=text)
    text = "take the weights of the next step, when the decoder reads the word (default: when it predicts the word)"
    parser.add_argument("--shift", action="store_true", help=text)
    parser.add_argument("--heads", action="store_true", help="print every head, not only the best")
    arguments = parser.parse_args()
    # Check
    require_output(", so that the table would not be shown; redirect it to a file (> FILE)")
    if arguments.sentences < 1:
        raise DataError(f"--sentences {arguments.sentences}: must be at least 1")
    if arguments.threshold is not None and not 0 < arguments.threshold <= 1:
        raise DataError(f"--threshold {arguments.threshold}: must be above 0 and at most 1")
    runs = [Run.open(name) for name in arguments.runs]
    sources, targets, gold = pairs(arguments)
    # Measure
    extract = largest if arguments.threshold is None else above(arguments.threshold)
    print("| run | attention | AER | precision | recall |\n|---|---|---|---|---|")
    for name, run in zip(arguments.runs, runs, strict=True):
        translator = load_translator(run, engine="pytorch")
        found = error_rates(translator, sources, targets, gold, extract, int(arguments.shift))
        for label, rates in rows(*found, arguments.heads):
            print(f"| {name} | {label} | " + " | ".join(f"{rate:.3f}" for rate in rates) + " |")
    if arguments.threshold is None:
        print(
            f"\n{len(gold):,} sentences. One link for each target word cannot do better than {least_error(gold):.3f}."
        )


def rows(layers: Sequence[Rates], heads: Sequence[Sequence[Rates]], every: bool) -> list[tuple[str, Rates]]:
    """What to print of a run."""
    several, found = len(heads[0]) > 1, []
    for number, (layer, of_layer) in enumerate(zip(layers, heads, strict=True), 1):
        name = f"layer {number}" if several or len(layers) > 1 else "attention"
        found.append((f"{name}, mean of {len(of_layer)} heads" if several else name, layer))
        if several and every:
            found += [(f"layer {number}, head {head}", rates) for head, rates in enumerate(of_layer, 1)]
    if several:
        best = min((rates, layer, head) for layer, row in enumerate(heads, 1) for head, rates in enumerate(row, 1))
        found.append((f"best head: layer {best[1]}, head {best[2]}", best[0]))
    return found


def pairs(arguments: argparse.Namespace) -> tuple[list[str], list[str], list[Gold]]:
    """Sources, references and known alignments.

    Raises:
        DataError: only some of the files are named, or they do not fit each other.
    """
    files = [arguments.src, arguments.tgt, arguments.gold]
    if any(files):
        if None in files:
            raise DataError("--src, --tgt and --gold belong together; name all three files")
        src, tgt, lines = (read(path, arguments.sentences) for path in files)
        if len({len(src), len(tgt), len(lines)}) > 1:
            counts = ", ".join(f"{path} {len(each):,}" for path, each in zip(files, (src, tgt, lines), strict=True))
            raise DataError(f"the files have different numbers of lines: {counts}")
        gold = [parsed(arguments.gold, number, line, arguments.from_one) for number, line in enumerate(lines, 1)]
    else:
        found = demo.generate(arguments.seed, aligned=True)["test"][: arguments.sentences]
        src, tgt = ([str(side) for side in sides] for sides in zip(*found, strict=True))
        gold = [Gold(links, links) for links in (frozenset(demo.links(pair)) for pair in found)]
    kept = [n for n, (one, other) in enumerate(zip(src, tgt, strict=True)) if one.strip() and other.strip()]
    if not kept:
        raise DataError("no pair has words on both sides")
    take: Callable[[Sequence[Any]], list[Any]] = lambda items: [items[n] for n in kept]  # noqa: E731
    return take(src), take(tgt), take(gold)


def read(path: str, most: int) -> list[str]:
    with open_text(path) as file:
        return list(islice(read_lines(file, path), most))


def parsed(path: str, number: int, line: str, from_one: bool) -> Gold:
    try:
        return Gold.parse(line, int(from_one))
    except ValueError as error:
        raise DataError(f"{path}:{number}: {str(error)[:40]!r} is not a link; write them as 0-0 1-2 1p3") from None


if __name__ == "__main__":
    sys.exit(guarded("alignment_error", main))
