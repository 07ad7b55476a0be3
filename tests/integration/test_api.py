"""nmt from Python, and ``nmt score``."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import nmt
from nmt.cli import main
from nmt.data.sentencepiece_model import parse_model
from nmt.errors import ConfigError, DataError, DeviceError, RunError
from tests.conftest import Task


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    task = Task(tmp_path_factory.mktemp("api"), held=40)
    for family in ("rnn", "transformer"):
        assert main(["train", str(task.config_file(family, name=family))]) == 0
    return task


@pytest.fixture(params=["rnn", "transformer"])
def model(task, request):
    return nmt.load(task.folder / "runs" / request.param)


def lines(task, name="valid"):
    return [(task.folder / f"{name}.{side}").read_text().splitlines() for side in ("src", "tgt")]


def stepwise(model, source, target):
    """log p of each token of ``target`` and of the end, by the steps of a search, one sentence and one token a time."""
    translator = model.translator
    seq2seq, tokenizer = translator.engine.model.eval(), translator.tokenizer
    src = torch.tensor([[*tokenizer.encode_src([source])[0], tokenizer.eos_id]])
    state, token, found = (
        seq2seq.init_state(seq2seq.encode(src, torch.ones_like(src, dtype=torch.bool))),
        tokenizer.bos_id,
        [],
    )
    for wanted in [*tokenizer.encode_tgt([target])[0], tokenizer.eos_id]:
        logits, state = seq2seq.step(torch.tensor([token]), state)
        found.append(float(torch.softmax(logits[0].double(), -1)[wanted].log()))
        token = wanted
    return found


def test_scores_are_those_of_single_steps(task, model):
    sources, targets = lines(task)
    with torch.no_grad():
        expected = [stepwise(model, *pair) for pair in zip(sources[:8], targets[:8], strict=True)]
    for batch_tokens in (1, 10_000):
        model.translator.search = model.translator.search.model_copy(update={"batch_tokens": batch_tokens})
        found = model.score(sources[:8], targets[:8])
        for one, values in zip(found, expected, strict=True):
            assert one.token_log_probs == pytest.approx(values, abs=1e-4)
            assert one.log_prob == pytest.approx(sum(values), abs=1e-4)
            assert one.tokens[-1] == "</s>"
            assert one.mean == pytest.approx(sum(values) / len(values), abs=1e-4)


def test_a_translation_has_the_score_that_the_search_found(task, model):
    sources, _ = lines(task)
    best = [each[0] for each in model.translate(sources[:5], nbest=1)]
    assert [each.text for each in best] == model.translate(sources[:5])
    scores = model.score(sources[:5], [each.text for each in best])
    for one, searched in zip(scores, best, strict=True):
        if model.translator.tokenizer.encode_tgt([searched.text]) == [searched.tokens]:
            assert one.log_prob == pytest.approx(searched.log_prob, abs=1e-3)


def test_attention(task, model):
    source = lines(task)[0][0]
    found = model.attention(source)
    assert found.weights.shape[2:] == (len(found.target), len(found.source))
    np.testing.assert_allclose(found.weights.sum(-1), 1, atol=1e-5)
    assert model.attention(source, lines(task)[1][0]).source == found.source


def test_placeholders_and_documents(model):
    for protect in (True, ["tags", "variables"]):
        [text] = model.translate(["one <b>two</b> {x}"], protect=protect)
        assert all(text.count(each) == 1 for each in ("<b>", "</b>", "{x}"))
    [[best]] = model.translate(["one. Two"], 1, split=True)
    assert best.log_prob == pytest.approx(sum(found.log_prob for [found] in model.translate(["one.", "Two"], 1)))
    one, two = (model.translate([word])[0] for word in ("one", "two"))
    assert model.translate_document("\n  one\r\n\ttwo", "text") == f"\n  {one}\r\n\t{two}"
    assert model.translate_document("<p>one</p>", "html") == f"<p>{one}</p>"
    with pytest.raises(DataError, match="format: 'docx' is not one of text, paragraphs, srt, html, md"):
        model.translate_document("one", "docx")
    assert model.translate(["one"], protect="tags") == model.translate(["one"], protect=["tags"])
    with pytest.raises(ConfigError, match="'names' is not a kind of placeholder; kinds: code, urls"):
        model.translate(["one"], protect=["names"])


def test_threads_share_a_model(task, model):
    sources, targets = lines(task)

    def everything() -> list:
        return [
            model.translate(sources, 2),
            model.score(sources, targets),
            model.attention(sources[0]).weights.tolist(),
        ]

    expected = everything()
    with ThreadPoolExecutor(4) as pool:
        assert [each.result() for each in [pool.submit(everything) for _ in range(8)]] == [expected] * 8


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.translate(None), "expected a list of sentences, found None"),
        (lambda model: model.score(3, 3), "expected a list of sentences, found 3"),
        (lambda model: model.translate(["a"], 1.5), "nbest: must be a whole number, found 1.5"),
        (lambda model: model.translate(["a"], True), "nbest: must be a whole number, found True"),
        (lambda model: model.translate(["a"], split="no"), "split: must be True, False or None, found 'no'"),
        (lambda model: model.translate_document(["a"]), r"expected one string, found \['a'\]"),
        (lambda model: model.attention(None), "expected one string, found None"),
        (lambda model: model.attention("one", 3), "expected one string, found 3"),
        (lambda model: nmt.train("demo", ["seed=1"]), r"settings: must be a dictionary such as .*, found \['seed=1'\]"),
    ],
)
def test_other_types_are_refused_in_one_line(model, call, message):
    with pytest.raises(DataError, match=message):
        call(model)


def test_mistakes(task, model):
    with pytest.raises(DataError, match=r"expected a list of sentences, not one string; write \['a b'\]"):
        model.translate("a b")
    with pytest.raises(DataError, match="expected a list of strings; number 1 is nan"):
        model.translate(["a", float("nan")])
    with pytest.raises(ConfigError, match="0 translations of a line asked for"):
        model.translate(["a"], nbest=0)
    with pytest.raises(ConfigError, match="engine: 'tensorrt' is not one of pytorch, ctranslate2"):
        nmt.load(model.run.path, engine="tensorrt")
    with pytest.raises(DeviceError, match=r"train\.device: tpu is not available here; use auto or one of: .*cpu"):
        nmt.load(model.run.path, device="tpu")
    assert model.translate(["one\ud800\0"]) == model.translate(["one\ufffd\ufffd"])
    with pytest.raises(DataError, match="2 sources but 1 targets"):
        model.score(["a", "b"], ["a"])
    with pytest.raises(DataError, match="attention needs text on both sides"):
        model.attention("a", " ")
    with pytest.raises(ConfigError, match=r"must be from 1 to search\.beam_size"):
        model.translate(["a"], nbest=100)
    with pytest.raises(RunError, match="no-such-run"):
        nmt.load("no-such-run")
    with pytest.raises(AttributeError, match="has no attribute 'lod'"):
        nmt.lod  # noqa: B018


def test_train_from_python(task, capfd):
    found = nmt.train(task.config_file("rnn", name="python"), {"train.max_steps": 2, "search.alpha": 0.5})
    assert found.steps == 2
    assert found.run.load_config().search.alpha == 0.5
    assert set(found.scores) == {"tiny"}
    assert nmt.load(found.run.path).translate(["x"])


def test_importing_loads_no_library():
    code = "import nmt, sys; assert not {'torch', 'numpy', 'pydantic'} & sys.modules.keys(); assert nmt.load"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command(task, tmp_path, capsys):
    run, model = str(task.folder / "runs/rnn"), nmt.load(task.folder / "runs/rnn")
    sources, targets = lines(task)
    expected = model.score(sources, targets)
    command = ["score", run, "--src", str(task.folder / "valid.src"), "--tgt", str(task.folder / "valid.tgt")]
    out = tmp_path / "scores"
    assert main([*command, "-o", str(out)]) == 0
    assert [float(line) for line in out.read_text().splitlines()] == pytest.approx(
        [s.log_prob for s in expected], abs=1e-3
    )
    assert main([*command, "--mean", "-o", str(out)]) == 0
    assert [float(line) for line in out.read_text().splitlines()] == pytest.approx([s.mean for s in expected], abs=1e-3)
    assert main([*command, "--tokens", "-o", str(out)]) == 0
    first = json.loads(out.read_text().splitlines()[0])
    assert [token for token, _ in first["tokens"]] == expected[0].tokens
    # Files of different lengths
    short = tmp_path / "short"
    short.write_text("a\n")
    assert (
        main(["score", run, "--src", str(short), "--tgt", str(task.folder / "valid.tgt"), "-o", str(tmp_path / "o")])
        == 2
    )
    assert f"{short} has 1 line, fewer than {task.folder / 'valid.tgt'}" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_a_pair_that_is_too_long_is_named(task, tmp_path, capsys):
    for side, text in (("src", "a\n" + "a b c " * 2000 + "\n"), ("tgt", "a\nb\n")):
        (tmp_path / side).write_text(text)
    run = str(task.folder / "runs/rnn")
    assert (
        main(["score", run, "--src", str(tmp_path / "src"), "--tgt", str(tmp_path / "tgt"), "-o", str(tmp_path / "o")])
        == 2
    )
    assert "line 2: the source has" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------ ensembles


def stepped_average(models, source, tokens, average):
    """log p of each token and of the end under an ensemble, from the steps of each model alone."""
    each = torch.tensor([stepwise_distributions(model, source, tokens) for model in models], dtype=torch.float64)
    mean = each.exp().mean(0).log() if average == "probability" else each.mean(0).log_softmax(-1)
    return [float(mean[t, i]) for t, i in enumerate([*tokens, 3])]


def stepwise_distributions(model, source, tokens):
    translator = model.translator
    seq2seq, tokenizer = translator.engine.model.eval(), translator.tokenizer
    src = torch.tensor([[*tokenizer.encode_src([source])[0], tokenizer.eos_id]])
    found = []
    with torch.no_grad():
        state = seq2seq.init_state(seq2seq.encode(src, torch.ones_like(src, dtype=torch.bool)))
        for token in [tokenizer.bos_id, *tokens]:
            logits, state = seq2seq.step(torch.tensor([token]), state)
            found.append(logits[0].log_softmax(-1).tolist())
    return found


@pytest.mark.parametrize("average", ["probability", "log_probability"])
def test_an_ensemble_scores_by_the_average_of_its_runs(task, average):
    runs = [task.folder / "runs" / family for family in ("rnn", "transformer")]
    both = nmt.load(runs[0], ensemble=runs[1:], ensemble_average=average)
    sources, targets = lines(task)
    models = [nmt.load(run) for run in runs]
    ids = both.translator.tokenizer.encode_tgt(targets[:5])
    for score, source, tokens in zip(both.score(sources[:5], targets[:5]), sources, ids, strict=False):
        expected = stepped_average(models, source, tokens, average)
        assert score.token_log_probs == pytest.approx(expected, abs=1e-4)
    [[best]] = both.translate(sources[:1], nbest=1)
    assert best.log_prob == pytest.approx(sum(stepped_average(models, sources[0], best.tokens, average)), abs=1e-3)
    assert both.attention(sources[0]).weights.shape[:2] == (1, 1)


def test_an_ensemble_on_the_command_line(task, monkeypatch, capsys, caplog):
    monkeypatch.chdir(task.folder)
    out = [task.folder / name for name in ("alone", "twice", "both")]
    for file, others in zip(out, ([], ["--ensemble", "rnn"], ["--ensemble", "transformer"]), strict=True):
        assert main(["translate", "rnn", "-i", "valid.src", "-o", str(file), *others]) == 0
    assert out[0].read_bytes() == out[1].read_bytes() != out[2].read_bytes()
    assert "ensemble of 2 runs: runs/rnn, runs/transformer (mean of their probabilities)" in caplog.text
    # Results of an ensemble stand beside those of the run.
    result = task.folder / "runs" / "rnn" / "evaluation" / "tiny.json"
    before = result.read_bytes()
    assert main(["evaluate", "rnn", "--ensemble", "transformer"]) == 0
    assert json.loads(result.with_name("tiny@ensemble=transformer.json").read_text())["bleu"] >= 0
    assert main(["evaluate", "rnn", "--ensemble", "transformer", "--ensemble-average", "log_probability"]) == 0
    assert result.with_name("tiny@ensemble=transformer,average=log_probability.json").exists()
    assert result.read_bytes() == before
    capsys.readouterr()
    score = ["score", "rnn", "--src", "valid.src", "--tgt", "valid.tgt"]
    assert main(score) == 0
    alone = capsys.readouterr().out
    assert main([*score, "--ensemble", "transformer"]) == 0
    assert capsys.readouterr().out != alone


def test_an_ensemble_that_cannot_be_searched_is_one_line(task, monkeypatch, capsys):
    monkeypatch.chdir(task.folder)
    shutil.copytree("runs/rnn", "runs/other")
    file = next(Path("runs/other/tokenizer").glob("*.model"))
    vocabulary = parse_model(file)
    vocabulary.pieces[9].score -= 1.0
    file.write_bytes(vocabulary.SerializeToString())
    for options, message in [
        (["--ensemble", "other"], "runs/other: has another vocabulary than runs/rnn; the runs of an ensemble need"),
        (["--ensemble", "nowhere"], "nowhere: no such run"),
        (["--ensemble", "transformer", "--engine", "ctranslate2"], "--ensemble: CTranslate2 searches one model"),
        (["--ensemble-average", "log_probability"], "needs other runs to average with (--ensemble RUN)"),
    ]:
        assert main(["translate", "rnn", "-i", "valid.src", *options]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
