"""First-layer filters: as images, and how local and smooth they are."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from .look import BLUE, INK, MUTED, ORANGE, name_rows, new_figure, offsets, styled, unique


@styled
def measures(frame) -> Figure:
    """One panel per measure, one row per condition: dots are the seeds' means over units, bars their middle
    halves.

    Args:
        frame: columns ``condition, measure, seed, mean, q25, median, q75``, in the order to be drawn.
    """
    conditions, measures = unique(frame["condition"]), unique(frame["measure"])
    figure, (row,) = new_figure(1, len(measures), height=1.0 + 0.5 * len(conditions), sharey=True)
    for axes, measure in zip(row, measures, strict=True):
        part = frame[frame["measure"] == measure]
        for place, condition in enumerate(conditions):
            seeds = part[part["condition"] == condition].sort_values("seed")
            places = place + offsets(len(seeds), 0.13)
            color = MUTED if place == 0 else ORANGE if "without DA" in condition else BLUE
            axes.hlines(places, seeds["q25"], seeds["q75"], color=color, alpha=0.45, linewidth=3)
            axes.plot(seeds["mean"], places, "o", color=color, markersize=5)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_xlabel(measure)
        axes.locator_params(axis="x", nbins=4)
        name_rows(axes, [name.replace(", ", ",\n") for name in conditions])
    return figure


@styled
def mosaics(filters: Mapping[str, np.ndarray]) -> Figure:
    """Filters as gray images, one square grid per condition, two conditions per row.

    Args:
        filters: title to uint8 (units, H, W).
    """
    columns = min(2, len(filters))
    rows = math.ceil(len(filters) / columns)
    figure, grid = new_figure(rows, columns, height=2.85 * rows, width=2.6 * columns)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (name, images) in zip(grid.flat, filters.items(), strict=False):
        axes.imshow(tiles(images), cmap="gray", vmin=0, vmax=255, interpolation="none")
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
