"""Figures on transfer: what is drawn where, for one and for several data sets."""

import functools

import pandas as pd
import pytest
from matplotlib.colors import to_hex
from plot_frames import product

from mlpstudy.experiments.transfer import ARMS
from mlpstudy.plots import look
from mlpstudy.plots import transfer as plots

draw_pixels = functools.partial(plots.before_and_after, x="pixels", hue="model")


def dot_frame(seeds=(0, 1), datasets=("A", "B"), networks=ARMS):
    frame = product(data=datasets, seed=seeds, network=networks)
    return frame.assign(accuracy=10.0 * frame["network"].map(list(networks).index) + frame["seed"])


def view_frame(networks=ARMS[1:]):
    averages = ("averaged logits", "averaged softmax")
    frame = product(data=("A",), network=networks, average=averages, views=(1, 2, 4))
    low = frame["views"] / 10  # of two seeds, a point apart
    return frame.assign(gain=low + 0.5, low=low, high=low + 1)


def probe_frame():
    """Both probes of three kinds of features, then two networks trained whole."""
    features = ("pixels", "random weights", "pre-trained")
    frame = product(data=("A",), features=features, method=("linear", "ridge"), seed=(0, 1))
    frame = frame.assign(accuracy=20.0 + frame["features"].map(features.index) + frame["seed"])
    whole = product(
        data=("A",), features=("from scratch", "fine-tuned"), method=("whole network",), seed=(0,)
    )
    return pd.concat([frame, whole.assign(accuracy=[30.0, 40.0])], ignore_index=True)


def pixel_frame(accuracy):
    frame = product(model=("B-MLP", "small CNN"), pixels=("as they are", "permuted"), seed=(0,))
    return frame.assign(accuracy=accuracy)


def markers(axes):
    """(x, y, color) of every dot."""
    return [
        (float(x), float(y), to_hex(line.get_color()))
        for line in axes.lines
        if line.get_marker() in list(look.MARKERS)
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    ]


def labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_paired_dots_have_a_panel_per_data_set_and_a_dot_per_run():
    figure = plots.paired_dots(dot_frame())
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["A", "B"]
    for axes in figure.axes:
        assert [label.get_text() for label in axes.get_yticklabels()] == list(ARMS)
        found = markers(axes)
        assert sorted(x for x, _, _ in found) == [0, 1, 10, 11, 20, 21]
        assert {round(y) for _, y, _ in found} == {0, 1, 2}
        assert len({color for _, _, color in found}) == 3
        joins = [line for line in axes.lines if line.get_marker() != "o"]
        assert [list(line.get_xdata()) for line in joins] == [[0, 10, 20], [1, 11, 21]]
    assert figure.axes[-1].get_xlabel() == "test accuracy (%)"


def test_official_checkpoints_stand_below_and_are_not_joined():
    figure = plots.paired_dots(dot_frame((0,), ("A",), ("official X", *ARMS)))
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [*ARMS, "official X"]
    (join,) = [line for line in axes.lines if line.get_marker() != "o"]
    assert list(join.get_xdata()) == [10, 20, 30]
    top, bottom = axes.get_ylim()[::-1]
    assert top < 0 < 3 < bottom, "the first is on top"


def test_an_arm_without_a_run_leaves_no_row():
    figure = plots.paired_dots(dot_frame(networks=ARMS[::2]))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(ARMS[::2])


def test_gains_are_means_over_seeds_against_the_number_of_view_frame():
    figure = plots.gains(view_frame())
    (axes,) = figure.axes
    drawn = [line for line in axes.lines if line.get_marker() in list(look.MARKERS)]
    assert len(drawn) == 4 and {line.get_linestyle() for line in drawn} == {"-", "--"}
    for line in drawn:
        assert list(line.get_xdata()) == [1, 2, 4]
        assert list(line.get_ydata()) == pytest.approx([0.6, 0.7, 0.9])
    bands = [band.get_datalim(axes.transData) for band in axes.collections]
    assert [end for band in bands for end in (band.y0, band.y1)] == pytest.approx([0.1, 1.4] * 4)
    assert axes.get_xscale() == "log" and [t.get_text() for t in axes.get_xticklabels()] == ["1", "2", "4"]
    assert labels(figure) == [*ARMS[1:], "averaged logits", "averaged softmax"]


def test_a_network_keeps_its_color_from_figure_to_figure():
    first = {round(y): color for _, y, color in markers(plots.paired_dots(dot_frame()).axes[0])}
    drawn = plots.gains(view_frame(networks=("official X", *ARMS[1:])))
    colors = {
        t.get_text(): to_hex(h.get_color())
        for t, h in zip(drawn.legends[0].get_texts(), drawn.legends[0].legend_handles, strict=True)
    }
    assert [colors[name] for name in ARMS[1:]] == [first[1], first[2]]
    assert colors["official X"] not in first.values()


def test_probes_stand_beside_what_they_are_compared_with():
    figure = plots.probes(probe_frame())
    (axes,) = figure.axes
    found = markers(axes)
    assert len(found) == 12 and len({color for _, _, color in found}) == 2
    assert len({(round(x, 3), round(y, 3)) for x, y, _ in found}) == 12, "no dot hides another"
    lines = {
        float(line.get_xdata()[0]): line.get_linestyle()
        for line in axes.lines
        if line.get_marker() not in list(look.MARKERS)
    }
    assert set(lines) == {30.0, 40.0} and len(set(lines.values())) == 2
    assert labels(figure) == ["linear probe", "ridge probe", "from scratch", "fine-tuned"]


def test_probes_are_drawn_without_anything_to_compare_with():
    frame = probe_frame().query("method != 'whole network'")
    assert labels(plots.probes(frame)) == ["linear probe", "ridge probe"]


def test_directions_have_one_dot_per_seed_and_start_at_zero():
    frame = product(data=("CIFAR-10",), features=("pixels", "pre-trained"), seed=(0, 1))
    frame = pd.concat([frame, frame.assign(data="larger numbers", seed=frame["seed"] + 9)], ignore_index=True)
    small, large = plots.directions(frame.assign(directions=3.0 + frame["seed"])).axes
    assert sorted(x for x, _, _ in markers(small)) == [3.0, 3.0, 4.0, 4.0] and small.get_xlim()[0] == 0
    assert len({y for _, y, _ in markers(small)}) == 4
    assert max(x for x, _, _ in markers(large)) == 13.0 < large.get_xlim()[1], (
        "the panels' common end holds all"
    )


def test_a_seed_without_its_second_run_is_still_drawn():
    frame = pixel_frame(40.0)
    frame = pd.concat([frame, frame.assign(seed=1).drop(index=1)], ignore_index=True)
    assert len(draw_pixels(frame).axes[0].lines) == 4


def test_groups_are_named_below_in_their_colors():
    figure = draw_pixels(pixel_frame([53, 53, 71, 53]))
    assert labels(figure) == ["B-MLP", "small CNN"]
    assert [key.get_color() for key in figure.legends[0].legend_handles] == [look.BLUE, look.GREEN]
