"""What a stage found: printed at once, and written to a file after each part, so that a time limit loses little."""

from __future__ import annotations

import json
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class Skipped(Exception):
    """A part cannot run here; the message is the reason."""


class Record:
    """The results of one stage.

    Args:
        path: a JSON file, written after each result: name of the part to ``status`` (ok, failed, skipped), ``found``
            and ``seconds``.
    """

    def __init__(self, path: Path):
        self.path = path
        self.results: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def attempt(self, name: str, work: Callable[[], Any]) -> Any:
        """Run one part of a stage; a failure is a result. Returns what ``work`` found, None if it failed."""
        started, value = time.perf_counter(), None
        self._note(name, "failed", "did not end within the time limit", 0.0, show=False)
        try:
            value = work()
            status, found = "ok", value
        except Skipped as reason:
            status, found = "skipped", str(reason)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            status, found = "failed", _described(error)
        self._note(name, status, found, time.perf_counter() - started)
        return value

    def _note(self, name: str, status: str, found: Any, seconds: float, show: bool = True) -> None:
        with self._lock:
            self.results[name] = {"status": status, "found": found, "seconds": round(seconds, 2)}
            if show:
                print(f"{status:7s} {name}: {found}  ({seconds:.1f} s)", flush=True)
            whole = self.path.with_suffix(".part")
            whole.write_text(json.dumps(self.results, default=str, indent=1), encoding="utf-8")
            whole.replace(self.path)


def _described(error: BaseException) -> str:
    """The error in one line, and where it was raised."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/torch/" not in f.filename][-3:]
    where = " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(frames))
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]} [{where}]"


def check(holds: bool, *found: object) -> None:
    """Fail with what was found unless the condition holds. ``assert`` would vanish with ``python -O``.

    Raises:
        AssertionError: it does not hold.
    """
    if not holds:
        raise AssertionError(" ".join(map(str, found)))


def markdown(stages: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """A Markdown section with a table for each stage."""
    parts = []
    for stage, results in stages.items():
        parts += [f"## {stage}\n", "| part | status | found | seconds |", "|---|---|---|---|"]
        for name, result in results.items():
            cells = [name, result["status"], _in_words(result["found"]), f"{result['seconds']:.1f}"]
            parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        parts.append("")
    return "\n".join(parts)


def _in_words(found: Any) -> str:
    if isinstance(found, dict):
        return ", ".join(
            f"{key} {value:,}" if isinstance(value, int | float) else f"{key} {value}" for key, value in found.items()
        )
    return str(found)
