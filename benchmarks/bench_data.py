"""Measure time and memory of preparing a corpus, and of starting to train on it, by corpus size.

benchmarks/bench_data.py --pairs 100000 1000000 10000000 --repeats 5 --out benchmarks/data.md

The corpora are made from --src and --tgt (or the demo corpus), repeated in new orders with seeded edits. Every
measurement runs new processes in a temporary folder.
"""

import argparse
import itertools
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median

import yaml
from harness import command, machine, publish, spread, table

from nmt.cli.errors import guarded
from nmt.config.sources import DemoSource, TextSource
from nmt.data.sources import read_pairs
from nmt.data.sources.base import Reading
from nmt.errors import DataError

BYTES_PER_PAIR = 700  # peak on disk: text, two copies of the corpus, ids


# ------------------------------------------------------------------------------------------------------------- corpora


def real_pairs(src: str | None, tgt: str | None) -> tuple[str, list[tuple[str, str]]]:
    """Describe the corpus and load its pairs."""
    if (src is None) != (tgt is None):
        raise DataError("--src and --tgt belong together: one file of sources, one of their translations")
    reading = Reading(("en", "de"))
    if src and tgt:
        source = TextSource(kind="text", src=src, tgt=tgt)
        return f"{src} and {tgt}", list(read_pairs(source, reading))
    return "The demo corpus", list(read_pairs(DemoSource(kind="demo", part="train"), reading))


def grow(pairs: list[tuple[str, str]], seed: int) -> Iterator[tuple[str, str]]:
    """Yield the pairs in random order, then repeatedly with edits; about 1 % are duplicates, 0.1 % have an empty side.

    An edit replaces, inserts, drops or swaps a word, or joins two words into a new one. So the vocabulary grows with
    the corpus, as in natural language.
    """
    rng = random.Random(seed)
    rows = [(src.split(), tgt.split()) for src, tgt in pairs]
    words = [[word for row in rows for word in row[side]] for side in (0, 1)]  # with their frequencies
    for turn in itertools.count():
        rng.shuffle(rows)
        for src, tgt in rows:
            u = rng.random()
            if u < 0.001:
                yield " ".join(src), ""
            elif turn == 0 or u < 0.01:
                yield " ".join(src), " ".join(tgt)
            else:
                yield edited(src, words[0], rng), edited(tgt, words[1], rng)


def edited(row: list[str], words: list[str], rng: random.Random) -> str:
    at, u, word = int(rng.random() * len(row)), rng.random(), words[int(rng.random() * len(words))]
    before, here, after = row[:at], row[at : at + 1], row[at + 1 :]
    if u < 0.5:
        here = [word]
    elif u < 0.7:
        here = [*here, word]
    elif u < 0.8:
        before, after = after, before
    elif u < 0.9 and len(row) > 1:
        here = []
    else:
        here = [*here[:-1], "".join(here[-1:]) + word.lower()]
    return " ".join(before + here + after)


def write_corpus(pairs: Iterable[tuple[str, str]], folder: Path) -> int:
    """Write ``src`` and ``tgt``; return their bytes."""
    with (folder / "src").open("w", encoding="utf-8") as src, (folder / "tgt").open("w", encoding="utf-8") as tgt:
        for source, target in pairs:
            src.write(source + "\n")
            tgt.write(target + "\n")
    return sum((folder / side).stat().st_size for side in ("src", "tgt"))


def write_config(folder: Path, count: int, arguments: argparse.Namespace) -> Path:
    config = {
        "runs": str(folder / "runs"),
        "data": {
            "src_lang": "en",
            "tgt_lang": "de",
            "train": {"kind": "text", "src": str(folder / "src"), "tgt": str(folder / "tgt")},
            "valid": {"kind": "holdout", "fraction": min(0.5, 1000 / count)},
            "store": str(folder / "store"),
        },
        "tokenizer": {"type": arguments.tokenizer, "vocab_size": arguments.vocab_size},
        # Small, so that the memory of the data shows.
        "model": {
            "type": "transformer", "d_model": 64, "d_ff": 128, "num_heads": 2, "encoder_layers": 1, "decoder_layers": 1,
        },
        # One step more than measured: the training is killed before it validates.
        "train": {"max_steps": arguments.steps + 1, "log_every": 1, "validate_every": 10**9, "device": "cpu"},
    }  # fmt: skip
    path = folder / "bench.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


# --------------------------------------------------------------------------------------------------------- measurement


@dataclass
class Measured:
    seconds: float = 0.0
    peak: int = 0  # bytes resident, all processes together
    marks: dict[str, float] = field(default_factory=dict)  # seconds until the first line with this prefix


def measure(command: list[str], marks: Iterable[str], last: str | None = None) -> Measured:
    """Run ``command`` to its end, or kill it at the first line that starts with ``last``.

    Raises:
        DataError: the command failed; the message has its last line.
    """
    # Start the command and watch its memory
    found, said, started = Measured(), [""], time.monotonic()
    # Unbuffered, so that a line is read when it is written.
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            found.peak = max(found.peak, sum(map(resident, tree(process.pid))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    # Read its lines
    try:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line.rstrip())
            for mark in marks:
                if line.startswith(mark):
                    found.marks.setdefault(mark, time.monotonic() - started)
            if last is not None and line.startswith(last):
                process.kill()
                break
        code = process.wait()
    finally:
        ended.set()
        watcher.join()
        process.kill()
    found.seconds = time.monotonic() - started
    if code and not (last is not None and said[-1].startswith(last)):
        raise DataError(f"{' '.join(command)} ended with exit code {code}: {said[-1]}")
    return found


def tree(pid: int) -> list[int]:
    """The process and its descendants."""
    try:
        lists = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # the process has just ended
        return []
    return [pid, *(one for children in lists for child in children.split() for one in tree(int(child)))]


def resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


CORPUS, TOKENIZER, ENCODED, FIRST = "corpus ", "encoding ", "encoded ", "step 1 "  # prefixes of the lines


@dataclass
class Size:
    """A corpus size and its measurements."""

    pairs: int
    folder: Path
    bytes: int
    config: Path
    prepared: list[Measured] = field(default_factory=list)
    started: list[Measured] = field(default_factory=list)

    def measure(self, steps: int) -> None:
        nmt = [sys.executable, "-m", "nmt"]
        for made in ("store", "runs"):
            shutil.rmtree(self.folder / made, ignore_errors=True)
        self.prepared.append(measure([*nmt, "prepare", str(self.config)], [CORPUS, TOKENIZER, ENCODED]))
        self.started.append(measure([*nmt, "train", str(self.config)], [FIRST], f"step {steps} "))

    def row(self) -> list[str]:
        corpus = [one.marks[CORPUS] for one in self.prepared]
        tokenizer = [one.marks[TOKENIZER] - one.marks[CORPUS] for one in self.prepared]
        encoding = [one.marks[ENCODED] - one.marks[TOKENIZER] for one in self.prepared]
        return [
            f"{self.pairs:,}",
            f"{self.bytes / 1e6:,.0f}",
            spread([one.seconds for one in self.prepared], 1),
            " + ".join(f"{median(part):.1f}" for part in (corpus, tokenizer, encoding)),
            spread([self.pairs / one.seconds for one in self.prepared], 0),
            spread([one.peak / 2**20 for one in self.prepared], 0),
            spread([one.marks[FIRST] for one in self.started], 1),
            spread([one.peak / 2**20 for one in self.started], 0),
        ]


# --------------------------------------------------------------------------------------------------------------- report


def report(sizes: list[Size], origin: str, arguments: argparse.Namespace) -> str:
    head = [
        "pairs", "text, MB", "prepare, s", "corpus + tokenizer + ids, s", "pairs/s", "peak, MiB",
        "to the first step, s", f"peak of {arguments.steps} steps, MiB",
    ]  # fmt: skip
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "pyarrow", "sentencepiece"))
    about = machine()
    return "\n".join([
        "## Data at scale",
        "",
        f"{origin}; {arguments.tokenizer} tokenizer of {arguments.vocab_size:,} pieces. Medians of {arguments.repeats} "
        f"repeat{'s' if arguments.repeats > 1 else ''}, in which the sizes take turns, with the range in brackets. "
        "*Prepare* is `nmt prepare` as a whole, from "
        "text files to ids; *to the first step* is from the start of `nmt train` on the prepared corpus to the end of "
        "its first update. Both are fresh processes; files just written are in the system's cache. Memory is what all "
        "processes of the command hold resident together, mapped files included, sampled every 50 ms.",
        "",
        table(head, [size.row() for size in sizes]),
        "",
        f"{about['cpu']}, {about['cores']} cores; Python {about['python']}, {versions}.",
        command(),
        "",
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", nargs="+", type=int, default=[100_000, 1_000_000, 10_000_000], help="corpus sizes")
    parser.add_argument("--repeats", type=int, default=5, help="times that each size is measured")
    parser.add_argument("--steps", type=int, default=200, help="updates of training over which memory is watched")
    parser.add_argument("--tokenizer", default="unigram", help="tokenizer.type")
    parser.add_argument("--vocab-size", type=int, default=8000, help="tokenizer.vocab_size")
    parser.add_argument("--src", help="sources of the real corpus to grow; with --tgt")
    parser.add_argument("--tgt", help="their translations")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", help="parent of the temporary folder (default: the system's)")
    parser.add_argument("--out", type=Path, help="Markdown file to write the section into")
    arguments = parser.parse_args()
    # Make the corpora
    with tempfile.TemporaryDirectory(prefix="bench-data-", dir=arguments.folder) as temporary:
        need, free = BYTES_PER_PAIR * sum(arguments.pairs), shutil.disk_usage(temporary).free
        if free < need:
            raise DataError(
                f"{temporary}: {free / 1e9:.0f} GB are free, about {need / 1e9:.0f} needed; name a place by --folder"
            )
        name, pairs = real_pairs(arguments.src, arguments.tgt)
        sizes = []
        for count in arguments.pairs:
            folder = Path(temporary) / str(count)
            folder.mkdir()
            size = write_corpus(itertools.islice(grow(pairs, arguments.seed), count), folder)
            sizes.append(Size(count, folder, size, write_config(folder, count, arguments)))
        # Measure
        for repeat in range(arguments.repeats):
            for one in sizes:
                one.measure(arguments.steps)
                print(f"repeat {repeat + 1}: " + " | ".join(one.row()), file=sys.stderr)
        section = report(sizes, f"{name} ({len(pairs):,} pairs), repeated with seeded edits", arguments)
    measured = {
        one.pairs: {"prepared": list(map(asdict, one.prepared)), "started": list(map(asdict, one.started))}
        for one in sizes
    }
    publish(section, {"command": command(), "machine": machine(), "sizes": measured}, arguments.out)


if __name__ == "__main__":
    sys.exit(guarded("bench_data", main))
