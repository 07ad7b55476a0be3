"""A clause, thought up once and read out twice: in a row in English, in topological fields in German."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from nmt.data.demo.inflection import (
    FUTURE,
    HABEN,
    PAST,
    PRESENT,
    REFLEXIVES,
    SEIN,
    WERDEN,
    Case,
    Modal,
    NounPhrase,
    Status,
    Tense,
    governed,
)
from nmt.data.demo.lexicon import BE, Argument, Role, Verb
from nmt.data.demo.pair import Pair, words


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
