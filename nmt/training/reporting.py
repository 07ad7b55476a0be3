"""What a training shows: lines or a progress bar, ``metrics.jsonl``, TensorBoard.

A checkpoint records how long each of these files was; a resume cuts them back to that length. So no step is written
twice and none is missing, wherever the run was interrupted.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams
from tqdm import tqdm

from nmt.config import Config, flatten
from nmt.run import Run
from nmt.training.figures import attention_image

log = logging.getLogger(__name__)


class Reporter:
    """Writes metrics and pictures of one run.

    Args:
        lengths: what :meth:`lengths` returned when the checkpoint to go on from was written; empty for a fresh start.
        step, max_steps: for the progress bar, which is drawn only on a terminal.
    """

    def __init__(self, run: Run, lengths: Mapping[str, int], step: int = 0, max_steps: int | None = None):
        self.run = run
        run.tensorboard.mkdir(parents=True, exist_ok=True)
        for path in self._files():
            name = str(path.relative_to(run.path))
            if name not in lengths:
                path.unlink()
            else:
                with path.open("r+b") as file:
                    file.truncate(lengths[name])
        self.metrics = run.metrics.open("a", encoding="utf-8")
        self.writer = SummaryWriter(str(run.tensorboard))
        self.bar = tqdm(
            total=max_steps, initial=step, unit="step", dynamic_ncols=True, disable=not sys.stderr.isatty(), leave=False
        )

    def _files(self) -> list[Path]:
        return [p for p in [self.run.metrics, *sorted(self.run.tensorboard.glob("events.*"))] if p.is_file()]

    def lengths(self) -> dict[str, int]:
        """Bytes written so far to each file, all of them on their way to disk."""
        self.metrics.flush()
        self.writer.flush()
        return {str(path.relative_to(self.run.path)): path.stat().st_size for path in self._files()}

    def metrics_at(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Record named numbers of one step."""
        self.metrics.write(json.dumps({"step": step, "epoch": epoch, **values}) + "\n")
        self.metrics.flush()
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def progress(self, step: int, text: str) -> None:
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(step - self.bar.n)

    def line(self, text: str) -> None:
        """A line for people, above the progress bar."""
        with tqdm.external_write_mode(file=sys.stderr):
            log.info("%s", text)

    def text(self, name: str, markdown: str, step: int) -> None:
        self.writer.add_text(name, markdown, step)

    def samples(self, step: int, rows: Sequence[tuple[str, str, str]]) -> None:
        """Sample translations as (source, reference, hypothesis)."""
        cells = "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in rows)
        self.text("samples", "| source | reference | hypothesis |\n|---|---|---|\n" + cells, step)

    def attention(self, step: int, name: str, weights: torch.Tensor, src: Sequence[str], tgt: Sequence[str]) -> None:
        """One heatmap of weights [T, S] with subwords on both axes.

        A heatmap that cannot be drawn is left out, with a warning: no training ends for a picture.
        """
        try:
            image = attention_image(weights, src, tgt)
        except Exception as error:
            self.line(
                f"warning: attention map {name} was not drawn: {type(error).__name__}: {' '.join(str(error).split())}"
            )
            return
        self.writer.add_image(f"attention/{name}", image, step, dataformats="HWC")

    def close(self) -> None:
        self.bar.close()
        self.writer.close()
        self.metrics.close()


class Silence(Reporter):
    """What the ranks other than the first report to: the same calls, of which nothing is seen."""

    def __init__(self, *_: Any):
        self.bar = tqdm(disable=True)

    def lengths(self) -> dict[str, int]:
        return {}

    def metrics_at(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        pass

    def progress(self, step: int, text: str) -> None:
        pass

    def line(self, text: str) -> None:
        pass

    def text(self, name: str, markdown: str, step: int) -> None:
        pass

    def attention(self, step: int, name: str, weights: torch.Tensor, src: Sequence[str], tgt: Sequence[str]) -> None:
        pass

    def close(self) -> None:
        pass


def record_hyperparameters(run: Run, config: Config, metrics: Mapping[str, float]) -> None:
    """The configuration's scalars beside the final metrics, for TensorBoard's HPARAMS page."""
    values = {
        k: v for k, v in flatten(config.model_dump(mode="json")).items() if isinstance(v, bool | int | float | str)
    }
    with SummaryWriter(str(run.tensorboard)) as writer:
        for summary in hparams(values, dict(metrics)):
            writer.file_writer.add_summary(summary)
        for name, value in metrics.items():
            writer.add_scalar(name, value)
