"""Stage ``exact``: trainings by ``nmt train``, killed again and again, end with the bits of one that was not."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from nmt.config.load import load_config
from nmt.run.checkpoint import list_checkpoints
from nmt.run.differences import differences, folders
from nmt.run.directory import Run

from .parts import TMP, Setting, recurrent, transformer
from .record import Record, check

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def run(setting: Setting, record: Record) -> None:
    folder = TMP / "nmt_gpu_exact"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    _write_corpus(folder)
    size = "tiny" if setting.tiny else "little"
    cases: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {"RNN": (recurrent(size), {})}
    if not setting.tiny:
        cases |= {
            "Transformer": (transformer(size), {}),
            "Transformer, accumulate 2, R-Drop": (transformer(size), {"accumulate": 2, "terms": {"r_drop": {}}}),
            "RNN, hard attention": (recurrent(size, alignment="hard"), {}),
        }

    def one(item: tuple[str, tuple[dict[str, Any], dict[str, Any]]]) -> None:
        name, (model, train) = item
        record.attempt(f"killed and resumed, {name}", lambda: _kill_and_resume(setting, folder, name, model, train))

    with ThreadPoolExecutor(len(cases) if setting.cuda else 1) as pool:
        list(pool.map(one, cases.items()))


def _write_corpus(folder: Path) -> None:
    """Every word has one translation, the order is reversed."""
    rng = random.Random(0)
    lines = list(dict.fromkeys(" ".join(rng.choices(WORDS, k=rng.randint(2, 9))) for _ in range(4000)))
    for part, chosen in (("train", lines[200:]), ("valid", lines[:60]), ("test", lines[100:160])):
        (folder / f"{part}.src").write_text("".join(f"{line}\n" for line in chosen), encoding="utf-8")
        targets = (" ".join(f"{word[::-1]}o" for word in reversed(line.split())) for line in chosen)
        (folder / f"{part}.tgt").write_text("".join(f"{line}\n" for line in targets), encoding="utf-8")


def _kill_and_resume(
    setting: Setting, folder: Path, name: str, model: dict[str, Any], train: dict[str, Any]
) -> dict[str, Any]:
    """Train once as a whole and once through kills; compare all that the two runs hold.

    Raises:
        AssertionError: a training failed, or the runs differ.
    """
    steps, every, kills = (16, 2, [2]) if setting.tiny else (400, 20, [2, 6, 11, 15])
    short = "".join(c for c in name.lower() if c.isalnum())
    file = folder / f"{short}.yaml"
    file.write_text(yaml.safe_dump(_config(setting, folder, short, model, train, steps, every)), encoding="utf-8")
    runs = []
    for kind, targets in (("whole", []), ("killed", kills)):
        run = Run(load_config(file, [f"name={short}-{kind}"]).run_dir)
        runs.append(run)
        done = list(_starts(file, run, f"name={short}-{kind}", [t * every for t in targets]))
    different = list(differences(*runs))
    tensors = sum(1 for path in folders(runs[0]) for _ in path.glob("*.safetensors"))
    check(tensors > 0, "the runs hold no tensors")
    check(not different, f"{len(different)} differences: {different[:4]}")
    check("NaN" not in runs[0].metrics.read_text(encoding="utf-8"), "a metric is not a number")
    return {"kills": len(done) - 1, "differences": 0, "files of tensors": tensors, "batching": runs[0].batching()}


def _config(
    setting: Setting, folder: Path, short: str, model: dict[str, Any], train: dict[str, Any], steps: int, every: int
) -> dict[str, Any]:
    def source(part: str) -> dict[str, str]:
        return {"kind": "text", "src": str(folder / f"{part}.src"), "tgt": str(folder / f"{part}.tgt")}

    usual = {
        "max_steps": steps, "batch_tokens": 1024, "validate_every": 5 * every, "checkpoint_every": every,
        "keep_last": 3, "deterministic": True, "device": setting.device.type, "log_every": 5, "valid_beam_size": 1,
        "precision": "bf16" if setting.cuda else "fp32", "threads": 1,
    }  # fmt: skip
    return {
        "runs": str(folder / "runs"),
        "data": {"train": source("train"), "valid": source("valid"), "test": {"t": source("test")},
                 "store": str(folder / f"store-{short}")},
        "tokenizer": {"vocab_size": 40}, "model": model, "train": usual | train, "search": {"beam_size": 2},
    }  # fmt: skip


def _starts(file: Path, run: Run, name: str, targets: list[int]) -> Iterator[int]:
    """Start the training; kill it when it has a checkpoint of each target or of a later step; let the last start end.

    Yields:
        The exit status of each start that ended as planned.

    Raises:
        AssertionError: a training failed, or ended before it was to be killed.
    """
    rng, log = random.Random(1), run.path.parent / f"{name.removeprefix('name=')}.log"
    log.parent.mkdir(exist_ok=True)
    for target in [*targets, None]:
        with log.open("a") as out:
            command = [sys.executable, "-m", "nmt", "train", str(file), "--set", name]
            process = subprocess.Popen(command, stdout=out, stderr=out)
        while target is not None and process.poll() is None and _last_step(run) < target:
            time.sleep(0.002)
        if target is not None:
            time.sleep(rng.uniform(0.0, 0.2))
            process.kill()
        code = process.wait()
        if target is None or code != -9:
            check(code == 0, f"exit {code}: {' '.join(log.read_text(encoding='utf-8').split())[-600:]}")
        check(target is None or code == -9, "the training ended before it was killed")
        yield code


def _last_step(run: Run) -> int:
    return max((int(path.name.removeprefix("step-")) for path in list_checkpoints(run.checkpoints)), default=0)
