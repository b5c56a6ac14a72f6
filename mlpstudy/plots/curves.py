"""Accuracy during training."""

from __future__ import annotations

import seaborn
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .look import MUTED, colors_of, key, legend_below, new_figure, styled, unique

DASHES = {"test": "", "train": (1, 1.65)}
"""Test accuracy is solid, training accuracy dotted."""


@styled
def accuracy_curves(frame) -> Figure:
    """Accuracy against epoch: one row of panels per data set, one panel per augmentation, a color per model.

    Test accuracy is solid, training accuracy dotted. Lines are means over seeds, bands span all seeds.

    Args:
        frame: columns ``data, model, augmentation, seed, split, epoch, accuracy``; ``split`` is ``test`` or
            ``train``, accuracy in percent.
    """
    datasets, settings = unique(frame["data"]), sorted(set(frame["augmentation"]), reverse=True)
    colors = colors_of(frame["model"])
    look = dict(hue="model", palette=colors, hue_order=list(colors), style="split", dashes=DASHES)
    figure, grid = new_figure(len(datasets), len(settings), height=0.7 + 2.9 * len(datasets), sharey=True)
    for row, dataset in zip(grid, datasets, strict=True):
        for axes, setting in zip(row, settings, strict=True):
            part = frame[(frame["data"] == dataset) & (frame["augmentation"] == setting)]
            axis = dict(x="epoch", y="accuracy", ax=axes, legend=False)
            band = dict(errorbar=("pi", 100), err_kws={"alpha": 0.18, "linewidth": 0})
            seaborn.lineplot(part, **axis, **look, **band)
            # A line through one or two points is easily overlooked.
            short = part.groupby(["model", "split"]).filter(lambda curve: curve["epoch"].nunique() < 3)
            if len(short):
                seaborn.lineplot(short, **axis, **look, errorbar=None, marker="o", markersize=4, mew=0)
            axes.set_title(f"{dataset}, {setting}" if len(datasets) > 1 else setting)
            axes.set_xlim(left=0)
            axes.locator_params(axis="x", integer=True, nbins=5)
            axes.set_ylabel("")
        row[0].set_ylabel("accuracy (%)")
    lines = [key(name, color) for name, color in colors.items()]
    lines += [key("test"), key("train", linestyle=":")]
    if frame["seed"].nunique() > 1:
        lines.append(Patch(color=MUTED, alpha=0.18, linewidth=0, label="all seeds"))
    legend_below(figure, lines, 5, columnspacing=1.0, handlelength=1.4)
    return figure
