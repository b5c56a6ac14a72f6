"""The study's own published records: ``results/<profile>/<experiment>.jsonl``,
one record a line, never edited by hand.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import MlplibError
from .execution import MOSAIC
from .experiments import experiment
from .files import replacing, storage_errors
from .profiles import PROFILES, Profile, profile
from .runs import Record, RunStore

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

    ``artifacts``: a folder with a folder for each run id, as in a run store.
    """

    profile: Profile
    records: list[Record]
    artifacts: Path

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
    root = results_folder(folder)
    for profile_name in BEST_FIRST:
        path = root / profile_name / f"{name}.jsonl"
        if path.is_file():
            return Published(PROFILES[profile_name], read_records(path), root / profile_name / "artifacts")
    return None


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
    """Write the finished records of an experiment's runs to the results folder, in the order of its runs.

    Gives the file's path.

    Raises:
        MlplibError: a run is not finished in ``store``, or the folder cannot be written to.
    """
    specs = list({spec.id: spec for spec in experiment(name).runs(profile(profile_name), seeds)}.values())
    records = [store.find(spec) for spec in specs]
    missing = [spec.id for spec, record in zip(specs, records, strict=True) if record is None]
    if missing:
        raise MlplibError(
            f"{len(missing)} of {len(specs)} runs of {name} are not finished, {missing[0]} for one: "
            f"do them first with mlplib run {name} --profile {profile_name}"
        )
    root = results_folder(folder) / profile_name
    path = root / f"{name}.jsonl"
    lines = [json.dumps(record.to_json(), sort_keys=True, allow_nan=False) for record in records]
    with storage_errors(root, "MLPLIB_RESULTS"):
        root.mkdir(parents=True, exist_ok=True)
        for record in records:
            for artifact in ARTIFACTS:
                source = store.folder(record.id) / artifact
                if source.exists():
                    target = root / "artifacts" / record.id
                    target.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, target / artifact)
        # Last, so that records never appear without their pictures.
        with replacing(path) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
