"""Small frames for the figures of mlpstudy.plots, and every figure drawn from them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mlpstudy.experiments import batch_size
from mlpstudy.plots import choices, curves, filters, transfer

ARMS = ("from scratch", "pre-trained without DA", "pre-trained with DA")
LENGTHS = [f"{n} epochs" for n in batch_size.BUDGETS["paper"].lengths]


def product(**columns) -> pd.DataFrame:
    """Every combination of the values of the columns, the last column varying fastest."""
    return pd.DataFrame(itertools.product(*columns.values()), columns=list(columns))


def curve_frame(seeds=(0,), datasets=("CIFAR-10",), epochs=(1, 2, 3)):
    frame = product(
        data=datasets,
        model=("S-MLP", "B-MLP"),
        augmentation=("without DA", "with DA"),
        seed=seeds,
        split=("test", "train"),
        epoch=epochs,
    )
    return frame.assign(accuracy=10.0 * frame["epoch"] + frame["seed"])


def filter_frame(seeds=(0,)):
    conditions = ("at initialization", "all images, with DA", "all images, without DA")
    frame = product(condition=conditions, measure=("locality", "smoothness"), seed=seeds)
    mean = 0.1 * frame["condition"].map(conditions.index)
    return frame.assign(mean=mean, q25=mean - 0.1, median=mean, q75=mean + 0.1)


def pixel_frame(seeds=(0,)):
    frame = product(model=("B-MLP", "small CNN"), pixels=("as they are", "permuted"), seed=seeds)
    return frame.assign(accuracy=40 + frame["seed"])


def setting_frame(seeds=(0, 1, 2)):
    settings = ("none", "some", "much")
    frame = product(panel=("left, one", "right"), setting=settings, seed=seeds)
    return frame.assign(value=50 + 5 * frame["setting"].map(settings.index) + frame["seed"])


def change_frame(seeds=(0, 1, 2)):
    means = {"worst": -9.0, "best": 3.0, "middle": -1.0}
    frame = product(change=means, seed=seeds)
    mean = frame["change"].map(means)
    part = np.where(frame["change"] == "worst", "recipe", "block")
    difference = mean + frame["seed"] - 1
    return frame.assign(part=part, difference=difference, mean=mean, low=mean - 2, high=mean + 2)


def error_frame(seeds=(0, 1, 2), series=("1 epoch", "2 epochs")):
    batches = (256, 512, 2048)
    frame = product(series=series, batch=batches, seed=seeds)
    level = 60 - 10.0 * frame["series"].map(list(series).index)
    error = level + frame["batch"].map(batches.index) + 0.1 * (frame["seed"] - 1)
    return frame.assign(error=error, data="CIFAR-10")


def dot_frame(seeds=(0, 1), datasets=("A", "B"), networks=ARMS):
    frame = product(data=datasets, seed=seeds, network=networks)
    return frame.assign(accuracy=10.0 * frame["network"].map(list(networks).index) + frame["seed"])


def view_frame(seeds=(0, 1), networks=ARMS[1:]):
    averages = ("averaged logits", "averaged softmax")
    frame = product(data=("A",), network=networks, average=averages, seed=seeds, views=(1, 2, 4))
    return frame.assign(gain=frame["views"] / 10 + frame["seed"])


def probe_frame(seeds=(0, 1)):
    """Both probes of three kinds of features, then two networks trained whole."""
    features = ("pixels", "random weights", "pre-trained")
    frame = product(data=("A",), features=features, method=("linear", "ridge"), seed=seeds)
    frame = frame.assign(accuracy=20.0 + frame["features"].map(features.index) + frame["seed"])
    whole = dict(data="A", method="whole network", seed=0)
    rows = [whole | {"features": n, "accuracy": a} for n, a in (("from scratch", 30.0), ("fine-tuned", 40.0))]
    return pd.concat([frame, pd.DataFrame(rows)], ignore_index=True)


def direction_frame(seeds=(0, 1)):
    frame = product(data=("CIFAR-10",), features=("pixels", "pre-trained"), seed=seeds)
    return frame.assign(directions=3.0 + frame["seed"])


draw_pixels = functools.partial(transfer.before_and_after, x="pixels", hue="model", label="accuracy (%)")

DRAWINGS = {
    "curves": (curves.accuracy_curves, curve_frame),
    "filters": (filters.measures, filter_frame),
    "before and after": (draw_pixels, pixel_frame),
    "settings": (functools.partial(choices.settings, label="accuracy (%)", y_label="amount"), setting_frame),
    "differences": (functools.partial(choices.differences, label="difference (points)"), change_frame),
    "lengths": (
        functools.partial(choices.error_lines, ordered=True),
        lambda seeds: error_frame(seeds, LENGTHS),
    ),
    "comparisons": (
        functools.partial(choices.error_lines, ordered=False),
        lambda seeds: error_frame(seeds, tuple(batch_size.COMPARISONS)),
    ),
    "paired dots": (functools.partial(transfer.paired_dots, first=ARMS), dot_frame),
    "gains": (functools.partial(transfer.gains, known=ARMS), view_frame),
    "probes": (transfer.probes, probe_frame),
    "directions": (transfer.directions, direction_frame),
}
"""By title: how a figure is drawn, and its frame for some seeds."""


def every_figure(seeds) -> Iterator[Figure]:
    """Every figure in turn."""
    for draw, frame in DRAWINGS.values():
        yield draw(frame(seeds))
