"""A comparison as text, CSV, LaTeX, HTML and a figure."""

from __future__ import annotations

import csv
import html
import io
import math
from collections.abc import Sequence
from typing import Any

from nmt.evaluation import neural
from nmt.evaluation.comparison import Bin, Comparison, Group, Sentence
from nmt.evaluation.scores import MOST
from nmt.evaluation.scores import TITLES as SCORES

TITLES: dict[str, str] = {**{str(name): title for name, title in SCORES.items()}, **neural.TITLES}
SHOWN, LISTED = 3, 20  # sentences of each kind in the terminal and on the page
SIGNIFICANT = 0.05
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito 2008
DASHES = ("-", "--", ":")
COSTS = {  # heading and form of each number of Cost
    "parameters": ("parameters", ",.0f"),
    "steps": ("steps", ",.0f"),
    "minutes": ("training minutes", ".1f"),
    "seconds": ("s/1,000 sentences", ".1f"),
}
Rows = list[list[str]]

_STYLE = """\
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
body { overflow-wrap: break-word; }
div { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-variant-numeric: tabular-nums; }
td, th { padding: .2rem .8rem .2rem 0; text-align: right; border-bottom: 1px solid #8885; vertical-align: top; }
td:first-child, th:first-child, table.text td, table.text th { text-align: left; }
td, th { white-space: nowrap; } .text td { white-space: normal; overflow-wrap: anywhere; }
.text td:first-child { white-space: nowrap; }
section { border-left: 4px solid #8888; padding: 0 1rem; margin: 1rem 0; }
.alarm { border-left: 4px solid #d33; padding-left: 1rem; margin: .4rem 0; } .note { opacity: .8; font-size: 14px; }
"""


def text(found: Comparison) -> str:
    """The comparison for a terminal."""
    # Scores, cost, significance
    parts = [_title(found)]
    parts += [f"{label} {', '.join(names)}" for label, names in zip(found.labels, found.names, strict=True)]
    parts += ["", *_aligned(_scores(found), 1)]
    if found.costs:
        parts += ["", *_aligned(_costs(found), 1)]
    if found.tests:
        parts += ["", "significance of single runs (p-values of sacreBLEU)", *_aligned(_tests(found), 3)]
    for heading, bins in _bins(found):
        parts += ["", heading, *_aligned(_bin_rows(found, bins), 1)]
    # Translations and keys
    parts += ["", "translations", *_aligned(_health(found), 1)]
    parts += [f"alarm: {line}" for line in alarms(found)]
    parts += [
        "",
        *(
            _aligned(_keys(found), 1 + len(found.labels))
            if found.differing
            else ["no key of the configurations differs"]
        ),
    ]
    # Sentences
    for heading, sentences in _extremes(found, SHOWN):
        parts += ["", heading]
        for one in sentences:
            parts += [f"  {one.number} ({_chrf(found, one)})"]
            lines = _lines(found, one)
            width = max(len(name) for name, _ in lines)
            parts += [f"    {name:<{width}}  {line}" for name, line in lines]
    parts += ["", *(f"note: {line}" for line in found.notes), *_about(found)]
    return "\n".join(parts)


def alarms(found: Comparison) -> list[str]:
    return [f"{one.run}: {line}" for one in found.health for line in one.alarms]


def as_csv(found: Comparison) -> str:
    """All numbers, one a line: table, row, column, value."""
    # Scores and cost
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["table", "row", "column", "value"])
    for metric, sides in found.groups.items():
        for side, names, group in zip(found.labels, found.names, sides, strict=True):
            for name, value in zip(names, group.values, strict=True):
                writer.writerow(["scores", name, metric, value])
            writer.writerow(["mean", side, metric, group.mean])
            writer.writerow(["sd", side, metric, "" if math.isnan(group.sd) else group.sd])
            low, high = group.interval or ("", "")
            writer.writerows([[end, side, metric, value] for end, value in (("lower", low), ("upper", high))])
    for name, sides in found.costs.items():
        for side, names, group in zip(found.labels, found.names, sides, strict=True):
            writer.writerows(["cost", run, name, value] for run, value in zip(names, group.values, strict=True))
            writer.writerow(["mean cost", side, name, group.mean])
    # Significance
    for test in found.tests:
        row = f"{test.b} - {test.a}"
        writer.writerow(["difference", row, test.metric, test.difference])
        writer.writerow(["p bootstrap", row, test.metric, test.bootstrap])
        writer.writerow(["p randomisation", row, test.metric, test.randomisation])
    # Kinds of sentences, translations, keys
    for table, bins in (("length", found.by_length), ("frequency", found.by_frequency)):
        for one in bins:
            values = [("sentences", one.sentences), *zip(found.labels, one.bleu, strict=True)]
            writer.writerows([table, one.label, column, value] for column, value in values)
    for run in found.health:
        for column in ("loops", "copies", "empty", "length"):
            writer.writerow(["translations", run.run, column, getattr(run, column)])
    for key in found.differing:
        for side, distinct in zip(found.labels, key.values, strict=True):
            writer.writerow(["keys", key.key, side, ", ".join(distinct)])
    return file.getvalue()


def latex(found: Comparison) -> str:
    """The table of scores for a paper; needs the package booktabs."""
    heading, *rows = _scores(found, latex=True)
    lines = [
        f"% {_title(found)}",
        *(f"% {label}: {', '.join(names)}" for label, names in zip(found.labels, found.names, strict=True)),
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
    """A self-contained HTML page; all text is escaped."""
    # Scores, cost, significance
    title = html.escape(f"nmt compare: {found.test_set}")
    names = "".join(
        f"<p><b>{html.escape(label)}</b> {html.escape(', '.join(names))}</p>"
        for label, names in zip(found.labels, found.names, strict=True)
    )
    body = [f"<h1>{title}</h1><p>{found.count:,} sentences</p>{names}"]
    body += [f'<p class="alarm">{html.escape(line)}</p>' for line in alarms(found)]
    body += ["<h2>Scores</h2>", _table(_scores(found))]
    if found.costs:
        body += ["<h2>Cost</h2>", _table(_costs(found))]
    if found.tests:
        body += ["<h2>Significance of single runs</h2>", _table(_tests(found))]
    for heading, bins in _bins(found):
        body += [f"<h2>{html.escape(heading)}</h2>", _table(_bin_rows(found, bins))]
    # Translations, keys, sentences
    body += ["<h2>Translations</h2>", _table(_health(found)), "<h2>Keys that differ</h2>"]
    body.append(_table(_keys(found), "text") if found.differing else "<p>None.</p>")
    for heading, sentences in _extremes(found, LISTED):
        body.append(f"<h2>{html.escape(heading)}</h2>")
        for one in sentences:
            rows = [["sentence", f"{one.number}; {_chrf(found, one)}"], *map(list, _lines(found, one))]
            body.append(f"<section>{_table(rows, 'text', heading=False)}</section>")
    body += [f'<p class="note">{html.escape(line)}</p>' for line in [*found.notes, *_about(found)]]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>{"".join(body)}</html>\n'
    )


def figure(found: Comparison) -> Any:
    """A matplotlib figure: scores of the groups, BLEU by length and frequency, and against the time of the search."""
    from matplotlib.figure import Figure  # slow to import

    panels, timed = _bins(found), _searches_differ(found)
    columns, many = 1 + len(panels) + timed, len(found.labels) > 2
    first = max(1.0, 0.18 * len(found.labels))  # width of the first panel, of which the others have 1.7
    size = 2.6 * first + 4.5 * (columns - 1) + 1
    result = Figure(figsize=(max(size, 4), 4 + many), dpi=120, layout="constrained")
    axes = result.subplots(1, columns, squeeze=False, width_ratios=[first, *[1.7] * (columns - 1)])[0]
    _draw_scores(axes[0], found)
    for axis, (heading, bins) in zip(axes[1:], panels, strict=False):
        _draw_bins(axis, found.labels, bins)
        axis.set_title(heading, fontsize=9)
    if timed:
        _draw_time(axes[-1], found)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", alpha=0.3)
        axis.set_axisbelow(True)
    if not many:
        names = zip(found.labels, found.names, strict=True)
        lines = [_short(f"{label}: {', '.join(runs)}") for label, runs in names]
        result.suptitle("\n".join(lines), fontsize=9, parse_math=False)
    return result


def _look(place: int) -> dict[str, Any]:
    """Colour and line of a group."""
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": DASHES[place // len(COLOURS) % len(DASHES)]}


def _draw_scores(axis: Any, found: Comparison) -> None:
    """The runs of each group, and their mean with its 95 % interval where there are several."""
    metric = next(iter(found.groups))
    for place, group in enumerate(found.groups[metric]):
        colour, (low, high) = _look(place)["color"], group.interval or (group.mean, group.mean)
        ends = [[group.mean - low], [high - group.mean]]
        axis.errorbar([place], [group.mean], yerr=ends, color=colour, fmt="_", markersize=20, capsize=5)
        axis.plot([place] * len(group.values), group.values, "o", color=colour, alpha=0.6, markersize=5)
    turned = max(map(len, found.labels)) > 3
    labels = [_short(label, 30) for label in found.labels]
    axis.set_xticks(range(len(labels)), labels, rotation=35 if turned else 0, ha="right" if turned else "center",
                    rotation_mode="anchor", fontsize=8, parse_math=False)  # fmt: skip
    axis.set_xlim(-0.6, len(labels) - 0.4)
    axis.set_ylabel(TITLES[metric])
    known = any(group.interval for group in found.groups[metric])
    axis.set_title("runs, mean and 95 % interval" if known else "runs", fontsize=9)


def _draw_bins(axis: Any, labels: Sequence[str], bins: Sequence[Bin]) -> None:
    """Bars of two groups, lines of more."""
    places = range(len(bins))
    for number, label in enumerate(labels):
        heights, name = [one.bleu[number] for one in bins], _short(label, 30)
        if len(labels) > 2:
            axis.plot(places, heights, marker="o", markersize=4, label=name, **_look(number))
        else:
            shift = 0.4 * number - 0.2 * (len(labels) - 1)
            axis.bar([place + shift for place in places], heights, 0.38, color=COLOURS[number], label=name)
    axis.set_xticks(places, [f"{one.label}\n({one.sentences})" for one in bins], fontsize=8)
    axis.set_ylim(bottom=0)
    axis.set_ylabel("BLEU")
    if len(labels) > 1:
        columns = 1 + (len(labels) > 8)
        axis.legend(frameon=False, fontsize=8, ncols=columns)


def _draw_time(axis: Any, found: Comparison) -> None:
    """BLEU against the time of the search."""
    metric = next(iter(found.groups))
    points = zip(found.labels, found.costs["seconds"], found.groups[metric], strict=True)
    for place, (label, time, group) in enumerate(points):
        low, high = group.interval or (group.mean, group.mean)
        ends = [[group.mean - low], [high - group.mean]]
        look = {"color": _look(place)["color"], "fmt": "o", "markersize": 5, "capsize": 4}
        axis.errorbar([time.mean], [group.mean], yerr=ends, label=_short(label, 30), **look)
    axis.set_xlim(0, 1.4 * max(group.mean for group in found.costs["seconds"]))  # room for the legend
    axis.legend(frameon=False, fontsize=8, loc="upper right")
    axis.set_xlabel("seconds for 1,000 sentences")
    axis.set_ylabel(TITLES[metric])
    axis.set_title("score and time of the search", fontsize=9)


def _searches_differ(found: Comparison) -> bool:
    return "seconds" in found.costs and any(one.key.startswith("search.") for one in found.differing)


# ------------------------------------------------------------------------------------------------------------- contents


def _title(found: Comparison) -> str:
    return f"{found.test_set}: {found.count:,} sentences"


def _scores(found: Comparison, latex: bool = False) -> Rows:
    rows = [["", *(TITLES[metric] for metric in found.groups)]]
    for place, label in enumerate(found.labels):
        name = found.names[place][0] if len(found.names[place]) == 1 else f"{len(found.names[place])} runs"
        head = f"{label}: {name}" if latex else f"{label} ({name})"
        rows.append([head, *(_spread(sides[place], latex, _digits(m)) for m, sides in found.groups.items())])
    for place, label in enumerate(found.labels[1:], 1):
        changes = [(sides[place].mean - sides[0].mean, _digits(metric)) for metric, sides in found.groups.items()]
        numbers = (_number(change, latex, digits, "+") for change, digits in changes)
        rows.append([f"difference ({label} - {found.labels[0]})", *numbers])
    return rows


def _digits(metric: str) -> int:
    return 4 if metric in neural.TITLES else 2


def _spread(group: Group, latex: bool, digits: int) -> str:
    sign, ends, mean = r"$\pm$" if latex else "±", group.interval, _number(group.mean, latex, digits)
    if ends is None:
        return mean
    low, high = (_number(end, latex, digits) for end in ends)
    if len(group.values) == 1:
        return f"{mean} [{low}, {high}]"
    return f"{mean} {sign} {group.sd:.{digits}f} [{low}, {high}]"


def _number(value: float, latex: bool, digits: int, sign: str = "") -> str:
    return f"{value:{sign}z.{digits}f}".replace("-", "$-$" if latex else "-")


def _costs(found: Comparison) -> Rows:
    rows = [["", *(COSTS[name][0] for name in found.costs)]]
    for place, label in enumerate(found.labels):
        rows.append([label, *(format(sides[place].mean, COSTS[name][1]) for name, sides in found.costs.items())])
    return rows


def _tests(found: Comparison) -> Rows:
    first, second = found.labels if len(found.labels) == 2 else ("first", "second")
    rows = [[first, second, "metric", f"{second} - {first}", "p bootstrap", "p randomisation", ""]]
    for one in found.tests:
        sure = one.difference != 0 and max(one.bootstrap, one.randomisation) < SIGNIFICANT
        rows.append([
            one.a, one.b, TITLES[one.metric], f"{one.difference:+z.2f}", f"{one.bootstrap:.4f}",
            f"{one.randomisation:.4f}", "*" if sure else "",
        ])  # fmt: skip
    return rows


def _bins(found: Comparison) -> list[tuple[str, list[Bin]]]:
    named = [
        ("BLEU by words of the source", found.by_length),
        ("BLEU by training frequency of the rarest reference word", found.by_frequency),
    ]
    return [(heading, bins) for heading, bins in named if bins]


def _bin_rows(found: Comparison, bins: Sequence[Bin]) -> Rows:
    first, *others = found.labels
    two = len(others) == 1
    rows = [["", "sentences", *found.labels, *([f"{others[0]} - {first}"] if two else [])]]
    for one in bins:
        difference = [f"{one.bleu[1] - one.bleu[0]:+z.2f}"] if two else []
        rows.append([one.label, f"{one.sentences:,}", *(f"{value:.2f}" for value in one.bleu), *difference])
    return rows


def _health(found: Comparison) -> Rows:
    rows = [["", "repetition", "copies", "empty", "length"]]
    for one in found.health:
        rows.append([one.run, f"{one.loops:.1%}", f"{one.copies:.1%}", f"{one.empty:.1%}", f"{one.length:.2f}"])
    return rows


def _keys(found: Comparison) -> Rows:
    rows = [[one.key, *(", ".join(value) for value in one.values)] for one in found.differing]
    return [["key", *found.labels], *rows]


def _extremes(found: Comparison, count: int) -> list[tuple[str, list[Sentence]]]:
    first, second = _opponents(found)
    better, worse = found.extremes(count)
    named = [
        (f"sentences on which {second} is better by most", better),
        (f"sentences on which {first} is better by most", worse),
    ]
    several = max(map(len, found.names)) > 1
    more = ", by mean chrF; each with a translation of about this chrF" if several else ""
    return [(f"{heading}{more}", sentences) for heading, sentences in named if sentences]


def _opponents(found: Comparison) -> tuple[str, str]:
    return found.labels[found.opponents[0]], found.labels[found.opponents[1]]


def _chrf(found: Comparison, one: Sentence) -> str:
    first, second = _opponents(found)
    return f"chrF {one.chrf[0]:.1f} in {first}, {one.chrf[1]:.1f} in {second}"


def _lines(found: Comparison, one: Sentence) -> list[tuple[str, str]]:
    labels = [f"{side} ({run})" for side, run in zip(_opponents(found), one.runs, strict=True)]
    return [("source", one.source), ("reference", one.reference), *zip(labels, one.hypotheses, strict=True)]


def _about(found: Comparison) -> list[str]:
    lines = []
    if max(map(len, found.names)) > 1:
        lines.append("±: standard deviation over the runs; [ ]: 95 % interval of their mean over training seeds")
    if min(map(len, found.names)) == 1 and found.count <= MOST:
        lines.append("[ ] of a single run: 95 % interval over other sentences (bootstrap)")
    if found.tests:
        lines.append(
            f"* both p-values are below {SIGNIFICANT}; they concern other sentences, not other seeds of the training"
        )
    if "ter" in found.groups:
        lines.append("TER: lower is better")
    if "seconds" in found.costs:
        lines.append("s/1,000 sentences: of the search; processor time on a CPU, elapsed time on a GPU")
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


def _short(line: str, most: int = 120) -> str:
    return line if len(line) <= most else line[: most - 1] + "…"
