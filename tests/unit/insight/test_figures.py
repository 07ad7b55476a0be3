"""Pictures of attention: text as it is, at a bounded cost, without a word from the drawing library."""

import logging
import warnings

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.font_manager import fontManager

from nmt.insight import figures
from nmt.insight.figures import attention_figure, attention_image
from nmt.training.reporting import Reporter

FORMULAS = ["▁$$", "$_$", "$^$", "$%$", "\\frac", "$x$", "{", "$\\alpha$", "a_b^c", "&", "#", "\\$", "%", "~"]


@pytest.fixture
def few_fonts(monkeypatch):
    """Matplotlib's fonts alone, none of which has a Chinese character."""
    paths = {e.name: e.fname for e in fontManager.ttflist if e.name in ("cmr10", "DejaVu Sans") and e.weight == 400}
    monkeypatch.setattr(figures, "_installed", lambda: dict(sorted(paths.items())))
    figures._say_once.cache_clear()


def labels(figure):
    axes = figure.axes[0]
    return [[label.get_text() for label in side] for side in (axes.get_yticklabels(), axes.get_xticklabels())]


def weights(rows, columns):
    return torch.full((rows, columns), 1 / columns)


def test_subwords_are_drawn_as_they_are():
    figure = attention_figure(weights(14, 14), FORMULAS, FORMULAS[::-1])
    FigureCanvasAgg(figure).draw()
    assert labels(figure) == [FORMULAS[::-1], FORMULAS]


@pytest.mark.parametrize(
    "symbol", ["$$", "$_$", "\\", "\n", "\t", "\0", "\x85", "\u2028", "\ud7ff", "\U0001f600", "ا", "क्षि", ""]
)
def test_any_text_is_drawn(symbol, recwarn):
    image = attention_image(weights(2, 3), [symbol] * 3, [symbol * 500, "</s>"])
    assert image.ndim == 3
    assert not recwarn.list


def test_a_user_who_draws_all_text_with_tex_needs_none_here():
    with matplotlib.rc_context({"text.usetex": True}):
        attention_image(weights(1, 1), ["$"], ["▁"])


@pytest.mark.slow
def test_the_cost_of_a_long_sentence_is_bounded():
    short = attention_image(weights(60, 60), ["x"] * 60, ["y"] * 60)
    long = attention_image(weights(400, 1000), ["x"] * 1000, ["y"] * 400)
    assert long.shape == short.shape
    assert long.size < 30 << 20
    figure = attention_figure(weights(400, 50), ["x"] * 50, ["y"] * 400)
    assert figure.get_supxlabel() == "the first 60 of 400 target subwords"


def test_the_darkest_colour_follows_the_weights():
    """numpy's percentile, and at least 0.2."""
    rows = torch.linspace(0, 3, 200).reshape(20, 10).softmax(1)
    drawn = [rows, torch.full((4, 10), 0.1), torch.eye(5)]
    limits = [attention_figure(w, ["x"] * w.shape[1], ["y"] * w.shape[0]).axes[0].images[0].get_clim() for w in drawn]
    assert limits[0] == pytest.approx((0.0, max(0.2, np.percentile(rows.numpy(), 99))))
    assert limits[1:] == [(0.0, 0.2), (0.0, 1.0)]


def test_long_subwords_are_shortened():
    assert labels(attention_figure(weights(1, 1), ["a" * 5000], ["b" * 16])) == [["b" * 16], ["a" * 15 + "…"]]


def test_a_font_is_chosen_that_has_the_characters(few_fonts):
    with matplotlib.rc_context({"font.sans-serif": ["cmr10"]}):
        families, missing = figures._fonts("wЖ")
        assert (families, missing) == (["cmr10", "DejaVu Sans"], frozenset())
        figure = attention_figure(weights(1, 1), ["wЖ"], ["w"])
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # "Glyph ... missing from font(s)"
            FigureCanvasAgg(figure).draw()


def test_characters_of_no_font_are_said_once(few_fonts, caplog, recwarn):
    for text in ("今天", "我们学习"):
        figure = attention_figure(weights(1, 1), [text], ["a"])
        assert labels(figure)[1] == ["□" * len(text)]
        assert figure.get_supxlabel() == "□: no installed font has these characters"
        attention_image(weights(1, 1), [text], ["a"])
    assert not recwarn.list
    assert len(caplog.records) == 1


def test_a_picture_that_cannot_be_drawn_is_left_out(tmp_path, monkeypatch, caplog):
    def fails(*_):
        raise MemoryError("Unable to allocate 587 MiB")

    class Quiet(Reporter):
        def __init__(self):
            pass

    monkeypatch.setattr("nmt.training.reporting.attention_image", fails)
    with caplog.at_level(logging.INFO, "nmt"):
        Quiet().attention(3, "0", weights(1, 1), ["a"], ["b"])
    assert caplog.messages == ["warning: attention map 0 was not drawn: MemoryError: Unable to allocate 587 MiB"]
