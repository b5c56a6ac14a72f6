"""Hugging Face style parquet: a column of image files, a column of labels, shards by split.

Published copies have several forms: ``train-*.parquet`` in some folder, or ``train/0000.parquet`` as on the
branch ``refs/convert/parquet``; labels as numbers, with names in the metadata, or as text.
"""

from __future__ import annotations

import filecmp
import json
import logging
import re
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from ...errors import one_line
from ...files import stamp
from ..catalog import OwnFolder, Stored
from .copies import PART, Copy, Example, Unusable, test_names
from .folders import is_junk, require_clear, require_downloaded

_log = logging.getLogger("mlplib")

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "fine_label", "labels")

MARK = b"mlplib"
"""The metadata key of shards that :mod:`.export` wrote: the data set's name and content hash."""


def shards(at: Path, split: str) -> list[Path]:
    """A split's shards in ``at``, in order, in the first existing form (:func:`_forms`)."""
    return next(_forms(at, split), [])


def _forms(at: Path, split: str) -> Iterator[list[Path]]:
    """A split's shards in each existing form: ``train-*.parquet`` or ``train.parquet``,
    ``train/*.parquet``, and ``train.parquet/*.parquet``, as Spark writes them.
    """
    named = re.compile(rf"{split}([-._0-9].*)?\.parquet", flags=re.ASCII)

    def files(folder: Path) -> list[Path]:
        found = (path for path in folder.glob("*.parquet") if not is_junk(path.name) and not path.is_dir())
        return sorted(found)

    direct = [path for path in files(at) if named.fullmatch(path.name)]
    yield from filter(None, (direct, files(at / split), files(at / f"{split}.parquet")))


def places(at: Path, deep: bool) -> list[Path]:
    """The folders with shards of a training split: ``at``, ``at/data``, or any below it if ``deep``."""
    folders = {at, at / "data"}
    for path in at.rglob("*.parquet") if deep else ():
        if not any(map(is_junk, path.relative_to(at).parts)):
            folders |= {path.parent, path.parent.parent}  # train-0.parquet, or train/0.parquet
    return [folder for folder in sorted(folders) if folder.is_relative_to(at) and shards(folder, "train")]


# --------------------------------------------------------------------------- one shard


class _Shard(NamedTuple):
    """The schema of a shard. ``names``: class names in its metadata, if any; ``groups``: rows per row group;
    ``content``: the content hash of the data set that it was exported from, if any.
    """

    path: Path
    image: str
    label: str
    text_labels: bool
    names: tuple[str, ...]
    groups: tuple[int, ...]
    content: str


def _open(path: Path) -> _Shard:
    """Read a shard's schema and metadata; refuses files that are not parquet with images and labels."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    require_downloaded(path)
    try:
        with pq.ParquetFile(path) as file:
            schema, about = file.schema_arrow, file.metadata
    except pa.ArrowException as error:
        raise Unusable(f"{path.name} cannot be read as parquet ({one_line(error)})") from None
    image, label = (_column(schema.names, known, path) for known in (IMAGE_COLUMNS, LABEL_COLUMNS))
    kind, of = schema.field(image).type, pa.types
    content = kind.field("bytes").type if of.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
    if not of.is_binary(content) and not of.is_large_binary(content):
        raise Unusable(
            f"column {image} of {path.name} has the type {kind}, not the bytes of image files: export it "
            "with the images embedded"
        )
    kind = schema.field(label).type
    kind = kind.value_type if of.is_dictionary(kind) else kind
    text = of.is_string(kind) or of.is_large_string(kind)
    if not text and not of.is_integer(kind):
        raise Unusable(f"column {label} of {path.name} has labels of type {kind}, not integers or text")
    groups = tuple(about.row_group(i).num_rows for i in range(about.num_row_groups))
    metadata = schema.metadata or {}
    content = metadata.get(MARK, b"").decode(errors="replace").rpartition(" ")[2]
    return _Shard(path, image, label, text, _stated_names(metadata, label), groups, content)


def _column(names: list[str], known: tuple[str, ...], path: Path) -> str:
    if found := [name for name in known if name in names]:
        if names.count(found[0]) > 1:
            raise Unusable(f"{path.name} has two columns {found[0]}: keep one")
        return found[0]
    raise Unusable(f"{path.name} has no column {' or '.join(known)}, only {', '.join(names)}")


def _stated_names(metadata: dict, label: str) -> tuple[str, ...]:
    """The class names in Hugging Face's metadata; empty if there are none."""
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][label]
        return tuple(str(name) for name in feature["names"])
    except (KeyError, ValueError, TypeError):
        return ()


def _labels(shard: _Shard) -> list:
    """The distinct labels of a shard, texts or numbers."""
    import pyarrow.parquet as pq

    labels = pq.read_table(shard.path, columns=[shard.label]).column(0).unique().to_pylist()
    return [label for label in labels if label is not None]


def _row_group(shard: _Shard, number: int, to_label: dict | None) -> Iterator[Example]:
    import pyarrow.parquet as pq

    row = 0
    with pq.ParquetFile(shard.path) as file:
        columns = [shard.image, shard.label]
        for batch in file.iter_batches(batch_size=PART, row_groups=[number], columns=columns):
            images, labels = (batch.column(name).to_pylist() for name in columns)
            for image, label in zip(images, labels, strict=True):
                name = f"{shard.path.name}, group {number}, row {row}"
                if isinstance(image, dict):
                    name, image = image.get("path") or name, image["bytes"]
                if label is None:
                    raise Unusable(f"{name} has no label")
                if to_label is not None:
                    label = to_label.get(label, label)
                yield Example(name, label, partial(_content, image))
                row += 1


def _content(content: bytes | None) -> bytes:
    if content is None:
        raise ValueError("its bytes are missing: export it with the images embedded")
    return content


# --------------------------------------------------------------------------- all shards


def copy(entry: Stored, at: Path, test: str) -> Copy:
    """The shards in ``at``, row group by row group, in stored order; ``test`` names the test split.

    Raises:
        Unusable: a shard cannot be read; the class names contradict each other or the catalog.
    """
    splits = {"train": shards(at, "train"), "test": shards(at, test)}
    if not splits["test"]:
        known = " or ".join(f"{name}-*.parquet" for name in test_names(entry))
        raise Unusable(f"no files {known} beside {splits['train'][0].name}")
    for split, name in (("train", "train"), ("test", test)):
        _require_all(splits[split])
        _require_clear(at, name)
    opened = {split: [_open(path) for path in paths] for split, paths in splits.items()}
    everything = [shard for some in opened.values() for shard in some]
    classes = _classes(entry, everything)
    if others := [name for name in test_names(entry) if name != test and shards(at, name)]:
        _log.warning("testing on the files %s-* in %s; %s-* are not used", test, at, others[0])
    made = Copy(f"parquet in {at}", ("parquet", str(at), *classes), classes, f"the files {test}-*")
    if isinstance(entry, OwnFolder):
        require_clear(classes)
        made.exported = _exported(everything)
    for split, some in opened.items():
        for shard in some:
            to_label = _to_label(entry, shard, classes)
            for number, count in enumerate(shard.groups):
                key = f"{shard.path.relative_to(at)}\0{stamp(shard.path)}\0{number}"
                made.add(split, count, key, partial(_row_group, shard, number, to_label))
    return made


def _require_clear(at: Path, split: str) -> None:
    """Refuse files that may or may not belong to a split's shards."""
    used, *others = _forms(at, split)
    deeper = (at / split).rglob("*.parquet") if used[0].parent == at / split else ()
    found = chain(*others, deeper)
    for path in (path for path in found if path not in used and path.is_file()):
        if not any(map(is_junk, path.relative_to(at).parts)):
            one, other = (each.relative_to(at).as_posix() for each in (used[0], path))
            raise Unusable(f"{one} and {other} may both be of the split {split}: put them side by side")
    named = [path.name for path in used if path.parent == at]
    unnumbered = [name for name in named if not re.search(r"\d", name.removesuffix(".parquet"))]
    if unnumbered and len(named) > 1:
        other = next(name for name in named if name != unnumbered[0])
        raise Unusable(f"{unnumbered[0]} and {other} are not numbered as parts of one split: keep one")


def _require_all(paths: list[Path]) -> None:
    """Refuse missing shards, by names such as ``train-00000-of-00002.parquet``, and superfluous ones: a
    repeated download, or two data sets.
    """
    numbers = [re.search(r"-(\d+)-of-(\d+)(-[0-9a-f]+)?\.parquet$", path.name) for path in paths]
    known = [(int(found[1]), int(found[2])) for found in numbers if found]
    counts = {count for _, count in known}
    if len(counts) > 1:
        raise Unusable(f"{paths[0].name} and others are shards of {len(counts)} data sets: keep those of one")
    for count in counts:
        if missing := sorted(set(range(count)) - {number for number, _ in known}):
            raise Unusable(f"of the {count} shards like {paths[0].name}, number {missing[0]} is missing")
        if len(paths) > count:
            names = ", ".join(path.name for path in paths[:3])
            raise Unusable(f"{len(paths)} files ({names}) where their names say {count}: keep one copy")
    by_size: dict[int, Path] = {}
    for path in paths:
        twin = by_size.setdefault(path.stat().st_size, path)
        if twin != path and filecmp.cmp(twin, path, shallow=False):
            raise Unusable(f"{twin.name} and {path.name} have the same content: remove one")


def _exported(everything: list[_Shard]) -> str:
    """The content hash of the data set that the shards were exported from; empty if none is stored."""
    found = {shard.content: shard.path.name for shard in everything}
    if len(found) > 1:
        one, other, *_ = found.values()
        raise Unusable(f"{one} and {other} were not exported from the same images: export them again")
    return next(iter(found), "")


def _classes(entry: Stored, everything: list[_Shard]) -> tuple[str, ...]:
    """The class names in the order of our labels; empty if they are unknown."""
    if entry.classes:
        return entry.classes
    stated = next((shard.names for shard in everything if shard.names), ())
    if entry.known_names:
        return entry.known_names[0] if stated or any(s.text_labels for s in everything) else ()
    if stated:
        return stated
    if len({shard.text_labels for shard in everything}) > 1:
        raise Unusable("some of its files have numbers as labels and others text: write all in one form")
    found = {label for shard in everything for label in _labels(shard)}  # missing labels are reported later
    if everything[0].text_labels:
        return tuple(sorted(found))
    if odd := sorted(found - set(range(len(found)))):
        raise Unusable(f"its labels are not the numbers 0, 1, 2 and so on: one is {odd[0]}")
    return tuple(map(str, range(len(found))))


def _to_label(entry: Stored, shard: _Shard, classes: tuple[str, ...]) -> dict | None:
    """Our label for each label of a shard; ``None`` if they are the same. Refuses ambiguous ones."""
    lists = entry.known_names or ((classes,) if classes else ())
    if shard.text_labels:
        labels = {text: i for names in reversed(lists) for i, text in enumerate(names)}
        if unknown := [label for label in _labels(shard) if label not in labels]:
            raise Unusable(
                f"{shard.path.name} has the label {unknown[0]!r}, which is no class of {entry.name}"
            )
        return labels
    own = isinstance(entry, OwnFolder)
    if own and shard.names and set(shard.names) != set(classes):
        raise Unusable(
            f"{shard.path.name} has the classes {', '.join(shard.names[:3])}, another shard has "
            f"{', '.join(classes[:3])}: they have to be the same"
        )
    if not shard.names or (not own and all(name.isdigit() for name in shard.names)):
        return None
    if own:  # a user's class names may differ only in case or punctuation
        order = [classes.index(name) for name in shard.names]
    else:
        order = min((_order(shard.names, names) for names in lists), key=lambda order: order.count(None))
    known = [i for i in order if i is not None]
    if not known and entry.pins is None and entry.resized:
        raise Unusable(
            f"{shard.path.name} names its classes {', '.join(shard.names[:3])} and so on, which are not "
            f"those of {entry.title}"
        )
    if all(found in (None, i) for i, found in enumerate(order)):
        return None  # in order; where spellings differ or names say nothing, the content decides
    if len(set(known)) != len(order):
        unclear = [name for name, i in zip(shard.names, order, strict=True) if i is None]
        raise Unusable(
            f"{shard.path.name} numbers its classes in another order, with names that are not clear: "
            f"{unclear[0] if unclear else 'some names occur twice'}"
        )
    _log.warning("%s numbers its classes in another order: its labels are renumbered", shard.path)
    return dict(enumerate(known))


def _normalized(name: str) -> str:
    """A class name for comparison, without case, separators and further synonyms."""
    return re.sub(r"[\W_]+", " ", name.split(",")[0]).strip().lower()


def _order(stated: tuple[str, ...], names: tuple[str, ...]) -> list[int | None]:
    """The position in ``names`` of every stated name; ``None`` for names that are not in it."""
    ours = [_normalized(name) for name in names]
    position = {name: i for i, name in reversed(list(enumerate(ours)))}
    order = []
    for i, name in enumerate(map(_normalized, stated)):
        # Two classes of ImageNet share a name, so the same position in both lists is preferred.
        order.append(i if i < len(ours) and ours[i] == name else position.get(name))
    return order
