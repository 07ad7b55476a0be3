"""The start of a training from trained weights: its tokenizer, its weights, and which of them are trained."""

from __future__ import annotations

import fnmatch
import json
import logging
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from nmt.advice import nearest
from nmt.config.experiment import Config
from nmt.config.init import InitConfig
from nmt.config.pretrained import FILES, WEIGHTS, Pretrained, find, hub_folder
from nmt.data.casing import Casing
from nmt.data.corpus import Corpus
from nmt.data.extension import Learner, Piece, extend, symbol_pieces
from nmt.data.sentencepiece_model import parse_model
from nmt.data.source_tokenizer import FILE as SOURCE
from nmt.data.tokenizer import VOCABULARY, Tokenizer, symbols_of_targets
from nmt.data.tokenizer_training import Symbols, sampled_blocks
from nmt.errors import CheckpointError, ConfigError, RunError, TokenizerError
from nmt.models.build import build_model
from nmt.pretrained.vocabulary import write_tokenizer
from nmt.pretrained.weights import Weights, read
from nmt.run.checkpoint import load_weights, weights_of, write_tensors
from nmt.run.directory import Run
from nmt.runtime.progress import waiting
from nmt.storage.atomic import build_once, new_directory, seal, sha256, verified, write_json

log = logging.getLogger(__name__)

FORMAT = 1
ACCOUNT = "init.json"
EXTENSION = "extension.json"  # in the folder of a tokenizer: sizes before, and the old pieces of each new one
GROUPS = {
    "embeddings": ("src_embedding.*", "tgt_embedding.*"),
    "encoder": ("encoder.*", "encoder_norm.*", "src_positions.*"),
    "positions": ("src_positions.*", "tgt_positions.*"),
    "norms": ("*norm*",),
    "output": ("output.*",),
}


def source_of(init: InitConfig, runs: str) -> Pretrained:
    """The model to start from, with its weights; of the hub, all its files are fetched.

    Raises:
        ConfigError: it does not exist.
    """
    found = find(init.source, runs)
    if found.name.startswith("hf:"):
        folder = hub_folder(found.name, FILES + WEIGHTS[:1])
        if not (folder / WEIGHTS[0]).is_file():
            folder = hub_folder(found.name, FILES + WEIGHTS[1:])
        found = Pretrained(found.kind, folder, found.name)
    if init.checkpoint is not None and found.kind != "run":
        raise ConfigError(f"init.checkpoint: {init.checkpoint}: only a run has checkpoints, and {found.name} is none")
    return found


# ------------------------------------------------------------------------------------------------------------ tokenizer


def make_tokenizer(config: Config, corpus: Corpus, path: Path, casing: Casing | None = None) -> Tokenizer:
    """Write the tokenizer that ``config.init`` brings, with its new pieces, to the folder ``path``, all or none.

    Args:
        casing: puts some of the lines into another case that new pieces are learned from.

    Raises:
        ConfigError, TokenizerError: the model does not exist, or its tokenizer is damaged.
    """
    assert config.init is not None
    source = source_of(config.init, config.runs)
    with build_once(path) as folder:
        _copy_tokenizer(source, folder)
        if config.init.extend_vocabulary:
            _extend(folder, corpus, config, casing)
        sums = {file.name: sha256(file) for file in sorted(folder.iterdir())}
        write_json(folder / "manifest.json", {"files": sums})
    return Tokenizer.load(path)


def _copy_tokenizer(source: Pretrained, folder: Path) -> None:
    if source.kind != "run":
        write_tokenizer(source, folder)
        return
    there = Run(source.path).tokenizer
    if not there.is_dir():
        raise TokenizerError(f"init.from: {there}: no such folder; the run has lost its tokenizer, and needs a backup")
    Tokenizer.load(there)  # explains what is wrong with it
    for file in there.iterdir():
        if file.suffix == ".model" or file.name in (VOCABULARY, SOURCE):
            shutil.copyfile(file, folder / file.name)


def source_fingerprint(source: Pretrained) -> str:
    """The names and SHA-256 of the files that the tokenizer is made from."""
    folder = source.path if source.path.is_dir() else source.path.parent
    folder = folder / "tokenizer" if source.kind == "run" else folder
    files = [f for f in sorted(folder.glob("*")) if f.suffix in (".model", ".spm", ".yml") or f.name in FILES]
    files += [file for file in (folder / VOCABULARY, folder / SOURCE) if source.kind == "run" and file.is_file()]
    return " ".join(f"{file.name} {sha256(file)}" for file in files)


def _extend(folder: Path, corpus: Corpus, config: Config, casing: Casing | None) -> None:
    """Append the tags and symbols that the models in ``folder`` lack, and pieces learned from the training text.

    Two models of one vocabulary get the same pieces, two vocabularies ``extend_vocabulary`` pieces each.

    Raises:
        ConfigError: there are more tags and symbols than new pieces.
        TokenizerError: a tag or symbol is a piece of text already.
    """
    # Read
    assert config.init is not None
    tokenizer, shared = Tokenizer.load(folder), config.tokenizer.joint
    names = ["joint"] if tokenizer.joint else ["src", "tgt"]
    models = [parse_model(folder / f"{name}.model") for name in names]
    sizes = [tokenizer.src_vocab_size, tokenizer.tgt_vocab_size][: len(names)]
    # Add tags and symbols
    symbols = tokenizer.lacking(Symbols(tuple(config.data.tags), tuple(config.data.symbols)))
    _check_number(symbols, config.init.extend_vocabulary)
    sides = [symbols if shared or name == "src" else symbols_of_targets(symbols) for name in names]
    added = [
        extend(model, size, symbol_pieces(model, size, side), 1)
        for model, size, side in zip(models, sizes, sides, strict=True)
    ]
    # Learn
    ends = [size + len(parts) for size, parts in zip(sizes, added, strict=True)]
    learners = [Learner(models, ends)] if shared else [Learner([m], [n]) for m, n in zip(models, ends, strict=True)]
    counts = [config.init.extend_vocabulary - len(parts) for parts in added]

    def learn() -> list[list[Piece]]:
        limit = config.tokenizer.train_sentences
        for column, texts in sampled_blocks(corpus.part("train"), (0, 1), limit, casing=casing):
            learner, side = (learners[0], column) if shared else (learners[column], 0)
            learner.read(side % len(learner.models), texts)
        return [learner.learn(count) for learner, count in zip(learners, counts, strict=False)]

    found = waiting("learning new pieces of the vocabulary", learn)
    # Write
    account: dict[str, Any] = {}
    for number, (name, model, size, end) in enumerate(zip(names, models, sizes, ends, strict=True)):
        learner = 0 if shared else number
        parts = added[number] + extend(model, end, found[learner], learners[learner].total)
        account[name] = {"size": size, "parts": parts}
        (folder / f"{name}.model").write_bytes(model.SerializeToString(deterministic=True))
        if (folder / VOCABULARY).is_file():
            listed = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))["sizes"]
            text = json.dumps({"sizes": {**listed, name: size + len(parts)}})
            (folder / VOCABULARY).write_text(text + "\n", encoding="utf-8")
    (folder / EXTENSION).write_text(json.dumps(account) + "\n", encoding="utf-8")


def _check_number(symbols: Symbols, most: int) -> None:
    """
    Raises:
        ConfigError: there are more symbols than new pieces.
    """
    names = [*symbols.tags, *symbols.words]
    if len(names) > most:
        raise ConfigError(
            f"init.extend_vocabulary: {most} new pieces, but the vocabulary lacks {len(names)} tags and symbols "
            f"({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}); raise it to {len(names)} or more"
        )


def _extension(tokenizer: Tokenizer, side: str) -> tuple[int, list[list[int]]] | None:
    """The size of a side's vocabulary before, and the old ids of each new piece; None without new pieces."""
    path = tokenizer.path / EXTENSION
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["joint" if tokenizer.joint else side]
        return int(found["size"]), [[int(i) for i in part] for part in found["parts"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TokenizerError(f"{path}: cannot be read, or damaged: {error}") from None


# -------------------------------------------------------------------------------------------------------------- weights


def write(config: Config, run: Run, tokenizer: Tokenizer) -> None:
    """Write the weights that a training starts from into the run: ``init/``.

    A run that was started before keeps what it started from.

    Raises:
        ConfigError, CheckpointError, RunError: the model does not exist, is damaged, or does not fit.
    """
    assert config.init is not None
    if run.started:
        return
    source = source_of(config.init, config.runs)
    _tell_languages(source, config)
    weights, files = read(source, config.model, config.init.checkpoint)
    for name in weights:
        if name.partition(".")[0] in ("src_embedding", "tgt_embedding", "output"):
            weights[name] = _extended(weights[name], _extension(tokenizer, "src" if name.startswith("src") else "tgt"))
    with new_directory(run.init) as folder:
        write_tensors(weights, folder / "model.safetensors")
        about = {"format": FORMAT, "from": source.name, "kind": source.kind, "path": str(source.path), "weights": files}
        seal(folder, ACCOUNT, about)


def _tell_languages(source: Pretrained, config: Config) -> None:
    """Warn where the run ``source`` has other languages, which may be meant: a related language helps a small one."""
    if source.kind != "run":
        return
    there, here = Run(source.path).load_config().data, config.data
    if (there.src_lang, there.tgt_lang) != (here.src_lang, here.tgt_lang):
        log.warning(
            f"warning: init.from: {source.name} translates {there.src_lang} to {there.tgt_lang}, and this training "
            f"{here.src_lang} to {here.tgt_lang}"
        )


def _extended(table: Tensor, extension: tuple[int, list[list[int]]] | None) -> Tensor:
    """``table`` with a row for each new piece: the mean of the rows of its old pieces."""
    if extension is None or not extension[1]:
        return table
    size, parts = extension
    if len(table) != size:
        raise CheckpointError(f"init.from: a table of {len(table)} rows does not fit a vocabulary of {size} pieces")
    return torch.cat([table, torch.stack([table[ids].mean(0) for ids in parts])])


def read_account(run: Run) -> dict[str, Any]:
    """Where the weights came from that a run started with: name, kind, path, and SHA-256.

    Raises:
        CheckpointError: the folder is missing or damaged.
    """
    return verified(run.init, ACCOUNT, FORMAT, ["model.safetensors"])


def apply(model: nn.Module, config: Config, run: Run) -> None:
    """Give ``model`` the weights of ``init/``, but for those that are reset, and stop the training of frozen ones.

    A run that was started before has its weights in checkpoints; only ``train.terms.l2_start`` needs the first ones.

    Raises:
        CheckpointError, RunError: the weights are missing, damaged, or do not fit the model.
    """
    init = config.init
    assert init is not None
    names = [name for name, _ in model.named_parameters()]
    if not run.started or config.train.terms.l2_start is not None:
        if run.started and not run.init.is_dir():
            raise RunError(f"{run.init}: is missing; train.terms.l2_start needs it: restore it from a backup")
        read_account(run)
        weights: Weights = load_file(run.init / "model.safetensors")
        mine = weights_of(model)
        for name in matching("reset", init.reset, names, config):
            weights[name] = mine[name]
        load_weights(model, weights, run.init)
    frozen = set(matching("freeze", init.freeze, names, config))
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)


def check(config: Config) -> None:
    """Check the names of parameters in the section ``init``, before anything is prepared.

    Raises:
        ConfigError: a name matches nothing, or nothing is left to train.
    """
    if config.init is None:
        return
    with torch.device("meta"):
        model = build_model(config.model, 8, 8, 0)
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    matching("reset", config.init.reset, names, config)
    if len(matching("freeze", config.init.freeze, names, config)) == len(names):
        raise ConfigError("init.freeze: freezes all parameters: nothing is left to train; remove a name")


def summary(model: nn.Module, run: Run) -> str:
    """One line for users: where the weights came from, and how many of them are trained."""
    if not run.init.is_dir():
        return f"weights of the start are not recorded: {run.init} is missing"
    about = read_account(run)
    name, checksum = next(iter(about["weights"].items()))
    frozen = [p for p in model.parameters() if not p.requires_grad]
    total = sum(1 for _ in model.parameters())
    kept = f"; frozen: {len(frozen)} of {total} tensors, {sum(p.numel() for p in frozen):,} numbers" if frozen else ""
    return f"weights {about['from']} ({about['kind']}, {name}, SHA-256 {checksum[:12]}){kept}"


# ---------------------------------------------------------------------------------------------------------------- names


def matching(key: str, patterns: Sequence[str], names: Sequence[str], config: Config) -> list[str]:
    """The names of parameters that ``init.freeze`` or ``init.reset`` means.

    Raises:
        ConfigError: a pattern matches no parameter.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        if pattern == "output" and not any(n.startswith("output.") and "weight" in n for n in names):
            raise ConfigError(
                f"init.{key}: output: its matrix is that of the embeddings (model.tie_embeddings: "
                f"{config.model.tie_embeddings}); name embeddings, or output.bias"
            )
        matched = _group(pattern, names)
        if not matched:
            known = [*GROUPS, "decoder", *names]
            near = nearest(pattern, known, cutoff=0.4)
            groups = ", ".join(name for name in [*GROUPS, "decoder"] if _group(name, names))
            hint = f"did you mean {near}? " if near and _group(near, names) else ""
            raise ConfigError(f"init.{key}: {pattern}: this model has no such parameters; {hint}Groups: {groups}")
        found |= dict.fromkeys(matched)
    return list(found)


def _group(name: str, names: Iterable[str]) -> list[str]:
    """The parameters of a group, or those that match a pattern of names."""
    if name == "decoder":  # what is none of the others
        others = [*GROUPS["embeddings"], *GROUPS["encoder"], *GROUPS["output"]]
        return [each for each in names if not any(fnmatch.fnmatchcase(each, one) for one in others)]
    patterns = GROUPS.get(name, (name, f"{name}.*"))
    return [each for each in names if any(fnmatch.fnmatchcase(each, one) for one in patterns)]
