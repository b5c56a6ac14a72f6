"""Arrays written to disk part by part, with a journal of finished parts: a kill costs only seconds."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from ...files import require_room
from ..catalog import Stored
from .cache import writing
from .copies import Copy, Part

FLUSH_S = 5.0
"""Seconds between two entries in the journal, and so the work that a kill can cost."""

JOURNAL = "journal.jsonl"


Decoded = tuple[dict[str, np.ndarray], list[list]]
"""A part of n rows: the arrays ``images`` uint8 (n, H, W, 3), ``labels`` int64 (n,), ``digests`` uint64 (n,),
for pinned data sets the first 8 bytes of each file's sha-256, ``index`` int64 (n,), official numbers from 0,
or -1; and [row in the split, name, reason] for each unreadable image."""


class Rows:
    """An ``.npy`` file that is written row by row, in any order.

    Plain writes instead of a memory map: on a full disk a map kills the process instead of raising an error.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: type):
        self.path, self.shape, self.dtype, self.file = path, shape, np.dtype(dtype), None
        self.row_bytes = self.dtype.itemsize * math.prod(shape[1:])
        self.start = len(self._header(0))
        self.whole = self.start + shape[0] * self.row_bytes  # bytes of the complete file

    def _header(self, rows: int) -> bytes:
        # The header has padding for any number of rows, so that its length never changes.
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (rows, *self.shape[1:])}
        out = io.BytesIO()
        np.lib.format.write_array_header_1_0(out, header)
        return out.getvalue()

    def whole_file(self) -> bool:
        """Whether the file exists with its full size and the right header."""
        with open(self.path, "rb") as file:
            same = file.read(self.start) == self._header(self.shape[0])
        return same and self.path.stat().st_size == self.whole

    def open(self) -> None:
        """Open the file for writing; if it does not exist, create it with room for all rows."""
        fresh = not self.path.exists()
        self.file = open(self.path, "w+b" if fresh else "r+b")
        if fresh:
            self.set_rows(self.shape[0])

    def set_rows(self, rows: int) -> None:
        """Set the number of rows of the file; existing rows are kept."""
        self.file.seek(0)
        self.file.write(self._header(rows))
        self.file.truncate(self.start + rows * self.row_bytes)

    def write(self, row: int, values: np.ndarray) -> None:
        """Write ``values`` (n, ...) from ``row`` on."""
        self.file.seek(self.start + row * self.row_bytes)
        self.file.write(np.ascontiguousarray(values, self.dtype))

    def copy_row(self, source: int, target: int) -> None:
        self.file.seek(self.start + source * self.row_bytes)
        row = self.file.read(self.row_bytes)
        self.file.seek(self.start + target * self.row_bytes)
        self.file.write(row)

    def sync(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())


class Work:
    """The folder of unfinished work: the arrays and the journal.

    The journal has a line for each finished part, with its key and its unreadable images (the last line for a
    part counts).
    """

    def __init__(self, entry: Stored, copy: Copy, folder: Path):
        self.folder, self.sizes = folder, copy.sizes
        side, self.arrays = entry.image_size, {}
        for split, count in copy.sizes.items():
            kinds = {"images": np.uint8, "labels": np.int64} | ({"digests": np.uint64} if entry.pins else {})
            if split == "test" and entry.test_number:
                kinds["index"] = np.int64
            for kind, dtype in kinds.items():
                shape = (count, side, side, 3) if kind == "images" else (count,)
                self.arrays[split, kind] = Rows(folder / f"{split}_{kind}.npy", shape, dtype)
        self.keys = [part.key for part in copy.parts]
        self.bad: dict[int, list[list]] = {}
        self._pending: list[dict] = []
        self._noted = time.monotonic()

    @writing()
    def open(self) -> None:
        """Resume the work in the folder, or begin new work."""
        if not self._read_journal():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.bad = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        there = sum(path.stat().st_blocks * 512 for path in self.folder.iterdir())
        require_room(self.folder, sum(rows.whole for rows in self.arrays.values()) - there)
        for rows in self.arrays.values():
            rows.open()
        self.journal = open(self.folder / JOURNAL, "a", encoding="utf-8")

    def _read_journal(self) -> bool:
        """Whether there is work to resume."""
        try:
            lines = (self.folder / JOURNAL).read_text(encoding="utf-8").split("\n")
            for line in lines[:-1]:  # text after the last line feed was cut off by a kill
                said = json.loads(line)
                if self.keys[said["part"]] == said["key"]:
                    self.bad[said["part"]] = said["bad"]
                else:  # its files have changed since
                    self.bad.pop(said["part"], None)
            if lines[-1]:
                os.truncate(self.folder / JOURNAL, sum(len(line.encode()) + 1 for line in lines[:-1]))
            return all(rows.whole_file() for rows in self.arrays.values())
        except (OSError, ValueError, LookupError, TypeError):
            return False

    @writing()
    def put(self, number: int, part: Part, arrays: dict[str, np.ndarray], bad: list[list]) -> None:
        """Write a decoded part."""
        for (split, kind), rows in self.arrays.items():
            if split == part.split:
                rows.write(part.start, arrays[kind])
        self.bad[number] = bad
        self._pending.append({"part": number, "key": part.key, "bad": bad})
        if time.monotonic() - self._noted > FLUSH_S:
            self.note()

    @writing()
    def note(self) -> None:
        """Flush everything to disk, then record it in the journal: correct even after a power failure."""
        for rows in self.arrays.values():
            rows.sync()
        self.journal.writelines(json.dumps(line) + "\n" for line in self._pending)
        self.journal.flush()
        os.fsync(self.journal.fileno())
        self._pending, self._noted = [], time.monotonic()

    def close(self) -> None:
        for file in (*(rows.file for rows in self.arrays.values()), getattr(self, "journal", None)):
            if file is not None:
                with suppress(OSError):  # on a full disk, buffered data cannot be written
                    file.close()

    @writing()
    def fill_holes(self, bad: dict[str, list[int]]) -> None:
        """Copy the last readable examples of a split to the rows of unreadable ones.

        So few rows move instead of nearly all. Idempotent as long as the last rows exist (:meth:`cut`).
        """
        for (split, _), rows in self.arrays.items():
            kept = self.sizes[split] - len(bad[split])
            holes = [row for row in bad[split] if row < kept]
            movable = sorted(set(range(kept, self.sizes[split])) - set(bad[split]))
            for hole, row in zip(holes, movable, strict=True):
                rows.copy_row(row, hole)
            rows.sync()

    @writing()
    def cut(self, kept: dict[str, int]) -> None:
        """Keep only the first rows of each split. Work that is stopped after this starts over."""
        for (split, _), rows in self.arrays.items():
            rows.set_rows(kept[split])
            rows.sync()
