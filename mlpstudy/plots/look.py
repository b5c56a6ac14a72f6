"""The shared look of all figures: one style, colors for color-blind readers, sizes that a phone can show.

The topics' figures are in the other modules, as functions that take data and return a new matplotlib figure.
The style holds inside these functions only, so a reader's own figures look as before.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence

import matplotlib
import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

BLUE, ORANGE, GREEN, PINK, GOLD, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
PALETTE = (BLUE, ORANGE, GREEN, PINK, GOLD, SKY)
"""Okabe and Ito's colors, which color-blind readers can tell apart (https://jfly.uni-koeln.de/color/)."""

MARKERS = "os^DvP"
"""Markers of dots and lines, so that they can be told apart without their colors."""

CROSS = {"color": ORANGE, "marker": "x", "markersize": 8, "markeredgewidth": 2, "linestyle": ""}
"""How the paper's values are drawn."""

INK, MUTED, GRID = "#1a1a1a", "#595959", "#dddddd"
WIDTH = 5.4
"""Inches: on a phone that shows the figure 360 pixels wide, 11-point letters are still 10 pixels tall."""

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


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw under :data:`STYLE`; if the first argument is empty, the figure says so (a decorator)."""

    @functools.wraps(draw)
    def inside(*args, **kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            empty = args and hasattr(args[0], "__len__") and len(args[0]) == 0
            figure = nothing_to_draw() if empty else draw(*args, **kwargs)
            for axis in figure.findobj(Axis):  # ticks take their style when first accessed
                axis.get_ticklabels(which="both")
            return figure

    return inside


def new_figure(rows: int, columns: int, height: float, width: float = WIDTH, **options):
    """A figure and its axes, an array (rows, columns); made without pyplot, so nothing has to be closed."""
    figure = Figure(figsize=(width, height))
    grid = figure.subplots(rows, columns, squeeze=False, **options)
    for axes in grid.flat:  # the default number of ticks may change after the layout has reserved their width
        axes.locator_params("y", nbins=6, steps=[1, 2, 5, 10])
    return figure, grid


def nothing_to_draw() -> Figure:
    """The figure shown where there is no data, so that a chapter continues."""
    figure, ((axes,),) = new_figure(1, 1, height=1.2)
    axes.set_axis_off()
    text = "nothing to draw: no run ended with finite numbers"
    axes.text(0.5, 0.5, text, ha="center", va="center", color=MUTED, transform=axes.transAxes)
    return figure


def dataset_panels(frame, height: float, extra: float = 0.6):
    """A figure with one titled panel per data set (the column ``data``), below each other, and the panels by
    data set. The ``height`` of a panel and the ``extra`` height below all of them are in inches.
    """
    datasets = unique(frame["data"])
    figure, grid = new_figure(len(datasets), 1, height=extra + height * len(datasets), sharex=True)
    panels = dict(zip(datasets, grid[:, 0], strict=True))
    for dataset, axes in panels.items():
        axes.set_title(dataset)
    return figure, panels


KNOWN_COLORS = {"B-MLP": BLUE, "S-MLP": ORANGE, "small CNN": GREEN}
"""Networks that have one color in every figure of the book."""


def unique(values: Iterable) -> list:
    """The different values in order of first appearance."""
    return list(dict.fromkeys(values))


def colors_of(names: Iterable[str], known: dict[str, str] = KNOWN_COLORS) -> dict[str, str]:
    """A color for each name: its known one, otherwise one that no known name among them has."""
    names = unique(names)
    taken = {known.get(name) for name in names}
    free = itertools.cycle([color for color in PALETTE if color not in taken] or PALETTE)
    return {name: known[name] if name in known else next(free) for name in names}


def markers_of(names: Iterable[str]) -> dict[str, str]:
    """A marker for each name, in order of first appearance; they repeat after the last of :data:`MARKERS`."""
    return dict(zip(unique(names), itertools.cycle(MARKERS), strict=False))


def name_rows(axes, names: Sequence[str]) -> None:
    """Names down the left side, the first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def interval_dot(axes, place: float, value: float, low, high, color: str, alpha: float = 1.0, **dot):
    """A dot in a row with its interval (None for none) as a bar; ``dot`` is the dot's size and marker."""
    if low is not None:
        axes.hlines(place, low, high, color=color, alpha=0.45 * alpha, linewidth=3)
    axes.plot(value, place, **{"marker": "o", "color": color, "alpha": alpha} | dot)


def log_axes(axes) -> None:
    """Logarithmic axes, with plain numbers along the vertical one: it often spans less than a decade."""
    axes.set(xscale="log", yscale="log")
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_minor_locator(LogLocator(subs=()))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def short(value: float, place=None) -> str:
    """A positive number for an axis: ``0.1``, ``20``, ``3k``, ``2M``, ``5G``, ``40T``, ``1P``."""
    for size, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size * (1 - 1e-9):
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def ticks_at(axis, places: Iterable[float], text: Callable[[float], str]) -> None:
    """Ticks at these places only, labeled by ``text``: a short logarithmic axis has few powers of ten."""
    axis.set_major_locator(FixedLocator(list(places)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
    axis.set_minor_locator(NullLocator())


def offsets(count: int, step: float = 0.1) -> np.ndarray:
    """Small offsets that keep ``count`` marks of a row apart from each other and from rows at distance 1."""
    step = min(step, 0.6 / max(count - 1, 1))
    return step * (np.arange(count) - (count - 1) / 2)


def key(label: str, color: str = MUTED, **style) -> Line2D:
    """An entry of a legend."""
    return Line2D([], [], color=color, label=label, **style)


def legend_below(figure: Figure, handles: Sequence, columns: int, **style) -> None:
    """A legend below the panels of a figure."""
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, **style)
