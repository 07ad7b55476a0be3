"""Sentences of a paragraph, by rules: no model has to be fetched."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Marks that end a sentence: with white space after them, or also without.
_SPACED, _UNSPACED = ".!?…։؟۔।॥።፧፨။។՞՜", "。！？｡．"
_OPENING, _CLOSING = "([{«»„“‘「『（【《〈\"'‚‹", ")]}»«”“’‘」』）】》〉\"'›"
_END = re.compile(
    rf"(?:[{re.escape(_SPACED)}]+[{re.escape(_CLOSING)}]*(?:[ \u00a0\u202f]»)?(?=\s)"
    rf"|[{_UNSPACED}]+[{re.escape(_CLOSING)}]*)\s*"
)
_PAIRS = dict(zip("「『（【《〈(", "」』）】》〉)", strict=True))
_TITLES = (
    "mr mrs ms dr prof st jr sr rev gen col capt lt sgt hon vs fig vol ed eds approx dept inc ltd co corp bros no nos"
)
# Abbreviations after which a sentence continues, without their last point.
ABBREVIATIONS = {
    "en": f"{_TITLES} pp cf ca al eq sec ch jan feb apr jun jul aug sep sept oct nov dec mt ft messrs gov sen rep pres",
    "de": "dr prof hr fr nr st str bzw ca vgl z.b d.h u.a bspw ggf inkl exkl evtl max min mio mrd abs art bd hrsg jh"
    " v.chr n.chr geb gest tel sog urspr allg jan feb apr aug sept okt nov dez kap abb s",
    "fr": "m mm mme mlle dr pr st ste p.ex cf env av apr j.-c art fig no vol éd janv févr avr juil sept oct nov déc",
    "es": "sr sra srta dr dra d dña ud uds vd p.ej ej núm nº pág págs av avda art fig vol cap ed aprox ee.uu",
    "pt": "sr sra dr dra prof profa n nº pág págs av art fig vol cap ed aprox ex p.ex",
    "it": "sig sigg dott prof avv ing dr art fig pag pagg vol cap es p.es ecc ca",
    "nl": "dhr mevr mw dr drs ing ir prof nr blz bijv o.a d.w.z m.b.t i.v.m t.a.v enz ca st",
    "ru": "г гг в вв см т.е т.к т.д т.п др пр им ул д кв стр рис табл тыс млн млрд руб проф акад",
    "pl": "dr prof mgr inż ul al nr str tj np m.in tzw ok wg godz r w św",
    "cs": "dr prof ing mgr č čp str tj např tzv cca resp popř sv ul nám",
    "sv": "dr prof bl.a t.ex d.v.s dvs ca nr s.k m.m f.d kl st",
}
_ORDINALS = frozenset(
    "de da nb nn no fi cs sk sl hr sr hu et lv pl is tr eu".split()
)  # languages that write 3. for 3rd
_COMMON = "mr mrs ms dr prof st fig vol vs e.g i.e cf ca etc"  # in languages that are not named
WORDS = frozenset("no nos sec s art max min ch n".split())  # abbreviations that are words, too: No. 5


def sentences(text: str, language: str = "") -> Iterator[tuple[int, int]]:
    """The sentences of a paragraph as places in its text; white space before, between and after them is in none.

    A mark such as ``.``, ``!`` or ``?`` with the quotes and brackets that close after it ends a sentence where white
    space and no small letter follow. Abbreviations, initials, and decimal or ordinal numbers are no ends. Chinese and
    Japanese marks need no white space, but are no ends inside of quotes and brackets.

    Args:
        language: code of the language, for its abbreviations.
    """
    start = len(text) - len(text.lstrip())
    stop = len(text.rstrip())
    for match in _END.finditer(text, start, stop):
        if match.end() < stop and match.start() > start and _ends(text, start, match, language):
            yield start, start + len(text[start : match.end()].rstrip())
            start = match.end()
    if start < stop:
        yield start, stop


def _ends(text: str, start: int, match: re.Match[str], language: str) -> bool:
    marks = match[0].strip()
    if marks[0] in _UNSPACED:
        if _is_inside(text[start : match.start()]):
            return text[start] == "（" and marks[-1] == "）"
        return marks[-1] not in _CLOSING or match[0] != marks or text[match.end()] in _OPENING
    following = text[match.end() :].lstrip(_OPENING + "¿¡-–— ")[:1]
    if following.islower():
        return False
    if marks[0] != "." or marks[1:2] == ".":
        return True
    # A single point
    word = re.search(r"\S*$", text[start : match.start()])
    before = word[0].lstrip(_OPENING) if word else ""
    if before.isdigit():
        first = not text[start : match.start() - len(before)].strip()  # the number of an item
        return not first and not (writes_ordinals(language) and len(before) <= 2)
    if len(before) == 1 and before.isalpha() and (before.isupper() or re.match(r"[^\W\d_]\.", text[match.end() :])):
        return False  # an initial, or z. B.
    if re.fullmatch(r"(?:[^\W\d_]\.)+[^\W\d_]", before):
        return False  # U.S., e.g.
    known, folded = abbreviations(language), before.lower()
    if folded in known and folded in WORDS:
        return not following.isdigit()
    return folded not in known


def abbreviations(language: str) -> frozenset[str]:
    """Abbreviations of a language in small letters, without their last point."""
    return frozenset(ABBREVIATIONS.get(_base(language), _COMMON).split())


def writes_ordinals(language: str) -> bool:
    """Whether ``3.`` stands for ``3rd``."""
    return _base(language) in _ORDINALS


def _base(language: str) -> str:
    return language.lower().replace("_", "-").partition("-")[0]


def _is_inside(text: str) -> bool:
    """Whether the end of a text is inside of quotes or brackets of a kind that was opened and not closed."""
    return any(text.count(opening) > text.count(closing) for opening, closing in _PAIRS.items())
