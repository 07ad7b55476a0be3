"""The threads that compute: they load all models and answer all batches.

Two threads that search a batch each, on half of the cores, are faster than one that searches both on all cores: less of
a search waits for other cores, and one thread computes while the answers of the other are sent.

OpenMP gives each computing thread its own team. Where a process has more of these threads than cores, libgomp
lets those that wait sleep nearly at once, and a search on two cores takes half as long again. So no other threads
compute, and these share the cores.

A thread that computes needs Python's lock again after each operation of PyTorch. The thread that serves HTTP gives the
lock up only when asked, by default after 5 ms; with 0.1 ms the server translates about 8 % more lines.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

MOST = 2  # threads that compute; more would wait for each other's Python code
SWITCH = 1e-4  # seconds after which a thread gives up Python's lock when another asks for it

_jobs: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
_threads: list[threading.Thread] = []
_starting = threading.Lock()


def compute(function: Callable[[], T]) -> T:
    """Call ``function`` in a thread that computes; wait, and return or raise what it does."""
    _start(1)
    future: Future[T] = Future()
    _jobs.put((function, future))
    return future.result()


def share_cores() -> int:
    """Let several threads compute, each with its share of the cores that PyTorch uses; return their number.

    Call this once, when all models are loaded and nothing else is to be computed.
    """
    import torch

    sys.setswitchinterval(SWITCH)
    cores = compute(torch.get_num_threads)
    count = min(MOST, cores)
    _start(count)
    all_wait = threading.Barrier(count)  # until each thread has taken one of the jobs

    def share() -> None:
        torch.set_num_threads(cores // count)
        all_wait.wait()

    shares: list[Future[None]] = [Future() for _ in range(count)]
    for future in shares:
        _jobs.put((share, future))
    for future in shares:
        future.result()
    return count


def _start(count: int) -> None:
    with _starting:
        while len(_threads) < count:
            _threads.append(threading.Thread(target=_run, name=f"computing {len(_threads)}", daemon=True))
            _threads[-1].start()


def _run() -> None:
    while True:
        function, future = _jobs.get()
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)
