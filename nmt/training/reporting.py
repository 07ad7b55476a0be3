"""Reporting of a training: log lines or a progress bar, ``metrics.jsonl``, TensorBoard.

A checkpoint records the length of each of these files, and a resume truncates them to that length. So every step is
recorded exactly once, wherever the run was interrupted.
"""

from __future__ import annotations

import html
import io
import itertools
import json
import logging
import math
import os
import re
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import FileWriter, SummaryWriter
from torch.utils.tensorboard.summary import hparams
from tqdm import tqdm

from nmt.config.compare import digest
from nmt.errors import TrainingError
from nmt.insight.figures import attention_image
from nmt.run.directory import Run
from nmt.runtime import journal
from nmt.runtime.progress import EVERY, clock
from nmt.storage.atomic import fsync
from nmt.training.plan import Outlook

log = logging.getLogger(__name__)


# Names in TensorBoard, which sorts them: what matters most has the lowest number. metrics.jsonl has the keys.
TAGS = {
    "valid/bleu": "1 quality/BLEU",
    "valid/chrf": "1 quality/chrF",
    "valid/accuracy": "1 quality/accuracy of subwords",
    "valid/loss": "2 loss/valid",
    "valid/ppl": "2 loss/valid perplexity",
    "train/loss": "3 training/loss with label smoothing",
    "train/ppl": "3 training/perplexity",
    "train/lr": "3 training/learning rate",
    "train/grad_norm": "3 training/gradient norm",
    "train/tokens_per_second": "4 speed/target subwords per second",
    "train/mfu": "4 speed/share of the peak of matrix products",
    "train/padding": "4 speed/share of padding",
    "train/skipped": "4 speed/skipped updates",
}
TRAIN_LOSS = "2 loss/train"
# Charts of the page CUSTOM SCALARS
LAYOUT = {
    "overview": {
        "loss of training and validation": [
            "Multiline",
            [f"^{TRAIN_LOSS}$", "^2 loss/valid$"],
        ],
        "quality of validation translations": ["Multiline", ["^1 quality/BLEU$", "^1 quality/chrF$"]],
        "learning rate": ["Multiline", ["^3 training/learning rate$"]],
    }
}
# The settings of the page HPARAMS, which sorts them by these names: those that people vary
VARIED = {
    "model.type": "model", "model.d_model": "d_model", "model.dropout": "dropout",
    "model.encoder_layers": "encoder_layers", "model.decoder_layers": "decoder_layers",
    "tokenizer.vocab_size": "vocab_size", "train.batch_tokens": "batch_tokens", "train.optimizer.lr": "lr",
    "train.schedule.name": "schedule", "train.schedule.warmup_steps": "warmup_steps",
    "train.label_smoothing": "label_smoothing", "seed": "seed",
}  # fmt: skip


def tag_of(name: str) -> str:
    """The name in TensorBoard of a metric of ``metrics.jsonl``."""
    if name.startswith("final/"):
        _, test_set, metric = name.split("/", 2)
        return f"5 final/{test_set} {FINAL.get(metric, metric)}"
    return TAGS.get(name, f"3 training/{name.removeprefix('train/')}")


FINAL = {"bleu": "BLEU", "chrf": "chrF"}


class RecordFile:
    """An append-only file of complete records. Records that could not be written stay in memory for a retry.

    The file is opened when the first record is written.
    """

    limit = 16 << 20  # bytes kept in memory; further records are lost

    def __init__(self, path: Path):
        self.path, self.lost = path, 0
        self._pending = bytearray()
        self._file: io.FileIO | None = None

    def add(self, record: bytes) -> None:
        if len(self._pending) + len(record) > self.limit:
            self.lost += 1
        else:
            self._pending += record

    def write(self) -> None:
        """Write all pending records.

        Raises:
            OSError: writing failed; no record was written.
        """
        if not self._pending:
            return
        try:
            file = self.open()
            start = os.fstat(file.fileno()).st_size
            try:
                left = bytes(self._pending)
                while left:
                    left = left[file.write(left) :]
            except OSError:
                with suppress(OSError):
                    file.truncate(start)
                raise
        except OSError as error:
            error.filename = str(self.path)
            raise
        self._pending.clear()

    def open(self) -> io.FileIO:
        """Open the file, unless it is open. Later writes go to this file, even if its path is replaced."""
        if self._file is None:
            self._file = io.FileIO(self.path, "ab")
        return self._file

    def sync(self) -> None:
        """Write all records and flush the file to disk."""
        self.write()
        if self._file is not None:
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                error.filename = str(self.path)
                raise

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class EventFile(RecordFile):
    """A new file of TensorBoard events."""

    _numbers = itertools.count()

    def __init__(self, folder: Path, suffix: str = ""):
        host, number = socket.gethostname(), next(self._numbers)
        super().__init__(folder / f"events.out.tfevents.{int(time.time()):010d}.{host}.{os.getpid()}.{number}{suffix}")
        self.add_event(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def add_event(self, event: Any) -> None:
        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        self.add(record.getvalue())

    def flush(self) -> None:
        """Do nothing when PyTorch's writer flushes: only :meth:`write` writes records."""


class EventWriter(SummaryWriter):
    """PyTorch's writer without its thread, whose errors cannot be caught. Records wait in ``file`` until written."""

    def __init__(self, folder: Path, suffix: str = ""):
        self.file = EventFile(folder, suffix)
        super().__init__(str(folder))

    def _get_file_writer(self) -> FileWriter:
        writer = FileWriter.__new__(FileWriter)
        writer.event_writer = self.file
        self.file_writer = writer  # type: ignore[assignment]
        self.all_writers = {self.file.path.parent: writer}  # type: ignore[assignment]
        return writer


class Reporter:
    """Writes metrics and figures of one run.

    Args:
        lengths: the value of :meth:`lengths` stored in the checkpoint to resume from; empty for a new run.
        on_error: whether the training stops if a file cannot be written (``train.on_save_error``).

    Raises:
        TrainingError: from any method, if a file cannot be written and ``on_error`` is ``stop``.
    """

    def __init__(
        self,
        run: Run,
        lengths: Mapping[str, int],
        on_error: Literal["stop", "continue"] = "stop",
    ):
        self.run, self.on_error = run, on_error
        self.failing = False
        terminal = sys.stderr is not None and sys.stderr.isatty()
        self.bar = tqdm(total=1.0, dynamic_ncols=True, disable=not terminal, leave=False, bar_format="the first update")
        self.told = time.monotonic()  # of the last line about progress
        self.metrics = RecordFile(run.metrics)
        self.writer = EventWriter(run.tensorboard)
        self.writer.add_custom_scalars(LAYOUT)
        with self._writing():
            run.tensorboard.mkdir(parents=True, exist_ok=True)
        self._cut_back(lengths)
        with self._writing():
            self.metrics.open()
            self.writer.file.open()

    def _cut_back(self, lengths: Mapping[str, int]) -> None:
        """Truncate each file to its length in the checkpoint, and delete newer files."""
        for path in self._files():
            if str(path.relative_to(self.run.path)) not in lengths:
                path.unlink()
        for name, length in lengths.items():
            path = self.run.path / name
            found = path.stat().st_size if path.is_file() else 0
            if found >= length and path.is_file():
                os.truncate(path, length)
                continue
            # After a power loss, a file that was not flushed to disk may be shorter than recorded.
            whole = _whole_records(path) if path == self.run.metrics else _whole_events(path)
            if path.is_file():
                os.truncate(path, whole)
            self.line(
                f"warning: {path}: has {found:,} bytes instead of the {length:,} that the checkpoint records, as after "
                f"a power loss; truncated to {whole:,} bytes of complete records, so some earlier metrics are missing"
            )

    def _files(self) -> list[Path]:
        return [p for p in [self.run.metrics, *sorted(self.run.tensorboard.glob("events.*"))] if p.is_file()]

    def lengths(self) -> dict[str, int]:
        """Flush each file to disk and return the number of bytes written to it."""
        with self._writing():
            self.metrics.sync()
            self.writer.file.sync()
            fsync(self.run.tensorboard)
            fsync(self.run.path)
        return {str(path.relative_to(self.run.path)): path.stat().st_size for path in self._files()}

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """End the training when a file cannot be written, or warn once and keep the records in memory."""
        try:
            yield
        except OSError as error:
            where = error.filename or self.run.path
            reason = f"{where}: metrics cannot be written: {error.strerror or error}"
            if self.on_error == "stop":
                raise TrainingError(
                    f"{reason}; the last checkpoint is kept; free disk space and run the same command again"
                ) from error
            if not self.failing:
                self.line(f"warning: {reason}; continuing (train.on_save_error: continue)")
            self.failing = True
            return
        if self.failing:
            self.failing = False
            lost = self.metrics.lost + self.writer.file.lost
            self.line(f"metrics can be written again{f'; {lost} records are lost' if lost else ''}")

    def _write(self) -> None:
        with self._writing():
            self.metrics.write()
            self.writer.file.write()

    def metrics_at(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Record the metrics of one step."""
        self.metrics.add((json.dumps({"step": step, "epoch": epoch, **values}) + "\n").encode())
        for name, value in values.items():
            self.writer.add_scalar(tag_of(name), value, step)
        if "train/ppl" in values:  # without label smoothing, as valid/loss
            self.writer.add_scalar(TRAIN_LOSS, math.log(values["train/ppl"]), step)
        self._write()

    def progress(self, outlook: Outlook, *more: str) -> None:
        """Show the progress of the training: in the bar on a terminal, elsewhere in a line if the last one is old.

        Args:
            more: what else to show, such as the loss.
        """
        left = [f"{clock(outlook.left)} left"] if outlook.left is not None else []
        text = ", ".join([outlook.text, *left, *more])
        if self.bar.disable:
            if time.monotonic() - self.told >= EVERY:
                self.line(text)
            return
        self.bar.bar_format = f"{{percentage:3.0f}}% |{{bar}}| {text}" if outlook.share is not None else text
        self.bar.update((outlook.share or 0.0) - self.bar.n)

    def line(self, text: str) -> None:
        """Print a line above the progress bar."""
        self.told = time.monotonic()
        with tqdm.external_write_mode(file=sys.stderr):
            log.info("%s", text)

    def step(self, text: str) -> None:
        """Print a line about a logged step; on a terminal, whose bar shows the same, only ``train.log`` has it."""
        if self.bar.disable:
            self.line(text)
        else:
            journal.note(text)

    def text(self, name: str, markdown: str, step: int) -> None:
        self.writer.add_text(name, markdown, step)

    def samples(self, step: int, rows: Sequence[tuple[str, str, str]]) -> None:
        """Record sample translations (source, reference, hypothesis)."""
        self._table("samples", ["source", "reference", "translation"], step, rows)

    def watched(self, step: int, rows: Sequence[tuple[str, str]]) -> None:
        """Record the translations of the sentences of ``train.watch`` (source, hypothesis)."""
        self._table("watch", ["source", "translation"], step, rows)

    def _table(self, name: str, titles: Sequence[str], step: int, rows: Sequence[Sequence[str]]) -> None:
        lines = [titles, ["---"] * len(titles), *(map(_literal, row) for row in rows)]
        self.text(name, "\n".join(f"| {' | '.join(line)} |" for line in lines), step)

    def attention(
        self, step: int, name: str, weights: torch.Tensor, src: Sequence[str], tgt: Sequence[str], title: str = ""
    ) -> None:
        """Record a heatmap of weights [T, S] with subwords on both axes.

        A heatmap that cannot be drawn is skipped with a warning; the training continues.
        """
        try:
            image = attention_image(weights, src, tgt, title)
        except Exception as error:
            self.line(
                f"warning: attention map {name} was not drawn: {type(error).__name__}: {' '.join(str(error).split())}"
            )
            return
        self.writer.add_image(f"attention/{name}", image, step, dataformats="HWC")

    def try_to(self, what: str, show: Callable[[], None]) -> None:
        """Call ``show``; a failure is only a warning, except a :class:`TrainingError` of :meth:`_writing`."""
        try:
            show()
        except TrainingError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())
            self.line(f"warning: {what} could not be shown: {type(error).__name__}: {reason}")

    def close(self) -> None:
        self.bar.close()
        with suppress(OSError):
            self.metrics.write()
            self.writer.file.write()
        self.metrics.close()
        self.writer.file.close()


def _literal(text: str) -> str:
    """A text that Markdown shows as it is: no emphasis, no tags, no further cells of a table."""
    return re.sub(r"[\\`*_{}\[\]|]", r"\\\g<0>", html.escape(" ".join(text.split()), quote=False))


class NullReporter(Reporter):
    """The reporter of ranks other than rank 0: every call does nothing."""

    def __init__(self) -> None:
        self.bar = tqdm(disable=True)

    def lengths(self) -> dict[str, int]:
        return {}

    def metrics_at(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        pass

    def progress(self, outlook: Outlook, *more: str) -> None:
        pass

    def line(self, text: str) -> None:
        pass

    def step(self, text: str) -> None:
        pass

    def text(self, name: str, markdown: str, step: int) -> None:
        pass

    def attention(
        self, step: int, name: str, weights: torch.Tensor, src: Sequence[str], tgt: Sequence[str], title: str = ""
    ) -> None:
        pass

    def close(self) -> None:
        pass


def record_final_metrics(
    run: Run,
    settings: Mapping[str, Any],
    about: Mapping[str, float],
    metrics: Mapping[str, float],
    step: int,
    lengths: Mapping[str, int],
) -> None:
    """Record the final metrics at the last step, with the settings that people vary for TensorBoard's HPARAMS page.

    The metrics are in a separate event file, whose name contains their digest. The file is written atomically, unless
    it exists. Event files that no checkpoint records, such as the final metrics of fewer steps, are deleted.

    Args:
        settings: dotted keys and values of the configuration.
        about: other facts for the HPARAMS page, such as the number of parameters.
        lengths: lengths of the files that the last checkpoint records.
    """
    # Write, unless written
    known = {name: settings.get(key) for key, name in VARIED.items()}
    varied = {name: value for name, value in known.items() if isinstance(value, bool | int | float | str)}
    values, metrics = varied | dict(about), {tag_of(name): value for name, value in metrics.items()}
    suffix = f".final-{digest(values, dict(metrics), step)}"
    run.tensorboard.mkdir(parents=True, exist_ok=True)
    if not any(run.tensorboard.glob(f"events.*{suffix}")):
        with TemporaryDirectory(prefix=".final.", suffix=".tmp", dir=run.path) as folder:
            writer = EventWriter(Path(folder), suffix)
            for summary in hparams(values, dict(metrics)):
                writer._get_file_writer().add_summary(summary)
            for name, value in metrics.items():
                writer.add_scalar(name, value, step)
            try:
                writer.file.sync()
            finally:
                writer.file.close()
            writer.file.path.replace(run.tensorboard / writer.file.path.name)
    # Delete the final metrics of an earlier end
    for path in run.tensorboard.glob("events.*"):
        if not path.name.endswith(suffix) and str(path.relative_to(run.path)) not in lengths:
            path.unlink()
    fsync(run.tensorboard)


def _whole_records(path: Path) -> int:
    """Length in bytes of the complete lines of a JSON lines file, up to the first with a NUL character."""
    content = path.read_bytes() if path.is_file() else b""
    content = content.partition(b"\0")[0]
    return content.rfind(b"\n") + 1


def _whole_events(path: Path) -> int:
    """Length in bytes of the complete records of a TensorBoard file.

    A record is its length (8 bytes), a checksum of the length (4), data, and a checksum of the data (4).
    """
    content = path.read_bytes() if path.is_file() else b""
    ends = [0]
    while (start := ends[-1]) + 12 <= len(content):
        length, checksum = struct.unpack_from("<QI", content, start)
        if masked_crc32c(content[start : start + 8]) != checksum or start + length + 16 > len(content):
            break
        ends.append(start + length + 16)
    # The file may be long enough although data was not flushed to disk; the last records are checked first.
    while len(ends) > 1:
        data = content[ends[-2] + 12 : ends[-1] - 4]
        if masked_crc32c(data) == struct.unpack_from("<I", content, ends[-1] - 4)[0]:
            break
        ends.pop()
    return ends[-1]
