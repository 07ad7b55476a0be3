"""Where a synthetic corpus is written: a TSV file, JSON lines, or a folder of two text files."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from nmt.config.compare import flatten
from nmt.errors import DataError
from nmt.storage.atomic import new_directory, replacing, write_json

FILES = ".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz"
STEM = "corpus"  # of the text files in a folder


class Row(NamedTuple):
    """A sentence pair of a synthetic corpus.

    Attributes:
        line: number of the line that it was made of, from 1.
        score: mean log-probability of its synthetic side per subword, as ``nmt score --mean``; None if not computed.
    """

    src: str
    tgt: str
    line: int
    score: float | None = None


class Output:
    """A synthetic corpus on disk: whole or absent, with an account of how it was made.

    The account of a file stands beside it (``FILE.manifest``), that of a folder in it (``manifest.json``).

    Args:
        name: a file that ends in one of :data:`FILES`, or a folder.
        languages: codes of source and target.

    Raises:
        DataError: the ending is not known, or the folder around it does not exist.
    """

    def __init__(self, name: str, languages: tuple[str, str]):
        self.path, self.languages = Path(name), languages
        self.ending = next((ending for ending in sorted(FILES, key=len)[::-1] if name.lower().endswith(ending)), "")
        if not self.ending:
            self._check_folder(name)
        check_parent(name)

    def _check_folder(self, name: str) -> None:
        if not name.strip("/ "):
            raise DataError("--out: the name is empty; name a file or a folder")
        if self.path.suffix and not name.endswith("/") and not self.path.is_dir():
            raise DataError(
                f"--out {name}: the ending {self.path.suffix} is not known; a file ends in {', '.join(FILES)}, and a "
                "folder in /"
            )
        if self.languages[0] == self.languages[1]:
            raise DataError(
                f"--out {name}: both text files would be {STEM}.{self.languages[0]}; name a file {FILES[0]}"
            )

    @property
    def parts(self) -> Path:
        """The folder of the blocks while the corpus is being made."""
        return self.path.with_name(f"{self.path.name}.parts")

    @property
    def account_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.manifest") if self.ending else self.path / "manifest.json"

    def account(self, key: str, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """The account of the corpus, if it is whole and was made with this key; None if no corpus exists.

        Raises:
            DataError: the path holds something else.
        """
        if not self.path.exists():
            return None
        try:
            found = json.loads(self.account_path.read_text(encoding="utf-8"))
            known = dict(found["settings"])
        except (OSError, ValueError, KeyError, TypeError):
            if not self.ending and self.path.is_dir() and not any(self.path.iterdir()):
                return None
            raise DataError(
                f"{self.path}: exists, and was not written by this command; name another --out, or remove it"
            ) from None
        if found.get("key") == key:
            return dict(found)
        raise DataError(
            f"{self.path}: exists, and was made {_differing(known, settings)}; name another --out, or remove it"
        )

    def write(self, rows: Iterable[Row], account: Mapping[str, Any]) -> None:
        """Write the corpus. A crash leaves either all of it, or nothing under its name."""
        if self.ending:
            write_json(self.account_path, account)  # first: a corpus without its account would be refused
            with replacing(self.path) as descriptor, open(descriptor, "wb") as raw, self._text(raw) as file:
                for row in rows:
                    file.write(self._line(row).encode())
            return
        with new_directory(self.path) as folder:
            with ExitStack() as stack:
                src, tgt = (
                    stack.enter_context((folder / f"{STEM}.{code}").open("w", encoding="utf-8", newline="\n"))
                    for code in self.languages
                )
                for row in rows:
                    src.write(f"{row.src}\n")
                    tgt.write(f"{row.tgt}\n")
            write_json(folder / "manifest.json", account)

    @contextmanager
    def _text(self, raw: IO[bytes]) -> Iterator[IO[bytes]]:
        if not self.ending.endswith(".gz"):
            yield raw
            return
        with gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:  # no time: equal corpora have equal bytes
            yield packed  # type: ignore[misc]

    def _line(self, row: Row) -> str:
        score = [] if row.score is None else [round(row.score, 4)]
        if self.ending.startswith(".jsonl"):
            more = {"score": score[0]} if score else {}
            texts = dict(zip(self.languages, (row.src, row.tgt), strict=True))
            return json.dumps({**texts, "line": row.line, **more}, ensure_ascii=False) + "\n"
        texts_ = (text.replace("\t", " ") for text in (row.src, row.tgt))
        return "\t".join([*texts_, str(row.line), *map(str, score)]) + "\n"

    def source(self) -> str:
        """The corpus as a source of ``data.train``, in YAML."""
        path = json.dumps(str(self.path), ensure_ascii=False)
        if self.ending.startswith(".tsv"):
            return f"{{kind: tsv, path: {path}, header: false}}"
        if self.ending:
            return f"{{kind: jsonl, path: {path}}}"
        src, tgt = (json.dumps(str(self.path / f"{STEM}.{code}"), ensure_ascii=False) for code in self.languages)
        return f"{{kind: text, src: {src}, tgt: {tgt}}}"


def check_parent(name: str) -> None:
    """
    Raises:
        DataError: the folder in which ``--out`` is to be written does not exist.
    """
    if not (parent := Path(name).parent).is_dir():
        raise DataError(f"--out {name}: {parent}: no such folder; make it, or name another --out")


def _differing(known: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """How the settings of a corpus differ from those asked for, in words."""
    there, now = flatten(dict(known)), flatten(dict(settings))
    found = [
        f"{name} is {json.dumps(there.get(name))} there, {json.dumps(now.get(name))} now"
        for name in sorted(there.keys() | now.keys())
        if there.get(name) != now.get(name)
    ]
    return f"with other settings ({'; '.join(found[:3])})" if found else "of other text"
