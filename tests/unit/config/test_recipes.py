"""The table of ``nmt init``, against values worked out by hand from its rules."""

import math

import pytest
from pydantic import TypeAdapter

from nmt.config import recipes
from nmt.config.model import ModelConfig
from nmt.config.recipes import RECIPES, SIZES, recipe_for


def test_rows_ascend_and_the_last_one_takes_every_corpus():
    limits = [recipe.pairs for recipe in RECIPES]
    assert limits == sorted(set(limits))
    assert limits[-1] == math.inf


@pytest.mark.parametrize("column", ["vocab_size", "batch", "steps", "held"])
def test_larger_corpora_never_get_less(column):
    values = [getattr(recipe, column) for recipe in RECIPES]
    assert values == sorted(values)


def test_models_of_a_row_are_named_largest_first():
    order = list(SIZES)[::-1]
    for recipe in RECIPES:
        assert sorted(recipe.sizes, key=order.index) == recipe.sizes
        dropout = list(recipe.dropout.values())
        assert dropout == sorted(dropout, reverse=True)  # a smaller model overfits less


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe.pairs:g}")
def test_every_model_of_every_row_is_a_valid_configuration(recipe):
    for size in recipe.sizes:
        TypeAdapter(ModelConfig).validate_python(recipes.model_settings(recipe, size))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe.pairs:g}")
def test_sources_of_a_row_are_explained(recipe):
    assert recipe.sources
    assert all(f"\n{letter}. " in recipes.__doc__ for letter in recipe.sources)


@pytest.mark.parametrize(
    ("pairs", "vocab_size", "largest"),
    [
        (200, 1_000, "gru"),
        (2_000, 1_000, "gru"),
        (2_001, 2_000, "gru"),
        (29_000, 8_000, "tiny"),
        (160_000, 8_000, "medium"),
        (1_000_000, 16_000, "base"),
        (4_500_000, 32_000, "base"),
        (10_000_000, 32_000, "big"),
    ],
)
def test_the_row_of_a_corpus(pairs, vocab_size, largest):
    recipe = recipe_for(pairs)
    assert (recipe.vocab_size, recipe.sizes[0]) == (vocab_size, largest)


def test_small_models_have_small_vocabularies():
    assert recipes.vocabulary(recipe_for(10_000_000), "tiny") == 8_000
    assert recipes.vocabulary(recipe_for(10_000_000), "base") == 32_000
    assert recipes.vocabulary(recipe_for(3_000), "gru") == 2_000


def test_the_smallest_model_always_has_enough_updates():
    recipe = recipe_for(1_000_000)  # 50,000 updates
    assert recipe.enough(16_667, "base")
    assert not recipe.enough(16_666, "base")
    assert recipe.enough(1, "tiny")


def test_a_cpu_accumulates_smaller_batches():
    recipe = recipe_for(4_500_000)
    assert recipes.update(recipe, "base", "cuda") == {"batch_tokens": 24576}
    assert recipes.update(recipe, "base", "cpu") == {"batch_tokens": 4096, "accumulate": 6}
    assert recipes.update(recipe, "tiny", "cpu") == {"batch_tokens": 4096}


def test_halved_batches_make_the_same_update():
    assert recipes.update(recipe_for(4_500_000), "base", "cuda", 2) == {"batch_tokens": 6144, "accumulate": 4}
    assert recipes.update(recipe_for(1_000), "gru", "cuda", 5) == {"batch_tokens": 512, "accumulate": 2}


def test_at_most_a_tenth_is_held_out():
    assert recipes.held_fraction(recipe_for(3_000).held, 3_000) == 0.08  # 240 pairs
    assert recipes.held_fraction(recipe_for(500).held, 500) == 0.1
    assert recipes.held_fraction(recipe_for(10_000_000).held, 10_000_000) == 0.0003


@pytest.mark.parametrize(("asked", "training"), [(1, 0.75), (10, 9.5), (60, 57), (480, 465), (2880, 2865)])
def test_a_part_of_the_time_is_for_the_rest(asked, training):
    assert recipes.training_minutes(asked) == pytest.approx(training, rel=0.005)


@pytest.mark.parametrize(("steps", "warmup"), [(8_000, 800), (200_000, 4_000), (300, 100), (40, 20)])
def test_warmup_is_a_tenth_of_the_run(steps, warmup):
    assert recipes.warmup(steps) == warmup


def test_validations_take_a_tenth_of_the_time_at_most_but_there_are_four():
    assert recipes.validate_every(1_200, 1.0, 1.0) == 100
    assert recipes.validate_every(12_000, 1.0, 200.0) == 2_000  # of 10 * 200 s
    assert recipes.validate_every(1_200, 1.0, 500.0) == 300
    assert recipes.validate_every(2, 1.0, 1.0) == 1
