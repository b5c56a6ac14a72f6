"""How data sets of image files lie on a disk: class folders, official folder, zip or archive, parquet.

Each layout gives a :class:`Copy`: what it says of its classes, and parts that can be read one by one, in any
order and by several threads. Nothing is decoded here, and no image is held.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from ...progress import Progress
from ..catalog import ImageFiles
from . import readers
from .readers import Unusable

PART = 512
"""Most examples in a part."""

TEST_NAMES = ("val", "validation", "valid", "test")
"""Names of the folder or files of the test split, best first: ImageNet's own ``test`` has no labels."""


class Example(NamedTuple):
    """``name``: for messages. ``load`` gives the encoded image's bytes, or its pixels as uint8 (H, W, 3)."""

    name: str
    label: int
    load: Callable[[], bytes | np.ndarray]


class Part(NamedTuple):
    """Examples that are read together: the rows from ``start`` on, ``count`` of them, of ``split``."""

    split: str
    start: int
    count: int
    read: Callable[[], Iterable[Example]]


@dataclass(frozen=True)
class Copy:
    """A copy of a data set as it lies somewhere.

    ``classes``: the names, in the order of the labels; empty where the copy does not tell. ``sizes``: images
    of each split. ``signature``: differs if another copy, or other files, lie there. ``test_from``: how its
    test split arises, in words; ``held_out``: whether it was taken from the training images.
    """

    label: str
    classes: tuple[str, ...]
    parts: tuple[Part, ...]
    sizes: dict[str, int]
    signature: str
    test_from: str
    held_out: bool = False


class _Parts:
    """Collects parts one after the other, and their signature."""

    def __init__(self, *about: str):
        self.parts: list[Part] = []
        self.sizes = {"train": 0, "test": 0}
        self.digest = hashlib.sha256(json.dumps(about).encode())

    def add(self, split: str, count: int, key: str, read: Callable[[], Iterable[Example]]) -> None:
        self.parts.append(Part(split, self.sizes[split], count, read))
        self.sizes[split] += count
        self.digest.update(f"{split}\0{count}\0{key}\0".encode())

    def add_names(self, split: str, label: int, at: str, names: list[str], load: Callable) -> None:
        """Files of one class; ``load`` takes the whole name, ``at`` and a name joined by a slash."""
        for first in range(0, len(names), PART):
            some = names[first : first + PART]
            # One string takes a quarter of the memory of a list of them, and there may be 12 million names.
            joined = "\0".join(some)
            self.add(split, len(some), f"{label}\0{at}\0{joined}", partial(_named, at, joined, label, load))

    def copy(self, label: str, classes: tuple[str, ...], test_from: str, held_out: bool = False) -> Copy:
        signature = self.digest.hexdigest()
        return Copy(label, classes, tuple(self.parts), self.sizes, signature, test_from, held_out)


def _named(at: str, joined: str, label: int, load: Callable[[str], bytes]) -> Iterator[Example]:
    for name in joined.split("\0"):
        whole = f"{at}/{name}"
        yield Example(whole, label, partial(load, whole))


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in readers.IMAGE_SUFFIXES and not path.name.startswith(".")


# --------------------------------------------------------------------------- class folders


def _split_folders(entry: ImageFiles, at: Path) -> tuple[Path, Path | None] | None:
    """The folders of the training and the test split in ``at``; ``None`` if there is no training split."""
    for prefix in ("", f"{entry.name}_"):
        if (at / f"{prefix}train").is_dir():
            tests = (at / f"{prefix}{name}" for name in TEST_NAMES)
            return at / f"{prefix}train", next((path for path in tests if path.is_dir()), None)
    return None


def has_class_folders(entry: ImageFiles, at: Path) -> bool:
    """Whether ``at`` has a folder for the training split."""
    return _split_folders(entry, at) is not None


def _class_names(folder: Path) -> list[str]:
    with os.scandir(folder) as found:
        return sorted(item.name for item in found if item.is_dir() and not item.name.startswith("."))


def _image_names(folder: Path) -> list[str]:
    """Image files below ``folder``, as relative names, sorted."""
    names = []
    for at, _, files in os.walk(folder, followlinks=True):
        below = os.path.relpath(at, folder)
        names += [name if below == "." else f"{below}/{name}" for name in files if _is_image(name)]
    return sorted(names)


def _load_below(root: Path, name: str) -> bytes:
    return (root / name).read_bytes()


def class_folders(entry: ImageFiles, at: Path, progress: Progress) -> Copy:
    """``train/<class>/`` and ``val/<class>/`` (or ``test``) with image files at any depth.

    Classes are sorted, and the images of a class too, as in torchvision's ``ImageFolder``. Without a folder
    for the test split, the first ``entry.held_out`` images of each class become it.

    Raises:
        Unusable: no test split; no class folders; the splits have other classes.
    """
    train, test = _split_folders(entry, at)
    if test is None and not entry.held_out:
        raise Unusable(f"no folder {' or '.join(TEST_NAMES)} beside {train.name}")
    classes = _class_names(train)
    if not classes:
        raise Unusable(f"{train.name} has no class folders")
    collected = _Parts("class folders", str(at), *(["held out"] if test is None else []))
    load = partial(_load_below, at)
    with progress(len(classes) * (1 if test is None else 2), f"listing {entry.name}") as bar:
        for label, name in enumerate(classes):
            names = _image_names(train / name)
            held_out = entry.held_out if test is None else 0
            collected.add_names("test", label, f"{train.name}/{name}", names[:held_out], load)
            collected.add_names("train", label, f"{train.name}/{name}", names[held_out:], load)
            bar.advance(1)
        if test is not None:
            _add_test_classes(collected, test, classes, load, bar)
    where = f"the first {entry.held_out} images of each class" if test is None else f"the folder {test.name}"
    return collected.copy(f"class folders in {at}", tuple(classes), where, held_out=test is None)


def _add_test_classes(collected: _Parts, test: Path, classes: list[str], load: Callable, bar) -> None:
    found = _class_names(test)
    if not found:
        raise Unusable(f"{test.name} has no class folders: its images must be sorted into them first")
    if unknown := set(found) - set(classes):
        raise Unusable(f"{test.name}/{min(unknown)} is not a class of {len(classes)} in the training split")
    for label, name in enumerate(classes):
        collected.add_names("test", label, f"{test.name}/{name}", _image_names(test / name), load)
        bar.advance(1)


# --------------------------------------------------------------------------- the official Tiny ImageNet


def _annotated(entry: ImageFiles, collected: _Parts, names: list[str], load: Callable[[str], bytes]) -> None:
    """``train/<class>/images/*``, and ``val/images/*`` with the labels of ``val/val_annotations.txt``."""
    by_class: dict[tuple[str, str], list[str]] = {}
    for name in names:
        parts = name.split("/")
        if parts[0] == "train" and len(parts) == 4 and _is_image(name):
            by_class.setdefault(("train", parts[1]), []).append("/".join(parts[2:]))
    for line in load("val/val_annotations.txt").decode().splitlines():
        image, wnid = line.split("\t")[:2]
        by_class.setdefault(("test", wnid), []).append(image)
    if unknown := {wnid for _, wnid in by_class} - set(entry.classes):
        raise Unusable(f"{min(unknown)} is not a class of {entry.name}")
    for (split, wnid), images in sorted(by_class.items()):
        at = f"train/{wnid}" if split == "train" else "val/images"
        collected.add_names(split, entry.classes.index(wnid), at, sorted(images), load)


def annotated_folder(entry: ImageFiles, at: Path) -> Copy:
    """The official folder of Tiny ImageNet; images in the order of class folders."""
    names = [
        f"train/{wnid}/{n}" for wnid in _class_names(at / "train") for n in _image_names(at / "train" / wnid)
    ]
    collected = _Parts("annotated", str(at))
    _annotated(entry, collected, names, partial(_load_below, at))
    return collected.copy(f"{at}", entry.classes, "the official validation images")


class _Zip:
    """A zip file that threads may read from: zipfile's count of readers is not safe among them."""

    def __init__(self, path: Path):
        self.file, self.lock = zipfile.ZipFile(path), threading.Lock()

    def read(self, name: str) -> bytes:
        with self.lock:
            return self.file.read(name)


def annotated_zip(entry: ImageFiles, path: Path) -> Copy:
    """The official zip file of Tiny ImageNet, which is not unpacked."""
    opened = _Zip(path)
    top = f"{entry.folders[0]}/"
    names = [name.removeprefix(top) for name in opened.file.namelist() if name.startswith(top)]
    collected = _Parts("zip", path.name)
    _annotated(entry, collected, names, lambda name: opened.read(top + name))
    return collected.copy(f"{path}", entry.classes, "the official validation images")


# --------------------------------------------------------------------------- parquet


def test_shards(at: Path) -> list[Path]:
    """The parquet shards of the test split, under the best of its names."""
    return next((shards for name in TEST_NAMES if (shards := readers.parquet_shards(at, name))), [])


def _row_group(path: Path, number: int) -> Iterator[Example]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        columns = [
            readers.column(names, known, path) for known in (readers.IMAGE_COLUMNS, readers.LABEL_COLUMNS)
        ]
        row = 0
        for batch in file.iter_batches(batch_size=PART, row_groups=[number], columns=columns):
            images, labels = (batch.column(name).to_pylist() for name in columns)
            for image, label in zip(images, labels, strict=True):
                name = image.get("path") or f"{path.name}, group {number}, row {row}"
                yield Example(name, label, partial(image.get, "bytes"))
                row += 1


def _class_names_of(path: Path, labels: str) -> tuple[str, ...]:
    """The class names that Hugging Face's metadata of a shard tells; empty if it tells none."""
    import pyarrow.parquet as pq

    about = pq.read_schema(path).metadata or {}
    try:
        features = json.loads(about[b"huggingface"])["info"]["features"]
        return tuple(features[labels]["names"])
    except (KeyError, ValueError, TypeError):
        return ()


def parquet(entry: ImageFiles, at: Path) -> Copy:
    """Hugging Face style parquet, row group by row group, in stored order."""
    import pyarrow.parquet as pq

    shards = {"train": readers.parquet_shards(at, "train"), "test": test_shards(at)}
    if not shards["test"]:
        raise Unusable(f"no parquet files for {' or '.join(TEST_NAMES)}")
    collected = _Parts("parquet", str(at))
    for split, paths in shards.items():
        for path in paths:
            about = pq.read_metadata(path)
            for group in range(about.num_row_groups):
                key = f"{path.name}\0{path.stat().st_size}\0{group}"
                collected.add(split, about.row_group(group).num_rows, key, partial(_row_group, path, group))
    first = shards["train"][0]
    labels = readers.column(pq.read_schema(first).names, readers.LABEL_COLUMNS, first)
    classes = entry.classes or _class_names_of(first, labels)
    return collected.copy(f"parquet in {at}", classes, f"the files {shards['test'][0].name.split('-')[0]}-*")


# --------------------------------------------------------------------------- torchvision's official archive


def _pixels(images: np.ndarray, labels: np.ndarray, start: int, split: str) -> Iterator[Example]:
    for i in range(start, min(start + PART, len(labels))):
        image = np.ascontiguousarray(images[i].transpose(1, 2, 0))
        yield Example(f"{split} image {i}", int(labels[i]), lambda image=image: image)


def official(entry: ImageFiles, at: Path, label: str) -> Copy:
    """The extracted official archive that torchvision reads, after a check of its md5 sums (STL-10)."""
    collected = _Parts("official", entry.torchvision)
    for split in ("train", "test"):
        data = readers.dataset_class(entry)(str(at), split=split, download=False)
        for start in range(0, len(data.labels), PART):
            count = min(PART, len(data.labels) - start)
            collected.add(split, count, "", partial(_pixels, data.data, data.labels, start, split))
    return collected.copy(label, entry.classes, "the official test images")
