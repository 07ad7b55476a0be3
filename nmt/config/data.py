"""The section ``data``: languages, training data and their mixture, held-out sets, and the rules that clean pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, Union

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from nmt.config.base import RESUMABLE, Positive, Section
from nmt.config.cleaning import RulesConfig
from nmt.config.modifiers import ModifierConfig, check_modifiers, symbols_of
from nmt.config.scripts import SCRIPTS, scripts_of
from nmt.config.sources import (
    HeldSource,
    HoldoutSource,
    PlainSource,
    SourceSection,
    Tags,
    as_tags,
    has_alignments,
    named_only,
)

DatasetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Weight = Annotated[float, Field(ge=0.0)]
Modifiers = Annotated[list[ModifierConfig], AfterValidator(check_modifiers)]


class DatasetConfig(Section):
    """One dataset of a mixture."""

    name: DatasetName = Field(description="name of the dataset, for stages and messages")
    source: PlainSource = Field(description="its sentence pairs")
    weight: Annotated[float, Field(gt=0.0)] | None = Field(
        None, description="share of the training pairs, relative to the other weights; default: see temperature"
    )
    temperature: Annotated[float, Field(ge=0.1)] | None = Field(
        None, description="T of a weight n ** (1 / T), for n pairs; default: 1, where each pair is read equally often"
    )
    tag: Tags | None = Field(None, description="one or more symbols before each source sentence of the dataset")
    modifiers: Modifiers = Field([], description="random changes of its pairs, applied in this order")

    @model_validator(mode="after")
    def _keys_are_distinct(self) -> Self:
        if self.weight is not None and self.temperature is not None:
            raise ValueError("weight and temperature exclude each other; remove one of them")
        if self.source.tag is not None:
            raise ValueError("source.tag: write the tag beside the source: {name: ..., source: ..., tag: ...}")
        return self


class MixtureSource(Section):
    """Several datasets, read in given shares; ``data.train`` may be the list of them."""

    kind: Literal["mixture"] = Field(description="several datasets; a list of them means this kind")
    datasets: Annotated[list[DatasetConfig], Field(min_length=1)] = Field(description="the datasets")

    @model_validator(mode="after")
    def _datasets_fit(self) -> Self:
        for name, count in Counter(dataset.name.lower() for dataset in self.datasets).items():
            if count > 1:
                raise ValueError(f"{count} datasets are named {name}; rename one")
        weighted = [dataset.weight is not None for dataset in self.datasets]
        if any(weighted) and not all(weighted):
            name = self.datasets[weighted.index(False)].name
            raise ValueError(f"{name} has no weight, but others have; give all of them one, or none")
        return self


class OpusTrainerSource(Section):
    """The datasets, stages and modifiers of a configuration of OpusTrainer, which take the place of this section."""

    kind: Literal["opustrainer"] = Field(description="a configuration of OpusTrainer (YAML)")
    path: str = Field(description="YAML file; the paths in it are relative to its folder")


class StageConfig(Section):
    """A part of the training with its own mixture."""

    name: DatasetName = Field(description="name of the stage, for messages")
    weights: Annotated[dict[DatasetName, Weight], Field(min_length=1)] = Field(
        description="weight of each dataset that the stage reads, by its name"
    )
    epochs: Positive | None = Field(None, description="length of the stage in epochs; see epoch_of")
    steps: Positive | None = Field(None, description="length of the stage in updates; the stage counts as one epoch")
    epoch_of: str | None = Field(
        None,
        description="an epoch reads this dataset once; default: it has as many pairs as the datasets of the stage",
    )
    modifiers: Modifiers | None = Field(
        None, description="modifiers of all datasets in this stage; default: those of each dataset"
    )

    @model_validator(mode="after")
    def _settings_fit(self) -> Self:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("epochs and steps exclude each other; remove one of them")
        if not any(self.weights.values()):
            raise ValueError("weights: all are 0, so that the stage reads nothing")
        if self.epoch_of is not None and not self.weights.get(self.epoch_of):
            raise ValueError(f"epoch_of: the stage reads no dataset {self.epoch_of}; give it a weight")
        return self

    @property
    def ends(self) -> bool:
        return self.epochs is not None or self.steps is not None

    def unused(self) -> dict[str, str]:
        return {"epoch_of": "a stage with steps is one epoch"} if self.steps is not None else {}


def _list_is_mixture(value: Any) -> Any:
    """A list of mappings is a mixture."""
    if isinstance(value, list) and any(isinstance(item, dict | Section) for item in value):
        return {"kind": "mixture", "datasets": value}
    return named_only(value)


if TYPE_CHECKING:
    TrainSource = SourceSection | MixtureSource
else:
    TrainSource = Annotated[
        Union[(*SourceSection.__subclasses__(), MixtureSource, OpusTrainerSource)],
        Field(discriminator="kind"),
        BeforeValidator(_list_is_mixture),
    ]


class CleaningConfig(Section):
    """Rules that drop pairs from the training part; the manifest counts the pairs of each rule.

    A pair with an empty side is always dropped.
    """

    max_chars: Positive = Field(1000, description="drop a pair with a side of more characters")
    max_ratio: Annotated[float, Field(ge=1.0)] = Field(
        4.0,
        description="drop a pair whose longer side is more than this many times as long as the shorter"
        " (the shorter counts as at least 10 characters)",
    )
    ratio: Literal["relative", "characters"] = Field(
        "relative",
        description="lengths that max_ratio compares. relative: to the usual ratio of the two languages in this corpus,"
        " a Chinese, Japanese or Korean character counting as three; characters: as they are",
    )
    max_tokens: Positive = Field(256, description="drop a pair with a side of more subwords")
    drop_duplicates: bool = Field(True, description="keep only the first of equal pairs")
    drop_overlap: bool = Field(
        True, description="drop pairs that overlap with a validation or test set that is not a holdout, see apart"
    )
    apart: Literal["sentences", "pairs"] = Field(
        "sentences",
        description="what training must not share with the validation and test sets. sentences: sources and targets,"
        " whatever their case, punctuation and spaces, except very common ones; pairs: equal pairs",
    )
    rules: RulesConfig = Field(
        RulesConfig(), description="further rules, by the names that OpusFilter and OpusCleaner use; all off by default"
    )


class DataConfig(Section):
    src_lang: Annotated[str, Field(min_length=1)] = Field("src", description="source language code")
    tgt_lang: Annotated[str, Field(min_length=1)] = Field("tgt", description="target language code")
    train: TrainSource = Field(description="training pairs: a source, or a list of datasets that are mixed")
    stages: list[StageConfig] = Field(
        [], description="for a list of data.train: a sequence of mixtures; the last one lasts until the end"
    )
    valid: HeldSource = Field(description="validation pairs, which choose the best checkpoint")
    test: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")], HeldSource] = Field(
        default_factory=dict,
        description="named test sets; a set added to a run later is scored, and its pairs stay in the training part",
    )
    reading: Literal["strict", "lenient"] = Field(
        "strict",
        description="strict: refuse TSV rows of another width and TSV headers that are not declared, and take each CSV"
        " cell for text; lenient: accept both, and take CSV cells such as NA or None for missing",
    )
    cleaning: CleaningConfig = Field(CleaningConfig(), description="rules that drop training pairs")
    processes: Annotated[int, Field(ge=1, le=256)] | None = Field(
        None,
        description="processes that clean the training pairs; the corpus is the same for any number; default: one less"
        " than the cores, at most 8, and one alone for the first 100,000 pairs",
        json_schema_extra=RESUMABLE,
    )
    store: str = Field(
        "data/prepared",
        description="folder of prepared corpora, shared by runs, keyed by content",
        json_schema_extra=RESUMABLE,
    )

    @model_validator(mode="before")
    @classmethod
    def _read_opustrainer(cls, raw: Any) -> Any:
        """Put what a configuration of OpusTrainer says into the place of its path."""
        train = raw.get("train") if isinstance(raw, Mapping) else None
        if not isinstance(train, Mapping) or train.get("kind") != "opustrainer":
            return raw
        if set(train) != set(OpusTrainerSource.model_fields) or not isinstance(train["path"], str):
            return raw  # a mistake, which the section explains
        if raw.get("stages"):
            raise ValueError("stages: train.path has the stages of OpusTrainer; remove these")
        from nmt.config.opustrainer import read_opustrainer

        return {**raw, **read_opustrainer(train["path"])}

    @model_validator(mode="after")
    def _stages_fit(self) -> Self:
        """Refuse stages that do not fit the datasets."""
        if self.stages and not isinstance(self.train, MixtureSource):
            raise ValueError("stages: need a list of datasets in train")
        known = [dataset.name for dataset in self.datasets]
        for number, stage in enumerate(self.stages):
            if unknown := [name for name in stage.weights if name not in known]:
                raise ValueError(
                    f"stages.{stage.name}.weights: no dataset {unknown[0]} in train; there are: {', '.join(known)}"
                )
            if number + 1 < len(self.stages) and not stage.ends:
                raise ValueError(f"stages.{stage.name}: has no end, but a stage follows; set its epochs or steps")
            if stage.name in [other.name for other in self.stages[:number]]:
                raise ValueError(f"stages: two are named {stage.name}; rename one")
        if self.stages and (unread := set(known) - {n for s in self.stages for n, w in s.weights.items() if w}):
            raise ValueError(f"stages: no stage reads the dataset {min(unread)}; give it a weight, or remove it")
        weighted = [dataset.name for dataset in self.datasets if dataset.weight or dataset.temperature]
        if self.stages and weighted:
            raise ValueError(f"train.{weighted[0]}: weight and temperature have no effect beside stages; remove them")
        return self

    @model_validator(mode="after")
    def _tags_are_trained(self) -> Self:
        """Refuse the tag of a validation or test set that no training pair has, and a tag that is no tag alone."""
        trained = self.tags
        if both := [tag for tag in trained if tag in self.symbols]:
            raise ValueError(f"train: {both[0]} is a tag and a symbol of a modifier; choose another tag")
        for name, source in {"valid": self.valid, **{f"test.{n}": s for n, s in self.test.items()}}.items():
            for tag in as_tags(source.tag) if isinstance(source, SourceSection) else ():
                if tag not in trained:
                    there = f"; there are: {', '.join(trained)}" if trained else ""
                    raise ValueError(f"{name}.tag: no training pair has the tag {tag}{there}")
        return self

    @model_validator(mode="after")
    def _weights_are_of_training_pairs(self) -> Self:
        """Refuse columns without an effect: weights of sets that are only scored, and unused word alignments."""
        for name, source in {"valid": self.valid, **{f"test.{n}": s for n, s in self.test.items()}}.items():
            for key in ("weight_column", "weight_key", "alignment_column", "alignments"):
                if getattr(source, key, None) not in (None, False):
                    raise ValueError(f"{name}.{key}: has no effect, only training pairs have it; remove it")
        stages: list[StageConfig | None] = [*self.stages] or [None]
        for stage in stages:
            for dataset in self.datasets:
                given = dataset.modifiers if stage is None or stage.modifiers is None else stage.modifiers
                reads = stage is None or stage.weights.get(dataset.name)
                if reads and any(one.name == "Tags" for one in given) and not has_alignments(dataset.source):
                    raise ValueError(
                        f"train.{dataset.name}: the modifier Tags needs word alignments: source: {{kind: tsv, ..., "
                        "alignment_column: 2}, or {kind: text, ..., alignments: FILE}"
                    )
        return self

    @model_validator(mode="after")
    def _references_are_of_test_sets(self) -> Self:
        """Refuse further references of sets that are not scored with them."""
        others = {"valid": self.valid, "train": self.train}
        others |= {f"train.{dataset.name}": dataset.source for dataset in self.datasets if self.train_is_list}
        for name, source in others.items():
            if getattr(source, "references", None) is not None:
                raise ValueError(f"{name}.references: has no effect, only test sets have them; remove it")
        return self

    @property
    def datasets(self) -> list[DatasetConfig]:
        """The datasets of a mixture, or a single source with a tag as the only one; none for a plain source."""
        if isinstance(self.train, MixtureSource):
            return self.train.datasets
        if self.train.tag is None:
            return []
        return [DatasetConfig.model_construct(name="train", source=self.train, tag=self.train.tag)]

    @property
    def train_is_list(self) -> bool:
        return isinstance(self.train, MixtureSource)

    @property
    def tags(self) -> list[str]:
        """All tags of training pairs, each once."""
        return list(dict.fromkeys(tag for dataset in self.datasets for tag in as_tags(dataset.tag)))

    @property
    def most_tags(self) -> int:
        """The most tags of a source sentence."""
        return max((len(as_tags(dataset.tag)) for dataset in self.datasets), default=0)

    @property
    def symbols(self) -> list[str]:
        """Words that modifiers put into sentences, each once."""
        modifiers = [m for dataset in self.datasets for m in dataset.modifiers]
        modifiers += [m for stage in self.stages for m in stage.modifiers or []]
        return symbols_of(modifiers)

    @model_validator(mode="after")
    def _scripts_are_known(self) -> Self:
        if rule := self.cleaning.rules.character_score:
            for side, language, given in (("src", self.src_lang, rule.src), ("tgt", self.tgt_lang, rule.tgt)):
                if given is None and not scripts_of(language):
                    raise ValueError(
                        f"cleaning.rules.character_score: the script of {side}_lang {language!r} is not known; set "
                        f"{side} to one or more of: {', '.join(SCRIPTS)}"
                    )
        return self

    @model_validator(mode="after")
    def _holdouts_fit(self) -> Self:
        by_seed: dict[int, float] = {}
        for source in [self.valid, *self.test.values()]:
            if isinstance(source, HoldoutSource):
                by_seed[source.seed] = by_seed.get(source.seed, 0.0) + source.fraction
        for total in by_seed.values():
            if total >= 0.9:
                raise ValueError(f"the holdout parts take {total:.0%} of the training data; keep them under 90%")
        return self
