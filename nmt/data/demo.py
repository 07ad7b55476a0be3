"""The demo corpus: English sentences with their German translations, made from one grammar.

There is nothing to download and no licence to mind. A sentence is thought up once, as a
:class:`Clause` (who does what to whom, when and where), and read out twice. English puts the parts
in a row; German puts them into the *topological fields* that every grammar of German draws:

    Vorfeld | left bracket | Mittelfeld                    | right bracket | Nachfeld
    Gestern | hat          | der Mann seiner Frau ein Buch | mitgebracht   | , das sie nun liest
    Heute   | ruft         | er seine Mutter               | an            |
            | weil         | er heute seine Mutter         | anruft        |

A main clause has its finite verb in the left bracket, second after whatever fills the Vorfeld. A
subordinate clause has its conjunction there and keeps all its verbs for the end.

Whatever a translator would be free to choose is settled by one rule, so that the German is a
function of the English: "you" is du; the simple past is the Perfekt, but war, hatte and the
Präteritum of the modals; "has been waiting for" is the Präsens with seit; and the Mittelfeld has
one order (:data:`MITTELFELD`).

Read from top to bottom: inflection, lexicon, clauses, the writer of sentences, the corpus.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from enum import Enum, IntEnum
from functools import cache
from typing import NamedTuple, TypeVar

__all__ = ["Pair", "generate"]

T = TypeVar("T")


class Pair(NamedTuple):
    """The same thing in both languages: a sentence, or any part of one."""

    src: str
    tgt: str


def words(*parts: str) -> str:
    """Join the parts that are not empty."""
    return " ".join(part for part in parts if part)


def bilingual(table: str) -> list[Pair]:
    """Read "Berlin Rome/Rom"; an underscore is a space inside an entry."""
    entries = (entry.replace("_", " ").partition("/") for entry in table.split())
    return [Pair(en, de or en) for en, _, de in entries]


# ---------------------------------------------------------- inflection: articles, adjectives, nouns

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
    english = words(article, adjective.en if adjective else "", head)
    english = re.sub(r"^a (?=[aeiou])", "an ", english)

    def german(case: Case) -> str:
        ending = determiner.endings[case][form]
        inflected = adjective.stem + adjective_ending(case, form, ending) if adjective else ""
        return words(determiner.de + ending, inflected, noun.german(case, form))

    # das Mädchen is neuter but taken up by sie; das Kind, like all that is no person, not at all
    echo = ""
    if noun.labels[1] in ("person", "kin") and (plural or noun.en != "child"):
        echo = "they" if plural else "he" if form is Form.M else "she"
    person, forms = Person.PL3 if plural else Person.SG3, tuple(german(case) for case in Case)
    contracts = determiner.endings is DEFINITE
    return NounPhrase((english, english), forms, person, form, determiner.status, echo, contracts)


def name(en: str, de: str, echo: str = "") -> NounPhrase:
    """A proper name: the same in all cases."""
    person, form = (Person.PL3, Form.PL) if echo == "they" else (Person.SG3, Form.M)
    return NounPhrase((en, en), (de, de, de), person, form, echo=echo)


def pronoun(forms: str, person: Person, status: Status = Status.PRONOUN) -> NounPhrase:
    """Read "he him er ihn ihm"."""
    subject, other, *german = forms.split()
    echo = subject if status is Status.PRONOUN else ""
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
    german = words(preposition, np.de[case])
    for long, short in CONTRACTIONS if np.contracts else ():
        german = re.sub(f"^{long} ", f"{short} ", german)
    return german


# -------------------------------------------------------------------------------- inflection: verbs


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
        return Pair(f"at {this.src} o'clock", f"um {'ein' if hour == 1 else this.tgt} Uhr")
    if minute == 30:
        return Pair(f"at half past {this.src}", f"um halb {coming.tgt}")
    if minute < 30:
        return Pair(f"at {en} past {this.src}", f"um {de} nach {this.tgt}")
    return Pair(f"at {en} to {coming.src}", f"um {de} vor {coming.tgt}")


def date(day: int, month: Pair) -> Pair:
    """am dritten Mai: an adjective in the masculine dative, for der Tag is understood."""
    en, de = ordinal(day)
    ending = adjective_ending(Case.DAT, Form.M, DEFINITE[Case.DAT][Form.M])
    return Pair(f"on the {en} of {month.src}", f"am {de}{ending} {month.tgt}")


# ----------------------------------------------------------------------------------- lexicon: nouns

NOUN_TABLE = {
    "person": """man/men der Mann/Männer adult; woman/women die Frau/Frauen adult;
        child/children das Kind/Kinder; boy der Junge/Jungen weak; girl das Mädchen/Mädchen;
        teacher der Lehrer/Lehrer adult; doctor der Arzt/Ärzte adult; guest der Gast/Gäste;
        student der Student/Studenten weak; tourist der Tourist/Touristen weak;
        cook der Koch/Köche adult; farmer der Bauer/Bauern weak adult;
        baker der Bäcker/Bäcker adult; policeman/policemen der Polizist/Polizisten weak adult""",
    "kin": """mother die Mutter aged; father der Vater aged;
        sister die Schwester/Schwestern; brother der Bruder/Brüder;
        grandmother die Großmutter aged; son der Sohn/Söhne;
        grandfather der Großvater aged; daughter die Tochter/Töchter;
        aunt die Tante/Tanten adult; uncle der Onkel/Onkel adult; friend der Freund/Freunde adult;
        neighbor der Nachbar/Nachbarn weak adult; colleague der Kollege/Kollegen weak adult""",
    "animal": """dog der Hund/Hunde; cat die Katze/Katzen; horse das Pferd/Pferde;
        bird der Vogel/Vögel; cow die Kuh/Kühe""",
    "food": """apple der Apfel/Äpfel fruit; banana die Banane/Bananen fruit;
        pear die Birne/Birnen fruit; cake der Kuchen/Kuchen pastry; cookie der Keks/Kekse pastry;
        roll das Brötchen/Brötchen pastry; egg das Ei/Eier dish;
        potato die Kartoffel/Kartoffeln dish; tomato die Tomate/Tomaten;
        sausage die Wurst/Würste""",
    "staple": """bread das Brot mass; cheese der Käse mass; meat das Fleisch mass;
        soup die Suppe mass dish; rice der Reis mass dish""",
    "drink": """water das Wasser mass; coffee der Kaffee mass; tea der Tee mass;
        milk die Milch mass; juice der Saft mass""",
    "reading": """book das Buch/Bücher; newspaper die Zeitung/Zeitungen;
        magazine die Zeitschrift/Zeitschriften; letter der Brief/Briefe writing;
        novel der Roman/Romane writing; poem das Gedicht/Gedichte writing;
        story die Geschichte/Geschichten writing""",
    "clothes": """coat der Mantel/Mäntel warm; jacket die Jacke/Jacken warm; hat der Hut/Hüte warm;
        scarf/scarves der Schal/Schals warm; sweater der Pullover/Pullover warm;
        skirt der Rock/Röcke; shirt das Hemd/Hemden; dress das Kleid/Kleider""",
    "thing": """key der Schlüssel/Schlüssel small; ring der Ring/Ringe small gift;
        bag die Tasche/Taschen small load; umbrella der Regenschirm/Regenschirme small;
        flower die Blume/Blumen gift; picture das Bild/Bilder gift; cup die Tasse/Tassen;
        present das Geschenk/Geschenke gift; clock die Uhr/Uhren broken""",
    "furniture": """table der Tisch/Tische load painted; chair der Stuhl/Stühle load painted;
        lamp die Lampe/Lampen switch broken; cupboard der Schrank/Schränke closable painted;
        box die Kiste/Kisten load closable; suitcase der Koffer/Koffer load closable""",
    "opening": "door die Tür/Türen closable painted; window das Fenster/Fenster closable painted",
    "device": """bicycle das Fahrrad/Fahrräder broken; computer der Computer/Computer switch broken;
        radio das Radio/Radios switch broken; television der Fernseher/Fernseher switch broken;
        camera die Kamera/Kameras small broken""",
    "vehicle": """train der Zug/Züge line; bus der Bus/Busse line; plane das Flugzeug/Flugzeuge;
        tram die Straßenbahn/Straßenbahnen line; ship das Schiff/Schiffe;
        car das Auto/Autos broken""",
    "event": """movie der Film/Filme; concert das Konzert/Konzerte; exam die Prüfung/Prüfungen;
        course der Kurs/Kurse; party die Party/Partys; game das Spiel/Spiele""",
    "topic": """rule die Regel/Regeln; task die Aufgabe/Aufgaben; question die Frage/Fragen;
        problem das Problem/Probleme""",
    "language": """German das Deutsch; English das Englisch; French das Französisch;
        Spanish das Spanisch""",
    "asset": "time die Zeit; euro/euros der Euro/Euro",
    "unit": """minute die Minute/Minuten; hour die Stunde/Stunden; day der Tag/Tage;
        week die Woche/Wochen; month der Monat/Monate; year das Jahr/Jahre""",
    "term": "morning der Morgen; evening der Abend; summer der Sommer; winter der Winter",
    "weekday": """Monday der Montag; Tuesday der Dienstag; Wednesday der Mittwoch;
        Thursday der Donnerstag; Friday der Freitag; Saturday der Samstag; Sunday der Sonntag""",
}
# English "at", German "at", German "to": the places that take them, and what they are good for.
PLACE_TABLE = {
    "in in in": """kitchen die Küche home room; garden der Garten home green;
        hotel das Hotel eatery town; office das Büro job room furnished;
        hospital das Krankenhaus job town; library die Bibliothek study town furnished;
        restaurant das Restaurant eatery town furnished; supermarket der Supermarkt shop job;
        bakery die Bäckerei shop job; park der Park green town; forest der Wald green;
        museum das Museum sight town; church die Kirche sight town;
        theater das Theater sight stage town; village das Dorf region; city die Stadt region;
        Switzerland die Schweiz country unsaid""",
    "in in zu": "lake der See water; river der Fluss water; castle das Schloss sight town",
    "at in in": "school die Schule job study unsaid",
    "at an zu": "station der Bahnhof stop town; airport der Flughafen stop job",
    "at auf auf": "market der Markt shop town",
    "on an an": "beach der Strand green",
    "on auf auf": "island die Insel region",
}
CITIES = "Berlin Hamburg Munich/München Cologne/Köln Vienna/Wien Zurich/Zürich Leipzig Rome/Rom"
COUNTRIES = "Germany/Deutschland Austria/Österreich France/Frankreich Italy/Italien Spain/Spanien"


class Place(NamedTuple):
    where: Noun | NounPhrase
    at: Pair
    to: Pair
    labels: tuple[str, ...]


def read_nouns(table: str, kind: str) -> list[Noun]:
    nouns = []
    for english, article, german, *traits in map(str.split, table.split(";")):
        en, _, en_plural = english.partition("/")
        de, _, de_plural = german.partition("/")
        form = {"der": Form.M, "die": Form.F, "das": Form.N}[article]
        nouns.append(Noun(en, en_plural or with_s(en), de, de_plural, form, (en, kind, *traits)))
    return nouns


PLACES = [
    Place(noun, Pair(at_en, at_de), Pair("to", to_de), noun.labels)
    for prepositions, table in PLACE_TABLE.items()
    for at_en, at_de, to_de in [prepositions.split()]
    for noun in read_nouns(table, "place")
] + [
    Place(name(en, de), Pair("in", "in"), Pair("to", "nach"), (kind,))
    for kind, table in (("named", CITIES), ("country", COUNTRIES))
    for en, de in bilingual(table)
]
NOUNS = {n.en: n for kind, table in NOUN_TABLE.items() for n in read_nouns(table, kind)}
NOUNS |= {place.where.en: place.where for place in PLACES if isinstance(place.where, Noun)}
GROUPS = {
    "people": "person kin",
    "grown": "adult aged",
    "many": "food reading gift",
    "owned": "clothes thing furniture device reading car",
    "goods": "food staple drink clothes reading thing furniture device car",
}


@cache
def select(selection: str) -> tuple[Noun, ...]:
    """The nouns with any of these labels: "clothes switch car"."""
    wanted = " ".join(GROUPS.get(label, label) for label in selection.split()).split()
    return tuple(noun for noun in NOUNS.values() if any(label in noun.labels for label in wanted))


# ---------------------------------------------------------------- lexicon: adjectives, names, times

# The comparative follows the slash, "+" if it is regular.
ADJECTIVE_TABLE = """old/older alt/älter; young/younger jung/jünger; tall/taller groß/größer;
    big/bigger groß/größer; small/smaller klein/+; friendly/friendlier freundlich/+;
    clever/cleverer klug/klüger; rich/richer reich/+; poor/poorer arm/ärmer; tired/+ müde/+;
    strong/stronger stark/stärker; lazy/lazier faul/+; happy/happier glücklich/+; sick krank;
    sad/sadder traurig/+; hungry/hungrier hungrig/+; famous/+ berühmt/+; new neu; fresh frisch;
    expensive/+ teuer/+; cheap/cheaper billig/+; heavy/heavier schwer/+; beautiful/+ schön/+;
    red rot; blue blau; green grün; black schwarz; white weiß; sweet/sweeter süß/+; dark dunkel;
    good/better gut/besser; warm/warmer warm/wärmer; cold/colder kalt/kälter;
    short/shorter kurz/kürzer; interesting/+ interessant/+; boring/+ langweilig/+;
    exciting/+ spannend/+; important/+ wichtig/+; difficult/+ schwierig/+; quiet/quieter ruhig/+;
    modern/+ modern/+; fast/faster schnell/+; slow/slower langsam/+"""
ELIDED = {"teuer": "teur", "dunkel": "dunkl", "müde": "müd"}  # an unstressed e goes
SUITED = {
    "person kin": "tall friendly clever happy",
    "adult student guest tourist brother sister": "old young",
    "aged": "old",
    "person": "strong lazy hungry famous rich poor tired sick",
    "animal": "old young big small clever strong lazy hungry beautiful black white",
    "food": "big small fresh", "fruit pastry": "sweet", "staple": "fresh good",
    "drink": "fresh warm cold good",
    "reading": "new good interesting boring exciting", "writing": "short",
    "movie concert course party game": "good interesting boring exciting short",
    "topic exam": "difficult important",
    "clothes": "old new expensive cheap beautiful red blue green black white", "warm": "warm",
    "thing": "old new expensive cheap beautiful red blue green small",
    "furniture": "old new expensive cheap heavy big small white red",
    "opening": "old big small heavy white green",
    "device": "old new expensive cheap modern black",
    "vehicle": "old new big fast slow red blue black",
    "place": "old big small", "green water region sight": "beautiful quiet",
    "sight": "famous modern", "room": "dark",
}  # fmt: skip


def read_adjective(english: str, german: str) -> Adjective:
    en, _, en_more = english.partition("/")
    de, _, de_more = german.partition("/")
    stem = ELIDED.get(de, de)
    more = Pair(en_more.replace("+", f"more {en}"), de_more.replace("+", f"{stem}er"))
    return Adjective(en, de, stem, more if en_more else None)


ADJECTIVES = {a.en: a for a in (read_adjective(*e.split()) for e in ADJECTIVE_TABLE.split(";"))}


@cache
def adjectives_for(noun: Noun) -> tuple[Adjective, ...]:
    rows = [row for labels, row in SUITED.items() if any(n in noun.labels for n in labels.split())]
    return tuple(ADJECTIVES[en] for en in " ".join(rows).split())


# English has one word for both sexes; German adds -in, and no article: Anna ist Ärztin.
JOBS = [("a teacher", "Lehrer", "Lehrerin"), ("a doctor", "Arzt", "Ärztin"),
        ("a cook", "Koch", "Köchin"), ("a baker", "Bäcker", "Bäckerin"),
        ("a lawyer", "Anwalt", "Anwältin"), ("an engineer", "Ingenieur", "Ingenieurin"),
        ("a musician", "Musiker", "Musikerin"), ("a pilot", "Pilot", "Pilotin")]  # fmt: skip
NAMES = [
    name(person, person, echo)
    for echo, people in (
        ("she", "Anna Maria Julia Lena Emma Clara Sophie Laura"),
        ("he", "Peter Paul Martin David Jonas Lukas Felix Max"),
    )
    for person in people.split()
]
MONTHS = bilingual(
    "January/Januar February/Februar March/März April May/Mai June/Juni July/Juli August "
    "September October/Oktober November December/Dezember"
)
MONTH_LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
FREQUENCIES = bilingual("often/oft always/immer sometimes/manchmal never/nie usually/meistens rarely/selten")
TIMES = {
    PRESENT: bilingual("in_the_morning/am_Morgen in_the_evening/am_Abend on_weekends/am_Wochenende"),
    PROGRESSIVE: bilingual("now/jetzt today/heute at_the_moment/im_Moment"),
    PAST: bilingual("yesterday/gestern yesterday_evening/gestern_Abend this_morning/heute_Morgen"),
    FUTURE: bilingual("tomorrow/morgen tomorrow_evening/morgen_Abend this_evening/heute_Abend"),
}


# ----------------------------------------------------------------------------------- lexicon: verbs

# What a phrase does in its clause.
Role = Enum(
    "Role",
    "SUBJECT DATIVE ACCUSATIVE PREPOSITIONAL PREDICATE COMPANION DIRECTION PLACE "
    "MEANS TIME FREQUENCY REASON NEGATION CLAUSE",
)


class Argument(NamedTuple):
    """An object that a verb asks for: its case, its prepositions and what makes sense there."""

    role: Role
    case: Case
    nouns: tuple[Noun, ...]
    en: str
    de: str
    specific: bool  # one closes the door, hardly a door


class Verb(NamedTuple):
    """One meaning: an English verb, a German verb, and the company they keep."""

    en: EnglishVerb
    de: GermanVerb
    subjects: tuple[Noun, ...] = ()
    arguments: tuple[Argument, ...] = ()
    at: tuple[Place, ...] = ()  # where it happens
    to: tuple[Place, ...] = ()  # where it leads to
    tenses: tuple[Tense, ...] = (PRESENT,)
    traits: tuple[str, ...] = ()

    def name(self) -> str:
        """As in a dictionary: "pick up", "wait for"."""
        return words(self.en.base, self.en.particle, *(argument.en for argument in self.arguments))

    def willed(self) -> bool:
        """Can one want it, try it, promise it?"""
        return {PROGRESSIVE, FUTURE} <= {*self.tenses} and NOUNS["mother"] in self.subjects


ASPECTS = {  # the tenses in which it makes sense, the likely ones twice
    "action": (PROGRESSIVE, PROGRESSIVE, PRESENT, PAST, PAST, FUTURE),
    "process": (PROGRESSIVE, PROGRESSIVE, PRESENT, PAST, PAST, FUTURE, SINCE),
    "decision": (PROGRESSIVE, PROGRESSIVE, PAST, PAST, FUTURE),
    "task": (PROGRESSIVE, PROGRESSIVE, PAST, PAST, FUTURE, SINCE),
    "ongoing": (PROGRESSIVE, PROGRESSIVE, PAST, SINCE),
    "mood": (PROGRESSIVE, PAST),
    "event": (PAST, FUTURE),
    "accident": (PAST,),
    "state": (PRESENT,),
    "lasting": (PRESENT, SINCE),
}
# English; German, with its principal parts if irregular; who does it; then, as needed,
#   [English preposition] [German preposition] case: nouns that make sense ("!": specific ones);
#   at: or to: places; the aspect; and traits: "settled" must say where, "social" may be done with
#   someone, "by" a vehicle, "long" can last years, "punctual" keeps to the calendar, "reflexive".
VERB_TABLE = """
buy/bought; kaufen; people; acc: goods; at: market supermarket
sell/sold; verkaufen; people; acc: goods; at: market
eat/ate; essen, isst, hat gegessen; people; acc: food staple; at: home eatery
drink/drank; trinken, trinkt, hat getrunken; people; acc: drink; at: home eatery
read/read; lesen, liest, hat gelesen; people; acc: reading; at: study green; process
write/wrote; schreiben, schreibt, hat geschrieben; people; acc: writing; at: study hotel
cook; kochen; people; acc: dish; at: kitchen
bake; backen, backt, hat gebacken; people; acc: pastry; at: kitchen bakery
open; auf|machen; people; acc!: closable
close; zu|machen; people; acc!: closable
turn on; ein|schalten; people; acc!: switch; at: room
turn off; aus|schalten; people; acc!: switch; at: room
take/took off; aus|ziehen, zieht, hat gezogen; people; acc!: coat jacket sweater shirt
wear/wore; tragen, trägt, hat getragen; people; acc: clothes ring; mood
carry; tragen, trägt, hat getragen; people; acc: load; to: room
wash; waschen, wäscht, hat gewaschen; people; acc!: shirt dress skirt sweater car
repair; reparieren; grown; acc!: broken; task
paint; streichen, streicht, hat gestrichen; people; acc!: painted; task
clean up; auf|räumen; people; acc!: room
feed/fed; füttern; people; acc!: animal; at: green
lose/lost; verlieren, verliert, hat verloren; people; acc!: small; at: green stop; accident
find/found; finden, findet, hat gefunden; people; acc: small; at: green stop; accident
forget/forgot; vergessen, vergisst, hat vergessen; people; acc!: small book; at: eatery; accident
look; suchen; people; for acc: small animal; at: green; ongoing
bring/brought; mit|bringen, bringt, hat gebracht; people; acc: gift pastry drink
pick up; ab|holen; people; acc: kin guest; at: stop
invite; ein|laden, lädt, hat geladen; people; acc: people
call; an|rufen, ruft, hat gerufen; people; acc: kin doctor teacher policeman
visit; besuchen; people; acc: kin; at: hospital named village
meet/met; treffen, trifft, hat getroffen; people; acc: people; at: town stop study
see/saw; sehen, sieht, hat gesehen; people; acc: people animal vehicle; at: town stop; accident
know/knew; kennen, kennt, hat gekannt; people; acc!: people region sight; state
love; lieben; people; acc!: kin animal; state
learn; lernen; people; acc: language; at: study; process; long
speak/spoke; sprechen, spricht, hat gesprochen; people; acc: language; state
give/gave; geben, gibt, hat gegeben; people; dat: people; acc: gift reading key
lend/lent; leihen, leiht, hat geliehen; people; dat: people; acc: book bicycle umbrella
show; zeigen; people; dat: people; acc: picture ring clothes reading
send/sent; schicken; people; dat: kin; acc: letter poem picture flower present book
tell/told; erzählen; people; dat: people; acc: story
explain; erklären; people; to dat: people; acc!: topic game; task
help; helfen, hilft, hat geholfen; people; dat: people; at: room shop; process
thank; danken; people; dat: people
answer; antworten; people; dat: people
congratulate; gratulieren; people; dat: people
listen; zu|hören; people; to dat: people; process
belong; gehören; clothes thing furniture device car; to dat: people; state
wait; warten; people; for auf acc!: kin guest line; at: stop; process
think/thought; denken, denkt, hat gedacht; people; of an acc!: kin exam concert; mood
talk; sprechen, spricht, hat gesprochen; people; to mit dat!: people; at: town job
talk; sprechen, spricht, hat gesprochen; people; about über acc!: event topic; at: town
dream; träumen; people; of von dat: car bicycle dog horse; mood
remember; erinnern; people; - an acc!: kin event rule; state; reflexive
look forward; freuen; people; to auf acc!: concert party course game movie; mood; reflexive
take/took part; teil|nehmen, nimmt, hat genommen; people; in an dat!: course game concert
get/got; ein|steigen, steigt, ist gestiegen; people; on in acc!: line; at: stop
get/got; aus|steigen, steigt, ist gestiegen; people; off aus dat!: line; at: stop
sleep/slept; schlafen, schläft, hat geschlafen; people animal; at: garden hotel green; process
work; arbeiten; grown; at: job named country; process; social; long
play; spielen; people animal; at: green; process; social
sing/sang; singen, singt, hat gesungen; people; at: church stage green; process; social
dance; tanzen; people; at: eatery beach; process; social
laugh; lachen; people; at: stage green; mood
cry; weinen; people; at: room; mood
swim/swam; schwimmen, schwimmt, ist geschwommen; people dog; at: water; process; social
sit/sat; sitzen, sitzt, hat gesessen; people dog cat; at: home green eatery; process; settled
watch TV; fern|sehen, sieht, hat gesehen; people; at: hotel kitchen; process; social
go/went shopping; ein|kaufen; people; at: shop named; social
get/got up; auf|stehen, steht, ist gestanden; people
wake/woke up; auf|wachen, wacht, ist gewacht; people; at: hotel; accident
fall/fell asleep; ein|schlafen, schläft, ist geschlafen; people; at: garden stage; event
come/came back; zurück|kommen, kommt, ist gekommen; people
live; wohnen; people; at: named country region; lasting; settled; long
stay; bleiben, bleibt, ist geblieben; people; at: named hotel hospital country; decision; settled
go/went; gehen, geht, ist gegangen; people; to: town shop green study; social
run/ran; laufen, läuft, ist gelaufen; people animal; to: green water stop
drive/drove; fahren, fährt, ist gefahren; grown; to: named stop region; social
travel; reisen, reist, ist gereist; people; to: named country; social; by
fly/flew; fliegen, fliegt, ist geflogen; people; to: named country; social
arrive; an|kommen, kommt, ist gekommen; people line plane; at: named; event; settled
leave/left; ab|fahren, fährt, ist gefahren; line ship; event; punctual
begin/began; an|fangen, fängt, hat gefangen; event; event; punctual
take/took place; statt|finden, findet, hat gefunden; course party exam; at: school; event; punctual
"""


def read_verb(line: str) -> Verb:
    en, de, subjects, *columns = line.split("; ")
    arguments: list[Argument] = []
    places: dict[str, tuple[Place, ...]] = {"at": (), "to": ()}
    traits = [column for column in columns if ": " not in column]
    for key, value in (column.split(": ") for column in columns if column not in traits):
        if key in places:
            labels = value.split()
            places[key] = tuple(p for p in PLACES if any(label in p.labels for label in labels))
            continue
        *prepositions, last = key.split()
        en_prep, de_prep, *_ = (*prepositions, "", "")
        case = Case[last.strip("!").upper()]
        bare = Role.DATIVE if case is Case.DAT else Role.ACCUSATIVE
        role, en_prep = Role.PREPOSITIONAL if de_prep else bare, en_prep.strip("-")
        arguments.append(Argument(role, case, select(value), en_prep, de_prep, "!" in last))
    tenses = ASPECTS[next((trait for trait in traits if trait in ASPECTS), "action")]
    verbs, who = (english_verb(en), german_verb(de)), select(subjects)
    return Verb(*verbs, who, tuple(arguments), places["at"], places["to"], tenses, tuple(traits))


VERBS = {verb.name(): verb for verb in map(read_verb, VERB_TABLE.strip().splitlines())}
BE = Verb(EnglishVerb("be"), SEIN)
BECOME = Verb(english_verb("become/became"), WERDEN)
HAVE = Verb(EnglishVerb("have", "had"), HABEN)
KNOW = Verb(english_verb("know/knew"), WISSEN)  # a fact; to know a person is kennen
ASK = Verb(english_verb("ask"), german_verb("fragen"))
COST = Verb(EnglishVerb("cost", "cost"), german_verb("kosten"))
THERE_IS = Verb(EnglishVerb("be"), ES_GIBT)
RAIN = Verb(english_verb("rain"), german_verb("regnen"))
SNOW = Verb(english_verb("snow"), german_verb("schneien"))


# ------------------------------------------------------------------------------------------ clauses


class Phrase(NamedTuple):
    """A part of a clause, said in both languages."""

    role: Role
    text: Pair
    status: Status = Status.KNOWN
    clause: str = ""  # a German clause that belongs to it but may wait for the Nachfeld
    oblique: bool = False  # has a preposition in English, and so follows the bare objects


class Clause(NamedTuple):
    """A thought: who does what to whom, when and where. No language has a say in it yet."""

    verb: Verb
    subject: NounPhrase
    phrases: tuple[Phrase, ...] = ()
    tense: Tense = PRESENT
    modal: Modal | None = None
    negated: bool = False


class Order(Enum):
    STATEMENT = "the finite verb comes second"
    QUESTION = "the finite verb comes first, or second after a question word"
    SUBORDINATE = "the finite verb comes last"
    INFINITIVE = "there is no finite verb, and no subject"


ENGLISH_ORDER = (
    Role.FREQUENCY, Role.DATIVE, Role.ACCUSATIVE, Role.PREDICATE, Role.PREPOSITIONAL,
    Role.DIRECTION, Role.COMPANION, Role.PLACE, Role.MEANS, Role.TIME, Role.REASON, Role.CLAUSE,
)  # fmt: skip
MITTELFELD = (  # pronouns lean to the left bracket, what is new to the right one
    Role.SUBJECT, Status.PRONOUN, Role.TIME, Role.DATIVE, Role.ACCUSATIVE, Role.FREQUENCY,
    Role.NEGATION, Role.COMPANION, Role.MEANS, Role.PLACE, Status.NEW, Role.PREPOSITIONAL,
    Role.DIRECTION, Role.PREDICATE, Role.REASON, Role.CLAUSE,
)  # fmt: skip


def phrase(role: Role, np: NounPhrase, case: Case, en: str = "", de: str = "") -> Phrase:
    """A noun phrase at work: in its case, with its prepositions if it has any."""
    english = words(en, np.en[role is not Role.SUBJECT])
    german = governed(de, np, case) if de else np.de[case]
    return Phrase(role, Pair(english, german), np.status, np.relative, bool(en))


def object_phrase(verb: Verb, argument: Argument, np: NounPhrase) -> Phrase:
    """A noun phrase as this object of the verb."""
    # English has no bare indirect object in front: to whom did he give the book?
    to_whom = np.status is Status.OPENING and argument.role is Role.DATIVE and verb.arguments[1:]
    return phrase(argument.role, np, argument.case, "to" if to_whom else argument.en, argument.de)


def embedded(clause: Pair) -> Phrase:
    """A clause as a part of another: in German never in the Mittelfeld."""
    return Phrase(Role.CLAUSE, Pair(clause.src, ""), clause=clause.tgt)


def english_position(phrase: Phrase) -> int:
    late = phrase.role is Role.DATIVE and phrase.oblique  # explain the rule to him
    return ENGLISH_ORDER.index(Role.PREPOSITIONAL if late else phrase.role)


def german_position(phrase: Phrase) -> int:
    place: Role | Status = phrase.role
    if phrase.role in (Role.DATIVE, Role.ACCUSATIVE) and phrase.status is Status.PRONOUN:
        place = Status.PRONOUN
    elif phrase.role is Role.ACCUSATIVE and phrase.status in (Status.NEW, Status.KEIN):
        place = Status.NEW
    return MITTELFELD.index(place)


def opening(phrases: Sequence[Phrase], order: Order, front: Role | None) -> Phrase | None:
    """What opens the clause in both languages: a question word, what is fronted, the subject."""
    asked = [phrase for phrase in phrases if phrase.status is Status.OPENING]
    fronted = [phrase for phrase in phrases if phrase.role is front]
    subject = phrases[:1] if order is Order.STATEMENT else ()
    return next(iter((*asked, *fronted, *subject)), None)


class Fields(NamedTuple):
    """The topological fields of a German clause."""

    vorfeld: str
    left: str
    mittelfeld: str
    right: str
    nachfeld: tuple[str, ...]

    def __str__(self) -> str:
        return ", ".join((words(*self[:4]), *self.nachfeld))


def brackets(clause: Clause) -> tuple[str, str]:
    """The finite verb and the rest of the verb: (ruft, an), (hat, angerufen), (will, anrufen)."""
    verb, person = clause.verb.de, clause.subject.person
    infinitive = verb.prefix + verb.infinitive
    if clause.modal:
        modal = clause.modal.de_negated if clause.negated else clause.modal.de
        return (modal.preterite if clause.tense is PAST else modal.present)[person], infinitive
    if clause.tense is FUTURE:
        return WERDEN.present[person], infinitive
    if clause.tense is PAST and not verb.preterite:
        auxiliary, participle = verb.perfect.split()
        return (SEIN if auxiliary == "ist" else HABEN).present[person], participle
    return (verb.preterite if clause.tense is PAST else verb.present)[person], verb.prefix


def german(clause: Clause, order: Order, front: Role | None, conjunction: str) -> Fields:
    """Fill the fields."""
    phrases = [phrase(Role.SUBJECT, clause.subject, Case.NOM), *clause.phrases]
    first = opening(phrases, order, front)
    if order is Order.INFINITIVE:
        del phrases[0]
    if clause.negated and all(phrase.status is not Status.KEIN for phrase in phrases):
        phrases.append(Phrase(Role.NEGATION, Pair("", "nicht")))
    inner = [phrase for phrase in sorted(phrases, key=german_position) if phrase is not first]
    if "reflexive" in clause.verb.traits:
        # sich is so light that only a pronoun as the subject comes before it
        oneself = Phrase(Role.ACCUSATIVE, Pair("", REFLEXIVES[clause.subject.person]))
        after = inner and inner[0].role is Role.SUBJECT and inner[0].status is Status.PRONOUN
        inner.insert(bool(after), oneself)
    left, right = brackets(clause)
    if order is Order.SUBORDINATE:
        # a separable prefix is written with its verb as soon as they meet
        together = "" if right == clause.verb.de.prefix else " "
        left, right = conjunction, f"{right}{together}{left}"
    elif order is Order.INFINITIVE:
        left, right = conjunction, clause.verb.de.zu_infinitive()
    vorfeld = first.text.tgt if first else ""
    if first and first.clause:
        vorfeld = f"{vorfeld}, {first.clause},".removeprefix(", ")
    mittelfeld = words(*(phrase.text.tgt for phrase in inner))
    return Fields(vorfeld, left, mittelfeld, right, tuple(p.clause for p in inner if p.clause))


def english(clause: Clause, order: Order, front: Role | None, conjunction: str) -> str:
    """Put the parts in a row: subject, verb, objects, place, time."""
    subject = phrase(Role.SUBJECT, clause.subject, Case.NOM)
    first = opening([subject, *clause.phrases], order, front)
    inner = [phrase for phrase in sorted(clause.phrases, key=english_position) if phrase != first]
    often = inner.pop(0).text.src if inner and inner[0].role is Role.FREQUENCY else ""
    lead, who = conjunction, subject.text.src
    if first and first != subject:
        lead = first.text.src + "," * (first.role is Role.CLAUSE)
    verb, modal = clause.verb.en, clause.modal
    auxiliary, rest, word = (modal.en if modal else verb).forms(clause.tense, clause.subject.person)
    if modal:
        rest = words(rest, modal.link, verb.base)
        word = words(word, modal.link, verb.base) if word else ""
    if order is Order.INFINITIVE:
        beginning = words(conjunction, "to", verb.base)
    elif order is Order.QUESTION and first != subject:
        beginning = words(lead, auxiliary, who, often, rest)
    elif clause.negated:
        beginning = words(lead, who, "cannot" if auxiliary == "can" else f"{auxiliary} not", rest)
    elif word:
        beginning = words(lead, who, often, word)
    else:
        beginning = words(lead, who, auxiliary, often, rest)
    texts = [phrase.text.src for phrase in inner]
    # pick up the guest, but pick him up
    pronoun_first = bool(inner) and inner[0].status is Status.PRONOUN and not inner[0].oblique
    texts.insert(int(pronoun_first), verb.particle)
    return words(beginning, *texts)


NO_CONJUNCTION = Pair("", "")


def render(
    clause: Clause, order: Order = Order.STATEMENT, front: Role | None = None, conjunction: Pair = NO_CONJUNCTION
) -> Pair:
    """Say it in both languages."""
    return Pair(english(clause, order, front, conjunction.src), str(german(clause, order, front, conjunction.tgt)))


def question(clause: Clause) -> Pair:
    en, de = render(clause, Order.QUESTION)
    return Pair(f"{en}?", f"{de}?")


def be(who: NounPhrase, en: str, de: str, tense: Tense = PRESENT, negated: bool = False) -> Clause:
    """A predicate has no ending: the woman is tired, die Frau ist müde."""
    return Clause(BE, who, (Phrase(Role.PREDICATE, Pair(en, de)),), tense, negated=negated)


# -------------------------------------------------------------------- the writer: what makes sense

BECAUSE, ALTHOUGH, IF = Pair("because", "weil"), Pair("although", "obwohl"), Pair("if", "wenn")
WHILE, BEFORE, IN_ORDER = Pair("while", "während"), Pair("before", "bevor"), Pair("in order", "um")
THAT, WHETHER = Pair("that", "dass"), Pair("whether", "ob")
AND, BUT = Pair("and", "und"), Pair("but", "aber")
WHEN = Phrase(Role.TIME, Pair("when", "wann"), Status.OPENING)
WHY = Phrase(Role.REASON, Pair("why", "warum"), Status.OPENING)
WHERE = Phrase(Role.PLACE, Pair("where", "wo"), Status.OPENING)
WHITHER = Phrase(Role.DIRECTION, Pair("where", "wohin"), Status.OPENING)
ATTEMPTS = [
    ("try/tried", "versuchen", PAST),
    ("try/tried", "versuchen", PROGRESSIVE),
    ("promise", "versprechen, verspricht, hat versprochen", PAST),
    ("forget/forgot", "vergessen, vergisst, hat vergessen", PAST),
    ("decide", "beschließen, beschließt, hat beschlossen", PAST),
    ("hope", "hoffen", PRESENT),
    ("begin/began", "an|fangen, fängt, hat gefangen", PAST),
]
MOODS = ("tired", "sick", "hungry", "sad", "happy")
REPORTS = [("say/said", "sagen"), ("believe", "glauben"), ("hope", "hoffen")]
AGES = {"grandmother": (60, 99), "grandfather": (60, 99), "mother": (35, 80), "father": (35, 80),
        "son": (3, 30), "daughter": (3, 30)}  # fmt: skip
CONTENTS = {"furnished": "table chair lamp window", "region": "church hotel school park castle"}
TOO_MUCH = ("big", "small", "expensive", "heavy", "short", "slow", "warm", "cold", "difficult")
SINGULAR, PLURAL = False, True
ALL_VERBS = tuple(VERBS.values())
WILLED = tuple(verb for verb in ALL_VERBS if verb.willed() and verb.en.base != "work")
BUSY = tuple(verb for verb in WILLED if verb.arguments)
NAMED = {word: n.en for n in NOUNS.values() for word in (n.en, n.en_plural)}
NAMED |= {person.en[0]: person.en[0] for person in NAMES}


class Sense(NamedTuple):
    """How a noun is meant, which decides the determiners it may have."""

    specific: bool = False  # the door, my door
    generic: bool = False  # doors
    negated: bool = False  # not a door


SPECIFIC = Sense(specific=True)


@cache
def several(n: int) -> Determiner:
    return Determiner(*number(n), BARE, Status.NEW)


@cache
def uses(noun: Noun) -> tuple[tuple[Verb, Argument | None], ...]:
    """The verbs that the noun goes with, as an object or (None) as the subject."""
    return tuple(
        (verb, argument)
        for verb in ALL_VERBS
        for argument in (None, *verb.arguments)
        if noun in (argument.nouns if argument else verb.subjects)
    )


class Writer:
    """Thinks up sentences. It draws only from random(), whose stream no Python version changes."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random
        self._kinds: list[Callable[[], Pair]] = [
            *[self.statement] * 23, *[self.yes_no_question] * 6, *[self.open_question] * 9,
            *[self.reasoned] * 12, *[self.meanwhile] * 5, *[self.coordinated] * 3,
            *[self.reported] * 9, *[self.related] * 8, *[self.intended] * 9, *[self.described] * 9,
            *[self.counted] * 7,
        ]  # fmt: skip

    def sentence(self) -> Pair:
        """Any sentence that a good writer would let pass."""
        while True:
            en, de = self.one(self._kinds)()
            said = re.findall(r"\w+", en)
            named = [NAMED[word] for word in said if word in NAMED]
            moods = [word for word in said if word in MOODS]
            asks_himself = en.endswith("?") and ("I" in said or said.count("you") > 1)
            repeats = len(named) > len(set(named)) or len(moods) > 1
            if 4 <= len(en.split()) <= 22 and not repeats and not asks_himself:
                mark = "" if en.endswith("?") else "."
                return Pair(en[0].upper() + en[1:] + mark, de[0].upper() + de[1:] + mark)

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def one(self, items: Sequence[T]) -> T:
        return items[int(self._random() * len(items))]

    def between(self, low: int, high: int) -> int:
        return low + int(self._random() * (high - low + 1))

    # noun phrases and places

    def adjective(self, noun: Noun, probability: float) -> Adjective | None:
        fitting = adjectives_for(noun)
        return self.one(fitting) if fitting and self.chance(probability) else None

    def possessive(self, owner: NounPhrase | None) -> Determiner:
        """Mostly the subject's own, if there is one: Anna sells her bicycle."""
        if owner and owner.echo and self.chance(0.7):
            return POSSESSIVES[owner.echo]
        if not owner and self.chance(0.15):
            someone = self.one(NAMES[:12])  # the others would want an apostrophe: Max' Vater
            return Determiner(f"{someone.en[0]}'s", f"{someone.de[0]}s", BARE)
        return POSSESSIVES[self.one(("I", "you", "we") if owner else tuple(POSSESSIVES))]

    def noun(self, noun: Noun, owner: NounPhrase | None = None, sense: Sense = SPECIFIC) -> NounPhrase:
        """A noun with a determiner that makes sense, and perhaps an adjective."""
        own, some = self.possessive(owner), NOT_ANY if sense.negated else SOME
        if owner and owner.echo and "clothes" in noun.labels:
            own = POSSESSIVES[owner.echo]
        options = [(THE, SINGULAR)] * 4 + [(THIS, SINGULAR), (THE, PLURAL)]
        if "kin" in noun.labels:
            options = [(own, SINGULAR)] * 6 + [(own, PLURAL)]
        elif "language" in noun.labels:
            options = [(some, SINGULAR)]
        elif "mass" in noun.labels:
            options = [(THE, SINGULAR)] * (not sense.generic or sense.specific)
            options += [(some, SINGULAR)] * (3 * (not sense.specific))
        elif sense.generic and not sense.specific and "person" not in noun.labels:
            options = [(some, PLURAL)]
        else:
            if owner and noun in select("owned"):
                each = owner.person in (Person.PL1, Person.PL3) and "clothes" in noun.labels
                options += [(own, each)] * 3  # their coats, but their car
            if not sense.specific:
                options += [(NOT_A if sense.negated else A, SINGULAR)] * 4
            if not sense.specific and noun in select("many"):
                count = some if sense.negated else several(self.between(2, 12))
                options += [(some, PLURAL), (count, PLURAL), (count, PLURAL)]
        counted = noun.de_plural and "line" not in noun.labels  # one gets on one bus
        determiner, plural = self.one([o for o in options if o[1] is SINGULAR or counted])
        return noun_phrase(noun, determiner, self.adjective(noun, 0.35), plural)

    def somebody(self, nouns: Sequence[Noun], other: NounPhrase | None = None, sense: Sense = SPECIFIC) -> NounPhrase:
        """Someone or something among these nouns, somehow related to the `other` one."""
        draw = self._random()
        if NOUNS["mother"] not in nouns or draw > 0.5:
            return self.noun(self.one(nouns), other, sense)
        if draw < 0.29:
            blocked = (other.echo, {"I": "we", "we": "I"}.get(other.echo)) if other else ()
            echoes = ("I", "I", "you", "you", "he", "she", "we", "they")
            return PRONOUNS[self.one([echo for echo in echoes if echo not in blocked])]
        one, two = self.one(NAMES), self.one(NAMES)
        if draw < 0.46 or other:
            return one
        return name(f"{one.en[0]} and {two.en[0]}", f"{one.de[0]} und {two.de[0]}", "they")

    def place(self, places: Sequence[Place], role: Role) -> Phrase:
        """wo? is the dative; wohin? the accusative after in, an, auf, not after zu and nach."""
        place = self.one(places)
        en, de = place.to if role is Role.DIRECTION else place.at
        case = Case.ACC if role is Role.DIRECTION and de in ("in", "an", "auf") else Case.DAT
        np = place.where
        if isinstance(np, Noun) and "unsaid" in np.labels:
            np = noun_phrase(np, UNSAID)
        elif isinstance(np, Noun):
            adjective = self.adjective(np, 0.25)
            article = self.one([THE] * 7 + [THIS] + [A] * (adjective is not None))
            np = noun_phrase(np, article, adjective)
        return phrase(role, np, case, en, de)

    # time

    def term(self, en: str, de: str, nouns: str) -> Pair:
        """last week: an accusative that stands by itself, letzte Woche."""
        np = noun_phrase(self.one(select(nouns)), Determiner(en, de, STRONG))
        return Pair(np.en[1], np.de[Case.ACC])

    def span(self, en: str, de: str, units: str) -> Pair:
        """two days ago: a dative, vor zwei Tagen."""
        unit = self.one(select(units))
        count = several(self.between(2, 59 if unit.en == "minute" else 9))
        np = noun_phrase(unit, count, plural=True)
        return Pair(en.format(np.en[1]), governed(de, np, Case.DAT))

    def calendar(self) -> Pair:
        """A weekday, a date, an hour."""
        day, month = self.one(select("weekday")), self.between(0, 11)
        on_day = Pair(f"on {day.en}", f"am {day.de}")
        on_date = date(self.between(1, MONTH_LENGTHS[month]), MONTHS[month])
        hour = clock(self.between(1, 12), self.one((0, 5, 10, 15, 20, 30, 40, 45, 50, 55)))
        evening = Pair(f"{on_day.src} evening", f"{on_day.tgt}abend")
        both = Pair(f"{on_day.src} {hour.src}", f"{on_day.tgt} {hour.tgt}")
        return self.one((on_day, evening, on_date, on_date, on_date, hour, hour, both))

    def time(self, tense: Tense, verb: Verb) -> Phrase:
        """A time that goes with the tense; the simple present is for habits."""
        kind = self.one(("word", "term", "span", "calendar", "calendar"))
        kind = "calendar" if "punctual" in verb.traits else kind
        if tense is PRESENT and self.chance(0.5):
            return Phrase(Role.FREQUENCY, self.one(FREQUENCIES))
        if tense is SINCE:
            units = "month year" if "long" in verb.traits else "minute hour"
            text = self.span("for {}", "seit", units)
        elif tense is PROGRESSIVE or kind == "word":
            text = self.one(TIMES[tense])
        elif tense is PRESENT:
            text = self.term("every", "jed", "day week morning evening weekday")
        elif kind == "calendar":
            text = self.calendar()
        elif kind == "span":
            text = self.span(*(("{} ago", "vor") if tense is PAST else ("in {}", "in")), "unit")
        else:
            last_or_next = ("last", "letzt") if tense is PAST else ("next", "nächst")
            text = self.term(*last_or_next, "week month year summer winter weekday")
        return Phrase(Role.TIME, text)

    # clauses

    def clause(
        self,
        verb: Verb,
        subject: NounPhrase | None = None,
        tense: Tense | None = None,
        *,
        given: Phrase | None = None,
        negated: bool = False,
        brief: bool = False,
    ) -> Clause:
        """What may happen with this verb; `given` stands for the phrase with its role."""
        stative = PAST not in verb.tenses
        once = [t for t in verb.tenses if stative or t not in (PRESENT, SINCE)]
        tense = tense or self.one(once if negated or brief or given else verb.tenses)
        subject = subject or self.somebody(verb.subjects)
        modal, human = None, subject.echo or subject is WHO
        if verb.willed() and human and tense in (PROGRESSIVE, PAST) and self.chance(0.25 - brief):
            tense = PRESENT if tense is PROGRESSIVE else PAST
            modals = [modal for modal in MODALS if tense in modal.tenses]
            modal = self.one(modals[:-1] if negated else modals)  # would not like to: too polite
        habitual = tense is PRESENT and not modal and not stative
        role, phrases = (given.role, [given]) if given else (None, [])
        for argument in verb.arguments:
            if argument.role is not role:
                specific = argument.specific or (negated and argument.role is not Role.ACCUSATIVE)
                np = self.somebody(argument.nouns, subject, Sense(specific, habitual, negated))
                phrases.append(object_phrase(verb, argument, np))
        placed = "settled" in verb.traits or self.chance(0 if brief or negated else 0.35)
        if verb.at and role is not Role.PLACE and placed:
            phrases.append(self.place(verb.at, Role.PLACE))
        if verb.to and role is not Role.DIRECTION:
            phrases.append(self.place(verb.to, Role.DIRECTION))
        if "social" in verb.traits and self.chance(0.2):
            friend = self.somebody(select("people"), subject)
            phrases.append(phrase(Role.COMPANION, friend, Case.DAT, "with", "mit"))
        elif "by" in verb.traits and self.chance(0.3):
            vehicle = self.one(select("train bus plane car"))
            by_vehicle = governed("mit", noun_phrase(vehicle, THE), Case.DAT)
            phrases.append(Phrase(Role.MEANS, Pair(f"by {vehicle.en}", by_vehicle)))
        timed = habitual or tense is SINCE or ((modal or not stative) and self.chance(0.6))
        if timed and not brief and role is not Role.TIME:
            phrases.append(self.time(FUTURE if modal and tense is PRESENT else tense, verb))
        return Clause(verb, subject, tuple(phrases), tense, modal, negated)

    def with_noun(self, verb: Verb, argument: Argument | None, np: NounPhrase) -> Clause:
        """A clause, not of the future, with this noun phrase as that object, or as the subject."""
        tense = self.one([t for t in verb.tenses if t in (PROGRESSIVE, PAST)] or [PRESENT])
        if argument is None:
            return self.clause(verb, np, tense, brief=True)
        return self.clause(verb, None, tense, given=object_phrase(verb, argument, np), brief=True)

    def asking(self) -> Clause:
        """A clause in which one part is asked for."""
        verb = self.one(ALL_VERBS)
        unknown: list[Phrase | None] = [None] * (NOUNS["mother"] in verb.subjects)  # the subject
        for argument in verb.arguments:
            if argument.nouns == select("language"):
                continue
            noun = self.one([n for n in argument.nouns if "kin" not in n.labels] or select("man"))
            human = argument.nouns[0].labels[1] in ("person", "kin")
            many = argument.role is Role.ACCUSATIVE and noun in select("many") and self.chance(0.5)
            which = noun_phrase(noun, HOW_MANY if many else WHICH, plural=many)
            bare = not argument.en and not argument.de
            np = self.one((which, WHO if human else WHAT if bare else which))
            unknown.append(object_phrase(verb, argument, np))
        unknown += [WHEN, WHY] * (PAST in verb.tenses)
        unknown += [WHERE] * bool(verb.at) + [WHITHER] * bool(verb.to)
        given = self.one(unknown)
        if given is None:
            return self.clause(verb, WHO)
        timed = [tense for tense in verb.tenses if tense in (PAST, FUTURE)]
        return self.clause(verb, None, self.one(timed) if given is WHEN else None, given=given)

    def circumstance(self, who: NounPhrase, tense: Tense, good: bool) -> Clause:
        """What helps or hinders any action; only the weather if nobody can be referred to."""
        if not who.echo and good:
            return be(IT, "warm", "warm", tense)
        if not who.echo or (not good and self.chance(0.2)):
            return Clause(self.one((RAIN, SNOW)), IT, (), PAST if tense is PAST else PROGRESSIVE)
        time = noun_phrase(NOUNS["time"], SOME if good else NOT_ANY)
        has_time = Clause(HAVE, who, (phrase(Role.ACCUSATIVE, time, Case.ACC),), negated=not good)
        has_to_work = Clause(VERBS["work"], who, modal=HAVE_TO, negated=good)
        mood = ADJECTIVES["tired" if good else self.one(MOODS[:-1])]
        feels = be(who, mood.en, mood.de, negated=good)
        return self.one((has_time, has_to_work, feels))._replace(tense=tense)

    # the kinds of sentences

    def statement(self) -> Pair:
        """A main clause, sometimes with the time or the place in front."""
        clause = self.clause(self.one(ALL_VERBS), negated=self.chance(0.15))
        return self.fronted(clause)

    def fronted(self, clause: Clause) -> Pair:
        roles = [phrase.role for phrase in clause.phrases]
        movable = not clause.verb.arguments and "settled" not in clause.verb.traits
        if Role.TIME in roles and self.chance(0.45):
            return render(clause, front=Role.TIME)
        if Role.PLACE in roles and movable and self.chance(0.4):
            return render(clause, front=Role.PLACE)
        return render(clause)

    def yes_no_question(self) -> Pair:
        return question(self.clause(self.one(ALL_VERBS)))

    def open_question(self) -> Pair:
        return question(self.asking())

    def joined(self, main: Clause, conjunction: Pair, side: Clause) -> Pair:
        """Either clause may come first; a pronoun takes up the noun in the second."""
        who, front = main.subject, self.chance(0.4)
        if side.subject == who and who.echo:
            again = PRONOUNS[who.echo]
            main = main._replace(subject=again if front else who)
            side = side._replace(subject=who if front else again)
        inner = embedded(render(side, Order.SUBORDINATE, conjunction=conjunction))
        whole = main._replace(phrases=(*main.phrases, inner))
        return render(whole, front=Role.CLAUSE if front else None)

    def reasoned(self) -> Pair:
        """because, although, if."""
        conjunction, good, negated = self.one(
            ((BECAUSE, True, False), (BECAUSE, False, True), (ALTHOUGH, False, False), (IF, True, False))
        )
        tense = FUTURE if conjunction is IF else self.one((PAST, PROGRESSIVE))
        main = self.clause(self.one(WILLED), tense=tense, negated=negated, brief=True)
        side = self.circumstance(main.subject, PAST if tense is PAST else PRESENT, good)
        return self.joined(main, conjunction, side)

    def both(self, tense: Tense, same: bool, negated: bool = False) -> tuple[Clause, Clause]:
        """Two things done in the same tense, by the same or by different people."""
        one = self.clause(self.one(BUSY), tense=tense, brief=True)
        who = one.subject
        while not same and who.echo == one.subject.echo:  # a pronoun must not point to the other
            who = self.somebody(select("adult"), one.subject)
        verb = self.one([verb for verb in BUSY if verb.de != one.verb.de])
        return one, self.clause(verb, who, tense, negated=negated, brief=True)

    def meanwhile(self) -> Pair:
        """while, before."""
        if self.chance(0.5):
            main, side = self.both(PAST, same=True)
            return self.joined(main, BEFORE, side)
        main, side = self.both(PROGRESSIVE, same=False)
        return self.joined(main, WHILE, side)

    def coordinated(self) -> Pair:
        """and, but."""
        negated = self.chance(0.5)
        clauses = self.both(self.one((PAST, PROGRESSIVE)), same=False, negated=negated)
        link, (one, two) = BUT if negated else AND, map(render, clauses)
        return Pair(f"{one.src}, {link.src} {two.src}", f"{one.tgt}, {link.tgt} {two.tgt}")

    def reported(self) -> Pair:
        """that, whether, and questions inside a sentence."""
        who, verb = self.somebody(select("people")), self.one(ALL_VERBS)
        content = self.clause(verb, self.somebody(verb.subjects, who))
        other = who.echo not in ("I", "you", "we")  # nobody says what he says himself
        kind = self.one(("that", "that", "whether", "question"))
        if kind == "that":
            en, de = self.one(REPORTS[not other : 3 if content.tense is FUTURE else 2])
            that = embedded(render(content, Order.SUBORDINATE, conjunction=THAT))
            return render(Clause(Verb(english_verb(en), german_verb(de)), who, (that,)))
        if kind == "whether":
            unknown = embedded(render(content, Order.SUBORDINATE, conjunction=WHETHER))
        else:
            unknown = embedded(render(self.asking(), Order.SUBORDINATE))
        if self.chance(0.25):
            return question(Clause(KNOW, PRONOUNS["you"], (unknown,)))
        ways = (
            Clause(KNOW, who, (unknown,), negated=True),
            Clause(KNOW, who, (unknown,), modal=WANT_TO),
            Clause(ASK, who, (unknown,)),
        )
        return render(self.one(ways if other else ways[:-1]))

    def related(self) -> Pair:
        """A relative clause at the subject, or at the object, where it waits for the Nachfeld."""
        noun = self.one(select("person clothes thing furniture device reading animal car"))
        human = "person" in noun.labels
        head = noun_phrase(noun, THE, self.adjective(noun, 0.2), self.chance(0.2))
        inner = [(v, a) for v, a in uses(noun) if human or not a or not a.en]
        clause = self.with_noun(*self.one(inner), relative_pronoun(head, human))
        en, de = render(clause, Order.SUBORDINATE)
        # von dem Hund, der ...: a noun that is pointed at keeps its article whole
        head = head._replace(en=(f"{head.en[0]} {en}",) * 2, relative=de, contracts=False)
        outer = [
            (v, a) for v, a in uses(noun) if v.de != clause.verb.de and (not a or (a == v.arguments[-1] and not v.to))
        ]
        return render(self.with_noun(*self.one(outer), head))

    def intended(self) -> Pair:
        """Infinitives with zu, and with um ... zu, for which one goes to the right place."""
        verb, who = self.one(WILLED), self.somebody(select("people"))
        inner = self.clause(verb, who, brief=True)
        simple = all(argument.role is not Role.PREPOSITIONAL for argument in verb.arguments)
        if verb.at and simple and "settled" not in verb.traits and self.chance(0.6):
            place = self.one(verb.at)
            far = {"named", "stop", "region", "country"} & {*place.labels}
            go = VERBS["drive" if far else "go"]
            aim = embedded(render(inner, Order.INFINITIVE, conjunction=IN_ORDER))
            there = self.place((place,), Role.DIRECTION)
            return render(Clause(go, who, (there, aim), self.one((PAST, FUTURE))))
        # one begins only what takes a while
        lasting = SINCE in verb.tenses and "settled" not in verb.traits
        en, de, tense = self.one(ATTEMPTS if lasting else ATTEMPTS[:-1])
        aim = embedded(render(inner, Order.INFINITIVE))
        return render(Clause(Verb(english_verb(en), german_verb(de)), who, (aim,), tense))

    def described(self) -> Pair:
        """Professions, comparisons, and adjectives after be."""
        who = self.somebody(select("mother father sister brother aunt uncle"))
        if who.echo in ("he", "she") and self.chance(0.3):
            en, he, she = self.one(JOBS)
            job = Phrase(Role.PREDICATE, Pair(en, he if who.echo == "he" else she))
            become = Clause(BECOME, who, (job,), modal=self.one((WANT_TO, WOULD_LIKE_TO)))
            return render(self.one((become, Clause(BE, who, (job,)))))
        nouns = [noun for noun in select(self.one(list(SUITED))) if "unsaid" not in noun.labels]
        one, two = self.one(nouns), self.one(nouns)
        this, that = (
            noun_phrase(n, self.possessive(None) if "kin" in n.labels else self.one((THE, THIS))) for n in (one, two)
        )
        adjective = self.one(adjectives_for(one))
        more = adjective.comparative
        if more and one != two and adjective in adjectives_for(two) and self.chance(0.5):
            than = f"{more.src} than {that.en[1]}", f"{more.tgt} als {that.de[Case.NOM]}"
            return render(be(this, *than))
        degrees = [Pair("", ""), Pair("very", "sehr"), Pair("too", "zu")]
        degree = self.one(degrees[: 3 if adjective.en in TOO_MUCH else 2 if more else 1])
        en, de = words(degree.src, adjective.en), words(degree.tgt, adjective.de)
        if self.chance(0.3):
            return question(be(this, en, de))
        return render(be(this, en, de, self.one((PRESENT, PAST)), self.chance(0.2)))

    def counted(self) -> Pair:
        """Ages, prices, and what there is."""
        kind = self.one(("age", "price", "there is"))
        if kind == "age":
            noun = self.one(select("kin"))
            kin = noun_phrase(noun, self.possessive(None))
            who = self.one((kin, self.one(NAMES), self.one(tuple(PRONOUNS.values()))))
            en, de = number(self.between(*AGES.get(noun.en, (4, 99))))
            return render(be(who, f"{en} years old", f"{de} Jahre alt"))
        many = several(self.between(2, 99))
        if kind == "price":
            euros = phrase(Role.ACCUSATIVE, noun_phrase(NOUNS["euro"], many, plural=True), Case.ACC)
            thing = self.noun(self.one(select("clothes device furniture thing")))
            return render(Clause(COST, thing, (euros,)))
        label, contents = self.one(list(CONTENTS.items()))
        plural = label == "furnished"
        noun = self.one(select(contents))
        what = noun_phrase(noun, many if plural else A, self.adjective(noun, 0.4), plural)
        where = self.place([place for place in PLACES if label in place.labels], Role.PLACE)
        there_is = phrase(Role.ACCUSATIVE, what, Case.ACC)
        return self.fronted(Clause(THERE_IS, THERE[plural], (where, there_is)))


# --------------------------------------------------------------------------------------- the corpus

MAX_PAIRS = 200_000  # the grammar holds many more, but new ones become slow to find
PATIENCE = 2_000  # sentences in a row that are old, or contain an unknown word


def generate(
    seed: int, train_size: int = 24_000, valid_size: int = 500, test_size: int = 1_000
) -> dict[str, list[Pair]]:
    """Make the corpus: "train", "valid" and "test", the same for a seed wherever it is made.

    No source sentence comes twice. Every word of a valid or test pair, with the punctuation that
    clings to it, is in train: only their combination is new.

    Raises ValueError if the grammar cannot make that much.
    """
    sizes = {"train": train_size, "valid": valid_size, "test": test_size}
    total = sum(sizes.values())
    if min(sizes.values()) < 0:
        raise ValueError(f"the sizes of a demo corpus cannot be negative: {sizes}")
    if total > MAX_PAIRS:
        raise ValueError(f"the demo grammar makes {MAX_PAIRS} pairs at most, not {total}")
    writer = Writer(seed)
    corpus: dict[str, list[Pair]] = {split: [] for split in sizes}
    seen: set[str] = set()
    known: set[tuple[int, str]] = set()
    for split, size in sizes.items():
        failures = 0
        while len(corpus[split]) < size:
            pair = writer.sentence()
            tokens = {(side, token) for side in (0, 1) for token in pair[side].split()}
            if split == "train":
                known |= tokens
            if pair.src not in seen and tokens <= known:
                seen.add(pair.src)
                corpus[split].append(pair)
                failures = 0
            elif (failures := failures + 1) == PATIENCE:
                raise ValueError(
                    f"the words of {train_size} training pairs are enough for only "
                    f"{len(corpus[split])} of {size} {split} pairs"
                )
    return corpus
