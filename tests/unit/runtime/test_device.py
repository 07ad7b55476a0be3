"""Devices: what choosing one sets for the whole process."""

from __future__ import annotations

import pytest
import torch

from nmt.errors import DeviceError
from nmt.runtime.device import Place, check_lstm, set_deterministic, use_device


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


def test_a_processor_without_an_lstm_in_bf16_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As PyTorch does there: the message is that of an AMD EPYC with AVX2."""

    def forward(self: object, *_: object) -> None:
        raise RuntimeError("could not create a primitive descriptor for the LSTM forward propagation primitive")

    model, gru, cpu = torch.nn.Sequential(torch.nn.LSTM(3, 4, 2)), torch.nn.GRU(3, 4), torch.device("cpu")
    state = torch.get_rng_state()
    monkeypatch.setattr(torch.nn.LSTM, "forward", forward)
    with pytest.raises(
        DeviceError, match=r"train\.precision: this processor has no LSTM in bf16; use fp32, or cell: gru"
    ):
        check_lstm(model, Place(cpu, torch.bfloat16))
    check_lstm(model, Place(cpu, torch.float32))
    check_lstm(gru, Place(cpu, torch.bfloat16))
    monkeypatch.undo()
    check_lstm(model, Place(cpu, torch.float32))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("compiled", [False, True])
def test_only_a_compiled_training_imports_torch_compile(monkeypatch: pytest.MonkeyPatch, compiled: bool) -> None:
    told: list[bool] = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", told.append)  # imports torch.compile in PyTorch 2.13
    before = torch.get_deterministic_debug_mode()
    try:
        for enabled in (True, False):
            set_deterministic(enabled, compiled)
            assert compiled or torch.are_deterministic_algorithms_enabled() == enabled
        assert told == ([True, False] if compiled else [])
    finally:
        torch.set_deterministic_debug_mode(before)
