"""Figures of the scaling chapters: what is drawn is what the tables say, and odd cases are drawn, too."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from scaling_records import law_records, power_law
from small_runs import diverged, record, scored

from mlpstudy.experiments import parameters_or_examples, scaling_laws, standard_mlp
from mlpstudy.laws import scaling
from mlpstudy.laws.powerlaw import POWER_LAW
from mlpstudy.plots import scaling as draw
from mlpstudy.profiles import profile

pytestmark = pytest.mark.usefixtures("few_draws")
LAPTOP = profile("laptop")
CHAPTERS = (scaling_laws, parameters_or_examples, standard_mlp)


@pytest.fixture(scope="module")
def records():
    return law_records(LAPTOP, power_law(0.2))


def texts(figure):
    return [t.get_text() for t in figure.findobj(matplotlib.text.Text) if t.get_text()]


def test_every_training_is_a_line_and_the_front_has_rings_and_a_law(records):
    figure = draw.error_against_compute(scaling_laws.errors_frame(records))
    (axes,), (above,) = figure.axes, figure.axes[0].child_axes
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert axes.get_title(loc="left") == "4 other CIFAR-10 classes"
    assert sum(len(line.get_xdata()) == 3 for line in axes.lines) == 16
    measured = scaling_laws.measured(records)
    rings = np.asarray(axes.collections[-1].get_offsets())
    assert np.sort(rings[:, 0]) == pytest.approx(np.sort(measured.front().compute))
    law = next(line for line in axes.lines if len(line.get_xdata()) == 100)
    assert law.get_ydata() == pytest.approx(scaling.fit_front(measured).fit.law(law.get_xdata()))
    expected = {"B-6/Wi-64", "3,000 images", "front", "fitted law", "floating-point operations"}
    assert expected <= set(texts(figure))
    figure.draw_without_rendering()  # as when it is saved
    low, high = axes.get_xlim()
    assert above.get_xlim() == pytest.approx((2 * low, 2 * high)), "two operations per multiply-add"


def test_families_have_their_usual_colors(records):
    frame = scaling_laws.errors_frame(records)
    second = frame.assign(family="s-mlp", error=1.1 * frame["error"])
    figure = draw.error_against_compute(pd.concat([frame, second]), hue="family")
    colors = {line.get_color() for line in figure.axes[0].lines}
    assert colors == {"#0072B2", "#D55E00"} and {"B-MLP", "S-MLP"} <= set(texts(figure))


def test_more_examples_are_larger():
    areas = draw._areas([3000, 30_000, 10_000, 3000])
    assert areas[3000] < areas[10_000] < areas[30_000] and len(areas) == 3
    assert draw._areas([5]) == {5: draw.SMALLEST}


def test_the_forecast_shows_what_was_held_out(records):
    frame = scaling_laws.forecast_frame(records)
    axes = draw.forecast(frame).axes[0]
    points = frame.drop_duplicates("compute_macs")
    drawn = {line.get_label(): len(line.get_xdata()) for line in axes.lines}
    assert drawn["held out"] == points["held_out"].sum() and drawn["fitted"] == (~points["held_out"]).sum()
    assert len(axes.collections) == 1, "the band"


def test_a_front_too_short_is_drawn_without_a_forecast(records):
    short = [r for r in records if r.spec.upstream.data.examples == 3000 and r.spec.epoch == 2]
    axes = draw.forecast(scaling_laws.forecast_frame(short)).axes[0]
    assert "too short" in axes.get_title(loc="left") and not axes.collections


def test_exponents_have_intervals_and_crosses_where_known():
    row = dict(name="CIFAR-100", law=POWER_LAW, doubt="none", paper=0.25, value=0.2, low=0.1, high=0.3)
    alone = row | dict(low="unknown", high="unknown")
    rows = [row, alone | {"paper": "unknown"}, alone | {"doubt": "x", "value": "unknown"}]
    figure = draw.exponents(pd.DataFrame(rows), "exponent")
    axes = figure.axes[0]
    marks = [line.get_marker() for line in axes.lines]
    assert marks.count("x") == 2 and marks.count("o") == 2
    assert sum(len(c.get_segments()) for c in axes.collections) == 1
    assert "the paper" in texts(figure)
    assert any(text.endswith("not determined") for text in texts(figure))
    assert "the paper" not in texts(draw.exponents(pd.DataFrame([row | {"paper": "unknown"}]), "exponent"))


def test_bottlenecks_share_the_scale_of_errors(records):
    frame = parameters_or_examples.bottleneck_frame(records)
    two = frame[(frame["binds"] == "parameters") | (frame["size"] > 3000)]
    left, right = draw.bottlenecks(two).axes
    assert left.get_ylim() == right.get_ylim()
    assert (left.get_xlabel(), right.get_xlabel()) == ("parameters", "examples")
    assert len(left.lines) == 3 and len(right.lines) == 2, "no law where none could be fitted"
    assert {"3k", "10k", "30k"} <= set(texts(draw.bottlenecks(frame)))


def test_the_allocation_has_both_lines(records):
    frame = parameters_or_examples.allocation_frame(records)
    figure = draw.allocation(frame)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["parameters", "examples"]
    assert {"fitted", "the paper's slope"} <= set(texts(figure))


def test_legends_name_few_of_many_sizes():
    assert draw._spread([1, 2, 3]) == [1, 2, 3]
    assert draw._spread(list(range(10))) == [0, 3, 6, 9]


@pytest.mark.parametrize("module", CHAPTERS)
def test_odd_records_are_drawn(module):
    specs = module.runs(LAPTOP, (0,))
    equal = [record(spec) for spec in specs]
    for made in (equal, equal[-1:], diverged(equal)):
        for figure in module.FIGURES.values():
            assert isinstance(figure.draw(figure.data(made)), matplotlib.figure.Figure)


@pytest.mark.filterwarnings("ignore:(Attempt to set non-positive ylim|Data has no positive values)")
def test_an_error_of_nothing_is_drawn():
    perfect = scored(law_records(LAPTOP, power_law(0.2), (0,)), 1.0, lambda record: True)
    for module in CHAPTERS[:2]:
        for figure in module.FIGURES.values():
            figure.draw(figure.data(perfect))
