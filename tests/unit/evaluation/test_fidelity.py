"""What prepare says about characters that the tokenizer loses."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import sacrebleu

from nmt.cli import main
from nmt.config.evaluation import EvaluationConfig
from nmt.config.tokenizer import TokenizerConfig
from nmt.evaluation.fidelity import RoundTrip, unknown_summary

CHINESE = ["我们今天找到书，但是你卖米饭。", "他昨天想要书？", "你明天想要书。"]


class Part:
    def __init__(self, targets):
        self.targets = targets

    def __len__(self):
        return len(self.targets)

    def tgt(self, i):
        return self.targets[i]


class Folding:
    """A tokenizer that normalises as nmt_nfkc does, and knows no 饭."""

    def encode_tgt(self, texts):
        return texts

    def decode(self, texts):
        return [text.replace("，", ",").replace("？", "?").replace("饭", "⁇").strip() for text in texts]


def test_what_comes_back_is_compared_with_what_was_written():
    found = RoundTrip.of(Part(CHINESE), Folding(), EvaluationConfig())
    back = Folding().decode(CHINESE)
    assert (found.lines, found.changed, found.before, found.after) == (3, 2, "，", ",")
    assert found.chrf == pytest.approx(sacrebleu.corpus_chrf(back, [CHINESE]).score)
    assert found.summary(TokenizerConfig(normalization="nmt_nfkc")) == (
        f"warning: 2 of 3 validation targets come back from the tokenizer changed: a perfect translation has chrF "
        f"{found.chrf:.1f}; first '，' becomes ','; the target's normalization is nmt_nfkc; set "
        "tokenizer.normalization.tgt to whitespace to keep them"
    )
    assert "the tokenizer has no pieces for these characters" in found.summary(TokenizerConfig())


@pytest.mark.slow
def test_a_line_of_a_million_characters_is_compared_at_once():
    class Dropping:
        def encode_tgt(self, texts):
            return texts

        def decode(self, texts):
            return [text.replace("é", "").replace("b", "c") for text in texts]

    line = "a" * 500_000 + "é" + "ab" * 250_000
    found = RoundTrip.of(Part([line]), Dropping(), EvaluationConfig())
    assert (found.changed, found.before, found.after) == (1, "é", "")


def test_runs_of_spaces_are_no_difference():
    found = RoundTrip.of(
        Part(["a  b ", " c"]),
        type("T", (), {"encode_tgt": lambda _, t: t, "decode": lambda _, t: ["a b", "c"]})(),
        EvaluationConfig(),
    )
    assert found == RoundTrip(2)
    assert found.summary(TokenizerConfig()) == (
        "targets     2 of 2 validation lines come back from the tokenizer unchanged"
    )


def account(pieces: int, tokens: int) -> dict[str, object]:
    side = {"tokens": tokens, "pieces": pieces, "lines": pieces, "most_frequent": {"é": pieces}}
    return {"pairs": 100, "src": {**side, "pieces": 0}, "tgt": side}


@pytest.mark.parametrize(
    ("fields", "cure"),
    [
        ({"type": "word"}, "set tokenizer.type to unigram or bpe, or raise tokenizer.vocab_size"),
        ({"type": "char"}, "raise tokenizer.vocab_size, or set tokenizer.byte_fallback: true"),
        ({}, "set tokenizer.byte_fallback: true"),
        (
            {"character_coverage": 0.9995},
            "raise tokenizer.character_coverage (now 0.9995), or set tokenizer.byte_fallback: true",
        ),
    ],
)
def test_many_unknown_pieces_are_a_warning_with_a_cure(fields, cure):
    assert unknown_summary({"train": account(9, 1000)}, TokenizerConfig.model_validate(fields)) == (
        "warning: unknown to the tokenizer: target 0.9% of the subwords of train (in 9% of its lines); most frequent: "
        f"'é' 9; no translation can contain them, but accuracy and perplexity count <unk> as correct; {cure}"
    )


def test_few_unknown_pieces_are_told_and_none_are_not():
    found = unknown_summary({"train": account(1, 10_000)}, TokenizerConfig())
    assert found.startswith("unknown to the tokenizer: target 0.01% of the subwords of train (in 1% of its lines)")
    assert (
        unknown_summary({"train": account(0, 100)}, TokenizerConfig()) == unknown_summary({}, TokenizerConfig()) == ""
    )


def test_prepare_says_what_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.chdir(tmp_path)
    for name, lines in (("train", CHINESE * 20), ("valid", [*CHINESE, "水！"])):
        Path(f"{name}.en").write_text("".join(f"{i} a b\n" for i in range(len(lines))))
        Path(f"{name}.zh").write_text("".join(f"{line}\n" for line in lines))
    Path("c.yaml").write_text(
        "data:\n  train: {kind: text, src: train.en, tgt: train.zh}\n"
        "  valid: {kind: text, src: valid.en, tgt: valid.zh}\n"
        "  cleaning: {drop_overlap: false, max_ratio: 1000}\n"
        "model: {type: rnn}\ntrain: {max_steps: 1}\n"
    )
    with caplog.at_level(logging.INFO):
        assert main(["prepare", "c.yaml"]) == 0
        assert "1 of 4 validation targets come back from the tokenizer changed" in caplog.text  # 水！ is unknown
        assert "warning: unknown to the tokenizer: target" in caplog.text
        assert "'水' 1" in caplog.text
        caplog.clear()
        assert main(["prepare", "c.yaml", "--set", "tokenizer.normalization=nmt_nfkc"]) == 0
    assert "3 of 4 validation targets come back from the tokenizer changed" in caplog.text
    assert "first '，' becomes ','" in caplog.text


def test_the_advice_for_an_inherited_tokenizer_names_keys_of_init():
    found = unknown_summary({"train": account(9, 1000)}, TokenizerConfig(), brought="init.from")
    assert found.endswith("set or raise init.extend_vocabulary")
    lossy = RoundTrip(lines=10, changed=1, chrf=99.0, before="\u00a0", after=" ")
    config = TokenizerConfig(normalization="nmt_nfkc")
    assert lossy.summary(config, brought="init.from").endswith(
        "the tokenizer of init.from normalises the target by nmt_nfkc"
    )
