"""Every mistake in a configuration ends in one line that names the file, the line, the key and the way out."""

import json
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

import nmt.config
from nmt.config import RNNConfig, config_diff, dotted, fixed_settings, flatten, json_schema, load_config
from nmt.errors import ConfigError

BASE = """\
data:
  src_lang: en
  train: {kind: demo, part: train}
  valid: {kind: demo, part: valid}
model: {type: transformer}
train: {max_steps: 5}
"""


def load(tmp_path, text=BASE, *overrides):
    path = tmp_path / "c.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_config(path, overrides)


def message(tmp_path, text=BASE, *overrides):
    with pytest.raises(ConfigError) as error:
        load(tmp_path, text, *overrides)
    return str(error.value).replace(str(tmp_path) + "/", "")


OVERRIDES = [
    ("model.num_head=3", "--set: model.num_head: unknown key; did you mean model.num_heads?"),
    ("model.num_heads=7", "c.yaml:5: model: num_heads (7) must divide d_model (512); near it: 2, 4, 8"),
    ("model.d_model=33 model.num_heads=3 model.positions=rotary",
     "c.yaml:5: model: rotary positions need an even head width, not 11"),
    ("train.batch_tokens=abc", '--set: train.batch_tokens: "abc" (text) should be an integer'),
    ("train.batch_tokens=0", "--set: train.batch_tokens: 0 (integer) should be greater than 0"),
    ("train.batch_tokens=1.5", "--set: train.batch_tokens: 1.5 (number) should be an integer"),
    ("train.batch_tokens=true", "--set: train.batch_tokens: true (truth value) should be an integer"),
    ("modle.x=1", "--set: modle: unknown key; did you mean model?"),
    ("train.optimizer.betas=[0.9]", "--set: train.optimizer.betas: must have at least 2 items, not 1"),
    ("train.optimizer.betas=[0.9,2]", "--set: train.optimizer.betas[1]: 2 (integer) should be less than 1"),
    ("model.type=transfomer", '--set: model.type: "transfomer" is not known; did you mean transformer?'),
    ("model={}", "--set: model.type: missing; one of: rnn, transformer"),
    ("data.train={kind: txt}", '--set: data.train.kind: "txt" is not known; did you mean text?'),
    ("data.train={kind: text, src: a}", "--set: data.train.tgt: missing; it has no default"),
    ("data.train={src: a}", "--set: data.train.kind: missing; one of: demo, hub, jsonl, text, tsv"),
    ("data.train={kind: text, src: [a, b], tgt: c}", "--set: data.train: src names 2 file(s) but tgt 1"),
    ("data.train={kind: holdout, fraction: 0.1}", '--set: data.train.kind: "holdout" is not known; '
     "one of: demo, hub, jsonl, text, tsv"),
    ("data.test={x: {kind: holdout}}", "--set: data.test.x.fraction: missing; it has no default"),
    ("data.test={a/b: {kind: demo, part: test}}", '--set: data.test.a/b: "a/b" must be letters, digits, '
     "'_', '-' and '.', not starting with '.' or '-'"),
    ("data.valid={kind: holdout, fraction: 0.95}",
     "c.yaml:1: data: the holdout parts take 95% of the training data; keep them under 90%"),
    ("tokenizer.sampling={alpha: 2.0}", 
     "--set: tokenizer.sampling.alpha: 2.0 (number) should be less than or equal to 1"),
    ("tokenizer.sampling={alph: 0.1}", "--set: tokenizer.sampling.alph: unknown key; did you mean "
     "tokenizer.sampling.alpha?"),
    ("tokenizer.sampling={nbest: 1}", "--set: tokenizer.sampling: nbest must be -1 (all segmentations) or at least 2"),
    ("tokenizer.sampling={nbest: 8} tokenizer.type=bpe",
     "c.yaml: tokenizer.sampling.nbest: 8 has no effect: a bpe model has no list of best segmentations; unigram has; "
     "remove it"),
    ("tokenizer.normalization=nfcc",
     "--set: tokenizer.normalization: \"nfcc\" is not one of 'nmt_nfkc', 'nfkc', 'nmt_nfkc_cf', 'nfkc_cf', "
     "'whitespace' or 'identity' (did you mean nfkc?)"),
    ("tokenizer.normalization={target: identity}",
     "--set: tokenizer.normalization.target: unknown key; did you mean tokenizer.normalization.tgt?"),
    ("tokenizer.vocab_size=7", "--set: tokenizer.vocab_size: 7 (integer) should be greater than or equal to 8"),
    ("tokenizer.vocab_size={src: 30}", "--set: tokenizer.vocab_size.tgt: missing; it has no default"),
    ("tokenizer.vocab_size={src: 30, tgt: 40}",
     "--set: tokenizer: a joint vocabulary has one vocab_size; give one number, or set joint: false"),
    ("tokenizer.type=char tokenizer.sampling={}",
     "--set: tokenizer: a char tokenizer has one segmentation only; sampling needs unigram or bpe"),
    ("tokenizer.joint=false",
     "c.yaml: model.tie_embeddings: all needs one vocabulary; set tokenizer.joint: true or tie less"),
    ("train.validate_every=epohc", "--set: train.validate_every: \"epohc\" (text) should be an integer, or 'epoch'"),
    ("train.max_steps=null",
     "c.yaml:6: train: nothing would end the training: set max_steps, max_epochs, max_minutes or patience"),
    ("train.max_steps=null train.patience=3 train.schedule.name=cosine",
     "c.yaml:6: train: a cosine schedule needs its end: set schedule.total_steps or max_steps"),
    ("train.average=3", "c.yaml:6: train: averaging 3 checkpoints needs keep_last of at least that, not 1"),
    ("train.schedule.name=cosin", "--set: train.schedule.name: \"cosin\" is not one of 'inverse_sqrt', 'cosine', "
     "'linear', 'constant' or 'plateau' (did you mean cosine?)"),
    ("model.positions=learned model.max_positions=100",
     "c.yaml: model.max_positions (100) is under the longest sequence "
     "(257, from data.cleaning.max_tokens and search.max_source_tokens)"),
    ("seed=-1", "--set: seed: -1 (integer) should be greater than or equal to 0"),
    ("name=../x",
     '--set: name: "../x" must be letters, digits, \'_\', \'-\' and \'.\', not starting with \'.\' or \'-\''),
    ("model=null", "--set: model: must be a mapping of keys to values, not null"),
    ("train=3", "--set: train: must be a mapping of keys to values, not 3 (integer)"),
    ("x", "--set x: must be key=value, such as train.max_steps=100"),
    ("train..x=1", "--set train..x=1: must be key=value, such as train.max_steps=100"),
    ("train.max_steps.x=3", "--set train.max_steps.x=3: train.max_steps is not a mapping, it has no keys"),
    ("train.devise=cpu", "--set: train.devise: unknown key; did you mean train.device?"),
    ("train.Max-Steps=3", "--set: train.Max-Steps: unknown key; did you mean train.max_steps?"),
    ("lr=0.1", "--set: lr: unknown key; did you mean train.optimizer.lr?"),
    ("train.batch_size=3", "--set: train.batch_size: unknown key; did you mean train.batch_tokens?"),
    ("model.d_hidden=3", "--set: model.d_hidden: unknown key; it belongs to type: rnn; remove it, or start from a "
     "configuration of that type"),
    ("zzz=1", "--set: zzz: unknown key; valid here: name, runs, seed, data, tokenizer, model, train, search, "
     "evaluation, defaults"),
    ("train.device=gpu", "--set: train.device: \"gpu\" is not one of 'auto', 'cpu', 'cuda' or 'mps' "
     "(did you mean cuda?)"),
    ("train.precision=float32", "--set: train.precision: \"float32\" is not one of 'auto', 'fp32', 'bf16' or 'fp16' "
     "(did you mean fp32?)"),
    ("train.precision=16", "--set: train.precision: 16 is not one of 'auto', 'fp32', 'bf16' or 'fp16' "
     "(did you mean fp16?)"),
    ("train.schedule=noam", "--set: train.schedule: must be a mapping of keys to values, not \"noam\" (text); "
     "did you mean train.schedule.name: inverse_sqrt?"),
    ("model.type=lstm", '--set: model.type: "lstm" is not known; did you mean rnn with model.cell: lstm?'),
    ("train.max_steps=auto", '--set: train.max_steps: "auto" (text) should be an integer; for the default, leave the '
     "key out"),
    ("data.train=tmx", "--set: data.train: must be a mapping of keys to values, not \"tmx\" (text); export it as "
     "tab-separated text (kind: tsv) or as two text files (kind: text)"),
    ("data.train={kind: csv}", "--set: data.train.kind: \"csv\" is not known; read a CSV file with {kind: hub, "
     "path: FILE, src_column: NAME, tgt_column: NAME}"),
    ("data.train={kind: tmx}", "--set: data.train.kind: \"tmx\" is not known; export it as tab-separated text "
     "(kind: tsv) or as two text files (kind: text)"),
    ("data.train={kind: tsv, path: a, src_column: -1}", "--set: data.train: there is no column -1; columns are "
     "counted from 0"),
    ("data.train={kind: tsv, path: a, src_column: en, header: false}", "--set: data.train: columns by their headings "
     "need header: true; give their numbers, from 0"),
    ("seed=[", "--set seed=[:1: not valid YAML: expected the node content, but found '<stream end>'"),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "expected"), OVERRIDES, ids=[o for o, _ in OVERRIDES])
def test_wrong_values(tmp_path, overrides, expected):
    # Split at spaces before a new key=, so that YAML in braces stays whole.
    assert message(tmp_path, BASE, *re.split(r" (?=[a-z_.]+=)", overrides)) == expected


FILES = [
    ("", "c.yaml: is empty; start from a file in configs/"),
    ("# nothing\n", "c.yaml: is empty; start from a file in configs/"),
    ("[1, 2]", "c.yaml: must be a mapping of keys to values, not a list"),
    ("text", "c.yaml: must be a mapping of keys to values, not a text"),
    ("a: b: c", "c.yaml:1: not valid YAML: mapping values are not allowed here"),
    ("a:\n\t- b", "c.yaml:2: not valid YAML: found character '\\t' that cannot start any token; "
     "indent with spaces, not tabs"),
    ("seed: 1\nseed: 2\n", "c.yaml:2: seed: given twice; keep one"),
    ("&a {b: *a}", "c.yaml:1: nested too deeply; a configuration has few levels"),
    ("[" * 5000, "c.yaml: not valid YAML: nested too deeply"),
    ("data: !!python/object/apply:os.system [ls]", "c.yaml:1: not valid YAML: could not determine a constructor "
     "for the tag 'tag:yaml.org,2002:python/object/apply:os.system'"),
    (b"seed: \xff", "c.yaml: not UTF-8 text (byte 6)"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), FILES)
def test_wrong_files(tmp_path, text, expected):
    assert message(tmp_path, text) == expected


def _laughs(first: str, levels: int = 10) -> str:
    """Each level repeats the one before nine times: 9 ** levels values in some hundred bytes."""
    lines = [f"a0: &a0 {first}"]
    return "\n".join(lines + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]) + "\n"


MANY = "c.yaml:1: not valid YAML: more than 10,000 keys and values; a configuration has a few hundred"
LARGE = [
    (_laughs("[x, x, x]"), MANY),
    (_laughs("{x: 1}").replace(": &", ": {<<: &").replace("]\n", "]}\n").replace("{x: 1}\n", "{x: 1}}\n"), MANY),
    (_laughs("[x, x, x]") + "? *a9\n: x\n", MANY),
    ("? [a, b]\n: x\n", "c.yaml:1: a key must be a word, not a sequence"),
    ("a: [" + "1, " * 20_000 + "]", MANY),
    ("- " * 100_000, "c.yaml: not valid YAML: nested too deeply"),
    ("a: " + "1" * 100_000, "c.yaml: not valid YAML: a number has more than 4,300 digits"),
    ("#" * (1 << 20) + "\n", "c.yaml: is larger than 1,048,576 bytes; name a YAML file of settings"),
]


@pytest.mark.parametrize(("text", "expected"), LARGE, ids=range(len(LARGE)))
def test_a_file_that_stands_for_more_than_it_holds_is_refused_at_little_cost(tmp_path, text, expected):
    tracemalloc.start()
    try:
        assert message(tmp_path, text) == expected
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()


def test_a_device_without_an_end_is_no_configuration():
    with pytest.raises(ConfigError, match="/dev/zero: is larger than"):
        load_config("/dev/zero")


def test_of_many_mistakes_the_first_are_reported(tmp_path):
    lines = message(tmp_path, BASE + "".join(f"k{i}: 1\n" for i in range(3000))).splitlines()
    assert len(lines) == 21
    assert lines[0].startswith("c.yaml:7: k0: unknown key; ")
    assert lines[-1] == "c.yaml: 2,980 more mistakes"


def test_missing_file_names_a_near_one(tmp_path):
    (tmp_path / "demo.yaml").write_text(BASE)
    with pytest.raises(ConfigError, match=r"demos.yaml: no such configuration file; did you mean .*/demo.yaml\?"):
        load_config(tmp_path / "demos.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        load_config(tmp_path)


def test_several_mistakes_are_all_reported(tmp_path):
    assert len(message(tmp_path, BASE, "seed=x", "model.d_modl=3").splitlines()) == 2


def test_numbers_and_words_are_what_people_mean(tmp_path):
    config = load(tmp_path, BASE + "seed: 7\n", "train.optimizer.lr=1e-4", "data.tgt_lang=no")
    assert config.train.optimizer.lr == 1e-4
    assert config.data.tgt_lang == "no"
    assert config.seed == 7


def test_name_defaults_to_the_file_name_and_overrides_reach_new_sections(tmp_path):
    config = load(tmp_path, BASE, "tokenizer.vocab_size=100", "model={type: rnn}")
    assert config.name == "c"
    assert config.run_dir == Path("runs/c")
    assert config.tokenizer.vocab_size == 100
    assert isinstance(config.model, RNNConfig)


def test_resolved_yaml_loads_to_the_same_configuration(tmp_path):
    config = load(tmp_path)
    assert load(tmp_path, config.to_yaml()) == config


def test_schema_has_every_key_and_lets_the_name_out():
    schema = json_schema()
    json.dumps(schema)
    assert "name" not in schema["required"]
    assert "train" in schema["properties"]


def test_helpers():
    assert dotted(("a", 0, "b")) == "a[0].b"
    assert flatten({"a": {"b": 1, "c": [2]}, "d": {}}) == {"a.b": 1, "a.c": [2], "d": {}}


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_configurations_are_valid(path):
    load_config(path)


def test_the_configuration_does_not_import_torch():
    code = "import nmt.cli, nmt.config, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ------------------------------------------------------------------------------------------- upgrades and resumed runs


def test_the_version_of_the_defaults_chooses_what_omitted_keys_mean(tmp_path, monkeypatch):
    former = {"search.alpha": 0.25, "tokenizer.sampling.alpha": 0.7, "data.cleaning.max_chars": 77}
    monkeypatch.setitem(nmt.config.FORMER_DEFAULTS, 1, former)
    now, before = load(tmp_path), load(tmp_path, BASE, "defaults=1")
    assert (now.defaults, now.search.alpha, now.data.cleaning.max_chars) == (2, 1.0, 1000)
    assert (before.defaults, before.search.alpha, before.data.cleaning.max_chars) == (1, 0.25, 77)
    assert before.tokenizer.sampling is None  # a section that is off stays off
    assert load(tmp_path, BASE, "defaults=1", "search.alpha=0.5").search.alpha == 0.5
    sampled = load(tmp_path, BASE, "defaults=1", "tokenizer.sampling={nbest: 4}").tokenizer.sampling
    assert (sampled.alpha, sampled.nbest) == (0.7, 4)


def test_a_run_of_the_first_version_reads_its_corpus_as_that_did(tmp_path):
    assert load(tmp_path, BASE, "defaults=1").data.reading == "lenient"
    assert load(tmp_path).data.reading == "strict"


def test_the_tokenizer_of_the_first_defaults(tmp_path):
    former = load(tmp_path, BASE, "defaults=1", "tokenizer.sampling={}").tokenizer
    assert former.rules == ("nmt_nfkc", "nmt_nfkc")
    assert (former.sampling.alpha, former.sampling.method) == (0.1, "line")
    now = load(tmp_path, BASE, "tokenizer.sampling={}").tokenizer
    assert now.rules == ("nmt_nfkc", "whitespace")
    assert (now.sampling.strength("unigram"), now.sampling.strength("bpe"), now.sampling.method) == (0.3, 0.1, "batch")


def test_one_value_for_both_languages_or_one_each(tmp_path):
    both = load(tmp_path, BASE, "tokenizer.normalization=nfkc_cf", "tokenizer.vocab_size=90").tokenizer
    assert (both.rules, both.sizes) == (("nfkc_cf", "nfkc_cf"), (90, 90))
    source = load(tmp_path, BASE, "tokenizer.normalization={src: nfkc_cf}").tokenizer
    assert source.rules == ("nfkc_cf", "whitespace")
    sizes = "tokenizer={joint: false, vocab_size: {src: 90, tgt: 30}}"
    assert load(tmp_path, BASE, sizes, "model={type: rnn}").tokenizer.sizes == (90, 30)


def test_a_stored_configuration_reads_back_equal_whatever_the_defaults_become(tmp_path, monkeypatch):
    before = load(tmp_path)
    monkeypatch.setitem(nmt.config.FORMER_DEFAULTS, 1, {"search.alpha": 0.25})
    assert load(tmp_path, before.to_yaml()) == before


def test_a_later_key_at_its_default_is_no_difference(tmp_path):
    config = load(tmp_path)
    stored = fixed_settings(config)
    for later in ("train.clip_norm", "data.cleaning.drop_overlap"):
        del stored[later]
    assert config_diff(stored, config) == ""
    assert config_diff(stored, load(tmp_path, BASE, "train.clip_norm=0.5")) == (
        "train.clip_norm is null in the run, 0.5 in your configuration"
    )


def test_a_later_key_whose_default_changes_behaviour_follows_the_run(tmp_path, monkeypatch):
    monkeypatch.setitem(nmt.config.FORMER_DEFAULTS, 1, {"train.clip_norm": 7.0})
    run = load(tmp_path, BASE, "defaults=1")
    stored = {k: v for k, v in fixed_settings(run).items() if k != "train.clip_norm"}
    assert config_diff(stored, run) == ""
    assert "train.clip_norm" in config_diff(stored, load(tmp_path, BASE, "defaults=1", "train.clip_norm=0.5"))


def test_settings_that_may_differ_or_have_no_effect_are_not_compared(tmp_path):
    stored = fixed_settings(load(tmp_path))
    changed = load(tmp_path, BASE, "train.max_steps=9", "search.beam_size=2", "evaluation.lowercase=true", "runs=r")
    assert config_diff(stored, changed) == ""
    assert config_diff({**stored, "train.schedule.factor": 0.1, "model.max_positions": 9}, changed) == ""
    assert "seed is 1 in the run, 2 in your configuration" in config_diff(stored, load(tmp_path, BASE, "seed=2"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.schedule.factor=0.1", "train.schedule.factor: 0.1 has no effect: the inverse_sqrt schedule does not"),
        ("train.schedule.total_steps=9", "train.schedule.total_steps: 9 has no effect: the inverse_sqrt schedule"),
        ("model.max_positions=9", "model.max_positions: 9 has no effect: sinusoidal positions have no longest"),
        ("model={type: rnn, attention: none, d_attention: 9}", "model.d_attention: 9 has no effect: attention: none"),
    ],
)
def test_a_key_without_effect_is_refused(tmp_path, override, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(tmp_path, BASE, override)
    load(tmp_path, BASE, override, "defaults=1")  # earlier versions ignored it


def test_every_key_has_a_place_among_those_that_may_differ_or_not(tmp_path):
    fixed = fixed_settings(load(tmp_path, BASE, "data.test={a: {kind: holdout, fraction: 0.1}}"))
    assert {"seed", "model.d_model", "data.test.a.fraction", "train.optimizer.lr"} <= fixed.keys()
    assert (
        not {"runs", "data.store", "train.max_steps", "search.alpha", "evaluation.lowercase", "defaults"} & fixed.keys()
    )


def test_test_sets_come_and_go_but_stay_what_they_are(tmp_path):
    def tests(text):
        return load(tmp_path, BASE, f"data.test={{{text}}}")

    one = "news.2014: {kind: tsv, path: a, src_column: 2}"
    for before, now in [
        ("", one),
        (one, ""),
        (one, f"{one}, more: {{kind: demo, part: test}}"),
        (one, "x: " + one[11:]),
    ]:
        assert config_diff(fixed_settings(tests(before)), tests(now)) == ""
    assert config_diff(fixed_settings(tests(one)), tests(one.replace("2}", "3}"))) == (
        "data.test.news.2014.src_column is 2 in the run, 3 in your configuration"
    )
    assert config_diff(fixed_settings(tests(one)), tests(one.replace("path: a", "path: b"))) == ""  # known by content


# ------------------------------------------------------------------------------------------- built-in configurations


def test_a_bare_name_means_a_file_in_configs_or_one_installed_with_nmt(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config("demo").name == "demo"
    assert load_config("demo") == load_config(Path(nmt.config.__file__).parents[1] / "configs" / "demo.yaml")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "demo.yaml").write_text(BASE)
    assert load_config("demo").model.d_model == 512  # that of BASE


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "configs/demo.yaml",
            "configs/demo.yaml: no such configuration file; nmt has a built-in one of that name: demo",
        ),
        ("dmo", "dmo: no such configuration file; did you mean demo?"),
        ("xyz", "xyz: no such configuration file; built-in ones: demo, demo-rnn, multi30k-rnn"),
    ],
)
def test_a_configuration_that_does_not_exist(tmp_path, monkeypatch, given, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        load_config(given)
    assert str(error.value).startswith(message)
