"""Draw the figures of docs/course.md that need no trained model, from the functions that the course explains.

scripts/course_figures.py [FOLDER]    default: docs/
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nmt.cli.errors import guarded
from nmt.insight.figures import attention_figure, save_figure
from nmt.models.attention import additive_score, dot_score, euclidean_score, scaled_dot_score
from nmt.models.transformer_layers import sinusoidal_positions

POSITIONS, WIDTH = 12, 64


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs"
    save_figure(scores(), folder / "course-scores.png")
    save_figure(causal(), folder / "course-causal.png")
    save_figure(positions(), folder / "course-positions.png")


def scores() -> Any:
    """The weights of each score for the query and the three words of section 1."""
    keys, query = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), torch.tensor([[2.0, 0.0]])
    found = {
        "additive": additive_score(query, keys, torch.tensor([1.0, -1.0])),
        "dot": dot_score(query, keys),
        "general": dot_score(query, keys @ torch.tensor([[0.0, 1.0], [1.0, 0.0]]).T),
        "scaled dot": scaled_dot_score(query, keys),
        "Euclidean": euclidean_score(query, keys),
    }
    weights = torch.stack([score.softmax(-1) for score in found.values()])
    return drawn(weights, ["[1, 0]", "[0, 1]", "[1, 1]"], list(found), "One query, [2, 0]", "key", "score")


def causal() -> Any:
    """Self-attention of a decoder over random states: the words after a position have no weight."""
    states = torch.randn(6, 16, generator=torch.Generator().manual_seed(3))
    allowed = torch.ones(6, 6, dtype=torch.bool).tril()
    weights = (states @ states.T / 16**0.5 / 2).masked_fill(~allowed, -torch.inf).softmax(-1)
    words = ["<s>", "sie", "hat", "das", "Buch", "gelesen"]
    return drawn(weights, words, words, "A causal mask", "read", "position")


def positions() -> Any:
    """The scalar products of sinusoidal positions, divided by that of a position with itself."""
    table = sinusoidal_positions(0, POSITIONS, WIDTH, torch.zeros(1))
    names = [str(number) for number in range(POSITIONS)]
    products = table @ table.T / (WIDTH / 2)
    return drawn(products, names, names, "Products of positions", "position", "position", "product")


def drawn(
    weights: Tensor, columns: list[str], rows: list[str], title: str, x: str, y: str, label: str = "attention weight"
) -> Any:
    figure = attention_figure(weights, columns, rows, title, label)
    figure.axes[0].set_xlabel(x)
    figure.axes[0].set_ylabel(y)
    return figure


if __name__ == "__main__":
    sys.exit(guarded("course_figures", main))
