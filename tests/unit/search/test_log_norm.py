"""The Triton kernel against PyTorch, in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from nmt.search.log_norm import log_norm

CASES = """
import torch
from nmt.search.triton_norm import log_norm
for dtype in (torch.float32, torch.bfloat16, torch.float16):
    for width in (1, 16, 4095, 4096, 4097, 9000):
        x = (torch.randn(3, width) * 5 + 20).to(dtype)
        x[1, : width // 2] = -torch.inf
        expected = x.double().logsumexp(-1, keepdim=True).float()
        assert log_norm(x).dtype == torch.float32
        assert torch.allclose(log_norm(x), expected, rtol=1e-6, atol=1e-6), (dtype, width, log_norm(x), expected)
    x = torch.zeros(4, 5000, dtype=dtype)
    x[0, 4999], x[1, 0], x[2], x[3, 4500] = torch.nan, torch.inf, -torch.inf, -torch.inf
    assert log_norm(x).isfinite()[:, 0].tolist() == [False, False, False, True]
    x = torch.full((1, 9000), -torch.inf, dtype=dtype)
    x[0, 8999] = 3.0
    assert log_norm(x).item() == 3.0
print("all equal")
"""


def test_the_kernel_equals_logsumexp():
    pytest.importorskip("triton")
    env = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", CASES], env=env, capture_output=True, text=True, timeout=300)
    assert done.stdout == "all equal\n", done.stderr


def test_on_a_cpu_it_is_logsumexp():
    x = torch.randn(3, 50, dtype=torch.bfloat16)
    assert torch.equal(log_norm(x), x.float().logsumexp(-1, keepdim=True))
