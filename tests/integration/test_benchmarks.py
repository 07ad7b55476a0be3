"""The benchmarks run, refuse unequal work, and write what they found. Nothing here looks at a time."""

import importlib
import json
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from statistics import fmean, median

import pytest

import nmt

ROOT = Path(__file__).parents[2]
TINY = [
    "--size", "tiny", "--threads", "1", "--repeats", "2", "--pairs", "200", "--vocab-size", "60",
    "--batch-tokens", "256",
]  # fmt: skip


@pytest.fixture
def modules(monkeypatch):
    """Import a file of benchmarks/ by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def bench(name, folder, *options):
    """Run a benchmark of models, ours alone and tiny; see :func:`bench_alone`."""
    return bench_alone(name, folder, *TINY, *options)


def bench_alone(name, folder, *options):
    """Run a benchmark; its section, its numbers and what it said."""
    out = folder / "section.md"
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / name), "--work", str(folder), "--out", str(out), *options],
        env={**os.environ, "PYTHONPATH": str(Path(nmt.__file__).parents[1])}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out.read_text(), json.loads(out.with_suffix(".json").read_text()), done


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux, to pin processes to cores")
def test_training_beside_other_work_is_measured_alone_and_beside_busy_processes(tmp_path):
    section, result, _ = bench("bench_load.py", tmp_path, "--quick", "--settings", "spin 1,000")
    assert {kind: len(times) for kind, times in result["seconds"]["spin 1,000"].items()} == {"alone": 2, "beside": 2}
    assert "| spin 1,000 |" in section


def test_training_writes_table_and_numbers(tmp_path):
    options = ["--peers", "none", "--families", "rnn", "--updates", "2", "--product", "32"]
    section, result, done = bench("bench_train.py", tmp_path, *options)
    assert section.strip() in done.stdout
    (family,) = result["families"]
    work, found = family["work"], family["contestants"]
    assert family["model"]["type"] == "rnn"
    assert work["batches"] == 2
    assert work["vocab_size"] == 60
    assert "nmt, fp32, allocator tuned" in found
    assert len({(about["digest"], about["parameters"]) for about in found.values()}) == 1
    for name, about in found.items():
        assert len(about["seconds"]) == 2
        assert about["nll_before"] == pytest.approx(math.log(60), abs=1.0)  # untrained: no better than chance
        assert about["nll_after"] < about["nll_before"]
        assert about["peak_bytes"] > about["start_bytes"] > 0
        row = next(line for line in section.splitlines() if line.startswith(f"| {name} "))
        assert f"| {about['parameters']:,} |" in row
        speeds = [n / s for n, s in zip(work["tgt_tokens"], about["seconds"], strict=True)]
        assert f"| {median(speeds):,.0f} (" in row


def test_decoding_trains_a_run_and_translates(tmp_path):
    section, result, _ = bench("bench_decode.py", tmp_path, "--peers", "none", "--steps", "3", "--sentences", "4")
    (name, about), = result["own"].items()  # fmt: skip
    assert result["sentences"] == 4
    assert len(about["seconds"]) == 2
    assert about["tokens"] > 0
    assert f"| {name} |" in section
    assert "### The CTranslate2 engine" in section


def test_long_sentences_are_measured_in_three_forms(tmp_path):
    options = ["--lengths", "20", "90", "--window", "8", "--repeats", "2", "--threads", "1"]
    section, result, _ = bench_alone("bench_long.py", tmp_path, *options)
    assert list(result["lengths"]) == ["20", "90"]
    for length, forms in result["lengths"].items():
        assert forms["plain"]["loss"] == pytest.approx(forms["fused"]["loss"], abs=1e-5)
        assert abs(forms["windowed"]["loss"] - forms["plain"]["loss"]) > 1e-4  # other attention
        for about in forms.values():
            assert len(about["seconds"]) == 2
            assert about["peak_bytes"] > about["start_bytes"] > 0
        assert section.count(f"| {length} |") == 3


def test_forms_of_attention_with_other_losses_are_refused(modules):
    bench_long = modules("bench_long")
    bench_long.must_agree({"plain": {"loss": 7.0}, "fused": {"loss": 7.00001}})
    with pytest.raises(modules("harness").BenchmarkError, match=r"another loss: 7\.001000"):
        bench_long.must_agree({"plain": {"loss": 7.0}, "fused": {"loss": 7.001}})


def test_quick_says_what_is_missing(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "bench_train.py"), "--src", "only.en"],
        env={**os.environ, "PYTHONPATH": str(Path(nmt.__file__).parents[1])}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert (
        done.stderr == "bench_train: --src and --tgt belong together: one file of sources, one of their translations\n"
    )


def test_synthetic_corpus_is_like_multi30k(modules, tmp_path):
    harness = modules("harness")
    harness.write_synthetic_corpus(tmp_path, pairs=4000, words=5000)
    src, tgt = ([line.split() for line in (tmp_path / f"train.{side}").read_text().splitlines()] for side in
                ("src", "tgt"))  # fmt: skip
    assert len(src) == len(tgt) == 4000
    assert len({word for line in src for word in line}) == 5000
    # Of the Multi30k training part in 8,000 subwords: 14.66 and 15.21 a sentence, ratio of logarithms 0.2 either way.
    assert fmean(map(len, src)) == pytest.approx(14.66, rel=0.05)
    assert fmean(map(len, tgt)) == pytest.approx(15.21, rel=0.05)
    ratios = [math.log(len(b) / len(a)) for a, b in zip(src, tgt, strict=True)]
    assert math.sqrt(fmean((r - fmean(ratios)) ** 2 for r in ratios)) == pytest.approx(0.2, abs=0.05)
    counts = sorted(Counter(word for line in src for word in line).values(), reverse=True)
    assert counts[0] > 20 * counts[500]
    first = (tmp_path / "train.src").read_bytes()
    harness.write_synthetic_corpus(tmp_path, pairs=4000, words=5000)
    assert (tmp_path / "train.src").read_bytes() == first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"digest": "other"}, "peer has other batches than ours"),
        ({"parameters": 11}, "peer has 11 parameters, ours 10"),
        ({"nll_before": 4.001}, "peer has another loss with the same weights: 4.001000 nats a token, ours 4.000000"),
    ],
)
def test_unequal_work_is_refused(modules, change, message):
    bench_train = modules("bench_train")
    ours = {"digest": "one", "parameters": 10, "nll_before": 4.0, "twin": True}
    bench_train.must_agree({"ours": ours, "peer": {**ours, "nll_before": 4.00001}})
    with pytest.raises(modules("harness").BenchmarkError, match=message):
        bench_train.must_agree({"ours": ours, "peer": {**ours, **change}})


def test_training_tables(modules):
    """Ratios are taken round by round, shares against the matrix product of the same round; by hand."""
    bench_train = modules("bench_train")
    shared = {"versions": {"torch": "2"}, "parameters": 1000, "start_bytes": 2**20, "note": "", "precision": "fp32"}
    ours = {**shared, "peer": "", "twin": True, "seconds": [1.0, 2.0, 4.0], "peak_bytes": 3 * 2**20}
    peer = {**shared, "peer": "marian", "twin": True, "seconds": [3.0, 4.0, 6.0], "peak_bytes": 4 * 2**20}
    other = {**shared, "peer": "joeynmt", "twin": False, "seconds": [4.0, 4.0, 4.0], "peak_bytes": 2**20}
    work = {
        "batches": 2, "vocab_size": 9, "sentences": [8, 8, 8], "src_tokens": [50, 50, 44], "tgt_tokens": [60, 60, 60],
        "positions": [120, 120, 120], "flops": [3e9, 3e9, 3e9],
    }  # fmt: skip
    model = {"type": "rnn", "cell": "gru", "d_hidden": 7, "attention": "additive"}
    family = {"model": model, "work": work, "peaks": {"fp32": [10e9, 5e9, 10e9]}}
    family["contestants"] = {"nmt": ours, "A": {**peer, "note": "eager"}, "B": other}
    lines = bench_train.section({"command": "c", "threads": 1, "families": [family]}).splitlines()
    assert "### GRU of 7 with additive attention" in lines
    assert any("8 sentences of 48 source and 60 target tokens on average, 10.0% padding" in line for line in lines)
    # 60 / 1, 60 / 2, 60 / 4; 3 GFLOP in those seconds over 10, 5 and 10 GFLOP/s is 0.3, 0.3 and 0.075.
    assert "| nmt | 1,000 | 30 (15 – 60) | 4 (2 – 8) | 3 | 1 | 30.0% of fp32 |" in lines
    assert "| A (eager) | 1,000 | 15 (10 – 20) | 2 (1 – 3) | 4 | 1 | 10.0% of fp32 |" in lines
    assert "| B | 1,000 | 15 (15 – 15) | 2 (2 – 2) | 1 | 1 | another model |" in lines
    assert lines[-2:] == ["| nmt | A | 2.00 (1.50 – 3.00) | 0.75 |", "| nmt | B | 2.00 (1.00 – 4.00) | 3.00 |"]


def test_decoding_tables(modules):
    bench_decode = modules("bench_decode")
    shared = {"versions": {"torch": "2"}, "note": "", "peak_bytes": 2**20, "tokens": 12}
    own = {
        "nmt": {**shared, "seconds": [1.0, 2.0], "identical": 1.0},
        "A": {**shared, "seconds": [3.0, 3.0], "identical": 0.75},
    }
    commands = {
        "ours": {"all": [4.0, 6.0], "one": [2.0, 2.0], "identical": 1.0, "versions": {"ctranslate2": "4"}},
        "direct": {"all": [3.0, 6.0], "one": [2.0, 1.0], "identical": 0.5, "versions": {"ctranslate2": "4"}},
    }
    result = {"command": "c", "threads": 1, "sentences": 6, "own": own, "ctranslate2": commands}
    lines = bench_decode.section(result).splitlines()
    assert lines[2] == "c, torch 2, ctranslate2 4"
    assert "| nmt | 4 (3 – 6) | 9 (6 – 12) | 1 |  |  |" in lines
    assert "| A | 2 (2 – 2) | 4 (4 – 4) | 1 | 2.25 (1.50 – 3.00) | 75.0% |" in lines
    # Without start-up: ours 2 and 4 seconds, direct 1 and 5.
    assert lines[-1] == (
        "| `direct` | 2 (1 – 2) | 4.50 (3.00 – 6.00) | 1.50 (1.00 – 2.00) "
        "| 0.88 (0.75 – 1.00) | 0.88 (0.50 – 1.25) | 50.0% |"
    )


def test_a_contestant_that_fails_says_why(modules, tmp_path):
    harness = modules("harness")
    contestant = harness.Contestant("some product", sys.executable, "matmul.py", 1, tmp_path)
    message = r"some product: failed in 'start': KeyError: 'fp7'; see .*some-product\.log"
    with contestant, pytest.raises(harness.BenchmarkError, match=message):
        contestant.ask("start", threads=1, device="cpu", precision="fp7", size=2)
    assert contestant.process.poll() is not None


# ------------------------------------------------------------------------------------------------- with peers installed


def peer(name):
    python = ROOT / ".venv-peers" / name / "bin" / "python"
    return pytest.param(
        python, name, marks=pytest.mark.skipif(not python.exists(), reason=f"{name} is not installed: make bench-peers")
    )


@pytest.mark.parametrize(("python", "name"), [peer("transformers"), peer("joeynmt")])
def test_a_peer_trains_the_same_model(modules, tmp_path, python, name):
    """With our weights it has our loss; without dropout it has our loss after updates, too: the same gradients."""
    harness = modules("harness")
    arguments = harness.parser("").parse_args([*TINY, "--work", str(tmp_path)])
    config = harness.experiment(arguments, "transformer", "parity")
    config["model"] = {**config["model"], "dropout": 0.0}
    config["train"] |= {"label_smoothing": 0.0}  # JoeyNMT spreads the smoothing over two words less
    task = {
        "config": config, "count": 3, "seed": 1, "threads": 1, "device": "cpu", "allocator": "default",
        "precision": "fp32",
    }  # fmt: skip
    batches, weights = str(tmp_path / "batches.npz"), str(tmp_path / "weights.npz")
    with harness.Contestant("ours", sys.executable, "ours.py", 1, tmp_path) as ours:
        digest = ours.ask("start", task=task)["digest"]
        task |= ours.ask("write", batches=batches, weights=weights)["task"]
        expected = [ours.ask("nll")["nll"]]
        ours.ask("run", updates=3)
        expected.append(ours.ask("nll")["nll"])
    script = {"transformers": "peer_marian.py", "joeynmt": "peer_joeynmt.py"}[name]
    with harness.Contestant(name, python, script, 1, tmp_path) as other:
        assert other.ask("start", task=task)["digest"] == digest
        other.ask("load", weights=weights)
        found = [other.ask("nll")["nll"]]
        other.ask("run", updates=3)
        found.append(other.ask("nll")["nll"])
    assert found == pytest.approx(expected, abs=2e-5)
    assert expected[1] < expected[0] - 1e-3
