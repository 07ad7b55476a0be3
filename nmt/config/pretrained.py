"""What a configuration takes over: a trained model (``init.from``), or the tokenizer of a run (``tokenizer.run``).

Only descriptions are read here: a stored configuration, ``config.json``, or the settings inside a Marian model.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import ValidationError

from nmt.config.base import Section, section_types
from nmt.config.experiment import Config
from nmt.config.model import ModelConfig
from nmt.config.tokenizer import Normalization, TokenizerConfig
from nmt.errors import ConfigError
from nmt.numbers import count_of

Kind = Literal["run", "huggingface", "marian"]
# What a MarianMTModel is loaded from. Code of a repository is never fetched or run.
FILES = ("config.json", "vocab.json", "target_vocab.json", "source.spm", "target.spm")
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
ACTIVATIONS = {"swish": "swish", "silu": "swish", "relu": "relu", "gelu": "gelu"}
# Keys of ``model`` that change how a model is trained, not what it computes.
FREE = ("preset", "dropout", "attention_dropout", "activation_dropout", "layer_drop", "hard", "forget_bias")


@dataclass(frozen=True)
class Pretrained:
    """A trained model.

    Attributes:
        path: the folder of a run or of Hugging Face's files, or Marian's ``.npz`` file.
        name: as the user gave it.
    """

    kind: Kind
    path: Path
    name: str


def find_run(name: str, runs: str = "runs") -> Path:
    """The folder of the run that ``tokenizer.run`` names.

    Raises:
        ConfigError: no such run exists.
    """
    for folder in (Path(name), Path(runs) / name):
        if (folder / "config.yaml").is_file():
            return folder
    raise ConfigError(f"tokenizer.run: {name}: no such run; runs here: {', '.join(_names(runs)[:20]) or 'none'}")


def find(name: str, runs: str = "runs") -> Pretrained:
    """Find the model that ``init.from`` names; of the hub, its description is fetched.

    Raises:
        ConfigError: no such model exists, or its kind is unknown.
    """
    if name.startswith("hf:"):
        return Pretrained("huggingface", hub_folder(name, FILES), name)
    path = Path(name)
    if path.is_file() and path.suffix == ".npz":
        return Pretrained("marian", path, name)
    for folder in (path, Path(runs) / name):
        if (folder / "config.yaml").is_file():
            return Pretrained("run", folder, name)
        if (folder / "config.json").is_file():
            return Pretrained("huggingface", folder, name)
        models = sorted(file for file in folder.glob("*.npz") if not file.name.endswith(".optimizer.npz"))
        if len(models) == 1:
            return Pretrained("marian", models[0], name)
        if models:
            raise ConfigError(f"init.from: {name}: contains {len(models)} models; name one, such as {models[0]}")
    raise ConfigError(f"init.from: {name}: {_absence(path, Path(runs))}")


def _absence(path: Path, runs: Path) -> str:
    """Why there is no model at a path, and what to write instead."""
    if path.is_file():
        return "is not a model that can be read; name a .npz file of Marian (marian convert makes one of a .bin file)"
    if path.is_dir():
        return "contains no model: neither config.yaml (a run), config.json (Hugging Face) nor a .npz file (Marian)"
    there = _names(runs)
    if near := difflib.get_close_matches(str(path), there, 1):
        return f"no such run, file or folder; did you mean {near[0]}?"
    if len(path.parts) == 2 and not path.is_absolute():
        return f"no such run, file or folder; a model of the Hugging Face hub is hf:{path}"
    return f"no such run, file or folder; runs here: {', '.join(there[:20]) or 'none'}"


def _names(runs: str | Path) -> list[str]:
    return sorted(file.parent.name for file in Path(runs).glob("*/config.yaml"))


def hub_folder(name: str, files: tuple[str, ...], key: str = "init.from") -> Path:
    """The folder in the local cache that holds those of ``files`` that a model of the hub has; the rest is fetched.

    Args:
        key: of the configuration, for messages.

    Raises:
        ConfigError: the hub cannot be reached and the cache lacks the model, or the model does not exist.
    """
    import huggingface_hub as hub

    repository, _, revision = name.removeprefix("hf:").partition("@")
    try:
        return Path(hub.snapshot_download(repository, revision=revision or None, allow_patterns=list(files)))
    except Exception as error:  # of the hub's client and of the network: many classes
        known = {
            "LocalEntryNotFoundError": "the hub cannot be reached, and the cache does not hold the model",
            "RepositoryNotFoundError": "the hub has no such model, or HF_TOKEN may not read it",
            "HFValidationError": "the name must be hf:ORG/NAME",
            "RevisionNotFoundError": "the model has no such revision",
        }
        kind = type(error).__name__
        reason = known.get(kind, f"{kind}: {' '.join(str(error).split())[:120]}")
        raise ConfigError(
            f"{key}: {name}: cannot be loaded: {reason}; check the name and the network, or name a local folder "
            "with its files"
        ) from None


# ------------------------------------------------------------------------------------------------------------- sections


def inherit(raw: dict[str, Any]) -> None:
    """Give omitted keys of ``model`` and ``tokenizer`` the values of the model that ``raw`` starts from.

    With ``tokenizer.run``, those of ``tokenizer`` are the keys of that run. A run that was started before has them
    itself, so that it resumes without the other one.

    Raises:
        ConfigError: the model or run does not exist, cannot be expressed, or differs in a key that is given.
    """
    runs, here = str(raw.get("runs", "runs")), Path(str(raw.get("runs", "runs"))) / str(raw.get("name"))
    # A tokenizer
    given = raw.get("tokenizer")
    if isinstance(given, Mapping) and isinstance(given.get("run"), str) and given["run"]:
        name = given["run"]
        sections = _of_started(here, "tokenizer", "run", name)
        if sections is None:
            path = find_run(name, runs) / "config.yaml"
            sections = _sections(_read_yaml(path, name), str(path))
        _take_over(raw, "tokenizer", sections["tokenizer"], ("run", "sampling"), f"tokenizer.run: {name}")
    # A model
    given = raw.get("init")
    if not isinstance(given, Mapping) or not isinstance(given.get("from"), str) or not given["from"]:
        return
    name = given["from"]
    sections, foreign = _of_started(here, "init", "from", name), True
    if sections is None:
        source = find(name, runs)
        sections, foreign = settings(source), source.kind != "run"
    free_keys = {"model": (*FREE, "positions", "start") if foreign else FREE, "tokenizer": ("sampling", "run")}
    for section, free in free_keys.items():
        _take_over(raw, section, sections[section], free, f"init.from: {name}")


def _take_over(raw: dict[str, Any], section: str, there: Mapping[str, Any], free: tuple[str, ...], where: str) -> None:
    """Give omitted keys of a section of ``raw`` the values of ``there``.

    Args:
        free: keys that may differ.

    Raises:
        ConfigError: another key differs.
    """
    here = raw.get(section) or {}
    if not isinstance(here, Mapping):
        return  # a mistake, which validation explains
    expected = _defaults(section, there) | dict(there)
    differing = [
        f"{section}.{key} is {json.dumps(value, default=str)} here and {json.dumps(expected[key])} there"
        for key, value in here.items()
        if key in expected and key not in free and value != expected[key]
    ]
    if differing:
        more = f"; and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise ConfigError(
            f"{where}: brings its {section}: {'; '.join(differing[:3])}{more}; remove these keys. "
            f"Those that may differ: {', '.join(key for key in free if key in expected and key != 'run')}"
        )
    raw[section] = {**there, **here}


def _defaults(section: str, there: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a section of the model ``there``, with their defaults; None where a key has none."""
    kinds = {get_args(family.model_fields["type"].annotation)[0]: family for family in section_types(ModelConfig)}
    kind = TokenizerConfig if section == "tokenizer" else kinds[there["type"]]
    plain = {key: None if field.is_required() else field.default for key, field in kind.model_fields.items()}
    return {key: v.model_dump(mode="json") if isinstance(v, Section) else v for key, v in plain.items()}


def _of_started(run: Path, section: str, key: str, name: str) -> dict[str, dict[str, Any]] | None:
    """The sections of a run that was started with this name under a key; None where there is no such run."""
    stored = stored_of_started(run)
    try:
        if stored is None or stored[section][key] != name:
            return None
    except (KeyError, TypeError):
        return None  # of a training without init: the check of the run reports that
    return _sections(stored, str(run / "config.yaml"))


def stored_of_started(run: Path) -> dict[str, Any] | None:
    """The configuration, not validated, of a run that was started; None where there is none, or it is damaged."""
    path, marks = run / "config.yaml", (".saved", "model/model.json")
    if not path.is_file() or not (any((run / m).exists() for m in marks) or any(run.glob("checkpoints/step-*"))):
        return None
    try:
        return _read_yaml(path, str(run))
    except ConfigError:
        return None


def settings(source: Pretrained) -> dict[str, dict[str, Any]]:
    """The sections ``model`` and ``tokenizer`` of a trained model, without keys at their defaults.

    Raises:
        ConfigError: its description cannot be read, or the model cannot be expressed.
    """
    if source.kind == "run":
        return _sections(_read_yaml(source.path / "config.yaml", source.name), str(source.path / "config.yaml"))
    if source.kind == "huggingface":
        return _of_huggingface(source)
    return _of_marian(source)


def _sections(raw: Any, where: str) -> dict[str, dict[str, Any]]:
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: is damaged: it is not a mapping of keys to values")
    try:
        config = Config.model_validate({"defaults": 1, **raw})  # the first version did not write its number
    except ValidationError as error:
        raise ConfigError(
            f"{where}: cannot be read: {count_of(error.error_count(), 'wrong key')}; see nmt config"
        ) from None
    model = config.model.model_dump(mode="json", exclude_defaults=True, exclude=set(config.model.unused()))
    exclude = {"sampling", "run"} | set(config.tokenizer.unused())
    tokenizer = config.tokenizer.model_dump(mode="json", exclude_defaults=True, exclude=exclude)
    return {"model": model, "tokenizer": tokenizer}


def _of_huggingface(source: Pretrained) -> dict[str, dict[str, Any]]:
    path = source.path / "config.json"
    config = read_json(path)

    def refuse(reason: str) -> ConfigError:
        return ConfigError(f"init.from: {path}: {reason}")

    # What nmt cannot express
    if config.get("model_type") != "marian":
        raise refuse(f"model_type is {config.get('model_type')}; only marian (MarianMTModel) can be read")
    for key, other in (("encoder_attention_heads", "decoder_attention_heads"), ("encoder_ffn_dim", "decoder_ffn_dim")):
        if config.get(key) != config.get(other):
            raise refuse(f"{key} is {config.get(key)} and {other} {config.get(other)}; both sides must be equal")
    if config.get("activation_function") not in ACTIVATIONS:
        raise refuse(f"activation_function: {config.get('activation_function')} is not known; {', '.join(ACTIVATIONS)}")
    if not config.get("scale_embedding", False):
        raise refuse("scale_embedding is false; embeddings are always scaled here")
    if config.get("decoder_start_token_id") != config.get("pad_token_id"):
        raise refuse("decoder_start_token_id is not pad_token_id")
    needed = ("d_model", "encoder_ffn_dim", "encoder_attention_heads", "encoder_layers", "decoder_layers")
    if lacking := [key for key in needed if not isinstance(config.get(key), int)]:
        raise refuse(f"lacks {', '.join(lacking)}")
    # Sections
    shared = bool(config.get("share_encoder_decoder_embeddings", True))
    tied = bool(config.get("tie_word_embeddings", True))
    model = {
        "type": "transformer",
        "d_model": config["d_model"],
        "d_ff": config["encoder_ffn_dim"],
        "num_heads": config["encoder_attention_heads"],
        "encoder_layers": config["encoder_layers"],
        "decoder_layers": config["decoder_layers"],
        "norm": "post",
        "activation": ACTIVATIONS[config["activation_function"]],
        **_stored(source.path / "model.safetensors", config.get("pad_token_id")),
        "tie_embeddings": "all" if shared and tied else "decoder" if tied else "none",
        "output_bias": True,
        "dropout": float(config.get("dropout", 0.1)),
    }
    vocabulary = read_json(source.path / "vocab.json")
    if missing := [piece for piece in ("</s>", "<unk>") if piece not in vocabulary]:
        raise ConfigError(f"init.from: {source.path / 'vocab.json'}: lacks {' and '.join(missing)}")
    tokenizer = {"joint": shared, "vocab_size": len(vocabulary)}
    models = source.path / "source.spm", source.path / "target.spm"
    return {"model": model, "tokenizer": tokenizer | _about_pieces(*models)}


def _stored(file: Path, pad: Any) -> dict[str, str]:
    """The keys ``positions`` and ``start``, which ``config.json`` does not say, from the weights in safetensors.

    Other formats need PyTorch. There the usual values are assumed, which reading the weights checks.
    """
    import numpy as np
    from safetensors import SafetensorError, safe_open

    found = {"positions": "sinusoidal_halves", "start": "zero"}
    targets = ("model.decoder.embed_tokens.weight", "model.shared.weight", "lm_head.weight")
    try:
        with safe_open(file, "numpy") as weights:
            names = set(weights.keys())
            if (name := "model.encoder.embed_positions.weight") in names:
                table = weights.get_slice(name)[:64]
                half = table.shape[1] // 2
                slowest = np.arange(len(table)) / 10_000  # the angles of Marian's last rate
                if half > 1 and np.abs(np.sin(slowest) - table[:, half - 1]).max() < 1e-5:
                    found["positions"] = "sinusoidal_marian"
            table = next((weights.get_slice(name) for name in targets if name in names), None)
            if table is not None and isinstance(pad, int) and table[pad : pad + 1].any():
                found["start"] = "bos"  # a vector that was trained
    except (OSError, SafetensorError, AttributeError, TypeError, ValueError):  # absent, or a type that NumPy lacks
        pass
    return found


# Settings of a Marian model with the only values that can be expressed.
_MARIAN: dict[str, tuple[Any, ...]] = {
    "type": ("transformer",),
    "transformer-preprocess": ("",),
    "transformer-postprocess": ("dan", "an", "da n"),
    "transformer-postprocess-emb": ("d", ""),
    "transformer-postprocess-top": ("",),
    "transformer-ffn-depth": (2,),
    "transformer-decoder-ffn-depth": (0, 2),
    "transformer-decoder-dim-ffn": (0,),
    "transformer-decoder-autoreg": ("self-attention",),
    "transformer-train-position-embeddings": (False,),
    "transformer-disable-position-embeddings": (False,),
    "transformer-no-projection": (False,),
    "transformer-no-bias": (False,),
    "transformer-no-affine": (False,),
    "transformer-tied-layers": ([],),
    "transformer-pool": (False,),
    "output-omit-bias": (False,),
    "lemma-dim-emb": (0,),
    "right-left": (False,),
    "ulr": (False,),
    "input-types": ([],),
}


def _of_marian(source: Pretrained) -> dict[str, dict[str, Any]]:
    config = marian_settings(source.path)
    # What nmt cannot express
    for key, allowed in _MARIAN.items():
        if key in config and config[key] not in allowed:
            raise ConfigError(
                f"init.from: {source.path}: {key}: {json.dumps(config[key])} cannot be expressed; only "
                f"{' or '.join(json.dumps(one) for one in allowed)}"
            )
    activation = config.get("transformer-ffn-activation", "swish")
    if activation not in ACTIVATIONS:
        raise ConfigError(f"init.from: {source.path}: transformer-ffn-activation: {activation} cannot be expressed")
    ties = {"tied-embeddings-all": "all", "tied-embeddings": "decoder"}
    tied = next((value for key, value in ties.items() if config.get(key)), "none")
    if tied == "all" and config.get("tied-embeddings-src"):
        raise ConfigError(f"init.from: {source.path}: tied-embeddings-src beside tied-embeddings-all")
    if tied != "all" and config.get("tied-embeddings-src"):
        raise ConfigError(f"init.from: {source.path}: tied-embeddings-src alone cannot be expressed")
    # Sections
    model = {
        "type": "transformer",
        "d_model": config["dim-emb"],
        "d_ff": config["transformer-dim-ffn"],
        "num_heads": config["transformer-heads"],
        "encoder_layers": config["enc-depth"],
        "decoder_layers": config["dec-depth"],
        "norm": "post",
        "activation": ACTIVATIONS[activation],
        "positions": "sinusoidal_marian",
        "tie_embeddings": tied,
        "output_bias": True,
        "start": "zero",
    }
    files = vocabulary_files(source.path)
    names = ("source.spm", "target.spm")
    pieces = [file if file.suffix == ".spm" else file.parent / name for file, name in zip(files, names, strict=True)]
    return {
        "model": model,
        "tokenizer": {
            "joint": tied == "all" or len(set(files)) == 1,
            "vocab_size": max(config["dim-vocabs"]),
            **_about_pieces(*pieces),
        },
    }


def vocabulary_files(path: Path) -> tuple[Path, Path]:
    """The vocabularies of source and target of a Marian model: those that its settings name, else the only one here.

    Raises:
        ConfigError: none is found.
    """
    folder = path.parent
    for about in (f"{path.name}.decoder.yml", f"{path.name}.yml", "decoder.yml", "config.yml"):
        if (folder / about).is_file():
            named = _read_yaml(folder / about, str(path))
            vocabs = named.get("vocabs") if isinstance(named, dict) else None
            if isinstance(vocabs, list) and len(vocabs) == 2:
                found = [next((f for f in (folder / Path(v).name, folder / v) if f.is_file()), None) for v in vocabs]
                if found[0] is not None and found[1] is not None:
                    return found[0], found[1]
    for pattern in ("*.vocab.yml", "vocab.yml", "*.spm"):
        if len(files := sorted(folder.glob(pattern))) == 1:
            return files[0], files[0]
    raise ConfigError(
        f"init.from: {path}: its vocabulary is not there; put vocab.spm, or vocab.yml with source.spm and target.spm, "
        f"into {folder}"
    )


def marian_settings(path: Path) -> dict[str, Any]:
    """The settings inside a Marian model (``special:model.yml``).

    Raises:
        ConfigError: the file is not a Marian model, or is damaged.
    """
    import zipfile

    import numpy as np

    if path.is_file() and not zipfile.is_zipfile(path):
        raise ConfigError(f"init.from: {path}: is not a Marian model, or damaged: it is no archive of arrays (.npz)")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            text = bytes(arrays["special:model.yml"].tobytes()).rstrip(b"\0").decode()
        found = yaml.safe_load(text)
    except (OSError, ValueError, KeyError, EOFError, yaml.YAMLError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:120]
        raise ConfigError(f"init.from: {path}: is not a Marian model, or damaged ({reason})") from None
    needed = ("dim-emb", "transformer-dim-ffn", "transformer-heads", "enc-depth", "dec-depth", "dim-vocabs")
    if not isinstance(found, dict) or any(key not in found for key in needed):
        raise ConfigError(f"init.from: {path}: is not a Transformer of Marian: its settings lack {', '.join(needed)}")
    return found


def _about_pieces(src: Path, tgt: Path) -> dict[str, Any]:
    """``type`` and ``normalization`` of two SentencePiece models, as the section ``tokenizer`` has them."""
    from sentencepiece import sentencepiece_model_pb2

    about: list[Any] = []
    for path in (src, tgt):
        about.append(sentencepiece_model_pb2.ModelProto())  # type: ignore[attr-defined]
        try:
            about[-1].ParseFromString(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"init.from: {path}: cannot be read: {error.strerror or error}") from None
        except Exception:  # of protobuf, whose errors differ between its versions
            raise ConfigError(f"init.from: {path}: is not a SentencePiece model, or damaged") from None
    spec = about[0].trainer_spec
    kinds = {spec.UNIGRAM: "unigram", spec.BPE: "bpe", spec.WORD: "word"}
    rules = {side: one.normalizer_spec.name for side, one in zip(("src", "tgt"), about, strict=True)}
    known = all(rule in get_args(Normalization) for rule in rules.values())
    # A rule of another name is in the models alone; the section then has the one that changes least.
    rules = rules if known else dict.fromkeys(rules, "identity")
    return {"type": kinds.get(spec.model_type, "char"), "normalization": rules}


def read_json(path: Path) -> dict[str, Any]:
    """
    Raises:
        ConfigError: the file is missing, or is not a mapping in JSON.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"init.from: {path}: no such file; a MarianMTModel has {', '.join(FILES[:2])}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"init.from: {path}: cannot be read: {' '.join(str(error).split())[:120]}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"init.from: {path}: must be a mapping")
    return found


def parse_yaml(text: str) -> Any:
    """Plain YAML, as ``yaml.safe_load``, but parsed in C where PyYAML has that: vocabularies are large."""
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text).get_single_data()


def _read_yaml(path: Path, name: str) -> Any:
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"init.from: {name}: {path}: cannot be read: {' '.join(str(error).split())[:120]}") from None
