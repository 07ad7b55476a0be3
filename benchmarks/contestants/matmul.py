"""Speed of one large matrix product on this machine: the reference for the utilisation of a training."""

from __future__ import annotations

import time
from typing import Any

import torch
import worker


class MatrixProduct:
    def start(self, threads: int, device: str, precision: str, size: int) -> dict[str, Any]:
        """Make two square matrices of ``size`` rows."""
        worker.set_up_process(threads, "tuned")
        self.size, self.device = size, torch.device(device)
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        self.a, self.b = (torch.randn(size, size, device=self.device).to(dtype) for _ in range(2))
        self.out = torch.empty_like(self.a)
        return {"versions": {"torch": torch.__version__}}

    def run(self, seconds: float) -> dict[str, Any]:
        """Multiply for about ``seconds`` (at least once); return operations per second."""
        done, started = 0, time.perf_counter()
        while done == 0 or time.perf_counter() - started < seconds:
            for _ in range(100 if self.device.type == "cuda" else 1):  # on a GPU, keep the queue filled
                torch.mm(self.a, self.b, out=self.out)
                done += 1
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
        return {"flops": 2 * self.size**3 * done / (time.perf_counter() - started)}


if __name__ == "__main__":
    worker.serve(MatrixProduct())
