"""Hashes, statistics and subsets against their definitions."""

import hashlib
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_data import CLASSES, TEST, TRAIN, one_pixel_off, reordered

from mlplib.data import dataset
from mlplib.data.dataset import (
    ImageDataset,
    Split,
    class_means,
    class_subset,
    ordered_hash,
    statistics,
    subset_indices,
    unordered_hash,
)
from mlplib.errors import MlplibError

# --------------------------------------------------------------------------- own arrays


def of(train: Split = TRAIN, test: Split = TEST) -> ImageDataset:
    return ImageDataset("own", train, test, CLASSES, *statistics(TRAIN.images), "")


WRONG = {
    "float images": (Split(TRAIN.images / 255, TRAIN.labels), TEST, "train: images must be uint8"),
    "gray images": (Split(TRAIN.images[..., :1], TRAIN.labels), TEST, "train: images must be uint8"),
    "channels first": (
        Split(TRAIN.images.transpose(0, 3, 1, 2), TRAIN.labels),
        TEST,
        "train: images must be uint8",
    ),
    "another size": (
        TRAIN,
        Split(TEST.images[:, 1:], TEST.labels),
        "test: images.*of one size",
    ),
    "int32 labels": (TRAIN, Split(TEST.images, TEST.labels.astype(np.int32)), "test: labels must be int64"),
    "one-hot labels": (Split(TRAIN.images, np.eye(99, dtype=int)[TRAIN.labels]), TEST, "train: labels must"),
    "fewer labels": (Split(TRAIN.images, TRAIN.labels[:-1]), TEST, "train: labels must be int64, one per"),
    "no test images": (TRAIN, Split(TEST.images[:0], TEST.labels[:0]), "test: labels must.*not none"),
    "labels from 1": (Split(TRAIN.images, TRAIN.labels + 1), TEST, "train: labels must be from 0 to"),
    "no label": (TRAIN, Split(TEST.images, TEST.labels - 1), "test: labels must be from 0 to"),
}


@pytest.mark.parametrize(("train", "test", "why"), WRONG.values(), ids=WRONG)
def test_arrays_that_are_no_data_set_are_refused_in_one_line(train, test, why):
    with pytest.raises(MlplibError, match=f"^own, {why}"):
        of(train, test)
    assert of().name == "own"


# --------------------------------------------------------------------------- hashes and statistics


def test_ordered_hash_is_sha256_of_the_arrays_in_order():
    arrays = (TRAIN.images, TRAIN.labels, TEST.images, TEST.labels)
    expected = hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()
    assert ordered_hash(TRAIN, TEST) == expected
    assert ordered_hash(reordered(TRAIN), TEST) != expected


def test_unordered_hash_ignores_order_and_nothing_else():
    expected = unordered_hash(TRAIN, TEST)
    assert unordered_hash(reordered(TRAIN), reordered(TEST)) == expected
    assert unordered_hash(one_pixel_off(TRAIN), TEST) != expected
    assert unordered_hash(Split(TRAIN.images, np.roll(TRAIN.labels, 1)), TEST) != expected
    assert unordered_hash(TEST, TRAIN) != expected


def test_unordered_hash_counts_identical_pairs():
    def plus_twice(i):
        index = [*range(len(TRAIN)), i, i]
        return Split(TRAIN.images[index], TRAIN.labels[index])

    assert unordered_hash(plus_twice(0), TEST) != unordered_hash(plus_twice(1), TEST)


def test_statistics_of_large_images_take_little_memory():
    images = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None], (64, 512, 256, 256, 3))[0]
    tracemalloc.start()
    mean, _ = statistics(images)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert mean == pytest.approx([0.5] * 3) and peak < 2e8, "not 8 bytes for each pixel of all"


def test_statistics_agree_with_numpy_in_float64():
    mean, std = statistics(TRAIN.images)
    pixels = TRAIN.images.reshape(-1, 3) / 255
    np.testing.assert_allclose(mean, pixels.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std(axis=0), rtol=1e-12)


def test_statistics_look_at_a_part_at_a_time(monkeypatch):
    whole = statistics(TRAIN.images)
    monkeypatch.setattr(dataset, "PIXELS", 2 * TRAIN.images[0, ..., 0].size)
    assert statistics(TRAIN.images) == whole


def test_class_means_are_the_mean_colors():
    found = class_means(TRAIN, 4)
    for label in range(3):
        pixels = TRAIN.images[TRAIN.labels == label].reshape(-1, 3)
        np.testing.assert_allclose(found[label], pixels.mean(axis=0), rtol=1e-12)
    assert found[3].tolist() == [0, 0, 0]  # a class without images


# --------------------------------------------------------------------------- class subsets


def test_class_subset_renumbers_in_the_order_of_its_classes():
    parent = ImageDataset("tiny", TRAIN, TEST, CLASSES, *statistics(TRAIN.images), "parent")
    subset = class_subset(parent, "some", ("cow", "ant"), "own")
    keep = np.flatnonzero(TRAIN.labels != 1)
    np.testing.assert_array_equal(subset.train.images, TRAIN.images[keep])
    assert [("cow", "ant")[i] for i in subset.train.labels] == [CLASSES[i] for i in TRAIN.labels[keep]]
    assert subset.train.labels.dtype == np.int64 and subset.train.images.flags.c_contiguous
    assert (subset.classes, subset.content_hash) == (("cow", "ant"), "own")
    assert subset.mean == statistics(TRAIN.images[keep])[0]


# --------------------------------------------------------------------------- smaller training sets

some_labels = st.lists(st.integers(0, 6), min_size=1, max_size=120).map(lambda v: np.array(v, dtype=np.int64))


@given(some_labels, st.data())
def test_subset_keeps_every_class_in_proportion(labels, data):
    examples = data.draw(st.integers(1, len(labels)))
    kept = subset_indices(labels, examples)
    assert kept.dtype == np.int64 and len(np.unique(kept)) == examples
    available = np.bincount(labels, minlength=7)
    got = np.bincount(labels[kept], minlength=7)
    exact = available * examples  # times len(labels), in whole numbers
    assert (got >= exact // len(labels)).all()
    assert (got <= -(-exact // len(labels))).all()


@settings(max_examples=40)
@given(some_labels)
def test_smaller_subsets_lie_inside_larger_ones(labels):
    smaller = set()
    for examples in range(1, len(labels) + 1):
        larger = set(subset_indices(labels, examples).tolist())
        assert smaller < larger
        smaller = larger


def test_draws_are_other_subsets_of_the_same_make():
    labels = np.arange(1000) % 10
    kept = [subset_indices(labels, 100, draw) for draw in range(4)]
    assert len({tuple(k) for k in kept}) == 4
    for draw, indices in enumerate(kept):
        assert np.bincount(labels[indices]).tolist() == [10] * 10
        assert set(subset_indices(labels, 20, draw)) < set(indices)
    np.testing.assert_array_equal(kept[0], subset_indices(labels, 100))


def test_all_examples_are_the_whole_set_in_order():
    labels = np.array([2, 0, 0, 1, 2, 2])
    np.testing.assert_array_equal(subset_indices(labels, 6), np.arange(6))


def test_subsets_never_change():
    labels = np.arange(1000) % 10
    kept = subset_indices(labels, 100)
    assert kept[:8].tolist() == [11, 14, 43, 45, 74, 78, 88, 92]
    assert hashlib.sha256(kept.astype("<i8").tobytes()).hexdigest()[:16] == "2a0676b2413f7574"
    assert subset_indices(labels, 100, draw=1)[:8].tolist() == [59, 87, 121, 164, 165, 168, 176, 177]


@pytest.mark.parametrize("examples", [0, -1, 7])
def test_impossible_subset_is_refused(examples):
    with pytest.raises(MlplibError, match=f"from 1 to the 6 that there are, not {examples}"):
        subset_indices(np.zeros(6, dtype=np.int64), examples)
