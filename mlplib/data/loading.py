"""Load a data set by name, preparing and caching it first if necessary."""

from __future__ import annotations

from pathlib import Path

from ..errors import MlplibError
from ..progress import Progress, quiet
from .catalog import CATALOG, ClassSubset, Drawn, OwnFolder, Stored, find
from .dataset import ImageDataset, class_subset, ordered_hash, statistics
from .get import cache, shapes, sources


def load(
    name: str, progress: Progress = quiet, verify: bool = False, skip_unreadable: bool = False
) -> ImageDataset:
    """Load a data set, getting and caching it first if that has not happened yet.

    Cached files are hashed at their first use after a change.

    Args:
        name: a name in :data:`mlplib.data.catalog.CATALOG`, or of an own folder that has been prepared.
        progress: shows the progress of long steps (:mod:`mlplib.progress`).
        verify: always hash the whole cached copy, and rebuild it if it is damaged.
        skip_unreadable: when image files are prepared, leave out those that cannot be read; the cache's
            manifest says how many.

    Returns:
        uint8 images ``(N, H, W, 3)`` (read-only memory maps of the cache, except for drawn shapes and class
        subsets), int64 labels ``(N,)``, names and statistics.

    Raises:
        MlplibError: unknown name; no source has the data; images are unreadable; the cache cannot be written;
            ``skip_unreadable`` for a data set whose content is known exactly.
    """
    try:
        entry = find(name)
    except MlplibError:  # it may be an exported own folder
        if not (entry := sources.exported_own(name)):
            raise
    if skip_unreadable and not (isinstance(entry, Stored) and entry.skippable):
        raise MlplibError(
            f"no image of {name} may be left out, its content is known exactly: "
            "prepare it without --skip-unreadable"
        )
    if isinstance(entry, ClassSubset):
        parent = load(entry.parent, progress, verify)
        return class_subset(parent, name, entry.classes, entry.identity)
    if isinstance(entry, Drawn):
        train, test = shapes.draw(entry.train, entry.test, entry.image_size)
        if ordered_hash(train, test) != entry.content_hash:
            raise MlplibError(
                f"{name} came out different on this machine: please report its numpy version and CPU"
            )
        return ImageDataset(name, train, test, entry.classes, *statistics(train.images), entry.content_hash)
    return _stored(entry, progress, verify, skip_unreadable)


def _stored(entry: Stored, progress: Progress, verify: bool, skip_unreadable: bool) -> ImageDataset:
    def known() -> Stored | None:
        # Not `entry`, which may have the numbers of the copy that is to be replaced.
        return sources.exported_own(entry.name) or CATALOG.get(entry.name)

    def fault() -> str | None:
        wrong = cache.damage(entry.name, "all" if verify else "changed")
        if not wrong and not entry.cached:
            wrong = "another version of its content"
        if not wrong and sources.replaced(entry, cache.preparation(entry.name)):
            wrong = "its parquet files have changed"
        if wrong and not known():  # only the user knows where the images of an own folder are
            raise OwnFolder.damaged(entry.name, wrong)
        return wrong

    def fetch(staging: Path) -> cache.Prepared:
        return sources.fetch(known(), staging, progress, skip_unreadable)

    return cache.get(entry.name, fault, fetch, progress)
