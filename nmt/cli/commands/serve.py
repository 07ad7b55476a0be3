"""``nmt serve``: an HTTP server for runs."""

from __future__ import annotations

import argparse
import logging
import math
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from nmt.advice import install
from nmt.cli.commands.translate import ENGINES
from nmt.cli.parser import Parser
from nmt.cli.searching import check_counts, load_searching, use_tags
from nmt.errors import ConfigError, DataError, RunError
from nmt.runtime import garbage

if TYPE_CHECKING:
    import socket

    from nmt.config.experiment import Config
    from nmt.run.directory import Run
    from nmt.serve.computing import Workers
    from nmt.serve.limits import Limits
    from nmt.serve.metrics import Metrics
    from nmt.serve.model import Served

HELP = "translate over HTTP, with a web page and an API like LibreTranslate's"

log = logging.getLogger(__name__)


def add_arguments(parser: Parser) -> None:
    parser.words = "runs"
    text = "run directories, or their names under runs/, one for each pair of languages"
    parser.add_argument("runs", metavar="RUN", nargs="+", help=text)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: all (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=5000, metavar="N", help="port; 0: any free one (default: 5000)")
    parser.add_search()
    parser.add_argument("--beam-size", type=int, metavar="N", help="override search.beam_size")
    parser.add_tags()
    parser.add_choice("--device", "train.device", ["auto", "cpu", "cuda", "mps"], help="override train.device")
    text = "engine of the search; ctranslate2: faster, without attention (needs: pip install ctranslate2)"
    parser.add_choice("--engine", "engine", ENGINES, default="pytorch", help=text)
    text = "maximum number of characters of a request (default: 5000)"
    parser.add_argument("--max-characters", type=int, default=5000, metavar="N", help=text)
    text = "maximum number of lines of a request (default: 200)"
    parser.add_argument("--max-lines", type=int, default=200, metavar="N", help=text)
    text = "maximum number of queued lines of a model (default: 1000)"
    parser.add_argument("--queue", type=int, default=1000, metavar="N", help=text)
    text = "timeout of a request in seconds (default: 30)"
    parser.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help=text)
    text = "processes that translate with PyTorch on a CPU; they share its cores (default: 2, or 1 on one core)"
    parser.add_argument("--workers", type=int, metavar="N", help=text)
    text = "start a batch after this many milliseconds without another line (default: 5)"
    parser.add_argument("--gather", type=float, default=5.0, metavar="MS", help=text)


def run(arguments: argparse.Namespace) -> None:
    # Check, before what is slow
    check_counts(arguments.beam_size, None)
    limits = _limits(arguments)
    try:
        import starlette
        import uvicorn

        del starlette, uvicorn
    except ImportError as error:
        raise RunError(
            f"nmt serve: a package is missing ({error}); install it: {install('nmt-trainer[serve]')}"
        ) from None
    from nmt.serve.app import new_app
    from nmt.serve.metrics import Metrics
    from nmt.serve.server import address_of, listen, new_server

    # Listen, load, serve
    with listen(arguments.host, arguments.port) as listener:
        metrics = Metrics()
        models, workers = _models(arguments, limits, metrics, listener)
        with closing(workers) if workers is not None else nullcontext():
            server = new_server(new_app(models, limits, metrics), limits)
            log.info("%s: ready; Ctrl-C stops", address_of(listener))
            server.run([listener])
        log.info("stopped")


def _limits(arguments: argparse.Namespace) -> Limits:
    """
    Raises:
        DataError: an option is out of bounds.
    """
    from nmt.serve.limits import Limits

    bounds = {
        "port": (0, 65535), "max_characters": (1, 10_000_000), "max_lines": (1, 100_000), "queue": (1, 1_000_000),
        "timeout": (0.1, 86_400), "gather": (0, 10_000), "workers": (1, 64),
    }  # fmt: skip
    for name, (least, most) in bounds.items():
        value = getattr(arguments, name)
        if value is not None and not (math.isfinite(value) and least <= value <= most):
            raise DataError(f"--{name.replace('_', '-')} {value:g}: must be from {least:,} to {most:,}")
    if arguments.max_lines > arguments.queue:
        raise DataError(
            f"--max-lines {arguments.max_lines}: must be at most --queue ({arguments.queue}), or no such request fits"
        )
    return Limits(
        characters=arguments.max_characters,
        lines=arguments.max_lines,
        seconds=arguments.timeout,
        queue=arguments.queue,
        gather=arguments.gather / 1000,
    )


def named_runs(paths: Sequence[str]) -> dict[str, tuple[Run, Config]]:
    """The runs by their names. Those of one name are told apart by their paths.

    Raises:
        ConfigError: two runs have the same languages.
    """
    from nmt.run.directory import Run

    runs = [Run.open(path) for path in paths]
    configs = [run.load_config() for run in runs]
    pairs: dict[tuple[str, str], Run] = {}
    for run, config in zip(runs, configs, strict=True):
        pair = config.data.src_lang, config.data.tgt_lang
        if (other := pairs.setdefault(pair, run)) is not run:
            both = f"{other.path} and {run.path}: both translate {pair[0]} to {pair[1]}; serve one of them"
            twice = f"{run.path}: named twice; name each run once"
            raise ConfigError(twice if other.path.samefile(run.path) else both)
    names = Counter(run.path.name for run in runs)
    return {
        run.path.name if names[run.path.name] == 1 else str(run.path): (run, config)
        for run, config in zip(runs, configs, strict=True)
    }


def _models(
    arguments: argparse.Namespace, limits: Limits, metrics: Metrics, listener: socket.socket
) -> tuple[list[Served], Workers | None]:
    """
    Args:
        listener: processes that translate do not keep it.
    """
    from nmt.serve.computing import compute, new_workers
    from nmt.serve.model import Served, Translating

    # Check all runs before the first model is loaded
    runs = named_runs(arguments.runs)
    how = arguments.search, arguments.beam_size, 1, arguments.device, arguments.engine
    loaded = {}
    for name, (run, config) in runs.items():
        log.info("%s: %s to %s", run.path, config.data.src_lang, config.data.tgt_lang)
        translator = compute(partial(load_searching, run, *how))
        use_tags(translator, arguments.tag, run)
        loaded[name] = Translating(config, translator)
    garbage.resume()
    # CUDA works for one process, and CTranslate2 has its own threads
    on_cpu = all(str(each.translator.engine.device) == "cpu" for each in loaded.values())
    workers = None
    if on_cpu and arguments.engine == "pytorch":
        workers = new_workers(loaded, arguments.workers, [listener])
    elif arguments.workers:
        log.warning("--workers has no effect: it is for PyTorch on a CPU")
    models = [
        compute(partial(Served, name, runs[name][1], each, limits, metrics, workers)) for name, each in loaded.items()
    ]
    return models, workers
