"""``mlplib results check``: whether published records are what mlplib wrote, complete and unchanged."""

from __future__ import annotations

import functools
import re
import subprocess
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path

from mlplib.data.catalog import content_hash
from mlplib.errors import MlplibError, require_choice
from mlplib.machine import source_digest
from mlplib.specs import RunSpec
from mlplib.store import RUN_ID, Record

from ..experiments import EXPERIMENTS, experiment
from ..planning import upstream_first
from ..profiles import PROFILES
from . import rerun
from .records import ARTIFACTS, HASHES, RESTORE, RUNS, ProfileFolder, all_seeds, read_folder, results_folder

_PATH = re.compile(r"(?<![\w.:/])(?:/(?:home|root|tmp|work|mnt|Users|workspace|scratch)\b|[A-Z]:\\)")
"""A folder of one machine, which means nothing to a reader."""


def check(results: Path | None = None) -> tuple[int, int, int]:
    """Check everything published; the numbers of records, of artifacts, and of records that are
    :func:`traced` to a commit.

    Raises:
        MlplibError: the first fault: no records; a record that is not valid (:meth:`Record.from_json`), not
            under its own id, changed, missing, no run of its profile, not where and as mlplib writes it, or
            that names a folder of a machine; a damaged line of repeated runs; an artifact that is changed,
            missing or belongs to no record.
    """
    root = results_folder(results)
    parts = (path for pattern in (RUNS, HASHES, "artifacts") for path in root.glob(f"*/{pattern}"))
    folders = [_check_profile(folder) for folder in sorted({path.parent for path in parts})]
    rerun.read(root)
    records = [record for folder in folders for record in folder.records.values()]
    if not records:
        raise MlplibError(f"no published records in {root}: name their folder with --results")
    return len(records), sum(len(folder.artifacts) for folder in folders), sum(map(traced, records))


def _check_profile(root: Path) -> ProfileFolder:
    require_choice("profile", root.name, PROFILES)
    found = read_folder(root)
    check_ids(found.records.values())
    check_complete(root, found)
    known = specs_of(root.name, found.records.values())
    for record in found.records.values():
        if record.spec not in known:
            where = f"{root.name}/{RUNS} has {record.id}"
            raise MlplibError(f"{where}, which is no run of profile {root.name}: {RESTORE}")
    for key in found.artifacts:
        if key.partition("/")[0] not in found.records:
            raise MlplibError(f"{root.name}/artifacts/{key} belongs to no published run: delete it")
    files = found.files()
    for name in (RUNS, HASHES):
        lines = (root / name).read_bytes().splitlines() if (root / name).exists() else []
        pairs = zip_longest(lines, files[name].splitlines())
        for number, (line, right) in enumerate(pairs, start=1):
            where = f"{root.name}/{name}, line {number}"
            if line != right:
                raise MlplibError(f"{where}, is not as mlplib writes it: {RESTORE}")
            if path := _PATH.search(line.decode()):
                raise MlplibError(
                    f"{where}, names a folder of a machine ({path.group()}...): publish it again"
                )
    return found


def specs_of(name: str, records: Iterable[Record]) -> set[RunSpec]:
    """All runs of all experiments at a profile, for its seeds and those of some records, and the runs that
    they are made from.
    """
    seeds = all_seeds(PROFILES[name], (record.spec for record in records))
    own = (spec for each in EXPERIMENTS for spec in experiment(each).runs(PROFILES[name], seeds))
    return set(upstream_first(own))


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


def traced(record: Record) -> bool:
    """Whether the commit that a record names is known here and has the source that the record was made by.

    Raises:
        MlplibError: it claims a commit without changes whose source is another one.
    """
    commit, source, dirty = (record.environment.get(key) for key in ("commit", "source", "dirty"))
    expected = _source_at(commit) if commit and source else None
    if expected not in (None, source) and dirty is False:
        raise MlplibError(f"{record.id} was not made by the source of commit {commit[:10]}, which it names")
    return expected == source and source is not None


@functools.lru_cache
def _source_at(commit: str) -> str | None:
    """The hash of the library at a commit (:func:`mlplib.machine.source_digest`), None if unknown."""
    command = ["git", "-C", str(Path(__file__).parents[2]), "ls-tree", "-r", f"{commit}:mlplib"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    blobs = {path: about.split()[2] for about, path in (line.split("\t") for line in listed.splitlines())}
    return source_digest({path: blob for path, blob in blobs.items() if path.endswith(".py")})


def check_complete(root: Path, found: ProfileFolder) -> None:
    """Refuse a profile's folder that lacks something listed in its hashes, has a record without a hash, or
    has files with unknown names.

    Raises:
        MlplibError: the first of them.
    """
    for key in found.hashes:
        if key not in found.records and key not in found.artifacts:
            raise MlplibError(
                f"{root} lacks {key}, which {HASHES} lists: restore it, or copy the folder again"
            )
    for path in (root / "artifacts").glob("*/*"):
        known = path.name in ARTIFACTS or path.name.startswith(".")
        if not known or not RUN_ID.fullmatch(path.parent.name):
            raise MlplibError(f"{path} is no artifact of a run ({', '.join(ARTIFACTS)}): delete it")
    for key in found.records:
        if key not in found.hashes:
            raise MlplibError(
                f"{root / HASHES} does not list {key}, so nobody can tell if it was changed: copy the "
                "folder again, or publish again"
            )
