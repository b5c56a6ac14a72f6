"""The study's own published records: ``results/<profile>/<experiment>.jsonl``, one record a line, never
edited by hand.

The runs that an experiment's runs read from, such as the pre-training behind a linear probe, are beside it
in ``<experiment>.upstream.jsonl``. No table is made of them: they tell where the numbers come from and what
they cost.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .errors import MlplibError
from .profiles import PROFILES, Profile
from .runs import Record

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
