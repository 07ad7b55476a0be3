"""Train and compare variants of a model: one table and one plot by sentence length.

scripts/experiment.py configs/experiments/attention.yaml --plot attention.png

The YAML file names the variants: each is a configuration and settings that replace its own. Each variant becomes a run
of its own name; the same command resumes what was interrupted and reuses what is finished.

With ``equal_time`` all variants train for the same time, whatever else the machine does: the seconds per update of each
are measured first, in turns, and become ``train.max_steps``.
"""

import argparse
import json
import math
import re
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from bleu_by_length import by_length, plot
from pydantic import Field, ValidationError
from safetensors import safe_open

from nmt.cli.errors import guarded
from nmt.config.base import Section
from nmt.config.load import load_config
from nmt.errors import ConfigError, DataError
from nmt.evaluation.results import Results
from nmt.insight.figures import image_format
from nmt.run.checkpoint import read_origin
from nmt.run.directory import Run
from nmt.runtime.streams import require_output
from nmt.runtime.threads import default_threads

TURNS, UPDATES = 5, 8  # of measuring the time of an update


class Variant(Section):
    config: str
    set: list[str] = Field([])


class EqualTime(Section):
    """Every variant trains for the time that ``steps`` updates of ``variant`` take."""

    variant: str
    steps: int


class Experiment(Section):
    """The content of the YAML file.

    Attributes:
        test: the test set of the table.
        equal_time: None: each variant trains as its configuration says.
        set: settings of all variants, as for ``nmt train --set``.
        variants: by the name that the table shows.
    """

    test: str
    equal_time: EqualTime | None = None
    set: list[str] = Field([])
    variants: dict[str, Variant]


@dataclass(frozen=True)
class Training:
    """One variant: its configuration file, the settings that replace its own, and its run."""

    label: str
    config: Path
    settings: list[str]
    run: Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("experiment", type=Path, help="YAML file of the variants")
    parser.add_argument("--only", nargs="+", metavar="VARIANT", help="variants to train and show (default: all)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of all variants")
    parser.add_argument("--runs", default="runs", help="folder of the runs (default: runs)")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time; they share the cores (default: 1)")
    parser.add_argument(
        "--edges", nargs="+", type=int, default=[8, 10, 12, 14, 16, 20], help="upper ends of the bins, in words"
    )
    parser.add_argument("--plot", type=Path, help="PNG file to write")
    arguments = parser.parse_args()
    # Check
    require_output(", so that the table would not be shown; redirect it to a file (> FILE)")
    if arguments.plot is not None:
        image_format(arguments.plot)
    if arguments.jobs < 1:
        raise ConfigError(f"--jobs: {arguments.jobs} must be at least 1")
    experiment = read(arguments.experiment)
    if unknown := set(arguments.only or []) - set(experiment.variants):
        raise ConfigError(
            f"--only: {', '.join(sorted(unknown))}: no such variant; there are: {', '.join(experiment.variants)}"
        )
    # Train
    threads = max(1, default_threads() // arguments.jobs)
    settings = [*experiment.set, f"train.threads={threads}", *arguments.set]
    of_all = {
        label: training(arguments.experiment, label, variant, settings, arguments.runs)
        for label, variant in experiment.variants.items()
    }
    trainings = [each for label, each in of_all.items() if not arguments.only or label in arguments.only]
    check(experiment, trainings)
    if (equal := experiment.equal_time) is not None:
        timed = {each.label: each for each in [*trainings, of_all[equal.variant]]}  # the one that sets the time, too
        paces = measured(list(timed.values()), Path(arguments.runs) / f"{arguments.experiment.stem}-seconds.json")
        trainings = [with_steps(each, equal, paces) for each in trainings]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        failed = [each.label for each, code in zip(trainings, pool.map(train, trainings), strict=True) if code]
    if failed:
        raise DataError(f"{', '.join(failed)}: the training failed; its messages are above")
    # Compare
    report(trainings, experiment.test, arguments.edges, arguments.plot)


def read(path: Path) -> Experiment:
    """
    Raises:
        ConfigError: the file cannot be read, or is no experiment.
    """
    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Experiment.model_validate(raw)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        mistakes = (f"{'.'.join(map(str, one['loc'])) or '(top)'}: {one['msg']}" for one in error.errors())
        raise ConfigError(f"{path}: not an experiment: {'; '.join(mistakes)}") from None


def training(experiment: Path, label: str, variant: Variant, settings: list[str], runs: str) -> Training:
    """The training of a variant. Its configuration is beside the experiment's folder."""
    config = experiment.parent.parent / variant.config
    name = f"{experiment.stem}-{re.sub('[^A-Za-z0-9]+', '-', label)}"
    overrides = [*settings, *variant.set, f"runs={runs}", f"name={name}"]
    return Training(label, config, overrides, Path(runs) / name)


def check(experiment: Experiment, trainings: list[Training]) -> None:
    """Find the mistakes of the variants to train before the first one trains.

    Raises:
        ConfigError: a configuration is wrong, or a test set or variant that the experiment names does not exist.
    """
    for each in trainings:
        sets = list(load_config(each.config, each.settings).data.test) or ["valid"]
        if experiment.test not in sets:
            raise ConfigError(f"{each.label}: no test set {experiment.test}; there are: {', '.join(sets)}")
    equal = experiment.equal_time
    if equal is not None and equal.variant not in experiment.variants:
        names = ", ".join(experiment.variants)
        raise ConfigError(f"equal_time.variant: {equal.variant}: no such variant; there are: {names}")


def measured(trainings: list[Training], path: Path) -> dict[str, float]:
    """Processor seconds per update of each variant on one thread (on CUDA: seconds); measured once, stored in a file.

    The variants take turns, so that a machine that becomes slower or faster treats them alike.
    """
    if path.is_file():
        found: dict[str, float] = json.loads(path.read_text())
        if found.keys() >= {each.label for each in trainings}:
            return found
    from nmt.pipeline import build_trainer, prepare  # loads PyTorch
    from nmt.runtime.device import Place, resolve_device, resolve_precision, set_threads
    from nmt.runtime.ranks import ALONE

    trainers = {}
    for each in trainings:
        print(f"{each.label}: measuring the time of an update", file=sys.stderr, flush=True)
        config = load_config(each.config, each.settings)
        device = resolve_device(config.train.device)
        place = Place(device, resolve_precision(config.train.precision, device), ALONE)
        trainers[each.label] = build_trainer(config, Run(config.run_dir), prepare(config), place)
    set_threads(1)
    clock = (
        time.perf_counter if any(one.place.device.type == "cuda" for one in trainers.values()) else time.process_time
    )
    seconds: dict[str, list[float]] = {label: [] for label in trainers}
    for turn in range(1 + TURNS):
        for label, trainer in trainers.items():
            updates = trainer.order.updates(0)
            chosen = [updates[(UPDATES * turn + number) % len(updates)] for number in range(UPDATES)]
            read = [[trainer.reader.read(rows, 0) for rows in update] for update in chosen]
            begun = clock()
            for batches in read:
                trainer.update(batches)
            float(trainer.window.sums.sum())  # waits for the device
            seconds[label].append((clock() - begun) / len(read))
    paces = {label: statistics.median(found[1:]) for label, found in seconds.items()}  # the first turn warms up
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(paces, indent=1) + "\n")
    return paces


def with_steps(one: Training, equal: EqualTime, paces: dict[str, float]) -> Training:
    """The training with as many steps as fit into the time of ``equal``."""
    steps = max(1, round(equal.steps * paces[equal.variant] / paces[one.label]))
    return replace(one, settings=[*one.settings, f"train.max_steps={steps}", "train.max_minutes=null"])


def train(one: Training) -> int:
    """Train, or resume, with the output in a file beside the run; return the exit code."""
    log = one.run.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f"{one.label}: {one.run}; messages in {log}", file=sys.stderr, flush=True)
    with log.open("a") as file:
        code = subprocess.run(
            [sys.executable, "-m", "nmt", "train", str(one.config), "--set", *one.settings], stdout=file, stderr=file
        ).returncode
    if code:
        print("".join(log.read_text().splitlines(keepends=True)[-3:]), end="", file=sys.stderr, flush=True)
    return code


def report(trainings: list[Training], test: str, edges: list[int], image: Path | None) -> None:
    """Print the tables of scores and of BLEU by length, and write the plot."""
    runs = {each.label: Run.open(str(each.run)) for each in trainings}
    series = {label: by_length(run, test, edges) for label, run in runs.items()}
    lengths = [f"{label} words" for label, _, _ in next(iter(series.values()))]
    print("| " + " | ".join(["variant", "parameters", "steps", "minutes", "BLEU", "chrF2", *lengths]) + " |")
    print("|---" * (6 + len(lengths)) + "|")
    for label, run in runs.items():
        record, origin = Results(run).record(test), read_origin(run.model)
        assert record is not None, run.path  # by_length has read its translations
        numbers = [
            f"{parameters(run) / 1e6:.2f} M",
            f"{origin['last_step']:,}",
            f"{origin['training_seconds'] / 60:.1f}",
        ]
        numbers += [f"{record['bleu']:.1f}", f"{record['chrf']:.1f}", *(f"{bleu:.1f}" for _, _, bleu in series[label])]
        print("| " + " | ".join([label, *numbers]) + " |")
    if image is not None:
        plot(series, image)


def parameters(run: Run) -> int:
    """Number of parameters of the final model; a tied matrix counts once."""
    with safe_open(run.model / "model.safetensors", "np") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


if __name__ == "__main__":
    sys.exit(guarded("experiment", main))
