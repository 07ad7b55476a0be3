"""The Triton kernels against sorting, in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from nmt.runtime.kernels import DEVICES, Kernel
from nmt.search.candidates import candidates

CASES = """
import torch
from nmt.search.triton_candidates import candidates
torch.manual_seed(1)
for dtype in (torch.float32, torch.bfloat16, torch.float16):
    for width, k in ((1, 1), (5, 5), (16, 13), (63, 1), (64, 13), (65, 3), (4097, 5), (9000, 13), (9000, 27)):
        x = (torch.randn(3, width) * 5 + 20).to(dtype)  # many equal values, in bf16
        x[1, : width // 2] = -torch.inf
        x[2] = (x[2] / 20).round() - 0.0 * x[2].sign()
        columns, log_probs, norm = candidates(x, k)
        order = x.double().sort(dim=1, descending=True, stable=True).indices[:, :k]  # of equal ones, the lower column
        assert columns.tolist() == order.sort().values.tolist(), (dtype, width, k)
        exact = x.double().logsumexp(-1, keepdim=True)
        assert norm.dtype == log_probs.dtype == torch.float32
        assert torch.allclose(norm.double(), exact, rtol=1e-6, atol=1e-6), (dtype, width)
        assert torch.allclose(log_probs.double(), x.double().gather(1, columns) - exact, rtol=1e-6, atol=4e-6)
    x = torch.zeros(5, 5000, dtype=dtype)
    x[0, 4999], x[1, 0], x[2], x[3, 4500], x[4] = torch.nan, torch.inf, -torch.inf, -torch.inf, -torch.nan
    columns, _, norm = candidates(x, 7)
    assert norm.isfinite()[:, 0].tolist() == [False, False, False, True, False]
    assert columns[3].tolist() == list(range(7)) and columns[2].tolist() == list(range(7))
    assert ((columns >= 0) & (columns < 5000)).all()
    x = torch.full((1, 9000), -torch.inf, dtype=dtype)
    x[0, 8999] = 3.0
    columns, log_probs, norm = candidates(x, 2)
    assert norm.item() == 3.0 and columns.tolist() == [[0, 8999]] and log_probs.tolist() == [[-torch.inf, 0.0]]
print("all equal")
"""


def interpreted(code: str) -> str:
    env = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300)
    return done.stdout or done.stderr


def test_the_kernels_equal_sorting():
    pytest.importorskip("triton", reason="triton is not installed")
    assert interpreted(CASES) == "all equal\n"


def test_on_a_cpu_it_is_pytorch():
    x = torch.randn(3, 50, dtype=torch.bfloat16)
    columns, log_probs, norm = candidates(x, 4)
    assert torch.equal(norm, x.float().logsumexp(-1, keepdim=True))
    assert torch.equal(log_probs, x.gather(1, columns) - norm)


def test_a_kernel_that_fails_is_reported_once_and_replaced(monkeypatch, caplog):
    monkeypatch.setattr("nmt.runtime.kernels.DEVICES", {*DEVICES, "cpu"})
    kernel = Kernel("nmt.missing", "add", lambda x, y: x + y)
    assert kernel(torch.ones(1), 2).item() == kernel(torch.ones(1), 2).item() == 3
    assert [record.message for record in caplog.records] == [
        "the Triton kernel 'add' does not work here, which makes the search slower: No module named 'nmt.missing'"
    ]
