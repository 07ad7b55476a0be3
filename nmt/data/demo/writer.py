"""The writer of sentences, who knows what makes sense."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple, TypeVar

from nmt.data.demo.clauses import (
    Clause,
    Order,
    Phrase,
    be,
    embedded,
    ended,
    object_phrase,
    partnered,
    phrase,
    question,
    render,
)
from nmt.data.demo.inflection import (
    BARE,
    FUTURE,
    HAVE_TO,
    HOW_MANY,
    IT,
    MODALS,
    NOT_A,
    NOT_ANY,
    PAST,
    POSSESSIVES,
    PRESENT,
    PROGRESSIVE,
    PRONOUNS,
    SINCE,
    SOME,
    STRONG,
    THE,
    THERE,
    THIS,
    UNSAID,
    WANT_TO,
    WHAT,
    WHICH,
    WHO,
    WOULD_LIKE_TO,
    A,
    Adjective,
    Case,
    Determiner,
    Noun,
    NounPhrase,
    Person,
    Status,
    Tense,
    clock,
    date,
    english_verb,
    german_verb,
    governed,
    name,
    noun_phrase,
    number,
    relative_pronoun,
)
from nmt.data.demo.lexicon import (
    ADJECTIVES,
    ASK,
    BE,
    BECOME,
    COST,
    FREQUENCIES,
    HAVE,
    JOBS,
    KNOW,
    MONTH_LENGTHS,
    MONTHS,
    NAMES,
    NOUNS,
    PLACES,
    RAIN,
    SNOW,
    SUITED,
    THERE_IS,
    TIMES,
    VERBS,
    Argument,
    Place,
    Role,
    Verb,
    adjectives_for,
    select,
)
from nmt.data.demo.pair import Pair, numbered, rewritten, tagged, word_by_word, words

T = TypeVar("T")

BECAUSE, ALTHOUGH, IF = Pair("because", "weil"), Pair("although", "obwohl"), Pair("if", "wenn")
WHILE, BEFORE, IN_ORDER = Pair("while", "während"), Pair("before", "bevor"), Pair("in order", "um")
THAT, WHETHER = Pair("that", "dass"), Pair("whether", "ob")
AND, BUT = Pair("and", "und"), Pair("but", "aber")
WHEN = Phrase(Role.TIME, word_by_word("when", "wann"), Status.OPENING)
WHY = Phrase(Role.REASON, word_by_word("why", "warum"), Status.OPENING)
WHERE = Phrase(Role.PLACE, word_by_word("where", "wo"), Status.OPENING)
WHITHER = Phrase(Role.DIRECTION, word_by_word("where", "wohin"), Status.OPENING)
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
                begun = Pair(*(rewritten(text, text[0].upper() + text[1:]) for text in (en, de)))
                return begun if en.endswith("?") else ended(begun, ".")

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
        return partnered(Pair(np.en[1], np.de[Case.ACC]), np)

    def span(self, en: str, de: str, units: str) -> Pair:
        """two days ago: a dative, vor zwei Tagen."""
        unit = self.one(select(units))
        count = several(self.between(2, 59 if unit.en == "minute" else 9))
        np = noun_phrase(unit, count, plural=True)
        before, after = (tagged(part.strip(), "preposition") for part in en.split("{}"))
        return Pair(words(before, np.en[1], after), governed(de, np, Case.DAT))

    def calendar(self) -> Pair:
        """A weekday, a date, an hour."""
        day, month = self.one(select("weekday")), self.between(0, 11)
        on_day = word_by_word(f"on {day.en}", f"am {day.de}")
        on_date = date(self.between(1, MONTH_LENGTHS[month]), MONTHS[month])
        hour = clock(self.between(1, 12), self.one((0, 5, 10, 15, 20, 30, 40, 45, 50, 55)))
        evening = Pair(words(on_day.src, tagged("evening", "1")), rewritten(on_day.tgt, f"{on_day.tgt}abend"))
        both = Pair(*(words(one, numbered(other, "hour")) for one, other in zip(on_day, hour, strict=True)))
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
            np = noun_phrase(vehicle, THE)
            by = words(tagged("by", "preposition"), tagged(vehicle.en, "noun"))
            phrases.append(Phrase(Role.MEANS, partnered(Pair(by, governed("mit", np, Case.DAT)), np)))
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
        link = BUT if negated else AND
        one, two = (Pair(*(numbered(text, n) for text in render(clause))) for n, clause in enumerate(clauses))
        sides = zip(ended(one, ","), link, two, strict=True)
        return Pair(*(words(first, tagged(and_, "and"), second) for first, and_, second in sides))

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
        en, de = (numbered(text, "relative") for text in (en, de))
        head = head._replace(en=(words(head.en[0], en),) * 2, relative=de, contracts=False)
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
            job = Phrase(Role.PREDICATE, word_by_word(en, he if who.echo == "he" else she))
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
            than = Pair(tagged("than", "than"), tagged("als", "than"))
            sides = zip(more, than, (that.en[1], that.de[Case.NOM]), strict=True)
            english, german = (words(tagged(one, "more"), link, np) for one, link, np in sides)
            return render(be(this, english, german))
        degrees = [Pair("", ""), Pair("very", "sehr"), Pair("too", "zu")]
        degree = self.one(degrees[: 3 if adjective.en in TOO_MUCH else 2 if more else 1])
        en, de = (
            words(tagged(how, "degree"), tagged(what, "adjective"))
            for how, what in zip(degree, (adjective.en, adjective.de), strict=True)
        )
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
            return render(be(who, *word_by_word(f"{en} years old", f"{de} Jahre alt")))
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
