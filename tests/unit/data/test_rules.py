"""Rules for single pairs: examples by hand in several scripts, OpusFilter's published defaults, and brute force."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from nmt.config.cleaning import RulesConfig
from nmt.config.data import DataConfig
from nmt.config.experiment import json_schema
from nmt.config.scripts import SCRIPTS, scripts_of
from nmt.data import cleaning
from nmt.data.prepare import prepare_corpus
from nmt.data.rules import PAIR_RULES, Side, character_tables, within_distance
from tests.unit.data.corpora import config, write_tsv

DE = "Der Hund schläft."
CODE = "if (a < b && c > d) { List<String> x = f(a[0]); }"
ZH = "我在北京大学学习了三年中文,现在可以和朋友聊天。"
AR = "ذهب الولد إلى المدرسة في الصباح."
TH = "ฉันชอบกินข้าวผัดกับเพื่อนของฉันทุกวันตอนเย็นที่ร้านใกล้บ้าน"


def dropped(name: str, pairs: list[tuple[str, str]], languages: tuple[str, str] = ("de", "en"), **fields: Any) -> Any:
    rule = getattr(RulesConfig.model_validate({name: fields or True}), name)
    src, tgt = zip(*pairs, strict=True)
    return PAIR_RULES[name][1]((Side(src, languages[0]), Side(tgt, languages[1])), rule).tolist()


WORD = "x" * 39
CASES: list[tuple[str, dict[str, Any], str, str, bool]] = [
    # OpusFilter: 1 to 100 words by default
    ("length", {}, "w " * 100, DE, False),
    ("length", {}, "w " * 101, DE, True),
    ("length", {}, DE, "w\u00a0" * 101, True),  # white space of any kind
    ("length", {}, ZH * 8, DE, False),  # 184 characters are 92 words, and 16 marks
    ("length", {}, "我" * 202, DE, True),
    ("length", {}, "ก" * 500, DE, False),
    ("length", {}, "ก" * 501, DE, True),
    ("length", {"min_length": 2}, "Hallo", "Hello there", True),
    ("length", {"unit": "character", "max_length": 5}, "abcde", "abcde", False),
    ("length", {"unit": "character", "max_length": 5}, "abcde", "abcdef", True),
    # OpusFilter: ratio 3 of words by default, dropped from there on
    ("length_ratio", {}, "a b", "a b c d e", False),
    ("length_ratio", {}, "a b", "a b c d e f", True),
    ("length_ratio", {}, "我喜欢苹果", "I like apples", False),  # three words each
    ("length_ratio", {}, "我喜欢苹果", "I like apples and pears, and they like me", True),
    ("length_ratio", {"unit": "character", "threshold": 2.0}, "abc", "abcdef", True),
    # OpusFilter: 40 characters by default, dropped from there on
    ("long_word", {}, f"a {WORD} b", DE, False),
    ("long_word", {}, DE, f"a {WORD}x b", True),
    ("long_word", {}, f"{WORD} {WORD}", f"{WORD}", False),
    ("long_word", {}, "我" * 100, TH, False),
    ("long_word", {}, "我" * 100 + "x" * 40, TH, True),
    ("long_word", {}, CODE, CODE, False),
    # OpusFilter: 2 to 20 characters by default
    ("average_word_length", {}, "a b c", "abc abc", True),
    ("average_word_length", {}, "ab cd", "abc abc", False),
    ("average_word_length", {}, "x" * 21, "abc", True),
    ("average_word_length", {}, ZH, TH, False),
    ("average_word_length", {}, AR, "x" * 20, False),
    # OpusFilter: 0.75 of all characters by default, white space included
    ("alphabet_ratio", {}, "abc1", "abcd", False),
    ("alphabet_ratio", {}, "abc12", "abcd", True),
    ("alphabet_ratio", {}, "ab cd ef", "abcd", False),
    ("alphabet_ratio", {}, "a b c", "abcd", True),
    ("alphabet_ratio", {"exclude_whitespace": True}, "a b c", "abcd", False),
    ("alphabet_ratio", {}, CODE, DE, True),
    ("alphabet_ratio", {}, ZH, AR, False),
    ("alphabet_ratio", {}, "हिन्दी में लिखा है", TH, False),  # vowel signs are letters
    ("alphabet_ratio", {}, DE, "٢٠٢٤ ١٢٣ ٤٥٦", True),
    ("html_tag", {}, "Das ist <b>fett</b>.", "This is bold.", True),
    ("html_tag", {}, DE, 'See <a href="x.html" target=_blank>this</a>', True),
    ("html_tag", {}, "Zeile<br/>Zeile", DE, True),
    ("html_tag", {}, 'Ein <g id="1">Wort</g>', DE, True),
    ("html_tag", {}, "<input disabled>", DE, True),
    ("html_tag", {}, ZH, "<!-- note -->", True),
    ("html_tag", {}, CODE, "a<b and c>d, 3 < 4, <3, <-, x <y", False),
    ("html_tag", {}, "map<int, string> m;", "if (i<b && p>a) f<T>()", False),
    # OpusFilter: -ln(1 + penalty) of at least -2, so a penalty of at most 6
    ("terminal_punctuation", {}, "a...", "b", False),  # 3 + 2
    ("terminal_punctuation", {}, "a....", "b", True),  # 4 + 3
    ("terminal_punctuation", {}, "Was? Wie? Wo?", "What? How? Where?", False),  # 0 + 2 + 2
    ("terminal_punctuation", {}, "a...", "b....", False),  # 1 + 2 + 3
    ("terminal_punctuation", {}, "a....", "b....", False),  # 3 + 3
    ("terminal_punctuation", {}, "a.....", "b....", True),  # 1 + 4 + 3
    ("terminal_punctuation", {}, "你好。你好！你好？你好。", "Hello", True),  # 4 + 3
    ("terminal_punctuation", {}, "هل؟ هل؟ هل؟ هل؟", "Hello", True),
    # OpusFilter: similarity 0.5 of the digits but 0 by default
    ("non_zero_numerals", {}, "Am 3. Mai 2024", "May 3, 2024", False),
    ("non_zero_numerals", {}, "1000", "1", False),
    ("non_zero_numerals", {}, "12", "1", False),  # 2 / 3
    ("non_zero_numerals", {}, "12345", "678", True),
    ("non_zero_numerals", {}, "Nummer 7", "a number", True),
    ("non_zero_numerals", {}, "في عام ٢٠٢٤", "in 2024", False),
    ("non_zero_numerals", {}, "共३४个", "in all 34", False),
    ("non_zero_numerals", {"threshold": 1.0}, "12", "21", True),
    # OpusCleaner: (common + 1) / (others + 1) of at least 1
    ("num_mismatch", {}, "1.000,50 Euro", "1,000.50 euros", False),
    ("num_mismatch", {}, "12 000 Leute", "12,000 people", False),
    ("num_mismatch", {}, "Seite 7", "page 8", True),
    ("num_mismatch", {}, "5 von 7", "5 of seven", False),  # 2 / 2
    ("num_mismatch", {}, "共30个", "30 in all", False),
    ("num_mismatch", {}, "共30个", "31 in all", True),
    ("num_mismatch", {}, "mp3 und 7z", "files", False),  # parts of words
    ("num_mismatch", {}, "007", "7", False),
    ("num_mismatch", {}, "٣ كتب", "3 books", False),
    ("url_mismatch", {}, "Siehe https://a.de/x.", "See https://a.de/x!", False),
    ("url_mismatch", {}, "Siehe https://a.de/x", "See https://a.de/y", True),
    ("url_mismatch", {}, "Siehe www.a.de", "See the page", True),
    ("url_mismatch", {}, "http://a.de und http://b.de", "http://b.de and http://a.de", False),
    ("url_mismatch", {}, "请访问https://a.cn/x。谢谢", "Visit (https://a.cn/x), thanks", False),
    ("url_mismatch", {}, "Das Ende.Der Anfang", "z.B. a.b", False),
    # OpusFilter: similarity 0.9 by default, dropped from there on
    ("similarity", {}, "Hotel Adlon", "Hotel Adlon", True),
    ("similarity", {}, "0123456789", "0123456780", True),
    ("similarity", {}, "012345678", "012345670", False),
    ("similarity", {}, ZH, ZH[:-1], True),
    ("similarity", {}, "listen to me now", "now me to listen", False),  # the same characters
    ("similarity", {}, "HOTEL ADLON", "Hotel Adlon", False),
    ("similarity", {"lowercase": True}, "HOTEL ADLON", "Hotel Adlon", True),
    ("similarity", {"threshold": 1.0}, "0123456789", "0123456780", False),
    ("similarity", {"threshold": 1.0}, CODE, CODE, True),
    # OpusFilter: 3 to 100 characters that follow themselves twice by default
    ("repetition", {}, "bla bla bla", DE, True),
    ("repetition", {}, "bla bla blu", DE, False),
    ("repetition", {}, DE, "na so na so na so", True),
    ("repetition", {}, "哈哈哈哈哈哈哈哈哈", DE, True),
    ("repetition", {}, "谢谢你谢谢你", DE, False),
    ("repetition", {}, AR, AR * 3, True),
    ("repetition", {}, "hahaha", DE, False),  # of 2 characters
    ("repetition", {"min_length": 2}, "hahaha", DE, True),
    ("repetition", {"threshold": 3}, "na so na so na so", DE, False),
    ("repetition", {"max_length": 4}, "na so na so na so", DE, False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fields", "src", "tgt", "expected"), CASES)
def test_examples_of_each_rule(name: str, fields: dict[str, Any], src: str, tgt: str, expected: bool) -> None:
    around = [("Ein Satz.", "A sentence."), (src, tgt), ("x", "y")]
    assert dropped(name, [(src, tgt)], **fields) == [expected]
    assert dropped(name, around, **fields)[1] is expected  # whatever stands around it in the batch


@pytest.mark.parametrize(
    ("languages", "fields", "src", "tgt", "expected"),
    [
        (("zh", "en"), {}, ZH, "I can talk.", False),
        (("zh", "en"), {}, "I can talk.", ZH, True),
        (("zh-Hant", "en"), {}, "我用 Python 写程序已经十年了", "I write Python.", False),
        (("ar", "de"), {}, AR, DE, False),
        (("ar", "de"), {}, AR, "Привет, мир", True),
        (("sr", "en"), {}, "Zdravo, Здраво", "Hello", False),
        (("sr_Cyrl", "en"), {}, "Zdravo svima", "Hello", True),
        (("ja", "ko"), {}, "私は学生です。コーヒー", "나는 학생입니다", False),
        (("ja", "ko"), {}, "나는 학생입니다", "私は学生です。", True),
        (("ru", "en"), {}, "2024: 100 %", "2024: 100 %", False),  # no letters
        (("xx", "en"), {"src": "Greek"}, "Καλημέρα", "Good morning", False),
        (("xx", "en"), {"src": "Greek"}, "Kalimera", "Good morning", True),
        (("de", "en"), {"threshold": 1.0}, "Der Buchstabe α", "x", True),  # OpusFilter's default
    ],
)
def test_scripts(languages: tuple[str, str], fields: dict[str, Any], src: str, tgt: str, expected: bool) -> None:
    assert dropped("character_score", [(src, tgt)], languages, **fields) == [expected]


def test_every_script_of_a_language_has_letters() -> None:
    classes, scripts = character_tables()
    assert all((scripts == number).any() for number in range(1, len(SCRIPTS) + 1))
    assert classes[ord("\n")] != 0
    assert scripts_of("de") == ("Latin",)
    assert scripts_of("zho-Hans") == ("Han", "Bopomofo")
    assert scripts_of("qqq") == ()


def distance(one: str, other: str) -> int:
    """The Levenshtein distance, by the whole matrix (Wagner and Fischer 1974)."""
    row = list(range(len(other) + 1))
    for number, a in enumerate(one, 1):
        before, row[0] = row[0], number
        for column, b in enumerate(other, 1):
            before, row[column] = row[column], min(before + (a != b), row[column] + 1, row[column - 1] + 1)
    return row[-1]


def test_similarity_and_distance_by_brute_force() -> None:
    rng = random.Random(0)
    pairs = []
    for _ in range(400):
        one = "".join(rng.choices("abc", k=rng.randint(0, 12)))
        other = "".join(rng.choices("abc", k=rng.randint(0, 12))) if rng.random() < 0.3 else one[1:] + one[:1]
        pairs.append((one, other))
        for limit in range(8):
            assert within_distance(one, other, limit) == (distance(one, other) <= limit), (one, other, limit)
    for threshold in (0.5, 0.8):
        expected = [distance(a, b) <= (1 - threshold) * max(len(a), len(b)) + 1e-9 for a, b in pairs]
        assert dropped("similarity", pairs, threshold=threshold) == expected


def test_repetitions_by_the_regular_expression_alone() -> None:
    rng = random.Random(0)
    pairs = []
    for _ in range(600):
        word = "".join(rng.choices("ab c", k=rng.randint(1, 6)))
        repeated = (" " * rng.randint(0, 2)).join([word] * rng.randint(1, 4))
        pairs.append(("".join(rng.choices("abc ", k=rng.randint(0, 9))) + repeated + rng.choice("abc"), "x"))
    expected = [re.search(r"(\S.{2,99}?)(?: *\1){2}", src) is not None for src, _ in pairs]
    assert 100 < sum(expected) < 500
    assert dropped("repetition", pairs) == expected


# -------------------------------------------------------------------------------------------------------------- corpora

ROWS = [
    ("Guten Tag, mein Herr.", "Good day, sir."),
    ("Das ist <b>fett</b>.", "This is bold."),
    ("Seite 7", "page 8"),
    ("Guten Tag, mein Herr.", "Hello, sir."),
    ("Guten Abend.", "Hello, sir."),
    ("Gute Nacht.", "Good day, sir. "),
    *((f"Nummer {n} und", f"number {n + 1} and") for n in range(5)),
]
VALID = [("nur hier", "only here")]


def sources(tmp_path: Path) -> dict[str, Any]:
    return {"train": write_tsv(tmp_path / "train", ROWS), "valid": write_tsv(tmp_path / "valid", VALID)}


def test_rules_count_show_and_store_what_they_drop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cleaning, "BATCH", 4)
    caplog.set_level("INFO")
    rules = dict.fromkeys(["html_tag", "num_mismatch", "duplicate_source", "duplicate_target"], True)
    corpus = prepare_corpus(config(tmp_path, **sources(tmp_path), cleaning={"rules": rules}))
    counts = {rule: count for rule, count in corpus.manifest["dropped"].items() if count}
    assert counts == {"html_tag": 1, "num_mismatch": 6, "duplicate_source": 1, "duplicate_target": 1}
    # "Hello, sir." is no repetition: the pair that had it first is dropped itself.
    assert list(corpus.part("train")) == [ROWS[0], ROWS[4]]
    assert corpus.manifest["examples"] == {
        "html_tag": [list(ROWS[1])],
        "num_mismatch": [list(ROWS[2]), list(ROWS[6]), list(ROWS[7])],
        "duplicate_source": [list(ROWS[3])],
        "duplicate_target": [list(ROWS[5])],
    }
    assert "dropped by html_tag: 'Das ist <b>fett</b>.' | 'This is bold.'" in caplog.text
    assert "            6 (54.5%) pairs that differ in their numbers" in corpus.summary()
    caplog.clear()
    prepare_corpus(config(tmp_path, **sources(tmp_path), cleaning={"rules": rules}))
    assert "dropped by" not in caplog.text


def test_rules_that_are_off_change_no_key(tmp_path: Path) -> None:
    plain = prepare_corpus(config(tmp_path, **sources(tmp_path)))
    off = prepare_corpus(config(tmp_path, **sources(tmp_path), cleaning={"rules": {"html_tag": False, "length": None}}))
    on = prepare_corpus(config(tmp_path, **sources(tmp_path), cleaning={"rules": {"html_tag": True}}))
    other = prepare_corpus(config(tmp_path, **sources(tmp_path), cleaning={"rules": {"length": {"max_length": 9}}}))
    assert plain.path == off.path
    assert len({plain.key, on.key, other.key}) == 3
    assert "html_tag" not in plain.manifest["dropped"]


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"length": {"min_length": 5, "max_length": 4}}, "min_length (5) is over max_length (4); lower the one"),
        ({"character_score": {"src": "latin"}}, "src: no such script: 'latin'; scripts are: Arabic, "),
        (
            {"character_score": True},
            "cleaning.rules.character_score: the script of src_lang 'xx' is not known; set src",
        ),
    ],
)
def test_refused_settings(tmp_path: Path, rules: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as error:
        DataConfig.model_validate(
            {"src_lang": "xx", "tgt_lang": "en", **sources(tmp_path), "cleaning": {"rules": rules}}
        )
    assert said in str(error.value)


def test_the_schema_of_editors_takes_true_and_thresholds() -> None:
    defined = json_schema()["$defs"]["RulesConfig"]["properties"]["long_word"]
    assert defined["anyOf"] == [{"$ref": "#/$defs/LongWordRule"}, {"type": "null"}, {"type": "boolean"}]
    assert RulesConfig.model_validate({"long_word": True}) == RulesConfig.model_validate({"long_word": {}})


@pytest.mark.parametrize("name", [*PAIR_RULES, "duplicate_source", "duplicate_target"])
def test_the_documentation_names_every_rule(name: str) -> None:
    assert f"`{name}`" in (Path(__file__).parents[3] / "docs/data.md").read_text(encoding="utf-8")
    assert name in RulesConfig.model_fields
    assert name in cleaning.RULES
