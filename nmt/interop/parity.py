"""Compare the translations of an export with those of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmt.config.experiment import Config
from nmt.data.lines import open_text, read_lines
from nmt.errors import DataError, ExportError
from nmt.run.directory import Run
from nmt.runtime.ranks import ALONE
from nmt.translation.pytorch import TorchEngine
from nmt.translation.shared import translate_block
from nmt.translation.translator import Translation, Translator

if TYPE_CHECKING:
    from nmt.config.limits import ResolvedSearch
    from nmt.interop.targets import Exported, Target, Translated

CHECKED_LINES = 500
PROMISED = 0.995  # share of equal translations, with float32 weights
BLEU_TOLERANCE = 0.1  # largest difference of BLEU, with float32 weights
PROMISED_GREEDY = 0.99  # as PROMISED, of greedy search, where the beam search is the program's
OTHER_TOLERANCE = 1.0  # difference of BLEU above which a user should look at the search of the program
TIE = 1e-4  # of two translations whose scores differ by less, rounding chooses
LISTED = 50  # most differing translations that an account lists
LABEL = "checking the export: the export's translations"
MIN_LIKENESS = 50.0  # BLEU of quantized translations against the unquantized; below it, something is broken


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
        greedy: as ``same``, with beam size 1; None where the run's own search is greedy.
        search: settings of the comparison that the other program cannot have as the run has them.
        own_search: whether the export is searched as the run is, see :class:`nmt.interop.targets.Target`.
        quantized: whether the weights are others than float32, so that a loss of BLEU is expected.
        differing: beam size, line, translation of the run, translation of the export; at most :data:`LISTED` of each
            beam size.
    """

    lines: int
    source: str
    same: float
    searched_again: int
    likeness: float
    bleu: tuple[float, float] | None
    difference: float | None
    greedy: float | None = None
    search: str = ""
    own_search: bool = True
    quantized: bool = False
    differing: list[tuple[int, str, str, str]] = field(default_factory=list)

    def summary(self) -> str:
        again = f", {self.searched_again} of them searched again by nmt itself" if self.searched_again else ""
        parts = [f"{self.same:.1%} of the translations of {self.lines} lines of {self.source} are the run's own{again}"]
        if self.greedy is not None:
            parts.append(f"{self.greedy:.1%} with greedy search")
        if self.search:
            parts.append(f"searched with {self.search}, on both sides")
        if self.same < 1:
            parts.append(f"{self.likeness:.1f} BLEU against the run's own")
        if self.bleu is not None:
            loss = f": a loss of {self.bleu[0] - self.bleu[1]:.2f}" if self.quantized else ""
            parts.append(f"{self.bleu[1]:.2f} BLEU, the run itself {self.bleu[0]:.2f}{loss}")
            if not self.own_search and abs(self.bleu[1] - self.bleu[0]) > OTHER_TOLERANCE:
                parts.append(
                    "the probabilities are equal, the beam searches are not: tune beam and length penalty there"
                )
        if self.difference is not None:
            parts.append(f"log-probabilities of tokens differ by at most {self.difference:.1g}")
        if self.differing:
            parts.append("the lines that differ are in nmt.json")
        return "\n".join(parts)


@dataclass(frozen=True)
class Lines:
    """Lines to compare on."""

    where: str
    sources: list[str]
    references: list[str] | None


def lines_to_check(run: Run, config: Config, file: Path | None) -> Lines:
    """At most :data:`CHECKED_LINES` lines, spread evenly, without blank lines."""
    if file is not None:
        with open_text(str(file)) as opened:
            where, sources, references = str(file), list(read_lines(opened, str(file))), None
    else:
        from nmt.data.corpus import Corpus
        from nmt.data.file_hashes import read_manifest
        from nmt.data.prepare import with_tags

        folder = Path(config.data.store) / f"corpus-{run.load_manifest().get('key')}"
        if not folder.is_dir():
            raise DataError(
                f"{folder}: the prepared corpus is missing, and with it the validation set to check the export with; "
                "name a file of source sentences with --check"
            )
        corpus = Corpus(folder, read_manifest(folder))
        corpus.parts["valid"] = corpus.part("valid")
        sources = with_tags(corpus, config.data).sources("valid")
        where, references = "the validation set", corpus.part("valid").targets()
    rows = [i for i, line in enumerate(sources) if line.strip()]
    if not rows:
        raise DataError(f"{where}: contains no line to check the export with")
    count = min(len(rows), CHECKED_LINES)
    rows = [rows[i * len(rows) // count] for i in range(count)]
    return Lines(where, [sources[i] for i in rows], references and [references[i] for i in rows])


def compare(
    target: Target,
    folder: Path,
    exported: Exported,
    difference: float | None,
    known: dict[str, list[Translation]] | None = None,
) -> Check:
    """Translate lines by the run and by what ``folder`` holds, with the run's search and greedily.

    Args:
        difference: what :meth:`nmt.interop.targets.Target.write` returned.
        known: translations of the run by number of lines and settings of the search. They are used and extended, so
            that several exports of a run can be compared on the same lines without translating them again.
    """
    from nmt.evaluation.scores import score

    own, search = exported.own, target.search(exported.own.search)
    lines = exported.lines if target.own_limits else _uncut(own, exported.lines)
    exported, known = exported._replace(lines=lines), {} if known is None else known
    ours, theirs, again = _translated(target, folder, exported, search, known)
    differing = _differing(target, lines, ours, theirs)
    same, greedy = 1 - len(differing) / len(ours), None
    listed = [(search.beam_size, *each) for each in differing[:LISTED]]
    if search.beam_size > 1:
        one = search.model_copy(update={"beam_size": 1})
        differing = _differing(target, lines, *_translated(target, folder, exported, one, known)[:2])
        greedy = 1 - len(differing) / len(ours)
        listed += [(1, *each) for each in differing[:LISTED]]
    texts = [[t.text for t in ours], [t.text for t in theirs]]

    def bleu(hypotheses: Sequence[str], references: Sequence[str]) -> float:
        return score(hypotheses, references, exported.config.evaluation, ["bleu"]).bleu

    changed = {key: value for key, value in search if value != getattr(own.search, key)}
    return Check(
        lines=len(ours),
        source=lines.where,
        same=same,
        searched_again=again,
        likeness=bleu(texts[1], texts[0]),
        bleu=None if lines.references is None else (bleu(texts[0], lines.references), bleu(texts[1], lines.references)),
        difference=difference,
        greedy=greedy,
        search=", ".join(f"search.{key}: {value}" for key, value in changed.items()),
        own_search=target.own_search,
        quantized=exported.quantize is not None,
        differing=listed,
    )


def _uncut(own: Translator[Any], lines: Lines) -> Lines:
    """The lines that the run reads whole: a program without its limits reads longer ones whole, too.

    Raises:
        DataError: there are none.
    """
    longest = own.search.max_source_tokens
    rows = [i for i, ids in enumerate(own.tokenizer.encode_src(lines.sources)) if len(ids) <= longest]
    if not rows:
        raise DataError(
            f"{lines.where}: every line has more than {longest} subwords (search.max_source_tokens): the run cuts them "
            "and the target does not; name other lines to check the export with (--check FILE)"
        )
    references = lines.references and [lines.references[i] for i in rows]
    return Lines(lines.where, [lines.sources[i] for i in rows], references)


def _translated(
    target: Target, folder: Path, exported: Exported, search: ResolvedSearch, known: dict[str, list[Translation]]
) -> tuple[list[Translation], list[Translated], int]:
    """Translations of the run and of the export, and how many of the latter the run made; see :func:`compare`."""
    own, lines = exported.own, exported.lines
    engine = TorchEngine(own.engine.model, own.tokenizer, search, own.engine.device, own.engine.precision)
    made: Translator[Any] = Translator(engine, own.tokenizer, search, own.max_target_tokens, own.longest_source)
    theirs, again = target.translate(folder, exported._replace(own=made), lines.sources)
    if (key := f"{len(lines.sources)} lines, {search.model_dump_json()}") not in known:
        label = "checking the export: the run's translations"
        known[key] = translate_block(made, lines.sources, ALONE, label)
    return known[key], theirs, again


def _equal(a: Translation, b: Translated, limits: bool) -> bool:
    """Whether two translations are equal, or equally good.

    Args:
        limits: whether the export has our limits of length; otherwise it continues what ours cut.
    """
    tie = b.score is not None and abs(a.score - b.score) < TIE
    return a.text == b.text or tie or (not limits and a.at_limit and b.text.startswith(a.text))


def _differing(
    target: Target, lines: Lines, ours: Sequence[Translation], theirs: Sequence[Translated]
) -> list[tuple[str, str, str]]:
    """Each line whose translations differ, and both translations."""
    rows = zip(lines.sources, ours, theirs, strict=True)
    return [(line, a.text, b.text) for line, a, b in rows if not _equal(a, b, target.own_limits)]


def judge(found: Check, quantize: str | None, own_search: bool) -> None:
    """
    Args:
        own_search: whether the export is searched as the run is. Otherwise greedy translations must be equal, and
            beams, which end differently in other programs, are only reported.

    Raises:
        ExportError: the export does not translate as the run does.
    """
    same, promised = found.same, PROMISED
    if not own_search:
        same, promised = found.same if found.greedy is None else found.greedy, PROMISED_GREEDY
    if quantize is None and same < promised:
        raise ExportError(
            f"the export translates only {same:.2%} of {found.lines} lines of {found.source} as the run does; "
            f"the limit is {promised:.1%}; nothing was written; please report this"
        )
    apart = 0.0 if found.bleu is None else abs(found.bleu[1] - found.bleu[0])
    if quantize is None and own_search and apart > BLEU_TOLERANCE:
        assert found.bleu is not None
        raise ExportError(
            f"the export has {found.bleu[1]:.2f} BLEU on {found.source} and the run {found.bleu[0]:.2f}; the limit "
            f"of the difference is {BLEU_TOLERANCE}; nothing was written; please report this"
        )
    if quantize is not None and found.likeness < MIN_LIKENESS:
        raise ExportError(
            f"with weights of {quantize} the translations of {found.lines} lines of {found.source} differ too much "
            f"from those of the run ({found.likeness:.1f} BLEU against them); nothing was written; export without "
            "--quantize"
        )
