"""The Triton kernel against PyTorch, over whole searches of random logits, in Triton's interpreter."""

from __future__ import annotations

import pytest

from tests.unit.search.test_candidates import interpreted

CASES = """
import torch
from nmt.search.beam import _start, plain_select
from nmt.search.candidates import plain_candidates
from nmt.search.scoring import LengthPenalty
from nmt.search.triton_selection import select
torch.manual_seed(1)
penalty, vocabulary, eos = LengthPenalty("gnmt", 0.6), 40, 3
cases = (1, 1, (0, 2), True), (3, 2, (), False), (5, 1, (0, 1, 2), True), (5, 5, (7,), True), (3, 5, (7,), True)
for width, nbest, banned, early in cases:
    for dtype in (torch.float32, torch.bfloat16):
        limits = torch.tensor([2, 6, 1, 5])
        beam = _start(limits, 5, width, 2, penalty, nbest, banned).grown(12, penalty)
        other = beam.grown(12, penalty)
        for step in range(1, 8):
            logits = (torch.randn(5 * width, vocabulary) * 2).to(dtype)
            logits[torch.rand(5 * width) < 0.3, eos] += 4.0
            logits[-1] = torch.nan  # of the sentence that only fills up
            if step == 5:
                logits[width, 9] = torch.inf  # of the second one, whether or not it is over
            found = plain_candidates(logits, min(2 * width + len(banned), vocabulary))
            beam, rows = plain_select(logits, *found, beam, eos, early)
            other, others = select(logits, *found, other, eos, early)
            used = [i for i in range(4) if step < 5 or i != 1]
            for name in ("live", "best", "finished", "over"):
                one, two = getattr(beam, name)[used], getattr(other, name)[used]
                assert torch.equal(one, two), (width, dtype, step, name, one, two)
            alive = beam.live[used] > -torch.inf  # which of the impossible successors fill up a beam is open
            for one, two in ((rows, others), (beam.tokens, other.tokens)):
                assert torch.equal(*(x.view(5, width)[used][alive] for x in (one, two))), (width, dtype, step)
            one, two = (each.trace[step, used] for each in (beam, other))
            assert torch.equal(one[..., :2][alive], two[..., :2][alive])
            assert torch.equal(beam.ended[step, used], other.ended[step, used])
            closed = beam.ended[step, used] > -torch.inf
            assert torch.equal(one[..., 2][closed], two[..., 2][closed])
            assert torch.equal(beam.length, other.length) and torch.equal(beam.invalid, other.invalid)
            assert ((others >= 0) & (others < 5 * width)).all()
        assert other.over[:4].all() or not early
print("all equal")
"""


def test_the_kernel_equals_pytorch():
    pytest.importorskip("triton", reason="triton is not installed")
    assert interpreted(CASES) == "all equal\n"
