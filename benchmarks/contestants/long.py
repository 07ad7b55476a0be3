"""One pass, forward and backward, of nmt's Transformer over a pair of long sentences."""

from __future__ import annotations

import time
from typing import Any

import torch
import worker

from nmt import __version__
from nmt.config.model import TransformerConfig
from nmt.models import scaled_dot
from nmt.models.build import build_model
from nmt.training.loss import projected_cross_entropy


class LongSentences:
    def start(self, threads: int, form: str, length: int, window: int, vocab_size: int, model: dict[str, Any]) -> Any:
        """Build the model and a pair of sentences of ``length`` tokens; return the loss and the memory so far.

        Args:
            form: ``plain`` (all weights of attention in memory), ``fused`` (PyTorch's kernel) or ``windowed``.
        """
        worker.set_up_process(threads, "tuned")
        if form == "plain":
            scaled_dot.SHORT = length
        start_bytes = worker.peak_memory()
        torch.manual_seed(1)
        config = TransformerConfig(**model, attention_window=window if form == "windowed" else None)
        self.model = build_model(config, vocab_size, vocab_size, pad_id=0).train()
        generator = torch.Generator().manual_seed(1)
        self.src, self.tgt_in, self.targets = torch.randint(4, vocab_size, (3, 1, length), generator=generator)
        self.mask = torch.ones_like(self.src, dtype=torch.bool)
        versions = {"nmt": __version__, "torch": torch.__version__}
        return {"start_bytes": start_bytes, "loss": self._pass(), "versions": versions}

    def run(self) -> dict[str, Any]:
        """Make a pass; return its seconds."""
        started = time.perf_counter()
        self._pass()
        return {"seconds": time.perf_counter() - started}

    def memory(self) -> dict[str, Any]:
        return {"peak_bytes": worker.peak_memory()}

    def _pass(self) -> float:
        """The loss in nats per token."""
        self.model.zero_grad()
        hidden = self.model(self.src, self.mask, self.tgt_in)
        loss = projected_cross_entropy(hidden.flatten(0, 1), self.model.output, self.targets.flatten(), 0.1)
        (loss.smoothed / self.targets.numel()).backward()
        return float(loss.nll) / self.targets.numel()


if __name__ == "__main__":
    worker.serve(LongSentences())
