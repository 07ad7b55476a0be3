"""Presets: values that the omitted keys of a model take together, under the name of a published system."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import ModelWrapValidatorHandler, model_validator

from nmt.config.base import Section

# By type of model and name. A run stores the values, so that it does not depend on this table.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "rnn": {
        "gnmt": {
            "cell": "lstm",
            "d_model": 1024,
            "d_hidden": 1024,
            "encoder_layers": 8,
            "decoder_layers": 8,
            "bidirectional": "first",
            "residual": True,
            "residual_from": 3,
            "attention": "additive",
            "d_attention": 1024,
        },
    },
    "transformer": {
        "marian": {
            "norm": "post",
            "activation": "swish",
            "positions": "sinusoidal_marian",
            "tie_embeddings": "all",
            "output_bias": True,
            "start": "zero",
        },
    },
}


class PresetSection(Section):
    """A section whose key ``preset`` names a set of values in :data:`PRESETS`; keys that are given win."""

    type: str

    @model_validator(mode="wrap")
    @classmethod
    def _apply_preset(cls, raw: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Add the values of a preset for omitted keys, apart from those without effect beside the keys given."""
        name = raw.get("preset") if isinstance(raw, Mapping) else None
        values = PRESETS.get(raw["type"], {}).get(name) if isinstance(name, str) else None
        if values is None:
            return validate(raw)
        added = {key: value for key, value in values.items() if key not in raw}
        unused = validate({**raw, **added}).unused()
        return validate({**raw, **{key: value for key, value in added.items() if key not in unused}})
