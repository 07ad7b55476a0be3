"""Runs and stores of an earlier version resume, are reused and translate.

``tests/data/runs-9b825eb.tar.xz`` was written by commit 9b825eb (tests/data/make_runs_9b825eb.py): two trainings
stopped after the checkpoint of step 4, their store, and what that commit itself makes of them at step 8.
"""

import json
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from nmt.cli import main
from nmt.run.directory import load_experiment

ARCHIVE = Path(__file__).parents[1] / "data" / "runs-9b825eb.tar.xz"


@pytest.fixture
def old(tmp_path, monkeypatch) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def weights(path):
    """All weights but the biases of keys: the softmax takes no notice of them, so that Adam scales rounding errors."""
    found = load_file(path)
    for key, tensor in found.items():
        if key.endswith("attention.project_in.bias"):  # of query, key and value; of key and value
            width = len(tensor) // (3 if "self" in key else 2)
            tensor[slice(width, 2 * width) if "self" in key else slice(width)] = 0
    return found


@pytest.mark.parametrize("name", ["transformer", "rnn"])
def test_a_run_resumes_to_the_weights_that_its_own_version_ends_with(old, name):
    store = sorted((old / "store").glob("*-*[0-9a-f]"))
    assert main(["train", f"{name}.yaml"]) == 0
    expected, found = weights(f"expected/{name}.safetensors"), weights(f"runs/{name}/model/model.safetensors")
    assert expected.keys() == found.keys()
    for key, tensor in expected.items():  # the last bits depend on the processor
        torch.testing.assert_close(found[key], tensor, rtol=1e-4, atol=1e-6, msg=key)
    assert sorted((old / "store").glob("*-*[0-9a-f]")) == store
    metrics = [json.loads(line) for line in Path(f"runs/{name}/metrics.jsonl").read_text().splitlines()]
    before = [json.loads(line) for line in Path(f"expected/{name}.metrics.jsonl").read_text().splitlines()]
    for now, then in zip(metrics, before, strict=True):
        assert {key: now[key] for key in then} == pytest.approx(then, rel=1e-3)
    assert Path(f"runs/{name}/evaluation/tiny.hyp").read_text() == Path(f"expected/{name}.hyp").read_text()


@pytest.mark.parametrize("name", ["transformer", "rnn"])
def test_a_run_that_nobody_trains_further_translates_and_evaluates(old, name, capsys):
    Path("input").write_text("one two three\n")
    assert main(["translate", name, "-i", "input"]) == 0
    assert main(["evaluate", name]) == 0
    assert "tiny" in capsys.readouterr().out


def test_a_run_resumes_from_a_configuration_with_a_later_key(old):
    text = Path("transformer.yaml").read_text()
    Path("transformer.yaml").write_text(text + "evaluation: {lowercase: false}\ndefaults: 1\n")
    assert main(["train", "transformer.yaml"]) == 0


def test_checkpoints_with_a_score_alone_are_scored_again_where_other_measures_may_decide(old, caplog):
    assert main(["train", "transformer.yaml", "--set", "train.selection=validated"]) == 0
    assert "step 4  scored again: BLEU" in caplog.text
    states = [
        json.loads(path.read_text()) for path in sorted(Path("runs/transformer/checkpoints").glob("*/state.json"))
    ]
    assert all(state["quality"]["matches"] is not None for state in states if state["score"] is not None)


def test_scores_keep_their_tokenizer(old):
    text = Path("transformer.yaml").read_text()
    Path("transformer.yaml").write_text(text.replace("tgt_lang: de", "tgt_lang: zh"))
    raw = yaml.safe_load(Path("runs/transformer/config.yaml").read_text())
    assert raw["evaluation"]["tokenize"] == "13a"
    assert load_experiment("transformer.yaml").evaluation.tokenize == "13a"
    assert load_experiment("transformer.yaml", ["name=new"]).evaluation.tokenize is None


def test_a_run_refuses_another_configuration_and_names_the_difference(old, capsys):
    assert main(["train", "transformer.yaml", "--set", "train.label_smoothing=0.3"]) == 2
    assert "train.label_smoothing is 0.1 in the run, 0.3 in your configuration" in capsys.readouterr().err


def test_a_new_run_takes_the_defaults_of_today(old):
    shutil.rmtree("runs/transformer")
    assert main(["train", "transformer.yaml"]) == 0
    assert "defaults: 2" in Path("runs/transformer/config.yaml").read_text()


@pytest.mark.parametrize("name", ["transformer", "rnn"])
def test_a_run_resumes_where_its_corpus_has_moved(old, name):
    """Found by content: in the store that the earlier version named by paths, or made again without it."""
    Path("moved").mkdir()
    for path in [*Path().glob("*.src"), *Path().glob("*.tgt")]:
        path.rename(f"moved/{path.name}")
    text = Path(f"{name}.yaml").read_text()
    for file in ("train", "valid", "test"):
        text = text.replace(f"{file}.src", f"moved/{file}.src").replace(f"{file}.tgt", f"moved/{file}.tgt")
    Path(f"{name}.yaml").write_text(text)
    store = sorted((old / "store").glob("*-*[0-9a-f]"))
    assert main(["prepare", f"{name}.yaml", "--set", "defaults=1"]) == 0
    assert sorted((old / "store").glob("*-*[0-9a-f]")) == store
    shutil.rmtree("store")
    assert main(["train", f"{name}.yaml"]) == 0
    assert {path.name for path in Path("store").glob("*-*[0-9a-f]")} <= {path.name for path in store}
    expected, found = weights(f"expected/{name}.safetensors"), weights(f"runs/{name}/model/model.safetensors")
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=1e-4, atol=1e-6, msg=key)


def test_a_key_without_effect_stops_no_run_of_the_first_version(old, capsys):
    text = Path("transformer.yaml").read_text().replace("name: cosine,", "name: cosine, factor: 0.7,")
    Path("transformer.yaml").write_text(text)
    assert main(["train", "transformer.yaml", "--set", "name=another"]) == 2
    assert "train.schedule.factor: 0.7 has no effect" in capsys.readouterr().err
    assert main(["train", "transformer.yaml"]) == 0
