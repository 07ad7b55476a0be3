"""A trained run, written for use in another program."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nmt import __version__
from nmt.config.experiment import Config
from nmt.config.sources import as_tags
from nmt.data.tagged import TaggedLine
from nmt.errors import ExportError
from nmt.interop.parity import Check, Lines, compare, judge, lines_to_check
from nmt.interop.targets import TARGETS, Exported, Target, load_target
from nmt.run.directory import Run
from nmt.storage.atomic import (
    accounts,
    clear,
    fill_in_place,
    foreign,
    new_directory,
    present,
    recover,
    seal,
    signals_raise,
    write_text,
)
from nmt.translation.loading import configured, load_translator

log = logging.getLogger(__name__)

FORMAT = 2  # of the account
ACCOUNT = "nmt.json"  # checksums of the files, where they come from, and how their translations compare


def export(
    run: Run,
    name: str,
    weights: str = "float32",
    output: Path | None = None,
    check: Path | Lines | None = None,
    search: Mapping[str, Any] | None = None,
) -> tuple[Path, Check | None]:
    """Write a run for use elsewhere: its model, its tokenizer, and how to use them.

    Before it is put in place, the export translates lines of the validation set (or of ``check``) beside the
    run's own engine. An export that fails leaves nothing behind.

    Args:
        name: of a target, see :data:`nmt.interop.targets.TARGETS`.
        weights: float32, or a type that the target can have.
        output: the folder to make; an earlier export there is replaced if the folder holds nothing else. Default: one
            under ``export/`` in the run.
        search: settings of the section ``search`` that override those of the run.

    Returns:
        The folder, and what the check found; None where the target's program is not here to check with.

    Raises:
        ExportError: the target's program is not installed or cannot express the model, the export does not translate as
            the run does, or ``output`` holds something else or cannot be written.
        DataError: there are no lines to check with.
        ConfigError: a setting of the search is wrong.
        CheckpointError: the weights are damaged.
        RunError: there are no weights yet.
    """
    # Check
    config, target = configured(run, search or {}), load_target(name)
    check_exportable(name, target, run, config, weights)
    if output is None:
        run.refuse_links()
        output = run.path / "export" / f"{name}-{weights}"
        with _writing(output):
            recover(output.parent)
    path = Path(os.path.realpath(output))  # of a link, the folder that it leads to
    with _writing(output):
        _refuse_foreign(path, output)
    lines = check if isinstance(check, Lines) else lines_to_check(run, config, check)
    lines = replace(lines, sources=[_with_tags(line, target) for line in lines.sources])
    # Write, compare
    exported = Exported(run, config, load_translator(run, search), weights, lines)
    with _writing(output), signals_raise():
        path.parent.mkdir(parents=True, exist_ok=True)
        clear(path)
        with fill_in_place(path, ACCOUNT) if present(path) else new_directory(path, replace=False) as folder:
            found = _fill(folder, target, exported)
            _refuse_foreign(path, output)  # the folder may have changed since the first look
    return output, found


def _fill(folder: Path, target: Target, exported: Exported) -> Check | None:
    """Write an export into ``folder``, and compare it with the run; see :func:`_verified`."""
    difference = target.write(folder, exported)
    found = _verified(target, folder, exported, difference)
    write_text(folder / "README.md", target.readme(exported))
    about = {
        **target.versions(),
        "run": exported.run.path.name,
        "search": exported.own.search.model_dump(mode="json"),
        "check": asdict(found) if found else None,
    }
    seal(folder, ACCOUNT, {"format": FORMAT, "nmt": __version__, **about, "weights": exported.weights})
    return found


def _verified(target: Target, folder: Path, exported: Exported, difference: float | None) -> Check | None:
    """Compare the translations of an export with the run's; None where its program is not installed.

    Raises:
        ExportError: they differ.
    """
    if reason := target.unverified():
        log.warning("warning: the export is not verified: %s", reason)
        return None
    log.info(
        "translating %d lines of %s with the run and the export, to compare",
        len(exported.lines.sources),
        exported.lines.where,
    )
    found = compare(target, folder, exported, difference)
    judge(found, exported.quantize, target.own_search)
    return found


def check_exportable(name: str, target: Target, run: Run, config: Config, weights: str) -> None:
    """Check what can be checked before the weights are read.

    Raises:
        ExportError: the target cannot have such weights, or cannot express the model or its tokenizer.
    """
    if weights not in ("float32", *TARGETS[name].weights):
        advice = " or ".join(["remove the option", *(f"use {each}" for each in TARGETS[name].weights)])
        raise ExportError(f"--quantize {weights}: {name} cannot have such weights; {advice}")
    if config.tokenizer.case == "inline":
        raise ExportError(
            f"{run.path}: {name} reads text with SentencePiece alone and cannot express tokenizer.case: inline; train "
            "a run with tokenizer.case: keep, or serve this one with nmt serve"
        )
    target.check(run, config)
    _check_tags(name, target, run, config)


def _check_tags(name: str, target: Target, run: Run, config: Config) -> None:
    """
    Raises:
        ExportError: every training pair had a tag, and the program cannot put it before a source.
    """
    datasets = [as_tags(dataset.tag) for dataset in config.data.datasets]
    lacking = [" ".join(tags) for tags in datasets if not _readable(tags, target)]
    if lacking and len(lacking) == len(datasets):
        advice = ", or train with tags like >>de<<" if target.tags else ""
        raise ExportError(
            f"{run.path}: every training pair had tags, and {name} cannot put {lacking[0]} before a source; "
            f"export --to onnx or ctranslate2{advice}"
        )
    if lacking:
        log.warning("warning: %s cannot put these tags before a source: %s", name, ", ".join(dict.fromkeys(lacking)))


def _readable(tags: Sequence[str], target: Target) -> bool:
    """Whether the program can put tags before a source; of a pattern, one."""
    return target.tags is None or not tags or (len(tags) == 1 and re.fullmatch(target.tags, tags[0]) is not None)


def _with_tags(line: str, target: Target) -> str:
    """A line of the check, without tags that the program cannot put before it."""
    return line if isinstance(line, TaggedLine) and _readable(line.tags, target) else str(line)


def _refuse_foreign(folder: Path, name: Path) -> None:
    """Make sure that an export to ``folder`` replaces nothing but an earlier export, as it was written.

    Args:
        name: what the user calls the folder.

    Raises:
        ExportError: the folder holds anything else; the first such file is named.
    """
    if not present(folder):
        return
    if not folder.is_dir():
        raise ExportError(f"{name}: exists and is not an earlier export, but a file; name another folder")
    known = [account for account in accounts(folder, ACCOUNT) if "check" in account]
    found = foreign(folder, ACCOUNT, known)
    if found == "lost+found" and folder.is_mount():
        found = None
    if found is not None:
        raise ExportError(
            f"{name}: exists and is not an earlier export, because it contains {found}; name another folder"
        )


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or path
        raise ExportError(
            f"{where}: cannot be written: {error.strerror or error}; check space and permissions, or name another "
            "folder with -o FOLDER"
        ) from None
