"""Small frames for the figures of mlpstudy.plots."""

from __future__ import annotations

import itertools

import pandas as pd


def product(**columns) -> pd.DataFrame:
    """Every combination of the values of the columns, the last column varying fastest."""
    return pd.DataFrame(itertools.product(*columns.values()), columns=list(columns))


def curve_frame(seeds=(0,), datasets=("CIFAR-10",), epochs=(1, 2, 3)):
    """Accuracy curves that rise by 10 percent per epoch and by 1 per seed."""
    frame = product(
        data=datasets,
        model=("S-MLP", "B-MLP"),
        augmentation=("without DA", "with DA"),
        seed=seeds,
        split=("test", "train"),
        epoch=epochs,
    )
    return frame.assign(accuracy=10.0 * frame["epoch"] + frame["seed"])
