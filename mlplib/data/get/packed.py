"""Prepared data sets that travel: plain arrays with their hashes, whole or cut into parts of any size.

``<out>/<name>/`` holds ``pack.json`` and the parts. Whole, these are the ``.npy`` files of the cache, as they
are. Cut, they are ``part-0001.bin`` and so on: the same files one after the other, in pieces. Reading needs
NumPy and filelock only, because it is meant for machines on which nothing can be installed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import MlplibError
from ...files import locked, replacing
from ...progress import Progress, quiet
from .. import load
from ..catalog import MEAN_TOLERANCE, ClassSubset, ImageFiles, Kept, find
from ..dataset import Split, ordered_hash, unordered_hash
from . import cache, real
from .acceptance import farthest_mean
from .cache import ARRAYS, TEST_INDEX, Found
from .readers import Unusable

FORMAT = 1
"""Raise this when the layout changes: other formats are refused, by name."""

ABOUT = "pack.json"
MOST_PARTS = 10_000
"""More files than this are a mistake in the size of the parts."""

_BLOCK = 2**20
_PART = r"part-\d{4,}\.bin|(?:" + "|".join((*ARRAYS, TEST_INDEX)) + r")\.npy"
_UNFINISHED = rf"\.(?:{_PART}|pack\.json)\.\d+\.\d+"  # as mlplib.files.replacing names it
_AS_PACKED = ", as packed in "


# --------------------------------------------------------------------------- sizes, pieces


_UNITS = {"": 1} | {
    unit + suffix: base**power
    for power, unit in enumerate("KMGT", start=1)
    for suffix, base in (("", 1024), ("IB", 1024), ("B", 1000))
}


def parse_size(text: str) -> int:
    """A number of bytes from a text such as ``500K``, ``16M``, ``64MiB``, ``1G`` or ``1000000``.

    As for ``split``: K is 1024 bytes, as KiB is, and KB is 1000.

    Raises:
        MlplibError: it is none, or zero.
    """
    found = re.fullmatch(r"(\d+) ?(\w*)", text.strip(), flags=re.ASCII)
    size = int(found[1]) * _UNITS.get(found[2].upper(), 0) if found else 0
    if not size:
        raise MlplibError(f"a size is a number of bytes such as 500K, 16M, 64MiB or 1G, not {text!r}")
    return size


def _spans(files: dict[str, int], start: int, count: int) -> Iterator[tuple[str, int, int]]:
    """Where ``count`` bytes from ``start`` lie in files one after the other: (name, offset, bytes)."""
    for name, size in files.items():
        if start < size and count:
            here = min(count, size - start)
            yield name, start, here
            start, count = start + here, count - here
        start = max(0, start - size)


def _blocks(file, count: int) -> Iterator[bytes]:
    """The next ``count`` bytes of a file, or fewer where it ends."""
    while count and (block := file.read(min(count, _BLOCK))):
        yield block
        count -= len(block)


def _sizes(manifest: dict) -> dict[str, int]:
    return {name: file["bytes"] for name, file in manifest["files"].items()}


def _part_sizes(said: dict) -> dict[str, int]:
    return {part["name"]: part["bytes"] for part in said["parts"]}


def _seal(said: dict) -> str:
    """The sha-256 of all that ``pack.json`` says besides it."""
    rest = {key: value for key, value in said.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


# --------------------------------------------------------------------------- writing


@dataclass(frozen=True)
class Packed:
    """What :func:`pack` left in ``folder``: ``parts`` files of ``bytes`` in all, ``kept`` from before."""

    name: str
    folder: Path
    parts: int
    bytes: int
    kept: int


def travels(name: str) -> str | None:
    """Which data set must be packed to have ``name`` elsewhere: itself, or the parent of some classes.

    ``None`` for shapes, which are drawn wherever they are needed.

    Raises:
        MlplibError: no such data set.
    """
    if name == real.NAME:
        raise MlplibError(f"{name} is one file, {real.FILE}: copy it; there, {real.by_hand()}")
    entry = find(name)
    while isinstance(entry, ClassSubset):
        entry = find(entry.parent)
    return entry.name if isinstance(entry, Kept) else None


def pack(name: str, out: Path, part_bytes: int | None = None, progress: Progress | None = None) -> Packed:
    """Write a data set of the cache, prepared and checked first, into ``out/<name>``.

    Stopped or killed, it goes on with the same call: parts that are there and right stay as they are. What
    another packing left there, with other parts, is removed. ``pack.json`` is written last.

    Args:
        name: a data set that can travel (:func:`travels`).
        part_bytes: the most that a part may have; ``None`` leaves the arrays whole.

    Raises:
        MlplibError: as :func:`mlplib.data.load`; too many parts; ``out`` cannot be written or has no room.
    """
    progress, folder = progress or quiet, out.absolute() / name
    with progress(None, f"checking {name}"):
        load(name, progress, verify=True)
    manifest = cache.manifest(name)
    parts = _parts(_sizes(manifest), part_bytes)
    lock = folder.with_name(f".{name}.lock")
    with _writing(folder), locked(lock, progress, f"packs {name}"):
        return _pack(manifest, folder, parts, progress)


def _parts(files: dict[str, int], part_bytes: int | None) -> dict[str, int]:
    """The parts' names and sizes, in order."""
    total = sum(files.values())
    if part_bytes is None:
        return files
    count = -(-total // part_bytes)
    if count > MOST_PARTS:
        least = -(-total // MOST_PARTS)
        raise MlplibError(f"{count} parts are too many: make them larger, of at least {least} bytes")
    return {f"part-{i + 1:04d}.bin": min(part_bytes, total - i * part_bytes) for i in range(count)}


def _pack(manifest: dict, folder: Path, parts: dict[str, int], progress: Progress) -> Packed:
    folder.mkdir(exist_ok=True)
    before = _read(folder)
    if before is None or before["manifest"] != manifest or _part_sizes(before) != parts:
        (folder / ABOUT).unlink(missing_ok=True)  # it would name parts that are about to go
    _remove(folder, parts)
    _check_room(folder, parts)
    listed, kept, start = [], 0, 0
    with progress(sum(parts.values()), f"packing {manifest['name']}") as bar:
        for part, size in parts.items():
            digest = _sha256_if_same(folder / part, size, _source(manifest, start, size))
            kept += digest is not None
            digest = digest or _write(folder / part, _source(manifest, start, size))
            listed.append({"name": part, "bytes": size, "sha256": digest})
            bar.advance(size)
            start += size
    said = {"format": FORMAT, "manifest": manifest, "parts": listed}
    said["sha256"] = _seal(said)
    if said != _read(folder):
        with replacing(folder / ABOUT) as temporary:
            temporary.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    return Packed(manifest["name"], folder, len(parts), sum(parts.values()), kept)


def _source(manifest: dict, start: int, count: int) -> Iterator[bytes]:
    """``count`` bytes from ``start`` of the arrays in the cache."""
    for name, offset, here in _spans(_sizes(manifest), start, count):
        with open(cache.folder(manifest["name"]) / name, "rb") as file:
            file.seek(offset)
            yield from _blocks(file, here)


def _sha256_if_same(path: Path, size: int, blocks: Iterable[bytes]) -> str | None:
    """The sha-256 of a file that has just this content, else ``None``."""
    if not path.is_file() or path.stat().st_size != size:
        return None
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in blocks:
            if file.read(len(block)) != block:
                return None
            digest.update(block)
    return digest.hexdigest()


def _write(path: Path, blocks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    with replacing(path) as temporary, open(temporary, "wb") as file:
        for block in blocks:
            file.write(block)
            digest.update(block)
    return digest.hexdigest()


def _remove(folder: Path, parts: dict[str, int]) -> None:
    """Remove parts of another packing, and what a killed one left. Needs the lock."""
    for path in folder.iterdir():
        stray = re.fullmatch(_PART, path.name) and path.name not in parts
        if stray or re.fullmatch(_UNFINISHED, path.name):
            path.unlink()


def _check_room(folder: Path, parts: dict[str, int]) -> None:
    there = sum(path.stat().st_size for path in folder.iterdir() if path.name in parts)
    needed, free = sum(parts.values()) - there, shutil.disk_usage(folder).free
    if needed > free:
        raise MlplibError(
            f"{folder} needs room for {needed / 1e6:.0f} MB, where {free / 1e6:.0f} MB are free: free some "
            "space there or choose another folder"
        )


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MlplibError(
            f"cannot write {folder}: {error.strerror or error}; check that the folder is writable and the "
            "disk not full"
        ) from error


# --------------------------------------------------------------------------- reading


def _read(at: Path) -> dict | None:
    """What ``pack.json`` says, or ``None`` if it is not there or damaged."""
    try:
        said = json.loads((at / ABOUT).read_text(encoding="utf-8"))
        return said if said["sha256"] == _seal(said) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def lies_in(at: Path) -> bool:
    """Whether a packed copy, or a piece of one, lies in the folder ``at``."""
    return (at / ABOUT).is_file() or (at / "train_images.npy").is_file() or any(at.glob("part-????*.bin"))


def about(at: Path, name: str) -> dict:
    """What the copy in ``at`` says of itself: ``manifest``, of the cache it was made from, and ``parts``.

    Raises:
        Unusable: ``pack.json`` is missing, damaged, of another format or of another data set, or lists other
            files than a packed copy has.
    """
    if not (at / ABOUT).is_file():
        raise Unusable(f"{ABOUT} is missing: copy it, too")
    found = _read(at)
    if found is None:
        raise Unusable(f"{ABOUT} is damaged: copy it again")
    if found["format"] != FORMAT or found["manifest"]["format"] != cache.FORMAT:
        raise Unusable("it was packed by another version of this program: pack it again with this one")
    files, sizes = _sizes(found["manifest"]), _part_sizes(found)
    known = {f"{array}.npy" for array in ARRAYS}
    if not known <= set(files) <= known | {f"{TEST_INDEX}.npy"} or sum(files.values()) != sum(sizes.values()):
        raise Unusable(f"{ABOUT} does not list the arrays of a data set: pack it again")
    if not all(re.fullmatch(_PART, part) for part in sizes):
        raise Unusable(f"{ABOUT} names other files than parts: pack it again")
    if found["manifest"]["name"] != name:
        raise Unusable(f"it is {found['manifest']['name']}: put it into a folder of that name")
    return found


def unpack(entry: Kept, at: Path, folder: Path, progress: Progress) -> Found:
    """Copy the arrays from ``at`` into ``folder``, which is made, comparing every part with its sha-256.

    Returns:
        What the copy says that it is. Whether it is ``entry`` has still to be checked.

    Raises:
        Unusable: parts are missing or damaged (the line names the first); there is no room in the cache.
        MlplibError: the cache cannot be written.
    """
    said = about(at, entry.name)
    manifest, parts = said["manifest"], said["parts"]
    _check_parts(at, parts)
    needed = sum(part["bytes"] for part in parts)
    if needed > (free := shutil.disk_usage(folder.parent).free):
        raise Unusable(
            f"needs {needed / 1e6:.0f} MB in the cache, where {free / 1e6:.0f} MB are free "
            "(MLPLIB_CACHE can name another folder)"
        )
    with progress(needed, f"copying {entry.name}") as bar:
        for block in _joined(at, parts, _Arrays(folder, _sizes(manifest))):
            bar.advance(block)
    opened = {array: np.load(folder / f"{array}.npy", mmap_mode="r") for array in ARRAYS}
    train, test = (Split(opened[f"{s}_images"], np.array(opened[f"{s}_labels"])) for s in ("train", "test"))
    return Found(
        train,
        test,
        manifest["content_hash"],
        manifest["unordered_hash"],
        manifest["source"].partition(_AS_PACKED)[0] + f"{_AS_PACKED}{at}",
        tuple(manifest["classes"]),
        folder,
        manifest["preparation"],
    )


def _check_parts(at: Path, parts: list[dict]) -> None:
    """Refuse a copy that cannot be whole, before anything is copied."""
    missing = [part["name"] for part in parts if not (at / part["name"]).is_file()]
    if missing:
        raise Unusable(
            f"{len(missing)} of {len(parts)} parts missing, first {missing[0]}: copy the rest, too"
        )
    for part in parts:
        size = (at / part["name"]).stat().st_size
        if size != part["bytes"]:
            raise _damaged(part["name"], f"{size} bytes instead of {part['bytes']}")


def _damaged(part: str, why: str) -> Unusable:
    return Unusable(f"{part} is damaged ({why}): copy it again")


class _Arrays:
    """The arrays' files, written one after the other as one stream."""

    def __init__(self, folder: Path, sizes: dict[str, int]):
        self.folder, self.sizes, self.done = folder, sizes, 0

    def write(self, block: bytes) -> None:
        try:
            self.folder.mkdir(exist_ok=True)
            for name, _, count in _spans(self.sizes, self.done, len(block)):
                with open(self.folder / name, "ab") as file:
                    file.write(block[:count])
                    file.flush()
                    if file.tell() == self.sizes[name]:
                        os.fsync(file.fileno())
                block, self.done = block[count:], self.done + count
        except OSError as error:
            raise cache.cannot_write(error, cache.root()) from error


def _joined(at: Path, parts: list[dict], arrays: _Arrays) -> Iterator[int]:
    """Append all parts to the arrays; gives the bytes of each step."""
    for part in parts:
        digest = hashlib.sha256()
        try:
            with open(at / part["name"], "rb") as file:
                for block in _blocks(file, part["bytes"]):
                    digest.update(block)
                    arrays.write(block)
                    yield len(block)
        except OSError as error:
            raise _damaged(part["name"], error.strerror or "it cannot be read") from error
        if digest.hexdigest() != part["sha256"]:
            raise _damaged(part["name"], "its sha-256 differs")


# --------------------------------------------------------------------------- is it the data set?


def check(entry: ImageFiles, found: Found, manifest: dict) -> None:
    """Refuse arrays that are not what ``manifest`` says, or not this data set as it is prepared here.

    Raises:
        Unusable: the line says why.
    """
    if not entry.accepts(manifest):
        raise Unusable("it was prepared in another way: prepare and pack it again with this version")
    if entry.classes and found.classes != entry.classes:
        raise Unusable(f"its {len(found.classes)} classes are not those of {entry.title}")
    for name, split in (("train", found.train), ("test", found.test)):
        wanted = (manifest[name], entry.image_size, entry.image_size, 3)
        if split.images.shape != wanted or split.labels.shape != wanted[:1]:
            raise Unusable(f"{name} images of shape {split.images.shape} instead of {wanted}")
    if ordered_hash(found.train, found.test) != found.content_hash:
        raise Unusable("its images and labels are not those that were packed (the content hash differs)")
    unordered = unordered_hash(found.train, found.test)
    if unordered != found.unordered_hash:
        raise Unusable("its images and labels are not those that were packed (the unordered hash differs)")
    # The files' own hashes were compared where it was prepared; arrays do not tell them any more.
    if entry.pins and unordered != entry.pins.unordered_hash:
        distance = farthest_mean(entry, {"train": found.train, "test": found.test})
        if distance > MEAN_TOLERANCE:
            raise Unusable(
                f"not the images and labels of {entry.title}: the mean color of a class is off by "
                f"{distance:.1f} of 255, more than {MEAN_TOLERANCE:g}"
            )
