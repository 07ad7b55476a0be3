"""Write pairs of Multi30k as TMX files for ``configs/finetune-demo.yaml``: train.tmx, valid.tmx and test.tmx.

The pairs come from the Hugging Face hub, or from a folder with the files of multi30k/dataset (``--raw``).
"""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from xml.sax.saxutils import escape

Pair = tuple[str, str]
RAW = {"train": "train", "validation": "val", "test": "test_2016_flickr"}
HEADER = """\
<?xml version="1.0" encoding="UTF-8"?>
<tmx version="1.4">
<header srclang="en" datatype="plaintext" segtype="sentence" adminlang="en" o-tmf="text" creationtool="nmt"
 creationtoolversion="1"/>
<body>
"""


def pairs(split: str, raw: Path | None) -> Iterator[Pair]:
    if raw is None:
        import datasets

        for row in datasets.load_dataset("bentrevett/multi30k", split=split):
            yield row["en"], row["de"]
        return
    en, de = (raw / f"{RAW[split]}.{lang}.gz" for lang in ("en", "de"))
    with gzip.open(en, "rt", encoding="utf-8") as sources, gzip.open(de, "rt", encoding="utf-8") as targets:
        for src, tgt in zip(sources, targets, strict=True):
            yield src.rstrip("\n"), tgt.rstrip("\n")


def write(path: Path, found: Iterator[Pair]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(HEADER)
        for pair in found:
            sides = zip(("en", "de"), pair, strict=True)
            texts = "".join(f'<tuv xml:lang="{lang}"><seg>{escape(text)}</seg></tuv>' for lang, text in sides)
            file.write(f"<tu>{texts}</tu>\n")
        file.write("</body>\n</tmx>\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/finetune"), help="folder (default: %(default)s)")
    parser.add_argument("--raw", type=Path, help="folder with train.en.gz, train.de.gz, val.* and test_2016_flickr.*")
    parser.add_argument("--pairs", type=int, default=2000, help="of the training (default: %(default)s)")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, split, most in (
        ("train", "train", arguments.pairs),
        ("valid", "validation", 500),
        ("test", "test", None),
    ):
        write(arguments.out / f"{name}.tmx", islice(pairs(split, arguments.raw), most))
        print(arguments.out / f"{name}.tmx")


if __name__ == "__main__":
    main()
