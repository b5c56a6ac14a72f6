"""Prepared data sets as lossless parquet shards in the Hugging Face layout.

``<out>/<name>/train-00000-of-00003.parquet`` and so on, with the columns ``image`` (bytes, path) and
``label``. ``datasets.load_dataset("parquet", ...)`` opens them; :mod:`.parquet` reads them back to the same
content hash.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ...errors import MlplibError
from ...files import locked, replacing, require_room
from ...progress import Progress, quiet
from ..catalog import OwnFolder, PinnedPixels, Stored, find, find_base
from ..dataset import ImageDataset, Split
from ..loading import load
from . import cache, real
from .copies import Copy, Unusable
from .decode import fit
from .folders import class_folders
from .prepare import cores
from .sources import original_copy

_GROUP_ROWS, _GROUP_BYTES = 256, 2**25
"""Where a row group ends: a reader holds one at a time."""

_ROW_BYTES = 128
"""More than a row takes in addition to its image and path, with its share of a row group's metadata."""

_MARK = b"mlplib"  # the metadata key of the shards that were written here
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

File = tuple[bytes, str]
"""The bytes of an image file and its path."""


def parse_size(text: str) -> int:
    """A number of bytes from a text such as ``500K``, ``50M`` or ``1G``; K is 1,024 bytes.

    Raises:
        MlplibError: it is none, or zero.
    """
    found = re.fullmatch(r"(\d{1,15})([KMGT]?)", text.strip().upper(), flags=re.ASCII)
    size = int(found[1]) * _UNITS[found[2]] if found else 0
    if not size:
        raise MlplibError(f"a size is a number of bytes such as 500K, 50M or 1G, not {text!r}")
    return size


def exported_name(name: str) -> str | None:
    """The data set to export to have ``name`` elsewhere: itself, or the parent of some classes.

    ``None`` for shapes, which are drawn wherever they are needed.

    Raises:
        MlplibError: no such data set.
    """
    if name == real.NAME:
        raise MlplibError(f"{name} is one file, {real.FILE}: copy it; there, {real.by_hand()}")
    entry = find_base(name)
    return entry.name if isinstance(entry, Stored) else None


# --------------------------------------------------------------------------- the image files


def encode(image: np.ndarray) -> tuple[bytes, str]:
    """Uint8 pixels (H, W, 3) as the bytes of a lossless file, and its suffix.

    WebP takes a fifth less room than PNG for CIFAR's images, in the same time. Noise, of which it makes more
    bytes than there are pixel values, becomes PNG.
    """
    from PIL import Image

    picture, out = Image.fromarray(image), io.BytesIO()
    picture.save(out, "WEBP", lossless=True, method=0, quality=50)
    if out.tell() <= _most_bytes(image.nbytes):
        return out.getvalue(), "webp"
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue(), "png"


def _most_bytes(values: int) -> int:
    """More bytes than a PNG file of so many pixel values takes, however noisy they are."""
    return values + values // 64 + 512


@dataclass(frozen=True)
class _Files:
    """The files of a split. ``read(start, stop)`` gives them; ``sizes``: int64 (N,), at least their bytes."""

    split: Split
    sizes: np.ndarray
    read: Callable[[int, int], Iterator[File]]


def _encoded(dataset: ImageDataset, entry: Stored, name: str, pool: ThreadPoolExecutor) -> _Files:
    """Lossless files of a split's pixels. Official numbers of images are kept in the paths."""
    split, index = getattr(dataset, name), dataset.test_index if name == "test" else None

    def path(row: int) -> str:
        if index is not None and index[row] >= 0:
            return re.sub(r"\(.*\)", f"{index[row] + 1:08d}", entry.test_number)
        return f"{name}-{row:08d}"

    def encode_row(row: int) -> File:
        content, suffix = encode(split.images[row])
        return content, f"{path(row)}.{suffix}"

    sizes = np.full(len(split), _most_bytes(split.images[0].nbytes) + 64, np.int64)
    return _Files(split, sizes, lambda start, stop: pool.map(encode_row, range(start, stop)))


def _original(
    dataset: ImageDataset, entry: Stored, folder: Path, pool: ThreadPoolExecutor, progress: Progress
) -> dict[str, _Files] | None:
    """The files that the data set was prepared from, if all are at hand and give the same pixels.

    Those of sets that are stored much reduced, such as ImageNet, would take up a multiple of the room.
    """
    kept = cache.manifest(dataset.name)["preparation"]
    whole = isinstance(entry, (OwnFolder, PinnedPixels)) or entry.pins is not None
    copy = _original_copy(entry, kept, progress) if whole and not kept.get("skipped", 0) else None
    if copy is None or copy.label == f"parquet in {folder}":  # what is there may be replaced
        return None
    found = {}
    with progress(sum(copy.sizes.values()), f"checking the files of {dataset.name}") as bar:
        for name in ("train", "test"):
            split, parts = getattr(dataset, name), [part for part in copy.parts if part.split == name]

            def sizes_of(part, split=split) -> list[int] | None:
                sizes = []
                for row, example in enumerate(part.read(), part.start):
                    content = example.load()
                    if not isinstance(content, bytes) or not _same(entry, content, split.images[row]):
                        return None
                    sizes.append(len(content) + len(example.name.encode("utf-8", "replace")))
                bar.advance(part.count)
                return sizes

            sizes = list(pool.map(sizes_of, parts))
            if None in sizes:
                return None
            found[name] = _Files(split, np.concatenate(sizes).astype(np.int64), partial(_read_parts, parts))
    return found


def _original_copy(entry: Stored, kept: dict, progress: Progress) -> Copy | None:
    signature = kept.get("signature", "")
    try:
        copy = class_folders(entry, Path(kept["folder"]), quiet)
        if copy.signature == signature:
            return copy
    except (KeyError, Unusable, OSError):
        pass
    return original_copy(entry, signature, progress)


def _read_parts(parts: list, start: int, stop: int) -> Iterator[File]:
    for part in parts:
        if part.start < stop and start < part.start + part.count:
            for row, example in enumerate(part.read(), part.start):
                if start <= row < stop:
                    yield example.load(), example.name.encode("utf-8", "replace").decode()


def _same(entry: Stored, content: bytes, image: np.ndarray) -> bool:
    """Whether preparing these bytes again gives these pixels."""
    try:
        pixels = fit(content, entry.image_size, resized=entry.resized, upright=entry.upright)
    except Exception:  # whatever Pillow makes of a damaged file
        return False
    return np.array_equal(pixels, image)


# --------------------------------------------------------------------------- shards


def _schema(dataset: ImageDataset):
    import pyarrow as pa

    label = {"names": list(dataset.classes), "_type": "ClassLabel"}
    about = {"info": {"features": {"image": {"_type": "Image"}, "label": label}}}
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    metadata = {"huggingface": json.dumps(about), _MARK: f"{dataset.name} {dataset.content_hash}"}
    return pa.schema([("image", image), ("label", pa.int64())], metadata=metadata)


def _writer(where, schema):
    import pyarrow.parquet as pq

    # Images are compressed already. Without statistics, the size of a shard follows from that of its files.
    return pq.ParquetWriter(where, schema, compression="none", use_dictionary=False, write_statistics=False)


def _cuts(sizes: np.ndarray, most: int) -> list[tuple[int, int]]:
    """Consecutive rows (start, stop) that take at most ``most`` bytes; at least one row each."""
    cuts, start, total = [], 0, 0
    for row, size in enumerate(sizes.tolist()):
        if row > start and total + size > most:
            cuts.append((start, row))
            start, total = row, 0
        total += size
    return [*cuts, (start, len(sizes))]


def _plan(name: str, files: dict[str, _Files], schema, shard_bytes: int) -> dict[str, list[tuple[int, int]]]:
    """The rows of every shard by split."""
    empty = io.BytesIO()
    _writer(empty, schema).close()
    most = shard_bytes - empty.tell() - 4096
    plan = {}
    for split, some in files.items():
        # A row group for many bytes has metadata as one for many rows has.
        sizes = some.sizes + some.sizes // 4096 + _ROW_BYTES
        if int(sizes.max()) > most:
            least = int(sizes.max()) + shard_bytes - most
            raise MlplibError(
                f"a shard of {name} with a single image may take {least} bytes: choose a larger --shard-size"
            )
        plan[split] = _cuts(sizes, most)
        if len(plan[split]) > 99_999:
            raise MlplibError(f"{name} would have {len(plan[split])} shards: choose a larger --shard-size")
    return plan


def _write_shard(path: Path, schema, files: _Files, rows: tuple[int, int]) -> None:
    import pyarrow as pa

    limits = np.minimum(files.sizes[slice(*rows)], _GROUP_BYTES)
    with replacing(path) as temporary, _writer(temporary, schema) as writer:
        for first, last in _cuts(np.maximum(limits, _GROUP_BYTES // _GROUP_ROWS), _GROUP_BYTES):
            start, stop = rows[0] + first, rows[0] + last
            images = [{"bytes": content, "path": at} for content, at in files.read(start, stop)]
            labels = files.split.labels[start:stop]
            writer.write_table(pa.Table.from_pydict({"image": images, "label": labels}, schema))


def _is_right(path: Path, schema, entry: Stored, files: _Files, rows: tuple[int, int], pool) -> bool:
    """Whether a shard of an earlier call has the same rows: pixels, labels, class names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    start, stop = rows
    try:
        if not pq.read_schema(path).equals(schema, check_metadata=True):
            return False
        with pq.ParquetFile(path) as file:
            if file.metadata.num_rows != stop - start:
                return False
            for batch in file.iter_batches(batch_size=_GROUP_ROWS):
                images = batch.column(0).field("bytes").to_pylist()
                labels = files.split.labels[start : start + len(images)]
                pixels = files.split.images[start : start + len(images)]
                if not np.array_equal(batch.column(1).to_numpy(), labels):
                    return False
                if not all(pool.map(partial(_same, entry), images, pixels)):
                    return False
                start += len(images)
    except (OSError, pa.ArrowException):
        return False
    return True


def _remove_others(folder: Path, names: set[str]) -> None:
    """Remove shards of an earlier export that was cut in another way: readers would take them as well.

    Raises:
        MlplibError: there are parquet files that were not written here.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    others = [path for path in sorted(folder.glob("*.parquet")) if path.name not in names]
    for path in others:
        try:
            ours = _MARK in (pq.read_schema(path).metadata or {})
        except (OSError, pa.ArrowException):
            ours = False
        if not ours:
            raise MlplibError(f"{folder} has another file, {path.name}: choose another folder, or remove it")
    for path in others:
        path.unlink()


# --------------------------------------------------------------------------- all of it


@dataclass(frozen=True)
class Exported:
    """What :func:`export` left in ``folder``: ``shards`` files of ``bytes`` in all, ``kept`` from before.

    ``original``: whether they hold the files that were prepared, or the prepared pixels.
    """

    name: str
    folder: Path
    shards: int
    bytes: int
    kept: int
    original: bool


def export(name: str, out: Path, shard_bytes: int, progress: Progress | None = None) -> Exported:
    """Write a data set of the cache, prepared and checked first, into ``out/<name>``.

    The shards hold the original files where these are at hand and give the same pixels again, else lossless
    files of the prepared pixels. After a stop or kill, the same call continues: shards that are right stay.

    Args:
        name: a data set that can be exported (:func:`exported_name`).
        shard_bytes: the most that a shard may have.

    Raises:
        MlplibError: as :func:`mlplib.data.load`; shards too small; ``out`` has other parquet files, cannot be
            written or has no room.
    """
    progress, folder = progress or quiet, out.absolute() / name
    dataset, entry = load(name, progress, verify=True), find(name)
    schema = _schema(dataset)
    lock = folder.with_name(f".{name}.lock")
    with (
        ThreadPoolExecutor(cores()) as pool,
        cache.writing(str(folder), "choose another folder (--out)"),
        locked(lock, progress, f"exports {name}"),
    ):
        original = _original(dataset, entry, folder, pool, progress)
        files = original or {split: _encoded(dataset, entry, split, pool) for split in ("train", "test")}
        plan = _plan(name, files, schema, shard_bytes)
        folder.mkdir(exist_ok=True)
        names = {"train": "train", "test": entry.test_split}
        shards = {
            folder / f"{names[split]}-{i:05d}-of-{len(cuts):05d}.parquet": (split, rows)
            for split, cuts in plan.items()
            for i, rows in enumerate(cuts)
        }
        _remove_others(folder, {path.name for path in shards})
        missing = dict(shards)
        with progress(len(dataset.train) + len(dataset.test), f"exporting {name}") as bar:
            for path, (split, rows) in shards.items():
                small = path.exists() and path.stat().st_size <= shard_bytes
                if small and _is_right(path, schema, entry, files[split], rows, pool):
                    del missing[path]
                    bar.advance(rows[1] - rows[0])
            needed = (files[split].sizes[slice(*rows)].sum() for split, rows in missing.values())
            require_room(folder, int(sum(needed)), "--out")
            for path, (split, rows) in missing.items():
                _write_shard(path, schema, files[split], rows)
                bar.advance(rows[1] - rows[0])
    total = sum(path.stat().st_size for path in shards)
    return Exported(name, folder, len(shards), total, len(shards) - len(missing), original is not None)
