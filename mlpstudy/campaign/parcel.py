"""The few small files that take a campaign's records home: zip archives ``records-<k>.zip``.

Each holds ``parcel.json`` (format and profile) and, for every run, ``<run id>/record.json`` and its small
files. An archive is replaced as a whole, so whenever the machine goes away, what is there can be read.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlplib.errors import MlplibError
from mlplib.files import replacing
from mlplib.store import Record

FORMAT = 1
MAX_FILES = 8
MAX_BYTES = 16 * 2**20
"""As much as a file of a parcel may hold."""

_ABOUT = "parcel.json"
_RECORD = "record.json"
_DATE = (1980, 1, 1, 0, 0, 0)
"""Of every entry, so that the same records make the same file."""


class ParcelFull(MlplibError):
    """All the files are as large as they may be."""


@dataclass(frozen=True)
class Item:
    """A record and the run's small files, by name."""

    record: Record
    artifacts: Mapping[str, bytes]


def _paths(folder: Path) -> list[Path]:
    """The files that are there, in the order in which they were begun."""
    numbered = {
        int(match[1]): path
        for path in folder.glob("records-*.zip")
        if (match := re.fullmatch(r"records-(\d+)\.zip", path.name))
    }
    return [numbered[number] for number in sorted(numbered)]


class Parcel:
    """A parcel to add records to; one that is there already is gone on with.

    Args:
        max_bytes, max_files: the limits.

    Raises:
        MlplibError: the folder cannot be written to, or holds a damaged file or another profile's records.
    """

    def __init__(self, folder: Path, profile: str, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES):
        self.folder, self.profile = Path(folder), profile
        self.max_bytes, self.max_files = max_bytes, max_files
        profiles, items = _contents(self.folder)
        others = profiles - {profile}
        if others:
            raise MlplibError(
                f"{self.folder} holds records of profile {min(others)}, not {profile}: choose another folder"
            )
        self.ids = {item.record.id for item in items}
        """The runs that are in."""
        with replacing(self.folder / "records.try") as temporary:  # before anything is trained
            temporary.touch()
        (self.folder / "records.try").unlink()

    def add(self, item: Item) -> None:
        """Put a run in, unless it is.

        Raises:
            ParcelFull: there is no room for it.
            MlplibError: the folder cannot be written to.
        """
        if item.record.id in self.ids:
            return
        paths = _paths(self.folder)
        if not (paths and self._write(paths[-1], paths[-1].read_bytes(), item)):
            if len(paths) >= self.max_files:
                raise ParcelFull(
                    f"{self.folder} is full ({self.max_files} files): merge it (mlplib results merge), "
                    "then go on with an empty folder"
                )
            number = int(paths[-1].stem.partition("-")[2]) + 1 if paths else 0
            if not self._write(self.folder / f"records-{number}.zip", b"", item):
                raise ParcelFull(
                    f"{item.record.id} takes more than the {self.max_bytes / 2**20:g} MiB of a file"
                )
        self.ids.add(item.record.id)

    def _write(self, path: Path, before: bytes, item: Item) -> bool:
        """Write a file anew with one run more. False, and nothing is changed, if that made it too large."""
        archive = io.BytesIO(before)
        with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as file:
            if not before:
                _put(file, _ABOUT, json.dumps({"format": FORMAT, "profile": self.profile}).encode())
            record = json.dumps(item.record.to_json(), sort_keys=True, allow_nan=False).encode()
            for name, content in {_RECORD: record, **item.artifacts}.items():
                _put(file, f"{item.record.id}/{name}", content)
        content = archive.getvalue()
        if len(content) > self.max_bytes:
            return False
        with replacing(path) as temporary:
            temporary.write_bytes(content)
        return True


def _put(file: zipfile.ZipFile, name: str, content: bytes) -> None:
    file.writestr(zipfile.ZipInfo(name, _DATE), content, zipfile.ZIP_DEFLATED, 9)


def read(folder: Path) -> tuple[str, list[Item]]:
    """The profile and all runs of a parcel.

    Raises:
        MlplibError: there is none, a file is damaged, or files are of different profiles.
    """
    profiles, items = _contents(Path(folder))
    if not profiles:
        raise MlplibError(
            f"no records-<number>.zip in {folder}: name the folder that a campaign wrote (--out)"
        )
    if len(profiles) > 1:
        raise MlplibError(f"{folder} holds records of several profiles, {', '.join(sorted(profiles))}")
    return profiles.pop(), items


def _contents(folder: Path) -> tuple[set[str], list[Item]]:
    """The profiles and all runs of the files in a folder, each file read once."""
    opened = {path: _open(path) for path in _paths(folder)}
    profiles = {profile for profile, _ in opened.values()}
    return profiles, [item for path, (_, runs) in opened.items() for item in _items(path, runs)]


def _open(path: Path) -> tuple[str, dict[str, dict[str, bytes]]]:
    """A file's profile and its runs' files, by id and name."""
    found: dict[str, dict[str, bytes]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            about = json.loads(archive.read(_ABOUT))
            version, profile = about["format"], about["profile"]
            for entry in archive.namelist():
                id, _, name = entry.partition("/")
                if name:
                    found.setdefault(id, {})[name] = archive.read(entry)  # its checksum is looked at
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, EOFError, OSError, zlib.error) as error:
        raise MlplibError(f"{path} is damaged ({error}): copy it again") from None
    if version != FORMAT:
        raise MlplibError(f"{path} has format {version!r}, and this version reads {FORMAT}: update mlplib")
    return profile, found


def _items(path: Path, runs: dict[str, dict[str, bytes]]) -> Iterator[Item]:
    for id, files in runs.items():
        try:
            record = Record.from_json(json.loads(files.pop(_RECORD)))
        except (KeyError, ValueError, MlplibError) as error:
            raise MlplibError(f"{path} holds no readable record of {id} ({error}): copy it again") from None
        if record.id != id:
            raise MlplibError(f"{path} holds the record of {record.id} as that of {id}: copy it again")
        yield Item(record, files)
