"""Number of threads that this process may use, and how PyTorch's threads wait for each other on a CPU.

This module does not import PyTorch: libgomp reads the environment when PyTorch is loaded.
"""

from __future__ import annotations

import os
from pathlib import Path

# Turns of the loop in which a thread of libgomp, the OpenMP of PyTorch's wheels, waits before it sleeps. By default
# there are 300,000: on busy cores a thread then spends milliseconds waiting for a thread that another process delays.
# 10,000 turns (0.26 ms on an AMD EPYC) are longer than the gaps between operations, so that an idle machine is as fast
# (docs/speed.md). Where libgomp knows that it has more threads than cores it takes 100, or 1,000 with
# OMP_WAIT_POLICY=ACTIVE (libgomp/env.c).
SPIN = "10000"


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


def spin_briefly() -> None:
    """Let waiting OpenMP threads sleep after a short loop; call this before PyTorch is loaded.

    Variables that the user has set remain as they are. Results do not depend on how threads wait.
    """
    if not os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        os.environ["GOMP_SPINCOUNT"] = SPIN


def _usable() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
