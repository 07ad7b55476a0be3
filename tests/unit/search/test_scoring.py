"""Length penalties against hand calculations."""

from __future__ import annotations

import pytest
import torch

from nmt.search.scoring import LengthPenalty


@pytest.mark.parametrize(
    ("kind", "alpha", "length", "expected"),
    [
        ("gnmt", 1.0, 1, 1.0),  # (5 + 1) / 6
        ("gnmt", 1.0, 13, 3.0),  # 18 / 6
        ("gnmt", 0.5, 19, 2.0),  # sqrt(24 / 6)
        ("gnmt", 2.0, 7, 4.0),  # (12 / 6) squared
        ("gnmt", 0.0, 50, 1.0),
        ("average", 1.0, 7, 7.0),
        ("average", 0.5, 9, 3.0),
        ("average", 0.0, 9, 1.0),
        ("none", 1.0, 40, 1.0),
    ],
)
def test_penalty_by_hand(kind: str, alpha: float, length: int, expected: float) -> None:
    penalty = LengthPenalty(kind, alpha)  # type: ignore[arg-type]
    assert penalty(length) == pytest.approx(expected)
    assert penalty(torch.tensor([length, length])).tolist() == pytest.approx([expected, expected])


@pytest.mark.parametrize("kind", ["gnmt", "average", "none"])
def test_penalty_is_positive_and_never_falls(kind: str) -> None:
    penalties = LengthPenalty(kind, 0.7)(torch.arange(1, 300))  # type: ignore[arg-type]
    assert (penalties >= 1.0).all()
    assert (penalties.diff() >= 0.0).all()


def test_negative_alpha_is_refused() -> None:
    with pytest.raises(ValueError, match=r"alpha must not be negative, found -0\.5"):
        LengthPenalty("gnmt", -0.5)
