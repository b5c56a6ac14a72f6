"""Read everything of a data set and compare it with what is known of it (``mlplib data verify``)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...errors import MlplibError
from ..catalog import MEAN_TOLERANCE, Drawn, ImageFiles, PinnedPixels, find_base
from ..dataset import ImageDataset, binary_batch_md5, ordered_hash, statistics, unordered_hash
from ..loading import load
from . import cache, real
from .acceptance import farthest_mean


class Check(NamedTuple):
    """One comparison: what was compared, what was found, what should be."""

    what: str
    found: object
    expected: object
    ok: bool


def _check(what: str, found, expected) -> Check:
    return Check(what, found, expected, found == expected)


def _rounded(mean) -> list[float]:
    return [round(value, 4) for value in mean]


def verify(name: str) -> list[Check]:
    """Check the cached copy of a data set; a class subset through its parent.

    Raises:
        MlplibError: no such data set; it is not in the cache; a file of the cached copy is damaged (the line
            names it).
    """
    if name == real.NAME:
        if not real.cached().is_file():
            raise _not_there(name)
        real.read(real.cached())  # refuses anything but the published labels
        return [_check("the published labels", True, True)]
    entry = find_base(name)
    if isinstance(entry, Drawn):
        data = load(entry.name)
        return [_check("content hash", ordered_hash(data.train, data.test), entry.content_hash)]
    at = cache.folder(entry.name)
    if not at.exists():
        raise _not_there(entry.name)
    if wrong := cache.damage(entry.name, "all"):
        raise MlplibError(
            f"damaged: {wrong}; delete the folder {at}, and the next use gets {entry.name} again"
        )
    if entry.cached is None:
        raise MlplibError(f"{entry.name} was prepared in another way: run `mlplib data prepare {entry.name}`")
    check = _pixel_checks if isinstance(entry, PinnedPixels) else _file_checks
    return check(entry, cache.read(entry.name))


def _not_there(name: str) -> MlplibError:
    return MlplibError(f"{name} is not in the cache {cache.root()}: run `mlplib data prepare {name}` first")


def _pixel_checks(entry: PinnedPixels, data: ImageDataset) -> list[Check]:
    ordered, unordered = ordered_hash(data.train, data.test), unordered_hash(data.train, data.test)
    checks = [
        _check("content hash", ordered, data.content_hash),
        _check("the published images, in any order", unordered, entry.unordered_hash),
        _check("training mean", _rounded(statistics(data.train.images)[0]), _rounded(entry.mean)),
    ]
    if entry.batch_md5 and ordered == entry.content_hash:
        found = binary_batch_md5(data.train)
        checks.append(_check("md5 of the first 10,000 as a binary batch", found, entry.batch_md5))
    return checks


def _file_checks(entry: ImageFiles, data: ImageDataset) -> list[Check]:
    """What can be said of prepared image files: that they are as prepared, and like what is known of them."""
    splits = {"train": data.train, "test": data.test}
    checks = [
        _check("content hash", ordered_hash(data.train, data.test), data.content_hash),
        _check("training mean", _rounded(statistics(data.train.images)[0]), _rounded(data.mean)),
    ]
    for name, split in splits.items():
        present = np.bincount(split.labels, minlength=entry.class_count)
        checks.append(_check(f"classes with {name} images", int((present > 0).sum()), entry.class_count))
        if name in entry.balanced and not entry.cached["preparation"]["skipped"]:
            share, found = len(split) // entry.class_count, [int(present.min()), int(present.max())]
            checks.append(_check(f"{name} images per class", found, [share, share]))
    if entry.pins:
        far = farthest_mean(entry, splits)
        what, allowed = (
            "distance of a class's mean color to the known one",
            f"at most {MEAN_TOLERANCE:g} of 255",
        )
        checks.append(Check(what, f"{far:.2f}", allowed, far <= MEAN_TOLERANCE))
    return checks
