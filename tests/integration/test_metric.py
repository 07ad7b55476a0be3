"""The metric follows the target language, from the first validation to the last score."""

import json
from pathlib import Path

import pytest
import yaml

from nmt.cli import main
from nmt.run.directory import Run
from tests.runs import EVERY_2


def test_a_missing_tokenizer_is_told_before_the_corpus_is_read(task, capsys, monkeypatch):
    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_ja_mecab.MeCab", None)
    file = str(task.config_file("rnn", evaluation={"tokenize": "ja-mecab"}))
    for command in ("prepare", "train"):
        assert main([command, file]) == 2
        assert "evaluation.tokenize: ja-mecab needs packages that are not installed: " in capsys.readouterr().err
    assert not (task.folder / "store").exists()


@pytest.mark.parametrize("code", ["zh", "x"])
def test_the_target_language_chooses_the_tokenizer_of_every_score(task, capsys, code):
    characters = dict(zip(["eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben"], "一二三四五六七", strict=True))
    for name, path in task.paths.items():
        if name.endswith("tgt"):
            lines = path.read_text(encoding="utf-8").splitlines()
            text = "".join("".join(characters[word] for word in line.split()) + "。\n" for line in lines)
            path.write_text(text, encoding="utf-8")
    raw = yaml.safe_load(Path(task.config_file("rnn", train=EVERY_2)).read_text(encoding="utf-8"))
    raw["data"]["tgt_lang"] = code
    file = task.folder / "zh.yaml"
    file.write_text(yaml.safe_dump({**raw, "name": "zh"}, allow_unicode=True), encoding="utf-8")
    assert main(["train", str(file)]) == 0
    run = Run(task.folder / "runs" / "zh")
    assert run.load_config().evaluation.tokenize == "zh"
    stored = json.loads((run.evaluation / "tiny.json").read_text())
    assert "tok:zh" in stored["signatures"]["bleu"]
    assert "asian:yes" in stored["signatures"]["ter"]
    own = ["evaluate", str(run.path), "--src", str(task.paths["test.src"]), "--ref", str(task.paths["test.tgt"])]
    assert main(own) == 0
    assert "tok:zh" in capsys.readouterr().out
