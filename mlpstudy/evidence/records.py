"""The study's published records: where they are, reading them, and which of them a chapter shows.

A profile has the folder ``results/<profile>`` with

- ``runs.jsonl``: one record per line, each run once, sorted by run id;
- ``artifacts/<run id>/<name>``: the small files of a run;
- ``hashes.txt``: the SHA-256 of every record and artifact, so that later changes are noticed.

:mod:`mlpstudy.evidence.merge` writes these files; nobody edits them by hand.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlplib.errors import MlplibError
from mlplib.files import require_folder
from mlplib.specs import RunSpec
from mlplib.store import MOSAIC, MOSAIC_SHA256, Record, RunStore

from ..experiments import experiment
from ..planning import upstream_first
from ..profiles import PROFILES, Profile
from ..words import devices

BEST_FIRST = ("paper", "gpu", "colab", "laptop")
"""Profiles whose records are evidence, the strongest first. ``smoke`` never is."""

RUNS = "runs.jsonl"
HASHES = "hashes.txt"

ARTIFACTS = (MOSAIC,)
"""The files of a run that are published with its record. No other name is ever read or written."""

MAX_RECORDS_BYTES = 2**28
MAX_ARTIFACT_BYTES = 2**24

RESTORE = "restore it, or delete it and publish again"
"""What to do about a damaged file or line, at the end of a message."""


def results_folder(folder: str | os.PathLike | None = None, new: bool = False) -> Path:
    """The folder of published records: ``folder``, ``MLPLIB_RESULTS``, or ``results`` of the source tree.

    ``new``: records will be written there, so it may be missing.

    Raises:
        MlplibError: the path cannot be that of a folder, or names none that is there.
    """
    named = folder or os.environ.get("MLPLIB_RESULTS")
    path = Path(named or Path(__file__).resolve().parents[2] / "results")
    return require_folder(path, "--results or MLPLIB_RESULTS", exists=bool(named) and not new)


# --------------------------------------------------------------------------- what a chapter shows


@dataclass(frozen=True)
class ExperimentRecords:
    """The records of one experiment at one profile, published ones or a reader's ``own``.

    ``records``: of the experiment's own runs, in their order; ``upstream``: of the further runs that such
    runs are made from; ``artifacts``: a folder with one folder per run id, as in a run store.
    """

    name: str
    profile: Profile
    records: list[Record]
    artifacts: Path
    upstream: list[Record] = field(default_factory=list)
    own: bool = False

    @property
    def everything(self) -> list[Record]:
        """All these records."""
        return [*self.records, *self.upstream]

    @property
    def devices(self) -> str:
        """The devices of the runs, without the number of CPU threads."""
        return devices(self.records)

    @property
    def seeds(self) -> list[int]:
        """The seeds of the runs, sorted."""
        return sorted({seed_of(record.spec) for record in self.records} - {None})


def every_published(name: str, folder: str | os.PathLike | None = None) -> Iterator[ExperimentRecords]:
    """The published records of an experiment at every profile that has any, the best profile first.

    Raises:
        MlplibError: a published file is damaged.
    """
    for profile_name in BEST_FIRST:
        root, chosen = results_folder(folder) / profile_name, PROFILES[profile_name]
        by_spec = {record.spec: record for record in read_folder(root).records.values()}
        if not by_spec:  # the settings of thousands of runs take a second to make
            continue
        specs = dict.fromkeys(experiment(name).runs(chosen, all_seeds(chosen, by_spec)))
        own = [spec for spec in specs if spec in by_spec]
        needed = (spec for spec in upstream_first(specs) if spec in by_spec and spec not in specs)
        upstream = [by_spec[spec] for spec in needed]
        if own:
            records = [by_spec[spec] for spec in own]
            found = ExperimentRecords(name, chosen, records, root / "artifacts", upstream)
            yield _without_sparse_seeds(found)


def _without_sparse_seeds(found: ExperimentRecords) -> ExperimentRecords:
    """Leave out runs of other chapters, which have more seeds: if some seed is complete, drop every seed with
    less than half of its runs. Otherwise their means would be shown next to means over fewer seeds, with
    other images and other pre-trained networks.
    """
    if not complete(found):
        return found
    kept = {*seeds_with(found, 0.5), None}
    return replace(found, records=[record for record in found.records if seed_of(record.spec) in kept])


def finished(name: str, chosen: Profile, seeds: Sequence[int], store: RunStore) -> ExperimentRecords:
    """The finished runs of an experiment in a run store, and of what its runs are made from."""
    specs = experiment(name).runs(chosen, seeds)
    records = {spec: store.find(spec) for spec in upstream_first(specs)}
    own = [records.pop(spec) for spec in specs]
    upstream = [record for record in records.values() if record]
    return ExperimentRecords(name, chosen, [r for r in own if r], store.root, upstream, own=True)


def shown(name: str, folder: str | os.PathLike | None = None) -> list[ExperimentRecords]:
    """The published records that a chapter shows: those of the best profile that has any, and while fewer
    than two of its seeds have all their runs those of the next profile, too, down to the first with two: the
    spread between seeds is unknown from one.

    Raises:
        MlplibError: a published file is damaged.
    """
    found = []
    for each in every_published(name, folder):
        found.append(each)
        if len(seeds_with(each, 1.0)) > 1:
            break
    return found


def fingerprint(name: str, folder: str | os.PathLike | None = None) -> str:
    """A hash of the published records that a chapter shows. It changes exactly when one of them does."""
    digest = hashlib.sha256()
    for each in shown(name, folder):
        for record in each.everything:
            digest.update(to_line(record))
    return digest.hexdigest()


def complete(found: ExperimentRecords) -> bool:
    """Whether all runs of an experiment are there for at least one seed, compared by their settings."""
    return bool(seeds_with(found, 1.0))


def seeds_with(found: ExperimentRecords, share: float) -> list[int]:
    """The seeds for which this share of an experiment's runs is there, or more."""
    there, own = {record.spec for record in found.records}, experiment(found.name).runs
    runs = {seed: set(own(found.profile, (seed,))) for seed in found.seeds}
    return [seed for seed, wanted in runs.items() if len(wanted & there) >= share * len(wanted)]


def seed_of(spec: RunSpec) -> int | None:
    """The seed of a run's first upstream run, or its own seed; None if nothing is drawn."""
    for name in ("upstream", "trained"):
        upstream = getattr(spec, name, None)
        if upstream is not None:
            return seed_of(upstream)
    return getattr(spec, "seed", None)


def all_seeds(chosen: Profile, specs: Iterable[RunSpec]) -> list[int]:
    """The seeds of a profile and of some runs, sorted."""
    return sorted({*map(seed_of, specs), *chosen.seeds} - {None})


# --------------------------------------------------------------------------- a profile's folder


@dataclass(frozen=True)
class ProfileFolder:
    """What a profile's folder holds: ``records`` by run id, ``artifacts`` by ``<run id>/<name>``, and the
    published ``hashes`` of both by the same keys. All are empty if there is no folder.

    Raises:
        MlplibError: a picture of filters is another one than its record names.
    """

    records: dict[str, Record]
    artifacts: dict[str, bytes]
    hashes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        for key, content in self.artifacts.items():
            record = self.records.get(key.partition("/")[0])
            # Older records do not name their picture.
            if record and record.compute.get(MOSAIC_SHA256, found := sha256(content)) != found:
                raise MlplibError(f"{key} is not the picture that its run has made: {RESTORE}")

    def files(self) -> dict[str, bytes]:
        """The contents of the folder's files for these records and their artifacts, by relative path.

        Artifacts come first, so that writing in this order never leaves a record without them.
        """
        lines = {id: to_line(self.records[id]) for id in sorted(self.records)}
        kept = {key: content for key, content in self.artifacts.items() if key.partition("/")[0] in lines}
        hashes = {key: sha256(content) for key, content in sorted({**lines, **kept}.items())}
        return {
            **{f"artifacts/{key}": content for key, content in kept.items()},
            RUNS: b"".join(line + b"\n" for line in lines.values()),
            HASHES: "".join(f"{found}  {key}\n" for key, found in hashes.items()).encode(),
        }


def read_folder(root: Path) -> ProfileFolder:
    """Read a profile's folder and compare everything in it with the published hashes.

    Raises:
        MlplibError: a line is not a valid record; a record or an artifact has been changed; two lines have
            different records of one run.
    """
    hashes, records, artifacts = {}, {}, {}
    for where, line in _lines(root / HASHES):
        match = re.fullmatch(rb"([0-9a-f]{64})  ([a-z0-9./-]+)", line)
        if not match:
            raise MlplibError(f"{where}, is not a hash and a name: {RESTORE}")
        hashes[match[2].decode()] = match[1].decode()
    for where, line in _lines(root / RUNS):
        try:
            record = _parse(line)
        except MlplibError as error:
            raise MlplibError(f"{where}, is not a record ({error}): {RESTORE}") from None
        if record.id in hashes and hashes[record.id] != sha256(line):
            raise MlplibError(f"{where}: the record of {record.id} is not the published one: {RESTORE}")
        if records.setdefault(record.id, record).difference(record):
            raise MlplibError(f"{where}: another line differs on {record.id}: delete one of the lines")
    for path in sorted(path for name in ARTIFACTS for path in root.glob(f"artifacts/*/{name}")):
        key, content = f"{path.parent.name}/{path.name}", _read_file(path, MAX_ARTIFACT_BYTES)
        if key in hashes and hashes[key] != sha256(content):
            raise MlplibError(f"{path} is not the published file: {RESTORE}")
        artifacts[key] = content
    return ProfileFolder(records, artifacts, hashes)


# Files are read several times per process. Records are never modified, so all readers can share them.
_parse = functools.lru_cache(maxsize=8192)(Record.from_text)


def to_line(record: Record) -> bytes:
    """A record as its line in ``runs.jsonl``, without the line's end."""
    return json.dumps(record.to_json(), sort_keys=True, allow_nan=False).encode()


def sha256(content: bytes) -> str:
    """The SHA-256 in hex, as in ``hashes.txt``."""
    return hashlib.sha256(content).hexdigest()


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every line of a file, with its place for an error message; none if there is no file."""
    content = _read_file(path, MAX_RECORDS_BYTES) if path.exists() else b""
    for number, line in enumerate(content.splitlines(), start=1):
        yield f"{path.parent.name}/{path.name}, line {number}", line


def _read_file(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most ``limit`` bytes.

    Links are not followed, since a folder from elsewhere could point at any file of this machine.
    """
    try:
        regular = stat.S_ISREG(path.lstat().st_mode)
        content = path.read_bytes() if regular and path.stat().st_size <= limit else None
    except OSError as error:
        raise MlplibError(f"{path} cannot be read ({error.strerror})") from None
    if content is None:
        raise MlplibError(f"{path} is no regular file of at most {limit // 2**20} MiB: {RESTORE}")
    return content
