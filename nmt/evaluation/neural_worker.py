"""The process of a learned metric: ``python neural_worker.py comet MODEL in.jsonl out.json``.

It loads nothing of nmt, so that it runs in an environment that has the metric alone.
"""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def main(name: str, model: str, source: str, target: str) -> None:
    rows = [json.loads(line) for line in Path(source).read_text(encoding="utf-8").splitlines()]
    try:
        answer = (comet if name == "comet" else metricx)(model, rows, source)
    except Missing as error:
        answer = {"missing": str(error)}
    Path(target).write_text(json.dumps(answer), encoding="utf-8")


class Missing(Exception):
    """The model is not there."""


def comet(model: str, rows: list[dict[str, str]], _: str) -> dict[str, object]:
    """``load_from_checkpoint`` and ``predict`` of unbabel-comet; a reference-free model ignores the references."""
    from comet import download_model, load_from_checkpoint

    path = Path(model)
    if path.is_dir():
        path = path / "checkpoints" / "model.ckpt"
    try:
        file = str(path) if path.exists() else download_model(model)  # reads the cache: the hub is offline
    except Exception as error:  # of the hub's client, whose classes differ between versions
        raise Missing(" ".join(str(error).split())[:200]) from error
    data = [{"src": row["source"], "mt": row["hypothesis"], "ref": row["reference"]} for row in rows]
    torch = sys.modules.get("torch")  # comet has loaded it
    gpus = 1 if torch is not None and torch.cuda.is_available() else 0
    found = load_from_checkpoint(file).predict(data, batch_size=8, gpus=gpus, progress_bar=False)
    return {"scores": [float(one) for one in found.scores], "version": _version("unbabel-comet")}


def metricx(model: str, rows: list[dict[str, str]], source: str) -> dict[str, object]:
    """``python -m metricx24.predict`` of google-research/metricx: an error from 0 to 25, lower is better."""
    if not Path(model).exists() and not _is_cached(model):
        raise Missing("no such folder, and nothing in the cache of Hugging Face")
    size = next(iter(re.findall(r"(?<![a-z])(xxl|xl|large)(?![a-z])", model.lower())), "large")
    target = f"{source}.scores"
    command = [
        sys.executable, "-m", "metricx24.predict", "--tokenizer", f"google/mt5-{size}", "--model_name_or_path", model,
        "--max_input_length", "1536", "--batch_size", "1", "--input_file", source, "--output_file", target,
    ]  # fmt: skip
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    lines = Path(target).read_text(encoding="utf-8").splitlines()
    return {"scores": [float(json.loads(line)["prediction"]) for line in lines], "version": _version("metricx")}


def _is_cached(model: str) -> bool:
    cache = os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME", "~/.cache/huggingface")) / "hub"
    return (Path(cache).expanduser() / f"models--{model.replace('/', '--')}").is_dir()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main(*sys.argv[1:])
