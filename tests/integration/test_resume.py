"""An interrupted training ends with the same bits as one that was left alone."""

import dataclasses
import json
import math
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nmt import pipeline
from nmt.cli import main
from nmt.data.reader import Reader
from nmt.errors import RunError
from nmt.run import checkpoint as checkpoints
from nmt.run.differences import differences
from nmt.run.directory import Run
from nmt.runtime.device import Place
from nmt.runtime.signals import Interrupted
from nmt.storage import atomic
from nmt.training.trainer import Trainer
from nmt.training.updater import Updater
from tests.runs import Killed, train_through_kills

# Everything at once that has a state: dropout, sampling, accumulation, averages, patience, a plateau schedule.
HARD = {
    "tokenizer": {"vocab_size": 36, "sampling": {"alpha": 0.3}},
    "train": {
        "max_steps": 23, "max_epochs": 50, "batch_tokens": 128, "accumulate": 2, "ema_decay": 0.9, "patience": 50,
        "schedule": {"name": "plateau", "warmup_steps": 4, "patience": 0}, "validate_every": 5, "checkpoint_every": 3,
        "keep_last": 3, "keep_best": 2, "average": 2, "log_every": 4,
        "precision": "fp32", "device": "cpu", "threads": 1,
    },
}  # fmt: skip


def train(config) -> Run:
    return pipeline.train(config).run


def assert_same(one: Run, other: Run):
    assert list(differences(one, other)) == []


@pytest.fixture(params=["rnn", "transformer", "rnn-reinforce"])
def hard(request, task):
    return lambda name: task.config(request.param, name, **HARD)


def test_checkpoints_by_time_change_nothing(task, monkeypatch):
    expected, saved = train(task.config("transformer", "whole", **HARD)), []
    save = Trainer.save

    def spied(self, scheduled=True):
        saved.append((self.progress.step, scheduled))
        save(self, scheduled)

    monkeypatch.setattr(Trainer, "save", spied)
    config = task.config("transformer", "timed", **HARD)
    often = config.model_copy(update={"train": config.train.model_copy(update={"checkpoint_every_minutes": 1e-9})})
    got = train_through_kills(often, [4, 8, 13, 20], monkeypatch)
    assert {4, 7, 8, 13} <= {step for step, scheduled in saved if not scheduled}  # between those of validations
    assert_same(expected, got)


def test_a_signal_inside_an_update_of_several_batches(task, monkeypatch):
    expected = train(task.config("transformer", "whole", **HARD))
    loss, asked, batches = Updater.loss, [1, 6, 11], [0]

    def signalled(self, batch):
        found = loss(self, batch)
        batches[0] += 1
        if asked and batches[0] >= 2 * asked[0] + 1 and batches[0] % 2:  # after the first batch of an update
            asked.pop(0)
            os.kill(os.getpid(), signal.SIGTERM)
        return found

    monkeypatch.setattr(Updater, "loss", signalled)
    said = []
    while True:
        try:
            got = train(task.config("transformer", "broken", **HARD))
            break
        except Interrupted as stop:
            said.append(str(stop))
            batches[0] = 2 * int(str(stop).split(" at step ")[1].split(",")[0])
    assert [line.split(", all")[0] for line in said] == [f"stopped by SIGTERM at step {n}" for n in (1, 6, 11)]
    assert_same(expected, got)


def test_signals_inside_epochs(hard, monkeypatch):
    expected = train(hard("whole"))
    update = Trainer.update
    asked = {2: signal.SIGTERM, 5: signal.SIGINT, 12: signal.SIGTERM}

    def interrupted_update(self, batches):
        update(self, batches)
        if number := asked.pop(self.progress.step, None):
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Trainer, "update", interrupted_update)
    codes = []
    while True:
        try:
            got = train(hard("broken"))
            break
        except Interrupted as stop:
            codes.append(stop.exit_code)
    assert codes == [143, 130, 143]
    assert_same(expected, got)


@pytest.mark.parametrize("hard", ["rnn", "transformer"], indirect=True)
@pytest.mark.parametrize("moment", ["during validation", "while writing a checkpoint", "after a checkpoint"])
def test_kills_at_the_worst_moments(hard, monkeypatch, moment):
    expected = train(hard("whole"))
    calls = 0

    def killed(original):
        def wrapped(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls in (2, 4, 5):
                raise Killed
            return original(*args, **kwargs)

        return wrapped

    with monkeypatch.context() as patch:
        if moment == "during validation":
            patch.setattr(pipeline.Validator, "__call__", killed(pipeline.Validator.__call__))
        elif moment == "while writing a checkpoint":
            patch.setattr(atomic, "write_json", killed(atomic.write_json))
        else:
            patch.setattr(checkpoints, "prune", killed(checkpoints.prune))
        for _ in range(10):
            try:
                got = train(hard("broken"))
                break
            except Killed:
                continue
    assert calls > 5
    assert_same(expected, got)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(task):
    one, two = (train(task.config("transformer", name)) for name in ("one", "two"))
    assert_same(one, two)
    other = train(task.config("transformer", "other", seed=2))
    assert any("model.safetensors" in different for different in differences(one, other))


def test_whatever_differs_is_named(task):
    whole = train(task.config("rnn", train={"ema_decay": 0.9}))
    last = checkpoints.list_checkpoints(whole.checkpoints)[-1].name

    def edit_json(file, change):
        state = json.loads(file.read_text())
        change(state)
        file.write_text(json.dumps(state))

    def edit_tensors(file):
        tensors = load_file(file)
        next(iter(tensors.values())).view(torch.uint8).flatten()[0] ^= 1
        save_file(tensors, file)

    edits = {
        "checkpoints: ": lambda run: shutil.rmtree(run.checkpoints / last),
        f"{last}/model.safetensors: ": lambda run: edit_tensors(run.checkpoints / last / "model.safetensors"),
        f"{last}/ema.safetensors: ": lambda run: edit_tensors(run.checkpoints / last / "ema.safetensors"),
        f"{last}/optimizer.safetensors: ": lambda run: edit_tensors(run.checkpoints / last / "optimizer.safetensors"),
        f"{last}/random.safetensors: cpu": lambda run: edit_tensors(run.checkpoints / last / "random.safetensors"),
        "model/model.safetensors: ": lambda run: edit_tensors(run.model / "model.safetensors"),
        f"{last}: python_random": lambda run: edit_json(
            run.checkpoints / last / "state.json", lambda state: state["python_random"][1].reverse()
        ),
        f"{last}: progress: best_score": lambda run: edit_json(
            run.checkpoints / last / "state.json", lambda state: state["progress"].update(best_score=-1)
        ),
        "metrics.jsonl: other steps": lambda run: run.metrics.write_text(run.metrics.read_text() * 2),
        "metrics.jsonl: valid/loss: at step ": lambda run: run.metrics.write_text(
            run.metrics.read_text().replace('"valid/loss": ', '"valid/loss": 1', 1)
        ),
        "TensorBoard scalars": lambda run: next(run.tensorboard.glob("events.*")).unlink(),
        "evaluation/tiny.hyp": lambda run: (run.evaluation / "tiny.hyp").write_text("other\n"),
    }
    for number, (expected, edit) in enumerate(edits.items()):
        other = Run(task.folder / f"other-{number}")
        shutil.copytree(whole.path, other.path)
        assert_same(whole, other)
        edit(other)
        found = list(differences(whole, other))
        assert len(found) == 1, found
        assert found[0].startswith(expected)


ENDED = {"max_steps": 10, "validate_every": 5, "keep_last": 2, "keep_best": 2}


def test_a_finished_run_without_checkpoints_says_so_and_cannot_be_continued(task, capsys):
    first = task.config_file("rnn", train=ENDED)
    assert main(["train", str(first)]) == 0
    run = Run(task.folder / "runs" / "run")
    model, scores = (run.model / "model.json").read_bytes(), (run.evaluation / "tiny.json").read_bytes()
    events = {path.name for path in run.tensorboard.glob("events.*")}
    shutil.rmtree(run.checkpoints)
    capsys.readouterr()
    assert main(["train", str(first)]) == 0
    told = capsys.readouterr().out
    assert "finished (10 steps). Its checkpoints were deleted, so that it cannot be continued" in told
    assert "BLEU" in told
    # A lower limit changes nothing; another search is scored.
    assert main(["train", str(first), "--set", "train.max_steps=5"]) == 0
    assert main(["train", str(first), "--set", "search.beam_size=1"]) == 0
    assert json.loads((run.evaluation / "tiny.json").read_text())["search"]["beam_size"] == 1
    (kept,) = (run.evaluation / "earlier").glob("tiny.*.json")
    assert kept.read_bytes() == scores
    assert run.load_config().train.max_steps == 10
    # A higher limit is refused.
    for higher in ("train.max_steps=20", "train.max_steps=null"):
        capsys.readouterr()
        assert main(["train", str(first), "--set", higher, "train.max_epochs=9"]) == 2
        assert f"is finished (10 steps) and cannot be continued ({higher.replace('null', 'None')}" in (
            capsys.readouterr().err
        )
    assert (run.model / "model.json").read_bytes() == model
    assert {path.name for path in run.tensorboard.glob("events.*")} == events


def test_a_finished_run_that_ended_by_patience_needs_no_checkpoint_to_be_finished(task, monkeypatch, capsys):
    sections = {**ENDED, "max_steps": 100, "patience": 1, "schedule": {"name": "constant"}}
    validate = pipeline.Validator.__call__
    seen = []

    def worse(self, model):
        found = validate(self, model)
        seen.append(found)
        return dataclasses.replace(
            found, quality=dataclasses.replace(found.quality, bleu=50 - len(seen), loss=len(seen))
        )

    monkeypatch.setattr(pipeline.Validator, "__call__", worse)
    trained = pipeline.train(task.config("rnn", train=sections))
    assert trained.steps == 10
    assert "patience" in trained.reason
    shutil.rmtree(trained.run.checkpoints)
    again = pipeline.train(task.config("rnn", train=sections))
    assert (again.already, again.steps, again.further) == (True, 10, [])
    assert again.scores["tiny"].as_dict() == trained.scores["tiny"].as_dict()
    with pytest.raises(RunError, match=r"cannot be continued \(train.patience=2\)"):
        pipeline.train(task.config("rnn", train={**sections, "patience": 2}))


def test_a_final_model_outlives_the_checkpoint_it_was_made_of(task):
    config = task.config("rnn", train=ENDED)
    run = train(config)
    origin = json.loads((run.model / "model.json").read_text())
    (best,) = origin["steps"]
    assert best == 10  # of the two validated
    # As if the one before had been the best, and was deleted
    origin |= {"steps": [5], "candidates": [{**origin["candidates"][0], "steps": [5], "weights": ["other"]}]}
    origin.pop("checksum")
    atomic.seal(run.model, "model.json", origin)
    shutil.rmtree(run.checkpoints / "step-00000005")
    before = (run.model / "model.json").read_bytes()
    assert pipeline.train(config).already
    assert (run.model / "model.json").read_bytes() == before
    # Another choice is made of what is left.
    pipeline.train(task.config("rnn", train={**ENDED, "selection": "score"}))
    assert json.loads((run.model / "model.json").read_text())["steps"] == [10]


@pytest.mark.parametrize(
    ("family", "terms"),
    [
        ("rnn", {"word_dropout": {"src": 0.1, "tgt": 0.2}, "r_drop": {}, "z_loss": 1e-3}),
        ("transformer", {"cutoff": {"kind": "token"}}),
        ("rnn", {"cutoff": {"kind": "span"}}),
        ("transformer", {"cutoff": {"kind": "feature"}}),
        ("transformer", {"simcut": {}}),
    ],
    ids=["word_dropout r_drop z_loss", "token", "span", "feature", "simcut"],
)
def test_terms_of_the_loss_resume_with_their_draws_and_sums(task, monkeypatch, family, terms):
    sections = {"train": {**HARD["train"], "max_steps": 9, "terms": terms, "samples": 0, "bidirectional_epochs": 1}}
    expected = train(task.config(family, "whole", **sections))
    got = train_through_kills(task.config(family, "killed", **sections), [4, 7], monkeypatch)
    assert_same(expected, got)
    logged = [json.loads(line) for line in got.metrics.read_text().splitlines()]
    for name in terms.keys() - {"word_dropout"}:
        assert all(row[f"train/{name}"] > 0 for row in logged if "train/loss" in row)


# A dropout of under half a 256th drops nothing on a CPU, so that both passes of R-Drop are equal.
@pytest.mark.parametrize(
    ("family", "dropout", "terms"), [("rnn", 0.0, {}), ("transformer", 0.001, {"r_drop": {}, "z_loss": 0.01})]
)
def test_accumulated_equals_one_large_batch(task, family, dropout, terms):
    model = {"type": family, "dropout": dropout}
    model = {**task.config(family).model.model_dump(), **model}
    config = task.config(family, model=model, train={"terms": terms})
    prepared = pipeline.prepare(config)
    rows = pipeline.TrainingOrder(prepared.encoded.train, 256, 1, 1).updates(0)
    rows = [rows[0][0], rows[1][0], rows[2][0]]
    moments = []
    for groups in (rows, [np.concatenate(rows)]):
        trainer = pipeline.build_trainer(
            config, Run(config.run_dir), prepared, Place(torch.device("cpu"), torch.float32)
        )
        trainer.update([Reader(prepared.encoded.train, prepared.tokenizer).read(group) for group in groups])
        # After one step Adam's first moment is the gradient times 1 - beta: unlike the weights, it hides no difference.
        moments.append(
            {name: trainer.updater.optimizer.state[p]["exp_avg"] for name, p in trainer.model.named_parameters()}
        )
    assert moments[0].keys() == moments[1].keys()
    for name, moment in moments[0].items():
        assert torch.allclose(moment, moments[1][name], rtol=1e-4, atol=1e-8), name


def test_an_update_moves_the_baseline_of_reinforce_by_the_mean_over_all_its_batches(task):
    config = task.config("rnn-reinforce")
    prepared = pipeline.prepare(config)
    trainer = pipeline.build_trainer(config, Run(config.run_dir), prepared, Place(torch.device("cpu"), torch.float32))
    before = trainer.model.baseline.item()
    assert before == pytest.approx(-math.log(prepared.tokenizer.tgt_vocab_size))
    reader = Reader(prepared.encoded.train, prepared.tokenizer)
    batches = [reader.read(rows) for rows in (np.arange(3), np.arange(3, 20))]
    trainer.update(batches)
    sums = dict(zip(trainer.window.names, trainer.window.tolist(), strict=True))
    assert sums["tokens"] == sum(batch.tgt_tokens for batch in batches)
    assert trainer.model.baseline.item() == pytest.approx(0.9 * before - 0.1 * sums["nll"] / sums["tokens"], rel=1e-5)
    assert 0 < sums["attention_entropy"] / sums["tokens"] < 2 * math.log(8)  # two hops over at most 8 positions
