"""The report of ``nmt check``, as text and as one HTML page."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence

from nmt.checks.finding import Finding
from nmt.numbers import count_of
from nmt.text.width import wrap

SHOWN = 3  # examples of a finding on the terminal
INDENT = 26  # columns before the text of a finding
NARROWEST = 20  # columns of the text on a narrow terminal
_STYLE = """\
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
section { border-left: 4px solid; padding: 0 1rem; margin: 1rem 0; }
.ok { border-color: #4a4; } .warning { border-color: #d90; } .problem { border-color: #d33; }
p { margin: .2rem 0; } pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 13px; }
"""


def summary(findings: Sequence[Finding]) -> str:
    count = Counter(each.level for each in findings)
    return f"{count_of(count['problem'], 'problem')}, {count_of(count['warning'], 'warning')}, {count['ok']} ok"


def text(findings: Sequence[Finding], width: int | None = None) -> str:
    """The report as lines.

    Args:
        width: columns of the terminal, to which the lines are wrapped; None: one line for each text.
    """
    lines: list[str] = []
    for each in findings:
        examples = each.examples[: 5 if each.level == "ok" else SHOWN]
        rows = [(f"{each.level:<8} {each.rule:<16} ", each.text), *((" " * INDENT, example) for example in examples)]
        if each.advice:
            rows.append((f"{'-> ':>{INDENT}}", each.advice))
        for first, told in rows:
            parts = [told] if width is None else wrap(told, max(NARROWEST, width - INDENT))
            lines += [f"{' ' * INDENT if place else first}{part}" for place, part in enumerate(parts)]
    return "\n".join(lines)


def page(title: str, findings: Sequence[Finding]) -> str:
    """A self-contained HTML page; all text is escaped."""
    body: list[str] = []
    for each in findings:
        examples = html.escape("\n".join(each.examples))
        body.append(
            f'<section class="{each.level}"><p><b>{each.level}: {html.escape(each.rule)}</b></p>'
            f"<p>{html.escape(each.text)}</p>"
            + (f"<pre>{examples}</pre>" if examples else "")
            + (f"<p><i>{html.escape(each.advice)}</i></p>" if each.advice else "")
            + "</section>"
        )
    name = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>nmt check {name}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style><h1>nmt check {name}</h1>'
        f"<p>{summary(findings)}</p>{''.join(body)}</html>\n"
    )
