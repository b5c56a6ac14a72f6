"""Read a whole data set and compare it with its known hashes (``mlplib data verify``)."""

from __future__ import annotations

from typing import NamedTuple

from ...errors import MlplibError
from ...files import cache_root
from ..catalog import Drawn, PinnedPixels, find_base
from ..dataset import ordered_hash, unordered_hash
from ..loading import load
from . import cache, real


class Check(NamedTuple):
    """One comparison: what was compared, the value found, and the value expected."""

    what: str
    found: str
    expected: str


def verify(name: str) -> list[Check]:
    """Check the cached copy of a data set, or for a class subset that of its parent.

    Raises:
        MlplibError: no such data set; it is not in the cache; a file of the cached copy is damaged (the
            message names it).
    """
    if name == real.NAME:
        if not real.cached().is_file():
            raise _not_there(name)
        real.read(real.cached())  # raises unless these are the published labels
        return [Check("the published labels", real.CONTENT_HASH, real.CONTENT_HASH)]
    entry = find_base(name)
    if isinstance(entry, Drawn):
        data = load(entry.name)
        return [Check("content hash", ordered_hash(data.train, data.test), entry.content_hash)]
    if not cache.folder(entry.name).exists():
        raise _not_there(entry.name)
    if wrong := cache.damage(entry.name, "all"):
        raise MlplibError(f"damaged: {wrong}: run {entry.prepared_by}")
    if entry.cached is None:
        raise MlplibError(f"{entry.name} was prepared in another way: run {entry.prepared_by}")
    data = cache.read(entry.name)
    checks = [Check("content hash", ordered_hash(data.train, data.test), data.content_hash)]
    if isinstance(entry, PinnedPixels):
        found = unordered_hash(data.train, data.test)
        checks.append(Check("the published images, in any order", found, entry.unordered_hash))
    return checks


def _not_there(name: str) -> MlplibError:
    return MlplibError(f"{name} is not in the cache {cache_root()}: run `mlplib data prepare {name}` first")
