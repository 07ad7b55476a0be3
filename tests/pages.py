"""The pages of the documentation, and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    return [block for name, block in FENCE.findall(text_of(page)) if name == language]


def commands_of(block: str) -> Iterator[list[str]]:
    """The words of each command in a block; an output that is redirected and the brackets of options are left out."""
    for line in block.replace("\\\n", " ").splitlines():
        if words := shlex.split(line.split(" > ")[0].replace("[", "").replace("]", ""), comments=True):
            yield words


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command in the fenced blocks of shell commands."""
    for block in blocks(page, "sh"):
        yield from commands_of(block)
