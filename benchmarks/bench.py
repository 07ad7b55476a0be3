"""Run the benchmarks of this folder and write benchmarks/RESULTS.md from their sections.

benchmarks/bench.py [--quick] [--only train decode data long load] [--repeats N] [--src FILE --tgt FILE --input FILE]
                    [--out FILE]
"""

import argparse
import subprocess
import sys
from pathlib import Path

from harness import ROOT, BenchmarkError, command, machine

from nmt.cli.errors import guarded
from nmt.storage.atomic import write_text

QUICK = {
    "train": ["--quick"],
    "decode": ["--quick"],
    "data": ["--pairs", "20000", "--repeats", "1", "--steps", "20"],
    "long": ["--quick"],
    "load": ["--quick"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(QUICK),
        default=list(QUICK),
        help="benchmarks to run; the others keep their last section",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a few minutes: checks that everything runs; the figures mean nothing"
    )
    parser.add_argument("--repeats", type=int, metavar="N", help="alternated repeats of each benchmark")
    parser.add_argument("--src", metavar="FILE", help="real text instead of synthetic corpora; with --tgt and --input")
    parser.add_argument("--tgt", metavar="FILE", help="its translations")
    parser.add_argument("--input", metavar="FILE", help="sentences to translate")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "RESULTS.md", metavar="FILE")
    parser.add_argument("--work", type=Path, default=Path("data/bench"), metavar="DIR", help="sections and numbers")
    arguments = parser.parse_args()
    # Check the options
    given = [arguments.src, arguments.tgt, arguments.input]
    if any(given) and not all(given):
        raise BenchmarkError("--src, --tgt and --input belong together: a corpus, and sentences to translate")
    text = ["--src", arguments.src, "--tgt", arguments.tgt] if arguments.src else []
    # Run the benchmarks
    head = header()
    for name in arguments.only:
        script, section = ROOT / "benchmarks" / f"bench_{name}.py", arguments.work / f"{name}.md"
        options = [] if name == "long" else text + (["--input", arguments.input] if text and name == "decode" else [])
        options += ["--repeats", str(arguments.repeats)] if arguments.repeats else []
        options += QUICK[name] if arguments.quick else []
        done = subprocess.run([sys.executable, str(script), "--out", str(section), *options])
        if done.returncode:
            raise BenchmarkError(f"{script.name}: failed with exit code {done.returncode}; no results were written")
    # Write the results
    sections = [arguments.work / f"{name}.md" for name in QUICK]  # also the earlier sections of benchmarks not run now
    texts = [section.read_text(encoding="utf-8").strip() for section in sections if section.is_file()]
    write_text(arguments.out, "\n\n".join([head, *texts]) + "\n")
    print(f"wrote {arguments.out}", file=sys.stderr)


def header() -> str:
    about = machine()
    return "\n".join([
        "# Benchmark results",
        "",
        "Written by `make bench`; [README.md](README.md) explains the figures, and lists what was tried and rejected.",
        "",
        f"- {about['cpu']}, {about['cores']} cores, {about['memory_bytes'] / 2**30:.0f} GiB, {about['system']}",
        f"- Python {about['python']}",
        f"- {command()}",
        f"- load average before: {about['load_before']:.2f}",
    ])  # fmt: skip


if __name__ == "__main__":
    sys.exit(guarded("bench", main))
