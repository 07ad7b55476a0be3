"""Optimizer and averages of weights."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nmt.config.train import OptimizerConfig
from nmt.runtime.sharding import divided_like


def build_optimizer(
    model: nn.Module,
    config: OptimizerConfig,
    device: torch.device,
    capturable: bool = False,
    slower: Mapping[nn.Parameter, float] | None = None,
) -> torch.optim.Optimizer:
    """Build Adam (Kingma and Ba 2015) or AdamW (Loshchilov and Hutter 2019), fused on CPU and CUDA.

    Weight decay applies to matrices only: on vectors (biases, norms) it does not help.

    Args:
        capturable: support steps in a CUDA graph; the learning rate is then a tensor on the device.
        slower: factors of the learning rate of some parameters; not with ``capturable``.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    slower = slower or {}
    factors = {1.0, *(slower[p] for p in trained if p in slower)}
    groups: list[dict[str, Any]] = [
        {"params": params, "weight_decay": decay, **({"lr_factor": factor} if factor != 1.0 else {})}
        for factor in sorted(factors, reverse=True)
        for decay, params in (
            (config.weight_decay, [p for p in trained if p.dim() > 1 and slower.get(p, 1.0) == factor]),
            (0.0, [p for p in trained if p.dim() <= 1 and slower.get(p, 1.0) == factor]),
        )
    ]
    kind = _unguarded({"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.name])
    betas = (config.betas[0], config.betas[1])
    fused = device.type in ("cpu", "cuda")
    if not capturable:
        return kind(groups, lr=config.lr, betas=betas, eps=config.eps, fused=fused)
    rate = torch.tensor(config.lr, device=device)
    optimizer = kind(groups, lr=rate, betas=betas, eps=config.eps, fused=fused, capturable=True)
    optimizer._warned_capturable_if_run_uncaptured = True  # several processes run it uncaptured, and are right
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        own = rate * group.get("lr_factor", 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(own)
        else:
            group["lr"] = own


def _unguarded(kind: type[torch.optim.Adam]) -> type[torch.optim.Adam]:
    """Strip PyTorch's ``_disable_dynamo`` wrappers from the methods of an optimizer, which is never compiled here.

    The wrappers import torch.compile: 80 MB, and more than a second of every start.
    """
    methods = {
        name: inspect.unwrap(getattr(kind, name))
        for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict", "step")
    }
    return type(kind.__name__, (kind,), {**methods, "step": torch.no_grad()(methods["step"])})


class MovingAverage:
    """Exponential moving average of the weights (after Polyak and Juditsky 1992).

    The decay of the first steps is (1 + step) / (10 + step), so that the average forgets the random initial weights.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.names = [name for name, _ in model.named_parameters()]
        self.parameters: list[Tensor] = list(model.parameters())
        self.average = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.average, self.parameters, 1 - decay)

    def tensors(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.average, strict=True))

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        for name, average in zip(self.names, self.average, strict=True):
            average.copy_(divided_like(tensors[name], average))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block, the parameters of the model hold the average."""
        with _lent(self.parameters, self.average):
            yield


@contextmanager
def borrowed(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside the block, the parameters of the model hold ``weights``, which names all of them."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    with _lent(parameters, [weights[name] for name in names]):
        yield


@contextmanager
@torch.no_grad()
def _lent(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> Iterator[None]:
    raw = [p.detach().clone() for p in parameters]
    torch._foreach_copy_(list(parameters), list(values))
    try:
        yield
    finally:
        torch._foreach_copy_(list(parameters), raw)


def mean_weights(models: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The arithmetic mean of several checkpoints' weights."""
    return {
        name: torch.stack([m[name].double() for m in models]).mean(0).to(models[0][name].dtype) for name in models[0]
    }
