"""Documents through a translator that changes every word, read by independent parsers before and after."""

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest

from nmt.text.documents import format_of, parse
from nmt.text.placeholders import Segment
from nmt.translation.texts import Texts
from nmt.translation.translator import Notice, Translation


class Swapping:
    """A translator that swaps the case of all letters and reverses the words, and aligns them."""

    def __init__(self) -> None:
        self.tokenizer = SimpleNamespace(placeholders=0)
        self.search = SimpleNamespace(uses_beam=True, beam_size=1)
        self.asked: list[str] = []

    def translate(self, lines: Sequence[str], nbest: int, warn: Any = None, first_line: int = 1) -> Any:
        self.asked += map(str, lines)
        return [[Translation(self.change(line), -1.0, -1.0, [7])] for line in lines]

    def change(self, line: str) -> str:
        return " ".join(reversed(line.swapcase().split()))

    def align(self, lines: Sequence[str], found: Any) -> list[list[str]]:
        counts = [len(line.split()) for line in lines]
        return [[" ".join(f"{n}-{count - 1 - n}" for n in range(count))] for count in counts]


class Special(Swapping):
    """One that writes what means something in every format."""

    def change(self, line: str) -> str:
        return " ".join(f"{word}<&*_[|`" for word in super().change(line).split())


def translated(text: str, form: str, fake: Any = None, attention: bool = True) -> str:
    fake = fake or Swapping()
    texts = Texts(fake, (), True, "en", lambda: fake.align if attention else None)
    return "".join(block for block, _ in texts.document(parse(text, form)))


# ----------------------------------------------------------------------------------------------------------- subtitles

SRT = """\ufeff1\r
00:00:01,000 --> 00:00:02,000\r
<i>I am going</i>\r
to the shop. Now.\r
\r
2\r
00:00:03,000 --> 00:00:04,000 X1:1\r
- Hi.\r
- {\\an8}Hello there.\r
\r
\r
3\r
00:00:05,000 --> 00:00:06,000\r
♪\r
\r
4\r
00:00:07,000 --> 00:00:08,000\r
End"""


def cues(text: str) -> list[tuple[str, str, int]]:
    """Number, time and count of lines of each cue, by hand."""
    blocks = re.split(r"(?:\r\n){2,}", text.removeprefix("\ufeff"))
    return [(*block.split("\r\n")[:2], len(block.split("\r\n"))) for block in blocks]


def test_subtitles_keep_numbers_times_lines_and_line_ends():
    result = translated(SRT, "srt")
    assert cues(result) == cues(SRT)
    assert result == SRT.replace(
        "<i>I am going</i>\r\nto the shop. Now.", "SHOP. THE TO\r\n<i>GOING AM i</i> nOW."
    ).replace("- Hi.\r\n- {\\an8}Hello there.", "- hI.\r\n- {\\an8}THERE. hELLO").replace("End", "eND")
    assert cues(translated(SRT, "srt", Special(), attention=False)) == cues(SRT)


def test_webvtt_keeps_its_header_and_notes():
    text = "WEBVTT\n\nNOTE a note\n\nid\n00:01.000 --> 00:02.000 align:start\n<v Ann>Hi <00:01.500>you\n"
    assert translated(text, "srt", attention=False) == text.replace("Hi", "hI").replace("you", "YOU")


def test_webvtt_has_entities_and_a_cue_ends_at_a_blank_line():
    start = "WEBVTT\n\nid\n00:01.000 --> 00:02.000\n"
    assert (
        translated(f"{start}a &lt;b&gt; <i>c</i> &amp;\n\nNOTE x\n", "srt")
        == f"{start}&amp; <i>C</i> &lt;B&gt; A\n\nNOTE x\n"
    )

    class Arrow(Swapping):
        def change(self, line: str) -> str:
            return "a --> b"

    assert translated(f"{start}x\n", "srt", Arrow()) == f"{start}a --&gt; b\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1\nT1\none\n2\nT2\ntwo", "1\nT1\nONE\n2\nT2\nTWO"),  # no blank line between cues
        ("1\nT1\none\n\ntwo\n\n2\nT2\n\nthree\n", "1\nT1\nONE\n\nTWO\n\n2\nT2\n\nTHREE\n"),  # blank lines in them
        ("1\nT1\nI count to\n2\n\n2\nT2\n99\n", "1\nT1\n2 TO\nCOUNT i\n\n2\nT2\n99\n"),
        ("\n1\nT1\n\n2\nT2", "\n1\nT1\n\n2\nT2"),
        ("no cue\n", "no cue\n"),
    ],
)
def test_odd_subtitles_keep_numbers_and_times(text, expected):
    for number, time in enumerate(("00:00:01,000 --> 00:00:02,000", "00:00:03.5-->00:00:04"), 1):
        text, expected = (each.replace(f"T{number}", time) for each in (text, expected))
    assert translated(text, "srt") == expected


# ---------------------------------------------------------------------------------------------------------------- HTML

HTML = """<!DOCTYPE html>\r
<html lang=en><head><title>My page &amp; more</title><meta charset="utf-8"><style>p > a {}</style></head>
<body class="x > y">
<p>Hello <b>big world</b> here. <i>This is &lt;it&gt;.&nbsp;Really.</i> And
   <code>x &lt; 1</code>, <a href='?a=1&b=2' title="A title">a <em>link</em> here</a>.</p><!-- a <b>comment</b> -->
<ul><li>One<li>Two <br>three <img src="a.png" alt="An image"/> four</ul>
<script>if (a < b) { "</p>" }</script><pre>one   <b>two</b></pre>
<p translate="no">keep <i>this</i></p> Text <span class="notranslate">ACME <b>x</b></span> end. 5 < 6 &copy; &eacute;
<svg viewBox="0 0 1 1"><path d="M0"/></svg><table><tr><td>a</td><td>b c</td></tr></table>
</body></html>
"""


class Events(HTMLParser):
    """Everything of a page, in order, but its text; and the text."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.events: list[Any] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.events.append((self.get_starttag_text(), attrs))

    def handle_endtag(self, tag):
        self.events.append(f"/{tag}")

    def handle_comment(self, data):
        self.events.append(("comment", data))

    def handle_decl(self, decl):
        self.events.append(decl)

    def handle_data(self, data):
        self.text += f" {data}"
        if isinstance(self.events[-1], tuple) and str(self.events[-1][0]).startswith(("<script", "<style", "<code")):
            self.events.append(data)


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("translator", [Swapping, Special])
def test_html_keeps_everything_but_text(translator, attention):
    result = translated(HTML, "html", translator(), attention)
    before, after = Events(HTML), Events(result)
    assert before.events == after.events
    if translator is Swapping:
        assert sorted(before.text.swapcase().split()) != sorted(after.text.split())  # code and ACME stay
        assert sorted(before.text.lower().split()) == sorted(after.text.lower().split())
    assert "keep" in after.text
    assert "ACME" in after.text
    assert "<pre>one   <b>two</b></pre>" in result


def test_html_equals_that_of_lxml():
    lxml = pytest.importorskip("lxml.html")

    def shape(text: str) -> list[Any]:
        return [(each.tag, dict(each.attrib)) for each in lxml.fromstring(text).iter()]

    assert shape(translated(HTML, "html", Special())) == shape(HTML)


def test_tags_move_with_their_words():
    result = translated("<p>Hello <b>big world</b> here.</p>", "html")
    assert result == "<p>HERE. <b>WORLD BIG</b> hELLO</p>"


@pytest.mark.parametrize(
    "text", ["", "<", "a < b", "<p", "<a href='x>text</a>", "</p></p>", "<!-- open", "<script>x", "&", "<b>"]
)
def test_broken_html_is_no_error(text):
    assert isinstance(translated(text, "html"), str)
    assert "".join(parse(text, "html")).replace("&lt;", "<") == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<p>&nbsp;&nbsp;One two &nbsp;</p>", "<p>&nbsp;&nbsp;TWO oNE &nbsp;</p>"),
        ("<td>5</td><td>1,234.50 %</td><td>5 a</td>", "<td>5</td><td>1,234.50 %</td><td>A 5</td>"),  # no words
        ('<?php echo "a > b"; ?><p>x</p><?xml version="1"?>', '<?php echo "a > b"; ?><p>X</p><?xml version="1"?>'),
    ],
)
def test_odd_html(text, expected):
    assert translated(text, "html") == expected


# ------------------------------------------------------------------------------------------------------------ Markdown

MARKDOWN = """---
title: Front Matter
---
# Head *ing one* #

A paragraph with **bold text** and
`code here` and [a link](http://x.y/a_b "T"). Second
sentence ![an image](a.png)\\
after \\*break\\* star, snake_case.

- item one
- [ ] task

  continued paragraph
  over lines
  - nested one

    more of it

1. first
2. second

> quote one
> two

    indented code

```py
x = "A Word"
```

| a b | c |
|-----|:-:|
| d e | `f` |

Title here
==========

[ref]: http://z "A title"
See [ref] and [text here][ref] or [not]. <b>x y</b> <http://u.v/W> http://a.b/C_d.

<div class="A">
Hello <i>there</i>
</div>

***
Last & least &amp; x\u00a0y
"""


def tokens(text: str) -> list[Any]:
    """Everything of a document but its text, by markdown-it."""
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    found: list[Any] = []
    for token in markdown.parse(text.removeprefix(text.split("# ")[0]) if text.startswith("---") else text):
        kept = token.content if token.type in ("fence", "code_block") else ""
        found.append((token.type, token.tag, token.markup, dict(token.attrs or {}), kept))
        for child in token.children or ():
            if child.type not in ("text", "softbreak"):
                kept = child.content if child.type in ("code_inline", "html_inline") else ""
                attrs = {key: value for key, value in child.attrs.items() if key != "alt"}
                found.append((child.type, child.tag, attrs, kept))
    return found


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("translator", [Swapping, Special])
def test_markdown_keeps_everything_but_text(translator, attention):
    result = translated(MARKDOWN, "md", translator(), attention)
    assert result.startswith("---\ntitle: Front Matter\n---\n# ")
    assert tokens(result) == tokens(MARKDOWN), result


def test_markdown_is_translated():
    result = translated(MARKDOWN, "md")
    assert "# *ONE ING* hEAD #\n" in result
    assert '[LINK A](http://x.y/a_b "T").AND' not in result
    assert "> TWO ONE QUOTE\n" in result
    assert "| B A | C |\n" in result
    assert 'x = "A Word"' in result
    assert "hELLO" in result


@pytest.mark.parametrize(
    "text",
    [
        "> a\n>> b\n> c", "**bold", "`code", "[x](y", "[![img](a)](b) text here", "- a\n\n      code\n", 
        "a | b\n--|--\nc | d e",
        "line one  \nline two\\\nline three", "<details>\n<summary>Sum it</summary>\n\ntext in\n</details>\n",
        "1. x\n\n   para two\n2. y", "a &lt;b&gt; c", "\\# not heading", "---\nnot closed", "# A *b*\r\n\r\nc d\r\n",
    ],
)  # fmt: skip
def test_odd_markdown_keeps_its_structure(text):
    for fake in (Swapping(), Special()):
        for attention in (True, False):
            assert tokens(translated(text, "md", fake, attention)) == tokens(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("> [!NOTE]\n> one two\n", "> [!NOTE]\n> TWO ONE\n"),
        ("> [!tip]- A title\n> text\n", "> [!tip]- TITLE a\n> TEXT\n"),
        (
            '!!! note "A title"\n    one two\n\n    three\n\n        code\n\nfour\n\n    code\n',
            '!!! note "A title"\n    TWO ONE\n\n    THREE\n\n        code\n\nFOUR\n\n    code\n',
        ),
        ('=== "Tab"\n\n    ```\n    code\n    ```\n', '=== "Tab"\n\n    ```\n    code\n    ```\n'),
        (":::warning\none two\n:::\nthree\n", ":::warning\nTWO ONE\n:::\nTHREE\n"),
        ("# one two {#an-id .c}\n\nthree\n{: .lead}\n", "# TWO ONE {#an-id .c}\n\nTHREE\n{: .lead}\n"),
        ("one\n: two three\n: four\n  five\n", "ONE\n: THREE TWO\n: FIVE FOUR\n"),
        ('[a]: http://x\n  "A title"\n\ntext\n', '[a]: http://x\n  "A title"\n\nTEXT\n'),
        ("[one](x){target=_blank}\n", "[ONE](x){target=_blank}\n"),
        ("| 1 | two |\n|---|---|\n| 5 % | x |\n", "| 1 | TWO |\n|---|---|\n| 5 % | X |\n"),
    ],
)
def test_markdown_of_other_programs(text, expected):
    """Alerts, admonitions, tabs, directives, attributes, definition lists; cells without words."""
    assert translated(text, "md") == expected


@pytest.mark.parametrize("line", ["# x", "- x", "+ x", "> x", "1. x", "2) x", "=== x", "---", "``` x", "| x"])
def test_a_translation_begins_no_other_block(line):
    class Fixed(Swapping):
        def change(self, text: str) -> str:
            return line

    assert [kind for kind, *_ in tokens(translated("Some words\n", "md", Fixed()))] == [
        "paragraph_open", "inline", "paragraph_close",
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- text


def test_lines_keep_blank_lines_indentation_and_line_ends():
    text = "\ufeff  One two. Three\tfour!  Five\r\n\r\n \t\r\n\tSix seven.\r\n..."
    expected = "\ufeff  TWO. oNE FOUR! tHREE  fIVE\r\n\r\n \t\r\n\tSEVEN. sIX\r\n..."
    assert translated(text, "text") == expected


def test_paragraphs_are_joined_and_filled():
    text = "One two\r\nthree. Four\r\n\r\n\r\n  Five six seven\n  eight nine\n\nTen\n"
    assert translated(text, "paragraphs") == (
        "THREE. TWO\r\noNE fOUR\r\n\r\n\r\n  NINE EIGHT\n  SEVEN SIX fIVE\n\ntEN\n"
    )


def test_bytes_that_are_no_text_stay_outside_of_paragraphs():
    text = b"<p title='caf\xe9'>caf\xe9 x</p>".decode("utf-8", "surrogateescape")
    assert translated(text, "html").encode("utf-8", "surrogateescape") == "<p title='caf\udce9'>X CAF\ufffd</p>".encode(
        "utf-8", "surrogateescape"
    )


def test_notices_quote_the_first_words_of_a_paragraph():
    class Warning(Swapping):
        def translate(self, lines: Sequence[str], nbest: int, warn: Any = None, first_line: int = 1) -> Any:
            warn(Notice(len(lines), "source cut", "9 subwords"))
            return super().translate(lines, nbest, warn, first_line)

    found: list[Notice] = []
    texts = Texts(Warning(), (), True, "en")  # type: ignore[arg-type]
    parts = parse("<p>one</p><p>two  three four five six seven eight</p>", "html")
    list(texts.document(parts, found.append))
    assert found == [Notice(2, "source cut", '9 subwords; "two three four five six seven…"')]


def test_formats_by_ending():
    names = {
        "a.srt.gz": "srt",
        "a.vtt.utf8": "srt",
        "a.md.utf8.XZ": "md",
        "a.html.clean": "html",
        "a.gz": None,
        ".gz": None,
    }
    assert {name: format_of(name) for name in names} == names
    assert [format_of(name) for name in ("a.SRT", "b.md", "c.htm", "d.txt", "e")] == ["srt", "md", "html", None, None]


@pytest.mark.parametrize("form", ["text", "paragraphs", "srt", "html", "md"])
def test_untranslated_parts_are_the_document(form):
    for text in ("", "\n", "a", "a\n\nb\r\n", SRT, "one. two"):
        parts = parse(text, form)
        joined = "".join(part.finish(part) if isinstance(part, Segment) else part for part in parts)
        assert joined.split() == text.split()
