"""Log-probabilities of given translations, by teacher forcing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nmt.errors import DataError

if TYPE_CHECKING:
    from nmt.translation.pytorch import TorchEngine
    from nmt.translation.translator import Translator

LOGITS = 1 << 26  # the most that are computed at a time


@dataclass(frozen=True)
class Score:
    """Of one translation; logarithms are natural.

    Attributes:
        log_prob: log p(target, end | source): the sum of ``token_log_probs``.
        tokens: subwords of the target, and ``</s>``.
        token_log_probs: log-probability of each of ``tokens``, given the source and the tokens before it.
    """

    log_prob: float
    tokens: list[str]
    token_log_probs: list[float]

    @property
    def mean(self) -> float:
        """Log-probability per token; exp(-mean) is the perplexity."""
        return self.log_prob / len(self.tokens)


class Scorer:
    """Scores translations with the model of a translator, in fp32, so that a score does not depend on its batch.

    Args:
        translator: of the PyTorch engine.
    """

    def __init__(self, translator: Translator[TorchEngine]):
        self.translator, self.tokenizer = translator, translator.tokenizer
        self.model, self.device = translator.engine.model, translator.engine.device

    def __call__(
        self,
        sources: Sequence[str],
        targets: Sequence[str],
        first_line: int = 1,
        done: Callable[[int], object] = lambda count: None,
    ) -> list[Score]:
        """The score of each pair.

        A blank source has the log-probability of its target given nothing but the end of the sentence. An unknown
        character counts as the unknown word.

        Args:
            first_line: number of the first pair in errors.
            done: called with the number of pairs whenever some have been scored.

        Raises:
            DataError: a side is longer than the model can read, or there are not as many sources as targets.
        """
        # Encode
        if len(sources) != len(targets):
            raise DataError(f"{len(sources):,} sources but {len(targets):,} targets; each needs one of the other")
        src, tgt = self.tokenizer.encode_src(sources), self.tokenizer.encode_tgt(targets)
        self._check(src, tgt, first_line)
        src = [[*self.translator.tag_ids(line), *ids] for line, ids in zip(sources, src, strict=True)]
        # Score
        found: list[list[float]] = [[] for _ in sources]
        training = self.model.training
        self.model.eval()
        try:
            with torch.inference_mode():
                for rows in self.batches(src, tgt):
                    for row, scores in zip(
                        rows, self._score([src[i] for i in rows], [tgt[i] for i in rows]), strict=True
                    ):
                        found[row] = scores
                    done(len(rows))
        finally:
            self.model.train(training)
        pieces = ([*self.tokenizer.tgt_pieces(ids), "</s>"] for ids in tgt)
        return [Score(sum(scores), names, scores) for scores, names in zip(found, pieces, strict=True)]

    def _check(self, src: Sequence[Sequence[int]], tgt: Sequence[Sequence[int]], first_line: int) -> None:
        """
        Raises:
            DataError: a side is longer than the model can read.
        """
        longest = {"source": self.translator.search.max_source_tokens}
        if self.translator.max_target_tokens is not None:
            longest["target"] = self.translator.max_target_tokens - 1
        for side, rows in (("source", src), ("target", tgt)):
            for number, ids in enumerate(rows, first_line):
                if side in longest and len(ids) > longest[side]:
                    raise DataError(
                        f"line {number}: the {side} has {len(ids)} subwords, more than the {longest[side]} that are "
                        "read; shorten it, or split it"
                    )

    def batches(self, src: Sequence[Sequence[int]], tgt: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Places of pairs in batches of like lengths, within the budget of a search and of the logits."""
        order = sorted(range(len(src)), key=lambda i: (-max(len(src[i]), len(tgt[i])), -len(tgt[i])))
        budget = min(self.translator.search.batch_tokens, max(1, LOGITS // self.model.output.out_features))
        start = 0
        while start < len(order):
            longest = max(len(src[order[start]]), len(tgt[order[start]])) + 1
            count = max(1, budget // longest)
            yield order[start : start + count]
            start += count

    def _score(self, src: Sequence[Sequence[int]], tgt: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probabilities of the tokens of a batch, the end included."""
        outputs = self._padded([[*row, self.tokenizer.eos_id] for row in tgt])  # [B, T]
        chosen = self.log_probs(src, tgt).gather(-1, outputs.unsqueeze(-1)).squeeze(-1).tolist()
        return [row[: len(ids) + 1] for row, ids in zip(chosen, tgt, strict=True)]

    def log_probs(self, src: Sequence[Sequence[int]], tgt: Sequence[Sequence[int]]) -> Tensor:
        """Log-probabilities [B, T, V] of all tokens at each position of targets, the end included."""
        ids = self._padded([[*row, self.tokenizer.eos_id] for row in src])  # [B, S]
        inputs = self._padded([[self.tokenizer.bos_id, *row] for row in tgt])  # [B, T]
        lengths = torch.tensor([len(row) + 1 for row in src], device=self.device)
        mask = torch.arange(ids.size(1), device=self.device) < lengths.unsqueeze(1)
        hidden = self.model.decode(self.model.encode(ids, mask), inputs)  # [B, T, D]
        return self.model.project(hidden).float().log_softmax(-1)

    def _padded(self, rows: Sequence[Sequence[int]]) -> Tensor:
        tensors = [torch.tensor(row) for row in rows]
        return nn.utils.rnn.pad_sequence(tensors, True, self.tokenizer.pad_id).to(self.device)
