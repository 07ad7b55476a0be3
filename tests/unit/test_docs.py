"""What the documentation names exists: files, links, code, configuration keys, commands and options."""

import argparse
import copy
import functools
import importlib
import re
import runpy
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from nmt.cli import main
from nmt.cli.program import new_parser
from nmt.config.experiment import all_keys
from nmt.config.load import built_in_configs, load_config, validate_config
from nmt.experiments.points import parse_grid, plan
from tests.pages import FENCE, PAGES, ROOT, commands, text_of

LINKED = [*PAGES, *(ROOT / name for name in ("CHANGELOG.md", "SECURITY.md", "data/README.md", "benchmarks/README.md"))]
SPAN = re.compile(r"`([^`\n]+)`")
FOLDERS = "nmt|configs|scripts|tests|benchmarks|docs"  # of paths in the text; data/ and runs/ hold what users make

parametrized = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


ADDING = ROOT / "docs/adding.md"  # whose diffs and commands have parts that do not exist; see test_adding.py


def prose(page: Path) -> str:
    return FENCE.sub("", text_of(page))


def spans(page: Path) -> list[str]:
    return SPAN.findall(prose(page))


def found(name: str) -> bool:
    """Whether a dotted name can be imported: a module, what it defines, or a field of a section or of a class."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if isinstance(value, type) and issubclass(value, BaseModel) and part in value.model_fields:
                value = value.model_fields[part]
            elif part in getattr(value, "__dataclass_fields__", {}) or part in getattr(value, "__annotations__", {}):
                value = None
            elif hasattr(value, part):
                value = getattr(value, part)
            else:
                return False
        return True
    return False


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("nmt.config", True),
        ("nmt.config.experiment.Config.seed", True),
        ("nmt.config.experiment.Config.sead", False),
        ("nmt.nothing", False),
    ],
)
def test_names_are_looked_up(name, there):
    assert found(name) is there


@parametrized
def test_paths_exist(page):
    text = prose(page) if page == ADDING else text_of(page)
    named = re.findall(rf"(?<![\w./-])(?:{FOLDERS})/[\w./*-]*\w/?", text)
    assert [path for path in named if not list(ROOT.glob(path.rstrip("/")))] == []


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page):
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)) if "://" not in link]
    for link in links:
        target, _, anchor = link.partition("#")
        file = page.parent / target if target else page
        assert file.exists(), link
        headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text_of(file)), re.MULTILINE) if anchor else []
        assert not anchor or anchor in [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings], link


@parametrized
def test_names_of_code_exist(page):
    named = [name for span in spans(page) for name in re.findall(r"\bnmt(?:\.\w+)+", span)]
    assert [name for name in named if not found(name)] == []


@parametrized
def test_names_are_in_the_file_named_with_them(page):
    """As in "`SCORES` of `nmt/models/attention.py`"."""
    named = re.findall(r"`([\w.]+)`\s+(?:in|of)\s+`(nmt/[\w/]+)\.py`", prose(page))
    modules = [(name, file.removesuffix("/__init__").replace("/", ".")) for name, file in named]
    assert [(name, module) for name, module in modules if not found(f"{module}.{name}")] == []


@functools.cache
def keys() -> set[str]:
    """Dotted keys and sections of the configuration."""
    known = {key for key, _ in all_keys()}
    return known | {key.rsplit(".", n)[0] for key in known for n in range(1, key.count(".") + 1)}


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "reference.md"], ids=lambda page: page.name)
def test_configuration_keys_exist(page):
    sections = {key.split(".")[0] for key in keys() if "." in key}
    named = [span.split("=")[0].split(":")[0].strip() for span in spans(page)]
    named = [name for name in named if re.fullmatch(rf"(?:{'|'.join(sections)})(?:\.\w+)+", name)]
    assert [name for name in named if name not in keys()] == []


def test_configurations_of_the_readme_are_valid(tmp_path):
    blocks = [block for language, block in FENCE.findall(text_of(ROOT / "README.md")) if language == "yaml"]
    assert blocks
    for block in blocks:
        (tmp_path / "mine.yaml").write_text(block, encoding="utf-8")
        load_config(tmp_path / "mine.yaml")


DEMO = {"kind": "demo", "part": "train"}
WHOLE = {
    "name": "whole", "model": {"type": "transformer"}, "train": {"max_steps": 100},
    "data": {"src_lang": "en", "tgt_lang": "de", "train": DEMO, "valid": {**DEMO, "part": "valid"}},
}  # fmt: skip


def merged(base, given):
    """``base`` with what is given; a section of a kind or type is replaced whole."""
    if not isinstance(base, dict) or not isinstance(given, dict) or {"kind", "type"} & given.keys():
        return given
    return {**base, **{key: merged(base.get(key), value) for key, value in given.items()}}


def examples(block: str) -> list[str]:
    """The configurations in a block; lines that begin with the same key are one each."""
    lines = textwrap.dedent(block).splitlines()
    keys = [line.split(":")[0] for line in lines if line and line[0] not in " #-"]
    return lines if len(keys) > len({*keys}) else ["\n".join(lines)]


def completed(raw: dict, before: dict) -> dict:
    """A configuration of an example that shows a part; an indented one continues the one before."""
    if "modifiers" in raw:
        raw = {"train": [{"name": "some", "source": DEMO, **raw}]}
    if isinstance(raw.get("train"), str | list) or "kind" in raw.get("train", {}) or not raw.keys() <= WHOLE.keys():
        raw = raw if raw.keys() & {"init", "tokenizer", "translate"} else {"data": raw}
    found = copy.deepcopy(merged(before, raw))
    if "stages" in found["data"]:
        for dataset in found["data"]["train"]:  # as the page says below
            dataset.pop("weight", None)
    if (encoder := found["model"].get("encoder") or {}).get("type") == "pretrained":  # what its files would tell
        encoder |= {"d_model": 768, "architecture": {"model_type": "bert", "max_position_embeddings": 512}}
    return found


@parametrized
def test_configurations_in_the_text_are_valid(page):
    before = WHOLE
    for language, block in FENCE.findall(text_of(page)):
        for example in examples(block) if language == "yaml" and "opustrainer" not in block else ():
            start = before if block.startswith(" ") and "modifiers:" not in block.splitlines()[0] else WHOLE
            before = completed(yaml.safe_load(example), start)
            validate_config(before, str(page))


@parametrized
def test_make_targets_exist(page):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = [
        words for words in [*commands(page), *map(str.split, spans(page))] if words[0] == "make" and len(words) > 1
    ]
    assert [words for words in named if words[1] not in targets] == []


@parametrized
def test_commands_and_options_exist(page, capsys):
    help_of: dict[str, str] = {}
    for words in map(str.split, spans(page)):
        if Path(words[0]).name != "nmt" or len(words) == 1:
            continue
        if (command := words[1]) not in help_of:
            with pytest.raises(SystemExit) as ended:
                main([command, "--help"])
            assert ended.value.code == 0, words
            help_of[command] = capsys.readouterr().out
        options = [word.split("=")[0] for word in words[2:] if re.match(r"--?\w", word)]
        assert [option for option in options if not re.search(rf"{option}\b", help_of[command])] == [], words


def parsed(page: Path) -> Iterator[tuple[list[str], argparse.Namespace]]:
    """Each command of nmt in the fenced blocks, and what the parser makes of its words."""
    for words in commands(page) if page != ADDING else ():
        if Path(words[0]).name == "nmt" and len(words) > 1:
            yield words, new_parser().parse_args([word for word in words[1:] if word != "|"])


@parametrized
def test_commands_can_be_parsed(page):
    for words, arguments in parsed(page):
        assert callable(arguments.command), words


@parametrized
def test_settings_and_grids_of_commands_are_valid(page, tmp_path, monkeypatch):
    """Of commands that name a configuration of the repository."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    for words, arguments in parsed(page):
        name = getattr(arguments, "config", None)
        if not hasattr(arguments, "overrides") or name is None or name == "finetune-demo":  # which needs the run demo
            continue
        if name in built_in_configs() or Path(name).is_file():
            if "grid" in arguments:
                grid = parse_grid(arguments.grid)
                plan(name, arguments.overrides, grid, arguments.seeds, arguments.set_name, arguments.only)
            else:
                assert load_config(name, arguments.overrides), words


def test_messages_in_troubleshooting_are_printed():
    source = "\n".join(text_of(path) for path in (ROOT / "nmt").rglob("*.py"))
    source = re.sub(r"\"\n\s+f?\"", "", source)  # text over several lines
    messages = re.findall(r'^## "(.+)"$', text_of(ROOT / "docs/troubleshooting.md"), re.MULTILINE)
    assert len(messages) >= 6
    assert [message for message in messages if message not in source] == []


def test_the_site_has_every_page():
    listed = re.findall(r": ([\w/-]+\.md)$", text_of(ROOT / "mkdocs.yml"), re.MULTILINE)
    assert sorted(listed) == sorted(str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md"))


def test_the_reference_is_up_to_date(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["reference.py", "--check"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "scripts/reference.py"), run_name="__main__")
    assert end.value.code == 0, capsys.readouterr().err
