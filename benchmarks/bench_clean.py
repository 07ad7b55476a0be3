"""Measure CPU time and memory of all cleaning rules, and the CPU time of each.

benchmarks/bench_clean.py --pairs 50000 200000 --out benchmarks/clean.md

The corpora are those of bench_data.py. Each corpus is prepared in a new process, without rules and with all of them;
figures for 10 M pairs are extrapolated along the line through the smallest and the largest corpus.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from bench_data import grow, real_pairs
from harness import command, machine, publish, table

from nmt.config.cleaning import RulesConfig
from nmt.config.data import DataConfig
from nmt.data.cleaning import BATCH
from nmt.data.prepare import prepare_corpus
from nmt.data.rules import PAIR_RULES, Side, character_tables

TARGET = 10_000_000  # pairs
ALL = dict.fromkeys(RulesConfig.model_fields, True)


def prepare(folder: Path, rules: bool) -> None:
    """Prepare the corpus of a folder; print CPU seconds, peak memory (bytes, mapped files included) and pairs kept."""
    data = {
        "src_lang": "en",
        "tgt_lang": "de",
        "train": {"kind": "tsv", "path": str(folder / "train.tsv")},
        "valid": {"kind": "tsv", "path": str(folder / "valid.tsv")},
        "cleaning": {"rules": ALL if rules else {}},
        "store": tempfile.mkdtemp(dir=folder),
    }
    corpus = prepare_corpus(DataConfig.model_validate(data))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    # Not ru_maxrss, which begins with the memory of the parent process.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    kept = corpus.manifest["sizes"]["train"]
    print(json.dumps([usage.ru_utime + usage.ru_stime, int(peak.split()[1]) * 1024, kept]))


def measured(pairs: Sequence[tuple[str, str]], rules: bool) -> tuple[float, float, int]:
    """CPU seconds, peak memory (bytes) and pairs kept of preparing a corpus in a separate process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, rows in (("train.tsv", pairs), ("valid.tsv", [("a b", "c d")])):
            (folder / file).write_text("".join(f"{src}\t{tgt}\n" for src, tgt in rows), encoding="utf-8")
        command = [sys.executable, __file__, "--inner", name, "--rules", str(int(rules))]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        out = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    seconds, memory, kept = json.loads(out.splitlines()[-1])
    return seconds, memory, kept


def per_rule(pairs: Sequence[tuple[str, str]]) -> list[list[str]]:
    """CPU time a pair and pairs dropped of each rule alone, with its defaults."""
    character_tables()
    rules, rows = RulesConfig.model_validate(ALL), []
    for name, (_, drops) in PAIR_RULES.items():
        started, dropped = time.process_time(), 0
        for start in range(0, len(pairs), BATCH):
            src, tgt = zip(*pairs[start : start + BATCH], strict=True)
            dropped += int(drops((Side(src, "en"), Side(tgt, "de")), getattr(rules, name)).sum())
        spent = time.process_time() - started
        rows.append([f"`{name}`", f"{spent / len(pairs) * 1e6:.1f} µs", f"{dropped / len(pairs):.2%}"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, nargs="+", default=[50_000, 200_000])
    parser.add_argument("--src", help="file of sources; default: the demo corpus")
    parser.add_argument("--tgt", help="file of translations")
    parser.add_argument("--out", type=Path, help="file for the results")
    parser.add_argument("--inner", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rules", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inner:
        prepare(args.inner, bool(args.rules))
        return
    about, real = real_pairs(args.src, args.tgt)
    on = machine()
    sizes = sorted(set(args.pairs))
    corpus = list(islice(grow(real, 1), sizes[-1]))
    results = {name: [measured(corpus[:size], name == "all") for size in sizes] for name in ("none", "all")}
    rows = []
    for name, found in results.items():
        shown = [(size, *one) for size, one in zip(sizes, found, strict=True)]
        if len(sizes) > 1:
            reach = (TARGET - sizes[0]) / (sizes[-1] - sizes[0])
            seconds, memory = (found[0][n] + reach * (found[-1][n] - found[0][n]) for n in (0, 1))
            shown.append((TARGET, seconds, memory, 0))
        for size, seconds, memory, kept in shown:
            count, share = (f"{size:,}", f"{kept / size:.1%}") if kept else (f"{size:,} (extrapolated)", "")
            rows.append([name, count, f"{seconds:,.1f} s", f"{memory / 1e6:,.0f} MB", share])
    each = per_rule(corpus)
    text = [
        f"{about}, grown to {sizes[-1]:,} pairs. {on['cpu']}, one core used; made by {command()}.",
        table(["rules", "pairs", "CPU time", "peak memory", "kept"], rows),
        table(["rule", "CPU time a pair", "drops"], each),
    ]
    publish("\n\n".join(text) + "\n", {"machine": on, "sizes": sizes, "results": results, "rules": each}, args.out)


if __name__ == "__main__":
    main()
