"""First-layer filters: the two measures against values worked out by hand, and how they are drawn."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlplib.errors import MlplibError
from mlplib.filters import UNITS_SHOWN, as_filters, describe, load_mosaic, locality, mosaic, smoothness


def at(*places, height=9, width=9) -> np.ndarray:
    """One filter that is 1 in the given (row, column, channel) places."""
    out = np.zeros((1, height, width, 3))
    for row, column, channel in places:
        out[0, row, column, channel] = 1
    return out


def bump(sigma=2.0) -> np.ndarray:
    y, x = np.mgrid[:16, :16] - 7.5
    field = np.exp(-(y**2 + x**2) / (2 * sigma**2))
    return np.repeat(field[None, :, :, None], 3, axis=3)


def noise(units=50, height=16, width=16) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((units, height, width, 3))


weights = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(2, 6), st.just(3)),
    elements=st.floats(-1e3, 1e3, width=32),
)

LEAST = {locality: 1 - math.sqrt(3), smoothness: -1.0}

# --------------------------------------------------------------------------- locality


def test_locality_runs_from_noise_to_a_single_pixel():
    assert locality(at((3, 4, 1))) == pytest.approx(1.0)
    assert locality(at((0, 0, 0), (0, 0, 1), (0, 0, 2))) == pytest.approx(1.0)
    assert locality(np.ones((1, 12, 7, 3))) == pytest.approx(0.0, abs=1e-12)
    assert locality(np.zeros((1, 5, 5, 3))) == pytest.approx(0.0, abs=1e-12), "no energy counts as spread"
    values = locality(noise(200))
    assert abs(values.mean()) < 0.01 and values.std() < 0.03
    assert locality(at((0, 0, 0), (8, 8, 0))) < -0.4, "opposite ends are more spread than a constant"


def test_locality_by_hand():
    # Two equal masses, `gap` apart: their variance is gap^2 / 4. A constant 9x9 field has 2 (81 - 1) / 12.
    for gap in (1, 2, 5):
        expected = 1 - math.sqrt((gap / 2) ** 2 / (2 * 80 / 12))
        assert locality(at((4, 1, 0), (4, 1 + gap, 2))) == pytest.approx(expected)
        assert locality(at((1, 4, 0), (1 + gap, 4, 0))) == pytest.approx(expected)
    # Weights 1 and 2 at distance 3: energies 1/5 and 4/5, variance 9 * (1/5) (4/5).
    filters = at((0, 0, 0), (0, 3, 1), height=4, width=4) * [1, 2, 1]
    assert locality(filters) == pytest.approx(1 - math.sqrt(9 * 4 / 25 / (2 * 15 / 12)))


def test_a_bump_is_the_more_local_the_narrower_it_is():
    values = [locality(bump(sigma=s))[0] for s in (0.5, 1, 2, 3, 8)]
    assert values == sorted(values, reverse=True)
    # The energy of a Gaussian of width s is one of width s / sqrt(2); its root mean square distance is s.
    assert values[2] == pytest.approx(1 - 2.0 / math.sqrt(2 * (16**2 - 1) / 12), abs=0.01)


def test_locality_does_not_see_where_the_filter_is():
    inner = np.zeros((1, 16, 16, 3))
    inner[:, 2:7, 3:8] = noise(1, 5, 5)
    for shift in ((4, 2), (9, 8), (0, 5)):
        assert locality(np.roll(inner, shift, axis=(1, 2))) == pytest.approx(locality(inner))


@settings(max_examples=100, deadline=None)
@given(weights, st.floats(1e-3, 1e3), st.permutations(range(3)))
def test_scale_sign_channels_and_direction_do_not_matter(filters, scale, order):
    for measure in (locality, smoothness):
        value = measure(filters)
        assert np.isfinite(value).all() and value.dtype == np.float64 and value.shape == (len(filters),)
        assert (value <= 1 + 1e-9).all() and (value >= LEAST[measure] - 1e-9).all()
        flipped, turned = filters[:, ::-1], filters.transpose(0, 2, 1, 3)
        for same in (filters * scale, -filters, filters[..., order], flipped, turned):
            np.testing.assert_allclose(measure(same), value, atol=1e-6)


@pytest.mark.parametrize("size", [2, 5, 16, 64])
def test_filters_with_nearly_all_their_energy_in_one_pixel_are_finite(size):
    rng = np.random.default_rng(size)
    filters = rng.standard_normal((400, size, size, 3)) * 10 ** rng.uniform(-10, -4, (400, 1, 1, 1))
    filters[np.arange(400), rng.integers(0, size, 400), rng.integers(0, size, 400)] = 1
    value = locality(filters)
    assert np.isfinite(value).all() and (value > 0.9).all() and (value <= 1).all()


def test_each_filter_is_measured_on_its_own():
    together = np.concatenate([bump(), noise(1), np.zeros((1, 16, 16, 3)), bump(sigma=1)])
    for measure in (locality, smoothness):
        alone = [measure(together[i : i + 1])[0] for i in range(4)]
        np.testing.assert_allclose(measure(together), alone, atol=1e-12)


# --------------------------------------------------------------------------- smoothness


def test_noise_is_not_smooth_a_bump_is_and_a_checkerboard_is_the_opposite():
    values = smoothness(noise(200))
    assert abs(values.mean()) < 0.01 and values.std() < 0.06
    assert smoothness(bump())[0] > 0.9
    assert smoothness(bump(sigma=3))[0] > smoothness(bump(sigma=1))[0] > 0.5
    # Within a channel: each of these is smooth, though neighboring channels have opposite signs.
    assert smoothness(bump() * np.array([1.0, -1.0, 0.5]))[0] > 0.9
    y, x = np.mgrid[:6, :6]
    board = np.repeat(((-1.0) ** (y + x))[None, :, :, None], 3, axis=3)
    assert smoothness(board) == pytest.approx(-1.0)
    assert smoothness(board + 100) == pytest.approx(-1.0), "adding a constant changes nothing"


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -1 / 3, 1e6])
def test_a_constant_filter_has_no_smoothness(value):
    assert smoothness(np.full((2, 7, 9, 3), value)).tolist() == [0.0, 0.0]


def test_smoothness_by_hand():
    # A 2x2 filter, one channel: pairs (a b) (c d) (a c) (b d), each taken both ways.
    a, b, c, d = 1.0, 2.0, 4.0, -3.0
    filters = np.zeros((1, 2, 2, 1))
    filters[0, :, :, 0] = [[a, b], [c, d]]
    pairs = np.array([(a, b), (c, d), (a, c), (b, d)])
    both = np.concatenate([pairs, pairs[:, ::-1]])
    assert smoothness(filters)[0] == pytest.approx(np.corrcoef(both.T)[0, 1])


# --------------------------------------------------------------------------- from weights, to pictures


def test_weights_are_read_in_the_order_in_which_images_are_flattened():
    height, width = 4, 5
    image = np.arange(3 * height * width, dtype=np.float32).reshape(3, height, width)
    filters = as_filters(image.reshape(1, -1), (height, width, 3))
    assert filters.shape == (1, height, width, 3) and filters.dtype == np.float64
    for channel in range(3):
        assert (filters[0, :, :, channel] == image[channel]).all()


@pytest.mark.parametrize("shape", [(5, 47), (5, 49), (48,), (1, 48, 1)])
def test_weights_of_another_size_are_refused(shape):
    with pytest.raises(MlplibError, match="a first layer over 4x4x3 images has 48 inputs, not"):
        as_filters(np.zeros(shape, dtype=np.float32), (4, 4, 3))


def test_a_mosaic_scales_each_unit_to_its_own_range():
    filters = noise(40) * np.logspace(-6, 6, 40)[:, None, None, None] + 5
    picture = mosaic(filters)
    assert picture.shape == (UNITS_SHOWN, 16, 16) and picture.dtype == np.uint8
    assert (picture.min(axis=(1, 2)) == 0).all() and (picture.max(axis=(1, 2)) == 255).all()
    np.testing.assert_array_equal(mosaic(filters * 3 - 7), picture)


def test_a_mosaic_shows_the_maximum_over_channels():
    filters = np.zeros((1, 1, 4, 3))
    filters[0, 0] = [[0, -5, -9], [1, 0, -1], [-1, 2, 0], [4, 4, 4]]
    assert mosaic(filters)[0, 0].tolist() == [0, 64, 128, 255]
    assert not mosaic(np.full((3, 4, 4, 3), 0.7)).any(), "a constant unit is black"
    assert mosaic(noise(7)).shape == (7, 16, 16)


@pytest.mark.parametrize("content", [None, b"", b"\x93NUMPY", b"text", "half"], ids=str)
def test_a_mosaic_survives_the_disk_and_a_damaged_one_is_one_line(tmp_path, content):
    picture, path = mosaic(noise()), tmp_path / "filters.npy"
    np.save(path, picture)
    np.testing.assert_array_equal(load_mosaic(path), picture)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:500] if content == "half" else content)
    with pytest.raises(MlplibError, match=r"cannot read the filters .*run the experiment again"):
        load_mosaic(path)


def test_the_description_is_of_all_units():
    filters = np.concatenate([noise(20), bump(), bump(sigma=1)])
    found = describe(filters)
    for name, values in (("locality", locality(filters)), ("smoothness", smoothness(filters))):
        low, middle, high = np.percentile(values, (25, 50, 75))
        expected = {name: values.mean(), f"{name}_std": values.std(), f"{name}_q25": low}
        expected |= {f"{name}_median": middle, f"{name}_q75": high}
        assert {key: found[key] for key in expected} == pytest.approx(expected)
    assert found["units"] == 22 and len(found) == 11
    assert all(type(value) in (int, float) for value in found.values()), "plain numbers, for JSON"
