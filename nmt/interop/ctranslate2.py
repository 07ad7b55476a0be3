"""Export for CTranslate2."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nmt import __version__
from nmt.config.experiment import Config
from nmt.config.limits import ResolvedSearch
from nmt.interop import expressible
from nmt.interop.parity import LABEL
from nmt.interop.targets import Translated
from nmt.run.directory import Run
from nmt.runtime.ranks import ALONE
from nmt.translation import ctranslate2_cache
from nmt.translation.ctranslate2 import CTranslate2Engine, import_ctranslate2, resolve_device
from nmt.translation.shared import translate_block
from nmt.translation.translator import Translator

if TYPE_CHECKING:
    from nmt.interop.targets import Exported, Target

_README = """\
# {run}, {src_lang} to {tgt_lang}, for CTranslate2

A Transformer trained with nmt {version}: a CTranslate2 model with {weights} weights, and its SentencePiece model(s).
`nmt.json` tells where it comes from, how it was searched there and how its translations were compared.

```sh
pip install "ctranslate2>={ctranslate2}" sentencepiece
```

```python
import ctranslate2
import sentencepiece

folder = "."  # this one
source = sentencepiece.SentencePieceProcessor(model_file=f"{{folder}}/{src_model}")
target = sentencepiece.SentencePieceProcessor(model_file=f"{{folder}}/{tgt_model}")
translator = ctranslate2.Translator(folder, device="cpu")


def score(found):  # log-probability / {penalty}
    score, pieces = found
    length = max(1, len(pieces))
    return score / {penalty}


def translate(lines, tags=()):  # {tags}
    results = translator.translate_batch(
        [[*tags, *pieces[:{max_source}]] if pieces else [] for pieces in source.encode(lines, out_type=str)],
        batch_type="tokens",
        max_batch_size=2048,
        beam_size={beam_size},
        num_hypotheses={beam_size},
        length_penalty=1e-6,
        return_scores=True,
        return_end_token=True,
        disable_unk=True,
        suppress_sequences=[["{pad}"], ["{bos}"]],
        min_decoding_length=0,
        max_decoding_length={max_target},
        max_input_length=0,
    )
    return [target.decode(max(zip(r.scores, r.hypotheses), key=score)[1]) for r in results]


print(*translate(["..."]), sep="\\n")
```
"""


class CTranslate2:
    """See :class:`nmt.interop.targets.Target`."""

    own_limits = True
    own_search = True
    tags: str | None = None

    def check(self, run: Run, config: Config) -> None:
        if what := expressible.ctranslate2(config):
            expressible.refuse(run.path, "CTranslate2", what, config)
        expressible.check_search(run.path, "CTranslate2", config.search)
        import_ctranslate2()

    def versions(self) -> dict[str, str]:
        return {"ctranslate2": import_ctranslate2().__version__}

    def write(self, folder: Path, exported: Exported) -> float | None:
        difference = ctranslate2_cache.write(folder, exported.own, exported.quantize)
        for model in exported.own.tokenizer.path.glob("*.model"):
            shutil.copyfile(model, folder / model.name)
        return difference

    def unverified(self) -> None:
        """None: the package that writes the export verifies it."""

    def search(self, search: ResolvedSearch) -> ResolvedSearch:
        return search

    def translate(self, folder: Path, exported: Exported, lines: Sequence[str]) -> tuple[list[Translated], int]:
        own, config = exported.own, exported.config
        device = resolve_device(ctranslate2_cache.device_of(config))
        engine = CTranslate2Engine(folder, own.tokenizer, own.search, device, config.train.threads, lambda: own.engine)
        found = translate_block(
            Translator(engine, own.tokenizer, own.search, own.max_target_tokens), lines, ALONE, LABEL
        )
        return [Translated(each.text, each.score) for each in found], engine.searched_again

    def readme(self, exported: Exported) -> str:
        own, data = exported.own, exported.config.data
        search, tokenizer = own.search, own.tokenizer
        alpha = search.alpha if search.length_penalty != "none" else 0.0
        pad, bos = tokenizer.tgt_pieces([tokenizer.pad_id, tokenizer.bos_id])
        longest = ctranslate2_cache.positions(search) if own.max_target_tokens is None else own.max_target_tokens
        return _README.format(
            run=exported.run.path.name,
            src_lang=data.src_lang,
            tgt_lang=data.tgt_lang,
            version=__version__,
            ctranslate2=import_ctranslate2().__version__,
            weights=exported.weights,
            src_model="joint.model" if tokenizer.joint else "src.model",
            tgt_model="joint.model" if tokenizer.joint else "tgt.model",
            penalty=f"((5 + length) / 6) ** {alpha:g}" if search.length_penalty == "gnmt" else f"length**{alpha:g}",
            max_source=search.max_source_tokens,
            max_target=longest,
            beam_size=search.beam_size,
            pad=pad,
            bos=bos,
            tags=f"tags before each source, of: {' '.join(tokenizer.tags)}"
            if tokenizer.tags
            else "the model has no tags",
        )


TARGET: Target = CTranslate2()
