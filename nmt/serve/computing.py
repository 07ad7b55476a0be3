"""One thread that computes: it loads all models and answers all batches.

OpenMP gives each thread that computes a team of its own. Where a process has more of these threads than cores, libgomp
lets those that wait sleep nearly at once, and a search on two cores takes half as long again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

_jobs: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
_started = threading.Lock()


def compute(function: Callable[[], T]) -> T:
    """Call ``function`` in the thread that computes; wait, and return or raise what it does."""
    if _started.acquire(blocking=False):
        threading.Thread(target=_run, name="computing", daemon=True).start()
    future: Future[T] = Future()
    _jobs.put((function, future))
    return future.result()


def _run() -> None:
    while True:
        function, future = _jobs.get()
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)
