"""The files that other services read: workflows, forms, citation, changelog, constraints."""

import re
import runpy
import shutil
import subprocess
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import yaml

from nmt import __version__

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_have_what_runs_a_job(path):
    workflow = read(path)
    assert workflow[True]  # YAML 1.1 reads the key "on" as true
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["runs-on"]
        assert all(("uses" in step) != ("run" in step) for step in job["steps"])
        assert {*([job["needs"]] if "needs" in job else [])} <= {*workflow["jobs"]}


def test_ci_runs_the_script_on_every_version_from_the_oldest_supported():
    job = read(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["test"]
    versions = job["strategy"]["matrix"]["python"]
    minors = [int(re.fullmatch(r"3\.(\d+)", version)[1]) for version in versions]
    assert minors == [*range(minors[0], minors[-1] + 1)]
    assert PROJECT["requires-python"] == f">={versions[0]}"
    assert {"run": ".ci/run"} in job["steps"]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o100


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_issue_forms_have_unique_labelled_fields(name):
    form = read(ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml")
    assert form["name"]
    assert form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert all(field["attributes"]["label"] for field in fields)
    assert len({field["id"] for field in fields}) == len(fields)


def test_oldest_dependencies_are_the_lower_bounds():
    oldest = runpy.run_path(str(ROOT / ".ci" / "oldest.py"))["oldest"]
    assert oldest(
        {"dependencies": ["torch>=2.11", "a-b>=1.2.3,!=1.2.4"], "optional-dependencies": {"dev": ["ruff>=1", "x"]}}
    ) == [
        "torch==2.11",
        "a-b==1.2.3",
    ]
    pinned = {line.partition("==")[0] for line in oldest(PROJECT)}
    assert {re.match(r"[A-Za-z0-9_-]+", each)[0] for each in PROJECT["dependencies"]} <= pinned


def test_the_pinned_versions_satisfy_the_lower_bounds():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    pinned = {name.lower().replace("_", "-"): version for name, _, version in (line.partition("==") for line in lines)}

    def numbers(version: str) -> list[int]:
        return [int(part) for part in version.split(".")]

    requirements = [*PROJECT["dependencies"], *chain(*PROJECT["optional-dependencies"].values())]
    bounds = [bound for each in requirements if (bound := re.fullmatch(r"([\w-]+)>=([0-9.]+)(,!=[0-9.]+)*", each))]
    assert len(bounds) > 15
    for bound in bounds:
        assert numbers(pinned[bound[1].lower()]) >= numbers(bound[2]), bound[1]


def test_the_version_is_cited_and_its_changes_are_told():
    assert read(ROOT / "CITATION.cff")["version"] == __version__
    assert f"\n## {__version__}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/style.md", "CHANGELOG.md"])
def test_links_and_make_targets_of_the_documents_exist(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("http")]
    assert [link for link in links if not (ROOT / name).parent.joinpath(link).exists()] == []
    targets = {*re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)}
    assert {*re.findall(r"`make ([a-z-]+)", text)} <= targets
    files = re.findall(r"`((?:nmt|tests)/[\w/]+\.py)`", text)
    assert [file for file in files if not (ROOT / file).exists()] == []


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(("run", "folder"), [("RUN=nowhere", "runs/nowhere"), ("RUN=", "runs")])
def test_make_tensorboard_names_a_missing_run(tmp_path, run, folder):
    makefile = ROOT / "Makefile"
    command = ["make", "-f", str(makefile), "-o", ".venv/.installed", "tensorboard", run]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"{folder}: no such folder; name a run: make tensorboard RUN=")
