"""``nmt init``: from data to a configuration."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmt.advice import minutes_of
from nmt.cli import next_steps
from nmt.cli.parser import Parser
from nmt.errors import ConfigError, DataError
from nmt.runtime import garbage
from nmt.text.width import cut, wrap

if TYPE_CHECKING:
    from nmt.starting.choose import NewModel, Request
    from nmt.starting.finetune import Base, Tuned
    from nmt.starting.material import Files, Languages, Material

HELP = "write a configuration for your data: vocabulary, model and schedule by size, device and time"

FOLDER = Path("configs")
DEFAULT_TIME = "8h"
SHORTEST = 1.0  # minutes
LONGEST = 365  # days
_FEW = 10_000  # pairs
_NARROWEST = 20  # columns of text on a narrow terminal


def add_arguments(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the configuration and of its run")
    text = (
        "one file, folder or hub id, in any format of docs/data.md; two text files: source and target; or a source with"
        " its keys, as in a configuration: '{kind: csv, path: FILE, src_column: 2, tgt_column: 0}'"
    )
    parser.add_argument("data", metavar="DATA", nargs="*", help=text)
    parser.words = "data"
    parser.add_argument("--langs", metavar="SRC-TGT", help="language codes: en-de; with hyphens inside: pt-BR:en")
    text = f"time for the training: 30m, 8h, 1h30m, 2d (default: {DEFAULT_TIME}); it ends earlier if the data need less"
    parser.add_argument("--time", default=DEFAULT_TIME, help=text)
    text = "validation data, as DATA; without them, a part of the training data is held out"
    parser.add_argument("--valid", metavar="DATA", nargs="+", help=text)
    text = "test data, as DATA; may be given several times; without them, a part of the training data is held out"
    parser.add_argument("--test", metavar="DATA", nargs="+", action="append", default=[], help=text)
    text = "fine-tune this model: a run, a folder of Hugging Face's or Marian's files, or hf:ORG/NAME"
    parser.add_argument("--from", dest="start", metavar="MODEL", help=text)
    parser.add_argument("--force", action="store_true", help="replace a configuration of this name")


def run(arguments: argparse.Namespace) -> None:
    # Arguments
    path = _path(arguments.name, arguments.force)
    _check_writable(path)
    minutes = parse_time(arguments.time)
    if not arguments.data:
        raise ConfigError(
            "name the data: one file, folder or hub id, or two text files: nmt init NAME train.en train.de"
        )
    if late := next((word for word in arguments.data if minutes_of(word) and not os.path.exists(word)), None):
        raise ConfigError(f"{late}: is a time, not a file; write it after --time, in one word such as 1h30m")
    _check_text([*arguments.data, *(arguments.valid or []), *(word for words in arguments.test for word in words)])
    languages = _languages(arguments.langs, arguments.data)
    # Data
    from nmt.starting.material import files_source, read_material, source_of

    base = _base(arguments.start, languages)
    parts = _parts(arguments, languages)
    source = files_source(parts["train"], languages) if parts else source_of(arguments.data, languages)
    with _advised(source, languages):
        material = read_material(source, languages)
    request = _request(arguments, languages, minutes, material, parts)
    print(_shown(material, base is None))
    # Choice
    garbage.resume()
    choice, described = _choice(request, material, base)
    # Configuration
    from nmt.config.load import validate_config
    from nmt.config.pretrained import inherit
    from nmt.starting.written import expectations, to_text
    from nmt.storage.atomic import write_text

    settings = dict(choice.settings)
    inherit(settings)
    validate_config(settings, str(path))
    next_command = f"{next_steps.own_name()} train {path}"
    text = to_text(choice, material, described, _command(arguments), f"nmt train {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    _path(arguments.name, arguments.force)  # another process may have written one meanwhile
    write_text(path, text)
    print(f"\n{path}: expected on {described}")
    for line in expectations(choice, described):
        print("\n".join(_wrapped(line, 2, 9)))
    print(f"Next:\n  {next_command}")


def _base(name: str | None, languages: Languages) -> Base | None:
    """The model to start from, if one is named."""
    if name is None:
        return None
    from nmt.config.experiment import Config
    from nmt.starting.finetune import base_of

    if not name:
        raise ConfigError("--from: is empty; name a run, a folder of a model, or hf:ORG/NAME")
    _check_text([name])
    return base_of(name, str(Config.model_fields["runs"].default), languages)


def _choice(request: Request, material: Material, base: Base | None) -> tuple[NewModel | Tuned, str]:
    """The settings, and the device on which they were measured, for people."""
    from nmt.starting.choose import choose
    from nmt.starting.finetune import choose_tuning
    from nmt.starting.measure import bench

    def tell(line: str) -> None:
        print(line, flush=True)

    with bench(material) as measuring:
        device = measuring.device.type
        if base is None:
            return choose(request, material, device, measuring, tell), measuring.described
        return choose_tuning(request, material, base, device, measuring, tell), measuring.described


# ------------------------------------------------------------------------------------------------------------ arguments


def _path(name: str, force: bool) -> Path:
    """The file of the configuration.

    Raises:
        ConfigError: the name is none, or is taken.
    """
    from nmt.config.experiment import Config
    from nmt.run.directory import Run

    fields = Config.model_fields
    allowed = next(item.pattern for item in fields["name"].metadata if hasattr(item, "pattern"))
    if not re.fullmatch(allowed, name):
        plain = unicodedata.normalize("NFKD", Path(name).stem).encode("ascii", "ignore").decode()
        stem = re.sub(r"[^A-Za-z0-9_.]+", "-", plain).strip("-._")
        hint = f"; try {stem}" if re.fullmatch(allowed, stem) else ""
        raise ConfigError(
            f"{name}: is not a valid name; use letters from a to z, digits, dots, hyphens and underscores{hint}"
        )
    path = FOLDER / f"{name}.yaml"
    if path.exists() and not force:
        raise ConfigError(f"{path}: exists; choose another name, or replace it with --force")
    run = Run(Path(fields["runs"].default) / name)
    if run.started:
        raise ConfigError(f"{run.path}: a run of this name exists; choose another name")
    return path


def _check_writable(path: Path) -> None:
    """
    Raises:
        ConfigError: the file cannot be written.
    """
    folder = next(each for each in path.absolute().parents if os.path.lexists(each))
    shown = os.path.relpath(folder)
    if not folder.is_dir():
        raise ConfigError(f"{path}: cannot be written: {shown} is not a folder; rename it, or run nmt init elsewhere")
    if not os.access(folder, os.W_OK | os.X_OK):
        where = "this folder" if shown == "." else f"the folder {shown}"
        raise ConfigError(f"{path}: cannot be written: {where} is read-only; run nmt init in a writable folder")


def parse_time(text: str) -> float:
    """Minutes of a time such as ``30m``, ``8h`` or ``1h30m``.

    Raises:
        ConfigError: it is none, or too short.
    """
    minutes = minutes_of(text)
    if minutes is None:
        raise ConfigError(
            f"--time {text}: is not a duration; write a number with d, h, m or s, such as 30m, 8h or 1h30m"
        )
    if minutes < SHORTEST:
        raise ConfigError(f"--time {text}: is too short to train anything; give at least {SHORTEST:.0f}m")
    if minutes > 1440 * LONGEST:
        raise ConfigError(f"--time {text}: is too long; give at most {LONGEST}d")
    return minutes


def _languages(text: str | None, data: Sequence[str]) -> Languages:
    """The languages that ``--langs`` gives.

    Raises:
        ConfigError: they are missing, or not two.
    """
    from nmt.config.languages import code_named, names_of
    from nmt.data.sources.language_pairs import language_of
    from nmt.starting.material import Languages

    if text is None:
        ends = [language_of(word)[1] for word in data]
        codes = len(ends) == 2 and all(re.fullmatch(r"[a-z]{2}", end) for end in ends) and ends[0] != ends[1]
        hint = f"{ends[0]}-{ends[1]}, as the names of the files end" if codes else "en-de"
        raise ConfigError(f"--langs is missing: the codes of source and target language, such as --langs {hint}")
    codes_given = text.split(":" if ":" in text else "-")
    if len(codes_given) != 2 or not all(re.fullmatch(r"[A-Za-z][\w-]*", code) for code in codes_given):
        raise ConfigError(f"--langs {text}: give two language codes, such as en-de, or pt-BR:en with hyphens inside")
    meant = [code if names_of(code) else code_named().get(code.lower(), code) for code in codes_given]
    if meant != codes_given:
        hint = ":".join(meant) if "-" in "".join(meant) else "-".join(meant)
        raise ConfigError(f"--langs {text}: give the codes of the languages: {hint}")
    if codes_given[0].lower() == codes_given[1].lower():
        raise ConfigError(f"--langs {text}: source and target are the same language; name two")
    return Languages(*codes_given)


def _check_text(words: Sequence[str]) -> None:
    """Refuse names that a file of UTF-8 text cannot hold.

    Raises:
        ConfigError: a name is no text.
    """
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            shown = word.encode(errors="backslashreplace").decode()
            raise ConfigError(f"{shown}: the name is not UTF-8; rename it") from None
        if any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in word):
            raise ConfigError(f"{ascii(word)[1:-1]}: the name has a control character; rename it")


def _parts(arguments: argparse.Namespace, languages: Languages) -> dict[str, list[Files]]:
    """The files of a folder for training, validation and test, by their names; empty if they are given as options."""
    from nmt.starting.material import parts_of

    found = {} if arguments.valid or arguments.test else parts_of(arguments.data, languages)
    for part, named in found.items():
        print(f"{arguments.data[0]}: {part}: {', '.join(map(' and '.join, named))}")
    return found


def _request(
    arguments: argparse.Namespace,
    languages: Languages,
    minutes: float,
    material: Material,
    parts: Mapping[str, Sequence[Files]],
) -> Request:
    """What is asked for, after a look at the validation and test data.

    Args:
        parts: the files of the parts, as :func:`_parts` finds them.
    """
    from nmt.starting.choose import Request
    from nmt.starting.material import count_pairs, files_source, source_of

    valid = source_of(arguments.valid, languages) if arguments.valid else None
    if "valid" in parts:
        valid = files_source(parts["valid"], languages)
    count = 0
    if valid is not None:
        with _advised(valid, languages):
            count = count_pairs(valid, languages, material)
    tests: dict[str, Any] = {}
    for words in [*arguments.test, *parts.get("test", [])]:
        source = source_of(words, languages)
        with _advised(source, languages):
            count_pairs(source, languages, material)
        name = source.get("path", words[0]) if isinstance(source, dict) else words[0]
        tests[_test_name(str(name), {"valid", *tests})] = source
    return Request(arguments.name, languages, minutes, valid, tests, count)


@contextmanager
def _advised(source: Any, languages: Languages) -> Iterator[None]:
    """Add to a message that names keys of a source how to give them."""
    from nmt.starting.material import advised

    try:
        yield
    except DataError as error:
        raise advised(error, source, languages) from None


def _test_name(word: str, taken: set[str]) -> str:
    """The name of a test set, from the name of its first file."""
    from nmt.data.sources.language_pairs import language_of, unpacked_name

    base = Path(word).name
    stem = language_of(base)[0] or Path(unpacked_name(base)).stem
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", stem).lstrip("_.-")[:60] or "test"
    number, found = 1, name
    while found.lower() in {each.lower() for each in taken}:
        number, found = number + 1, f"{name}-{number + 1}"
    return found


# --------------------------------------------------------------------------------------------------------------- output


def _command(arguments: argparse.Namespace) -> str:
    """The command in one line, as it was given."""
    words = ["nmt", "init", arguments.name, *arguments.data, "--langs", arguments.langs, "--time", arguments.time]
    words += ["--valid", *arguments.valid] if arguments.valid else []
    words += [word for test in arguments.test for word in ("--test", *test)]
    words += ["--from", arguments.start] if arguments.start is not None else []
    return " ".join(shlex.join(words).split())


def _wrapped(text: str, indent: int = 0, label: int = 0) -> list[str]:
    """The lines of a text on a terminal, indented, the later ones below the text after a label of ``label`` columns.

    Elsewhere one line.
    """
    if not sys.stdout.isatty():
        return [f"{' ' * indent}{text}"]
    first, body = text[:label], text[label:]
    width = max(_NARROWEST, shutil.get_terminal_size().columns - indent - label)
    return [f"{' ' * indent}{' ' * label if place else first}{line}" for place, line in enumerate(wrap(body, width))]


def _shown(material: Material, from_scratch: bool) -> str:
    """The data in a few lines: size, lengths and three pairs."""
    src, tgt = material.characters
    width = shutil.get_terminal_size().columns - 12
    lines = _wrapped(
        f"{material.name}: {material.pairs:,} pairs of {src:.0f} and {tgt:.0f} characters on average, such as"
    )
    for number, pair in material.shown():
        for label, text in zip((f"{number:,}", ""), pair, strict=True):
            lines.append(f"{label:>10}  {cut(text, width)}")
    if from_scratch and material.pairs < _FEW:
        lines += _wrapped(
            "So few pairs teach a model little: expect rough translations. Tens of thousands are a good start."
        )
    return "\n".join(lines)
