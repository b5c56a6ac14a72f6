"""What the command line does with data sets: prepare, describe, verify. All return plain JSON values."""

from __future__ import annotations

from ..errors import MlplibError
from ..progress import Progress
from . import cache, load
from .catalog import ClassSubset, Entry, Published, content_hash, find
from .dataset import ImageDataset, binary_batch_md5, ordered_hash, statistics, unordered_hash


def _kept(entry: Entry) -> Published | None:
    """The published data set that ``entry`` is or derives from; ``None`` for drawn shapes."""
    while isinstance(entry, ClassSubset):
        entry = find(entry.parent)
    return entry if isinstance(entry, Published) else None


def describe(name: str) -> dict:
    """What a data set is and whether it is ready, without getting or reading images.

    Keys: ``name``, ``title``, ``classes``, ``image_size`` (pixels), ``train`` and ``test`` (images),
    ``parent`` (of a class subset), ``content_hash``, ``ready`` (no download needed), ``by_hand`` (how to
    supply it), and of the cached copy ``folder``, ``source``, ``bytes`` and ``pinned_order`` (whether it has
    the catalog's order). Values that do not apply are ``None``.

    Raises:
        MlplibError: no such data set.
    """
    from .sources import by_hand

    entry = find(name)
    kept = _kept(entry)
    manifest = cache.manifest(kept.name) if kept else None
    return {
        "name": name,
        "title": entry.title,
        "classes": list(entry.classes),
        "image_size": entry.image_size,
        "train": entry.train,
        "test": entry.test,
        "parent": entry.parent if isinstance(entry, ClassSubset) else None,
        "content_hash": content_hash(name),
        "ready": kept is None or manifest is not None,
        "folder": str(cache.folder(kept.name)) if kept else None,
        "source": manifest["source"] if manifest else None,
        "bytes": sum(file["bytes"] for file in manifest["files"].values()) if manifest else None,
        "pinned_order": manifest["content_hash"] == kept.content_hash if manifest else None,
        "by_hand": by_hand(kept) if kept else None,
    }


def prepare(name: str, progress: Progress | None = None) -> dict:
    """Get a data set into the cache unless it is there, and :func:`describe` it.

    Raises:
        MlplibError: as :func:`mlplib.data.load`.
    """
    load(name, progress)
    return describe(name)


def _check(what: str, found, expected) -> dict:
    return {"check": what, "found": found, "expected": expected, "ok": found == expected}


def _published_checks(entry: Published, data: ImageDataset) -> list[dict]:
    ordered, unordered = ordered_hash(data.train, data.test), unordered_hash(data.train, data.test)
    mean = [round(value, 4) for value in statistics(data.train.images)[0]]
    checks = [
        _check("content hash", ordered, data.content_hash),
        _check("the published images, in any order", unordered, entry.unordered_hash),
        _check("training mean", mean, [round(value, 4) for value in entry.mean]),
    ]
    if entry.batch_md5 and ordered == entry.content_hash:
        found = binary_batch_md5(data.train)
        checks.append(_check("md5 of the first 10,000 as a binary batch", found, entry.batch_md5))
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
    entry = find(name)
    kept = _kept(entry)
    if kept is None:
        while isinstance(entry, ClassSubset):
            entry = find(entry.parent)
        data = load(entry.name)
        checks = [_check("content hash", ordered_hash(data.train, data.test), entry.content_hash)]
        return {"name": name, "folder": None, "ok": all(c["ok"] for c in checks), "checks": checks}
    at = cache.folder(kept.name)
    if not at.exists():
        raise MlplibError(
            f"{kept.name} is not in the cache {cache.root()}: run `mlplib data prepare {kept.name}` first"
        )
    if wrong := cache.damage(kept.name, full=True):
        raise MlplibError(f"damaged: {wrong}; delete the folder {at}, and the next use gets {kept.name} anew")
    checks = _published_checks(kept, cache.read(kept.name))
    return {"name": name, "folder": str(at), "ok": all(c["ok"] for c in checks), "checks": checks}
