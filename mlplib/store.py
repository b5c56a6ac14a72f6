"""The run store: one folder a run, its record written once, atomically, under a lock.

A folder ``<store>/<run id>/`` holds what the run left: ``record.json``, its weights and small artifacts, and
while it is not finished its checkpoint. A record that is there is never written again, so it can be trusted.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import MlplibError
from .files import replacing, storage_errors
from .specs import RunSpec, spec_from_json

RECORD_FORMAT = 1

RESULTS = ("status", "data", "metrics", "history")
"""What of a record follows from the run's settings; the rest tells of one execution."""


@dataclass(frozen=True)
class Record:
    """What a run left.

    ``spec``, ``data``, ``history`` and ``metrics`` follow from the settings alone and are the same whenever
    the run is repeated on the same device; ``compute`` and ``environment`` tell of this execution.

    ``status``: ``completed``, or ``diverged`` where the loss stopped being finite. ``metrics``: name to
    number; accuracies are fractions in [0, 1], losses are in nats. ``history``: name to list.
    """

    id: str
    spec: RunSpec
    status: str
    data: dict
    metrics: dict
    history: dict = field(default_factory=dict)
    compute: dict = field(default_factory=dict)
    environment: dict = field(default_factory=dict)

    def same_results(self, other: Record) -> bool:
        """Whether ``other`` is of the same run and says the same of it; when and where it was done may
        differ.
        """
        return self.id == other.id and all(getattr(self, name) == getattr(other, name) for name in RESULTS)

    def to_json(self) -> dict:
        """Plain JSON values; :meth:`from_json` reads them back."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {"format": RECORD_FORMAT, **values, "spec": self.spec.to_json()}

    @classmethod
    def from_json(cls, values: dict) -> Record:
        """Read a record.

        Raises:
            MlplibError: a field is missing or unknown, or the format is another one.
        """
        if not isinstance(values, dict):
            raise MlplibError("a record is a JSON object")
        values = dict(values)
        version = values.pop("format", None)
        if version != RECORD_FORMAT:
            raise MlplibError(
                f"a record of format {version!r} cannot be read: this version reads {RECORD_FORMAT}"
            )
        try:
            spec = spec_from_json(values.pop("spec"))
            return cls(spec=spec, **values)
        except (KeyError, TypeError) as error:
            raise MlplibError(f"not a complete record: {error}") from None


class RunClaimed(MlplibError):
    """Another process is doing the run."""


class RunStore:
    """The runs in a folder, shared safely by any number of processes.

    Args:
        root: the folder; made when first written to. Default: ``MLPLIB_RUNS``, else ``runs``.
        wait: wait for a run that another process is doing, instead of raising :class:`RunClaimed`.
    """

    def __init__(self, root: str | os.PathLike | None = None, wait: bool = True):
        self.root = Path(root or os.environ.get("MLPLIB_RUNS") or "runs")
        self.wait = wait
        self.written: set[str] = set()
        """Ids of the records that were written through this object, and not by another process."""

    def folder(self, run: RunSpec | str) -> Path:
        """Where a run (or run id) keeps its files."""
        return self.root / (run if isinstance(run, str) else run.id)

    def find(self, spec: RunSpec) -> Record | None:
        """The finished record of ``spec``, or None.

        Raises:
            MlplibError: there is something that cannot be read or is no record of this run.
        """
        path = self.folder(spec) / "record.json"
        record = self._read(path)
        if record is not None and (record.id, record.spec) != (spec.id, spec):
            raise _damaged(path, f"it is the record of another run, {record.id}")
        return record

    def records(self) -> Iterator[Record]:
        """Every finished record that can be read, by id. A damaged one is named when its run is asked for."""
        for path in sorted(self.root.glob("*/record.json")):
            with suppress(MlplibError):
                yield self._read(path)

    def _read(self, path: Path) -> Record | None:
        try:
            return Record.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise MlplibError(
                f"{path} cannot be read ({error.strerror}): mend that, or delete its folder"
            ) from None
        except (ValueError, MlplibError) as error:
            raise _damaged(path, error) from None

    @contextmanager
    def claim(self, spec: RunSpec, on_wait=None) -> Iterator[Path]:
        """Hold the run's lock and give its folder; a second process waits here until the first is done.

        ``on_wait`` is called once if there is somebody to wait for.

        Raises:
            MlplibError: the folder cannot be written to.
            RunClaimed: another process holds the lock, and this store does not wait.
        """
        folder = self.folder(spec)
        with storage_errors(self.root):
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(str(folder / ".lock"))
            try:
                lock.acquire(timeout=0.1 if self.wait else 0.0)
            except Timeout:
                if not self.wait:
                    raise RunClaimed(f"another process is doing {spec.id}") from None
                if on_wait is not None:
                    on_wait()
                lock.acquire()
        try:
            _clear_leftovers(folder)
            yield folder
        finally:
            lock.release()

    def write(self, record: Record) -> None:
        """Write a finished record, once.

        Raises:
            MlplibError: there is one already, or the folder cannot be written to.
        """
        path = self.folder(record.id) / "record.json"
        if path.exists():
            raise MlplibError(
                f"{path} exists and records are never overwritten: delete its folder to run again"
            )
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(record.to_json(), indent=1, allow_nan=False), encoding="utf-8")
        self.written.add(record.id)


def _damaged(path: Path, why: object) -> MlplibError:
    return MlplibError(f"{path} is damaged ({why}): delete its folder and run again")


def _clear_leftovers(folder: Path) -> None:
    """Delete what :func:`replacing` could not clear because its process was killed. Needs the run's lock."""
    for path in folder.glob(".*"):
        if path.name != ".lock":
            with suppress(OSError):
                path.unlink()


def by_id(specs: Iterable[RunSpec]) -> dict[str, RunSpec]:
    """The different runs among ``specs``, in order of first mention, by id."""
    return {spec.id: spec for spec in specs}
