"""Schedules when a run resumes with other limits, and the commands that train a finished run further."""

import json
import math
import shlex

import pytest
import yaml

from nmt import pipeline
from nmt.cli import main
from nmt.run.differences import differences
from nmt.run.directory import Run
from nmt.training import trainer
from nmt.training.saving import Saving
from nmt.training.trainer import Trainer
from tests.runs import EVERY_2, origin, train, validations


def rates(run: Run) -> dict[int, float]:
    rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return {row["step"]: row["train/lr"] for row in rows if "train/lr" in row}


COSINE = {**EVERY_2, "log_every": 1, "schedule": {"name": "cosine", "warmup_steps": 2}}


def test_raising_max_steps_keeps_the_schedule_unless_it_is_stretched(task, capsys, caplog):
    run = train(task, train=COSINE)
    assert run.load_config().train.schedule.total_steps == 10
    before = rates(run)
    file = str(task.config_file("rnn", train=COSINE))
    saved = (run.config_path.read_text(), origin(run))
    assert main(["train", file, "--set", "train.max_steps=20"]) == 2
    assert "the cosine schedule of this run ends at step 10 with a rate of 0" in capsys.readouterr().err
    assert (run.config_path.read_text(), origin(run)) == saved
    capsys.readouterr()
    assert main(["config", file, "--set", "train.max_steps=20"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["train"]["schedule"]["total_steps"] == 10

    assert main(["train", file, "--set", "train.max_steps=20", "train.schedule.total_steps=20"]) == 0
    assert "train.schedule.total_steps is 10 in the run, 20 now" in caplog.text
    config = run.load_config().train
    assert config.schedule.total_steps == 20
    assert rates(run) == pytest.approx({**before, **{s: config.learning_rate(s) for s in range(11, 21)}})


def test_a_stretched_schedule_is_that_of_the_run_once_a_checkpoint_has_it(task, monkeypatch, caplog):
    train(task, train=COSINE)
    stretched = ["train.max_steps=20", "train.schedule.total_steps=40"]
    with monkeypatch.context() as patch:
        stop_after(patch, 14)
        assert main(["train", str(task.config_file("rnn", train=COSINE)), "--set", *stretched]) == 130
    caplog.clear()
    run = train(task, overrides=stretched, train=COSINE)
    assert "train.schedule.total_steps is" not in caplog.text  # it has been 40 since step 11
    config = run.load_config().train
    assert config.schedule.total_steps == 40
    assert {s: rates(run)[s] for s in range(11, 21)} == pytest.approx(
        {s: config.learning_rate(s) for s in range(11, 21)}
    )


def test_the_first_command_after_a_stretched_start_records_the_schedule_that_was_used(task, monkeypatch):
    train(task, train=COSINE)
    with monkeypatch.context() as patch:
        stop_after(patch, 14)
        stretched = ["train.max_steps=20", "train.schedule.total_steps=40"]
        assert main(["train", str(task.config_file("rnn", train=COSINE)), "--set", *stretched]) == 130
    run = train(task, train=COSINE)
    assert run.load_config().train.schedule.total_steps == 40


def stop_after(patch, step):
    update = Trainer.update

    def stopped(self, batches):
        update(self, batches)
        if self.progress.step == step:
            raise KeyboardInterrupt

    patch.setattr(Trainer, "update", stopped)


def test_a_run_of_an_earlier_version_keeps_the_end_that_its_max_steps_gave(task):
    run = train(task, train=COSINE, defaults=1)
    raw = yaml.safe_load(run.config_path.read_text())
    raw["train"]["schedule"]["total_steps"] = None  # as an earlier version wrote it
    run.config_path.write_text(yaml.safe_dump(raw))
    now = task.config("rnn", train={**COSINE, "max_steps": 20})
    assert run.settle(now).train.schedule.total_steps == 10
    assert Run(task.folder / "new").settle(now).train.schedule.total_steps == 20
    file = str(task.config_file("rnn", train=COSINE, defaults=1))
    assert main(["train", file, "--set", "train.max_steps=20"]) == 2


def test_a_floor_lets_a_finished_schedule_train_on(task):
    section = {**COSINE, "schedule": {"name": "linear", "warmup_steps": 2, "min_lr": 1e-5}}
    run = train(task, train=section)
    before = rates(run)
    train(task, overrides=["train.max_steps=12"], train=section)
    assert rates(run) == pytest.approx({**before, 11: 1e-5, 12: 1e-5})


def test_an_interrupted_run_keeps_its_schedule(task, monkeypatch):
    whole = train(task, "whole", train=COSINE)
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        assert main(["train", str(task.config_file("rnn", train=COSINE))]) == 130
    run = train(task, train=COSINE)
    assert rates(run) == rates(whole)


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        ({"max_steps": 4}, "max_steps (4)"),
        ({"max_steps": 4, "schedule": {"name": "linear", "warmup_steps": 1}}, "max_steps (4)"),
        ({"max_steps": None, "max_epochs": 1, "validate_every": "epoch"}, "max_epochs (1)"),
        ({"max_steps": None, "max_epochs": 1, "validate_every": "epoch", "schedule": {"warmup_steps": 2}},
         "max_epochs (1)"),
        ({"max_steps": None, "max_minutes": 0.005, "validate_every": 1000}, "max_minutes (0.005)"),
        ({"max_steps": 900, "max_epochs": 1, "schedule": {"name": "cosine", "warmup_steps": 1, "total_steps": 4}},
         "max_epochs (1)"),
        ({"max_steps": 90, "patience": 1, "optimizer": {"lr": 1e-12}}, "patience (1 validation"),
    ],
)  # fmt: skip
def test_the_command_that_a_finished_run_prints_trains_it_further(task, capsys, caplog, limits, named):
    file = str(task.config_file("rnn", train={**EVERY_2, "batch_tokens": 512, **limits}))
    common = ["--set", "train.log_every=7", "search.beam_size=2"]
    assert main(["train", file, *common]) == 0
    capsys.readouterr()
    assert main(["train", file, *common]) == 0
    [finished, printed, *_] = capsys.readouterr().out.splitlines()
    assert named in finished
    run = Run(task.folder / "runs" / "run")
    steps = validations(run)[-1]["step"]
    command = shlex.split(printed)
    arguments = command[command.index("train") :]
    assert {"train.log_every=7", "search.beam_size=2"} <= set(arguments)
    caplog.clear()
    assert main(arguments) == 0
    assert validations(run)[-1]["step"] > steps
    assert "schedule ends at step" not in caplog.text  # the schedule ends with the run
    assert capsys.readouterr().out.startswith("\n")  # the scores, not "This run is finished"


def test_a_schedule_that_ends_before_its_peak_is_refused(task, capsys):
    section = {**EVERY_2, "schedule": {"name": "linear", "warmup_steps": 1000, "total_steps": 500}}
    assert main(["train", str(task.config_file("rnn", train=section))]) == 2
    said = capsys.readouterr().err
    assert "train.schedule.total_steps (500) is under warmup_steps (1000)" in said
    assert len(said.splitlines()) == 1
    config = str(task.config_file("rnn", train=section, defaults=1))
    assert main(["config", config]) == 0  # an earlier version accepted it


def test_what_does_not_fit_is_told_before_and_after(task, caplog):
    train(task, train={**EVERY_2, "schedule": {"name": "cosine", "warmup_steps": 4, "total_steps": 40}})
    assert "the validation set has 20 lines" in caplog.text
    assert "the cosine schedule ends at step 40, but the run at step 10" in caplog.text
    assert "the learning rate was still" in caplog.text
    said = [message for message in caplog.messages if message.startswith(("warning: the learning", "training ended"))]
    assert said[-1].startswith("training ended")  # the result is the last line


# ------------------------------------------------------------------------------------------- the end that a run has


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still between updates of one second each; more seconds are added by hand."""

    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

    clock, update = Clock(), Trainer.update

    def one_second(self, batches):
        update(self, batches)
        clock.now += 1.0

    monkeypatch.setattr(trainer, "time", clock)
    monkeypatch.setattr(Trainer, "update", one_second)
    return clock


TIMED = {
    "max_steps": None, "max_minutes": 1, "validate_every": 20, "batch_tokens": 128, "log_every": 1,
    "schedule": {"warmup_steps": 5}, "optimizer": {"lr": 1e-3},
}  # fmt: skip


def test_the_default_schedule_ends_with_the_epochs(task, caplog):
    run = train(task, train={**TIMED, "max_minutes": None, "max_epochs": 2, "validate_every": "epoch"})
    steps = max(rates(run))
    assert run.load_config().train.schedule.total_steps == steps
    expected = [1e-3 * (1 + math.cos(math.pi * (step - 5) / (steps - 5))) / 2 for step in range(5, steps + 1)]
    assert [rates(run)[step] for step in range(5, steps + 1)] == pytest.approx(expected, abs=1e-12)
    assert "schedule ends at step" not in caplog.text


def test_the_default_schedule_ends_with_the_time(task, clock, monkeypatch, caplog):
    validate = pipeline.Validator.__call__

    def two_seconds(self, model):
        clock.now += 2.0
        return validate(self, model)

    monkeypatch.setattr(pipeline.Validator, "__call__", two_seconds)
    found = rates(train(task, train=TIMED))
    steps = list(found)
    assert steps[-1] == 56  # 60 s less two validations
    assert max(found.values()) == found[5] == 1e-3
    assert all(found[step] >= found[step + 1] for step in steps[4:-1])
    assert max(found[step] - found[step + 1] for step in steps[4:-1]) < 0.06e-3  # no jump
    assert found[30] == pytest.approx(0.5e-3, rel=0.2)  # half the time
    assert found[56] < 0.01e-3
    assert "the cosine schedule will end with max_minutes, at about step 60" in caplog.text
    assert "the learning rate was still" not in caplog.text


def test_an_end_in_time_and_one_in_steps(task, clock):
    section = {**TIMED, "schedule": {"name": "linear", "warmup_steps": 5}}
    steps_first = rates(train(task, "steps", train={**section, "max_steps": 45}))
    expected = [1e-3 * (45 - step) / 40 for step in range(5, 46)]
    assert [steps_first[step] for step in range(5, 46)] == pytest.approx(expected, abs=1e-12)
    assert steps_first == rates(train(task, "alone", train={**section, "max_steps": 45, "max_minutes": None}))
    time_first = rates(train(task, "time", train={**section, "max_steps": 600}))
    assert max(time_first) == 60
    assert time_first[60] < 0.02e-3 < 0.3e-3 < time_first[40]
    former = {**section, "max_steps": 600, "schedule": {**section["schedule"], "end": "max_steps"}}
    run = train(task, "former", train=former)
    assert rates(run)[60] == pytest.approx(1e-3 * 540 / 595)
    assert run.load_config().train.schedule.end == "max_steps"


def test_a_resumed_run_keeps_the_estimate_of_its_checkpoint(task, clock, monkeypatch):
    whole = train(task, "whole", train=TIMED)
    for step in (1, 13, 37):
        with monkeypatch.context() as patch:
            stop_after(patch, step)
            assert main(["train", str(task.config_file("rnn", train=TIMED))]) == 130
        clock.now += 1000  # between two starts
    run = train(task, train=TIMED)
    assert rates(run) == rates(whole)
    assert list(differences(whole, run)) == []


def test_another_time_limit_moves_the_end(task, clock, monkeypatch):
    section = {**TIMED, "checkpoint_every": 45}
    with monkeypatch.context() as patch:
        stop_after(patch, 46)
        assert main(["train", str(task.config_file("rnn", train=section))]) == 130
    before = rates(Run(task.folder / "runs" / "run"))
    assert max(before) == 45
    run = train(task, overrides=["train.max_minutes=1.5"], train=section)
    found = rates(run)
    assert {step: found[step] for step in before} == before
    assert max(found) == 90
    assert found[46] == pytest.approx(before[45], rel=0.1)
    assert found[90] < 0.01e-3
    file = str(task.config_file("rnn", train=section))
    assert main(["train", file, "--set", "train.max_minutes=2"]) == 2  # ended: refused without a stretch
    assert main(["train", file, "--set", "train.max_minutes=2", "train.schedule.total_steps=120"]) == 0
    assert rates(run)[105] == pytest.approx(1e-3 * (1 + math.cos(math.pi * 100 / 115)) / 2)


def test_a_time_that_ends_while_a_checkpoint_is_written_is_recorded(task, clock, monkeypatch, capsys):
    save = Saving._write

    def four_seconds(self, *arguments):
        done = save(self, *arguments)
        clock.now += 4.0
        return done

    monkeypatch.setattr(Saving, "_write", four_seconds)
    section = {**TIMED, "max_minutes": 0.4}  # 24 s: 20 updates and the save at step 20
    run = train(task, train=section)
    [last] = run.checkpoints.glob("step-*20")
    assert json.loads((last / "state.json").read_text())["progress"]["seconds"] >= 24
    capsys.readouterr()
    written = origin(run)
    assert main(["train", str(task.config_file("rnn", train=section))]) == 0
    assert capsys.readouterr().out.startswith("This run is finished (20 steps)")
    assert origin(run) == written
