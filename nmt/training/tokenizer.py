"""The tokenizer of a training: from the store, from a run, from the model that a training starts from, or new."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from nmt.config.compare import digest
from nmt.config.experiment import Config
from nmt.config.init import InitConfig
from nmt.config.pretrained import find_run
from nmt.data.casing import Casing
from nmt.data.corpus import Corpus
from nmt.data.file_hashes import verify_entry
from nmt.data.provenance import key_settings
from nmt.data.tokenizer import Tokenizer
from nmt.data.tokenizer_training import Symbols
from nmt.errors import ConfigError, TokenizerError
from nmt.pretrained import encoder, start
from nmt.run.directory import Run
from nmt.text.case import has_dotless_i

log = logging.getLogger(__name__)


def choose_tokenizer(config: Config, corpus: Corpus, run: Run | None) -> Tokenizer:
    """The tokenizer of the store, else that of a run that was started, else a new one.

    Raises:
        ConfigError: the model or run that brings the tokenizer does not exist, or lacks a tag or a symbol of the data.
        TokenizerError: the tokenizer cannot be trained, or is damaged.
    """
    store = Path(config.data.store)
    # Sampling changes how text is read while training, not the model that is trained on the text.
    if config.tokenizer_key:
        return _brought_tokenizer(config, corpus, run)
    shape = config.tokenizer.model_copy(update={"sampling": None})
    symbols = _symbols(config)
    casing = Casing.of(config.data, corpus)
    more: list[Any] = [list(symbols)] if any(symbols) else []
    more += [casing.settings] if casing is not None else []
    languages = [config.data.src_lang, config.data.tgt_lang]
    if config.tokenizer.case == "inline" and any(map(has_dotless_i, languages)):
        more.append(["dotless i", *languages])
    source = None
    if (section := encoder.section_of(config)) is not None and not (run and run.started):
        source = encoder.source_tokenizer(section)
        more.append(source)
    path = store / f"tokenizer-{digest(corpus.key, key_settings(shape, 'tokenizer'), *more)}"
    if path.is_dir():
        verify_entry(path, store)
    elif run and run.started and run.tokenizer.is_dir():
        path = run.tokenizer  # another version of SentencePiece might train another one
    else:
        log.info("training the tokenizer (cached in %s)", path)
    if path.is_dir():
        return Tokenizer.load(path)
    return Tokenizer.train(config.tokenizer, corpus, path, symbols, source, casing)


def _brought_tokenizer(config: Config, corpus: Corpus, run: Run | None) -> Tokenizer:
    """The tokenizer of a run that was started, else the one that ``config.tokenizer_key`` names.

    Raises:
        ConfigError: the model or run does not exist, or the vocabulary lacks a tag or a symbol of the data.
        TokenizerError: the run has no tokenizer, or a damaged one.
    """
    if run and run.started and run.tokenizer.is_dir():
        found = Tokenizer.load(run.tokenizer)
    elif config.init is not None:
        found = _start_tokenizer(config, config.init, corpus)
    else:
        assert config.tokenizer.run is not None
        path = Run(find_run(config.tokenizer.run, config.runs)).tokenizer
        if not path.is_dir():
            raise TokenizerError(f"tokenizer.run: {path}: no such folder; start the training of that run first")
        found = Tokenizer.load(path)
    tags, words = found.lacking(_symbols(config))
    if tags or words:
        add = "add it with init.extend_vocabulary, " if config.init is not None else ""
        raise ConfigError(
            f"data.train: the vocabulary of {config.tokenizer_key} lacks {', '.join([*tags, *words])}; {add}remove the "
            "tag or modifier, or name one that was trained with it"
        )
    return found


def _symbols(config: Config) -> Symbols:
    return Symbols(tuple(config.data.tags), tuple(config.data.symbols))


def _start_tokenizer(config: Config, init: InitConfig, corpus: Corpus) -> Tokenizer:
    """The tokenizer of ``config.init``, from the store or new."""
    store, more = Path(config.data.store), init.extend_vocabulary
    casing = Casing.of(config.data, corpus) if more else None
    shape: list[Any] = [start.source_fingerprint(start.source_of(init, config.runs))]
    shape += [more, corpus.key, config.tokenizer.train_sentences] if more else []
    shape += [casing.settings] if casing is not None else []
    shape += [list(_symbols(config))] if more and any(_symbols(config)) else []
    path = store / f"tokenizer-{digest('init', shape)}"
    if not path.is_dir():
        return start.make_tokenizer(config, corpus, path, casing)
    verify_entry(path, store)
    return Tokenizer.load(path)
