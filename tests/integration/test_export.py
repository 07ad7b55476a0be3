"""Translating through CTranslate2, and exporting for it, by the commands a user types."""

import errno
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import sacrebleu
import yaml

from nmt.cli import main
from nmt.data.corpus import Corpus
from nmt.data.file_hashes import read_manifest
from nmt.data.tokenizer import Tokenizer
from nmt.errors import ExportError
from nmt.interop import parity
from nmt.interop.targets import TARGETS, Listed
from nmt.translation import ctranslate2_cache
from nmt.translation.ctranslate2 import import_ctranslate2
from tests.conftest import Task

try:
    import_ctranslate2()
except ExportError as error:
    pytest.skip(str(error), allow_module_level=True)

LEARN = {
    "batch_tokens": 512, "max_steps": 300, "optimizer": {"lr": 5e-3}, "schedule": {"warmup_steps": 30},
    "validate_every": 150, "log_every": 100,
}  # fmt: skip
ENGINE = ["--engine", "ctranslate2"]
MULTI30K = Path(__file__).parents[2] / "runs" / "multi30k-transformer"


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """A trained Transformer in runs/run, and an RNN that has seen two batches in runs/rnn."""
    task = Task(tmp_path_factory.mktemp("export"), train=2000, held=60)
    assert main(["train", str(task.config_file("transformer", train=LEARN, search={"max_source_tokens": 20}))]) == 0
    assert main(["train", str(task.config_file("rnn", name="rnn", train={"max_steps": 2}))]) == 0
    return task


@pytest.fixture
def run(task, tmp_path):
    """A copy of the trained run, with nothing exported yet."""
    return str(shutil.copytree(task.folder / "runs" / "run", tmp_path / "run"))


def translate(*arguments):
    """The output of ``nmt translate``."""
    output = Path(arguments[0]).parent / "translated.txt"
    assert main(["translate", *arguments, "-o", str(output)]) == 0
    return output.read_text(encoding="utf-8")


def kept(run):
    return sorted((Path(run) / "ctranslate2").iterdir())


# ------------------------------------------------------------------------------------------------- translate --engine


def test_translations_are_those_of_the_run(task, run, tmp_path, caplog):
    lines = task.paths["test.src"].read_text(encoding="utf-8").splitlines()
    odd = ["", "  ", "one " * 50, "1 ? ∂ one", "seven", "\u2028", "one\ttwo\r"]
    source = tmp_path / "in.txt"
    source.write_text("\n".join([*lines, *odd]) + "\n", encoding="utf-8", newline="\n")
    for options in ([], ["--beam-size", "1"], ["--beam-size", "7"]):
        caplog.clear()
        expected = translate(run, "-i", str(source), *options)
        warned = caplog.messages.copy()
        caplog.clear()
        assert translate(run, "-i", str(source), *options, *ENGINE) == expected
        assert [m for m in caplog.messages if "CTranslate2" not in m] == warned
        assert warned[0].startswith("search: ")
        assert warned[1] == f"warning: line {len(lines) + 3}: source cut (50 subwords, search.max_source_tokens is 20)"
        assert expected.count("\n") == len(lines) + len(odd)
    assert len(set(expected.splitlines())) > 50


@pytest.mark.skipif(not MULTI30K.is_dir(), reason="needs runs/multi30k-transformer, trained on data/multi30k")
def test_a_real_run_translates_its_test_set_alike(tmp_path):
    """The promise, kept on ``test_2016_flickr``: 99.5 % of the translations, and BLEU to 0.1."""
    config = yaml.safe_load((MULTI30K / "config.yaml").read_text(encoding="utf-8"))
    manifest = json.loads((MULTI30K / "manifest.json").read_text(encoding="utf-8"))
    corpus = MULTI30K.parents[1] / config["data"]["store"] / f"corpus-{manifest['key']}"
    if not corpus.is_dir():
        pytest.skip(f"the corpus of {MULTI30K} is not there any more: {corpus}")
    part = Corpus(corpus, read_manifest(corpus)).part("test.test_2016_flickr")
    source = tmp_path / "source.txt"
    source.write_text("".join(f"{line}\n" for line in part.sources()), encoding="utf-8")
    shutil.copytree(MULTI30K, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints", "ctranslate2"))
    own, other = (
        translate(str(tmp_path / "run"), "-i", str(source), *options).splitlines() for options in ([], ENGINE)
    )
    assert sum(a == b for a, b in zip(own, other, strict=True)) >= 0.995 * len(own)
    bleu = [sacrebleu.corpus_bleu(found, [part.targets()]).score for found in (own, other)]
    assert abs(bleu[0] - bleu[1]) <= 0.1


def test_nbest_and_scores(task, run):
    source = str(task.paths["test.src"])
    for options in (["--nbest", "3", "--scores"], ["--nbest", "2", "--jsonl"]):
        expected, found = (translate(run, "-i", source, *options, *engine) for engine in ([], ENGINE))
        number = re.compile(r"-?\d+\.\d+(e-\d+)?")
        assert number.sub("#", found) == number.sub("#", expected)
        values = [[float(match[0]) for match in number.finditer(text)] for text in (found, expected)]
        assert values[0] == pytest.approx(values[1], abs=2e-4)
        assert len(values[0]) >= 120


def test_the_model_is_written_once_and_then_torch_is_not_needed(task, run):
    # With a wider beam, a model as small as this one leaves some sentences to our own search.
    options = ["-i", str(task.paths["test.src"]), "--beam-size", "1", *ENGINE]
    expected = translate(run, *options)
    (folder,) = kept(run)
    written = (folder / "model.bin").stat().st_mtime_ns
    program = (
        "import gc, sys; from nmt.cli import main; code = main(); "
        "assert 'torch' not in sys.modules, 'PyTorch was imported'; "
        "assert gc.isenabled(), 'garbage is not collected'; sys.exit(code)"
    )
    command = [sys.executable, "-c", program, "translate", run, *options]
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert again.stdout == expected
    assert kept(run) == [folder]
    assert (folder / "model.bin").stat().st_mtime_ns == written


def test_a_damaged_model_is_written_anew(task, run):
    source = str(task.paths["test.src"])
    expected = translate(run, "-i", source, *ENGINE)
    (folder,) = kept(run)
    data = bytearray((folder / "model.bin").read_bytes())
    data[len(data) // 2] ^= 0x40
    (folder / "model.bin").write_bytes(data)
    assert translate(run, "-i", source, *ENGINE) == expected
    (folder / ctranslate2_cache.ACCOUNT).unlink()
    assert translate(run, "-i", source, *ENGINE) == expected
    assert kept(run) == [folder]
    assert bytes(data) != (folder / "model.bin").read_bytes()


def test_a_run_trained_further_is_exported_anew(task, tmp_path):
    section = {**LEARN, "max_steps": 20, "schedule": {"name": "constant", "warmup_steps": 30}}
    config = str(task.config_file("transformer", name="longer", runs=str(tmp_path), train=section))
    run, source = str(tmp_path / "longer"), str(task.paths["test.src"])
    assert main(["train", config]) == 0
    before = translate(run, "-i", source, *ENGINE), kept(run)
    assert main(["train", config, "--set", "train.max_steps=150"]) == 0
    after = translate(run, "-i", source, *ENGINE), kept(run)
    assert after[0] == translate(run, "-i", source) != before[0]
    assert len(after[1]) == 1
    assert after[1] != before[1]


def test_an_unfinished_run_translates_with_its_best_checkpoint(task, run, caplog):
    source = str(task.paths["test.src"])
    shutil.rmtree(Path(run) / "model")
    expected = translate(run, "-i", source)
    caplog.clear()
    assert translate(run, "-i", source, *ENGINE) == expected
    assert sum("is not finished: using the best checkpoint so far" in message for message in caplog.messages) == 1
    folders = kept(run)
    assert translate(run, "-i", source, *ENGINE) == expected
    assert kept(run) == folders


@pytest.mark.parametrize("content", ['{"sha256": {"/dev/zero": "x"}}', '{"sha256": {"../../config.yaml": "x"}}',
                                     '{"sha256": {}}', "{}", "[1]", "null", "5", "{"])  # fmt: skip
def test_an_account_of_another_kind_has_the_model_written_anew(task, run, content):
    source = str(task.paths["test.src"])
    expected = translate(run, "-i", source, *ENGINE)
    (folder,) = kept(run)
    (folder / "model.bin").write_bytes(b"damaged")
    (folder / ctranslate2_cache.ACCOUNT).write_text(content)
    assert translate(run, "-i", source, *ENGINE) == expected
    assert ctranslate2_cache.is_whole(folder)


def test_what_kills_left_is_cleared(task, run):
    source = str(task.paths["test.src"])
    expected = translate(run, "-i", source, *ENGINE)
    (folder,) = kept(run)
    for name in (f".{folder.name}.old", f".{folder.name}.1-0123abcd.old", f".{folder.name}.1-0123abcd.tmp"):
        shutil.copytree(folder, folder.with_name(name))
    (folder / "model.bin").write_bytes(b"damaged")
    assert translate(run, "-i", source, *ENGINE) == expected
    assert kept(run) == [folder]


def test_a_run_that_cannot_be_written_to_is_translated(task, run, caplog, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    source = str(task.paths["test.src"])
    expected = translate(run, "-i", source)
    monkeypatch.setattr(ctranslate2_cache, "new_directory", fail)
    assert translate(run, "-i", source, *ENGINE) == expected
    assert "cannot be written: Read-only file system; using a temporary folder, for this command only" in caplog.text
    assert kept(run) == []


def test_several_at_once_over_a_damaged_model(task, run, tmp_path):
    source = str(task.paths["test.src"])
    expected = translate(run, "-i", source, *ENGINE)
    (folder,) = kept(run)
    for number in range(2):
        (folder / "model.bin").write_bytes(b"damaged")
        command = [sys.executable, "-m", "nmt", "translate", run, "-i", source, *ENGINE]
        started = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
        for process in started:
            out, err = process.communicate()
            assert process.returncode == 0, (number, err)
            assert out.decode() == expected
        assert kept(run) == [folder]


# ------------------------------------------------------------------------------------------------------------- export


def exported(run, output, *options):
    return ["export", run, "--to", "ctranslate2", "-o", str(output), "--check", str(Path(run) / "lines"), *options]


@pytest.fixture
def checked(run):
    """A run with a few lines to check an export with."""
    (Path(run) / "lines").write_text("one two\nthree four five\n")
    return run


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "text"),
    [("nmt.json", '{"my": "settings"}'), ("nmt.json", '{"format": 2, "sha256": {"thesis.tex": "x"}, "check": {}}'),
     ("nmt.json", "[1]"), ("nmt.json", "null"), ("nmt.json", ""), ("model.json", "{}")],
)  # fmt: skip
def test_a_folder_of_somebody_else_is_left_alone(checked, tmp_path, capsys, name, text):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / name).write_text(text)
    (folder / "thesis.tex").write_text("thesis")
    before = content(folder)
    refuse(exported(checked, folder), f"exists and is not an earlier export, because it contains {name}", capsys)
    assert content(folder) == before


def test_what_was_added_to_an_export_or_altered_in_it_is_left_alone(checked, tmp_path, capsys):
    folder = tmp_path / "published"
    assert main(exported(checked, folder)) == 0
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("history")
    cases = {".git": lambda: shutil.rmtree(folder / ".git")}
    (folder / "CARD.md").write_text("model card")
    cases["CARD.md"] = (folder / "CARD.md").unlink
    for name in ("README.md", next(folder.glob("*.model")).name):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole + b"more")
        cases[f"{name} (altered)"] = lambda path=folder / name, whole=whole: path.write_bytes(whole)
    (folder / "config.json").rename(tmp_path / "config.json")
    (folder / "config.json").symlink_to(tmp_path / "config.json")
    cases["config.json"] = lambda: (folder / "config.json").unlink()
    for name in sorted(cases):
        before = content(folder)
        refuse(exported(checked, folder), f"because it contains {name}; name another folder", capsys)
        assert content(folder) == before
        cases[name]()
    assert main(exported(checked, folder)) == 0
    assert (folder / "config.json").is_file()
    assert (tmp_path / "config.json").is_file()


def test_the_kept_model_of_a_run_is_no_export(task, checked, capsys):
    translate(checked, "-i", str(task.paths["test.src"]), *ENGINE)
    (folder,) = kept(checked)
    refuse(exported(checked, folder), "exists and is not an earlier export, because it contains config.json", capsys)


def test_an_export_goes_where_a_link_leads_and_into_the_current_folder(checked, tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for quantize in ([], ["--quantize", "int8"], []):
        assert main(exported(checked, tmp_path / "link", *quantize)) == 0
        assert (tmp_path / "link").is_symlink()
        weights = "int8" if quantize else "float32"
        assert json.loads((tmp_path / "real" / "nmt.json").read_text())["weights"] == weights
    monkeypatch.chdir(tmp_path / "real")
    assert main(exported(checked, ".")) == 0
    assert Path("nmt.json").is_file()
    assert not list(Path().glob(".*"))


def test_an_export_into_an_empty_mounted_folder(checked, tmp_path):
    folder = tmp_path / "mounted"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], check=False, capture_output=True).returncode:
        pytest.skip("mounting needs the superuser")
    try:
        for _ in range(2):
            assert main(exported(checked, folder)) == 0
        assert (folder / "nmt.json").is_file()
        (folder / "lost+found").mkdir()
        assert main(exported(checked, folder)) == 0
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("there", [True, False])
def test_an_export_on_a_full_disk(checked, tmp_path, capsys, monkeypatch, there):
    def no_space(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source), None, str(target))

    folder = tmp_path / "out"
    if there:
        assert main(exported(checked, folder)) == 0
    before = content(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", no_space)
        refuse(exported(checked, folder), ".model: cannot be written: No space left", capsys)
    assert content(tmp_path) == before
    assert main(exported(checked, folder)) == 0


# Percent of translations that stay the same
SAME = {"float32": 99.5, "float16": 95, "int8": 80}


@pytest.mark.parametrize("weights", ["float32", "int8", "float16"])
def test_an_export_is_checked_and_tells_how_to_use_it(task, run, tmp_path, capsys, monkeypatch, weights):
    capsys.readouterr()
    options = [] if weights == "float32" else ["--quantize", weights]
    assert main(["export", run, "--to", "ctranslate2", *options]) == 0
    out = capsys.readouterr().out
    folder = Path(run) / "export" / f"ctranslate2-{weights}"
    assert f"exported to {folder}" in out
    found = re.match(r"([\d.]+)% of the translations of 60 lines of the validation set are the run's own", out)
    assert float(found[1]) >= SAME[weights]
    loss = "" if weights == "float32" else r": a loss of -?[\d.]+"
    assert re.search(rf"^[\d.]+ BLEU, the run itself [\d.]+{loss}$", out, re.M)

    about = json.loads((folder / "nmt.json").read_text(encoding="utf-8"))
    assert about["weights"] == weights
    assert f"{about['check']['same']:.1%}" == f"{found[1]}%"
    assert about["check"]["lines"] == 60
    assert about["search"]["beam_size"] == 3
    assert Tokenizer.load(folder).fingerprint == Tokenizer.load(Path(run) / "tokenizer").fingerprint

    # What the README says gives the translations of the run.
    lines = task.paths["test.src"].read_text(encoding="utf-8").splitlines()
    theirs = readme(folder, monkeypatch)["translate"]([*lines, ""])
    ours = translate(run, "-i", str(task.paths["test.src"])).splitlines()
    assert len(theirs) == len(ours) + 1
    assert theirs[-1] == ""
    equal = sum(a == b for a, b in zip(ours, theirs, strict=False)) / len(ours)
    assert equal >= (1 if weights == "float32" else SAME[weights] / 100)


def readme(folder, monkeypatch):
    """What the Python code of the README defines."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.S)
    monkeypatch.chdir(folder)
    there: dict = {}
    exec(code, there)
    return there


@pytest.mark.parametrize(("kind", "alpha"), [("none", None), ("average", 0.7)])
def test_the_readme_has_the_penalty_of_the_run(task, run, tmp_path, monkeypatch, kind, alpha):
    path = Path(run) / "config.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["search"] |= {"length_penalty": kind, "alpha": alpha, "beam_size": 4}
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    assert main(["export", run, "--to", "ctranslate2", "-o", str(tmp_path / "it")]) == 0
    lines = task.paths["test.src"].read_text(encoding="utf-8").splitlines()
    ours = translate(run, "-i", str(task.paths["test.src"])).splitlines()
    assert readme(tmp_path / "it", monkeypatch)["translate"](lines) == ours


def test_separate_vocabularies(task, tmp_path, monkeypatch):
    sections = {"tokenizer": {"joint": False, "vocab_size": 24}, "model": {"tie_embeddings": "none"}}
    assert main(["train", str(task.config_file("transformer", name="two", train={"max_steps": 2}, **sections))]) == 0
    run, source = str(task.folder / "runs" / "two"), str(task.paths["test.src"])
    assert translate(run, "-i", source, *ENGINE) == translate(run, "-i", source)
    assert main(["export", run, "--to", "ctranslate2", "-o", str(tmp_path / "it")]) == 0
    assert {path.name for path in (tmp_path / "it").glob("*.model")} == {"src.model", "tgt.model"}
    assert len(readme(tmp_path / "it", monkeypatch)["translate"](["one two", "three"])) == 2


def test_an_export_normalises_each_side_as_the_run_does(task, tmp_path, monkeypatch):
    """With SentencePiece alone, as its README says: full-width letters and case are folded in the source only."""
    lines = task.paths["train.tgt"].read_text(encoding="utf-8").replace("eins", "１Ｓ")
    task.paths["train.tgt"].write_text(lines, encoding="utf-8")
    sections = {"tokenizer": {"normalization": {"src": "nmt_nfkc_cf"}}, "train": {"max_steps": 2}}
    assert main(["train", str(task.config_file("transformer", name="wide", **sections))]) == 0
    assert main(["export", str(task.folder / "runs" / "wide"), "--to", "ctranslate2", "-o", str(tmp_path / "it")]) == 0
    there = readme(tmp_path / "it", monkeypatch)
    assert there["source"].encode("ＯＮＥ Two") == there["source"].encode("one two")
    assert there["target"].decode(there["target"].encode("１Ｓ zwei")) == "１Ｓ zwei"
    folded, plain = there["translate"](["ＯＮＥ Two ONE", "one two one"])
    assert folded == plain


def test_a_file_to_check_with(task, run, tmp_path, capsys):
    (tmp_path / "some.txt").write_text("one two\n\nthree four five\n")
    capsys.readouterr()
    arguments = ["--check", str(tmp_path / "some.txt"), "-o", str(tmp_path / "here")]
    assert main(["export", run, "--to", "ctranslate2", *arguments]) == 0
    assert "100.0% of the translations of 2 lines of " in capsys.readouterr().out
    assert json.loads((tmp_path / "here" / "nmt.json").read_text())["check"]["bleu"] is None
    assert main(["export", run, "--to", "ctranslate2", *arguments, "--quantize", "int8"]) == 0  # replaces the first
    assert json.loads((tmp_path / "here" / "nmt.json").read_text())["weights"] == "int8"


def test_an_export_that_translates_otherwise_leaves_nothing(task, run, tmp_path, capsys, monkeypatch):
    output = tmp_path / "out"
    command = ["export", run, "--to", "ctranslate2", "-o", str(output)]

    def refused(*options):
        capsys.readouterr()
        assert main([*command, *options]) == 2
        assert not list(tmp_path.glob(".out*"))
        return capsys.readouterr().err

    monkeypatch.setattr(parity, "PROMISED", 1.01)
    assert "translates only 100.00% of 60 lines of the validation set as the run does" in refused()
    monkeypatch.setattr(parity, "PROMISED", 0.995)
    monkeypatch.setattr(parity, "BLEU_TOLERANCE", -1)
    assert re.search(r"the export has [\d.]+ BLEU on the validation set and the run [\d.]+; the limit", refused())
    monkeypatch.setattr(parity, "MIN_LIKENESS", 101)
    assert "differ too much from those of the run (" in refused("--quantize", "int8")
    monkeypatch.setattr(ctranslate2_cache, "MAX_DIFFERENCE", 0)
    assert re.search(
        r"computes other probabilities .*\(log-probabilities differ by [\d.e-]+, the limit is 0\)", refused()
    )
    assert not output.exists()
    monkeypatch.undo()
    assert main(command) == 0
    before = (output / "nmt.json").read_text()
    monkeypatch.setattr(parity, "PROMISED", 1.01)
    refused()
    assert (output / "nmt.json").read_text() == before


class Copy:
    """A target that keeps the weights as they are, for PyTorch."""

    own_search, own_limits = True, True

    def check(self, run, config):
        if config.model.type != "transformer":
            raise ExportError("only Transformers can be copied")

    def versions(self):
        return {"copy": "1"}

    def write(self, folder, exported):
        shutil.copyfile(exported.run.model / "model.safetensors", folder / "weights")
        return 0.0

    def unverified(self):
        return None

    def search(self, search):
        return search

    def translate(self, folder, exported, lines):
        assert (folder / "weights").is_file()
        return [found[0] for found in exported.own.translate(lines)], 0

    def readme(self, exported):
        return f"weights of {exported.run.path.name}\n"


def test_a_further_target_is_a_module_and_an_entry_in_the_table(task, checked, tmp_path, capsys, monkeypatch):
    module = ModuleType("copy_target")
    module.TARGET = Copy()
    monkeypatch.setitem(sys.modules, "copy_target", module)
    monkeypatch.setitem(TARGETS, "copy", Listed("copy_target", weights=()))
    lines = ["--check", str(Path(checked) / "lines")]
    assert main(["export", checked, "--to", "copy", *lines]) == 0
    folder = Path(checked) / "export" / "copy-float32"
    assert f"exported to {folder}" in capsys.readouterr().out
    assert {path.name for path in folder.iterdir()} == {"weights", "README.md", "nmt.json"}
    about = json.loads((folder / "nmt.json").read_text())
    assert (about["copy"], about["check"]["same"], about["check"]["searched_again"]) == ("1", 1.0, 0)
    assert main(["export", checked, "--to", "copy", *lines, "--search", "beam_size=1"]) == 0
    assert json.loads((folder / "nmt.json").read_text())["search"]["beam_size"] == 1
    refuse(["export", checked, "--to", "copy", "--quantize", "int8"], "copy cannot have such weights; remove", capsys)
    refuse(["export", str(task.folder / "runs" / "rnn"), "--to", "copy"], "only Transformers can be copied", capsys)


def test_the_table_of_all_exports_needs_each_translation_of_the_run_once(run, monkeypatch):
    asked, translate_block = [], parity.translate_block
    monkeypatch.setattr(parity, "translate_block", lambda *given: asked.append(given) or translate_block(*given))
    interop, known = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "interop.py")), {}
    rows = list(interop["measure"](run, "ctranslate2", known))
    assert [row["weights"] for row in rows] == ["float32", "int8", "float16"]
    assert len(asked) == len(known) == 2  # with the beam, and greedily
    assert rows[0]["same"] == rows[0]["greedy"] == 1
    assert interop["told"](rows[0]).startswith("ctranslate2 4.")
    [_, _, first, *others] = interop["table"](rows).splitlines()
    assert re.fullmatch(
        r"\| ctranslate2 4\S+ \| float32 \| 60 \| 100.0% \| 100.0% (\| \d+\.\d\d ){2}\| \de-\d\d \|", first
    )
    assert len(others) == 2


def test_a_program_that_ends_early_is_a_row_of_the_table(tmp_path):
    python = tmp_path / "argos" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 3\n")
    python.chmod(0o755)
    script = Path(__file__).parents[2] / "scripts" / "interop.py"
    done = subprocess.run(
        [sys.executable, str(script), "nowhere", str(tmp_path), "argos"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout.splitlines()[2:] == [
        "| ctranslate2 | any | the measurement ended with code 1, see above ||||||",
        "| argos | any | the measurement ended with code 3, see above ||||||",
        "0 of 6 exports translate as the run does",
    ]


def test_refusals(task, run, tmp_path, capsys, monkeypatch):
    rnn, source = str(task.folder / "runs" / "rnn"), str(task.paths["test.src"])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    (tmp_path / "blank.txt").write_text("\n \n")
    recurrent = "CTranslate2 runs Transformers and cannot express a recurrent model (model.type: rnn); "
    to = ["--to", "ctranslate2"]
    cases = [
        (["translate", rnn, "-i", source, *ENGINE], f"{recurrent}use PyTorch: remove --engine"),
        (["export", rnn, *to], f"{recurrent}export --to onnx"),
        (["export", run, *to, "--search", "method=sample"], "export with another search: --search method=beam"),
        (["export", run, *to, "--search", "beams=2"], "search.beams: unknown key"),
        (["translate", run, "-i", source, *ENGINE, "--device", "mps"], "CTranslate2 cannot run on mps here"),
        (["export", run, *to, "-o", str(tmp_path / "full")], "exists and is not an earlier export"),
        (["export", run, *to, "-o", str(tmp_path / "blank.txt")], "exists and is not an earlier export"),
        (["export", run, *to, "-o", str(tmp_path / "blank.txt" / "a")], "cannot be written: "),
        (["export", run, *to, "--check", str(tmp_path / "none.txt")], "none.txt: no such file"),
        (["export", run, *to, "--check", str(tmp_path / "blank.txt")], "contains no line to check the export with"),
        (["export", "nowhere", *to], "nowhere: no such run"),
    ]
    for arguments, expected in cases:
        refuse(arguments, expected, capsys)
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    for arguments in (["translate", run, "-i", source, *ENGINE], ["export", run, *to]):
        refuse(arguments, "pip install ctranslate2", capsys)
    monkeypatch.undo()
    shutil.move(task.folder / "store", task.folder / "gone")
    refuse(["export", run, *to], "name a file of source sentences with --check", capsys)
    shutil.move(task.folder / "gone", task.folder / "store")
    assert not (Path(run) / "export").exists()


def refuse(arguments, expected, capsys):
    capsys.readouterr()
    assert main(arguments) == 2, arguments
    out, err = capsys.readouterr()
    assert out == ""
    assert expected in err
    assert len(err.strip().splitlines()) == 1, err
