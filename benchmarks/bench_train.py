"""Measure training against MarianMTModel, Marian (C++) and JoeyNMT: the same work, alternated, in separate processes.

benchmarks/bench_train.py [--quick] [--src FILE --tgt FILE] [--out FILE]

Before the timing starts, every contestant must have the same batches. Contestants of the same architecture must have
the same number of parameters and, with the same weights, the same loss. Afterwards every loss must have fallen.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness import (
    BenchmarkError,
    Contestant,
    alternate,
    check,
    command,
    experiment,
    machine,
    mebibytes,
    parser,
    peer_python,
    publish,
    ratios,
    spread,
    table,
    versions,
)

from nmt.cli.errors import guarded

SAME_LOSS = 1e-4  # nats per token: far above rounding in fp32, far below a difference in the computation


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--families", nargs="+", choices=["transformer", "rnn"], default=["transformer", "rnn"])
    options.add_argument("--updates", type=int, default=20, metavar="N", help="updates in each repeat (default: 20)")
    options.add_argument("--product", type=int, default=4096, metavar="N", help="width of the matrix product")
    options.add_argument("--compile", action="store_true", help="also the Transformer with train.compile")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.updates, arguments.product = 2, min(arguments.product, 1024)
    check(arguments, "updates", "product")
    before = machine()
    families = [measure(arguments, family) for family in arguments.families]
    result = {"command": command(), "machine": before, "threads": arguments.threads, "families": families}
    publish(section(result), result, arguments.out)


def measure(arguments: argparse.Namespace, family: str) -> dict[str, Any]:
    """Run all contestants of one model family; return the measurements as JSON data."""
    # Prepare the corpus
    folder = arguments.work / family
    files = {name: str((folder / f"{name}.npz").absolute()) for name in ("batches", "weights")}
    shared = {"threads": arguments.threads, "device": arguments.device}
    task: dict[str, Any] = {
        "config": experiment(arguments, family, f"bench-{family}"), "seed": 1, **shared,
        "count": arguments.updates * (1 + arguments.repeats),  # every repeat has new batches, as in training
    }  # fmt: skip
    # In a separate process, so that its memory does not count as training.
    with Contestant("preparation", sys.executable, "ours.py", arguments.threads, folder) as scribe:
        precision = scribe.ask("start", task={**task, "precision": "auto", "allocator": "tuned"})["precision"]
        work = scribe.ask("write", **files)
    task |= work.pop("task")
    # Set up the contestants
    precisions = list(dict.fromkeys([precision, "fp32"]))
    with ExitStack() as stack:

        def contestant(name: str, python: str | Path, script: str, allocator: str = "default") -> Contestant:
            return stack.enter_context(Contestant(name, python, script, arguments.threads, folder, allocator))

        # Start all processes first: the others import while one is set up.
        who = competitors(arguments, family, precisions)
        trainings = [(contestant(n, p, s, about["allocator"]), about) for n, p, s, about in who]
        for name, python, script, about in who:
            if about["peer"] == "marian":  # in a separate process, so that the trials do not count as its memory
                with Contestant(f"{name} trials", python, script, arguments.threads, folder, about["allocator"]) as one:
                    one.ask("start", task={**task, **about})
                    about |= one.ask("tune", updates=min(3, arguments.updates))
        products = {contestant(f"torch.mm {kind}", sys.executable, "matmul.py"): kind for kind in precisions}
        found = {one.name: about | set_up(one, {**task, **about}, files["weights"]) for one, about in trainings}
        must_agree(found)
        for product, kind in products.items():
            product.ask("start", precision=kind, size=arguments.product, **shared)

        # Warm up, then time
        def work_once(one: Contestant, number: int) -> dict[str, Any]:
            if one in products:
                return one.ask("run", seconds=0.1 if arguments.quick else 0.5)
            return one.ask("run", first=number * arguments.updates, updates=arguments.updates)

        everyone = [one for one, _ in trainings] + list(products)
        for one in everyone:
            warm_up = work_once(one, 0)
            if one.name in found:
                found[one.name]["warm_up_seconds"] = warm_up["seconds"]
        answers = alternate(everyone, arguments.repeats, lambda one, repeat: work_once(one, 1 + repeat))
        for one, _ in trainings:
            times = [answer["seconds"] for answer in answers[one.name]]
            found[one.name] |= {"seconds": times, "nll_after": one.ask("nll")["nll"], **one.ask("memory")}
    # Check and collect
    for name, about in found.items():
        if not about["nll_after"] < about["nll_before"]:
            raise BenchmarkError(f"{name}: the loss rose from {about['nll_before']:.4f} to {about['nll_after']:.4f}")
    peaks = {kind: [answer["flops"] for answer in answers[product.name]] for product, kind in products.items()}
    work = {key: per_repeat(values, arguments.updates) for key, values in work.items()}
    work |= {"vocab_size": task["vocab_size"], "batches": arguments.updates}
    return {"model": task["model"], "work": work, "peaks": peaks, "contestants": found}


def per_repeat(values: Sequence[float], updates: int) -> list[float]:
    """Sums over the batches of each repeat, without the warm-up, which comes first."""
    return [sum(values[start : start + updates]) for start in range(updates, len(values), updates)]


def competitors(
    arguments: argparse.Namespace, family: str, precisions: Sequence[str]
) -> list[tuple[str, str | Path, str, dict[str, Any]]]:
    """Name, interpreter, file and settings of each contestant; nmt first."""
    found: list[tuple[str, str | Path, str, dict[str, Any]]] = []

    def add(
        name: str, python: str | Path, script: str, precision: str, allocator: str, twin: bool, peer: str, **more: Any
    ) -> None:
        about = {"precision": precision, "allocator": allocator, "twin": twin, "peer": peer, **more}
        found.append((f"{name}, {precision}, allocator {allocator}", python, script, about))

    for precision in precisions:
        add("nmt", sys.executable, "ours.py", precision, "tuned", True, "")
        if arguments.compile and family == "transformer":  # the RNN's loop over time would be compiled for every length
            add("nmt compiled", sys.executable, "ours.py", precision, "tuned", True, "", compile=True)
    if arguments.peers == "none":
        return found
    if family == "transformer" and (python := peer_python(arguments, "transformers")):
        tuned = arguments.device == "cpu"  # glibc's settings do not affect the memory of a GPU
        ways = [("fp32", "default"), *((p, "tuned" if tuned else "default") for p in precisions[::-1])]
        for precision, allocator in dict.fromkeys(ways):
            add("MarianMTModel", python, "peer_marian.py", precision, allocator, True, "marian")
    if family == "transformer" and arguments.device == "cpu" and (python := peer_python(arguments, "marian-cpp")):
        add("Marian (C++)", python, "peer_marian_cpp.py", "fp32", "default", False, "marian-cpp")
    if python := peer_python(arguments, "joeynmt"):
        add("JoeyNMT", python, "peer_joeynmt.py", "fp32", "default", family == "transformer", "joeynmt")
    return found


def set_up(one: Contestant, task: dict[str, Any], weights: str) -> dict[str, Any]:
    about = one.ask("start", task=task)
    if task["twin"]:
        one.ask("load", weights=weights)
    return {**about, "nll_before": one.ask("nll")["nll"]}


def must_agree(found: dict[str, dict[str, Any]]) -> None:
    """Check that all contestants do the same work.

    Raises:
        BenchmarkError: batches, numbers of parameters or losses differ.
    """
    first, *others = found.items()
    for name, about in others:
        if about["digest"] != first[1]["digest"]:
            raise BenchmarkError(f"{name} has other batches than {first[0]}")
        if not about["twin"]:
            continue
        if about["parameters"] != first[1]["parameters"]:
            raise BenchmarkError(
                f"{name} has {about['parameters']:,} parameters, {first[0]} {first[1]['parameters']:,}"
            )
        if abs(about["nll_before"] - first[1]["nll_before"]) > SAME_LOSS:
            raise BenchmarkError(
                f"{name} has another loss with the same weights: {about['nll_before']:.6f} nats a token, "
                f"{first[0]} {first[1]['nll_before']:.6f}"
            )


# --------------------------------------------------------------------------------------------------------------- report


def section(result: dict[str, Any]) -> str:
    families = "\n\n".join(family_section(family, result["threads"]) for family in result["families"])
    used = versions(about for family in result["families"] for about in family["contestants"].values())
    return f"## Training\n\n{result['command']}, {used}\n\n{families}\n"


def family_section(family: dict[str, Any], threads: int) -> str:
    model, work, found, peaks = (family[key] for key in ("model", "work", "contestants", "peaks"))
    size = (
        f"Transformer, {model['encoder_layers']}+{model['decoder_layers']} layers, d={model['d_model']}, "
        f"ff={model['d_ff']}, {model['num_heads']} heads"
        if model["type"] == "transformer"
        else f"{model['cell'].upper()} of {model['d_hidden']} with {model['attention']} attention"
    )
    repeats = len(next(iter(found.values()))["seconds"])
    products = " and ".join(f"{spread([v / 1e9 for v in peaks[kind]], 0)} GFLOP/s in {kind}" for kind in peaks)
    sentences, src, tgt = (statistics.fmean(work[key]) for key in ("sentences", "src_tokens", "tgt_tokens"))
    padding = 1 - (sum(work["src_tokens"]) + sum(work["tgt_tokens"])) / sum(work["positions"])
    text = (
        f"A repeat is {work['batches']} updates on new batches, {sentences:,.0f} sentences of {src:,.0f} source "
        f"and {tgt:,.0f} target tokens on average, {padding:.1%} padding, vocabulary of {work['vocab_size']:,}. "
        f"Medians of {repeats} alternated repeats after a warm-up, with the smallest and the largest; "
        f"threads: {threads}. A large `torch.mm` reached {products} in the same rounds."
    )
    compiled = {name: about for name, about in found.items() if about.get("compile")}
    text += "".join(
        f" {name}: its first {work['batches']} updates took {about['warm_up_seconds']:.0f} s, a repeat "
        f"{statistics.median(about['seconds']):.0f} s; the rest is compiling."
        for name, about in compiled.items()
    )
    return f"### {size}\n\n{text}\n\n{speeds(work, found, peaks)}\n\n{comparisons(found)}".rstrip()


def speeds(work: dict[str, Any], found: dict[str, Any], peaks: dict[str, list[float]]) -> str:
    rows = [
        [
            name + (f" ({about['note']})" if about["note"] else ""),
            f"{about['parameters']:,}",
            spread(ratios(about["seconds"], work["tgt_tokens"]), 0),
            spread(ratios(about["seconds"], work["sentences"]), 0),
            mebibytes(about["peak_bytes"]),
            mebibytes(about["start_bytes"]),
            shares(work["flops"], about, peaks) if about["twin"] else "another model",
        ]
        for name, about in found.items()
    ]
    header = ["", "parameters", "target tokens/s", "sentences/s", "peak memory, MiB", "at start", "share of torch.mm"]
    return table(header, rows)


def shares(flops: list[float], about: dict[str, Any], peaks: dict[str, list[float]]) -> str:
    """Model FLOP/s as a share of ``torch.mm`` in the same round, in fp32 and in the precision of the contestant."""
    medians = {
        kind: statistics.median(f / s / peak for f, s, peak in zip(flops, about["seconds"], peaks[kind], strict=True))
        for kind in dict.fromkeys(["fp32", about["precision"]])
    }
    return ", ".join(f"{share:.1%} of {kind}" for kind, share in medians.items())


def comparisons(found: dict[str, Any]) -> str:
    rows = [
        [
            name,
            other,
            spread(ratios(about["seconds"], theirs["seconds"])),
            f"{about['peak_bytes'] / theirs['peak_bytes']:.2f}",
        ]
        for other, theirs in found.items()
        for name, about in found.items()
        if theirs["peer"] and not about["peer"]
    ]
    return table(["ours", "peer", "times as fast", "our memory / theirs"], rows) if rows else ""


if __name__ == "__main__":
    sys.exit(guarded("bench_train", main))
