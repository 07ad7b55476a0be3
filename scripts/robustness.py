"""Train with and without upper- and title-cased pairs, and score test sets in other case.

scripts/robustness.py FOLDER [--config configs/multi30k-transformer.yaml] [--set train.max_steps=8000 ...]

FOLDER has train, val and test_2016_flickr as .en.gz and .de.gz. The modifiers change the case of 10 % of the pairs each
(UpperCase, TitleCase). BLEU ignores case, so that the scores of the three forms of the test set can be compared.
"""

import argparse
import gzip
import sys
from pathlib import Path
from typing import Any

import yaml

from nmt import pipeline
from nmt.cli.errors import guarded
from nmt.config.load import load_config
from nmt.data.modifiers import title_case, upper_case

TEST = "test_2016_flickr"
MODIFIERS = [{"UpperCase": 0.1}, {"TitleCase": 0.1}]
FORMS = {"upper": upper_case, "title": title_case}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--config", default="configs/multi30k-transformer.yaml")
    parser.add_argument("--forms", type=Path, default=Path("data/robustness"), help="folder for the test sets")
    parser.add_argument("--set", dest="overrides", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    tests = {"normal": source(arguments.folder, TEST), **write_forms(arguments.folder, arguments.forms)}
    train = source(arguments.folder, "train")
    variants: dict[str, list[dict[str, Any]]] = {
        "plain": [{"name": "train", "source": train}],
        "modifiers": [{"name": "train", "source": train, "modifiers": MODIFIERS}],
    }
    scores = {}
    for name, datasets in variants.items():
        data = {"train": datasets, "valid": source(arguments.folder, "val"), "test": tests}
        settings = [f"data.{key}={yaml.safe_dump(value, default_flow_style=True)}" for key, value in data.items()]
        settings += [f"name=robustness-{name}", "evaluation.lowercase=true", *arguments.overrides]
        scores[name] = pipeline.train(load_config(arguments.config, settings)).scores
    print(f"\n{'BLEU, case ignored':<20}" + "".join(f"{form:>9}" for form in tests))
    for name, found in scores.items():
        print(f"{name:<20}" + "".join(f"{found[form].bleu:>9.2f}" for form in tests))


def source(folder: Path, part: str) -> dict[str, str]:
    return {"kind": "text", "src": str(folder / f"{part}.en.gz"), "tgt": str(folder / f"{part}.de.gz")}


def write_forms(folder: Path, out: Path) -> dict[str, dict[str, str]]:
    """Write the test set in each of :data:`FORMS`; returns their sources."""
    out.mkdir(parents=True, exist_ok=True)
    found = {}
    for form, change in FORMS.items():
        found[form] = {"kind": "text", "src": str(out / f"{form}.en"), "tgt": str(out / f"{form}.de")}
        for language in ("en", "de"):
            with gzip.open(folder / f"{TEST}.{language}.gz", "rt", encoding="utf-8") as lines:
                text = "".join(f"{change(line.rstrip(chr(10)))}\n" for line in lines)
            (out / f"{form}.{language}").write_text(text, encoding="utf-8")
    return found


if __name__ == "__main__":
    sys.exit(guarded("robustness", main))
