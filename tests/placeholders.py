"""Generated lines with placeholders, and a check of their translations that shares no code with nmt."""

import random
import re
from collections import Counter
from html.parser import HTMLParser

WORDS = ["one", "two", "three", "four", "five", "six", "seven"]
SINGLE = [
    "{name}", "{0}", "{}", "{{ user.id }}", "%s", "%(count)d", "%1$s", "%5.2f", "$HOME", "${path}", "%%", "&nbsp;",
    "&#233;", "https://example.org/a?b=1&c=2#d", "www.example.org/x", "ann.lee+x@mail.example.org", "1,234.50", "12:30",
    "2026-11-27", "7", "<br/>", '<img src="a b.png" alt=\'>\'/>', "{n, plural, one {# file} other {# files}}",
]  # fmt: skip
PAIRS = [
    ("<b>", "</b>"),
    ('<a href="https://example.org/x_y">', "</a>"),
    ("<i>", "</i>"),
    ("<span class='c'>", "</span>"),
]


def line(rng: random.Random) -> tuple[str, list[str]]:
    """A line, and its placeholders."""
    words: list[str] = rng.choices(WORDS, k=rng.randint(0, 7))
    for placeholder in rng.sample(SINGLE, rng.randint(0, 4)):
        words.insert(rng.randint(0, len(words)), placeholder)
    found = [word for word in words if word not in WORDS]
    for opening, closing in rng.sample(PAIRS, rng.randint(0, 2)):
        start, end = sorted(rng.choices(range(len(words) + 1), k=2))
        if start < end:  # around whole words and pairs: nested, never crossed
            depth = [sum(each.count(o) for o, _ in PAIRS) - sum(each.count(c) for _, c in PAIRS) for each in words]
            if all(sum(depth[start:n]) >= 0 for n in range(start, end + 1)) and not sum(depth[start:end]):
                words[start] = opening + words[start]
                words[end - 1] += closing
                found += [opening, closing]
    return " ".join(words), found


class Nesting(HTMLParser):
    """Tags in their order; fails at a wrong end."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, text

    def handle_starttag(self, tag, attrs):
        self.seen.append(self.get_starttag_text() or "")
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(self.get_starttag_text() or "")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.seen.append(f"</{tag}>")


def check(text: str, placeholders: list[str], translation: str) -> None:
    """Fail unless a translation has each placeholder of a line once, and its tags in their order, well nested."""
    for placeholder, count in Counter(placeholders).items():
        start = r"(?<![\w.,-])" if placeholder[0].isdigit() else ""
        assert len(re.findall(start + re.escape(placeholder), translation)) == count, (placeholder, text, translation)
    assert Nesting(translation).seen == Nesting(text).seen, (text, translation)
