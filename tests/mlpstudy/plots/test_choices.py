"""Figures of the chapters about single choices show what they were given."""

import matplotlib
import pandas as pd
import pytest

from mlpstudy.experiments import batch_size
from mlpstudy.plots import choices, look


def values(seeds=(0, 1, 2)):
    return pd.DataFrame(
        dict(panel=panel, setting=setting, seed=seed, value=50 + 5 * i + seed)
        for panel in ("left, one", "right")
        for i, setting in enumerate(("none", "some", "much"))
        for seed in seeds
    )


def changes(seeds=(0, 1, 2)):
    return pd.DataFrame(
        dict(
            change=name,
            part=part,
            seed=seed,
            difference=mean + seed - 1,
            mean=mean,
            low=mean - 2,
            high=mean + 2,
        )
        for name, part, mean in (("worst", "recipe", -9.0), ("best", "block", 3.0), ("middle", "block", -1.0))
        for seed in seeds
    )


def errors(seeds=(0, 1, 2), batches=(256, 512, 2048)):
    return pd.DataFrame(
        dict(series=series, batch=batch, seed=seed, error=level + i + 0.1 * (seed - 1), data="CIFAR-10")
        for series, level in (("1 epoch", 60), ("2 epochs", 50))
        for i, batch in enumerate(batches)
        for seed in seeds
    )


def draw_all(seeds):
    return [
        choices.settings(values(seeds), label="accuracy (%)", y_label="amount"),
        choices.differences(changes(seeds), label="difference (points)"),
        choices.error_lines(errors(seeds), ordered=True),
        choices.error_lines(errors(seeds), ordered=False),
        choices.error_lines(named(errors(seeds), LENGTHS), ordered=True),
        choices.error_lines(named(errors(seeds), batch_size.COMPARISONS), ordered=False),
    ]


LENGTHS = [f"{n} epochs" for n in batch_size.BUDGETS["paper"].lengths]


def named(frame, names):
    """A line for each name: as many as a chapter draws, and as long."""
    return pd.concat(frame[frame["series"] == "1 epoch"].assign(series=name) for name in names)


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_every_panel_names_its_axes_and_fits_a_phone(seeds):
    for figure in draw_all(seeds):
        assert all(axes.get_xlabel() for axes in figure.axes)
        assert figure.axes[0].get_ylabel() or figure.axes[0].get_yticklabels()
        assert figure.get_size_inches()[0] <= look.WIDTH
        sizes = [text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
        assert min(sizes) >= 10


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_nothing_is_cut_off(seeds):
    for figure in draw_all(seeds):
        width, height = figure.bbox.width, figure.bbox.height
        boxes = [axes.get_tightbbox() for axes in figure.axes] + [
            legend.get_window_extent() for legend in figure.legends
        ]
        for box in boxes:
            assert -1 <= box.x0 and box.x1 <= width + 1 and -1 <= box.y0 and box.y1 <= height + 1


def dots(axes, size):
    return [line for line in axes.lines if line.get_marker() == "o" and line.get_markersize() == size]


def test_a_setting_has_its_mean_its_seeds_and_its_interval():
    one, several = (choices.settings(values(seeds), label="x") for seeds in ((0,), (0, 1, 2)))
    for figure in (one, several):
        assert [axes.get_title(loc="left") for axes in figure.axes] == ["left,\none", "right"]
        labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
        assert labels == ["none", "some", "much"]
    assert [list(line.get_xdata()) for line in dots(several.axes[0], 7)] == [[51], [56], [61]]
    assert [list(line.get_xdata()) for line in dots(several.axes[0], 3)] == [
        [50, 51, 52],
        [55, 56, 57],
        [60, 61, 62],
    ]
    assert len(several.axes[0].collections) == 3
    assert not one.axes[0].collections and not dots(one.axes[0], 3), "one seed has no interval"


def test_a_setting_that_a_panel_lacks_leaves_its_row_empty():
    frame = values().query("panel == 'right' or setting != 'some'")
    figure = choices.settings(frame, label="x")
    assert [len(dots(axes, 7)) for axes in figure.axes] == [2, 3]


def test_changes_are_sorted_and_colored_by_their_part():
    axes = choices.differences(changes(), label="x").axes[0]
    labels = axes.get_yticklabels()
    assert [tick.get_text() for tick in labels] == ["best", "middle", "worst"]
    assert [tick.get_color() for tick in labels] == [choices.PARTS[p] for p in ("block", "block", "recipe")]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in dots(axes, 7)] == [
        (3, 0),
        (-1, 1),
        (-9, 2),
    ]
    bars = [bar.get_segments()[0][:, 0].tolist() for bar in axes.collections]
    assert bars == [[1, 5], [-3, 1], [-11, -7]]


def test_lines_join_means_and_ticks_are_plain_numbers():
    figure = choices.error_lines(errors(), ordered=True)
    axes = figure.axes[0]
    means = [line for line in axes.lines if line.get_linestyle() == "-"]
    assert [line.get_label() for line in means] == ["1 epoch", "2 epochs"]
    assert [list(line.get_ydata()) for line in means] == [
        pytest.approx([60, 61, 62]),
        pytest.approx([50, 51, 52]),
    ]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["256", "512", "2,048"]
    ticks = [float(tick.get_text()) for tick in axes.get_yticklabels()]
    assert 2 <= len(ticks) <= 7 and 50 <= min(ticks) and max(ticks) <= 63
    assert len({line.get_marker() for line in means}) == 2, "lines can be told apart without color"


@pytest.mark.parametrize("low, high", [(48.7, 63.2), (0.31, 0.34), (3, 98), (20.01, 20.02), (1, 99)])
def test_ticks_are_few_and_inside(low, high):
    ticks = choices._round_values(low, high)
    assert 1 <= len(ticks) <= 7 and all(low <= tick <= high for tick in ticks)
    assert ticks == sorted(ticks)


def test_where_there_is_nothing_a_figure_says_so():
    nothing = pd.DataFrame()
    for figure in (
        choices.settings(nothing, label="x"),
        choices.differences(nothing, label="x"),
        choices.error_lines(nothing, ordered=True),
    ):
        assert "nothing to draw" in figure.axes[0].texts[0].get_text()
