"""Measure time and memory of a training pass over long sentences: plain, fused and windowed attention.

benchmarks/bench_long.py [--quick] [--lengths N ...] [--window N] [--out FILE]

Each form and length has a process. Before the timing starts, plain and fused attention must have the same loss.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness import BenchmarkError, Contestant, alternate, command, machine, mebibytes, publish, spread, table, versions

from nmt.cli.errors import guarded
from nmt.runtime.threads import usable_cores

MODEL = {
    "type": "transformer", "d_model": 128, "d_ff": 512, "num_heads": 2, "encoder_layers": 2, "decoder_layers": 2,
    "dropout": 0.0,
}  # fmt: skip
VOCAB_SIZE = 1000
FORMS = ("plain", "fused", "windowed")
SAME_LOSS = 1e-4  # nats per token


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--out", type=Path, metavar="FILE", help="write the section to FILE, and all numbers to .json")
    options.add_argument("--quick", action="store_true", help="seconds: checks that everything runs")
    options.add_argument("--repeats", type=int, default=5, metavar="N", help="alternated repeats (default: 5)")
    options.add_argument("--threads", type=int, default=usable_cores(), metavar="N", help="default: all cores")
    options.add_argument("--lengths", type=int, nargs="+", default=[512, 2048, 8192], metavar="N", help="tokens a side")
    options.add_argument("--window", type=int, default=256, metavar="N", help="model.attention_window (default: 256)")
    options.add_argument("--work", type=Path, default=Path("data/bench"), metavar="DIR", help="logs")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.repeats, arguments.lengths, arguments.window = 1, [64, 300], 32
    for name in ("repeats", "threads", "window"):
        if getattr(arguments, name) < 1:
            raise BenchmarkError(f"--{name}: must be at least 1")
    if min(arguments.lengths) < 1:
        raise BenchmarkError("--lengths: must be at least 1")
    before = machine()
    lengths = {length: measure(arguments, length) for length in arguments.lengths}
    result = {
        "command": command(), "machine": before, "threads": arguments.threads, "window": arguments.window,
        "repeats": arguments.repeats, "lengths": lengths,
    }  # fmt: skip
    publish(section(result), result, arguments.out)


def measure(arguments: argparse.Namespace, length: int) -> dict[str, dict[str, Any]]:
    """Seconds and bytes of each form at one length."""
    task = {"threads": arguments.threads, "window": arguments.window, "vocab_size": VOCAB_SIZE, "model": MODEL}
    with ExitStack() as stack:
        contestants = [
            stack.enter_context(
                Contestant(form, sys.executable, "long.py", arguments.threads, arguments.work / "long", "tuned")
            )
            for form in FORMS
        ]
        found = {one.name: one.ask("start", form=one.name, length=length, **task) for one in contestants}
        must_agree(found)
        times = alternate(contestants, arguments.repeats, lambda one, _: one.ask("run"))
        for one in contestants:
            found[one.name] |= {"seconds": [t["seconds"] for t in times[one.name]], **one.ask("memory")}
    return found


def must_agree(found: dict[str, dict[str, Any]]) -> None:
    """
    Raises:
        BenchmarkError: plain and fused attention have different losses with the same weights.
    """
    plain, fused = found["plain"]["loss"], found["fused"]["loss"]
    if abs(plain - fused) > SAME_LOSS:
        raise BenchmarkError(f"fused attention has another loss: {fused:.6f} nats a token, plain {plain:.6f}")


def section(result: dict[str, Any]) -> str:
    names = {
        "plain": "plain: all weights in memory",
        "fused": "fused: PyTorch's kernel, the default above 128 positions",
        "windowed": f"windowed: `model.attention_window: {result['window']}`",
    }
    rows = [
        [
            f"{int(length):,}",
            names[form],
            spread(about["seconds"]),
            mebibytes(about["peak_bytes"]),
            mebibytes(about["peak_bytes"] - about["start_bytes"]),
        ]
        for length, forms in result["lengths"].items()
        for form, about in forms.items()
    ]
    used = versions(about for forms in result["lengths"].values() for about in forms.values())
    text = (
        f"One pair of sentences, as long on both sides; forward and backward pass of a Transformer with "
        f"{MODEL['encoder_layers']}+{MODEL['decoder_layers']} layers, d={MODEL['d_model']}, ff={MODEL['d_ff']}, "
        f"{MODEL['num_heads']} heads, vocabulary of {VOCAB_SIZE:,}, fp32. Medians of {result['repeats']} alternated "
        f"repeats after a warm-up, with the smallest and the largest; threads: {result['threads']}. Cross-attention is "
        f"never windowed. Load average before: {result['machine']['load_before']:.1f}."
    )
    header = ["tokens per side", "self-attention", "seconds", "peak memory, MiB", "above start, MiB"]
    return f"## Long sentences\n\n{result['command']}, {used}\n\n{text}\n\n{table(header, rows)}\n"


if __name__ == "__main__":
    sys.exit(guarded("bench_long", main))
