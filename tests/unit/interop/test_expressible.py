"""What a target cannot express is refused by name, parts that somebody has added to nmt included."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from nmt.config.base import Section
from nmt.config.encoders import PretrainedEncoderConfig, RecurrentEncoderConfig
from nmt.config.experiment import Config
from nmt.errors import ExportError
from nmt.interop import onnx
from nmt.interop.targets import TARGETS, load_target
from nmt.run.directory import Run
from nmt.translation.ctranslate2_cache import check_expressible
from tests.conftest import Task

RUN = Run(Path("runs/one"))
PROGRAM = {
    "ctranslate2": "CTranslate2", "argos": "CTranslate2", "onnx": "the export to ONNX",
    "huggingface": "MarianMTModel", "marian": "Marian",
}  # fmt: skip
FAMILY = "runs Transformers and cannot express this model (model.type: window)"


class WindowConfig(Section):
    """A family of somebody else, as in ``docs/adding.md``."""

    type: Literal["window"] = "window"
    encoder: None = None


def refused(name: str, config: Config) -> str:
    with pytest.raises(ExportError) as error:
        load_target(name).check(RUN, config)
    assert "\n" not in str(error.value)
    return str(error.value)


def changed(config: Config, section: str, **values: Any) -> Config:
    """A configuration with values that are not known to it, which ``model_copy`` does not check."""
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


@pytest.mark.parametrize("name", TARGETS)
def test_a_family_that_a_target_does_not_know_is_named(task: Task, name: str) -> None:
    config = task.config("transformer").model_copy(update={"model": WindowConfig()})
    what = "cannot express model.type: window" if name == "onnx" else FAMILY
    assert refused(name, config) == f"runs/one: {PROGRAM[name]} {what}; use nmt serve"
    with pytest.raises(ExportError) as error:
        check_expressible(RUN, config)
    assert str(error.value) == f"runs/one: CTranslate2 {FAMILY}; use PyTorch: remove --engine"


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "onnx"])
@pytest.mark.parametrize(("key", "value"), [("norm_type", "mine"), ("activation", "mine"), ("positions", "mine")])
def test_a_value_that_a_target_does_not_know_is_named(task: Task, name: str, key: str, value: str) -> None:
    config = changed(task.config("transformer", model={"preset": "marian"}), "model", **{key: value})
    assert f"{PROGRAM[name]} cannot express model.{key}: mine; train a run with" in refused(name, config)


@pytest.mark.parametrize("name", TARGETS)
def test_a_length_penalty_that_no_target_knows_is_named(task: Task, name: str) -> None:
    config = changed(task.config("transformer", model={"preset": "marian"}), "search", length_penalty="mine")
    assert refused(name, config).endswith(
        "cannot search as the run does (search.length_penalty: mine); export with another search: --search "
        "length_penalty=gnmt"
    )


@pytest.mark.parametrize(
    ("model", "advice"),
    [
        ({"qk_norm": "l2"}, "every target can express, or export --to onnx"),
        ({"attention_window": 4}, "every target can express, or use nmt serve"),
        ({"norm": "pre"}, "every target can express, or export --to onnx or ctranslate2"),
    ],
)
def test_only_targets_that_can_express_the_model_are_advised(
    task: Task, model: dict[str, Any], advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx, "find_spec", lambda name: name)
    config = task.config("transformer", model=model)
    assert refused("huggingface", config).endswith(advice)
    for name in TARGETS:
        if name in advice:
            load_target(name).check(RUN, config)
        elif name != "argos" or "ctranslate2" not in advice:
            assert refused(name, config).endswith(advice)


def test_a_pretrained_encoder_with_its_own_tokenizer_is_named(task: Task) -> None:
    encoder = PretrainedEncoderConfig.model_construct(type="pretrained", d_model=24)
    config = changed(task.config("transformer"), "model", encoder=encoder)
    assert (
        "cannot express the tokenizer of a pretrained encoder (model.encoder.type: pretrained); use nmt serve"
        in refused("onnx", config)
    )


def test_a_recurrent_encoder_needs_a_pytorch_that_exports_it(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "find_spec", lambda name: name)
    transformer = task.config("transformer")
    configs = [task.config("rnn"), changed(transformer, "model", encoder=RecurrentEncoderConfig(type="recurrent"))]
    for config in (*configs, transformer):
        onnx.TARGET.check(RUN, config)
    monkeypatch.setattr(onnx, "RECURRENT_SINCE", "99")
    for config in configs:
        found = refused("onnx", config)
        assert f"PyTorch {torch.__version__} cannot write a recurrent encoder as ONNX" in found
        assert "pip install 'torch>=99'" in found
    onnx.TARGET.check(RUN, transformer)
