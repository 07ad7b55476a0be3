"""The words there are and what makes sense with them: a table for each kind, and its reader."""

from __future__ import annotations

from enum import Enum
from functools import cache
from typing import NamedTuple

from nmt.data.demo.inflection import (
    ES_GIBT,
    FUTURE,
    HABEN,
    PAST,
    PRESENT,
    PROGRESSIVE,
    SEIN,
    SINCE,
    WERDEN,
    WISSEN,
    Adjective,
    Case,
    EnglishVerb,
    Form,
    GermanVerb,
    Noun,
    NounPhrase,
    Tense,
    english_verb,
    german_verb,
    name,
    with_s,
)
from nmt.data.demo.pair import Pair, bilingual, words

# -------------------------------------------------------------------------------------------- nouns

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


# ------------------------------------------------------------------------- adjectives, names, times

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


# -------------------------------------------------------------------------------------------- verbs

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
