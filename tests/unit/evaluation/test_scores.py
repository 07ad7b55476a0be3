"""Scores against sacreBLEU's own functions, hand calculations and what must hold of any corpus."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import sacrebleu

from nmt.config.evaluation import EvaluationConfig
from nmt.errors import ConfigError, DataError
from nmt.evaluation import scores as scores_module
from nmt.evaluation.scores import Scores, resolve, score, sentence_scores, table

REFERENCES = ["The cat sat on the mat.", "There is a Dog in the garden, isn't there?", "He reads 3.5 books."]
HYPOTHESES = ["the cat sat on a mat.", "There is a dog in the garden, is it?", "He reads three books here."]


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("tokenize", ["13a", "intl", "char", "none", "zh"])
def test_equals_sacrebleu(tokenize: str, lowercase: bool) -> None:
    config = EvaluationConfig(tokenize=tokenize, lowercase=lowercase)  # type: ignore[arg-type]
    scores = score(HYPOTHESES, REFERENCES, config)
    assert scores.bleu == sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES], tokenize=tokenize, lowercase=lowercase).score
    assert scores.ter == sacrebleu.corpus_ter(HYPOTHESES, [REFERENCES], case_sensitive=not lowercase).score
    # corpus_chrf has no option for case: fold it before.
    fold = [[line.lower() if lowercase else line for line in lines] for lines in (HYPOTHESES, REFERENCES)]
    assert scores.chrf == sacrebleu.corpus_chrf(fold[0], [fold[1]], char_order=6, word_order=0, beta=2).score


def test_bleu_by_hand() -> None:
    """Six words, the fifth wrong: precisions 5/6, 3/5, 2/4 and 1/3 of one to four words."""
    scores = score(["a b c d x f"], ["a b c d e f"], EvaluationConfig(), ["bleu"])
    assert scores.bleu == pytest.approx(100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)


def test_ter_by_hand() -> None:
    # One edit in four words.
    assert score(["a b c x"], ["a b c d"], EvaluationConfig(), ["ter"]).ter == pytest.approx(25.0)


def test_identity_is_perfect() -> None:
    scores = score(REFERENCES, REFERENCES, EvaluationConfig())
    assert [scores.bleu, scores.chrf, scores.ter] == pytest.approx([100.0, 100.0, 0.0])


def test_lowercase_is_for_every_metric() -> None:
    shouted = [line.upper() for line in REFERENCES]
    plain, folded = (score(shouted, REFERENCES, EvaluationConfig(lowercase=fold)) for fold in (False, True))
    assert max(plain.bleu, plain.chrf) < 100
    assert plain.ter > 0
    assert [folded.bleu, folded.chrf, folded.ter] == pytest.approx([100.0, 100.0, 0.0])


def test_signatures_say_how() -> None:
    signatures = score(HYPOTHESES, REFERENCES, EvaluationConfig(lowercase=True)).signatures
    version = sacrebleu.__version__
    assert signatures == {
        "bleu": f"nrefs:1|case:lc|eff:no|tok:13a|smooth:exp|version:{version}",
        "chrf": f"nrefs:1|case:lc|eff:yes|nc:6|nw:0|space:no|version:{version}",
        "ter": f"nrefs:1|case:lc|tok:tercom|norm:no|punct:yes|asian:no|version:{version}",
    }


def test_only_the_metrics_asked_for() -> None:
    scores = score(HYPOTHESES, REFERENCES, EvaluationConfig(), ["bleu", "chrf"])
    assert math.isnan(scores.ter)
    assert set(scores.as_dict()) == {"bleu", "chrf", "signatures"}
    assert scores.as_dict()["bleu"] == scores.bleu


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        (["a"], ["a", "b"], "cannot score 1 hypothesis against 2 references; line n of one must match"),
        ([], [], "nothing to score: there are no hypotheses"),
    ],
)
def test_counts_must_match(hypotheses: list[str], references: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        score(hypotheses, references, EvaluationConfig())


@pytest.mark.parametrize("language", ["ja", "ko"])
def test_missing_tokenizer_says_how_to_install(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"sacrebleu.tokenizers.tokenizer_{language}_mecab.MeCab", None)  # as if not there
    config = EvaluationConfig(tokenize=f"{language}-mecab")  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as error:
        score(HYPOTHESES, REFERENCES, config)
    assert str(error.value) == (
        f"evaluation.tokenize: {language}-mecab needs packages that are not installed: {sys.executable} -m pip install "
        f"'sacrebleu[{language}]', or set evaluation.tokenize: char"
    )


def test_table_is_aligned_and_names_each_signature_once() -> None:
    signatures = {"bleu": "nrefs:1|tok:13a", "chrf": "nrefs:1|nc:6"}
    rows = {
        "wmt": Scores(27.345, 55.1, math.nan, signatures),
        "flores-devtest": Scores(7.0, 100.0, 60.0, {**signatures, "ter": "nrefs:1|case:lc"}),
    }
    assert table(rows) == "\n".join(
        [
            "test set         BLEU   chrF2    TER",
            "wmt             27.34   55.10      -",
            "flores-devtest   7.00  100.00  60.00",
            "",
            "BLEU: nrefs:1|tok:13a",
            "chrF2: nrefs:1|nc:6",
            "TER: nrefs:1|case:lc",
        ]
    )


# ---------------------------------------------------------------------------------------------------- target language

CHINESE = ["他们去了商店，买了三个苹果。", "我从不喜欢花！", "这本书有 35 页。"]
EDITED = ["他们去了商店，买了两个苹果。", "我从不喜欢水！", "这书有 35 页。"]
THAI = ["เขาไปตลาดเพื่อซื้อผลไม้", "ฉันไม่ชอบดอกไม้"]


def from_command(folder: Path, hypotheses: list[str], references: list[str], *options: str) -> tuple[float, str]:
    """Score and signature by sacreBLEU's own command."""
    for name, lines in (("hyp", hypotheses), ("ref", references)):
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    command = [sys.executable, "-m", "sacrebleu", str(folder / "ref"), "-i", str(folder / "hyp"), *options, "-w", "8"]
    found = json.loads(subprocess.run([*command, "-f", "json"], check=True, capture_output=True, text=True).stdout)
    return found["score"], found["signature"]


@pytest.mark.parametrize(
    ("language", "bleu", "ter"),
    [
        ("zh", ["-l", "en-zh"], ["--ter-normalized", "--ter-asian-support"]),
        ("zho_Hant", ["-tok", "zh"], ["--ter-normalized", "--ter-asian-support"]),
        ("tgt", ["-tok", "zh"], ["--ter-normalized", "--ter-asian-support"]),  # seen from the text
        ("de", ["-l", "en-de"], []),
    ],
)
def test_scores_are_those_of_sacrebleu_s_command_for_the_language(
    tmp_path: Path, language: str, bleu: list[str], ter: list[str]
) -> None:
    hypotheses, references = (HYPOTHESES, REFERENCES) if language == "de" else (EDITED, CHINESE)
    said: list[str] = []
    config = resolve(EvaluationConfig(), language, references, said.append)
    scores = score(hypotheses, references, config)
    value, signature = from_command(tmp_path, hypotheses, references, *bleu)
    assert scores.bleu == pytest.approx(value, abs=1e-6)
    assert scores.signatures["bleu"] == signature
    value, signature = from_command(tmp_path, hypotheses, references, "-m", "ter", "--ter-case-sensitive", *ter)
    assert scores.ter == pytest.approx(value, abs=1e-6)
    assert scores.signatures["ter"] == signature
    assert bool(said) == (language == "tgt")


@pytest.mark.parametrize("language", ["th", "tha_Thai", "lo", "km", "my", "bo", "dz", "tgt"])
def test_languages_without_spaces_are_scored_by_characters(tmp_path: Path, language: str) -> None:
    config = resolve(EvaluationConfig(), language, THAI, lambda _: None)
    assert score(THAI, THAI, config).bleu == pytest.approx(100)
    assert config.tokenize == "char"


@pytest.mark.parametrize(("language", "name"), [("ja", "ja-mecab"), ("ko", "ko-mecab")])
def test_a_missing_default_tokenizer_falls_back_to_characters_and_says_so(
    language: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"sacrebleu.tokenizers.tokenizer_{language}_mecab.MeCab", None)
    said: list[str] = []
    config = resolve(EvaluationConfig(), language, [], said.append)
    assert config.tokenize == "char"
    assert f"{name} needs packages that are not installed: " in said[0]
    assert f"pip install 'sacrebleu[{language}]'" in said[0]
    assert "tok:char" in score(["a b"], ["a b"], config, ["bleu"]).signatures["bleu"]


def test_a_tokenizer_that_is_given_is_kept() -> None:
    said: list[str] = []
    config = resolve(EvaluationConfig(tokenize="13a"), "zh", CHINESE, said.append)
    assert config.tokenize == "13a"
    assert "13a splits at spaces" in said[0]
    resolve(EvaluationConfig(tokenize="none"), "zh", ["他们 去 了 商店 。"], pytest.fail)  # divided into words
    config = resolve(EvaluationConfig(tokenize="intl", ter_asian_support=False), "de", REFERENCES, pytest.fail)
    assert (config.tokenize, config.ter_asian_support) == ("intl", False)
    with pytest.raises(ConfigError, match="ko-mecab needs packages"):
        resolve(EvaluationConfig(tokenize="ko-mecab"), "de", [], pytest.fail)


def test_matching_4_grams_are_counted() -> None:
    assert score(["a b c d e x"], ["a b c d e f"], EvaluationConfig(), ["bleu"]).matches == 2
    assert score(["a b"], ["a b"], EvaluationConfig(), ["chrf"]).matches is None


def test_intervals_are_those_of_the_command(tmp_path: Path) -> None:
    """sacreBLEU's command prints mean and half width; the signatures of the scores stay."""
    hypotheses, references = HYPOTHESES * 5, REFERENCES * 5
    for name, lines in (("ref", references), ("hyp", hypotheses)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
    command = [sys.executable, "-m", "sacrebleu", str(tmp_path / "ref"), "-i", str(tmp_path / "hyp"), "-m", "bleu",
               "chrf", "ter", "--ter-case-sensitive", "--confidence", "-w", "6"]  # fmt: skip
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    found = score(hypotheses, references, EvaluationConfig(), intervals=True)
    for name, one in zip(("bleu", "chrf", "ter"), told, strict=True):
        low, high = found.intervals[name]
        assert ((low + high) / 2, (high - low) / 2) == pytest.approx(
            (one["confidence_mean"], one["confidence_var"]), abs=2e-6
        )
    assert found.signatures == score(hypotheses, references, EvaluationConfig()).signatures
    assert Scores.of_record(json.loads(json.dumps(found.as_dict()))).intervals == found.intervals
    assert f"[{found.intervals['bleu'][0]:.2f}, " in table({"test": found})


def test_chrf_with_words() -> None:
    found = score(HYPOTHESES, REFERENCES, EvaluationConfig(metrics=["bleu", "chrf++"]))
    assert found.chrfpp == sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES], word_order=2).score
    assert "chrF2++" in table({"test": found})


FOLDED_BY_HAND = {
    "DER WEISSE HUND LÄUFT AUF DER STRASSE.": "der weisse hund läuft auf der strasse.",
    "Der weiße Hund rennt auf der Straße.": "der weisse hund rennt auf der strasse.",
    "ΟΔΟΣ ΕΡΜΟΥ 5, ΑΘΗΝΑ": "οδοσ ερμου 5, αθηνα",
    "οδος Ερμου 5, Αθηνα": "οδοσ ερμου 5, αθηνα",
}


@pytest.mark.parametrize("lowercase", [False, True])
def test_uncased_bleu_is_that_of_folded_text(lowercase: bool) -> None:
    """Of ß, which is SS in upper case, and the final sigma, which lower case keeps apart."""
    texts = [*FOLDED_BY_HAND]
    hypotheses, references = texts[::2], texts[1::2]
    folded = [[FOLDED_BY_HAND[line] for line in lines] for lines in (hypotheses, references)]
    config = EvaluationConfig(metrics=["bleu", "bleu-uncased"], lowercase=lowercase)
    found = score(hypotheses, references, config)
    expected = sacrebleu.corpus_bleu(folded[0], [folded[1]]).score
    assert found.bleu_uncased == expected > sacrebleu.corpus_bleu(hypotheses, [references], lowercase=True).score
    assert found.signatures["bleu-uncased"].split("|")[:2] == ["nrefs:1", "case:folded"]
    assert "uncased BLEU" in table({"test": found})
    assert Scores.of_record(json.loads(json.dumps(found.as_dict()))).bleu_uncased == expected
    for one, hypothesis, reference in zip(sentence_scores(hypotheses, references, config), *folded, strict=True):
        assert one["bleu-uncased"] == sacrebleu.sentence_bleu(hypothesis, [reference]).score


def test_spbleu_without_its_tokenizer_is_left_out(monkeypatch, caplog) -> None:
    def offline(*_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_spm.Flores200Tokenizer.__init__", offline)
    scores_module._has_flores.cache_clear()
    found = score(HYPOTHESES, REFERENCES, EvaluationConfig(metrics=["bleu", "spbleu"]))
    assert list(found.signatures) == ["bleu"]
    assert "spBLEU is skipped" in caplog.text
    assert "no network" in caplog.text
    scores_module._has_flores.cache_clear()


def test_sentence_scores_are_those_of_sacrebleu() -> None:
    found = sentence_scores(HYPOTHESES, REFERENCES, EvaluationConfig())
    for one, hypothesis, reference in zip(found, HYPOTHESES, REFERENCES, strict=True):
        assert one["bleu"] == sacrebleu.sentence_bleu(hypothesis, [reference]).score
        assert one["chrf"] == sacrebleu.sentence_chrf(hypothesis, [reference]).score
        assert one["ter"] == sacrebleu.sentence_ter(hypothesis, [reference], case_sensitive=True).score


@pytest.mark.parametrize(("metrics", "text"), [(["chrf"], "must contain bleu"), (["bleu", "bleu"], "twice")])
def test_wrong_metrics_are_refused(metrics: list[str], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        EvaluationConfig(metrics=metrics)  # type: ignore[arg-type]


def test_intervals_of_a_corpus_with_empty_translations() -> None:
    found = score(["", "", "", "a"], ["a b c"] * 4, EvaluationConfig(), intervals=True)
    assert all(low <= high for low, high in found.intervals.values())
    assert set(found.intervals) == {"bleu", "chrf", "ter"}
