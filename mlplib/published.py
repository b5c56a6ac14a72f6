"""The study's own published records: ``results/<profile>/<experiment>.jsonl``, one record a line, never
edited by hand.

The runs that an experiment's runs read from, such as the pre-training behind a linear probe, are beside it
in ``<experiment>.upstream.jsonl``. No table is made of them: they tell where the numbers come from and what
they cost.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from . import planning
from .errors import MlplibError
from .execution import MOSAIC
from .experiments import EXPERIMENTS, experiment
from .experiments.pretraining import OPTIONAL
from .files import replacing, storage_errors
from .profiles import PROFILES, Profile, profile
from .runs import Record, RunStore
from .specs import RunSpec

ARTIFACTS = (MOSAIC,)
"""Small files of a run that are published beside its record."""

BEST_FIRST = ("paper", "gpu", "laptop")
"""Profiles whose records are evidence, the strongest first. ``smoke`` never is."""


def results_folder(folder: str | os.PathLike | None = None) -> Path:
    """Where published records lie: ``folder``, ``MLPLIB_RESULTS``, or ``results`` of the source tree."""
    return Path(
        folder or os.environ.get("MLPLIB_RESULTS") or Path(__file__).resolve().parent.parent / "results"
    )


@dataclass(frozen=True)
class Published:
    """What the study published of one experiment at one profile.

    ``records``: of the experiment's own runs; ``upstream``: of the runs that those read from and that are
    not among them; ``artifacts``: a folder with a folder for each run id, as in a run store.
    """

    profile: Profile
    records: list[Record]
    artifacts: Path
    upstream: list[Record] = field(default_factory=list)

    @property
    def devices(self) -> str:
        """The devices that the runs were made on, without the number of CPU threads."""
        names = (record.environment["device"].split(" (")[0] for record in self.records)
        return ", ".join(sorted(set(names)))

    @property
    def seeds(self) -> list[int]:
        """The seeds that any of the runs was made with, in order."""
        return sorted({seed_of(record.spec) for record in self.records} - {None})


def published(name: str, folder: str | os.PathLike | None = None) -> Published | None:
    """The published records of an experiment at the best profile that has any, or None.

    Raises:
        MlplibError: a line of the file is not a record.
    """
    return next(iter(every_published(name, folder)), None)


def every_published(name: str, folder: str | os.PathLike | None = None) -> Iterator[Published]:
    """The published records of an experiment at every profile that has any, the best first.

    They are read one after the other, as they are asked for.

    Raises:
        MlplibError: a line of a file is not a record.
    """
    for profile_name in BEST_FIRST:
        root = results_folder(folder) / profile_name
        own, upstream = _files(root, name)
        if own.is_file():
            behind = read_records(upstream) if upstream.is_file() else []
            yield Published(PROFILES[profile_name], read_records(own), root / "artifacts", behind)


def shown(name: str, folder: str | os.PathLike | None = None) -> list[Published]:
    """The published records that a chapter shows: those of the best profile that has any, and while these
    are incomplete (:func:`complete`) those of the next, too, down to the first that are complete.

    Raises:
        MlplibError: a line of a file is not a record.
    """
    found = []
    for each in every_published(name, folder):
        found.append(each)
        if complete(name, each):
            break
    return found


def complete(name: str, found: Published) -> bool:
    """Whether all :func:`expected` runs of an experiment are there for at least one seed, compared by their
    settings. What they were made from does not matter.
    """
    there = {record.spec for record in found.records}
    return any(there.issuperset(expected(name, found.profile, (seed,))) for seed in found.seeds)


def expected(name: str, chosen: Profile, seeds: Sequence[int]) -> list[RunSpec]:
    """The runs of an experiment that everybody has: those on data sets that a profile uses only where
    somebody has prepared them are left out, so that this is the same on every machine.
    """
    specs = dict.fromkeys(experiment(name).runs(chosen, seeds))
    return [spec for spec in specs if spec.data_name() not in OPTIONAL]


def seed_of(spec: RunSpec) -> int | None:
    """The seed of a run, or of what it reads from where it draws nothing itself; None without either."""
    if hasattr(spec, "seed"):
        return spec.seed
    upstream = getattr(spec, "upstream", None)
    return None if upstream is None else seed_of(upstream)


def _files(root: Path, name: str) -> tuple[Path, Path]:
    """Where an experiment's own records and those of its upstream runs lie in a profile's folder."""
    return root / f"{name}.jsonl", root / f"{name}.upstream.jsonl"


def read_records(path: Path) -> list[Record]:
    """The records of a published file.

    Raises:
        MlplibError: a line is not a record; the line's number is named.
    """
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            records.append(Record.from_json(json.loads(line)))
        except (ValueError, MlplibError) as error:
            raise MlplibError(
                f"{path.name}, line {number}, is not a record ({error}): publish it again"
            ) from None
    return records


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
    specs = {spec.id: spec for spec in experiment(name).runs(profile(profile_name), seeds)}
    root = results_folder(folder) / profile_name
    published_before = _all_records(root)

    def find(spec: RunSpec) -> Record | None:
        return store.find(spec) or published_before.get(spec.id)

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
    own_file, upstream_file = _files(root, name)
    before = _ids(own_file) | _ids(upstream_file)
    with storage_errors(root, "MLPLIB_RESULTS"):
        root.mkdir(parents=True, exist_ok=True)
        for record in records:
            for artifact in ARTIFACTS:
                source = store.folder(record.id) / artifact
                if source.exists():
                    _write(root / "artifacts" / record.id / artifact, source.read_bytes())
        # Last, so that records never appear without their pictures and without what they were made from.
        _write_records(upstream_file, upstream)
        _write_records(own_file, records)
        _drop_artifacts(root, before)
    return own_file


def _all_records(root: Path) -> dict[str, Record]:
    """Everything that is published at a profile, by id."""
    paths = (path for name in EXPERIMENTS for path in _files(root, name) if path.is_file())
    return {record.id: record for path in paths for record in read_records(path)}


def _write_records(path: Path, records: Sequence[Record]) -> None:
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
