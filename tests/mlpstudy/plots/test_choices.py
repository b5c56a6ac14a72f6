"""Figures of the chapters about single choices show what they were given."""

import numpy as np
import pytest
from plot_frames import product

from mlpstudy.plots import choices

SETTINGS = ("none", "some", "much")


def setting_frame(seeds=(0, 1, 2)):
    frame = product(panel=("left, one", "right"), setting=SETTINGS, seed=seeds)
    return frame.assign(accuracy=50 + 5 * frame["setting"].map(SETTINGS.index) + frame["seed"])


def dots(axes, size):
    return [line for line in axes.lines if line.get_marker() == "o" and line.get_markersize() == size]


def test_a_setting_has_its_mean_its_seeds_and_its_interval():
    one, several = (choices.settings(setting_frame(seeds), label="x") for seeds in ((0,), (0, 1, 2)))
    for figure in (one, several):
        assert [axes.get_title(loc="left") for axes in figure.axes] == ["left,\none", "right"]
        labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
        assert labels == ["none", "some", "much"]
    assert [list(line.get_xdata()) for line in dots(several.axes[0], 7)] == [[51], [56], [61]]
    seeds = [list(line.get_xdata()) for line in dots(several.axes[0], 3)]
    assert seeds == [[50, 51, 52], [55, 56, 57], [60, 61, 62]]
    assert len(several.axes[0].collections) == 3
    assert not one.axes[0].collections and not dots(one.axes[0], 3), "one seed has no interval"


def test_a_setting_that_a_panel_lacks_leaves_its_row_empty():
    frame = setting_frame().query("panel == 'right' or setting != 'some'")
    figure = choices.settings(frame, label="x")
    assert [len(dots(axes, 7)) for axes in figure.axes] == [2, 3]


def test_changes_are_sorted_and_colored_by_their_part():
    means = {"worst": -9.0, "best": 3.0, "middle": -1.0}
    frame = product(change=means, seed=(0, 1, 2))
    mean, part = frame["change"].map(means), np.where(frame["change"] == "worst", "recipe", "block")
    ends = dict(mean=mean, low=mean - 2, high=mean + 2)
    axes = choices.differences(frame.assign(part=part, difference=mean, **ends)).axes[0]
    labels = axes.get_yticklabels()
    assert [tick.get_text() for tick in labels] == ["best", "middle", "worst"]
    assert [tick.get_color() for tick in labels] == [choices.PARTS[p] for p in ("block", "block", "recipe")]
    places = [(line.get_xdata()[0], line.get_ydata()[0]) for line in dots(axes, 7)]
    assert places == [(3, 0), (-1, 1), (-9, 2)]
    bars = [bar.get_segments()[0][:, 0].tolist() for bar in axes.collections]
    assert bars == [[1, 5], [-3, 1], [-11, -7]]


def test_lines_join_means_and_ticks_are_plain_numbers():
    batches, series = (256, 512, 2048), ("1 epoch", "2 epochs")
    frame = product(series=series, batch=batches, seed=(-1, 0, 1))
    error = 60 - 10.0 * frame["series"].map(series.index) + frame["batch"].map(batches.index)
    frame = frame.assign(error=error + 0.1 * frame["seed"], data="CIFAR-10")
    figure = choices.error_lines(frame, ordered=True)
    axes = figure.axes[0]
    means = [line for line in axes.lines if len(line.get_xdata())]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["1 epoch", "2 epochs"]
    assert [list(line.get_ydata()) for line in means] == list(
        map(pytest.approx, ([60, 61, 62], [50, 51, 52]))
    )
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["256", "512", "2,048"]
    low, high = axes.get_ylim()
    ticks = [tick.get_text() for tick in axes.get_yticklabels() if low <= tick.get_position()[1] <= high]
    assert 2 <= len(ticks) <= 7 and ticks[0] == "50" and all(50 <= float(tick) <= 63 for tick in ticks)
    assert len({line.get_marker() for line in means}) == 2, "lines can be told apart without color"
