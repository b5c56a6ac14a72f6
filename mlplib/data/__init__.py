"""Data sets by name: :func:`load` gives uint8 images, labels and what identifies them."""

from __future__ import annotations

import logging

from ..errors import MlplibError
from ..progress import Progress, quiet
from . import cache
from .catalog import CATALOG, ClassSubset, Drawn, Published, content_hash, find
from .dataset import ImageDataset, Split, class_subset, ordered_hash, statistics, subset_indices

_log = logging.getLogger("mlplib")

__all__ = ["CATALOG", "ImageDataset", "Split", "content_hash", "load", "subset_indices"]


def load(name: str, progress: Progress | None = None, verify: bool = False) -> ImageDataset:
    """Load a data set, getting and caching it first where that has not happened yet.

    Args:
        name: a name in :data:`mlplib.data.catalog.CATALOG`.
        progress: shows the long steps (:mod:`mlplib.progress`); silent when ``None``.
        verify: also read and hash the whole cached copy, and build it anew if it is damaged.

    Returns:
        uint8 images ``(N, H, W, 3)`` (read-only memory maps of the cache for published data sets), int64
        labels ``(N,)``, names and statistics.

    Raises:
        MlplibError: unknown name; no source has the data; the cache cannot be written.
    """
    entry = find(name)
    if isinstance(entry, ClassSubset):
        parent = load(entry.parent, progress, verify)
        return class_subset(parent, name, entry.classes, content_hash(name))
    if isinstance(entry, Drawn):
        return _drawn(entry)
    return _published(entry, progress or quiet, verify)


def _drawn(entry: Drawn) -> ImageDataset:
    from . import shapes

    train, test = shapes.draw(entry.train, entry.test, entry.image_size)
    if ordered_hash(train, test) != entry.content_hash:
        raise MlplibError(
            f"{entry.name} came out different on this machine: please report its numpy version and CPU"
        )
    return ImageDataset(entry.name, train, test, entry.classes, *statistics(train.images), entry.content_hash)


def _published(entry: Published, progress: Progress, verify: bool) -> ImageDataset:
    def is_good() -> bool:
        kept = None if cache.damage(entry.name, full=verify) else cache.manifest(entry.name)
        return kept is not None and kept["unordered_hash"] == entry.unordered_hash

    if not is_good():
        from . import sources

        if cache.folder(entry.name).exists():
            wrong = cache.damage(entry.name, full=verify) or "another version of its content"
            _log.warning("getting %s anew: %s", entry.name, wrong)

        def fetch(staging):
            return sources.fetch(entry, staging, progress)

        cache.build(entry.name, entry.classes, is_good, fetch, progress)
    return cache.read(entry.name)
