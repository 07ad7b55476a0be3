"""Common parts of the contestants of a benchmark: protocol, clock, memory and batches.

A contestant is a separate process with its interpreter, nmt's or a peer's. So each runs the versions it was made for,
and its memory is measured alone. It reads requests from standard input, one JSON object per line: ``{"do": NAME, ...}``
calls the method NAME with the other keys as arguments. Each answer is one JSON object per line on standard output.

This file imports only NumPy and PyTorch, so that every peer's environment can import it.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


def serve(worker: object) -> None:
    """Answer requests until standard input closes."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # output of libraries must not mix with the answers
    for line in sys.stdin:
        request = json.loads(line)
        answer = getattr(worker, request.pop("do"))(**request)
        print(json.dumps(answer), file=answers, flush=True)


def peak_memory() -> int:
    """Peak resident memory of this process so far, in bytes."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    # Not getrusage: on Linux its value includes that of the parent process.
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def set_up_process(threads: int, allocator: str) -> None:
    """Set the number of threads and the allocator.

    Args:
        allocator: ``default``, or ``tuned`` as in nmt (together with the environment of the process).
    """
    torch.set_num_threads(threads)
    if allocator == "tuned":
        sys.path.insert(0, str(Path(__file__).parents[2]))
        from nmt.runtime.memory import keep_freed_memory

        keep_freed_memory()


@dataclass(frozen=True)
class Batch:
    """Padded ids: src [B, S]; tgt_in and tgt_out [B, T]."""

    src: Tensor
    tgt_in: Tensor
    tgt_out: Tensor


def write_batches(path: str, batches: Sequence[Any]) -> None:
    arrays: dict[str, Any] = {
        f"{number}.{name}": getattr(batch, name).numpy()
        for number, batch in enumerate(batches)
        for name in ("src", "tgt_in", "tgt_out")
    }
    np.savez(path, **arrays)


def read_batches(path: str) -> list[Batch]:
    with np.load(path) as file:
        count = len(file.files) // 3
        return [
            Batch(*(torch.from_numpy(file[f"{number}.{name}"]) for name in ("src", "tgt_in", "tgt_out")))
            for number in range(count)
        ]


def batch_digest(batches: Sequence[Any]) -> str:
    """A hash of all ids and shapes, equal for contestants with equal batches."""
    found = hashlib.sha256()
    for batch in batches:
        for tensor in (batch.src, batch.tgt_in, batch.tgt_out):
            found.update(f"{tuple(tensor.shape)}".encode() + tensor.cpu().numpy().tobytes())
    return found.hexdigest()


def write_weights(path: str, tensors: Mapping[str, Tensor]) -> None:
    arrays: dict[str, Any] = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
    np.savez(path, **arrays)


def read_weights(path: str) -> dict[str, Tensor]:
    with np.load(path) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def trainable(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


class Training(ABC):
    """A contestant that trains. This class measures the time; subclasses do the work.

    A task has: ``threads``, ``allocator``, ``device``, ``precision`` (fp32, bf16; nmt also auto), ``model`` (nmt's
    section), ``vocab_size``, ``pad_id`` … ``eos_id``, ``optimizer``, ``clip_norm``, ``label_smoothing``, ``seed`` and
    ``batches`` (a file of :func:`write_batches`).
    """

    device: torch.device
    batches: Sequence[Any]

    def start(self, task: dict[str, Any]) -> dict[str, Any]:
        """Build the model and load the batches."""
        set_up_process(task["threads"], task["allocator"])
        self.device = torch.device(task["device"])
        torch.manual_seed(task["seed"])
        at_start = peak_memory()
        about = self.build(task)
        return {"start_bytes": at_start, "digest": batch_digest(self.batches), **about}

    def run(self, updates: int, first: int = 0) -> dict[str, Any]:
        """Train on ``updates`` batches, starting with batch ``first``; return the seconds."""
        self.synchronize()
        started = time.perf_counter()
        for number in range(first, first + updates):
            self.update(number)
        self.synchronize()
        return {"seconds": time.perf_counter() - started}

    def memory(self) -> dict[str, Any]:
        """Peak memory in bytes: of the process on a CPU, of the tensors on a GPU."""
        on_gpu = self.device.type == "cuda"
        return {"peak_bytes": torch.cuda.max_memory_allocated(self.device) if on_gpu else peak_memory()}

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @abstractmethod
    def build(self, task: dict[str, Any]) -> dict[str, Any]:
        """Build everything for the training; return at least ``parameters`` and ``note``."""

    @abstractmethod
    def update(self, number: int) -> None:
        """One optimizer step on batch ``number``."""

    @abstractmethod
    def load(self, weights: str) -> dict[str, Any]:
        """Load the weights of nmt's model (a file of :func:`write_weights`)."""

    @abstractmethod
    def nll(self) -> dict[str, Any]:
        """Negative log likelihood of the first batch, in nats per target token, without dropout, in fp32."""
