"""A data set small enough for a test to publish: its content, its catalog entry, every layout it comes in."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.server
import io
import json
import os
import pickle
import resource
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
from PIL import Image

from mlplib.data.catalog import Edition, ImageFiles, NpmMosaics, PinnedPixels
from mlplib.data.dataset import Split, ordered_hash, unordered_hash

CLASSES = ("ant", "bee", "cow")
SIDE = 32  # the official archive's reader knows no other size


def _split(seed: int, count: int) -> Split:
    images = np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
    return Split(images, np.arange(count, dtype=np.int64) % len(CLASSES))


TRAIN, TEST = _split(1, 9), _split(2, 6)

ENTRY = PinnedPixels(
    name="tiny",
    title="Tiny",
    classes=CLASSES,
    image_size=SIDE,
    train=len(TRAIN),
    test=len(TEST),
    content_hash=ordered_hash(TRAIN, TEST),
    unordered_hash=unordered_hash(TRAIN, TEST),
)


def with_entry(monkeypatch, **changes) -> PinnedPixels:
    """Put the entry, possibly changed, into the catalog for the time of a test."""
    from mlplib.data import catalog

    entry = dataclasses.replace(ENTRY, **changes)
    monkeypatch.setitem(catalog.CATALOG, entry.name, entry)
    return entry


def reordered(split: Split) -> Split:
    """The same examples, last one first."""
    return Split(np.ascontiguousarray(split.images[::-1]), split.labels[::-1].copy())


def one_pixel_off(split: Split) -> Split:
    """A copy that differs by 1 in a single value."""
    images = split.images.copy()
    images[-1, -1, -1, -1] ^= 1
    return Split(images, split.labels)


def encode(image: np.ndarray, kind: str = "PNG") -> bytes:
    """An image file's bytes."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return out.getvalue()


def start_python(script: str, *args: str, stderr=subprocess.PIPE, **env: str) -> subprocess.Popen:
    """A further process that can import the library and this module; stdout and stderr come as text."""
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here.parents[1]), str(here)])
    return subprocess.Popen(
        [sys.executable, "-c", script, *args],
        env={**os.environ, "PYTHONPATH": paths, **env},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def refusal(use, *arguments, **options) -> str:
    """What the one line says with which ``use`` refuses its arguments."""
    import pytest

    from mlplib.errors import MlplibError

    with pytest.raises(MlplibError) as caught:
        use(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@contextlib.contextmanager
def files_of_at_most(size: int):
    """Let the kernel refuse to write more into a file, in the middle of a write, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def flip_a_bit(path: Path) -> None:
    """Change the last byte of a file."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def left_behind() -> list[str]:
    """What is in the cache's data folder, except lock files."""
    from mlplib.data.get import cache

    return sorted(p.name for p in cache.folder("x").parent.iterdir() if p.suffix != ".lock")


def verified(name: str) -> bool:
    """Whether ``mlplib data verify`` finds nothing wrong."""
    from mlplib.data.get.verify import verify

    return all(check.found == check.expected for check in verify(name))


# --------------------------------------------------------------------------- layouts


def write_table(path: Path, columns: dict[str, list], label="label", names=None, **options) -> None:
    """A parquet file; ``names`` are stated as those of the classes, as Hugging Face does."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    about = {"info": {"features": {label: {"names": list(names), "_type": "ClassLabel"}}}} if names else None
    metadata = {"huggingface": json.dumps(about)} if names else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path, **options)


def write_parquet(
    folder: Path, train: Split, test: Split, image="image", label="label", shards=1, kind="PNG"
):
    """Hugging Face style files; the train split in ``shards`` pieces."""
    for name, split, pieces in (("train", train, shards), ("test", test, 1)):
        for i, rows in enumerate(np.array_split(np.arange(len(split)), pieces)):
            images = [{"bytes": encode(split.images[j], kind), "path": f"{j}.png"} for j in rows]
            columns = {image: images, "other": [0] * len(rows), label: split.labels[rows].tolist()}
            write_table(folder / f"{name}-{i:05d}-of-{pieces:05d}.parquet", columns)


def write_folder(folder: Path, train: Split, test: Split):
    """``train/<class>/<number>.png`` and ``test/<class>/<number>.png``."""
    for name, split in (("train", train), ("test", test)):
        for i, (image, label) in enumerate(zip(split.images, split.labels, strict=True)):
            at = folder / name / CLASSES[label]
            at.mkdir(parents=True, exist_ok=True)
            (at / f"{i:03d}.png").write_bytes(encode(image))


def _tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def archive() -> tuple[bytes, type]:
    """The data set as an official archive, and the torchvision class that knows it."""
    import torchvision.datasets

    def batch(split: Split) -> bytes:
        planes = split.images.transpose(0, 3, 1, 2).reshape(len(split), -1)
        return pickle.dumps({"data": planes, "labels": split.labels.tolist()})

    def md5(data: bytes) -> str:
        return hashlib.md5(data).hexdigest()

    train, test, meta = batch(TRAIN), batch(TEST), pickle.dumps({"label_names": list(CLASSES)})
    packed = _tar({"tiny-py/train": train, "tiny-py/test": test, "tiny-py/meta": meta})

    class Tiny(torchvision.datasets.CIFAR10):
        base_folder, filename, tgz_md5 = "tiny-py", "tiny-python.tar.gz", md5(packed)
        url = "http://127.0.0.1:9/nothing-there.tar.gz"
        train_list, test_list = (("train", md5(train)),), (("test", md5(test)),)

    Tiny.meta = {"filename": "meta", "key": "label_names", "md5": md5(meta)}
    return packed, Tiny


def tarball(train: Split = TRAIN) -> tuple[bytes, NpmMosaics]:
    """The data set as an npm package of mosaics, and its catalog description."""

    def mosaic(images: np.ndarray) -> bytes:
        return encode(images.reshape(len(images), SIDE * SIDE, 3))

    packed = _tar(
        {
            "package/package.json": json.dumps({"name": "tiny-mosaics", "version": "1.0.0"}).encode(),
            "package/a.png": mosaic(train.images[:5]),
            "package/b.png": mosaic(train.images[5:]),
            "package/c.png": mosaic(TEST.images),
            "package/train.json": json.dumps(train.labels.tolist()).encode(),
            "package/test.json": json.dumps(TEST.labels.tolist()).encode(),
        }
    )
    digest = hashlib.sha512(packed).hexdigest()
    return packed, NpmMosaics(
        "tiny-mosaics@1.0.0", digest, len(packed), ("a.png", "b.png"), "train.json", ("c.png",), "test.json"
    )


# --------------------------------------------------------------------------- image files of any size

PER_CLASS = {"train": 50, "test": 10}

FILES = ImageFiles(
    name="tinyfiles",
    title="Tiny files",
    classes=(),
    image_size=16,
    train=3 * PER_CLASS["train"],
    test=3 * PER_CLASS["test"],
    editions=(Edition("the official one", 3, 3 * PER_CLASS["train"], 3 * PER_CLASS["test"]),),
    forms="class folders",
    balanced=("train", "test"),
    test_number=r"TINY_val_(\d{8})",
)


def with_files(monkeypatch, **changes) -> ImageFiles:
    """Put the entry of image files, possibly changed, into the catalog for the time of a test."""
    from mlplib.data import catalog

    entry = dataclasses.replace(FILES, **changes)
    monkeypatch.setitem(catalog.CATALOG, entry.name, entry)
    return entry


def photograph(seed: int, label: int, smallest: int = 12, largest: int = 40) -> np.ndarray:
    """Uint8 (H, W, 3): a smooth picture in a color of its class, so that JPEG does not change it much."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(smallest, largest + 1, 2)
    low = np.zeros(3) + 40
    low[label] = 160
    coarse = (low + rng.integers(-30, 31, (3, 3, 3))).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((int(width), int(height)), Image.Resampling.BILINEAR))


def photographs(smallest: int = 12, largest: int = 40) -> dict[str, bytes]:
    """The encoded files of :data:`FILES` by their place, ``train/ant/0001.JPEG``, ``val/ant/TINY_val_...``.

    Most are JPEG; some are gray, and some are PNG under a JPEG's name, as in ImageNet.
    """
    files = {}
    order = np.random.default_rng(0).permutation(3 * PER_CLASS["test"]) + 1  # official numbers, classes mixed
    for split, count in PER_CLASS.items():
        for label, name in enumerate(CLASSES):
            for i in range(count):
                seed = 1000 * label + i + (5000 if split == "test" else 0)
                image = photograph(seed, label, smallest, largest)
                gray = i % 10 == 7
                data = encode(
                    image.mean(axis=2).astype(np.uint8) if gray else image, "PNG" if i == 3 else "JPEG"
                )
                number = order[label * count + i] if split == "test" else i
                at = (
                    f"train/{name}/{i:04d}.JPEG"
                    if split == "train"
                    else f"val/{name}/TINY_val_{number:08d}.JPEG"
                )
                files[at] = data
    return files


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Write files by their relative names."""
    for name, data in files.items():
        at = folder / name
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(data)


# --------------------------------------------------------------------------- a server on this machine


@contextlib.contextmanager
def serve(files: dict[str, bytes], cut: int | None = None, hang: bool = False):
    """Serve files by path on 127.0.0.1; yields the base URL and the list of paths asked for.

    ``cut``: the connection ends after so many bytes, although the header announces all;
    ``hang``: no answer comes, or no more after ``cut`` bytes.
    """
    asked: list[str] = []
    release = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if not hang or cut:
                data = files.get(self.path)
                self.send_response(200 if data is not None else 404)
                self.send_header("Content-Length", str(len(data or b"")))
                self.end_headers()
                self.wfile.write((data or b"")[:cut])
            if hang:
                release.wait(60)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        release.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def registry(packed: bytes, served: bytes | None = None):
    """A tiny npm registry with the package of :func:`tarball`; ``served`` is what comes in its place."""
    files: dict[str, bytes] = {}
    with serve(files) as (url, asked):
        shipped = packed if served is None else served
        dist = {"tarball": f"{url}/tiny-mosaics-1.0.0.tgz", "shasum": hashlib.sha1(shipped).hexdigest()}
        version = {"name": "tiny-mosaics", "version": "1.0.0", "dist": dist}
        package = {"name": "tiny-mosaics", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
        files["/tiny-mosaics"] = json.dumps(package).encode()
        files["/tiny-mosaics-1.0.0.tgz"] = shipped
        yield url, asked
