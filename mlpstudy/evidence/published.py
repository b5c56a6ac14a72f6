"""The study's own published records: ``results/<profile>/<experiment>.jsonl``, one record a line, never
edited by hand.

The runs that an experiment's runs read from, such as the pre-training behind a linear probe, are beside it
in ``<experiment>.upstream.jsonl``. No table is made of them: they tell where the numbers come from and what
they cost.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlplib.errors import MlplibError
from mlplib.specs import RunSpec
from mlplib.store import Record

from ..experiments import experiment
from ..experiments.pretraining import OPTIONAL
from ..profiles import PROFILES, Profile

BEST_FIRST = ("paper", "gpu", "laptop")
"""Profiles whose records are evidence, the strongest first. ``smoke`` never is."""


def results_folder(folder: str | os.PathLike | None = None) -> Path:
    """Where published records lie: ``folder``, ``MLPLIB_RESULTS``, or ``results`` of the source tree."""
    return Path(folder or os.environ.get("MLPLIB_RESULTS") or Path(__file__).resolve().parents[2] / "results")


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
        own, upstream = files_of(root, name)
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
    """The seed that a run, or what it reads from, begins with; None where nothing is drawn."""
    for name in ("upstream", "trained"):
        upstream = getattr(spec, name, None)
        if upstream is not None:
            return seed_of(upstream)
    return getattr(spec, "seed", None)


def files_of(root: Path, name: str) -> tuple[Path, Path]:
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
