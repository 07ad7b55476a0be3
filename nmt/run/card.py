"""The run card: how a run came about, as ``run.json`` for programs and ``run.md`` for people.

The card lists the sittings of the training: each start that trained, with its environment, machine, start and end. A
sitting without an end is running, or was killed.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from nmt.numbers import plain
from nmt.run.directory import Run
from nmt.storage.atomic import write_json, write_text
from nmt.storage.locks import waiting_lock

FORMAT = 1


def load(run: Run) -> dict[str, Any] | None:
    """The card of a run; None if there is none that can be read."""
    try:
        card = json.loads((run.path / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return card if isinstance(card, dict) and isinstance(card.get("sittings"), list) else None


def begin(
    run: Run,
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
    step: int,
    machines: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Add a sitting that starts to train at ``step``.

    Args:
        environment: see :func:`nmt.runtime.environment.environment`.
        machines: :func:`machine` of each rank; by default of this process alone.
    """
    sitting: dict[str, Any] = {**environment, "machine": dict(machines[0]) if machines else machine()}
    if len(machines) > 1:
        sitting["machines"] = [dict(one) for one in machines]
    sitting |= {"began": _now(), "first_step": step, "end": None}
    manifest = run.load_manifest()
    with waiting_lock(run.path):
        card = load(run) or {"format": FORMAT, "sittings": []}
        card |= {"name": run.path.name, "state": "started", "config": dict(config)}
        card["data"] = {key: manifest.get(key) for key in ("inputs", "sizes", "files", "tokenizer")}
        card["sittings"] = [*card["sittings"], sitting]
        _write(run, card)


def end(
    run: Run,
    step: int,
    seconds: float,
    reason: str,
    scores: Mapping[str, Any] | None = None,
    searches: Mapping[str, Any] | None = None,
    tokens: Mapping[str, int] | None = None,
    used: Mapping[str, Any] | None = None,
) -> None:
    """Record the end of the last sitting, unless it is recorded, and the scores; without a card, nothing is written.

    Args:
        seconds: training time over all sittings.
        scores: by test set, where the run is finished.
        searches: what the search of each of these sets took.
        tokens: that all sittings trained on, by side; None where they are not known.
        used: what the last sitting used, such as memory and energy.
    """
    with waiting_lock(run.path):
        card = load(run)
        if card is None or not card["sittings"]:
            return
        if card.get("state") != "finished":
            card["sittings"][-1] |= {"end": _now(), "last_step": step, "reason": reason, **(used or {})}
            if tokens is not None:
                card["tokens"] = dict(tokens)
            card |= {"steps": step, "seconds": round(seconds, 3), "state": "stopped" if scores is None else "finished"}
            for key in ("scores", "searches"):  # those of an earlier end
                card.pop(key, None)
        elif not scores or _holds(card, scores):
            return
        if scores is not None:
            _add(card, scores, searches or {})
        _write(run, card)


def add_scores(run: Run, scores: Mapping[str, Any], searches: Mapping[str, Any] | None = None) -> None:
    """Add scores of the final model to the card; without a card, or with the same scores in it, nothing is written.

    Args:
        scores: by the name that the results have in the run's ``evaluation/``.
        searches: what the search of each took, by the same names.
    """
    with waiting_lock(run.path):
        card = load(run)
        if card is None or _holds(card, scores):
            return
        _add(card, scores, searches or {})
        _write(run, card)


def _add(card: dict[str, Any], scores: Mapping[str, Any], searches: Mapping[str, Any]) -> None:
    for key, new in (("scores", scores), ("searches", searches)):
        if found := {**card.get(key, {}), **new}:
            card[key] = found


def translation_seconds(run: Run, name: str) -> float | None:
    """Seconds for 1,000 sentences of a set: processor time on a CPU, else elapsed time; None where not recorded."""
    found = (load(run) or {}).get("searches", {})
    try:
        one = found[name]
        seconds = one["processor_seconds" if one["device"] == "cpu" else "seconds"]
        return 1000 * float(seconds) / int(one["sentences"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def _holds(card: Mapping[str, Any], scores: Mapping[str, Any]) -> bool:
    known = card.get("scores", {})
    return all(known.get(name) == json.loads(json.dumps(one)) for name, one in scores.items())


def machine() -> dict[str, Any]:
    """Cores, memory in bytes, and system of this process; what cannot be read is left out."""
    found: dict[str, Any] = {"system": platform.platform(), "cores": os.cpu_count()}
    with suppress(OSError, ValueError, AttributeError):
        found["memory"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return found


def page(card: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    lines = [f"# Run {card['name']}", "", f"State: {card['state']}."]
    if "steps" in card:
        lines[-1] += f" {card['steps']:,} steps in {card['seconds'] / 60:.1f} minutes of training."
        lines += _used(card)
    for name, scores in card.get("scores", {}).items():
        lines += ["", f"## Scores on {name}", "", "| metric | score | 95 % interval | signature |", "|---|---|---|---|"]
        for metric, signature in scores["signatures"].items():
            ends = scores.get("intervals", {}).get(metric)
            told = f"{ends[0]:.2f} to {ends[1]:.2f}" if ends else "-"
            lines.append(f"| {metric} | {scores[metric]:.2f} | {told} | `{signature.replace('|', ' ')}` |")
    for number, sitting in enumerate(card["sittings"], 1):
        lines += ["", f"## Sitting {number}", "", "| what | value |", "|---|---|"]
        for key, value in sitting.items():
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            lines.append(f"| {key} | {shown.replace('|', chr(92) + '|')} |")
    data, config = (json.dumps(card[key], indent=2, ensure_ascii=False) for key in ("data", "config"))
    return "\n".join([*lines, "", "## Data", "", "```json", data, "```", "", "## Configuration", "", "```json", config,
                      "```", ""])  # fmt: skip


def _used(card: Mapping[str, Any]) -> list[str]:
    """Tokens, memory and energy in words; what is not known is said."""
    tokens, sittings = card.get("tokens"), card["sittings"]
    told = "not known: an earlier version of nmt began the run"
    if tokens is not None:
        told = f"{tokens['source']:,} source and {tokens['target']:,} target subwords, repeats counted"
    peak = max((one["peak_memory"] for one in sittings if "peak_memory" in one), default=None)
    lines = ["", f"Trained on: {told}."]
    if peak is not None:
        kind = "GPU memory" if sittings[-1].get("device") == "cuda" else "memory of the process"
        lines.append(f"Most memory: {peak / 2**20:,.0f} MiB ({kind}).")
    found = [one["energy_joules"] for one in sittings if one.get("energy_joules")]
    sums = {kind: sum(one.get(kind, 0.0) for one in found) for kind in dict.fromkeys(k for one in found for k in one)}
    if not sums:
        return [*lines, "Energy: not told by this machine."]
    parts = " and ".join(f"{plain(joules / 3.6e6, 4)} kWh of the {kind}" for kind, joules in sums.items())
    lacking = len(sittings) - len(found)
    more = f"; {lacking} of {len(sittings)} sittings without a measurement" if lacking else ""
    return [*lines, f"Energy: {parts}{more}. A processor's is that of the whole machine."]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _write(run: Run, card: Mapping[str, Any]) -> None:
    write_json(run.path / "run.json", card)
    write_text(run.path / "run.md", page(card))
