"""A user's own class folders as a data set: prepared once, like ImageNet, then available by name."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ...errors import MlplibError
from ...progress import Progress, quiet
from ...specs.settings import plain
from ..catalog import OwnFolder
from ..dataset import ImageDataset
from . import cache
from .copies import Unusable
from .folders import class_folders
from .prepare import prepare


def name_of(folder: Path, side: int) -> str:
    """The name of a folder's data set, e.g. ``own-flowers-64``."""
    slug = re.sub(r"[^a-z0-9]+", "-", _absolute(folder).name.lower())[:100].strip("-")
    return f"own-{slug or 'folder'}-{side}"


def _absolute(folder: Path) -> Path:
    """The folder's absolute path without ``..``, so that its last part is a name; links are kept."""
    folder = Path(folder).absolute()
    return folder.resolve() if ".." in folder.parts else folder


def load_folder(
    folder: Path, side: int, progress: Progress = quiet, skip_unreadable: bool = False
) -> ImageDataset:
    """Load ``train/<class>/`` and ``val/<class>/`` (or ``test``), prepared again if any file changed.

    Images are rotated by their EXIF orientation, and transparent ones are put on white. From then on
    :func:`mlplib.data.load` and every :class:`~mlplib.specs.DataSpec` accept the name of the data set
    (:func:`name_of`). Another folder with that name can replace it once the first no longer exists.

    Args:
        side: side of the prepared images in pixels: the center square, resized.
        skip_unreadable: leave out images that cannot be read.

    Raises:
        MlplibError: no such layout; images are unreadable; the cache cannot be written, or has another folder
            with that name.
    """
    folder, side = _absolute(folder), plain(side)
    if type(side) is not int or side < 1:
        raise MlplibError(f"images need a side of at least 1 pixel, not {side!r}")
    name = name_of(folder, side)
    entry = OwnFolder(name=name, title=f"the folder {folder}", image_size=side, folder=str(folder))
    try:
        copy = class_folders(entry, folder, progress)
    except (Unusable, OSError) as error:
        raise MlplibError(
            f"cannot read {folder}: {error}; it must hold class folders (train/<class>/*, and val/<class>/* "
            f"or test/<class>/*); parquet files go into data/{name}: mlplib data prepare {name}"
        ) from None

    def fault() -> str | None:
        _require_free(name, folder)
        if wrong := cache.damage(name, "changed"):
            return wrong
        kept = cache.preparation(name)
        same = (kept["signature"], kept["recipe"]) == (copy.signature, entry.recipe)
        return None if same else f"{folder} has other files"

    def fetch(staging: Path) -> cache.Prepared:
        try:
            return prepare(entry, copy, skip_unreadable, progress)
        except Unusable as error:
            raise MlplibError(f"cannot read {folder}: {error}") from None

    return cache.get(name, fault, fetch, progress)


def _require_free(name: str, folder: Path) -> None:
    """Refuse to replace the prepared images of another folder that still exists."""
    other = cache.preparation(name).get("folder")
    if other and os.path.isdir(other) and not os.path.samefile(other, folder):
        raise MlplibError(
            f"{folder} would be called {name}, as {other} is, which is prepared: rename one of the two, with "
            "letters a to z or digits"
        )
