"""A whole update as one CUDA graph: the device gets one launch instead of a thousand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from nmt.data.packing import PackedBatch
from nmt.errors import TrainingError

T = TypeVar("T")

WARM_UPS = 2  # passes before a capture: they choose algorithms, compile kernels and make the optimizer's state


class Graphs:
    """Records what functions launch on a CUDA device, in graphs that share their memory."""

    def __init__(self, device: torch.device):
        self.device, self._stream, self._pool = device, torch.cuda.Stream(device), torch.cuda.graph_pool_handle()

    def warm_up(self, body: Callable[[], object]) -> None:
        """Run a function on the stream that it will be recorded on."""
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._stream):
            body()
        torch.cuda.current_stream(self.device).wait_stream(self._stream)
        torch.cuda.synchronize(self.device)

    def record(self, body: Callable[[], T]) -> Callable[[], T]:
        """Record a function, without running what it launches.

        Returns:
            A function that runs all of it. What it returns is at the same place each time. It keeps ``body``, and so
            the tensors that the graph reads and writes: a graph alone does not keep their memory from other uses.
        """
        graph = torch.cuda.CUDAGraph()
        # In any other mode, memory that another thread pins meanwhile would end the capture.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            result = body()

        return _Replay(graph, body, result)


@dataclass(frozen=True)
class _Replay(Generic[T]):
    graph: torch.cuda.CUDAGraph
    body: Callable[[], T]
    result: T

    def __call__(self) -> T:
        self.graph.replay()
        return self.result


class CapturedUpdate:
    """Replays an update, whose tensors are always at the same places.

    The passes that warm up divide the loss by NaN tokens: such an update skips itself as one whose gradient is not
    finite. So weights, moments and step counts stay as they are. The caller restores the generator and what ``apply``
    counts.

    Args:
        batch: any one; all others have its shape.
        parameters: whose gradients ``accumulate`` adds up.
        accumulate: the gradients of a loss divided by this number of tokens; returns the sums of what is counted.
        apply: the step with these gradients, from the sums of what is counted and the tokens; returns whether they are
            finite.
        several: whether an update may have several batches. With one only, gradients are written instead of added up.
        losses: zeros of the shape of these sums.

    Raises:
        torch.OutOfMemoryError: the device's memory does not suffice.
        RuntimeError: something in the update cannot be captured.
    """

    def __init__(
        self,
        graphs: Graphs,
        batch: PackedBatch,
        parameters: Sequence[Tensor],
        accumulate: Callable[[PackedBatch, Tensor], Tensor],
        apply: Callable[[Tensor, Tensor], Tensor],
        several: bool,
        losses: Tensor,
    ):
        self.batch = batch.to(graphs.device)
        self.tokens = torch.full((), math.nan, device=graphs.device)

        def only() -> Tensor:
            for p in parameters:
                p.grad = None
            return apply(accumulate(self.batch, self.tokens), self.tokens)

        def one_more() -> None:
            losses.add_(accumulate(self.batch, self.tokens))

        def last() -> Tensor:
            one_more()
            finite = apply(losses, self.tokens)
            torch._foreach_zero_([losses, *(p.grad for p in parameters if p.grad is not None)])
            return finite

        body = last if several else only
        for p in parameters:
            p.grad = torch.zeros_like(p)
        for _ in range(WARM_UPS):
            graphs.warm_up(body)
        self._last = graphs.record(body)
        self._more = graphs.record(one_more) if several else None

    def __call__(self, batches: Sequence[PackedBatch], tokens: float, before: Callable[[int], None]) -> Tensor:
        """Make an update; returns whether the gradients were finite, on the device.

        Args:
            before: called with the number of each batch before it; may raise an error that ends the training.
        """
        self.tokens.fill_(tokens)
        for number, batch in enumerate(batches[:-1], 1):
            before(number)
            assert self._more is not None
            self.batch.buffer.copy_(batch.buffer, non_blocking=True)
            self._more()
        before(len(batches))
        self.batch.buffer.copy_(batches[-1].buffer, non_blocking=True)
        return self._last().clone()


def capture(make: Callable[[], CapturedUpdate], window: Tensor, warn: Callable[[str], Any]) -> CapturedUpdate | None:
    """An update captured without a trace in ``window`` and the generator; None, after a warning, where it cannot be.

    Raises:
        torch.OutOfMemoryError: the device's memory does not suffice.
        TrainingError: the attempt left the device unusable.
    """
    device = window.device
    generator, counted = torch.cuda.get_rng_state(device), window.clone()

    def restore() -> None:
        window.copy_(counted)
        torch.cuda.set_rng_state(generator, device)

    try:
        update = make()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        try:
            restore()
        except RuntimeError:
            raise TrainingError(
                f"the update cannot be captured as a CUDA graph: {reason}; set train.batching: padded"
            ) from error
        warn(f"warning: the update was not captured as a CUDA graph and runs operation by operation: {reason}")
        return None
    restore()
    return update
