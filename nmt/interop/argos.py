"""Export for Argos Translate and LibreTranslate: an ``.argosmodel``, a zip file around a CTranslate2 model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nmt import __version__
from nmt.config.experiment import Config
from nmt.config.limits import ResolvedSearch
from nmt.data.tokenizer import Tokenizer
from nmt.errors import ExportError
from nmt.interop import expressible
from nmt.interop.parity import LABEL
from nmt.interop.targets import Exported, Target, Translated, language_code, missing
from nmt.run.directory import Run
from nmt.runtime.progress import showing
from nmt.translation import ctranslate2_cache
from nmt.translation.ctranslate2 import import_ctranslate2
from nmt.translation.translator import read_text

ALPHA = 0.2  # of the average length penalty in argostranslate.translate
LONGEST = 1026  # positions: CTranslate2 cuts a source to 1024 pieces unless it is told otherwise
_NAMES = {"en": "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian", "cs": "Czech"}

# Installs a package into a separate folder, and translates each line of standard input as one sentence.
_PROGRAM = """
import json, sys
from argostranslate import package, translate

class Whole:
    def __init__(self, package): pass
    def split_sentences(self, text): return [text]

translate.MiniSBDSentencizer = Whole
package.install_from_path(sys.argv[1])
(installed,) = package.get_installed_packages()
translation = translate.PackageTranslation(None, None, installed)
lines = json.load(sys.stdin)
print(json.dumps([translation.translate(line) if line.strip() else "" for line in lines]))
"""

_README = """\
# {name}: {src} to {tgt}, for Argos Translate and LibreTranslate

A Transformer trained with nmt {version}, with {weights} weights. `nmt.json` says how its translations were compared
with those of the run.

```sh
pip install argostranslate
argospm install {file}
argos-translate --from {src} --to {tgt} "..."
```

LibreTranslate offers the packages that are installed for the user who starts it. Argos Translate splits text into
sentences with a model that it downloads at its first use. Its beam has 4 hypotheses unless ARGOS_BEAM_SIZE is set, and
its length penalty is length ** 0.2. On a CPU it computes in int8, whatever the weights are; ARGOS_COMPUTE_TYPE=default
keeps their type, and the comparison was made so. For processors without VNNI, export with `--quantize int8`: the
products of float32 weights that Argos Translate rounds itself can overflow there.
"""


class Argos:
    """See :class:`nmt.interop.targets.Target`."""

    own_limits = False
    own_search = False
    tags: str | None = ""

    def check(self, run: Run, config: Config) -> None:
        if what := expressible.ctranslate2(config):
            expressible.refuse(run.path, "CTranslate2", what, config)
        expressible.check_search(run.path, "Argos Translate", config.search)
        tokenizer = Tokenizer.load(run.tokenizer)
        pieces = tokenizer.src_pieces(range(tokenizer.src_vocab_size))
        if pieces != tokenizer.tgt_pieces(range(tokenizer.tgt_vocab_size)):
            raise ExportError(
                f"{run.path}: an .argosmodel has one SentencePiece model and cannot express tokenizer.joint: false; "
                "train a run with tokenizer.joint: true, or export --to ctranslate2"
            )
        data = config.data
        if language_code(data.src_lang) == (code := language_code(data.tgt_lang)):
            raise ExportError(
                f"{run.path}: an .argosmodel names languages by codes without regions, which are both {code} "
                f"(data.src_lang: {data.src_lang}, data.tgt_lang: {data.tgt_lang}); export --to ctranslate2"
            )
        import_ctranslate2()

    def versions(self) -> dict[str, str]:
        return {"ctranslate2": import_ctranslate2().__version__}

    def unverified(self) -> str | None:
        told = missing("argostranslate")
        return told and f"{told}; log-probabilities were compared through CTranslate2"

    def search(self, search: ResolvedSearch) -> ResolvedSearch:
        return search.model_copy(update={"length_penalty": "average", "alpha": ALPHA})

    def write(self, folder: Path, exported: Exported) -> float | None:
        own, data = exported.own, exported.config.data
        inside = f"translate-{language_code(data.src_lang)}_{language_code(data.tgt_lang)}-1_0"
        with TemporaryDirectory(prefix=".model-", dir=folder) as made:
            difference = ctranslate2_cache.write(Path(made), own, exported.quantize, LONGEST)
            with zipfile.ZipFile(folder / _file(exported), "w", zipfile.ZIP_DEFLATED) as package:
                for file in sorted(Path(made).iterdir()):
                    package.write(file, f"{inside}/model/{file.name}")
                name = "joint.model" if own.tokenizer.joint else "src.model"
                package.write(own.tokenizer.path / name, f"{inside}/sentencepiece.model")
                package.writestr(f"{inside}/metadata.json", json.dumps(_metadata(exported), indent=2) + "\n")
                package.writestr(f"{inside}/README.md", self.readme(exported))
        return difference

    def translate(self, folder: Path, exported: Exported, lines: Sequence[str]) -> tuple[list[Translated], int]:
        search = exported.own.search
        texts = [read_text(search, line) for line in lines]
        with TemporaryDirectory(prefix="nmt-argos-") as home, showing(LABEL, len(lines)):
            places = {"ARGOS_PACKAGES_DIR": f"{home}/packages", "HOME": home, "XDG_DATA_HOME": home}
            caches = {"XDG_CACHE_HOME": f"{home}/cache", "XDG_CONFIG_HOME": f"{home}/config"}
            settings = {"ARGOS_BEAM_SIZE": str(search.beam_size), "ARGOS_COMPUTE_TYPE": "default", "PYTHONPATH": ""}
            done = subprocess.run(
                [sys.executable, "-c", _PROGRAM, str((folder / _file(exported)).resolve())],
                input=json.dumps(texts),
                env={**os.environ, **places, **caches, **settings},
                cwd=home,
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ExportError(f"argostranslate cannot translate with the export: {reason}; nothing was written")
        found = json.loads(done.stdout.strip().splitlines()[-1])
        return [Translated(text, None) for text in found], 0

    def readme(self, exported: Exported) -> str:
        return _README.format(
            name=exported.run.path.name,
            src=language_code(exported.config.data.src_lang),
            tgt=language_code(exported.config.data.tgt_lang),
            version=__version__,
            weights=exported.weights,
            file=_file(exported),
        )


def _file(exported: Exported) -> str:
    data = exported.config.data
    return f"{language_code(data.src_lang)}_{language_code(data.tgt_lang)}.argosmodel"


def _metadata(exported: Exported) -> dict[str, Any]:
    codes = [language_code(language) for language in (exported.config.data.src_lang, exported.config.data.tgt_lang)]
    return {
        "package_version": "1.0",
        "argos_version": "1.9.6",
        "from_code": codes[0],
        "from_name": _NAMES.get(codes[0], codes[0]),
        "to_code": codes[1],
        "to_name": _NAMES.get(codes[1], codes[1]),
        "target_prefix": "",
    }


TARGET: Target = Argos()
