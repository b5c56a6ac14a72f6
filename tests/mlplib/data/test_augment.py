"""Augmentation: every image has its own draw, and what is drawn is what is applied."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import mlplib.data.augment as augmentation
from mlplib.data.augment import CROP_TRIES, Draws, augment, crop_and_flip, draw, mix, mixup_ffcv
from mlplib.specs import FULL_DA, NO_DA, AugmentSpec

CROPS = AugmentSpec(crop_scale=(0.08, 1.0))
FITTING = AugmentSpec(crop_scale=(0.08, 0.5))
"""Boxes of at most half the area and ratios to 4/3 always fit: what is drawn is then exactly uniform."""


def rng(*seed):
    return np.random.default_rng(seed or 0)


def pictures(count, channels=3, height=16, width=16, seed=0):
    return torch.from_numpy(rng(seed).integers(0, 256, (count, channels, height, width), dtype=np.uint8))


def boxes(spec, count, size, *seed) -> Draws:
    return draw(spec, np.arange(count), size, rng(*seed))


def pixels(images, spec, draws, dtype) -> torch.Tensor:
    """What :func:`augment` gives before it normalizes."""
    channels = images.shape[1]
    return augment(images, spec, draws, dtype, (torch.zeros(channels), torch.ones(channels)))


def one_by_one(images, draws: Draws) -> torch.Tensor:
    """What the batched products stand for: PyTorch's own resize of each crop, mirrored if it is flipped."""
    height, width = images.shape[2:]
    out = []
    for i, image in enumerate(images.to(torch.float32)):
        top, left, h, w = (int(v[i]) for v in (draws.top, draws.left, draws.height, draws.width))
        crop = image[None, :, top : top + h, left : left + w]
        resized = F.interpolate(crop, size=(height, width), mode="bilinear", align_corners=False)[0]
        out.append(resized.flip(-1) if draws.flip[i] else resized)
    return torch.stack(out)


# --------------------------------------------------------------------------- crops and flips


@st.composite
def batches(draw_value):
    """A batch of any small size with any boxes that lie inside."""
    count, channels = draw_value(st.integers(1, 4)), draw_value(st.integers(1, 4))
    height, width = draw_value(st.integers(1, 12)), draw_value(st.integers(1, 12))

    def intervals(size):
        ends = st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)).map(sorted)
        pairs = draw_value(st.lists(ends, min_size=count, max_size=count))
        return np.array([p[0] for p in pairs]), np.array([p[1] - p[0] + 1 for p in pairs])

    (top, h), (left, w) = intervals(height), intervals(width)
    flip = np.array(draw_value(st.lists(st.booleans(), min_size=count, max_size=count)))
    images = pictures(count, channels, height, width, draw_value(st.integers(0, 99)))
    return images, Draws(flip, top, left, h, w, np.arange(count), 1.0)


@settings(max_examples=150, deadline=None)
@given(batches())
def test_any_box_is_resized_and_mirrored_as_pytorch_does_it_image_by_image(batch):
    images, draws = batch
    expected = one_by_one(images, draws)
    torch.testing.assert_close(crop_and_flip(images, draws, torch.float32), expected, rtol=1e-5, atol=2e-3)
    # bf16 keeps 8 bits: weights and values are each off by up to 1/256.
    rough = crop_and_flip(images, draws, torch.bfloat16)
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), expected, rtol=0, atol=4.0)


@pytest.mark.parametrize("size", [(16, 16), (32, 32), (24, 40)])
def test_drawn_boxes_are_resized_as_pytorch_does_it(size):
    images = pictures(40, 3, *size)
    draws = boxes(AugmentSpec(flip=True, crop_scale=(0.08, 1.0)), 40, size)
    assert 5 < draws.flip.sum() < 35
    out = crop_and_flip(images, draws, torch.float32)
    torch.testing.assert_close(out, one_by_one(images, draws), rtol=1e-5, atol=2e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "spec", [AugmentSpec(crop_scale=(1, 1), crop_ratio=(1, 1)), NO_DA], ids=["crop", "none"]
)
def test_the_whole_image_is_the_image(spec, dtype):
    images = pictures(8)
    draws = boxes(spec, 8, (16, 16))
    assert torch.equal(crop_and_flip(images, draws, dtype), images.to(dtype))
    assert torch.equal(pixels(images, spec, draws, dtype), images.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_flips_mirror_exactly_those_images_that_are_drawn(dtype):
    images = pictures(64, width=12)
    draws = boxes(AugmentSpec(flip=True), 64, (16, 12))
    out = pixels(images, AugmentSpec(flip=True), draws, dtype)
    for i in range(64):
        assert torch.equal(out[i], (images[i].flip(-1) if draws.flip[i] else images[i]).to(dtype))


def test_no_pixel_outside_the_box_enters():
    images = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    images[:, :, 2:5, 3:7] = 200
    inside = Draws(
        np.array([True]), np.array([2]), np.array([3]), np.array([3]), np.array([4]), np.arange(1), 1.0
    )
    torch.testing.assert_close(crop_and_flip(images, inside, torch.float32), torch.full((1, 1, 8, 8), 200.0))
    outside = torch.full_like(images, 200)
    outside[:, :, 2:5, 3:7] = 0
    torch.testing.assert_close(crop_and_flip(outside, inside, torch.float32), torch.zeros(1, 1, 8, 8))


def test_the_images_themselves_are_left_alone():
    for spec in (NO_DA, FULL_DA, dataclasses.replace(FULL_DA, mixup_kind="ffcv")):
        images = pictures(8)
        before = images.clone()
        out = pixels(images, spec, boxes(spec, 8, (16, 16)), torch.float32)
        out.zero_()
        assert torch.equal(images, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["standard", "ffcv"])
def test_values_stay_in_range_in_the_dtype_asked_for(kind, dtype):
    images = pictures(64)
    images[:8], images[8:16] = 0, 255
    spec = dataclasses.replace(FULL_DA, mixup_kind=kind)
    out = pixels(images, spec, boxes(spec, 64, (16, 16)), dtype)
    assert out.dtype == dtype and out.shape == images.shape
    # bf16 weights that should sum to 1 do so up to 1/256
    assert out.min() >= 0 and out.max() <= 255 * (1 if dtype == torch.float32 else 1.01) + 1e-3


# --------------------------------------------------------------------------- what is drawn


def test_no_two_images_of_a_batch_share_a_draw():
    draws = boxes(FULL_DA, 500, (400, 400))
    assert len(set(zip(draws.top, draws.left, draws.height, draws.width, strict=True))) == 500


def test_copies_of_one_image_all_come_out_differently():
    images = pictures(1, height=96, width=96).expand(64, -1, -1, -1).contiguous()
    spec = dataclasses.replace(FULL_DA, mixup=0.0)
    out = pixels(images, spec, boxes(spec, 64, (96, 96)), torch.float32)
    for i in range(63):
        differences = (out[i + 1 :] - out[i]).abs().mean(dim=(1, 2, 3))
        assert differences.min() > 1


@pytest.mark.parametrize("kind", ["standard", "ffcv"])
def test_draws_follow_from_the_seed_alone(kind):
    spec = dataclasses.replace(FULL_DA, mixup_kind=kind)

    def values(*seed):
        return [np.asarray(v).tolist() for v in dataclasses.astuple(boxes(spec, 32, (32, 32), *seed))]

    assert values(3, 1, 4) == values(3, 1, 4)
    for other in ((4, 1, 4), (3, 2, 4), (3, 1, 5)):
        different = [a != b for a, b in zip(values(3, 1, 4), values(*other), strict=True)]
        expected = 7 if kind == "standard" else 5  # FFCV's lambda and partner follow from the indices alone
        assert sum(different) >= expected - 1


def assert_uniform(values, low, high):
    assert values.min() >= low - 1e-9 and values.max() <= high + 1e-9
    scaled = (values - low) / (high - low)
    assert stats.kstest(scaled, "uniform").pvalue > 1e-3


def test_area_ratio_and_place_are_uniform_where_every_box_fits():
    height, width = 4000, 4000
    draws = boxes(FITTING, 4000, (height, width), 1)
    h, w = draws.height, draws.width
    # Whole pixels blur the ends of the ranges by about 1/1000.
    assert_uniform(np.clip(h * w / (height * width), 0.08, 0.5), 0.08, 0.5)
    assert_uniform(np.clip(np.log(w / h), np.log(3 / 4), np.log(4 / 3)), np.log(3 / 4), np.log(4 / 3))
    assert_uniform((draws.top + 0.5) / (height - h + 1), 0, 1)
    assert_uniform((draws.left + 0.5) / (width - w + 1), 0, 1)
    independent = np.corrcoef(
        np.stack([h * w, np.log(w / h), draws.top / (height - h), draws.left / (width - w)])
    )
    assert abs(independent - np.eye(4)).max() < 0.06


def test_small_boxes_reach_every_place_equally_often():
    draws = boxes(AugmentSpec(crop_scale=(0.25, 0.25), crop_ratio=(1, 1)), 8100, (16, 16), 2)
    assert set(draws.height) == set(draws.width) == {8}
    counts = np.zeros((9, 9))
    np.add.at(counts, (draws.top, draws.left), 1)
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (20, 31)])
def test_boxes_of_the_paper_lie_inside_and_keep_area_and_ratio(size):
    height, width = size
    d = boxes(CROPS, 20_000, size, 3)
    assert (d.top >= 0).all() and (d.left >= 0).all() and (d.height >= 1).all() and (d.width >= 1).all()
    assert (d.top + d.height <= height).all() and (d.left + d.width <= width).all()
    # Each side is within half a pixel of one that keeps both ranges.
    area, ratio = d.height * d.width, d.width / d.height
    slack = (d.height + d.width) / 2 + 0.25
    assert (area + slack >= 0.08 * height * width).all()
    low, high = (d.width - 0.5) / (d.height + 0.5), (d.width + 0.5) / (d.height - 0.5)
    assert (high >= 3 / 4).all() and (low <= 4 / 3).all()
    assert ratio.min() < 0.8 and ratio.max() > 1.25, "the whole range of ratios occurs"
    share = area / (height * width)
    largest = 1.0 if height == width else 4 / 3 * min(size) / max(size)
    assert share.min() < 0.12 and share.max() > 0.9 * largest, "the whole range of areas occurs"


def test_areas_agree_with_torchvisions():
    transforms = pytest.importorskip("torchvision.transforms")
    ours = boxes(CROPS, 4000, (256, 256), 4)
    torch.manual_seed(0)
    image = torch.empty(3, 256, 256, device="meta")
    theirs = np.array(
        [transforms.RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)]
    )
    for mine, column in ((ours.height, 2), (ours.width, 3), (ours.top, 0), (ours.left, 1)):
        assert stats.ks_2samp(mine, theirs[:, column]).pvalue > 1e-3


@pytest.mark.parametrize("size", [(10, 40), (40, 10), (7, 50), (33, 32), (1, 9)])
@pytest.mark.parametrize("ratio", [(1.0, 1.0), (3 / 4, 4 / 3), (2.0, 3.0)])
def test_where_no_box_fits_the_central_one_is_taken_as_in_torchvision(size, ratio):
    transforms = pytest.importorskip("torchvision.transforms")
    spec = AugmentSpec(crop_scale=(1.0, 1.0), crop_ratio=ratio)
    height, width = size
    if any(round((height * width * r) ** 0.5) <= width for r in np.linspace(*ratio, 50)) and any(
        round((height * width / r) ** 0.5) <= height for r in np.linspace(*ratio, 50)
    ):
        spec = dataclasses.replace(spec, crop_ratio=(30.0, 31.0))
    d = boxes(spec, 3, size)
    image = torch.empty(3, *size, device="meta")
    expected = transforms.RandomResizedCrop.get_params(image, [1.0, 1.0], list(spec.crop_ratio))
    for i in range(3):
        assert (d.top[i], d.left[i], d.height[i], d.width[i]) == tuple(expected)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.tuples(st.floats(1e-4, 1), st.floats(1e-4, 1)).map(sorted),
    st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)).map(sorted),
    st.integers(0, 10**6),
)
def test_boxes_lie_inside_whatever_is_asked_for(height, width, scale, ratio, seed):
    d = boxes(AugmentSpec(crop_scale=scale, crop_ratio=ratio), 20, (height, width), seed)
    assert (d.top >= 0).all() and (d.left >= 0).all() and (d.height >= 1).all() and (d.width >= 1).all()
    assert (d.top + d.height <= height).all() and (d.left + d.width <= width).all()


def test_half_of_the_images_are_flipped_whatever_their_box():
    d = boxes(FULL_DA, 10_000, (64, 64), 5)
    assert abs(d.flip.mean() - 0.5) < 0.02
    for value in (d.top, d.left, d.height, d.width):
        assert abs(np.corrcoef(d.flip, value)[0, 1]) < 0.04


def test_nothing_is_drawn_where_nothing_is_asked_for():
    d = boxes(NO_DA, 5, (8, 9))
    assert not d.flip.any() and d.lam == 1.0 and d.partner.tolist() == [0, 1, 2, 3, 4]
    assert d.top.tolist() == d.left.tolist() == [0] * 5
    assert (d.height.tolist(), d.width.tolist()) == ([8] * 5, [9] * 5)


def test_crops_get_ten_tries():
    assert CROP_TRIES == 10


# --------------------------------------------------------------------------- MixUp


@pytest.mark.parametrize("alpha", [0.2, 0.8, 3.0])
def test_lambda_is_beta_distributed(alpha):
    spec = AugmentSpec(mixup=alpha)
    found = [draw(spec, np.arange(2), (2, 2), rng(6, i)).lam for i in range(3000)]
    assert stats.kstest(found, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_standard_partners_are_a_permutation_of_the_batch():
    partners = [boxes(AugmentSpec(mixup=0.8), 50, (2, 2), i).partner for i in range(20)]
    assert all(sorted(p) == list(range(50)) for p in partners)
    assert len({tuple(p) for p in partners}) == 20
    assert stats.chisquare(np.bincount([p[0] // 10 for p in partners], minlength=5)).pvalue > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mixing_is_the_weighted_sum_and_keeps_the_mean(dtype):
    images = pictures(32).to(dtype)
    d = boxes(AugmentSpec(mixup=0.8), 32, (16, 16), 7)
    mixed = mix(images, d)
    expected = d.lam * images.double() + (1 - d.lam) * images.double()[torch.from_numpy(d.partner)]
    tolerance = 1e-3 if dtype == torch.float32 else 1.5
    torch.testing.assert_close(mixed.double(), expected, rtol=0, atol=tolerance)
    assert abs(mixed.double().mean() - images.double().mean()) < tolerance / 10
    assert 0.02 < d.lam < 0.98, "the draw of this test mixes"


def test_ffcv_mixes_each_image_with_the_previous_one_by_the_last_index():
    spec = AugmentSpec(mixup=0.8, mixup_kind="ffcv")
    indices = np.array([5, 2, 9, 41])
    d = draw(spec, indices, (16, 16), rng(8))
    assert d.partner.tolist() == [3, 0, 1, 2]
    assert d.lam == np.random.RandomState(41).beta(0.8, 0.8)
    again = draw(spec, indices[::-1], (16, 16), rng(8))
    assert again.lam == np.random.RandomState(5).beta(0.8, 0.8)

    images = pictures(4)
    mixed = pixels(images, spec, d, torch.float32)
    values = images.numpy().astype(np.float64)
    exact = d.lam * values + (1 - d.lam) * values[d.partner]
    assert torch.equal(mixed, mixed.round()), "whole numbers: mixed in uint8"
    found = mixed.numpy()
    assert ((found <= exact + 1e-3) & (found > exact - 1 - 1e-3)).all(), "truncated"
    assert (found == np.floor(exact)).mean() > 0.99
    assert torch.equal(mixed, mixup_ffcv(images, images.roll(1, 0), d.lam).float())


def test_ffcv_mixes_what_was_cropped_in_whole_numbers():
    spec = AugmentSpec(flip=True, crop_scale=(0.2, 0.8), mixup=0.8, mixup_kind="ffcv")
    images, d = pictures(6), boxes(spec, 6, (16, 16), 9)
    cropped = one_by_one(images, d).round()
    exact = d.lam * cropped + (1 - d.lam) * cropped.roll(1, 0)
    found = pixels(images, spec, d, torch.float32)
    assert torch.equal(found, found.round())
    assert ((found - exact).abs() <= 1.01).all()


def test_mixing_comes_after_cropping():
    images, d = pictures(16), boxes(FULL_DA, 16, (16, 16), 10)
    cropped = one_by_one(images, d)
    expected = d.lam * cropped + (1 - d.lam) * cropped[torch.from_numpy(d.partner)]
    torch.testing.assert_close(pixels(images, FULL_DA, d, torch.float32), expected, rtol=1e-5, atol=2e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("spec", [FULL_DA, AugmentSpec(flip=True, crop_scale=(0.1, 0.9))])
def test_neither_parts_of_a_batch_nor_looking_matrices_up_changes_a_bit(monkeypatch, spec, dtype):
    images, d = pictures(50, height=16, width=12), boxes(spec, 50, (16, 12), 11)

    halved = torch.zeros(3), torch.full((3,), 2.0)
    expected = augment(images, spec, d, dtype, halved)
    assert torch.equal(pixels(images, spec, d, dtype) / 2, expected)
    monkeypatch.setattr(augmentation, "LARGEST_TABLE", 12)  # rows computed, columns looked up
    monkeypatch.setitem(augmentation.PART_NUMBERS, "cpu", 7 * 3 * 16 * 12)
    assert len(list(augmentation.parts(images))) == 8
    assert torch.equal(augment(images, spec, d, dtype, halved), expected)
    monkeypatch.setitem(augmentation.PART_NUMBERS, "cpu", 1)
    assert torch.equal(augment(images, spec, d, dtype, halved), expected)


# --------------------------------------------------------------------------- in C


def test_this_machine_augments_in_c():
    assert augmentation.in_c()


@settings(max_examples=300, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    count=st.integers(1, 9),
    flip=st.booleans(),
    scale=st.none() | st.floats(0.01, 1.0),
    mixup=st.sampled_from([0.0, 0.2, 0.8]),
    seed=st.integers(0, 10**6),
)
def test_a_batch_in_c_has_the_same_bits(size, count, flip, scale, mixup, seed):
    spec = AugmentSpec(flip=flip, crop_scale=None if scale is None else (scale, 1.0), mixup=mixup)
    d, random = boxes(spec, count, size, seed), rng(seed, 1)
    rows = torch.from_numpy(random.integers(0, 256, (count, size[0], 3, size[1]), dtype=np.uint8))
    images = rows.permute(0, 2, 1, 3)
    mean, std = torch.from_numpy(random.uniform(1, 255, (2, 3)).astype(np.float32))
    found = augmentation._augment_in_c(images, spec, d, mean, std)
    assert found.is_contiguous()
    assert torch.equal(found, augmentation.augment_in_pytorch(images, spec, d, torch.bfloat16, (mean, std)))


@pytest.mark.parametrize(
    "spec", [FULL_DA, NO_DA, AugmentSpec(mixup=0.5), AugmentSpec(mixup=0.5, mixup_kind="ffcv")]
)
@pytest.mark.parametrize("change", [None, "float", "order", "large", "no compiler"])
def test_what_c_does_not_do_is_done_by_pytorch(spec, change, monkeypatch):
    augmentation.in_c()  # which remembers what it finds, and must not find what is put in its way here
    images, d = (
        pictures(20).permute(0, 2, 1, 3).contiguous().permute(0, 2, 1, 3),
        boxes(spec, 20, (16, 16), 3),
    )
    normalization = torch.full((3,), 100.0), torch.full((3,), 50.0)
    expected = augmentation.augment_in_pytorch(images, spec, d, torch.bfloat16, normalization)
    if change == "float" and spec.mixup_kind != "ffcv":
        images = images.float()
    elif change == "order":
        images = images.contiguous()
    elif change == "large":
        monkeypatch.setattr(augmentation, "LARGEST_TABLE", 15)
    elif change == "no compiler":
        monkeypatch.setattr(augmentation, "in_c", lambda: False)
    in_c = change is None and spec.mixup_kind != "ffcv"
    monkeypatch.setattr(augmentation, "_augment_in_c", lambda *given: "C")
    found = augment(images, spec, d, torch.bfloat16, normalization)
    assert found == "C" if in_c else torch.equal(found, expected)
