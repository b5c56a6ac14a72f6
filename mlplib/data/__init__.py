"""Data sets by name: :func:`load` gives uint8 images, labels and what identifies them."""

from __future__ import annotations

import logging

from ..errors import MlplibError
from ..progress import Progress, quiet
from .catalog import CATALOG, ClassSubset, Drawn, ImageFiles, Kept, OwnFolder, content_hash, find
from .dataset import ImageDataset, Split, class_subset, ordered_hash, statistics, subset_indices
from .get import cache
from .get.real import real_labels

_log = logging.getLogger("mlplib")

__all__ = [
    "CATALOG",
    "ImageDataset",
    "Split",
    "content_hash",
    "load",
    "real_labels",
    "subset_indices",
]


def load(
    name: str, progress: Progress | None = None, verify: bool = False, skip_unreadable: bool = False
) -> ImageDataset:
    """Load a data set, getting and caching it first where that has not happened yet.

    Args:
        name: a name in :data:`mlplib.data.catalog.CATALOG`.
        progress: shows the long steps (:mod:`mlplib.progress`); silent when ``None``.
        verify: also read and hash the whole cached copy, and build it anew if it is damaged.
        skip_unreadable: when image files are prepared, leave out those that cannot be read; the cache's
            manifest says how many.

    Returns:
        uint8 images ``(N, H, W, 3)`` (read-only memory maps of the cache for published data sets), int64
        labels ``(N,)``, names and statistics.

    Raises:
        MlplibError: unknown name; no source has the data; images are unreadable; the cache cannot be written;
            ``skip_unreadable`` for a data set whose content is known exactly.
    """
    entry = find(name)
    if skip_unreadable and not (isinstance(entry, ImageFiles) and entry.skippable):
        raise MlplibError(
            f"no image of {name} may be left out, its content is known exactly: "
            "prepare it without --skip-unreadable"
        )
    if isinstance(entry, ClassSubset):
        parent = load(entry.parent, progress, verify)
        return class_subset(parent, name, entry.classes, content_hash(name))
    if isinstance(entry, Drawn):
        return _drawn(entry)
    return _kept(entry, progress or quiet, verify, skip_unreadable)


def _drawn(entry: Drawn) -> ImageDataset:
    from .get import shapes

    train, test = shapes.draw(entry.train, entry.test, entry.image_size)
    if ordered_hash(train, test) != entry.content_hash:
        raise MlplibError(
            f"{entry.name} came out different on this machine: please report its numpy version and CPU"
        )
    return ImageDataset(entry.name, train, test, entry.classes, *statistics(train.images), entry.content_hash)


def _kept(entry: Kept, progress: Progress, verify: bool, skip_unreadable: bool) -> ImageDataset:
    def is_good() -> bool:
        kept = None if cache.damage(entry.name, full=verify) else cache.manifest(entry.name)
        return kept is not None and entry.accepts(kept)

    if not is_good():
        from .get import sources

        if isinstance(entry, OwnFolder):  # only its folder's reader knows where the images are
            raise MlplibError(f"{entry.name} in the cache is damaged: run {entry.prepared_by}")
        if cache.folder(entry.name).exists():
            wrong = cache.damage(entry.name, full=verify) or "another version of its content"
            _log.warning("getting %s anew: %s", entry.name, wrong)
        known = CATALOG.get(entry.name, entry)  # not the numbers of a copy that is to be replaced

        def fetch(staging):
            return sources.fetch(known, staging, progress, skip_unreadable)

        cache.build(entry.name, known.classes, is_good, fetch, progress)
    return cache.read(entry.name)
