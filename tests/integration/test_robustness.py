"""What happens to a training when the world misbehaves."""

import errno
import itertools
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager

import pytest

from nmt import pipeline
from nmt.cli import main
from nmt.errors import RunError, TrainingError
from nmt.run import checkpoint as checkpoints
from nmt.run.differences import differences
from nmt.run.directory import Run
from nmt.training import trainer
from nmt.training.reporting import Reporter
from nmt.training.trainer import Trainer
from nmt.training.updater import Updater
from tests.integration.test_scripts import SCRIPTS, script


@contextmanager
def disk_with_room_for(size: int):
    """Files that would grow beyond ``size`` bytes cannot be written, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_second_training_is_refused_and_told_who_holds_the_run(task):
    config = task.config("rnn")
    with (
        Run(config.run_dir).lock(),
        pytest.raises(RunError, match=rf"is in use by process {os.getpid()} on .*; wait for it or stop it"),
    ):
        pipeline.train(config)


def test_a_lock_left_by_a_dead_process_does_not_block(task):
    run = Run(task.config("rnn").run_dir)
    code = "import sys, os; from nmt.run.directory import Run; from pathlib import Path\n"
    code += "with Run(Path(sys.argv[1])).lock(): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(run.path)], check=False)
    assert (run.path / ".lock").exists()
    with run.lock():
        pass


def test_a_full_disk_keeps_the_last_good_checkpoint_and_ends_with_1(task, capsys):
    """A file-size limit stands for the full disk: the system refuses the write in the middle."""
    path = str(task.config_file("transformer", train={"max_steps": 4, "checkpoint_every": 4}))
    assert main(["train", path]) == 0
    run = Run(task.folder / "runs" / "run")
    before = {p.name: checkpoints.open_checkpoint(p).state for p in checkpoints.list_checkpoints(run.checkpoints)}

    with disk_with_room_for(60_000):
        assert main(["train", path, "--set", "train.max_steps=8"]) == 1
    said = capsys.readouterr().err
    assert "step 8: the checkpoint could not be saved" in said
    assert "the one of step 4 is kept; free disk space and run the same command again" in said
    assert "Traceback" not in said
    after = {p.name: checkpoints.open_checkpoint(p).state for p in checkpoints.list_checkpoints(run.checkpoints)}
    assert after == before
    assert not list(run.checkpoints.glob(".*"))

    assert main(["train", path, "--set", "train.max_steps=8"]) == 0  # space again: the same command resumes
    assert checkpoints.list_checkpoints(run.checkpoints)[-1].name == "step-00000008"


def test_when_asked_a_failed_save_does_not_stop_the_training(task, monkeypatch):
    save, calls = checkpoints.save, []

    def full_once(*args, **kwargs):
        calls.append(kwargs["progress"]["step"])
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        return save(*args, **kwargs)

    monkeypatch.setattr(checkpoints, "save", full_once)
    changes = {"max_steps": 6, "checkpoint_every": 3, "on_save_error": "continue"}
    pipeline.train(task.config("rnn", train=changes))
    assert calls == [3, 6, 6]  # at step 6 as due, and again with the score of the final validation


def test_metrics_that_cannot_be_written_end_the_training_in_one_line(task, monkeypatch, capsys):
    update, full = Trainer.update, ExitStack()

    def spied(self, batches):
        update(self, batches)
        full.enter_context(disk_with_room_for(100))

    path = str(task.config_file("rnn", train={"max_steps": 9, "log_every": 1, "validate_every": 9}))
    with full, monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", spied)
        assert main(["train", path]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("nmt: ")] == lines[-1:]
    assert re.fullmatch(r"nmt: \S+/metrics.jsonl: metrics cannot be written: File too large; the last .*", lines[-1])
    assert "Traceback" not in "".join(lines)
    assert main(["train", path]) == 0


def test_when_asked_metrics_that_cannot_be_written_do_not_stop_the_training(task, monkeypatch, caplog):
    update, full = Trainer.update, ExitStack()

    def spied(self, batches):
        update(self, batches)
        if self.progress.step == 3:
            full.enter_context(disk_with_room_for(1_000))
        if self.progress.step == 7:
            full.close()

    changes = {"max_steps": 9, "log_every": 1, "checkpoint_every": 2, "validate_every": 9, "on_save_error": "continue"}
    whole, broken = (task.config_file("rnn", name, train=changes) for name in ("whole", "broken"))
    assert main(["train", str(whole)]) == 0
    with full, monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", spied)
        caplog.clear()
        assert main(["train", str(broken)]) == 0
    lines = caplog.messages
    assert sum("metrics cannot be written" in line for line in lines) == 1
    assert sum("the checkpoint could not be saved" in line for line in lines) == 2  # of steps 4 and 6
    assert "metrics can be written again" in lines
    assert list(differences(*(Run(task.folder / "runs" / name) for name in ("whole", "broken")))) == []


def test_a_training_whose_end_is_not_saved_has_no_model(task, monkeypatch, capsys):
    path = str(task.config_file("rnn", train={"max_steps": 4, "checkpoint_every": 2, "on_save_error": "continue"}))
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "new_directory", with_a_full_disk(checkpoints.new_directory, "step-00000004"))
        assert main(["train", path]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(
        "nmt: step 4: the training has ended, but its last checkpoint could not be saved (up to step 2"
    )
    assert main(["train", path]) == 0


def test_a_model_that_cannot_be_written_says_so_in_one_line(task, capsys):
    path = str(task.config_file("rnn", train={"max_steps": 4}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "new_directory", with_a_full_disk(checkpoints.new_directory, "model"))
        assert main(["train", path]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    model = task.folder / "runs" / "run" / "model"
    assert last.startswith(f"nmt: {model}/model.safetensors: the final model could not be saved: "), last
    assert last.endswith("free disk space and run the same command again")
    assert not model.exists()
    assert main(["train", path]) == 0


def with_a_full_disk(new_directory, name: str):
    @contextmanager
    def replaced(path, **options):
        with new_directory(path, **options) as aside, disk_with_room_for(1_000 if path.name == name else 2**40):
            yield aside

    return replaced


def test_a_run_without_any_checkpoint_may_have_other_settings(task, monkeypatch):
    """What a first save for which there was no room leaves."""
    config = task.config("rnn")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "new_directory", with_a_full_disk(checkpoints.new_directory, "step-00000010"))
        with pytest.raises(TrainingError, match="no earlier one exists"):
            pipeline.train(config)
    pipeline.train(task.config("rnn", model={"type": "rnn", "d_model": 16, "d_hidden": 16}))


def test_samples_and_pictures_cannot_end_a_training(task, monkeypatch, caplog):
    monkeypatch.setattr(Reporter, "samples", lambda *_: [][0])
    monkeypatch.setattr(Reporter, "attention", lambda *_: [][0])
    assert main(["train", str(task.config_file("rnn", train={"max_steps": 2, "samples": 1}))]) == 0
    assert "warning: samples could not be shown: IndexError: list index out of range" in caplog.messages
    shown = re.compile("warning: attention map 1 “.*” could not be shown: IndexError: list index out of range")
    assert any(shown.fullmatch(each) for each in caplog.messages)


def test_the_speed_is_that_of_updates_alone(task, monkeypatch):
    """Neither a validation nor what is shown and saved after it counts."""
    clock, times = [0.0], {Trainer.update: 1.0, Reporter.samples: 100.0, checkpoints.save: 1000.0}

    def taking(original):
        def wrapped(*arguments, **options):
            clock[0] += times[original]
            return original(*arguments, **options)

        return wrapped

    monkeypatch.setattr(trainer.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(Trainer, "update", taking(Trainer.update))
    monkeypatch.setattr(Reporter, "samples", taking(Reporter.samples))
    monkeypatch.setattr(checkpoints, "save", taking(checkpoints.save))
    changes = {"max_steps": 8, "log_every": 2, "validate_every": 4, "checkpoint_every": 2, "samples": 1}
    config = task.config("rnn", train=changes)
    pipeline.train(config)
    logged = [json.loads(line) for line in Run(config.run_dir).metrics.read_text().splitlines()]
    speeds = [m["train/tokens_per_second"] for m in logged if "train/loss" in m]
    assert len(speeds) == 4
    assert all(100 < speed < 400 for speed in speeds)  # about 250 tokens an update, which takes 1 s
    last = checkpoints.last_good(Run(config.run_dir).checkpoints, pytest.fail)
    assert last.state["progress"]["seconds"] == 8 + 2 * 100 + 3 * 1000


def test_gradients_that_stay_infinite_end_the_training_and_name_the_sentences(task, capsys):
    changes = {"max_steps": 50, "max_bad_steps": 3, "optimizer": {"lr": 1e30},
               "schedule": {"name": "constant", "warmup_steps": 0}, "checkpoint_every": 1}  # fmt: skip
    path = str(task.config_file("transformer", train=changes))
    assert main(["train", path]) == 1
    error = capsys.readouterr().err
    assert "the gradient was not finite for 3 updates in a row, up to step" in error
    assert "the last batch has the training pairs" in error
    assert " ||| " in error
    assert "Traceback" not in error
    run = Run(task.folder / "runs" / "run")
    assert checkpoints.last_good(run.checkpoints, pytest.fail) is not None


def test_single_bad_steps_are_skipped_and_counted(task, monkeypatch):
    loss_of, updates = Updater.loss, itertools.count()  # one batch an update

    def sometimes_infinite(self, batch):
        loss, nll = loss_of(self, batch)
        return loss * (float("nan") if next(updates) in (2, 5) else 1.0), nll

    monkeypatch.setattr(Updater, "loss", sometimes_infinite)
    config = task.config("rnn", train={"max_steps": 10, "log_every": 10})
    pipeline.train(config)
    metrics = [json.loads(line) for line in Run(config.run_dir).metrics.read_text().splitlines()]
    logged = next(m for m in metrics if "train/loss" in m)
    assert logged["train/skipped"] == 2
    assert 0 < logged["train/loss"] < 10


def test_sigusr1_saves_and_goes_on(task, monkeypatch):
    update, seen = Trainer.update, []

    def spy(self, batches):
        update(self, batches)
        if self.progress.step == 3:
            os.kill(os.getpid(), signal.SIGUSR1)
        seen.append([p.name for p in checkpoints.list_checkpoints(self.run.checkpoints)])

    monkeypatch.setattr(Trainer, "update", spy)
    pipeline.train(task.config("rnn", train={"max_steps": 6}))
    assert seen == [[], [], [], *[["step-00000003"]] * 3]


def test_a_second_sigint_ends_at_once_and_leaves_the_last_checkpoint_whole(task, monkeypatch, capsys):
    def interrupt(self, batches):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    path = str(task.config_file("rnn", train={"max_steps": 4, "checkpoint_every": 2}))
    assert main(["train", path]) == 0
    monkeypatch.setattr(Trainer, "update", interrupt)
    assert main(["train", path, "--set", "train.max_steps=8"]) == 130
    run = Run(task.folder / "runs" / "run")
    assert checkpoints.last_good(run.checkpoints, pytest.fail).step == 4


def test_a_checkpoint_of_another_run_is_refused(task, capsys):
    small, large = (
        str(task.config_file("rnn", name, model={"type": "rnn", "d_model": 32, "d_hidden": width}))
        for name, width in (("small", 16), ("large", 24))
    )
    assert main(["train", small]) == main(["train", large]) == 0
    runs = task.folder / "runs"
    for path in checkpoints.list_checkpoints(runs / "small" / "checkpoints"):
        path.rename(runs / "large" / "checkpoints" / "step-00000099")
    capsys.readouterr()
    assert main(["train", large, "--set", "train.max_steps=200"]) == 2
    assert (
        "step-00000099: was made with another configuration (model.d_hidden is 16 in the run, 24 in your configuration)"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(("family", "part"), [("rnn", "first"), ("transformer", "further")])
def test_torture(task, monkeypatch, capfd, family, part):
    """A short run of scripts/torture.py, which makes as many kills as are asked for; subword sampling on."""
    monkeypatch.syspath_prepend(SCRIPTS)
    sampling = {"vocab_size": 36, "sampling": {"alpha": 0.3}}
    train = {"max_steps": 80, "checkpoint_every": 10, "validate_every": 40, "ema_decay": 0.99}
    path = str(task.config_file(family, tokenizer=sampling, train=train))
    code = script(monkeypatch, "torture.py", path, "--kills", "3", "--seed", "1", "--part", part)
    said = capfd.readouterr().out
    assert code == 0, (code, said)
    assert re.search(rf"{part}: 3 kills \(.*\) in \d training\(s\), each with 0 differences", said)


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_faults(task, monkeypatch, capfd):
    """Two trials of scripts/faults.py, whose log saves the second start from trying the first one again."""
    monkeypatch.syspath_prepend(SCRIPTS)
    path = str(task.config_file("rnn", train={"max_steps": 2, "validate_every": 1}))
    log = task.folder / "faults.jsonl"
    command = [path, "--log", str(log), "--part", "first"]
    for faults in (["SIGKILL"], ["SIGKILL", "ENOSPC"]):
        code = script(monkeypatch, "faults.py", *command, "--faults", *faults, "--limit", str(len(faults)))
        said = capfd.readouterr()
        if "ptrace" in str(code) or "attach" in str(code):
            pytest.skip("tracing is not permitted here")
        assert code == 0, (code, said)
    assert re.search(r"of which 2 are done \(0%; 1 kinds\): 2 equal", said.out), said.out
    trials = [json.loads(line) for line in log.read_text().splitlines()]
    # The first call makes the folder of the run: a training that is killed there has said nothing.
    assert [(one["trial"].partition(" ")[2], one["code"], one["restart"]) for one in trials] == [
        ('mkdir "RUN" 1 SIGKILL', -signal.SIGKILL, 0), ('mkdir "RUN" 1 ENOSPC', 2, 0),
    ]  # fmt: skip
    assert re.fullmatch(
        r"nmt: .*: cannot be written to: No space left on device; free disk space, or .*", trials[1]["said"]
    )


def test_an_old_checkpoint_that_could_not_be_deleted_is_deleted_at_the_end(task, monkeypatch, caplog):
    config = task.config("rnn", train={"max_steps": 4, "checkpoint_every": 1, "validate_every": 4, "keep_last": 1})
    prune, last = checkpoints.prune, task.folder / "runs" / "run" / "checkpoints" / "step-00000004"
    failing = [OSError(errno.EIO, os.strerror(errno.EIO), "old")]

    def fail_once(*arguments):
        if last.is_dir() and failing:
            raise failing.pop()
        prune(*arguments)

    monkeypatch.setattr(checkpoints, "prune", fail_once)
    with caplog.at_level("INFO"):
        pipeline.train(config)
    assert "warning: old: an old checkpoint could not be deleted: Input/output error" in caplog.text
    assert [path.name for path in last.parent.iterdir()] == [last.name]


def test_a_training_does_not_import_torch_compile(task, monkeypatch):
    """The import takes about 2 s of CPU time."""
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)  # an import would fail
    pipeline.train(task.config("rnn", train={"max_steps": 1}))
