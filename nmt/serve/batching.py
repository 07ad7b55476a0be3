"""Lines of concurrent requests, translated together."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from nmt.serve.computing import described
from nmt.serve.limits import Refused

log = logging.getLogger(__name__)

AskT = TypeVar("AskT")
AnswerT = TypeVar("AnswerT")

PATIENCE = 10
LEAST = 8  # lines that are not shared among threads: half of so few take hardly less time
STOPPING = 5.0  # seconds that a batch may still take when the server stops


@dataclass(frozen=True)
class _Job(Generic[AskT, AnswerT]):
    ask: AskT
    line: str
    cost: int
    future: Future[AnswerT] = field(default_factory=Future)


class Batcher(Generic[AskT, AnswerT]):
    """A queue of lines and the threads that answer them; a model is used by these threads alone.

    Lines that are asked for alike make a batch, in the order in which they arrive. Clients that were answered together
    often ask again together: a batch begins when as many lines have arrived as were answered, or when the share of one
    thread waits. The share is that of the lines that wait, are being answered, or are expected from these clients.

    Args:
        name: of the thread.
        answer: answers lines that are asked for alike, in their order.
        budget: most tokens of a batch; a longer line is a batch by itself.
        queue: most lines that wait.
        gather: seconds without another line, after which no more lines are expected; :data:`PATIENCE` times as many at
            the latest.
        observe: called with the number of lines of each batch.
        threads: batches that are answered at a time.
    """

    def __init__(
        self,
        name: str,
        answer: Callable[[AskT, list[str]], list[AnswerT]],
        budget: int,
        queue: int,
        gather: float,
        observe: Callable[[int], object] = lambda lines: None,
        threads: int = 1,
    ) -> None:
        self.answer, self.budget, self.queue, self.gather, self.observe = answer, budget, queue, gather, observe
        self.jobs: list[_Job[AskT, AnswerT]] = []
        self.tokens = 0  # of the jobs
        self.running = 0  # lines that are being answered
        self.due = 0  # lines expected from clients that were answered
        self.last = 0.0  # when a line came, or a batch was answered
        self.changed = threading.Condition()
        self.stopping = False
        self.threads = [
            threading.Thread(target=self._run, name=f"translating {name} {n}", daemon=True) for n in range(threads)
        ]
        for thread in self.threads:
            thread.start()

    def submit(self, ask: AskT, lines: Sequence[tuple[str, int]]) -> list[Future[AnswerT]]:
        """Queue lines, each with its number of tokens.

        Raises:
            Refused: the queue is full, or the server stops.
        """
        with self.changed:
            if self.stopping:
                raise Refused(503, "the server is stopping; try again later")
            if len(self.jobs) + len(lines) > self.queue:
                raise Refused(503, f"{len(self.jobs):,} lines are waiting already; try again later")
            jobs = [_Job[AskT, AnswerT](ask, line, max(1, cost)) for line, cost in lines]
            first = not self.jobs
            self.jobs += jobs
            self.due = max(0, self.due - len(jobs))
            self.last = time.monotonic()
            self.tokens += sum(job.cost for job in jobs)
            # A thread that waits for further lines looks by itself whether they still come
            if first or self._enough():
                self.changed.notify()
        return [job.future for job in jobs]

    def stop(self) -> None:
        """Answer what waits, and end the threads."""
        with self.changed:
            self.stopping = True
            self.changed.notify_all()
        latest = time.monotonic() + STOPPING
        for thread in self.threads:
            thread.join(max(0.0, latest - time.monotonic()))

    @property
    def alive(self) -> bool:
        """Whether no thread has ended, as after a fault."""
        return all(thread.is_alive() for thread in self.threads)

    def _run(self) -> None:
        while batch := self._take():
            running = [job for job in batch if job.future.set_running_or_notify_cancel()]
            if running:
                self.observe(len(running))
                self._answer(running)
            with self.changed:
                self.running -= len(batch)
                self.due += len(running)
                self.last = time.monotonic()

    def _take(self) -> list[_Job[AskT, AnswerT]]:
        """Wait for a batch; empty when the server stops and nothing waits."""
        with self.changed:
            latest: float | None = None  # when the batch begins, whatever comes
            while not self.stopping:
                if not self.jobs:
                    latest = None
                    self.changed.wait()
                    continue
                now = time.monotonic()
                latest = latest or now + PATIENCE * self.gather
                left = min(self.last + self.gather, latest) - now
                if left <= 0:
                    self.due = 0
                if self._enough():
                    break
                self.changed.wait(left)
            batch = self._first_jobs()
            self.running += len(batch)
            if self.jobs:
                self.changed.notify()
            return batch

    def _enough(self) -> bool:
        """Whether a batch can begin."""
        return not self.due or self.tokens >= self.budget or len(self.jobs) >= self._share()

    def _share(self) -> int:
        """Lines for each thread."""
        return max(LEAST, -(-(len(self.jobs) + self.running + self.due) // len(self.threads)))

    def _first_jobs(self) -> list[_Job[AskT, AnswerT]]:
        """The lines that are asked for as the first one, up to the budget and the share of a thread."""
        if not self.jobs:
            return []
        alike = [job for job in self.jobs if job.ask == self.jobs[0].ask]
        batch: list[_Job[AskT, AnswerT]] = []
        longest = 0
        for job in alike[: self._share()]:
            longest = max(longest, job.cost)
            if batch and (len(batch) + 1) * longest > self.budget:
                break
            batch.append(job)
        taken = set(map(id, batch))
        self.jobs = [job for job in self.jobs if id(job) not in taken]
        self.tokens -= sum(job.cost for job in batch)
        return batch

    def _answer(self, batch: list[_Job[AskT, AnswerT]]) -> None:
        """Answer a batch; after a failure each line by itself, so that one line does not cost others their answers."""
        try:
            found = self.answer(batch[0].ask, [job.line for job in batch])
            for job, one in zip(batch, found, strict=True):
                job.future.set_result(one)
        except Exception as error:
            if len(batch) > 1:
                for job in batch:
                    if not job.future.done():
                        self._answer([job])
                return
            log.error("a line of %d characters: %s", len(batch[0].line), described(error))
            log.debug("", exc_info=error)
            batch[0].future.set_exception(Refused(500, "this text cannot be translated; the server's log says why"))
