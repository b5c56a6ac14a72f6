"""Data sets as FFCV files ("betons"), written once; :mod:`mlplib.data.streaming` reads them.

The files are byte-identical to those of FFCV's ``DatasetWriter`` with a single worker, and use FFCV's own
types. They are written here because that writer keeps Python objects and shared memory for every image, and
waits forever when the disk is full and its workers have died. The offsets of raw images of one size can be
computed, so several threads copy whole pages.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..errors import MlplibError
from ..files import locked, require_room
from ..progress import Bar, Progress, quiet
from .dataset import ImageDataset, Split
from .get import cache
from .get.prepare import cores

PAGE_BYTES = 8 * 2**20
"""Images never cross the border of a page; FFCV's default."""

_RAW = 1  # FFCV's IMAGE_MODES["raw"]
HOW = (
    "install the headers of OpenCV and turbojpeg (on Debian: apt-get install pkg-config libopencv-dev "
    'libturbojpeg0-dev), then pip install --no-build-isolation -e ".[ffcv]"'
)


# --------------------------------------------------------------------------- the library


def installed() -> bool:
    """Whether FFCV is there; it is not imported."""
    return importlib.util.find_spec("ffcv") is not None


def require() -> None:
    """Import FFCV, and keep it from changing torch's threads and using the GPU during a training.

    Raises:
        MlplibError: it is not there or cannot be imported; the line says how to install it.
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
    # Its thread would wait for, and record events on, the first GPU, even while a CUDA graph is recorded.
    epoch_iterator.IS_CUDA = False


def _set_num_threads(compiler: type, count: int) -> None:
    """FFCV's own without its last line, which sets torch's threads, too, during a training."""
    import numba

    compiler.num_threads = count
    numba.set_num_threads(count)


# --------------------------------------------------------------------------- the file


class _Layout:
    """The offsets in the beton of ``count`` images uint8 (H, W, 3): header, field table, one row of metadata
    per image, pages of pixels, one row of allocation per image.
    """

    def __init__(self, count: int, shape: tuple[int, int, int]):
        from ffcv.fields import IntField, RGBImageField
        from ffcv.types import ALLOC_TABLE_TYPE, FieldDescType, HeaderType, get_metadata_type

        self.count, self.shape = count, shape
        self.image_bytes = int(np.prod(shape))
        self.page_bytes = max(PAGE_BYTES, 1 << (self.image_bytes - 1).bit_length())
        self.per_page = self.page_bytes // self.image_bytes
        self.pages = -(-count // self.per_page)
        self.fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
        self.row_type, self.place_type = get_metadata_type(list(self.fields.values())), ALLOC_TABLE_TYPE
        self.metadata_at = HeaderType.itemsize + len(self.fields) * FieldDescType.itemsize
        metadata_end = self.metadata_at + count * self.row_type.itemsize
        self.pages_at = -(-metadata_end // self.page_bytes) * self.page_bytes
        self.places_at = self.pages_at + self.pages * self.page_bytes
        self.bytes = self.places_at + count * self.place_type.itemsize

    def head(self) -> bytes:
        """The header and the table of fields."""
        from ffcv.types import CURRENT_VERSION, TYPE_ID_HANDLER, FieldDescType, HeaderType

        header = np.zeros((), HeaderType)
        header["version"], header["num_fields"], header["num_samples"] = CURRENT_VERSION, 2, self.count
        header["page_size"], header["alloc_table_ptr"] = self.page_bytes, self.places_at
        fields = np.zeros(len(self.fields), FieldDescType)
        numbers = {kind: number for number, kind in TYPE_ID_HANDLER.items()}
        for row, (name, field) in zip(fields, self.fields.items(), strict=True):
            row["type_id"] = numbers[type(field)]
            row["name"][: len(name)] = np.frombuffer(name.encode("ascii"), np.uint8)
            row["arguments"][:] = field.to_binary()[0]
        return header.tobytes() + fields.tobytes()

    def blocks(self, page: int, split: Split) -> Iterator[tuple[int, np.ndarray]]:
        """What to write for a page, each with its offset: pixels, metadata, allocations."""
        first = page * self.per_page
        part = slice(first, min(first + self.per_page, self.count))
        pixels = np.ascontiguousarray(split.images[part])
        rows, places = (np.zeros(len(pixels), kind) for kind in (self.row_type, self.place_type))
        at = self.pages_at + page * self.page_bytes
        places["sample_id"] = np.arange(part.start, part.stop)
        places["ptr"] = at + np.arange(len(pixels)) * self.image_bytes
        places["size"] = self.image_bytes
        image, label = (rows[name] for name in rows.dtype.names)
        image["mode"], image["height"], image["width"] = _RAW, *self.shape[:2]
        image["data_ptr"] = places["ptr"]
        label[:] = split.labels[part]
        yield at, pixels
        yield self.metadata_at + first * self.row_type.itemsize, rows
        yield self.places_at + first * self.place_type.itemsize, places


def write_beton(split: Split, path: Path, progress: Progress | None = None) -> Path:
    """Write a split as an FFCV file with the fields ``image`` (raw RGB) and ``label``.

    A file of the same size stays: it is taken to be this one. Other processes that write the same file wait.
    A killed writer leaves nothing that looks finished, and what it left is overwritten the next time.

    Args:
        split: its images may be a memory map: only a few pages of it are read at a time.
        progress: see :mod:`mlplib.progress`; counts images.

    Returns:
        ``path``.

    Raises:
        MlplibError: FFCV is not installed; the folder cannot be written, or the disk is full.
    """
    require()
    progress, layout = progress or quiet, _Layout(len(split), split.images.shape[1:])
    if _is_whole(path, layout):
        return path
    lock, temporary = (path.with_name(f".{path.name}.{suffix}") for suffix in ("lock", "unfinished"))
    with cache.writing(str(path)), locked(lock, progress, f"writes {path.name}"):
        if _is_whole(path, layout):  # another process wrote it while this one waited
            return path
        try:
            temporary.unlink(missing_ok=True)  # what a killed writer left takes room that is counted below
            require_room(path.parent, layout.bytes)
            with open(temporary, "wb") as file, progress(layout.count, f"writing {path.name}") as bar:
                _write(layout, split, file.fileno(), bar)
            os.replace(temporary, path)
        finally:
            with suppress(OSError):  # mostly because it is not there any more
                temporary.unlink()
    return path


def _is_whole(path: Path, layout: _Layout) -> bool:
    try:
        return path.stat().st_size == layout.bytes
    except OSError:
        return False


def _write(layout: _Layout, split: Split, file: int, bar: Bar) -> None:
    # Gaps between pages are zeros without being written.
    os.ftruncate(file, layout.bytes)
    _write_at(file, layout.head(), 0)

    def write_page(page: int) -> int:
        for at, block in layout.blocks(page, split):
            _write_at(file, block.reshape(-1).view(np.uint8), at)
        return min(layout.per_page, layout.count - page * layout.per_page)

    with ThreadPoolExecutor(cores()) as pool:
        try:
            for done in pool.map(write_page, range(layout.pages)):
                bar.advance(done)
        finally:
            pool.shutdown(cancel_futures=True)
    os.fsync(file)


def _write_at(file: int, data, at: int) -> None:
    # Plain writes and not a memory map: on a full disk a map ends the process instead of raising an error.
    rest = memoryview(data)
    while rest:
        written = os.pwrite(file, rest, at)
        rest, at = rest[written:], at + written


# --------------------------------------------------------------------------- the betons of a data set


def folder(dataset: ImageDataset) -> Path:
    """Where the betons of a data set are (to be) kept: the name tells the content."""
    return cache.root() / "betons" / f"{dataset.name}-{dataset.content_hash[:12]}"


def find(dataset: ImageDataset, split: str) -> Path | None:
    """The beton of a split, ``train`` or ``test``; None if it is not there, or not whole. Reads no image.

    Raises:
        MlplibError: FFCV is not installed.
    """
    require()
    path, images = folder(dataset) / f"{split}.beton", getattr(dataset, split).images
    return path if _is_whole(path, _Layout(len(images), images.shape[1:])) else None


def write(dataset: ImageDataset, progress: Progress | None = None) -> Path:
    """Write the betons of both splits, unless they are there, and give their folder.

    Those of another content under the same name are deleted: they take as much room as the images.

    Raises:
        MlplibError: as :func:`write_beton`.
    """
    at = folder(dataset)
    for name in ("train", "test"):
        write_beton(getattr(dataset, name), at / f"{name}.beton", progress)
    for other in at.parent.iterdir():
        if other != at and re.fullmatch(re.escape(dataset.name) + "-[0-9a-f]{12}", other.name):
            shutil.rmtree(other, ignore_errors=True)
    return at
