"""Search settings chosen for a run's final model: alpha by the training, ``runs/NAME/alpha.json``, and by nmt tune.

``nmt tune`` writes beam size and alpha into ``runs/NAME/tuned.json``. Commands that translate use them; training,
resuming and reproducing do not.
"""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from nmt.config.search import ALPHA, KEYS_OF, SearchConfig
from nmt.errors import CheckpointError
from nmt.run.directory import Run
from nmt.run.selection import TITLES, Score
from nmt.storage.atomic import write_json

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chosen:
    """A choice, and what it depends on.

    Attributes:
        alpha: the chosen value.
        model: SHA-256 of the file of weights.
        basis: settings and lines that the scores depend on.
        measure: of the scores: bleu or chrf; loss where the model was too weak to compare translations.
        scores: of each value that was tried.
    """

    alpha: float
    model: str
    basis: dict[str, Any]
    measure: Score
    scores: dict[str, float]

    @property
    def penalty(self) -> Any:
        """The length penalty whose strength was chosen."""
        return self.basis["search"]["length_penalty"]

    def write(self, run: Run) -> None:
        write_json(run.alpha, asdict(self))


def read(run: Run) -> Chosen | None:
    """The choice for the final model that the run has now; None where none was made, or the record is damaged."""
    try:
        record = json.loads(run.alpha.read_text(encoding="utf-8"))
        found = Chosen(**record)
        SearchConfig(alpha=found.alpha, length_penalty=found.penalty)
        whole = found.measure in TITLES and all(f"{found.scores[f'{x:g}']:g}" for x in (found.alpha, ALPHA))
        return found if whole and found.model == run.model_checksum() else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError, CheckpointError):
        return None


@dataclass(frozen=True)
class Row:
    """What was found for one beam size.

    Attributes:
        alpha: the best one.
        score: with this alpha.
        interval: 95 % interval of the score.
        seconds: of the search.
        scores: of each alpha.
    """

    beam_size: int
    alpha: float
    score: float
    interval: tuple[float, float] | None
    seconds: float
    scores: dict[str, float]


@dataclass(frozen=True)
class Tuned:
    """The choice of ``nmt tune``.

    Attributes:
        model: SHA-256 of the file of weights.
        length_penalty: the one that alpha belongs to.
        measure: of the scores: bleu or chrf.
        sentences: of the validation set that were translated.
        rows: what was tried.
    """

    beam_size: int
    alpha: float
    model: str
    length_penalty: str
    measure: Score
    sentences: int
    rows: list[Row]

    @property
    def chosen(self) -> Row:
        return next(row for row in self.rows if row.beam_size == self.beam_size)

    def write(self, run: Run) -> None:
        write_json(run.tuned, asdict(self))


def read_tuned(run: Run) -> Tuned | None:
    """The choice of ``nmt tune`` for the final model that the run has now; None where there is none."""
    try:
        record = json.loads(run.tuned.read_text(encoding="utf-8"))
        found = Tuned(**{**record, "rows": [Row(**row) for row in record["rows"]]})
        SearchConfig.model_validate(
            {"alpha": found.alpha, "beam_size": found.beam_size, "length_penalty": found.length_penalty}
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is damaged"
        _warn_once(f"{run.tuned}: is ignored: {reason}; nmt tune {shlex.quote(str(run.path))} writes a new one")
        return None
    try:
        return found if found.model == run.model_checksum() else None
    except CheckpointError:
        return None


@cache
def _warn_once(message: str) -> None:
    """A command reads the choice for more than one purpose."""
    log.warning("%s", message)


def tuned_settings(run: Run, search: SearchConfig, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of ``nmt tune`` for a search with these overrides: those that it does not override, and that it uses."""
    tuned = read_tuned(run)
    if tuned is None or overrides.get("method", search.method) != "beam":
        return {}
    found: dict[str, Any] = {"beam_size": tuned.beam_size}
    if overrides.get("length_penalty", search.length_penalty) == tuned.length_penalty:
        found["alpha"] = tuned.alpha
    return {key: value for key, value in found.items() if key not in overrides}


def with_alpha(run: Run, search: SearchConfig) -> SearchConfig:
    """``search`` with the alpha chosen for the run, unless it names one or none was chosen for its length penalty."""
    if search.alpha is not None or (chosen := read(run)) is None or chosen.penalty != search.length_penalty:
        return search
    return search.model_copy(update={"alpha": chosen.alpha})


def described(search: SearchConfig, configured: SearchConfig, tuned: bool = False) -> str:
    """Say in a line how lines are searched, and where alpha comes from.

    Args:
        configured: the settings before :func:`with_alpha`.
        tuned: whether ``nmt tune`` chose alpha.
    """
    if search.method != "beam":
        values = {key: getattr(search, key) for key in KEYS_OF[search.method]}
        settings = [f"{key} {value:g}" for key, value in values.items() if value is not None]
        settings += ["unknown words copied"] if search.copy_unknown else []
        return f"search: {', '.join([search.method, *settings])}"
    limits = {"minimum length": search.min_length, "no repeated n-gram of": search.no_repeat_ngram}
    constraints = "".join(f", {name} {value}" for name, value in limits.items() if value)
    constraints += ", unknown words copied" if search.copy_unknown else ""
    if search.beam_size == 1:
        return f"search: greedy{constraints}"
    coverage = f", coverage penalty {search.coverage_penalty:g}" if search.coverage_penalty else ""
    extra = coverage + constraints
    if not search.alpha_matters:
        return f"search: beam of {search.beam_size}, no length penalty{extra}"
    origin = "chosen by nmt tune" if tuned else "set by search.alpha"
    if configured.alpha is None:
        origin = "the default" if search.alpha is None else "chosen on the validation set"
    return (
        f"search: beam of {search.beam_size}, length penalty {search.length_penalty} with alpha "
        f"{search.alpha_or_default:g} ({origin}){extra}"
    )
