"""The weights and the tokenizer of a pretrained encoder (``model.encoder.type: pretrained``)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from nmt.config.encoders import PretrainedEncoderConfig
from nmt.config.experiment import Config
from nmt.config.pretrained_encoder import CONFIG, KEY, TOKENIZER, WEIGHTS, folder_of
from nmt.data.source_tokenizer import import_tokenizers
from nmt.errors import ConfigError
from nmt.models.encoders.pretrained import PretrainedEncoder, import_transformers
from nmt.models.seq2seq import Seq2Seq


def section_of(config: Config) -> PretrainedEncoderConfig | None:
    """The section of the pretrained encoder; None without one."""
    encoder = config.model.encoder
    return encoder if isinstance(encoder, PretrainedEncoderConfig) else None


def check(config: Config) -> None:
    """Check, before anything is prepared, that the packages are installed.

    Raises:
        ConfigError: one is not.
    """
    if section_of(config) is not None:
        import_transformers()
        import_tokenizers()


def source_tokenizer(section: PretrainedEncoderConfig) -> dict[str, Any]:
    """The content of the file of :class:`nmt.data.source_tokenizer.SourceTokenizer`.

    Raises:
        ConfigError: the folder has no tokenizer, or one that cannot be used.
    """
    transformers, name = import_transformers(), section.weights
    folder = folder_of(name, (CONFIG, *TOKENIZER))
    if not any((folder / file).is_file() for file in TOKENIZER):
        raise ConfigError(f"{KEY}: {name}: has no tokenizer ({', '.join(TOKENIZER[:1] + TOKENIZER[4:6])}, ...)")
    try:
        found = transformers.AutoTokenizer.from_pretrained(str(folder), use_fast=True, local_files_only=True)
        stored = json.loads(found.backend_tokenizer.to_str())
        ids = found("a").input_ids
    except Exception as error:  # of transformers: many classes
        reason = " ".join(str(error).split())[:150]
        raise ConfigError(f"{KEY}: {name}: its tokenizer cannot be read: {reason}") from None
    plain = found("a", add_special_tokens=False).input_ids
    if len(ids) != len(plain) + 2 or ids[1:-1] != plain or None in (found.pad_token_id, found.unk_token_id):
        raise ConfigError(f"{KEY}: {name}: its tokenizer does not put one token before a sentence and one after it")
    if len(found) > section.architecture["vocab_size"]:
        size = section.architecture["vocab_size"]
        raise ConfigError(f"{KEY}: {name}: its tokenizer has {len(found):,} pieces, and its embeddings {size:,}")
    return {"special": [found.pad_token_id, found.unk_token_id, ids[0], ids[-1]], "tokenizer": stored}


def load(model: Seq2Seq[Any], section: PretrainedEncoderConfig, special: Sequence[int]) -> None:
    """Give the encoder and the source embedding of a model the pretrained weights.

    Args:
        special: see :class:`nmt.data.source_tokenizer.SourceTokenizer`.

    Raises:
        ConfigError: the weights are missing, or cannot be read.
    """
    transformers, name, encoder = import_transformers(), section.weights, model.encoder
    assert isinstance(encoder, PretrainedEncoder)
    folder = folder_of(name, (CONFIG, *WEIGHTS[:1]))
    if not (folder / WEIGHTS[0]).is_file():
        folder = folder_of(name, (CONFIG, *WEIGHTS[1:]))
    if not any((folder / file).is_file() for file in WEIGHTS):
        raise ConfigError(f"{KEY}: {name}: has no weights ({' or '.join(WEIGHTS)})")
    try:
        with _quiet(transformers):
            found, about = transformers.AutoModel.from_pretrained(
                str(folder), local_files_only=True, output_loading_info=True, dtype=torch.float32
            )
    except Exception as error:  # of transformers: many classes
        reason = " ".join(str(error).split())[:150]
        raise ConfigError(f"{KEY}: {name}: its weights cannot be read: {reason}") from None
    if lacking := sorted(key for key in about["missing_keys"] if not key.startswith("pooler.")):
        raise ConfigError(f"{KEY}: {name}: its weights lack {', '.join(lacking[:3])}; they are of another model")
    with torch.no_grad():
        table = found.get_input_embeddings().weight  # [V, D_in]
        rows = torch.cat([table[special], table])[: len(model.src_embedding.weight)]
        model.src_embedding.weight.copy_(rows)
        encoder.begin.copy_(table[special[2]])
        theirs = {key: value for key, value in found.state_dict().items() if key in encoder.model.state_dict()}
        encoder.model.load_state_dict(theirs)


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Inside the block, transformers prints no bars and no warnings: what matters is told by errors."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
