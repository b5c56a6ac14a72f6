"""A copy of a data set in some place: parts that can be read one by one, and its metadata.

:mod:`.folders`, :mod:`.parquet` and :mod:`.archives` each make a :class:`Copy`; :mod:`.prepare` decodes it.
Nothing is decoded here, and no image is held.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np

from ..catalog import Stored

PART = 512
"""Largest number of examples in a part, if the format of the copy does not determine it."""

TEST_NAMES = ("val", "validation", "valid", "test")
"""Names of the folder or files of the test split, preferred first: ImageNet's ``test`` has no labels."""


def test_names(entry: Stored) -> tuple[str, ...]:
    """The names that the test split may have, preferred first."""
    # If there are official test images, a validation split is part of the training images.
    official = entry.classes and entry.test_split == "test"
    return ("test", *TEST_NAMES[:-1]) if official else TEST_NAMES


class Unusable(Exception):
    """A copy cannot be obtained, or is not this data set; the message says why."""


class Example(NamedTuple):
    """``name``: for messages. ``load`` gives the encoded image's bytes, or its pixels as uint8 (H, W, 3)."""

    name: str
    label: int
    load: Callable[[], bytes | np.ndarray]


class Part(NamedTuple):
    """Examples that are read together: the rows from ``start`` on, ``count`` of them, of ``split``.

    ``key`` changes with the names and the content of their files.
    """

    split: str
    start: int
    count: int
    key: str
    read: Callable[[], Iterable[Example]]


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogateescape")).hexdigest()


@dataclass
class Copy:
    """A copy of a data set in some place; its parts are added one after the other.

    ``about``: tells it from other copies. ``classes``: the names, in the order of the labels; empty if
    the copy has none. ``test_from``: the source of its test split, in words; ``held_out``: whether that
    is the training images. ``sizes``: images per split. ``exported``: the content hash that
    ``mlplib data export`` stored in it, if any.
    """

    label: str
    about: tuple[str, ...]
    classes: tuple[str, ...]
    test_from: str
    held_out: bool = False
    parts: list[Part] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=lambda: {"train": 0, "test": 0})
    exported: str = ""

    @property
    def signature(self) -> str:
        """A hash that differs for another copy, or other files in the same place."""
        return _digest(*self.about, *(part.key for part in self.parts))

    def add(self, split: str, count: int, key: str, read: Callable[[], Iterable[Example]]) -> None:
        """Add a part. ``key`` must change with the content of its files."""
        start = self.sizes[split]
        self.parts.append(Part(split, start, count, _digest(split, f"{start} {count}", key), read))
        self.sizes[split] += count

    def add_files(
        self, split: str, label: int, at: str, files: list[tuple[str, str]], load: Callable[[str], bytes]
    ) -> None:
        """Add the files of one class: (name below ``at``, key). ``load`` takes the name with ``at``."""
        for first in range(0, len(files), PART):
            some = files[first : first + PART]
            # One string takes a quarter of the memory of a list of them, and there may be 12 million names.
            joined = "\0".join(name for name, _ in some)
            key = "\0".join((str(label), at, joined, *(key for _, key in some)))
            self.add(split, len(some), key, partial(_named, at, joined, label, load))


def _named(at: str, joined: str, label: int, load: Callable[[str], bytes]) -> Iterator[Example]:
    for name in joined.split("\0"):
        whole = f"{at}/{name}"
        yield Example(whole, label, partial(load, whole))
