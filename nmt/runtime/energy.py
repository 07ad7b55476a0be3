"""Energy counters of the processors (RAPL, Linux) and of NVIDIA's GPUs (NVML).

A processor's counter is that of the whole package, whatever programs use it, and starts again at 0 after about an hour
under load. So a thread reads it every :data:`EVERY` seconds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

POWERCAP = Path("/sys/class/powercap")
EVERY = 30.0  # seconds between two readings


class Counter:
    """The energy since the last start of a counter that wraps.

    Args:
        read: returns the counter in joules.
        wrap: value at which the counter starts again at 0; None if it never does.
    """

    def __init__(self, read: Callable[[], float], wrap: float | None):
        self.read, self.wrap = read, wrap
        self.last, self.joules = read(), 0.0

    def update(self) -> None:
        now = self.read()
        passed = now - self.last
        if passed < 0 and self.wrap is not None:
            passed += self.wrap
        self.joules += max(0.0, passed)
        self.last = now


class Meter:
    """Measures energy from its start on.

    Args:
        gpu: number of the GPU that is used; None for none.
        folder: of RAPL's counters.
    """

    def __init__(self, gpu: int | None = None, folder: Path = POWERCAP):
        self.counters: dict[str, list[Counter]] = {"processor": _processors(folder), "gpu": _gpus(gpu)}
        self.ended, self.reading = threading.Event(), threading.Lock()
        if any(self.counters.values()):
            threading.Thread(target=self._watch, name="energy", daemon=True).start()

    def _watch(self) -> None:
        while not self.ended.wait(EVERY):
            self._update()

    def _update(self) -> None:
        with self.reading:
            for counter in (one for counters in self.counters.values() for one in counters):
                with suppress(OSError, ValueError, RuntimeError):
                    counter.update()

    def joules(self) -> dict[str, float]:
        """Energy since the start by ``processor`` and ``gpu``; counters that the machine lacks are omitted."""
        self._update()
        return {kind: round(sum(one.joules for one in found), 1) for kind, found in self.counters.items() if found}

    def close(self) -> None:
        self.ended.set()


def _processors(folder: Path) -> list[Counter]:
    """The counters of packages, and of memory where it has its own."""
    found = []
    for zone in sorted(folder.glob("*:*")):
        with suppress(OSError, ValueError):
            name = (zone / "name").read_text().strip()
            if name.startswith("package") or name == "dram":
                wrap = int((zone / "max_energy_range_uj").read_text()) / 1e6
                found.append(Counter(lambda zone=zone: int((zone / "energy_uj").read_text()) / 1e6, wrap))  # type: ignore[misc]
    return found


def _gpus(number: int | None) -> list[Counter]:
    """The counter of a GPU, by the package nvidia-ml-py (pynvml), where it is installed."""
    if number is None:
        return []
    try:
        nvml: Any = import_module("pynvml")
        nvml.nvmlInit()
        # By its identity, because PyTorch and NVML may number GPUs differently
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(number).uuid}")
        return [Counter(lambda: float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000, None)]
    except Exception:  # no such package, a GPU without the counter, or a driver that does not tell
        return []
