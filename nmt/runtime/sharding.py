"""A model whose parameters are sharded among the ranks of one training (FSDP2, ``torch.distributed.fsdp.fully_shard``).

Each rank holds a shard, the rows of one block, of every parameter, and so of its gradient, its moments and its average.
PyTorch gathers the parameters of a unit before the unit computes, and sums up the gradients of a unit into shards.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor, nn

ModelT = TypeVar("ModelT", bound=nn.Module)
METHODS = ("packed", "attending")  # of a unit, beside ``forward``: they also need its gathered parameters


class Shards(Generic[ModelT]):
    """Divides ``model`` in place.

    A search calls many methods of a model, as often as its sentences need, so the ranks could not gather parameters for
    each call. It uses ``whole``, which :meth:`filled` gives the gathered weights.

    Args:
        model: its parameters are equal on all ranks.
        units: modules whose parameters are gathered together; the rest of the model is one unit more, which stays
            gathered from its forward to its backward pass.
        group: of the ranks that divide the model.
        compress: sum up the gradients in bf16.

    Attributes:
        whole: an undivided model of the same structure, in evaluation mode, without memory outside of :meth:`filled`.
    """

    def __init__(
        self, model: ModelT, units: Sequence[nn.Module], group: torch.distributed.ProcessGroup, compress: bool = False
    ):
        from torch.distributed.device_mesh import DeviceMesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

        self.model = model
        empty = {id(each): nn.Parameter(each.new_empty(0), requires_grad=False) for each in model.parameters()}
        self.whole = copy.deepcopy(model, dict[int, Any](empty)).eval()
        mesh = DeviceMesh.from_group(group, next(model.parameters()).device.type)
        policy = MixedPrecisionPolicy(reduce_dtype=torch.bfloat16 if compress else None)
        for unit in units:
            fully_shard(unit, mesh=mesh, reshard_after_forward=True, mp_policy=policy)
            for method in METHODS:
                if hasattr(unit, method):
                    register_fsdp_forward_method(unit, method)
        fully_shard(model, mesh=mesh, reshard_after_forward=False, mp_policy=policy)

    @contextmanager
    def filled(self, weights: Mapping[str, Tensor]) -> Iterator[ModelT]:
        """Inside the block, ``whole`` has these weights; gathering those in shards is a collective call."""
        self.fill(weights)
        try:
            yield self.whole
        finally:
            for parameter in self.whole.parameters():
                parameter.data = parameter.data.new_empty(0)

    @torch.no_grad()
    def fill(self, weights: Mapping[str, Tensor]) -> ModelT:
        """As :meth:`filled`, to stay."""
        for name, parameter in self.whole.named_parameters():
            parameter.data = gathered(weights[name]).to(parameter.device)
        return self.whole


def is_shard(tensor: Tensor) -> bool:
    """Whether a tensor is sharded among ranks, without importing DTensor, which takes seconds."""
    return hasattr(tensor, "placements")


def gathered(tensor: Tensor) -> Tensor:
    """The full tensor of a sharded one, in a collective call; any other tensor itself."""
    if not is_shard(tensor):
        return tensor
    whole: Tensor = cast("torch.distributed.tensor.DTensor", tensor.detach()).full_tensor()
    return whole


def gathered_on_main(tensors: Mapping[str, Tensor], is_main: bool) -> dict[str, Tensor]:
    """The whole tensors, on rank 0 alone, where those that were divided are on the CPU; gathered one by one."""
    found = {}
    for name, tensor in tensors.items():
        whole = gathered(tensor)
        if is_main:
            found[name] = whole.cpu() if is_shard(tensor) else whole
    return found


def divided_like(tensor: Tensor, like: Tensor) -> Tensor:
    """This rank's part of a whole tensor, divided as ``like`` is; the tensor itself if ``like`` is not."""
    if not is_shard(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    model = cast("torch.distributed.tensor.DTensor", like)
    tensor = tensor.to(like.device)
    # Every rank has the whole tensor: nothing is sent.
    return distribute_tensor(tensor, model.device_mesh, model.placements, src_data_rank=None)


def local_bytes(tensors: Sequence[Tensor]) -> int:
    """The bytes of tensors on this rank."""
    local = [cast("torch.distributed.tensor.DTensor", one).to_local() if is_shard(one) else one for one in tensors]
    return sum(one.numel() * one.element_size() for one in local)
