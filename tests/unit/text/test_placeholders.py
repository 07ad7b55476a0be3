"""Placeholders of each kind in odd company, by hand."""

import pytest

from nmt.text.placeholders import KINDS, find


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{{raw}}} {{#if x}}a{{/if}} {a{b}c} {two words}", ["{{{raw}}}", "{{#if x}}", "{{/if}}", "{b}"]),
        ("<%= user.name %> <% if x > 0 %>", ["<%= user.name %>", "<% if x > 0 %>"]),
        ("<0>here</0> <1/> 5 < 6 <7", ["<0>", "</0>", "<1/>", "5", "6", "7"]),
        ("%-10s|%05.2f|100%% 50% discount %(n)d %1$@", ["%-10s", "%05.2f", "100", "%%", "50", "%(n)d", "%1$@"]),
        ("{0,number,#.##} {name!r} {:>10} {}{}", ["{0,number,#.##}", "{name!r}", "{:>10}", "{}", "{}"]),
        ("{n, plural, =0 {none} other {# items}} left", ["{n, plural, =0 {none} other {# items}}"]),
        ("(http://x.y/a_(b)?q=1&r=2), www.x.org.", ["http://x.y/a_(b)?q=1&r=2", "www.x.org"]),
        ("(www.x.org/A_(b)), http://x.y/(c).", ["www.x.org/A_(b)", "http://x.y/(c)"]),
        ("HTTPS://X.ORG/A, WWW.X.ORG.", ["HTTPS://X.ORG/A", "WWW.X.ORG"]),
        ("see http://x.org/#a&#x27; or http://x.org/b&c;", ["http://x.org/#a&#x27;", "http://x.org/b&c"]),
        ("https://x.org/{id}/edit?q=${a}&r={{ b }}, {c}", ["https://x.org/{id}/edit?q=${a}&r={{ b }}", "{c}"]),
        ("{ name } { two words } { }", ["{ name }", "{ }"]),
        ("192.168.0.1, 1st, mp3, v2 12:30.", ["192.168.0.1", "12:30"]),
        ("&amp;lt; &copy AT&T <img alt='a > b'/>", ["&amp;", "<img alt='a > b'/>"]),
        ("``a ` b`` `c", ["``a ` b``"]),
    ],
)
def test_placeholders(text, expected):
    assert [text[span.start : span.end] for span in find(text, KINDS)] == expected
