"""``nmt distil``: training data of a teacher, for a smaller model."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from nmt.cli.parser import Parser
from nmt.cli.searching import check_counts, checked_search, load_searching
from nmt.cli.synthetic import add_output, output_of, report
from nmt.errors import ConfigError, DataError
from nmt.runtime import garbage

if TYPE_CHECKING:
    from nmt.augment.distillation import Choice
    from nmt.run.directory import Run
    from nmt.translation.ensembles import Others

HELP = "write training data for a smaller model: translations or probabilities of a trained run"
CHOICES = ["score", "bleu", "chrf"]
# Options without an effect on word level
SEQUENCES = ("source", "reference", "candidates", "dataset", "choose", "nbest", "langs", "search", "beam_size", "tag")
SEARCHES = ("search", "beam_size", "nbest", "tag", "source", "dataset")  # options without an effect on candidates


def add_arguments(parser: Parser) -> None:
    text = "run directory of the teacher, or its name; several runs form an ensemble"
    parser.add_argument("runs", metavar="RUN", nargs="*", default=[], help=text)
    parser.words = "runs"
    text = "average of several runs (default: probability); log_probability: the geometric mean"
    parser.add_choice("--ensemble-average", "ensemble_average", ["probability", "log_probability"], help=text)
    add_output(parser)
    text = "file to translate, a sentence per line (default: the training sources of the run)"
    parser.add_argument("--source", metavar="FILE", help=text)
    parser.add_argument("--dataset", metavar="NAME", help="use one dataset of the run's data.train")
    text = "file with reference translations, line by line, for --choose"
    parser.add_argument("--reference", metavar="FILE", help=text)
    text = "choose among these translations instead of searching: a file of nmt translate --jsonl --nbest N"
    parser.add_argument("--candidates", metavar="FILE", help=text)
    text = "of the n best, keep the one with the highest score (default), or nearest to the reference"
    parser.add_choice("--choose", "choose", CHOICES, help=text)
    text = "translations of each source to choose from (default: the beam with --choose bleu or chrf, else 1)"
    parser.add_argument("--nbest", type=int, metavar="N", help=text)
    parser.add_argument("--langs", metavar="SRC-TGT", help="languages of --candidates where no RUN is given")

    text = "store the most probable tokens at each target of the training data (train.terms.distillation) in a folder"
    parser.add_argument("--word-level", action="store_true", help=text)
    parser.add_argument("--top-k", type=int, metavar="K", help="number of tokens that --word-level stores (default: 8)")
    text = "configuration of the student, whose training data --word-level reads (default: those of the run)"
    parser.add_argument("--config", metavar="CONFIG", help=text)


def run(arguments: argparse.Namespace) -> None:
    check_counts(arguments.beam_size, arguments.nbest)
    if arguments.word_level:
        _store(arguments)
        return
    for option in ("top_k", "config"):
        if getattr(arguments, option) is not None:
            raise DataError(
                f"--{option.replace('_', '-')}: has no effect without --word-level; add it, or remove this option"
            )
    if arguments.candidates is not None:
        _choose(arguments)
        return
    if arguments.runs and arguments.langs is not None:
        raise DataError(f"--langs {arguments.langs}: the languages are those of the run; remove --langs")
    _translate(arguments)


def _members(arguments: argparse.Namespace) -> tuple[Run, Others | None]:
    """The first run, and the runs that are averaged with it."""
    from nmt.run.directory import Run
    from nmt.translation.ensembles import Others

    if not arguments.runs:
        raise DataError("RUN is missing: name the run of the teacher, or a file with --candidates")
    first, *others = arguments.runs
    if not others and arguments.ensemble_average is not None:
        raise DataError("--ensemble-average: needs several runs to average")
    return Run.open(first), Others.open(others, arguments.ensemble_average)


def _translate(arguments: argparse.Namespace) -> None:
    """Sequence level: search for translations of each source."""
    # Check
    opened, others = _members(arguments)
    config = opened.load_config()
    data = config.data
    choice = _choice(arguments, config.evaluation, data.tgt_lang)
    if arguments.source is not None and arguments.dataset is not None:
        raise DataError("--dataset: cannot be combined with --source; use only one of them")
    if arguments.source is None:
        for option in ("reference", "tag"):
            if getattr(arguments, option):
                raise DataError(f"--{option}: is only for --source; the training pairs have their own")
    output, share = output_of(arguments, (data.src_lang, data.tgt_lang))
    # Load
    from nmt.augment.distillation import distil, file_lines, training_lines

    nbest = arguments.nbest or 1
    if arguments.nbest is None and choice.by != "score":
        from nmt.translation.loading import configured

        search = configured(opened, checked_search(opened, arguments.search)).search
        nbest = (arguments.beam_size or search.beam_size) if search.uses_beam else 5
    how = arguments.search, arguments.beam_size, nbest, arguments.device, arguments.engine
    if arguments.source is None:
        lines, tags = training_lines(opened, arguments.dataset)
    else:
        source, reference, tags = arguments.source, arguments.reference, tuple(arguments.tag)
        lines = lambda: file_lines(source, reference, tags)  # noqa: E731
    translator = load_searching(opened, *how, others)
    translator.tokenizer.tag_ids(tags)
    garbage.resume()
    # Translate
    result = distil(translator, lines, output, choice, nbest, share)
    report(result, output, "distilled", f" tag: {_yaml(tags)}," if tags else "")


def _store(arguments: argparse.Namespace) -> None:
    """Word level: the distributions of the teacher."""
    from pathlib import Path

    for option in SEQUENCES:
        if getattr(arguments, option):
            raise DataError(f"--{option.replace('_', '-')}: has no effect with --word-level; remove it")
    if arguments.engine != "pytorch":
        raise DataError(f"--word-level: --engine {arguments.engine} gives no probabilities; remove --engine")
    opened, others = _members(arguments)
    from nmt.augment.output import check_parent
    from nmt.augment.parts import Share
    from nmt.augment.word_level import store_top_k
    from nmt.run.directory import load_experiment
    from nmt.translation.loading import load_translator

    share, top_k = Share.parse(arguments.shard), 8 if arguments.top_k is None else arguments.top_k
    student = load_experiment(arguments.config) if arguments.config is not None else None
    if top_k < 1:
        raise DataError(f"--top-k {top_k}: must be 1 or more")
    if not arguments.out.strip("/ "):
        raise DataError("--out: the name is empty; name a folder")
    check_parent(arguments.out)
    translator = load_translator(opened, device=arguments.device, engine="pytorch", others=others)
    garbage.resume()
    print("\n".join(store_top_k(opened, translator, Path(arguments.out), top_k, student, share)))


def _choose(arguments: argparse.Namespace) -> None:
    """Sequence level, of translations that are known."""
    from nmt.augment.distillation import candidate_lines, choose_candidates
    from nmt.config.evaluation import EvaluationConfig

    for option in SEARCHES:
        if getattr(arguments, option):
            raise DataError(f"--{option.replace('_', '-')}: has no effect with --candidates; remove it")
    evaluation = EvaluationConfig()
    if arguments.runs:
        from nmt.run.directory import Run

        config = Run.open(arguments.runs[0]).load_config()
        languages, evaluation = (config.data.src_lang, config.data.tgt_lang), config.evaluation
    else:
        src, dash, tgt = (arguments.langs or "").partition("-")
        if not (src and dash and tgt):
            given = "" if arguments.langs is None else f" {arguments.langs}"
            raise DataError(
                f"--langs{given}: name the languages of --candidates, such as en-de, or a RUN that has them"
            )
        languages = src, tgt
    choice = _choice(arguments, evaluation, languages[1])
    path, reference = arguments.candidates, arguments.reference
    output, share = output_of(arguments, languages)
    garbage.resume()
    result = choose_candidates(lambda: candidate_lines(path, reference, choice.by), output, choice, share)
    report(result, output, "distilled")


def _choice(arguments: argparse.Namespace, evaluation: Any, language: str) -> Choice:
    """
    Raises:
        DataError: the choice needs references, and none are given.
        ConfigError: BLEU needs a package that is not installed.
    """
    from nmt.augment.distillation import BY_REFERENCE, Choice
    from nmt.evaluation.scores import resolve

    by = arguments.choose or "score"
    lacks = arguments.reference is None and (arguments.source is not None or arguments.candidates is not None)
    if by in BY_REFERENCE and lacks:
        raise DataError(f"--choose {by}: needs the translations of people; name their file with --reference")
    if by not in BY_REFERENCE and arguments.reference is not None:
        raise DataError("--reference: has no effect with --choose score; add --choose bleu or chrf, or remove it")

    def refuse(line: str) -> None:
        if by == "bleu" and line.startswith("warning: "):
            raise ConfigError(line.removeprefix("warning: "))

    return Choice(by, resolve(evaluation, language, [], refuse))


def _yaml(tags: tuple[str, ...]) -> str:
    import json

    return json.dumps(tags[0] if len(tags) == 1 else list(tags), ensure_ascii=False)
