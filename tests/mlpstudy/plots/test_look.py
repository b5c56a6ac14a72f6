"""Figures look alike, fit a phone, say where there is nothing, and leave the reader's matplotlib alone."""

import functools
import itertools

import matplotlib.axis
import matplotlib.text
import numpy as np
import pytest
from matplotlib.collections import PathCollection
from small_runs import ROOT

from mlpstudy.book import svg
from mlpstudy.evidence.records import every_published, seed_of
from mlpstudy.experiments import EXPERIMENTS, experiment
from mlpstudy.plots import look

pytestmark = pytest.mark.usefixtures("few_draws")
FIGURES = {
    (name, title): figure
    for name in EXPERIMENTS
    for title, figure in experiment(name).FIGURES.items()
    if (name, title) != ("filters", "first-layer-weights")  # pictures without axes
}


@functools.cache
def published(name):
    """The published records of an experiment at the profile that has most, and their seeds."""
    found = max(every_published(name, ROOT / "results"), key=lambda each: len(each.records))
    return found, sorted({seed_of(record.spec) for record in found.records} - {None})


def drawn(name, figure, seeds):
    """A figure drawn from the published records of some seeds."""
    found, _ = published(name)
    records = [record for record in found.records if seed_of(record.spec) in (*seeds, None)]
    return figure.draw(figure.data(records), found.artifacts)


def words(figure):
    """Every text that is drawn, with its place in pixels."""
    hidden = set()  # ticks beyond the ends of an axis
    for axis in figure.findobj(matplotlib.axis.Axis):
        shown = {id(tick) for tick in axis._update_ticks()}
        ticks = [tick for tick in axis.get_major_ticks() + axis.get_minor_ticks() if id(tick) not in shown]
        hidden |= {id(label) for tick in ticks for label in (tick.label1, tick.label2)}
    texts = [t for t in figure.findobj(matplotlib.text.Text) if t.get_visible() and id(t) not in hidden]
    return [(t.get_text(), t.get_window_extent()) for t in texts if t.get_text().strip()]


def cut_off(figure):
    """The dots that lie outside of their panel."""
    for axes in figure.axes:
        dots = [
            line.get_xydata() for line in axes.lines if line.get_marker() not in ("None", "none", "", None)
        ]
        dots += [each.get_offsets() for each in axes.collections if isinstance(each, PathCollection)]
        for points in dots:
            low, high = np.sort(np.transpose([axes.get_xlim(), axes.get_ylim()]), axis=0)
            yield from np.compress(((points < low) | (points > high)).any(axis=1), points, axis=0)


@pytest.mark.parametrize("name, title", FIGURES)
def test_every_panel_names_its_axes_and_fits_a_phone(name, title):
    before = dict(matplotlib.rcParams)
    _, seeds = published(name)
    for some in (seeds[:1], seeds):
        figure = drawn(name, FIGURES[name, title], some)
        assert figure.axes[-1].get_xlabel() or figure.axes[-1].get_xticklabels()
        assert figure.axes[0].get_ylabel() or figure.axes[0].get_yticklabels()
        assert figure.get_size_inches()[0] <= look.WIDTH
        sizes = [text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
        assert min(sizes) >= 10
        figure.draw_without_rendering()  # as when it is saved: layouts follow earlier ticks
        width, height = figure.bbox.size
        for text, box in words(figure):
            inside = -1 <= box.x0 and box.x1 <= width + 1 and -1 <= box.y0 and box.y1 <= height + 1
            assert inside, f"{text!r} is cut off"
        for (text, box), (other, place) in itertools.combinations(words(figure), 2):
            wide = min(box.x1, place.x1) - max(box.x0, place.x0)
            tall = min(box.y1, place.y1) - max(box.y0, place.y0)
            assert wide <= 1 or tall <= 1, f"{text!r} lies on {other!r}"
        assert not list(cut_off(figure))
    assert dict(matplotlib.rcParams) == before, "the reader's own settings stay as they are"


@pytest.mark.parametrize(
    "name, title",
    [
        ("architectures", "pixel-permutation"),
        ("transfer", "accuracy-by-images"),
        ("transfer", "gain-by-views"),
        ("linear-probes", "probes"),
        ("batch-size", "batch-size"),
        ("batch-size", "batch-size-apart"),
        ("standard-mlp", "transfer"),
        ("standard-mlp", "error-against-compute"),
        ("efficiency", "throughput"),
        ("efficiency", "roofline"),
    ],
)
def test_what_a_legend_names_can_be_told_apart_without_colors(name, title):
    figure = drawn(name, FIGURES[name, title], published(name)[1])
    keys = figure.legends[0].legend_handles
    looks = [(key.get_marker(), key.get_linestyle(), key.get_markersize()) for key in keys]
    assert len(set(looks)) == len(looks), looks


@pytest.mark.parametrize("name, title", FIGURES)
def test_where_there_is_nothing_a_figure_says_so(name, title):
    before = dict(matplotlib.rcParams)
    figure = drawn(name, FIGURES[name, title], ())
    said = any("nothing to draw" in text.get_text() for text in figure.axes[0].texts)
    assert said == FIGURES[name, title].data([]).empty
    svg.drawing(figure, "nothing")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    "value, text",
    [
        (0.05, "0.05"),
        (1, "1"),
        (999, "999"),
        (1000, "1k"),
        (393_216, "393k"),
        (2.5e6, "2.5M"),
        (1e9, "1G"),
        (4e13, "40T"),
        (1e15, "1P"),
    ],
)
def test_axes_have_short_numbers(value, text):
    assert look.short(value) == text


def test_names_have_their_known_color_and_others_a_free_one():
    found = look.colors_of(["ResNet18", "B-MLP", "x", "B-MLP"])
    assert list(found) == ["ResNet18", "B-MLP", "x"] and found["B-MLP"] == look.KNOWN_COLORS["B-MLP"]
    assert len(set(found.values())) == 3 and len(look.colors_of("abcdefgh")) == 8
