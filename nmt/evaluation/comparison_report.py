"""A comparison as text, CSV, LaTeX, HTML and a figure."""

from __future__ import annotations

import csv
import html
import io
import math
from collections.abc import Sequence
from typing import Any

from nmt.evaluation.comparison import Bin, Comparison, Group, Sentence
from nmt.evaluation.scores import TITLES

SHOWN, LISTED = 3, 20  # sentences of each kind in the terminal and on the page
SIGNIFICANT = 0.05
COLOURS = ("#0072b2", "#d55e00")  # Okabe and Ito 2008
Rows = list[list[str]]

_STYLE = """\
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
div { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-variant-numeric: tabular-nums; }
td, th { padding: .2rem .8rem .2rem 0; text-align: right; border-bottom: 1px solid #8885; vertical-align: top; }
td:first-child, th:first-child, table.text td, table.text th { text-align: left; }
td, th { white-space: nowrap; } .text td { white-space: normal; overflow-wrap: anywhere; }
.text td:first-child { white-space: nowrap; }
section { border-left: 4px solid #8888; padding: 0 1rem; margin: 1rem 0; }
.alarm { border-left: 4px solid #d33; padding-left: 1rem; } .note { opacity: .8; font-size: 14px; }
"""


def text(found: Comparison) -> str:
    """The comparison for a terminal."""
    parts = [_title(found)]
    parts += [f"{side} {', '.join(names)}" for side, names in zip("AB", found.names, strict=True)]
    parts += ["", *_aligned(_scores(found), 1)]
    if found.tests:
        parts += ["", "significance of single runs (p-values of sacreBLEU)", *_aligned(_tests(found), 3)]
    for heading, bins in _bins(found):
        parts += ["", heading, *_aligned(_bin_rows(bins), 1)]
    parts += ["", "translations", *_aligned(_health(found), 1)]
    parts += [f"alarm: {line}" for line in alarms(found)]
    parts += ["", *(_aligned(_keys(found), 3) if found.differing else ["no key of the configurations differs"])]
    for heading, sentences in _extremes(found, SHOWN):
        parts += ["", heading]
        for one in sentences:
            parts += [f"  {one.number} (chrF {one.chrf[0]:.1f} in A, {one.chrf[1]:.1f} in B)"]
            lines = _lines(one)
            width = max(len(name) for name, _ in lines)
            parts += [f"    {name:<{width}}  {line}" for name, line in lines]
    parts += ["", *(f"note: {line}" for line in found.notes), *_about(found)]
    return "\n".join(parts)


def alarms(found: Comparison) -> list[str]:
    return [f"{one.run}: {line}" for one in found.health for line in one.alarms]


def as_csv(found: Comparison) -> str:
    """All numbers, one a line: table, row, column, value."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["table", "row", "column", "value"])
    for metric, sides in found.groups.items():
        for side, names, group in zip("AB", found.names, sides, strict=True):
            for name, value in zip(names, group.values, strict=True):
                writer.writerow(["scores", name, metric, value])
            writer.writerow(["mean", side, metric, group.mean])
            writer.writerow(["sd", side, metric, "" if math.isnan(group.sd) else group.sd])
    for test in found.tests:
        row = f"{test.b} - {test.a}"
        writer.writerow(["difference", row, test.metric, test.difference])
        writer.writerow(["p bootstrap", row, test.metric, test.bootstrap])
        writer.writerow(["p randomisation", row, test.metric, test.randomisation])
    for table, bins in (("length", found.by_length), ("frequency", found.by_frequency)):
        for one in bins:
            values = (("sentences", one.sentences), ("A", one.bleu[0]), ("B", one.bleu[1]))
            writer.writerows([table, one.label, column, value] for column, value in values)
    for run in found.health:
        for column in ("loops", "copies", "empty", "length"):
            writer.writerow(["translations", run.run, column, getattr(run, column)])
    for key in found.differing:
        for side, distinct in zip("AB", key.values, strict=True):
            writer.writerow(["keys", key.key, side, ", ".join(distinct)])
    return file.getvalue()


def latex(found: Comparison) -> str:
    """The table of scores for a paper; needs the package booktabs."""
    heading, *rows = _scores(found, latex=True)
    lines = [
        f"% {_title(found)}; A: {', '.join(found.names[0])}; B: {', '.join(found.names[1])}",
        *(f"% {TITLES[metric]}: {signature}" for metric, signature in found.settings.items()),
        rf"\begin{{tabular}}{{l{'r' * (len(heading) - 1)}}}",
        r"\toprule",
        *(f"{' & '.join(row)} \\\\" for row in [[_escaped(cell) for cell in heading]]),
        r"\midrule",
        *(f"{' & '.join([_escaped(row[0]), *row[1:]])} \\\\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def page(found: Comparison) -> str:
    """One page that needs nothing from the network; all text is escaped."""
    title = html.escape(f"nmt compare: {found.test_set}")
    names = "".join(
        f"<p><b>{side}</b> {html.escape(', '.join(names))}</p>" for side, names in zip("AB", found.names, strict=True)
    )
    body = [f"<h1>{title}</h1><p>{found.count:,} sentences</p>{names}"]
    body += [f'<p class="alarm">{html.escape(line)}</p>' for line in alarms(found)]
    body += ["<h2>Scores</h2>", _table(_scores(found))]
    if found.tests:
        body += ["<h2>Significance of single runs</h2>", _table(_tests(found))]
    for heading, bins in _bins(found):
        body += [f"<h2>{html.escape(heading)}</h2>", _table(_bin_rows(bins))]
    body += ["<h2>Translations</h2>", _table(_health(found)), "<h2>Keys that differ</h2>"]
    body.append(_table(_keys(found), "text") if found.differing else "<p>None.</p>")
    for heading, sentences in _extremes(found, LISTED):
        body.append(f"<h2>{html.escape(heading)}</h2>")
        for one in sentences:
            rows = [["sentence", f"{one.number}; chrF {one.chrf[0]:.1f} in A, {one.chrf[1]:.1f} in B"]]
            body.append(f"<section>{_table([*rows, *map(list, _lines(one))], 'text', heading=False)}</section>")
    body += [f'<p class="note">{html.escape(line)}</p>' for line in [*found.notes, *_about(found)]]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>{"".join(body)}</html>\n'
    )


def figure(found: Comparison) -> Any:
    """A matplotlib figure: scores of the runs, and BLEU by length and by frequency."""
    from matplotlib.figure import Figure  # slow to import

    panels = _bins(found)
    result = Figure(figsize=(4 + 4.5 * len(panels), 4), dpi=120, layout="constrained")
    axes = result.subplots(1, 1 + len(panels), squeeze=False, width_ratios=[0.6, *[1] * len(panels)])[0]
    metric = next(iter(found.groups))
    for place, (side, group) in enumerate(zip("AB", found.groups[metric], strict=True)):
        colour, sd = COLOURS[place], 0.0 if math.isnan(group.sd) else group.sd
        axes[0].errorbar([place], [group.mean], yerr=[sd], color=colour, fmt="_", markersize=24, capsize=6)
        axes[0].plot([place] * len(group.values), group.values, "o", color=colour, alpha=0.6, label=side)
    axes[0].set_xticks([0, 1], ["A", "B"])
    axes[0].set_xlim(-0.6, 1.6)
    axes[0].set_ylabel(TITLES[metric])
    axes[0].set_title("runs, mean and standard deviation", fontsize=9)
    for axis, (heading, bins) in zip(axes[1:], panels, strict=True):
        places = range(len(bins))
        for number, side in enumerate("AB"):
            heights = [one.bleu[number] for one in bins]
            axis.bar([p + 0.4 * number - 0.2 for p in places], heights, 0.38, color=COLOURS[number], label=side)
        axis.set_xticks(places, [f"{one.label}\n({one.sentences})" for one in bins], fontsize=8)
        axis.set_title(heading, fontsize=9)
        axis.set_ylabel("BLEU")
        axis.legend(frameon=False)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", alpha=0.3)
        axis.set_axisbelow(True)
    result.suptitle("\n".join(_short(f"{s}: {', '.join(n)}") for s, n in zip("AB", found.names, strict=True)),
                    fontsize=9, parse_math=False)  # fmt: skip
    return result


# ------------------------------------------------------------------------------------------------------------- contents


def _title(found: Comparison) -> str:
    return f"{found.test_set}: {found.count:,} sentences"


def _scores(found: Comparison, latex: bool = False) -> Rows:
    rows = [["", *(TITLES[metric] for metric in found.groups)]]
    for side, place in (("A", 0), ("B", 1)):
        name = found.names[place][0] if len(found.names[place]) == 1 else f"{len(found.names[place])} runs"
        label = f"{side}: {name}" if latex else f"{side} ({name})"
        rows.append([label, *(_spread(sides[place], latex) for sides in found.groups.values())])
    minus = "$-$" if latex else "-"
    changes = [f"{b.mean - a.mean:+.2f}".replace("-", minus) for a, b in found.groups.values()]
    return [*rows, ["difference (B - A)", *changes]]


def _spread(group: Group, latex: bool) -> str:
    sign = r"$\pm$" if latex else "±"
    return f"{group.mean:.2f}" + ("" if math.isnan(group.sd) else f" {sign} {group.sd:.2f}")


def _tests(found: Comparison) -> Rows:
    rows = [["A", "B", "metric", "B - A", "p bootstrap", "p randomisation", ""]]
    for one in found.tests:
        sure = max(one.bootstrap, one.randomisation) < SIGNIFICANT
        rows.append([
            one.a, one.b, TITLES[one.metric], f"{one.difference:+.2f}", f"{one.bootstrap:.4f}",
            f"{one.randomisation:.4f}", "*" if sure else "",
        ])  # fmt: skip
    return rows


def _bins(found: Comparison) -> list[tuple[str, list[Bin]]]:
    named = [
        ("BLEU by words of the source", found.by_length),
        ("BLEU by training frequency of the rarest reference word", found.by_frequency),
    ]
    return [(heading, bins) for heading, bins in named if bins]


def _bin_rows(bins: Sequence[Bin]) -> Rows:
    rows = [["", "sentences", "A", "B", "B - A"]]
    for one in bins:
        a, b = one.bleu
        rows.append([one.label, f"{one.sentences:,}", f"{a:.2f}", f"{b:.2f}", f"{b - a:+.2f}"])
    return rows


def _health(found: Comparison) -> Rows:
    rows = [["", "repetition", "copies", "empty", "length"]]
    for one in found.health:
        rows.append([one.run, f"{one.loops:.1%}", f"{one.copies:.1%}", f"{one.empty:.1%}", f"{one.length:.2f}"])
    return rows


def _keys(found: Comparison) -> Rows:
    return [["key", "A", "B"], *([one.key, *(", ".join(value) for value in one.values)] for one in found.differing)]


def _extremes(found: Comparison, count: int) -> list[tuple[str, list[Sentence]]]:
    better, worse = found.extremes(count)
    named = [("sentences on which B is better by most", better), ("sentences on which A is better by most", worse)]
    several = max(map(len, found.names)) > 1
    more = ", by mean chrF; each with a translation of about this chrF" if several else ""
    return [(f"{heading}{more}", sentences) for heading, sentences in named if sentences]


def _lines(one: Sentence) -> list[tuple[str, str]]:
    labels = [f"{side} ({run})" for side, run in zip("AB", one.runs, strict=True)]
    return [("source", one.source), ("reference", one.reference), *zip(labels, one.hypotheses, strict=True)]


def _about(found: Comparison) -> list[str]:
    several = max(map(len, found.names)) > 1
    lines = ["±: standard deviation over the runs"] if several else []
    if found.tests:
        lines.append(
            f"* both p-values are below {SIGNIFICANT}; they concern other sentences, not other seeds of the training"
        )
    if "ter" in found.groups:
        lines.append("TER: lower is better")
    return [*lines, *(f"{TITLES[metric]}: {signature}" for metric, signature in found.settings.items())]


# ---------------------------------------------------------------------------------------------------------------- forms


def _aligned(rows: Rows, left: int) -> list[str]:
    """Columns, the first ``left`` of them flush left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]  # fmt: skip


def _table(rows: Rows, kind: str = "", heading: bool = True) -> str:
    lines = []
    for number, row in enumerate(rows):
        tag = "th" if heading and number == 0 else "td"
        lines.append(f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in row)}</tr>")
    return f'<div><table class="{kind}">{"".join(lines)}</table></div>'


_SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}  # fmt: skip


def _escaped(cell: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in cell)


def _short(line: str) -> str:
    return line if len(line) <= 120 else line[:119] + "…"
