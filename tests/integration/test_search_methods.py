"""Search methods and penalties on the command line."""

import json
import re
from pathlib import Path

import pytest

import nmt
from nmt.cli import main
from nmt.errors import ConfigError, DataError, ExportError
from nmt.run.directory import Run
from nmt.translation.ctranslate2_cache import check_expressible

LINES = ["one two", "three four five", "", "one", "six seven one two three", "two"] * 3


def translate(place, lines, *options) -> list[str]:
    place.write("in", "".join(f"{line}\n" for line in lines).encode())
    assert main(["translate", "c", "-i", "in", "-o", "out", *options]) == 0
    return (place.path / "out").read_text().splitlines()


def test_samples_of_a_line_depend_on_the_line_and_the_seed_alone(place, caplog):
    sample = ["--search", "method=sample", "temperature=2.0"]
    found = translate(place, LINES, *sample)
    assert "search: sample, temperature 2, top_p 1, seed 1" in caplog.text
    assert len(set(found)) > 3
    assert translate(place, LINES[::-1], *sample) == found[::-1]
    assert translate(place, LINES[4:5], *sample) == found[4:5]
    assert translate(place, LINES, *sample, "search.seed=2") != found
    three = translate(place, LINES, *sample, "--nbest", "3")
    assert three[::3] == found
    assert three[1::3] != found


def test_an_evaluation_with_another_search_is_stored_as_such(place, capsys):
    result = place.run / "evaluation" / "tiny.json"
    before = result.read_bytes()
    assert main(["evaluate", "c", "--search", "alpha=0.4", "beam_size=3"]) == 0
    out = capsys.readouterr().out
    assert "tiny: test, 20 sentences, beam 3, alpha 0.4, engine Torch" in out
    beside = result.with_name("tiny@alpha=0.4,beam_size=3.json")
    found = json.loads(beside.read_text())["search"]
    assert (found["alpha"], found["beam_size"]) == (0.4, 3)
    assert result.read_bytes() == before
    rows = [json.loads(line) for line in beside.with_suffix(".jsonl").read_text().splitlines()]
    assert [row["hypothesis"] for row in rows] == beside.with_suffix(".hyp").read_text().splitlines()
    assert all({"source", "reference", "bleu", "chrf", "ter"} <= set(row) for row in rows)
    assert main(["evaluate", "c", "--set", "search.beam_size=1"]) == 0
    assert result.with_name("tiny@beam_size=1.json").exists()
    assert main(["evaluate", "c", "--set", "train.max_steps=1"]) == 2
    assert "--set train.max_steps=1" in capsys.readouterr().err
    assert main(["evaluate", "c"]) == 0
    assert result.read_bytes() == before
    assert main(["evaluate", "c", "--search", "alpha=-1"]) == 2
    assert "search.alpha: -1" in capsys.readouterr().err


def test_a_greedy_sample_is_greedy_search(place):
    assert translate(place, LINES, "--search", "method=sample", "top_k=1") == translate(
        place, LINES, "--beam-size", "1"
    )


def test_a_coverage_penalty_changes_scores_only_where_it_is_on(place):
    short = ["--scores", "--search", "max_length_ratio=0", "max_length_offset=1"]  # too short to cover a source
    plain = translate(place, LINES, *short)
    assert translate(place, LINES, *short, "coverage_penalty=0") == plain
    assert translate(place, LINES, *short, "coverage_penalty=0.5") != plain


def test_keys_of_a_run_without_effect_beside_the_overrides_are_reset(place, caplog):
    path = place.run / "config.yaml"
    path.write_text(path.read_text().replace("alpha: null", "alpha: 0.6").replace("penalty: 0.0", "penalty: 0.2"))
    translate(place, ["one"])
    assert "with alpha 0.6 (set by search.alpha), coverage penalty 0.2" in caplog.text
    translate(place, ["one"], "--search", "length_penalty=none")
    assert "search: beam of 2, no length penalty, coverage penalty 0.2" in caplog.text
    translate(place, ["one"], "--search", "method=sample")
    assert "search: sample, temperature 1" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--search", "length_penalty=none", "alpha=0.5"],
            "search.alpha: 0.5 has no effect: search.length_penalty is none; remove it",
        ),
        (
            ["--search", "temperature=0.5"],
            "--search: search.temperature: 0.5 has no effect: search.method is beam; remove",
        ),
        (
            ["--search", "method=sample", "--beam-size", "3"],
            "--search and --beam-size: search.beam_size: 3 has no effect: search.method is sample",
        ),
        (["--search", "method=samples"], "is not one of 'beam' or 'sample' (did you mean sample?)"),
        (["--search", "method=[a]"], "search.method: "),
        (["--search", "method=sample", "top_p=0"], "search.top_p: 0 (integer) should be greater than 0"),
        (["--search", "train.seed=1"], "--search train.seed=1: must be key=value of the section search"),
        (["--search", "alpha"], "--search alpha: must be key=value of the section search, such as alpha=0.6"),
        (["--search", "beta=1"], "search.beta: unknown key"),
        (["--search", "method=sample", "--nbest", "1001"], "--nbest 1001: must be at most 1000"),
    ],
)
def test_settings_that_make_no_sense_are_refused(place, capfd, options, message):
    place.write("in", b"one\n")
    assert main(["translate", "c", "-i", "in", *options]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]


@pytest.mark.parametrize("option", ["--set", "--search"])
def test_an_error_of_the_search_names_the_option(place, capfd, option):
    assert main(["evaluate", "c", option, "search.beam_size=0"]) == 2
    assert f"nmt: {option}: search.beam_size: 0 (integer) should be" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("search", "setting"),
    [
        ({"method": "sample", "beam_size": 5}, "search.method: sample"),
        ({"coverage_penalty": 0.2, "min_length": 3}, "search.coverage_penalty: 0.2, search.min_length: 3"),
        ({"no_repeat_ngram": 2}, "search.no_repeat_ngram: 2"),
        ({"copy_unknown": True}, "search.copy_unknown: True"),
    ],
)
def test_ctranslate2_refuses_what_it_cannot_do(task, search, setting):
    config = task.config("transformer", search=search)
    with pytest.raises(ExportError) as error:
        check_expressible(Run(Path("runs/c")), config)
    assert str(error.value) == (
        f"runs/c: CTranslate2 cannot search as the run does ({setting}); use PyTorch: remove --engine"
    )


def test_unknown_words_are_copied_where_the_search_says_so(place, caplog):
    lines = ["one Ångström two", "three", ""]
    found = translate(place, lines, "--search", "copy_unknown=true", "--nbest", "2")
    assert "alpha 1 (chosen on the validation set), unknown words copied" in caplog.text
    assert len(found) == 6
    assert not any("⁇" in text for text in found)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"model": {"attention": "none", "d_attention": 256}},
            "search.copy_unknown: copies by attention, and model.at",
        ),
        (
            {"tokenizer": {"byte_fallback": True, "vocab_size": 300}},
            "search.copy_unknown: true has no effect: with tok",
        ),
    ],
)
def test_unknown_words_need_attention_and_to_be_possible(task, sections, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        task.config("rnn", search={"copy_unknown": True}, **sections)


def test_a_coverage_penalty_needs_attention(task):
    assert task.config("rnn", search={"coverage_penalty": 0.2}).search.coverage_penalty == 0.2
    with pytest.raises(ConfigError, match=r"search\.coverage_penalty: needs a model with attention, and model\.att"):
        task.config("rnn", search={"coverage_penalty": 0.2}, model={"attention": "none", "d_attention": 256})


def test_settings_of_the_first_version_are_compared_as_that_version_did(task):
    """A key that it lacked must not make its scores, stored in runs, those of another search."""
    first = {"beam_size", "length_penalty", "alpha", "max_length_ratio", "max_length_offset", "max_source_tokens"}
    search = task.config("rnn", defaults=1).search
    assert search.compared().keys() == first
    sampled = search.model_copy(update={"method": "sample", "seed": 2})
    assert sampled.compared().keys() == first | {"method", "seed"}


def test_a_least_length_and_no_repeated_word(place):
    plain = translate(place, LINES)
    assert translate(place, LINES, "--search", "min_length=0", "no_repeat_ngram=0") == plain
    longer = translate(place, LINES, "--search", "min_length=12", "max_length_offset=20")
    assert all(len(new) > len(old) for new, old in zip(longer, plain, strict=True) if old)
    for line in translate(place, LINES, "--search", "min_length=6", "max_length_offset=20", "no_repeat_ngram=1"):
        words = line.split()
        assert len(set(words)) == len(words)


# ------------------------------------------------------------------------------------------------------------- prefixes


def test_each_translation_begins_with_the_prefix_of_its_line(place, capsys):
    prefixes = ["eins", "", "zwei", "drei vier", "fünf", "sieben"] * 3
    place.write("prefixes", "".join(f"{each}\n" for each in prefixes).encode())
    for options in ([], ["--search", "method=sample"], ["--beam-size", "1"]):
        found = translate(place, LINES, "--prefix-file", "prefixes", "--nbest", "2", *options)
        for line, prefix, each in zip(LINES, prefixes, zip(found[::2], found[1::2], strict=True), strict=True):
            assert all(text.startswith(prefix if line else "") for text in each)
    # The same from JSON lines, and from Python.
    rows = [{"source": line, "prefix": prefix} for line, prefix in zip(LINES, prefixes, strict=True)]
    del rows[1]["prefix"]
    assert translate(place, map(json.dumps, rows), "--jsonl-input", "--nbest", "2", "--beam-size", "2") == translate(
        place, LINES, "--prefix-file", "prefixes", "--nbest", "2", "--beam-size", "2"
    )
    model = nmt.load("c")
    assert model.translate(LINES, prefixes=prefixes) == translate(place, LINES, "--prefix-file", "prefixes")
    with pytest.raises(DataError, match="18 texts but 1 prefixes"):
        model.translate(LINES, prefixes=["a"])
    with pytest.raises(DataError, match="18 texts but 0 prefixes"):
        model.translate(LINES, prefixes=[])
    # Without prefixes nothing changes.
    place.write("prefixes", b"\n" * len(LINES))
    assert translate(place, LINES, "--prefix-file", "prefixes", "--scores") == translate(place, LINES, "--scores")


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({"p": b"a\n"}, ["--prefix-file", "p"], "p has 1 line but in has 2; line n of one must match line n"),
        ({"p": b"a\n" * 3}, ["--prefix-file", "p"], "p has 3 lines but in has 2"),
        ({}, ["--prefix-file", "p"], "p: "),
        ({"p": b"\xff\n\n"}, ["--prefix-file", "p"], "p:1: "),
        ({"p": b"a\n"}, ["--prefix-file", "p", "--jsonl-input"], "--prefix-file: --jsonl-input reads prefixes"),
        (
            {"p": b"a\nb\n"},
            ["--prefix-file", "p", "--protect", "urls"],
            "--prefix-file: needs whole lines",
        ),
        ({"p": b"a\nb\n"}, ["--prefix-file", "p", "--split"], "--prefix-file: needs whole lines"),
        ({"in": b"one\n"}, ["--jsonl-input"], "in:1: not JSON ("),
        ({"in": b'{"source": "one"}\n\n'}, ["--jsonl-input"], "in:2: not JSON ("),
        ({"in": b'{"source": 1}\n'}, ["--jsonl-input"], "in:1: no text named source"),
        ({"in": b'{"source": "a", "prefix": ["b"]}\n'}, ["--jsonl-input"], 'in:1: prefix must be a string, not ["b"]'),
    ],
)
def test_a_prefix_that_cannot_be_read_is_one_line(place, capsys, files, options, message):
    for name, content in {"in": b"one\ntwo\n", **files}.items():
        place.write(name, content)
    assert main(["translate", "c", "-i", "in", "-o", "out", *options]) == 2
    error = capsys.readouterr().err.splitlines()
    assert error[-1].startswith(f"nmt: {message}")
    assert not (place.path / "out").exists()


def test_all_objects_of_a_file_are_read_before_the_first_is_translated(place, capsys):
    good = b'{"source": "one"}\n' * 2000  # as many as are translated together
    place.write("in", good + b'{"source": "caf\xe9"}\n{"source": 1}\n')
    assert main(["translate", "c", "-i", "in", "-o", "out", "--jsonl-input"]) == 2
    assert capsys.readouterr().err.startswith("nmt: in:2002: no text named source")
    assert not (place.path / "out.partial").exists()


def test_odd_text_in_json_is_translated(place):
    rows = [r'{"source": "one\ntwo\u0000", "prefix": "\ud800 eins"}', '{"source": "", "prefix": "x"}']
    assert len(translate(place, rows, "--jsonl-input")) == 2
