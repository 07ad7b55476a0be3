"""Print pip constraints that pin each dependency of pyproject.toml to its lower bound, without the linters."""

import re
import tomllib
from itertools import chain
from pathlib import Path

LINTERS = {"ruff", "mypy", "import-linter"}  # their output differs between versions; constraints.txt pins them


def oldest(project: dict) -> list[str]:
    """``name==version`` for every requirement of the form ``name>=version``, which may exclude later versions."""
    requirements = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    bounds = (re.fullmatch(r"([A-Za-z0-9_-]+)>=([0-9.]+)(,!=[0-9.]+)*", each) for each in requirements)
    return [f"{bound[1]}=={bound[2]}" for bound in bounds if bound and bound[1] not in LINTERS]


if __name__ == "__main__":
    pyproject = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text(encoding="utf-8"))
    print("\n".join(oldest(pyproject["project"])))
