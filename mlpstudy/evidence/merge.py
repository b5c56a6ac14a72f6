"""``mlplib results merge``: what a campaign brought home joins the published records; and what published
records have to be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlplib.data.catalog import content_hash
from mlplib.errors import MlplibError, require_choice
from mlplib.files import storage_errors
from mlplib.planning import with_upstream
from mlplib.specs import RunSpec
from mlplib.store import RESULTS, Record

from ..campaign import parcel
from ..campaign.parcel import Item
from ..experiments import EXPERIMENTS, experiment
from ..profiles import PROFILES, profile
from .published import files_of, read_records, results_folder, seed_of
from .publishing import all_records, write_artifacts, write_records

PREFERENCES = ("published", "new")
"""Which of two records of one run to keep if they differ."""


@dataclass(frozen=True)
class Merged:
    """What came of a merge: runs that are ``new``, ``known`` already, or of ``other`` studies: no experiment
    of the profile has them.
    """

    profile: str
    new: int
    known: int
    other: tuple[str, ...]


def merge(folder: Path, results: Path | None = None, prefer: str | None = None) -> Merged:
    """Bring the records of a parcel to the published ones.

    A run that is there already is kept once. Nothing is written unless everything can be.

    Args:
        folder: what a campaign wrote.
        prefer: which record to keep of a run whose two records differ, ``published`` or ``new``.

    Raises:
        MlplibError: no parcel, or a damaged one; a record made from other data or by another version; two
            records of a run that differ, without ``prefer``; the results cannot be written to.
    """
    if prefer is not None:
        require_choice("preference", prefer, PREFERENCES)
    name, items = parcel.read(folder)
    root = results_folder(results) / profile(name).name
    before = all_records(root)
    check_ids([*before.values(), *(item.record for item in items)])
    kept = {record.spec: record for record in before.values()}
    known = 0
    for new in (item.record for item in items):
        there = kept.setdefault(new.spec, new)
        known += there is not new
        if not there.same_results(new):
            if prefer is None:
                raise MlplibError(_conflict(there, new))
            kept[new.spec] = new if prefer == "new" else there
    used = _write(root, name, kept, items)
    other = tuple(item.record.id for item in items if item.record.spec not in used)
    return Merged(name, len(items) - known - len(other), known, other)


def _conflict(published: Record, new: Record) -> str:
    what = f"{new.id} is published as {published.id}"
    if published.id == new.id:
        part = next(key for key in RESULTS if getattr(published, key) != getattr(new, key))
        what = f"{new.id} is published with other {part}{_first_difference(published, new, part)}"
    return f"{what}: say which to keep, --prefer published or --prefer new; nothing was merged"


def _first_difference(published: Record, new: Record, part: str) -> str:
    before, after = getattr(published, part), getattr(new, part)
    if not isinstance(before, Mapping):
        return f" ({before} there, {after} here)"
    key = next(key for key in [*before, *after] if before.get(key) != after.get(key))
    values = [found.get(key) for found in (before, after)]
    plain = all(isinstance(value, int | float | str | None) for value in values)
    return f" ({key}: {values[0]} there, {values[1]} here)" if plain else f" ({key})"


def _write(root: Path, name: str, kept: Mapping[RunSpec, Record], items: Iterable[Item]) -> set[RunSpec]:
    """Write every experiment's files anew, in the order of its runs; the runs that are in one of them."""
    places, known = _places(root, name, kept)
    # Published records of runs that no experiment has any longer stay: only publishing anew drops them.
    old = {path: [record for record in _existing(path) if record.spec not in known] for path in places}
    used = {spec for specs in places.values() for spec in specs}
    with storage_errors(root, "MLPLIB_RESULTS"):
        root.mkdir(parents=True, exist_ok=True)
        for item in items:
            if item.record.spec in used:
                write_artifacts(root, item.record.id, item.artifacts)
        for path, specs in places.items():
            write_records(path, [*(kept[spec] for spec in specs), *old[path]])
    return used


def _places(
    root: Path, name: str, kept: Mapping[RunSpec, Record]
) -> tuple[dict[Path, list[RunSpec]], set[RunSpec]]:
    """Every file to the runs that belong there: an experiment's own; beside them those that they were made
    from, and those from which none has been made yet and that no file before has. And every run that an
    experiment has, with a record or not.
    """
    seeds = sorted({*map(seed_of, kept), *profile(name).seeds} - {None})
    ids: dict[RunSpec, str] = {}
    places: dict[Path, list[RunSpec]] = {}
    upstream: dict[Path, list[RunSpec]] = {}
    known: set[RunSpec] = set()
    for each in EXPERIMENTS:
        specs = dict.fromkeys(experiment(each).runs(profile(name), seeds))
        every = with_upstream(specs, ids).values()
        known.update(every)
        own_file, upstream_file = files_of(root, each)
        places[own_file] = [spec for spec in specs if spec in kept]
        read = set(with_upstream(places[own_file], ids).values())
        upstream[upstream_file] = [spec for spec in every if spec in kept and spec not in specs]
        places[upstream_file] = [spec for spec in upstream[upstream_file] if spec in read]
    placed = {spec for specs in places.values() for spec in specs}
    for path, specs in upstream.items():
        here = {*places[path], *(spec for spec in specs if spec not in placed)}
        places[path] = [spec for spec in specs if spec in here]
        placed |= here
    return places, known


def _existing(path: Path) -> list[Record]:
    return read_records(path) if path.is_file() else []


# --------------------------------------------------------------------------- what records have to be


def check_ids(records: Iterable[Record]) -> None:
    """Refuse a record whose id is not that of its settings on the data that it names.

    Raises:
        MlplibError: made from another copy of the data than the others, or by another version.
    """
    records = list(records)
    contents: dict[str, str] = {}
    for record in records:
        if "content_hash" in record.data:
            contents.setdefault(record.data["name"], record.data["content_hash"])
    for record in records:
        seen = {name: contents.get(name) or content_hash(name) for name in record.spec.data_names()}
        if "content_hash" in record.data:
            seen[record.data["name"]] = record.data["content_hash"]
        if record.id != record.spec.id_on(seen):
            raise MlplibError(
                f"the id of {record.id} is not that of its settings and data: it was made from another copy "
                "of the data, or by another version of mlplib; run it again"
            )


_PATH = re.compile(r"(?<![\w.:/])(?:/(?:home|root|tmp|work|mnt|Users|workspace|scratch)\b|[A-Z]:\\)")
"""A folder of a machine, which a reader can do nothing with."""


def check(results: Path | None = None) -> int:
    """Hold everything published against what records have to be; gives how many lines there are.

    Each line is a record under its right id, keys sorted; no run twice in a file; an experiment's runs in its
    order; no machine's folders; no pictures without a record.

    Raises:
        MlplibError: the first line that is not so.
    """
    lines = 0
    for name in PROFILES:
        root = results_folder(results) / name
        if root.is_dir():
            check_ids(all_records(root).values())
            lines += sum(_check_file(path) for path in sorted(root.glob("*.jsonl")))
            _check_order(root, name)
            _check_artifacts(root)
    return lines


def _check_file(path: Path) -> int:
    records, texts = read_records(path), path.read_text(encoding="utf-8").splitlines()
    seen: set[str] = set()
    for number, (record, text) in enumerate(zip(records, texts, strict=True), start=1):
        where = f"{path.parent.name}/{path.name}, line {number}"
        if text != json.dumps(record.to_json(), sort_keys=True, allow_nan=False):
            raise MlplibError(f"{where}, is not as mlplib writes it: publish it again")
        if record.id in seen:
            raise MlplibError(f"{where}: {record.id} is there twice: delete one line")
        if found := _PATH.search(text):
            raise MlplibError(f"{where}, names a folder of a machine ({found.group()}...): publish it again")
        seen.add(record.id)
    return len(records)


def _check_order(root: Path, name: str) -> None:
    known = (record.spec for record in all_records(root).values())
    seeds = sorted({*map(seed_of, known), *profile(name).seeds} - {None})
    for each in EXPERIMENTS:
        own, _ = files_of(root, each)
        places = {spec: i for i, spec in enumerate(experiment(each).runs(profile(name), seeds))}
        found = [places[r.spec] for r in _existing(own) if r.spec in places]
        if found != sorted(found):
            raise MlplibError(f"{name}/{own.name} is not in the order of the experiment: publish it again")


def _check_artifacts(root: Path) -> None:
    known = all_records(root)
    for path in sorted((root / "artifacts").glob("*")):
        if path.name not in known:
            raise MlplibError(f"{root.name}/artifacts/{path.name} belongs to no published run: delete it")
