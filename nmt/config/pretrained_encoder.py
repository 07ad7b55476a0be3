"""The encoder of Hugging Face that ``model.encoder.weights`` names: its description becomes part of the configuration.

A run then needs no file of the folder to build its model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nmt.config.encoders import PRETRAINED
from nmt.config.pretrained import hub_folder, stored_of_started
from nmt.errors import ConfigError

KEY = "model.encoder.weights"
CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# What a tokenizer is made of. Code of a repository is never fetched or run.
TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
    "vocab.json", "merges.txt", "sentencepiece.bpe.model", "spiece.model",
)  # fmt: skip
# Keys of config.json that do not change the states.
IRRELEVANT = (
    "_name_or_path", "architectures", "transformers_version", "torch_dtype", "dtype", "id2label", "label2id",
    "task_specific_params", "finetuning_task", "problem_type", "use_cache",
)  # fmt: skip
WIDTHS = {"distilbert": "dim", "electra": "embedding_size"}  # of the embeddings; hidden_size in the others


def describe(raw: dict[str, Any]) -> None:
    """Complete ``model.encoder`` of a configuration whose encoder is a pretrained one.

    A run that was started before has the description itself, so that it resumes without the folder.

    Raises:
        ConfigError: the encoder does not exist, or is of a kind that cannot be used.
    """
    model = raw.get("model")
    section = model.get("encoder") if isinstance(model, dict) else None
    if not isinstance(section, dict) or section.get("type") != "pretrained" or "architecture" in section:
        return
    name = section.get("weights")
    if not isinstance(name, str) or not name:
        return  # a mistake, which validation explains
    stored = stored_of_started(Path(str(raw.get("runs", "runs"))) / str(raw.get("name")))
    there = _section_of(stored) if stored is not None else {}
    architecture = there["architecture"] if there.get("weights") == name and "architecture" in there else read(name)
    width = architecture.get(WIDTHS.get(architecture["model_type"], "hidden_size"))
    if section.get("d_model", width) != width:
        raise ConfigError(
            f"model.encoder.d_model: {section['d_model']}: the embeddings of {name} have {width}; remove it"
        )
    section |= {"architecture": architecture, "d_model": width}


def _section_of(stored: Mapping[str, Any]) -> Mapping[str, Any]:
    model = stored.get("model")
    found = model.get("encoder") if isinstance(model, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def folder_of(name: str, files: tuple[str, ...]) -> Path:
    """The folder of an encoder; of the hub, those of ``files`` that it has are fetched.

    Raises:
        ConfigError: there is no such folder, or the hub does not give the files.
    """
    if name.startswith("hf:"):
        return hub_folder(name, files, KEY)
    folder = Path(name)
    if not folder.is_dir():
        hint = f"; a model of the Hugging Face hub is hf:{name}" if len(folder.parts) == 2 else ""
        raise ConfigError(f"{KEY}: {name}: no such folder{hint}")
    return folder


def read(name: str) -> dict[str, Any]:
    """The description of an encoder.

    Raises:
        ConfigError: it cannot be read, or is of a kind that cannot be used.
    """
    file = folder_of(name, (CONFIG,)) / CONFIG
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{KEY}: {name}: has no {CONFIG}; name the folder of a Hugging Face model") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{KEY}: {file}: cannot be read: {error}") from None
    kind = found.get("model_type") if isinstance(found, dict) else None
    if kind not in PRETRAINED or found.get("is_decoder"):
        what = "a decoder" if kind in PRETRAINED else f"of the type {kind}"
        raise ConfigError(
            f"{KEY}: {name}: is {what}, and not an encoder that can be used; those are: {', '.join(PRETRAINED)}"
        )
    for key in ("vocab_size", "max_position_embeddings", WIDTHS.get(kind, "hidden_size")):
        if not isinstance(found.get(key), int):
            raise ConfigError(f"{KEY}: {file}: has no number named {key}")
    return {key: value for key, value in found.items() if key not in IRRELEVANT}
