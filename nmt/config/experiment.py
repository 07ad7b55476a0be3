"""The whole configuration of an experiment, and the version of its defaults."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, get_args, get_origin

import yaml
from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo

from nmt.config.base import RESUMABLE, Section, section_types, sections, unused_keys
from nmt.config.data import DataConfig
from nmt.config.encoders import PretrainedEncoderConfig, TransformerStack
from nmt.config.evaluation import EvaluationConfig
from nmt.config.init import InitConfig
from nmt.config.model import ModelConfig, RNNConfig, TransformerConfig
from nmt.config.modifiers import SAME_TARGET
from nmt.config.search import SearchConfig
from nmt.config.sources import has_alignments
from nmt.config.tokenizer import TokenizerConfig, VocabSizeConfig
from nmt.config.train import TrainConfig
from nmt.config.translate import TranslateConfig

# Version of the defaults. A run keeps the version that it was started with, so that an upgrade changes no training.
DEFAULTS = 2
# Values that omitted keys had under an earlier version, for each key whose default has changed since.
FORMER_DEFAULTS: dict[int, dict[str, Any]] = {
    1: {
        "search.alpha": 1.0,
        "search.max_length_ratio": 2.0,
        "search.max_length_offset": 10,
        "search.max_source_tokens": 512,
        "search.batch_tokens": 8192,
        "data.reading": "lenient",
        "data.cleaning.ratio": "characters",
        "data.cleaning.apart": "pairs",
        "tokenizer.normalization": "nmt_nfkc",
        "tokenizer.sampling.alpha": 0.1,
        "tokenizer.sampling.method": "line",
        "model.forget_bias": 0.0,
        "evaluation.tokenize": "13a",
        "evaluation.ter_asian_support": False,
        "train.selection": "score",
        "train.batching": "padded",
        "train.parallel": "replicated",
        "train.ema_decay": None,
        "train.checkpoint_every_minutes": None,
        "train.schedule.name": "inverse_sqrt",
        "train.schedule.end": "max_steps",
    },
}


class Config(Section):
    """One experiment."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] = Field(
        description="name of the run; default: the file name of the configuration"
    )
    runs: str = Field("runs", description="folder of the run directories", json_schema_extra=RESUMABLE)
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(1, description="seed of the weights, the batches and dropout")
    init: InitConfig | None = Field(
        None,
        description="trained weights and their tokenizer to start from; omitted keys of model and tokenizer are theirs;"
        " null: random weights",
    )
    data: DataConfig = Field(description="languages, corpora and cleaning")
    tokenizer: TokenizerConfig = Field(TokenizerConfig(), description="subword vocabulary")
    model: ModelConfig = Field(description="model family and its sizes")
    train: TrainConfig = Field(description="optimization, validation and checkpoints")
    search: SearchConfig = Field(SearchConfig(), description="search for translations", json_schema_extra=RESUMABLE)
    translate: TranslateConfig = Field(
        TranslateConfig(), description="text that commands translate", json_schema_extra=RESUMABLE
    )
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="scores", json_schema_extra=RESUMABLE)
    defaults: Annotated[int, Field(ge=1, le=DEFAULTS)] = Field(
        DEFAULTS,
        description="version of the defaults that omitted keys take; a run keeps the version it was started with",
        json_schema_extra=RESUMABLE,
    )

    @model_validator(mode="before")
    @classmethod
    def _take_former_defaults(cls, raw: Any) -> Any:
        """Fill in the values of omitted keys under the version of the defaults that ``raw`` asks for."""
        if not isinstance(raw, Mapping) or type(version := raw.get("defaults")) is not int:
            return raw
        raw = copy.deepcopy(dict(raw))
        for number in range(max(1, version), DEFAULTS):
            for key, value in FORMER_DEFAULTS[number].items():
                _put_default(raw, key.split("."), value, cls)
        return raw

    @property
    def tokenizer_key(self) -> str:
        """The key that brings the tokenizer; empty where one is trained."""
        if self.init is not None:
            return "init.from"
        return "tokenizer.run" if self.tokenizer.run is not None else ""

    @field_validator("train")
    @classmethod
    def _training_can_end(cls, train: TrainConfig, info: ValidationInfo) -> TrainConfig:
        data: DataConfig | None = info.data.get("data")
        if data is not None:  # else its mistakes are shown
            train.check_end(bool(data.stages) and data.stages[-1].ends)
        return train

    @model_validator(mode="after")
    def _keys_have_an_effect(self) -> Self:
        """Refuse a setting that another setting makes meaningless; earlier versions ignored it."""
        if self.defaults >= 2:
            for path, section, key, why in unused_keys(self):
                value = getattr(section, key)
                if value != type(section).model_fields[key].default:
                    raise ValueError(f"{path}.{key}: {json.dumps(value)} has no effect: {why}; remove it")
        return self

    @model_validator(mode="after")
    def _test_sets_have_distinct_file_names(self) -> Self:
        """Refuse test sets whose results would share a file; earlier versions let one overwrite the other."""
        seen = {"valid": "the validation set"}
        for name in self.data.test if self.defaults >= 2 else ():
            if other := seen.get(name.lower()):
                raise ValueError(f"data.test.{name}: results would have the file names of {other}; rename the test set")
            if len(name) > 100:
                raise ValueError(f"data.test.{name[:20]}...: a name of {len(name)} characters; at most 100 fit")
            seen[name.lower()] = f"data.test.{name}"
        return self

    @model_validator(mode="after")
    def _schedule_reaches_its_peak(self) -> Self:
        schedule = self.train.schedule
        if self.defaults >= 2 and schedule.total_steps is not None and schedule.total_steps < schedule.warmup_steps:
            raise ValueError(
                f"train.schedule.total_steps ({schedule.total_steps}) is under warmup_steps ({schedule.warmup_steps}): "
                "the schedule would end before its peak; raise the one or lower the other"
            )
        return self

    @model_validator(mode="after")
    def _batches_can_be_packed(self) -> Self:
        if self.train.batching == "packed" and (why := unpackable(self)) is not None:
            raise ValueError(f"train.batching: packed is not possible: {why}; use auto or padded")
        return self

    @model_validator(mode="after")
    def _model_can_be_sharded(self) -> Self:
        if self.train.parallel == "sharded" and (why := unshardable(self)) is not None:
            raise ValueError(f"train.parallel: sharded is not possible: {why}; use auto or replicated")
        return self

    @model_validator(mode="after")
    def _updates_can_be_compiled(self) -> Self:
        for path, part in (("model", self.model), ("model.encoder", self.model.encoder)):
            if self.train.compile and isinstance(part, TransformerStack) and part.layer_drop:
                raise ValueError(
                    f"train.compile: true compiles one sequence of layers, but {path}.layer_drop skips other layers in "
                    "each batch; remove one of them"
                )
        return self

    @model_validator(mode="after")
    def _passes_differ(self) -> Self:
        """Refuse R-Drop where nothing is drawn at random: its two passes would be the same.

        Both passes drop the same layers (``layer_drop``), because they are computed as one.
        """
        settings = [pair for _, section in sections(self.model) for pair in section]
        drawn = any(value for key, value in settings if "dropout" in key)
        drawn = drawn or (isinstance(self.model, RNNConfig) and self.model.alignment == "hard")
        if self.train.terms.r_drop is not None and not drawn and self.train.terms.word_dropout is None:
            raise ValueError(
                "train.terms.r_drop: without dropout both passes are the same; raise model.dropout, or write null"
            )
        return self

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if self.model.tie_embeddings == "all" and not self.tokenizer.joint:
            raise ValueError("model.tie_embeddings: all needs one vocabulary; set tokenizer.joint: true or tie less")
        if self.train.bidirectional_epochs is not None and not self.tokenizer.joint:
            raise ValueError(
                "train.bidirectional_epochs: both directions need one vocabulary; set tokenizer.joint: true"
            )
        if self.data.datasets and (sampling := self.tokenizer.sampling) is not None and sampling.method == "line":
            raise ValueError("tokenizer.sampling.method: line reads no list of datasets and no tags; use batch")
        if self.train.bidirectional_epochs is not None and self.data.tags:
            raise ValueError(
                "train.bidirectional_epochs: tags stand before the source, and a pair that is read backwards has none; "
                "remove the tags, or set it to null"
            )
        # The target is fed with a begin-of-sentence symbol before it, the source with tags before it and eos after it.
        longest = max(self.data.cleaning.max_tokens, self.search.max_source_tokens or 0) + 1 + self.data.most_tags
        limits = {"model.max_positions": self.model.max_target_tokens}
        if isinstance(self.model.encoder, PretrainedEncoderConfig):
            _check_pretrained(self, self.model.encoder, longest)
        elif self.model.encoder is not None:
            limits["model.encoder.max_positions"] = self.model.encoder.max_source_tokens
        for key, most in limits.items():
            if most is not None and most < longest:
                raise ValueError(
                    f"{key} ({most}) is under the longest sequence "
                    f"({longest}, from data.cleaning.max_tokens and search.max_source_tokens); raise it to {longest}"
                )
        return self

    @model_validator(mode="after")
    def _alignments_can_guide(self) -> Self:
        if self.train.terms.guided_alignment is not None and (why := unguidable(self)) is not None:
            raise ValueError(f"train.terms.guided_alignment: {why}")
        return self

    @model_validator(mode="after")
    def _one_tokenizer_is_taken_over(self) -> Self:
        if self.tokenizer.run is not None and self.init is not None:
            raise ValueError("tokenizer.run: init.from brings its own tokenizer; remove tokenizer.run")
        return self

    @model_validator(mode="after")
    def _there_are_weights_to_stay_near(self) -> Self:
        if self.train.terms.l2_start is not None and self.init is None:
            raise ValueError("train.terms.l2_start: needs init: it keeps weights near the initial ones; remove it")
        return self

    @model_validator(mode="after")
    def _teacher_knows_the_targets(self) -> Self:
        """Refuse distillation where the targets differ from those that the teacher's distributions are of."""
        if self.train.terms.distillation is None:
            return self
        lists = [one.modifiers for one in self.data.datasets] + [stage.modifiers or [] for stage in self.data.stages]
        changing = [one.name for modifiers in lists for one in modifiers if one.name not in SAME_TARGET]
        for key, found, why in (
            ("tokenizer.sampling", self.tokenizer.sampling is not None, "samples other subwords"),
            ("train.bidirectional_epochs", self.train.bidirectional_epochs is not None, "exchanges the sides"),
            (f"data: the modifier {changing[0] if changing else ''}", changing, "changes targets"),
        ):
            if found:
                raise ValueError(
                    f"train.terms.distillation: the teacher knows the stored targets, and {key} {why}; "
                    "remove one of the two"
                )
        return self

    @model_validator(mode="after")
    def _coverage_has_attention(self) -> Self:
        if self.search.coverage_penalty and isinstance(self.model, RNNConfig) and self.model.attention == "none":
            raise ValueError(
                "search.coverage_penalty: needs a model with attention, and model.attention is none; remove the penalty"
            )
        return self

    @model_validator(mode="after")
    def _unknown_words_can_be_copied(self) -> Self:
        if not self.search.copy_unknown:
            return self
        if isinstance(self.model, RNNConfig) and self.model.attention == "none":
            raise ValueError("search.copy_unknown: copies by attention, and model.attention is none; remove the key")
        if self.tokenizer.byte_fallback and self.init is None:
            raise ValueError(
                "search.copy_unknown: true has no effect: with tokenizer.byte_fallback nothing is unknown; remove it"
            )
        return self

    @property
    def run_dir(self) -> Path:
        return Path(self.runs) / self.name

    def to_yaml(self, allow_unicode: bool = True) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=allow_unicode)


def unpackable(config: Config) -> str | None:
    """Why the batches of this configuration cannot be packed, on any device; None where they can."""
    sampling = config.tokenizer.sampling
    if not isinstance(config.model, TransformerConfig):
        return f"only a Transformer packs its batches, and model.type is {config.model.type}"
    if config.model.encoder is not None:
        return "model.encoder reads padded sentences; only a Transformer without that key packs them"
    if config.model.attention_dropout:
        return "attention without padding has no dropout (model.attention_dropout)"
    if sampling is not None and sampling.method == "line":
        return "tokenizer.sampling.method: line keeps no budget"
    if config.train.terms.guided_alignment is not None:
        return "attention without padding computes no weights, which train.terms.guided_alignment teaches"
    return None


def unshardable(config: Config) -> str | None:
    """Why the model cannot be divided among the processes of a training; None where it can."""
    model, terms = config.model, config.train.terms
    if config.train.compile:
        return "train.compile: true compiles the model as a whole"
    if terms.l2_start is not None:
        return "train.terms.l2_start compares all weights in each batch"
    if isinstance(model.encoder, PretrainedEncoderConfig):
        return "model.encoder.type: pretrained has layers of another library"
    if isinstance(model, RNNConfig):
        if model.attention != "none" and model.alignment == "hard" and model.hard.estimator == "reinforce":
            return "model.hard.estimator: reinforce has a baseline of one number, which has no rows to divide"
    elif isinstance(model, TransformerConfig) and model.start == "zero":
        return "model.start: zero keeps a row of the embedding at 0, which is on one process alone"
    for path, part in (("model", model), ("model.encoder", model.encoder)):
        if not isinstance(part, TransformerStack):
            continue
        if part.layer_drop:
            return f"{path}.layer_drop skips other layers in each process, and all of them gather each layer"
        for key, value in (("norm_type", "scale"), ("qk_norm", "l2")):
            if getattr(part, key) == value:
                return f"{path}.{key}: {value} has parameters of one number, which have no rows to divide"
    return None


def _check_pretrained(config: Config, encoder: PretrainedEncoderConfig, longest: int) -> None:
    """
    Raises:
        ValueError: a setting does not go with an encoder that brings its weights and its tokenizer.
    """
    own = "model.encoder.type: pretrained brings the tokenizer of the source"
    refused = [
        ("tokenizer.run", config.tokenizer.run is not None, "remove it"),
        ("tokenizer.joint: true", config.tokenizer.joint, "set tokenizer.joint: false"),
        ("tokenizer.sampling", config.tokenizer.sampling is not None, "remove it"),
        ("tokenizer.vocab_size", isinstance(config.tokenizer.vocab_size, VocabSizeConfig), "give one number"),
        ("a tag in data.train", bool(config.data.tags), "remove it"),
        ("a modifier with symbols in data.train", bool(config.data.symbols), "remove it"),
        ("train.terms.guided_alignment", config.train.terms.guided_alignment is not None, "remove it"),
        ("model.fix_norm", getattr(config.model, "fix_norm", False), "remove it"),
        (
            "init.extend_vocabulary", config.init is not None and config.init.extend_vocabulary > 0, "remove it",
        ),
    ]  # fmt: skip
    for key, found, cure in refused:
        if found:
            raise ValueError(f"{key}: cannot be combined with a pretrained encoder ({own}); {cure}")
    most = encoder.max_source_tokens
    if most is not None and most < longest:
        raise ValueError(
            f"model.encoder.weights: the encoder reads at most {most - 1} subwords of a source, and the longest has "
            f"{longest - 1} (data.cleaning.max_tokens and search.max_source_tokens); lower these to {most - 1}"
        )


def unguidable(config: Config) -> str | None:
    """Why ``train.terms.guided_alignment`` cannot work with the other settings, and what to do; None if it can."""
    term, model, data = config.train.terms.guided_alignment, config.model, config.data
    assert term is not None
    sources: list[Any] = [one.source for one in data.datasets] or [data.train]
    if not any(map(has_alignments, sources)):
        return (
            "data.train has no word alignments; name them: {kind: text, ..., alignments: FILE}, {kind: tsv, ..., "
            "alignment_column: 2} or {kind: demo, ..., alignments: true}"
        )
    if isinstance(model, RNNConfig):
        if model.attention == "none" or model.alignment == "hard":
            key = "attention: none" if model.attention == "none" else "alignment: hard"
            return f"model.{key} has no weights that can learn alignments; choose another, or write null"
        if term.heads != [1]:
            return "a recurrent model has one head; remove heads"
        layers, name = model.hops, "hops"
    elif not isinstance(model, TransformerConfig):
        return f"model.type: {model.type} has no attention that it can teach; write null"
    else:
        if model.layer_drop:
            return "model.layer_drop leaves out the layer whose attention learns; remove one of them"
        if term.heads[-1] > model.num_heads:
            return f"heads: {term.heads[-1]}, but the model has {model.num_heads}; count from 1"
        layers, name = model.decoder_layers, "layers of the decoder"
    if term.layer is not None and term.layer > layers:
        return f"layer: {term.layer}, but the model has {layers} {name}; count from 1"
    return None


def _put_default(raw: dict[str, Any], key: Sequence[str], value: Any, model: Any) -> None:
    """Set a dotted key that is missing, in sections that have it.

    A section that is off unless it is given (``tokenizer.sampling``) stays off.
    """
    for part in key[:-1]:
        field = model.model_fields.get(part) if model is not None else None
        if raw.get(part) is None:
            if part in raw or field is None or field.default is None:
                return
            raw[part] = {}
        raw = raw[part]
        if not isinstance(raw, dict):
            return  # a mistake, which validation explains
        model = _variant(field, raw) if field is not None else None
    if model is None or key[-1] in model.model_fields:
        raw.setdefault(key[-1], value)


def _variant(field: FieldInfo, raw: Mapping[str, Any]) -> type[Section] | None:
    """The section that validates ``raw``, of those that the field may be; None where the tag of a union is wrong."""
    tag = field.discriminator if isinstance(field.discriminator, str) else None
    for section in section_types(field.annotation):
        if tag is None or raw.get(tag) in get_args(section.model_fields[tag].annotation):
            return section
    return None


def all_keys(section: type[Section] = Config, path: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield each dotted key of a configuration with its field; ``*`` is a key that the user chooses.

    A key that several variants of a section have comes once for each.
    """
    for name, field in section.model_fields.items():
        yield f"{path}{name}", field
        free = ".*" if _has_items(field.annotation) else ""
        for inner in section_types(field.annotation):
            yield from all_keys(inner, f"{path}{name}{free}.")


def _has_items(annotation: Any) -> bool:
    """Whether values of this type have sections as items, by keys that the user chooses or in a list."""
    if get_origin(annotation) in (dict, list):
        return True
    return any(_has_items(inner) for inner in get_args(annotation) if next(section_types(inner), None) is not None)


def json_schema() -> dict[str, Any]:
    """The JSON schema of a configuration file, for editors.

    ``name`` is optional there: the file name stands in. So is ``model`` beside ``init``, which brings it.
    """
    schema: dict[str, Any] = _with_names(Config.model_json_schema())
    for key in ("name", "model"):
        schema["required"].remove(key)
    schema["anyOf"] = [{"required": ["model"]}, {"required": ["init"]}]
    return schema


def _with_names(node: Any) -> Any:
    """A JSON schema in which a source may also be a name (``kind: auto``), and ``data.train`` a list of datasets."""
    if isinstance(node, list):
        return [_with_names(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    node = {key: _with_names(inner) for key, inner in node.items()}
    if node.get("discriminator", {}).get("propertyName") != "kind":
        return node
    union = {key: node.pop(key) for key in ("discriminator", "oneOf")}
    name = {"type": "string", "minLength": 1, "title": "Name", "description": "file, folder or hub id (kind: auto)"}
    if "mixture" in union["discriminator"].get("mapping", {}):
        datasets = {"type": "array", "items": {"$ref": "#/$defs/DatasetConfig"}, "title": "Datasets"}
        return {**node, "anyOf": [name, datasets, union]}
    return {**node, "anyOf": [name, union]}
