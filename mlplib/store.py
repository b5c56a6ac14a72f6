"""The run store: one folder per run, with a record that is written once, atomically, under a lock.

A folder ``<store>/<run id>/`` holds the run's results: ``record.json``, its weights and small artifacts, and
its checkpoint until it is finished. An existing record is never overwritten, so it can be trusted.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from .data.catalog import content_hash
from .errors import Interrupted, MlplibError, Refused, one_line, require_choice
from .files import (
    clear_leftovers,
    in_clone,
    is_locked,
    json_sha256,
    locked,
    replacing,
    require_folder,
    storage_errors,
)
from .specs import RunSpec
from .specs.settings import finite

RECORD_FORMAT = 1

RUN_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,240}-[0-9a-f]{12}")
"""The form of every run id. Ids are used as folder names, so ids from outside must match."""

MOSAIC = "filters.npy"
"""The picture that a run of kind ``filters`` stores beside its record."""

MOSAIC_SHA256 = "filters_sha256"
"""The field of the record's ``compute`` with the picture's hash; older records have none."""

STATUSES = ("completed", "diverged")

METRICS = {
    "train": ("test_top1", "train_top1"),
    "finetune": ("test_top1", "train_top1"),
    "probe": ("test_top1", "train_top1"),
    "evaluate": ("test_top1",),
    "filters": ("locality", "smoothness"),
    "checkpoint": ("parameters",),
    "timing": ("latency_s",),
}
"""The metrics that every completed run of a kind has."""

COMPUTE = {
    "probe": ("features",),
    "timing": ("matmul_flops_per_second", "memory_bytes_per_second", "transfer_bytes_per_second"),
}
"""The fields of ``compute`` that the study needs from every completed run of a kind."""

RANGES = {"top1": 1.0, "top5": 1.0, "accuracy": 1.0, "loss": math.inf, "seconds": math.inf}
"""Largest value of numbers whose name ends like this; the smallest is 0."""

HASH = "sha256"
"""The field of a ``record.json`` with the hash of all others. Published records have ``hashes.txt``."""

SHA256 = re.compile(r"[0-9a-f]{64}")

RESULTS = ("status", "data", "metrics", "history")
"""The parts of a record that the settings determine; the rest describes one execution."""


@dataclass(frozen=True)
class Record:
    """The result of a run.

    ``spec``, ``data``, ``history`` and ``metrics`` follow from the settings alone and are the same whenever
    the run is repeated on the same device; ``compute`` and ``environment`` describe this execution (for a
    resumed run, its last part, except that a training's seconds are those of all parts): the code, the
    machine, and the time (``began``, ``ended``: UTC).

    ``status``: ``completed``, or ``diverged`` if the loss, or a score, is not finite. ``metrics``: name to
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

    def difference(self, other: Record) -> str | None:
        """How ``other`` contradicts this record of the same run in its :data:`RESULTS`, or None."""
        for part in RESULTS:
            mine, theirs = getattr(self, part), getattr(other, part)
            if mine == theirs:
                continue
            if not isinstance(mine, dict):
                return f"{part} ({mine} there, {theirs} here)"
            key = next(key for key in [*mine, *theirs] if mine.get(key) != theirs.get(key))
            return f"{part} ({key}: {mine.get(key)!s:.60} there, {theirs.get(key)!s:.60} here)"
        return None

    def to_json(self) -> dict:
        """Plain JSON values; :meth:`from_json` reads them back."""
        return {"format": RECORD_FORMAT, **vars(self), "spec": self.spec.to_json()}

    @classmethod
    def from_text(cls, text: bytes) -> Record:
        """Read a record from JSON text in UTF-8.

        Raises:
            MlplibError: the text is not JSON, or not a record (:meth:`from_json`).
        """
        try:
            values = json.loads(text.decode("utf-8"))
        except RecursionError:
            raise MlplibError("its JSON is nested too deeply") from None
        except ValueError as error:
            raise MlplibError(f"it is not JSON: {error}") from None
        return cls.from_json(values)

    @classmethod
    def from_json(cls, values: dict) -> Record:
        """Read and validate a record.

        Raises:
            MlplibError: a field is missing, unknown or of the wrong type, a number is not finite or out of
                range, or the format or the stored hash does not match.
        """
        if not isinstance(values, dict):
            raise MlplibError("a record is a JSON object")
        values = dict(values)
        if HASH in values and values.pop(HASH) != json_sha256(values):
            raise MlplibError(f"it is not what was written: its {HASH} is another one")
        version = values.pop("format", None)
        if version != RECORD_FORMAT:
            raise MlplibError(
                f"a record of format {version!r} cannot be read: this version reads {RECORD_FORMAT}"
            )
        try:
            record = cls(spec=RunSpec.from_json(values.pop("spec")), **values)
            _validate(record)
        except (KeyError, TypeError) as error:
            raise MlplibError(f"not a complete record: {error}") from None
        except RecursionError:
            raise MlplibError("its JSON is nested too deeply") from None
        return record


def _validate(record: Record) -> None:
    """Check a record, beyond what its type annotations ensure."""
    if not isinstance(record.id, str) or not RUN_ID.fullmatch(record.id):
        raise MlplibError(f"{record.id!r:.80} is not a run id")
    require_choice("status", record.status, STATUSES)
    for part in ("data", "metrics", "history", "compute", "environment"):
        values = getattr(record, part)
        if not isinstance(values, dict):
            raise MlplibError(f"its {part} is not a JSON object")
        for name, value in values.items():
            _validate_value(name, value, metric=part == "metrics")
    if record.status == "completed":
        for part, needed in ((record.metrics, METRICS), (record.compute, COMPUTE)):
            for name in needed.get(record.spec.kind, ()):
                if name not in part:
                    raise MlplibError(f"it lacks the metric {name}")
    if not isinstance(record.environment.get("device"), str):
        raise MlplibError("its environment names no device")
    for name in ("commit", "source"):
        value = record.environment.get(name)
        if not (value is None or (isinstance(value, str) and value.isprintable())):
            raise MlplibError(f"the {name} in its environment is {value!r:.80}, which is none")
    if "content_hash" in record.data and not isinstance(record.data["name"], str | None):
        raise MlplibError("the name of its data is no text")


def _validate_value(name: str, value: object, metric: bool = False) -> None:
    """Refuse numbers that are not finite or out of range. A ``metric`` must be a number."""
    if isinstance(value, dict) and not metric:
        for key, item in value.items():
            _validate_value(key, item)
        return
    hashed, high = _meaning(name)
    for item in value if isinstance(value, list) and not metric else (value,):
        if isinstance(item, dict | list) and not metric:
            _validate_value(name, item)
        elif hashed:
            if not isinstance(item, str) or not SHA256.fullmatch(item):
                raise MlplibError(f"{name} is {item!r:.80}, not a SHA-256 in hex")
        elif finite(item):
            if high is not None and not 0 <= item <= high:
                raise MlplibError(f"{name} is {item!r:.80}, outside of its range")
        elif metric or high is not None or type(item) in (int, float):
            raise MlplibError(f"{name} is {item!r:.80}, not a finite number")


@functools.lru_cache(maxsize=1024)
def _meaning(name: str) -> tuple[bool, float | None]:
    """Whether a field holds hashes, and its largest allowed value, if it has a range."""
    high = next((high for end, high in RANGES.items() if name.endswith(end)), None)
    return name.endswith("sha256") or name == "content_hash", high


ATTEMPT = ".attempt.json"
"""File that names the process doing a run, or why it failed. A run that ends or is stopped removes it."""


class RunClaimed(MlplibError):
    """Another process is doing the run."""


class RunStore:
    """The runs in a folder, shared safely by any number of processes.

    Args:
        root: the folder; created when first written to. Default: ``MLPLIB_RUNS``, else ``runs`` in the clone
            (:func:`mlplib.files.in_clone`).
        wait: wait for a run that another process is doing, instead of raising :class:`RunClaimed`.

    Raises:
        MlplibError: the path cannot be the path of a folder.
    """

    def __init__(self, root: str | os.PathLike | None = None, wait: bool = True):
        if root is None:
            root = os.environ.get("MLPLIB_RUNS") or os.path.relpath(in_clone("runs"))
        self.root = require_folder(root, "--runs or MLPLIB_RUNS")
        self.wait = wait
        self.written: set[str] = set()
        """Ids of the records that this object wrote, as opposed to other processes."""

    def folder(self, run: RunSpec | str) -> Path:
        """The folder of a run, given by spec or id."""
        return self.root / (run if isinstance(run, str) else run_id(run))

    def find(self, spec: RunSpec) -> Record | None:
        """The finished record of ``spec``, or None.

        Raises:
            MlplibError: the record cannot be read, or belongs to another run.
        """
        id = run_id(spec)
        path = self.folder(id) / "record.json"
        record = self._read(path)
        if record is not None and (record.id, record.spec) != (id, spec):
            raise _damaged(path, f"it is the record of another run, {record.id}")
        return record

    def records(self) -> Iterator[Record]:
        """Every readable record, by id. Damaged ones are skipped here; :meth:`find` reports them."""
        for path in sorted(self.root.glob("*/record.json")):
            with suppress(MlplibError):
                if (record := self._read(path)) is not None:  # its folder may have been deleted meanwhile
                    yield record

    def _read(self, path: Path) -> Record | None:
        try:
            return Record.from_text(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError:
            raise MlplibError(
                f"{path} belongs to another user and may not be read: ask for chmod -R g+rwX {self.root} and "
                "umask 002, or choose another folder (MLPLIB_RUNS)"
            ) from None
        except OSError as error:
            raise MlplibError(
                f"{path} cannot be read ({error.strerror}): delete its folder and run again"
            ) from None
        except MlplibError as error:
            raise _damaged(path, error) from None

    @contextmanager
    def claim(self, spec: RunSpec, on_wait=None) -> Iterator[Path]:
        """Hold the run's lock and yield its folder; a second process waits here until the first is done.

        ``on_wait`` is called once if another process holds the lock.

        Raises:
            MlplibError: the folder cannot be written to.
            RunClaimed: another process holds the lock, and this store does not wait.
        """
        folder = self.folder(spec)

        @contextmanager
        def waiting(total: None, label: str) -> Iterator[None]:
            if not self.wait:
                raise RunClaimed(f"another process is doing {run_id(spec)}")
            if on_wait is not None:
                on_wait()
            yield

        with ExitStack() as stack:
            with storage_errors(self.root, "--runs or MLPLIB_RUNS"):
                stack.enter_context(locked(folder / ".lock", waiting, "does this run"))
            attempt = {"where": _this_process(), "since": time.time()}
            clear_leftovers(folder)
            _write_json(folder / ATTEMPT, attempt)
            try:
                yield folder
            except (Interrupted, RunClaimed, Refused) as error:
                (folder / ATTEMPT).unlink(missing_ok=True)
                if isinstance(error, Refused):
                    with suppress(OSError):  # the folder has other files
                        (folder / ".lock").unlink()  # a waiting process creates a new one
                        folder.rmdir()
                raise
            except Exception as error:
                with suppress(MlplibError):  # the disk may be full, which may also be why the run failed
                    _write_json(folder / ATTEMPT, {**attempt, "why": one_line(error)})
                raise
            (folder / ATTEMPT).unlink(missing_ok=True)

    def attempt(self, run: RunSpec | str) -> dict | None:
        """The last attempt at a run if it is running, failed or was killed; None otherwise.

        Returns:
            ``state``: ``running``, ``failed`` or ``died``; ``where``: the process, in words; ``since``: when
            it began, in seconds since 1970; ``why``: the error, if it failed.
        """
        path = self.folder(run) / ATTEMPT
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not (isinstance(found, dict) and isinstance(found.get("since"), float | int) and "where" in found):
            return None
        if is_locked(path.with_name(".lock")):
            return {"state": "running", **found}
        if not path.exists():  # it ended in the meantime
            return None
        return {"state": "failed" if "why" in found else "died", **found}

    def write(self, record: Record) -> None:
        """Write a finished record, once.

        Raises:
            MlplibError: it already exists, or the folder cannot be written to.
        """
        path = self.folder(record.id) / "record.json"
        if path.exists():
            raise MlplibError(
                f"{path} exists and records are never overwritten: delete its folder to run again"
            )
        values = record.to_json()
        _write_json(path, {**values, HASH: json_sha256(values)}, indent=1)
        self.written.add(record.id)


def _write_json(path: Path, values: dict, indent: int | None = None) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(values, indent=indent, allow_nan=False), encoding="utf-8")


def _this_process() -> str:
    job = os.environ.get("SLURM_JOB_ID")
    return f"{socket.gethostname()}, process {os.getpid()}" + (f", Slurm job {job}" if job else "")


def _damaged(path: Path, why: object) -> MlplibError:
    return MlplibError(f"{path} is damaged ({why}): delete its folder and run again")


def run_id(spec: RunSpec) -> str:
    """The id of a run with this machine's copies of the data sets: the name of its folder and record."""
    return _id(spec, content_hash)


def _id(spec: RunSpec, hash_of: Callable[[str], str]) -> str:
    return spec.id_on({name: hash_of(name) for name in spec.data_names()})


def by_id(specs: Iterable[RunSpec]) -> dict[str, RunSpec]:
    """The distinct runs among ``specs`` by id, in order of first occurrence."""
    known = functools.cache(content_hash)  # plans of thousands of runs use the same few data sets
    return {_id(spec, known): spec for spec in specs}
