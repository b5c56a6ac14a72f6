"""Writing the study's published records: what :mod:`mlpstudy.evidence.published` reads."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mlplib import planning
from mlplib.errors import MlplibError
from mlplib.executor import MOSAIC
from mlplib.files import replacing, storage_errors
from mlplib.specs import RunSpec
from mlplib.store import Record, RunStore, by_id, run_id

from ..experiments import EXPERIMENTS, experiment
from ..profiles import profile
from .published import files_of, read_records, results_folder

ARTIFACTS = (MOSAIC,)
"""Small files of a run that are published beside its record."""


def publish(
    name: str,
    profile_name: str,
    seeds: Sequence[int],
    store: RunStore,
    folder: str | os.PathLike | None = None,
) -> Path:
    """Write the finished records of an experiment's runs to the results folder, in the order of its runs,
    and beside them those of the runs that they read from. What is there already is left as it is, and a run
    that was published before, for whichever experiment, need not be in the store.

    Gives the path of the experiment's own records.

    Raises:
        MlplibError: a run is not finished in ``store``, or the folder cannot be written to.
    """
    specs = by_id(experiment(name).runs(profile(profile_name), seeds))
    root = results_folder(folder) / profile_name
    published_before = all_records(root)

    def find(spec: RunSpec) -> Record | None:
        return store.find(spec) or published_before.get(run_id(spec))

    records = [find(spec) for spec in specs.values()]
    missing = [id for id, record in zip(specs, records, strict=True) if record is None]
    if missing:
        raise MlplibError(
            f"{len(missing)} of {len(specs)} runs of {name} are not finished, {missing[0]} for one: "
            f"do them first with mlplib run {name} --profile {profile_name}"
        )
    needed = {id: spec for id, spec in planning.with_upstream(specs.values()).items() if id not in specs}
    upstream = [find(spec) for spec in needed.values()]
    lost = [id for id, record in zip(needed, upstream, strict=True) if record is None]
    if lost:
        raise MlplibError(
            f"{lost[0]}, which published runs were made from, is neither in {store.root} nor published: "
            "put its folder back, or delete the folders of the runs made from it and run them again"
        )
    own_file, upstream_file = files_of(root, name)
    before = _ids(own_file) | _ids(upstream_file)
    with storage_errors(root, "MLPLIB_RESULTS"):
        root.mkdir(parents=True, exist_ok=True)
        for record in records:
            write_artifacts(root, record.id, artifacts(store, record.id))
        # Last, so that records never appear without their pictures and without what they were made from.
        write_records(upstream_file, upstream)
        write_records(own_file, records)
        _drop_artifacts(root, before)
    return own_file


def artifacts(store: RunStore, id: str) -> dict[str, bytes]:
    """The small files that a run left in a store, by name."""
    paths = (store.folder(id) / name for name in ARTIFACTS)
    return {path.name: path.read_bytes() for path in paths if path.exists()}


def write_artifacts(root: Path, id: str, found: Mapping[str, bytes]) -> None:
    """Put a run's small files into a profile's folder."""
    for name, content in found.items():
        _write(root / "artifacts" / id / name, content)


def all_records(root: Path) -> dict[str, Record]:
    """Everything that is published at a profile, by id."""
    paths = (path for name in EXPERIMENTS for path in files_of(root, name) if path.is_file())
    return {record.id: record for path in paths for record in read_records(path)}


def write_records(path: Path, records: Sequence[Record]) -> None:
    """One line a record; no file where there is no record."""
    if records:
        lines = [json.dumps(record.to_json(), sort_keys=True, allow_nan=False) for record in records]
        _write(path, ("\n".join(lines) + "\n").encode())
    else:
        path.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    """The file with this content, untouched if it has it already."""
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _ids(path: Path) -> set[str]:
    """The ids in a published file, as far as its lines can be read: it is about to be replaced."""
    if not path.is_file():
        return set()
    found = set()
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError, TypeError, KeyError):
            found.add(json.loads(line)["id"])
    return found


def _drop_artifacts(root: Path, before: set[str]) -> None:
    """Delete the pictures of runs that were published before and that no file of the profile names now."""
    kept = set().union(*(_ids(path) for path in root.glob("*.jsonl")))
    for id in before - kept:
        shutil.rmtree(root / "artifacts" / Path(id).name, ignore_errors=True)
