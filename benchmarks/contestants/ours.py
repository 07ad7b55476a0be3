"""nmt as a contestant: the trainer and the translator, built by the pipeline from a configuration."""

from __future__ import annotations

import time
from itertools import count, islice
from typing import Any

import numpy as np
import torch
import worker

from nmt import __version__, pipeline
from nmt.config.load import validate_config
from nmt.data.batch import Batch
from nmt.data.tokenizer import Tokenizer
from nmt.models import flops
from nmt.models.seq2seq import Seq2Seq
from nmt.run.directory import Run
from nmt.runtime.device import Place, autocast, resolve_device, resolve_precision
from nmt.training.loss import projected_cross_entropy
from nmt.translation.loading import load_translator
from nmt.translation.pytorch_loading import load_final, new_model


def _nll(model: Seq2Seq[Any], batch: Batch, device: torch.device) -> float:
    """Negative log likelihood in nats per target token, without dropout, in fp32."""
    training = model.training
    model.eval()
    with torch.inference_mode(), autocast(device, torch.float32):
        batch = batch.to(device)
        hidden = batch.at_targets(model(*batch.inputs))
        loss = projected_cross_entropy(hidden, model.output, batch.targets, 0.0)
    model.train(training)
    return float(loss.nll) / batch.tgt_tokens


class Ours(worker.Training):
    """nmt's trainer. The task also has ``config``, the configuration, and ``count``, the number of batches."""

    def build(self, task: dict[str, Any]) -> dict[str, Any]:
        raw = task["config"]
        raw["train"] |= {"compile": task.get("compile", False)}
        self.config = config = validate_config(raw, "benchmark")
        precision = resolve_precision(task["precision"], self.device)
        prepared = pipeline.prepare(config)
        device = resolve_device(task["device"])
        self.trainer = pipeline.build_trainer(config, Run(config.run_dir), prepared, Place(device, precision))
        self.trainer.model.train()
        order, reader = self.trainer.order, self.trainer.reader
        plan = ((rows, epoch) for epoch in count() for update in order.updates(epoch) for rows in update)
        self.batches = [reader.read(rows, epoch) for rows, epoch in islice(plan, task["count"])]
        self.vocab_size = prepared.tokenizer.tgt_vocab_size
        names = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
        return {
            "parameters": worker.trainable(self.trainer.model),
            "versions": {"nmt": __version__, "torch": torch.__version__},
            "precision": names[precision],
            "note": "",
        }

    def update(self, number: int) -> None:
        self.trainer.update([self.batches[number]])  # the step of the training loop, not a copy of it

    def write(self, batches: str, weights: str) -> dict[str, Any]:
        """Write the batches and the initial weights for the other contestants, and return the task for them."""
        # Files
        worker.write_batches(batches, self.batches)
        worker.write_weights(weights, self.trainer.model.state_dict())
        config, tokenizer = self.config, self.trainer.reader.tokenizer
        pad_id = tokenizer.pad_id
        # Task
        model = config.model.model_dump(mode="json")
        task = {
            "batches": batches,
            "model": model,
            "vocab_size": self.vocab_size,
            **_special(tokenizer),
            "optimizer": config.train.optimizer.model_dump(mode="json"),
            "clip_norm": config.train.clip_norm,
            "label_smoothing": config.train.label_smoothing,
        }
        return {
            "task": task,
            "sentences": [len(b.rows) for b in self.batches],
            "src_tokens": [b.src_tokens for b in self.batches],
            "tgt_tokens": [b.tgt_tokens for b in self.batches],
            "positions": [b.padding[1] for b in self.batches],
            "flops": [
                flops.training_flops(
                    config.model,
                    self.vocab_size,
                    np.asarray(b.src_mask.sum(1)),
                    np.asarray(b.tgt_out.ne(pad_id).sum(1)),
                )
                for b in self.batches
            ],
        }

    def load(self, weights: str) -> dict[str, Any]:
        self.trainer.model.load_state_dict(worker.read_weights(weights))
        return {}

    def nll(self) -> dict[str, Any]:
        return {"nll": _nll(self.trainer.model, self.batches[0], self.device)}

    # -------------------------------------------------------------------------------------------------------- decoding

    def open(self, run: str, search: dict[str, Any], threads: int, device: str) -> dict[str, Any]:
        """Load a run for translation as ``nmt translate`` does, with changed search settings."""
        worker.set_up_process(threads, "default")  # load_translator sets the allocator up itself
        at_start = worker.peak_memory()
        self.device = torch.device(device)
        self.translator = load_translator(Run.open(run), search, device)
        torch.set_num_threads(threads)
        return {
            "start_bytes": at_start,
            "search": self.translator.search.model_dump(mode="json"),
            "versions": {"nmt": __version__, "torch": torch.__version__},
            "note": "",
        }

    def export(self, run: str, weights: str, logits: str, sources: list[str], device: str) -> dict[str, Any]:
        """Write the weights, and ``src``, ``tgt_in`` and teacher-forced ``logits`` of a few sentences."""
        opened = Run.open(run)
        config, tokenizer = opened.load_config(), Tokenizer.load(opened.tokenizer)
        model = new_model(config.model, tokenizer).eval()
        load_final(opened, model, tokenizer)
        worker.write_weights(weights, model.state_dict())
        found = [best[0].tokens for best in load_translator(opened, device=device).translate(sources)]
        src = _padded([[*ids, tokenizer.eos_id] for ids in tokenizer.encode_src(sources)], tokenizer.pad_id)
        tgt_in = _padded([[tokenizer.bos_id, *ids] for ids in found], tokenizer.pad_id)
        with torch.inference_mode():
            given = model.project(model(src, src.ne(tokenizer.pad_id), tgt_in))
        worker.write_weights(logits, {"src": src, "tgt_in": tgt_in, "logits": given})
        return {"ids": _special(tokenizer), "vocab_size": tokenizer.tgt_vocab_size}

    def translate(self, sources: list[str]) -> dict[str, Any]:
        """Translate text to text; measure the time with tokenizing, without loading."""
        self.synchronize()
        started = time.perf_counter()
        found = [best[0] for best in self.translator.translate(sources)]
        self.synchronize()
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "lines": [t.text for t in found], "tokens": sum(len(t.tokens) for t in found)}


def _special(tokenizer: Tokenizer) -> dict[str, int]:
    return {name: getattr(tokenizer, name) for name in ("pad_id", "unk_id", "bos_id", "eos_id")}


def _padded(rows: list[list[int]], pad_id: int) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[pad_id] * (longest - len(row))] for row in rows])


if __name__ == "__main__":
    worker.serve(Ours())
