"""Data in device memory: which images are in which batch, and what happens to them."""

import dataclasses
import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import dataset, noise, numbered

from mlplib.data.batches import open_data
from mlplib.data.dataset import Split, subset_indices
from mlplib.specs import FULL_DA, NO_DA, AugmentSpec, DataSpec

CPU = torch.device("cpu")
ALL = DataSpec("shapes-16")


def resident(data, spec=ALL):
    return open_data(data, spec, CPU)


def pixels(data, images) -> np.ndarray:
    """Normalized images as pixel values again, (B, H, W, 3)."""
    values = images.double() * data.std.double()[:, None, None] + data.mean.double()[:, None, None]
    return values.permute(0, 2, 3, 1).numpy()


def batches(data, batch_size=16, spec=NO_DA, seed=0, epoch=0, dtype=torch.float32, start=0):
    return list(data.training_batches(batch_size, spec, seed, epoch, dtype, start=start))


def numbers(data, batch) -> list[int]:
    """Which images of :func:`numbered` a batch holds."""
    return np.rint(pixels(data, batch.images)[:, 0, 0, 0]).astype(int).tolist()


def same(one, other) -> bool:
    tensors = all(
        torch.equal(getattr(one, n), getattr(other, n)) for n in ("images", "labels", "partner_labels")
    )
    return tensors and one.lam == other.lam


# --------------------------------------------------------------------------- which images


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 200), st.integers(1, 200), st.integers(0, 5), st.integers(0, 5))
def test_an_epoch_shows_each_image_at_most_once_and_drops_the_incomplete_batch(count, size, seed, epoch):
    data = resident(numbered(count))
    found = batches(data, size, seed=seed, epoch=epoch)
    assert [len(b.labels) for b in found] == [size] * (count // size)
    seen = [n for b in found for n in numbers(data, b)]
    assert len(set(seen)) == len(seen) == count // size * size
    assert set(seen) <= set(range(count))


def test_labels_stay_with_their_images():
    data = resident(numbered(100))
    for batch in batches(data, 30):
        assert [n % 4 for n in numbers(data, batch)] == batch.labels.tolist() == batch.partner_labels.tolist()
        assert batch.labels.dtype == torch.int64 and batch.lam == 1.0


@pytest.mark.parametrize("spec", [NO_DA, FULL_DA, dataclasses.replace(FULL_DA, mixup_kind="ffcv")])
def test_a_later_start_gives_the_same_batches(spec):
    data = resident(noise(60))
    whole = batches(data, 8, spec, seed=3, epoch=2)
    assert len(whole) == 7
    for start in range(9):
        rest = batches(data, 8, spec, seed=3, epoch=2, start=start)
        assert len(rest) == max(0, 7 - start)
        assert all(same(a, b) for a, b in zip(whole[start:], rest, strict=True))


def test_epochs_and_seeds_shuffle_differently_and_repeat_exactly():
    data = resident(numbered(200))
    orders = {}
    for seed in range(3):
        for epoch in range(3):
            found = [n for b in batches(data, 50, seed=seed, epoch=epoch) for n in numbers(data, b)]
            again = [n for b in batches(data, 50, seed=seed, epoch=epoch) for n in numbers(data, b)]
            assert found == again
            orders[seed, epoch] = tuple(found)
    assert len(set(orders.values())) == 9
    assert orders[0, 1] != orders[1, 0], "seed and epoch are not interchangeable"


def test_shuffling_moves_every_image_anywhere():
    data = resident(numbered(16))
    places = np.zeros((16, 16))
    for epoch in range(800):
        order = [n for b in batches(data, 16, epoch=epoch) for n in numbers(data, b)]
        places[np.arange(16), order] += 1
    expected = 800 / 16
    statistic = ((places - expected) ** 2 / expected).sum()
    assert statistic < 2 * 15 * 15, "far from uniform"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_augmentation_differs_between_epochs_batches_and_seeds(dtype):
    # 64 copies of one image: whatever differs was drawn.
    one = noise(1, 24, 24).train.images
    data = resident(dataset(np.repeat(one, 64, axis=0)))
    spec = dataclasses.replace(FULL_DA, mixup=0.0)
    found = [
        batch.images
        for seed in (0, 1)
        for epoch in (0, 1)
        for batch in batches(data, 32, spec, seed=seed, epoch=epoch, dtype=dtype)
    ]
    assert len(found) == 8 and found[0].dtype == dtype
    for i in range(8):
        for j in range(i):
            assert (found[i] - found[j]).abs().float().mean() > 0.05


# --------------------------------------------------------------------------- MixUp's labels


@pytest.mark.parametrize("kind", ["standard", "ffcv"])
def test_labels_follow_their_partners(kind):
    data = resident(numbered(200))
    spec = dataclasses.replace(FULL_DA, mixup_kind=kind)
    plain = [numbers(data, b) for b in batches(data, 40, NO_DA, seed=5)]
    for batch, own in zip(batches(data, 40, spec, seed=5), plain, strict=True):
        assert batch.labels.tolist() == [n % 4 for n in own]
        mixed = pixels(data, batch.images)
        assert mixed.std(axis=(1, 2, 3)).max() < 1e-3, "plain images stay plain under flips and crops"
        value, lam = mixed[:, 0, 0, 0], batch.lam
        if kind == "ffcv":
            partner = np.roll(own, 1)
            assert abs(value - (lam * np.array(own) + (1 - lam) * partner)).max() <= 1.001
        else:
            partner = np.rint((value - lam * np.array(own)) / (1 - lam)).astype(int)
            assert sorted(partner) == sorted(own), "a permutation of the batch"
        assert batch.partner_labels.tolist() == [n % 4 for n in partner]


def test_ffcv_takes_lambda_from_the_last_index_of_each_batch():
    data = resident(numbered(200))
    spec = AugmentSpec(mixup=0.8, mixup_kind="ffcv")
    for batch, plain in zip(batches(data, 40, spec), batches(data, 40), strict=True):
        last = numbers(data, plain)[-1]
        assert batch.lam == np.random.RandomState(last).beta(0.8, 0.8)


# --------------------------------------------------------------------------- values


def test_training_images_are_normalized():
    data = resident(noise(60))
    (batch,) = batches(data, 60)
    assert batch.images.shape == (60, 3, 8, 8) and batch.images.is_contiguous()
    assert batch.images.mean(dim=(0, 2, 3)).abs().max() < 1e-5
    assert (batch.images.std(dim=(0, 2, 3), correction=0) - 1).abs().max() < 1e-5
    assert data.image_shape == (8, 8, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_color_that_no_image_has_is_no_division_by_zero(dtype):
    """Fluorescence images may have nothing in one color: every run on them diverged."""
    images = noise(60).train.images.copy()
    images[..., 2] = 7
    data = resident(dataset(images))
    for spec in (NO_DA, FULL_DA):
        (batch,) = batches(data, 60, spec, dtype=dtype)
        assert batch.images.isfinite().all() and batch.images[:, 2].abs().max() < 0.01
    assert all(batch.images.isfinite().all() for batch in data.test_batches())


def test_rectangular_images_keep_their_sides():
    data = resident(noise(12, 5, 9))
    (batch,) = batches(data, 12)
    assert batch.images.shape == (12, 3, 5, 9) and data.image_shape == (5, 9, 3)


def test_every_pixel_is_that_of_the_data_set():
    source = noise(60)
    data = resident(source)
    (test,) = data.test_batches()
    np.testing.assert_allclose(pixels(data, test.images), source.test.images, atol=1e-4)
    assert test.labels.tolist() == source.test.labels.tolist() and test.images.dtype == torch.float32
    (sample,) = data.train_sample(20)
    np.testing.assert_allclose(pixels(data, sample.images), source.train.images[:20], atol=1e-4)
    assert sample.labels.tolist() == source.train.labels[:20].tolist()
    assert sum(len(b.labels) for b in data.train_sample(10**6)) == 60


def test_a_large_split_is_evaluated_in_parts_without_losing_any():
    images = (
        np.arange(4100, dtype=np.int64)[:, None, None, None] % 251 * np.ones((1, 2, 2, 3), dtype=np.int64)
    )
    data = resident(dataset(images.astype(np.uint8)))
    found = list(data.test_batches())
    assert len(found) > 1 and sum(len(b.labels) for b in found) == 4100
    values = np.concatenate([np.rint(pixels(data, b.images)[:, 0, 0, 0]) for b in found])
    assert values.tolist() == images[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("moved", [0, 3])
def test_a_sample_of_images_stored_class_by_class_has_every_class(moved):
    """As from class folders, where the first images are of the first classes only. Some may have moved to the
    place of unreadable ones.
    """
    data = numbered(200)
    labels = np.arange(200) // 50
    labels[:moved] = 3
    whole = dataclasses.replace(data, train=Split(data.train.images, labels))
    (found,) = resident(whole).train_sample(20)
    assert np.bincount(found.labels).tolist() == [5 - (moved > 0), 5, 5, 5 + (moved > 0)]
    assert numbers(resident(whole), found) == list(range(0, 200, 10))
    (first,) = resident(data).train_sample(20)
    assert numbers(resident(data), first) == list(range(20)), "these are mixed already"
    for each in (data, whole):
        (all_,) = resident(each).train_sample(300)
        assert numbers(resident(each), all_) == list(range(200))


def test_bf16_batches_are_near_the_float32_ones():
    data = resident(noise(60))
    for spec in (NO_DA, FULL_DA):
        for rough, fine in zip(
            batches(data, 20, spec, dtype=torch.bfloat16), batches(data, 20, spec), strict=True
        ):
            assert rough.images.dtype == torch.bfloat16
            assert (rough.images.float() - fine.images).abs().max() < 0.06
            assert rough.lam == fine.lam and torch.equal(rough.partner_labels, fine.partner_labels)


def test_batches_do_not_share_memory_with_the_data():
    data = resident(noise(60))
    before = [b.images.clone() for b in data.train_sample(60)]
    for batch in (*batches(data, 30), *data.test_batches(), *data.train_sample(60)):
        batch.images.fill_(7)
        batch.labels.clone().fill_(0)
    assert all(torch.equal(a, b.images) for a, b in zip(before, data.train_sample(60), strict=True))


def test_the_caches_memory_map_is_not_touched(tmp_path):
    source = noise(60)
    for name in ("train", "test"):
        np.save(tmp_path / f"{name}.npy", getattr(source, name).images)
    digests = {p: hashlib.sha256(p.read_bytes()).digest() for p in tmp_path.iterdir()}
    mapped = dataclasses.replace(
        source,
        train=Split(np.load(tmp_path / "train.npy", mmap_mode="r+"), source.train.labels.copy()),
        test=Split(np.load(tmp_path / "test.npy", mmap_mode="r+"), source.test.labels.copy()),
    )
    for spec in (ALL, DataSpec("shapes-16", examples=40), DataSpec("shapes-16", pixel_permutation=1)):
        data = resident(mapped, spec)
        for batch in (
            *batches(data, 20, AugmentSpec(mixup=0.8)),
            *data.test_batches(),
            *data.train_sample(60),
        ):
            batch.images.zero_()
            batch.labels.zero_()
    mapped.train.images.flush()
    mapped.test.images.flush()
    assert digests == {p: hashlib.sha256(p.read_bytes()).digest() for p in tmp_path.iterdir()}
    assert mapped.train.labels.tolist() == source.train.labels.tolist(), (
        "labels come from memory that runs share"
    )
    assert mapped.test.labels.tolist() == source.test.labels.tolist()


def test_a_read_only_memory_map_raises_no_warning(tmp_path, recwarn):
    np.save(tmp_path / "train.npy", noise(60).train.images)
    train = Split(np.load(tmp_path / "train.npy", mmap_mode="r"), noise(60).train.labels)
    resident(dataclasses.replace(noise(60), train=train))
    assert not [w for w in recwarn if "writable" in str(w.message)]


# --------------------------------------------------------------------------- permutation and subsets


def test_one_permutation_for_train_test_and_all_channels():
    images = noise(20).train.images
    source = dataset(images, images)
    plain, permuted = resident(source), resident(source, DataSpec("shapes-16", pixel_permutation=3))
    (train,), (test,) = permuted.train_sample(20), permuted.test_batches()
    assert torch.equal(train.images, test.images)
    found = np.rint(pixels(permuted, train.images)).reshape(20, 64, 3)
    original = np.rint(pixels(plain, next(iter(plain.test_batches())).images)).reshape(20, 64, 3)
    # Where each place came from, read off the first image, holds for all of them.
    colors = {tuple(color): place for place, color in enumerate(original[0])}
    assert len(colors) == 64
    order = [colors[tuple(color)] for color in found[0]]
    assert sorted(order) == list(range(64)) and order != list(range(64))
    assert (found == original[:, order]).all(), "whole pixels move, the same way in every image"


def test_permutations_follow_their_seed():
    source = noise(20)
    found = {}
    for seed in (None, 0, 1, 2):
        (batch,) = resident(source, DataSpec("shapes-16", pixel_permutation=seed)).test_batches()
        (again,) = resident(source, DataSpec("shapes-16", pixel_permutation=seed)).test_batches()
        assert torch.equal(batch.images, again.images)
        found[seed] = batch.images
    assert not any(torch.equal(found[a], found[b]) for a in found for b in found if a is not b)
    # Statistics are per channel, so a permutation leaves them alone.
    for images in found.values():
        torch.testing.assert_close(images.mean(dim=(2, 3)), found[None].mean(dim=(2, 3)))


def test_a_subset_is_nested_balanced_and_normalized_as_the_whole():
    source = numbered(200)
    whole = resident(source)
    kept = {}
    for examples in (8, 20, 100, 200):
        data = resident(source, DataSpec("shapes-16", examples=examples))
        assert len(data.train) == examples and len(data.test) == 200
        kept[examples] = {n for b in data.train_sample(10**6) for n in numbers(data, b)}
        assert kept[examples] == set(subset_indices(source.train.labels, examples))
        assert np.bincount([n % 4 for n in kept[examples]]).tolist() == [examples // 4] * 4
        assert torch.equal(data.mean, whole.mean) and torch.equal(data.std, whole.std)
    assert kept[8] < kept[20] < kept[100] < kept[200]


def test_another_draw_keeps_other_images_and_holds_out_the_same():
    source = numbered(200)
    kept, held = [], []
    for draw in (0, 1):
        data = resident(source, DataSpec("shapes-16", examples=40, held_out=40, draw=draw))
        kept.append({n for b in data.train_sample(10**6) for n in numbers(data, b)})
        held.append([n for b in data.test_batches() for n in numbers(data, b)])
    assert held[0] == held[1] and not (kept[0] | kept[1]) & set(held[0])
    assert len(kept[0]) == len(kept[1]) == 40 and kept[0] != kept[1]


def test_statistics_are_those_of_pixel_values():
    data = resident(noise(60))
    images = noise(60).train.images.reshape(-1, 3)
    np.testing.assert_allclose(data.mean.numpy(), images.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(data.std.numpy(), images.std(axis=0), rtol=1e-6)
    assert data.classes == noise(60).classes
