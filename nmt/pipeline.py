"""From a configuration to BLEU: the only place that knows every part.

    config ─► corpus ─► tokenizer ─► id pairs ─► batches ─► model ─► trainer ─► checkpoint ─► search ─► BLEU

:func:`prepare` goes as far as the id pairs, :func:`train` to the final checkpoint, :func:`evaluate` to BLEU.
"""

from __future__ import annotations

import logging
import math
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from nmt.config import Config, EvaluationConfig, SearchConfig, digest, fixed_settings, flatten
from nmt.data.batching import Reader, TrainingOrder, plan_batches
from nmt.data.corpus import Corpus, prepare_corpus, sets_of_run
from nmt.data.dataset import EncodedCorpus, encode_corpus
from nmt.data.provenance import key_settings, verify_entry
from nmt.data.tokenizer import Tokenizer
from nmt.errors import CheckpointError, DataError, RunError
from nmt.evaluation.fidelity import RoundTrip, unknown_summary
from nmt.evaluation.results import Basis, Results
from nmt.evaluation.scores import Scores, resolve, score
from nmt.models.build import build_model, count_parameters
from nmt.models.seq2seq import Seq2Seq
from nmt.run import checkpoint as checkpoints
from nmt.run.directory import Run
from nmt.runtime.device import (
    Place,
    resolve_device,
    resolve_precision,
    seed_everything,
    set_deterministic,
    set_threads,
    use_device,
)
from nmt.runtime.environment import precision_name
from nmt.runtime.memory import keep_freed_memory
from nmt.runtime.ranks import ALONE, World
from nmt.runtime.signals import Interrupted, Paused, number_of
from nmt.search.limits import LengthLimits, ResolvedSearch, default_batch_tokens, resolve_search
from nmt.storage.atomic import new_directory, same_files, write_json
from nmt.training import plan
from nmt.training.batching import choose_batching
from nmt.training.figures import MAX_POSITIONS
from nmt.training.final import describe
from nmt.training.loss import projected_cross_entropy
from nmt.training.reporting import record_final_metrics
from nmt.training.selection import TITLES, Quality, Ranking, varied
from nmt.training.trainer import Trainer
from nmt.training.validation import Validation
from nmt.translation.pytorch import TorchEngine
from nmt.translation.translator import Notice, Notices, Translation, Translator

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Prepared:
    """Everything a training reads."""

    corpus: Corpus
    tokenizer: Tokenizer
    encoded: EncodedCorpus
    round_trip: RoundTrip
    evaluation: EvaluationConfig  # with the choices made that depend on the target language


# -------------------------------------------------------------------------------------------------------------- prepare


def prepare(config: Config, run: Run | None = None) -> Prepared:
    """Corpus, tokenizer and encoded pairs; whatever an earlier call with the same configuration made is reused.

    Args:
        run: one that may have been started. Then the corpus is the one it was started with, see :func:`prepare_corpus`.
    """
    resolve(config.evaluation, config.data.tgt_lang, [], lambda _: None)  # a missing package is told at once
    corpus = prepare_corpus(config.data, _recorded(run) if run else None)
    log.info("%s", corpus.summary())
    store = Path(config.data.store)
    # Sampling changes how text is read while training, not the model that is trained on the text.
    shape = config.tokenizer.model_copy(update={"sampling": None})
    path = store / f"tokenizer-{digest(corpus.key, key_settings(shape, 'tokenizer'))}"
    if path.is_dir():
        verify_entry(path, store)
    elif run and run.started and run.tokenizer.is_dir():
        path = run.tokenizer  # another version of SentencePiece might train another one
    else:
        log.info("training the tokenizer, once for this text and these settings, in %s", path)
    tokenizer = Tokenizer.load(path) if path.is_dir() else Tokenizer.train(config.tokenizer, corpus, path)
    log.info("%s", tokenizer.summary())
    encoded = encode_corpus(corpus, tokenizer, config.data.cleaning.max_tokens, store)
    log.info("%s", encoded.summary())
    if unknown := unknown_summary(encoded.unknown, config.tokenizer):
        log.info("%s", unknown)
    evaluation = resolve(config.evaluation, config.data.tgt_lang, corpus.part("valid").targets(), log.warning)
    round_trip = RoundTrip.of(corpus.part("valid"), tokenizer, evaluation)
    log.info("%s", round_trip.summary(config.tokenizer))
    return Prepared(corpus, tokenizer, encoded, round_trip, evaluation)


def _recorded(run: Run) -> dict[str, Any] | None:
    """The account of the data that a run was started with; None where it was not started, or lost its account.

    Raises:
        RunError: the account is damaged.
    """
    if not (run.started and run.manifest_path.is_file()):
        return None
    manifest = run.load_manifest()
    if not (isinstance(manifest, dict) and all(isinstance(manifest.get(k), dict) for k in ("inputs", "sizes"))):
        raise RunError(f"{run.manifest_path}: is damaged; restore it, or move it away: the store then knows the data")
    return manifest


def _adopt(prepared: Prepared, config: Config, run: Run, about: dict[str, Any]) -> None:
    """Copy what the run needs to be used without the store: configuration, tokenizer, and the account of the data.

    Settings of a run that has a final model are adopted once there is a model of these settings.
    """
    run.check_held()
    if not run.started:
        if not same_files(prepared.tokenizer.path, run.tokenizer):  # after a first start that failed, on a full disk
            with new_directory(run.tokenizer) as aside:
                for file in prepared.tokenizer.path.iterdir():
                    shutil.copyfile(file, aside / file.name)
        manifest = {
            **prepared.corpus.manifest,
            "tokenizer": prepared.tokenizer.fingerprint,
            "encoded": prepared.encoded.manifest,
            "limits": prepared.encoded.limits.model_dump(),
            "round_trip": asdict(prepared.round_trip),
            "environment": about,
        }
        write_json(run.manifest_path, manifest)
    if not run.has_model:
        run.save_config(config)


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
    further: list[str]  # overrides with which it would continue


def train(config: Config, world: World = ALONE) -> Trained:
    """Train, or go on with the unfinished run of this name, and evaluate on every test set.

    Every rank of ``world`` calls this with the same configuration. Rank 0 alone writes; the others read the store and
    the run's checkpoints, so that several machines need a file system in common.

    Raises:
        RunError: the run is in use, or was started with another configuration.
        Interrupted: a signal came; everything is saved.
        Elsewhere: what is raised is raised on another rank.
    """
    run = Run.of(config)
    device, dtype = world.each(lambda: _set_up(config))
    world.compare({"precision": dtype, "device": device.type, **flatten(config.model_dump(mode="json"))})
    with ExitStack() as held:
        world.first(lambda: held.enter_context(_opened(run, config)))
        given, config = config, world.first(lambda: run.settle(config))
        prepared = world.main_first(lambda: prepare(config, run))
        config = config.model_copy(update={"evaluation": world.first(lambda: prepared.evaluation)})
        trainer = build_trainer(config, run, prepared, device, dtype, world)
        resumed = trainer.resume(log.warning)
        if resumed and trainer.reason_to_stop() is None:
            world.first(lambda: _check_schedule(given, config, run, trainer))
        world.first(lambda: _adopt(prepared, config, run, trainer.environment))
        already = world.first(lambda: trainer.is_finished(log.warning))
        if not already:
            log.info("%s", _plan(config, prepared, trainer, resumed))
            for line in plan.expected(config.train, trainer.pace(), len(prepared.corpus.part("valid"))):
                log.info("%s", line)
            reason = trainer.fit()
            held.enter_context(_ended_when_trained(run, world))
            origin = trainer.finish(log.warning)
            world.first(lambda: run.save_config(config))
            for line in [*describe(origin), *plan.result(config.train, trainer.progress.step)]:
                log.info("%s", line)
            log.info(
                "training ended by %s after %d steps and %.1f minutes; model of step %s%s",
                reason, trainer.progress.step, trainer.progress.seconds / 60, ", ".join(map(str, origin["steps"])),
                " (averaged weights)" if origin["averaged"] else "",
            )  # fmt: skip
        scores = _evaluate_run(run, trainer.model, prepared, config, device, world)
        world.first(lambda: _conclude(run, config, scores, trainer))
        samples = world.first(lambda: _samples(run, _test_sets(prepared.corpus)[0]))
        further = plan.further(config.train, trainer.progress, trainer.pace())
        has_tests, reason_to_stop = bool(prepared.corpus.tests), trainer.reason_to_stop()
        return Trained(run, trainer.progress.step, already, has_tests, scores, samples, reason_to_stop, further)


def _check_schedule(given: Config, config: Config, run: Run, trainer: Trainer) -> None:
    """Tell, or refuse, what this start does to the learning rate of a run that is there."""
    before = run.settle(run.load_config()).train
    if (end := run.schedule_end()) is not None:
        before = plan.with_end(before, end)
    if line := plan.check_resumed(before, config.train, given.train.schedule.total_steps, trainer.pace()):
        log.warning("%s", line)


def _evaluate_run(
    run: Run, model: Seq2Seq[Any], prepared: Prepared, config: Config, device: torch.device, world: World
) -> dict[str, Scores]:
    """Scores of the final model on every test set: those stored of exactly this model and these settings, else new."""
    sets, results = _test_sets(prepared.corpus), Results(run)
    translator = _translator(model, prepared.tokenizer, config, config.search, device, prepared.encoded.limits, world)
    bases, stored = world.first(lambda: _stored(results, sets, run.model_checksum(), translator.search, config))
    if missing := [one for one in sets if stored[one.name] is None]:
        world.first(lambda: load_final(run, model, prepared.tokenizer))
        world.copy(model)
    for one in missing:
        found, hypotheses = _evaluate(translator, one, config, world)
        world.first(partial(results.store, one.name, bases[one.name], found, hypotheses))
        stored[one.name] = found
    return {name: found for name, found in stored.items() if found is not None}


def _stored(
    results: Results, sets: Sequence[TestSet], model: str, search: ResolvedSearch, config: Config
) -> tuple[dict[str, Basis], dict[str, Scores | None]]:
    """What scores of each test set must be of, and those stored that are."""
    bases = {one.name: one.basis(model, search, config) for one in sets}
    return bases, {name: results.find(name, basis) for name, basis in bases.items()}


def _conclude(run: Run, config: Config, scores: Mapping[str, Scores], trainer: Trainer) -> None:
    """What completes a run once it is scored; done again, it changes nothing."""
    finals = {f"final/{name}/{m}": getattr(s, m) for name, s in scores.items() for m in ("bleu", "chrf")}
    record_final_metrics(run, config, finals, trainer.progress.step, trainer.progress.files)
    run.save_config(config)


def _set_up(config: Config) -> tuple[torch.device, torch.dtype]:
    """What is set once per process; returns where and in which precision to train."""
    set_deterministic(config.train.deterministic)
    set_threads(config.train.threads)
    keep_freed_memory()
    device = resolve_device(config.train.device)
    use_device(device)
    return device, resolve_precision(config.train.precision, device)


@contextmanager
def _ended_when_trained(run: Run, world: World) -> Iterator[None]:
    """Inside, a signal ends a program that has all of its training saved."""
    try:
        yield
    except KeyboardInterrupt as error:
        number = number_of(error)
        reason = (
            f"stopped by {signal.Signals(number).name} after the training; {run.path} holds all of it, and the same "
            "command evaluates it"
        )
        raise world.common(Interrupted(reason, number)) from None


@contextmanager
def _opened(run: Run, config: Config) -> Iterator[None]:
    """The run, held for writing and found to be one of this configuration."""
    with run.lock():
        run.check(config)
        yield


def _samples(run: Run, one: TestSet, count: int = 3) -> list[tuple[str, str, str]]:
    """A few lines of an evaluated set, spread over it."""
    hypotheses = Results(run).hypotheses(one.name)
    lines = [(2 * i + 1) * len(hypotheses) // (2 * count) for i in range(count)]
    return [(one.sources[i], one.references[i], hypotheses[i]) for i in lines]


def build_trainer(
    config: Config, run: Run, prepared: Prepared, device: torch.device, dtype: torch.dtype, world: World = ALONE
) -> Trainer:
    tokenizer, dataset, cleaning = prepared.tokenizer, prepared.encoded.train, config.data.cleaning
    seed_everything(config.seed)
    model = _new_model(config, tokenizer).to(device)
    if not world.is_main:  # the same first weights everywhere, but each rank its own dropout
        seed_everything(int(np.random.SeedSequence([config.seed, world.rank]).generate_state(1)[0]))
    text = prepared.corpus.part("train")
    budget = config.train.batch_tokens
    packed, _ = world.each(lambda: choose_batching(config, device, dtype, run.batching()))
    reader = Reader(
        dataset, tokenizer, text, config.tokenizer.sampling, cleaning.max_tokens, config.seed, budget, packed
    )
    accumulate = world.size * config.train.accumulate
    order = TrainingOrder(dataset, budget, accumulate, config.seed, reader.room, reader.packing)
    validator = Validator(config, prepared, device, world)
    identity = _identity(config, tokenizer, prepared, packed)
    formerly = scoring_settings(run.load_config(), validator) if run.started else None
    return Trainer(config, run, model, reader, order, validator, identity, Place(device, dtype, world), formerly)


def scoring_settings(config: Config, validator: Validator) -> dict[str, Any]:
    """What the scores of a validation depend on, apart from the weights."""
    search = _valid_search(config).model_dump(mode="json", exclude={"batch_tokens"})
    return {
        **{f"search.{key}": value for key, value in search.items()},
        "evaluation.tokenize": config.evaluation.tokenize or "13a",
        "evaluation.lowercase": config.evaluation.lowercase,
        "validation set": validator.fingerprint,
    }


def _valid_search(config: Config) -> SearchConfig:
    if config.train.valid_beam_size is None:
        return config.search
    return config.search.model_copy(update={"beam_size": config.train.valid_beam_size})


def _identity(config: Config, tokenizer: Tokenizer, prepared: Prepared, packed: bool) -> dict[str, Any]:
    return {
        "configuration": fixed_settings(config),
        "tokenizer": tokenizer.fingerprint,
        "data": prepared.corpus.key,
        "schedule_end": config.train.schedule.total_steps,
        "batching": "packed" if packed else "padded",
    }


def _new_model(config: Config, tokenizer: Tokenizer) -> Seq2Seq[Any]:
    return build_model(config.model, tokenizer.src_vocab_size, tokenizer.tgt_vocab_size, tokenizer.pad_id)


def _plan(config: Config, prepared: Prepared, trainer: Trainer, resumed: bool) -> str:
    """What is about to happen, for people."""
    parameters, embeddings = count_parameters(trainer.model)
    data, counts, progress = prepared.encoded.train, prepared.encoded.manifest["train"], trainer.progress
    order, world = trainer.order, trainer.ranks
    steps, done = len(order.updates(progress.epoch)), math.ceil(progress.position / order.accumulate)
    limits = [
        f"{getattr(config.train, key):g} {key.removeprefix('max_')}"
        for key in ("max_steps", "max_epochs", "max_minutes")
        if getattr(config.train, key)
    ]
    if config.train.patience:
        limits.append(f"{config.train.patience} validations without a better {TITLES[config.train.score]}")
    threads = f" with {torch.get_num_threads()} threads" if trainer.place.device.type == "cpu" else ""
    others = f", in each of {world.size} processes" if world.size > 1 else ""
    place = trainer.place
    device = f"{place.device}{threads}, {precision_name(place.dtype)}{others}"
    _, batching = choose_batching(config, place.device, place.dtype, trainer.run.batching())
    start = (
        f"resuming at step {progress.step} (epoch {progress.epoch}, update {done} of {steps}, "
        f"{progress.seconds / 60:.1f} minutes trained)"
        if resumed
        else "starting anew"
    )
    return "\n".join([
        f"model       {config.model.type}, {parameters:,} parameters, {embeddings:,} of them embeddings",
        f"training    {len(data):,} sentence pairs, {counts['src_tokens']:,} source and "
        f"{counts['tgt_tokens']:,} target subwords",
        f"an epoch    {steps:,} steps of at most {order.budget * order.accumulate:,} tokens a side",
        f"until       {', or '.join(limits)}",
        f"batches     {batching}",
        f"device      {device}; {_reproducible(trainer.environment)}",
        f"run         {trainer.run.path}: {start}",
    ])  # fmt: skip


def _reproducible(about: Mapping[str, Any]) -> str:
    """State whether the seed reproduces the bits of a run, of the environment of this start and of earlier ones."""
    if not about["deterministic"]:
        return "not the same bits each time; train.deterministic: true makes it so"
    return {
        "same": "same bits from the same seed",
        "other": "the environment has changed since the first start; the seed alone does not give the same bits",
        "unknown": "same bits from the same seed if its earlier starts had these versions and threads",
    }[about.get("earlier", "same")]


class Validator:
    """Loss by teacher forcing, BLEU and chrF by the same search and scoring as the final evaluation.

    The ranks share the work out; all of them have the result.
    """

    def __init__(self, config: Config, prepared: Prepared, device: torch.device, world: World = ALONE):
        self.config, self.tokenizer, self.device, self.world = config, prepared.tokenizer, device, world
        data, text = prepared.encoded.valid, prepared.corpus.part("valid")
        reader = Reader(data, prepared.tokenizer)
        self.limits = prepared.encoded.limits
        self.lengths = src_lengths, tgt_lengths = data.lengths()
        self.plan = plan_batches(src_lengths, tgt_lengths, config.train.batch_tokens, None)
        self.read = reader.read
        self.sources, self.references = text.sources(), text.targets()
        self.search = _valid_search(config)
        self.fingerprint = digest(self.sources, self.references)
        self.settings = scoring_settings(config, self)
        # Spread over the set, and never the blank line: the same few at each validation.
        count = min(config.train.samples, len(self.sources))
        self.shown = [i * len(self.sources) // count for i in range(count)] if count else []

    def __call__(self, model: Seq2Seq[Any]) -> Validation:
        """
        Raises:
            Paused: on all ranks, a postponed signal asks one of them to stop.
        """
        translator = _translator(model, self.tokenizer, self.config, self.search, self.device, self.limits, self.world)
        batches = _paused_together(lambda: self._losses(model), self.world)
        found = _paused_together(lambda: _translate_block(translator, self.sources, self.world), self.world)
        return self.world.first(lambda: self._judge(translator, batches, found))

    def _losses(self, model: Seq2Seq[Any]) -> list[tuple[float, int, int]]:
        """Of each of this rank's batches log likelihood, right words and words."""
        batches: list[tuple[float, int, int]] = []
        with torch.inference_mode():
            for rows in self.plan[self.world.block(len(self.plan))]:
                self.world.pulse()
                batch = self.read(rows).to(self.device)
                hidden, targets = batch.at_targets(model(*batch.inputs)), batch.targets  # [M, D], [M]
                loss = projected_cross_entropy(hidden, model.output, targets, 0.0, count_correct=True)
                batches.append((float(loss.nll), int(loss.correct), len(targets)))
        return batches

    def _judge(
        self, translator: Translator[TorchEngine], batches: list[tuple[float, int, int]], found: list[Translation]
    ) -> Validation:
        """Metrics of what all ranks found: of each batch log likelihood, right words and words; and translations."""
        nll, correct, tokens = 0.0, 0, 0
        for batch in batches:
            nll, correct, tokens = nll + batch[0], correct + batch[1], tokens + batch[2]
        scores = score([t.text for t in found], self.references, self.config.evaluation, ["bleu", "chrf"])
        loss = nll / tokens
        metrics = {
            "valid/loss": loss, "valid/ppl": math.exp(min(loss, 100)), "valid/accuracy": correct / tokens,
            "valid/bleu": scores.bleu, "valid/chrf": scores.chrf,
        }  # fmt: skip
        samples = [(self.sources[i], self.references[i], found[i].text) for i in self.shown]
        maps = []
        for n, i in enumerate(self.shown):
            try:
                drawn = attention_map(translator, self.sources[i], found[i])
            except Exception as error:  # a picture is no reason to end a training
                log.warning("attention map %d was not made: %s: %s", n, type(error).__name__, error)
                continue
            if drawn is not None:
                maps.append((str(n), *drawn))
        hypotheses = [t.text for t in found]
        cut = sum(t.at_limit for t in found)
        different, ended = varied(hypotheses, self.references), 2 * cut <= len(found)
        quality = Quality(loss, scores.bleu, scores.chrf, scores.matches, different, ended)
        distinct = (len(set(hypotheses)), len(hypotheses))
        return Validation(metrics, quality, distinct, samples, maps, self._at_limit(translator, cut))

    def _at_limit(self, translator: Translator[TorchEngine], reached: int) -> list[str]:
        """A line on hypotheses that may have been cut, where there are any, or must be, where references are longer."""
        search = translator.search
        limits = [translator.max_length(min(length, search.max_source_tokens)) for length in self.lengths[0].tolist()]
        longer = int((self.lengths[1] > limits).sum())
        if not reached and not longer:
            return []
        return [
            f"{reached:,} of {len(self.sources):,} validation hypotheses are as long as the search allows "
            f"({search.max_length_ratio:g} times the source and {search.max_length_offset} subwords: "
            f"search.max_length_ratio, max_length_offset), {longer:,} of the references are longer"
        ]


def attention_map(
    translator: Translator[TorchEngine], source: str, translation: Translation
) -> tuple[Tensor, list[str], list[str]] | None:
    """Weights averaged over layers and heads, with the subwords of both sides; None without attention.

    Returns:
        Weights [T', S] of the first target subwords, as many as a figure shows, and all S and T subwords.
    """
    model, tokenizer, device = translator.engine.model, translator.tokenizer, translator.engine.device
    src = translator.encode([source])[0]
    if not src or not translation.tokens:
        return None
    ids = torch.tensor([[*src, tokenizer.eos_id]], device=device)
    tgt_in = torch.tensor([[tokenizer.bos_id, *translation.tokens][:MAX_POSITIONS]], device=device)
    with torch.inference_mode():
        maps = model.attention_maps(ids, torch.ones_like(ids, dtype=torch.bool), tgt_in)
    if maps is None:
        return None
    weights = maps.float().mean(dim=(0, 2))[0].cpu()  # [T', S]
    return weights, [*tokenizer.src_pieces(src), "</s>"], [*tokenizer.tgt_pieces(translation.tokens), "</s>"]


# -------------------------------------------------------------------------------------------------- translate, evaluate


def _translator(
    model: Seq2Seq[Any],
    tokenizer: Tokenizer,
    config: Config,
    search: SearchConfig,
    device: torch.device,
    limits: LengthLimits | None,
    world: World = ALONE,
    keep: bool = False,
) -> Translator[TorchEngine]:
    """On CUDA, products are in the precision of the training; elsewhere in that of the weights."""
    on_cuda = device.type == "cuda"
    memory = torch.cuda.get_device_properties(device).total_memory if on_cuda else None
    budget = default_batch_tokens(device.type, memory)
    search = resolve_search(search, limits, config.data.cleaning.max_tokens, budget)
    dtype = resolve_precision(config.train.precision, device) if on_cuda else torch.float32
    engine = TorchEngine(model, tokenizer, search, device, None if dtype == torch.float32 else dtype, world.pulse, keep)
    longest = limits.longest_source if limits is not None else None
    return Translator(engine, tokenizer, search, config.model.max_target_tokens, longest)


def _translate(
    translator: Translator[Any], lines: Sequence[str], world: World, warn: Callable[[Notice], None] | None = None
) -> list[Translation]:
    """The best translation of each line; the ranks share the lines out, and all of them have all translations."""
    notices = list[Notice]()
    found = world.each(lambda: _translate_block(translator, lines, world, notices.append))
    for notice in world.collect(notices):
        if warn is not None:
            warn(notice)
    return world.collect(found)


def _translate_block(
    translator: Translator[Any], lines: Sequence[str], world: World, warn: Callable[[Notice], None] | None = None
) -> list[Translation]:
    """The best translation of each of this rank's lines."""
    block = world.block(len(lines))
    return [best[0] for best in translator.translate(lines[block], warn=warn, first_line=block.start + 1)]


def _paused_together(work: Callable[[], list[T]], world: World) -> list[T]:
    """What all ranks made, one after another, of work that a signal to any of them pauses on all.

    Raises:
        Paused: a signal did.
    """

    def unless_paused() -> list[T] | None:
        try:
            return work()
        except Paused:
            return None

    made = world.gather(world.each(unless_paused))
    if any(part is None for part in made):
        raise Paused
    return [item for part in made for item in part or []]


def load_final(run: Run, model: Seq2Seq[Any], tokenizer: Tokenizer) -> str:
    """Load the final weights of a run, or the best so far where there are none yet; return their SHA-256.

    Raises:
        CheckpointError: they are damaged, or of another model or tokenizer.
        RunError: there are none yet.
    """
    if run.has_model:
        weights, info = checkpoints.read_model(run.model)
        identity, where, checksum = info["identity"], run.model, info["sha256"]["model.safetensors"]
        if unfinished := run.unfinished():
            log.warning("%s", unfinished)
    else:
        c = run.load_config().train
        best = checkpoints.ranked(run.checkpoints, log.warning, Ranking(c.score, c.selection == "validated").of_state)
        if not best:
            raise RunError(f"{run.path}: holds no validated checkpoint yet; train it first (nmt train)")
        log.warning("%s is not finished: using the best checkpoint so far, %s", run.path, best[0].path.name)
        weights, identity, where = best[0].weights, best[0].state["identity"], best[0].path
        checksum = best[0].weights_sha256
    if identity["tokenizer"] != tokenizer.fingerprint:
        raise CheckpointError(f"{where}: was trained with another tokenizer than the one in {tokenizer.path}")
    checkpoints.load_weights(model, weights, where)
    return str(checksum)


def load_translator(
    run: Run, overrides: Mapping[str, Any] | None = None, device: str | None = None
) -> Translator[TorchEngine]:
    """A translator from a run directory, with ``overrides`` of its search settings (such as ``beam_size``)."""
    return _load_translator(run, overrides, device)[0]


def _load_translator(
    run: Run, overrides: Mapping[str, Any] | None = None, device: str | None = None
) -> tuple[Translator[TorchEngine], str]:
    """The translator, and the SHA-256 of its weights."""
    config = run.load_config()
    where = resolve_device(device or ("auto" if config.train.device == "auto" else config.train.device))
    set_threads(config.train.threads)
    use_device(where)
    keep_freed_memory()
    tokenizer = Tokenizer.load(run.tokenizer)
    model = _new_model(config, tokenizer)
    checksum = load_final(run, model, tokenizer)
    search = SearchConfig.model_validate({**config.search.model_dump(), **(overrides or {})})
    limits = run.length_limits()
    return _translator(model.to(where), tokenizer, config, search, where, limits, keep=True), checksum


@dataclass(frozen=True)
class TestSet:
    """Lines to translate and to score.

    Attributes:
        name: of its results: that of the test set, or ``valid``.
    """

    name: str
    sources: Sequence[str]
    references: Sequence[str]

    @classmethod
    def of(cls, corpus: Corpus, part: str) -> TestSet:
        text = corpus.part(part)
        return cls(part.removeprefix("test."), text.sources(), text.targets())

    def basis(self, model: str, search: ResolvedSearch, config: Config) -> Basis:
        """What scores of it are of, with the weights of that checksum."""
        return Basis.of(model, search, config.evaluation, self.sources, self.references)


def _test_sets(corpus: Corpus) -> list[TestSet]:
    """The test sets; the validation set where there are none."""
    return [TestSet.of(corpus, part) for part in [f"test.{name}" for name in corpus.tests] or ["valid"]]


@dataclass(frozen=True)
class Evaluated:
    """
    Attributes:
        stored: the JSON file that holds the scores; None where it could not be written, as a warning has said.
    """

    scores: Scores
    stored: Path | None


def evaluate(run: Run, only: str | None = None) -> dict[str, Evaluated]:
    """Score the run's test sets, or the one named, and store hypotheses, scores and signatures in the run."""
    config = run.load_config()
    tests = list(config.data.test)
    if only is not None and only not in [*tests, "valid"]:
        raise DataError(f"{only}: no such set in this run; there are: {', '.join(['valid', *tests])}")
    if not tests and only is None:
        raise DataError(f"{run.config_path}: data.test names no test set; use --set-name valid, or --src and --ref")
    recorded = _recorded(run)
    parts = [f"test.{name}" if name in tests else name for name in ([only] if only else tests)]
    corpus = sets_of_run(config.data, recorded, parts) if recorded else prepare_corpus(config.data)
    translator, model = _load_translator(run)
    results = Results(run)
    return {
        one.name: _evaluated(results.store, translator, one, model, config)
        for one in (TestSet.of(corpus, part) for part in parts)
    }


def evaluate_lines(run: Run, name: str, sources: Sequence[str], references: Sequence[str]) -> Evaluated:
    """Score lines of a file called ``name``; they are stored apart from those of the test sets."""
    translator, model = _load_translator(run)
    one = TestSet(name, sources, references)
    return _evaluated(Results(run).store_file, translator, one, model, run.load_config())


def _evaluated(
    store: Callable[[str, Basis, Scores, list[str]], Path],
    translator: Translator[TorchEngine],
    one: TestSet,
    model: str,
    config: Config,
) -> Evaluated:
    """Scores, stored where that is possible: a run that can only be read can be scored all the same."""
    scores, hypotheses = _evaluate(translator, one, config)
    try:
        return Evaluated(scores, store(one.name, one.basis(model, translator.search, config), scores, hypotheses))
    except OSError as error:
        where = error.filename or one.name
        log.warning(
            "the scores of %s are not stored: %s: %s; to keep them, redirect the output to a file (> FILE)",
            one.name, where, error.strerror or error,
        )  # fmt: skip
        return Evaluated(scores, None)


def _evaluate(
    translator: Translator[TorchEngine], one: TestSet, config: Config, world: World = ALONE
) -> tuple[Scores, list[str]]:
    """Scores and translations; all ranks have them."""
    notices = Notices(log.warning)
    hypotheses = [found.text for found in _translate(translator, one.sources, world, notices)]
    notices.close()
    return world.first(lambda: score(hypotheses, one.references, config.evaluation)), hypotheses
