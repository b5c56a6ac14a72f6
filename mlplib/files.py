"""Writing files so that nothing is ever half there, and saying in one line what is wrong with a folder."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import MlplibError
from .progress import Progress


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path in the same folder; on success the file written there replaces ``path``.

    Missing folders are made.

    Raises:
        MlplibError: writing failed; the temporary file is gone and ``path`` is as it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        # Without this a power cut could leave the new name on empty contents.
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch.save wraps some failures in RuntimeError
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        shared = f" ({SHARED})" if isinstance(error, PermissionError) else ""
        raise MlplibError(
            f"cannot write {path}: {reason}; check that the folder is writable{shared} and the disk not full"
        ) from None
    finally:
        with suppress(OSError):  # mostly because it is not there, now or from the start
            temporary.unlink()


@contextmanager
def locked(path: Path, progress: Progress, work: str) -> Iterator[None]:
    """Hold the lock file ``path``, waiting for another process if need be. Missing folders are made.

    ``work``: what a process that holds it does, in words, as in "packs cifar10".
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, mode=LOCK_MODE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        with progress(None, f"waiting for another process that {work}"):
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock file ``path``. A process that tries to lock it at this very moment
    may find it held.
    """
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def require_room(folder: Path, needed: int, variable: str = "MLPLIB_CACHE") -> None:
    """Refuse to begin what does not fit on the disk of ``folder``, which exists; ``needed`` is in bytes.

    Raises:
        MlplibError: the line says how much is free, and that ``variable`` sets another folder.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise MlplibError(
            f"{folder} needs room for {needed / 1e6:.0f} MB, where {free / 1e6:.0f} MB are free: free some "
            f"space there or choose another folder ({variable})"
        )


SHARED = "users who share it need one group and umask 002"

LOCK_MODE = 0o666
"""Less the umask. With filelock's own 0o644 the umask could not let a group share a lock."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def storage_errors(root: Path, variable: str = "MLPLIB_RUNS") -> Iterator[None]:
    """Say in one line what is wrong with a folder that cannot be written to, or whose files cannot be locked;
    ``variable`` sets another one.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise MlplibError(
                f"the disk of {root} is full ({error.strerror}): free some space and start again, "
                "finished runs are kept"
            ) from error
        if error.errno in _NO_LOCKS:
            raise MlplibError(
                f"the file system of {root} cannot lock files ({error.strerror}): use a local disk, NFSv4 or "
                f"Lustre with the mount option flock ({variable})"
            ) from error
        if error.errno in _NOT_WRITABLE:
            shared = f"; {SHARED}" if error.errno == errno.EACCES else ""
            raise MlplibError(
                f"{root} cannot be written to ({error.strerror}): choose another folder ({variable}){shared}"
            ) from error
        raise
