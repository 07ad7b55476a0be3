"""Where batches are computed: in processes that share the weights, or in one thread of this process.

On a CPU, two processes that search a batch each, on half of the cores, are faster than one that searches both on all
cores: less of a search waits for other cores, and one process computes while the answers of the other are sent. Threads
would wait for each other's Python code, and for that of the server.

The processes are forked when all models are loaded, so that the weights are in memory once.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from nmt.errors import NmtError, RunError
from nmt.runtime.signals import STOP

log = logging.getLogger(__name__)

T = TypeVar("T")
Function = Callable[..., Any]

WORKERS = 2  # processes by default
ENDING = 5.0  # seconds until a killed process must have ended

_jobs: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
_threads: list[threading.Thread] = []
_starting = threading.Lock()


class Closeable(Protocol):
    def close(self) -> object: ...


def compute(function: Callable[[], T]) -> T:
    """Call ``function`` in the thread that computes; wait, and return or raise what it does.

    OpenMP gives each thread that computes its own team, and a second team makes a search take half as long again.
    """
    with _starting:
        if not _threads:
            _threads.append(threading.Thread(target=_run, name="computing", daemon=True))
            _threads[-1].start()
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


class Workers:
    """Processes that each answer one call at a time; further calls wait.

    Args:
        functions: by name; their arguments and results are pickled.
        threads: of PyTorch, in each process.
        inherited: files and sockets of this process that the others close.
    """

    def __init__(
        self, functions: Mapping[str, Function], count: int, threads: int, inherited: Sequence[Closeable] = ()
    ) -> None:
        self.free: list[_Worker] = []

        def fork() -> None:
            for _ in range(count):
                self.free.append(_Worker(functions, threads, [*inherited, *(worker.pipe for worker in self.free)]))

        # Threads of OpenMP belong to the thread that started them. A fork lacks them, and waits for them forever: the
        # thread that forks has none.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(fork).result()
        self.all = list(self.free)
        self.changed = threading.Condition()
        self.count, self.closed = count, False

    @property
    def alive(self) -> bool:
        """Whether no process has ended."""
        return len(self.all) == self.count and all(worker.process.is_alive() for worker in self.all[:])

    def __call__(self, name: str, *arguments: Any) -> Any:
        """Call a function in a process that is free.

        Raises:
            NmtError: the function raised an error, whose traceback its process has logged.
            RunError: the process has ended.
        """
        with self.changed:
            self.changed.wait_for(lambda: self.free or not self.all)
            if not self.all:
                raise RunError("no process that translates is left; restart the server")
            worker = self.free.pop()
        try:
            good, found = worker(name, *arguments)
        except (EOFError, OSError):
            if self.closed:
                raise SystemExit from None  # ends the thread
            worker.process.join(ENDING)
            with self.changed:
                self.all.remove(worker)
                self.changed.notify_all()
            raise RunError(f"a process that translates has ended (exit code {worker.process.exitcode})") from None
        with self.changed:
            self.free.append(worker)
            self.changed.notify()
        if not good:
            raise NmtError(found)
        return found

    def close(self) -> None:
        self.closed = True
        for worker in self.all:
            worker.process.kill()
        for worker in self.all:
            worker.process.join(ENDING)


def new_workers(
    functions: Mapping[str, Function], count: int | None, inherited: Sequence[Closeable] = ()
) -> Workers | None:
    """Processes that share the cores which PyTorch uses; None for one: then the thread that computes uses them all.

    Args:
        count: None: :data:`WORKERS`, or one on one core.
    """
    import torch

    cores = compute(torch.get_num_threads)
    chosen = count or min(WORKERS, cores)
    return None if chosen == 1 else Workers(functions, chosen, max(1, cores // chosen), inherited)


class _Worker:
    """A process, and this end of the pipe to it."""

    def __init__(self, functions: Mapping[str, Function], threads: int, inherited: Sequence[Closeable]) -> None:
        context = multiprocessing.get_context("fork")
        self.pipe, other = context.Pipe()
        arguments = other, functions, threads, [self.pipe, *inherited]
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        self.process.start()
        other.close()

    def __call__(self, *call: Any) -> tuple[bool, Any]:
        self.pipe.send(call)
        answer: tuple[bool, Any] = self.pipe.recv()
        return answer


def _serve(
    pipe: Connection[Any, Any], functions: Mapping[str, Function], threads: int, inherited: Sequence[Closeable]
) -> None:
    """Answer calls until the other process closes the pipe or ends. Signals to stop concern the other process."""
    import torch

    for number in STOP:
        signal.signal(number, signal.SIG_IGN)
    for each in inherited:
        each.close()
    torch.set_num_threads(threads)
    while True:
        try:
            name, *arguments = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer = True, functions[name](*arguments)
        except Exception as error:
            log.debug("", exc_info=error)
            answer = False, described(error)
        pipe.send(answer)


def described(error: Exception) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, NmtError) else f"{type(error).__name__}: {text}"
