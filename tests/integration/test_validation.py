"""What a validation shows never ends a training, and the limits of the search are told and shared by all who search."""

import json
import logging
import re

import pytest

from nmt.cli import main
from nmt.models.rnn import RNN
from nmt.run.directory import Run
from nmt.translation.loading import load_translator

SHORT = {"max_steps": 2, "validate_every": 2}


def lengthen(task, name, words):
    """Make the first line of a part longer than any training sentence."""
    for side, word in (("src", "one "), ("tgt", "eins ")):
        path = task.paths[f"{name}.{side}"]
        path.write_text(word * words + "\n" + path.read_text(encoding="utf-8"), encoding="utf-8")


def manifest_limits(task):
    return json.loads((task.folder / "runs" / "run" / "manifest.json").read_text())["limits"]


def test_a_validation_sentence_beyond_the_learned_positions_is_cut(task):
    lengthen(task, "valid", 80)
    model = {
        "type": "transformer", "d_model": 16, "d_ff": 16, "num_heads": 2, "encoder_layers": 1, "decoder_layers": 1,
        "positions": "learned", "max_positions": 41,
    }  # fmt: skip
    data = {"cleaning": {"max_tokens": 40}}
    assert main(["train", str(task.config_file("transformer", model=model, data=data, train=SHORT))]) == 0


def test_a_map_that_cannot_be_made_ends_no_training(task, monkeypatch, caplog):
    def fails(*_):
        raise RuntimeError("no room")

    monkeypatch.setattr(RNN, "attention_maps", fails)
    assert main(["train", str(task.config_file("rnn", train={**SHORT, "samples": 1}))]) == 0
    assert any(
        re.fullmatch("attention map 1 “.*” was not drawn: RuntimeError: no room", each) for each in caplog.messages
    )


def test_a_validation_tells_what_the_limit_of_length_cuts(task, caplog):
    search = {"beam_size": 1, "max_length_ratio": 0.0, "max_length_offset": 1}
    with caplog.at_level(logging.INFO, "nmt"):
        assert main(["train", str(task.config_file("rnn", train=SHORT, search=search))]) == 0
    [note] = [message for message in caplog.messages if "as the search allows" in message]
    # Every reference has two words or more, and each word a subword at least.
    assert note.endswith("(0 times the source and 1 subwords: search.max_length_ratio, max_length_offset), "
                         "20 of the references are longer")  # fmt: skip


def test_limits_are_learned_and_the_same_for_all_who_search(task, caplog):
    lines = task.paths["train.tgt"].read_text(encoding="utf-8").splitlines()
    task.paths["train.tgt"].write_text("".join(f"{line} {'eins ' * 40}\n" for line in lines), encoding="utf-8")
    with caplog.at_level(logging.INFO, "nmt"):
        data = {"cleaning": {"max_ratio": 1000.0}}
        assert main(["train", str(task.config_file("transformer", data=data, train=SHORT))]) == 0
    learned = manifest_limits(task)
    assert learned["max_length_offset"] > 40
    run = Run(task.folder / "runs" / "run")
    for engine in ("pytorch", "ctranslate2"):
        translator = load_translator(run, engine=engine)
        assert translator.search.max_length_ratio == learned["max_length_ratio"]
        assert translator.search.max_length_offset == learned["max_length_offset"]
        assert translator.search.max_source_tokens == 256  # data.cleaning.max_tokens
        assert translator.longest_source == learned["longest_source"]
    stored = json.loads((run.evaluation / "tiny.json").read_text())["search"]
    assert stored["max_length_offset"] == learned["max_length_offset"]


def test_a_source_longer_than_any_in_the_training_is_named(place, caplog):
    place.write("in", b"one two\n" + b"one " * 30 + b"\n")
    assert main(["translate", "c", "-i", "in", "-o", "out"]) == 0
    named = [message for message in caplog.messages if "longer than any in the training" in message]
    assert len(named) == 1
    assert named[0].startswith("warning: line 2: ")


@pytest.mark.parametrize(
    ("limits", "expected"),
    [({"longest_source": 0}, "limits.longest_source: "), ([], "limits: "), (None, "limits: ")],
)
def test_damaged_limits_end_in_one_line(place, capfd, limits, expected):
    manifest = json.loads((place.run / "manifest.json").read_text())
    if isinstance(limits, dict):
        limits = {**manifest["limits"], **limits}
    (place.run / "manifest.json").write_text(json.dumps({**manifest, "limits": limits}))
    place.write("in", b"one\n")
    assert main(["translate", "c", "-i", "in"]) == 2
    assert f"manifest.json: {expected}" in capfd.readouterr().err
