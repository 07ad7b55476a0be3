"""What a file is that is not lines of UTF-8 text, told from its first bytes."""

from __future__ import annotations

import re
from collections.abc import Callable

HUB = "name it with kind: hub and path"
UNPACK = "unpack it and name the text file in it"

_SIGNATURES = [
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Word file", "save it as text in UTF-8"),
    (b"{\\rtf", "a rich text (RTF) document", "save it as plain text in UTF-8"),
    (b"%PDF-", "a PDF document", "extract its text first (pdftotext)"),
    (b"PAR1", "a Parquet file", HUB),
    (b"ARROW1\0\0", "an Arrow file", HUB),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (b"\x1f\x9d", "packed by compress", UNPACK),
    (b"\x04\x22\x4d\x18", "packed by LZ4", UNPACK),
    (b"SQLite format 3\0", "an SQLite database", "export its text first"),
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer", "fetch the file itself with git lfs pull"),
]
_IN_ZIP = [
    (
        b"xl/",
        "an Excel workbook (XLSX)",
        "save it as CSV in UTF-8 and name that with kind: hub, or as tab-separated text",
    ),
    (b"word/", "a Word document (DOCX)", "save it as plain text in UTF-8"),
    (b"ppt/", "a PowerPoint file (PPTX)", "save its text in UTF-8"),
    (
        b"opendocument.spreadsheet",
        "an OpenDocument spreadsheet (ODS)",
        "save it as CSV in UTF-8 and name that with kind: hub",
    ),
    (b"opendocument", "an OpenDocument file", "save it as plain text in UTF-8"),
]
_MARKUP = [
    (rb"<tmx[\s>]", "a translation memory (TMX, XML)",
     "export it as tab-separated text, such as by Okapi's tikal -2tbl, and read that with kind: tsv"),
    (rb"<xliff[\s>]", "a translation file (XLIFF, XML)",
     "export it as tab-separated text, such as by Okapi's tikal -2tbl, and read that with kind: tsv"),
    (rb"<!doctype html|<html[\s>].{0,1024}<(head|body)[\s>]", "an HTML page",
     "extract its text, or download the file again if it is the error page of a web server"),
    (rb"<(srcset|refset|tstset|mteval|dataset)[\s>]", "a WMT test set (SGML or XML)",
     "extract the text of its segments, one on a line"),
    (rb"<\?xml\s", "XML", "extract its sentences, one on a line"),
]  # fmt: skip
_ENCODINGS = [
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
]


def foreign(head: bytes, convert: Callable[[str], str]) -> str | None:
    """What a file is, and what to do with it, where it is known not to be lines of UTF-8 text; else None.

    Args:
        head: the first bytes of the file, unpacked; some thousand suffice.
        convert: makes the command that converts the file from an encoding to UTF-8.
    """
    encoding = next((name for mark, name in _ENCODINGS if head.startswith(mark)), None) or _utf16(head[:4096])
    if encoding is not None:
        return f"is text in {encoding}; convert it to UTF-8: {convert(encoding)}"
    for mark, what, advice in _SIGNATURES:
        if head.startswith(mark):
            return f"is {what}; {advice}"
    if head.startswith(b"PK\x03\x04"):
        what, advice = next(
            ((what, advice) for mark, what, advice in _IN_ZIP if mark in head), ("a ZIP archive", UNPACK)
        )
        return f"is {what}; {advice}"
    if head[257:262] == b"ustar":
        return f"is a tar archive; {UNPACK}"
    text = head[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<"):
        for pattern, what, advice in _MARKUP:
            if re.match(
                rb"(<\?xml[^>]*>|<!--.*?-->|<!doctype (?!html)[^>]*>|\s)*(" + pattern + rb")", text, re.I | re.S
            ):
                return f"is {what}, not lines of text; {advice}"
    return None


def _utf16(head: bytes) -> str | None:
    """UTF-16 without a byte order mark, told by its NUL bytes: every other one, as long as the text is Latin."""
    even, odd = head[0::2], head[1::2]
    if len(head) < 4 or b"\0" not in head:
        return None
    if not even.count(0) and odd.count(0) > 0.7 * len(odd):
        return "UTF-16LE"
    if not odd.count(0) and even.count(0) > 0.7 * len(even):
        return "UTF-16BE"
    return None
