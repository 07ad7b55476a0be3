"""Devices: what choosing one sets for the whole process."""

from __future__ import annotations

import pytest
import torch

from nmt.runtime.device import use_device


def test_cuda_does_not_use_the_attention_that_plans_every_new_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch._C, "_set_sdp_use_cudnn", chosen := [].append)  # type: ignore[attr-defined]
    use_device(torch.device("cuda", 1))
    assert current == [torch.device("cuda", 1)]
    assert chosen.__self__ == [False]


def test_a_cpu_changes_nothing() -> None:
    before = torch.backends.cuda.cudnn_sdp_enabled()
    use_device(torch.device("cpu"))
    assert torch.backends.cuda.cudnn_sdp_enabled() == before
