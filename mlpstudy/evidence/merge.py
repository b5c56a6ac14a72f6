"""Adding records to a folder of published records: from a run store (``mlplib results publish``) or from
another such folder (``mlplib results merge``).

Nothing is written unless everything can be. Artifacts are written first and each file is replaced as a whole,
so an interrupted command leaves valid files, and the same command completes them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mlplib.errors import MlplibError, require_choice
from mlplib.files import locked, replacing, storage_errors
from mlplib.planning import with_upstream
from mlplib.progress import quiet
from mlplib.specs import RunSpec
from mlplib.store import RESULTS, Record, RunStore, by_id

from ..experiments import EXPERIMENTS, experiment
from ..profiles import PROFILES, profile
from .check import check_complete, check_ids
from .records import (
    ARTIFACTS,
    HASHES,
    RUNS,
    ProfileFolder,
    all_seeds,
    read_folder,
    record_files,
    results_folder,
    sha256,
    to_line,
)

PREFERENCES = ("published", "new")
"""Which of two different records of a run to keep."""


@dataclass(frozen=True)
class Merged:
    """What was added to a profile's file of records, ``path``.

    ``new``, ``known``: how many runs were not there, and how many were; ``old_files``: how many files of the
    old layout were replaced; ``other``: ids of runs that were left out because no experiment of the profile
    has them.
    """

    path: Path
    new: int
    known: int
    old_files: int
    other: tuple[str, ...] = ()

    @property
    def profile(self) -> str:
        """The name of the profile."""
        return self.path.parent.name


# --------------------------------------------------------------------------- from a run store


def publish(
    name: str, profile_name: str, seeds: Sequence[int], store: RunStore, folder: Path | None = None
) -> Merged:
    """Publish all runs of an experiment, and the runs that they were made from.

    A run that was published before need not be in the store. The store's record replaces a published one.

    Raises:
        MlplibError: a run is not finished in ``store``, or the folder cannot be written to.
    """
    specs = by_id(experiment(name).runs(profile(profile_name), seeds))
    before = read_folder(results_folder(folder) / profile_name).records
    missing = [id for id, spec in specs.items() if store.find(spec) is None and id not in before]
    if missing:
        raise MlplibError(
            f"{len(missing)} of {len(specs)} runs of {name} are not finished, {missing[0]} for one: "
            f"do them first with mlplib run {name} --profile {profile_name}"
        )
    return _publish(specs.values(), profile_name, store, results_folder(folder), before)


def publish_finished(
    names: Iterable[str], profile_name: str, seeds: Sequence[int] | None, store: RunStore, folder: Path
) -> Merged:
    """Publish those runs of some experiments that are finished in ``store``, and the runs that they were made
    from. ``seeds``: None for every seed in the store.

    Raises:
        MlplibError: no run is finished, or the folder cannot be written to.
    """
    chosen = profile(profile_name)
    seeds = all_seeds(chosen, (record.spec for record in store.records())) if seeds is None else seeds
    specs = [spec for name in names for spec in experiment(name).runs(chosen, seeds)]
    finished = [spec for spec in with_upstream(specs).values() if store.find(spec) is not None]
    if not finished:
        raise MlplibError(f"no run of profile {profile_name} is finished in {store.root}")
    results = results_folder(folder)
    return _publish(finished, profile_name, store, results, read_folder(results / profile_name).records)


def _publish(
    specs: Iterable[RunSpec],
    profile_name: str,
    store: RunStore,
    results: Path,
    before: Mapping[str, Record],
) -> Merged:
    records, artifacts = {}, {}
    for id, spec in with_upstream(specs).items():
        record = store.find(spec) or before.get(id)
        if record is None:
            raise MlplibError(
                f"{id}, which published runs were made from, is neither in {store.root} nor published: put "
                "its folder back, or delete the folders of the runs made from it and run them again"
            )
        records[id] = record
        paths = (store.folder(id) / name for name in ARTIFACTS)
        artifacts |= {f"{id}/{path.name}": path.read_bytes() for path in paths if path.exists()}
    return _add({profile_name: ProfileFolder(records, artifacts, {})}, results, "new")[0]


# --------------------------------------------------------------------------- from another folder


def merge(folder: Path, results: Path | None = None, prefer: str | None = None) -> list[Merged]:
    """Add the records of a folder that ``mlplib results publish --to`` wrote; one result per profile.

    A run that is published already is kept once. With the folder of results itself as ``folder``, files of
    the old layout are replaced by ``runs.jsonl``.

    Args:
        prefer: which record of a run to keep if the two differ, ``published`` or ``new``.

    Raises:
        MlplibError: there are no records, or a file is damaged; a record was made from other data or by
            another version; two records of a run differ and ``prefer`` is None; the results cannot be
            written to.
    """
    if prefer is not None:
        require_choice("preference", prefer, PREFERENCES)
    found, other = {}, {}
    for name in PROFILES:
        new = read_folder(Path(folder) / name)
        if new.records or new.hashes:
            check_complete(Path(folder) / name, new)
            published = read_folder(results_folder(results) / name).records.values()
            check_ids([*published, *new.records.values()])
            wanted = {record.spec for record in published} | _specs(name, [*published, *new.records.values()])
            records = {id: record for id, record in new.records.items() if record.spec in wanted}
            found[name] = replace(new, records=records)
            other[name] = tuple(id for id in new.records if id not in records)
    if not found:
        raise MlplibError(
            f"no <profile>/{RUNS} in {folder}: name a folder that mlplib results publish --to has written"
        )
    merged = _add(found, results_folder(results), prefer)
    return [replace(each, other=other[each.profile]) for each in merged]


def _specs(name: str, records: Iterable[Record]) -> set[RunSpec]:
    """All runs of all experiments at a profile, and the runs that they are made from."""
    seeds = all_seeds(profile(name), (record.spec for record in records))
    found, todo = (
        set(),
        [spec for each in EXPERIMENTS for spec in experiment(each).runs(profile(name), seeds)],
    )
    while todo:
        spec = todo.pop()
        if spec not in found:
            found.add(spec)
            todo += spec.needs()
    return found


# --------------------------------------------------------------------------- adding


def _add(found: Mapping[str, ProfileFolder], results: Path, prefer: str | None) -> list[Merged]:
    """Add what there is of each profile to a folder of results."""
    for name, new in found.items():  # refuse before anything is written, the lock file included
        _combine(read_folder(results / name), new, prefer)
    merged = []
    with storage_errors(results, "MLPLIB_RESULTS"), locked(results / ".lock", quiet, "publishes records"):
        for name, new in found.items():
            root, before = results / name, read_folder(results / name)
            records, artifacts = _combine(before, new, prefer)
            old_files = [path for path in record_files(root) if path.name != RUNS]
            _write_folder(root, records, artifacts)
            for path in old_files:
                path.unlink()
            for id in before.records.keys() - records.keys():
                shutil.rmtree(root / "artifacts" / id, ignore_errors=True)
            added = len(records) - len(before.records)
            merged.append(Merged(root / RUNS, added, len(new.records) - added, len(old_files)))
    return merged


def _combine(
    before: ProfileFolder, new: ProfileFolder, prefer: str | None
) -> tuple[dict[str, Record], dict[str, bytes]]:
    """The records of two folders by run id, each run once, and their artifacts.

    A record of the same results is no contradiction: the published one stays, whenever and wherever the
    other was made.
    """
    kept = {record.spec: record for record in before.records.values()}
    artifacts = dict(before.artifacts)
    for record in new.records.values():
        there = kept.setdefault(record.spec, record)
        files = {key: new.artifacts[key] for key in _keys(record) if key in new.artifacts}
        difference = _difference(there, record) or next(
            (f"{record.id} is published with another {key.partition('/')[2]}"
             for key, content in files.items() if artifacts.get(key, content) != content), None
        )  # fmt: skip
        if difference and prefer is None:
            raise MlplibError(
                f"{difference}: say which to keep, --prefer published or --prefer new; nothing was merged"
            )
        if prefer == "new":
            kept[record.spec] = record
            artifacts |= files
        elif not difference:
            artifacts |= files
    records = {record.id: record for record in sorted(kept.values(), key=lambda each: each.id)}
    return records, {key: artifacts[key] for id in records for key in _keys(records[id]) if key in artifacts}


def _keys(record: Record) -> list[str]:
    return [f"{record.id}/{name}" for name in ARTIFACTS]


def _difference(published: Record, new: Record) -> str | None:
    """How two records of a run contradict each other, None if they do not."""
    if published.id != new.id:
        return f"{new.id} is published as {published.id}"
    for part in RESULTS:
        before, after = getattr(published, part), getattr(new, part)
        if before != after:
            return f"{new.id} is published with other {part}{_first_difference(before, after)}"
    return None


def _first_difference(before: object, after: object) -> str:
    if not isinstance(before, Mapping):
        return f" ({before} there, {after} here)"
    key = next(key for key in [*before, *after] if before.get(key) != after.get(key))
    values = [found.get(key) for found in (before, after)]
    plain = all(isinstance(value, int | float | str | None) for value in values)
    return f" ({key}: {values[0]} there, {values[1]} here)" if plain else f" ({key})"


def _write_folder(root: Path, records: Mapping[str, Record], artifacts: Mapping[str, bytes]) -> None:
    """Replace the files of a profile's folder whose content changes."""
    contents = {id: to_line(record) for id, record in records.items()}
    lines = b"".join(line + b"\n" for line in contents.values())
    hashes = {key: sha256(content) for key, content in {**contents, **artifacts}.items()}
    files = {root / "artifacts" / key: content for key, content in artifacts.items()}
    files[root / RUNS] = lines  # after the artifacts, so that a record never appears without them
    files[root / HASHES] = "".join(f"{hashes[key]}  {key}\n" for key in sorted(hashes)).encode()
    changed = {
        path: content
        for path, content in files.items()
        if not (path.is_file() and path.read_bytes() == content)
    }
    if changed:
        root.mkdir(parents=True, exist_ok=True)
        # An interruption must not leave new files with old hashes. Where there are none, they are added.
        (root / HASHES).unlink(missing_ok=True)
        changed[root / HASHES] = files[root / HASHES]
    for path, content in changed.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(content)
