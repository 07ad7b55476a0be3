"""Languages: equal codes, likely subtags, names."""

from __future__ import annotations

import pytest

from nmt.config.languages import are_equal, code_named, codes_of, includes, likely, names_of

# Rows of likelySubtags.xml of Unicode CLDR
LIKELY = {
    "zh": "zh-Hans-CN", "zh-TW": "zh-Hant-TW", "zh-HK": "zh-Hant-HK", "zh-Hant": "zh-Hant-TW", "sr": "sr-Cyrl-RS",
    "sr-ME": "sr-Latn-ME", "pt": "pt-Latn-BR", "en": "en-Latn-US", "uz": "uz-Latn-UZ", "uz-AF": "uz-Arab-AF",
    "pa-PK": "pa-Arab-PK", "kk-CN": "kk-Arab-CN", "bo": "bo-Tibt-CN", "qu": "qu-Latn-PE", "luo": "luo-Latn-KE",
    "ja": "ja-Jpan-JP", "ko": "ko-Kore-KR", "hi": "hi-Deva-IN", "yi": "yi-Hebr-UA",
}  # fmt: skip


@pytest.mark.parametrize(("code", "expected"), LIKELY.items())
def test_likely_subtags(code: str, expected: str) -> None:
    tag = likely(code)
    assert f"{tag.language}-{tag.script}-{tag.region}" == expected


def test_codes_and_names_are_those_of_lingua() -> None:
    lingua = pytest.importorskip("lingua", reason="needs lingua")
    for language in lingua.Language.all():
        two, three = (code.name.lower() for code in (language.iso_code_639_1, language.iso_code_639_3))
        if two not in ("nb", "nn", "tl"):  # codes of their own beside no, and Tagalog's and Filipino's
            assert are_equal(two, three), language
            assert code_named().get(language.name.lower()) == two, language


@pytest.mark.parametrize(
    ("wanted", "included", "others"),
    [
        ("zh-Hans", ["zh-CN", "zh", "zho_Hans", "cmn-CN", "zh-SG"], ["zh-TW", "zh-Hant", "zh-HK", "yue"]),
        ("zh-Hant", ["zh-TW", "zh-HK", "zho_Hant"], ["zh", "zh-CN"]),
        ("zh-TW", ["zh-Hant", "zh-Hant-TW"], ["zh", "zh-HK", "zh-Hant-HK"]),
        ("zh", ["zh-TW", "zh-Hans", "chi"], ["ja"]),
        ("bo", ["bod", "tib", "bo-CN", "bo-IN"], ["dz"]),
        ("sr-Latn", ["sr-ME", "sr-Latn-RS"], ["sr", "sr-Cyrl", "hr"]),
        ("pt-BR", ["pt", "por", "pt_BR"], ["pt-PT"]),
        ("pt-PT", ["pt-PT"], ["pt", "pt-BR"]),
        ("eng_Latn", ["en", "en-US", "en-GB"], ["en-Shaw", "de"]),
        ("xyz", ["xyz", "xyz-XX"], ["xy"]),
    ],
)
def test_includes(wanted: str, included: list[str], others: list[str]) -> None:
    assert [code for code in [*included, *others] if includes(wanted, code)] == included


def test_equal_codes() -> None:
    for one, other in (("bo", "bod"), ("de", "ger"), ("zho_Hans_CN", "zh-CN")):
        assert are_equal(one, other)
    for one, other in (("en", "en-US"), ("zh-Hans", "zh-Hant")):
        assert not are_equal(one, other)
    assert set(codes_of("deu")) == {"de", "deu", "ger"}
    assert codes_of("xyz") == ("xyz",)


def test_names() -> None:
    assert {"quechua", "runasimi"} <= set(names_of("quz"))
    assert {"spanish", "español", "castellano"} <= set(names_of("es-PE"))
    assert names_of("xyz") == ()
