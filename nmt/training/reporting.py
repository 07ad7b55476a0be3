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
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams
from tqdm import tqdm

from nmt.config import Config, digest, flatten
from nmt.files import fsync
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


def record_final_metrics(
    run: Run, config: Config, metrics: Mapping[str, float], step: int, lengths: Mapping[str, int]
) -> None:
    """The final metrics at the last step, and the configuration's scalars beside them for TensorBoard's HPARAMS page.

    They have an event file to themselves, whose name says what it holds: it is put in place whole, and only where it is
    not there already. Whatever else no checkpoint knows, such as the final metrics of fewer steps, is removed.

    Args:
        lengths: the files that the last checkpoint knows.
    """
    values = {
        k: v for k, v in flatten(config.model_dump(mode="json")).items() if isinstance(v, bool | int | float | str)
    }
    suffix = f".final-{digest(values, dict(metrics), step)}"
    run.tensorboard.mkdir(parents=True, exist_ok=True)
    if not any(run.tensorboard.glob(f"events.*{suffix}")):
        with TemporaryDirectory(prefix=".final.", suffix=".tmp", dir=run.path) as folder:
            with SummaryWriter(folder, filename_suffix=suffix) as writer:
                for summary in hparams(values, dict(metrics)):
                    writer.file_writer.add_summary(summary)
                for name, value in metrics.items():
                    writer.add_scalar(name, value, step)
            for path in Path(folder).iterdir():
                fsync(path)
                path.replace(run.tensorboard / path.name)
    for path in run.tensorboard.glob("events.*"):
        if not path.name.endswith(suffix) and str(path.relative_to(run.path)) not in lengths:
            path.unlink()
    fsync(run.tensorboard)
