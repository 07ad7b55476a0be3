"""The memory that each process of a training has for weights, gradients, moments and averages, replicated and sharded.

torchrun --nproc-per-node 2 benchmarks/bench_shards.py [--vocab 32000] [--set d_model=512 ...]

One update of a random batch on the CPU; bytes of the tensors that a rank holds after it, or before the gradients are
freed.
"""

from __future__ import annotations

import argparse
import json

import torch
import yaml
from torch import Tensor

from nmt.config.model import RNNConfig, TransformerConfig
from nmt.config.train import OptimizerConfig
from nmt.models.build import build_model, count_parameters
from nmt.models.transformer import stack_layers
from nmt.runtime.ranks import Ranks
from nmt.runtime.sharding import local_bytes
from nmt.runtime.startup import join
from nmt.training.loss import projected_cross_entropy
from nmt.training.optim import MovingAverage, build_optimizer


def measure(ranks: Ranks, config: TransformerConfig | RNNConfig, vocabulary: int, sharded: bool) -> dict[str, float]:
    """MiB of this rank by kind."""
    torch.manual_seed(1)
    model = build_model(config, vocabulary, vocabulary, 0)
    count, _ = count_parameters(model)
    if sharded:
        shards = ranks.shard(model, stack_layers(model))
        forward: torch.nn.Module = shards.model
    else:
        forward = ranks.parallel(model)
    optimizer = build_optimizer(model, OptimizerConfig(), torch.device("cpu"))
    average = MovingAverage(model, 0.999)
    ids = torch.randint(4, vocabulary, (4, 8))
    hidden = forward(ids, torch.ones_like(ids, dtype=torch.bool), ids)
    gathered = local_bytes(list(model.parameters()))  # with the unit that stays whole until the backward pass
    projected_cross_entropy(hidden.flatten(0, 1), model.output, ids.flatten(), 0.1).smoothed.backward()
    gradients = local_bytes([p.grad for p in model.parameters() if p.grad is not None])
    optimizer.step()
    average.update(1)
    moments: list[Tensor] = [t for state in optimizer.state.values() for t in state.values()]
    found = {
        "weights": local_bytes(list(model.parameters())),
        "gradients": gradients,
        "moments": local_bytes(moments),
        "average": local_bytes(average.average),
        "weights between forward and backward pass": gathered,
        "largest layer, gathered": 0 if not sharded else max(
            (4 * sum(p.numel() for p in layer.parameters()) for layer in stack_layers(model)), default=0
        ),
    }  # fmt: skip
    return {"parameters": count, **{kind: round(size / 2**20, 1) for kind, size in found.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab", type=int, default=32_000, help="subwords of the shared vocabulary")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="keys of the section model")
    options = parser.parse_args()
    keys = {
        "type": "transformer",
        **{k: yaml.safe_load(v) for k, _, v in (each.partition("=") for each in options.set)},
    }
    kind = RNNConfig if keys["type"] == "rnn" else TransformerConfig
    with join() as ranks:
        for sharded in (False, True):
            everyone = ranks.gather(measure(ranks, kind.model_validate(keys), options.vocab, sharded))
            if ranks.is_main:
                print(json.dumps({"sharded": sharded, "ranks": everyone}))


if __name__ == "__main__":
    main()
