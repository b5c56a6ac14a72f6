"""The data cache: plain ``.npy`` arrays, written once, opened as memory maps that processes share.

``<cache>/data/<name>/`` holds ``{train,test}_{images,labels}.npy``, ``manifest.json``, and for some data sets
``test_index.npy``, the official numbers of the test images. ``<cache>`` is
``$MLPLIB_CACHE``, else ``$XDG_CACHE_HOME/mlplib``, else ``~/.cache/mlplib``. Reading takes no lock and writes
nothing, so a cache on a read-only disk serves.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...errors import MlplibError
from ...progress import Progress, quiet
from ..dataset import ImageDataset, Split, statistics

FORMAT = 1
"""Raise this when the layout changes: copies in an older format are then built anew."""

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
TEST_INDEX = "test_index"
_KEYS = {"source", "content_hash", "unordered_hash", "classes", "mean", "std", "files"}


@dataclass(frozen=True)
class Found:
    """Verified content on its way into the cache, and where it came from.

    ``classes``: where the catalog does not know them. ``folder``: where the arrays lie already, as files with
    their names in the cache; the folder then moves there, nothing is copied. ``preparation``: what else the
    manifest tells.
    """

    train: Split
    test: Split
    content_hash: str
    unordered_hash: str
    source: str
    classes: tuple[str, ...] = ()
    folder: Path | None = None
    preparation: dict = field(default_factory=dict)


def root() -> Path:
    """The cache folder that the environment asks for; it need not exist."""
    if os.environ.get("MLPLIB_CACHE"):
        return Path(os.environ["MLPLIB_CACHE"]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).expanduser() / "mlplib"


def folder(name: str) -> Path:
    """Where the data set called ``name`` is (to be) kept."""
    return root() / "data" / name


def unfinished(name: str, key: str) -> Path:
    """The folder, which need not exist, for work on ``name`` that may be gone on with another time.

    ``key`` tells work from different sources apart.
    """
    return folder(name).parent / f".{name}.unfinished-{key}"


# --------------------------------------------------------------------------- reading


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.lru_cache(maxsize=64)
def _parsed(path: Path, stamp: tuple) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def _manifest_at(at: Path) -> dict:
    """The manifest, parsed again only when its file has changed: planning asks for it thousands of times."""
    path = at / "manifest.json"
    found = path.stat()
    return _parsed(path, (found.st_mtime_ns, found.st_size, found.st_ino))


def damage(name: str, full: bool = False) -> str | None:
    """What is wrong with the cached copy, in words, or ``None`` if nothing is.

    The sizes of all files are always compared with the manifest; ``full`` also reads and hashes them.
    """
    at = folder(name)
    try:
        found = _manifest_at(at)
        if found["format"] != FORMAT:
            return f"{at} has format {found['format']} instead of {FORMAT}"
        files = {f"{array}.npy" for array in ARRAYS}
        if not (_KEYS <= set(found) and files <= set(found["files"]) <= files | {f"{TEST_INDEX}.npy"}):
            return f"{at / 'manifest.json'} is not complete"
        for file, expected in found["files"].items():
            size = (at / file).stat().st_size
            if size != expected["bytes"]:
                return f"{at / file} has {size} bytes instead of {expected['bytes']}"
            if full and _sha256(at / file) != expected["sha256"]:
                return f"{at / file} has changed since it was written (its sha-256 differs)"
    except OSError as error:
        return f"{error.filename or at}: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{at / 'manifest.json'} is not a manifest"
    return None


def manifest(name: str) -> dict | None:
    """The manifest of a complete cached copy (sizes checked), else ``None``."""
    if damage(name):
        return None
    return _manifest_at(folder(name))


def read(name: str) -> ImageDataset:
    """Open a complete cached copy; images are read-only memory maps.

    Raises:
        OSError, ValueError, KeyError: the copy is not complete; ask :func:`damage` first.
    """
    at, kept = folder(name), manifest(name)
    if kept is None:
        raise ValueError(damage(name))
    arrays = {array: np.load(at / f"{array}.npy", mmap_mode="r") for array in ARRAYS}
    # Labels are small and get indexed a lot: plain memory is better there.
    train = Split(arrays["train_images"], np.array(arrays["train_labels"]))
    test = Split(arrays["test_images"], np.array(arrays["test_labels"]))
    classes, mean, std = (tuple(kept[key]) for key in ("classes", "mean", "std"))
    index = at / f"{TEST_INDEX}.npy"
    test_index = np.load(index) if index.name in kept["files"] else None
    return ImageDataset(name, train, test, classes, mean, std, kept["content_hash"], test_index)


# --------------------------------------------------------------------------- writing


def cannot_write(error: OSError, at: Path) -> MlplibError:
    """The error for a person whose cache cannot be written."""
    return MlplibError(
        f"cannot write the data cache {at}: {error.strerror or error}; free some space there or set "
        "MLPLIB_CACHE to a folder that can be written and has room"
    )


@contextlib.contextmanager
def _locked(name: str, progress: Progress) -> Iterator[None]:
    from filelock import FileLock, Timeout

    at = folder(name)
    lock = FileLock(at.parent / f".{name}.lock")
    try:
        at.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        with progress(None, f"waiting for another process that prepares {name}"):
            lock.acquire()
    except OSError as error:
        raise cannot_write(error, root()) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _staging(name: str) -> Iterator[Path]:
    """A folder beside the final one that is gone afterwards, whatever happens. Needs the lock."""
    parent = folder(name).parent
    for left_over in parent.glob(f".{name}-*"):  # of a process that was killed: nobody else can hold the lock
        shutil.rmtree(left_over, ignore_errors=True)
    try:
        staging = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=parent))
    except OSError as error:
        raise cannot_write(error, root()) from error
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _save(array: np.ndarray, path: Path) -> None:
    with open(path, "wb") as file:
        np.save(file, np.ascontiguousarray(array))
        file.flush()
        os.fsync(file.fileno())


def _write(at: Path, name: str, classes: tuple[str, ...], found: Found) -> None:
    """Complete the folder ``at``: the arrays, unless they are there already, and the manifest."""
    if found.folder is None:
        at.mkdir()
        arrays = (found.train.images, found.train.labels, found.test.images, found.test.labels)
        for array, values in zip(ARRAYS, arrays, strict=True):
            _save(values, at / f"{array}.npy")
    paths = [at / f"{array}.npy" for array in (*ARRAYS, TEST_INDEX)]
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in paths if path.exists()
    }
    mean, std = statistics(found.train.images)
    kept = {
        "format": FORMAT,
        "name": name,
        "source": found.source,
        "content_hash": found.content_hash,
        "unordered_hash": found.unordered_hash,
        "classes": list(found.classes or classes),
        "train": len(found.train),
        "test": len(found.test),
        "mean": mean,
        "std": std,
        "preparation": found.preparation,
        "files": files,
    }
    (at / "manifest.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def _install(new: Path, staging: Path, at: Path) -> None:
    if at.exists():
        os.replace(at, staging / "old")
    os.replace(new, at)


def _tidy(name: str) -> None:
    """Remove what only the preparation needed, and unfinished work from other sources."""
    known = {*_manifest_at(folder(name))["files"], "manifest.json"}
    with contextlib.suppress(OSError):
        for path in folder(name).iterdir():
            if path.name not in known:
                path.unlink()
    for left_over in folder(name).parent.glob(unfinished(name, "*").name):
        shutil.rmtree(left_over, ignore_errors=True)


def build(
    name: str,
    classes: tuple[str, ...],
    is_good: Callable[[], bool],
    fetch: Callable[[Path], Found],
    progress: Progress = quiet,
) -> None:
    """Make the cached copy of ``name``, once, however many processes ask for it.

    Args:
        is_good: whether the copy that is there serves; asked again once the lock is held.
        fetch: gets the content; it may use the folder it is given, which is removed afterwards. It may also
            leave unfinished work beside that folder, to go on with another time (:func:`unfinished`).

    Raises:
        MlplibError: the cache cannot be written, or what ``fetch`` raises. Nothing half-written is left, and
            a damaged copy stays until a good one takes its place.
    """
    with _locked(name, progress):
        if is_good():
            return
        with _staging(name) as staging:
            found = fetch(staging)
            new = found.folder or staging / "new"
            try:
                with progress(None, f"hashing {name}"):
                    _write(new, name, classes, found)
                _install(new, staging, folder(name))
            except OSError as error:
                raise cannot_write(error, root()) from error
            _tidy(name)
