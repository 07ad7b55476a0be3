"""Placeholders through a model that has hardly learned anything: they survive whatever it does."""

import random

import pytest

from nmt.insight.alignment import Aligner
from nmt.run.directory import Run
from nmt.translation.loading import load_translator
from nmt.translation.protected import Protected
from tests.placeholders import check, line


@pytest.mark.parametrize("attention", [True, False])
def test_500_lines_keep_every_placeholder(template, attention):
    rng = random.Random(1)
    lines = [line(rng) for _ in range(500)]
    short = {"beam_size": 1, "max_length_ratio": 0.0, "max_length_offset": 6}
    translator = load_translator(Run(template / "runs" / "c"), short)
    protected = Protected(translator, align=Aligner(translator) if attention else None)
    found = protected.translate([text for text, _ in lines])
    for (text, placeholders), [best] in zip(lines, found, strict=True):
        check(text, placeholders, best.text)
    assert protected.lines == sum(bool(placeholders) for _, placeholders in lines)
    assert protected.placeholders == sum(len(placeholders) for _, placeholders in lines)
    assert sum(protected.ways.values()) == protected.lines
