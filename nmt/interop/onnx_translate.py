"""Translate with the ONNX model in this folder: greedy and beam search.

Needs onnxruntime, NumPy and SentencePiece. From a shell or from Python:

    python translate.py < input.txt > output.txt
    Translator("FOLDER").translate(["..."], beam_size=1)

``model.json`` names the tensors. The search is that of nmt: a beam of width W keeps the W best unfinished hypotheses.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime
import sentencepiece

Array = npt.NDArray[Any]
BATCH = 32  # sentences that are searched together
CHUNK = 2000  # lines that are read before they are sorted by length
TO_SPACE = str.maketrans("\n\r▁", "   ")


class Translation(NamedTuple):
    """
    Attributes:
        score: log-probability divided by the length penalty.
    """

    text: str
    score: float


class Translator:
    """A model in a folder.

    Args:
        threads: of onnxruntime; 0: as many as there are cores.
    """

    def __init__(self, folder: str | Path, threads: int = 0) -> None:
        folder = Path(folder)
        self.about: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.encoder, self.decoder = (
            onnxruntime.InferenceSession(str(folder / name), options, providers=["CPUExecutionProvider"])
            for name in ("encoder.onnx", "decoder.onnx")
        )
        self.source, self.target = (
            sentencepiece.SentencePieceProcessor(model_file=str(folder / self.about["tokenizer"][side]))
            for side in ("source", "target")
        )
        self.given = [each.name for each in self.encoder.get_outputs()]
        self.read = {each.name for each in self.decoder.get_inputs()}
        self.written = [each.name for each in self.decoder.get_outputs()]

    def translate(
        self, lines: Sequence[str], beam_size: int | None = None, tags: Sequence[str] = ()
    ) -> list[Translation]:
        """Translate each line.

        Args:
            beam_size: 1 is greedy search; None: that of ``model.json``.
            tags: symbols of the vocabulary before each source.
        """
        ids = [self.encode(line, tags) for line in lines]
        found = [Translation("", 0.0)] * len(lines)
        rows = sorted((i for i, row in enumerate(ids) if row), key=lambda i: len(ids[i]))
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            searched = self.search([ids[i] for i in batch], beam_size or self.about["search"]["beam_size"])
            for i, (tokens, score) in zip(batch, searched, strict=True):
                found[i] = Translation(self.decode(tokens), score)
        return found

    def encode(self, line: str, tags: Sequence[str] = ()) -> list[int]:
        """Ids of a source without eos; none for a blank line."""
        limit, ids = self.about["search"]["max_source_tokens"], self.about["ids"]
        text = line.strip("\r\n")[: self.about["characters_per_token"] * limit]
        if not text.strip():
            return []
        size = self.about["tokenizer"]["source_size"]
        row = [i if i < size else ids["unk"] for i in self.source.encode(text)[:limit]]
        return [self.about["tags"][tag] for tag in tags] + row if row else []

    def decode(self, tokens: Sequence[int]) -> str:
        text: str = self.target.decode(list(tokens))
        return text.translate(TO_SPACE).strip(" ")

    def penalty(self, length: int) -> float:
        """The divisor of the log-probability of a hypothesis, its eos counted."""
        kind, alpha = self.about["search"]["length_penalty"], self.about["search"]["alpha"]
        if kind == "none":
            return 1.0
        return float(length**alpha if kind == "average" else ((5 + length) / 6) ** alpha)

    def longest(self, source: int) -> int:
        """The most subwords of a translation of a source of so many."""
        search = self.about["search"]
        limit = int(search["max_length_ratio"] * source + search["max_length_offset"])
        return limit if self.about["max_target_tokens"] is None else min(limit, self.about["max_target_tokens"] - 1)

    def search(self, sources: Sequence[Sequence[int]], width: int) -> list[tuple[list[int], float]]:
        """The best hypothesis of each source, without eos, and its score."""
        ids, limits = self.about["ids"], np.array([self.longest(len(source)) for source in sources])
        state = {name: np.repeat(tensor, width, axis=0) for name, tensor in self.start(sources).items()}
        best: list[tuple[list[int], float]] = [([], -np.inf)] * len(sources)
        finished, left = [0] * len(sources), np.arange(len(sources))  # which sentences are still searched
        live = np.full((len(sources), width), -np.inf, np.float32)
        live[:, 0] = 0.0
        tokens, prefixes = np.full(live.size, ids["bos"], np.int64), np.zeros((live.size, 0), np.int64)
        for length in count(1):
            log_probs = self.step(tokens, state).reshape(len(left), width, -1)
            values, parent, word = _successors(live, log_probs, limits[left] < length, ids)
            # The hypotheses that end
            for row, column in zip(
                *np.nonzero((word == ids["eos"])[:, :width] & (values[:, :width] > -np.inf)), strict=True
            ):
                sentence, score = left[row], float(values[row, column]) / self.penalty(length)
                finished[sentence] += 1
                if score > best[sentence][1]:
                    best[sentence] = prefixes[row * width + parent[row, column]].tolist(), score
            # The first W of the others live on
            order = np.argsort(word == ids["eos"], axis=1, kind="stable")[:, :width]
            live = np.take_along_axis(np.where(word == ids["eos"], -np.inf, values), order, axis=1)
            rows = np.take_along_axis(parent, order, axis=1) + np.arange(len(left))[:, None] * width
            tokens = np.take_along_axis(word, order, axis=1)
            # No live hypothesis can become better than this
            bounds = np.array([live[row, 0] / self.penalty(limits[i] + 1) for row, i in enumerate(left)])
            over = [
                length > limits[i] or finished[i] >= width or best[i][1] >= bound
                for i, bound in zip(left, bounds, strict=True)
            ]
            stay = np.flatnonzero(~np.array(over))
            if not len(stay):
                return best
            left, live, chosen = left[stay], live[stay], rows[stay].ravel()
            tokens = tokens[stay].ravel()
            prefixes = np.concatenate([prefixes[chosen], tokens[:, None]], axis=1)
            state = {name: tensor[chosen] for name, tensor in state.items()}
        raise AssertionError

    def start(self, sources: Sequence[Sequence[int]]) -> dict[str, Array]:
        """What the decoder reads of sources, and its first state; the sentences are the rows."""
        ids, length = self.about["ids"], max(map(len, sources)) + 1
        src = np.full((len(sources), length), ids["pad"], np.int64)
        for row, source in zip(src, sources, strict=True):
            row[: len(source) + 1] = [*source, ids["eos"]]
        mask = np.arange(length) <= np.array([[len(source)] for source in sources])
        outputs = self.encoder.run(None, {"src": src, "src_mask": mask})
        return {"src_mask": mask, **dict(zip(self.given, outputs, strict=True))}

    def step(self, tokens: Array, state: dict[str, Array]) -> Array:
        """Log-probabilities [N, V] after one more token; ``state`` becomes the next."""
        feed = {"tokens": tokens, **{name: tensor for name, tensor in state.items() if name in self.read}}
        log_probs, *after = self.decoder.run(None, feed)
        state.update(zip([name.removeprefix("next_") for name in self.written[1:]], after, strict=True))
        return np.asarray(log_probs)


def _successors(live: Array, log_probs: Array, closing: Array, ids: dict[str, int]) -> tuple[Array, Array, Array]:
    """The 2W best continuations of the W hypotheses of each sentence, best first.

    Args:
        live: [B, W], log-probabilities of the hypotheses.
        log_probs: [B, W, V], of the tokens after them.
        closing: [B], True where only eos may follow.

    Returns:
        Log-probabilities, hypothesis and token, each [B, 2W].
    """
    log_probs[:, :, [ids["pad"], ids["unk"], ids["bos"]]] = -np.inf
    eos = log_probs[closing][:, :, ids["eos"]]
    log_probs[closing] = -np.inf
    log_probs[closing, :, ids["eos"]] = eos
    sums = (live[:, :, None] + log_probs).reshape(len(live), -1)  # [B, W·V]
    most = min(2 * live.shape[1], sums.shape[1])
    places = np.sort(np.argpartition(-sums, most - 1, axis=1)[:, :most], axis=1)
    values = np.take_along_axis(sums, places, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    places, values = np.take_along_axis(places, order, axis=1), np.take_along_axis(values, order, axis=1)
    places = places.astype(np.int64)
    return values, places // log_probs.shape[2], places % log_probs.shape[2]


def _lines() -> Iterator[str]:
    for line in sys.stdin.buffer:
        yield line.decode("utf-8", errors="replace").replace("\0", "\ufffd")


def main() -> None:
    parser = argparse.ArgumentParser(description="Translate the lines of standard input.")
    parser.add_argument("--beam-size", type=int, help="hypotheses kept; 1 is greedy search (default: of model.json)")
    parser.add_argument("--tag", action="append", default=[], help="symbol before each source, such as <2de>")
    parser.add_argument("--scores", action="store_true", help="write the score and a tab before each translation")
    parser.add_argument("--threads", type=int, default=0, help="default: one for each core")
    arguments = parser.parse_args()
    translator = Translator(Path(__file__).parent, arguments.threads)
    if arguments.beam_size is not None and arguments.beam_size < 1:
        parser.error("--beam-size: must be at least 1")
    if unknown := [tag for tag in arguments.tag if tag not in translator.about["tags"]]:
        parser.error(f"--tag {unknown[0]}: unknown; the model has: {', '.join(translator.about['tags']) or 'none'}")
    lines = _lines()
    while block := list(islice(lines, CHUNK)):
        for text, score in translator.translate(block, arguments.beam_size, arguments.tag):
            line = f"{score!r}\t{text}\n" if arguments.scores else f"{text}\n"
            sys.stdout.buffer.write(line.encode())
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
