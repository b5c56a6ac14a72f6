"""What every kind of run shares: its id, and its form as plain JSON values."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from .parts import DataSpec

NUMERICS_VERSION = 1
"""Raise this whenever training starts to compute something else from the same settings."""


@dataclass(frozen=True)
class RunSpec:
    """What every kind of run shares. Subclasses set ``kind`` and :meth:`slug`."""

    kind: ClassVar[str] = ""

    def slug(self) -> str:
        """A short readable name, not unique by itself."""
        raise NotImplementedError

    def data_name(self) -> str | None:
        """The catalog name of the data set that the run itself reads, None if it reads none."""
        return None

    def data_names(self) -> tuple[str, ...]:
        """The catalog names of every data set that the outcome depends on, upstream runs' included."""
        names: list[str] = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, RunSpec):
                names += value.data_names()
            elif isinstance(value, DataSpec):
                names.append(value.name)
        return tuple(dict.fromkeys(names))

    def needs(self) -> tuple[RunSpec, ...]:
        """The runs whose results this one reads."""
        return ()

    def to_json(self) -> dict:
        """The spec as plain JSON values, with its ``kind``; :func:`spec_from_json` reads it back."""
        return {"kind": self.kind, **plain(self)}

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
        return f"{self.slug()}-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"


def plain(spec) -> dict:
    """A spec's fields as plain JSON values; later additions only where they are not at their default."""
    out = {}
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if field.metadata.get("later") and value == field.default:
            continue
        if isinstance(value, RunSpec):
            value = value.to_json()
        elif dataclasses.is_dataclass(value):
            value = plain(value)
        elif isinstance(value, tuple):
            value = [_plain_number(v, field) for v in value]
        else:
            value = _plain_number(value, field)
        out[field.name] = value
    return out


def _plain_number(value, field: dataclasses.Field):
    # 1 and 1.0, 0.0 and -0.0 are the same setting where a float is meant, so they must hash alike.
    real = "float" in str(field.type) and isinstance(value, (int, float))
    return float(value) + 0.0 if real else value
