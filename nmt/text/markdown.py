"""Markdown: text is translated; code, targets of links, HTML, front matter and the structure of blocks stay.

Blocks are found line by line, as CommonMark 0.31 describes them, with GitHub's tables and alerts, admonitions of
MkDocs, directives of Docusaurus, definition lists, and attributes in braces. The lines of a paragraph become one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

from nmt.text.html import html
from nmt.text.placeholders import PATTERNS, Segment, Span

_FENCE = re.compile(r"(?P<fence>`{3,}(?=[^`]*$)|~{3,})")
_ATTRIBUTES = r"\{ ?[:#.][^{}\n]*\}"  # {#id .class}, {: .class}
_HEADING = re.compile(rf"(#{{1,6}}[ \t]+)(.*?)((?:[ \t]+#+)?(?:[ \t]*{_ATTRIBUTES})?[ \t]*)$")
_RULE = re.compile(r"(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$")
_UNDERLINE = re.compile(r"(?:=+|-+)[ \t]*$")
_ITEM = re.compile(r"(?:[-+*]|\d{1,9}[.)])(?:[ \t]+(?:\[[ xX]\][ \t]+)?|$)")
_DEFINITION = re.compile(r"\[[^\]]+\]:\s*\S")
_TARGET_ALONE = re.compile(r"\[[^\]]+\]:\s*(?:<[^>]*>|\S+)[ \t]*$")  # its title may be on the next line
_TITLE = re.compile(r"[ \t>]*(?:\"[^\"]*\"|'[^']*'|\([^()]*\))[ \t]*$")
_NOTE = re.compile(r"\[\^[^\]]+\]:[ \t]*")
_TERM = re.compile(r":[ \t]+(?=\S)")  # a definition of the line before
_ALERT = re.compile(r"\[![A-Za-z]+\][-+]?[ \t]*")  # > [!NOTE]
_ADMONITION = re.compile(r"(?:!!!|\?\?\?\+?|===[!+]?)[ \t]+[\w\"']")  # !!! note "Title", before indented text
_DIRECTIVE = re.compile(rf":{{3,}}|{_ATTRIBUTES}[ \t]*$")  # :::warning, and attributes of the block before
_TABLE = re.compile(r"\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$")
_HTML = re.compile(r"</?[A-Za-z][^\s/>]*(?:[\s/>]|$)|<[!?]")
_HTML_ENDS = {
    "<!--": "-->", "<?": "?>", "<![CDATA[": "]]>", "<!": ">", "<script": "</script>", "<pre": "</pre>",
    "<style": "</style>", "<textarea": "</textarea>",
}  # fmt: skip
_INLINE_HTML = frozenset(
    "a abbr b bdi bdo br cite code del dfn em i img ins kbd mark q s samp small span strong sub".split()
)
_DELIMITERS = re.compile(r"\*+|_+|~~")
_OPAQUE = "|".join(
    (
        PATTERNS["code"],
        r"<[A-Za-z][A-Za-z0-9+.-]*:[^\s<>]*>|<[\w.+-]+@[\w.-]+>",  # links in angles
        r"\[\^[^\]\s]+\]",  # notes
        r"\$\$[^$]+\$\$|(?<![\w$])\$(?![\s$])[^$\n]*[^\s$]\$(?!\w)",  # formulas
        r"\{\{[^{}\n]*\}\}|\{%[^{}\n]*%\}",
        rf"{_ATTRIBUTES}|(?<=[)\]])\{{[^{{}}\n]*\}}",
        PATTERNS["urls"],
    )
)
_TOKENS = re.compile(
    rf"(?P<escape>\\[!-/:-@\[-`{{-~])|(?P<opaque>{_OPAQUE})|(?P<tag>{PATTERNS['tags']})"
    rf"|(?P<open>!?\[)|(?P<close>\](?:\((?:[^()\\\n]|\\.|\((?:[^()\\\n]|\\.)*\))*\)|\[[^\]\n]*\])?)|(?P<mark>{_DELIMITERS.pattern})"
)


def markdown(text: str) -> Iterator[str]:
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    start = _front_matter(lines)
    yield "".join(lines[:start])
    yield from _Blocks(lines[start:], _labels(text)).parts()


def _front_matter(lines: list[str]) -> int:
    """How many lines the front matter has."""
    first = lines[0].rstrip() if lines else ""
    ends = {"---": ("---", "..."), "+++": ("+++",)}.get(first)
    if ends is None:
        return 0
    return next((n + 1 for n, line in enumerate(lines) if n and line.rstrip() in ends), 0)


def _labels(text: str) -> frozenset[str]:
    """The labels of link definitions, case folded."""
    return frozenset(found[1].casefold() for found in re.finditer(r"(?m)^[ >]{0,9}\[([^\]^][^\]]*)\]:", text))


class _Blocks:
    """A document, line by line.

    Args:
        labels: of link definitions.
    """

    def __init__(self, lines: list[str], labels: frozenset[str]) -> None:
        self.lines, self.labels, self.at = lines, labels, 0
        self.indents: list[int] = []  # columns at which the contents of the open list items begin
        self.blank = True  # before the line that is read

    def parts(self) -> Iterator[str]:
        while self.at < len(self.lines):
            line = self.lines[self.at]
            self.at += 1
            prefix, body, end = self._prefix(line)
            if not body:
                yield line
                self.blank = not line.strip()
                continue
            yield from self._block(prefix, body, end)
            self.blank = not self.lines[self.at - 1].strip()  # indented code takes the blank lines after it

    def _prefix(self, line: str) -> tuple[str, str, str]:
        """Indentation, marks of quotes and of list items; what stands after them, and the line end."""
        content = line.rstrip("\r\n")
        end, at = line[len(content) :], 0
        while True:
            space = re.compile(r"[ \t]*").match(content, at)
            assert space is not None
            at = space.end()
            rest = content[at:]
            if rest.startswith(">"):
                at += 1
                self.indents = []
                continue
            column = len(content[:at].expandtabs(4))
            if rest and self.indents and column < self.indents[-1] and (self.blank or _ITEM.match(rest)):
                self.indents = [indent for indent in self.indents if indent <= column]
            is_code = self.blank and column - (self.indents[-1] if self.indents else 0) >= 4
            item = None if is_code or _RULE.match(rest) else _ITEM.match(rest)
            if item is None:
                return content[:at], rest, end
            at += item.end()
            self.indents.append(len(content[:at].expandtabs(4)))
            self.blank = True

    def _block(self, prefix: str, body: str, end: str) -> Iterator[str]:
        line = f"{prefix}{body}{end}"
        column = len(prefix.expandtabs(4))
        marks = prefix.rstrip(" \t")
        indent = column - (self.indents[-1] if self.indents else len(marks))
        if self.blank and indent >= 4 and not (self.indents and marks):
            yield line + self._indented()
        elif fence := _FENCE.match(body):
            yield line + self._until(re.compile(rf"[ \t>]*{re.escape(fence['fence'])}[{fence['fence'][0]}]*[ \t]*$"))
        elif body.strip() == "$$":
            yield line + self._until(re.compile(r".*\$\$[ \t]*$"))
        elif (heading := _HEADING.match(body)) or (_UNDERLINE.match(body) and not self.blank) or _RULE.match(body):
            if heading:
                yield prefix + heading[1]
                yield from self._inline(heading[2])
                yield heading[3] + end
            else:
                yield line
        elif ">" in marks and (alert := _ALERT.match(body)):
            yield prefix + alert[0]
            yield from self._inline(body[alert.end() :])
            yield end
        elif _ADMONITION.match(body):
            yield line
            self.indents.append(column + 4)
        elif _DIRECTIVE.match(body):
            yield line
        elif start := _NOTE.match(body) or _TERM.match(body):
            yield from self._paragraph(prefix + start[0], body[start.end() :], end)
        elif _DEFINITION.match(body):
            yield line + self._title(body)
        elif self._is_html(body):
            yield from self._html(line)
        elif self.at < len(self.lines) and "|" in body and _TABLE.match(self._prefixless(self.lines[self.at])):
            yield from self._table(prefix, body, end)
        else:
            yield from self._paragraph(prefix, body, end)

    # ----------------------------------------------------------------------------------------------- blocks of lines

    def _prefixless(self, line: str) -> str:
        return line.rstrip("\r\n").lstrip(" \t>")

    def _until(self, last: re.Pattern[str]) -> str:
        """The lines up to one that matches."""
        found = ""
        while self.at < len(self.lines):
            line = self.lines[self.at]
            self.at += 1
            found += line
            if last.match(line.rstrip("\r\n")):
                break
        return found

    def _title(self, definition: str) -> str:
        """The next line, if it is the title of a link definition."""
        if not _TARGET_ALONE.match(definition) or self.at == len(self.lines) or not _TITLE.match(self.lines[self.at]):
            return ""
        self.at += 1
        return self.lines[self.at - 1]

    def _indented(self) -> str:
        """The further lines of indented code."""
        found, least = "", (self.indents[-1] if self.indents else 0) + 4
        while self.at < len(self.lines):
            line = self.lines[self.at]
            expanded = line.expandtabs(4)
            if line.strip() and len(expanded) - len(expanded.lstrip()) < least:
                break
            found += line
            self.at += 1
        return found

    def _is_html(self, body: str) -> bool:
        match = _HTML.match(body)
        if match is None:
            return False
        name = re.match(r"</?([A-Za-z][\w-]*)", body)
        if name is None:
            return True
        return name[1].lower() not in _INLINE_HTML

    def _html(self, line: str) -> Iterator[str]:
        """A block of HTML: up to its end mark, or to a blank line."""
        body = line.lstrip(" \t>").lower()
        mark = next((end for start, end in _HTML_ENDS.items() if body.startswith(start)), None)
        block = [line]
        while self.at < len(self.lines):
            if mark is not None and mark in block[-1].lower():
                break
            if mark is None and not self.lines[self.at].strip():
                break
            block.append(self.lines[self.at])
            self.at += 1
        yield from html("".join(block)) if mark is None else ["".join(block)]

    def _table(self, prefix: str, body: str, end: str) -> Iterator[str]:
        yield prefix
        yield from self._cells(body)
        yield end + self.lines[self.at]
        self.at += 1
        while self.at < len(self.lines) and "|" in self.lines[self.at] and self.lines[self.at].strip():
            row = self.lines[self.at]
            content = row.rstrip("\r\n")
            body = self._prefixless(row)
            yield content[: len(content) - len(body)]
            yield from self._cells(body)
            yield row[len(content) :]
            self.at += 1

    def _cells(self, row: str) -> Iterator[str]:
        for cell in re.findall(r"(?:\\.|[^|\\])+|[|\\]", row):
            if cell == "|" or not cell.strip():
                yield cell
            else:
                yield cell[: len(cell) - len(cell.lstrip())]
                yield from self._inline(cell.strip())
                yield cell[len(cell.rstrip()) :]

    def _paragraph(self, prefix: str, body: str, end: str) -> Iterator[str]:
        """Lines up to one that is blank or begins another block; a hard break ends a part of it."""
        yield prefix
        rows, last = [body], end
        while not self._ends_paragraph(rows[-1]):
            line = self.lines[self.at]
            content = line.rstrip("\r\n")
            row = content.lstrip(" \t>") if prefix.lstrip().startswith(">") else content.lstrip(" \t")
            if rows[-1].endswith(("  ", "\\")):
                broken = rows.pop()
                yield from self._lines([*rows, broken.rstrip(" ").removesuffix("\\")])
                kept = broken[len(broken.rstrip(" ").removesuffix("\\")) :]
                yield kept + last + content[: len(content) - len(row)]
                rows = [row]
            else:
                rows.append(row)
            last = line[len(content) :]
            self.at += 1
        yield from self._lines(rows)
        yield last

    def _ends_paragraph(self, row: str) -> bool:
        if self.at >= len(self.lines):
            return True
        body = self.lines[self.at].rstrip("\r\n").lstrip(" \t")
        depths = [_depth(self.lines[n]) for n in (self.at - 1, self.at)]
        body = body.lstrip("> \t")
        item = _ITEM.match(body)
        return (
            not body
            or depths[1] > depths[0]
            or any(each.match(body) for each in (_FENCE, _HEADING, _RULE, _UNDERLINE, _NOTE, _TERM, _DIRECTIVE))
            or (item is not None and item.end() < len(body) and (not body[0].isdigit() or body[0] == "1"))
            or (item is not None and bool(self.indents))
            or self._is_html(body)
            or body.strip() == "$$"
        )

    def _lines(self, rows: list[str]) -> Iterator[str]:
        text = " ".join(row.strip(" \t") for row in rows)
        yield from self._inline(text)
        yield rows[-1][len(rows[-1].rstrip(" \t")) :]

    # ------------------------------------------------------------------------------------------------------- inline

    def _inline(self, text: str) -> Iterator[str]:
        """A paragraph: text without escapes, and its markup as placeholders."""
        pieces = [
            ("text", raw[1] if kind == "escape" else unescape(raw)) if kind in ("text", "escape") else (kind, raw)
            for kind, raw in self._tokens(text)
        ]
        if not any(char.isalpha() for kind, raw in pieces if kind == "text" for char in raw):
            yield text
            return
        body, spans = "", list[Span]()
        for kind, raw in pieces:
            if kind != "text":
                spans.append(Span(len(body), len(body) + len(raw), kind, raw=True))
            body += raw
        yield Segment.of(body, spans, _escaped, finish=_as_paragraph)

    def _tokens(self, text: str) -> list[tuple[str, str]]:
        found, end, opened = list[tuple[str, str]](), 0, list[int]()
        for match in _TOKENS.finditer(text):
            found.append(("text", text[end : match.start()]))
            end, raw, kind = match.end(), match[0], match.lastgroup
            if kind == "open":
                opened.append(len(found))
                found.append(("text", raw))
            elif kind == "close":
                end = self._close(found, opened, match)
            elif kind == "mark":
                found.append(("tags" if _is_delimiter(text, match) else "text", raw))
            else:
                found.append(({"opaque": "code", "tag": "tags"}.get(str(kind), str(kind)), raw))
        found.append(("text", text[end:]))
        return [(kind, raw) for kind, raw in found if raw]

    def _close(self, found: list[tuple[str, str]], opened: list[int], match: re.Match[str]) -> int:
        """Add what ends a link, and say where its source ends."""
        raw = match[0]
        if not opened:
            found.append(("text", "]"))
            return match.start() + 1
        start = opened.pop()
        inner = "".join(each for _, each in found[start + 1 :])
        target = raw[1:] if raw[1:2] == "(" or raw[2:-1].casefold() in self.labels else ""
        if target:
            found[start] = ("tags", found[start][1])
            found.append(("tags", raw[: 1 + len(target)]))
        elif inner.casefold() in self.labels:  # the text is the label: it stays
            whole = found[start][1] + inner + (raw if raw == "[]" else "]")
            del found[start:]
            found.append(("code", whole))
        else:
            found.append(("text", "]"))
        return match.start() + max(1, 1 + len(target))


def _depth(line: str) -> int:
    """How many quotes a line stands in."""
    return line[: len(line) - len(line.lstrip("> \t"))].count(">")


def _is_delimiter(text: str, match: re.Match[str]) -> bool:
    """Whether marks may begin or end emphasis."""
    before, after = text[: match.start()][-1:], text[match.end() :][:1]
    if match[0][0] == "_" and before.isalnum() and after.isalnum():
        return False
    return bool(before.strip() or after.strip())


_MEANS = re.compile(
    r"[`\[\]|]|~(?=~)|\\(?=[!-/:-@\[-`{-~])|(?<!\s)\*|\*(?!\s)|(?<![^\W_])_|_(?![^\W_])|<(?=[A-Za-z/!?])|&(?=#?\w+;)"
)
_BRACKETED = re.compile(r"(\[[^\[\]\\]*\])(?![(\[:])")


def _escaped(text: str) -> str:
    """Backslashes before what would be markup; words in brackets stay, as they mean no link."""
    return "".join(
        piece if place % 2 else _MEANS.sub(r"\\\g<0>", piece) for place, piece in enumerate(_BRACKETED.split(text))
    )


def _as_paragraph(text: str) -> str:
    """A translation that does not begin as another block does."""
    if re.match(r"(?:#{1,6}(?=\s)|[-+](?=\s)|>|=+\s*$|-+\s*$)", text):
        return "\\" + text
    return re.sub(r"^(\d{1,9})([.)])(?=\s)", r"\1\\\2", text)
