"""YAML files and overrides: what is read, what is refused, and what a bare name means."""

import tracemalloc
from itertools import combinations
from pathlib import Path

import pytest

from nmt.config.load import load_config
from nmt.config.model import RNNConfig
from nmt.errors import ConfigError
from nmt.experiments.points import plan
from tests.unit.config.configurations import BASE, load, message

ROOT = Path(__file__).parents[3]
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
    (b"seed: \xff", "c.yaml: not UTF-8 text (byte 6); save it as UTF-8"),
    ("seed: 1".encode("utf-16"), "c.yaml: is UTF-16; save it as UTF-8"),
    ("data:\n\u00a0\u00a0src_lang: en", "c.yaml:2: is indented with the space U+00A0; indent with plain spaces"),
    ("data:\n  src_lang: en\n \u3000tgt_lang: de",
     "c.yaml:3: is indented with the space U+3000; indent with plain spaces"),
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


@pytest.mark.slow
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


def test_missing_file_names_a_near_one(tmp_path):
    (tmp_path / "demo.yaml").write_text(BASE)
    with pytest.raises(ConfigError, match=r"demos.yaml: no such configuration file; did you mean .*/demo.yaml\?"):
        load_config(tmp_path / "demos.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        load_config(tmp_path)


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


@pytest.mark.parametrize("path", sorted((ROOT / "configs/experiments").glob("*.yaml")), ids=lambda p: p.name)
def test_every_point_of_an_experiment_is_a_valid_configuration_of_its_own(path, tmp_path):
    points = plan(str(path), [f"runs={tmp_path}"]).points
    settings = [(point.trainings[0].resolved.model_copy(update={"name": ""}), point.search) for point in points]
    assert len(points) > 1
    assert all(one != other for one, other in combinations(settings, 2))


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_configurations_are_valid(path, tmp_path):
    runs = tmp_path / "runs"
    (runs / "demo").mkdir(parents=True)  # one of them starts from this run
    (runs / "demo" / "config.yaml").write_text(load_config(ROOT / "configs" / "demo.yaml").to_yaml(), encoding="utf-8")
    load_config(path, [f"runs={runs}"])


def test_a_bare_name_means_a_file_in_configs_or_one_installed_with_nmt(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config("demo").name == "demo"
    assert load_config("demo") == load_config(ROOT / "configs" / "demo.yaml")
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
        ("xyz", "xyz: no such configuration file; built-in ones: demo, demo-rnn, finetune-demo, multi30k-"),
    ],
)
def test_a_configuration_that_does_not_exist(tmp_path, monkeypatch, given, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        load_config(given)
    assert str(error.value).startswith(message)


def test_the_name_of_a_configuration_without_its_ending(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    for given, found in (("mine", "mine.yaml"), ("sub/other", "sub/other.yml")):
        (tmp_path / found).write_text(BASE)
        with pytest.raises(ConfigError) as error:
            load_config(given)
        assert str(error.value) == f"{given}: no such configuration file; did you mean {found}?"
