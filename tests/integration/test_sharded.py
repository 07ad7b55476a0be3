"""Several processes divide one model among themselves (FSDP2): ranks on the CPU, connected by gloo."""

import json
import math
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file

from nmt import pipeline
from nmt.config.load import load_config
from nmt.run import checkpoint as checkpoints
from nmt.run.directory import Run
from nmt.runtime.sharding import gathered_on_main, is_shard, local_bytes
from nmt.runtime.startup import join
from nmt.training.parallel import state_bytes
from tests.conftest import MODELS
from tests.integration.test_distributed import Ranks

# Keys have a bias that changes no attention: its gradient is the rounding of 0, which a larger eps keeps small.
TRAIN = {
    "parallel": "sharded", "batch_tokens": 128, "accumulate": 2, "ema_decay": 0.9, "max_steps": 9,
    "optimizer": {"eps": 1e-4, "lr": 0.01}, "clip_norm": 0.5,
    "schedule": {"warmup_steps": 1, "name": "constant"},
}  # fmt: skip
NORMED = {"fix_norm": True, "activation": "swiglu", "norm_type": "rms", "qk_norm": "layer", "output_bias": True}
# Odd sizes: the ranks' shards are of different sizes.
VARIANTS = {
    "packed": ("transformer", {"d_ff": 65}, {"batching": "packed"}),
    "padded": ("transformer", {"positions": "learned", "tie_embeddings": "decoder", "decoder_layers": 2}, {}),
    "normed": ("transformer", NORMED, {"batching": "packed", "compress_gradients": "bf16"}),
    "bf16": ("transformer", {"dropout": 0.001}, {"batching": "packed", "precision": "bf16", "terms": {"r_drop": {}}}),
    "rnn": ("rnn", {"d_hidden": 33, "cell": "lstm", "decoder_layers": 2}, {"terms": {"z_loss": 0.01}}),
    "mixed": ("transformer-to-rnn", {"encoder": {**MODELS["transformer-to-rnn"]["encoder"], "dropout": 0.0}}, {}),
}
UPDATES = 3


def build(path, ranks):
    config = load_config(path)
    run, prepared = Run(config.run_dir), pipeline.prepare(config)
    place = pipeline._set_up(config.train, ranks)
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


def _learn_in_shards(rank, log, files):
    with join() as ranks:
        for name, path in files.items():
            trainer = build(path, ranks)
            learn(trainer, ranks)
            model, updater = trainer.model, trainer.updater
            moments = [t for state in updater.optimizer.state.values() for t in state.values() if t.dim()]
            state = [*model.parameters(), *moments, *updater.ema.average]
            assert all(map(is_shard, state))
            held = local_bytes(state) / state_bytes(model, averaged=True) * 20 / 16  # gradients are freed
            found = checkpoints.training_tensors(model, updater.optimizer, updater.ema.tensors())
            for file, tensors in found.items():
                whole = gathered_on_main(tensors, ranks.is_main)
                if ranks.is_main:
                    save_file(whole, path.with_name(f"{name}.{file}"))
            if ranks.is_main:
                print(json.dumps([name, held, trainer.window.tolist()[:5]]))


def test_updates_are_those_of_one_process(task):
    files, names = {}, list(VARIANTS)
    for name, (family, model, changes) in VARIANTS.items():
        model = {"dropout": 0.0, **model}
        files[name] = task.config_file(family, name, model=model, train={**TRAIN, **changes})
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
            found = load_file(task.folder / f"{name}.{file}")
            assert found.keys() == tensors.keys()
            for key, tensor in tensors.items():
                near = {"rtol": 0.1, "atol": 2e-3} if rounded else {"rtol": 1e-4, "atol": 2e-6}
                torch.testing.assert_close(found[key], tensor, **near, msg=partial("{} {}: {}".format, name, key))
