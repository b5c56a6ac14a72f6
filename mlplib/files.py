"""Atomic writes, file locks, and one-line errors about files and folders."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from .errors import MlplibError, one_line
from .progress import Progress


@contextmanager
def replacing(path: str | Path, variable: str | None = None) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success the file written there replaces ``path``.

    Missing folders are created. ``variable``: as for :func:`storage_errors`.

    Raises:
        MlplibError: writing failed; the temporary file is deleted and ``path`` is unchanged.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    try:
        with storage_errors(path, variable):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                yield temporary
            except RuntimeError as error:  # torch.save raises it in place of the file's own error
                if type(error) is not RuntimeError:  # those of a device are of subclasses
                    raise
                cause = error.__context__
                raise cause if isinstance(cause, OSError) else OSError(one_line(error)) from None
            # Without this, a power failure could leave an empty file under the new name.
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        with suppress(OSError):  # usually because it no longer exists, or never did
            temporary.unlink()


def sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file's content, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_sha256(values: object) -> str:
    """SHA-256 of plain JSON values, in hex; the order of an object's fields does not matter."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def stamp(path: Path | os.DirEntry) -> str:
    """Size, times and inode of a file as text; it changes when the file is replaced or rewritten."""
    found = path.stat()
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"


def clear_leftovers(folder: Path) -> None:
    """Delete temporary files of killed processes (:func:`replacing`). No process may be writing there."""
    for path in folder.glob(".*.*.*"):
        if re.search(r"\.\d+\.\d+$", path.name):
            with suppress(OSError):
                path.unlink()


@contextmanager
def locked(path: Path, progress: Progress, work: str) -> Iterator[None]:
    """Hold the lock file ``path``, waiting for another process if necessary. Missing folders are created.

    ``work``: what the process that holds the lock does, as in "packs cifar10".
    """
    # With filelock's default mode 0o644, no umask could let a group share the lock. A soft lock, filelock's
    # fallback where files cannot be locked, would outlive its process.
    lock = FileLock(path, mode=0o666, fallback_to_soft=False)
    if not _try_lock(lock, path.parent, timeout=0.1):
        with progress(None, f"waiting for another process that {work}"):
            while not _try_lock(lock, path.parent, timeout=-1):
                pass
    try:
        yield
    finally:
        lock.release()


def _try_lock(lock: FileLock, folder: Path, timeout: float) -> bool:
    """Try to acquire a lock in ``folder``; False if another process holds it or has removed the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # pathlib also raises it if the folder is removed at this moment
        if folder.is_file() or folder.is_symlink():
            raise
        return False
    with suppress(FileExistsError, FileNotFoundError, Timeout):  # filelock also creates the folder
        lock.acquire(timeout=timeout)
    return lock.is_locked


def wait_for(file: IO, waiting: Callable[[], None]) -> None:
    """Lock an open file until it is closed here and in every process that inherited it.

    ``waiting`` is called if another process holds the lock. Where files cannot be locked, this does nothing.
    """
    with suppress(OSError):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock file ``path``. Checking can make another lock attempt fail."""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def in_clone(name: str) -> Path:
    """The folder ``name`` of the clone, whatever the working folder; in the working folder if the library was
    installed without a clone.
    """
    clone = Path(__file__).resolve().parents[1]
    # Not Path.is_dir, which raises an error where access is denied.
    return clone / name if os.path.isdir(clone / "notebooks") else Path(name)


def cache_root() -> Path:
    """The cache folder that the environment variables name; it need not exist.

    Raises:
        MlplibError: they name none and there is no home folder.
    """
    if named := os.environ.get("MLPLIB_CACHE"):
        return expand(named, "MLPLIB_CACHE")
    return expand(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "XDG_CACHE_HOME") / "mlplib"


def expand(path: str | Path, what: str) -> Path:
    """A path with ``~`` expanded to the home folder.

    Raises:
        MlplibError: ``what``, as in "--out", is blank or names a home folder that does not exist.
    """
    if not str(path).strip():
        raise MlplibError(f"{what} must not be blank: name a folder, or leave it out")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        if str(path).partition("/")[0] == "~":  # no HOME, and no entry for this user
            raise MlplibError(
                "this user has no home folder: set HOME, or set MLPLIB_CACHE to a folder for the data"
            ) from None
        raise MlplibError(f"{what} must not be {str(path)!r}: there is no such home folder") from None


def require_folder(path: str | Path, what: str, exists: bool = False) -> Path:
    """Return a path, with ``~`` expanded, if it can be the path of a folder. The folder may be missing
    unless ``exists``.

    Raises:
        MlplibError: the path cannot be that of a folder; the message calls it ``what``, as in "runs_dir".
    """
    path = expand(path, what)
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            return path
        why = "it is a file"
    except FileNotFoundError:
        dangling = [each for each in (path, *path.parents) if each.is_symlink() and not each.exists()]
        if not exists and not dangling:
            return path
        why = f"{dangling[0]} is a link to nothing" if dangling else "there is none"
    except (OSError, ValueError) as error:  # too long, below a file, a null byte
        why = getattr(error, "strerror", None) or error
    raise MlplibError(f"{what} must be the path of a folder, not {str(path)!r}: {why}")


def require_writable(folder: Path, variable: str | None = None) -> None:
    """Create a folder and check that it is writable, before work begins whose result is written there.

    ``variable``: the environment variable or option that selects another folder.

    Raises:
        MlplibError: the folder cannot be created or written to.
    """
    with storage_errors(folder, variable):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def require_room(folder: Path, needed: int, variable: str = "MLPLIB_CACHE") -> None:
    """Refuse work that needs more than the free space on the disk of ``folder``, which must exist.

    ``needed`` is in bytes.

    Raises:
        MlplibError: the message says how much is free, and that ``variable`` selects another folder.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise MlplibError(
            f"{folder} needs room for {needed / 1e6:.0f} MB, where {free / 1e6:.0f} MB are free: free some "
            f"space there or choose another folder ({variable})"
        )


@contextmanager
def storage_errors(place: Path | str, variable: str | None = None) -> Iterator[None]:
    """Turn any error of the file system into an MlplibError that says what is wrong with ``place``.

    ``variable``: the environment variable or option that selects another folder.
    """
    try:
        yield
    except OSError as error:
        shared = " (users who share it need one group and umask 002)" if error.errno == errno.EACCES else ""
        another = f", or choose another folder ({variable})" if variable else ""
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise MlplibError(
                f"the file system of {place} cannot lock files ({error.strerror}): use a local disk, "
                f"NFSv4 or Lustre with the mount option flock{another}"
            ) from None
        raise MlplibError(
            f"cannot write {place}: {error.strerror or error}; check that the folder is writable{shared} and "
            f"the disk not full{another}"
        ) from None
