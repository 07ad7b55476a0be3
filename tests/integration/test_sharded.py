"""Several processes divide one model among themselves (FSDP2): ranks on the CPU, connected by gloo."""

import json
import math
import signal
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file

from nmt import pipeline
from nmt.config.load import load_config
from nmt.config.train import OptimizerConfig
from nmt.run import checkpoint as checkpoints
from nmt.run.differences import differences
from nmt.run.directory import Run
from nmt.runtime.sharding import gathered, gathered_on_main, is_shard, local_bytes
from nmt.runtime.startup import join
from nmt.training.optim import build_optimizer
from nmt.training.parallel import state_bytes
from tests.conftest import MODELS
from tests.integration.test_distributed import Ranks, last_checkpoint, run_of, train
from tests.integration.test_guided_alignment import aligned
from tests.integration.test_resume import HARD

# Keys have a bias that changes no attention: its gradient is the rounding of 0, which a larger eps keeps small.
TRAIN = {
    "parallel": "sharded", "batch_tokens": 128, "accumulate": 2, "ema_decay": 0.9, "max_steps": 9,
    "optimizer": {"eps": 1e-4, "lr": 0.01}, "clip_norm": 0.5,
    "schedule": {"warmup_steps": 1, "name": "constant"},
}  # fmt: skip
NORMED = {"fix_norm": True, "activation": "swiglu", "norm_type": "rms", "qk_norm": "layer", "output_bias": True}
GUIDED = {"terms": {"guided_alignment": {"layer": 1}}, "batching": "padded"}
# Odd sizes: the ranks' shards are of different sizes.
VARIANTS = {
    "packed": ("transformer", {"d_ff": 65}, {"batching": "packed"}),
    "padded": ("transformer", {"positions": "learned", "tie_embeddings": "decoder", "decoder_layers": 2}, GUIDED),
    "normed": ("transformer", NORMED, {"batching": "packed", "compress_gradients": "bf16"}),
    "bf16": ("transformer", {"dropout": 0.001}, {"batching": "packed", "precision": "bf16", "terms": {"r_drop": {}}}),
    "rnn": ("rnn", {"d_hidden": 33, "cell": "lstm", "decoder_layers": 2}, {"terms": {"z_loss": 0.01}}),
    "mixed": ("transformer-to-rnn", {"encoder": {**MODELS["transformer-to-rnn"]["encoder"], "dropout": 0.0}}, {}),
}
UPDATES = 3


def build(path, ranks):
    config = load_config(path)
    run, prepared = Run(config.run_dir), pipeline.prepare(config)
    place = pipeline.set_up(config.train, ranks)
    return pipeline.build_trainer(config, run, prepared, place)


def learn(trainer, ranks):
    """Make updates of four batches each, of which the last has three; the second one's gradient is infinite."""
    planned = [list(update) for update in list(trainer.order.updates(0))[:UPDATES]]
    planned[-1] = planned[-1][:3]
    trainer._planned_updates = lambda: iter([(0, 0, False, update) for update in planned])
    loss = trainer.updater.loss
    for number, (*_, batches) in enumerate(trainer._read_updates()):
        if number == 1 and ranks.rank == ranks.size - 1:
            trainer.updater.loss = lambda batch: tuple(math.inf * each for each in loss(batch))
        trainer.update(batches)
        trainer.updater.loss = loss


def write_tensors(trainer, ranks, path):
    """Write what a checkpoint would hold, whole, as ``path`` and the name of each file."""
    average = trainer.updater.ema.tensors()
    for file, tensors in checkpoints.training_tensors(trainer.model, trainer.updater.optimizer, average).items():
        whole = gathered_on_main(tensors, ranks.is_main)
        if ranks.is_main:
            save_file(whole, path.with_suffix(f".{file}"))


def _learn_in_shards(rank, log, files):
    with join() as ranks:
        for name, path in files.items():
            trainer = build(path, ranks)
            learn(trainer, ranks)
            moments = [t for state in trainer.updater.optimizer.state.values() for t in state.values() if t.dim()]
            state = [*trainer.model.parameters(), *moments, *trainer.updater.ema.average]
            assert all(map(is_shard, state))
            assert all(parameter.grad is None for parameter in trainer.model.parameters())
            held = local_bytes(state) / (state_bytes(trainer.model, averaged=True) * 16 / 20)
            write_tensors(trainer, ranks, path)
            if ranks.is_main:
                print(json.dumps([name, held, trainer.window.tolist()[:5]]))


def test_updates_are_those_of_one_process(task):
    files, names = {}, list(VARIANTS)
    sides = {side: str(task.paths[f"train.{side}"]) for side in ("src", "tgt")}
    source = {"kind": "text", **sides, "alignments": str(aligned(task))}
    for name, (family, model, changes) in VARIANTS.items():
        data = {"train": source} if name == "padded" else {}
        model = {"dropout": 0.0, **model}
        files[name] = task.config_file(family, name, model=model, train={**TRAIN, **changes}, data=data)
        pipeline.prepare(load_config(files[name]))
    ranks = Ranks(task.folder, 2, _learn_in_shards, files)
    assert ranks.codes == [0, 0], ranks.output
    lines = [json.loads(line) for line in ranks.output[0].splitlines() if line.startswith("[")]
    assert [line[0] for line in lines] == names
    for name, held, window in lines:
        text = files[name].read_text()
        files[name].write_text(text.replace("accumulate: 2", "accumulate: 4").replace("sharded", "replicated"))
        trainer = build(files[name], pipeline.ALONE)
        learn(trainer, pipeline.ALONE)
        assert 0.45 < held < 0.55
        # The update whose gradient was infinite is skipped on both ranks.
        expected = trainer.window.tolist()[:5]
        assert [expected[3], expected[4]] == [UPDATES, 1] == window[3:]
        rounded = name == "normed"
        assert window[2] == pytest.approx(expected[2], rel=1e-2 if rounded else 1e-4)
        updater = trainer.updater
        wanted = checkpoints.training_tensors(trainer.model, updater.optimizer, updater.ema.tensors())
        for file, tensors in wanted.items():
            found = load_file(files[name].with_suffix(f".{file}"))
            assert found.keys() == tensors.keys()
            for key, tensor in tensors.items():
                near = {"rtol": 0.1, "atol": 2e-3} if rounded else {"rtol": 1e-4, "atol": 2e-6}
                torch.testing.assert_close(found[key], tensor, **near, msg=partial("{} {}: {}".format, name, key))


def _resume_in_shards(rank, log, path):
    with join() as ranks:
        trainer = build(path, ranks)
        assert trainer.resume(print)
        write_tensors(trainer, ranks, path)
        learn(trainer, ranks)
        trainer.saving.save(trainer.progress, trainer.window, scheduled=True)


def test_checkpoints_are_the_same_files_and_resume_in_either_direction(task):
    path = task.config_file("transformer", train={**TRAIN, "batching": "packed"})
    alone = build(path, pipeline.ALONE)
    alone.run.path.mkdir(parents=True)
    assert not alone.resume(pytest.fail)
    alone.run.save_config(load_config(path))
    learn(alone, pipeline.ALONE)
    alone.saving.save(alone.progress, alone.window, scheduled=True)
    saved = last_checkpoint(alone.run)
    tensors = {file: saved.tensors(file) for file in ("model", "optimizer", "ema")}
    files = sorted(file.name for file in saved.path.iterdir())
    ranks = Ranks(task.folder, 2, _resume_in_shards, path)
    assert ranks.codes == [0, 0], ranks.output
    assert "was saved by 1 process(es) and is resumed by 2" in ranks.output[0]
    for file, expected in tensors.items():
        assert_equal(load_file(path.with_suffix(f".{file}")), expected)

    later, again = last_checkpoint(alone.run), build(path, pipeline.ALONE)
    assert (saved.step, later.step, later.ranks) == (UPDATES, 2 * UPDATES, 2)
    assert sorted(file.name for file in later.path.iterdir()) == files
    assert again.resume(lambda _: None)
    write_tensors(again, pipeline.ALONE, path)
    for file, former in tensors.items():
        assert_equal(load_file(path.with_suffix(f".{file}")), later.tensors(file))
        assert later.tensors(file).keys() == former.keys()


def assert_equal(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_a_run_in_shards_resumes_to_the_same_bits_and_is_searched_by_both_ranks(task):
    hard = {**HARD["train"], "max_steps": 8, "validate_every": 4, "batching": "packed", "parallel": "sharded"}
    whole, broken = (task.config_file("transformer", name, train=hard) for name in ("whole", "broken"))
    first = train(task, 2, whole)
    assert first.codes == [0, 0], first.output
    assert "processes   sharded: each has 0.2 of 0.4 MiB of weights, gradients" in first.output[0]
    assert train(task, 2, broken, {1: {5: signal.SIGTERM}}).codes == [143, 143]
    resumed = train(task, 2, broken)
    assert resumed.codes == [0, 0], resumed.output
    assert list(differences(run_of(task, "whole"), run_of(task, "broken"))) == []


def _skip(rank, log):
    """Skip a step as an update on CUDA does, and as one in fp16 does."""
    with join() as ranks:
        model = torch.nn.Linear(5, 3)
        ranks.shard(model, [])
        optimizer = build_optimizer(model, OptimizerConfig(), torch.device("cpu"))
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        before = local_copies(model)
        for scaled in (False, True):
            for infinite in (True, False):
                loss = model(torch.full((2, 5), math.inf if infinite and rank == 1 else 1.0)).sum()
                (scaler.scale(loss) if scaled else loss).backward()
                if scaled:
                    scaler.unscale_(optimizer)
                    scaler.step(optimizer)
                    scaler.update()
                else:
                    norm = gathered(torch.nn.utils.clip_grad_norm_(list(model.parameters()), 1.0))
                    optimizer.found_inf = (~torch.isfinite(norm)).float()
                    optimizer.step()
                    del optimizer.found_inf
                optimizer.zero_grad(set_to_none=True)
                after = local_copies(model)
                print(json.dumps(all(map(torch.equal, before, after))))
                before = after
        print(scaler.get_scale())


def local_copies(model):
    return [parameter.detach().to_local().clone() for parameter in model.parameters()]


def test_an_infinite_gradient_on_one_rank_skips_the_step_on_all(task):
    ranks = Ranks(task.folder, 2, _skip)
    assert ranks.codes == [0, 0], ranks.output
    assert [output.split() for output in ranks.output] == [["true", "false", "true", "false", "4.0"]] * 2
