"""Number of threads that this process may use."""

from __future__ import annotations

import os
from pathlib import Path


def usable_cores() -> int:
    """Logical processors that this process may use: in a container or under taskset, fewer than the machine has."""
    return len(_usable())


def default_threads() -> int:
    """PyTorch's default: ``OMP_NUM_THREADS``, else one for each physical core that the process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    try:  # two hardware threads of one core count once
        siblings = Path("/sys/devices/system/cpu")
        return len({(siblings / f"cpu{n}/topology/thread_siblings_list").read_text() for n in _usable()})
    except OSError:
        return usable_cores()


def _usable() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
