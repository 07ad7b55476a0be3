"""Export for Marian: ``model.npz``, its vocabularies and ``decoder.yml``.

Marian reads SentencePiece models itself, with their ids, so that weights keep their order.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from nmt import __version__
from nmt.config.experiment import Config
from nmt.config.limits import ResolvedSearch
from nmt.config.model import TransformerConfig
from nmt.data.tokenizer import VOCABULARY, Tokenizer
from nmt.errors import ExportError
from nmt.interop.marian_family import average_penalty, check_architecture, weights_of
from nmt.interop.parity import LABEL
from nmt.interop.targets import Exported, Target, Translated, missing
from nmt.models.transformer import Transformer
from nmt.pretrained.names import from_ours
from nmt.run.directory import Run
from nmt.runtime.progress import showing
from nmt.translation.ctranslate2_cache import MAX_DIFFERENCE
from nmt.translation.ctranslate2_model import log_probs
from nmt.translation.translator import read_text

# What a Marian model must have, by key of ``model``.
_MODEL: dict[str, tuple[Any, ...]] = {"positions": ("sinusoidal_marian",), "start": ("zero",)}
_TRANSLATE = """
import json, sys, pymarian
about = json.load(sys.stdin)
translator = pymarian.Translator(**about["options"])
print(json.dumps(translator.translate(about["lines"])))
"""
_SCORE = """
import sys, _pymarian
sys.exit(_pymarian.main(["score", *sys.argv[1:]]))
"""
_SCORED = 20  # lines
_FACTOR = 3  # max-length-factor of Marian: longest output by the length of the source

_README = """\
# {name}: {src} to {tgt}, for Marian

A Transformer trained with nmt {version}. `nmt.json` says how its translations were compared with those of the run.

```sh
marian-decoder -c decoder.yml < input.txt
```

```python
import pymarian  # pip install pymarian

translator = pymarian.Translator(config="decoder.yml", quiet=True)
print(*translator.translate(["..."]), sep="\\n")
```
"""


class MarianTarget:
    """See :class:`nmt.interop.targets.Target`."""

    own_limits = False
    own_search = False
    tags: str | None = ""

    def check(self, run: Run, config: Config) -> None:
        check_architecture(run.path, config, "Marian", _MODEL)
        if not Tokenizer(run.tokenizer).is_whole:
            raise ExportError(
                f"{run.path}: Marian cannot express a vocabulary that lacks pieces of its SentencePiece model, as "
                f"some imported models have ({run.tokenizer / VOCABULARY}); export --to huggingface"
            )

    def versions(self) -> dict[str, str]:
        return {}

    def unverified(self) -> str | None:
        return missing("pymarian")

    def search(self, search: ResolvedSearch) -> ResolvedSearch:
        return average_penalty(search)

    def write(self, folder: Path, exported: Exported) -> float | None:
        own, config = exported.own, exported.config.model
        model, tokenizer = own.engine.model, own.tokenizer
        assert isinstance(model, Transformer)
        assert isinstance(config, TransformerConfig)
        # Weights and settings
        layers = config.encoder_layers, config.decoder_layers
        arrays = from_ours(weights_of(model), "marian", *layers, config.tie_embeddings)
        sizes = [tokenizer.src_vocab_size, tokenizer.tgt_vocab_size]
        text = yaml.safe_dump(_settings(config, sizes)).encode() + b"\0"
        stored = {name: tensor.numpy() for name, tensor in arrays.items()}
        np.savez(folder / "model.npz", allow_pickle=False, **stored, **{_ABOUT: np.frombuffer(text, np.int8)})
        # Vocabularies
        for source, name in zip(_models(exported), dict.fromkeys(_vocabularies(exported)), strict=True):
            shutil.copyfile(source, folder / name)
        decoder = {
            "relative-paths": True,
            "models": ["model.npz"],
            "vocabs": _vocabularies(exported),
            "beam-size": own.search.beam_size,
            "normalize": _alpha(self.search(own.search)),
            "word-penalty": 0,
            "allow-unk": False,
            "max-length": own.search.max_source_tokens + 1,  # of a source, with its end
            "max-length-crop": True,
            "max-length-factor": _FACTOR,
            "mini-batch": 16,
            "maxi-batch": 100,
            "maxi-batch-sort": "src",
        }
        (folder / "decoder.yml").write_text(yaml.safe_dump(decoder, sort_keys=False), encoding="utf-8")
        return None if self.unverified() else _difference(folder, exported)

    def translate(self, folder: Path, exported: Exported, lines: Sequence[str]) -> tuple[list[Translated], int]:
        search = exported.own.search
        limits = search.max_length_ratio, search.max_length_offset
        options = {
            "config": "decoder.yml",
            "beam_size": search.beam_size,
            # Greedy: not less than our limit for any source; outputs that are longer are equal up to ours.
            "max_length_factor": _FACTOR if search.beam_size > 1 else max(_FACTOR, round(sum(limits))),
            "cpu_threads": 1,
            "quiet": True,
        }
        texts = [read_text(search, line) for line in lines]
        with showing(LABEL, len(lines)):
            out = _run(folder, _TRANSLATE, [], json.dumps({"options": options, "lines": texts}))
        return [Translated(text, None) for text in json.loads(out.strip().splitlines()[-1])], 0

    def readme(self, exported: Exported) -> str:
        data = exported.config.data
        name = exported.run.path.name
        return _README.format(name=name, src=data.src_lang, tgt=data.tgt_lang, version=__version__)


_ABOUT = "special:model.yml"  # the array with the settings


def _alpha(search: ResolvedSearch) -> float:
    return search.alpha if search.length_penalty == "average" else 0.0


def _models(exported: Exported) -> list[Path]:
    tokenizer = exported.own.tokenizer
    return [tokenizer.path / f"{name}.model" for name in (["joint"] if tokenizer.joint else ["src", "tgt"])]


def _vocabularies(exported: Exported) -> list[str]:
    return ["vocab.spm"] * 2 if exported.own.tokenizer.joint else ["src.spm", "tgt.spm"]


def _settings(model: TransformerConfig, sizes: list[int]) -> dict[str, Any]:
    """The settings inside a Marian model."""
    return {
        "type": "transformer",
        "dim-emb": model.d_model,
        "dim-vocabs": sizes,
        "enc-depth": model.encoder_layers,
        "dec-depth": model.decoder_layers,
        "transformer-dim-ffn": model.d_ff,
        "transformer-decoder-dim-ffn": 0,
        "transformer-heads": model.num_heads,
        "transformer-ffn-depth": 2,
        "transformer-decoder-ffn-depth": 0,
        "transformer-ffn-activation": model.activation,
        "transformer-preprocess": "",
        "transformer-postprocess": "dan",
        "transformer-postprocess-emb": "d",
        "transformer-postprocess-top": "",
        "transformer-decoder-autoreg": "self-attention",
        "transformer-no-projection": False,
        "transformer-tied-layers": [],
        "transformer-train-position-embeddings": False,
        "tied-embeddings-all": model.tie_embeddings == "all",
        "tied-embeddings": model.tie_embeddings == "decoder",
        "tied-embeddings-src": False,
        "output-omit-bias": False,
        "lemma-dim-emb": 0,
        "ulr": False,
        "right-left": False,
        "input-types": [],
        "version": "v1.12.0",
    }


def _run(folder: Path, program: str, arguments: Sequence[str], text: str = "") -> str:
    """The output of Marian in a separate process, which it ends on an error.

    Raises:
        ExportError: it failed.
    """
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, cwd=folder, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        told = [line for line in done.stderr.splitlines() if "rror" in line] or done.stderr.strip().splitlines()
        reason = (told or [f"it ended with code {done.returncode}"])[0][:200]
        raise ExportError(f"pymarian cannot use the export: {reason}; nothing was written")
    return done.stdout


def _difference(folder: Path, exported: Exported) -> float:
    """The largest difference in the log-probability of a sentence, divided by its tokens, on lines of the check.

    Raises:
        ExportError: it is over :data:`MAX_DIFFERENCE`.
    """
    own = exported.own
    model = own.engine.model
    assert isinstance(model, Transformer)
    sources = exported.lines.sources[:_SCORED]
    targets = exported.lines.references or [found[0].text for found in own.translate(sources)]
    files = {"scored.src": sources, "scored.tgt": targets[:_SCORED]}
    for name, lines in files.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    try:
        names = ["-m", "model.npz", "-v", *_vocabularies(exported), "-t", *files, "--cpu-threads", "1", "--quiet"]
        scores = [float(line) for line in _run(folder, _SCORE, names).split()]
    finally:
        for name in files:
            (folder / name).unlink()
    pairs = list(zip(own.tokenizer.encode_src(sources), own.tokenizer.encode_tgt(targets[:_SCORED]), strict=True))
    ours = log_probs(model, own.tokenizer, pairs)
    found = max(abs(float(a.sum()) - b) / len(a) for a, b in zip(ours, scores, strict=True))
    if not found <= MAX_DIFFERENCE:
        raise ExportError(
            f"Marian computes other probabilities than the run (log-probabilities differ by {found:.2g} per token, "
            f"the limit is {MAX_DIFFERENCE:g}); nothing was written; please report this"
        )
    return found


TARGET: Target = MarianTarget()
