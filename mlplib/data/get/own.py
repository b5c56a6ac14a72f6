"""A reader's own folder of class folders as a data set: prepared once like ImageNet, then known by name."""

from __future__ import annotations

import logging
import re
import shlex
from dataclasses import replace
from pathlib import Path

from ...errors import MlplibError
from ...progress import Progress, quiet
from .. import load
from ..catalog import CATALOG, OWN, Edition, OwnFolder
from ..dataset import ImageDataset
from . import cache
from .layouts import class_folders, has_class_folders
from .prepare import prepare
from .readers import Unusable

_log = logging.getLogger("mlplib")


def name_of(folder: Path, side: int) -> str:
    """What the data set of a folder is called, e.g. ``own-flowers-64``."""
    slug = re.sub(r"[^a-z0-9]+", "-", folder.absolute().name.lower()).strip("-")
    return f"{OWN}{slug or 'folder'}-{side}"


def load_folder(
    folder: Path, side: int, progress: Progress | None = None, skip_unreadable: bool = False
) -> ImageDataset:
    """Load ``train/<class>/`` and ``val/<class>/`` (or ``test``), prepared anew if files came or went.

    From then on :func:`mlplib.data.load` and every :class:`~mlplib.specs.DataSpec` know it by its name
    (:func:`name_of`). A folder of the same name elsewhere takes its place.

    Args:
        side: of the prepared images in pixels: the center square, resized.
        skip_unreadable: leave out images that cannot be read.

    Raises:
        MlplibError: no such layout; images are unreadable; the cache cannot be written.
    """
    folder, progress = folder.absolute(), progress or quiet
    if side < 1:
        raise MlplibError(f"images need a side of at least 1 pixel, not {side}")
    entry = OwnFolder(
        name=name_of(folder, side),
        title=f"the folder {folder}",
        classes=(),
        image_size=side,
        train=0,
        test=0,
        editions=(),
        forms="class folders (train/<class>/*, and val/<class>/* or test/<class>/*)",
        command=f"mlplib data beton {shlex.quote(str(folder))} --resolution {side}",
    )
    try:
        if not has_class_folders(entry, folder):
            raise Unusable("no folder train")
        copy = class_folders(entry, folder, progress)
        if not all(copy.sizes.values()):
            raise Unusable(f"{copy.sizes['train']} training and {copy.sizes['test']} test images")
    except Unusable as error:
        raise MlplibError(f"cannot read {folder}: {error}; it must hold {entry.forms}") from None
    edition = Edition(entry.title, len(copy.classes), copy.sizes["train"], copy.sizes["test"])
    entry = replace(entry, editions=(edition,))

    def is_good() -> bool:
        kept = cache.manifest(entry.name)
        return kept is not None and entry.accepts(kept) and kept["preparation"]["signature"] == copy.signature

    def fetch(staging: Path) -> cache.Found:
        try:
            found = prepare(entry, copy, skip_unreadable, progress)
        except Unusable as error:
            raise MlplibError(f"cannot read {folder}: {error}") from None
        own = {"title": entry.title, "side": side, "command": entry.command, "signature": copy.signature}
        return replace(found, preparation=found.preparation | own)

    if not is_good():
        if cache.folder(entry.name).exists():
            _log.warning("preparing %s anew: %s has other files", entry.name, folder)
        cache.build(entry.name, copy.classes, is_good, fetch, progress)
    return cache.read(entry.name)


def by_name_or_folder(
    text: str, side: int | None, progress: Progress | None = None, skip_unreadable: bool = False
) -> ImageDataset:
    """Load a data set of the catalog, or a folder at ``side`` pixels.

    Raises:
        MlplibError: as :func:`mlplib.data.load` and :func:`load_folder`; ``side`` for a data set that has its
            own, or none for a folder.
    """
    if text in CATALOG or not Path(text).is_dir():
        if len(Path(text).parts) > 1:
            raise MlplibError(f"there is no folder {text}")
        if side is not None:
            raise MlplibError(f"--resolution is for folders, and {text} is none: leave it out")
        return load(text, progress, skip_unreadable=skip_unreadable)
    if side is None:
        raise MlplibError(f"say how many pixels a side the images of {text} get, e.g. --resolution 64")
    return load_folder(Path(text), side, progress, skip_unreadable)
