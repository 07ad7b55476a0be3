"""From a configuration to BLEU, top to bottom: the only module that knows every part.

    config ─► corpus ─► tokenizer ─► id pairs ─► batches ─► model ─► trainer ─► checkpoint ─► search ─► BLEU

:func:`prepare` goes as far as the id pairs, :func:`train` to the final checkpoint and its BLEU, :func:`evaluate` from a
finished run to BLEU.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nmt.checks.data import glance
from nmt.config.compare import config_diff, fixed_settings, flatten
from nmt.config.experiment import Config
from nmt.config.train import TrainConfig
from nmt.data.bidirectional import Bidirectional
from nmt.data.corpus import Corpus
from nmt.data.encoded import encode_corpus
from nmt.data.examples import Examples
from nmt.data.order import TrainingOrder
from nmt.data.prepare import prepare_corpus, sets_of_run
from nmt.data.reader import Reader
from nmt.data.tagged import tagged
from nmt.data.teacher import Teacher, identity
from nmt.errors import DataError, RunError
from nmt.evaluation import neural, tuning
from nmt.evaluation.fidelity import RoundTrip, unknown_summary
from nmt.evaluation.results import Basis, Results
from nmt.evaluation.robustness import ADDED, variants
from nmt.evaluation.scores import Scores, resolve, table
from nmt.evaluation.sets import Evaluated, Scored, TestSet, find_stored, samples, score_and_store, score_set, sets_of
from nmt.models.build import count_parameters
from nmt.numbers import count_of
from nmt.pretrained import encoder, start
from nmt.run import card
from nmt.run.alpha import Tuned, with_alpha
from nmt.run.directory import Run
from nmt.runtime import journal
from nmt.runtime.device import (
    Place,
    check_lstm,
    peak_memory,
    reset_peak_memory,
    resolve_device,
    resolve_precision,
    seed_everything,
    set_deterministic,
    set_threads,
    use_device,
)
from nmt.runtime.energy import Meter
from nmt.runtime.environment import environment
from nmt.runtime.memory import keep_freed_memory
from nmt.runtime.progress import showing
from nmt.runtime.ranks import ALONE, Ranks
from nmt.runtime.signals import Interrupted, number_of
from nmt.training import plan
from nmt.training.batching import choose_batching
from nmt.training.final import describe
from nmt.training.parallel import choose_parallel
from nmt.training.prepared import Prepared
from nmt.training.reporting import record_final_metrics
from nmt.training.saving import Saving
from nmt.training.summary import summary
from nmt.training.tokenizer import choose_tokenizer
from nmt.training.trainer import Trainer
from nmt.training.updater import Updater
from nmt.training.validation import Validator
from nmt.translation.ensembles import Others
from nmt.translation.loading import configured, load_translator
from nmt.translation.pytorch import TorchEngine
from nmt.translation.pytorch_loading import load, load_final, new_model, new_translator
from nmt.translation.translator import Translator

log = logging.getLogger(__name__)

# -------------------------------------------------------------------------------------------------------------- prepare


def prepare(config: Config, run: Run | None = None, tell_losses: bool = True) -> Prepared:
    """Corpus, tokenizer and encoded pairs; whatever an earlier call with the same configuration made is reused.

    Args:
        run: one that may have been started. Then the corpus is the one it was started with, see :func:`prepare_corpus`.
        tell_losses: say what the tokenizer lacks and changes.
    """
    resolve(config.evaluation, config.data.tgt_lang, [], lambda _: None)  # a missing package is told at once
    corpus = prepare_corpus(config.data, run.recorded_data() if run else None)
    log.info("%s", corpus.summary())
    tokenizer = choose_tokenizer(config, corpus, run)
    log.info("%s", tokenizer.summary())
    encoded = encode_corpus(corpus, tokenizer, config.data.cleaning.max_tokens, Path(config.data.store))
    log.info("%s", encoded.summary())
    unknown = unknown_summary(encoded.unknown, config.tokenizer, config.tokenizer_key)
    if unknown and tell_losses:
        log.info("%s", unknown)
    evaluation = resolve(config.evaluation, config.data.tgt_lang, corpus.part("valid").targets(), log.warning)
    with showing("checking what the tokenizer keeps", unit=""):
        round_trip = RoundTrip.of(corpus.part("valid"), tokenizer, evaluation)
    if tell_losses:
        log.info("%s", round_trip.summary(config.tokenizer, config.tokenizer_key))
    return Prepared(corpus, tokenizer, encoded, round_trip, evaluation)


def _glance(config: Config, corpus: Corpus) -> None:
    """Warn of problems in the first pairs of a corpus."""
    for found in glance(corpus, config.data, config.seed):
        advice = f"; {found.advice}" if found.advice else ""
        log.warning("warning: %s%s (nmt check shows examples)", found.text, advice)


# ---------------------------------------------------------------------------------------------------------------- train


@dataclass(frozen=True)
class Trained:
    run: Run
    steps: int
    already: bool  # the run was finished before this call
    has_tests: bool  # otherwise the validation set is scored
    scores: dict[str, Scores]  # of each test set
    samples: list[tuple[str, str, str]]  # source, reference, hypothesis
    reason: str | None  # what ended the training
    further: list[str]  # overrides with which it would continue; empty if it cannot


def train(config: Config, ranks: Ranks = ALONE, replay: plan.Replay | None = None) -> Trained:
    """Train, or resume the unfinished run of this name, and evaluate on every test set.

    Args:
        replay: the recorded decays of the schedule in a run that is reproduced, if it followed the clock.

    Every rank of ``ranks`` calls this with the same configuration. Rank 0 alone writes; the others read the store and
    the run's checkpoints, so that several machines need a file system in common.

    Raises:
        RunError: the run is in use, or was started with another configuration.
        Interrupted: a signal came; everything is saved.
        OtherRankFailed: the error is raised on another rank.
    """
    # This process
    run = Run(config.run_dir)
    ranks.on_main(lambda: start.check(config))
    ranks.on_main(lambda: encoder.check(config))
    with showing("setting up PyTorch and the device", unit=""):
        place = ranks.on_every_rank(lambda: set_up(config.train, ranks))
    ranks.compare({"precision": place.dtype, "device": place.device.type, **flatten(config.model_dump(mode="json"))})
    with ExitStack() as held:
        # Configuration, corpus, tokenizer, id pairs
        ranks.on_main(lambda: _hold(held, run, config))
        if ranks.is_main:
            held.enter_context(journal.keeping(run.log))
        prepared = ranks.main_first(lambda: prepare(config, run))
        if not run.started:
            ranks.on_main(lambda: _glance(config, prepared.corpus))
        # Batches, model, trainer
        training = Training(config, run, prepared, place, replay)
        training.resume()
        # Checkpoints, final model
        already = training.is_finished()
        if not already:
            reason = training.fit()
            held.enter_context(_ended_when_trained(run, ranks))
            training.finish(reason)
        # Search, BLEU
        return training.evaluate(already)


def set_up(config: TrainConfig, ranks: Ranks) -> Place:
    """Configure PyTorch for this process; return the device and the precision to train with."""
    set_deterministic(config.deterministic)
    set_threads(config.threads)
    keep_freed_memory()
    device = resolve_device(config.device)
    use_device(device)
    return Place(device, resolve_precision(config.precision, device), ranks)


def _hold(held: ExitStack, run: Run, config: Config) -> None:
    """Hold the run for writing, and make sure that it is a run of this configuration."""
    held.enter_context(run.lock())
    run.check(config)


class Training:
    """The training of one run. Its methods are the phases of :func:`train`, in order."""

    def __init__(self, config: Config, run: Run, prepared: Prepared, place: Place, replay: plan.Replay | None = None):
        self.run, self.prepared, self.place, self.ranks = run, prepared, place, place.ranks
        self.total_steps = config.train.schedule.total_steps  # as the user gave it
        config = config.model_copy(update={"evaluation": self.ranks.on_main(lambda: prepared.evaluation)})
        self.trainer = build_trainer(config, run, prepared, place)
        self.trainer.replayed = replay
        self.config = config.model_copy(update={"train": self.trainer.config})
        self.resumed = False
        self.only_model = False  # the training was finished before this start, and its checkpoints were deleted
        self.meter: Meter | None = None  # of the energy, while this start trains
        self.searches: dict[str, dict[str, Any]] = {}  # what the search of each test set took
        self.has_final = False  # whether the model has the weights of the final model, as the run stores them

    def resume(self) -> None:
        """Restore the last checkpoint if one exists, and complete the run directory."""
        if (ended := self.ranks.on_main(self.trainer.saving.ended)) is not None:
            self.trainer.progress, self.only_model = ended, True
            self.config = self.config.model_copy(update={"train": self.run.load_config().train})
            self.ranks.on_main(self._fill_run)
            return
        self.resumed = self.trainer.resume(log.warning)
        if self.resumed and self.trainer.reason_to_stop() is None:
            self.ranks.on_main(self._check_schedule)
        if self.total_steps is not None:
            self.trainer.progress.descend(None)
        self.ranks.on_main(self._fill_run)

    def is_finished(self) -> bool:
        return self.only_model or self.ranks.on_main(lambda: self.trainer.is_finished(log.warning))

    def fit(self) -> str:
        """Train until a limit is reached; return the limit in words."""
        trainer, train = self.trainer, self.config.train
        _log(summary(self.config, self.prepared, trainer, self.resumed))
        if self.config.init is not None:
            _log(self.ranks.on_main(lambda: start.summary(trainer.model, self.run)))
        _log(*plan.expected(train, trainer.pace(), len(self.prepared.corpus.part("valid")), trainer.stages))
        config = self.config.model_dump(mode="json")
        machines, step = self.ranks.gather_items([card.machine()]), trainer.progress.step
        self.ranks.on_main(lambda: card.begin(self.run, config, trainer.environment, step, machines))
        if self.ranks.is_main:
            reset_peak_memory(self.place.device)
            self.meter = Meter(self.place.device.index or 0 if self.place.device.type == "cuda" else None)
        try:
            return trainer.fit()
        except (Exception, KeyboardInterrupt) as error:
            self._end_sitting(type(error).__name__)
            raise

    def finish(self, reason: str) -> None:
        """Write the final model, and with it the configuration that it was trained with."""
        # Write
        origin, progress = self.trainer.finish(log.warning), self.trainer.progress
        self.ranks.on_main(lambda: self.run.save_config(self.config))
        # Report
        steps, averaged = ", ".join(map(str, origin["steps"])), " (averaged weights)" if origin["averaged"] else ""
        _log(*describe(origin), *plan.result(self.config.train, progress.step, progress.descent))
        _log(
            f"training ended by {reason} after {count_of(progress.step, 'step')} and {progress.seconds / 60:.1f} "
            f"minutes; model of step {steps}{averaged}"
        )

    def _end_sitting(self, reason: str, scores: Mapping[str, Scores] | None = None) -> None:
        """Complete the run card, on rank 0; an error of the disk does not hide the error that ends the training."""
        if not self.ranks.is_main:
            return
        progress, found = self.trainer.progress, None
        if scores is not None:
            found = {name: one.as_dict() for name, one in scores.items()}
        try:
            used: dict[str, Any] = {}
            if self.meter is not None:
                used = {"peak_memory": peak_memory(self.place.device), "energy_joules": self.meter.joules()}
                self.meter.close()
            card.end(self.run, progress.step, progress.seconds, reason, found, self.searches, progress.tokens, used)
        except OSError as error:
            log.warning("the run card cannot be written: %s", error)

    def evaluate(self, already: bool) -> Trained:
        """Score the final model on every test set, and complete the run; repeated, this changes nothing.

        Args:
            already: whether the training was finished before this start.
        """
        trainer, sets = self.trainer, sets_of(self.prepared.corpus)
        scores = self._scores(sets, self._with_alpha())
        self.ranks.on_main(lambda: self._conclude(scores))
        self._end_sitting(trainer.reason_to_stop() or "", scores)
        shown = self.ranks.on_main(lambda: samples(Results(self.run), sets[0]))
        journal.note(table(scores))
        further = [] if self.only_model else plan.further(self.config.train, trainer.progress, trainer.pace())
        has_tests, reason = bool(self.prepared.corpus.tests), trainer.reason_to_stop()
        return Trained(self.run, trainer.progress.step, already, has_tests, scores, shown, reason, further)

    def _check_schedule(self) -> None:
        """Warn of what this start changes in the learning rate of a resumed run, or refuse it."""
        before = self.run.settle(self.run.load_config()).train
        if (end := self.run.schedule_end()) is not None:
            before = plan.with_end(before, end)
        pace, descent = self.trainer.pace(), self.trainer.progress.descent
        if line := plan.check_resumed(before, self.config.train, self.total_steps, pace, descent):
            log.warning("%s", line)

    def _fill_run(self) -> None:
        """Write what the run needs to be used without the store.

        A run that has a final model keeps its configuration until it has a model of the new one.
        """
        self.prepared.copy_into(self.run, self.trainer.environment)
        if not self.run.has_model:
            self.run.save_config(self.config)

    def _with_alpha(self) -> Config:
        """The configuration with the alpha chosen for the final model: now, if it was not chosen before."""
        # Find
        config, ranks = self.config, self.ranks
        if config.search.alpha is not None or not config.search.alpha_matters:
            return config
        valid = tuning.lines_of(TestSet.of(self.prepared.corpus, "valid"))
        checksum = ranks.on_main(self.run.model_checksum)
        chosen = ranks.on_main(lambda: tuning.stored(self.run, tuning.basis_of(valid, config)))
        # Choose
        if chosen is None:
            self._load_final()
            chosen = tuning.choose_alpha(self._translator(config), valid, config, checksum, ranks)
            ranks.on_main(partial(chosen.write, self.run))
        _log(tuning.summary(chosen, len(valid.sources)))
        return config.model_copy(update={"search": config.search.model_copy(update={"alpha": chosen.alpha})})

    def _scores(self, sets: Sequence[TestSet], config: Config) -> dict[str, Scores]:
        """Scores on each set: those stored of exactly this model and these settings, else new."""
        # Find
        results, ranks, evaluation = Results(self.run), self.ranks, config.evaluation
        translator = self._translator(config)
        checksum = ranks.on_main(self.run.model_checksum)
        bases = {one.name: one.basis(checksum, translator.search, evaluation) for one in sets}
        stored = ranks.on_main(lambda: {name: results.find(name, basis) for name, basis in bases.items()})
        missing = [one for one in sets if stored[one.name] is None]
        # Translate and score what is missing
        if missing:
            self._load_final()
        for one in missing:
            found = score_set(translator, one, evaluation, ranks)
            ranks.on_main(partial(self._store, results, one, bases[one.name], found))
            stored[one.name], self.searches[one.name] = found.scores, found.search
        return {name: scores for name, scores in stored.items() if scores is not None}

    def _store(self, results: Results, one: TestSet, basis: Basis, found: Scored) -> Path:
        lines = one.lines(found, self.config.evaluation)
        return results.store(one.name, basis, found.scores, found.hypotheses, lines)

    def _translator(self, config: Config) -> Translator[TorchEngine]:
        """A translator of the trainer's model."""
        prepared = self.prepared
        return new_translator(
            self.trainer.updater.searchable, prepared.tokenizer, config, prepared.encoded.limits, self.place
        )

    def _load_final(self) -> None:
        """Give the model the weights of the final model on all ranks; they are read once."""
        if not self.has_final:
            model, tokenizer = self.trainer.updater.allocated(), self.prepared.tokenizer
            self.ranks.on_main(lambda: load_final(self.run, model, tokenizer))
            self.ranks.broadcast_weights(model)
            self.has_final = True

    def _conclude(self, scores: Mapping[str, Scores]) -> None:
        """Record the scores as the run's final metrics."""
        finals = {
            f"final/{name}/{m}": getattr(s, m)
            for name, s in scores.items()
            for m in ("bleu", "chrf")
            if m in s.signatures
        }
        settings, progress = flatten(self.config.model_dump(mode="json")), self.trainer.progress
        if progress.best is not None:
            finals["final/best validation/bleu"] = progress.best["bleu"]
        finals["final/training/minutes"] = self.run.training_seconds() / 60
        about = {"parameters": count_parameters(self.trainer.model)[0]}
        if not self.only_model:  # whose metrics files no checkpoint records
            record_final_metrics(self.run, settings, about, finals, progress.step, progress.files)
        self.run.save_config(self.config)


def build_trainer(config: Config, run: Run, prepared: Prepared, place: Place) -> Trainer:
    """A trainer at step 0, with the first weights of ``config.seed``."""
    # Model
    tokenizer, dataset, ranks = prepared.tokenizer, prepared.encoded.train, place.ranks
    seed_everything(config.seed)
    model = new_model(config.model, tokenizer).to(place.device)
    ranks.on_every_rank(lambda: check_lstm(model, place))
    if config.init is not None:
        ranks.on_main(lambda: start.write(config, run, tokenizer))
        ranks.on_every_rank(lambda: start.apply(model, config, run))
    elif (section := encoder.section_of(config)) is not None and not run.started:
        ranks.main_first(lambda: encoder.load(model, section, tokenizer.source_special))
    if not ranks.is_main:  # the same first weights everywhere, but each rank its own dropout
        seed_everything(int(np.random.SeedSequence([config.seed, ranks.rank]).generate_state(1)[0]))
    # Batches
    text = prepared.corpus.part("train")
    packed, batching = ranks.on_every_rank(lambda: choose_batching(config, place.device, place.dtype, run.batching()))
    sampling, longest = config.tokenizer.sampling, config.data.cleaning.max_tokens
    budget, accumulate = config.train.batch_tokens, ranks.size * config.train.accumulate
    both = Bidirectional(config.seed, epochs) if (epochs := config.train.bidirectional_epochs) else None
    examples = Examples.of(config.data, prepared.corpus, dataset, tokenizer, config.seed)
    teacher = ranks.main_first(lambda: _teacher(config, prepared))
    guided = config.train.terms.guided_alignment is not None
    reader = Reader(
        dataset, tokenizer, text, sampling, longest, config.seed, budget, packed, both, examples, teacher, guided
    )
    if guided:
        ranks.on_every_rank(reader.check_links)
    order = TrainingOrder(dataset, budget, accumulate, config.seed, reader.room, reader.packing, both, examples)
    # The end of the schedule
    train = ranks.on_main(lambda: run.settle(config).train)
    if examples is not None and train.max_epochs is None and (last := examples.mixture.epochs) is not None:
        train = train.model_copy(update={"max_epochs": last})  # the end of the last stage
    train = plan.with_known_end(train, order.steps)
    # Validation, and what checkpoints must agree on
    validator = Validator(config, prepared, place)
    formerly = validator.settings_under(run.load_config()) if run.started else None
    identity = {
        "configuration": fixed_settings(config),
        "tokenizer": tokenizer.fingerprint,
        "data": prepared.corpus.key,
        "schedule_end": train.schedule.total_steps,
        "batching": "packed" if packed else "padded",
        **({"teacher": teacher.key} if teacher is not None else {}),
    }
    about, differing = environment(place.device, place.dtype, ranks.size), partial(config_diff, config=config)
    sharded, parallel = choose_parallel(config, model, place)
    updater = Updater(train, model, reader, place, sharded)
    saving = Saving(train, run, model, updater, identity, differing, about, validator.settings, ranks)
    follows_clock = config.train.follows_clock
    return Trainer(train, saving, reader, order, validator, place, formerly, follows_clock, batching, parallel)


def _teacher(config: Config, prepared: Prepared) -> Teacher | None:
    """The distributions of ``train.terms.distillation``; None where it is off."""
    term = config.train.terms.distillation
    if term is None:
        return None
    expected = identity(prepared.encoded, prepared.tokenizer, config.data)
    return Teacher(Path(term.source), expected, Path(config.data.store))


@contextmanager
def _ended_when_trained(run: Run, ranks: Ranks) -> Iterator[None]:
    """If a signal ends the block, report that the training is complete and saved."""
    try:
        yield
    except KeyboardInterrupt as error:
        number = number_of(error)
        reason = (
            f"stopped by {signal.Signals(number).name} after the training; {run.path} has all of it; run the same "
            "command to evaluate it"
        )
        raise ranks.raised_once(Interrupted(reason, number)) from None


def _log(*lines: str) -> None:
    for line in lines:
        log.info("%s", line)


# ------------------------------------------------------------------------------------------------------------- evaluate


def evaluate(
    run: Run,
    only: str | None = None,
    search: Mapping[str, Any] | None = None,
    robust: bool = False,
    others: Others | None = None,
    reuse: bool = False,
    metrics: Mapping[str, str] | None = None,
) -> dict[str, Evaluated]:
    """Score the run's test sets, or the one named, and store hypotheses, scores and signatures in the run.

    Args:
        search: settings that differ from the section ``search`` of the run.
        robust: whether to score the variants of each set, too (:mod:`nmt.evaluation.robustness`).
        others: the further members of an ensemble, whose results are stored beside those of the run.
        reuse: whether stored scores of the same weights, search and text are taken as they are.
        metrics: model of each learned metric, beside those of the run.
    """
    # Corpus
    config = run.load_config()
    evaluation = config.evaluation.model_copy(update=metrics or {})
    neural.check(evaluation)
    tests = list(config.data.test)
    if only is not None and only not in [*tests, "valid"]:
        raise DataError(f"{only}: no such set in this run; there are: {', '.join(['valid', *tests])}")
    if not tests and only is None:
        raise DataError(f"{run.config_path}: data.test names no test set; use --set-name valid, or --src and --ref")
    recorded = run.recorded_data()
    parts = [f"test.{name}" if name in tests else name for name in ([only] if only else tests)]
    corpus = sets_of_run(config.data, recorded, parts) if recorded else prepare_corpus(config.data)
    # Search, BLEU
    translator, results = load_translator(run, search, others=others), Results(run)
    sets = [
        each for part in parts for one in TestSet.all_of(corpus, part) for each in _with_variants(one, config, robust)
    ]
    usual = with_alpha(run, configured(run, {}).search).model_dump()
    differing = {key: value for key, value in (search or {}).items() if getattr(translator.search, key) != usual[key]}
    differing |= {} if others is None else {"ensemble": others.label}
    found, further = {}, ADDED if robust else ()
    for one in sets:
        known = find_stored(translator, one, evaluation, results, differing) if reuse else None
        found[one.name] = known or score_and_store(translator, one, evaluation, results.store, differing, further)
    _add_to_card(run, found.values())
    return found


def evaluate_lines(
    run: Run,
    name: str,
    sources: Sequence[str],
    references: Sequence[Sequence[str]],
    search: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
    robust: bool = False,
    others: Others | None = None,
    metrics: Mapping[str, str] | None = None,
) -> dict[str, Evaluated]:
    """Score lines of a file called ``name``, as :func:`evaluate`; they are stored apart from those of the test sets.

    Args:
        references: one or more translations of all sources, each with a line for each source.
        tags: what stands before each source.
        others: the further members of an ensemble.
    """
    config = run.load_config()
    evaluation = config.evaluation.model_copy(update=metrics or {})
    neural.check(evaluation)
    translator, store = load_translator(run, search, others=others), Results(run).store_file
    given = TestSet(name, tagged(sources, [(len(sources), tags)]), references[0], references[1:])
    sets = _with_variants(given, config, robust)
    further = ADDED if robust else ()
    found = {one.name: score_and_store(translator, one, evaluation, store, further=further) for one in sets}
    _add_to_card(run, found.values())
    return found


def tune(run: Run, beams: Sequence[int], sentences: int, device: str | None = None) -> Tuned:
    """Choose beam size and alpha on the validation set, see :func:`nmt.evaluation.tuning.tune`; nothing is written.

    Args:
        sentences: of the validation set, at most.
        device: as ``train.device``, which it overrides.

    Raises:
        RunError: the run is not finished, does not use beam search, or translates too badly to compare anything.
    """
    config = run.load_config()
    if not run.has_model:
        raise RunError(f"{run.path}: is not finished; finish its training first")
    if config.search.method != "beam" or config.search.length_penalty == "none":
        raise RunError(f"{run.path}: search.method and search.length_penalty leave nothing to tune")
    recorded = run.recorded_data()
    corpus = sets_of_run(config.data, recorded, ["valid"]) if recorded else prepare_corpus(config.data)
    valid = tuning.lines_of(TestSet.of(corpus, "valid"), sentences)
    with showing("loading the model", unit=""):
        loaded = load(run, config, device)
    return tuning.tune(loaded, valid, config, with_alpha(run, config.search), beams)


def _with_variants(one: TestSet, config: Config, robust: bool) -> list[TestSet]:
    return [one, *(variants(one, config.data.src_lang).values() if robust else ())]


def _add_to_card(run: Run, found: Iterable[Evaluated]) -> None:
    """Add stored scores to the run card; a run that can only be read is scored all the same."""
    named = {
        one.stored.relative_to(run.evaluation).as_posix().removesuffix(".json"): one
        for one in found
        if one.stored is not None
    }
    records = {name: Results(run).record(name) for name in named}
    scores = {name: Scores.of_record(record).as_dict() for name, record in records.items() if record is not None}
    searches = {name: one.took for name, one in named.items()}
    try:
        card.add_scores(run, scores, searches)
    except OSError as error:
        log.warning("the run card cannot be written: %s", error)
