"""Device, precision, and PyTorch's settings per process."""

from __future__ import annotations

import os
import random
import resource
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nmt.errors import DeviceError
from nmt.numbers import count_of
from nmt.runtime.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Place:
    """The device, the precision and the ranks of a training."""

    device: torch.device
    dtype: torch.dtype
    ranks: Ranks = ALONE


def resolve_device(name: str) -> torch.device:
    """Find the device of this process; ``auto`` is cuda, else mps, else cpu.

    Raises:
        DeviceError: the named device is not available.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in present.items() if there)
    elif not present.get(name):
        raise DeviceError(
            f"train.device: {name} is not available here; use auto or one of: "
            + ", ".join(kind for kind, there in present.items() if there)
        )
    if name != "cuda":
        return torch.device(name)
    index, there = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()  # torchrun: one device a process
    if index >= there:
        raise DeviceError(
            f"train.device: this is process {index + 1} of its machine, which has {count_of(there, 'CUDA device')}; "
            f"start one process for each (torchrun --nproc-per-node {there}), or set train.device: cpu"
        )
    return torch.device(name, index)


def use_device(device: torch.device) -> None:
    """Make ``device`` the current one of this process, and choose its attention kernels.

    On Hopper, PyTorch prefers cuDNN's attention, which builds a plan for every new shape. That takes 109 ms for one
    forward and backward pass on an H100; the flash and memory-efficient kernels take 0.4 ms. Nearly every batch of the
    first epoch has a new shape, so training was six times slower (benchmarks/gpu/RESULTS.md).
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cuda.enable_cudnn_sdp(False)


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """The dtype of matrix products in training; weights, sums and the optimizer stay in fp32.

    ``auto`` is bf16 on devices with bf16 matrix units (CUDA from Ampere on, CPUs with AMX or AVX512_BF16), else fp32.

    Raises:
        DeviceError: the device does not support the precision (fp16 needs CUDA).
    """
    if name == "auto":
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            known = torch.cpu.get_capabilities()
            fast = device.type == "cpu" and any(known.get(name, False) for name in ("amx_bf16", "avx512_bf16"))
        return torch.bfloat16 if fast else torch.float32
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
    if dtype == torch.float16 and device.type != "cuda":
        raise DeviceError(f"train.precision: fp16 needs a CUDA device, not {device.type}; use bf16 or fp32")
    if dtype == torch.bfloat16 and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise DeviceError("train.precision: this CUDA device does not support bf16; use fp16 or fp32")
    return dtype


def check_lstm(model: nn.Module, place: Place) -> None:
    """Try an LSTM of a model on a CPU in bf16, which oneDNN has for some processors only.

    Raises:
        DeviceError: this processor has none.
    """
    if place.device.type != "cpu" or place.dtype != torch.bfloat16:
        return
    for one in (module for module in model.modules() if isinstance(module, nn.LSTM)):
        with torch.random.fork_rng(devices=[]):
            small = nn.LSTM(one.input_size, one.hidden_size)
        try:
            with torch.inference_mode(), autocast(place.device, place.dtype):
                small(torch.zeros(1, 1, one.input_size))
        except RuntimeError:
            raise DeviceError("train.precision: this processor has no LSTM in bf16; use fp32, or cell: gru") from None


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def set_deterministic(enabled: bool) -> None:
    """Restrict PyTorch to deterministic algorithms; call this before CUDA is initialized.

    On a CPU this has no effect and no cost, because every operation used here is deterministic. On CUDA, ordered sums
    replace atomic additions (the gradient of an embedding, attention's backward pass); ordered sums are slower.
    """
    if enabled:  # cuBLAS is deterministic only with a workspace of fixed size
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(enabled)
    # Filling uninitialized buffers costs time, and no code here reads them.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def set_threads(threads: int | None) -> None:
    if threads is not None:
        torch.set_num_threads(threads)


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and PyTorch. Data order and sampling use separate generators."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def generators(device: torch.device) -> list[torch.Tensor]:
    """The states of the global random generators of the CPU and of ``device``."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def restore_generators(states: list[torch.Tensor], device: torch.device) -> None:
    """Restore what :func:`generators` returned."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)


def reset_peak_memory(device: torch.device) -> None:
    """Let :func:`peak_memory` count from now on; on a CPU only under Linux."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # VmHWM becomes VmRSS


def peak_memory(device: torch.device) -> int:
    """The most memory so far, in bytes: of PyTorch's tensors on CUDA, elsewhere of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
