"""A run is called finished, and scores are shown, only for the model and settings they are of."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nmt import pipeline
from nmt.cli import main
from nmt.reproduction import differences
from nmt.results import Results
from nmt.run import Run
from nmt.training import checkpoint as checkpoints
from nmt.training import trainer as trainers
from nmt.training.trainer import Trainer
from nmt.translation import Translator
from tests.integration.test_bad_input import as_nobody

FURTHER = ["train", "c.yaml", "--set", "train.max_steps=8", "train.optimizer.lr=0.01"]
TRAIN = ["train", "c.yaml", "--set", "train.optimizer.lr=0.01"]


class Killed(BaseException):
    """Stands for a kill: nothing in the program may catch it and carry on."""


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
    "while the final model is written": (checkpoints, "_seal", 5),
    "before its settings are adopted": (Run, "save_config", 1),
    "before the evaluation": (pipeline, "_evaluate", 1),
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
        if name in ("prune", "_seal", "_evaluate", "finish") and call == 5:
            pass
        with pytest.raises(Killed):
            main(FURTHER)
    assert main(FURTHER) == 0
    assert list(differences(Run(Path("whole")), Run(further))) == []
    assert record(further) == record(Path("whole"))
    assert (further / "config.yaml").read_text() == Path("whole/config.yaml").read_text()
