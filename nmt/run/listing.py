"""The runs below a folder, each as one row. Nothing is verified, and no weights are read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nmt.errors import NmtError
from nmt.run.directory import Run
from nmt.storage.locks import in_use

State = Literal["finished", "stopped", "running", "not started", "broken"]
DEPTH = 4  # levels of folders below which no run is looked for
TAIL = 1 << 16  # bytes at the end of metrics.jsonl that contain its last line
HEADER = 1 << 26  # bytes of the largest header of a safetensors file that is read


@dataclass
class Row:
    """A row of ``nmt runs``; None where a value is not known.

    Attributes:
        name: path of the run below the listed folder.
        model: family, with its encoder and attention where they matter.
        parameters: number of weights.
        minutes: training time over all starts.
        valid_bleu: best BLEU on the validation set.
        tests: BLEU by test set.
        problem: why a broken run cannot be read.
    """

    name: str
    state: State = "broken"
    model: str | None = None
    parameters: int | None = None
    steps: int | None = None
    minutes: float | None = None
    valid_bleu: float | None = None
    tests: dict[str, float] = field(default_factory=dict)
    problem: str | None = None


def rows(folder: Path) -> list[Row]:
    """The runs in ``folder`` and below, by name; a folder that is itself a run is the only one."""
    return [row_of(path, folder) for path in find(folder)]


def find(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """Folders of runs, by name. Links to folders are followed where they are runs. Hidden folders are left out."""
    if _is_run(folder):
        yield folder
        return
    try:
        inner = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return
    for path in inner:
        if _is_run(path):
            yield path
        elif depth > 1 and not path.is_symlink():
            yield from find(path, depth - 1)


def _is_run(path: Path) -> bool:
    """Whether a folder is a run, or the rest of one."""
    try:
        return (path / "config.yaml").is_file() or all((path / name).exists() for name in ("checkpoints", "tokenizer"))
    except OSError:
        return False


def row_of(path: Path, folder: Path) -> Row:
    """A row; damage makes a row with ``problem``, never an error."""
    name = path.relative_to(folder).as_posix() if path != folder else path.resolve().name
    row, run = Row(name), Run(path)
    try:
        config = run.stored_config()
        row.model = _model(config)
    except (NmtError, OSError) as error:
        row.problem = str(error)
        return row
    # Progress: of the last checkpoint, else of the final model; metrics are newer than both
    state, model = run.last_state(), _json(run.model / "model.json")
    progress = state.get("progress") if isinstance(state, dict) else None
    progress = progress if isinstance(progress, dict) else {}
    row.parameters = _parameters(run, model)
    row.steps = _number(int, progress.get("step"), model.get("last_step"))
    seconds = _number(float, progress.get("seconds"), model.get("training_seconds"))
    row.minutes = None if seconds is None else seconds / 60
    last, row.valid_bleu = _metrics(run)
    row.steps = last if row.steps is None else max(row.steps, last or 0)
    row.tests = _tests(run)
    # State
    if in_use(path):
        row.state = "running"
    elif run.has_model:
        row.state = "stopped" if run.unfinished() else "finished"
        if not model:
            row.state, row.problem = "broken", f"{run.model / 'model.json'}: cannot be read"
    else:
        row.state = "stopped" if run.has_saved or row.steps else "not started"
    return row


def _model(config: Mapping[str, Any]) -> str | None:
    """The family; of an RNN with the attention, and the encoder where one is named."""
    model = config.get("model")
    if not isinstance(model, dict):
        return None
    words = [str(model.get("type", "?"))]
    if model.get("preset"):
        words.append(str(model["preset"]))
    if words[0] == "rnn" and "attention" in model:
        words.append(str(model["attention"]))
        if model.get("alignment", "soft") != "soft":
            words.append(f"({model['alignment']})")
    encoder = model.get("encoder")
    if isinstance(encoder, dict) and "type" in encoder:
        words.append(f"({encoder['type']} encoder)")
    return " ".join(words)


def _parameters(run: Run, model: Mapping[str, Any]) -> int | None:
    """Number of weights, by the header of a file of weights: the final ones, else those of a checkpoint."""
    files = [run.model / "model.safetensors"] if model else []
    with suppress(OSError):
        files += sorted(run.checkpoints.glob("step-*/model.safetensors"), reverse=True)[:1]
    for path in files:
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError), path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size <= HEADER:
                header = json.loads(file.read(size))
                return sum(math.prod(value["shape"]) for key, value in header.items() if key != "__metadata__")
    return None


def _metrics(run: Run) -> tuple[int | None, float | None]:
    """The last step, and the best BLEU of a validation."""
    step, best = None, None
    with suppress(OSError), run.metrics.open("rb") as file:
        for line in file:
            if b'"valid/bleu"' in line:
                value = _number(float, _line(line).get("valid/bleu"))
                best = value if best is None or (value is not None and value > best) else best
        file.seek(max(0, file.tell() - TAIL))
        steps = [_number(int, _line(line).get("step")) for line in file.read().splitlines()[-2:]]
        step = max((one for one in steps if one is not None), default=None)  # the last line may be half-written
    return step, best


def _tests(run: Run) -> dict[str, float]:
    """BLEU of the evaluated sets, without results of other searches."""
    found = {}
    with suppress(OSError):
        for path in sorted(run.evaluation.glob("*.json")):
            value = _number(float, _json(path).get("bleu"))
            if value is not None and "@" not in path.stem:
                found[path.stem] = value
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _line(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _number(kind: type, *values: Any) -> Any:
    """The first of ``values`` that is a finite number; None if none is."""
    for value in values:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return kind(value)
    return None


COLUMNS = ("run", "state", "model", "parameters", "steps", "minutes", "valid BLEU")


def cells(found: list[Row]) -> list[list[str]]:
    """The table as text, with its heading; numbers without separators, empty where not known."""
    names = list(dict.fromkeys(name for row in found for name in row.tests))
    headings = (f"{name} BLEU" for name in names)
    heading = [*COLUMNS, *(f"{one} (evaluated)" if one in COLUMNS else one for one in headings), "problem"]
    body = [
        [
            row.name, row.state, row.model or "", _text(row.parameters), _text(row.steps), _text(row.minutes, ".1f"),
            _text(row.valid_bleu, ".2f"), *(_text(row.tests.get(name), ".2f") for name in names), row.problem or "",
        ]
        for row in found
    ]  # fmt: skip
    return [heading, *body]


def table(found: list[Row]) -> str:
    """An aligned table; the problems of broken runs stand below it."""
    all_cells = [row[:-1] for row in cells(found)]
    for row in all_cells[1:]:
        row[3:5] = [f"{int(cell):,}" if cell else "" for cell in row[3:5]]
    shown = [[cell or "-" for cell in row] for row in all_cells]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = [
        "  ".join(c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in shown
    ]
    problems = [f"{row.name}: {' '.join(row.problem.split())}" for row in found if row.problem]
    return "\n".join([*map(str.rstrip, lines), *([""] if problems else []), *problems])


def _text(value: float | None, form: str = "") -> str:
    return "" if value is None else format(value, form)
