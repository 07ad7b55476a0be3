"""The forms that words take: articles, adjectives, nouns and verbs, then numbers, the clock and dates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum, IntEnum
from functools import cache
from typing import NamedTuple

from nmt.data.demo.pair import Pair, Text, bilingual, rewritten, tagged, tags_of, word_by_word, words

# ---------------------------------------------------------------------- articles, adjectives, nouns

Case = IntEnum("Case", "NOM ACC DAT", start=0)
Form = IntEnum("Form", "M F N PL", start=0)  # what an article agrees with
Person = IntEnum("Person", "SG1 SG2 SG3 PL1 PL3", start=0)
Endings = tuple[tuple[str, str, str, str], ...]  # a row per case, a column per form

# fmt: off
#                      M      F      N      PL
DEFINITE: Endings = (("der", "die", "das", "die"),  # nominative
                     ("den", "die", "das", "die"),  # accusative
                     ("dem", "der", "dem", "den"))  # dative
# dies-er, jed-er, welch-er; and any adjective left to show the case alone: kalter Tee
STRONG: Endings = (("er", "e", "es", "e"), ("en", "e", "es", "e"), ("em", "er", "em", "en"))
# ein, kein and the possessives: strong, but for three gaps
EIN: Endings = (("", "e", "", "e"), ("en", "e", "", "e"), ("em", "er", "em", "en"))
# fmt: on
BARE: Endings = (("", "", "", ""),) * 3


def adjective_ending(case: Case, form: Form, article_ending: str) -> str:
    """The case shows once: in the article's ending if it has one, else in the adjective's.

    The "mixed" declension of the textbooks (ein alter Mann, but einem alten Mann) follows from
    this and the gaps of EIN, and needs no table of its own.
    """
    if not article_ending:
        return STRONG[case][form]
    like_nominative = case is Case.NOM or (case is Case.ACC and form is not Form.M)
    return "e" if like_nominative and form is not Form.PL else "en"


class Status(Enum):
    """What a phrase is to the hearer: this decides its place in a German clause."""

    PRONOUN = "light, so it comes early"
    KNOWN = "definite"
    NEW = "indefinite, so it comes late"
    KEIN = "indefinite and negated, so that the clause needs no nicht"
    OPENING = "a question word or relative pronoun, which opens its clause"


class Determiner(NamedTuple):
    en: str
    de: str  # the stem
    endings: Endings
    status: Status = Status.KNOWN
    en_plural: str = ""  # where it differs


THE = Determiner("the", "", DEFINITE)
UNSAID = Determiner("", "", DEFINITE)  # at school, in Switzerland: only German has the article
THIS = Determiner("this", "dies", STRONG, en_plural="these")
A = Determiner("a", "ein", EIN, Status.NEW)
SOME = Determiner("", "", BARE, Status.NEW)  # cold milk, old books
NOT_A = Determiner("a", "kein", EIN, Status.KEIN)
NOT_ANY = Determiner("", "kein", EIN, Status.KEIN)
WHICH = Determiner("which", "welch", STRONG, Status.OPENING)
HOW_MANY = Determiner("how many", "wie viele", BARE, Status.OPENING)
POSSESSIVES = {
    "I": Determiner("my", "mein", EIN), "you": Determiner("your", "dein", EIN),
    "he": Determiner("his", "sein", EIN), "she": Determiner("her", "ihr", EIN),
    "we": Determiner("our", "unser", EIN), "they": Determiner("their", "ihr", EIN),
}  # fmt: skip


class Noun(NamedTuple):
    en: str
    en_plural: str
    de: str
    de_plural: str  # empty where it is not used
    form: Form
    labels: tuple[str, ...]  # its own English name, its kind, its traits

    def german(self, case: Case, form: Form) -> str:
        """Two endings of its own: -n in the dative plural, and weak (der Junge, den Jungen)."""
        if form is Form.PL:
            return self.de_plural + "n" * (case is Case.DAT and self.de_plural[-1] not in "ns")
        return self.de_plural if "weak" in self.labels and case is not Case.NOM else self.de


class Adjective(NamedTuple):
    en: str
    de: str
    stem: str  # before an ending: teuer, but ein teurer Hut
    comparative: Pair | None


class NounPhrase(NamedTuple):
    """Someone or something, in every form that a sentence may need."""

    en: tuple[str, str]  # as a subject, and elsewhere
    de: tuple[str, ...]  # by case
    person: Person = Person.SG3
    form: Form = Form.M
    status: Status = Status.KNOWN
    echo: str = ""  # the English pronoun that takes it up again
    contracts: bool = False  # in dem Haus: im Haus
    relative: str = ""  # its German relative clause, which may have to wait for the Nachfeld


@cache
def noun_phrase(
    noun: Noun, determiner: Determiner, adjective: Adjective | None = None, plural: bool = False
) -> NounPhrase:
    """Put determiner, adjective and noun together, agreeing in case, gender and number."""
    form, head = (Form.PL, noun.en_plural) if plural else (noun.form, noun.en)
    article = (determiner.en_plural if plural else "") or determiner.en
    english = words(_article(article), tagged(adjective.en, "adjective") if adjective else "", tagged(head, "noun"))
    english = rewritten(english, re.sub(r"^a (?=[aeiou])", "an ", english))

    def german(case: Case) -> str:
        ending = determiner.endings[case][form]
        inflected = adjective.stem + adjective_ending(case, form, ending) if adjective else ""
        return words(
            _article(determiner.de + ending), tagged(inflected, "adjective"), tagged(noun.german(case, form), "noun")
        )

    # das Mädchen is neuter but taken up by sie; das Kind, like all that is no person, not at all
    echo = ""
    if noun.labels[1] in ("person", "kin") and (plural or noun.en != "child"):
        echo = "they" if plural else "he" if form is Form.M else "she"
    person, forms = Person.PL3 if plural else Person.SG3, tuple(german(case) for case in Case)
    contracts = determiner.endings is DEFINITE
    return NounPhrase((english, english), forms, person, form, determiner.status, echo, contracts)


def _article(text: str) -> Text:
    """how many, wie viele: word by word."""
    return Text.of(text, [(f"article{n}",) for n, _ in enumerate(text.split())])


def name(en: str, de: str, echo: str = "") -> NounPhrase:
    """A proper name: the same in all cases."""
    person, form = (Person.PL3, Form.PL) if echo == "they" else (Person.SG3, Form.M)
    english, german = word_by_word(en, de)
    return NounPhrase((english, english), (german,) * 3, person, form, echo=echo)


def pronoun(forms: str, person: Person, status: Status = Status.PRONOUN) -> NounPhrase:
    """Read "he him er ihn ihm"."""
    subject, other, *german = (tagged(form, "pronoun") for form in forms.split())
    echo = str(subject) if status is Status.PRONOUN else ""
    return NounPhrase((subject, other), tuple(german), person, status=status, echo=echo)


PRONOUNS = {
    "I": pronoun("I me ich mich mir", Person.SG1),
    "you": pronoun("you you du dich dir", Person.SG2),
    "he": pronoun("he him er ihn ihm", Person.SG3),
    "she": pronoun("she her sie sie ihr", Person.SG3),
    "we": pronoun("we us wir uns uns", Person.PL1),
    "they": pronoun("they them sie sie ihnen", Person.PL3),
}
REFLEXIVES = ("mich", "dich", "sich", "uns", "sich")  # by person
IT = pronoun("it it es es ihm", Person.SG3)
THERE = [pronoun("there there es es ihm", person) for person in (Person.SG3, Person.PL3)]
WHO = pronoun("who whom wer wen wem", Person.SG3, Status.OPENING)
WHAT = pronoun("what what was was was", Person.SG3, Status.OPENING)
RELATIVES = ("der den dem", "die die der", "das das dem", "die die denen")  # by form


def relative_pronoun(head: NounPhrase, human: bool) -> NounPhrase:
    """Its gender and number come from its head, its case from its own clause."""
    en = "who whom" if human else "that that"
    opening = pronoun(f"{en} {RELATIVES[head.form]}", head.person, Status.OPENING)
    return opening._replace(echo=head.echo)


CONTRACTIONS = bilingual("an_dem/am an_das/ans in_dem/im in_das/ins von_dem/vom zu_dem/zum zu_der/zur")


def governed(preposition: str, np: NounPhrase, case: Case) -> str:
    """A preposition with the case it governs: "in", der Garten, dative: "im Garten"."""
    german = words(tagged(preposition, "preposition"), np.de[case])
    for long, short in CONTRACTIONS if np.contracts else ():
        if german.startswith(f"{long} "):
            first, second, *rest = tags_of(german)
            german = Text.of(f"{short} {german.removeprefix(f'{long} ')}", [first + second, *rest])
    return german


# -------------------------------------------------------------------------------------------- verbs


class Tense(Enum):
    """The five English tenses used here; German needs three: Präsens, Perfekt, Futur."""

    PRESENT = "he buys"
    PROGRESSIVE = "he is buying"
    SINCE = "he has been buying"
    PAST = "he bought"
    FUTURE = "he will buy"


PRESENT, PROGRESSIVE, SINCE, PAST, FUTURE = Tense

# English verbs that need no "do" to be negated or inverted; by person.
AUXILIARIES: dict[str, dict[Tense, tuple[str, ...]]] = {
    "be": {PRESENT: ("am", "are", "is", "are", "are"), PAST: ("was", "were", "was", "were", "were")},
    "can": {PRESENT: ("can",) * 5},
    "must": {PRESENT: ("must",) * 5},
    "should": {PRESENT: ("should",) * 5},
    "would": {PRESENT: ("would",) * 5},
}


def with_s(word: str) -> str:
    """The plural of an English noun, the third person of a verb: box-es, stori-es, key-s."""
    word = re.sub(r"([^aeiou])y$", r"\1ie", word)
    return word + ("es" if re.search(r"(s|x|ch|sh|[^aeiou]o)$", word) else "s")


def with_vowel(word: str, ending: str) -> str:
    """Add -ing or -ed: bak-ing, carri-ed, swimm-ing."""
    if ending == "ed":
        word = re.sub(r"([^aeiou])y$", r"\1i", word)
    if word.endswith("e"):
        return word.removesuffix("e") + ending
    return re.sub(r"^([^aeiou]*[aeiou])([^aeiouwxy])$", r"\1\2\2", word) + ending


class EnglishVerb(NamedTuple):
    base: str
    past: str = ""
    particle: str = ""

    def forms(self, tense: Tense, person: Person) -> tuple[str, str, str]:
        """(auxiliary, what follows it, the one word that does without "do" if there is one)."""
        if tense in (own := AUXILIARIES.get(self.base, {})):
            return own[tense][person], "", ""
        third = person is Person.SG3
        s_form = "has" if self.base == "have" else with_s(self.base)
        ing = with_vowel(self.base, "ing")
        return {
            PRESENT: ("does", self.base, s_form) if third else ("do", self.base, self.base),
            PROGRESSIVE: (AUXILIARIES["be"][PRESENT][person], ing, ""),
            SINCE: ("has" if third else "have", f"been {ing}", ""),
            PAST: ("did", self.base, self.past),
            FUTURE: ("will", self.base, ""),
        }[tense]


class GermanVerb(NamedTuple):
    infinitive: str  # without the separable prefix
    present: tuple[str, ...]  # by person
    perfect: str = ""  # hat or ist, and the participle
    prefix: str = ""
    preterite: tuple[str, ...] = ()  # of those that avoid the Perfekt: sein, haben, the modals

    def zu_infinitive(self) -> str:
        """zu stands between a separable prefix and its verb: zu kaufen, but aufzumachen."""
        return f"{self.prefix}zu{self.infinitive}" if self.prefix else f"zu {self.infinitive}"


def english_verb(entry: str) -> EnglishVerb:
    """Read "call", or "take/took off" with its past and its particle."""
    forms, _, particle = entry.partition(" ")
    base, _, past = forms.partition("/")
    return EnglishVerb(base, past or with_vowel(base, "ed"), particle)


def german_verb(entry: str) -> GermanVerb:
    """Read "an|rufen, ruft, hat gerufen"; a regular verb is just "kaufen"."""
    infinitive, *irregular = entry.split(", ")
    prefix, _, infinitive = infinitive.rpartition("|")
    stem = infinitive.removesuffix("n").removesuffix("e")
    # er arbeit-e-t, es regn-e-t: a vowel where the ending would not be heard
    er = stem + ("et" if re.search(r"([dt]|[^aeiouäöülrhmn][mn])$", stem) else "t")
    # be-, er-, ge-, ver- and -ieren leave no room for the ge- of the participle
    ge = "" if re.match(r"be|er|ge|ver|.*ieren$", infinitive) else "ge"
    er, perfect = irregular or (er, f"hat {ge}{er}")
    du = er[:-1] + ("t" if er[-2] in "sßz" else "st")
    perfect = perfect.replace(" ", f" {prefix}")
    return GermanVerb(infinitive, (f"{stem}e", du, er, infinitive, infinitive), perfect, prefix)


def by_heart(present: str, preterite: str = "", perfect: str = "") -> GermanVerb:
    """Read "sein bin bist ist sind": infinitive, ich, du, er, wir (and sie, which is the same)."""
    infinitive, *now = present.split()
    then = preterite.split()
    return GermanVerb(infinitive, (*now, now[-1]), perfect, "", (*then, *then[-1:]))


SEIN = by_heart("sein bin bist ist sind", "war warst war waren", "ist gewesen")
HABEN = by_heart("haben habe hast hat haben", "hatte hattest hatte hatten", "hat gehabt")
WERDEN = by_heart("werden werde wirst wird werden", perfect="ist geworden")
WISSEN = by_heart("wissen weiß weißt weiß wissen", perfect="hat gewusst")
ES_GIBT = by_heart("geben gibt gibt gibt gibt")  # agrees with es, never with what there is
KÖNNEN = by_heart("können kann kannst kann können", "konnte konntest konnte konnten")
MÜSSEN = by_heart("müssen muss musst muss müssen", "musste musstest musste mussten")
DÜRFEN = by_heart("dürfen darf darfst darf dürfen", "durfte durftest durfte durften")
WOLLEN = by_heart("wollen will willst will wollen", "wollte wolltest wollte wollten")
SOLLTEN = by_heart("sollen sollte solltest sollte sollten")
MÖCHTEN = by_heart("mögen möchte möchtest möchte möchten")


class Modal(NamedTuple):
    en: EnglishVerb
    link: str  # what stands before the English infinitive
    de: GermanVerb
    de_negated: GermanVerb
    tenses: tuple[Tense, ...]


CAN = Modal(EnglishVerb("can"), "", KÖNNEN, KÖNNEN, (PRESENT,))
ABLE_TO = Modal(EnglishVerb("be"), "able to", KÖNNEN, KÖNNEN, (PAST,))  # "could" is two words
# "must not" forbids; muss nicht is something else: "does not have to"
MUST = Modal(EnglishVerb("must"), "", MÜSSEN, DÜRFEN, (PRESENT,))
HAVE_TO = Modal(EnglishVerb("have", "had"), "to", MÜSSEN, MÜSSEN, (PRESENT, PAST))
WANT_TO = Modal(EnglishVerb("want", "wanted"), "to", WOLLEN, WOLLEN, (PRESENT, PAST))
ALLOWED_TO = Modal(EnglishVerb("be"), "allowed to", DÜRFEN, DÜRFEN, (PRESENT, PAST))
SHOULD = Modal(EnglishVerb("should"), "", SOLLTEN, SOLLTEN, (PRESENT,))
WOULD_LIKE_TO = Modal(EnglishVerb("would"), "like to", MÖCHTEN, MÖCHTEN, (PRESENT,))
MODALS = (CAN, ABLE_TO, MUST, HAVE_TO, WANT_TO, ALLOWED_TO, SHOULD, WOULD_LIKE_TO)


# ---------------------------------------------------------------------------- numbers, clock, dates

SMALL = bilingual(
    "zero/null one/eins two/zwei three/drei four/vier five/fünf six/sechs seven/sieben eight/acht "
    "nine/neun ten/zehn eleven/elf twelve/zwölf thirteen/dreizehn fourteen/vierzehn "
    "fifteen/fünfzehn sixteen/sechzehn seventeen/siebzehn eighteen/achtzehn nineteen/neunzehn"
)
TENS = bilingual(
    "- - twenty/zwanzig thirty/dreißig forty/vierzig fifty/fünfzig sixty/sechzig seventy/siebzig "
    "eighty/achtzig ninety/neunzig"
)
EN_ORDINALS = {1: "first", 2: "second", 3: "third", 5: "fifth", 8: "eighth", 9: "ninth",
               12: "twelfth", 20: "twentieth", 30: "thirtieth"}  # fmt: skip
DE_ORDINALS = {1: "erst", 3: "dritt", 7: "siebt", 8: "acht"}


def number(n: int) -> Pair:
    """0 to 99. German says the unit first: einundzwanzig."""
    tens, unit = divmod(n, 10)
    if n < 20 or not unit:
        return SMALL[n] if n < 20 else TENS[tens]
    german_unit = "ein" if unit == 1 else SMALL[unit].tgt
    return Pair(f"{TENS[tens].src}-{SMALL[unit].src}", f"{german_unit}und{TENS[tens].tgt}")


def ordinal(n: int) -> Pair:
    """1 to 31; the German is a stem that still wants the ending of an adjective."""
    en, de = number(n)
    compound = n > 20 and n % 10
    en = f"{TENS[n // 10].src}-{ordinal(n % 10).src}" if compound else EN_ORDINALS.get(n, f"{en}th")
    return Pair(en, DE_ORDINALS.get(n, de + ("t" if n < 20 else "st")))


def clock(hour: int, minute: int) -> Pair:
    """The time as it is spoken; halb neun is half an hour before nine."""
    this, coming = number(hour), number(hour % 12 + 1)
    gap = min(minute, 60 - minute)
    en, de = Pair("a quarter", "Viertel") if gap == 15 else number(gap)
    if minute == 0:
        return word_by_word(f"at {this.src} o'clock", f"um {'ein' if hour == 1 else this.tgt} Uhr")
    if minute == 30:  # halb stands for half past
        return _part_by_part(("at", "half past", this.src), ("um", "halb", coming.tgt))
    if minute < 30:
        return _part_by_part(("at", en, "past", this.src), ("um", de, "nach", this.tgt))
    return _part_by_part(("at", en, "to", coming.src), ("um", de, "vor", coming.tgt))


def _part_by_part(en: Sequence[str], de: Sequence[str]) -> Pair:
    """Part by part."""
    return Pair(*(words(*(tagged(part, str(n)) for n, part in enumerate(side))) for side in (en, de)))


def date(day: int, month: Pair) -> Pair:
    """am dritten Mai: an adjective in the masculine dative, for der Tag is understood."""
    en, de = ordinal(day)
    ending = adjective_ending(Case.DAT, Form.M, DEFINITE[Case.DAT][Form.M])
    return _part_by_part(("on the", en, f"of {month.src}"), ("am", f"{de}{ending}", month.tgt))
