"""Marian (C++) as a contestant: its Trainer on a CPU, through its Python package pymarian.

Marian makes its batches itself. So it gets the sentences of the same batches as ids in text, and a budget with which
an update has as many target tokens as one of nmt's. Only real target tokens are counted, with the end of sentence.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import worker

TRAIN = "import sys, pymarian; pymarian.Trainer(sys.argv[1]).train()"
SHOWN = re.compile(r"Ep\. (\d+) : Up\. \d+ : Sen\. [\d,]+ : Cost ([\d.]+) : Time ([\d.]+)s")
LABELS = re.compile(r"^labels-total: (\d+)$", re.MULTILINE)
WORKSPACE = 1024  # MB of each of Marian's workers


@dataclass(frozen=True)
class Passes:
    """What Marian printed of two passes over the same sentences; the first one warms it up.

    Attributes:
        seconds: of the updates of the second pass.
        tokens: target tokens of one pass, with the end of sentence.
        updates: of the second pass.
        costs: per target token, of each update of both passes.
        memory: peak of the process, in bytes.
    """

    seconds: float
    tokens: float
    updates: int
    costs: list[float]
    memory: int


class MarianCpp(worker.Training):
    """A process of Marian for each repeat, which continues with the weights of the last one.

    Starting, loading and saving are not timed: Marian's own time of each update counts.
    """

    def build(self, task: dict[str, Any]) -> dict[str, Any]:
        self.task, self.threads = task, task["threads"]
        self.folder = Path(tempfile.mkdtemp(prefix="marian-", dir=Path(task["batches"]).parent))
        self.batches = worker.read_batches(task["batches"])
        self.weights: Path | None = None
        words = [f"w{number}" for number in range(4, task["vocab_size"])]
        lines = [f'"{word}": {number}\n' for number, word in enumerate(["</s>", "<unk>", *words])]
        (self.folder / "vocabulary.yml").write_text("".join(lines), encoding="utf-8")
        self.peak = 0
        self.way, first = self._fastest()
        self.first_cost = self.last_cost = first
        return {
            "parameters": self._parameters(),
            "versions": {"pymarian": version("pymarian")},
            "note": self.way,
        }

    def _fastest(self) -> tuple[str, float]:
        """Time Marian's ways to use the threads on the first batches; return the fastest, and the first cost."""
        count = min(len(self.batches), 4)
        found = {way: self._train(0, count, way) for way in self._ways()}
        best = min(found, key=lambda way: found[way].seconds / found[way].tokens)
        self.weights = None
        return best, found[best].costs[0]

    def _ways(self) -> dict[str, tuple[str, int]]:
        """Options, and threads of each product, by name."""
        n = self.threads
        if n == 1:
            return {"one worker": ("--cpu-threads 1", 1)}
        return {
            f"{n} synchronous workers": (f"--cpu-threads {n} --sync-sgd", 1),
            f"{n} asynchronous workers": (f"--cpu-threads {n}", 1),
            f"one worker, {n} threads a product": ("--cpu-threads 1", n),
        }

    def run(self, updates: int, first: int = 0) -> dict[str, Any]:
        found = self._train(first, updates, self.way)
        given = sum(int(batch.tgt_out.ne(self.task["pad_id"]).sum()) for batch in self.batches[first : first + updates])
        if found.tokens != given:
            raise ValueError(f"Marian trained on {found.tokens:g} target tokens, not on {given}")
        self.last_cost = statistics.fmean(found.costs[-3:])
        self.peak = max(self.peak, found.memory)
        return {"seconds": found.seconds, "updates": found.updates}

    def _train(self, first: int, updates: int, way: str) -> Passes:
        """Train twice on the sentences of some batches."""
        # Files
        batches, pad_id = self.batches[first : first + updates], self.task["pad_id"]
        special = {self.task[name] for name in ("pad_id", "bos_id", "eos_id")}
        for side in ("src", "tgt_out"):
            rows = [row for batch in batches for row in getattr(batch, side).tolist()]
            lines = (" ".join(f"w{token}" for token in row if token not in special) for row in rows)
            (self.folder / side).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        words = round(statistics.fmean(int(batch.tgt_out.ne(pad_id).sum()) for batch in batches))
        # Train
        options, threads = self._ways()[way]
        log, model = self.folder / "train.log", self.folder / f"{time.monotonic_ns()}.npz"
        log.unlink(missing_ok=True)
        start = f"--pretrained-model {self.weights}" if self.weights else ""
        command = f"{self._options()} {options} --mini-batch-words {words} --model {model} --log {log} {start}"
        variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        said = self.folder / "said"
        with said.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", TRAIN, command], env=os.environ | variables, stdout=file, stderr=file
            )
            _, status, usage = os.wait4(process.pid, 0)
        if status:
            last = (said.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no message"])[-1]
            raise RuntimeError(f"Marian failed: {last}")
        self.weights = model
        # Read what it wrote
        shown = [(int(e), float(c), float(s)) for e, c, s in SHOWN.findall(log.read_text(encoding="utf-8"))]
        second = [seconds for epoch, _, seconds in shown if epoch == 2]
        progress = model.with_name(f"{model.name}.progress.yml").read_text(encoding="utf-8")
        tokens = int(LABELS.findall(progress)[0]) / 2
        return Passes(sum(second), tokens, len(second), [cost for _, cost, _ in shown], 1024 * usage.ru_maxrss)

    def _options(self) -> str:
        """The model, the optimizer and the loss of the task in Marian's words."""
        model, optimizer, folder = self.task["model"], self.task["optimizer"], self.folder
        size = self.task["vocab_size"] - 2  # Marian has no padding and no beginning of sentence
        one, other = optimizer["betas"]
        return (
            f"--type transformer --train-sets {folder}/src {folder}/tgt_out "
            f"--vocabs {folder}/vocabulary.yml {folder}/vocabulary.yml --dim-vocabs {size} {size} "
            f"--dim-emb {model['d_model']} --transformer-dim-ffn {model['d_ff']} "
            f"--transformer-heads {model['num_heads']} --enc-depth {model['encoder_layers']} "
            f"--dec-depth {model['decoder_layers']} --transformer-ffn-activation {model['activation']} "
            f"--transformer-postprocess dan --transformer-postprocess-emb d --transformer-dropout {model['dropout']} "
            f"--tied-embeddings-all --label-smoothing {self.task['label_smoothing']} --cost-type ce-mean-words "
            f"--clip-norm {self.task['clip_norm']} --optimizer adam --optimizer-params {one} {other} "
            f"{optimizer['eps']} --learn-rate {optimizer['lr']} --max-length 1000 --maxi-batch 1000 "
            f"--maxi-batch-sort trg --shuffle none --after 2e --disp-freq 1 --save-freq 1000000u "
            f"--workspace {WORKSPACE} --seed {self.task['seed']} --quiet"
        )

    def _parameters(self) -> int:
        """Trainable parameters in a model file; the sinusoidal positions are not among them."""
        models = (path for path in self.folder.glob("*.npz") if not path.name.endswith(".optimizer.npz"))
        with np.load(next(models)) as file:
            return sum(file[name].size for name in file.files if not name.startswith("special:"))

    def memory(self) -> dict[str, Any]:
        return {"peak_bytes": self.peak}

    def update(self, number: int) -> None:
        raise NotImplementedError("Marian makes its updates itself, see run")

    def load(self, weights: str) -> dict[str, Any]:
        raise NotImplementedError("the loss is not compared: Marian's positions are in another order")

    def nll(self) -> dict[str, Any]:
        """Marian's cost, with label smoothing, of its first update, or after training of its last ones."""
        return {"nll": self.last_cost}


if __name__ == "__main__":
    worker.serve(MarianCpp())
