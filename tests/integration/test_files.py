"""What a run directory goes through: other owners, links, full disks, leftovers, disks that fail for a moment."""

import errno
import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from nmt.cli import main
from nmt.errors import RunError
from nmt.run import checkpoint as checkpoints
from nmt.run.directory import Run
from nmt.training.trainer import Trainer
from tests.conftest import BASE

ROOT = Path(__file__).parents[2]
LONGER = ["train", "c.yaml", "--set", "train.max_steps=8"]


def failed(arguments, capfd, code=2):
    """The one line with which a command ends."""
    capfd.readouterr()
    assert main(arguments) == code
    _, err = capfd.readouterr()
    assert "Traceback" not in err
    lines = [line.removeprefix("nmt: ") for line in err.splitlines() if line.startswith("nmt: ")]
    assert len(lines) == 1, err
    return lines[0]


def steps(place):
    return [path.name for path in sorted((place.run / "checkpoints").iterdir())]


def tree(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


# ------------------------------------------------------------------------------------------ the run is another's by now


def taken(change, run):
    """Somebody does what people do to a run that they believe is dead."""
    if change == "lock removed":
        (run / ".lock").unlink()
        return
    if change == "renamed":
        run.rename(run.with_name("away"))
    else:
        shutil.rmtree(run)
    if change != "removed":
        run.mkdir()
        (run / "config.yaml").write_text("another run")
        (run / "checkpoints" / "step-00000001").mkdir(parents=True)
        (run / "metrics.jsonl").write_text("its metrics")


@pytest.mark.parametrize("change", ["removed", "removed and made again", "renamed", "lock removed"])
@pytest.mark.parametrize("moment", ["in training", "at the end"])
def test_a_training_that_lost_its_run_ends_and_leaves_the_other_alone(place, capfd, monkeypatch, change, moment):
    left = {}
    name = "update" if moment == "in training" else "finish"
    original = getattr(Trainer, name)

    def spy(self, *arguments):
        if name == "finish" or self.progress.step == 5:
            taken(change, place.run)
            left.update(tree(place.run))
        return original(self, *arguments)

    monkeypatch.setattr(Trainer, name, spy)
    line = failed(LONGER, capfd)
    assert line.startswith("runs/c: the run directory was removed, renamed or replaced")
    if change == "removed":
        assert not place.run.exists()
    elif change != "lock removed":
        assert tree(place.run) == left


# ---------------------------------------------------------------------------------------------------------------- links


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl", "checkpoints", "model", "train.log", "evaluation"])
def test_links_in_a_run_are_not_written_through(place, capfd, name):
    (place.run / ".lock").touch()
    outside, path = place.path / "precious", place.run / name
    path.rename(outside)
    path.symlink_to("../../precious")
    before = tree(outside) if outside.is_dir() else outside.read_bytes()
    assert failed(LONGER, capfd).startswith(f"runs/c/{name}: is a link (to ../../precious)")
    assert (tree(outside) if outside.is_dir() else outside.read_bytes()) == before


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoints", "model"])
def test_pipes_in_a_run_are_refused(place, capfd, name):
    (place.run / name).rename(place.path / "away")
    os.mkfifo(place.run / name)
    kind = "regular file" if "." in name else "folder"
    assert failed(LONGER, capfd) == f"runs/c/{name}: is not a {kind}; remove it"


def test_links_to_files_of_tensorboard_and_of_an_evaluation(place, capfd):
    precious = place.path / "precious"
    precious.write_text("precious")
    for name in ("config.yaml", "evaluation/tiny.hyp", "evaluation/tiny.json", "manifest.json"):
        content = (place.run / name).read_bytes()
        (place.run / name).unlink()
        copy = place.path / Path(name).name
        copy.write_bytes(content)
        (place.run / name).symlink_to(copy)
        assert main(["evaluate", "c"]) == 0
        assert copy.read_bytes() == content
        assert name.startswith("evaluation") != (place.run / name).is_symlink()
    events = next(place.run.glob("events.*"))
    events.unlink()
    events.symlink_to(precious)
    assert "runs/c/events" in failed(LONGER, capfd)
    assert precious.read_text() == "precious"


def test_a_copy_with_hard_links_does_not_change_the_original(place):
    shutil.copytree(place.run, place.path / "runs" / "d", copy_function=os.link)
    before = tree(place.run)
    assert main([*LONGER, "name=d"]) == 0
    assert tree(place.run) == before


def test_a_run_directory_that_is_a_link_is_trained(place):
    place.run.rename(place.path / "elsewhere")
    place.run.symlink_to("../elsewhere")
    assert main(LONGER) == 0
    assert steps(place)[-1] == "step-00000008"


# ----------------------------------------------------------------------------------------------- nothing starts from 0


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES, errno.EMFILE, errno.ENOMEM])
def test_a_checkpoint_that_cannot_be_read_now_is_not_set_aside(place, capfd, caplog, monkeypatch, number):
    before = place.files()
    original = os.open

    def fail(path, *arguments, **options):
        if "checkpoints" in str(path) and str(path).endswith("optimizer.safetensors"):
            raise OSError(number, os.strerror(number), str(path))
        return original(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        line = failed(LONGER, capfd)
    path = f"runs/c/checkpoints/{steps(place)[-1]}/optimizer.safetensors"
    assert line.startswith(f"{path}: cannot be read: {os.strerror(number)}; nothing was changed")
    noted = ("runs/c/.saved", "runs/c/train.log")
    after = place.files()
    assert {k: v for k, v in after.items() if k not in noted} == {k: v for k, v in before.items() if k not in noted}
    assert main(LONGER) == 0
    assert "resuming at step 4" in caplog.text


@pytest.mark.parametrize("loss", ["all damaged", "deleted", "emptied", "deleted, and the model"])
def test_a_run_without_a_checkpoint_is_refused_at_each_start(place, capfd, loss):
    folder = place.run / "checkpoints"
    if loss == "all damaged":
        for path in checkpoints.list_checkpoints(folder):
            os.truncate(path / "optimizer.safetensors", 50)
    else:
        shutil.rmtree(folder)
    if loss == "emptied":
        folder.mkdir()
    if loss.endswith("model"):
        shutil.rmtree(place.run / "model")
    kept = [*place.run.glob("metrics.jsonl"), *place.run.glob("events.*")]
    before = [path.read_bytes() for path in kept]
    lines = [failed(LONGER, capfd) for _ in range(3)]
    advice = "put the last one back into" if loss in ("deleted", "emptied") else "move the run directory away"
    assert advice in lines[0]
    assert lines[0] == lines[1] == lines[2]
    assert [path.read_bytes() for path in kept] == before


def test_a_start_that_came_to_no_checkpoint_does_not_block_the_next(place, monkeypatch):
    """Its metrics are kept all the same."""
    original = Trainer.update

    def killed(self, batches):
        if self.progress.step == 1:
            raise KeyboardInterrupt
        original(self, batches)

    arguments = ["train", "c.yaml", "--set", "name=d", "train.log_every=1"]
    run = place.path / "runs" / "d"
    for number in (1, 2):
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "update", killed)
            assert main(arguments) == 130
        assert len((run / "metrics.jsonl").read_text().splitlines()) == 1
        assert len(list(run.glob("unsaved-*.jsonl"))) == number - 1
    assert main(arguments) == 0
    assert len(list(run.glob("unsaved-*.jsonl"))) == 2
    assert Run(run).has_model


def test_a_run_whose_first_checkpoint_could_not_be_saved_may_have_other_settings(place, capfd, monkeypatch):
    arguments = ["train", "c.yaml", "--set", "name=d"]
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save_file", full)
        assert "No space left on device" in failed(arguments, capfd, 1)
    assert list((place.path / "runs" / "d" / "checkpoints").iterdir()) == []
    assert main([*arguments, "model.d_model=8"]) == 0


# ----------------------------------------------------------------------------------------------------------- full disks


def full(*_):
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def test_no_space_for_the_final_model(place, capfd, monkeypatch):
    save_file = checkpoints.save_file

    def sometimes(tensors, path, *more):
        return full() if path.parent.name.startswith(".model.") else save_file(tensors, path, *more)

    before = tree(place.run / "model")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save_file", sometimes)
        line = failed(LONGER, capfd, 1)
    assert line.startswith("runs/c/model/model.safetensors: the final model could not be saved: No space left on dev")
    assert tree(place.run / "model") == before


def test_no_space_for_the_tokenizer(place, capfd, monkeypatch):
    def no_space(source, target):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), str(source), None, str(target))

    arguments = ["train", "c.yaml", "--set", "name=d"]
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", no_space)
        line = failed(arguments, capfd, 1)
    assert line.startswith("runs/d/tokenizer/")
    assert line.endswith(f": {os.strerror(errno.EDQUOT)}; free disk space, and run the same command again")
    assert main(arguments) == 0


# ----------------------------------------------------------------------------------------------------- leftovers, modes


def test_leftovers_of_a_kill_do_not_block(place):
    model = place.run / "model"
    shutil.copytree(model, place.run / ".model.old")
    shutil.copytree(model, place.run / ".model.1-0123abcd.old")
    shutil.copytree(model, place.run / ".model.1-0123abcd.tmp")
    shutil.copytree(place.run / "tokenizer", place.run / ".tokenizer.old")
    (place.run / ".config.yaml.1-0123abcd.tmp").write_text("half")
    shutil.copytree(steps_path(place), place.run / "checkpoints" / ".step-00000099.1-0123abcd.tmp")
    (place.run / "evaluation" / ".tiny.hyp.1-0123abcd.tmp").write_text("half")
    assert main(LONGER) == 0
    assert not [path for path in place.run.rglob(".*") if path.name not in (".lock", ".saved")]
    assert checkpoints.read_model(model)[1]["steps"] != []


def steps_path(place):
    return checkpoints.list_checkpoints(place.run / "checkpoints")[-1]


def test_a_model_between_its_two_names_is_put_back(place):
    (place.run / "model").rename(place.run / ".model.1-0123abcd.old")
    with Run(place.run).lock():
        pass
    assert checkpoints.read_model(place.run / "model")


def test_a_run_of_a_group_can_be_read_by_the_group(place):
    before = os.umask(0o007)
    try:
        assert main(["train", "c.yaml", "--set", "name=d", f"data.store={place.path / 'shared'}"]) == 0
    finally:
        os.umask(before)
    for folder in (place.path / "runs" / "d", place.path / "shared"):
        found = {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}
        assert found == {0o660}


# ------------------------------------------------------------------------------------------------ odd file systems


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(place, caplog, monkeypatch, number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    assert main(LONGER) == 0
    assert f"runs/c: there are no file locks here ({os.strerror(number)})" in caplog.text
    with Run(place.run).lock(), pytest.raises(RunError, match="is in use by process"), Run(place.run).lock():
        pass


def test_a_file_system_that_does_not_sync_folders(place, monkeypatch):
    original = os.fsync

    def fail(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        original(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    assert main(LONGER) == 0


# -------------------------------------------------------------------------------------------------- other kinds of JSON


@pytest.mark.parametrize("content", ["[1]", "null", "5", '"x"', "{}", '{"bleu": "x", "chrf": 1, "ter": 1}', "{"])
def test_stored_files_of_another_kind(place, capfd, content):
    (place.run / "evaluation" / "tiny.json").write_text(content)
    assert main(["train", "c.yaml"]) == 0
    assert (place.run / "evaluation" / "tiny.json").read_text() != content
    (place.run / "manifest.json").write_text(content)
    if not content.endswith("}"):
        with pytest.raises(RunError, match=r"manifest\.json: (cannot be read|damaged)"):
            Run(place.run).load_manifest()


# ---------------------------------------------------------------------------------------------------------------- names


def test_long_names(place, capfd):
    name = "x" * 250
    shutil.copy("test.src", name)
    assert main(["translate", "c", "-i", name, "-o", f"{name}.out"[-255:]]) == 0
    assert main(["evaluate", "c", "--src", name, "--ref", "test.tgt"]) == 0
    shutil.copy("test.src", "y" * 255)
    assert main(["evaluate", "c", "--src", "y" * 255, "--ref", "test.tgt"]) == 0
    assert len(list((place.run / "evaluation" / "files").glob("*.json"))) == 2


def test_commands_that_are_suggested_can_be_typed(place, capfd):
    place.write("my c.yaml", b"name: d\nruns: my runs\n" + BASE)
    assert main(["prepare", "my c.yaml"]) == 0
    assert "train 'my c.yaml'" in capfd.readouterr().out
    assert main(["train", "my c.yaml"]) == 0
    out = capfd.readouterr().out
    assert "translate 'my runs/d'" in out
    assert "evaluate 'my runs/d'" in out


# --------------------------------------------------------------------------------------------------------- translate -o


def test_the_file_of_a_translation_keeps_its_mode(place):
    out = place.path / "out"
    out.touch(mode=0o600)
    assert main(["translate", "c", "-i", "test.src", "-o", "out"]) == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert not list(place.path.glob(".out.*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_translation_that_is_stopped_leaves_nothing(place, number):
    place.write("out", b"earlier\n")
    command = [sys.executable, "-m", "nmt", "translate", "c", "-o", "out"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
    process.stdin.write(b"one two\n")
    process.stdin.flush()
    while not list(place.path.glob(".out.*")):
        assert process.poll() is None
    process.send_signal(number)
    assert process.wait() in (128 + number, -number)
    assert not list(place.path.glob(".out.*"))
    assert (place.path / "out").read_bytes() == b"earlier\n"


def test_a_full_disk_is_named_by_the_name_that_was_given(place, capfd, monkeypatch):
    def no_space(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    place.write("out", b"earlier\n")
    monkeypatch.setattr(Path, "replace", no_space)
    assert failed(["translate", "c", "-i", "test.src", "-o", "out"], capfd, 1).startswith(
        "out: No space left on device"
    )
    assert (place.path / "out").read_bytes() == b"earlier\n"
    assert not list(place.path.glob(".out.*"))
