"""Exports for ``transformers``, Argos Translate, Marian and ONNX Runtime: checked by them where they are installed."""

import json
import re
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
import yaml

from nmt.cli import main
from nmt.data.sentencepiece_model import EOS_ID
from nmt.errors import DataError
from nmt.interop import huggingface, onnx, parity, targets
from nmt.run.directory import Run
from nmt.translation.ctranslate2_model import log_probs, random_pairs
from nmt.translation.loading import load_translator
from tests.conftest import Task
from tests.unit.pretrained.imported import imported
from tests.unit.pretrained.marian_reference import Marian

LEARN = {
    "batch_tokens": 512, "max_steps": 150, "optimizer": {"lr": 5e-3}, "schedule": {"warmup_steps": 30},
    "validate_every": 150, "log_every": 100,
}  # fmt: skip
SEARCH = {"max_source_tokens": 20}


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return Task(tmp_path_factory.mktemp("targets"), train=1000, held=40)


def run_of(task, name):
    """joint and two are trained Marian Transformers; the others have seen two batches. Each is trained when needed."""
    if (run := task.folder / "runs" / name).exists():
        return run
    few = {**LEARN, "max_steps": 2}
    marian = {"preset": "marian"}
    two = {"tokenizer": {"joint": False, "vocab_size": 24}, "model": {**marian, "tie_embeddings": "none"}}
    runs = {
        "joint": {"model": marian, "train": LEARN},
        "two": {**two, "train": LEARN},
        "learned": {"model": {**marian, "positions": "learned", "start": "bos"}, "train": few},
        "plain": {"train": few},
    }

    def source(name):
        return {"kind": "text", **{side: str(task.paths[f"{name}.{side}"]) for side in ("src", "tgt")}}

    data = {
        "train": [
            {"name": tag, "source": source(part), "tag": f">>{tag}<<"} for tag, part in (("de", "train"), ("x", "test"))
        ],
        "valid": source("valid") | {"tag": ">>de<<"},
        "test": {},
    }
    runs["tagged"] = {"model": marian, "train": few, "data": data, "tokenizer": {"vocab_size": 60}}
    assert main(["train", str(task.config_file("transformer", name, **runs[name], search=SEARCH))]) == 0
    return run


def export(task, name, target, output, *options):
    return main(["export", str(run_of(task, name)), "--to", target, "-o", str(output), *options])


def check_equal(run, model, tokenizer):
    """Compare a reimported model with its run: pieces of lines, and log-probabilities of random sentences."""
    own = load_translator(Run.open(str(run)))
    for line in ("one two seven", "six", "three three four five one"):
        there, here = tokenizer.encode_src([line])[0], own.tokenizer.encode_src([line])[0]
        assert tokenizer.src_pieces(there) == own.tokenizer.src_pieces(here)
    shift = tokenizer.tgt_vocab_size - own.tokenizer.tgt_vocab_size  # of the ids that are not special
    for src, tgt in random_pairs(own.engine.model, own.tokenizer):
        ours = log_probs(own.engine.model, own.tokenizer, [(src, tgt)])[0]
        theirs = log_probs(model, tokenizer, [([i + shift for i in src], [i + shift for i in tgt])])[0]
        assert torch.allclose(ours, theirs, atol=1e-4)


# ---------------------------------------------------------------------------------------------------------- huggingface


@pytest.mark.parametrize("name", ["joint", "two"])
def test_a_hugging_face_folder_is_read_back_with_the_same_probabilities(task, tmp_path, monkeypatch, caplog, name):
    monkeypatch.setattr(targets, "find_spec", lambda _: None)
    assert export(task, name, "huggingface", tmp_path / "hf") == 0
    assert "warning: the export is not verified: transformers is not installed; " in caplog.text
    assert json.loads((tmp_path / "hf" / "nmt.json").read_text())["check"] is None
    check_equal(run_of(task, name), *imported(tmp_path / "hf", tmp_path)[1:])


def test_the_model_card_has_scores_with_signatures_data_and_a_licence(task, tmp_path, monkeypatch):
    monkeypatch.setattr(targets, "find_spec", lambda _: None)
    assert export(task, "joint", "huggingface", tmp_path / "hf") == 0
    text = (tmp_path / "hf" / "README.md").read_text(encoding="utf-8")
    assert text.startswith("---\nlanguage:\n- en\n- de\nlicense: unknown\n")
    assert re.search(r"^\| tiny \| bleu \| \d+\.\d\d \| `nrefs:1 case:mixed eff:no tok:13a", text, re.M)
    assert "- train: 1,000 pairs" in text
    assert '"src": "train.src"' in text
    assert str(task.folder) not in text


def with_languages(task, folder, src, tgt):
    """A copy of the run whose languages have other names."""
    shutil.copytree(run_of(task, "joint"), folder)
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    config["data"] |= {"src_lang": src, "tgt_lang": tgt}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return ["export", str(folder), "--check", str(task.paths["valid.src"]), "-o", str(folder / "out"), "--to"]


@pytest.mark.parametrize(
    ("src", "tgt", "codes"),
    [("no", "pt-BR", ["no", "pt"]), ("zh_Hant", "ar", ["zh", "ar"]), ("en-US", "en-GB", ["en"])],
)
def test_languages_of_the_model_card_are_codes_and_no_booleans(task, tmp_path, monkeypatch, src, tgt, codes):
    monkeypatch.setattr(targets, "find_spec", lambda _: None)
    assert main([*with_languages(task, tmp_path / "run", src, tgt), "huggingface"]) == 0
    _, head, _ = (tmp_path / "run" / "out" / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert yaml.safe_load(head)["language"] == codes


def test_an_argosmodel_of_one_language_is_refused(task, tmp_path, capsys):
    assert main([*with_languages(task, tmp_path / "run", "en-US", "en-GB"), "argos"]) == 2
    assert "codes without regions, which are both en (data.src_lang: en-US, " in capsys.readouterr().err


def test_a_search_of_short_sources_has_few_positions(task, tmp_path):
    pytest.importorskip("ctranslate2")
    short = ["max_source_tokens=3", "max_length_ratio=1", "max_length_offset=1"]
    assert export(task, "plain", "ctranslate2", tmp_path / "out", "--search", *short) == 0
    assert json.loads((tmp_path / "out" / "nmt.json").read_text())["check"]["difference"] < 1e-4


def test_what_a_target_cannot_express_is_one_line_that_names_the_keys(task, tmp_path, capsys):
    capsys.readouterr()
    assert export(task, "plain", "huggingface", tmp_path / "out") == 2
    line = capsys.readouterr().err.strip()
    assert "MarianMTModel cannot express model.norm: pre; train a run with model.preset: marian" in line
    assert "\n" not in line
    assert export(task, "two", "argos", tmp_path / "out") == 2
    assert "cannot express tokenizer.joint: false" in capsys.readouterr().err
    assert export(task, "joint", "huggingface", tmp_path / "out", "--quantize", "int8") == 2
    assert "huggingface cannot have such weights; remove the option" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    shutil.copytree(run_of(task, "joint"), tmp_path / "run")
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))
    config["search"] |= {"no_repeat_ngram": 3}
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    assert main(["export", str(tmp_path / "run"), "--to", "huggingface", "-o", str(tmp_path / "out")]) == 2
    assert (
        "MarianMTModel cannot search as the run does (search.no_repeat_ngram: 3); export with another search: --search "
        "no_repeat_ngram=0"
    ) in capsys.readouterr().err


@pytest.mark.interop("transformers")
@pytest.mark.parametrize("name", ["joint", "two", "learned"])
def test_transformers_translates_as_the_run_does(task, tmp_path, name):
    assert export(task, name, "huggingface", tmp_path / "hf") == 0
    check = json.loads((tmp_path / "hf" / "nmt.json").read_text())["check"]
    assert check["lines"] == 40
    assert check["greedy"] >= parity.PROMISED_GREEDY
    assert check["same"] >= 0.95
    assert check["difference"] < 1e-4
    alpha = json.loads((tmp_path / "hf" / "nmt.json").read_text())["search"]["alpha"]
    assert check["search"] == f"search.length_penalty: average, search.alpha: {round(0.8 * alpha, 4)}"
    written = json.loads((tmp_path / "hf" / "generation_config.json").read_text())
    assert (written["num_beams"], written["length_penalty"]) == (3, round(0.8 * alpha, 4))


LONG = "one two three four five six seven " * 4  # more subwords than a run with SEARCH reads


@pytest.mark.interop("transformers")
def test_the_code_of_the_model_card_translates_as_the_run_does(task, tmp_path, monkeypatch):
    """Greedily, so that the beams of two programs do not matter; a long source is cut as the run cuts it."""
    assert export(task, "learned", "huggingface", tmp_path / "hf", "--search", "beam_size=1") == 0
    (code,) = re.findall(r"```python\n(.*?)```", (tmp_path / "hf" / "README.md").read_text(encoding="utf-8"), re.S)
    monkeypatch.chdir(tmp_path / "hf")
    there: dict = {}
    exec(code, there)
    lines = ["one two seven", LONG, "six"]
    own = load_translator(Run.open(str(run_of(task, "learned"))), {"beam_size": 1})
    for (ours,), theirs in zip(own.translate(lines), there["translate"](lines), strict=True):
        assert theirs == ours.text or (ours.at_limit and theirs.startswith(ours.text))


@pytest.mark.interop("transformers")
@pytest.mark.parametrize("width", [1, 3])
def test_nothing_but_the_report_is_on_the_terminal(task, tmp_path, width):
    command = [sys.executable, "-m", "nmt", "export", str(run_of(task, "joint")), "--to", "huggingface"]
    command += ["--search", f"beam_size={width}"]
    done = subprocess.run([*command, "-o", str(tmp_path / "hf")], capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stderr.splitlines()] == ["search:", "translating"]


@pytest.mark.interop("transformers")
def test_an_export_whose_weights_are_others_is_refused(task, tmp_path, monkeypatch, capsys):
    right = huggingface.weights_of
    monkeypatch.setattr(huggingface, "weights_of", lambda m: {k: v * 1.01 for k, v in right(m).items()})
    assert export(task, "joint", "huggingface", tmp_path / "hf") == 2
    assert "transformers computes other probabilities than the run" in capsys.readouterr().err
    assert not (tmp_path / "hf").exists()


# ---------------------------------------------------------------------------------------------------------------- argos


def test_an_argosmodel_has_the_parts_that_argos_translate_reads(task, tmp_path, monkeypatch):
    ctranslate2 = pytest.importorskip("ctranslate2")
    monkeypatch.setattr(targets, "find_spec", lambda _: None)
    assert export(task, "joint", "argos", tmp_path / "out") == 0
    with zipfile.ZipFile(tmp_path / "out" / "en_de.argosmodel") as package:
        package.extractall(tmp_path / "installed")
    (folder,) = (tmp_path / "installed").iterdir()
    about = json.loads((folder / "metadata.json").read_text())
    assert (about["from_code"], about["to_code"], about["from_name"]) == ("en", "de", "English")
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "sentencepiece.model"))
    translator = ctranslate2.Translator(str(folder / "model"))
    lines = task.paths["test.src"].read_text(encoding="utf-8").splitlines()
    found = translator.translate_batch(pieces.encode(lines, out_type=str), beam_size=1, max_decoding_length=30)
    assert main(["translate", str(run_of(task, "joint")), "-i", str(task.paths["test.src"]), "--beam-size", "1",
                 "-o", str(tmp_path / "ours")]) == 0  # fmt: skip
    ours = (tmp_path / "ours").read_text(encoding="utf-8").splitlines()
    texts = [pieces.decode_pieces(each.hypotheses[0]) for each in found]
    assert sum(a == b for a, b in zip(ours, texts, strict=True)) >= 0.85 * len(ours)  # apart from the longest


@pytest.mark.interop("argos")
@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_argos_translate_installs_the_package_and_translates(task, tmp_path, weights):
    options = [] if weights == "float32" else ["--quantize", weights]
    assert export(task, "joint", "argos", tmp_path / "out", *options) == 0
    check = json.loads((tmp_path / "out" / "nmt.json").read_text())["check"]
    assert check["lines"] == 40
    assert check["same"] >= 0.7
    shutil.rmtree(tmp_path / "out")


# --------------------------------------------------------------------------------------------------------------- marian


@pytest.mark.parametrize("name", ["joint", "two"])
def test_a_marian_model_is_read_back_with_the_same_probabilities(task, tmp_path, monkeypatch, caplog, name):
    monkeypatch.setattr(targets, "find_spec", lambda _: None)
    assert export(task, name, "marian", tmp_path / "marian") == 0
    assert "warning: the export is not verified: pymarian is not installed; " in caplog.text
    check_equal(run_of(task, name), *imported(tmp_path / "marian", tmp_path)[1:])
    decoder = yaml.safe_load((tmp_path / "marian" / "decoder.yml").read_text())
    assert all((tmp_path / "marian" / file).is_file() for file in decoder["models"] + decoder["vocabs"])


def test_marian_computes_in_numpy_what_the_run_computes(task, tmp_path, monkeypatch):
    monkeypatch.setattr(targets, "find_spec", lambda _: None)
    assert export(task, "joint", "marian", tmp_path / "marian") == 0
    with np.load(tmp_path / "marian" / "model.npz") as arrays:
        reference = Marian({name: arrays[name] for name in arrays.files}, 1, 1, 2)
    own = load_translator(Run.open(str(run_of(task, "joint"))))
    for src, tgt in random_pairs(own.engine.model, own.tokenizer):
        expected = reference.log_probs([*src, EOS_ID], [*tgt, EOS_ID])
        ours = log_probs(own.engine.model, own.tokenizer, [(src, tgt)])[0]
        assert np.abs(ours.numpy() - expected).max() < 1e-4


def test_positions_of_another_kind_are_refused_by_marian(task, tmp_path, capsys):
    assert export(task, "learned", "marian", tmp_path / "out") == 2
    assert "Marian cannot express model.positions: learned, model.start: bos; train a run" in capsys.readouterr().err


@pytest.mark.interop("marian")
@pytest.mark.parametrize("name", ["joint", "two"])
def test_marian_translates_as_the_run_does(task, tmp_path, name):
    assert export(task, name, "marian", tmp_path / "out") == 0
    check = json.loads((tmp_path / "out" / "nmt.json").read_text())["check"]
    assert check["greedy"] >= parity.PROMISED_GREEDY
    assert check["difference"] < 1e-4
    assert sorted(file.name for file in (tmp_path / "out").iterdir() if "scored" in file.name) == []


@pytest.mark.interop("marian")
def test_marian_cuts_a_source_as_the_run_does(task, tmp_path):
    import pymarian

    assert export(task, "joint", "marian", tmp_path / "out", "--search", "beam_size=1") == 0
    own = load_translator(Run.open(str(run_of(task, "joint"))), {"beam_size": 1})
    assert len(own.tokenizer.encode_src([LONG])[0]) > SEARCH["max_source_tokens"]
    translator = pymarian.Translator(config=str(tmp_path / "out" / "decoder.yml"), quiet=True, cpu_threads=1)
    for (ours,), theirs in zip(own.translate([LONG, "six"]), translator.translate([LONG, "six"]), strict=True):
        assert theirs == ours.text or (ours.at_limit and theirs.startswith(ours.text))


def test_a_program_that_does_not_cut_sources_is_compared_on_those_that_the_run_reads_whole(task):
    own = load_translator(Run.open(str(run_of(task, "joint"))))
    lines = parity._uncut(own, parity.Lines("here", ["six", LONG, "one two"], ["sechs", "?", "zwei eins"]))
    assert lines == parity.Lines("here", ["six", "one two"], ["sechs", "zwei eins"])
    with pytest.raises(DataError, match="here: every line has more than 20 subwords"):
        parity._uncut(own, parity.Lines("here", [LONG], None))


# ----------------------------------------------------------------------------------------------------------------- tags


def test_tags_that_a_program_cannot_put_before_a_source_are_named(task, tmp_path, capsys):
    for target in ("argos", "marian"):
        assert export(task, "tagged", target, tmp_path / "out") == 2
        line = capsys.readouterr().err.strip()
        assert f"runs/tagged: every training pair had tags, and {target} cannot put >>de<< before a source; " in line
        assert line.endswith("export --to onnx or ctranslate2")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("target", [
    "ctranslate2", pytest.param("huggingface", marks=pytest.mark.interop("transformers")),
    pytest.param("onnx", marks=pytest.mark.interop("onnx")),
])  # fmt: skip
def test_an_export_translates_with_the_tags_of_the_run(task, tmp_path, monkeypatch, target):
    """The weights are random: a tag changes translations and probabilities."""
    if target == "ctranslate2":
        pytest.importorskip("ctranslate2")
    assert export(task, "tagged", target, tmp_path / "out", "--search", "beam_size=1") == 0
    check = json.loads((tmp_path / "out" / "nmt.json").read_text())["check"]
    assert (check["lines"], check["same"]) == (40, 1.0)
    own = load_translator(Run.open(str(run_of(task, "tagged"))), {"beam_size": 1})
    lines = ["one two seven", "six", "three three four five one"]
    expected = {}
    for tags in ([], [">>de<<"], [">>x<<"]):
        own.tags = tags
        expected[tuple(tags)] = [found.text for (found,) in own.translate(lines)]
    assert len({str(texts) for texts in expected.values()}) > 1
    monkeypatch.chdir(tmp_path / "out")
    readme = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    there: dict = {}
    if target == "onnx":
        monkeypatch.syspath_prepend(tmp_path / "out")
        monkeypatch.delitem(sys.modules, "translate", raising=False)
    exec(re.findall(r"```python\n(.*?)```", readme, re.S)[0], there)
    for tags, texts in expected.items():
        if target == "ctranslate2":
            found = there["translate"](lines, tags)
        elif target == "onnx":
            found = [each.text for each in there["translator"].translate(lines, tags=tags)]
        else:
            found = there["translate"]([" ".join([*tags, line]) for line in lines])
        assert all(here.startswith(text) for here, text in zip(found, texts, strict=True)), tags
    assert ">>de<<" in readme or target == "onnx"


# ----------------------------------------------------------------------------------------------------------------- onnx


def test_what_an_export_to_onnx_lacks_is_one_line(task, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(onnx, "find_spec", lambda name: None)
    assert export(task, "plain", "onnx", tmp_path / "out") == 2
    assert "onnx and onnxscript: not installed, and needed to write ONNX; " in capsys.readouterr().err
    monkeypatch.setattr(onnx, "find_spec", lambda name: name)
    config = yaml.safe_load((run_of(task, "plain") / "config.yaml").read_text(encoding="utf-8"))
    for section, change, words in (
        ("model", {"attention_window": 4}, "cannot express model.attention_window: 4"),
        ("tokenizer", {"case": "inline"}, "onnx reads text with SentencePiece alone and cannot express tokenizer.case"),
        ("search", {"coverage_penalty": 0.2}, "cannot search as the run does (search.coverage_penalty: 0.2)"),
    ):
        shutil.copytree(run_of(task, "plain"), tmp_path / section)
        changed = {**config, section: {**config[section], **change}}
        (tmp_path / section / "config.yaml").write_text(yaml.safe_dump(changed), encoding="utf-8")
        assert main(["export", str(tmp_path / section), "--to", "onnx", "-o", str(tmp_path / "out")]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def check_earlier(task, earlier, folder):
    """An export that builds on an earlier one is the same but for its weights."""
    run = Run.open(str(run_of(task, "joint")))
    lines, own = parity.Lines("here", ["one"], None), load_translator(run)
    folder.mkdir()
    onnx.TARGET.write(folder, targets.Exported(run, run.load_config(), own, "float16", lines, earlier))
    about = [json.loads((each / "model.json").read_text()) for each in (earlier, folder)]
    assert [each.pop("weights") for each in about] == ["float32", "float16"]
    assert about[0] == about[1]
    sizes = [(each / "encoder.onnx").stat().st_size for each in (earlier, folder)]
    assert sizes[1] < sizes[0]


@pytest.mark.interop("onnx")
@pytest.mark.parametrize("weights", ["float32", "int8", "float16"])
def test_onnxruntime_translates_as_the_run_does(task, tmp_path, weights):
    options = [] if weights == "float32" else ["--quantize", weights]
    assert export(task, "joint", "onnx", tmp_path / "out", *options) == 0
    check = json.loads((tmp_path / "out" / "nmt.json").read_text())["check"]
    assert check["lines"] == 40
    assert check["greedy"] >= (0.8 if weights == "int8" else parity.PROMISED_GREEDY)
    assert check["difference"] is None if options else check["difference"] < 1e-4
    if not options:
        check_earlier(task, tmp_path / "out", tmp_path / "half")
    # Without nmt and PyTorch
    line = task.paths["valid.src"].read_text(encoding="utf-8").splitlines()[0]
    program = (
        "import sys; sys.modules.update(nmt=None, torch=None)\n"
        f"from translate import Translator; print(Translator('.').translate([{line!r}, ' '])[0].text)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path / "out", capture_output=True, text=True, check=True
    )
    own = load_translator(Run.open(str(run_of(task, "joint"))))
    assert done.stdout.strip() == own.translate([line])[0][0].text or weights == "int8"
