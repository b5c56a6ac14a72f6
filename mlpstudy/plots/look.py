"""The look of every figure: one style, colors for color-blind readers too, sizes that a phone can show.

Every function takes data and gives a new matplotlib figure. The style holds inside these functions only:
nothing that the reader draws afterwards looks different.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

BLUE, ORANGE, GREEN, PINK, GOLD, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
PALETTE = (BLUE, ORANGE, GREEN, PINK, GOLD, SKY)
"""Okabe and Ito's colors, made for color-blind readers too (https://jfly.uni-koeln.de/color/)."""

INK, MUTED, GRID = "#1a1a1a", "#595959", "#dddddd"
WIDTH = 5.4
"""Inches: where a phone shows the figure 360 pixels wide, letters of 11 points are still 10 pixels tall."""

STYLE = {
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "savefig.facecolor": "white",
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 11,
    "text.color": INK,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelsize": 11,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "image.cmap": "gray",
}


@contextmanager
def style():
    """Matplotlib's settings for the figures of the study, until the block ends."""
    with matplotlib.rc_context(STYLE):
        yield


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """A drawing function under :func:`style`."""

    @functools.wraps(draw)
    def inside(*args, **kwargs) -> Figure:
        with style():
            figure = draw(*args, **kwargs)
            figure.draw_without_rendering()  # ticks take their style when first drawn
            return figure

    return inside


def new_figure(rows: int, columns: int, height: float, width: float = WIDTH, **options):
    """A figure and its axes, an array (rows, columns); made without pyplot, so nothing has to be closed."""
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def nothing_to_draw(why: str = "no run ended with finite numbers") -> Figure:
    """The figure where there is no data, so that a chapter can go on."""
    figure, ((axes,),) = new_figure(1, 1, height=1.2)
    axes.set_axis_off()
    axes.text(0.5, 0.5, f"nothing to draw: {why}", ha="center", va="center", color=MUTED)
    return figure


KNOWN_COLORS = {"B-MLP": BLUE, "S-MLP": ORANGE, "small CNN": GREEN}
"""What has one color in every figure of the book."""


def _colors(names: Sequence[str]) -> dict[str, str]:
    """A color for each name, different ones up to six names."""
    free = [color for color in PALETTE if color not in [KNOWN_COLORS.get(name) for name in names]] or PALETTE
    unknown = [name for name in names if name not in KNOWN_COLORS]
    return {**{name: free[i % len(free)] for i, name in enumerate(unknown)}, **_known(names)}


def _known(names: Sequence[str]) -> dict[str, str]:
    return {name: KNOWN_COLORS[name] for name in names if name in KNOWN_COLORS}


# --------------------------------------------------------------------------- accuracy over epochs


@styled
def accuracy_curves(frame) -> Figure:
    """Accuracy against epoch: a row of panels a data set, a panel an augmentation, a color a model.

    Test accuracy is solid, training accuracy dotted. Of several seeds, lines are means and bands span all.

    Args:
        frame: columns ``data, model, augmentation, seed, split, epoch, accuracy``; ``split`` is ``test`` or
            ``train``, accuracy in percent.
    """
    if frame.empty:
        return nothing_to_draw()
    datasets = list(dict.fromkeys(frame["data"]))
    settings = sorted(dict.fromkeys(frame["augmentation"]), reverse=True)
    colors = _colors(list(dict.fromkeys(frame["model"])))
    figure, grid = new_figure(len(datasets), len(settings), height=0.7 + 2.9 * len(datasets), sharey=True)
    for row, dataset in zip(grid, datasets, strict=True):
        for axes, setting in zip(row, settings, strict=True):
            part = frame[(frame["data"] == dataset) & (frame["augmentation"] == setting)]
            for model, color in colors.items():
                for split, line in (("train", ":"), ("test", "-")):
                    curves = part[(part["model"] == model) & (part["split"] == split)]
                    _mean_and_range(axes, curves, color, line)
            axes.set_title(f"{dataset}, {setting}" if len(datasets) > 1 else setting)
            axes.set_xlabel("epoch")
            axes.set_xlim(left=0)
            axes.locator_params(axis="x", integer=True, nbins=5)
        row[0].set_ylabel("accuracy (%)")
    lines = [Line2D([], [], color=color, label=name) for name, color in colors.items()]
    for split, line in (("test", "-"), ("train", ":")):
        lines.append(Line2D([], [], color=MUTED, linestyle=line, label=split))
    if frame["seed"].nunique() > 1:
        lines.append(Patch(color=MUTED, alpha=0.18, linewidth=0, label="all seeds"))
    figure.legend(handles=lines, loc="outside lower center", ncols=5, columnspacing=1.0, handlelength=1.4)
    return figure


def _mean_and_range(axes, curves, color: str, line: str) -> None:
    if curves.empty:
        return
    found = curves.groupby("epoch")["accuracy"].agg(["mean", "min", "max"])
    few = "o" if len(found) < 3 else None  # a line through one or two points is easily overlooked
    axes.plot(found.index, found["mean"], color=color, linestyle=line, marker=few, markersize=4)
    if curves["seed"].nunique() > 1:
        axes.fill_between(found.index, found["min"], found["max"], color=color, alpha=0.18, linewidth=0)


# --------------------------------------------------------------------------- first-layer filters


@styled
def filter_measures(frame) -> Figure:
    """A panel a measure, a row a condition: a dot a seed's mean over units, a bar the middle half of them.

    Args:
        frame: columns ``condition, measure, seed, mean, q25, median, q75``, in the order to be drawn.
    """
    if frame.empty:
        return nothing_to_draw()
    conditions = list(dict.fromkeys(frame["condition"]))
    measures = list(dict.fromkeys(frame["measure"]))
    figure, (row,) = new_figure(1, len(measures), height=1.0 + 0.5 * len(conditions), sharey=True)
    for axes, measure in zip(row, measures, strict=True):
        part = frame[frame["measure"] == measure]
        for place, condition in enumerate(conditions):
            seeds = part[part["condition"] == condition].sort_values("seed")
            offsets = 0.13 * (np.arange(len(seeds)) - (len(seeds) - 1) / 2)
            color = MUTED if place == 0 else ORANGE if "without DA" in condition else BLUE
            axes.hlines(place + offsets, seeds["q25"], seeds["q75"], color=color, alpha=0.45, linewidth=3)
            axes.plot(seeds["mean"], place + offsets, "o", color=color, markersize=5)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_xlabel(measure)
        axes.locator_params(axis="x", nbins=4)
        name_rows(axes, [_two_lines(name) for name in conditions])
    return figure


def name_rows(axes, names: Sequence[str]) -> None:
    """Names down the left side, the first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def _two_lines(name: str) -> str:
    return name.replace(", ", ",\n")


@styled
def filter_mosaics(mosaics: Mapping[str, np.ndarray]) -> Figure:
    """Filters as gray images, a square grid a condition, two conditions a row.

    Args:
        mosaics: title to uint8 (units, H, W).
    """
    if not mosaics:
        return nothing_to_draw()
    columns = min(2, len(mosaics))
    rows = math.ceil(len(mosaics) / columns)
    figure, grid = new_figure(rows, columns, height=2.85 * rows, width=2.6 * columns)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (name, filters) in zip(grid.flat, mosaics.items(), strict=False):
        axes.imshow(tiles(filters), cmap="gray", vmin=0, vmax=255, interpolation="none")
        axes.set_title(name)
    return figure


def tiles(filters: np.ndarray, gap: int = 1) -> np.ndarray:
    """Filters (units, H, W) as one image: a square grid from the top left, masked where there is none."""
    units, height, width = filters.shape
    side = math.ceil(math.sqrt(units))
    image = np.ma.masked_all((side * (height + gap) - gap, side * (width + gap) - gap), filters.dtype)
    for unit, picture in enumerate(filters):
        row, column = unit // side * (height + gap), unit % side * (width + gap)
        image[row : row + height, column : column + width] = picture
    return image


# --------------------------------------------------------------------------- before and after


@styled
def before_and_after(frame, x: str, y: str, hue: str, label: str) -> Figure:
    """What a change does: a line from the value before to the value after, one a seed, a color a group.

    Args:
        frame: one row a value, with a column ``seed``; ``x, y, hue`` are its columns of the two situations,
            the values and the groups.
        label: what the values are, with their unit.
    """
    if frame.empty:
        return nothing_to_draw()
    situations = list(dict.fromkeys(frame[x]))
    colors = _colors(list(dict.fromkeys(frame[hue])))
    figure, ((axes,),) = new_figure(1, 1, height=3.4, width=4.6)
    for name, color in colors.items():
        for _, seed in frame[frame[hue] == name].groupby("seed"):
            values = seed.set_index(x)[y].reindex(situations)
            axes.plot(range(len(situations)), values, "o-", color=color, markersize=5, alpha=0.8)
    means = frame.groupby([x, hue])[y].mean().unstack().reindex(situations)
    place = _where_apart(means)
    for name, height in means.iloc[place].dropna().items():
        side = "left" if place else "right"
        aside = (9 if place else -9, 0)
        axes.annotate(
            name, (place, height), aside, textcoords="offset points", va="center", ha=side, color=colors[name]
        )
    reach = (0.35, 0.6) if place else (0.6, 0.35)
    axes.set_xlim(-reach[0], len(situations) - 1 + reach[1])
    axes.set_xticks(range(len(situations)), situations)
    axes.set_xlabel(x)
    axes.set_ylabel(label)
    axes.grid(visible=False, axis="x")
    return figure


def _where_apart(means) -> int:
    """The first or the last row of ``means``: the one with more values, then with more room between them."""

    def room(place: int) -> tuple[int, float]:
        values = np.sort(means.iloc[place].dropna())
        return len(values), float(np.diff(values).min()) if len(values) > 1 else 0.0

    return max((len(means) - 1, 0), key=room)
