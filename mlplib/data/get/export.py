"""Prepared data sets as lossless parquet shards in the Hugging Face layout.

``<out>/<name>/train-00000-of-00003.parquet`` and so on, with the columns ``image`` (bytes, path) and
``label``. ``datasets.load_dataset("parquet", ...)`` opens them; :mod:`.parquet` reads them back to the same
content hash.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import MlplibError
from ...files import locked, replacing, require_room
from ...progress import Progress, quiet
from ..catalog import OwnFolder, PinnedPixels, Stored, find, find_base
from ..dataset import ImageDataset
from ..loading import load
from . import cache, real
from .copies import Part
from .decode import fit
from .prepare import cores
from .sources import original_copy

_GROUP_ROWS = 100
"""Rows in a row group: a reader holds one at a time."""

_ROW_BYTES = 256
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


def encode(image: np.ndarray) -> bytes:
    """Uint8 pixels (H, W, 3) as the bytes of a PNG file."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def _most_bytes(values: int) -> int:
    """More bytes than a PNG file of so many pixel values takes, however noisy they are."""
    return values + values // 64 + 512


class _Files(NamedTuple):
    """The files of a split. ``read(start, stop)`` gives them; ``sizes``: int64 (N,), at least their bytes."""

    sizes: np.ndarray
    read: Callable[[int, int], Iterable[File]]


def _encoded(dataset: ImageDataset, entry: Stored, name: str, pool: ThreadPoolExecutor) -> _Files:
    """Lossless files of a split's pixels. Official numbers of images are kept in the paths."""
    images, index = getattr(dataset, name).images, dataset.test_index if name == "test" else None

    def encode_row(row: int) -> File:
        path = f"{name}-{row:08d}"
        if index is not None and index[row] >= 0:
            path = re.sub(r"\(.*\)", f"{index[row] + 1:08d}", entry.test_number)
        return encode(images[row]), f"{path}.png"

    sizes = np.full(len(images), _most_bytes(images[0].nbytes) + 64, np.int64)
    return _Files(sizes, lambda start, stop: pool.map(encode_row, range(start, stop)))


def _original(
    dataset: ImageDataset, entry: Stored, folder: Path, pool: ThreadPoolExecutor, progress: Progress
) -> dict[str, _Files] | None:
    """The files that the data set was prepared from, if all are at hand and give the same pixels.

    Those of sets that are stored much reduced, such as ImageNet, would take up a multiple of the room.
    """
    kept = cache.manifest(dataset.name)["preparation"]
    whole = isinstance(entry, (OwnFolder, PinnedPixels)) or entry.pins is not None
    copy = original_copy(entry, kept, progress) if whole and not kept.get("skipped", 0) else None
    if copy is None or copy.label == f"parquet in {folder}":  # what is there may be replaced
        return None

    def sizes_of(part: Part) -> list[int]:
        """Bytes of each file with its path; none if a file gives other pixels."""
        images, sizes = getattr(dataset, part.split).images, []
        for row, example in enumerate(part.read(), part.start):
            content = example.load()
            if not isinstance(content, bytes) or not _same(entry, content, images[row]):
                return []
            sizes.append(len(content) + len(example.name.encode("utf-8", "replace")))
        return sizes

    found = {}
    with progress(sum(copy.sizes.values()), f"checking the files of {dataset.name}") as bar:
        for name in ("train", "test"):
            sizes, parts = [], [part for part in copy.parts if part.split == name]
            for part, some in zip(parts, pool.map(sizes_of, parts), strict=True):
                if not some:
                    return None
                sizes += some
                bar.advance(part.count)
            found[name] = _Files(np.array(sizes, np.int64), partial(_read_parts, parts))
    return found


def _read_parts(parts: list[Part], start: int, stop: int) -> Iterator[File]:
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
    plain = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    return pq.ParquetWriter(where, schema, write_page_checksum=True, **plain)


def _cuts(name: str, sizes: np.ndarray, schema, shard_bytes: int) -> list[tuple[int, int]]:
    """The rows (start, stop) of every shard of a split whose files have ``sizes`` bytes.

    Raises:
        MlplibError: a single image does not fit, or there would be too many shards.
    """
    empty = io.BytesIO()
    _writer(empty, schema).close()
    most = shard_bytes - empty.tell() - 4096
    cuts, start, total = [], 0, 0
    for row, size in enumerate((sizes + sizes // 4096 + _ROW_BYTES).tolist()):
        if size > most:
            least = size + shard_bytes - most
            raise MlplibError(
                f"a shard of {name} with a single image may take {least} bytes: choose a larger --shard-size"
            )
        if total + size > most:
            cuts.append((start, row))
            start, total = row, 0
        total += size
    if len(cuts) > 99_998:
        raise MlplibError(f"{name} would have {len(cuts) + 1} shards: choose a larger --shard-size")
    return [*cuts, (start, len(sizes))]


def _write_shard(path: Path, schema, files: _Files, labels: np.ndarray, rows: tuple[int, int]) -> None:
    import pyarrow as pa

    with replacing(path) as temporary, _writer(temporary, schema) as writer:
        for start in range(*rows, _GROUP_ROWS):
            stop = min(start + _GROUP_ROWS, rows[1])
            images = [{"bytes": content, "path": at} for content, at in files.read(start, stop)]
            writer.write_table(pa.Table.from_pydict({"image": images, "label": labels[start:stop]}, schema))


def _is_right(path: Path, schema, labels: np.ndarray, shard_bytes: int) -> bool:
    """Whether a shard of an earlier call is there: undamaged, of the same content, with the same rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            found = [batch.column(1).to_numpy() for batch in file.iter_batches(batch_size=_GROUP_ROWS)]
            same = file.schema_arrow.equals(schema, check_metadata=True)
        small = path.stat().st_size <= shard_bytes
        return small and same and np.array_equal(np.concatenate([labels[:0], *found]), labels)
    except (OSError, pa.ArrowException):
        return False


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


class Exported(NamedTuple):
    """What :func:`export` left in ``folder``: ``shards`` files, ``kept`` of them from before.

    ``original``: whether they hold the files that were prepared, or the prepared pixels.
    """

    folder: Path
    shards: int
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
    schema, lock = _schema(dataset), folder.with_name(f".{name}.lock")
    with (
        ThreadPoolExecutor(cores()) as pool,
        cache.writing(str(folder), "choose another folder (--out)"),
        locked(lock, progress, f"exports {name}"),
    ):
        original = _original(dataset, entry, folder, pool, progress)
        files = original or {split: _encoded(dataset, entry, split, pool) for split in ("train", "test")}
        shards = {}
        for split, split_name in (("train", "train"), ("test", entry.test_split)):
            cuts = _cuts(name, files[split].sizes, schema, shard_bytes)
            for i, rows in enumerate(cuts):
                shards[folder / f"{split_name}-{i:05d}-of-{len(cuts):05d}.parquet"] = split, rows
        folder.mkdir(exist_ok=True)
        _remove_others(folder, {path.name for path in shards})
        labels = {split: getattr(dataset, split).labels for split in files}
        missing = {
            path: (split, rows)
            for path, (split, rows) in shards.items()
            if not _is_right(path, schema, labels[split][slice(*rows)], shard_bytes)
        }
        needed = (files[split].sizes[slice(*rows)].sum() for split, rows in missing.values())
        require_room(folder, int(sum(needed)), "--out")
        with progress(sum(stop - start for _, (start, stop) in missing.values()), f"exporting {name}") as bar:
            for path, (split, rows) in missing.items():
                _write_shard(path, schema, files[split], labels[split], rows)
                bar.advance(rows[1] - rows[0])
    return Exported(folder, len(shards), len(shards) - len(missing), original is not None)
