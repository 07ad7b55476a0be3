"""Sentences of paragraphs, by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.text.splitting import sentences


def cut(text: str, language: str = "en") -> list[str]:
    return [text[start:end] for start, end in sentences(text, language)]


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("en", ["Mr. Smith paid $3.50 at 5 p.m. on Friday.", '"Stop!" he said.', '"Go.', 'Now."', "He... sat."]),
        ("en", ["See Fig. 3.", "It is No. 5.", "No.", "Is it?", "(Maybe.)", "J. R. Tolkien.", "In 2009.", "He."]),
        ("en", ["1. First item.", "Visit example.com.", "The U.S. Army came.", "Wait!!!", "What?!", "Yes…", "Done"]),
        ("en-GB", ["Dr. Who."]),
        ("de", ["Am 3. Mai z. B. frei, z.B. hier.", "Das war 1990.", "Dr. Müller sagt: „Halt!“", "»Ja.«", "Ende."]),
        ("fr", ["M. Dupont est là.", "« Bonjour ! »", "Il part.", "Où ?"]),
        ("es", ["¿Qué?", "¡No!", "La Sra. López."]),
        ("ru", ["Он жил в 1990 г. в Москве.", "Да."]),
        ("hi", ["यह है।", "वह है।"]),
        ("xx", ["Mr. Xu.", "Yes."]),
    ],
)  # fmt: skip
def test_sentences_between_spaces(language, expected):
    assert cut(" ".join(expected), language) == expected


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("ja", ["「はい。そうです。」と言った。", "次の文です。", "本当？", "はい！", "終わり"]),
        ("zh", ["他说：“你好。”然后走了。", "再见！", "（他走了。）", "好。"]),
    ],
)
def test_sentences_without_spaces(language, expected):
    assert cut("".join(expected), language) == expected


@given(st.text(st.sampled_from("ab A.!?。」「\"'»« \t\u3000"), max_size=30))
def test_nothing_but_white_space_is_outside_of_sentences(text):
    end = 0
    for start, after in sentences(text, "en"):
        assert not text[end:start].strip()
        assert text[start:after].strip() == text[start:after] != ""
        end = after
    assert not text[end:].strip()
