"""Which models are divided among the processes of a training."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from nmt.config.load import load_config
from nmt.errors import ConfigError
from nmt.runtime.device import Place
from nmt.runtime.ranks import Ranks
from nmt.training.parallel import choose_parallel, state_bytes

GIB = 2**30


class Four(Ranks):
    size = 4

    def gather(self, value):
        return [value, value // 2, value, value]  # one card is smaller


def chosen(task, monkeypatch, parameters, memory=32 * GIB, device="cuda", ranks=None, model=None, **train):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=memory))
    config = task.config("transformer", model=model or {}, train=train)
    with torch.device("meta"):
        layer = nn.Linear(parameters // 1000, 1000, bias=False)
    return choose_parallel(config, layer, Place(torch.device(device), torch.float32, ranks or Four()))


def test_auto_divides_what_takes_over_half_of_the_smallest_device(task, monkeypatch):
    few, many = (8 * GIB // 20 // 1000 * 1000 + more for more in (-1000, 1000))
    assert not chosen(task, monkeypatch, few)[0]
    is_sharded, told = chosen(task, monkeypatch, many)
    assert is_sharded
    assert told == "sharded: each has 2.0 of 8.0 GiB of weights, gradients, moments and averages"
    assert not chosen(task, monkeypatch, many, ema_decay=None)[0]  # 16 bytes a parameter
    assert not chosen(task, monkeypatch, many, device="cpu")[0]
    assert not chosen(task, monkeypatch, many, ranks=Ranks())[0]
    assert not chosen(task, monkeypatch, many, parallel="replicated")[0]
    assert chosen(task, monkeypatch, 1000, device="cpu", parallel="sharded")[0]
    assert not chosen(task, monkeypatch, 1000, ranks=Ranks(), parallel="sharded")[0]


def test_auto_names_why_a_large_model_is_replicated(task, monkeypatch):
    is_sharded, told = chosen(task, monkeypatch, 10**9, compile=True)
    assert not is_sharded
    assert told == (
        "replicated: each has 18.6 GiB of weights, gradients, moments and averages; not sharded, because "
        "train.compile: true compiles the model as a whole"
    )


def test_frozen_weights_have_no_gradient_and_no_moments():
    model = nn.Linear(10, 10, bias=False)
    assert [state_bytes(model, averaged) for averaged in (False, True)] == [1600, 2000]
    model.requires_grad_(False)
    assert [state_bytes(model, averaged) for averaged in (False, True)] == [400, 800]


@pytest.mark.parametrize(
    ("family", "sections", "said"),
    [
        ("transformer", {"train": {"compile": True}}, "train.compile: true compiles"),
        ("transformer", {"model": {"layer_drop": 0.1}}, "model.layer_drop skips"),
        ("transformer", {"model": {"start": "zero"}}, "model.start: zero"),
        ("transformer", {"model": {"norm_type": "scale"}}, "model.norm_type: scale"),
        ("transformer", {"model": {"qk_norm": "l2"}}, "model.qk_norm: l2"),
        ("rnn-reinforce", {}, "model.hard.estimator: reinforce"),
        (
            "transformer-to-rnn",
            {"model": {"encoder": {"type": "transformer", "d_model": 24, "num_heads": 2, "layer_drop": 0.1}}},
            "model.encoder.layer_drop",
        ),
    ],
)
def test_what_cannot_be_divided_is_refused(task, family, sections, said):
    sections = {**sections, "train": {**sections.get("train", {}), "parallel": "sharded"}}
    with pytest.raises(ConfigError, match=f"train.parallel: sharded is not possible: {said}") as found:
        task.config(family, **sections)
    assert len(str(found.value).splitlines()) == 1
    assert str(found.value).endswith("use auto or replicated")
    path = task.config_file(family, **{**sections, "train": {**sections["train"], "parallel": "auto"}})
    load_config(path)
