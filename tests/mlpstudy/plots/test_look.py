"""Figures look alike, fit a phone, say where there is nothing, and leave the reader's matplotlib alone."""

import matplotlib
import pytest
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


def drawn(name, figure, seeds):
    """A figure drawn from the published records of some seeds, at the profile that has most."""
    published = max(every_published(name, ROOT / "results"), key=lambda each: len(each.records))
    records = [record for record in published.records if seed_of(record.spec) in seeds]
    return figure.draw(figure.data(records), published.artifacts)


@pytest.mark.parametrize("name, title", FIGURES)
def test_every_panel_names_its_axes_and_fits_a_phone(name, title):
    before = dict(matplotlib.rcParams)
    for seeds in ((0, None), (0, 1, 2, None)):
        figure = drawn(name, FIGURES[name, title], seeds)
        assert figure.axes[-1].get_xlabel() or figure.axes[-1].get_xticklabels()
        assert figure.axes[0].get_ylabel() or figure.axes[0].get_yticklabels()
        assert figure.get_size_inches()[0] <= look.WIDTH
        sizes = [text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
        assert min(sizes) >= 10
        width, height = figure.bbox.width, figure.bbox.height
        boxes = [axes.get_tightbbox() for axes in figure.axes]
        for box in boxes + [legend.get_window_extent() for legend in figure.legends]:
            assert -1 <= box.x0 and box.x1 <= width + 1 and -1 <= box.y0 and box.y1 <= height + 1, "cut off"
    assert dict(matplotlib.rcParams) == before, "the reader's own settings stay as they are"


@pytest.mark.parametrize("name, title", FIGURES)
def test_where_there_is_nothing_a_figure_says_so(name, title):
    before = dict(matplotlib.rcParams)
    figure = drawn(name, FIGURES[name, title], ())
    said = any("nothing to draw" in text.get_text() for text in figure.axes[0].texts)
    assert said == FIGURES[name, title].data([]).empty
    svg.drawing(figure, "nothing")
    assert dict(matplotlib.rcParams) == before


def test_names_have_their_known_color_and_others_a_free_one():
    found = look.colors_of(["ResNet18", "B-MLP", "x", "B-MLP"])
    assert list(found) == ["ResNet18", "B-MLP", "x"] and found["B-MLP"] == look.KNOWN_COLORS["B-MLP"]
    assert len(set(found.values())) == 3 and len(look.colors_of("abcdefgh")) == 8
