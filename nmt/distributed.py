"""Several processes train one model, each on its own batches, on one machine or many; torchrun starts them.

Three groups connect the ranks: one for what they tell each other at every step, one for waiting while rank 0 works
alone, and one for the gradients (NCCL between CUDA devices; gloo otherwise, where it is the first again). Gloo runs on
the processor and notices at once that a process at its other end is gone.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nmt.errors import DeviceError, NmtError, TrainingError
from nmt.world import Elsewhere, World

T = TypeVar("T")

STEP_TIMEOUT = timedelta(minutes=30)  # no rank is honestly this far behind the others; one that is hangs
GRADIENT_TIMEOUT = timedelta(minutes=10)  # the ranks have met just before
PATIENCE = timedelta(days=7)  # while rank 0 works alone: prepares a corpus, writes a checkpoint
GRACE = 5.0  # seconds that torchrun has to see which rank ended first


class Ranks(World):
    """One of the processes that torchrun started, known by the environment variables it sets.

    Raises:
        DeviceError: the environment tells of several processes, but not all that torchrun tells.
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
        dist.init_process_group("gloo", timeout=STEP_TIMEOUT)
        self._waiting = dist.new_group(backend="gloo", timeout=PATIENCE)
        self._gradients: dist.ProcessGroup | None = None  # None: the group of init_process_group
        self._parallel: DistributedDataParallel

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """End well together; or see to it that of several ranks that fail the one that failed first is heard.

        Torchrun ends all processes as soon as one has failed, and names that one.
        """
        if error is None:
            dist.destroy_process_group()
        elif isinstance(error, Elsewhere):
            with suppress(RuntimeError):  # the connection breaks when that rank has ended, and so has said why
                dist.recv(torch.empty(1), src=error.rank)
        elif isinstance(error, KeyboardInterrupt):
            if not self.is_main:
                raise Elsewhere(130) from None
        elif isinstance(error, NmtError):
            if not self.is_main:
                error.args = (f"{self}: {error}",)
        elif isinstance(error, Exception):
            # Most likely a connection that broke because another rank has died: let torchrun see that one first, and
            # end this one.
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(GRACE)
            reason = (str(error).splitlines() or ["no message"])[0]
            if isinstance(error, RuntimeError) and any(word in reason for word in ("gloo", "NCCL", "nccl")):
                raise TrainingError(
                    f"{self}: lost contact with the other processes, of which one has died or hangs ({reason}); "
                    "torchrun's report on its machine names it; the same command goes on from the last checkpoint"
                ) from error
            if not self.is_main:
                raise TrainingError(f"{self}: {type(error).__name__}: {reason}") from error

    def __str__(self) -> str:
        return f"rank {self.rank} (process {os.getpid()} on {socket.gethostname()})"

    def first(self, work: Callable[[], T]) -> T:
        told: list[Any] = [None, None]  # the result, and the exit code of a failure
        try:
            if self.is_main:
                told[0] = work()
        except BaseException as error:
            told[1] = _exit_code(error)
            raise
        finally:
            dist.broadcast_object_list(told, src=0, group=self._waiting)
        if told[1] is not None:
            raise Elsewhere(told[1])
        result: T = told[0]
        return result

    def each(self, work: Callable[[], T]) -> T:
        result: list[T] = []
        failure: Exception | None = None
        try:
            result.append(work())
        except Exception as error:
            failure = error
        codes: list[Any] = [None] * self.size
        dist.all_gather_object(codes, failure and _exit_code(failure), group=self._waiting)
        failed = [rank for rank, code in enumerate(codes) if code is not None]
        if failure is not None and self.rank == failed[0]:
            raise failure
        if failed:
            raise Elsewhere(codes[failed[0]], failed[0])
        return result[0]

    def gather(self, value: T) -> list[T]:
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def exchange(self, numbers: Sequence[float]) -> list[list[float]]:
        own = torch.tensor(numbers, dtype=torch.float64)
        everyone = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(everyone, own)
        return [numbers.tolist() for numbers in everyone]

    def parallel(self, model: nn.Module) -> nn.Module:
        device = next(model.parameters()).device
        if device.type == "mps":
            raise self.common(DeviceError("train.device: several processes cannot share mps; use cpu, or one process"))
        if device.type == "cuda":
            self._gradients = dist.new_group(backend="nccl", timeout=GRADIENT_TIMEOUT)
        self._parallel = DistributedDataParallel(model, process_group=self._gradients, gradient_as_bucket_view=True)
        return self._parallel

    def apart(self) -> AbstractContextManager[None]:
        return self._parallel.no_sync()

    def copy(self, model: nn.Module) -> None:
        for parameter in model.parameters():
            dist.broadcast(parameter.detach(), src=0, group=self._gradients)


def _exit_code(error: BaseException) -> int:
    if isinstance(error, NmtError):
        return error.exit_code
    return 130 if isinstance(error, KeyboardInterrupt) else 1
