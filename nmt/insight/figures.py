"""Figures of attention weights."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from nmt.errors import DataError

log = logging.getLogger(__name__)

MAX_POSITIONS = 60  # subwords drawn per side: the cost of a figure grows with both sides
MAX_LABEL = 16  # characters drawn per subword
INCHES = 0.32  # width and height per position
FAINTEST = 0.2  # weight that is drawn darkest at least, so that an even attention looks even
MISSING = "\N{WHITE SQUARE}"  # replaces a character that no installed font has


def attention_figure(
    weights: torch.Tensor, src: Sequence[str], tgt: Sequence[str], title: str = "", label: str = "attention weight"
) -> Any:
    """Draw attention weights with matplotlib, one row per target subword.

    The darkest colour is the 99th percentile of the weights: a mean over heads is seldom near 1.
    Only the first :data:`MAX_POSITIONS` subwords of a long sentence are drawn; a note in the figure says so. Subwords
    are drawn as plain text, never as formulas, in installed fonts that have their characters.

    Args:
        weights: [T', S'], the weights of the first positions of each side.
        src, tgt: all S and T subwords.
        label: what the colours mean.
    """
    from matplotlib.figure import Figure  # slow to import, and a run may show none

    weights = weights[:MAX_POSITIONS, :MAX_POSITIONS]
    rows, columns = (_labels(side, count) for side, count in zip((tgt, src), weights.shape, strict=True))
    families, missing = _fonts("".join(rows + columns))
    rows, columns = ([_drawable(label, missing) for label in labels] for labels in (rows, columns))

    size = (2 + INCHES * len(columns), 1.6 + INCHES * len(rows))
    figure = Figure(figsize=size, layout="constrained", dpi=110)
    axes = figure.subplots()
    darkest = float(weights.float().flatten().quantile(0.99)) if weights.numel() else 0.0
    darkest = min(1.0, max(FAINTEST, darkest))
    image = axes.imshow(weights.float().numpy(), cmap="Blues", vmin=0, vmax=darkest, aspect="auto")
    style: dict[str, Any] = {"fontsize": 11, "fontfamily": families, "parse_math": False, "usetex": False}
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha="left", rotation_mode="anchor", **style)
    axes.set_yticks(range(len(rows)), rows, **style)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_xlabel("source", fontsize=11)
    axes.xaxis.set_label_position("top")
    axes.set_ylabel("translation", fontsize=11)
    if title:
        figure.suptitle(title, fontsize=11, parse_math=False, wrap=True)
    figure.colorbar(image, ax=axes, shrink=0.8, label=label, extend="max" if darkest < 1 else "neither")
    if note := _note(weights, src, tgt, missing):
        figure.supxlabel(note, fontsize=8, wrap=True)
    return figure


def image_format(path: Path) -> str:
    """The image format by the extension of a file name; PNG without an extension.

    Raises:
        DataError: matplotlib cannot write the format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    kind = path.suffix.lstrip(".").lower() or "png"
    if kind not in FigureCanvasAgg.get_supported_filetypes():
        raise DataError(f"{path}: {path.suffix} is not an image format that can be written; use .png, .svg or .pdf")
    return kind


def save_figure(figure: Any, path: Path) -> None:
    """Write a matplotlib figure to a file, in the format of its extension.

    Raises:
        DataError: the file cannot be written, or the format is not known.
    """
    image = io.BytesIO()
    figure.savefig(image, format=image_format(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image.getvalue())
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}; name another file") from None


def attention_image(weights: torch.Tensor, src: Sequence[str], tgt: Sequence[str], title: str = "") -> Any:
    """The figure as an array of bytes [height, width, 3], without warnings from matplotlib."""
    import numpy as np
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with warnings.catch_warnings(), rc_context({"text.usetex": False}):
        warnings.simplefilter("ignore")
        canvas = FigureCanvasAgg(attention_figure(weights, src, tgt, title))
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _labels(side: Sequence[str], count: int) -> list[str]:
    return [label if len(label) <= MAX_LABEL else label[: MAX_LABEL - 1] + "…" for label in side[:count]]


def _drawable(label: str, missing: frozenset[str]) -> str:
    return "".join(MISSING if character in missing else character for character in label)


def _note(weights: torch.Tensor, src: Sequence[str], tgt: Sequence[str], missing: frozenset[str]) -> str:
    """Describe what the figure omits."""
    parts = [
        f"the first {shown} of {len(side)} {name} subwords"
        for name, side, shown in zip(("target", "source"), (tgt, src), weights.shape, strict=True)
        if shown < len(side)
    ]
    if missing:
        parts.append(f"{MISSING}: no installed font has these characters")
    return "; ".join(parts)


# --------------------------------------------------------------------------------------------------------------- fonts


def _fonts(text: str) -> tuple[list[str], frozenset[str]]:
    """Font families that together cover the characters of ``text``, and the characters that no font has."""
    wanted = {character for character in text if character.isprintable() and not character.isspace()}
    families, missing = [], frozenset(text) - wanted - {" "}
    for family, characters in _families(tuple(sorted(wanted))):
        families.append(family)
        wanted -= characters
    if wanted:
        _say_once()
    return families, missing | wanted


def _families(wanted: Sequence[str]) -> Iterable[tuple[str, frozenset[str]]]:
    """Yield the default family, then those that cover most of the remaining characters, each with what it covers."""
    from matplotlib import rcParams

    installed = _installed()
    family = next((name for name in [*rcParams["font.sans-serif"], *installed] if name in installed), "DejaVu Sans")
    left = frozenset(wanted)
    while True:
        had = _having(installed[family], left) if family in installed else frozenset[str]()
        yield family, had
        left -= had
        if not left:
            return
        found = {name: _having(path, left) for name, path in installed.items()}
        family = max(found, key=lambda name: len(found[name]), default="")
        if not family or not found[family]:
            return


@cache
def _installed() -> dict[str, str]:
    """The font file of each installed family with an upright face of normal weight, sorted by name."""
    from matplotlib.font_manager import fontManager

    found = {
        entry.name: entry.fname
        for entry in fontManager.ttflist
        # "Last Resort" has a box for every character there is.
        if entry.style == "normal" and entry.weight in (400, "normal", "regular") and "Last Resort" not in entry.name
    }
    return dict(sorted(found.items()))


def _having(path: str, wanted: Iterable[str]) -> frozenset[str]:
    import numpy as np

    characters = sorted(wanted)
    has = np.isin([ord(character) for character in characters], _characters(path))
    return frozenset(character for character, one in zip(characters, has, strict=True) if one)


@cache
def _characters(path: str) -> Any:
    """The code points that a font file has glyphs for; empty if the font cannot be used."""
    import numpy as np
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
        return np.fromiter(font.get_charmap() if font.scalable else (), np.int32)
    except (OSError, RuntimeError):
        return np.empty(0, np.int32)


@cache
def _say_once() -> None:
    log.warning(
        "no installed font has some of the characters of the attention maps (drawn as %s); install a font of the "
        "script, such as the package fonts-noto-cjk for Chinese, Japanese and Korean",
        MISSING,
    )
