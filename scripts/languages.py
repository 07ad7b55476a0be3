"""List where nmt/config/languages.tsv differs from Unicode CLDR (Babel) and ISO 639 (pycountry).

    pip install Babel==2.19.0 pycountry==26.2.16
    python scripts/languages.py

The table has names that were added by hand, so that it is edited and not generated: look at each line that is printed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

TABLE = Path(__file__).parents[1] / "nmt" / "config" / "languages.tsv"
DISPLAYED_IN = ("en", "de", "fr", "es")


def rows(table: Path = TABLE) -> dict[str, tuple[set[str], str, list[str]]]:
    """Equal codes, likely scripts and names of each language."""
    found = {}
    for line in table.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            code, others, scripts, names = line.split("\t")
            found[code] = ({*others.split()}, scripts, names.split("; "))
    return found


def plain(name: str) -> str:
    """A name as the table has it: in lower case, without what stands in parentheses."""
    return re.sub(r"\s*\([^)]*\)", "", name).replace("’", "'").strip().lower()


def names_in_cldr(code: str) -> Iterator[str]:
    """The names of a language in English, in the language itself, in German, French and Spanish."""
    data: Any = import_module("babel.localedata")
    for shown_in in (code, *DISPLAYED_IN):
        if data.exists(shown_in) and (name := data.load(shown_in).get("languages", {}).get(code)):
            yield plain(name)


def script_in_cldr(code: str) -> str:
    """The likely script and region of a language, as ``Latn:DE``; empty if CLDR has none."""
    likely = import_module("babel.core").get_global("likely_subtags").get(code, "").split("_")
    return ":".join(likely[1:3]) if len(likely) == 3 else ""


def differences(table: Path = TABLE) -> Iterator[str]:
    countries: Any = import_module("pycountry")
    known = rows(table)
    codes = {code for row, (others, *_) in known.items() for code in (row, *others)}
    for code, (others, scripts, names) in known.items():
        # Names of two letters, such as ga for Gã, are codes of other languages.
        if lacking := dict.fromkeys(name for name in names_in_cldr(code) if name not in names and len(name) > 2):
            yield f"{code}: CLDR has more names: {'; '.join(lacking)}"
        likely = script_in_cldr(code)
        if likely and not re.match(rf"{likely}\b", scripts):
            yield f"{code}: CLDR has the likely script {likely}, the table {scripts or 'none'}"
        language = countries.languages.get(alpha_2=code) if len(code) == 2 else None
        if language is not None and (lacking_code := {language.alpha_3} - others):
            yield f"{code}: ISO 639 has the equal code {', '.join(lacking_code)}"
    data: Any = import_module("babel.localedata")
    for code in sorted({name.split("_")[0] for name in data.locale_identifiers()} - codes):
        yield f"{code}: CLDR has this language, the table does not"


if __name__ == "__main__":
    print("\n".join(differences()) or f"{TABLE.name} has all of CLDR and ISO 639-1")
