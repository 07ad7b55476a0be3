"""Stage ``bleu``: Multi30k by ``nmt train`` itself, from text to the scores of the test set."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from nmt.config.load import load_config
from nmt.run.directory import Run

from .parts import TMP, Setting, need
from .record import Record, check

ROOT = Path(__file__).parents[2]


def run(setting: Setting, record: Record) -> None:
    record.attempt("Multi30k, configs/multi30k-transformer.yaml", lambda: _train(setting))


def _train(setting: Setting) -> dict[str, Any]:
    """Train within the time that is left, evaluate; the scores with the seconds they took."""
    need(setting.multi30k is not None, "--multi30k DIR names no corpus")
    need(setting.seconds > 55, f"{setting.seconds:.0f} s are too short")
    assert setting.multi30k is not None
    folder = TMP / "nmt_gpu_bleu"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    file = folder / "multi30k.yaml"
    file.write_text(yaml.safe_dump(_config(setting, folder)), encoding="utf-8")
    started = time.monotonic()
    with (folder / "log").open("w") as log:
        command = [sys.executable, "-m", "nmt", "train", str(file)]
        code = subprocess.run(command, stdout=log, stderr=log, check=False).returncode
    seconds = time.monotonic() - started
    said = (folder / "log").read_text(encoding="utf-8")
    print(said[-4000:], flush=True)
    check(code == 0, f"exit {code}: {' '.join(said.split())[-500:]}")
    return {"seconds": round(seconds), **_scores(Run(load_config(file).run_dir))}


def _config(setting: Setting, folder: Path) -> dict[str, Any]:
    data = setting.multi30k

    def source(part: str) -> dict[str, str]:
        return {"kind": "text", "src": f"{data}/{part}.en.gz", "tgt": f"{data}/{part}.de.gz"}

    found: dict[str, Any] = yaml.safe_load((ROOT / "configs" / "multi30k-transformer.yaml").read_text(encoding="utf-8"))
    parts = {"train": source("train"), "valid": source("val"), "test": {"test_2016_flickr": source("test_2016_flickr")}}
    found["data"] |= {**parts, "store": str(folder / "store")}
    found["train"] |= {"device": setting.device.type, "validate_every": 2000, "samples": 0}
    found["train"] |= {"max_minutes": max(0.3, (setting.seconds - 35) / 60)}
    if setting.tiny:
        found["train"] |= {"max_minutes": 0.1, "max_steps": 3, "validate_every": 3, "batch_tokens": 256}
        found["train"]["schedule"] = {"warmup_steps": 2}
    found["runs"] = str(folder / "runs")
    return found


def _scores(run: Run) -> dict[str, Any]:
    """Scores of each validation and of the test set, from the run's metrics."""
    found: dict[str, Any] = {}
    for line in run.metrics.read_text(encoding="utf-8").splitlines():
        metrics = json.loads(line)
        if "valid/bleu" in metrics:
            found[f"valid BLEU after {metrics['step']} steps"] = round(metrics["valid/bleu"], 2)
    for path in sorted(run.evaluation.glob("*.json")):
        scores = json.loads(path.read_text(encoding="utf-8"))
        found |= {f"{path.stem} {name}": round(scores[name], 2) for name in ("bleu", "chrf") if name in scores}
    return found
