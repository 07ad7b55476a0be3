"""A clause, thought up once and read out twice: in a row in English, in topological fields in German."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from functools import lru_cache
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
    GermanVerb,
    Modal,
    NounPhrase,
    Status,
    Tense,
    governed,
)
from nmt.data.demo.lexicon import BE, Argument, Role, Verb
from nmt.data.demo.pair import (
    FINITE,
    NOT,
    VERB,
    Pair,
    Tags,
    Text,
    closed,
    compound,
    numbered,
    rewritten,
    tagged,
    tags_of,
    word_by_word,
    words,
)


class Phrase(NamedTuple):
    """A part of a clause, said in both languages."""

    role: Role
    text: Pair
    status: Status = Status.KNOWN
    clause: str = ""  # a German clause that belongs to it but may wait for the Nachfeld
    oblique: bool = False  # has a preposition in English, and so follows the bare objects

    def numbered(self, number: int) -> Phrase:
        """As part ``number`` of a clause."""
        text = Pair(*(numbered(side, number) for side in self.text))
        return self._replace(text=text, clause=numbered(self.clause, number) if self.clause else "")


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
    english = words(tagged(en, "preposition"), np.en[role is not Role.SUBJECT])
    german = governed(de, np, case) if de else np.de[case]
    return Phrase(role, partnered(Pair(english, german), np), np.status, np.relative, bool(en))


def partnered(pair: Pair, np: NounPhrase) -> Pair:
    """Align the words of a phrase that only one language has: with the verb, with nicht, or with the noun.

    The verb asks for a preposition. "not ... a" is kein. The rest are articles: in Switzerland, in der Schweiz.
    """
    src, tgt = _partnered(tags_of(pair.src), tags_of(pair.tgt), tags_of(np.relative), np.status is Status.KEIN)
    return Pair(Text.of(pair.src, src), Text.of(pair.tgt, tgt))


@lru_cache(1 << 14)
def _partnered(src: Sequence[Tags], tgt: Sequence[Tags], relative: Sequence[Tags], kein: bool) -> list[Sequence[Tags]]:
    """The tags of both sides of a phrase, see :func:`partnered`."""
    one, other, clause = ({tag for tags in side for tag in tags} for side in (src, tgt, relative))
    shared = one & (other | clause)

    def partner(tag: str) -> str:
        if tag in shared or tag[0] == "^":
            return tag
        return VERB if tag == "preposition" else NOT if kein else "noun"

    english, german = (tuple(tuple(map(partner, tags)) for tags in side) for side in (src, tgt))
    if kein:  # the one word says both "not" and "a"
        german = (german[0] + (NOT,), *german[1:])
    return [english, german]


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

    def text(self) -> Text:
        parts = (words(*self[:4]), *self.nachfeld)
        return rewritten(words(*parts), ", ".join(parts))


def brackets(clause: Clause) -> tuple[str, str]:
    """The finite verb and the rest of the verb: (ruft, an), (hat, angerufen), (will, anrufen)."""
    verb, person = clause.verb.de, clause.subject.person
    infinitive = tagged(verb.prefix + verb.infinitive, VERB)
    if clause.modal:
        modal = clause.modal.de_negated if clause.negated else clause.modal.de
        return tagged((modal.preterite if clause.tense is PAST else modal.present)[person], FINITE), infinitive
    if clause.tense is FUTURE:
        return tagged(WERDEN.present[person], FINITE), infinitive
    if clause.tense is PAST and not verb.preterite:
        auxiliary, participle = verb.perfect.split()
        return tagged((SEIN if auxiliary == "ist" else HABEN).present[person], FINITE), tagged(participle, VERB)
    finite = (verb.preterite if clause.tense is PAST else verb.present)[person]
    return tagged(finite, FINITE, VERB), tagged(verb.prefix, VERB)


def zu_infinitive(verb: GermanVerb) -> Text:
    """With zu as the mark of the infinitive: zu kaufen, but aufzumachen in one word."""
    text = verb.zu_infinitive()
    if verb.prefix:
        return tagged(text, FINITE, VERB)
    zu, infinitive = text.split()
    return words(tagged(zu, FINITE), tagged(infinitive, VERB))


def parts(clause: Clause) -> list[Phrase]:
    """The subject and the other phrases, numbered."""
    phrases = phrase(Role.SUBJECT, clause.subject, Case.NOM), *clause.phrases
    return [each.numbered(number) for number, each in enumerate(phrases)]


def german(clause: Clause, phrases: Sequence[Phrase], order: Order, front: Role | None, conjunction: str) -> Fields:
    """Fill the fields with the phrases, of which the first is the subject."""
    phrases = list(phrases)
    first = opening(phrases, order, front)
    if order is Order.INFINITIVE:
        del phrases[0]
    if clause.negated and all(phrase.status is not Status.KEIN for phrase in phrases):
        phrases.append(Phrase(Role.NEGATION, Pair("", tagged("nicht", NOT))))
    inner = [phrase for phrase in sorted(phrases, key=german_position) if phrase is not first]
    if "reflexive" in clause.verb.traits:
        # sich is so light that only a pronoun as the subject comes before it
        oneself = Phrase(Role.ACCUSATIVE, Pair("", tagged(REFLEXIVES[clause.subject.person], VERB)))
        after = inner and inner[0].role is Role.SUBJECT and inner[0].status is Status.PRONOUN
        inner.insert(bool(after), oneself)
    left, right = brackets(clause)
    if order is Order.SUBORDINATE:
        # a separable prefix is written with its verb as soon as they meet
        together = compound if right == clause.verb.de.prefix else words
        left, right = conjunction, together(right, left)
    elif order is Order.INFINITIVE:
        left, right = conjunction, zu_infinitive(clause.verb.de)
    vorfeld = first.text.tgt if first else ""
    if first and first.clause:
        vorfeld = rewritten(words(vorfeld, first.clause), f"{vorfeld}, {first.clause},".removeprefix(", "))
    mittelfeld = words(*(phrase.text.tgt for phrase in inner))
    return Fields(vorfeld, left, mittelfeld, right, tuple(p.clause for p in inner if p.clause))


def english_verb_forms(clause: Clause) -> tuple[Text, Text, Text]:
    """As :meth:`nmt.data.demo.inflection.EnglishVerb.forms`, of a modal with the verb that follows it."""
    verb, modal = clause.verb.en, clause.modal
    auxiliary, rest, word = (modal.en if modal else verb).forms(clause.tense, clause.subject.person)
    if modal:
        following = words(tagged(modal.link, FINITE), tagged(verb.base, VERB))
        one_word = words(tagged(word, FINITE), following) if word else tagged("")
        return tagged(auxiliary, FINITE), words(tagged(rest, FINITE), following), one_word
    if not rest:  # a full verb that does without "do": is, had
        return tagged(auxiliary, FINITE, VERB), tagged(""), tagged(word, FINITE, VERB)
    *before, last = rest.split()
    return (
        tagged(auxiliary, FINITE),
        words(tagged(" ".join(before), FINITE), tagged(last, VERB)),
        tagged(word, FINITE, VERB),
    )


def english(clause: Clause, phrases: Sequence[Phrase], order: Order, front: Role | None, conjunction: str) -> str:
    """Put the parts in a row: subject, verb, objects, place, time."""
    subject, *phrases = phrases
    first = opening([subject, *phrases], order, front)
    inner = [phrase for phrase in sorted(phrases, key=english_position) if phrase != first]
    often = inner.pop(0).text.src if inner and inner[0].role is Role.FREQUENCY else ""
    lead, who = conjunction, subject.text.src
    if first and first != subject:
        lead = rewritten(first.text.src, first.text.src + "," * (first.role is Role.CLAUSE))
    auxiliary, rest, word = english_verb_forms(clause)
    if order is Order.INFINITIVE:
        beginning = words(conjunction, tagged("to", FINITE), tagged(clause.verb.en.base, VERB))
    elif order is Order.QUESTION and first != subject:
        beginning = words(lead, auxiliary, who, often, rest)
    elif clause.negated:
        negation = tagged("not", NOT)
        beginning = words(lead, who, (compound if auxiliary == "can" else words)(auxiliary, negation), rest)
    elif word:
        beginning = words(lead, who, often, word)
    else:
        beginning = words(lead, who, auxiliary, often, rest)
    texts = [phrase.text.src for phrase in inner]
    # pick up the guest, but pick him up
    pronoun_first = bool(inner) and inner[0].status is Status.PRONOUN and not inner[0].oblique
    texts.insert(int(pronoun_first), tagged(clause.verb.en.particle, VERB))
    return words(beginning, *texts)


NO_CONJUNCTION = Pair("", "")


def render(
    clause: Clause, order: Order = Order.STATEMENT, front: Role | None = None, conjunction: Pair = NO_CONJUNCTION
) -> Pair:
    """Say it in both languages."""
    linked = Pair(*(tagged(text, "conjunction") for text in conjunction))
    phrases = parts(clause)
    en = english(clause, phrases, order, front, linked.src)
    return Pair(closed(en), closed(german(clause, phrases, order, front, linked.tgt).text()))


def question(clause: Clause) -> Pair:
    return ended(render(clause, Order.QUESTION), "?")


def ended(pair: Pair, mark: str) -> Pair:
    """The pair with a punctuation mark at the end."""
    return Pair(*(rewritten(text, f"{text}{mark}") for text in pair))


def be(who: NounPhrase, en: str, de: str, tense: Tense = PRESENT, negated: bool = False) -> Clause:
    """A predicate has no ending: the woman is tired, die Frau ist müde."""
    predicate = Pair(en, de) if isinstance(en, Text) else word_by_word(en, de)
    return Clause(BE, who, (Phrase(Role.PREDICATE, predicate),), tense, negated=negated)
