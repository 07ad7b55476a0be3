import pytest
import torch
from torch import nn

from nmt.config.train import OptimizerConfig
from nmt.training.optim import MovingAverage, build_optimizer, mean_weights


def test_weight_decay_spares_vectors():
    model = nn.Linear(3, 2)
    optimizer = build_optimizer(model, OptimizerConfig(name="adamw", weight_decay=0.1), torch.device("cpu"))
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert decay == {id(model.weight): 0.1, id(model.bias): 0.0}


@pytest.mark.parametrize(("name", "theirs"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_updates_are_those_of_pytorch_s_optimizer(name, theirs):
    config = OptimizerConfig(name=name, lr=0.1, betas=[0.8, 0.95], eps=1e-7, weight_decay=0.2)
    models = [nn.Linear(3, 2) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    ours = build_optimizer(models[0], config, torch.device("cpu"))
    groups = [{"params": [models[1].weight], "weight_decay": 0.2}, {"params": [models[1].bias], "weight_decay": 0.0}]
    optimizers = [ours, theirs(groups, lr=0.1, betas=(0.8, 0.95), eps=1e-7)]
    for x in torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0)):
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    state, expected = (optimizer.state_dict()["state"] for optimizer in optimizers)
    for number, moments in expected.items():
        for key, value in moments.items():
            assert torch.allclose(state[number][key], value, atol=1e-6)


def test_moving_average_by_hand():
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.0)
    ema = MovingAverage(model, decay=0.5)
    with torch.no_grad():
        model.weight.fill_(1.0)
    ema.update(step=1)  # decay (1 + 1) / (10 + 1)
    assert ema.average[0].item() == pytest.approx(1 - 2 / 11)
    ema.update(step=100)  # decay 0.5
    assert ema.average[0].item() == pytest.approx((1 - 2 / 11) * 0.5 + 0.5)
    with ema.applied():
        assert model.weight.item() == ema.average[0].item()
    assert model.weight.item() == 1.0


def test_mean_weights():
    mean = mean_weights([{"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([3.0, -2.0])}])
    assert mean["w"].tolist() == [2.0, 0.0]
