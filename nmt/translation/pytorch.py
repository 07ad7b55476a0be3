"""The model itself, searched in PyTorch."""

from __future__ import annotations

import copy
import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from nmt.config.limits import resolve_search
from nmt.search.beam import Advance, Beam, Execution
from nmt.search.coverage import Covered, covering
from nmt.search.method import Task
from nmt.search.methods import new_method
from nmt.search.prefix import Prefixed, Prefixing
from nmt.search.scoring import Hypothesis
from nmt.translation.batches import search_batches
from nmt.translation.captured import SMALLEST, CapturedSteps, CudaGraph, batch_count, batch_size, source_room

if TYPE_CHECKING:
    from nmt.config.search import SearchConfig
    from nmt.data.tokenizer import Tokenizer
    from nmt.models.seq2seq import Seq2Seq


class TorchEngine:
    """Searches the steps of a model; an :class:`nmt.translation.translator.Engine` for every family.

    Args:
        model: on ``device``; in evaluation mode while it is searched, and back in its own mode afterwards.
        precision: autocast type, or None for the model's own.
        pulse: called before each step of a search; it may end the search by an exception.
        keep: keep what was captured of one search for the next. It takes memory, and the weights have to stay where
            they are, as those of a training do not.
    """

    def __init__(
        self,
        model: Seq2Seq[Any],
        tokenizer: Tokenizer,
        search: SearchConfig,
        device: torch.device,
        precision: torch.dtype | None = None,
        pulse: Callable[[], None] = lambda: None,
        keep: bool = False,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.config = resolve_search(search)
        self.device = device
        self.precision, self.pulse, self.keep = precision, pulse, keep
        self.method = new_method(search)
        self.progress: Callable[[int], object] = lambda count: None
        self.searched = model if precision is None else None  # what the steps are those of
        self.captured: CapturedSteps | None = None
        if device.type == "cuda" and self.method.capturable:
            memory = torch.cuda.get_device_properties(device).total_memory
            self.captured = CapturedSteps(CudaGraph, memory // 4)

    def search(
        self,
        sources: Sequence[Sequence[int]],
        max_lengths: Sequence[int],
        nbest: int,
        prefixes: Sequence[Sequence[int]] = (),
    ) -> list[list[Hypothesis]]:
        """
        Raises:
            TrainingError: the model's output is not a number.
        """
        # Evaluation mode
        training = self.model.training
        if training:  # to go through all modules takes as long as a step
            self.model.eval()
        count = min if self.captured is None else batch_count
        try:
            # Batches; one that does not fit into memory is halved
            found: list[list[Hypothesis]] = [[] for _ in sources]
            with torch.inference_mode(), self._autocast():
                self._take_weights()
                waiting = deque(search_batches(sources, self.method.width(nbest), self.config.batch_tokens, count))
                while waiting:
                    batch = waiting.popleft()
                    try:
                        searched = self._search(
                            [sources[i] for i in batch],
                            [max_lengths[i] for i in batch],
                            nbest,
                            [prefixes[i] for i in batch] if any(prefixes) else (),
                        )
                    except torch.OutOfMemoryError:
                        if self.captured is not None:
                            self.captured.clear()
                        if len(batch) == 1:
                            raise
                        waiting.extendleft([batch[len(batch) // 2 :], batch[: len(batch) // 2]])
                        continue
                    for i, hypotheses in zip(batch, searched, strict=True):
                        found[i] = hypotheses
                    self.progress(len(batch))
            return found
        finally:
            if training:
                self.model.train()
            if self.captured is not None and not self.keep:
                self.captured.clear()

    def _take_weights(self) -> None:
        """Autocast would cast the weights of products at every step: cast them once for a search."""
        if self.precision is None:
            return
        if self.searched is None:
            self.searched = cast_products(self.model, self.precision)
        for cast, own in zip(self.searched.modules(), self.model.modules(), strict=True):
            if isinstance(own, nn.Linear):
                for name, parameter in own.named_parameters(recurse=False):
                    cast.get_parameter(name).copy_(parameter)

    def _search(
        self,
        sources: Sequence[Sequence[int]],
        max_lengths: Sequence[int],
        nbest: int,
        prefixes: Sequence[Sequence[int]],
    ) -> list[list[Hypothesis]]:
        """One batch."""
        # The source, filled up to the size of a graph
        tokenizer, width, execution = self.tokenizer, self.method.width(nbest), self._execution()
        assert self.searched is not None
        lengths = torch.tensor([len(source) for source in sources])
        lengths = torch.cat([lengths, lengths[:1].expand(execution.size(len(sources)) - len(sources))])
        src = torch.full((len(lengths), int(lengths.max()) + 1), tokenizer.pad_id)  # [B, S], eos counted
        for row, source in zip(src, [*sources, *[sources[0]] * (len(lengths) - len(sources))], strict=True):
            row[: len(source) + 1] = torch.tensor([*source, tokenizer.eos_id])
        src_mask = torch.arange(src.size(1)) <= lengths.unsqueeze(1)  # [B, S]
        memory = self.searched.encode(src.to(self.device), src_mask.to(self.device))
        # The step function and its state
        step: Callable[..., Any] = self._attending_step if self.method.attends else self._step
        if self.captured is None:
            state = self.searched.init_state(memory, width)
        else:
            memory = memory.filled_up(source_room(src.size(1)))
            step, state = self.searched.step, self.searched.init_state(memory, width, room=execution.room(1))
        if prefixes:
            filled = [*prefixes, *[prefixes[0]] * (len(lengths) - len(prefixes))]
            step, state = Prefixing(step, tokenizer.pad_id), Prefixed.start(state, filled, width, self.device)
        if self.method.attends:
            step, state = covering(step), Covered.start(state, memory.mask, width)
        # The search
        unknown = () if self.config.copy_unknown else (tokenizer.unk_id,)
        task = Task(
            torch.tensor(max_lengths, device=self.device),
            [key_of(source) for source in sources],
            nbest,
            tokenizer.bos_id,
            tokenizer.eos_id,
            forbidden=(tokenizer.pad_id, tokenizer.bos_id, *unknown),
        )
        return self.method(step, state, task, execution)

    def _execution(self) -> Execution:
        if self.captured is None:
            return Execution()
        return Execution(
            every=4, run=self._replay, size=batch_size, least=SMALLEST, grow=lambda state, room: state.grown(room)
        )

    def _replay(self, advance: Advance, beam: Beam, state: Any) -> tuple[Beam, Any]:
        assert self.captured is not None
        self.pulse()
        return self.captured(advance, beam, state)

    def _step(self, tokens: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        self.pulse()
        assert self.searched is not None
        return self.searched.step(tokens, state)

    def _attending_step(self, tokens: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any, torch.Tensor]:
        self.pulse()
        assert self.searched is not None
        return self.searched.attending_step(tokens, state)

    def _autocast(self) -> AbstractContextManager[Any]:
        return (
            nullcontext()
            if self.precision is None
            else torch.autocast(self.device.type, self.precision, cache_enabled=False)
        )


def key_of(source: Sequence[int]) -> int:
    """A number from 0 to 2^63 - 1 that a source alone decides."""
    digest = hashlib.blake2b(np.asarray(source, "<i8").tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def cast_products(model: Seq2Seq[Any], dtype: torch.dtype) -> Seq2Seq[Any]:
    """A copy of ``model`` that shares all but the weights of its linear layers; those are of ``dtype``, not yet set."""
    shared = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    cast = copy.deepcopy(model, dict[int, Any](shared))
    for module in cast.modules():
        if isinstance(module, nn.Linear):
            for name, parameter in list(module.named_parameters(recurse=False)):
                empty = torch.empty_like(parameter, dtype=dtype)
                setattr(module, name, nn.Parameter(empty, requires_grad=False))
    return cast
