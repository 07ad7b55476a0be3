"""Common parts of the benchmarks: contestants in separate processes, alternated repeats, tables.

The contestants are in contestants/; the README explains the measurements.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

import nmt
from nmt.errors import NmtError
from nmt.runtime.memory import WITHOUT_CACHES
from nmt.runtime.threads import SPIN, usable_cores
from nmt.storage.atomic import write_json, write_text

ROOT = Path(__file__).parents[1]
CONTESTANTS = ROOT / "benchmarks" / "contestants"


class BenchmarkError(NmtError):
    """A contestant failed, or does different work."""


# ----------------------------------------------------------------------------------------------------- the command line


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Build the options common to all benchmarks of models."""
    # Measurement
    found = argparse.ArgumentParser(description=doc.splitlines()[0] if doc else None)
    found.add_argument(
        "--out", type=Path, metavar="FILE", help="write the section to FILE, and all numbers to FILE with .json"
    )
    found.add_argument(
        "--quick", action="store_true", help="about a minute: checks that everything runs; the figures mean nothing"
    )
    found.add_argument("--repeats", type=int, default=7, metavar="N", help="alternated repeats (default: 7)")
    found.add_argument(
        "--threads",
        type=int,
        default=usable_cores(),
        metavar="N",
        help="threads of each contestant (default: all cores)",
    )
    found.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    found.add_argument(
        "--size", choices=list(SIZES), default="small", help="size of the models (default: small, 4+4 layers, d=128)"
    )
    found.add_argument("--src", metavar="FILE", help="real text instead of the synthetic corpus; with --tgt")
    found.add_argument("--tgt", metavar="FILE", help="its translations")
    found.add_argument("--pairs", type=int, default=29_000, metavar="N", help="pairs of the synthetic corpus")
    found.add_argument("--vocab-size", type=int, default=8000, metavar="N", help="special pieces included")
    found.add_argument("--batch-tokens", type=int, default=4096, metavar="N", help="train.batch_tokens")
    found.add_argument("--work", type=Path, default=Path("data/bench"), metavar="DIR", help="corpora, runs and logs")
    found.add_argument(
        "--peers", default=".venv-peers", metavar="DIR", help="environments of make bench-peers, or none"
    )
    return found


def check(arguments: argparse.Namespace, *counts: str) -> None:
    """Check the options, and apply ``--quick``.

    Args:
        counts: further options that must be at least 1.
    """
    if (arguments.src is None) != (arguments.tgt is None):
        raise BenchmarkError("--src and --tgt belong together: one file of sources, one of their translations")
    if arguments.quick:
        arguments.repeats, arguments.pairs = 2, min(arguments.pairs, 4000)
    for name in ("repeats", "threads", "pairs", "batch_tokens", *counts):
        if getattr(arguments, name) < 1:
            raise BenchmarkError(f"--{name.replace('_', '-')}: must be at least 1")


# ------------------------------------------------------------------------------------------------------ models and text

# Options that every peer has: post-norm, ReLU, tied embeddings, dropout on embeddings and sublayers.
SIZES: dict[str, dict[str, dict[str, Any]]] = {
    name: {
        "transformer": {
            "type": "transformer", "d_model": width, "d_ff": 4 * width, "num_heads": heads, "encoder_layers": layers,
            "decoder_layers": layers, "norm": "post", "activation": "relu", "dropout": 0.1, "tie_embeddings": "all",
        },
        "rnn": {
            "type": "rnn", "cell": "gru", "attention": "additive", "d_model": hidden, "d_hidden": hidden,
            "d_attention": hidden, "dropout": 0.2, "tie_embeddings": "all",
        },
    }
    for name, (width, heads, layers, hidden) in {
        "tiny": (32, 2, 1, 32),
        "small": (128, 4, 4, 256),
        "base": (512, 8, 6, 512),
        "big": (1024, 16, 6, 1024),
    }.items()
}  # fmt: skip


def experiment(arguments: argparse.Namespace, family: str, name: str, **sections: Any) -> dict[str, Any]:
    """Build a configuration from the corpus and the model size of the command line, with changed sections."""
    # Corpus
    if arguments.src:
        text = {"kind": "text", "src": arguments.src, "tgt": arguments.tgt}
        data: dict[str, Any] = {"train": text, "valid": {"kind": "holdout", "fraction": 0.02}}
        tokenizer: dict[str, Any] = {"vocab_size": arguments.vocab_size}
    else:
        folder = synthetic_folder(arguments)
        words = arguments.vocab_size - 4  # pad, unk, bos, eos
        if not (folder / "test.tgt").exists():
            write_synthetic_corpus(folder, arguments.pairs, words)
        parts = {
            part: {"kind": "text", "src": str(folder / f"{part}.src"), "tgt": str(folder / f"{part}.tgt")}
            for part in ("train", "valid", "test")
        }
        data = {"train": parts["train"], "valid": parts["valid"], "test": {"synthetic": parts["test"]}}
        # Keep every word; a word is a token.
        data["cleaning"] = {"max_ratio": 1000.0, "drop_duplicates": False, "drop_overlap": False}
        tokenizer = {"type": "word", "vocab_size": arguments.vocab_size}
    # Training
    train = {
        "batch_tokens": arguments.batch_tokens, "max_steps": 1_000_000, "threads": arguments.threads,
        "device": arguments.device,
        # No warm-up, so that the first update is like any other.
        "optimizer": {"name": "adamw", "lr": 1e-4, "eps": 1e-8}, "schedule": {"name": "constant", "warmup_steps": 0},
    }  # fmt: skip
    return {
        "name": name,
        "runs": str(arguments.work / "runs"),
        "data": {**data, "store": str(arguments.work / "prepared")},
        "tokenizer": tokenizer,
        "model": SIZES[arguments.size][family],
        "train": {**train, **sections.pop("train", {})},
        **sections,
    }


def synthetic_folder(arguments: argparse.Namespace) -> Path:
    folder: Path = arguments.work / f"synthetic-{arguments.pairs}-{arguments.vocab_size}"
    return folder


# Subwords per sentence of Multi30k (English–German, training part, one unigram vocabulary of 8,000): mean 14.7 and
# 15.2, standard deviation 4.9 and 5.7. Source lengths are nearly log-normal. The logarithm of the ratio of both lengths
# has standard deviation 0.2; the fertilities of the frequent words, half of the text, are chosen to match this.
LOG_LENGTH, LOG_SPREAD, LONGEST = 2.63, 0.32, 55
FREQUENT, FERTILITY = 200, (1, 0, 2, 0, 3, 0, 1, 2, 0, 1, 0, 2, 0, 1, 2, 0, 3, 0, 1, 2)


def write_synthetic_corpus(folder: Path, pairs: int, words: int, held: int = 1000, seed: int = 1) -> None:
    """Write train, valid and test sets of a language with ``words`` words, whose frequencies follow Zipf's law.

    Words are numbered by frequency. A translation is the sentence itself, except for the frequent words. By its number
    (:data:`FERTILITY`), a frequent word is dropped, kept, or followed by the words of the next numbers. A model learns
    this in minutes, because all rare words follow the same rule.
    """
    rng = np.random.default_rng(seed)
    weights = 1 / (np.arange(words) + 5.0)
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("valid", held), ("test", held), ("train", pairs)):
        count = min(count, pairs)
        lengths = np.exp(rng.normal(LOG_LENGTH, LOG_SPREAD, count)).round().clip(3, LONGEST).astype(int)
        text = rng.choice(words, int(lengths.sum()), p=weights / weights.sum())
        if part == "train":  # every word occurs, so that the vocabulary has the same size for every corpus
            if len(text) < 2 * words:
                raise BenchmarkError(f"--pairs {pairs}: too few to hold {words} words; lower --vocab-size with it")
            text[rng.permutation(len(text))[:words]] = np.arange(words)
        sources = np.split(text, lengths.cumsum()[:-1])
        for side, sentences in (("src", sources), ("tgt", [_translation(source, words) for source in sources])):
            lines = (" ".join(f"w{word}" for word in sentence) for sentence in sentences)
            write_text(folder / f"{part}.{side}", "".join(f"{line}\n" for line in lines))


def _translation(source: npt.NDArray[np.int64], words: int) -> npt.NDArray[np.int64]:
    fertility = np.where(source < FREQUENT, np.array(FERTILITY)[source % len(FERTILITY)], 1)
    if not fertility.any():  # an empty side would be dropped
        return source
    copies = np.repeat(source, fertility)
    return (copies + np.arange(len(copies)) - np.repeat(fertility.cumsum() - fertility, fertility)) % words


# ---------------------------------------------------------------------------------------------------------- contestants


class Contestant:
    """The process of a contestant, which works on request; contestants/worker.py is the other end.

    Args:
        name: name in tables.
        python: interpreter of the contestant's environment.
        script: file in contestants/.
        log: folder for the output of the process.
        allocator: ``tuned`` as in ``nmt train``, or ``default``.
        variables: further environment variables.
    """

    def __init__(
        self,
        name: str,
        python: str | Path,
        script: str,
        threads: int,
        log: Path,
        allocator: str = "default",
        variables: Mapping[str, str] | None = None,
    ):
        self.name = name
        log.mkdir(parents=True, exist_ok=True)
        self.log = log / f"{name.replace(' ', '-').replace(',', '').replace('/', '-')}.log"
        with self.log.open("w") as errors:
            self.process = subprocess.Popen(
                [str(python), str(CONTESTANTS / script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment(threads, str(python) == sys.executable, allocator) | dict(variables or {}),
            )

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Call the method ``do`` of the contestant with ``arguments`` and return its answer.

        Raises:
            BenchmarkError: the process ended without an answer.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        if not (line := self.process.stdout.readline()):
            said = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise BenchmarkError(f"{self.name}: failed in {do!r}: {said[-1] if said else 'no message'}; see {self.log}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def environment(threads: int, ours: bool, allocator: str = "default") -> dict[str, str]:
    """Environment variables of a contestant; nmt imports the package of this process, a peer only its packages."""
    found = {
        key: value for key, value in os.environ.items()
        if key not in ("PYTHONPATH", "GLIBC_TUNABLES") and not key.startswith(("MALLOC_", "OMP_", "GOMP_"))
    }  # fmt: skip
    found |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    found |= {"GLIBC_TUNABLES": WITHOUT_CACHES} if allocator == "tuned" else {}
    if ours:
        found |= {"PYTHONPATH": str(Path(nmt.__file__).parents[1]), "GOMP_SPINCOUNT": SPIN}
    return found


def peer_python(arguments: argparse.Namespace, peer: str) -> Path | None:
    """The interpreter of a peer's environment; None, with a message, if it is not installed."""
    python = Path(arguments.peers) / peer / "bin" / "python"
    if python.exists():
        return python.absolute()
    print(f"{peer}: skipped, {python} does not exist; make bench-peers installs it", file=sys.stderr)
    return None


def alternate(
    contestants: Sequence[Contestant], repeats: int, work: Callable[[Contestant, int], dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """Run ``repeats`` rounds in which each contestant does ``work`` with the round number, in alternating order.

    So a slow phase of the machine affects neighbours, and a slow drift affects both ends alike.
    """
    answers: dict[str, list[dict[str, Any]]] = {c.name: [] for c in contestants}
    for number in range(repeats):
        for contestant in contestants if number % 2 == 0 else reversed(contestants):
            answers[contestant.name].append(work(contestant, number))
        print(f"repeat {number + 1} of {repeats}", file=sys.stderr)
    return answers


# --------------------------------------------------------------------------------------------------------------- tables


def ratios(below: Sequence[float], above: Sequence[float]) -> list[float]:
    """Ratios ``above / below``, round by round."""
    return [b / a for a, b in zip(below, above, strict=True)]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Format the median, with the smallest and the largest of several values."""
    middle, low, high = (f"{v:,.{digits}f}" for v in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low} – {high})" if len(values) > 1 else middle


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def versions(contestants: Iterable[Mapping[str, Any]]) -> str:
    """Versions of all libraries of the contestants, each once."""
    pairs = [f"{name} {version}" for about in contestants for name, version in about["versions"].items()]
    return ", ".join(dict.fromkeys(pairs))


def mebibytes(count: float) -> str:
    return f"{count / 2**20:,.0f}"


def machine() -> dict[str, Any]:
    """Describe the machine: processor, cores, memory, system, load."""
    try:
        cpu = next(
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        )
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    return {
        "cpu": cpu,
        "cores": usable_cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def command() -> str:
    """The command line of this program and the commit of the project."""
    line = shlex.join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]])

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=ROOT).stdout.strip()

    changed = git("diff", "HEAD", "--name-only", "--", ".", ":!benchmarks/RESULTS.md")  # except the results themselves
    return f"`{line}` at commit {git('describe', '--always') or 'unknown'}{'-dirty' if changed else ''}"


def publish(markdown: str, result: Mapping[str, Any], out: Path | None) -> None:
    """Print the section; with ``out``, also write it to that file and all numbers to the .json file beside it."""
    print(markdown)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, markdown)
        write_json(out.with_suffix(".json"), result)
