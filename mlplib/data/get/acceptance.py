"""Checks that a copy is the expected data set: classes, numbers of images, hashes, mean colors."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter

import numpy as np

from ..catalog import Edition, ImageFiles, OwnFolder, Stored
from ..dataset import Split, class_means
from .copies import Copy, Unusable

_log = logging.getLogger("mlplib")

MEAN_TOLERANCE = 2.0
"""Largest distance of a class's mean color from the pinned one, in pixel values 0 to 255.

Encoding Tiny ImageNet again as JPEG with quality 50 moves no class mean by more than 1.4; half of the classes
have no other class within 2.5.
"""


def _count(sizes: dict[str, int]) -> str:
    return f"{sizes['train']:,} training and {sizes['test']:,} test images"


def edition_of(entry: Stored, copy: Copy) -> Edition:
    """The edition of a copy, by its classes and its numbers of images.

    Raises:
        Unusable: it is not an accepted edition: other classes, images missing.
    """
    if isinstance(entry, OwnFolder):
        if len(copy.classes) == 1:
            hint = "class folders belong directly into the folders of the splits"
            hint = hint if copy.about[0] == "class folders" else "a data set needs two"
            raise Unusable(f"it has one class only ({copy.classes[0]}): {hint}")
        return Edition(entry.title, len(copy.classes), **copy.sizes)
    classes_hash = hashlib.sha256("\n".join(sorted(copy.classes)).encode()).hexdigest()
    if entry.known_names and copy.classes and copy.classes not in entry.known_names:
        other = set(copy.classes) ^ set(entry.known_names[0])
        wrong = f": {min(other)} is in one of the two only" if other else ", in another order"
        raise Unusable(f"{len(copy.classes)} classes which are not those of {entry.title}{wrong}")
    alike = [e for e in entry.accepted_editions if not copy.classes or e.classes == len(copy.classes)]
    if not alike:
        known = " or ".join(f"{edition.classes:,}" for edition in entry.accepted_editions)
        raise Unusable(f"{len(copy.classes):,} classes instead of {known}")
    named = bool(copy.classes) and not copy.classes[0].strip("n0123456789")  # synset ids, not words
    for edition in alike:
        if named and edition.classes_hash not in (None, classes_hash):
            raise Unusable(f"the {edition.classes:,} class folders are not the classes of {edition.title}")
        if copy.sizes == {"train": edition.train, "test": edition.test}:
            return edition
        # A copy without a test split may predate the official split, or be only the training split.
        whole = [edition.train + edition.test] + ([edition.train] if copy.held_out else [])
        total = sum(copy.sizes.values())
        if any(abs(total - wanted) <= edition.slack * wanted for wanted in whole if edition.slack):
            return edition
    expected = " or ".join(_count({"train": e.train, "test": e.test}) for e in alike)
    raise Unusable(f"{_count(copy.sizes)} instead of {expected}")


def check_balance(entry: Stored, split: str, labels: np.ndarray, classes: int) -> None:
    """Refuse a split whose classes should have equally many images but do not.

    Raises:
        Unusable: the message names a class and its number of images.
    """
    if split not in entry.balanced:
        return
    counts = np.bincount(labels, minlength=classes)
    share = len(labels) // classes
    if wrong := np.flatnonzero(counts != share).tolist():
        raise Unusable(
            f"{len(wrong)} classes do not have {share} {split} images each, such as class {wrong[0]} with "
            f"{counts[wrong[0]]}"
        )


def count_shared(label: str, train: Split, test: Split) -> None:
    """Warn about test images that are also training images: accuracy on those says nothing about others.

    Prepared pixels are compared, whatever files they came from.
    """
    left = Counter(hash(image.tobytes()) for image in test.images)  # not the images: there may be millions
    shared = sum(left.pop(hash(image.tobytes()), 0) for image in train.images)
    if shared:
        _log.warning("%s: %d of %d test images are also training images", label, shared, len(test))


def class_sums(labels: np.ndarray, digests: np.ndarray, classes: int) -> tuple[str, ...]:
    """For each class the sum of its files' digests modulo 2**64, as 16 hex digits."""
    sums = np.zeros(classes, np.uint64)
    np.add.at(sums, labels, digests)
    return tuple(f"{value:016x}" for value in sums.tolist())


def check_pins(
    entry: ImageFiles, splits: dict[str, Split], sums: dict[str, tuple[str, ...]], unordered: str
) -> str:
    """Identify a copy of pinned image files; returns a description.

    Official files are identified by their hashes, whatever the decoder, and pixels by theirs. If every class
    differs from the official files, the copy is accepted as another encoding of the same images if all class
    mean colors agree. If only some classes differ, it is damaged.

    Raises:
        Unusable: it is not this data set.
    """
    if unordered == entry.pins.unordered_hash:
        return "the official images"
    wrong = [
        (split, label)
        for split, known in entry.pins.files.items()
        for label, (found, expected) in enumerate(zip(sums[split], known, strict=True))
        if found != expected
    ]
    total = sum(map(len, entry.pins.files.values()))
    if not wrong:
        return "the official files, which another decoder has turned into slightly other pixels"
    if len(wrong) < total:
        split, label = wrong[0]
        raise Unusable(
            f"{split} images of class {entry.classes[label]} are not the official files, and so in "
            f"{len(wrong)} of {total} cases"
        )
    distance = max(
        float(np.abs(class_means(split, entry.class_count) - entry.pins.means[name]).max())
        for name, split in splits.items()
    )
    if distance > MEAN_TOLERANCE:
        raise Unusable(
            f"not the images and labels of {entry.title}: the mean color of a class is off by {distance:.1f} "
            f"of 255, more than {MEAN_TOLERANCE:g}"
        )
    return (
        f"another encoding of the official images (mean colors of classes off by up to {distance:.2f} of 255)"
    )
