"""From a copy of any kind to the arrays of the cache: decoded once, in parallel, never all in memory.

The arrays grow on the disk in a folder next to the final one (:mod:`mlplib.data.get.unfinished`), so that
killed work resumes where it was. In the end the same folder moves to its place.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path

import numpy as np

from ...progress import Progress
from ..catalog import Edition, OwnFolder, PinnedPixels, Stored
from ..dataset import ordered_hash, unordered_hash
from . import cache
from .acceptance import check_balance, check_pinned_pixels, check_pins, class_sums, edition_of
from .cache import Found
from .copies import Copy, Example, Part, Unusable
from .decode import fit, reason
from .unfinished import Done, Work

_log = logging.getLogger("mlplib")

NAMED = 3
"""How many unreadable images a message names."""

MOST_SKIPPED = 0.01
"""Largest share of the images that may be left out."""

MANY = 1000
"""This many unreadable images end the work at once, unless they are to be skipped: a disk may be lost."""


def cores() -> int:
    """How many cores this process may use: its affinity, limited by the quota of its control group."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        count = os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        count = min(count, math.ceil(int(quota) / int(period)))  # "max" is no number: no limit
    return max(1, count)


def _decode(part: Part, entry: Stored, classes: int) -> Done:
    size = entry.image_size
    done = Done(
        np.zeros((part.count, size, size, 3), np.uint8),
        np.zeros(part.count, np.int64),
        np.zeros(part.count, np.uint64),
        np.full(part.count, -1, np.int64),
        [],
    )
    row = -1
    for row, example in enumerate(part.read()):
        if not (isinstance(example.label, int) and 0 <= example.label < classes):
            raise Unusable(
                f"{example.name} has the label {example.label!r}, which none of {classes} classes has"
            )
        if entry.names_file:
            _check_synset(example, entry.known_names[0])
        done.labels[row] = example.label
        found = re.search(entry.test_number, example.name) if entry.test_number else None
        if found:
            done.numbers[row] = int(found[1]) - 1
        try:
            data = example.load()
            done.images[row] = fit(data, size, resized=entry.resized, upright=entry.upright)
            digest = hashlib.sha256(data if isinstance(data, bytes) else data.tobytes()).digest()
            done.digests[row] = int.from_bytes(digest[:8], "little")
        except Exception as error:  # whatever a library makes of a damaged file
            done.bad.append([part.start + row, example.name, reason(error)])
    if row + 1 != part.count:
        raise Unusable(f"{row + 1} images where {part.count} were listed")
    return done


def _check_synset(example: Example, synsets: tuple[str, ...]) -> None:
    """Compare a label with the class in the file's name, as ImageNet's have it: ReaL needs its order."""
    stated = re.findall(r"(?<![0-9a-z])n\d{8}(?!\d)", example.name)
    if stated and synsets[example.label] != stated[-1]:
        raise Unusable(
            f"{example.name} has the label {example.label}, which means {synsets[example.label]}: the "
            "classes are in another order"
        )


def prepare(entry: Stored, copy: Copy, skip_unreadable: bool, progress: Progress) -> Found:
    """Decode a copy into arrays in the cache, resuming unfinished work on the same copy.

    Args:
        skip_unreadable: leave out images that cannot be read. The last ones of the split take their rows.

    Raises:
        Unusable: it is not this data set, or has unreadable images and they are not to be skipped.
        MlplibError: the cache cannot be written.
    """
    edition = edition_of(entry, copy)
    key = hashlib.sha256(json.dumps([*copy.about, *copy.sizes.values(), entry.recipe]).encode()).hexdigest()[
        :12
    ]
    folder = cache.unfinished(entry.name, key)
    classes = len(copy.classes) or edition.classes
    work = Work(entry, copy, folder)
    try:
        work.open()
        if work.kept is not None and not skip_unreadable:  # another call asked for the skipping
            work.close()
            shutil.rmtree(folder)
            work = Work(entry, copy, folder)
            work.open()
        if work.kept is None:
            _decode_all(entry, copy, work, classes, skip_unreadable, progress)
        bad = _bad_images(copy, work, skip_unreadable, entry)
        work.fill_holes({s: [row for row, _, _ in some] for s, some in bad.items()})
        return _found(entry, copy, edition, folder, bad, progress)
    finally:
        work.close()


def _decode_all(
    entry: Stored, copy: Copy, work: Work, classes: int, skip_unreadable: bool, progress: Progress
) -> None:
    # Parts with unreadable images are tried again: the files may have been mended.
    missing = [number for number in range(len(copy.parts)) if work.bad.get(number) != []]
    total = sum(copy.sizes.values())
    with progress(total, f"preparing {entry.name}") as bar:
        bar.advance(total - sum(copy.parts[number].count for number in missing))
        try:
            for number, done in _in_parallel(entry, copy, missing, classes):
                work.put(number, copy.parts[number], done)
                bar.advance(copy.parts[number].count)
                if not skip_unreadable and sum(map(len, work.bad.values())) > MANY:
                    break
        finally:
            work.note()


def _in_parallel(entry: Stored, copy: Copy, numbers: list[int], classes: int) -> Iterator[tuple[int, Done]]:
    """Decode parts, several at a time and few in memory. Threads do: Pillow releases Python's lock."""
    waiting: dict[Future, int] = {}
    rest = iter(numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata of single photographs
        with ThreadPoolExecutor(cores()) as pool:
            try:
                while True:
                    for number in rest:
                        waiting[pool.submit(_decode, copy.parts[number], entry, classes)] = number
                        if len(waiting) >= 2 * cores():
                            break
                    if not waiting:
                        return
                    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                        yield waiting.pop(future), future.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def _bad_images(copy: Copy, work: Work, skip_unreadable: bool, entry: Stored) -> dict[str, list[list]]:
    """The unreadable images by split, in order; raises unless they are to be skipped."""
    bad: dict[str, list[list]] = {"train": [], "test": []}
    for number in sorted(work.bad):
        bad[copy.parts[number].split] += work.bad[number]
    count = sum(map(len, bad.values()))
    too_many = count > MOST_SKIPPED * sum(copy.sizes.values())
    if not count or (skip_unreadable and not too_many):
        return bad
    first = ", ".join(f"{name} ({reason})" for _, name, reason in (bad["train"] + bad["test"])[:NAMED])
    named = first if count <= NAMED else f"{first} and others"
    found = "1 unreadable image" if count == 1 else f"{count} unreadable images"
    way_out = ""
    if too_many and entry.skippable:
        way_out = f" (they are more than {MOST_SKIPPED:.0%} of all, too many to leave out)"
    elif entry.skippable:
        way_out = f", or leave them out with {entry.prepared_by} --skip-unreadable"
    found = f"at least {found}" if count > MANY else found
    raise Unusable(f"{found}: {named}: put good copies in their place{way_out}")


def _found(
    entry: Stored,
    copy: Copy,
    edition: Edition,
    folder: Path,
    bad: dict[str, list[list]],
    progress: Progress,
) -> Found:
    """Check the finished arrays in ``folder`` and describe them."""
    with progress(None, f"checking {entry.name}"):
        splits = dict(zip(("train", "test"), cache.open_splits(folder), strict=True))
        classes = copy.classes or tuple(str(i) for i in range(edition.classes))
        sums = {}
        try:
            for name, split in splits.items():
                if not bad[name]:
                    check_balance(entry, name, split.labels, len(classes))
                digests = np.load(folder / f"{name}_digests.npy", mmap_mode="r")
                sums[name] = class_sums(split.labels, digests, len(classes))
            ordered, unordered = ordered_hash(*splits.values()), unordered_hash(*splits.values())
            content = edition.title
            if isinstance(entry, PinnedPixels):
                check_pinned_pixels(entry, ordered, unordered)
            elif entry.pins:
                content = check_pins(entry, splits, sums, unordered)
        except Unusable:
            shutil.rmtree(folder, ignore_errors=True)  # there is no use in resuming it
            raise
    if isinstance(entry, PinnedPixels) and ordered != entry.content_hash:
        _log.warning("%s: the images of %s in another order; runs get other ids", copy.label, entry.title)
    preparation = {
        "recipe": entry.recipe,
        "signature": copy.signature,
        "content": content,
        "test_from": copy.test_from,
        "files_hash": hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest(),
        "skipped": sum(map(len, bad.values())),
        "skipped_first": [name for _, name, _ in (bad["train"] + bad["test"])[:100]],
    }
    if isinstance(entry, OwnFolder):
        preparation |= {"title": entry.title, "side": entry.image_size, "command": entry.command}
    return Found(*splits.values(), ordered, unordered, copy.label, classes, folder, preparation)
