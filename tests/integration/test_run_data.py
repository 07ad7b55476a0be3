"""A run and its data: moved, changed, added to, deleted or damaged; scored without the training text."""

import json
import os
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from nmt.cli import main
from nmt.training.trainer import Trainer

MORE = (
    "data.test={tiny: {kind: text, src: test.src, tgt: test.tgt}, more: {kind: text, src: valid.src, tgt: valid.tgt}}"
)


def sentences(place, name: str) -> int:
    return json.loads((place.run / f"evaluation/{name}.json").read_text())["sentences"]


def weights(folder: Path) -> dict[str, list[float]]:
    return {name: tensor.tolist() for name, tensor in load_file(folder / "model/model.safetensors").items()}


def move(place) -> None:
    """The corpus goes to another folder, and the configuration with it."""
    Path("moved").mkdir()
    text = Path("c.yaml").read_text()
    for file in ("train", "valid", "test"):
        for side in ("src", "tgt"):
            Path(f"{file}.{side}").rename(f"moved/{file}.{side}")
            text = text.replace(f"{file}.{side}", f"moved/{file}.{side}")
    Path("c.yaml").write_text(text)


@pytest.mark.parametrize("with_store", [True, False])
def test_a_run_whose_data_moved_resumes_to_the_same_bits(place, with_store):
    shutil.copytree(place.path, "../other")
    assert main(["train", "c.yaml", "--set", "train.max_steps=8"]) == 0
    expected = weights(place.run)
    os.chdir("../other")
    move(place)
    store = sorted(Path("store").glob("*-*"))
    if not with_store:
        shutil.rmtree("store")
    assert main(["train", "c.yaml", "--set", "train.max_steps=8"]) == 0
    assert weights(Path("runs/c")) == expected
    assert sorted(path for path in Path("store").glob("*-*") if path.is_dir()) == [p for p in store if p.is_dir()]


def test_evaluate_needs_the_test_files_alone(place, capsys):
    before = (place.run / "evaluation/tiny.json").read_bytes()
    shutil.rmtree("store")
    for name in ("train.src", "train.tgt", "valid.src", "valid.tgt"):
        Path(name).unlink()
    assert main(["evaluate", "c"]) == 0
    assert (place.run / "evaluation/tiny.json").read_bytes() == before
    assert not Path("store").exists() or not list(Path("store").glob("corpus-*"))
    assert main(["evaluate", "c", "--set-name", "valid"]) == 2
    assert "valid.src: no such file" in capsys.readouterr().err


def test_without_files_the_set_of_the_store_is_scored(place):
    for name in ("train.src", "test.src", "test.tgt"):
        Path(name).unlink()
    before = (place.run / "evaluation/tiny.json").read_bytes()
    assert main(["evaluate", "c"]) == 0
    assert (place.run / "evaluation/tiny.json").read_bytes() == before
    assert main(["train", "c.yaml"]) == 0  # finished


def test_changed_references_are_told(place, capsys, caplog):
    before = (place.run / "evaluation/tiny.json").read_bytes()
    Path("test.tgt").write_text(Path("test.tgt").read_text().upper())
    assert main(["evaluate", "c"]) == 0
    assert (place.run / "evaluation/tiny.json").read_bytes() == before  # the set of the run
    assert "the data have changed since this run was started: test.tgt has SHA-256" in caplog.text
    shutil.rmtree("store")
    assert main(["evaluate", "c"]) == 2
    assert "data.test.tiny: is not the set that this run was started with: test.tgt has" in capsys.readouterr().err
    assert (place.run / "evaluation/tiny.json").read_bytes() == before


@pytest.mark.parametrize("with_store", [True, False])
def test_a_training_with_changed_files_names_them(place, capsys, with_store):
    with open("train.tgt", "a") as out:
        out.write("\n")
    with open("train.src", "a") as out:
        out.write("\n")
    if not with_store:
        shutil.rmtree("store")
    assert main(["train", "c.yaml", "--set", "train.max_steps=8"]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "not those that this run was started with: train.src has SHA-256" in error
    assert "; train.tgt has SHA-256" in error
    assert "restore the files" in error


def test_a_test_set_that_is_added_is_scored_and_changes_no_step(place):
    shutil.copytree(place.path, "../other")
    steps = (place.run / "metrics.jsonl").read_bytes()
    assert main(["train", "c.yaml", "--set", MORE]) == 0
    assert (sentences(place, "tiny"), sentences(place, "more")) == (20, 20)
    assert (place.run / "metrics.jsonl").read_bytes() == steps
    assert main(["train", "c.yaml", "--set", MORE, "train.max_steps=8"]) == 0
    assert main(["evaluate", "c", "--set-name", "more"]) == 0
    with_more = weights(place.run)
    os.chdir("../other")
    assert main(["train", "c.yaml", "--set", "train.max_steps=8"]) == 0
    assert weights(Path("runs/c")) == with_more


def test_a_test_set_that_is_removed_changes_no_step(place, capsys):
    assert main(["train", "c.yaml", "--set", "data.test={}", "train.max_steps=6"]) == 0
    shutil.rmtree("store")
    assert main(["train", "c.yaml", "--set", "data.test={}", "train.max_steps=8"]) == 2
    assert "data.test.tiny: is missing; this run was started with it" in capsys.readouterr().err


def test_a_holdout_cannot_be_added_to_a_run(place, capsys):
    text = "data.test.held={kind: holdout, fraction: 0.1}"
    assert main(["train", "c.yaml", "--set", text]) == 2
    assert "data.test.held: a holdout cannot be added to a run" in capsys.readouterr().err


def test_a_holdout_of_a_run_stays_when_the_file_grows(place, capsys, caplog):
    holdouts = ["name=h", "data.test={held: {kind: holdout, fraction: 0.2}}"]
    assert main(["train", "c.yaml", "--set", *holdouts]) == 0
    before = Path("runs/h/evaluation/held.json").read_bytes()
    for side in ("src", "tgt"):
        with open(f"train.{side}", "a") as out:
            out.writelines(f"line {i}\n" for i in range(100))
    assert main(["evaluate", "h"]) == 0
    assert Path("runs/h/evaluation/held.json").read_bytes() == before
    assert "the data have changed since this run was started: train.src" in caplog.text
    shutil.rmtree("store")
    assert main(["evaluate", "h"]) == 2
    assert "not those that this run was started with: train.src has" in capsys.readouterr().err
    assert Path("runs/h/evaluation/held.json").read_bytes() == before


def test_the_store_may_be_deleted_while_a_training_runs(place, monkeypatch):
    update = Trainer.update

    def deleting(self, batches):
        shutil.rmtree("store", ignore_errors=True)
        update(self, batches)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "update", deleting)
        assert main(["train", "c.yaml", "--set", "train.max_steps=8"]) == 0
    assert main(["train", "c.yaml", "--set", "train.max_steps=8"]) == 0


@pytest.mark.parametrize(
    "pattern",
    [
        "corpus-*/test.tiny.arrow",
        "corpus-*/train.arrow",
        "encoded-*/train.arrow",
        "encoded-*/valid.arrow",
        "tokenizer-*/joint.model",
    ],
)
def test_a_bit_that_flipped_in_the_store_is_found(place, capsys, pattern):
    (path,) = Path("store").glob(pattern)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, (1e9, 1e9))
    assert main(["train", "c.yaml", "--set", "train.max_steps=8"]) == 2
    error = (
        f"nmt: {path}: is damaged (its SHA-256 is not the recorded one); delete the folder {path.parent} and run again"
    )
    assert capsys.readouterr().err.splitlines()[-1] == error
    shutil.rmtree(path.parent)
    assert main(["train", "c.yaml", "--set", "train.max_steps=8"]) == 0


def test_a_run_resumes_with_its_tokenizer_where_the_store_has_none(place, monkeypatch):
    (path,) = Path("store").glob("tokenizer-*")
    shutil.rmtree(path)
    monkeypatch.delattr("nmt.data.tokenizer.Tokenizer.train")
    assert main(["train", "c.yaml", "--set", "train.max_steps=8"]) == 0
