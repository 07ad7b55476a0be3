import errno
import io
import json
import os
import re
import struct
from html import unescape

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugin_util import markdown_to_safe_html

from nmt.errors import TrainingError
from nmt.run.directory import Run
from nmt.training.reporting import TAGS, EventWriter, RecordFile, Reporter


def test_records_that_do_not_fit_are_written_later_and_whole(tmp_path, monkeypatch):
    """A disk with room for 7 more bytes, then for none, then for all."""
    file = RecordFile(tmp_path / "records")
    file.add(b"first\n")
    file.write()
    room = [7]

    class Full(io.FileIO):
        def write(self, data):
            taken = data[: room[0]]
            room[0] -= len(taken)
            if not taken:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(taken)

    file._file = Full(file.path, "ab")
    for record in (b"second\n", b"third\n"):
        file.add(record)
    with pytest.raises(OSError, match="No space left") as failure:
        file.write()
    assert failure.value.filename == str(file.path)
    assert file.path.read_bytes() == b"first\n"
    room[0] = 100
    file.add(b"fourth\n")
    file.sync()
    assert file.path.read_bytes() == b"first\nsecond\nthird\nfourth\n"


def test_what_waits_for_room_is_bounded(tmp_path):
    file = RecordFile(tmp_path / "nowhere" / "records")
    file.limit = 10
    for record in (b"12345\n", b"6789\n", b"1\n"):
        file.add(record)
    assert file.lost == 1
    with pytest.raises(FileNotFoundError):
        file.write()
    file.path.parent.mkdir()
    file.write()
    assert file.path.read_bytes() == b"12345\n1\n"


def filled(run: Run, steps: int = 5) -> dict[str, int]:
    run.path.mkdir()
    reporter = Reporter(run, {})
    for step in range(1, steps + 1):
        reporter.metrics_at(step, 0, {"valid/loss": float(step)})
    lengths = reporter.lengths()
    reporter.close()
    return lengths


def steps_of(run: Run) -> list[int]:
    return [json.loads(line)["step"] for line in run.metrics.read_text().splitlines()]


def scalars_of(run: Run) -> list[int]:
    events = EventAccumulator(str(run.tensorboard)).Reload()
    return [event.step for event in events.Scalars(TAGS["valid/loss"])]


@pytest.mark.parametrize("lost", ["cut", "zeros"])
def test_files_shorter_than_recorded_are_cut_at_a_whole_record(tmp_path, caplog, lost):
    """A power loss takes the end of a file, and may leave zeros in place of what was not written."""
    caplog.set_level("INFO", "nmt")
    run = Run(tmp_path / "run")
    lengths = filled(run)
    events = next(run.tensorboard.glob("events.*"))
    for path in (run.metrics, events):
        content = path.read_bytes()
        # A byte is missing of the last record; or zeros stand from within the one before it to within the last.
        end = bytes(40) if lost == "zeros" else b""
        keep = len(content) - (60 if lost == "zeros" else 1)
        path.write_bytes(content[:keep] + end)
    Reporter(run, lengths).close()
    whole = 3 if lost == "zeros" else 4
    assert steps_of(run) == list(range(1, whole + 1))
    assert scalars_of(run) == list(range(1, whole + 1))
    warnings = [line for line in caplog.messages if line.startswith("warning: ")]
    assert [line.split(": ")[1] for line in warnings] == [str(run.metrics), str(events)]
    assert f"has {keep + len(end):,} bytes instead of the {len(content):,}" in warnings[1]


def test_files_are_cut_back_to_what_the_checkpoint_knows(tmp_path, caplog):
    caplog.set_level("INFO", "nmt")
    run = Run(tmp_path / "run")
    lengths = filled(run)
    later = Reporter(run, lengths)
    later.metrics_at(6, 0, {"valid/loss": 6.0})
    later.close()
    assert steps_of(run) == scalars_of(run) == [1, 2, 3, 4, 5, 6]
    Reporter(run, lengths).close()
    assert steps_of(run) == scalars_of(run) == [1, 2, 3, 4, 5]
    assert not caplog.messages


def test_lengths_are_of_files_on_the_disk(tmp_path, monkeypatch):
    forced, fsync = [], os.fsync

    def spied(descriptor):
        forced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spied)
    run = Run(tmp_path / "run")
    lengths = filled(run)
    assert {str(run.path / name) for name in lengths} < set(forced)
    assert {str(run.path), str(run.tensorboard)} < set(forced)


def test_what_cannot_be_written_ends_a_training_or_is_told_once(tmp_path, caplog):
    caplog.set_level("INFO", "nmt")
    run = Run(tmp_path / "run")
    run.path.mkdir()
    run.metrics.mkdir()  # stands for any error of the system
    with pytest.raises(TrainingError, match=f"^{run.metrics}: metrics cannot be written: Is a directory; the last"):
        Reporter(run, {}).metrics_at(1, 0, {"valid/loss": 1.0})
    reporter = Reporter(run, {}, on_error="continue")
    for step in (1, 2, 3):
        reporter.metrics_at(step, 0, {"valid/loss": float(step)})
        reporter.lengths()
    run.metrics.rmdir()
    reporter.metrics_at(4, 0, {"valid/loss": 4.0})
    reporter.close()
    assert steps_of(run) == scalars_of(run) == [1, 2, 3, 4]
    reason = f"{run.metrics}: metrics cannot be written: Is a directory"
    assert caplog.messages == [
        f"warning: {reason}; continuing (train.on_save_error: continue)", "metrics can be written again",
    ]  # fmt: skip


def test_what_cannot_be_shown_is_a_warning(tmp_path, caplog):
    caplog.set_level("INFO", "nmt")
    run = Run(tmp_path / "run")
    run.path.mkdir()
    reporter = Reporter(run, {})
    reporter.try_to("attention map 1", lambda: [][1])
    assert caplog.messages == ["warning: attention map 1 could not be shown: IndexError: list index out of range"]


@pytest.mark.parametrize(
    "text",
    [
        "an <unk> and a <b>tag</b>", "5 * 3 *and* _that_ `code`", "a|b \\| c", "[link](x) ![i](y) {name}", "&amp; & <",
        "<script>alert(1)</script>", "# no title", "1. no list", "https://example.org/a_b_c", "a\\*b \\\\ c", "$x_1$",
    ],
)  # fmt: skip
def test_sentences_are_shown_as_they_are(tmp_path, text):
    """TensorBoard takes text for Markdown and HTML."""
    run = Run(tmp_path / "run")
    run.path.mkdir()
    reporter = Reporter(run, {})
    reporter.samples(3, [(text, "reference", text), ("one", "eins", "a\rb")])
    reporter.close()
    [event] = EventAccumulator(str(run.tensorboard)).Reload().Tensors("samples/text_summary")
    page = markdown_to_safe_html(event.tensor_proto.string_val[0])
    shown = [unescape(re.sub("<[^>]*>", "", cell)) for cell in re.findall("<td>(.*?)</td>", page)]
    assert shown == [text, "reference", text, "one", "eins", "a b"]


def test_the_event_file_is_one_that_tensorboard_reads(tmp_path):
    writer = EventWriter(tmp_path)
    writer.add_text("config", "x", 0)
    writer.add_scalar("loss", 0.5, 3)
    writer.file.sync()
    content = writer.file.path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    assert Event.FromString(content[12 : 12 + length]).file_version == "brain.Event:2"
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Tags()["tensors"] == ["config/text_summary"]
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(3, 0.5)]
