"""Decode a copy of any kind into the arrays of the cache, once, in parallel, never all in memory.

The arrays are written part by part to a folder next to the final one (:mod:`mlplib.data.get.unfinished`), so
that killed work can be resumed. At the end this folder is moved to its final place.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np

from ...files import json_sha256
from ...limits import cores
from ...progress import Progress
from ..catalog import Edition, OwnFolder, PinnedPixels, Stored
from ..dataset import Split, ordered_hash, statistics, unordered_hash
from . import cache
from .acceptance import check_balance, check_pins, class_sums, count_shared, edition_of
from .copies import Copy, Example, Part, Unusable
from .decode import fit, reason
from .unfinished import Decoded, Work

_log = logging.getLogger("mlplib")

NAMED = 3
"""Number of unreadable images that a message names."""

MOST_SKIPPED = 0.01
"""Largest share of the images that may be left out."""

MANY = 1000
"""More unreadable images than this stop the work at once, unless they are skipped: a disk may have failed."""


def _decode(part: Part, entry: Stored, classes: int) -> Decoded:
    size, count = entry.image_size, part.count
    arrays = {
        "images": np.zeros((count, size, size, 3), np.uint8),
        "labels": np.zeros(count, np.int64),
        "digests": np.zeros(count, np.uint64),  # only for pinned files, which are identified by them
        "index": np.full(count, -1, np.int64),
    }
    bad: list[list] = []
    row = -1
    for row, example in enumerate(part.read()):
        if not (isinstance(example.label, int) and 0 <= example.label < classes):
            raise Unusable(
                f"{example.name} has the label {example.label!r}, which none of {classes} classes has"
            )
        if entry.names_file:
            _check_synset(example, entry.known_names[0])
        arrays["labels"][row] = example.label
        found = re.search(entry.test_number, example.name) if entry.test_number else None
        if found:
            arrays["index"][row] = int(found[1]) - 1
        try:
            data = example.load()
            arrays["images"][row] = fit(data, size, resized=entry.resized, upright=entry.upright)
            if entry.pins:
                arrays["digests"][row] = int.from_bytes(hashlib.sha256(data).digest()[:8], "little")
        except Exception as error:  # libraries raise many types for damaged files
            bad.append([part.start + row, example.name, reason(error)])
    if row + 1 != count:
        raise Unusable(f"{row + 1} images where {count} were listed")
    return arrays, bad


def _check_synset(example: Example, synsets: tuple[str, ...]) -> None:
    """Compare a label with the class in ImageNet's file names: ReaL needs the official order of classes."""
    stated = re.findall(r"(?<![0-9a-z])n\d{8}(?!\d)", example.name)
    if stated and synsets[example.label] != stated[-1]:
        raise Unusable(
            f"{example.name} has the label {example.label}, which means {synsets[example.label]}: the "
            "classes are in another order"
        )


def prepare(entry: Stored, copy: Copy, skip_unreadable: bool, progress: Progress) -> cache.Prepared:
    """Decode a copy into arrays in the cache, resuming unfinished work on the same copy.

    Args:
        skip_unreadable: leave out images that cannot be read. The last images of the split fill their rows.

    Raises:
        Unusable: it is not this data set, or has unreadable images that are not skipped.
        MlplibError: the cache cannot be written.
    """
    edition = edition_of(entry, copy)
    about = [*copy.about, *copy.sizes.values(), entry.recipe]
    folder = cache.unfinished(entry.name, json_sha256(about)[:12])
    with closing(Work(entry, copy, folder)) as work:
        work.open()
        _decode_all(entry, copy, work, len(copy.classes) or edition.classes, skip_unreadable, progress)
        bad = _bad_images(copy, work, skip_unreadable, entry)
        work.fill_holes({s: [row for row, _, _ in some] for s, some in bad.items()})
        try:
            with progress(None, f"checking {entry.name}"):
                stated = _check(entry, copy, edition, folder, bad)
        except Unusable:
            shutil.rmtree(folder, ignore_errors=True)  # resuming it would be useless
            raise
        work.cut({split: stated[split] for split in copy.sizes})
        return folder, stated


def _decode_all(
    entry: Stored, copy: Copy, work: Work, classes: int, skip_unreadable: bool, progress: Progress
) -> None:
    """Decode the missing parts, several at a time, with few in memory."""
    # Parts with unreadable images are tried again: the files may have been repaired.
    missing = [number for number in range(len(copy.parts)) if work.bad.get(number) != []]
    total, together = sum(copy.sizes.values()), 4 * cores()
    with (
        progress(total, f"preparing {entry.name}") as bar,
        warnings.catch_warnings(action="ignore"),  # unusual metadata of single photographs
        ThreadPoolExecutor(cores()) as pool,  # threads suffice: Pillow releases the GIL
    ):
        bar.advance(total - sum(copy.parts[number].count for number in missing))
        try:
            for first in range(0, len(missing), together):
                numbers = missing[first : first + together]
                parts = [copy.parts[number] for number in numbers]
                decoded = pool.map(lambda part: _decode(part, entry, classes), parts)
                for number, part, done in zip(numbers, parts, decoded, strict=True):
                    work.put(number, part, *done)
                    bar.advance(part.count)
                if not skip_unreadable and sum(map(len, work.bad.values())) > MANY:
                    break
        finally:
            work.note()


def _bad_images(copy: Copy, work: Work, skip_unreadable: bool, entry: Stored) -> dict[str, list[list]]:
    """The unreadable images by split, in order; raises Unusable unless they are skipped."""
    bad: dict[str, list[list]] = {"train": [], "test": []}
    for number in sorted(work.bad):
        bad[copy.parts[number].split] += work.bad[number]
    count = sum(map(len, bad.values()))
    too_many = count > MOST_SKIPPED * sum(copy.sizes.values())
    if not count or (skip_unreadable and not too_many):
        return bad
    named = ", ".join(f"{name} ({reason})" for _, name, reason in (bad["train"] + bad["test"])[:NAMED])
    named += " and others" if count > NAMED else ""
    way_out = ""
    if too_many and entry.skippable:
        way_out = f" (they are more than {MOST_SKIPPED:.0%} of all, too many to leave out)"
    elif entry.skippable:
        way_out = f", or leave them out with {entry.prepared_by} --skip-unreadable"
    found = f"{count} unreadable image{'s' if count > 1 else ''}"
    found = f"at least {found}" if count > MANY else found
    raise Unusable(f"{found}: {named}: put good copies in their place{way_out}")


def _require_images(splits: dict[str, Split], classes: tuple[str, ...]) -> None:
    """Refuse a split without images, and a class without training images."""
    for name, split in splits.items():
        if not len(split):
            raise Unusable(f"it has no {'training' if name == 'train' else 'test'} image that can be read")
    counts = np.bincount(splits["train"].labels, minlength=len(classes))
    if not counts.all():
        raise Unusable(f"class {classes[int(counts.argmin())]} has no training image that can be read")


def _check(entry: Stored, copy: Copy, edition: Edition, folder: Path, bad: dict[str, list[list]]) -> dict:
    """Check the finished arrays in ``folder``; returns the fields of their manifest."""
    kept = {split: count - len(bad[split]) for split, count in copy.sizes.items()}
    whole = dict(zip(("train", "test"), cache.open_splits(folder), strict=True))
    splits = {name: Split(s.images[: kept[name]], s.labels[: kept[name]]) for name, s in whole.items()}
    classes = copy.classes or tuple(str(i) for i in range(edition.classes))
    _require_images(splits, classes)
    for name, split in splits.items():
        if not bad[name]:
            check_balance(entry, name, split.labels, len(classes))
    ordered, unordered = ordered_hash(*splits.values()), unordered_hash(*splits.values())
    content = edition.title
    if isinstance(entry, PinnedPixels):
        if unordered != entry.unordered_hash:
            raise Unusable(f"not the images and labels of {entry.title} (content hash {ordered[:12]})")
        if ordered != entry.content_hash:
            _log.warning("%s: the images of %s in another order; runs get other ids", copy.label, entry.title)
    elif entry.pins:
        digests = {name: np.load(folder / f"{name}_digests.npy")[: kept[name]] for name in splits}
        sums = {n: class_sums(s.labels, digests[n], len(classes)) for n, s in splits.items()}
        content = check_pins(entry, splits, sums, unordered)
    elif copy.exported and copy.exported != ordered:
        _log.warning(
            "%s: not the pixels and labels that were exported (content hash %s, now %s): another version of "
            "Pillow decodes them, or files are damaged; runs get other ids",
            copy.label,
            copy.exported[:12],
            ordered[:12],
        )
    mean, std = statistics(splits["train"].images)
    preparation = {
        "recipe": entry.recipe,
        "signature": copy.signature,
        "content": content,
        "test_from": copy.test_from,
        "skipped": sum(map(len, bad.values())),
        "skipped_first": [name for _, name, _ in (bad["train"] + bad["test"])[:100]],
    }
    if isinstance(entry, OwnFolder):
        count_shared(copy.label, *splits.values())
        preparation |= {"title": entry.title, "side": entry.image_size, "folder": entry.folder}
    return {
        "source": copy.label,
        "content_hash": ordered,
        "unordered_hash": unordered,
        "classes": list(classes),
        **kept,
        "mean": mean,
        "std": std,
        "preparation": preparation,
    }
