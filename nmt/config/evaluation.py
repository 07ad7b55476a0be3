"""The section ``evaluation``: how translations are scored."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nmt.config.base import Section


class EvaluationConfig(Section):
    tokenize: Literal["13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "none"] | None = Field(
        None,
        description="sacreBLEU's tokenizer for BLEU; null: the one for data.tgt_lang, as sacreBLEU's command chooses it"
        " (zh, ja-mecab, ko-mecab, else 13a), and char for other languages without spaces, such as Thai",
    )
    ter_asian_support: bool | None = Field(
        None,
        description="TER of single characters for Chinese and Japanese text (sacreBLEU's --ter-normalized"
        " --ter-asian-support); null: where the target language is Chinese, Japanese or Korean",
    )
    lowercase: bool = Field(False, description="score BLEU, chrF and TER without case")
