"""Data sets as FFCV files ("betons"): written once, by FFCV; :mod:`mlplib.data.streaming` reads them."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from ..errors import MlplibError
from ..files import cache_root, clear_leftovers, locked, replacing, require_room, storage_errors
from ..progress import Bar, Progress, quiet
from .dataset import ImageDataset, Split

PAGE_BYTES = 8 * 2**20
"""Size of a page, FFCV's default; no image crosses a page boundary."""

BLOCK = 1024
"""Images read at a time."""

HOW = (
    "install the headers of OpenCV and turbojpeg (on Debian: apt-get install pkg-config libopencv-dev "
    'libturbojpeg0-dev), then pip install --no-build-isolation -e ".[ffcv]"'
)


# --------------------------------------------------------------------------- the library


def installed() -> bool:
    """Whether FFCV is installed, without importing it."""
    return importlib.util.find_spec("ffcv") is not None


def require() -> None:
    """Import FFCV, and prevent it from changing torch's threads and using the GPU during a training.

    Raises:
        MlplibError: it is missing or cannot be imported; the message says how to install it.
    """
    import torch

    threads = torch.get_num_threads()
    try:
        import ffcv  # noqa: F401
    except ImportError as error:
        if not installed():
            raise MlplibError(f"FFCV is not installed: {HOW}") from None
        raise MlplibError(f"FFCV cannot be imported ({error}): {HOW}") from None
    finally:
        torch.set_num_threads(threads)  # the import sets it to 1
    from ffcv.loader import epoch_iterator
    from ffcv.pipeline.compiler import Compiler

    Compiler.set_num_threads = classmethod(_set_num_threads)
    # Otherwise its thread would synchronize with the first GPU, even while a CUDA graph is recorded.
    epoch_iterator.IS_CUDA = False


def _set_num_threads(compiler: type, count: int) -> None:
    """FFCV's method without its last line, which would also set torch's threads during a training."""
    import numba

    compiler.num_threads = count
    numba.set_num_threads(count)


# --------------------------------------------------------------------------- the file


def write_beton(split: Split, path: Path, progress: Progress = quiet) -> Path:
    """Write a split as an FFCV file with the fields ``image`` (raw RGB) and ``label``.

    A complete file with the same number of images is kept and assumed to be this one. Other processes that
    write to its folder wait. A killed writer leaves only temporary files, which the next call deletes.
    Images may be a memory map: only a few pages of it are read at a time.

    Raises:
        MlplibError: FFCV is not installed; the folder cannot be written, or the disk is full.
    """
    require()
    if _is_whole(path, len(split)):
        return path
    lock = path.with_name(".betons.lock")
    with storage_errors(path, "MLPLIB_CACHE"), locked(lock, progress, f"writes {path.name}"):
        if _is_whole(path, len(split)):  # another process wrote it while this one waited
            return path
        clear_leftovers(path.parent)  # they take space that is counted below
        with replacing(path, "MLPLIB_CACHE") as temporary:
            with progress(len(split), f"writing {path.name}") as bar:
                _write(split, temporary, bar)
            if not _is_whole(temporary, len(split)):  # FFCV does not check that pages were written completely
                raise OSError("the disk is full")
    return path


def _is_whole(path: Path, count: int) -> bool:
    """Whether there is a complete file of ``count`` images: whole pages, then a table of the images."""
    from ffcv.types import ALLOC_TABLE_TYPE, HeaderType

    try:
        header = np.fromfile(path, HeaderType, 1)[0]
        table, page = int(header["alloc_table_ptr"]), int(header["page_size"])
        end = table + count * ALLOC_TABLE_TYPE.itemsize
        return header["num_samples"] == count and table % page == 0 and path.stat().st_size == end
    except (OSError, IndexError, ZeroDivisionError):
        return False


def _write(split: Split, path: Path, bar: Bar) -> None:
    """What FFCV's ``DatasetWriter`` does, in this process.

    Its own processes need shared memory for all images, and if they die, as on a full disk, it waits forever.
    """
    from ffcv.fields import IntField, RGBImageField
    from ffcv.memory_allocator import MemoryAllocator
    from ffcv.writer import DatasetWriter, handle_sample

    image_bytes = split.images[0].nbytes
    page_bytes = max(PAGE_BYTES, 1 << (image_bytes - 1).bit_length())
    pages = 2 - (-len(split) // (page_bytes // image_bytes))
    require_room(path.parent, pages * page_bytes)
    fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
    writer = DatasetWriter(str(path), fields, page_bytes)
    writer.num_samples = len(split)
    writer.prepare()
    writer.metadata_sm.close()
    writer.metadata_sm.unlink()
    rows = np.zeros(len(split), writer.metadata_type)
    writer.metadata_sm = SimpleNamespace(buf=rows.view(np.uint8))
    allocator = MemoryAllocator(str(path), writer.data_region_start, page_bytes)
    with allocator:
        for first in range(0, len(split), BLOCK):
            images, labels = (values[first : first + BLOCK] for values in (split.images, split.labels))
            for row, example in enumerate(zip(np.ascontiguousarray(images), labels, strict=True), first):
                handle_sample(example, row, rows.dtype.names, rows, allocator, fields)
            bar.advance(len(labels))
    writer.finalize(allocator.allocations)


# --------------------------------------------------------------------------- the betons of a data set


def folder(dataset: ImageDataset) -> Path:
    """The folder for the betons of a data set; its name includes the content hash."""
    return cache_root() / "betons" / f"{dataset.name}-{dataset.content_hash[:12]}"


def find(dataset: ImageDataset, split: str) -> Path | None:
    """The beton of a split, ``train`` or ``test``; None if it is missing or incomplete. Reads no image.

    Raises:
        MlplibError: FFCV is not installed.
    """
    require()
    path = folder(dataset) / f"{split}.beton"
    return path if _is_whole(path, len(getattr(dataset, split))) else None


def write(dataset: ImageDataset, progress: Progress = quiet) -> Path:
    """Write the betons of both splits, unless they exist, and return their folder.

    Betons with other content under the same name are deleted: they take as much space as the images.
    """
    at = folder(dataset)
    for name in ("train", "test"):
        write_beton(getattr(dataset, name), at / f"{name}.beton", progress)
    for other in at.parent.iterdir():
        if other != at and re.fullmatch(re.escape(dataset.name) + "-[0-9a-f]{12}", other.name):
            shutil.rmtree(other, ignore_errors=True)
    return at
