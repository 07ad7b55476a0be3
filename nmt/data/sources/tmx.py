"""Translation memories (TMX), parsed as a stream: memory does not grow with the file.

A document type is not loaded, and the declaration of an entity is refused, because entities of entities expand without
bound.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
from collections.abc import Iterator
from functools import cache
from html import unescape
from typing import IO, Any
from xml.parsers import expat

from nmt.config.languages import are_equal, includes
from nmt.config.sources import TmxSource
from nmt.data.formats import foreign
from nmt.data.lines import BOM, MAX_LINE, filter_command, read_blocks
from nmt.data.sources.base import BadRows, Pairs, Reading, describe_files, first_file, open_file, read_files
from nmt.errors import DataError

log = logging.getLogger(__name__)

NATIVE = {"bpt", "ept", "it", "ph", "ut"}  # inline elements that hold codes of the document's format, and no text
MAX_DEPTH = 64  # of elements
MAX_VARIANTS = 100  # of a unit, in one language
MAX_LANGUAGES = 1000  # that are counted
_JUNK, _DECLARATION, _ENCODING = (
    expat.errors.codes[text]
    for text in (
        expat.errors.XML_ERROR_JUNK_AFTER_DOC_ELEMENT,
        expat.errors.XML_ERROR_MISPLACED_XML_PI,
        expat.errors.XML_ERROR_INCORRECT_ENCODING,
    )
)
_FROM_DECLARATION = "sed '/<?xml/,$!d'"
_OTHER = 3  # the distance of another language
_WHITE = str.maketrans("\t\r\n", "   ")


def read(source: TmxSource, reading: Reading) -> Pairs:
    return read_files(source, reading, _pairs)


describe, name = describe_files, first_file


def _pairs(path: str, source: TmxSource, reading: Reading, bad: BadRows) -> Pairs:
    with open_file(path) as file:
        yield from pairs(file, path, reading, bad)


def pairs(file: IO[bytes], name: str, reading: Reading, bad: BadRows, size: int | None = None) -> Pairs:
    """The pairs of a translation memory opened in binary mode.

    Args:
        name: of the file in error messages.
        size: bytes of the file, if it is a member of an archive.

    Raises:
        DataError: the file is not well-formed, declares entities, or has no unit with both languages.
    """
    units = _Units(name, reading.languages, bad)
    for block in read_blocks(file, name, size):
        yield from units.feed(block)
    yield from units.feed(b"", end=True)
    units.report()


class _Units:
    """The translation units of a file, by the handlers of an XML parser.

    Attributes:
        languages: the codes found, with the number of units of each.
    """

    def __init__(self, name: str, wanted: tuple[str, str], bad: BadRows):
        self.name, self.bad = name, bad
        self.wanted = tuple(_code(language) for language in wanted)
        self.languages: dict[str, int] = {}
        self.count = self.lacking = self.fed = self.depth = 0
        self.found: list[tuple[str, str]] = []
        self.last = b""  # the block that is parsed
        # The unit, its variants of each wanted language (see _distance, and the text), and the current variant.
        self.unit: tuple[list[tuple[int, str]], list[tuple[int, str]]] | None = None
        self.line = 0
        self.problem: str | None = None
        self.codes: set[str] = set()
        self.variant: list[tuple[int, int]] | None = None  # the sides it belongs to, each with the distance
        self.segment: list[str] | None = None
        self.length = self.dropped = 0
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.EntityDeclHandler = self._entity
        parser.SkippedEntityHandler = self._skipped_entity
        self.parser = parser

    def feed(self, block: bytes, end: bool = False) -> Iterator[tuple[str, str]]:
        """Parse a block, and yield the pairs of the units that end in it."""
        if not self.fed:
            self._check_start(block)
        self.fed, self.last = self.fed + len(block), block
        try:
            self.parser.Parse(block, end)
        except expat.ExpatError as error:
            raise DataError(self._malformed(error, end)) from None
        except (LookupError, ValueError):  # by Python's module, for encodings that it does not give the parser
            raise DataError(self._other_encoding(block)) from None
        if self.fed - self.parser.CurrentByteIndex > MAX_LINE:
            what = f"has a tag or a comment of more than {MAX_LINE >> 20} MiB; remove it"
            raise DataError(f"{self._where()}: {what}")
        yield from self.found
        self.found.clear()

    def report(self) -> None:
        """Log, at the end of the file, the number of units that lack a language.

        Raises:
            DataError: every unit does.
        """
        both = " and ".join(self.wanted)
        if not self.count:
            raise DataError(f"{self.name}: contains no translation units (<tu>); export it again")
        if self.lacking == self.count:
            there = ", ".join(f"{code} ({units:,} units)" for code, units in sorted(self.languages.items())[:20])
            advice = "name two of them as the languages (data.src_lang and data.tgt_lang, or --langs)"
            raise DataError(f"{self.name}: no unit has both {both}; it has: {there or 'no language'}; {advice}")
        if self.lacking:
            log.info("%s: skipped %s of %s units without %s", self.name, f"{self.lacking:,}", f"{self.count:,}", both)

    # ------------------------------------------------------------------------------------------------ handlers

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        tag = tag.rpartition(":")[2].lower()
        if self.depth == 1 and tag != "tmx":
            raise DataError(f"{self.name}: is XML of another kind (<{tag[:40]}>), not a translation memory (<tmx>)")
        if self.depth > MAX_DEPTH:
            raise DataError(f"{self._where()}: nests more than {MAX_DEPTH} elements; is it a TMX file?")
        if self.segment is not None:
            if self.dropped or tag in NATIVE:
                self.dropped += 1
        elif tag == "tu" and self.unit is None:
            self.unit, self.line, self.length = ([], []), self.parser.CurrentLineNumber, 0
            self.problem, self.codes = None, set()
        elif tag == "tuv" and self.unit is not None:
            given = {name.lower(): value for name, value in attributes.items()}
            self.variant = self._sides(given.get("xml:lang") or given.get("lang"))
        elif tag == "seg" and self.variant:
            self.segment = []

    def _sides(self, code: str | None) -> list[tuple[int, int]]:
        """The sides of a pair that a variant belongs to, each with the distance of its code (see :func:`_distance`)."""
        if not code:
            self.problem = self.problem or "has a variant without a language (xml:lang); add it"
            return []
        code = code.strip()[:40]
        if code in self.languages or len(self.languages) < MAX_LANGUAGES:
            self.codes.add(code)
        found = [(side, _distance(code, wanted)) for side, wanted in enumerate(self.wanted)]
        nearest = min(distance for _, distance in found)
        return [(side, distance) for side, distance in found if distance == nearest < _OTHER]

    def _text(self, text: str) -> None:
        if self.segment is None or self.dropped:
            return
        self.length += len(text)
        if self.length > MAX_LINE:
            self.problem = f"contains more than {MAX_LINE >> 20} Mi characters; a segment has one sentence: split it"
            self.segment.clear()
        else:
            self.segment.append(text)

    def _end(self, tag: str) -> None:
        self.depth -= 1
        tag = tag.rpartition(":")[2].lower()
        if self.dropped:
            self.dropped -= 1
        elif tag == "seg" and self.segment is not None and self.variant and self.unit is not None:
            text = _collapsed("".join(self.segment))
            for side, distance in self.variant:
                self.unit[side].append((distance, text))
            if max(map(len, self.unit)) > MAX_VARIANTS:
                self.problem = f"has more than {MAX_VARIANTS} variants in one language; split it"
                self.unit = [], []
            self.segment, self.variant = None, None
        elif tag == "tuv":
            self.variant = None
        elif tag == "tu" and self.unit is not None:
            self._finish(*self.unit)
            self.unit = None

    def _finish(self, *sides: list[tuple[int, str]]) -> None:
        """Take the pairs of a unit that is complete."""
        self.count += 1
        for code in self.codes:
            self.languages[code] = self.languages.get(code, 0) + 1
        if self.problem is not None:
            self.bad(f"{self.name}:{self.line}: {self.problem}")
            return
        # Variants with the code of the language itself come before those of its regions.
        nearest = [min((distance for distance, _ in side), default=_OTHER) for side in sides]
        src, tgt = ([t for distance, t in side if distance == best] for side, best in zip(sides, nearest, strict=True))
        if not src or not tgt:
            self.lacking += 1
        self.found += dict.fromkeys((one, other) for one in src for other in tgt)

    def _entity(self, entity: str, *_: Any) -> None:
        raise DataError(
            f"{self._where()}: declares the entity '{entity[:40]}', and entities can expand without bound; replace the "
            "entity by its text, and remove the declaration"
        )

    def _skipped_entity(self, entity: str, *_: Any) -> None:
        self.problem = self.problem or f"uses the entity &{entity[:40]};, which is not declared; write the character"

    # ------------------------------------------------------------------------------------------------ messages

    def _where(self) -> str:
        return f"{self.name}:{self.parser.CurrentLineNumber}"

    def _check_start(self, block: bytes) -> None:
        """Refuse a file that does not begin like XML."""
        if not block:
            raise DataError(f"{self.name}: is empty; a translation memory (TMX) is XML")
        head = block.removeprefix(BOM)
        if head.lstrip()[:1] != b"<" and not head.startswith((b"\xff\xfe<", b"\xfe\xff\0<", b"<\0", b"\0<")):
            known = foreign(block, self._convert)
            raise DataError(f"{self.name}: {known or 'is not a translation memory (TMX): it does not begin with XML'}")

    def _malformed(self, error: expat.ExpatError, end: bool) -> str:
        """The message for text that is not well-formed."""
        where = f"{self.name}:{error.lineno}"
        if end:
            return f"{where}: ends before </tmx>; is the file cut off? copy it again"
        reason = f"not valid XML: {expat.ErrorString(error.code)} (column {error.offset + 1})"
        known = self._of_documents(error) or self._of_characters(reason)
        return f"{where}: {known or f'{reason}; correct the file, or export it again'}"

    def _of_documents(self, error: expat.ExpatError) -> str | None:
        """What is wrong with the beginning or the end of a document."""
        if error.code in (_JUNK, _DECLARATION) and self.count:
            rest = f"tail -n +{error.lineno} {shlex.quote(self.name)} > {shlex.quote(self.name + '.2')}"
            return f"begins a second document; write it to a separate file, and delete it here: {rest}"
        if error.code == _DECLARATION:
            return f"has lines before the XML declaration; remove them: {self._filter(_FROM_DECLARATION, 'clean')}"
        if error.code == _ENCODING:
            command = self._filter("sed '1s/encoding=[^ ?]*/encoding=\"UTF-8\"/'", "utf8")
            return f"declares another encoding than it has; if it is UTF-8: {command}"
        return None

    def _of_characters(self, reason: str) -> str | None:
        """What is wrong with the characters at the mistake, with the command that corrects all of its kind."""
        place = self.parser.ErrorByteIndex - (self.fed - len(self.last))
        found = self.last[place : place + 40] if 0 <= place < len(self.last) else b""
        if found[:1] >= b"\x80":
            return f"{reason}; if the file is Windows-1252 (Western European): {self._convert('WINDOWS-1252')}"
        if found and found[0] < 0x20 and found[:1] not in b"\t\n\r":
            command = self._filter(f"tr -d '\\{found[0]:03o}'", "clean")
            return f"contains the control character 0x{found[0]:02x}, which XML excludes; remove it: {command}"
        if reference := re.match(rb"&#?[\w.-]+;", found):
            name = reference[0].decode("ascii", "replace")
            meant = unescape(name)
            instead = meant if name[1] != "#" and meant != name else ""
            command = self._filter(f"sed 's/{name}/{_sed(instead)}/g'", "clean")
            return f"XML does not know {name}; replace it: {command}"
        if re.search(rb"&[^;<&]*$", self.last[max(0, place - 40) : max(0, place) + 1]):
            command = self._filter(r"perl -pe 's/&(?!#?\w+;)/&amp;/g'", "clean")
            return f"has an & that begins no entity; write it as &amp;: {command}"
        return None

    def _other_encoding(self, block: bytes) -> str:
        """The message for an encoding that is not known, or has several bytes a character, as Shift_JIS."""
        declared = re.search(rb"encoding=[\"']([\w.-]+)", block[:1000].replace(b"\0", b""))
        if declared is None:
            return f"{self.name}: declares an encoding that cannot be read; convert the file to UTF-8"
        encoding = declared[1].decode("ascii", "replace")
        command = f"(iconv -f {encoding} -t UTF-8 | sed '1s/{encoding}/UTF-8/')"
        if os.path.exists(self.name):
            command = filter_command(self.name, command, "utf8")
        return f"{self.name}: declares the encoding {encoding}, which cannot be read; convert it to UTF-8: {command}"

    def _convert(self, encoding: str) -> str:
        return self._filter(f"iconv -f {encoding} -t UTF-8", "utf8")

    def _filter(self, command: str, ending: str) -> str:
        """The command that filters the file, or a member of an archive once it is unpacked."""
        return filter_command(self.name, command, ending) if os.path.exists(self.name) else command


def _sed(text: str) -> str:
    """A character in the right side of sed's s command, by its number in XML."""
    return "".join(rf"\&#{ord(char)};" for char in text)


def _collapsed(text: str) -> str:
    """A text with a single space for each sequence of XML's white space, and none at its ends."""
    text = text.translate(_WHITE) if "\n" in text or "\t" in text or "\r" in text else text
    return (re.sub("  +", " ", text) if "  " in text else text).strip(" ")


@cache
def _distance(code: str, wanted: str) -> int:
    """How far the code of a variant is from that of a language.

    0: the same; 1: an equal code; 2: a variety, such as ``en-US`` for ``en`` and ``zh-CN`` for ``zh-Hans``; 3: another.
    """
    plain = _code(code)
    if plain == wanted or are_equal(plain, wanted):
        return int(plain != wanted)
    return 2 if plain.startswith(f"{wanted}-") or includes(wanted, plain) else _OTHER


def _code(language: str) -> str:
    """A language code in a form that can be compared: ``en_US`` is ``en-us``."""
    return language.strip().lower().replace("_", "-")
