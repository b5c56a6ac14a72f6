"""Diagrams show the settings of the networks that they are drawn from."""

import numpy as np
import pytest

from mlplib.errors import MlplibError
from mlplib.specs import ModelSpec
from mlpstudy.plots import diagrams


def test_patches_keep_every_pixel_and_pixels_are_read_row_after_row():
    image = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    spread = diagrams._with_gaps(image, 4)
    assert spread.shape == (9, 9, 3)
    assert (np.delete(np.delete(spread, 4, axis=0), 4, axis=1) == image).all()
    assert (diagrams._as_strips(image, lines=2)[0] == image[:4].reshape(-1, 3)).all()
    assert len(diagrams.patches_and_pixels(image).axes) == 3
    with pytest.raises(MlplibError, match="patches of 3 pixels do not tile"):
        diagrams.patches_and_pixels(image, patch=3)


def test_wiring_counts_the_numbers_it_draws():
    figure = diagrams.wiring(patches=3, channels=2)
    for axes, numbers in zip(figure.axes, (9, 4, 36), strict=True):
        drawn = axes.images[0].get_array()
        assert axes.get_title(loc="left").endswith(f"\n({numbers} numbers)") and drawn.shape == (6, 6)
        assert len(np.unique(drawn.compressed())) == numbers


@pytest.mark.parametrize(
    "name, changes, steps",
    [
        ("S-6/Wi-256", {}, ["LayerNorm", "Linear m → m", "ReLU"]),
        ("S-6/Wi-256", {"official_order": True, "activation": "gelu"}, ["LayerNorm", "GELU", "Linear m → m"]),
        ("B-6/Wi-256", {}, ["LayerNorm", "Linear m → 4m", "GELU", "Linear 4m → m", "add"]),
        (
            "B-6/Wi-256",
            {"expansion": 2, "skip": False},
            ["LayerNorm", "Linear m → 2m", "GELU", "Linear 2m → m"],
        ),
        ("B-6/Wi-256", {"norm": "none"}, ["Linear m → 4m", "GELU", "Linear 4m → m", "add"]),
        (
            "B-6/Wi-256",
            {"norm": "batch", "norm_position": "post"},
            ["Linear m → 4m", "GELU", "Linear 4m → m", "add", "BatchNorm"],
        ),
    ],
)
def test_a_block_is_drawn_as_its_settings_say(name, changes, steps):
    spec = ModelSpec.parse(name, **changes)
    assert [step for step, _ in diagrams.steps(spec)] == steps
    words = [text.get_text() for text in diagrams.blocks(spec).axes[0].texts]
    assert words == ["z", *("+" if step == "add" else step for step in steps)]


def test_a_network_without_such_blocks_is_refused():
    with pytest.raises(MlplibError, match="small-cnn has no blocks to draw"):
        diagrams.blocks(ModelSpec.parse("small-cnn"))
