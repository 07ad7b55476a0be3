"""Lines of concurrent requests, translated together."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from nmt.errors import NmtError
from nmt.serve.limits import Refused

log = logging.getLogger(__name__)

AskT = TypeVar("AskT")
AnswerT = TypeVar("AnswerT")

PATIENCE = 10
STOPPING = 5.0  # seconds that a batch may still take when the server stops


@dataclass(frozen=True)
class _Job(Generic[AskT, AnswerT]):
    ask: AskT
    line: str
    cost: int
    future: Future[AnswerT] = field(default_factory=Future)


class Batcher(Generic[AskT, AnswerT]):
    """A queue of lines and the thread that answers them; a model is used by this thread alone.

    Lines that are asked for alike make a batch, in the order in which they arrive.

    Args:
        name: of the thread.
        answer: answers lines that are asked for alike, in their order.
        budget: most tokens of a batch; a longer line is a batch by itself.
        queue: most lines that wait.
        gather: seconds without another line, after which a batch begins; :data:`PATIENCE` times as many at the latest.
        observe: called with the number of lines of each batch.
    """

    def __init__(
        self,
        name: str,
        answer: Callable[[AskT, list[str]], list[AnswerT]],
        budget: int,
        queue: int,
        gather: float,
        observe: Callable[[int], object] = lambda lines: None,
    ) -> None:
        self.answer, self.budget, self.queue, self.gather, self.observe = answer, budget, queue, gather, observe
        self.jobs: list[_Job[AskT, AnswerT]] = []
        self.tokens = 0  # of the jobs
        self.last = 0.0  # when a line came, or a batch was answered, whose clients will ask again at once
        self.changed = threading.Condition()
        self.stopping = False
        self.thread = threading.Thread(target=self._run, name=f"translating {name}", daemon=True)
        self.thread.start()

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
            self.jobs += jobs
            self.last = time.monotonic()
            self.tokens += sum(job.cost for job in jobs)
            self.changed.notify()
        return [job.future for job in jobs]

    def stop(self) -> None:
        """Answer what waits, and end the thread."""
        with self.changed:
            self.stopping = True
            self.changed.notify()
        self.thread.join(STOPPING)

    def _run(self) -> None:
        while batch := self._take():
            running = [job for job in batch if job.future.set_running_or_notify_cancel()]
            if running:
                self.observe(len(running))
                self._answer(running)
            self.last = time.monotonic()

    def _take(self) -> list[_Job[AskT, AnswerT]]:
        """Wait for a batch; empty when the server stops and nothing waits."""
        with self.changed:
            while not self.jobs and not self.stopping:
                self.changed.wait()
            if not self.jobs:
                return []
            latest = time.monotonic() + PATIENCE * self.gather
            while not self.stopping and self.tokens < self.budget:
                left = min(self.last + self.gather, latest) - time.monotonic()
                if left <= 0:
                    break
                self.changed.wait(left)
            batch: list[_Job[AskT, AnswerT]] = []
            later: list[_Job[AskT, AnswerT]] = []
            longest, full = 0, False
            for job in self.jobs:
                padded = (len(batch) + 1) * max(longest, job.cost)
                full = full or (bool(batch) and job.ask == self.jobs[0].ask and padded > self.budget)
                if full or job.ask != self.jobs[0].ask:
                    later.append(job)
                else:
                    batch.append(job)
                    longest = max(longest, job.cost)
            self.jobs = later
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


def described(error: Exception) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, NmtError) else f"{type(error).__name__}: {text}"
