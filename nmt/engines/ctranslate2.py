"""CTranslate2 as an engine: the model written for it, searched by it, with the results of our own search."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmt.engines.batches import search_batches
from nmt.errors import DeviceError, ExportError
from nmt.search.scoring import Hypothesis, LengthPenalty

if TYPE_CHECKING:
    from nmt.config import SearchConfig
    from nmt.data.tokenizer import Tokenizer
    from nmt.translation import Engine


ALPHA = 1e-6  # exponent of CTranslate2's length penalty; at 0 its search would stop sooner
IMPOSSIBLE = -1e30  # CTranslate2 scores continuations that do not exist far below


def import_ctranslate2() -> Any:
    """The package, which is an optional one.

    Raises:
        ExportError: it is not installed.
    """
    try:
        import ctranslate2
    except ImportError as error:
        raise ExportError(f"CTranslate2 cannot be imported ({error}); pip install 'nmt[ctranslate2]'") from None
    return ctranslate2


class CTranslate2Engine:
    """Beam search in CTranslate2; an :class:`nmt.translation.Engine`.

    CTranslate2's search takes the same steps as :mod:`nmt.search.beam`. What it does otherwise at their end is made
    good here, so that the hypotheses are the same but for rounding:

    - It forbids tokens before the softmax, which changes the probabilities of all others. Here nothing is forbidden:
      pad, bos and unk end a hypothesis as eos does. Where none of them came among the W best continuations, which shows
      in what has finished, forbidding them would have changed nothing.
    - It compares hypotheses by log_prob / length ** alpha, not by our penalty. So it is asked for all W that a beam
      finishes, by log_prob alone (alpha as good as 0), and they are compared here.
    - When several finish in the last step T there can be more than W, and it drops the least probable. At most W - 1
      finished before T, so one of those it keeps, t, has the length T. A dropped one is no longer and no more probable,
      and its score is at most log_prob(t) / penalty(T): the best hypothesis is never dropped. An n-best list is
      complete where the n-th score is not below the least log_prob kept / penalty(T).
    - At the limit of length, one for all sentences of a call, it breaks off what ours closes with eos. A sentence that
      came to its own limit M is searched once more in a call with that limit, and what is broken off there is scored
      with eos. Only prefixes less probable than all that it tells of step M can be missing then, and none where it
      broke off W.

    A sentence of which we are not sure after that is searched by our own engine. With a trained model they are very
    few, except when the n-best list asked for is nearly as long as the beam is wide.

    Args:
        folder: the model, see :func:`nmt.engines.ctranslate2_model.write_model`.
        device: ``cpu`` or ``cuda``.
        threads: of the CPU.
        own: gives our own engine when it is needed first.

    Attributes:
        searched_again: how many sentences our own engine has searched.
    """

    def __init__(
        self,
        folder: Path,
        tokenizer: Tokenizer,
        search: SearchConfig,
        device: str,
        threads: int,
        own: Callable[[], Engine],
    ) -> None:
        ctranslate2 = import_ctranslate2()
        try:
            # Threads that each work on a batch of their own do not wait for one another in every product.
            workers = threads if device == "cpu" else 1
            self.translator = ctranslate2.Translator(str(folder), device=device, inter_threads=workers, intra_threads=1)
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ExportError(f"{folder}: cannot be loaded ({reason}); delete it to have it made anew") from None
        self.beam_size, self.batch_tokens = search.beam_size, search.batch_tokens
        self.penalty = LengthPenalty(search.length_penalty, search.alpha)
        self.pieces = tokenizer.src_pieces(range(tokenizer.src_vocab_size))
        self.ids = {piece: i for i, piece in enumerate(tokenizer.tgt_pieces(range(tokenizer.tgt_vocab_size)))}
        self.end_ids = [tokenizer.eos_id, tokenizer.pad_id, tokenizer.bos_id, tokenizer.unk_id]
        self.eos, *forbidden = tokenizer.tgt_pieces(self.end_ids)
        self.forbidden, self.special = frozenset(forbidden), frozenset([self.eos, *forbidden])
        self.own = own
        self.searched_again = 0

    def search(
        self, sources: Sequence[Sequence[int]], max_lengths: Sequence[int], nbest: int
    ) -> list[list[Hypothesis]]:
        """
        Raises:
            TrainingError: the model's output is not a number.
        """
        found: list[list[Hypothesis] | None] = [None] * len(sources)
        late: dict[int, list[int]] = {}  # by their limit, the sentences that came to it
        # All batches are asked for at once: no thread waits for the end of another's batch.
        batches = [
            (batch, self._ask([sources[i] for i in batch], max(max_lengths[i] for i in batch) + 1, self.beam_size))
            for batch in search_batches(sources, self.beam_size, self.batch_tokens)
        ]  # + 1: eos
        for batch, asked in batches:
            for i, answer in zip(batch, asked, strict=True):
                result = answer.result()
                last = max(map(len, result.hypotheses))  # T; eos is a piece of each hypothesis
                if last > max_lengths[i]:
                    late.setdefault(max_lengths[i], []).append(i)
                elif (ended := self._read(result)) is not None:
                    bound = min(log_prob for log_prob, _ in ended) / self.penalty(last)
                    found[i] = self._best(ended, bound, nbest)
        for limit, rows in late.items():
            for batch in search_batches([sources[i] for i in rows], self.beam_size, self.batch_tokens):
                chosen = [rows[place] for place in batch]
                for i, hypotheses in zip(chosen, self._close([sources[i] for i in chosen], limit, nbest), strict=True):
                    found[i] = hypotheses
        if rows := [i for i, hypotheses in enumerate(found) if hypotheses is None]:
            self.searched_again += len(rows)
            anew = self.own().search([sources[i] for i in rows], [max_lengths[i] for i in rows], nbest)
            for i, hypotheses in zip(rows, anew, strict=True):
                found[i] = hypotheses
        return [hypotheses or [] for hypotheses in found]

    def _close(self, sources: Sequence[Sequence[int]], limit: int, nbest: int) -> list[list[Hypothesis] | None]:
        """As :meth:`search`, for a batch for which fewer than W hypotheses finish within ``limit`` pieces."""
        if not limit:
            return [None] * len(sources)
        found: list[list[Hypothesis] | None] = []
        # W - 1 have finished before, W end or are broken off in the last step: all are asked for.
        for source, answer in zip(sources, self._ask(sources, limit, 2 * self.beam_size - 1), strict=True):
            if (everything := self._read(answer.result())) is None:
                found.append(None)
                continue
            prefixes = [pieces for _, pieces in everything if pieces[-1] != self.eos]
            scored = self.translator.score_batch([self._pieces(source)] * len(prefixes), prefixes, max_input_length=0)
            closed = [(sum(s.log_probs), [*pieces, self.eos]) for s, pieces in zip(scored, prefixes, strict=True)]
            bound = min(log_prob for log_prob, pieces in everything if len(pieces) == limit) / self.penalty(limit + 1)
            ended = [(log_prob, pieces) for log_prob, pieces in everything if pieces[-1] == self.eos]
            found.append(self._best(ended + closed, -math.inf if len(prefixes) == self.beam_size else bound, nbest))
        return found

    def _ask(self, sources: Sequence[Sequence[int]], limit: int, count: int) -> list[Any]:
        """CTranslate2's results to come, with at most ``count`` hypotheses of a sentence, eos included in each."""
        results: list[Any] = self.translator.translate_batch(
            [self._pieces(source) for source in sources],
            beam_size=self.beam_size,
            num_hypotheses=count,
            patience=count / self.beam_size,
            length_penalty=ALPHA,
            end_token=self.end_ids,
            return_end_token=True,
            return_scores=True,
            min_decoding_length=0,
            max_decoding_length=limit,
            max_input_length=0,
            asynchronous=True,
        )
        return results

    def _pieces(self, source: Sequence[int]) -> list[str]:
        return [self.pieces[i] for i in source]

    def _read(self, result: Any) -> list[tuple[float, list[str]]] | None:
        """Log-probabilities and pieces of all hypotheses; None where one of them would not have come of our search."""
        found = []
        for pieces, score in zip(result.hypotheses, result.scores, strict=True):
            if pieces[-1] in self.forbidden or not self.special.isdisjoint(pieces[:-1]) or not score > IMPOSSIBLE:
                return None
            found.append((score * len(pieces) ** ALPHA, pieces))
        return found

    def _best(self, ended: list[tuple[float, list[str]]], bound: float, nbest: int) -> list[Hypothesis] | None:
        """The best of the hypotheses; None where one that is missing, with a score up to ``bound``, could be better."""
        compared = [(log_prob / self.penalty(len(pieces)), log_prob, pieces) for log_prob, pieces in ended]
        best = sorted(compared, key=lambda hypothesis: -hypothesis[0])[:nbest]
        if len(best) < nbest or best[-1][0] < bound:
            return None
        ids = self.ids
        return [Hypothesis([ids[piece] for piece in pieces[:-1]], log_prob, score) for score, log_prob, pieces in best]


def resolve_device(name: str) -> str:
    """``auto`` is cuda where CTranslate2 finds one, else cpu.

    Raises:
        DeviceError: CTranslate2 cannot use the device asked for.
    """
    there = ["cuda", "cpu"] if import_ctranslate2().get_cuda_device_count() else ["cpu"]
    if name == "auto":
        return there[0]
    if name not in there:
        raise DeviceError(f"CTranslate2 cannot run on {name} here; use --device {' or '.join(['auto', *there])}")
    return name


def default_threads() -> int:
    """As PyTorch has it: ``OMP_NUM_THREADS``, else one for each core that the process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if wanted.isdigit() and int(wanted):
        return int(wanted)
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    try:  # two hardware threads of one core count once
        siblings = Path("/sys/devices/system/cpu")
        return len({(siblings / f"cpu{n}/topology/thread_siblings_list").read_text() for n in usable})
    except OSError:
        return len(usable)
