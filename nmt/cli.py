"""The command line: parse, call one function, print. What a user can mend ends in one line and exit code 2."""

from __future__ import annotations

import argparse
import errno
import gc
import io
import json
import logging
import os
import shlex
import shutil
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from nmt import __version__
from nmt.arguments import Parser, choice
from nmt.errors import DataError, NmtError
from nmt.runtime import signals
from nmt.runtime.memory import restart_without_caches
from nmt.runtime.streams import closed, open_standard_streams, require_output
from nmt.storage.atomic import replacing

if TYPE_CHECKING:
    from tqdm import tqdm

    from nmt.config import DataConfig
    from nmt.run.directory import Run
    from nmt.translation.loading import EngineName
    from nmt.translation.translator import Engine, Translation, Translator

log = logging.getLogger("nmt")

_loading = False  # whether main has turned Python's garbage collector off


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0 done, 1 failed, 2 a mistake the user can mend, 128+n a signal."""
    open_standard_streams()
    parser = _parser()
    if not (sys.argv[1:] if argv is None else argv):
        parser.print_help()
        return 0
    arguments = parser.parse_args(argv)
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING)
    log.setLevel(logging.INFO)
    if argv is None:  # a program of its own, that has loaded nothing yet
        signals.ignore_save()  # until there is something to save
        if arguments.command is _train:
            restart_without_caches()
        global _loading
        _loading = True
        gc.disable()  # until _loaded
    with signals.ending():
        code = guarded("nmt", lambda: arguments.command(arguments), arguments.debug)
    if argv is None:
        signals.ignore_save()
    return code


def guarded(name: str, program: Callable[[], None], debug: bool | None = None) -> int:
    """Run ``program``; what stops it ends in one line on standard error and an exit code.

    Args:
        debug: let exceptions through, with their tracebacks; None where the program has no such switch.
    """
    open_standard_streams()
    try:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # of a character that a terminal cannot show, its number is shown
                stream.reconfigure(errors="backslashreplace")
        program()
        try:
            sys.stdout.flush()
        except OSError as error:
            error.filename = "standard output"
            raise
        return 0
    except KeyboardInterrupt as error:
        return _stopped(name, signals.number_of(error))
    except Exception as error:
        if signals.heard.ended and str(error) and not isinstance(error, signals.Interrupted):
            # A library has put an exception of its own in place of ours.
            return _stopped(name, signals.heard.ended)
        if isinstance(error, BrokenPipeError):  # the reader of our output has seen enough
            return 141
        if debug:
            raise
        lines, code = _explained(error, debug)
        _say(name, *lines)
        return code
    finally:
        _discard_unwritable()


def _explained(error: Exception, debug: bool | None) -> tuple[list[str], int]:
    """The lines for people and the exit code of what stopped a program."""
    if isinstance(error, NmtError):
        return str(error).splitlines(), error.exit_code
    if isinstance(error, OSError):  # a file or folder that nothing closer to it spoke of
        where = f"{error.filename}: " if error.filename else ""
        if error.errno == errno.ENAMETOOLONG:
            return [f"{where}{error.strerror}; name another file or folder"], 2
        code = 2 if isinstance(error, PermissionError) or error.errno == errno.EROFS else 1
        return [f"{where}{error.strerror or error}; check space, owner and mode"], code
    text = " ".join(str(error).split()) or "no message"
    advice = "" if debug is None else " (run again with --debug for the traceback)"
    return [f"{type(error).__name__}: {text}{advice}"], 1


def _stopped(name: str, number: int) -> int:
    _say(name, "interrupted" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}")
    return 128 + number


def _say(name: str, *lines: str) -> None:
    """Lines on standard error; where nobody reads it, the exit code says enough."""
    with suppress(OSError, ValueError):
        for line in lines:
            print(f"{name}: {line}", file=sys.stderr)
        sys.stderr.flush()


def _discard_unwritable() -> None:
    """Discard what the standard streams hold and cannot write: Python would fail again at the exit, with code 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        except ValueError:  # it is closed
            pass


EXAMPLES = """\
examples:
  nmt train demo                                    train and evaluate the built-in demonstration
  nmt train demo --set train.max_steps=50 name=try  the same with other settings
  nmt translate demo -i FILE -o FILE                translate a file with the trained run
"""


def _parser() -> Parser:
    parser = Parser(
        prog="nmt",
        description="Neural machine translation from one YAML file to BLEU.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"nmt {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    parser.commands = commands.choices

    def command(name: str, function: Callable[[argparse.Namespace], None], text: str) -> Parser:
        sub: Parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        sub.set_defaults(command=function)
        sub.add_argument("--debug", action="store_true", help="show tracebacks")
        return sub

    _config_arguments(command("prepare", _prepare, "clean the corpus, train the tokenizer, encode the pairs (cached)"))
    _config_arguments(command("train", _train, "train, or resume an unfinished run, then evaluate"))
    _translate_arguments(command("translate", _translate, "translate lines with a trained run"))
    _export_arguments(command("export", _export, "write a trained run for use in another program, and verify it"))
    _evaluate_arguments(command("evaluate", _evaluate, "score a trained run with sacreBLEU"))
    text = "print the resolved configuration, or the JSON schema of all keys"
    _config_command_arguments(command("config", _config, text))
    return parser


def _config_arguments(sub: Parser, count: str | None = None) -> None:
    sub.add_argument(
        "config", metavar="CONFIG", nargs=count, help="YAML file of the experiment, or the name of a built-in one: demo"
    )
    sub.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="override configuration keys: --set train.max_steps=100 seed=2",
    )


def _config_command_arguments(sub: Parser) -> None:
    _config_arguments(sub, "?")
    sub.add_argument("--schema", action="store_true", help="print the JSON schema, for editors")


def _run_argument(sub: Parser) -> None:
    sub.add_argument("run", metavar="RUN", help="run directory, or its name under runs/")


def _choice(sub: Parser, option: str, key: str, allowed: Sequence[str], **more: Any) -> None:
    sub.add_argument(option, type=choice(key, allowed), metavar=f"{{{','.join(allowed)}}}", **more)


def _translate_arguments(sub: Parser) -> None:
    _run_argument(sub)
    sub.add_argument("-i", "--input", metavar="FILE", help="file to read (default: standard input)")
    sub.add_argument("-o", "--output", metavar="FILE", help="file to write (default: standard output)")
    sub.add_argument("--beam-size", type=int, metavar="N", help="override search.beam_size")
    sub.add_argument("--nbest", type=int, default=1, metavar="N", help="print the N best translations of each line")
    sub.add_argument("--scores", action="store_true", help="put the score before each translation, with a tab between")
    sub.add_argument("--jsonl", action="store_true", help="one JSON object per line read, with source and scores")
    sub.add_argument("--strict", action="store_true", help="refuse text that is not UTF-8 instead of replacing it")
    _choice(sub, "--device", "train.device", ["auto", "cpu", "cuda", "mps"], help="override train.device")
    text = "what runs the model; ctranslate2: the same translations, faster (needs: pip install ctranslate2)"
    _choice(sub, "--engine", "engine", ["pytorch", "ctranslate2"], default="pytorch", help=text)


def _export_arguments(sub: Parser) -> None:
    _run_argument(sub)
    _choice(sub, "--to", "to", ["ctranslate2"], required=True, help="program to write it for")
    _choice(sub, "--quantize", "quantize", ["int8", "float16"], help="smaller weights (default: float32)")
    sub.add_argument("-o", "--output", metavar="FOLDER", help="folder to make (default: RUN/export/...)")
    sub.add_argument("--check", metavar="FILE", help="source lines to compare on (default: the validation set)")


def _evaluate_arguments(sub: Parser) -> None:
    _run_argument(sub)
    chosen = sub.add_mutually_exclusive_group()
    chosen.add_argument("--set-name", metavar="NAME", help="only this test set (or valid)")
    chosen.add_argument("--src", metavar="FILE", help="a source file of your own, with --ref")
    sub.add_argument("--ref", metavar="FILE", help="reference translations of --src")


# Torch takes a second to import; each command imports what it needs, so that --help and mistakes answer at once.


def _loaded() -> None:
    """Python's garbage collector takes up its work, and leaves alone what is there by now: all of that stays.

    Through modules that are being loaded it goes again and again, and once more at the program's end: half a second.
    """
    if _loading:
        gc.freeze()
        gc.enable()


def _prepare(arguments: argparse.Namespace) -> None:
    from nmt.run.directory import load_experiment

    config = load_experiment(arguments.config, arguments.overrides)
    from nmt import pipeline

    _loaded()
    prepared = pipeline.prepare(config)
    print(f"prepared {prepared.encoded.path}; next: {_command('train', arguments)}")


def _train(arguments: argparse.Namespace) -> None:
    from nmt.run.directory import load_experiment
    from nmt.runtime.startup import join

    with join() as world:
        config = world.first(lambda: load_experiment(arguments.config, arguments.overrides))
        from nmt import pipeline
        from nmt.evaluation import scores

        _loaded()
        trained = pipeline.train(config, world)
    if not world.is_main:
        return
    if trained.already:
        again = _command("train", arguments, trained.further)
        print(
            f"This run is finished ({trained.steps} steps). To train it further, raise what ended it, "
            f"{trained.reason}:\n  {again}\nTo train another, give it a name: --set name=..."
        )
    if not trained.has_tests:
        print("\nThe configuration names no test set (data.test); these are scores of the validation set:")
    print("\n" + scores.table(trained.scores) + "\n")
    for source, reference, hypothesis in trained.samples:
        print(f"source      {source}\nreference   {reference}\nhypothesis  {hypothesis}\n")
    print(f"The run is in {trained.run.path}. Next:\n{_next_steps(trained.run.path, trained.has_tests)}")


def _next_steps(run: Path, has_tests: bool) -> str:
    """Commands for a finished run, to paste into a shell."""
    nmt, name = _own_name(), _quoted(str(run))
    commands = {
        f"make tensorboard RUN={name}" if _make_suits(run) else f"{_python()} -m tensorboard.main --logdir {name}": (
            "curves, samples and attention maps"
        ),
        f"{nmt} translate {name}": "translate what is typed; -i FILE translates a file",
        **(
            {f"{nmt} evaluate {name}": "score the test sets again"}
            if has_tests
            else {f"{nmt} evaluate {name} --set-name valid": "score the validation set again; there is no test set"}
        ),
    }
    width = max(map(len, commands))
    return "\n".join(f"  {command:<{width}}   {what}" for command, what in commands.items())


def _make_suits(run: Path) -> bool:
    """Whether make, called here, uses this checkout and this environment, and can take the run's path."""
    root = Path(__file__).parents[1]
    try:
        here = Path("Makefile").samefile(root / "Makefile") and Path(".venv").samefile(sys.prefix)
    except OSError:
        return False
    # make splits a path at its spaces
    return here and Path(".venv/.installed").is_file() and shutil.which("make") is not None and _quoted(run) == str(run)


def _command(name: str, arguments: argparse.Namespace, overrides: Sequence[str] = ()) -> str:
    """The command of a configuration with further overrides, ready to be pasted into a shell."""
    keys = [override.partition("=")[0] for override in overrides]
    given = [*(one for one in arguments.overrides if one.partition("=")[0] not in keys), *overrides]
    settings = shlex.join(["--set", *given]) if given else ""
    return f"{_own_name()} {name} {_quoted(arguments.config)} {settings}".rstrip()


def _quoted(path: str | Path) -> str:
    """A path as a word of a command, that no program takes for an option."""
    return shlex.quote(f"./{path}" if str(path).startswith("-") else str(path))


def _own_name() -> str:
    """How to call this program again: it is often not on the path, as in a virtual environment that make uses."""
    if Path(sys.argv[0]).name != "nmt":
        return f"{_python()} -m nmt"
    if _is_on_path("nmt", sys.argv[0]):
        return "nmt"
    path = os.path.relpath(sys.argv[0])
    return shlex.quote(path if os.sep in path else f".{os.sep}{path}")  # the shell looks for a bare name on the path


def _python() -> str:
    """How to call the interpreter that runs this program."""
    return "python" if _is_on_path("python", sys.executable) else shlex.quote(sys.executable)


def _is_on_path(name: str, program: str) -> bool:
    """Whether the shell runs ``program`` by this name. Links are not followed: they tell environments apart."""
    found = shutil.which(name)
    return found is not None and os.path.abspath(found) == os.path.abspath(shutil.which(program) or program)


def _translate(arguments: argparse.Namespace) -> None:
    translate_file(**{k: v for k, v in vars(arguments).items() if k not in ("command", "debug")})


def translate_file(
    run: str,
    input: str | None = None,
    output: str | None = None,
    beam_size: int | None = None,
    nbest: int = 1,
    scores: bool = False,
    jsonl: bool = False,
    strict: bool = False,
    device: str | None = None,
    engine: EngineName = "pytorch",
) -> None:
    """Translate a file (standard input where left out) line by line; see ``nmt translate --help``.

    The output has exactly one line for each line read, in order (``nbest`` lines with ``--nbest``). Lines are
    translated as soon as no further one arrives; those of a file, many at a time.
    """
    from nmt.config import MAX_BEAM
    from nmt.run.directory import Run

    for option, value in (("--beam-size", beam_size), ("--nbest", nbest)):
        if value is not None and not 1 <= value <= MAX_BEAM:
            raise DataError(f"{option} {value}: must be {'1 or more' if value < 1 else f'at most {MAX_BEAM}'}")
    opened = Run.open(run)
    from nmt.translation.line_stream import LineStream
    from nmt.translation.translator import Notices

    with _input(input) as stream, _writing(output) as out, _progress(input, output) as progress:
        notices = Notices(progress.tell)
        talking = input is None and sys.stdin.isatty()
        lines = LineStream(
            stream,
            input or "standard input",
            notices,
            _prompt(opened.load_config().data) if talking else None,
            sys.stdin.encoding if talking else "utf-8",
        )
        count = lines.check(strict)
        translator = _translator(opened, beam_size, nbest, device, engine)
        _loaded()
        progress.start(count, translator.engine)
        for block in lines.blocks():
            found = translator.translate(block, nbest, notices, progress.done + 1)
            for source, translations in zip(block, found, strict=True):
                out.write(_shown(source, translations, nbest, scores, jsonl))
            out.flush()
            progress.add(len(block))
        notices.close()


def _translator(run: Run, beam_size: int | None, nbest: int, device: str | None, engine: EngineName) -> Translator[Any]:
    from nmt.translation.loading import load_translator

    width = max(beam_size, nbest) if beam_size else None
    if width is None and nbest > 1 and nbest > run.load_config().search.beam_size:
        width = nbest
    return load_translator(run, {"beam_size": width} if width else None, device, engine)


def _shown(source: str, translations: Sequence[Translation], nbest: int, scores: bool, jsonl: bool) -> str:
    """The lines of output for one line of input, each with its end."""
    if jsonl:
        rows = [{"text": t.text, "score": t.score, "log_prob": t.log_prob} for t in translations]
        return json.dumps({"source": source, "translations": rows}, ensure_ascii=False) + "\n"
    # A line with fewer hypotheses than asked for (an empty one) is filled up: n lines out for each line in.
    best = [translations[min(rank, len(translations) - 1)] for rank in range(nbest)]
    return "".join(f"{each.score:.4f}\t{each.text}\n" if scores else f"{each.text}\n" for each in best)


def _prompt(data: DataConfig) -> Callable[[], None]:
    """What asks a person at a terminal for the next sentence."""
    print(f"{data.src_lang} to {data.tgt_lang}: type a sentence and press Enter; Ctrl-D ends", file=sys.stderr)
    return lambda: print(f"{data.src_lang}> ", end="", file=sys.stderr, flush=True)


class _Progress:
    """How far a translation is, on a terminal: a bar, where the output goes elsewhere, and a line at the end.

    Attributes:
        done: lines translated.
    """

    def __init__(self, shown: bool, bar: bool) -> None:
        self.shown, self.wants_bar, self.done = shown, bar, 0
        self.bar: tqdm[Any] | None = None
        self.started = time.monotonic()

    def start(self, count: int | None, engine: Engine) -> None:
        """Begin with the translation of ``count`` lines (None: nobody knows)."""
        self.started = time.monotonic()
        if self.wants_bar:
            from tqdm import tqdm

            self.bar = tqdm(total=count, unit="line", dynamic_ncols=True, leave=False, file=sys.stderr)
            engine.progress = self.bar.update  # type: ignore[misc]  # settable in every engine

    def add(self, count: int) -> None:
        self.done += count
        if self.bar is not None:
            self.bar.update(self.done - self.bar.n)

    def tell(self, text: str) -> None:
        """A line for people, above the bar."""
        if self.bar is not None:
            self.bar.clear()
        log.warning("%s", text)

    def close(self, whole: bool) -> None:
        if self.bar is not None:
            self.bar.close()
        if self.shown and whole:
            seconds = time.monotonic() - self.started
            log.info("%s lines in %s", f"{self.done:,}", f"{seconds:.1f} s" if seconds < 10 else f"{seconds:,.0f} s")


@contextmanager
def _progress(input: str | None, output: str | None) -> Iterator[_Progress]:
    talking = input is None and sys.stdin.isatty()
    shown = sys.stderr is not None and sys.stderr.isatty() and not talking
    progress = _Progress(shown, shown and (output is not None or not sys.stdout.isatty()))
    try:
        yield progress
    except BaseException:
        progress.close(whole=False)
        raise
    progress.close(whole=True)


@contextmanager
def _input(path: str | None) -> Iterator[IO[bytes]]:
    from nmt.data.lines import open_text, unpacked

    if path is None:
        if "input" in closed:
            raise DataError("standard input is closed; name a file with -i")
        yield sys.stdin.buffer if sys.stdin.isatty() else unpacked(sys.stdin.buffer, "standard input")
        return
    with open_text(path) as file:
        yield unpacked(file, path)


@contextmanager
def _reading(path: str) -> Iterator[Iterable[str]]:
    from nmt.data.lines import open_text, read_lines

    with open_text(path) as file:
        yield read_lines(file, path)


@contextmanager
def _writing(path: str | None) -> Iterator[IO[str]]:
    """Standard output, or a file that appears under its name only when it is whole.

    What was written before an error is kept beside it, under a name that says so. That the file can be written is tried
    before the work. Files are in UTF-8; a terminal is written to in its own encoding.

    Raises:
        DataError: the file cannot be written.
    """
    if path is None:
        require_output("; name a file with -o")
        if not sys.stdout.isatty():
            sys.stdout.reconfigure(encoding="utf-8", newline="\n")  # type: ignore[union-attr]
        yield sys.stdout
        return
    target = _target(path)
    if target is None:
        with _open(path, "a", encoding="utf-8", newline="\n") as file:
            yield file
        return
    opened = False
    try:
        with (
            replacing(target, _keep_partial) as descriptor,
            open(descriptor, "w", encoding="utf-8", newline="\n") as file,
        ):
            opened = True
            yield file
    except OSError as error:
        if error.filename != str(target):
            raise
        if not opened:
            raise DataError(f"{path}: cannot be opened: {error.strerror}") from None
        raise OSError(error.errno, error.strerror, path) from None


def _target(path: str) -> Path | None:
    """The file to replace; None for what no file may take the place of: a pipe, a device, /dev/stdout, /dev/fd/N.

    Raises:
        DataError: it is a folder, or cannot be a file's name.
    """
    if not path:
        raise DataError("-o: the name is empty; name a file")
    given = Path(path)
    try:
        kind = given.stat().st_mode
    except FileNotFoundError:
        kind = stat.S_IFREG
    except OSError as error:
        raise DataError(f"{path}: cannot be opened: {error.strerror}") from None
    if stat.S_ISDIR(kind):
        raise DataError(f"{path}: is a folder; name a file")
    if os.path.abspath(path).startswith(("/dev/", "/proc/")) or not stat.S_ISREG(kind):
        return None
    return Path(os.path.realpath(path))  # of a link, the file that it names


def _keep_partial(aside: Path, target: Path) -> None:
    """Give the translations that were made before an error a name of their own, which no file has yet."""
    if not aside.stat().st_size:
        aside.unlink()
        return
    name = target.name.encode()[:200].decode(errors="ignore")
    names = (target.with_name(f"{name}.partial{number}") for number in ("", *range(2, 1000)))
    partial = next((each for each in names if not each.exists()), None)
    if partial is not None:
        aside.rename(partial)
        log.warning("not finished; the translations made so far are in %s", partial)


def _open(path: str, mode: str, name: str | None = None, **options: Any) -> IO[Any]:
    """Open a file; ``name`` is what the user calls it."""
    try:
        return open(path, mode, **options)
    except OSError as error:
        raise DataError(f"{name or path}: cannot be opened: {error.strerror}") from None


def _export(arguments: argparse.Namespace) -> None:
    from nmt.run.directory import Run

    run = Run.open(arguments.run)
    from nmt.interop.export import export

    _loaded()
    output, check = (Path(path) if path else None for path in (arguments.output, arguments.check))
    folder, found = export(run, arguments.quantize, output, check)
    print(found.summary())
    print(f"exported to {folder}; its README.md says how to use it")


def _evaluate(arguments: argparse.Namespace) -> None:
    from nmt.run.directory import Run

    require_output(", so that the scores would not be shown; redirect it to a file (> FILE)")
    if (arguments.src is None) != (arguments.ref is None):
        raise DataError("--src and --ref go together: one file of sources, one of references")
    run = Run.open(arguments.run)
    from nmt import pipeline
    from nmt.evaluation import scores

    _loaded()
    if arguments.src is not None:
        with _reading(arguments.src) as sources, _reading(arguments.ref) as references:
            lines = list(sources), list(references)
        if len(lines[0]) != len(lines[1]):
            raise DataError(
                f"{arguments.src} has {len(lines[0])} lines but {arguments.ref} has {len(lines[1])}; "
                "line n of one must go with line n of the other"
            )
        name = Path(arguments.src).name
        found = {name: pipeline.evaluate_lines(run, name, *lines)}
    else:
        found = pipeline.evaluate(run, arguments.set_name)
    print(scores.table({name: one.scores for name, one in found.items()}))
    if stored := [str(one.stored) for one in found.values() if one.stored is not None]:
        print(f"\nstored in {', '.join(stored)}")


def _config(arguments: argparse.Namespace) -> None:
    from nmt.config import json_schema
    from nmt.errors import ConfigError

    require_output(", so that nothing can be printed")
    if arguments.schema:
        print(json.dumps(json_schema(), indent=2))
    elif arguments.config is None:
        raise ConfigError("name a configuration file, or ask for --schema")
    else:
        from nmt.run.directory import Run, load_experiment

        config = load_experiment(arguments.config, arguments.overrides)
        config = Run.of(config).settle(config)
        unicode = (sys.stdout.encoding or "utf-8").lower().startswith("utf")  # else YAML's escapes, for the same values
        print(config.to_yaml(allow_unicode=unicode), end="")
