"""Models whose encoder and decoder are of different families, from training to attention maps."""

import os
import signal

import pytest
import torch

from nmt import pipeline
from nmt.cli import main
from nmt.config.compare import config_diff, fixed_settings
from nmt.insight.attention import attention_map
from nmt.run import checkpoint as checkpoints
from nmt.run.differences import differences
from nmt.run.directory import Run
from nmt.runtime.signals import Interrupted
from nmt.training.trainer import Trainer
from nmt.translation.loading import load_translator
from tests.runs import Killed

SETTINGS = {
    "tokenizer": {"vocab_size": 36, "sampling": {"alpha": 0.3}},
    "train": {
        "max_steps": 14, "batch_tokens": 128, "ema_decay": 0.9, "validate_every": 5, "checkpoint_every": 3,
        "keep_last": 2, "keep_best": 2, "average": 2, "log_every": 4,
        "precision": "fp32", "device": "cpu", "threads": 1,
    },
}  # fmt: skip


@pytest.mark.parametrize(
    "family", ["recurrent-to-transformer", "transformer-to-rnn", "convolutional-to-rnn", "convolutional-to-transformer"]
)
def test_a_mixed_model_trains_resumes_translates_and_draws(task, monkeypatch, capsys, family):
    # Interrupted by a signal in an epoch and by a kill while a checkpoint is written, the run ends with the same bits.
    expected = pipeline.train(task.config(family, "whole", **SETTINGS)).run
    update, prune = Trainer.update, checkpoints.prune
    signals, kills, stops = {4: signal.SIGTERM}, [True], []

    def interrupted_update(self, batches):
        update(self, batches)
        if number := signals.pop(self.progress.step, None):
            os.kill(os.getpid(), number)

    def killed_prune(*args, **kwargs):
        if stops and kills:
            kills.pop()
            raise Killed
        return prune(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", interrupted_update)
        patch.setattr(checkpoints, "prune", killed_prune)
        while True:
            try:
                got = pipeline.train(task.config(family, "broken", **SETTINGS)).run
                break
            except (Interrupted, Killed) as stop:
                stops.append(type(stop))
    assert stops == [Interrupted, Killed]
    assert list(differences(expected, got)) == []

    # Another encoder is another model.
    config = task.config(family, "whole", **SETTINGS)
    other = task.config(family, "other", **SETTINGS, model={"encoder": None})
    assert "model.encoder.d_model is 24 in the run, null in your" in config_diff(fixed_settings(config), other)
    assert "model.encoder.d_model is null in the run, 24 in your" in config_diff(fixed_settings(other), config)

    # Search and attention maps.
    source = task.folder / "input"
    source.write_text("one two three\nseven\n")
    capsys.readouterr()
    assert main(["translate", str(expected.path), "-i", str(source), "--beam-size", "4"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    translator = load_translator(Run(expected.path))
    (ids,) = translator.tokenizer.encode_src(["one two three"])
    found = attention_map(translator.engine.model, translator.tokenizer, ids, ids)
    assert found is not None
    weights, sources, targets = found
    assert weights.shape == (len(targets), len(sources))
    assert torch.allclose(weights.sum(-1), torch.ones(len(targets)), atol=1e-5)

    # Another program.
    run = str(expected.path)
    translate = ["translate", run, "-i", str(source), "--engine", "ctranslate2"]
    for command in (["export", run, "--to", "ctranslate2"], translate):
        assert main(command) == 2
        assert "CTranslate2" in (said := capsys.readouterr().err)
        encoder, _, decoder = family.partition("-to-")
        assert (f"model.encoder.type: {encoder}" if decoder == "transformer" else "model.type: rnn") in said
