"""Trainings with all options of the Transformer that are off by default."""

import pytest
from safetensors.torch import load_file

from nmt import pipeline
from nmt.cli import main
from nmt.data.sentencepiece_model import BOS_ID
from nmt.run.differences import differences
from tests.conftest import MODELS
from tests.runs import train_through_kills

OPTIONS = {
    **MODELS["transformer"], "norm_type": "scale", "fix_norm": True, "qk_norm": "l2", "output_bias": True,
    "layer_drop": 0.4, "attention_window": 3, "dropout": 0.1,
}  # fmt: skip


MARIAN = {**MODELS["transformer"], "preset": "marian"}


def settings(batching, model=OPTIONS):
    return {
        "tokenizer": {"vocab_size": 36, "sampling": {"alpha": 0.3}},
        "model": model,
        "train": {
            "batching": batching, "max_steps": 17, "max_epochs": 50, "batch_tokens": 128, "accumulate": 2,
            "ema_decay": 0.9, "validate_every": 8, "checkpoint_every": 3, "keep_last": 3, "log_every": 4,
            "precision": "fp32", "device": "cpu", "threads": 1,
        },
    }  # fmt: skip


@pytest.mark.parametrize(("batching", "model"), [("padded", OPTIONS), ("packed", OPTIONS), ("packed", MARIAN)])
def test_a_killed_training_resumes_with_the_same_bits(task, monkeypatch, batching, model):
    given = settings(batching, model)
    expected = pipeline.train(task.config("transformer", "whole", **given)).run
    found = train_through_kills(task.config("transformer", "killed", **given), [5, 11], monkeypatch)
    assert list(differences(expected, found)) == []
    if model is MARIAN:  # the decoder still starts with zeros
        weights = load_file(found.model / "model.safetensors")["tgt_embedding.weight"]
        assert not weights[BOS_ID].any()
        assert weights[BOS_ID + 2].any()


def test_a_run_translates_and_ctranslate2_is_refused(task, tmp_path, capsys):
    assert main(["train", str(task.config_file("transformer", "options", **settings("padded")))]) == 0
    run, out = str(task.folder / "runs" / "options"), tmp_path / "out.txt"
    arguments = ["translate", run, "-i", str(task.paths["test.src"]), "-o", str(out)]
    assert main(arguments) == 0
    lines = len(task.paths["test.src"].read_text().splitlines())
    assert len(out.read_text().splitlines()) == lines
    capsys.readouterr()
    assert main([*arguments, "--engine", "ctranslate2"]) == 2
    assert "CTranslate2 cannot express model.qk_norm: l2" in capsys.readouterr().err
