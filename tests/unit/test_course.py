"""The examples of the course on attention give the numbers that the page shows."""

import doctest

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
