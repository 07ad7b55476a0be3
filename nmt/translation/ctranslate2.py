"""CTranslate2 as an engine: the model written for it, searched by it, with the results of our own search."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmt.advice import install
from nmt.config.limits import resolve_search
from nmt.errors import DeviceError, ExportError
from nmt.runtime.threads import default_threads
from nmt.search.scoring import Hypothesis, LengthPenalty
from nmt.translation.batches import search_batches

if TYPE_CHECKING:
    from nmt.config.search import SearchConfig
    from nmt.data.tokenizer import Tokenizer
    from nmt.translation.translator import Engine


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
        raise ExportError(f"CTranslate2 cannot be imported ({error}); install it: {install('ctranslate2')}") from None
    return ctranslate2


class CTranslate2Engine:
    """Beam search in CTranslate2; an :class:`nmt.translation.translator.Engine`.

    CTranslate2's search takes the same steps as :mod:`nmt.search.beam`. What it does otherwise at their end is made
    good here, so that the hypotheses are the same but for rounding:

    - It compares hypotheses by log_prob / length ** alpha, not by our penalty. So it is asked for all W that a beam
      finishes, by log_prob alone (alpha as good as 0), and they are compared here.
    - When several finish in the last step T there can be more than W, and it drops the least probable. At most W - 1
      finished before T, so one of those it keeps, t, has the length T. A dropped one is no longer and no more probable,
      and its score is at most log_prob(t) / penalty(T): the best hypothesis is never dropped. An n-best list is
      complete where the n-th score is not below the least log_prob kept / penalty(T).
    - It forbids tokens before the softmax, which changes the probabilities of all others. Here nothing is forbidden:
      pad, bos and unk end a hypothesis as eos does, and are sorted out (:meth:`_without_forbidden`). Where more than W
      of the 2W best candidates end in one way or another, it continues an ended one; such a hypothesis has an end
      within it. Known gap: if it never ends, CTranslate2 may have pruned a legal hypothesis, and we cannot detect it.
      This needs a forbidden token and W finished prefixes among the best 2W.
    - At the length limit, one for all sentences of a call, it breaks off what our search closes with eos
      (:meth:`_closed`).

    A prefix is its ``target_prefix``. Its scores leave the prefix out, which is added here. Where forbidden tokens or
    the length limit matter beside a prefix, our own engine searches.

    A sentence of which we are not sure after that is searched by our own engine. With a trained model there is hardly
    one, except when the n-best list asked for is nearly as long as the beam is wide.

    Args:
        folder: the model, see :func:`nmt.translation.ctranslate2_model.write_model`.
        device: ``cpu`` or ``cuda``.
        threads: of the CPU; None for :func:`nmt.runtime.threads.default_threads`.
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
        threads: int | None,
        own: Callable[[], Engine],
    ) -> None:
        ctranslate2 = import_ctranslate2()
        try:
            # One batch per thread: threads that share a batch wait for one another in every product.
            workers = (threads or default_threads()) if device == "cpu" else 1
            self.translator = ctranslate2.Translator(str(folder), device=device, inter_threads=workers, intra_threads=1)
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ExportError(f"{folder}: cannot be loaded ({reason}); delete it, and it will be made again") from None
        self.beam_size, self.batch_tokens = search.beam_size, resolve_search(search).batch_tokens
        self.penalty = LengthPenalty(search.length_penalty, search.alpha_or_default)
        self.pieces = tokenizer.src_pieces(range(tokenizer.src_vocab_size))
        self.names = tokenizer.tgt_pieces(range(tokenizer.tgt_vocab_size))
        self.ids = {piece: i for i, piece in enumerate(self.names)}
        self.end_ids = [tokenizer.eos_id, tokenizer.pad_id, tokenizer.bos_id, tokenizer.unk_id]
        self.eos, *forbidden = tokenizer.tgt_pieces(self.end_ids)
        self.forbidden, self.special = frozenset(forbidden), frozenset([self.eos, *forbidden])
        self.own, self.device = own, device
        self.searched_again = 0
        self.progress: Callable[[int], object] = lambda count: None

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
        given = prefixes if any(prefixes) else [()] * len(sources)
        starts = self._log_probs(sources, given)
        found: dict[int, list[Hypothesis] | None] = {}  # by the number of the sentence; None where we are not sure
        late: dict[int, list[int]] = {}  # by their limit, the sentences that came to it
        forbidden: dict[int, int] = {}  # of sentences where such finished, how many
        limits = [limit + 1 for limit in max_lengths]  # eos counted
        for i, answer in self._ask(
            sources, range(len(sources)), limits, self.beam_size, prefixes=given if any(given) else None
        ):
            finished = self._read(answer.result(), starts[i])
            self.progress(1)
            if given[i] and (finished.last > max_lengths[i] or finished.forbidden):
                found[i] = None
            elif finished.last > max_lengths[i]:
                late.setdefault(max_lengths[i], []).append(i)
            elif not finished.sound or finished.forbidden_later:
                found[i] = None
            elif finished.forbidden:
                forbidden[i] = len(finished.forbidden)
            else:
                found[i] = self._best(finished.ended, self._bound(finished), nbest)
        found |= self._without_forbidden(sources, forbidden, limits, nbest)
        found |= self._closed(sources, late, nbest)
        if rows := [i for i in range(len(sources)) if found[i] is None]:
            self.searched_again += len(rows)
            own, again_lengths = self.own(), [max_lengths[i] for i in rows]
            again = own.search([sources[i] for i in rows], again_lengths, nbest, [given[i] for i in rows])
            found |= zip(rows, again, strict=True)
        return [found[i] or [] for i in range(len(sources))]

    def _without_forbidden(
        self,
        sources: Sequence[Sequence[int]],
        forbidden: Mapping[int, int],
        limits: Sequence[int],
        nbest: int,
    ) -> dict[int, list[Hypothesis] | None]:
        """The best hypotheses where forbidden tokens came among the W best candidates of the first step.

        Usually it is bos: a tied output layer tends to repeat its input. Each of the f forbidden tokens displaced one
        legal candidate of the first step, possibly eos (the empty translation). Fetch those candidates in a separate
        call. Then search the sentence again, for as many hypotheses as our search needs, forbidden ones included.

        Args:
            forbidden: of each of these sentences, how many came.
        """
        found: dict[int, list[Hypothesis] | None] = dict.fromkeys(forbidden)
        if self.beam_size == 1:  # nothing but the forbidden token has finished, or ever will
            return found
        width = 2 * self.beam_size + len(self.forbidden)
        again: dict[int, list[int]] = {}  # by the number of hypotheses to ask for
        missing: dict[int, list[tuple[float, list[str]]]] = {}
        for i, answer in self._ask(sources, list(forbidden), dict.fromkeys(forbidden, 1), width, width):
            first = self._read(answer.result())
            candidates = sorted(first.ended + first.forbidden + first.broken_off, reverse=True)
            seen = candidates[: self.beam_size]
            ours = [each for each in candidates if each not in first.forbidden][: self.beam_size]
            # CTranslate2 continues W prefixes among the best 2W, or ended hypotheses if fewer are left.
            enough = sum(each in first.broken_off for each in candidates[: 2 * self.beam_size]) >= self.beam_size
            if enough and sum(each in first.forbidden for each in seen) == forbidden[i]:
                missing[i] = [each for each in first.ended if each in ours and each not in seen]
                again.setdefault(self.beam_size + forbidden[i] - len(missing[i]), []).append(i)
        for count, rows in again.items():
            for i, answer in self._ask(sources, rows, limits, count):
                finished = self._read(answer.result())
                same = len(finished.forbidden) == forbidden[i] and not finished.forbidden_later
                if same and finished.sound and finished.last < limits[i]:
                    found[i] = self._best(finished.ended + missing[i], self._bound(finished), nbest)
        return found

    def _closed(
        self, sources: Sequence[Sequence[int]], late: Mapping[int, list[int]], nbest: int
    ) -> dict[int, list[Hypothesis] | None]:
        """The best hypotheses where fewer than W finish within the limit of the sentence.

        It is searched once more with that limit, and what is broken off there is scored with eos. Only prefixes less
        probable than all that it tells of the last step can be missing then, and none where it broke off W.
        """
        found: dict[int, list[Hypothesis] | None] = {}
        asked: list[tuple[int, int, Any]] = []
        for limit, rows in late.items():
            if limit:  # W - 1 have finished before, W end or are broken off in the last step: all are asked for
                answers = self._ask(sources, rows, dict.fromkeys(rows, limit), 2 * self.beam_size - 1)
                asked += ((limit, i, answer) for i, answer in answers)
            else:
                found |= dict.fromkeys(rows)
        closing: list[tuple[int, int, _Finished, list[Any]]] = []
        for limit, i, answer in asked:
            finished = self._read(answer.result())
            if not finished.sound or finished.forbidden:
                found[i] = None
            elif finished.last < limit:  # quantized products of another batch can end earlier
                found[i] = self._best(finished.ended, self._bound(finished), nbest)
            else:
                prefixes = [pieces for _, pieces in finished.broken_off]
                given = [self._pieces(sources[i])] * len(prefixes)
                scores = self.translator.score_batch(given, prefixes, max_input_length=0, asynchronous=True)
                closing.append((limit, i, finished, scores))
        for limit, i, finished, scores in closing:
            closed = [
                (sum(score.result().log_probs), [*pieces, self.eos])
                for score, (_, pieces) in zip(scores, finished.broken_off, strict=True)
            ]
            complete = len(closed) == self.beam_size
            told = [log_prob for log_prob, pieces in finished.ended + finished.broken_off if len(pieces) == limit]
            bound = -math.inf if complete else min(told) / self.penalty(limit + 1)
            numbers = all(log_prob > IMPOSSIBLE for log_prob, _ in closed)
            found[i] = self._best(finished.ended + closed, bound, nbest) if numbers else None
        return found

    def _ask(
        self,
        sources: Sequence[Sequence[int]],
        rows: Sequence[int],
        limits: Sequence[int] | Mapping[int, int],
        count: int,
        beam_size: int | None = None,
        prefixes: Sequence[Sequence[int]] | None = None,
    ) -> list[tuple[int, Any]]:
        """Ask for ``count`` hypotheses of each of the sentences ``rows``: their numbers, and CTranslate2's promises.

        All batches are asked for at once: no thread waits for the end of another's batch.

        Args:
            limits: of the pieces of a sentence's hypotheses, eos included; a batch has the highest of its sentences.
        """
        width = beam_size or self.beam_size
        asked: list[tuple[int, Any]] = []
        for batch in search_batches([sources[i] for i in rows], width, self.batch_tokens):
            chosen = [rows[place] for place in batch]
            answers = self.translator.translate_batch(
                [self._pieces(sources[i]) for i in chosen],
                [self._tgt_pieces(prefixes[i]) for i in chosen] if prefixes is not None else None,
                beam_size=width,
                num_hypotheses=count,
                patience=count / width,
                length_penalty=ALPHA,
                end_token=self.end_ids,
                return_end_token=True,
                return_scores=True,
                min_decoding_length=0,
                max_decoding_length=max(limits[i] for i in chosen),
                max_input_length=0,
                asynchronous=True,
            )
            asked += zip(chosen, answers, strict=True)
        return asked

    def _pieces(self, source: Sequence[int]) -> list[str]:
        return [self.pieces[i] for i in source]

    def _tgt_pieces(self, ids: Sequence[int]) -> list[str]:
        return [self.names[i] for i in ids]

    def _log_probs(self, sources: Sequence[Sequence[int]], prefixes: Sequence[Sequence[int]]) -> list[float]:
        """Log-probabilities of prefixes: CTranslate2 leaves them out of scores."""
        found = [0.0] * len(prefixes)
        rows = [i for i, prefix in enumerate(prefixes) if prefix]
        given = [self._pieces(sources[i]) for i in rows], [self._tgt_pieces(prefixes[i]) for i in rows]
        batches = {"max_batch_size": self.batch_tokens, "batch_type": "tokens", "asynchronous": True}
        scores = self.translator.score_batch(*given, max_input_length=0, **batches) if rows else []
        for i, score in zip(rows, scores, strict=True):
            found[i] = sum(score.result().log_probs[: len(prefixes[i])])
        return found

    def _read(self, result: Any, start: float = 0.0) -> _Finished:
        """What CTranslate2 tells; ``start`` is the log-probability of the prefix."""
        ended: list[tuple[float, list[str]]] = []
        forbidden, broken_off, sound = ended.copy(), ended.copy(), True
        for pieces, score in zip(result.hypotheses, result.scores, strict=True):
            last = pieces[-1]
            kind = ended if last == self.eos else forbidden if last in self.forbidden else broken_off
            kind.append((start + score * len(pieces) ** ALPHA, pieces))
            sound = sound and score > IMPOSSIBLE and self.special.isdisjoint(pieces[:-1])
        return _Finished(ended, forbidden, broken_off, sound)

    def _bound(self, finished: _Finished) -> float:
        """The highest score of a hypothesis that CTranslate2 dropped in the last step."""
        everything = finished.ended + finished.forbidden
        return min(log_prob for log_prob, _ in everything) / self.penalty(finished.last)

    def _best(self, ended: list[tuple[float, list[str]]], bound: float, nbest: int) -> list[Hypothesis] | None:
        """The best of the hypotheses; None where one that is missing, with a score up to ``bound``, could be better."""
        compared = [(log_prob / self.penalty(len(pieces)), log_prob, pieces) for log_prob, pieces in ended]
        best = sorted(compared, key=lambda hypothesis: -hypothesis[0])[:nbest]
        if len(best) < nbest or best[-1][0] < bound:
            return None
        ids = self.ids
        return [Hypothesis([ids[piece] for piece in pieces[:-1]], log_prob, score) for score, log_prob, pieces in best]


@dataclass(frozen=True)
class _Finished:
    """What CTranslate2 tells of a sentence: log-probabilities, and pieces with the last one included.

    Attributes:
        ended: with eos.
        forbidden: with a token that our search never produces.
        broken_off: at the length limit.
        sound: whether all of them could have come of our search, but for their last token.
    """

    ended: list[tuple[float, list[str]]]
    forbidden: list[tuple[float, list[str]]]
    broken_off: list[tuple[float, list[str]]]
    sound: bool

    @property
    def forbidden_later(self) -> bool:
        """Whether a forbidden token ended one after the first step."""
        return any(len(pieces) > 1 for _, pieces in self.forbidden)

    @property
    def last(self) -> int:
        """The step in which the last of them finished."""
        return max(len(pieces) for _, pieces in self.ended + self.forbidden + self.broken_off)


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
