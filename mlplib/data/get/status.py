"""What the command line does with data sets: prepare, describe, verify. All return plain JSON values."""

from __future__ import annotations

import numpy as np

from ...errors import MlplibError
from ...progress import Progress
from ..catalog import (
    CATALOG,
    MEAN_TOLERANCE,
    ClassSubset,
    Entry,
    ImageFiles,
    PinnedPixels,
    Stored,
    content_hash,
    find,
)
from ..dataset import ImageDataset, binary_batch_md5, ordered_hash, statistics, unordered_hash
from ..loading import load
from . import cache, real
from .acceptance import farthest_mean
from .sources import by_hand


def names() -> tuple[str, ...]:
    """Everything that can be prepared: the catalog's data sets, and the ReaL labels."""
    return (*CATALOG, real.NAME)


def _stored(entry: Entry) -> Stored | None:
    """The data set in the cache that ``entry`` is or derives from; ``None`` for drawn shapes."""
    while isinstance(entry, ClassSubset):
        entry = find(entry.parent)
    return entry if isinstance(entry, Stored) else None


def describe(name: str) -> dict:
    """What a data set is and whether it is ready, without getting or reading images.

    Keys: ``name``, ``title``, ``classes`` (names; none before some sets are prepared), ``class_count``,
    ``image_size`` (pixels), ``train`` and ``test`` (images), ``parent`` (of a class subset),
    ``content_hash``, ``ready`` (no download needed), ``by_hand`` (how to supply it), and of the cached copy
    ``folder``, ``source``, ``bytes``, ``pinned_order`` (whether it has the catalog's order), ``content``
    (what it was found to be), ``test_from`` (where its test split comes from) and ``skipped`` (unreadable
    images left out). Values that do not apply are ``None``.

    Raises:
        MlplibError: no such data set.
    """
    if name == real.NAME:
        return _describe_real()
    entry = find(name)
    kept = _stored(entry)
    manifest = kept.cached if kept else None
    preparation = (manifest or {}).get("preparation", {})
    known = getattr(kept, "content_hash", None) or getattr(getattr(kept, "pins", None), "content_hash", None)
    return {
        "name": name,
        "title": entry.title,
        "classes": list(entry.classes),
        "class_count": entry.class_count,
        "image_size": entry.image_size,
        "train": entry.train,
        "test": entry.test,
        "parent": entry.parent if isinstance(entry, ClassSubset) else None,
        "content_hash": content_hash(name),
        "ready": kept is None or manifest is not None,
        "folder": str(cache.folder(kept.name)) if kept else None,
        "source": manifest["source"] if manifest else None,
        "bytes": sum(file["bytes"] for file in manifest["files"].values()) if manifest else None,
        "pinned_order": manifest["content_hash"] == known if manifest and known else None,
        "content": preparation.get("content"),
        "test_from": preparation.get("test_from"),
        "skipped": preparation.get("skipped"),
        "by_hand": by_hand(kept) if kept else None,
    }


def _describe_real() -> dict:
    found = real.find()
    described = dict.fromkeys(describe(next(iter(CATALOG))))
    return described | {
        "name": real.NAME,
        "title": real.TITLE,
        "class_count": real.CLASSES,
        "test": real.IMAGES,
        "content_hash": real.CONTENT_HASH,
        "ready": found is not None,
        "folder": str(real.cached().parent),
        "source": str(found) if found else None,
        "bytes": found.stat().st_size if found else None,
        "by_hand": real.by_hand(),
    }


def prepare(name: str, progress: Progress | None = None, skip_unreadable: bool = False) -> dict:
    """Get a data set into the cache unless it is there, and :func:`describe` it.

    Raises:
        MlplibError: as :func:`mlplib.data.load`.
    """
    if name == real.NAME:
        real.keep()
    else:
        load(name, progress, skip_unreadable=skip_unreadable)
    return describe(name)


# --------------------------------------------------------------------------- verification


def _check(what: str, found, expected, ok: bool | None = None) -> dict:
    return {
        "check": what,
        "found": found,
        "expected": expected,
        "ok": found == expected if ok is None else ok,
    }


def _rounded(mean) -> list[float]:
    return [round(value, 4) for value in mean]


def _pixel_checks(entry: PinnedPixels, data: ImageDataset) -> list[dict]:
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


def _file_checks(entry: ImageFiles, data: ImageDataset) -> list[dict]:
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
            share = len(split) // entry.class_count
            checks.append(
                _check(f"{name} images of a class", [int(present.min()), int(present.max())], [share, share])
            )
    if entry.pins:
        distance = farthest_mean(entry, splits)
        allowed = f"at most {MEAN_TOLERANCE:g} of 255"
        checks.append(
            _check(
                "distance of a class's mean color to the known one",
                f"{distance:.2f}",
                allowed,
                distance <= MEAN_TOLERANCE,
            )
        )
    return checks


def verify(name: str) -> dict:
    """Read everything of a data set and hold it against what is known of it.

    Returns:
        ``name``, ``folder`` (of the cached copy, else ``None``), ``ok`` and ``checks``: a list of dicts with
        ``check``, ``found``, ``expected``, ``ok``. A class subset is checked through its parent.

    Raises:
        MlplibError: no such data set; it is not in the cache; a file of the cached copy is damaged (the line
            names it).
    """
    if name == real.NAME:
        return _verify_real()
    entry = find(name)
    kept = _stored(entry)
    if kept is None:
        while isinstance(entry, ClassSubset):
            entry = find(entry.parent)
        data = load(entry.name)
        checks = [_check("content hash", ordered_hash(data.train, data.test), entry.content_hash)]
        return {"name": name, "folder": None, "ok": all(c["ok"] for c in checks), "checks": checks}
    at = cache.folder(kept.name)
    if not at.exists():
        raise _not_there(kept.name)
    if wrong := cache.damage(kept.name, "all"):
        raise MlplibError(
            f"damaged: {wrong}; delete the folder {at}, and the next use gets {kept.name} again"
        )
    if kept.cached is None:
        raise MlplibError(f"{kept.name} was prepared in another way: run `mlplib data prepare {kept.name}`")
    check = _pixel_checks if isinstance(kept, PinnedPixels) else _file_checks
    checks = check(kept, cache.read(kept.name))
    return {"name": name, "folder": str(at), "ok": all(c["ok"] for c in checks), "checks": checks}


def _not_there(name: str) -> MlplibError:
    return MlplibError(f"{name} is not in the cache {cache.root()}: run `mlplib data prepare {name}` first")


def _verify_real() -> dict:
    at = real.cached()
    if not at.is_file():
        raise _not_there(real.NAME)
    lists = real.read(at)  # refuses anything but the published labels
    checks = [_check("images", len(lists), real.IMAGES), _check("the published labels", True, True)]
    return {"name": real.NAME, "folder": str(at.parent), "ok": True, "checks": checks}
