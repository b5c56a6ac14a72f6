"""ReaL: new labels of ImageNet's validation images by annotators, several for some images, none for others.

Beyer et al., "Are we done with ImageNet?", arXiv 2006.07159; the labels are in
https://github.com/google-research/reassessed-imagenet.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

import numpy as np

from ...errors import MlplibError, one_line
from ...files import replacing
from ..dataset import ImageDataset
from . import cache
from .sources import local_folders

NAME = "imagenet-real"
TITLE = "ReaL labels of ImageNet's validation images"
FILE = "real.json"
IMAGES, CLASSES = 50_000, 1000

CONTENT_HASH = "b7aba621b61a87cfc6d8bf44c954edab4750c9b2961e60907b8478ffacfba4e1"
"""Sha-256 of the published lists, each sorted, as JSON without spaces. They have not changed since 2020."""


def by_hand() -> str:
    """How to supply the labels, as a clause of a message."""
    return (
        f"put {FILE} of https://github.com/google-research/reassessed-imagenet into data/imagenet, or into "
        "<folder>/imagenet and set MLPLIB_DATA=<folder>"
    )


def cached() -> Path:
    """The path of the cached copy of the file."""
    return cache.folder(NAME) / FILE


def find() -> Path | None:
    """The file: in the cache, else in one of the local folders, or in ``imagenet`` there."""
    places = [folder / below for folder in local_folders() for below in ("imagenet", NAME, ".")]
    return next((path for path in (cached(), *(at / FILE for at in places)) if path.is_file()), None)


def read(path: Path) -> list[list[int]]:
    """The lists of accepted classes in the official order of the validation images, checked.

    Raises:
        MlplibError: it is not the published file; the message says why.
    """
    try:
        lists = json.loads(path.read_text(encoding="utf-8"))
        canonical = json.dumps([sorted(value) for value in lists], separators=(",", ":"))
        why = "its labels are not the published ones"
    except (OSError, ValueError, TypeError, RecursionError) as error:
        canonical, why = "", f"it cannot be read as lists of classes ({one_line(error)})"
    if hashlib.sha256(canonical.encode()).hexdigest() != CONTENT_HASH:
        raise MlplibError(f"{path} does not have the ReaL labels: {why}; {by_hand()}")
    return lists


def keep() -> list[list[int]]:
    """Find and check the labels, and copy the file to the cache, so that the folder is no longer needed.

    Returns:
        As :func:`read`.

    Raises:
        MlplibError: there is no file; it is not the published one.
    """
    path = find()
    if path is None:
        raise MlplibError(f"no ReaL labels: {by_hand()}")
    lists = read(path)
    if path != cached():
        with suppress(MlplibError), replacing(cached()) as temporary:  # a cache may be read-only
            temporary.write_bytes(path.read_bytes())
    return lists


def real_labels(dataset: ImageDataset) -> np.ndarray:
    """The accepted classes of each test image.

    Args:
        dataset: ``imagenet``, prepared from files with their official names.

    Returns:
        bool ``(N, 1000)``, rows in the order of ``dataset.test``. A row without any accepted class is an
        image for which people found no class: leave it out of every mean, as the authors of the labels do.

    Raises:
        MlplibError: there is no file; it is not the published one; ``dataset`` does not know the official
            numbers of its test images.
    """
    index = dataset.test_index
    if index is None or index.min() < 0 or index.max() >= IMAGES or len(np.unique(index)) != len(index):
        raise MlplibError(
            f"ReaL labels go with ImageNet's validation images, whose numbers {dataset.name} does not know: "
            "prepare imagenet from files named ILSVRC2012_val_<number>"
        )
    if all(name.isdigit() for name in dataset.classes):
        raise MlplibError(
            f"ReaL labels need ImageNet's order of classes, and {dataset.name} was prepared from a copy that "
            "states no class names: prepare imagenet from class folders, or from parquet files with names"
        )
    lists = keep()
    accepted = np.zeros((len(index), CLASSES), dtype=bool)
    for row, number in enumerate(index.tolist()):
        accepted[row, lists[number]] = True
    return accepted
