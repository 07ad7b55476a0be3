"""The model itself, searched in PyTorch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from nmt.config.limits import resolve_search
from nmt.search.beam import beam_search
from nmt.search.scoring import Hypothesis, LengthPenalty
from nmt.translation.batches import search_batches

if TYPE_CHECKING:
    from nmt.config.search import SearchConfig
    from nmt.data.tokenizer import Tokenizer
    from nmt.models.seq2seq import Seq2Seq


class TorchEngine:
    """Beam search over the steps of a model; an :class:`nmt.translation.translator.Engine` for every family.

    Args:
        model: on ``device``; in evaluation mode while it is searched, and back in its own mode afterwards.
        precision: autocast type, or None for the model's own.
        pulse: called before each step of a search; it may end the search by an exception.
    """

    def __init__(
        self,
        model: Seq2Seq[Any],
        tokenizer: Tokenizer,
        search: SearchConfig,
        device: torch.device,
        precision: torch.dtype | None = None,
        pulse: Callable[[], None] = lambda: None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.config = resolve_search(search)
        self.device = device
        self.precision, self.pulse = precision, pulse
        self.penalty = LengthPenalty(search.length_penalty, search.alpha)
        self.progress: Callable[[int], object] = lambda count: None

    def search(
        self, sources: Sequence[Sequence[int]], max_lengths: Sequence[int], nbest: int
    ) -> list[list[Hypothesis]]:
        """
        Raises:
            TrainingError: the model's output is not a number.
        """
        training = self.model.training
        self.model.eval()
        try:
            found: list[list[Hypothesis]] = [[] for _ in sources]
            with torch.inference_mode(), self._autocast():
                waiting = deque(search_batches(sources, self.config.beam_size, self.config.batch_tokens))
                while waiting:
                    batch = waiting.popleft()
                    try:
                        searched = self._search([sources[i] for i in batch], [max_lengths[i] for i in batch], nbest)
                    except torch.OutOfMemoryError:
                        if len(batch) == 1:
                            raise
                        waiting.extendleft([batch[len(batch) // 2 :], batch[: len(batch) // 2]])
                        continue
                    for i, hypotheses in zip(batch, searched, strict=True):
                        found[i] = hypotheses
                    self.progress(len(batch))
            return found
        finally:
            self.model.train(training)

    def _search(
        self, sources: Sequence[Sequence[int]], max_lengths: Sequence[int], nbest: int
    ) -> list[list[Hypothesis]]:
        """One batch."""
        tokenizer, beam_size = self.tokenizer, self.config.beam_size
        lengths = torch.tensor([len(source) for source in sources])
        src = torch.full((len(sources), int(lengths.max()) + 1), tokenizer.pad_id)  # [B, S]
        for row, source in zip(src, sources, strict=True):
            row[: len(source) + 1] = torch.tensor([*source, tokenizer.eos_id])
        src_mask = torch.arange(src.size(1)) <= lengths.unsqueeze(1)  # [B, S]
        memory = self.model.encode(src.to(self.device), src_mask.to(self.device))
        return beam_search(
            self._step,
            self.model.init_state(memory, beam_size),
            torch.tensor(max_lengths, device=self.device),
            beam_size=beam_size,
            bos_id=tokenizer.bos_id,
            eos_id=tokenizer.eos_id,
            penalty=self.penalty,
            nbest=nbest,
            forbidden=(tokenizer.pad_id, tokenizer.bos_id, tokenizer.unk_id),
        )

    def _step(self, tokens: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        self.pulse()
        return self.model.step(tokens, state)

    def _autocast(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.precision is None else torch.autocast(self.device.type, self.precision)
