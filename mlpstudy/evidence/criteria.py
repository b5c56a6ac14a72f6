"""When each criterion was written and changed, from the commits (``bin/date-criteria`` writes them down)."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from mlplib.store import Record

from ..claims import Claim

FILE = Path(__file__).resolve().parents[1] / "criteria.json"


@functools.cache
def _versions() -> dict[str, dict[str, str]]:
    return json.loads(FILE.read_text(encoding="utf-8"))


def digest(criterion: str) -> str:
    """A short hash of a criterion's text."""
    return hashlib.sha256(criterion.encode()).hexdigest()[:16]


def criterion_dates(claim: Claim) -> list[str]:
    """When the versions of a criterion were committed, the first one first: ``2026-11-23T21:40``, UTC."""
    return list(_versions().get(claim.id, {}).values())


def written_before(claim: Claim, records: Sequence[Record]) -> bool | None:
    """Whether a claim's criterion is older than all of these records; None if one does not say when it was
    made.
    """
    dates, began = criterion_dates(claim), [record.environment.get("began") for record in records]
    if not dates or not began or None in began:
        return None
    return dates[-1] <= min(datetime.fromisoformat(each).strftime("%Y-%m-%dT%H:%M") for each in began)
