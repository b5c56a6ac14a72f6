"""The base class of all runs: their ids, and their form as plain JSON values."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import ClassVar

from ..errors import MlplibError, require_choice
from .parts import DataSpec
from .settings import Settings

NUMERICS_VERSION = 2
"""Raise this whenever training computes different numbers from the same settings than before."""

LONGEST_SLUG = 241
"""Characters of a slug that are part of an id: file systems take names of up to 255 bytes. Only names of own
folders make longer ones."""

KINDS: dict[str, type[RunSpec]] = {}
"""Every kind of run by its name."""


@dataclasses.dataclass(frozen=True)
class RunSpec(Settings):
    """The base class of all runs. A subclass names its ``kind`` and overrides :meth:`slug`."""

    kind: ClassVar[str]

    def __init_subclass__(cls, kind: str):
        cls.kind = kind
        KINDS[kind] = cls

    def slug(self) -> str:
        """A short readable name, not unique by itself."""
        raise NotImplementedError

    def data_name(self) -> str | None:
        """The catalog name of the data set that the run itself reads, or None."""
        data = getattr(self, "data", None)
        return None if data is None else data.name

    def needs(self) -> tuple[RunSpec, ...]:
        """The runs whose results this one reads."""
        return tuple(value for value in self._values() if isinstance(value, RunSpec))

    def data_names(self) -> tuple[str, ...]:
        """Catalog names of all data sets that the outcome depends on, including those of upstream runs."""
        names: list[str] = []
        for value in self._values():
            if isinstance(value, RunSpec):
                names += value.data_names()
            elif isinstance(value, DataSpec):
                names.append(value.name)
        return tuple(dict.fromkeys(names))

    def _values(self) -> list:
        return [getattr(self, field.name) for field in dataclasses.fields(self)]

    def to_json(self) -> dict:
        """The spec as plain JSON values, with its ``kind``; :meth:`from_json` reads it back."""
        return {"kind": self.kind, **super().to_json()}

    @classmethod
    def from_json(cls, values: dict) -> RunSpec:
        """The inverse of :meth:`to_json`.

        Raises:
            MlplibError: an unknown kind or setting, or an invalid value.
        """
        if not isinstance(values, dict):
            raise MlplibError(f"a run is written as a JSON object, not as {values!r}")
        kind = values.get("kind")
        require_choice("kind of run", kind, sorted(KINDS))
        return super(RunSpec, KINDS[kind]).from_json({k: v for k, v in values.items() if k != "kind"})

    def id_on(self, contents: Mapping[str, str]) -> str:
        """``<slug>-<12 hex digits>``: the id of this run on data sets with these content hashes, by name.

        :func:`mlplib.store.run_id` asks the catalog for the hashes.
        """
        hashes = [contents[name] for name in self.data_names()]
        identity = {
            "spec": self.to_json(),
            "data": hashes[0] if len(hashes) == 1 else hashes,
            "numerics": NUMERICS_VERSION,
        }
        canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return f"{self.slug()[:LONGEST_SLUG]}-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"
