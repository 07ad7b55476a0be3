import pickle
import random
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from nmt.errors import CheckpointError
from nmt.run import checkpoint as checkpoints
from nmt.storage import atomic


def make(path, step=1, score=None, width=3, scheduled=True):
    torch.manual_seed(step)
    model = nn.Linear(width, 2)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    model(torch.randn(4, width)).square().sum().backward()
    optimizer.step()
    saved = checkpoints.save(
        path,
        tensors=checkpoints.training_tensors(model, optimizer, None),
        progress={"step": step},
        score=score,
        scheduled=scheduled,
        identity={"data": "x"},
        environment={},
        ranks=[checkpoints.RankState.now()],
    )
    return saved, model, optimizer


def test_everything_comes_back(tmp_path):
    random.seed(5)
    np.random.seed(6)
    saved, model, optimizer = make(tmp_path)
    expected = random.random(), np.random.rand(), torch.rand(3)
    for shift in (7, 8):
        random.seed(shift), np.random.seed(shift), torch.manual_seed(shift)
    again = nn.Linear(3, 2)
    other = torch.optim.Adam(again.parameters(), fused=True)
    checkpoints.restore(checkpoints.open_checkpoint(saved), again, other)
    got = random.random(), np.random.rand(), torch.rand(3)
    assert got[:2] == expected[:2]
    assert torch.equal(got[2], expected[2])
    for one, two in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)
        for key, value in optimizer.state[one].items():
            assert torch.equal(value, other.state[two][key])


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "random.safetensors"])
@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "pickle"])
def test_damage_is_found(tmp_path, name, damage):
    saved, _, _ = make(tmp_path)
    file = saved / name
    content = bytearray(file.read_bytes())
    if damage == "truncate":
        file.write_bytes(content[:-1])
    elif damage == "flip":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif damage == "remove":
        file.unlink()
    else:
        file.write_bytes(pickle.dumps(Bomb(tmp_path / "executed")))
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoints.open_checkpoint(saved)
    assert not (tmp_path / "executed").exists()


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_damaged_newest_checkpoint_is_set_aside_and_the_one_before_is_used(tmp_path):
    make(tmp_path, 1)
    newest, _, _ = make(tmp_path, 2)
    (newest / "model.safetensors").write_bytes(b"x")
    warnings = []
    assert checkpoints.last_good(tmp_path, warnings.append).step == 1
    assert len(warnings) == 1
    assert "step-00000002" in warnings[0]
    assert (tmp_path / "damaged-step-00000002").is_dir()


def test_when_all_are_damaged_it_says_so_and_deletes_nothing(tmp_path):
    saved, _, _ = make(tmp_path, 1)
    (saved / "state.json").write_text(f'{{"format": {checkpoints.FORMAT}}}')
    with pytest.raises(CheckpointError, match="no intact checkpoint is left"):
        checkpoints.last_good(tmp_path, lambda _: None)
    assert (tmp_path / "damaged-step-00000001" / "model.safetensors").is_file()


def test_none_yet(tmp_path):
    assert checkpoints.last_good(tmp_path / "missing", pytest.fail) is None


def test_pruning_keeps_the_best_and_the_last(tmp_path):
    for step, score in [(1, 10.0), (2, 30.0), (3, 20.0), (4, None), (5, 5.0), (6, None)]:
        make(tmp_path, step, score)
    checkpoints.prune(tmp_path, keep_best=2, keep_last=1)
    assert [p.name for p in checkpoints.list_checkpoints(tmp_path)] == [f"step-{s:08d}" for s in (2, 3, 6)]
    assert [c.step for c in checkpoints.ranked(tmp_path, pytest.fail)] == [2, 3]


def test_a_crash_while_pruning_leaves_no_half_deleted_checkpoint(tmp_path, monkeypatch):
    for step in (1, 2, 3):
        make(tmp_path, step, score=step)

    def killed(path):
        (path / "state.json").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.prune(tmp_path, keep_best=1, keep_last=1)
    assert [c.step for c in checkpoints.whole(tmp_path, pytest.fail)] == [2, 3]
    assert checkpoints.last_good(tmp_path, pytest.fail).step == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


def test_a_damaged_checkpoint_is_named_and_left_out_of_the_best(tmp_path):
    for step in (1, 2):
        make(tmp_path, step, score=step)
    (tmp_path / "step-00000002" / "model.safetensors").write_bytes(b"x")
    warnings = []
    assert [c.step for c in checkpoints.ranked(tmp_path, warnings.append)] == [1]
    assert "step-00000002: damaged: model.safetensors" in warnings[0]


def test_unscheduled_checkpoints_do_not_push_out_scheduled_ones(tmp_path):
    for step, scheduled in [(1, True), (2, True), (3, False), (4, False)]:
        make(tmp_path, step, scheduled=scheduled)
        checkpoints.prune(tmp_path, keep_best=1, keep_last=2)
    assert [p.name[-1] for p in checkpoints.list_checkpoints(tmp_path)] == ["1", "2", "4"]


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_replacing_a_checkpoint_survives_a_crash_at_any_moment(tmp_path, moment):
    saved, _, _ = make(tmp_path, 1)
    if moment == "before":
        shutil.copytree(saved, tmp_path / f".{saved.name}.123.tmp")
    elif moment == "between":
        saved.rename(tmp_path / f".{saved.name}.old")
    else:
        shutil.copytree(saved, tmp_path / f".{saved.name}.old")
    assert checkpoints.last_good(tmp_path, pytest.fail).step == 1
    assert [p.name for p in tmp_path.iterdir()] == [saved.name]


def test_a_crash_while_writing_leaves_no_checkpoint(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "write_json", fail)
    with pytest.raises(OSError, match="No space"):
        make(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_model_is_refused_by_name_and_shape(tmp_path):
    saved, _, _ = make(tmp_path)
    tensors = checkpoints.open_checkpoint(saved).tensors("model")
    with pytest.raises(CheckpointError, match=r"weight is \[2, 3\], not \[2, 4\]"):
        checkpoints.load_weights(nn.Linear(4, 2), tensors, saved)
    with pytest.raises(CheckpointError, match="it has bias"):
        checkpoints.load_weights(nn.Linear(3, 2, bias=False), tensors, saved)
    with pytest.raises(CheckpointError, match=r"0\.bias is missing"):
        checkpoints.load_weights(nn.Sequential(nn.Linear(3, 2)), tensors, saved)


def test_another_format_is_refused_and_left_where_it_is(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "FORMAT", 99)
        saved, _, _ = make(tmp_path)
    with pytest.raises(CheckpointError, match=r"has format 99; this version of nmt reads format \d"):
        checkpoints.last_good(tmp_path, pytest.fail)
    assert [p.name for p in tmp_path.iterdir()] == [saved.name]


def test_tied_weights_are_saved_once(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    assert list(checkpoints.weights_of(model)) == ["0.weight"]
