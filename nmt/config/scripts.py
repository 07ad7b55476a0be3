"""Writing systems of languages, by their names in the Unicode standard (property ``Script``)."""

from __future__ import annotations

_LANGUAGES = {  # scripts of ISO 639 codes
    "Latin": "en de fr es it pt nl sv da no nb nn is fo fi et lv lt pl cs sk sl hr hu ro tr tk sq ca gl eu ga gd cy br "
    "mt af id ms tl fil jv su ceb vi sw zu xh st tn sn rw ny so ha yo ig lb la eo oc ast an co sc fy wa ht mg mi sm to "
    "haw qu ay gn nah ku lg ln wo bm ee om uz az",
    "Cyrillic": "ru uk be bg mk kk ky mn tg tt ba cv ce os sah udm mhr kv",
    "Greek": "el grc",
    "Arabic": "ar arz ary apc acm fa prs ur ps ckb ug sd ks",
    "Hebrew": "he iw yi",
    "Devanagari": "hi mr ne sa mai bho kok awa hne doi",
    "Bengali": "bn as",
    "Gurmukhi": "pa",
    "Gujarati": "gu",
    "Oriya": "or",
    "Tamil": "ta",
    "Telugu": "te",
    "Kannada": "kn",
    "Malayalam": "ml",
    "Sinhala": "si",
    "Thai": "th",
    "Lao": "lo",
    "Tibetan": "bo dz",
    "Myanmar": "my shn",
    "Georgian": "ka",
    "Armenian": "hy",
    "Ethiopic": "am ti",
    "Khmer": "km",
    "Hangul Han": "ko",
    "Han Hiragana Katakana": "ja",
    "Han Bopomofo": "zh cmn yue wuu lzh nan",
    "Cyrillic Latin": "sr bs sh",
    "Thaana": "dv",
    "Syriac": "syr",
    "Cherokee": "chr",
}
_BY_LANGUAGE = {code: tuple(scripts.split()) for scripts, codes in _LANGUAGES.items() for code in codes.split()}
_SUBTAGS = {  # ISO 15924 codes within a language code, such as sr-Latn or zho_Hans
    "latn": "Latin", "cyrl": "Cyrillic", "grek": "Greek", "arab": "Arabic", "hebr": "Hebrew", "deva": "Devanagari",
    "beng": "Bengali", "hans": "Han Bopomofo", "hant": "Han Bopomofo", "hani": "Han Bopomofo",
    "jpan": "Han Hiragana Katakana", "kore": "Hangul Han",
    "hang": "Hangul", "thai": "Thai", "mong": "Mongolian",
    "guru": "Gurmukhi", "geor": "Georgian",
    "armn": "Armenian", "ethi": "Ethiopic", "taml": "Tamil", "telu": "Telugu",
}  # fmt: skip
SCRIPTS = sorted({script for scripts in [*_LANGUAGES, "Mongolian"] for script in scripts.split()})


def scripts_of(language: str) -> tuple[str, ...]:
    """Scripts of a language code such as ``de``, ``zh-Hant`` or ``sr_Latn``; empty if they are not known."""
    code, *subtags = language.lower().replace("_", "-").split("-")
    for subtag in subtags:
        if subtag in _SUBTAGS:
            return tuple(_SUBTAGS[subtag].split())
    return _BY_LANGUAGE.get(code, ())
