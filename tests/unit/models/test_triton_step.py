"""The Triton kernels against PyTorch, and a whole search with them, in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CASES = """
import torch
from nmt.models.scaled_dot import plain_cross_step, plain_own_step
from nmt.models import triton_step
from nmt.models.layers import plain_add_norm
from nmt.models.triton_norm import add_norm
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder

product = InterpreterBuilder.create_dot
def exact_product(self, a, b, *others):  # the interpreter would multiply the bit patterns of bf16
    a, b = (self.create_fp_ext(x, tl.float32) if x.dtype.scalar == tl.bfloat16 else x for x in (a, b))
    return product(self, a, b, *others)
InterpreterBuilder.create_dot = exact_product
triton_step.KEYS = 32
torch.manual_seed(1)

def close(found, expected, dtype):
    assert found.dtype == dtype and found.shape == expected.shape
    error = (found.float() - expected.float()).abs().max().item()
    assert error < (1e-5 if dtype == torch.float32 else 0.05), (dtype, error)

for dtype in (torch.float32, torch.bfloat16):
    for width, position, size in ((1, 0, 8), (1, 40, 16), (5, 0, 16), (5, 13, 24), (5, 39, 8), (2, 16, 16)):
        sentences, heads, room = 2, 2, 41
        parts = torch.randn(sentences, width, 3, heads, size).to(dtype)
        cache = torch.randn(sentences, room * width, 2, heads, size).to(dtype)
        cache[:, position * width :] = torch.nan  # not filled yet: not read
        visible = torch.zeros(sentences, width, room * width)
        visible[torch.rand(visible.shape) < 0.6] = -torch.inf
        visible[:, :, position * width :] = -torch.inf
        visible, position = visible.to(dtype), torch.tensor([position])
        clean, mine, marked = cache.nan_to_num(), cache.clone(), visible.clone()
        expected = plain_own_step(parts, clean, position, visible)
        close(triton_step.own_step(parts, mine, position, marked), expected, dtype)
        assert torch.equal(mine.nan_to_num(), clean) and torch.equal(marked, visible)
    for width, length, size in ((1, 1, 8), (5, 24, 16), (5, 70, 24), (17, 32, 16)):
        query = torch.randn(2, width, 2 * size).to(dtype)
        memory = torch.randn(2, length, 2, 2, size).to(dtype).unbind(2)
        keys, values = (each.transpose(1, 2) for each in memory)
        mask = torch.zeros(2, length)
        mask[1, (length + 1) // 3 + 1 :] = -torch.inf
        for k, v in ((keys, values), (keys.contiguous(), values)):
            expected = plain_cross_step(query, k, v, mask.to(dtype))
            close(triton_step.cross_step(query, k, v, mask.to(dtype)), expected, dtype)
    norm = torch.nn.LayerNorm(24)
    torch.nn.init.normal_(norm.weight), torch.nn.init.normal_(norm.bias)
    y, x = torch.randn(2, 3, 24).to(dtype), torch.randn(2, 3, 24) * 3 + 1
    with torch.inference_mode():
        for found, expected in zip(add_norm(y, x, norm), plain_add_norm(y, x, norm), strict=True):
            close(found, expected, torch.float32)
        with torch.autocast("cpu", torch.bfloat16):
            total, normed = add_norm(y, x, norm)
        assert torch.equal(total, x + y)
        close(normed, norm(x + y), torch.bfloat16)
print("all equal")
"""

SEARCH = """
import torch
from types import SimpleNamespace
import nmt.runtime.kernels
from nmt.config.model import TransformerConfig
from nmt.config.search import SearchConfig
from nmt.models.build import build_model
from nmt.translation.captured import CapturedSteps
from nmt.translation.pytorch import TorchEngine

class Direct:
    def __init__(self, other=None):
        pass
    def capture(self, work):
        self.work = work
    def replay(self):
        self.work()

torch.manual_seed(1)
config = TransformerConfig(
    type="transformer", d_model=8, d_ff=12, num_heads=2, encoder_layers=1, decoder_layers=1, positions="rotary"
)
model = build_model(config, 90, 90, 0).eval()
tokenizer = SimpleNamespace(pad_id=0, unk_id=1, bos_id=2, eos_id=3)
sources = [torch.randint(4, 90, (n,)).tolist() for n in (3, 7)]
def search(device):
    engine = TorchEngine(model, tokenizer, SearchConfig(beam_size=2), torch.device("cpu"))
    if device:
        nmt.runtime.kernels.DEVICES.add("cpu")
        engine.captured = CapturedSteps(Direct, 1 << 30)
    found = engine.search(sources, [5, 3], 2)
    return [[h.tokens for h in row] for row in found], [h.score for row in found for h in row]
(plain, scores), (quick, others) = search(False), search(True)
assert quick == plain, (quick, plain)
assert torch.allclose(torch.tensor(scores), torch.tensor(others), atol=1e-5)
from nmt.models.scaled_dot import _cross_step, _own_step
from nmt.models.layers import _add_norm
from nmt.search.beam import _select
from nmt.search.candidates import _candidates
assert all(kernel.works for kernel in (_cross_step, _own_step, _candidates, _select, _add_norm))
print("all equal")
"""


@pytest.mark.parametrize("code", [CASES, SEARCH], ids=["kernels", "search"])
def test_the_kernels_equal_pytorch(code):
    pytest.importorskip("triton", reason="triton is not installed")
    env = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300)
    assert done.stdout == "all equal\n", done.stderr
