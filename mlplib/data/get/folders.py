"""Image files in folders: class folders, and the official Tiny ImageNet as a folder or a zip file."""

from __future__ import annotations

import logging
import os
import stat
import threading
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path, PurePosixPath

from ...files import stamp
from ...progress import Bar, Progress
from ..catalog import Stored
from .copies import TEST_NAMES, Copy, Unusable, test_names
from .decode import LFS_ADVICE, LFS_POINTER, is_image_name

_log = logging.getLogger("mlplib")

# Folders that tools and systems create among data. Hidden ones (.ipynb_checkpoints) are skipped as well.
_JUNK = {"@eaDir", "@tmp", "#recycle", "$RECYCLE.BIN", "__MACOSX", "__pycache__", "lost+found"}


def is_junk(name: str) -> bool:
    """Whether a file or folder of this name is not data, at any depth."""
    return name.startswith(".") or name in _JUNK or name in ("Thumbs.db", "desktop.ini")


def require_downloaded(path: Path) -> None:
    """Refuse a file that git-lfs has not downloaded yet.

    Raises:
        Unusable: it is an LFS pointer.
    """
    with open(path, "rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise Unusable(f"{path.name} is {LFS_ADVICE}")


# --------------------------------------------------------------------------- walking


class Walk:
    """Lists image files below folders, visiting each folder once, and counts files that are not images."""

    def __init__(self, *closed: Path):
        """``closed``: folders; links into them or to their parents are not followed."""
        self.closed = [os.path.realpath(path) for path in closed]
        self.seen: set[tuple[int, int]] = set()
        self.twice: set[str] = set()
        self.skipped: Counter[str] = Counter()
        self.first_skipped = ""

    def enter(self, path: str) -> bool:
        """Whether to visit a folder: it was not visited before, and it is no link that leads in a circle.

        Folders whose files count elsewhere are added to ``twice``.
        """
        if os.path.islink(path):
            real = os.path.realpath(path)
            if any(os.path.commonpath([real, closed]) == real for closed in self.closed):
                return False
            if any(os.path.commonpath([real, closed]) == closed for closed in self.closed):
                self.twice.add(path)
                return False
        found = os.stat(path)
        identity = found.st_dev, found.st_ino
        if identity in self.seen:
            self.twice.add(path)
            return False
        self.seen.add(identity)
        return True

    def images(self, folder: Path) -> list[tuple[str, str]]:
        """Image files below ``folder``, sorted: (relative name, stamp)."""
        images = []
        waiting = [(str(folder), "")]  # no recursion, which Python limits
        while waiting:
            path, below = waiting.pop()
            if not self.enter(path):
                continue
            with os.scandir(path) as entries:
                for entry in entries:
                    name = below + entry.name
                    if is_junk(entry.name):
                        continue
                    if entry.is_dir():
                        waiting.append((entry.path, f"{name}/"))
                    elif is_image_name(name) and (found := _stamp_of_file(entry)):
                        images.append((name, found))
                    else:
                        self.first_skipped = self.first_skipped or entry.path
                        self.skipped[PurePosixPath(name).suffix.lower() or "no suffix"] += 1
        return sorted(images)

    def report(self, at: Path) -> None:
        """Log how many files were skipped, and their kinds."""
        if self.skipped:
            kinds = ", ".join(f"{count} {suffix}" for suffix, count in self.skipped.most_common(5))
            _log.warning(
                "left out %d files in %s that Pillow does not read as images (%s), first %s",
                self.skipped.total(),
                at,
                kinds,
                os.path.relpath(self.first_skipped, at),
            )


def _stamp_of_file(entry: os.DirEntry) -> str | None:
    """The stamp of a file; ``None`` for a device or pipe, which must not be opened."""
    try:
        return stamp(entry) if stat.S_ISREG(entry.stat().st_mode) else None
    except OSError:  # a broken link: later reported as an unreadable image
        return "missing"


def class_names(folder: Path) -> list[str]:
    """The names of the folders in ``folder`` that are not junk, sorted."""
    with os.scandir(folder) as found:
        return sorted(item.name for item in found if item.is_dir() and not is_junk(item.name))


def _load_below(root: Path, name: str) -> bytes:
    return (root / name).read_bytes()


# --------------------------------------------------------------------------- class folders


def train_folder(entry: Stored, at: Path) -> Path | None:
    """The folder of the training split in ``at``, if there is one."""
    names = (at / f"{prefix}train" for prefix in ("", f"{entry.name}_"))
    return next((path for path in names if path.is_dir()), None)


def class_folders(entry: Stored, at: Path, progress: Progress) -> Copy:
    """``train/<class>/`` and ``val/<class>/`` (or ``test``) with image files at any depth.

    Classes are sorted (those of the catalog keep its order), and so are the images of a class, as in
    torchvision's ``ImageFolder``. Class folders without any file are ignored. Without a folder for the test
    split, it consists of the first ``entry.held_out`` images of each class.

    Raises:
        Unusable: no test split; no class folders; a class without training images.
    """
    train = train_folder(entry, at)
    if train is None:
        raise Unusable("no folder train")
    prefix = train.name.removesuffix("train")
    tests = [train.with_name(f"{prefix}{name}") for name in test_names(entry)]
    test, *others = [path for path in tests if path.is_dir()] or [None]
    if others:
        _log.warning("testing on %s; %s is not used", test, others[0])
    if test is None and not entry.held_out:
        raise Unusable(f"no folder {' or '.join(TEST_NAMES)} beside {train.name}")
    names, tested_names = class_names(train), class_names(test) if test else []
    if test and not tested_names:
        raise Unusable(f"{test.name} has no class folders: its images must be sorted into them first")
    splits = [train, test] if test else [train]
    with progress(len(names) + len(tested_names), f"listing {entry.name}") as bar:
        trained, tested = (_list_classes(split, Walk(*splits), at, bar) for split in (train, test))
    classes = [name for name in names if name in trained]
    classes = next((list(known) for known in entry.known_names if set(known) == set(classes)), classes)
    require_clear(classes)
    if unknown := set(tested) - set(classes):
        first, number = min(unknown), len(classes)
        if same := [name for name in classes if _folded(name) == _folded(first)]:
            raise Unusable(
                f"the class folders {train.name}/{same[0]} and {test.name}/{first} have names that differ in "
                "case or in the Unicode form of a letter: give both one name"
            )
        where = f"{test.name}/{first} is not a class of {number} in the training split"
        raise Unusable(f"{where}: {train.name}/{first} has no image")
    if test and (untested := [name for name in classes if name not in tested]):
        others = " and others" if len(untested) > 3 else ""
        _log.warning("no class folder in %s has images of %s%s", test, ", ".join(untested[:3]), others)
    where = f"the folder {test.name}" if test else f"the first {entry.held_out} images of each class"
    about = ("class folders", str(at), *([] if test else ["held out"]))
    copy = Copy(f"class folders in {at}", about, tuple(classes), where, held_out=test is None)
    load = partial(_load_below, at)
    for label, name in enumerate(classes):
        held_out = 0 if test else entry.held_out
        files, below = trained.pop(name), f"{train.name}/{name}"
        copy.add_files("test", label, below, files[:held_out], load)
        copy.add_files("train", label, below, files[held_out:], load)
        if test:
            copy.add_files("test", label, f"{test.name}/{name}", tested.pop(name, []), load)
    return copy


def _folded(name: str) -> str:
    """A name without case and in one Unicode form: macOS stores an accent as a separate character."""
    return unicodedata.normalize("NFC", name).casefold()


def require_clear(classes: Iterable[str]) -> None:
    """Refuse two classes whose names look the same, even if they differ in their Unicode form."""
    forms = Counter(unicodedata.normalize("NFC", name) for name in classes)
    if twins := [name for name, count in forms.items() if count > 1]:
        raise Unusable(f"two classes are called {twins[0]} (maybe in two Unicode forms): make them one")


def _list_classes(split: Path | None, walk: Walk, at: Path, bar: Bar) -> dict[str, list[tuple[str, str]]]:
    """Image files by class; refuses a class folder with files but no image, and a split without images."""
    if split is None:
        return {}
    found = {}
    with os.scandir(split) as entries:
        astray = sorted(item.name for item in entries if item.is_file() and is_image_name(item.name))
    if astray := [name for name in astray if not is_junk(name)]:
        _log.warning(
            "left out %d images in %s that no class folder holds, first %s", len(astray), split, astray[0]
        )
    for name in class_names(split):
        before = walk.skipped.copy()
        if images := walk.images(split / name):
            found[name] = images
        elif others := walk.skipped - before:
            kinds = ", ".join(others)
            raise Unusable(f"{split.name}/{name} has no image, only {others.total()} other files ({kinds})")
        elif str(split / name) in walk.twice:
            _log.warning("left out %s/%s: a link makes it a folder that counts elsewhere", split.name, name)
        if not name.isprintable() and name.encode("utf-8", "replace").decode() != name:
            raise Unusable(f"the name of the class folder {name!r} is not valid UTF-8: rename it")
        bar.advance(1)
    walk.report(at)
    if not found:
        raise Unusable(f"{split.name} has no class folders with images (hidden files do not count)")
    return found


# --------------------------------------------------------------------------- the official Tiny ImageNet

ANNOTATIONS = "val/val_annotations.txt"


def _annotated(
    entry: Stored, label: str, about: tuple[str, ...], files: dict[str, str], load: Callable[[str], bytes]
) -> Copy:
    """``train/<class>/images/*``, and ``val/images/*`` with the labels of ``val/val_annotations.txt``.

    ``files``: from the name of each image to its key.
    """
    by_class: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for name, key in files.items():
        split, _, rest = name.partition("/")
        wnid, _, below = rest.partition("/")
        if split == "train" and below.startswith("images/"):
            by_class.setdefault(("train", wnid), []).append((below, key))
    for line in load(ANNOTATIONS).decode(errors="replace").splitlines():
        image, wnid = [*line.split("\t"), ""][:2]
        if f"val/images/{image}" not in files:
            raise Unusable(f"{ANNOTATIONS} names {image}, which is not in val/images")
        by_class.setdefault(("test", wnid), []).append((image, files[f"val/images/{image}"]))
    if unknown := {wnid for _, wnid in by_class} - set(entry.classes):
        raise Unusable(f"{min(unknown)} is not a class of {entry.name}")
    copy = Copy(label, about, entry.classes, "the official validation images")
    for (split, wnid), images in sorted(by_class.items()):
        at = f"train/{wnid}" if split == "train" else "val/images"
        copy.add_files(split, entry.classes.index(wnid), at, sorted(images), load)
    return copy


def annotated_folder(entry: Stored, at: Path) -> Copy:
    """The official folder of Tiny ImageNet; images in the order of class folders."""
    walk = Walk(at)
    files = {}
    for below in (*(f"train/{name}" for name in class_names(at / "train")), "val/images"):
        if (at / below).is_dir():
            files |= {f"{below}/{name}": key for name, key in walk.images(at / below)}
    about = "annotated", str(at), stamp(at / ANNOTATIONS)
    return _annotated(entry, f"{at}", about, files, partial(_load_below, at))


def annotated_zip(entry: Stored, path: Path) -> Copy:
    """The official zip file of Tiny ImageNet, read without extracting it."""
    require_downloaded(path)
    opened, lock, top = zipfile.ZipFile(path), threading.Lock(), f"{entry.folders[0]}/"

    def read(name: str) -> bytes:
        with lock:  # zipfile's reader count is not thread-safe
            return opened.read(top + name)

    members = {
        info.filename.removeprefix(top): f"{info.CRC} {info.file_size}"
        for info in opened.infolist()
        if info.filename.startswith(top) and not info.is_dir()
    }
    files = {name: key for name, key in members.items() if is_image_name(name)}
    about = "zip", path.name, members.get(ANNOTATIONS, "")
    return _annotated(entry, f"{path}", about, files, read)
