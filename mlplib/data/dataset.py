"""A data set in memory, its hashes and statistics, and its subsets."""

from __future__ import annotations

import hashlib
import heapq
from dataclasses import dataclass

import numpy as np

from ..errors import MlplibError, Refused


@dataclass(frozen=True)
class Split:
    """Images and their labels.

    ``images``: uint8 ``(N, H, W, 3)``, C-contiguous, possibly a read-only memory map;
    ``labels``: int64 ``(N,)``, from 0 to the number of classes - 1.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ImageDataset:
    """A data set by its name in the catalog.

    ``mean`` and ``std`` are those of the training pixels divided by 255, by channel (population standard
    deviation). ``content_hash`` is part of the run id (:func:`mlplib.data.catalog.content_hash`).
    ``test_index``, if known: int64 ``(N_test,)``, the official number of each test image, from 0, or
    -1 (ImageNet's ``ILSVRC2012_val_00000001`` is 0), because other labels of these images use that order.

    Raises:
        MlplibError: arrays that do not fit :class:`Split`, an empty split, or a label without a class.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    content_hash: str
    test_index: np.ndarray | None = None

    def __post_init__(self):
        for split, images, labels in (
            ("train", self.train.images, self.train.labels),
            ("test", self.test.images, self.test.labels),
        ):
            if images.dtype != np.uint8 or images.shape[1:] != (*self.train.images.shape[1:3], 3):
                wanted = "images must be uint8 (N, H, W, 3), of one size in train and test"
                raise self._wrong(split, wanted, f"{images.dtype} {images.shape}")
            if labels.dtype != np.int64 or labels.shape != images.shape[:1] or not len(labels):
                wanted = f"labels must be int64, one per image, and not none, for {len(images)} images"
                raise self._wrong(split, wanted, f"{labels.dtype} {labels.shape}")
            if not 0 <= labels.min() <= labels.max() < len(self.classes):
                wanted = f"labels must be from 0 to {len(self.classes) - 1}, the number of classes - 1"
                raise self._wrong(split, wanted, f"{labels.min()} to {labels.max()}")

    def _wrong(self, split: str, wanted: str, found: str) -> MlplibError:
        return MlplibError(f"{self.name}, {split}: {wanted}, not {found}")


# --------------------------------------------------------------------------- hashes


def _label_bytes(labels: np.ndarray) -> bytes:
    return labels.astype("<i8").tobytes()


def ordered_hash(train: Split, test: Split) -> str:
    """Sha-256 (hex) over train images, train labels, test images, test labels, in stored order.

    Images are hashed as their bytes ``(N, H, W, 3)``, labels as little-endian int64.
    """
    digest = hashlib.sha256()
    for split in (train, test):
        digest.update(np.ascontiguousarray(split.images).data)
        digest.update(_label_bytes(split.labels))
    return digest.hexdigest()


def _unordered_sum(split: Split) -> int:
    # A sum instead of an XOR: data sets contain identical pairs, which an XOR would cancel.
    labels, width = _label_bytes(split.labels), 8
    total = 0
    for i, image in enumerate(split.images):
        example = image.tobytes() + labels[i * width : (i + 1) * width]
        total += int.from_bytes(hashlib.sha256(example).digest(), "big")
    return total % 2**256


def unordered_hash(train: Split, test: Split) -> str:
    """A hash (hex) that depends on the labeled images in train and test, but not on their order.

    Each example is hashed by sha-256 (image bytes, then the label as little-endian int64); a split is the
    sum of its examples' hashes modulo 2**256; the result is the sha-256 of the two sums in hex.
    """
    sums = "".join(f"{_unordered_sum(split):064x}" for split in (train, test))
    return hashlib.sha256(sums.encode()).hexdigest()


PIXELS = 2**22
"""Pixels counted at a time: NumPy needs 8 bytes for each."""


def statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and population standard deviation by channel of uint8 images ``(N, H, W, 3)``, divided by 255.

    Sums are taken over integers, so the result does not depend on the platform or the order.
    """
    counts = np.zeros((images.shape[-1], 256), dtype=np.int64)
    together = max(1, PIXELS // max(1, images[:1, ..., 0].size))
    for start in range(0, len(images), together):
        block = images[start : start + together]
        for channel, row in enumerate(counts):
            row += np.bincount(block[..., channel].ravel(), minlength=256)
    mean, std = [], []
    for row in counts:
        # Python integers, whose products do not overflow.
        n, first, second = (int(row @ np.arange(256) ** power) for power in range(3))
        mean.append(first / n / 255)
        std.append((n * second - first * first) ** 0.5 / n / 255)
    return tuple(mean), tuple(std)


def class_means(split: Split, classes: int) -> np.ndarray:
    """The mean color of every class: float64 ``(classes, 3)``, in pixel values 0 to 255; 0 without images."""
    sums = np.zeros((classes, 3))
    np.add.at(sums, split.labels, split.images.reshape(len(split), -1, 3).sum(axis=1, dtype=np.int64))
    pixels = np.bincount(split.labels, minlength=classes) * int(np.prod(split.images.shape[1:3]))
    return sums / np.maximum(pixels, 1)[:, None]


# --------------------------------------------------------------------------- subsets


def _select(split: Split, old_labels: list[int]) -> Split:
    renumber = np.full(max(int(split.labels.max()), *old_labels) + 1, -1, dtype=np.int64)
    renumber[old_labels] = np.arange(len(old_labels))
    labels = renumber[split.labels]
    keep = labels >= 0
    return Split(np.ascontiguousarray(split.images[keep]), labels[keep])


def class_subset(
    parent: ImageDataset, name: str, classes: tuple[str, ...], content_hash: str
) -> ImageDataset:
    """The examples of some of the parent's classes, in stored order; label i is the i-th of ``classes``."""
    old_labels = [parent.classes.index(c) for c in classes]
    train, test = _select(parent.train, old_labels), _select(parent.test, old_labels)
    return ImageDataset(name, train, test, classes, *statistics(train.images), content_hash)


_SUBSET_SEED = 20230623
"""Determines which examples a subset keeps, and so what a run computes: never change it."""


def _class_sequence(counts: list[int], length: int) -> list[int]:
    """The first ``length`` classes of a sequence in which every prefix has each class in proportion.

    The j-th example (from 0) of a class with ``c`` of ``n`` examples must be placed in the slots from
    ``floor(j n / c)`` to ``ceil((j + 1) n / c) - 1``: then a prefix of any length has the class's exact
    share, rounded down or up. Earliest-deadline-first scheduling always succeeds: these are the windows of
    "Proportionate progress" (Baruah et al., Algorithmica 1996) for a single resource.
    """
    n = sum(counts)
    # (first slot, deadline, class, j) of the next example of each class
    arriving = [(0, -(-n // c), label, 0) for label, c in enumerate(counts) if c]
    heapq.heapify(arriving)
    ready: list[tuple[int, int]] = []
    sequence = []
    for slot in range(length):
        while arriving and arriving[0][0] <= slot:
            _, deadline, label, j = heapq.heappop(arriving)
            heapq.heappush(ready, (deadline, label))
            if j + 1 < counts[label]:
                c = counts[label]
                heapq.heappush(arriving, ((j + 1) * n // c, -(-(j + 2) * n // c), label, j + 1))
        sequence.append(heapq.heappop(ready)[1])
    return sequence


def subset_indices(labels: np.ndarray, examples: int, draw: int = 0) -> np.ndarray:
    """Which examples a smaller training set keeps: each class in proportion, smaller sets inside larger ones.

    Args:
        labels: int64 ``(N,)``.
        examples: how many to keep. A class with ``c`` of the ``N`` examples gets ``examples * c / N``,
            rounded down or up to a whole example.
        draw: selects the random order. Smaller sets are inside larger ones of the same draw.

    Returns:
        int64 ``(examples,)``, ascending. Depends only on the arguments (not on the seed of a run);
        ``examples = N`` gives ``0 .. N-1``.

    Raises:
        MlplibError: ``examples`` is below 1 or above ``N``.
    """
    if not 1 <= examples <= len(labels):
        raise Refused(f"examples must be from 1 to the {len(labels)} that there are, not {examples}")
    # Raw PCG64 output is stable across numpy versions; Generator.permutation is not promised to be.
    source = np.random.PCG64([_SUBSET_SEED, draw] if draw else _SUBSET_SEED)
    order = np.argsort(source.random_raw(len(labels)), kind="stable")
    counts = np.bincount(labels)
    kept = np.bincount(_class_sequence(counts.tolist(), examples), minlength=len(counts))
    by_class = order[np.argsort(labels[order], kind="stable")]  # within a class still in the order of `order`
    first = np.cumsum(counts) - counts
    rank = np.arange(len(labels)) - np.repeat(first, counts)
    return np.sort(by_class[rank < np.repeat(kept, counts)]).astype(np.int64)
