"""The environment of a run: code, libraries, device, precision, processes. Weights depend on it beside the settings."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from nmt import __version__

LIBRARIES = ("torch", "numpy", "sentencepiece", "sacrebleu")
# Compared when a training resumes, most important first. `code` covers the commit; the ranks have their own warning.
COMPARED = ("precision", "device", "device_name", "deterministic", "threads", "nmt", "code", "python", *LIBRARIES)


def environment(device: torch.device, dtype: torch.dtype, ranks: int = 1) -> dict[str, Any]:
    """Describe this process, as JSON data for ``manifest.json``, ``state.json`` and ``model.json``.

    Args:
        dtype: dtype of matrix products in training, as resolved for ``device``.
        ranks: number of processes that train together.

    Returns:
        ``nmt`` (version), ``code`` (digest of the package's source files), ``commit`` (of a git checkout, else None),
        ``clean`` (whether the checkout's package equals that commit, else None),
        ``python``, one version for each of :data:`LIBRARIES`, ``device``, ``device_name``, ``precision``,
        ``deterministic``, ``threads``, ``ranks``, ``command`` (arguments) and ``started`` (time in UTC, ISO 8601).
    """
    return {
        "nmt": __version__,
        "code": source_digest(),
        "commit": _git("rev-parse", "HEAD"),
        "clean": None if (changed := _git("status", "--porcelain", "--", "nmt")) is None else not changed,
        "python": platform.python_version(),
        **{name: _version(name) for name in LIBRARIES},
        "device": device.type,
        "device_name": _device_name(device),
        "precision": precision_name(dtype),
        "deterministic": device.type == "cpu" or torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(),
        "ranks": ranks,
        "command": [os.fsencode(part).decode("utf-8", "replace") for part in sys.argv],
        "started": _STARTED.isoformat(timespec="seconds"),
    }


_STARTED = datetime.now(UTC)


def changes(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str:
    """List the differences between two environments; empty if there are none or ``before`` is not known."""
    known = before or {}
    differing = [key for key in COMPARED if known.get(key) is not None and known[key] != now[key]]
    return "; ".join(f"{key}: {known[key]} before, {now[key]} now" for key in differing)


def earlier_starts(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str:
    """Compare the environment of this start with those of all earlier starts of the run.

    Args:
        before: environment of the last start, with its ``earlier`` if that start had resumed the run.

    Returns:
        ``"same"``, ``"other"``, or ``"unknown"`` if a start has not recorded its environment.
    """
    if before is None:
        return "unknown"
    if changes(before, now) or before.get("ranks", now["ranks"]) != now["ranks"]:
        return "other"
    return str(before.get("earlier", "same"))


def precision_name(dtype: torch.dtype) -> str:
    return {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]


@cache
def source_digest() -> str:
    """16 hex digits of SHA-256 over the names and contents of the package's Python files."""
    package, sums = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        content = path.read_bytes()
        sums.update(f"{path.relative_to(package).as_posix()} {len(content)}\n".encode() + content)
    return sums.hexdigest()[:16]


@cache
def _git(*arguments: str) -> str | None:
    """What git prints in the checkout that contains the package; None if the package is not in a checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), *arguments]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _device_name(device: torch.device) -> str:
    """The model of the GPU, or of the CPU with the instruction set that PyTorch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()} ({torch.backends.cpu.get_cpu_capability()})" if device.type == "cpu" else _processor()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
