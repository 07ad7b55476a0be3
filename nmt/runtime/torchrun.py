"""Data-parallel training in several processes, on one machine or many, started by torchrun.

Three process groups connect the ranks: one for small exchanges at every step, one for waiting while a rank does long
work, and one for the gradients. The gradients use NCCL between CUDA devices, else the first group (gloo). Gloo runs on
the CPU and detects at once that a peer process has ended, but not that a peer hangs. Therefore each rank publishes a
heartbeat in torchrun's store, and the waiting ranks read it.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from nmt import __version__
from nmt.errors import DeviceError, NmtError, RunError, TrainingError
from nmt.runtime.environment import source_digest
from nmt.runtime.ranks import OtherRankFailed, Ranks
from nmt.runtime.sharding import Shards
from nmt.runtime.signals import Paused, heard, number_of

T = TypeVar("T")
ModelT = TypeVar("ModelT", bound=nn.Module)

STEP_TIMEOUT = timedelta(minutes=30)  # a rank this far behind the others hangs
GRADIENT_TIMEOUT = timedelta(minutes=10)  # shorter: the ranks have synchronized just before
PATIENCE = timedelta(days=7)  # while a rank with a heartbeat works: prepares a corpus, validates
BEAT = 1.0  # seconds between two heartbeats
MOMENT = 0.02  # seconds of CPU time that show progress; a thread that is blocked in a call uses none
# NCCL records its last operations, and writes them to /tmp/nccl_trace_rank_N when one of them times out.
FLIGHT_RECORDER = {"TORCH_NCCL_TRACE_BUFFER_SIZE": "2000", "TORCH_NCCL_DUMP_ON_TIMEOUT": "1"}
GRACE = 5.0  # seconds for torchrun to see which rank ended first


class TorchrunRanks(Ranks):
    """A process that torchrun started, identified by the environment variables of torchrun.

    Raises:
        DeviceError: WORLD_SIZE is over 1, but another variable of torchrun is not set.
    """

    def __init__(self) -> None:
        for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
            if name not in os.environ:
                raise DeviceError(
                    f"WORLD_SIZE is {os.environ['WORLD_SIZE']} in the environment, but {name} is not set; start "
                    "several processes with torchrun, or unset WORLD_SIZE for one"
                )
        self.rank, self.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        if not self.is_main:
            logging.getLogger("nmt").setLevel(logging.ERROR)
        # A restart by torchrun keeps the store with the addresses of the former processes: look under another prefix.
        store, _, _ = next(rendezvous("env://", self.rank, self.size, timeout=STEP_TIMEOUT))
        store = PrefixStore(f"start{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        dist.init_process_group("gloo", store=store, rank=self.rank, world_size=self.size, timeout=STEP_TIMEOUT)
        self._waiting = dist.new_group(backend="gloo", timeout=PATIENCE)
        self._gradients: dist.ProcessGroup | None = None  # None: the group of init_process_group
        self._parallel: DistributedDataParallel | None = None  # None of a model in shards
        self._watch = _Watch(self.rank, self.size)
        self._names = self.gather(str(self))

    def __enter__(self) -> Self:
        try:
            self.compare({"nmt": __version__, "PyTorch": torch.__version__, "source code of nmt": source_digest()})
        except NmtError as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Destroy the process group on success; on failure, let the rank that failed first report its error.

        Torchrun ends all processes as soon as one has failed, and names that rank. A rank that failed only because
        another one did therefore waits until torchrun has recorded the first failure.
        """
        # Stop the heartbeat; on success, leave the process group
        if error is None or isinstance(error, NmtError | KeyboardInterrupt):
            self._watch.end()
        if error is None:
            dist.destroy_process_group()
        # Expected errors: one rank prints each of them
        elif isinstance(error, OtherRankFailed):
            with suppress(RuntimeError):  # the connection breaks when that rank has printed its error and ended
                dist.recv(torch.empty(1), src=error.rank)
        elif isinstance(error, KeyboardInterrupt):
            if not self.is_main:
                raise OtherRankFailed(128 + number_of(error)) from None
        elif isinstance(error, NmtError):
            if not self.is_main:
                error.args = (f"{self}: {error}",)
        # Other errors: most likely a connection that broke because another rank died; torchrun must see that rank first
        elif isinstance(error, Exception):
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._watch.say_lost()
            time.sleep(GRACE)
            reason = (str(error).splitlines() or ["no message"])[0]
            lost = isinstance(error, dist.DistError) or any(word in reason for word in ("gloo", "NCCL", "nccl"))
            if isinstance(error, RuntimeError) and lost:
                raise TrainingError(
                    f"{self}: lost contact with the other processes; one of them has died or hangs (no answer from "
                    f"{self._silent()}; {reason}); torchrun's report on its machine names it; run the same command "
                    "again to resume from the last checkpoint"
                ) from error
            if not self.is_main:
                raise TrainingError(f"{self}: {type(error).__name__}: {reason}") from error

    def __str__(self) -> str:
        return f"rank {self.rank} (process {os.getpid()} on {socket.gethostname()})"

    def on_main(self, work: Callable[[], T]) -> T:
        with self._watch:
            return self._on_main(work)

    def _on_main(self, work: Callable[[], T]) -> T:
        told: list[Any] = [None, None]  # result, exit code of a failure
        if self.is_main:
            try:
                with self._watch.patience():
                    told[0] = work()
            except BaseException as error:
                told[1] = _exit_code(error)
                raise
            finally:
                dist.broadcast(torch.zeros(1), src=0, group=self._waiting)
                dist.broadcast_object_list(told, src=0)
        else:
            self._wait_for([0], dist.broadcast(torch.zeros(1), src=0, group=self._waiting, async_op=True))
            dist.broadcast_object_list(told, src=0)
        if told[1] is not None:
            raise OtherRankFailed(told[1])
        result: T = told[0]
        return result

    def on_every_rank(self, work: Callable[[], T]) -> T:
        with self._watch:
            return self._on_every_rank(work)

    def _on_every_rank(self, work: Callable[[], T]) -> T:
        result: list[T] = []
        failure: Exception | None = None
        try:
            result.append(work())
        except Exception as error:
            failure = error
        numbers = [torch.zeros(1) for _ in range(self.size)]
        others = [rank for rank in range(self.size) if rank != self.rank]
        self._wait_for(others, dist.all_gather(numbers, torch.zeros(1), group=self._waiting, async_op=True))
        codes = self.gather(None if failure is None else _exit_code(failure))
        failed = [(rank, code) for rank, code in enumerate(codes) if code is not None]
        if failure is not None and self.rank == failed[0][0]:
            raise failure
        if failed:
            raise OtherRankFailed(failed[0][1], failed[0][0])
        return result[0]

    def main_first(self, work: Callable[[], T]) -> T:
        def alive() -> T:
            with self._watch.patience():
                return work()

        return super().main_first(alive)

    def gather(self, value: T) -> list[T]:
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def compare(self, facts: Mapping[str, object]) -> None:
        everyone, differing = self.gather(dict(facts)), []
        for key in facts:
            ranks: dict[str, list[str]] = {}
            for name, each in zip(self._names, everyone, strict=True):
                ranks.setdefault(str(each[key]), []).append(name)
            if len(ranks) > 1:
                found = (f"{value} on {_listed(names)}" for value, names in ranks.items())
                differing.append(f"{key}: {', '.join(found)}")
        if differing:
            raise self.raised_once(
                RunError(
                    f"the processes of one training must be alike, but differ in {'; '.join(differing)}; install the "
                    "same nmt and PyTorch on all machines, and start all processes with the same settings"
                )
            )

    def pulse(self) -> None:
        self._watch.progress += 1
        if heard.stop or self._watch.stop:
            raise Paused

    def _wait_for(self, ranks: Sequence[int], operation: dist.Work) -> None:
        """Wait for a collective operation as long as all of ``ranks`` have a heartbeat.

        Raises:
            TrainingError: a rank had no heartbeat for the time limit of a step.
            RuntimeError: a rank has ended.
        """
        start, pause, limit = time.monotonic(), 0.0005, STEP_TIMEOUT.total_seconds()
        while not operation.is_completed():
            time.sleep(pause)
            pause = min(2 * pause, 0.1)
            self._watch.progress += 1
            now = time.monotonic()
            silent = {rank: now - max(start, self._watch.since[rank]) for rank in ranks}
            rank = max(ranks, key=lambda rank: silent[rank])
            if silent[rank] <= limit:
                continue
            if self.rank and now - self._watch.answered > limit:
                rank = 0  # the store does not answer: it is on the machine of rank 0
            atexit.register(_leave)
            raise TrainingError(
                f"{self._names[rank]} hangs: it has shown no sign of life for {timedelta(seconds=int(limit))} while "
                f"{self} waited for it; run the same command again to resume from the last checkpoint"
            )
        operation.wait()

    def _silent(self) -> str:
        """Names of the ranks that did not report a lost contact themselves."""
        silent = [rank for rank in range(self.size) if rank != self.rank and rank not in self._watch.lost]
        return _listed([self._names[rank] for rank in silent]) or "none"

    def exchange(self, numbers: Sequence[float]) -> list[list[float]]:
        local = torch.tensor(numbers, dtype=torch.float64)
        everyone = [torch.empty_like(local) for _ in range(self.size)]
        dist.all_gather(everyone, local)
        return [numbers.tolist() for numbers in everyone]

    def parallel(self, model: nn.Module, compress: bool = False) -> nn.Module:
        self._connect(next(model.parameters()).device)
        self._parallel = DistributedDataParallel(model, process_group=self._gradients, gradient_as_bucket_view=True)
        if compress:
            # DDP refuses a hook whose annotations are text
            self._parallel.register_comm_hook(
                self._gradients, lambda group, bucket: _mean_in_bf16(group, bucket.buffer())
            )
        return self._parallel

    def shard(self, model: ModelT, units: Sequence[nn.Module], compress: bool = False) -> Shards[ModelT]:
        self._connect(next(model.parameters()).device)
        group = self._gradients or dist.group.WORLD
        assert group is not None
        return Shards(model, units, group, compress)

    def _connect(self, device: torch.device) -> None:
        """Make the group for gradients.

        Raises:
            DeviceError: the device cannot be shared.
        """
        if device.type == "mps":
            raise self.raised_once(
                DeviceError("train.device: several processes cannot share mps; use cpu, or one process")
            )
        if device.type == "cuda":
            for name, value in FLIGHT_RECORDER.items():
                os.environ.setdefault(name, value)
            self._gradients = dist.new_group(backend="nccl", timeout=GRADIENT_TIMEOUT, device_id=device)

    def no_sync(self) -> AbstractContextManager[None]:
        return nullcontext() if self._parallel is None else self._parallel.no_sync()

    def broadcast_weights(self, model: nn.Module) -> None:
        for parameter in model.parameters():
            dist.broadcast(parameter.detach(), src=0, group=self._gradients)


class _Watch:
    """A thread that publishes this rank's heartbeat in torchrun's store and reads those of the other ranks.

    The thread is active only inside a ``with`` block, while ranks do long work or wait for it.

    Attributes:
        progress: a counter that grows while this rank makes progress.
        since: for each rank, the time of its last observed progress.
        stop: whether any rank has received a signal to stop.
        lost: the ranks that lost contact with another rank.
        answered: the time of the store's last answer.
    """

    def __init__(self, rank: int, size: int):
        store = dist.distributed_c10d._get_default_store()
        self._store = PrefixStore("nmt", store.clone())  # type: ignore[attr-defined]
        self._rank, self._patient, self._lost = rank, 0, False
        self._clock: int | None = None  # of the thread inside :meth:`patience`
        self._used = 0.0
        self.progress, self.stop, self.lost = 0, False, set[int]()
        self.answered = time.monotonic()
        self.since, self._seen = dict.fromkeys(range(size), self.answered), [""] * size
        self._wake, self._needed, self._ended = threading.Event(), 0, False
        self._publish()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with suppress(RuntimeError):  # rank 0 or its machine is gone, and with it the store; gloo detects that, too
            while not self._ended:
                if not self._needed and not self._lost:
                    self._wake.wait()
                    self._wake.clear()
                    continue
                self.progress += self._gets_on()
                self._publish()
                found = [text.decode() for text in self._store.multi_get([f"alive{rank}" for rank in self.since])]
                self.answered = time.monotonic()
                for rank, (before, text) in enumerate(zip(self._seen, found, strict=True)):
                    if text != before:
                        self.since[rank] = self.answered
                    if text.endswith("1"):
                        self.lost.add(rank)
                self._seen = found
                self.stop = any(text.split()[1] != "0" for text in found)
                self._wake.wait(BEAT)
                self._wake.clear()

    def _publish(self) -> None:
        self._store.set(f"alive{self._rank}", f"{self.progress} {heard.stop} {int(self._lost)}")

    def __enter__(self) -> None:
        """Publish and read heartbeats until the block ends."""
        self._needed += 1
        self._wake.set()

    def __exit__(self, *_: object) -> None:
        self._needed -= 1

    @contextmanager
    def patience(self) -> Iterator[None]:
        """Inside, this rank is alive as long as its thread uses the processor: nobody knows how long the work takes.

        A thread that is blocked, as in a write to a file server that does not answer, uses none. Where a system does
        not tell the time of a thread, the rank is alive as long as its process runs.
        """
        if not self._patient and hasattr(time, "pthread_getcpuclockid"):
            self._clock = time.pthread_getcpuclockid(threading.get_ident())
        self._patient += 1
        try:
            yield
        finally:
            self._patient -= 1

    def _gets_on(self) -> bool:
        """Whether a thread inside :meth:`patience` has used the processor since this was last true."""
        if not self._patient or self._clock is None:
            return self._patient > 0
        used = time.clock_gettime(self._clock)
        if used - self._used < MOMENT:
            return False
        self._used = used
        return True

    def say_lost(self) -> None:
        self._lost = True
        self._wake.set()

    def end(self) -> None:
        self._ended = True
        self._wake.set()
        self._thread.join(BEAT)  # the store may no longer answer


def _mean_in_bf16(group: dist.ProcessGroup | None, whole: torch.Tensor) -> torch.futures.Future[torch.Tensor]:
    """All-reduce gradients in bf16; PyTorch's ``bf16_compress_hook`` does it for NCCL only."""
    half = whole.to(torch.bfloat16).div_(dist.get_world_size(group))
    sent: torch.futures.Future[Any] = dist.all_reduce(half, group=group, async_op=True).get_future()
    return sent.then(lambda done: whole.copy_(done.value()[0]))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _leave() -> None:
    """End the process at its exit without waiting for a collective operation that cannot complete."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def _exit_code(error: BaseException) -> int:
    if isinstance(error, NmtError):
        return error.exit_code
    return 128 + number_of(error) if isinstance(error, KeyboardInterrupt) else 1
