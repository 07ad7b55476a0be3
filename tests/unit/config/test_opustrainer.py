"""Configurations of OpusTrainer, and mixtures written by hand."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from nmt.config.data import DataConfig, MixtureSource
from nmt.config.load import load_config
from nmt.errors import ConfigError

CURRICULUM = """\
datasets: {clean: a/clean.tsv.gz, mined: mined.tsv, unused: nothing.tsv}
stages: [start, mid, end]
start: [clean 1.0, until clean 2]
mid:
  mix: [clean 0.7, mined 0.3, until clean 1]
  modifiers:
    - Typos: 0.1
      char_swap: 0.5
end: [clean 0.2, mined 0.8, until mined inf]
modifiers:
  - [UpperCase: 0.07, TitleCase: 0.05]
  - {Tags: 0.02, augment: 1, custom_detok_src: null, custom_detok_trg: spaces, spm_vocab: vocab.spm}
seed: 1111
num_fields: 3
trainer: marian -c x
"""


def read(tmp_path, text: str) -> DataConfig:
    (tmp_path / "train.yml").write_text(text)
    source = {"kind": "opustrainer", "path": str(tmp_path / "train.yml")}
    return DataConfig.model_validate({"train": source, "valid": {"kind": "demo", "part": "valid"}})


def test_datasets_stages_and_modifiers(tmp_path):
    data = read(tmp_path, CURRICULUM)
    assert isinstance(data.train, MixtureSource)
    assert [(one.name, one.source.path, one.source.alignment_column) for one in data.train.datasets] == [
        ("clean", str(tmp_path / "a/clean.tsv.gz"), 2), ("mined", str(tmp_path / "mined.tsv"), 2),
    ]  # fmt: skip
    modifiers = [(m.name, m.probability) for m in data.train.datasets[1].modifiers]
    assert modifiers == [("UpperCase", 0.07), ("TitleCase", 0.05), ("Tags", 0.02)]
    assert [(s.name, s.weights, s.epochs, s.epoch_of) for s in data.stages] == [
        ("start", {"clean": 1.0}, 2, "clean"),
        ("mid", {"clean": 0.7, "mined": 0.3}, 1, "clean"),
        ("end", {"clean": 0.2, "mined": 0.8}, None, "mined"),
    ]
    assert [None if s.modifiers is None else [m.kinds for m in s.modifiers] for s in data.stages] == [
        None, [{"char_swap": 0.5}], None,
    ]  # fmt: skip
    assert data.symbols == ["__source__", "__target__", "__done__"]
    assert [one.source.on_bad_row for one in data.train.datasets] == ["skip", "skip"]  # by num_fields
    several = read(tmp_path, CURRICULUM.replace("a/clean.tsv.gz", "[a.tsv, b.tsv]").replace("num_fields: 3\n", ""))
    assert several.train.datasets[0].source.path == [str(tmp_path / "a.tsv"), str(tmp_path / "b.tsv")]
    assert several.train.datasets[0].source.on_bad_row == "error"


@pytest.mark.parametrize(("before", "after", "message"), [
    ("seed: 1111", "sed: 1111", "sed: unknown key"),
    ("clean 0.7", "clena 0.7", "mid: no dataset clena in datasets"),
    ("clean 0.7", "clean much", "mid: 'much' is not a weight"),
    ("until clean 1]", "clean 1]", "mid: 'clean 1' must be until DATASET EPOCHS"),
    ("until clean 2", "until clean inf", "stages.start: has no end, but a stage follows"),
    ("until clean 2", "until mined 2", "start: 'until mined 2' would never end the stage, which does not read mined"),
    ("[start, mid, end]", "[start, other]", "other: the stage is not described"),
    ("Typos: 0.1", "Retokenize: 1.0", "mid.modifiers: Retokenize: is not needed"),
    ("Typos: 0.1", "Typoes: 0.1", "train.yml: mid.modifiers: Typoes: unknown modifier; known are UpperCase, TitleCase"),
    ("char_swap: 0.5", "swap: 0.5", "train.yml: mid.modifiers: Typos.swap: unknown key; known are char_swap, miss"),
    ("UpperCase: 0.07", "UpperCase: 7", "train.yml: modifiers: UpperCase: 7: must be less than or equal to 1"),
    ("TitleCase: 0.05", "UpperCase: 0.05", "modifiers: the modifier UpperCase is given twice"),
    ("augment: 1", "augment: 1, replace: 1", "modifiers: Tags: the sum of augment and replace must be at most 1"),
    ("trg: spaces", "trg: zh", "modifiers: Tags.custom_detok_trg: 'zh': only words between spaces can"),
    ("clean: a/clean.tsv.gz,", "clean: 3,", "datasets.clean: must be the path of a file, or a list of such paths"),
    ("datasets: {clean: a/clean.tsv.gz, mined: mined.tsv, unused: nothing.tsv}", "datasets: []", "must be a mapping"),
    ("stages: [start, mid, end]", "stages: *x", "not valid YAML"),
])  # fmt: skip
def test_mistakes(tmp_path, before, after, message):
    assert before in CURRICULUM
    with pytest.raises(ValidationError, match=re.escape(message)):
        read(tmp_path, CURRICULUM.replace(before, after))


def test_opustrainer_reads_the_same_curriculum(tmp_path):
    pytest.importorskip("opustrainer", reason="needs opustrainer, with which the reading is compared")
    from opustrainer.trainer import CurriculumLoader

    theirs = CurriculumLoader().load(CURRICULUM, basepath=str(tmp_path))
    data = read(tmp_path, CURRICULUM)
    assert [stage.name for stage in data.stages] == theirs.stages_order
    for stage in data.stages:
        other = theirs.stages[stage.name]
        assert stage.weights == {dataset.name: weight for dataset, weight in other.datasets}
        assert (stage.epoch_of, stage.epochs) == (other.until_dataset, other.until_epoch)
    assert [m.probability for m in data.datasets[0].modifiers] == [m.probability for m in theirs.modifiers]


# ------------------------------------------------------------------------------------------------------------ mixtures

A = "{kind: demo, part: train}"
LIST = """\
data:
  train:
    - {name: a, source: {kind: demo, part: train}, weight: 3}
    - {name: b, source: {kind: demo, part: train}, weight: 1}
  valid: {kind: demo, part: valid}
model: {type: rnn}
train: {max_steps: 10}
"""


@pytest.mark.parametrize(("before", "after", "message"), [
    ("weight: 3", "wieght: 3", "c.yaml:3: data.train[0].wieght: unknown key; did you mean data.train[0].weight?"),
    ("weight: 1", "weight: 0", "c.yaml:4: data.train[1].weight: 0 (integer) should be greater than 0"),
    (", weight: 1", "", "b has no weight, but others have; give all of them one, or none"),
    ("weight: 1", "weight: 1, temperature: 5", "weight and temperature exclude each other; remove one of them"),
    ("name: b", "name: A", "2 datasets are named a; rename one"),
    ("weight: 1", "weight: 1, tag: a b", "a tag must be a word of 1 to 50 printable characters, not 'a b'"),
    ("weight: 1", "weight: 1, tag: </s>", "</s> is a symbol of every vocabulary; choose another tag"),
    ("weight: 1", "weight: 1, tag: <ph0>, modifiers: [{Placeholders: 1}]", "<ph0> is a tag and a symbol of a modifier"),
    ("weight: 1", 'weight: 1, modifiers: [{Prefix: 1, template: "<s> {trg} "}]', "<s> means something else in every"),
    ("weight: 1", 'weight: 1, modifiers: [{Prefix: 1, template: "\u2581a {trg} "}]', "means something else in every"),
    ("part: valid}", "part: valid, tag: <x>}", "valid.tag: no training pair has the tag <x>"),
    ("weight: 1", "weight: 1, modifiers: [{Tags: 0.1}]", "train.b: the modifier Tags needs word alignments"),
    ("weight: 1", "weight: 1, modifiers: [{UperCase: 0.1}]", '"UperCase" is not known; did you mean UpperCase?'),
    ("  valid:", "  stages: [{name: s, weights: {a: 1}}]\n  valid:", "stages: no stage reads the dataset b"),
    ("  valid:", "  stages: [{name: s, weights: {c: 1}}]\n  valid:", "no dataset c in train; there are: a, b"),
    ("  valid:", "  stages: [{name: s, weights: {a: 1, b: 1}}]\n  valid:", "train.a: weight and temperature have no"),
    ("max_steps: 10", "max_steps: 10, bidirectional_epochs: 1}\ntokenizer: {sampling: {method: line}", "line reads no"),
])  # fmt: skip
def test_mistakes_in_a_list_of_datasets(tmp_path, before, after, message):
    assert before in LIST
    path = tmp_path / "c.yaml"
    path.write_text(LIST.replace(before, after, 1) if "valid" not in before else LIST.replace(before, after))
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        load_config(path)
    assert len(str(error.value).splitlines()) == 1
