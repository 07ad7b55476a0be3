"""The section ``evaluation``: how translations are scored."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from nmt.config.base import Section

Metric = Literal["bleu", "bleu-uncased", "chrf", "chrf++", "spbleu", "ter"]


class EvaluationConfig(Section):
    tokenize: Literal["13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "none"] | None = Field(
        None,
        description="sacreBLEU's tokenizer for BLEU; null: the one for data.tgt_lang, as sacreBLEU's command chooses it"
        " (zh, ja-mecab, ko-mecab, else 13a), and char for other languages without spaces, such as Thai",
    )
    metrics: list[Metric] = Field(
        ["bleu", "chrf", "ter"],
        description="metrics of test sets; bleu is required. bleu-uncased is BLEU on case-folded text (straße is"
        " STRASSE); chrf++ adds words to chrF; spbleu is BLEU on the pieces of FLORES-200, whose tokenizer sacreBLEU"
        " downloads once (skipped with a warning if it cannot)",
    )
    ter_asian_support: bool | None = Field(
        None,
        description="TER of single characters for Chinese and Japanese text (sacreBLEU's --ter-normalized"
        " --ter-asian-support); null: where the target language is Chinese, Japanese or Korean",
    )
    comet: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="COMET model of test sets, such as Unbabel/wmt22-comet-da: a name in the cache of Hugging Face,"
        " or a checkpoint on disk; needs unbabel-comet (NMT_COMET_PYTHON). null: no COMET",
    )
    metricx: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="MetricX model of test sets, such as google/metricx-24-hybrid-large-v2p6: a name in the cache of"
        " Hugging Face, or a folder; needs google-research/metricx (NMT_METRICX_PYTHON). null: no MetricX",
    )
    lowercase: bool = Field(False, description="compute BLEU, chrF and TER on lower-cased text")

    @field_validator("metrics")
    @classmethod
    def _check_metrics(cls, metrics: list[Metric]) -> list[Metric]:
        if "bleu" not in metrics:
            raise ValueError("must contain bleu, which other commands compare runs by")
        if len(set(metrics)) < len(metrics):
            raise ValueError("names a metric twice")
        return metrics
