"""Signals end a program at any moment, without loss; a training saves its state first."""

import itertools
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from nmt import pipeline
from nmt.cli import main
from nmt.data import tokenizer_training
from nmt.evaluation.results import Results
from nmt.run import checkpoint as checkpoints
from nmt.run.differences import differences
from nmt.run.directory import Run
from nmt.runtime import signals
from nmt.runtime.ranks import Ranks
from nmt.runtime.signals import Interrupted
from nmt.training.trainer import Trainer
from nmt.training.updater import Updater

ROOT = Path(__file__).parents[2]
NMT = [sys.executable, "-m", "nmt"]


class Program:
    """A process and what it has written to standard error so far."""

    def __init__(self, command, **options):
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT, **options
        )
        self.said = ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def wait_for(self, text):
        for line in self.process.stderr:
            self.said += line
            if text in line:
                return
        pytest.fail(f"ended without {text!r}: {self.said}")

    def end(self) -> int:
        self.said += self.process.stderr.read()
        return self.process.wait(60)


LONG = {"max_steps": 1_000_000, "validate_every": 1_000_000, "checkpoint_every": 1_000_000, "log_every": 1}


def saved(run: Run) -> dict:
    return checkpoints.last_good(run.checkpoints, pytest.fail).state["progress"]


def test_a_training_saves_its_state_and_says_at_once_that_it_does(task):
    """As on SIGTERM, which the ranks of torchrun get in test_distributed."""
    number = signal.SIGHUP
    program = Program([*NMT, "train", str(task.config_file("rnn", train=LONG))])
    program.wait_for("step 3 ")
    program.process.send_signal(number)
    assert program.end() == 128 + number
    first, last = program.said.index(f"{number.name}: saving and stopping"), program.said.index("nmt: stopped by")
    assert first < last
    assert f"stopped by {number.name} at step" in program.said
    assert saved(Run(task.folder / "runs" / "run"))["step"] >= 3


def test_a_second_ctrl_c_stops_without_saving(task, monkeypatch, capsys):
    section = {"max_steps": 8, "checkpoint_every": 4, "validate_every": 8}
    whole = Run(task.folder / "runs" / "whole")
    assert main(["train", str(task.config_file("rnn", "whole", train=section))]) == 0
    update = Trainer.update

    def interrupted(self, batches):
        update(self, batches)
        if self.progress.step == 6:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    command, run = ["train", str(task.config_file("rnn", train=section))], Run(task.folder / "runs" / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", interrupted)
        assert main(command) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "nmt: interrupted"
    assert run.log.read_text().splitlines()[-1].endswith("  interrupted")
    assert saved(run)["step"] == 4
    assert main(command) == 0
    assert list(differences(whole, run)) == []


def test_sigusr1_never_ends_a_training(task):
    program = Program([*NMT, "train", str(task.config_file("rnn", train={"max_steps": 3}))])
    program.wait_for("corpus")  # from here on it is sent all the time, until the process has ended

    def send():
        while program.process.poll() is None:
            program.process.send_signal(signal.SIGUSR1)
            time.sleep(0.001)

    sender = threading.Thread(target=send)
    sender.start()
    code = program.end()
    sender.join()
    assert code == 0, program.said


def test_signals_that_were_ignored_at_the_start_stay_ignored(task, monkeypatch):
    update = Trainer.update

    def interrupted(self, batches):
        update(self, batches)
        for number in signals.STOP:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Trainer, "update", interrupted)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in signals.STOP}
    try:
        assert main(["train", str(task.config_file("rnn", train={"max_steps": 2}))]) == 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("piece", [1, 9], ids=["in the losses", "in the search"])
def test_a_validation_is_left_at_once_and_repeated(task, monkeypatch, piece):
    """The signal comes in the second validation; the resumed run ends as one that was left alone."""
    changes = {
        "tokenizer": {"vocab_size": 36, "sampling": {"alpha": 0.3}},
        "train": {
            "max_steps": 8, "validate_every": 3, "batch_tokens": 128, "ema_decay": 0.9, "log_every": 2,
            "precision": "fp32", "device": "cpu", "threads": 1,
        },
    }  # fmt: skip
    whole, broken = (task.config("transformer", name, **changes) for name in ("whole", "broken"))
    pipeline.train(whole)
    validate, pulse = pipeline.Validator.__call__, Ranks.pulse
    pieces: list[int] = []  # of each validation

    def validated(self, model):
        pieces.append(0)
        return validate(self, model)

    def signalled(self):
        pieces[-1] += 1
        if len(pieces) == 2 and pieces[-1] == piece:
            os.kill(os.getpid(), signal.SIGTERM)
        pulse(self)

    monkeypatch.setattr(pipeline.Validator, "__call__", validated)
    monkeypatch.setattr(Ranks, "pulse", signalled)
    with pytest.raises(Interrupted, match="stopped by SIGTERM at step 6, all saved"):
        pipeline.train(broken)
    assert pieces[0] > piece == pieces[1]
    assert saved(Run(broken.run_dir))["validation_due"]
    pipeline.train(broken)
    assert list(differences(Run(whole.run_dir), Run(broken.run_dir))) == []


def test_signals_all_over_a_whole_training(task, monkeypatch, capsys):
    """Each start gets a signal one event later than the last one: a message, an update, a piece of a validation."""
    section = {"max_steps": 6, "validate_every": 3, "accumulate": 2, "batch_tokens": 128, "samples": 1, "log_every": 2}
    assert main(["train", str(task.config_file("transformer", "whole", train=section))]) == 0
    for folder in (task.folder / "store").iterdir():  # the second training makes its own
        shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
    number, left = itertools.cycle(signals.STOP), [0]

    def event():
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), next(number))

    def before(owner, name):
        original = getattr(owner, name)

        def replaced(*arguments, **options):
            event()
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, replaced)

    for owner, name in (
        (logging.StreamHandler, "emit"), (Ranks, "pulse"), (Updater, "loss"), (Trainer, "save"),
        (tokenizer_training, "_run_trainer"), (pipeline, "encode_corpus"), (checkpoints, "save_model"),
        (Results, "store"),
    ):  # fmt: skip
        before(owner, name)
    command = ["train", str(task.config_file("transformer", "broken", train=section))]
    codes, first = [], 1
    while True:
        left[0] = first
        code = main(command)
        if left[0] > 0:
            break
        codes.append(code)
        first += 1 + first // 4
    assert code == 0
    assert len(codes) >= 12
    assert set(codes) == {128 + number for number in signals.STOP}
    runs = (Run(task.folder / "runs" / name) for name in ("whole", "broken"))
    assert list(differences(*runs)) == []


def test_nothing_is_lost_when_the_final_evaluation_is_interrupted(task, monkeypatch, capsys):
    path = str(task.config_file("rnn", train={"max_steps": 4}))
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "score_set", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        assert main(["train", path]) == 143
    lines = capsys.readouterr().err.splitlines()
    run = Run(task.folder / "runs" / "run")
    assert [line for line in lines if line.startswith("nmt: ")] == [
        f"nmt: stopped by SIGTERM after the training; {run.path} has all of it; run the same command to evaluate it"
    ]
    model = (run.model / "model.safetensors").read_bytes()
    assert main(["train", path]) == 0
    assert (run.model / "model.safetensors").read_bytes() == model
    assert (run.evaluation / "tiny.json").is_file()


def test_preparing_ends_at_once_and_leaves_nothing_half_written(task, monkeypatch, capsys):
    path = str(task.config_file("rnn"))

    def interrupted():
        os.kill(os.getpid(), signal.SIGHUP)
        yield "never read"

    run_trainer = tokenizer_training._run_trainer
    with monkeypatch.context() as patch:
        patch.setattr(tokenizer_training, "_run_trainer", lambda *args: run_trainer(*args[:3], interrupted()))
        assert main(["prepare", path]) == 129
    assert capsys.readouterr().err.splitlines()[-1] == "nmt: stopped by SIGHUP"
    assert [found.name.split("-")[0] for found in (task.folder / "store").iterdir() if found.is_dir()] == ["corpus"]
    assert main(["prepare", path]) == 0


STUCK = """
import ctypes, sys
from nmt.cli.errors import guarded
from nmt.runtime import signals
mutex = ctypes.create_string_buffer(128)
lock = ctypes.CDLL(None).pthread_mutex_lock
lock(mutex)
with signals.ending():
    print("stuck", file=sys.stderr, flush=True)
    sys.exit(guarded("nmt", lambda: lock(mutex)))  # never returns, whatever signal comes
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_program_inside_a_library_ends_too(number):
    program = Program([sys.executable, "-c", STUCK])
    program.wait_for("stuck")
    while "futex" not in Path(f"/proc/{program.process.pid}/wchan").read_text():
        time.sleep(0.01)
    program.process.send_signal(number)
    assert program.end() == 128 + number
    assert program.said.endswith(f"nmt: stopped by {number.name}\n")


def test_process_number_1_hears_signals(place):
    """As in a container, where the system delivers to process 1 only signals that it has a handler for."""
    alone = ["unshare", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("unshare is not allowed here")
    code = "import os, sys; print(os.getpid(), file=sys.stderr, flush=True); from nmt.cli import main; sys.exit(main())"
    with Program([*alone, sys.executable, "-c", code, "translate", str(place.run)], stdin=subprocess.PIPE) as program:
        program.wait_for("1\n")
        shell = program.process.pid
        children = f"/proc/{shell}/task/{shell}/children"
        child = int(Path(children).read_text())
        while not _handles(child, signal.SIGTERM):
            assert program.process.poll() is None
            time.sleep(0.01)
        os.kill(child, signal.SIGTERM)
        assert program.end() == 143
    assert "nmt: stopped by SIGTERM" in program.said


def _handles(process: int, number: int) -> bool:
    status = Path(f"/proc/{process}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) & 1 << (number - 1))
