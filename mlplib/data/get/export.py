"""Prepared data sets as lossless parquet shards in the Hugging Face layout.

``<out>/<name>/train-00000-of-00003.parquet`` and so on, with the columns ``image`` (bytes, path) and
``label``. ``datasets.load_dataset("parquet", ...)`` opens them; :mod:`.parquet` reads them back to the same
content hash.
"""

from __future__ import annotations

import io
import itertools
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import MlplibError
from ...files import locked, require_room, storage_errors
from ...limits import cores
from ...progress import Bar, Progress, quiet
from ..catalog import OwnFolder, PinnedPixels, Stored, find, find_base
from ..dataset import ImageDataset
from ..loading import load
from . import cache, real
from .copies import Copy, Example
from .decode import fit
from .parquet import MARK
from .sources import original_copy

_GROUP_ROWS = 100
"""Rows in a row group: a reader holds one at a time."""

_ROW_BYTES, _END_BYTES = 256, 4096
"""Upper bounds on the bytes of a row besides its image and path, and of a shard besides its schema."""

Row = tuple[bytes, str, int]
"""An image file's bytes, its path and the label."""


def exported_name(name: str) -> str | None:
    """The data set to export in order to use ``name`` elsewhere: itself, or the parent of a class subset.

    ``None`` for shapes, which are drawn on demand.

    Raises:
        MlplibError: no such data set.
    """
    if name == real.NAME:
        raise MlplibError(f"{name} is one file, {real.FILE}: copy it; there, {real.by_hand()}")
    entry = find_base(name)
    return entry.name if isinstance(entry, Stored) else None


# --------------------------------------------------------------------------- the image files


def encode(image: np.ndarray) -> bytes:
    """Uint8 pixels (H, W, 3) as the bytes of a PNG file."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def _original(entry: Stored, progress: Progress) -> Copy | None:
    """The files that the data set was prepared from, if they are available.

    Not for data sets that are stored much reduced, such as ImageNet: their files take far more space.
    """
    kept = cache.preparation(entry.name)
    whole = isinstance(entry, (OwnFolder, PinnedPixels)) or entry.pins is not None
    return original_copy(entry, kept, progress) if whole and not kept.get("skipped", 0) else None


def _rows(dataset: ImageDataset, entry: Stored, name: str, copy: Copy | None, pool) -> Iterator[Row]:
    """The rows of a split: files of ``copy`` if they decode to the same pixels, else the pixels as PNG."""
    split, index = getattr(dataset, name), dataset.test_index if name == "test" else None

    def row_of(row: int, example: Example | None) -> Row:
        label = int(split.labels[row])
        if example is not None:
            content = example.load()
            if isinstance(content, bytes) and _same(entry, content, split.images[row]):
                return content, example.name.encode("utf-8", "replace").decode(), label
        path = f"{name}-{row:08d}"
        if index is not None and index[row] >= 0:  # keep the official number
            path = re.sub(r"\(.*\)", f"{index[row] + 1:08d}", entry.test_number)
        return encode(split.images[row]), f"{path}.png", label

    examples = itertools.repeat(None, len(split))
    if copy is not None:
        parts = (part.read() for part in copy.parts if part.split == name)
        examples = itertools.chain.from_iterable(parts)
    for first in range(0, len(split), _GROUP_ROWS):  # pool.map consumes its whole input at once
        some = range(first, min(first + _GROUP_ROWS, len(split)))
        yield from pool.map(row_of, some, itertools.islice(examples, len(some)))


def _same(entry: Stored, content: bytes, image: np.ndarray) -> bool:
    """Whether preparing these bytes gives these pixels."""
    try:
        pixels = fit(content, entry.image_size, resized=entry.resized, upright=entry.upright)
    except Exception:  # Pillow raises many types for damaged files
        return False
    return np.array_equal(pixels, image)


# --------------------------------------------------------------------------- shards


def _schema(dataset: ImageDataset):
    import pyarrow as pa

    label = {"names": list(dataset.classes), "_type": "ClassLabel"}
    about = {"info": {"features": {"image": {"_type": "Image"}, "label": label}}}
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    metadata = {"huggingface": json.dumps(about), MARK: f"{dataset.name} {dataset.content_hash}"}
    return pa.schema([("image", image), ("label", pa.int64())], metadata=metadata)


def _writer(where, schema):
    import pyarrow.parquet as pq

    # Images are compressed already. Without statistics, a shard's size follows from its files' sizes.
    return pq.ParquetWriter(where, schema, compression="none", use_dictionary=False, write_statistics=False)


def _by_shard(rows: Iterable[Row], most: int) -> Iterator[tuple[int, Row]]:
    """Each row with the number of its shard, so that the rows of a shard take at most ``most`` bytes."""
    number = total = 0
    for content, path, label in rows:
        size = len(content) + len(path.encode()) + _ROW_BYTES
        if size > most:
            raise MlplibError(
                f"{path} alone needs a shard of {size - most} more bytes: choose a larger --shard-size"
            )
        if total + size > most:
            number, total = number + 1, 0
        total += size
        yield number, (content, path, label)


def _write_split(folder: Path, name: str, schema, rows: Iterable[Row], shard_bytes: int, bar: Bar) -> int:
    """Write a split's shards into ``folder``; returns their number."""
    import pyarrow as pa

    empty, paths = io.BytesIO(), []
    _writer(empty, schema).close()
    numbered = _by_shard(rows, shard_bytes - empty.tell() - _END_BYTES)
    for number, shard in itertools.groupby(numbered, key=lambda one: one[0]):
        paths.append(folder / f"{name}-{number:05d}")
        with _writer(paths[-1], schema) as writer:
            while group := [row for _, row in itertools.islice(shard, _GROUP_ROWS)]:
                images = [{"bytes": content, "path": path} for content, path, _ in group]
                labels = [label for *_, label in group]
                writer.write_table(pa.Table.from_pydict({"image": images, "label": labels}, schema))
                bar.advance(len(group))
    for path in paths:
        path.rename(f"{path}-of-{len(paths):05d}.parquet")
    return len(paths)


def _refuse_others(folder: Path) -> None:
    """Refuse to replace a folder with files that this module did not write."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in sorted(folder.iterdir()) if folder.exists() else ():
        try:
            ours = MARK in (pq.read_schema(path).metadata or {})
        except (OSError, pa.ArrowException):
            ours = False
        if not ours:
            raise MlplibError(f"{folder} has another file, {path.name}: choose another folder, or remove it")


# --------------------------------------------------------------------------- all of it


class Exported(NamedTuple):
    """The result of :func:`export`: ``shards`` files in ``folder``.

    ``original``: whether they have the original image files, or the prepared pixels.
    """

    folder: Path
    shards: int
    original: bool


def export(name: str, out: Path, shard_bytes: int, progress: Progress = quiet) -> Exported:
    """Write a data set from the cache, prepared and checked first, to ``out/<name>``.

    The shards have the original files if these are available and decode to the same pixels, else the
    prepared pixels as PNG. The folder appears, or replaces an earlier export, when all shards are written.

    Args:
        name: a data set that can be exported (:func:`exported_name`).
        shard_bytes: largest size of a shard.

    Raises:
        MlplibError: as :func:`mlplib.data.load`; shards too small; ``out`` has other files, cannot be written
            to or lacks space.
    """
    folder = Path(out).absolute() / name
    dataset, entry = load(name, progress, verify=True), find(name)
    schema, copy, total = _schema(dataset), _original(entry, progress), len(dataset.train) + len(dataset.test)
    lock, staging = (folder.with_name(f".{name}.{suffix}") for suffix in ("lock", "unfinished"))
    with (
        ThreadPoolExecutor(cores()) as pool,
        storage_errors(folder, "--out"),
        locked(lock, progress, f"exports {name}"),
    ):
        _refuse_others(folder)
        shutil.rmtree(staging, ignore_errors=True)  # left by a killed call
        require_room(out, dataset.train.images.nbytes + dataset.test.images.nbytes, "--out")
        staging.mkdir()
        try:
            with progress(total, f"exporting {name}") as bar:
                shards = 0
                for split, prefix in (("train", "train"), ("test", entry.test_split)):
                    rows = _rows(dataset, entry, split, copy, pool)
                    shards += _write_split(staging, prefix, schema, rows, shard_bytes, bar)
            if folder.exists():
                shutil.rmtree(folder)
            staging.rename(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return Exported(folder, shards, copy is not None)
