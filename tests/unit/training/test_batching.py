"""Which devices train on packed batches, and what is said of the others."""

import pytest
import torch

from nmt.errors import DeviceError
from nmt.training.batching import choose_batching
from tests.unit.config.configurations import BASE, load

CUDA, HALF = torch.device("cuda"), torch.bfloat16


@pytest.mark.parametrize(("width", "triton", "packed"), [(64, True, True), (64, False, False), (256, True, False)])
def test_a_window_without_padding_takes_triton(tmp_path, monkeypatch, width, triton, packed):
    monkeypatch.setattr("nmt.models.packed.HAS_TRITON", triton)
    model = f"model={{type: transformer, d_model: {2 * width}, num_heads: 2, attention_window: 8}}"
    config = load(tmp_path, BASE, model)
    why = "model.attention_window without padding takes Triton and heads of at most 128"
    expected = (True, "packed, without padding") if packed else (False, f"padded: {why}")
    assert choose_batching(config, CUDA, HALF, None) == expected
    config = load(tmp_path, BASE, model, "train.batching=packed")
    if packed:
        assert choose_batching(config, CUDA, HALF, None)[0]
        return
    with pytest.raises(DeviceError, match=f"packed is not possible here: {why}; use padded, or another device"):
        choose_batching(config, CUDA, HALF, None)
