"""Arrays that grow on the disk part by part, with a journal of what is done: a kill costs only seconds."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...files import require_room
from ..catalog import Stored
from .cache import writing
from .copies import Copy, Part

FLUSH_S = 5.0
"""Seconds between two entries in the journal: what a kill can cost."""

JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Done:
    """A part, decoded: n rows.

    ``images``: uint8 (n, H, W, 3); ``labels``: int64 (n,); ``digests``: uint64 (n,), the first 8 bytes of
    each file's sha-256; ``numbers``: int64 (n,), official numbers from 0, or -1; ``bad``: [row in the split,
    name, reason] of each image that could not be read.
    """

    images: np.ndarray
    labels: np.ndarray
    digests: np.ndarray
    numbers: np.ndarray
    bad: list[list]


class Rows:
    """An ``.npy`` file that is written row by row, in any order.

    Plain writes and not a memory map: on a full disk a map ends the process instead of raising an error.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: type):
        self.path, self.shape, self.dtype = path, shape, np.dtype(dtype)
        self.row_bytes = self.dtype.itemsize * math.prod(shape[1:])
        self.file = None

    def _header(self, rows: int) -> bytes:
        # The format leaves room in the header for any number of rows, so that it never changes its length.
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (rows, *self.shape[1:])}
        out = io.BytesIO()
        np.lib.format.write_array_header_1_0(out, header)
        return out.getvalue()

    @property
    def whole(self) -> int:
        """Bytes of the complete file."""
        return len(self._header(self.shape[0])) + self.shape[0] * self.row_bytes

    def open(self) -> None:
        """Open the file for writing; make it, with room for all rows, if it is not there."""
        fresh = not self.path.exists()
        self.file = open(self.path, "w+b" if fresh else "r+b")
        if fresh:
            os.pwrite(self.file.fileno(), self._header(self.shape[0]), 0)
            os.ftruncate(self.file.fileno(), self.whole)

    def write(self, start: int, values: np.ndarray) -> None:
        offset = len(self._header(0)) + start * self.row_bytes
        rest = memoryview(np.ascontiguousarray(values, self.dtype)).cast("B")
        while rest:  # a write may be a partial one
            written = os.pwrite(self.file.fileno(), rest, offset)
            rest, offset = rest[written:], offset + written

    def read(self, row: int) -> np.ndarray:
        data = os.pread(self.file.fileno(), self.row_bytes, len(self._header(0)) + row * self.row_bytes)
        return np.frombuffer(data, self.dtype).reshape(1, *self.shape[1:])

    def shorten(self, rows: int) -> None:
        """Keep the first ``rows`` rows."""
        os.pwrite(self.file.fileno(), self._header(rows), 0)
        os.ftruncate(self.file.fileno(), len(self._header(rows)) + rows * self.row_bytes)

    def sync(self) -> None:
        os.fsync(self.file.fileno())

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


class Work:
    """The folder of unfinished work: the arrays and the journal.

    The journal has a line for each part that is done, with its key and its unreadable images (the last one
    counts), and a line ``{"kept": {split: rows}}`` once the holes of unreadable images are filled.
    """

    def __init__(self, entry: Stored, copy: Copy, folder: Path):
        self.folder, self.sizes = folder, copy.sizes
        side = entry.image_size
        self.arrays: dict[tuple[str, str], Rows] = {}
        for split, count in copy.sizes.items():
            shapes = {
                "images": ((side, side, 3), np.uint8),
                "labels": ((), np.int64),
                "digests": ((), np.uint64),
            }
            if split == "test" and entry.test_number:
                shapes["index"] = ((), np.int64)
            for kind, (shape, dtype) in shapes.items():
                self.arrays[split, kind] = Rows(folder / f"{split}_{kind}.npy", (count, *shape), dtype)
        self.keys = [part.key for part in copy.parts]
        self.bad: dict[int, list[list]] = {}
        self.kept: dict[str, int] | None = None
        self._pending: list[dict] = []
        self._noted = time.monotonic()

    @writing()
    def open(self) -> None:
        """Resume the work in the folder, or begin."""
        if not self._read_journal():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.bad, self.kept = {}, None
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_room()
        for rows in self.arrays.values():
            rows.open()
        self.journal = open(self.folder / JOURNAL, "a", encoding="utf-8")

    def _read_journal(self) -> bool:
        """Whether there is work to resume."""
        try:
            lines = (self.folder / JOURNAL).read_text(encoding="utf-8").split("\n")
            for line in lines[:-1]:  # what follows the last line feed was cut off by a kill
                said = json.loads(line)
                if "kept" in said:
                    self.kept = said["kept"]
                elif self.keys[said["part"]] == said["key"]:
                    self.bad[said["part"]] = said["bad"]
                else:  # its files have changed since
                    self.bad.pop(said["part"], None)
            if lines[-1]:
                os.truncate(self.folder / JOURNAL, sum(len(line.encode()) + 1 for line in lines[:-1]))
        except (OSError, ValueError, LookupError, TypeError):
            return False
        if self.kept is not None:
            return len(self.bad) == len(self.keys)  # else rows have moved that are no longer right
        return all(
            rows.path.exists() and rows.path.stat().st_size == rows.whole for rows in self.arrays.values()
        )

    def _check_room(self) -> None:
        there = sum(path.stat().st_blocks * 512 for path in self.folder.iterdir())
        needed = sum(rows.whole for rows in self.arrays.values()) - there
        if self.kept is None:
            require_room(self.folder, needed)

    @writing()
    def put(self, number: int, part: Part, done: Done) -> None:
        """Write a decoded part."""
        values = {
            "images": done.images,
            "labels": done.labels,
            "digests": done.digests,
            "index": done.numbers,
        }
        for (split, kind), rows in self.arrays.items():
            if split == part.split:
                rows.write(part.start, values[kind])
        self.bad[number] = done.bad
        self._pending.append({"part": number, "key": part.key, "bad": done.bad})
        if time.monotonic() - self._noted > FLUSH_S:
            self.note()

    @writing()
    def note(self, *further: dict) -> None:
        """Bring everything to the disk, then record it in the journal: true even after a power cut."""
        for rows in self.arrays.values():
            rows.sync()
        self.journal.writelines(json.dumps(line) + "\n" for line in (*self._pending, *further))
        self.journal.flush()
        os.fsync(self.journal.fileno())
        self._pending, self._noted = [], time.monotonic()

    def close(self) -> None:
        for rows in self.arrays.values():
            rows.close()
        if hasattr(self, "journal"):
            self.journal.close()

    @writing()
    def fill_holes(self, bad: dict[str, list[int]]) -> None:
        """Move the last readable examples of a split to the rows of unreadable ones, and cut off the end.

        So few rows move instead of nearly all. Doing it twice has the same effect, because the moved rows
        also stay where they were until the journal records that all have moved.
        """
        if self.kept is None:
            kept = {split: count - len(bad[split]) for split, count in self.sizes.items()}
            for split, rows in bad.items():
                holes = [row for row in rows if row < kept[split]]
                movable = sorted(set(range(kept[split], self.sizes[split])) - set(rows))
                for hole, row in zip(holes, movable, strict=True):
                    for (of, _), array in self.arrays.items():
                        if of == split:
                            array.write(hole, array.read(row))
            self.note({"kept": kept})
            self.kept = kept
        for (split, _), array in self.arrays.items():
            array.shorten(self.kept[split])
            array.sync()
