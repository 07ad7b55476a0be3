"""Word-level distillation: stores the distributions of a teacher at every target of a training."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from nmt import pipeline
from nmt.augment.parts import WHOLE, Share
from nmt.config.experiment import Config
from nmt.data.batch import TopK
from nmt.data.encoded import ParallelDataset
from nmt.data.examples import Examples
from nmt.data.teacher import TeacherWriter, identity
from nmt.errors import DataError
from nmt.run.directory import Run
from nmt.runtime.progress import showing
from nmt.training.prepared import Prepared
from nmt.translation.forced import Scorer
from nmt.translation.pytorch import TorchEngine
from nmt.translation.translator import Translator

log = logging.getLogger(__name__)


def store_top_k(
    run: Run, translator: Translator[TorchEngine], path: Path, top_k: int, student: Config | None, share: Share = WHOLE
) -> list[str]:
    """Write the ``top_k`` most probable tokens of a run at every target of its training, or of another training.

    Args:
        translator: of the run.
        student: whose training data are read; None: those of the run.

    Returns:
        What was done, in lines for people.

    Raises:
        DataError: the student has another tokenizer, or the folder cannot be written.
    """
    # Check
    if top_k > (size := translator.tokenizer.tgt_vocab_size):
        raise DataError(f"--top-k {top_k}: must be at most {size}, the size of the vocabulary")
    config = run.load_config() if student is None else student
    prepared = pipeline.prepare(config, run if student is None else None)
    tokenizer, train = prepared.tokenizer, prepared.encoded.train
    if tokenizer.fingerprint != translator.tokenizer.fingerprint:
        raise DataError(
            f"--config: its tokenizer is not that of {run.path}, and word-level distillation needs one vocabulary; "
            f"set tokenizer.run: {run.path}, or distil on sequence level"
        )
    about = {"teacher": translator.checksum, "identity": identity(prepared.encoded, tokenizer, config.data)}
    writer = TeacherWriter(path, about, train, top_k, tokenizer.tgt_vocab_size)
    # Write
    if writer.is_whole:
        return _summary(writer, "was whole already")
    writer.begin()
    missing = writer.missing()
    mine = [number for number in missing if number % share.of == share.number - 1]
    if len(missing) < writer.blocks:
        log.info(
            "resuming: %d of %d blocks are complete in %s", writer.blocks - len(missing), writer.blocks, writer.folder
        )
    sources = Sources(config, prepared)
    with showing("distilling", sum(len(writer.rows(number)) for number in mine), "pairs") as add:
        for number in mine:
            writer.write(number, distributions(translator, sources, writer.rows(number), top_k))
            add(len(writer.rows(number)))
    if left := len(writer.missing()):
        return [f"{left} of {writer.blocks} blocks are left to other shards, in {writer.folder}"]
    writer.finish()
    return _summary(writer, "written")


class Sources:
    """The encoded pairs of a training, with the tags before their sources."""

    def __init__(self, config: Config, prepared: Prepared):
        self.dataset: ParallelDataset = prepared.encoded.train
        self.examples = Examples.of(config.data, prepared.corpus, self.dataset, prepared.tokenizer, config.seed)

    def pairs(self, rows: Sequence[int]) -> list[tuple[list[int], list[int]]]:
        found = [(self.dataset.src(row), self.dataset.tgt(row)) for row in rows]
        if self.examples is not None:  # the first example of each pair has the number of its row
            found = self.examples.tagged(found, np.asarray(rows, np.int64))
        pairs = [(src.tolist(), tgt.tolist()) for src, tgt in found]
        self.dataset.release()
        return pairs


def distributions(
    translator: Translator[TorchEngine], sources: Sources, rows: Sequence[int], top_k: int
) -> Iterator[TopK]:
    """The most probable tokens at each target of pairs, and their log-probabilities, [T + 1, K]; in fp32."""
    scorer, model = Scorer(translator), translator.engine.model
    pairs = sources.pairs(rows)
    src, tgt = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    found: dict[int, TopK] = {}
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for places in scorer.batches(src, tgt):
                log_probs = scorer.log_probs([src[i] for i in places], [tgt[i] for i in places])  # [B, T, V]
                lengths = [len(tgt[i]) + 1 for i in places]
                real = torch.cat([each[:length] for each, length in zip(log_probs, lengths, strict=True)])  # [M, V]
                values, ids = real.topk(top_k)
                ends = np.cumsum([0, *lengths])
                all_ids, all_values = ids.to(torch.int32).cpu().numpy(), values.cpu().numpy()
                for place, (start, end) in zip(places, pairwise(ends.tolist()), strict=True):
                    found[place] = all_ids[start:end], all_values[start:end]
    finally:
        model.train(training)
    return (found[place] for place in range(len(pairs)))


def _summary(writer: TeacherWriter, state: str) -> list[str]:
    size, count = sum(file.stat().st_size for file in writer.path.iterdir()) / 2**20, f"{len(writer.dataset):,}"
    return [
        f"{writer.path}: {state}, the {writer.top_k} most probable tokens at each target of {count} pairs"
        f" ({size:,.1f} MiB)",
        "",
        "To train a student with them, on the same data and tokenizer:",
        "",
        "train:",
        "  terms:",
        f"    distillation: {{from: {json.dumps(str(writer.path), ensure_ascii=False)}, alpha: 0.5}}",
    ]
