"""The examples of the course on attention give the numbers that the page shows."""

import doctest
import re
import runpy
import sys

import pytest
import torch

from tests.unit.test_docs import ROOT


def test_the_examples_of_the_course():
    parsed = doctest.DocTestParser().get_doctest(
        (ROOT / "docs/course.md").read_text(encoding="utf-8"), {}, "course", None, 0
    )
    assert len(parsed.examples) > 30
    failures: list[str] = []
    try:
        result = doctest.DocTestRunner().run(parsed, out=failures.append)
    finally:
        torch.set_printoptions(profile="default")
    assert result.failed == 0, "".join(failures)


def numbers(text: str) -> set[float]:
    """Numbers with a decimal point, apart from sections and papers."""
    text = re.sub(r"arXiv \d+\.\d+|（\d{4}\.\d{5}）|\(\d{4}\.\d{5}\)", "", text)
    return {float(number) for number in re.findall(r"(?<![\w.])\d+\.\d+(?![\w.])", text)}


def test_the_numbers_of_the_translated_course_are_those_of_the_course():
    english, chinese = ((ROOT / f"docs/{name}course.md").read_text(encoding="utf-8") for name in ("", "zh/"))
    assert len(numbers(chinese)) > 25
    assert numbers(chinese) - numbers(english) == set()
    headings = [re.findall(r"^## (\d)", text, re.M) for text in (english, chinese)]
    pictures = [re.findall(r"\]\((?:\.\./)?([\w-]+\.png)\)", text) for text in (english, chinese)]
    assert headings[0] == headings[1]
    assert pictures[0] == pictures[1]


def test_the_figures_of_the_course_can_be_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["course_figures.py", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "scripts/course_figures.py"), run_name="__main__")
    assert not end.value.code
    named = set(re.findall(r"course-\w+\.png", (ROOT / "docs/course.md").read_text(encoding="utf-8")))
    assert {path.name for path in tmp_path.iterdir()} == named
