"""``nmt attention``: a page, or an image, of the attention weights of a trained run."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from nmt.cli.parser import Parser
from nmt.cli.searching import check_counts, load_searching, use_tags
from nmt.cli.streams import reading_lines, writing
from nmt.errors import DataError
from nmt.numbers import count_of
from nmt.runtime import garbage
from nmt.runtime.progress import showing

if TYPE_CHECKING:
    from nmt.config.experiment import Config
    from nmt.config.search import SearchConfig
    from nmt.insight.explain import Method
    from nmt.run.directory import Run
    from nmt.translation.pytorch import TorchEngine
    from nmt.translation.translator import Translator

log = logging.getLogger(__name__)

HELP = "write a page of attention maps of a trained run"
PAGE = "attention.html"
METHODS: tuple[Method, ...] = ("gradient", "erase", "norm")
TITLES: dict[Method | None, str] = {
    None: "attention over the source",
    "gradient": "contributions of the source, input x gradient",
    "erase": "contributions of the source, by erasing each token",
    "norm": "contributions of the source, norms of the weighted vectors",
}


def add_arguments(parser: Parser) -> None:
    parser.add_run()
    parser.add_argument("sentences", metavar="SENTENCE", nargs="*", default=[], help="source sentences")
    parser.words = "sentences"
    parser.add_argument("-f", "--file", metavar="FILE", help="file of source sentences, one per line")
    text = f"page to write (.html), or an image of one map (.png, .svg, .pdf); default: {PAGE}"
    parser.add_argument("-o", "--output", metavar="FILE", default=PAGE, help=text)
    parser.add_tags()
    parser.add_search()
    parser.add_argument("--beam-size", type=int, metavar="N", help="override search.beam_size")
    parser.add_argument("--nbest", type=int, metavar="N", help="hypotheses of each sentence (default: the whole beam)")
    parser.add_argument(
        "--self", dest="self_maps", action="store_true", help="also show the self-attention of a Transformer"
    )
    text = "contributions of the source by this method, beside attention; give it again for another"
    parser.add_choice("--method", "--method", METHODS, action="append", default=[], help=text)
    text = "one hypothesis as every checkpoint of the run reads it (train.keep_last keeps checkpoints)"
    parser.add_argument("--checkpoints", action="store_true", help=text)
    parser.add_choice("--device", "train.device", ["auto", "cpu", "cuda", "mps"], help="override train.device")


def run(arguments: argparse.Namespace) -> None:
    # Check
    from nmt.run.directory import Run

    check_counts(arguments.beam_size, arguments.nbest)
    if arguments.checkpoints and arguments.nbest not in (None, 1):
        raise DataError(f"--nbest {arguments.nbest}: --checkpoints shows one hypothesis; remove --nbest")
    opened = Run.open(arguments.run)
    lines = _lines(arguments)
    as_page = Path(arguments.output).suffix.lower() in ("", ".html", ".htm")
    # Write
    if as_page:
        with writing(arguments.output) as out:
            page, count = _page(opened, lines, arguments)
            out.write(page)
        where = Path(arguments.output).resolve()
        size = len(page.encode())
        shown = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
        print(f"{arguments.output}: {count}, {shown}; open it in a browser: {where.as_uri()}")
    else:
        _draw(opened, lines, arguments)


def _lines(arguments: argparse.Namespace) -> list[str]:
    """The sentences of the command line, then those of the file; blank lines of the file are left out.

    Raises:
        DataError: no sentence is left.
    """
    # A word of a command may be any bytes.
    lines = [text.encode(errors="surrogateescape").decode(errors="replace") for text in arguments.sentences]
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise DataError(f"sentence {number} is empty; give a sentence to translate")
    if arguments.file is not None:
        with reading_lines(arguments.file) as read:
            lines += [line for line in read if line.strip()]
        if not lines:
            raise DataError(f"{arguments.file}: contains no sentences; write one per line")
    if not lines:
        raise DataError(f'no sentence; give one or more (nmt attention {arguments.run} "..."), or a file with --file')
    return lines


def _load(run: Run, arguments: argparse.Namespace) -> tuple[Translator[TorchEngine], int]:
    """The translator, and how many hypotheses to show of a sentence."""
    how = arguments.search, arguments.beam_size, arguments.nbest or 1, arguments.device
    translator: Translator[TorchEngine] = load_searching(run, *how, engine="pytorch")
    use_tags(translator, arguments.tag, run)
    garbage.resume()
    search = translator.search
    return translator, arguments.nbest or (search.beam_size if search.uses_beam else 1)


def _page(run: Run, lines: list[str], arguments: argparse.Namespace) -> tuple[str, str]:
    """The page, and in words what it shows."""
    with showing("loading PyTorch", unit=""):
        from nmt.insight.collect import read_sentences, read_through_training
        from nmt.insight.page import page_text
        from nmt.models.maps import has_self_attention
        from nmt.translation.translator import Notices

    translator, nbest = _load(run, arguments)
    if arguments.self_maps and not has_self_attention(translator.engine.model):
        log.warning("warning: --self: this model has no self-attention, which Transformer layers have")
    notices, methods = Notices(log.warning), [method for method in METHODS if method in arguments.method]
    stops: list[str] = []
    if arguments.checkpoints:
        stops, sentences = read_through_training(run, translator, lines, arguments.self_maps, notices, methods)
        shown = f"{len(stops)} checkpoints"
    else:
        sentences = read_sentences(translator, lines, nbest, arguments.self_maps, notices, methods)
        shown = count_of(sum(len(sentence.outputs) for sentence in sentences), "hypothesis", "hypotheses")
    notices.close()
    config = run.load_config()
    languages = config.data.src_lang, config.data.tgt_lang
    layer = "hop" if config.model.type == "rnn" else "layer"
    page = page_text(config.name, _about(config, translator.search), languages, stops, sentences, layer)
    return page, f"{count_of(len(sentences), 'sentence')}, {shown}"


def _draw(run: Run, lines: list[str], arguments: argparse.Namespace) -> None:
    """Write an image of the best hypothesis of one sentence."""
    with showing("loading PyTorch", unit=""):
        from nmt.config.model import RNNConfig
        from nmt.insight.attention import attention_map
        from nmt.insight.figures import attention_figure, image_format, save_figure

    # Check
    path = Path(arguments.output)
    image_format(path)
    for option, given in (("--self", arguments.self_maps), ("--checkpoints", arguments.checkpoints)):
        if given:
            raise DataError(f"{option}: an image shows the attention over the source; write a page (-o {PAGE})")
    if arguments.nbest not in (None, 1):
        raise DataError(f"--nbest {arguments.nbest}: an image shows one hypothesis; write a page (-o {PAGE})")
    if len(arguments.method) > 1:
        raise DataError(f"--method: an image shows one method, not {len(arguments.method)}; write a page (-o {PAGE})")
    if len(lines) > 1:
        raise DataError(f"{path}: an image shows one sentence, not {len(lines):,}; write a page (-o {PAGE})")
    # Draw
    translator, _ = _load(run, arguments)
    [[best]] = translator.translate(lines)
    [source] = translator.encode(lines)
    method = next(iter(arguments.method), None)
    drawn = attention_map(translator.engine.model, translator.tokenizer, source, best.tokens, method)
    if drawn is None:
        raise DataError("nothing to draw: the model has no attention, or the translation is empty")
    config = run.load_config()
    is_single = isinstance(config.model, RNNConfig) and config.model.hops == 1
    title = f"{config.name}: {'' if is_single or method is not None else 'mean '}{TITLES[method]}"
    try:
        save_figure(
            attention_figure(*drawn, title=title, label="attention weight" if method is None else "share"), path
        )
    except DataError as error:
        raise DataError(f"{error} with -o FILE") from None
    print(f"{best.text}\nwrote {path}")


def _about(config: Config, search: SearchConfig) -> str:
    """One line on the model."""
    kinds, model = {"rnn": "recurrent", "transformer": "Transformer"}, config.model
    kind = "Transformer" if model.type == "transformer" else f"{kinds.get(model.type, model.type)} model"
    if model.encoder is not None:
        encoder, decoder = (kinds.get(each, each) for each in (model.encoder.type, model.type))
        kind = f"{encoder} encoder, {decoder} decoder"
    how = f"beam {search.beam_size}" if search.uses_beam else search.method
    return f"{kind[0].upper()}{kind[1:]}, {config.data.src_lang} to {config.data.tgt_lang}, {how}"
