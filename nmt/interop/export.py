"""A trained run as a CTranslate2 model for use elsewhere."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nmt import __version__
from nmt.config import Config
from nmt.data.lines import open_text, read_lines
from nmt.errors import DataError, ExportError
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
from nmt.translation.ctranslate2 import CTranslate2Engine, import_ctranslate2, resolve_device
from nmt.translation.ctranslate2_cache import ACCOUNT, FORMAT, check_expressible, device_of, positions, write
from nmt.translation.loading import load_translator
from nmt.translation.translator import Translator

if TYPE_CHECKING:
    from nmt.translation.pytorch import TorchEngine

log = logging.getLogger(__name__)

WEIGHT_TYPES = ("int8", "float16")  # other than float32

CHECKED_LINES = 500
PROMISED = 0.995  # share of equal translations, with float32 weights
BLEU_TOLERANCE = 0.1  # largest difference of BLEU, with float32 weights
TIE = 1e-4  # of two translations whose scores differ by less, rounding chooses
MIN_LIKENESS = 50.0  # BLEU of quantized translations against the unquantized: under it, something is broken


# --------------------------------------------------------------------------------------------------------- nmt export


@dataclass(frozen=True)
class Check:
    """How the translations of an export compare with those of the run itself.

    Attributes:
        lines: translated by both; blank ones are left out.
        source: where the lines are from.
        same: share that is equal, or equally good (see :data:`TIE`).
        searched_again: of the lines, those that CTranslate2 left to our own search.
        likeness: BLEU of the export's translations with the run's own for references.
        bleu: of the run's own translations and of the export's, where there are references.
        difference: the largest of a token's log-probability, on random sentences; None for quantized weights.
    """

    lines: int
    source: str
    same: float
    searched_again: int
    likeness: float
    bleu: tuple[float, float] | None
    difference: float | None

    def summary(self) -> str:
        again = f", {self.searched_again} of them searched again by nmt itself" if self.searched_again else ""
        parts = [f"{self.same:.1%} of the translations of {self.lines} lines of {self.source} are the run's own{again}"]
        if self.same < 1:
            parts.append(f"{self.likeness:.1f} BLEU against the run's own")
        if self.bleu is not None:
            parts.append(f"{self.bleu[1]:.2f} BLEU, the run itself {self.bleu[0]:.2f}")
        if self.difference is not None:
            parts.append(f"log-probabilities of tokens differ by at most {self.difference:.1g}")
        return "\n".join(parts)


@dataclass(frozen=True)
class _Lines:
    where: str
    sources: list[str]
    references: list[str] | None


def export(
    run: Run, quantize: str | None = None, output: Path | None = None, check: Path | None = None
) -> tuple[Path, Check]:
    """Write a run for use elsewhere: the CTranslate2 model, the SentencePiece models, and how to use them.

    Before it is put in place, it translates lines of the validation set (or of the file ``check``) beside the run's own
    engine. An export that fails leaves nothing behind.

    Args:
        quantize: one of :data:`WEIGHT_TYPES`; None keeps float32.
        output: the folder to make; an earlier export there is replaced if it holds that and nothing else. Default: one
            under ``export/`` in the run.

    Returns:
        The folder, and what the check found.

    Raises:
        ExportError: CTranslate2 is not installed or cannot express the model, the export translates otherwise than the
            run, or ``output`` holds something else or cannot be written.
        DataError: there is nothing to check with.
        CheckpointError, RunError: the weights are damaged, or there are none yet.
    """
    config = run.load_config()
    check_expressible(run, config)
    version = import_ctranslate2().__version__
    if output is None:
        run.refuse_links()
        output = run.path / "export" / f"ctranslate2-{quantize or 'float32'}"
        with _writing(output):
            recover(output.parent)
    target = Path(os.path.realpath(output))  # of a link, the folder that it leads to
    with _writing(output):
        _refuse_foreign(target, output)
    lines = _check_lines(run, config, check)

    own = load_translator(run)
    account = {"ctranslate2": version, "run": run.path.name, "search": own.search.model_dump(mode="json")}
    with _writing(output), signals_raise():
        target.parent.mkdir(parents=True, exist_ok=True)
        clear(target)
        with fill_in_place(target, ACCOUNT) if present(target) else new_directory(target, replace=False) as folder:
            difference = write(folder, own, quantize)
            for model in own.tokenizer.path.glob("*.model"):
                shutil.copyfile(model, folder / model.name)
            log.info("translating %d lines of %s twice, to compare", len(lines.sources), lines.where)
            found = _compare(folder, own, lines, config, difference)
            _judge(found, quantize)
            write_text(folder / "README.md", _readme(run, own, config, quantize))
            about = {**account, "check": asdict(found), "weights": quantize or "float32"}
            seal(folder, ACCOUNT, {"format": FORMAT, "nmt": __version__, **about})
            _refuse_foreign(target, output)  # much may have happened since the first look
    return output, found


def _refuse_foreign(folder: Path, name: Path) -> None:
    """Make sure that an export to ``folder`` replaces nothing but an earlier export, as it was written.

    Args:
        name: what the user calls the folder.

    Raises:
        ExportError: it holds anything else; the first such file is named.
    """
    if not present(folder):
        return
    if not folder.is_dir():
        raise ExportError(f"{name}: is there and is no earlier export, but a file; name another folder")
    known = [account for account in accounts(folder, ACCOUNT) if "check" in account]
    found = foreign(folder, ACCOUNT, known)
    if found == "lost+found" and folder.is_mount():
        found = None
    if found is not None:
        raise ExportError(f"{name}: is there and is no earlier export, for it holds {found}; name another folder")


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


def _check_lines(run: Run, config: Config, file: Path | None) -> _Lines:
    """At most :data:`CHECKED_LINES` lines, spread evenly; blank ones tell nothing."""
    if file is not None:
        with open_text(str(file)) as opened:
            where, sources, references = str(file), list(read_lines(opened, str(file))), None
    else:
        from nmt.data.corpus import Corpus
        from nmt.data.provenance import read_manifest

        folder = Path(config.data.store) / f"corpus-{run.load_manifest().get('key')}"
        if not folder.is_dir():
            raise DataError(
                f"{folder}: the prepared corpus is not there any more, whose validation set would check the export; "
                "name a file of source sentences with --check"
            )
        part = Corpus(folder, read_manifest(folder)).part("valid")
        where, sources, references = "the validation set", part.sources(), part.targets()
    rows = [i for i, line in enumerate(sources) if line.strip()]
    if not rows:
        raise DataError(f"{where}: holds no line to check the export with")
    count = min(len(rows), CHECKED_LINES)
    rows = [rows[i * len(rows) // count] for i in range(count)]
    return _Lines(where, [sources[i] for i in rows], references and [references[i] for i in rows])


def _compare(
    folder: Path, own: Translator[TorchEngine], lines: _Lines, config: Config, difference: float | None
) -> Check:
    from nmt.evaluation.scores import score

    device = resolve_device(device_of(config))
    engine = CTranslate2Engine(folder, own.tokenizer, own.search, device, config.train.threads, lambda: own.engine)
    ours, theirs = (
        [found[0] for found in translator.translate(lines.sources)]
        for translator in (own, Translator(engine, own.tokenizer, own.search, own.max_target_tokens))
    )
    same = sum(a.text == b.text or abs(a.score - b.score) < TIE for a, b in zip(ours, theirs, strict=True))
    texts = [[t.text for t in found] for found in (ours, theirs)]

    def bleu(hypotheses: list[str], references: list[str]) -> float:
        return score(hypotheses, references, config.evaluation, ["bleu"]).bleu

    return Check(
        lines=len(ours),
        source=lines.where,
        same=same / len(ours),
        searched_again=engine.searched_again,
        likeness=bleu(texts[1], texts[0]),
        bleu=None if lines.references is None else (bleu(texts[0], lines.references), bleu(texts[1], lines.references)),
        difference=difference,
    )


def _judge(found: Check, quantize: str | None) -> None:
    """
    Raises:
        ExportError: it is not what is promised.
    """
    if quantize is None and found.same < PROMISED:
        raise ExportError(
            f"the export translates only {found.same:.2%} of {found.lines} lines of {found.source} as the run does, "
            f"promised are {PROMISED:.1%}; nothing was written; please report this"
        )
    if quantize is None and found.bleu is not None and abs(found.bleu[1] - found.bleu[0]) > BLEU_TOLERANCE:
        raise ExportError(
            f"the export has {found.bleu[1]:.2f} BLEU on {found.source} and the run {found.bleu[0]:.2f}, promised are "
            f"{BLEU_TOLERANCE} of difference at most; nothing was written; please report this"
        )
    if quantize is not None and found.likeness < MIN_LIKENESS:
        raise ExportError(
            f"with weights of {quantize} the translations of {found.lines} lines of {found.source} are hardly those of "
            f"the run any more ({found.likeness:.1f} BLEU against them); nothing was written; export without --quantize"
        )


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


def translate(lines):
    results = translator.translate_batch(
        [pieces[:{max_source}] for pieces in source.encode(lines, out_type=str)],
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


def _readme(run: Run, own: Translator[TorchEngine], config: Config, quantize: str | None) -> str:
    search, tokenizer = own.search, own.tokenizer
    alpha = search.alpha if search.length_penalty != "none" else 0.0
    pad, bos = tokenizer.tgt_pieces([tokenizer.pad_id, tokenizer.bos_id])
    return _README.format(
        run=run.path.name,
        src_lang=config.data.src_lang,
        tgt_lang=config.data.tgt_lang,
        version=__version__,
        ctranslate2=import_ctranslate2().__version__,
        weights=quantize or "float32",
        src_model="joint.model" if tokenizer.joint else "src.model",
        tgt_model="joint.model" if tokenizer.joint else "tgt.model",
        penalty=f"((5 + length) / 6) ** {alpha:g}" if search.length_penalty == "gnmt" else f"length**{alpha:g}",
        max_source=search.max_source_tokens,
        max_target=positions(search) if own.max_target_tokens is None else own.max_target_tokens,
        beam_size=search.beam_size,
        pad=pad,
        bos=bos,
    )
