"""Rules of this code base that no linter knows."""

import ast
import math
from collections.abc import Iterator
from importlib import import_module
from inspect import signature
from itertools import combinations
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from nmt.cli.commands import translate
from nmt.config.base import RESUMABLE, section_types
from nmt.config.encoders import EncoderConfig, TransformerStack
from nmt.config.experiment import all_keys
from nmt.config.model import ModelConfig, RNNConfig
from nmt.config.presets import PRESETS
from nmt.config.schedule import SCHEDULES, ScheduleConfig
from nmt.config.search import ADDED, KEYS_OF, SearchConfig
from nmt.config.sources import Source
from nmt.config.terms import TermsConfig
from nmt.config.train import OptimizerConfig, TrainConfig
from nmt.config.translate import Kind
from nmt.data.sources.base import SourceKind
from nmt.models.alignment import ALIGNMENTS
from nmt.models.attention import SCORES
from nmt.models.encoders import ENCODERS
from nmt.models.norms import NORMS, QUERY_KEY_NORMS
from nmt.search.methods import METHODS
from nmt.search.scoring import LengthPenalty
from nmt.text.documents import FORMATS
from nmt.text.placeholders import KINDS
from nmt.training.terms import TERMS

ROOT = Path(__file__).parents[2]
LINES = 60
# Functions that may be longer, with the reason.
LONG = {
    "nmt/search/beam.py:beam_search": "the algorithm in one piece, as its proof of the early stop reads it",
    "benchmarks/bench_decode.py:ctranslate2_engine": "one comparison from its preparation to its numbers",
}


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def lengths() -> dict[str, int]:
    return {
        f"{path.relative_to(ROOT)}:{node.name}": node.end_lineno - node.lineno + 1
        for path in sources("nmt", "scripts", "benchmarks")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_functions_are_short():
    found = lengths()
    assert len(found) > 500
    assert {name: count for name, count in found.items() if count > LINES and name not in LONG} == {}


def test_exceptions_from_the_length_of_functions_are_needed():
    found = lengths()
    assert {name for name in LONG if found.get(name, 0) <= LINES} == set()


# ------------------------------------------------------------------------------------------------------- configuration

KEYS = list(all_keys())


def test_every_key_has_a_description():
    assert len(KEYS) > 100
    assert [key for key, field in KEYS if not (field.description or "").strip()] == []


def test_every_key_says_once_whether_it_may_change_on_resume():
    """By ``RESUMABLE`` on the key or on the section around it; a key without it stays fixed."""
    marked = {key for key, field in KEYS if field.json_schema_extra is not None}
    assert all(field.json_schema_extra in (None, RESUMABLE) for _, field in KEYS)
    assert {"search", "train.max_steps"} <= marked  # the mark is read from the right place
    twice = [key for key in marked for other in marked if key.startswith(f"{other}.")]
    assert twice == []


def names(section: type, key: str) -> set[str]:
    """The values of a key that is a Literal."""
    annotation = section.model_fields[key].annotation
    assert get_origin(annotation) is Literal
    return {*get_args(annotation)}


# ----------------------------------------------------------------------------------- names and their implementations


def test_each_kind_of_source_has_a_module_with_the_functions_of_its_interface():
    kinds = [name for section in get_args(Source) for name in names(section, "kind")]
    assert {"text", "hub"} <= {*kinds}
    assert len({*kinds}) == len(kinds)
    for kind in kinds:
        module = import_module(f"nmt.data.sources.{kind}")
        for function in ("read", "describe", "name"):
            _, *expected = signature(getattr(SourceKind, function)).parameters
            assert [*signature(getattr(module, function)).parameters] == expected, (kind, function)


def test_attention_scores_are_those_of_the_configuration():
    assert set(SCORES) == names(RNNConfig, "attention") - {"none"}


def test_alignments_are_those_of_the_configuration():
    assert set(ALIGNMENTS) == names(RNNConfig, "alignment")


def test_encoders_are_those_of_the_configuration():
    sections = list(section_types(EncoderConfig))
    assert {*ENCODERS} == {*sections}
    assert len({name for section in sections for name in names(section, "type")}) == len(sections)
    assert len({*ENCODERS.values()}) == len(ENCODERS)


def test_presets_are_those_of_the_configuration():
    for section in section_types(ModelConfig):
        (family,) = names(section, "type")
        field = section.model_fields.get("preset")
        named = {name for each in get_args(field.annotation) for name in get_args(each)} if field else set()
        assert PRESETS.get(family, {}).keys() == named
        for values in PRESETS.get(family, {}).values():
            assert section.model_validate({"type": family, **values})


def test_norms_are_those_of_the_configuration():
    assert set(NORMS) == names(TransformerStack, "norm_type")
    assert set(QUERY_KEY_NORMS) == names(TransformerStack, "qk_norm") - {"none"}


def test_terms_of_the_loss_are_those_of_the_configuration():
    assert {*TERMS} == {*TermsConfig.model_fields}


def test_schedules_are_those_of_the_configuration():
    def curve(name: str, **settings) -> list[float]:
        schedule = ScheduleConfig(name=name, warmup_steps=10, **settings)
        config = TrainConfig(max_steps=100, optimizer=OptimizerConfig(lr=1.0), schedule=schedule)
        return [config.learning_rate(step, plateau_cuts=step // 30) for step in range(1, 121)]

    assert SCHEDULES.keys() == names(ScheduleConfig, "name")
    curves = {name: curve(name) for name in SCHEDULES}
    assert all(math.isclose(rates[9], 1.0) for rates in curves.values())  # the peak, after the warmup
    for one, other in combinations(SCHEDULES, 2):
        assert curves[one] != curves[other], (one, other)
    # A schedule uses exactly the keys that it names; patience decides when a plateau begins, see Progress, and end how
    # the end is found, see plan.aim.
    changes = {"total_steps": 90, "min_lr": 0.6, "factor": 0.9}
    assert {key for schedule in SCHEDULES.values() for key in schedule.keys} == changes.keys() | {"patience", "end"}
    for name, schedule in SCHEDULES.items():
        used = {key for key, value in changes.items() if curve(name, **{key: value}) != curves[name]}
        assert used == {*schedule.keys} - {"patience", "end"}, name


def test_length_penalties_are_those_of_the_configuration():
    configured = names(SearchConfig, "length_penalty")
    assert configured == {*get_args(get_type_hints(LengthPenalty)["kind"])}
    values = {name: LengthPenalty(name, alpha=0.7)(20) for name in configured}
    assert len({*values.values()}) == len(configured)


def test_search_methods_are_those_of_the_configuration():
    assert METHODS.keys() == KEYS_OF.keys() == names(SearchConfig, "method")
    known = {key for keys in KEYS_OF.values() for key in keys}
    assert known < {*SearchConfig.model_fields}
    defaults = {name: field.default for name, field in SearchConfig.model_fields.items()}
    assert all(defaults[key] == value for key, value in ADDED.items())


def test_kinds_of_placeholders_and_formats_of_documents_are_those_of_options():
    assert {*get_args(Kind)} == {*KINDS}
    assert [*FORMATS] == translate.FORMATS


def test_every_module_says_what_it_is_for():
    silent = [
        str(path.relative_to(ROOT))
        for path in sources("nmt", "scripts", "benchmarks")
        if (tree := ast.parse(path.read_text(encoding="utf-8"))).body and not ast.get_docstring(tree)
    ]
    assert silent == []
