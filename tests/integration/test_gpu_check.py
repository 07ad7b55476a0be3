"""The check for a GPU runs, in its smallest form, on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--device", "cpu", "--out", str(out), *options],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_every_stage_runs(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout[-3000:]
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results) == [
        "updates", "models", "compile", "exact", "ranks", "facts", "base", "small", "decode", "bleu", "big",
    ]  # fmt: skip
    parts = {f"{stage}: {name}": part for stage, found in results.items() for name, part in found.items()}
    assert all(part["status"] in ("ok", "skipped") for part in parts.values())
    # What a CPU can check is checked, and what it cannot names its reason.
    assert parts["models: Transformer, window 8: packed, float32"]["status"] == "ok"
    assert parts["compile: Transformer, packed, dropout, R-Drop"]["status"] == "ok"
    assert parts["exact: killed and resumed, RNN"]["found"]["differences"] == 0
    assert parts["ranks: 2 processes, gloo, Transformer packed"]["status"] == "ok"
    assert parts["updates: captured against eager, plain"]["found"] == "CUDA graphs take CUDA"
    assert (
        "| captured against eager, plain | skipped | CUDA graphs take CUDA |" in (tmp_path / "results.md").read_text()
    )


@pytest.mark.slow
def test_a_stage_without_time_is_a_failure(tmp_path):
    done = run(tmp_path, "--only", "facts", "--minutes", "0.1")
    assert done.returncode == 1
    (part,) = json.loads((tmp_path / "results.json").read_text())["facts"].values()
    assert part == {"status": "failed", "found": "not started: no time was left", "seconds": 0.0}
