"""Recognise files that are not UTF-8 text with one sentence per line.

:func:`foreign` looks at the first bytes, :func:`not_sentences` at the first lines and the name.
"""

from __future__ import annotations

import codecs
import csv
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import PurePath

LOOKED_AT = 1 << 16  # bytes that structured text is recognised by
PACKED = (".gz", ".bz2", ".xz", ".zst")
HUB = "name it with kind: hub and path"
MO = "make a PO file of it (msgunfmt), convert that to TMX (Translate Toolkit: po2tmx) and read it with kind: tmx"
UNPACK = "unpack it and name the text file in it"
EXTRACT = "extract its sentences, one on a line"
BINARY = "it contains no sentences; name a text file"
READ_JSON = "read JSON lines with kind: jsonl, and a JSON array with kind: hub and path"
TIKAL = "export it as tab-separated text, such as by Okapi's tikal -2tbl, and read that with kind: tsv"
CUES = "extract its sentences, one on a line, without numbers and times (Subtitle Edit: Export, Plain text)"
CATALOGUE = "convert it to TMX (Translate Toolkit: po2tmx), and read that with kind: tmx"

_SIGNATURES = [
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Word file", "save it as XLSX, or as text in UTF-8"),
    (b"{\\rtf", "a rich text (RTF) document", "save it as plain text in UTF-8"),
    (b"%PDF-", "a PDF document", "extract its text first (pdftotext)"),
    (b"PAR1", "a Parquet file", "read it with kind: parquet and path"),
    (b"ARROW1\0\0", "an Arrow file", HUB),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (b"\x1f\x9d", "packed by compress", UNPACK),
    (b"\x04\x22\x4d\x18", "packed by LZ4", UNPACK),
    (b"LZIP\x01", "packed by lzip", UNPACK),
    (b"]\0\0", "packed by LZMA", "pack it by xz, or unpack it"),
    (b"SQLite format 3\0", "an SQLite database", "export its text first"),
    (b"\xde\x12\x04\x95", "a compiled message catalogue (MO)", MO),
    (b"\x95\x04\x12\xde", "a compiled message catalogue (MO)", MO),
    (b"\x89PNG\r\n", "an image (PNG)", BINARY),
    (b"\xff\xd8\xff", "an image (JPEG)", BINARY),
    (b"GIF8", "an image (GIF)", BINARY),
    (b"\x93NUMPY", "a NumPy array", BINARY),
    (b"\x89HDF\r\n", "an HDF5 file", BINARY),
    (b"\x7fELF", "a program (ELF)", BINARY),
    *((bytes([0x80, version]), "a Python pickle", BINARY) for version in (2, 3, 4, 5)),
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer", "fetch the file itself with git lfs pull"),
]
_IN_ZIP = [
    (
        b"xl/",
        "an Excel workbook (XLSX)",
        "read it with kind: xlsx and path",
    ),
    (b"word/", "a Word document (DOCX)", "save it as plain text in UTF-8"),
    (b"ppt/", "a PowerPoint file (PPTX)", "save its text in UTF-8"),
    (
        b"opendocument.spreadsheet",
        "an OpenDocument spreadsheet (ODS)",
        "save it as XLSX or as CSV in UTF-8, and read that with kind: xlsx or kind: csv",
    ),
    (b"opendocument", "an OpenDocument file", "save it as plain text in UTF-8"),
    (b"mimetypeapplication/epub", "an e-book (EPUB)", "save it as plain text in UTF-8"),
]
_MARKUP = [
    (rb"<(\w+:)?tmx[\s>]", "a translation memory (TMX, XML)", "read it with kind: tmx and path"),
    (rb"<(\w+:)?xliff[\s>]", "a translation file (XLIFF, XML)", TIKAL),
    (rb"<ts[\s>][^>]*>?\s*<(context|message|defaultcodec)[\s>]", "a translation file (Qt TS, XML)", TIKAL),
    (rb"<resources[\s>][^>]*>?\s*<(string|plurals|string-array|!--)", "an Android string resource file (XML)", TIKAL),
    (rb"<(\w+:)?tt\s[^>]*xmlns|<sami[\s>]", "a subtitle file (TTML or SAMI)", CUES),
    (rb"<!doctype html|<html[\s>].{0,1024}<(head|body|title|meta)[\s>]", "an HTML page",
     "extract its text, or download the file again if it is the error page of a web server"),
    (rb"<(srcset|refset|tstset|mteval|dataset)[\s>]", "a WMT test set (SGML or XML)",
     "extract the text of its segments, one on a line"),
    (rb"<\?xml\s", "XML", EXTRACT),
    (rb"<([a-z][\w:.-]*)(\s[^<>]*)?>[ \t]*\n\s*<(?!\1[\s>])[a-z!].*</[a-z]", "XML or HTML",
     EXTRACT),
]  # fmt: skip
# Before the first element of a document. Each comment has one possible end, so that a match takes linear time.
_PROLOGUE = rb"(?:<\?xml[^>]*>|<!--(?:[^-]|-(?!->))*-->|<!doctype (?!html)[^>]*>|\s)*"
_TIME = rb"(?:\d+:)?\d{1,2}:\d\d[.,]\d{1,3}"
_CUE = _TIME + rb"[ \t]*-->[ \t]*" + _TIME
_PAIR = rb"\d+:\d\d:\d\d\.\d\d\d?,\d+:\d\d:\d\d\.\d\d\d?"
_QUOTED = rb'"(?:[^"\\\n]|\\.)*"'
# Structured text, recognised by its first lines. Newlines are b"\n".
_STRUCTURED = [
    (re.compile(rb"(?:\d+[ \t]*\n)?" + _CUE), "a subtitle file (SRT)", CUES),
    (re.compile(rb"WEBVTT\b[^\n]*\n(?:.*\n)*?" + _CUE), "a subtitle file (WebVTT)", CUES),
    (re.compile(rb"\[Script Info\][^\n]*\n(?:.*\n)*?(?:ScriptType|PlayResX|Format|Dialogue|Title):"),
     "a subtitle file (ASS or SSA)", CUES),
    (re.compile(rb"(?:\{\d+\}\{\d*\}[^\n]*(?:\n|\Z)){2}"), "a subtitle file (MicroDVD)", CUES),
    (re.compile(rb"(?:\[\d+\]\[\d+\][^\n]*(?:\n|\Z)){3}"), "a subtitle file (MPL2)", CUES),
    (re.compile(rb"(?:\[INFORMATION\](?:.*\n)*?)?" + _PAIR + rb"[ \t]*\n"), "a subtitle file (SBV or SubViewer)", CUES),
    (re.compile(
        rb"(?:#[^\n]*\n|\s)*(?:msgctxt[ \t]+" + _QUOTED + rb"\s+)?msgid[ \t]+(?:" + _QUOTED + rb"\s*)+"
        rb"(?:msgid_plural[ \t]+(?:" + _QUOTED + rb"\s*)+)?msgstr(?:\[0\])?[ \t]+\""),
     "a message catalogue (PO)", CATALOGUE),
    (re.compile(
        rb"(?:/\*(?:[^*]|\*(?!/))*\*/|//[^\n]*\n|\s)*" + _QUOTED + rb"\s*=\s*" + _QUOTED + rb"\s*;\s*"
        rb"(?:/[*/]|\"|\Z)"), "a localisation file (Apple strings)", TIKAL),
    (re.compile(rb"(?:%[^\n]*\n|\s)*\\documentclass\b"), "a LaTeX document", EXTRACT),
    (re.compile(rb"(?:#[^\n]*\n)*1(?:-\d+)?\t(?:[^\t\n]+\t){8}[^\t\n]+\n"), "a treebank (CoNLL-U)",
     "extract its sentences (the lines '# text = ')"),
]  # fmt: skip
# Structured text that nmt translate can translate as a document, with its format.
_DOCUMENTS = {"a subtitle file (SRT)": "srt", "a subtitle file (WebVTT)": "srt", "an HTML page": "html"}
# Text recognised by the ending of its name: endings, pattern of the first line that is no comment, name, advice.
_NAMED = [
    ((".json", ".jsonl", ".ndjson", ".arb"), r"\s*[\[{]", "JSON", READ_JSON),
    ((".html", ".htm", ".xhtml", ".xml", ".sgm", ".sgml"), r"\s*<[A-Za-z!?/]", "markup (HTML, XML or SGML)",
     EXTRACT),
    ((".yml", ".yaml"), r"---\s*$|\"?[\w.-]+\"?:(\s|$)", "YAML", EXTRACT),
    ((".properties", ".ini", ".ftl", ".lang", ".toml", ".conf", ".cfg"), r"\[[^\]]+\]\s*$|-?[\w.-]+\s*[=:]",
     "a file of keys and values", TIKAL),
    ((".lrc",), r"\[(\d+:\d\d([.:]\d+)?|[a-z]+:.*)\]", "lyrics with times (LRC)", CUES),
]  # fmt: skip
_PRETTY_JSON = re.compile(r'\s*(\{\s*\n\s*"[^"\n]*"\s*:|\[\s*\n\s*[{\["])')
_TABLES = [  # separator, endings, name, advice
    ("\t", (".tsv", ".tab"), "tab-separated", "read it with kind: tsv"),
    *((sep, (".csv",), "comma-separated, CSV", "read it with kind: csv and path") for sep in ",;|"),
]
_ENCODINGS = [
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
]


def foreign(head: bytes, convert: Callable[[str], str], document: bool = False, corpus: bool = True) -> str | None:
    """Describe a file that is certainly not lines of UTF-8 text, with advice; None for other files.

    Args:
        head: the first bytes of the file, unpacked; some thousand suffice.
        convert: returns the command that converts the file from an encoding to UTF-8.
        document: text in any format is expected, and not lines alone.
        corpus: the file is one of pairs, which may be read as another kind of source.
    """

    def said(what: str, advice: str) -> str:
        form = None if corpus else _DOCUMENTS.get(what.partition(",")[0])
        if form is not None:
            advice = f"--document-format {form} translates it and keeps its format"
        return f"is {what}; {advice if corpus or 'kind:' not in advice else EXTRACT}"

    # Other encodings
    encoding = next((name for mark, name in _ENCODINGS if head.startswith(mark)), None) or _utf16(head[:4096])
    if encoding is not None:
        return f"is text in {encoding}; convert it to UTF-8: {convert(encoding)}"
    # Binary formats
    for mark, what, advice in _SIGNATURES:
        if head.startswith(mark):
            return said(what, advice)
    if head.startswith(b"PK\x03\x04"):
        what, advice = next(
            ((what, advice) for mark, what, advice in _IN_ZIP if mark in head),
            ("a ZIP archive", f"read it with kind: zip and path, or {UNPACK}" if corpus else UNPACK),
        )
        return said(what, advice)
    if head[257:262] == b"ustar":
        return f"is a tar archive; {UNPACK}"
    if document:
        return None
    # Structured text
    text = head[:LOOKED_AT].removeprefix(b"\xef\xbb\xbf").lstrip().replace(b"\r\n", b"\n")
    if text.startswith(b"<"):
        start = re.match(_PROLOGUE, text, re.I)
        for pattern, what, advice in _MARKUP:
            if re.match(pattern, text, re.I | re.S) or (start and re.match(pattern, text[start.end() :], re.I | re.S)):
                return said(f"{what}, not lines of text", advice)
    for structure, what, advice in _STRUCTURED:
        if structure.match(text):
            return said(f"{what}, not lines of text", advice)
    return None


def not_sentences(path: str, lines: Sequence[str], names: frozenset[str] | set[str]) -> str | None:
    """Describe a text file that certainly does not hold one sentence per line, with advice; None for other files.

    Args:
        lines: the first lines of the file.
        names: possible names of columns of a table, in lower case.
    """
    endings = [ending.lower() for ending in PurePath(path).suffixes]
    if endings and endings[-1] in PACKED:
        endings.pop()
    ending = endings[-1] if endings else ""
    filled = [line for line in lines if line.strip()]
    first = next((line for line in filled if not line.startswith(("#", "!", "//", ";"))), "")
    for known, pattern, what, advice in _NAMED:
        if ending in known and re.match(pattern, first):
            return f"is {what}, as its name says, not one sentence a line; {advice}"
    if _PRETTY_JSON.match("\n".join(lines)):
        return f"is JSON over several lines, not one sentence a line; {READ_JSON}"
    for separator, known, what, advice in _TABLES:
        titles = [cell.strip().strip('"').lower() for cell in filled[0].split(separator)] if filled else []
        named = len(filled) > 1 and len(set(titles)) > 1 and names.issuperset(titles)
        if (named and (ending in known or all(separator in line for line in filled))) or (
            ending in known and _width(filled, separator) > 1
        ):
            return f"contains a table ({what}), not one sentence a line; {advice}"
    return None


def _width(lines: Sequence[str], separator: str) -> int:
    """The number of cells in every line; 0 if lines differ."""
    try:
        rows = [len(line.split("\t")) if separator == "\t" else len(next(csv.reader([line], delimiter=separator)))
                for line in lines]  # fmt: skip
    except csv.Error:
        return 0
    return rows[0] if rows and min(rows) == max(rows) else 0


def _utf16(head: bytes) -> str | None:
    """Recognise UTF-16 without a byte order mark.

    In Latin text every other byte is NUL. Other text has NUL in spaces and newlines, is no UTF-8, and decodes to
    characters that are assigned.
    """
    even, odd = head[0::2], head[1::2]
    if len(head) < 4 or b"\0" not in head:
        return None
    if not even.count(0) and odd.count(0) > 0.7 * len(odd):
        return "UTF-16LE"
    if not odd.count(0) and even.count(0) > 0.7 * len(even):
        return "UTF-16BE"
    plain = _decoded(head.replace(b"\0", b""), "UTF-8")
    if plain is not None and _is_text(plain) and plain.count("\t") < len(plain) / 3:
        return None  # UTF-8 that holds NUL characters; a tab is also half of each Devanagari letter
    spaces = {}
    for encoding in ("UTF-16LE", "UTF-16BE"):
        text = _decoded(head, encoding)
        spaces[encoding] = sum(map(text.count, " \n\r\t")) if text is not None and _is_text(text) else 0
    best = max(spaces, key=lambda encoding: spaces[encoding])
    return best if spaces[best] else None


def _decoded(head: bytes, encoding: str) -> str | None:
    """The text of the first bytes of a file, without a character that is cut off; None if they are no such text."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return None


def _is_text(text: str) -> bool:
    """Whether a text has no control characters and no code points that are not assigned."""
    return not any(unicodedata.category(char) in ("Cc", "Cn", "Co", "Cs") for char in set(text) - {*"\t\r\n"})
