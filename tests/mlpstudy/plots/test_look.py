"""Figures look alike, fit a phone, say where there is nothing, and leave the reader's matplotlib alone."""

import matplotlib
import pytest
from plot_frames import DRAWINGS, every_figure

from mlpstudy.book import svg
from mlpstudy.plots import look


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
@pytest.mark.parametrize("draw, frame", DRAWINGS.values(), ids=DRAWINGS)
def test_every_panel_names_its_axes_and_fits_a_phone(draw, frame, seeds):
    figure = draw(frame(seeds))
    assert figure.axes[-1].get_xlabel()
    assert figure.axes[0].get_ylabel() or figure.axes[0].get_yticklabels()
    assert figure.get_size_inches()[0] <= look.WIDTH
    sizes = [text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
    assert min(sizes) >= 10
    width, height = figure.bbox.width, figure.bbox.height
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    for box in boxes + [legend.get_window_extent() for legend in figure.legends]:
        assert -1 <= box.x0 and box.x1 <= width + 1 and -1 <= box.y0 and box.y1 <= height + 1, "cut off"


@pytest.mark.parametrize("draw, frame", DRAWINGS.values(), ids=DRAWINGS)
def test_where_there_is_nothing_a_figure_says_so(draw, frame):
    assert "nothing to draw" in draw(frame((0,))[:0]).axes[0].texts[0].get_text()


def test_names_have_their_known_color_and_others_a_free_one():
    found = look.colors_of(["ResNet18", "B-MLP", "x", "B-MLP"])
    assert list(found) == ["ResNet18", "B-MLP", "x"] and found["B-MLP"] == look.KNOWN_COLORS["B-MLP"]
    assert len(set(found.values())) == 3 and len(look.colors_of("abcdefgh")) == 8


def test_the_readers_own_settings_stay_as_they_are():
    before = dict(matplotlib.rcParams)
    list(every_figure((0, 1)))
    svg.drawing(look.nothing_to_draw(), "nothing")
    assert dict(matplotlib.rcParams) == before
