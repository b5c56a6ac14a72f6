"""First-layer filters: every unit once, every measure in its place."""

import numpy as np
from plot_frames import product

from mlpstudy.plots import filters


def test_measures_stand_where_they_belong():
    conditions = ("at initialization", "all images, with DA", "all images, without DA")
    frame = product(condition=conditions, measure=("locality", "smoothness"), seed=(0, 1))
    mean = 0.1 * frame["condition"].map(conditions.index)
    figure = filters.measures(frame.assign(mean=mean, q25=mean - 0.1, median=mean, q75=mean + 0.1))
    assert [axes.get_xlabel() for axes in figure.axes] == ["locality", "smoothness"]
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [list(line.get_xdata()) for line in dots] == [[0, 0], [0.1, 0.1], [0.2, 0.2]]
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()][1] == "all images,\nwith DA"


def test_mosaics_show_every_filter_once_and_nothing_else():
    images = np.arange(25 * 4, dtype=np.uint8).reshape(25, 2, 2)
    image = filters.tiles(images)
    assert image.shape == (14, 14)
    assert sorted(image.compressed()) == sorted(images.ravel())
    assert (image[0:2, 3:5] == images[1]).all()
    assert filters.tiles(images[:3]).count() == 12
    figure = filters.mosaics({f"condition {i}": images for i in range(5)})
    assert [axes.get_title(loc="left") for axes in figure.axes if axes.images] == [
        f"condition {i}" for i in range(5)
    ]
    assert "nothing to draw" in filters.mosaics({}).axes[0].texts[0].get_text()
