"""A run is called finished, and scores are shown, only for the model and settings they are of."""

import json
import os
import platform
import shutil
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nmt import pipeline
from nmt.cli import main
from nmt.evaluation.results import Results
from nmt.run import checkpoint as checkpoints
from nmt.run.differences import differences
from nmt.run.directory import Run
from nmt.runtime import environment
from nmt.training.trainer import Trainer
from nmt.translation.translator import Translator
from tests.runs import Killed

LEARN = [
    "train.optimizer.lr=0.01", "train.schedule={name: inverse_sqrt, warmup_steps: 2}", "train.ema_decay=null",
    "train.score=loss", "train.precision=fp32",
]  # fmt: skip
TRAIN = ["train", "c.yaml", "--set", *LEARN]
FURTHER = [*TRAIN, "train.max_steps=8"]


def killed(*_, **__):
    raise Killed


def table(out: str) -> list[str]:
    return [line for line in out.splitlines() if line.startswith("tiny ")]


def record(run: Path, name: str = "tiny") -> dict:
    return json.loads((run / "evaluation" / f"{name}.json").read_text())


# ------------------------------------------------------------------------------------------------- trained further


@pytest.fixture(scope="module")
def ends(tmp_path_factory, template) -> Path:
    """``first``: a run finished at step 4; ``whole``: the same, trained further to step 8 and left alone."""
    folder = tmp_path_factory.mktemp("ends")
    shutil.copytree(template, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.rmtree("runs/c")
        assert main(TRAIN) == 0
        shutil.copytree("runs/c", "first")
        assert main(FURTHER) == 0
        shutil.copytree("runs/c", "whole")
    return folder


@pytest.fixture
def further(ends, tmp_path, monkeypatch) -> Path:
    shutil.copytree(ends, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    shutil.rmtree("runs/c")
    shutil.copytree("first", "runs/c")
    return Path("runs/c")


MOMENTS = {
    "before the last checkpoint is pruned": (checkpoints, "prune", 2),
    "before the final model": (Trainer, "finish", 1),
    "while the final model is written": (checkpoints, "seal", 3),
    "before its settings are adopted": (Run, "save_config", 1),
    "before the evaluation": (pipeline, "score_set", 1),
    "before the scores are stored": (Results, "store", 1),
    "before the final metrics": (pipeline, "record_final_metrics", 1),
    "after the final metrics": (Run, "save_config", 2),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_trained_further_and_killed_ends_like_one_left_alone(further, monkeypatch, moment):
    owner, name, call = MOMENTS[moment]
    original, calls = getattr(owner, name), []

    def kill(*args, **kwargs):
        calls.append(name)
        return killed() if len(calls) == call else original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, kill)
        with pytest.raises(Killed):
            main(FURTHER)
    assert main(FURTHER) == 0
    assert list(differences(Run(Path("whole")), Run(further))) == []
    assert record(further) == record(Path("whole"))
    assert record(further)["model"] != record(Path("first"))["model"]
    assert (further / "config.yaml").read_text() == Path("whole/config.yaml").read_text()


def test_a_run_trained_further_that_fails_is_not_finished(further, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save_model", full_disk)
        assert main(FURTHER) == 1
    capsys.readouterr()
    assert main(FURTHER) == 0
    out = capsys.readouterr().out
    assert "This run is finished" not in out
    assert list(differences(Run(Path("whole")), Run(further))) == []


def full_disk(*_, **__):
    raise OSError(28, "No space left on device")


def test_while_a_run_is_trained_further_the_model_in_use_is_named(further, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "finish", killed)
        with pytest.raises(Killed):
            main(FURTHER)
    Path("in").write_text("one two\n")
    said = (
        "runs/c is not finished: the training is saved up to step 8, but the final model, which is used here, is still "
        "that of step 4; nmt train resumes the training"
    )
    for command in (["evaluate", "c"], ["translate", "c", "-i", "in"], ["evaluate", "c", "--src", "in", "--ref", "in"]):
        caplog.clear()
        assert main(command) == 0
        assert caplog.messages.count(said) == 1
    assert main(FURTHER) == 0
    caplog.clear()
    assert main(["evaluate", "c"]) == 0
    assert not any("not finished" in message for message in caplog.messages)


def test_final_metrics_are_in_tensorboard_once_at_the_last_step(further):
    for command in (TRAIN, FURTHER, FURTHER):
        assert main(command) == 0
    board = EventAccumulator(str(further), purge_orphaned_data=False).Reload()
    for metric, title in (("bleu", "BLEU"), ("chrf", "chrF")):
        events = board.Scalars(f"5 final/tiny {title}")
        assert [(e.step, pytest.approx(e.value)) for e in events] == [(8, record(further)[metric])]
    assert "_hparams_/session_start_info" in board.summary_metadata


def test_a_final_model_that_was_damaged_is_made_again(further, caplog):
    (further / "model" / "model.safetensors").write_bytes(b"")
    assert main(TRAIN) == 0
    assert "does not match its checksum; writing it again from the checkpoints" in caplog.text
    assert list(differences(Run(Path("first")), Run(further))) == []


def test_another_average_makes_another_final_model(further):
    assert main([*TRAIN, "train.average=2", "train.selection=score"]) == 0  # whatever its validation says
    assert json.loads((further / "model" / "model.json").read_text())["steps"] == [2, 4]
    assert "average: 2" in (further / "config.yaml").read_text()
    assert record(further)["model"] != record(Path("first"))["model"]


# --------------------------------------------------------------------------------------------------- other settings

CHANGES = {
    "search": ["search.beam_size=1", "search.max_length_ratio=0.5"],
    "metric": ["evaluation.tokenize=char"],
    "case": ["evaluation.lowercase=true"],
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_settings_are_scored_again_and_stored_beside_the_earlier_ones(further, monkeypatch, capsys, change):
    before, hypotheses = record(further), (further / "evaluation" / "tiny.hyp").read_text()
    assert main([*TRAIN, *CHANGES[change]]) == 0
    shown = table(capsys.readouterr().out)
    assert "This run is finished" not in shown
    after = record(further)
    assert (after["search"], after["signatures"]) != (before["search"], before["signatures"])
    [earlier] = (further / "evaluation" / "earlier").glob("tiny.*.json")
    assert json.loads(earlier.read_text()) == before
    assert earlier.with_suffix(".hyp").read_text() == hypotheses

    # By another way: the settings of the run are now these.
    shutil.copytree("runs/c", "copy")
    assert main(["evaluate", "copy"]) == 0
    assert table(capsys.readouterr().out) == shown

    # Back again: both results are stored, nothing is translated.
    monkeypatch.setattr(Translator, "translate", killed)
    for settings, expected in (([], before), (CHANGES[change], after), ([], before)):
        assert main([*TRAIN, *settings]) == 0
        assert record(further) == expected


def test_settings_are_adopted_only_once_they_are_scored(further, monkeypatch):
    config = (further / "config.yaml").read_text()
    with monkeypatch.context() as patch:
        patch.setattr(Translator, "translate", killed)
        with pytest.raises(Killed):
            main([*TRAIN, "search.beam_size=1"])
    assert (further / "config.yaml").read_text() == config
    assert record(further) == record(Path("first"))


@pytest.mark.parametrize("spoiled", ["tiny.json", "tiny.hyp"])
@pytest.mark.parametrize("content", [b"", b"[1]", b"null", b"other\n"])
def test_results_that_were_spoiled_are_made_again(further, spoiled, content):
    (further / "evaluation" / spoiled).write_bytes(content)
    assert main(TRAIN) == 0
    assert record(further) == record(Path("first"))
    assert list(differences(Run(Path("first")), Run(further))) == []


# ------------------------------------------------------------------------------------------- of an earlier version


def age(run: Path) -> None:
    """Leave of a finished run what commit 9b825eb recorded."""
    info = json.loads((run / "model" / "model.json").read_text())
    (run / "model" / "model.json").unlink()
    kept = ("format", "steps", "averaged", "identity", "training_seconds")
    last = checkpoints.open_checkpoint(checkpoints.list_checkpoints(run / "checkpoints")[-1])
    info["training_seconds"] = last.state["progress"]["seconds"]  # that version counted no time after the last save
    checkpoints.seal(run / "model", "model.json", {key: info[key] for key in kept})
    kept = ("sentences", "bleu", "chrf", "ter", "signatures", "search")
    (run / "evaluation" / "tiny.json").write_text(json.dumps({key: record(run)[key] for key in kept}))
    for path in checkpoints.list_checkpoints(run / "checkpoints"):
        state = checkpoints.open_checkpoint(path).state
        (path / "state.json").unlink()
        checkpoints.seal(path, "state.json", {k: state[k] for k in state if k not in ("environment", "sha256")})


def test_a_run_finished_by_an_earlier_version_is_finished(further, monkeypatch, capsys):
    age(further)
    stored = record(further)
    monkeypatch.setattr(Translator, "translate", killed)
    assert main(TRAIN) == 0
    assert capsys.readouterr().out.startswith("This run is finished (4 steps).")
    assert record(further) == stored


@pytest.mark.parametrize("what", ["the model is newer", "other search"])
def test_scores_of_an_earlier_version_that_may_be_of_something_else_are_made_again(further, what):
    age(further)
    if what == "the model is newer":
        os.utime(further / "model" / "model.json")
        os.utime(further / "evaluation" / "tiny.json", (1, 1))
    assert main([*TRAIN, *(["search.beam_size=1"] if what == "other search" else [])]) == 0
    assert record(further)["model"] == Run(further).model_checksum()


def test_a_run_of_an_earlier_version_killed_while_trained_further_is_not_finished(further, monkeypatch):
    age(further)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "finish", killed)
        with pytest.raises(Killed):
            main(FURTHER)
    assert main(FURTHER) == 0
    assert list(differences(Run(Path("whole")), Run(further))) == []


# --------------------------------------------------------------------------------------------------------- files


def test_files_of_ones_own_are_stored_apart(place, capsys):
    stored = {path.name: path.read_bytes() for path in (place.run / "evaluation").iterdir()}
    for folder in ("a", "b"):
        Path(folder).mkdir()
    Path("a/tiny").write_text("one two\n")
    Path("b/tiny").write_text("three four\n")
    for file in ("a/tiny", "b/tiny", "a/tiny"):
        assert main(["evaluate", "c", "--src", file, "--ref", file]) == 0
    assert "stored in runs/c/evaluation/files/tiny." in capsys.readouterr().out
    files = sorted((place.run / "evaluation" / "files").iterdir())
    assert len(files) == 6
    assert {path.name: path.read_bytes() for path in (place.run / "evaluation").glob("*.*")} == stored
    assert main(["train", "c.yaml"]) == 0
    assert "This run is finished" in capsys.readouterr().out


# --------------------------------------------------------------------------------------------------- environment


def test_the_environment_is_recorded_and_compared(place, monkeypatch, caplog):
    last = checkpoints.list_checkpoints(place.run / "checkpoints")[-1]
    recorded = [
        json.loads(path.read_text())["environment"]
        for path in (place.run / "manifest.json", last / "state.json", place.run / "model" / "model.json")
    ]
    assert recorded[0] == recorded[1] == recorded[2]
    assert recorded[0]["python"] == platform.python_version()
    assert recorded[0]["torch"] == torch.__version__
    assert (recorded[0]["device"], recorded[0]["threads"], recorded[0]["ranks"]) == ("cpu", 1, 1)

    assert main(["train", "c.yaml", "--set", "train.max_steps=5"]) == 0
    assert "another environment" not in caplog.text
    assert "; bit-reproducible from the seed\n" in caplog.text
    caplog.clear()
    original = environment.source_digest()
    monkeypatch.setattr(environment, "source_digest", lambda: "0123456789abcdef")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": recorded[0]["precision"] != "bf16"})
    assert main(["train", "c.yaml", "--set", "train.max_steps=6"]) == 0
    was, now = recorded[0]["precision"], {"bf16": "fp32", "fp32": "bf16"}[recorded[0]["precision"]]
    assert (
        "step-00000005: was saved in another environment; results may differ slightly "
        f"(precision: {was} before, {now} now; code: {recorded[0]['code']} before, 0123456789abcdef now)"
    ) in caplog.text
    assert "; bit-reproducible from the seed" not in caplog.text
    # What was computed in another environment stays in the weights.
    monkeypatch.setattr(environment, "source_digest", lambda: original)
    for step in (7, 8):
        caplog.clear()
        assert main(["train", "c.yaml", "--set", f"train.max_steps={step}"]) == 0
        assert "the environment has changed since the first start" in caplog.text
        assert "; bit-reproducible from the seed" not in caplog.text


def test_a_checkpoint_without_a_recorded_environment_is_resumed_without_a_word(place, caplog):
    for path in checkpoints.list_checkpoints(place.run / "checkpoints"):
        state = checkpoints.open_checkpoint(path).state
        (path / "state.json").unlink()
        checkpoints.seal(path, "state.json", {k: state[k] for k in state if k not in ("environment", "sha256")})
    assert main(["train", "c.yaml", "--set", "train.max_steps=5"]) == 0
    assert "environment" not in caplog.text
    assert "bit-reproducible from the seed if its earlier starts had these versions and threads" in caplog.text
