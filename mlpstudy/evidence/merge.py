"""Adding records to a folder of published records: from a run store (``mlplib results publish``) or from
another such folder (``mlplib results merge``).

Nothing is written unless everything can be. Artifacts are written first and each file is replaced as a whole,
so an interrupted command leaves valid files, and the same command completes them.
"""

from __future__ import annotations

import io
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mlplib.errors import MlplibError, require_choice
from mlplib.files import clear_leftovers, locked, replacing, storage_errors
from mlplib.progress import quiet
from mlplib.specs import FilterSpec, RunSpec
from mlplib.store import MOSAIC, Record, RunStore, by_id

from ..experiments import experiment
from ..planning import upstream_first, with_upstream
from ..profiles import PROFILES, profile
from .check import check_complete, check_ids, specs_of
from .records import ARTIFACTS, HASHES, RUNS, ProfileFolder, all_seeds, read_folder, results_folder


@dataclass(frozen=True)
class Merged:
    """What was added to a profile's file of records, ``path``.

    ``new``, ``known``: how many runs were not there, and how many were; ``replaced``: how many of these had
    other results; ``orphans``: ids of new runs that were left out because they were made from a run whose
    published record was preferred; ``stale``: ids of published runs that were made from a replaced record and
    have not been replaced themselves; ``other``: ids of runs that were left out because no experiment of the
    profile has them.
    """

    path: Path
    new: int
    known: int
    replaced: int
    orphans: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    other: tuple[str, ...] = ()


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
    before = read_folder(results_folder(folder, new=True) / profile_name).records
    missing = [id for id, spec in specs.items() if store.find(spec) is None and id not in before]
    if missing:
        there = "" if store.root == RunStore().root else f" --runs {shlex.quote(str(store.root))}"
        raise MlplibError(
            f"{len(missing)} of {len(specs)} runs of {name} are not finished, {missing[0]} for one: "
            f"do them first with mlplib run {name} --profile {profile_name} "
            f"--seeds {','.join(map(str, seeds))}{there}"
        )
    return _publish(specs.values(), profile_name, store, folder)


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
    finished = [spec for spec in upstream_first(specs) if store.find(spec) is not None]
    if not finished:
        raise MlplibError(
            f"no run of profile {profile_name} is finished in {store.root}: name another folder with --runs, "
            f"or do some first with mlplib run --profile {profile_name}"
        )
    return _publish(finished, profile_name, store, folder)


def _publish(specs: Iterable[RunSpec], profile_name: str, store: RunStore, folder: Path | None) -> Merged:
    results = results_folder(folder, new=True)
    before = read_folder(results / profile_name).records
    records, artifacts = {}, {}
    for id, spec in with_upstream(specs).items():
        found = store.find(spec)
        record = found or before.get(id)
        if record is None:
            raise MlplibError(
                f"{id}, which published runs were made from, is neither in {store.root} nor published: put "
                "its folder back, or delete the folders of the runs made from it and run them again"
            )
        records[id] = record
        if isinstance(spec, FilterSpec) and found and found.status == "completed":
            artifacts[f"{id}/{MOSAIC}"] = _picture(store.folder(id) / MOSAIC)
    return _add({profile_name: ProfileFolder(records, artifacts)}, results, "new")[0]


def _picture(path: Path) -> bytes:
    """The picture of first-layer filters that a run has made.

    Raises:
        MlplibError: it is missing, damaged, or a link to something else.
    """
    import numpy as np

    content = b"" if path.is_symlink() or not path.is_file() else path.read_bytes()
    try:
        picture = np.load(io.BytesIO(content), allow_pickle=False)
        if (picture.dtype, picture.ndim) == (np.uint8, 3):
            return content
    except (ValueError, EOFError, OSError):
        pass
    raise MlplibError(
        f"{path} is missing or damaged: delete its folder {path.parent.name} and run the experiment again"
    )


# --------------------------------------------------------------------------- from another folder


def merge(folder: Path, results: Path | None = None, prefer: str | None = None) -> list[Merged]:
    """Add the records of a folder that ``mlplib results publish --to`` wrote; one result per profile.

    A run that is published already is kept once.

    Args:
        prefer: which record of a run to keep if the two differ, ``published`` or ``new``.

    Raises:
        MlplibError: there are no records, or a file is damaged; a record was made from other data or by
            another version; two records of a run differ and ``prefer`` is None; the results cannot be
            written to.
    """
    if prefer is not None:
        require_choice("preference", prefer, ("published", "new"))
    found, other = {}, []
    for name in PROFILES:
        new = read_folder(Path(folder) / name)
        if new.records or new.hashes:
            check_complete(Path(folder) / name, new)
            published = read_folder(results_folder(results, new=True) / name).records.values()
            everything = [*published, *new.records.values()]
            check_ids(everything)
            wanted = {record.spec for record in published} | specs_of(name, everything)
            records = {id: record for id, record in new.records.items() if record.spec in wanted}
            found[name] = replace(new, records=records)
            other.append(tuple(id for id in new.records if id not in records))
    if not found:
        raise MlplibError(
            f"no <profile>/{RUNS} in {folder}: name a folder that mlplib results publish --to has written"
        )
    merged = _add(found, results_folder(results, new=True), prefer)
    return [replace(each, other=ids) for each, ids in zip(merged, other, strict=True)]


# --------------------------------------------------------------------------- adding


def _add(found: Mapping[str, ProfileFolder], results: Path, prefer: str | None) -> list[Merged]:
    """Add what there is of each profile to a folder of results."""
    for name, new in found.items():  # refuse before anything is written, the lock file included
        _combine(read_folder(results / name), new, prefer)
    if not any(new.records for new in found.values()):
        return [Merged(results / name / RUNS, 0, 0, 0) for name in found]
    merged = []
    with (
        storage_errors(results, "--to, --results or MLPLIB_RESULTS"),
        locked(results / ".lock", quiet, "publishes records"),
    ):
        for name, new in found.items():
            root, before = results / name, read_folder(results / name)
            combined = _combine(before, new, prefer)
            _write_folder(root, combined)
            for id in before.records.keys() - combined.records.keys():
                shutil.rmtree(root / "artifacts" / id, ignore_errors=True)
            added = len(combined.records) - len(before.records)
            now = {record.spec: record for record in combined.records.values()}
            replaced = {each.spec for each in before.records.values() if each.difference(now[each.spec])}
            orphans = tuple(id for id, record in new.records.items() if record.spec not in now)
            sent = {record.spec for record in new.records.values()}
            stale = tuple(
                each.id
                for each in combined.records.values()
                if each.spec not in sent and not replaced.isdisjoint(upstream_first(each.spec.needs()))
            )
            known = len(new.records) - len(orphans) - added
            merged.append(Merged(root / RUNS, added, known, len(replaced), orphans, stale))
    return merged


def _combine(before: ProfileFolder, new: ProfileFolder, prefer: str | None) -> ProfileFolder:
    """The records of two folders, each run once, and their artifacts.

    Records with the same results do not conflict: the published one stays, whenever and wherever the other
    was made. If a published one with other results stays, new records of runs that read from it are left out:
    they were made from the other.
    """
    kept = {record.spec: record for record in before.records.values()}
    artifacts, lost = dict(before.artifacts), set()
    by_spec = {record.spec: record for record in new.records.values()}
    for record in (by_spec[spec] for spec in upstream_first(by_spec) if spec in by_spec):
        if record.spec not in kept and not lost.isdisjoint(record.spec.needs()):
            lost.add(record.spec)
            continue
        files = {f"{record.id}/{name}": new.artifacts.get(f"{record.id}/{name}") for name in ARTIFACTS}
        files = {key: content for key, content in files.items() if content is not None}
        difference = _difference(kept.setdefault(record.spec, record), record, files, artifacts)
        if difference and prefer is None:
            raise MlplibError(
                f"{record.id} is published {difference}: say which to keep, --prefer published or --prefer "
                "new; nothing was merged"
            )
        if prefer == "new":
            kept[record.spec] = record
        elif difference:
            lost.add(record.spec)
        if prefer == "new" or not difference:
            artifacts |= files
    return ProfileFolder({record.id: record for record in kept.values()}, artifacts)


def _difference(
    published: Record, new: Record, files: Mapping[str, bytes], artifacts: Mapping[str, bytes]
) -> str | None:
    """How a new record or its ``files`` contradict the published ones, None if they do not."""
    if published.id != new.id:
        return f"as {published.id}"
    if difference := published.difference(new):
        return f"with other {difference}"
    changed = [key for key, content in files.items() if artifacts.get(key, content) != content]
    return f"with another {changed[0].partition('/')[2]}" if changed else None


def _write_folder(root: Path, found: ProfileFolder) -> None:
    """Replace the files of a profile's folder whose content changes. Needs the lock of all profiles."""
    files = {root / name: content for name, content in found.files().items()}
    for folder in {path.parent for path in files}:
        clear_leftovers(folder)
    changed = {
        path: content
        for path, content in files.items()
        if not (path.is_file() and path.read_bytes() == content)
    }
    if changed:
        # An interruption must not leave new files with old hashes. If there are none, the next publish or
        # merge adds them.
        (root / HASHES).unlink(missing_ok=True)
        changed[root / HASHES] = files[root / HASHES]
    for path, content in changed.items():
        with replacing(path) as temporary:
            temporary.write_bytes(content)
