"""Stage ``ranks``: updates of several processes are those of one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .parts import TMP, Pairs, Setting, Training, apart, deterministic, need, recurrent, transformer
from .record import Record, check

UPDATES = 3
LIMIT = 200  # seconds of a process


def run(setting: Setting, record: Record) -> None:
    kinds = [("Transformer", "packed"), ("Transformer", "padded"), ("RNN", "padded")]
    if setting.tiny and not setting.named:  # the tests of a CPU cover the others
        kinds = kinds[:1]
    for family, batching in kinds:
        name = f"{family} {batching}"
        record.attempt(f"1 process, NCCL, {name}", partial(_nccl, setting, family, batching))
        two = partial(_compare, setting, family, batching, 2, "gloo")
        record.attempt(f"2 processes, gloo, {name}", two)


def _nccl(setting: Setting, family: str, batching: str) -> str:
    need(setting.cuda, "NCCL takes CUDA")
    return _compare(setting, family, batching, 1, "nccl")


def training(setting: Setting, family: str, batching: str, **more: Any) -> Training:
    """A training in fp32 without dropout, on a corpus of its own."""
    size = "tiny" if setting.tiny else "little"
    model = transformer(size, dropout=0.0) if family == "Transformer" else recurrent(size, dropout=0.0)
    pairs = Pairs(200, 60, 20) if setting.tiny else Pairs(1000, 400)
    return Training(setting, pairs, model, 256 if setting.tiny else 1024, torch.float32, batching=batching, **more)


def _compare(setting: Setting, family: str, batching: str, size: int, backend: str) -> str:
    """Start ``size`` processes; compare their weights after some updates with those of one process.

    One process accumulates ``size`` batches an update.
    """
    alone = training(setting, family, batching, accumulate=size)
    with deterministic():
        alone.run(UPDATES)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes, files = [], []
    for rank in range(size):
        files.append(TMP / f"nmt_gpu_rank{rank}.pt")
        files[-1].unlink(missing_ok=True)
        env = {**os.environ, "RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": str(size),
               "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
        command = [sys.executable, "-m", "benchmarks.gpu.rank", setting.device.type, str(int(setting.tiny)), family,
                   batching, backend, str(files[-1])]  # fmt: skip
        processes.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
    said = _outputs(processes)
    for process, file, text in zip(processes, files, said, strict=True):
        check(process.returncode == 0 and file.exists(), f"exit {process.returncode}: {' '.join(text.split())[-400:]}")
    found = [torch.load(file) for file in files]
    check(all(torch.equal(found[0]["weights"], other["weights"]) for other in found), "the ranks' weights differ")
    off = apart(found[0]["moments"], alone.moments)
    check(off < 1e-5, f"gradients differ by {off:.1e} from those of one process")
    return f"{UPDATES} updates, gradients by {found[0]['backend']}, {off:.1e} from those of one process"


def _outputs(processes: list[subprocess.Popen[bytes]]) -> list[str]:
    """What the processes print, once all have ended; those that hang are killed."""
    found = []
    for process in processes:
        try:
            found.append(process.communicate(timeout=LIMIT)[0].decode(errors="replace"))
        except subprocess.TimeoutExpired:
            process.kill()
            found.append(f"did not end in {LIMIT} s: " + process.communicate()[0].decode(errors="replace"))
    return found


def main(device: str, tiny: str, family: str, batching: str, backend: str, file: str) -> None:
    """One rank; torchrun's variables are in the environment."""
    import torch.distributed as dist

    from nmt.runtime.torchrun import TorchrunRanks

    if backend == "gloo":  # NCCL refuses two ranks on one device; only the backend of the gradients is replaced
        new_group = dist.new_group
        dist.new_group = lambda *args, **more: new_group(*args, **{**more, "backend": "gloo"})
    setting = Setting.of(device, tiny=tiny == "1", out=Path(file).parent, seconds=60.0)
    with TorchrunRanks() as ranks, deterministic():
        made = training(setting, family, batching, ranks=ranks)
        made.updater.capturable = False
        updates = made.order.updates(0)
        rows = [batch for update in list(updates)[: UPDATES * ranks.size] for batch in update]
        for number in range(UPDATES):
            own = rows[number * ranks.size : (number + 1) * ranks.size][ranks.block(ranks.size)]
            made.update([made.reader.read(one) for one in own])
        group = made.updater.ranks._gradients  # type: ignore[attr-defined]
        torch.save({"weights": made.weights, "moments": made.moments, "backend": dist.get_backend(group)}, file)
