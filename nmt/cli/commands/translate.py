"""``nmt translate``: lines in, lines out."""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeVar

from nmt.cli.inputs import check_inputs, check_objects, reading_prefixes, with_prefixes
from nmt.cli.parser import Parser
from nmt.cli.progress import Progress, showing_progress
from nmt.cli.searching import check_counts, load_searching, texts_of, use_tags
from nmt.cli.streams import check_outputs, reading_bytes, writing
from nmt.errors import DataError
from nmt.runtime import garbage

if TYPE_CHECKING:
    from nmt.config.data import DataConfig
    from nmt.insight.alignment import Aligner
    from nmt.translation.loading import EngineName
    from nmt.translation.texts import Texts
    from nmt.translation.translator import Notices, Translation, Translator

HELP = "translate lines with a trained run"


T = TypeVar("T")
log = logging.getLogger(__name__)


class Options(NamedTuple):
    """See ``nmt translate --help``."""

    search: Sequence[str] = ()
    beam_size: int | None = None
    nbest: int = 1
    scores: bool = False
    jsonl: bool = False
    strict: bool = False
    device: str | None = None
    engine: EngineName = "pytorch"
    tag: Sequence[str] = ()
    alignments: str | None = None
    alignment_layer: int | None = None
    ensemble: Sequence[str] = ()
    ensemble_average: str | None = None
    prefix_file: str | None = None
    jsonl_input: bool = False
    protect: Sequence[str] | None = None
    split: bool | None = None
    document_format: str | None = None


DEFAULTS = Options()
FORMATS = ["text", "paragraphs", "srt", "html", "md"]  # those of nmt.text.documents
ENGINES = ["pytorch", "ctranslate2"]  # those of EngineName, whose module is slow to import


def add_arguments(parser: Parser) -> None:
    parser.add_run()
    parser.add_argument("-i", "--input", metavar="FILE", help="file to read (default: standard input)")
    parser.add_argument("-o", "--output", metavar="FILE", help="file to write (default: standard output)")
    parser.add_search()
    parser.add_argument("--beam-size", type=int, metavar="N", help="override search.beam_size")
    parser.add_argument(
        "--nbest", type=int, default=1, metavar="N", help="print N translations of each line, the best first"
    )
    parser.add_tags()
    text = "put the score before each translation, with a tab between"
    parser.add_argument("--scores", action="store_true", help=text)
    parser.add_argument("--jsonl", action="store_true", help="one JSON object per line read, with source and scores")
    parser.add_argument("--strict", action="store_true", help="refuse text that is not UTF-8 instead of replacing it")
    parser.add_choice("--device", "train.device", ["auto", "cpu", "cuda", "mps"], help="override train.device")
    text = "engine of the search; ctranslate2: the same translations, faster (needs: pip install ctranslate2)"
    parser.add_choice("--engine", "engine", ENGINES, default="pytorch", help=text)
    text = "file of prefixes of the translations, line by line; an empty line: no prefix"
    parser.add_argument("--prefix-file", metavar="FILE", help=text)
    text = "read a JSON object from each line: its source, and its prefix if any, as for --prefix-file"
    parser.add_argument("--jsonl-input", action="store_true", help=text)
    parser.add_ensemble()
    text = "keep placeholders, tags, URLs and numbers as they are; kinds of them, with commas (default: all; or none)"
    parser.add_argument("--protect", nargs="?", const="all", type=_kinds, metavar="KINDS", help=text)
    text = "split lines into sentences; files named .srt, .vtt, .html or .md keep their format"
    parser.add_argument("--split", action=argparse.BooleanOptionalAction, default=None, help=text)
    text = "format of the input, whatever its name; paragraphs: text in which blank lines separate paragraphs"
    parser.add_choice("--document-format", "document_format", FORMATS, help=text)
    text = "file for word alignments from the attention: 0-0 1-2 ... for each translation, source word - output word"
    parser.add_argument("--alignments", metavar="FILE", help=text)
    text = "layer of attention to align by, from 1 (default: the last)"
    parser.add_argument("--alignment-layer", type=int, metavar="N", help=text)


def run(arguments: argparse.Namespace) -> None:
    options = Options(**{name: getattr(arguments, name) for name in Options._fields})
    translate_file(arguments.run, arguments.input, arguments.output, options)


def translate_file(run: str, input: str | None = None, output: str | None = None, options: Options = DEFAULTS) -> None:
    """Translate a file (standard input where left out) line by line.

    The output has exactly one line for each line read, in order (``nbest`` lines with ``--nbest``). Lines are
    translated as soon as no further one arrives; those of a file, many at a time.
    """
    # Check
    from nmt.run.directory import Run
    from nmt.translation.ensembles import Others

    check_counts(options.beam_size, options.nbest)
    check_inputs(options.prefix_file, options.jsonl_input)
    check_outputs([input, options.prefix_file], {"-o": output, "--alignments": options.alignments})
    opened, others = Run.open(run), Others.open(options.ensemble, options.ensemble_average)
    config, name = opened.load_config(), input or "standard input"
    split = config.translate.split if options.split is None else options.split
    protect = config.translate.protect if options.protect is None else options.protect
    form = _format(input, split, options)
    _check_whole_lines(output, options, bool(split or form or protect))
    # Open, load
    from nmt.text.documents import parse
    from nmt.text.placeholders import Segment
    from nmt.translation.line_stream import LineStream, read_document
    from nmt.translation.translator import Notices

    with (
        reading_bytes(input, form is not None) as stream,
        writing(output) as out,
        writing(options.alignments) if options.alignments is not None else nullcontext() as aligned,
        reading_prefixes(options.prefix_file) as prefixes,
        showing_progress(input, output) as progress,
    ):
        notices = Notices(progress.tell)
        if form is not None:
            parts = parse(read_document(stream, name, notices, options.strict), form)
            count: int | None = sum(isinstance(part, Segment) for part in parts)
        else:
            _warn_of_format(input, options)
            prompt, encoding = (_prompt(config.data), sys.stdin.encoding) if _talking(input) else (None, "utf-8")
            keep = split and prompt is None and not options.jsonl
            lines = LineStream(stream, name, notices, prompt, encoding, options.strict, keep)
            count = lines.check()
            if prefixes is not None and count is not None:
                prefixes.check(count, lines.name)
            check_objects(input if options.jsonl_input else None)
        how = options.search, options.beam_size, options.nbest, options.device, options.engine, others
        translator = load_searching(opened, *how)
        use_tags(translator, options.tag, opened)
        align, texts = _aligner(translator, options), texts_of(translator, config, protect, split)
        garbage.resume()
        # Translate
        progress.start(count, translator.engine)
        if form is not None:
            _translate_document(parts, texts, out, progress)
        else:
            begun = with_prefixes(lines.blocks(), name, options.jsonl_input, prefixes)
            _translate_lines(begun, texts, align, options, notices, out, aligned, progress)
        notices.close()
        if texts.protected is not None and (summary := texts.protected.summary()):
            progress.tell(summary)


def _talking(input: str | None) -> bool:
    """Whether a person types the lines."""
    return input is None and sys.stdin.isatty()


def _translate_lines(
    blocks: Iterable[tuple[Sequence[str], Sequence[str]]],
    texts: Texts,
    align: Aligner | None,
    options: Options,
    notices: Notices,
    out: IO[str],
    aligned: IO[str] | None,
    progress: Progress,
) -> None:
    """Translate blocks of lines, each with the prefixes of its translations; write each block when it is translated."""
    for block, prefixes in blocks:
        progress.expect(len(block))
        found = texts.translate(block, options.nbest, notices, progress.done + 1, prefixes)
        for source, translations in zip(block, found, strict=True):
            out.write(_shown(source, translations, options))
        out.flush()
        if aligned is not None and align is not None:
            for links in align(block, found):
                aligned.writelines(f"{each}\n" for each in (links if options.jsonl else _filled(links, options)))
            aligned.flush()
        progress.add(len(block))


def _translate_document(parts: Sequence[str], texts: Texts, out: IO[str], progress: Progress) -> None:
    from nmt.translation.translator import Notices

    notices = Notices(progress.tell, unit="paragraph")
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(errors="surrogateescape")  # bytes outside of paragraphs that are not UTF-8 stay
    for text, count in texts.document(parts, notices, progress.expect):
        out.write(text)
        out.flush()
        progress.add(count)
    notices.close()


def _format(input: str | None, split: bool, options: Options) -> str | None:
    """The format of a document; None where lines are translated one by one.

    Raises:
        DataError: other options make no sense beside it.
    """
    from nmt.text.documents import format_of

    found = format_of(input) if input is not None else None
    form = options.document_format or (found if split else None)
    reason = f"--document-format {form}" if options.document_format else f"--split of {input}"
    if form is not None:
        if options.split is False:
            raise DataError("--no-split: --document-format splits; remove one of them")
        given_options = {
            "--nbest": options.nbest > 1, "--scores": options.scores, "--jsonl": options.jsonl,
            "--jsonl-input": options.jsonl_input, "--prefix-file": options.prefix_file is not None,
        }  # fmt: skip
        for option, given in given_options.items():
            if given:
                raise DataError(
                    f"{option}: a document has one translation, without scores or prefix ({reason}); remove {option}"
                )
    return form


def _warn_of_format(input: str | None, options: Options) -> None:
    """Warn of a file whose name says a format, and whose lines are translated."""
    from nmt.text.documents import format_of

    if input is not None and format_of(input) is not None and options.document_format is None:
        log.warning(
            "%s: --split keeps the format of this file; without it, each line is translated as plain text", input
        )


def _kinds(text: str) -> list[str]:
    from nmt.errors import ConfigError
    from nmt.translation.texts import kinds_of

    try:
        return list(kinds_of(text.split(",")))
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("protect: ")) from None


def _check_whole_lines(output: str | None, options: Options, changed: bool) -> None:
    """
    Args:
        changed: whether lines are protected or split.

    Raises:
        DataError: the options for prefixes or alignments contradict each other or the rest.
    """
    if options.prefix_file is not None and changed:
        raise DataError("--prefix-file: needs whole lines; use --protect none and --no-split")
    if options.alignments is None:
        if options.alignment_layer is not None:
            raise DataError("--alignment-layer: needs --alignments FILE")
        return
    if changed:
        raise DataError("--alignments: need whole lines; use --protect none and --no-split")
    if options.engine != "pytorch":
        raise DataError(f"--alignments: --engine {options.engine} gives no attention weights; remove --engine")
    if output is not None and os.path.realpath(output) == os.path.realpath(options.alignments):
        raise DataError(f"--alignments {options.alignments}: the translations are written there; name another file")


def _aligner(translator: Translator[Any], options: Options) -> Aligner | None:
    if options.alignments is None:
        return None
    from nmt.insight.alignment import Aligner

    return Aligner(translator, options.alignment_layer)


def _filled(rows: Sequence[T], options: Options) -> list[T]:
    """The ``nbest`` rows of a line; one with fewer hypotheses (an empty one) is filled up, n lines for each line in."""
    return [rows[min(rank, len(rows) - 1)] for rank in range(options.nbest)]


def _shown(source: str, translations: Sequence[Translation], options: Options) -> str:
    """The lines of output for one line of input, each with its end."""
    if options.jsonl:
        rows = [
            {"text": t.text, "score": t.score, "log_prob": t.log_prob, **({"cut": True} if t.at_limit else {})}
            for t in translations
        ]
        return json.dumps({"source": source, "translations": rows}, ensure_ascii=False) + "\n"
    best = _filled(translations, options)
    return "".join(f"{each.score:.4f}\t{each.text}\n" if options.scores else f"{each.text}\n" for each in best)


def _prompt(data: DataConfig) -> Callable[[], None]:
    """The prompt for the next sentence, on a terminal."""
    print(f"{data.src_lang} to {data.tgt_lang}: type a sentence and press Enter; Ctrl-D ends", file=sys.stderr)
    return lambda: print(f"{data.src_lang}> ", end="", file=sys.stderr, flush=True)
