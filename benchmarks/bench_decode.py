"""Measure decoding against ``generate`` of Hugging Face transformers, and nmt's CTranslate2 engine against CTranslate2.

benchmarks/bench_decode.py [--quick] [--run RUN --input FILE | --src FILE --tgt FILE] [--out FILE]

Without a run it trains one on the synthetic corpus, or on --src and --tgt, because random weights never end a sentence.
MarianMTModel gets the run's weights and must give the same logits before the timing starts.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import subprocess
import sys
import time
from contextlib import ExitStack
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

from harness import (
    CONTESTANTS,
    BenchmarkError,
    Contestant,
    alternate,
    check,
    command,
    environment,
    experiment,
    machine,
    mebibytes,
    parser,
    peer_python,
    publish,
    ratios,
    spread,
    synthetic_folder,
    table,
    versions,
)

from nmt.cli.errors import guarded
from nmt.config.compare import digest
from nmt.config.experiment import Config
from nmt.config.limits import resolve_search
from nmt.config.load import validate_config
from nmt.config.model import TransformerConfig
from nmt.data.lines import open_text, read_lines
from nmt.run.alpha import with_alpha
from nmt.run.directory import Run
from nmt.storage.atomic import write_text

SAME_LOGITS = 1e-3  # largest difference of two equal logits in fp32
# The only length penalty of transformers: the sum of log probabilities divided by length ** alpha.
SEARCH = {"beam_size": 5, "length_penalty": "average", "alpha": 1.0}
# Batch sizes tried for a peer: tokens for transformers (beam times source), sentences for CTranslate2.
BUDGETS, SENTENCES = (2048, 4096, 8192, 16384), (16, 32, 64, 128)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--run", metavar="RUN", help="a trained run, with --input")
    options.add_argument("--input", metavar="FILE", help="sentences to translate (default: the test set of the corpus)")
    options.add_argument("--sentences", type=int, default=1000, metavar="N", help="at most (default: 1000)")
    options.add_argument("--steps", type=int, default=1000, metavar="N", help="of the training (default: 1000)")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.steps, arguments.sentences = 30, 50
    check(arguments, "sentences", "steps")
    if (arguments.run or arguments.src) and not arguments.input:
        raise BenchmarkError("--run, and --src with --tgt, need --input: a file of sentences to translate")
    before = machine()
    run, sentences = prepare(arguments)
    engine = pytorch_engine(arguments, run, sentences)
    ctranslate2 = ctranslate2_engine(arguments, run, sentences)
    result = {
        "command": command(), "machine": before, "threads": arguments.threads, "search": SEARCH,
        "sentences": len(sentences), "own": engine, "ctranslate2": ctranslate2,
    }  # fmt: skip
    publish(section(result), result, arguments.out)


def prepare(arguments: argparse.Namespace) -> tuple[Run, list[str]]:
    """Open or train the run, and read the sentences."""
    if arguments.run:
        run = Run.open(arguments.run)
    else:
        train = {
            "max_steps": arguments.steps, "validate_every": arguments.steps, "valid_beam_size": 1,
            "batch_tokens": arguments.batch_tokens, "threads": arguments.threads, "device": arguments.device,
            "optimizer": {"lr": 1e-3}, "schedule": {"warmup_steps": max(1, arguments.steps // 4)},
        }  # fmt: skip
        raw = experiment(arguments, "transformer", "bench-decode", search=SEARCH) | {"train": train}
        config = validate_config({**raw, "name": f"bench-decode-{digest(raw)}"}, "benchmark")
        from nmt import pipeline

        logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.INFO)
        run = pipeline.train(config).run
    source = arguments.input or str(synthetic_folder(arguments) / "test.src")
    with open_text(source) as text:
        return run, list(islice((line for line in read_lines(text, source) if line.strip()), arguments.sentences))


# ------------------------------------------------------------------------------------------------------- PyTorch engine


def pytorch_engine(arguments: argparse.Namespace, run: Run, sentences: list[str]) -> dict[str, Any]:
    """Measure nmt's PyTorch engine and MarianMTModel's generate, text to text, with loaded models."""
    # Load the contestants
    folder = arguments.work / "decode"
    files = {name: str((folder / f"{name}.npz").absolute()) for name in ("weights", "logits")}
    path, model = str(run.path.absolute()), run.load_config().model.model_dump(mode="json")
    shared = {"threads": arguments.threads, "device": arguments.device}
    found: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:

        def contestant(name: str, python: str | Path, script: str) -> Contestant:
            return stack.enter_context(Contestant(name, python, script, arguments.threads, folder))

        ours = contestant("nmt", sys.executable, "ours.py")
        found[ours.name] = ours.ask("open", run=path, search=SEARCH, **shared)
        settings: dict[Contestant, dict[str, Any]] = {ours: {}}
        if python := marian_python(arguments, run):
            with Contestant("export", sys.executable, "ours.py", arguments.threads, folder) as scribe:
                given = scribe.ask("export", run=path, sources=sentences[:8], device=arguments.device, **files)
            given |= {"model": model, "weights": files["weights"], "search": found[ours.name]["search"], **shared}
            given["tokenizer"] = str(shared_model(run).absolute())
            for allocator in ("default", "tuned"):
                peer = contestant(f"MarianMTModel, allocator {allocator}", python, "peer_marian.py")
                found[peer.name] = peer.ask("open", allocator=allocator, **given)
                found[peer.name]["logits"] = same_logits(peer, files["logits"])
                settings[peer] = {"batch_tokens": best_budget(peer, sentences)}
                found[peer.name]["note"] += f", batches of {settings[peer]['batch_tokens']:,} tokens"
        # Warm up, then time
        for one, options in settings.items():
            one.ask("translate", sources=sentences, **options)
        answers = alternate(
            list(settings), arguments.repeats, lambda one, _: one.ask("translate", sources=sentences, **settings[one])
        )
        for one in settings:
            mine = answers[one.name]
            found[one.name] |= {
                "seconds": [a["seconds"] for a in mine],
                "tokens": mine[0]["tokens"],
                **one.ask("memory"),
            }
            found[one.name]["identical"] = equal(mine[0]["lines"], answers[ours.name][0]["lines"])
    return found


def shared_model(run: Run) -> Path:
    """The SentencePiece model of the source; with a joint vocabulary, of the target too."""
    joint = run.tokenizer / "joint.model"
    return joint if joint.exists() else run.tokenizer / "src.model"


def equal(some: list[str], others: list[str]) -> float:
    """Share of lines with the same words."""
    return sum(a.split() == b.split() for a, b in zip(some, others, strict=True)) / len(others)


def best_budget(peer: Contestant, sentences: list[str]) -> int:
    """The batch size with which the peer is fastest on a sample of the sentences."""
    some = sentences[:: max(1, len(sentences) // 200)]
    peer.ask("translate", sources=some, batch_tokens=BUDGETS[0])
    seconds = {budget: peer.ask("translate", sources=some, batch_tokens=budget)["seconds"] for budget in BUDGETS}
    return min(seconds, key=lambda budget: seconds[budget])


def marian_python(arguments: argparse.Namespace, run: Run) -> Path | None:
    """The peer's interpreter; None if it is not installed or does not have such a model."""
    if arguments.peers == "none":
        return None
    if reason := no_counterpart(run.load_config()):
        print(f"MarianMTModel: skipped, it has no counterpart of {reason}", file=sys.stderr)
        return None
    return peer_python(arguments, "transformers")


def no_counterpart(config: Config) -> str | None:
    """The first setting of a run that MarianMTModel does not support, or None."""
    model = config.model
    if not isinstance(model, TransformerConfig):
        return f"model.type: {model.type}"
    if model.encoder is not None:
        return f"model.encoder.type: {model.encoder.type}"
    needed = {"norm": ["post"], "positions": ["sinusoidal"], "tie_embeddings": ["all"], "activation": ["relu", "gelu"]}
    return next((f"model.{k}: {getattr(model, k)}" for k, v in needed.items() if getattr(model, k) not in v), None)


def same_logits(peer: Contestant, logits: str) -> dict[str, Any]:
    compared = peer.ask("logits", path=logits)
    if compared["largest_difference"] > SAME_LOGITS:
        raise BenchmarkError(
            f"{peer.name}: its logits differ by up to {compared['largest_difference']:.2g} with the same weights"
        )
    return compared


# --------------------------------------------------------------------------------------------------- CTranslate2 engine


def ctranslate2_engine(arguments: argparse.Namespace, run: Run, sentences: list[str]) -> dict[str, Any] | str:
    """Measure commands from text file to text file, with start-up; or return why they cannot run."""
    # Check what is installed
    translate = [sys.executable, "-m", "nmt", "translate"]
    ours = environment(arguments.threads, ours=True)
    if "--engine" not in subprocess.run([*translate, "--help"], env=ours, capture_output=True, text=True).stdout:
        return "Skipped: `nmt translate` has no option `--engine`."
    if importlib.util.find_spec("ctranslate2") is None:
        return "Skipped: CTranslate2 is not installed in nmt's environment (`pip install ctranslate2`)."
    python = peer_python(arguments, "transformers") if arguments.peers != "none" else None
    if python is None:
        return "Skipped: the peer is not installed (`make bench-peers`)."
    folder = arguments.work / "decode"
    for name, lines in (("all", sentences), ("one", sentences[:1])):
        write_text(folder / f"{name}.src", "".join(f"{line}\n" for line in lines))

    def execute(command: list[str], text: str) -> tuple[float, list[str]]:
        """Run a command on ``text``; return its seconds and output lines."""
        output = folder / f"{text}.out"
        started = time.perf_counter()
        done = subprocess.run(
            [*command, "-i", str(folder / f"{text}.src"), "-o", str(output)],
            env=environment(arguments.threads, command[0] == sys.executable), capture_output=True, text=True,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        if done.returncode:
            raise BenchmarkError(
                f"{' '.join(command)}: failed: {(done.stderr.strip().splitlines() or ['silently'])[-1]}"
            )
        return seconds, output.read_text(encoding="utf-8").splitlines()

    # Build the commands; the peer gets its best batch size
    plain = [*translate, str(run.path.absolute()), "--device", arguments.device]
    engine = [*plain, "--engine", "ctranslate2"]
    execute(engine, "one")  # exports, once
    exports = [file.parent for file in (run.path / "ctranslate2").glob("*/model.bin")]
    if len(exports) != 1:
        raise BenchmarkError(f"{run.path / 'ctranslate2'}: holds {len(exports)} exports instead of one")
    search = resolve_search(with_alpha(run, run.load_config().search), run.length_limits())
    direct = [
        str(python), str(CONTESTANTS / "peer_ctranslate2.py"), str(exports[0]), str(shared_model(run)),
        "--threads", str(arguments.threads), "--device", arguments.device, "--beam-size", str(search.beam_size),
        "--length-penalty", str(search.alpha), "--max-length-ratio", str(search.max_length_ratio),
        "--max-length-offset", str(search.max_length_offset),
    ]  # fmt: skip
    ways = {
        f"batches of {size}, {workers} at once":
        [*direct, "--batch-size", str(size), "--workers", str(workers)]
        for size in SENTENCES for workers in sorted({1, arguments.threads})
    }  # fmt: skip
    tried = {way: execute(line, "all")[0] for way, line in ways.items()}
    best = min(tried, key=lambda way: tried[way])
    commands = {
        "nmt translate --engine ctranslate2": engine,
        f"CTranslate2 directly, {best}": ways[best],
        "nmt translate": plain,
    }
    # Check the versions, then time
    version = metadata.version("ctranslate2")
    ask = [str(python), "-c", "import ctranslate2; print(ctranslate2.__version__)"]
    if (other := subprocess.run(ask, capture_output=True, text=True).stdout.strip()) != version:
        raise BenchmarkError(f"CTranslate2 is {version} beside nmt and {other or 'missing'} as a peer")
    found: dict[str, dict[str, Any]] = {
        name: {"all": [], "one": [], "versions": {"ctranslate2": version}} for name in commands
    }
    lines_of: dict[str, list[str]] = {}
    for number in range(arguments.repeats):
        for name in commands if number % 2 == 0 else reversed(commands):
            for text in ("all", "one"):
                seconds, lines = execute(commands[name], text)
                found[name][text].append(seconds)
                if text == "all":
                    lines_of[name] = lines
    for name in found:
        found[name]["identical"] = equal(lines_of[name], lines_of["nmt translate"])
    return found


# --------------------------------------------------------------------------------------------------------------- report


def section(result: dict[str, Any]) -> str:
    engines = result["ctranslate2"]
    used = versions([*result["own"].values(), *(engines.values() if isinstance(engines, dict) else [])])
    return f"## Decoding\n\n{result['command']}, {used}\n\n{own_section(result)}\n\n{ctranslate2_section(result)}\n"


def own_section(result: dict[str, Any]) -> str:
    found, first = result["own"], next(iter(result["own"].values()))
    text = (
        f"{result['sentences']:,} sentences, beam {SEARCH['beam_size']}, text to text with the models loaded, fp32. "
        f"Medians of {len(first['seconds'])} alternated repeats after a warm-up, with the smallest and the largest; "
        f"threads: {result['threads']}. The peer has the same weights, and the best of several batch sizes."
    )
    rows = [
        [
            name + (f" ({about['note']})" if about["note"] else ""),
            spread([result["sentences"] / s for s in about["seconds"]], 0),
            spread([about["tokens"] / s for s in about["seconds"]], 0),
            mebibytes(about["peak_bytes"]),
            spread(ratios(first["seconds"], about["seconds"])) if about is not first else "",
            f"{about['identical']:.1%}" if about is not first else "",
        ]
        for name, about in found.items()
    ]
    header = ["", "sentences/s", "tokens/s", "peak memory, MiB", "ours is times as fast", "same translation"]
    return f"### nmt's PyTorch engine against transformers' generate\n\n{text}\n\n{table(header, rows)}"


def ctranslate2_section(result: dict[str, Any]) -> str:
    title, found = "### The CTranslate2 engine against CTranslate2", result["ctranslate2"]
    if isinstance(found, str):
        return f"{title}\n\n{found}"
    first = next(iter(found.values()))
    text = (
        f"{result['sentences']:,} sentences, from a text file to a text file, {len(first['all'])} alternated repeats. "
        "Start-up: the same command with one sentence. Speed of ours over that of the command; 1 is the same."
    )
    # One row per command
    rows = []
    for name, about in found.items():
        speeds = [result["sentences"] / seconds for seconds in about["all"]]
        both = [
            ratios(first["all"], about["all"]),
            ratios(*([a - b for a, b in zip(of["all"], of["one"], strict=True)] for of in (first, about))),
        ]
        rows.append([
            f"`{name}`",
            spread(speeds, 0),
            spread(about["all"]),
            spread(about["one"]),
            *(spread(each) if about is not first else "" for each in both),
            f"{about['identical']:.1%}" if name != "nmt translate" else "",
        ])  # fmt: skip
    header = [
        "command", "sentences/s", "seconds", "start-up, seconds", "ours is times as fast", "without start-up",
        "same as nmt's PyTorch engine",
    ]  # fmt: skip
    return f"{title}\n\n{text}\n\n{table(header, rows)}"


if __name__ == "__main__":
    sys.exit(guarded("bench_decode", main))
