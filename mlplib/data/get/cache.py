"""The data cache: plain ``.npy`` arrays, written once and opened as memory maps shared by processes.

``<cache>/data/<name>/`` holds ``{train,test}_{images,labels}.npy``, ``manifest.json``, and for some data sets
``test_index.npy``, the official numbers of the test images. ``<cache>`` is ``$MLPLIB_CACHE``, else
``$XDG_CACHE_HOME/mlplib``, else ``~/.cache/mlplib``. Reading needs no lock and no write access.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from ...errors import MlplibError
from ...files import cache_root, json_sha256, locked, replacing, sha256, stamp, storage_errors
from ...progress import Progress
from ..dataset import ImageDataset, Split

_log = logging.getLogger("mlplib")

FORMAT = 1
"""Raise this when the layout changes: copies in an older format are then rebuilt."""

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
TEST_INDEX = "test_index"
MANIFEST = "manifest.json"

VERIFIED = "verified.json"
"""The files that matched their sha-256, with the size, times and inode that they had then."""

Prepared = tuple[Path, dict]
"""A folder with the arrays under their names in the cache, and the fields of their manifest."""


def folder(name: str) -> Path:
    """The folder of the data set called ``name``; it need not exist."""
    return cache_root() / "data" / name


def unfinished(name: str, key: str) -> Path:
    """The folder, which need not exist, for unfinished work on ``name`` that can be resumed later.

    ``key`` distinguishes work from different sources.
    """
    return folder(name).parent / f".{name}.unfinished-{key}"


# --------------------------------------------------------------------------- reading


def _seal(manifest: dict) -> str:
    """The sha-256 of all other fields of a manifest."""
    return json_sha256({key: value for key, value in manifest.items() if key != "seal"})


@functools.lru_cache(maxsize=64)
def _parsed(path: Path, stamp: str) -> tuple[dict, str | None]:
    found = json.loads(path.read_text(encoding="utf-8"))
    if found["format"] != FORMAT:
        return found, f"has format {found['format']} instead of {FORMAT}"
    if "seal" in found and found["seal"] != _seal(found):  # manifests from before version 0.1 have none
        return found, "has changed since it was written"
    return found, None


def _read_manifest(at: Path) -> tuple[dict, str | None]:
    """The manifest and its fault, parsed again only when the file has changed: planning reads it often."""
    return _parsed(at / MANIFEST, stamp(at / MANIFEST))


def preparation(name: str) -> dict:
    """The manifest's fields on the preparation, and ``source``, even if arrays are damaged; empty without a
    manifest.
    """
    try:
        kept, _ = _read_manifest(folder(name))
        return {**kept["preparation"], "source": kept["source"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def damage(name: str, hashes: Literal["none", "changed", "all"] = "none") -> str | None:
    """What is wrong with the cached copy, in words, or ``None``.

    The sizes of all files are always compared with the manifest. ``hashes`` selects the files that are also
    hashed: none, those that changed since they were last verified, or all.
    """
    at = folder(name)
    try:
        manifest, fault = _read_manifest(at)
        if fault:
            return f"{at / MANIFEST} {fault}"
        for file, expected in manifest["files"].items():
            size = (at / file).stat().st_size
            if size != expected["bytes"]:
                return f"{at / file} has {size} bytes instead of {expected['bytes']}"
        return None if hashes == "none" else _changed_content(at, manifest["files"], hashes == "changed")
    except OSError as error:
        return f"{error.filename or at}: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"{at / MANIFEST} is not a manifest"


def _verified_at(at: Path) -> dict:
    try:
        found = json.loads((at / VERIFIED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = {}
    return found if isinstance(found, dict) else {}


def _stamps(at: Path, files: dict) -> dict[str, str]:
    return {file: f"{stamp(at / file)} {expected['sha256']}" for file, expected in files.items()}


def _changed_content(at: Path, files: dict, trust_stamps: bool) -> str | None:
    known = _verified_at(at) if trust_stamps else {}
    stamps = _stamps(at, files)
    for file, expected in files.items():
        if known.get(file) != stamps[file] and sha256(at / file) != expected["sha256"]:
            with contextlib.suppress(OSError):  # otherwise the next use would trust the stamps
                (at / VERIFIED).unlink()
            return f"{at / file} has changed since it was written (its sha-256 differs)"
    if known != stamps:
        _remember(at, stamps)
    return None


def _remember(at: Path, stamps: dict) -> None:
    with contextlib.suppress(MlplibError), replacing(at / VERIFIED) as temporary:  # it may be read-only
        temporary.write_text(json.dumps(stamps), encoding="utf-8")


def manifest(name: str) -> dict | None:
    """The manifest of a complete cached copy (sizes checked), else ``None``."""
    return None if damage(name) else _read_manifest(folder(name))[0]


def read(name: str) -> ImageDataset:
    """Open a complete cached copy (ask :func:`damage` first); images are read-only memory maps."""
    at = folder(name)
    kept, _ = _read_manifest(at)
    train, test = open_splits(at)
    classes, mean, std = (tuple(kept[key]) for key in ("classes", "mean", "std"))
    index = at / f"{TEST_INDEX}.npy"
    test_index = np.load(index) if index.name in kept["files"] else None
    found = ImageDataset(name, train, test, classes, mean, std, kept["content_hash"], test_index)
    # Another process may have replaced the copy in between: images must not get the hash of others.
    return found if _read_manifest(at)[0] == kept else read(name)


def open_splits(at: Path) -> tuple[Split, Split]:
    """The training and test split of the arrays in a folder."""
    # Labels are small and indexed often: plain memory is better for them.
    train, test = (
        Split(np.load(at / f"{split}_images.npy", mmap_mode="r"), np.load(at / f"{split}_labels.npy"))
        for split in ("train", "test")
    )
    return train, test


# --------------------------------------------------------------------------- writing


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Turn errors of the file system into an MlplibError about the data cache."""
    with storage_errors(f"the data cache {cache_root()}", "MLPLIB_CACHE"):
        yield


@contextlib.contextmanager
def _staging(name: str) -> Iterator[Path]:
    """A temporary folder next to the final one, always removed afterwards. Needs the lock."""
    parent = folder(name).parent
    # Left by a killed process: no other process holds the lock. A name may begin as another one ends.
    for left_over in parent.glob(f".{name}.staging-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    with writing():
        staging = Path(tempfile.mkdtemp(prefix=f".{name}.staging-", dir=parent))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write_manifest(at: Path, name: str, stated: dict) -> None:
    paths = [at / f"{array}.npy" for array in (*ARRAYS, TEST_INDEX)]
    files = {p.name: {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in paths if p.exists()}
    kept = {"format": FORMAT, "name": name, **stated, "files": files}
    kept["seal"] = _seal(kept)
    (at / MANIFEST).write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def _tidy(at: Path, name: str) -> None:
    """Remove files that only the preparation needed, and unfinished work from other sources."""
    files = _read_manifest(at)[0]["files"]
    _remember(at, _stamps(at, files))
    with contextlib.suppress(OSError):
        for path in at.iterdir():
            if path.name not in {*files, MANIFEST, VERIFIED}:
                path.unlink()
    for left_over in at.parent.glob(unfinished(name, "*").name):
        shutil.rmtree(left_over, ignore_errors=True)


def get(
    name: str, fault: Callable[[], str | None], fetch: Callable[[Path], Prepared], progress: Progress
) -> ImageDataset:
    """Open the cached copy of ``name``; if it is unusable, one of the calling processes makes a new one.

    Args:
        fault: returns why the existing copy is unusable, in words, or None; called again under the lock.
        fetch: gets the content. It may use the folder it is given, which is removed afterwards, and leave
            unfinished work next to it (:func:`unfinished`).

    Raises:
        MlplibError: the cache cannot be written, or ``fetch`` raises it. No partial copy is left, and
            a damaged copy stays until a good one replaces it.
    """
    at = folder(name)
    if not (why := fault()):
        with contextlib.suppress(FileNotFoundError):  # another process is replacing it at this moment
            return read(name)
    elif at.exists():
        _log.warning("getting %s again: %s", name, why)
    with contextlib.ExitStack() as stack:
        with writing():
            stack.enter_context(locked(at.parent / f".{name}.lock", progress, f"prepares {name}"))
        if not fault():
            return read(name)
        with _staging(name) as staging:
            prepared, stated = fetch(staging)
            with writing(), progress(None, f"hashing {name}"):
                _write_manifest(prepared, name, stated)
                if at.exists():
                    os.replace(at, staging / "old")
                os.replace(prepared, at)
                _tidy(at, name)
    return read(name)
