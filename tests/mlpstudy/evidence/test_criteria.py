"""Every criterion has the date of its commit, so a reader can check that it is older than the records."""

import dataclasses
import json
import runpy

from small_runs import ROOT

from mlplib.store import Record
from mlpstudy.evidence import criteria
from mlpstudy.evidence.verdicts import every_claim

CLAIMS = [claim for _, claim in every_claim()]


def test_the_last_version_is_todays_for_every_claim():
    versions = json.loads(criteria.FILE.read_text())
    assert versions.keys() == {claim.id for claim in CLAIMS}
    changed = [c.id for c in CLAIMS if list(versions[c.id])[-1] != criteria.digest(c.criterion)]
    assert not changed, "bin/date-criteria writes down when a criterion changed"


def test_dates_are_in_order():
    for claim in CLAIMS:
        dates = criteria.criterion_dates(claim)
        assert dates == sorted(dates) and len(dates) >= 1


def records(*times):
    return [Record("x", None, "completed", {}, {}, environment={"began": t} if t else {}) for t in times]


def test_a_criterion_is_compared_with_the_oldest_record(monkeypatch):
    claim = dataclasses.replace(CLAIMS[0], id="C99")
    monkeypatch.setattr(
        criteria, "_versions", lambda: {"C99": {"a": "2026-01-01T10:00", "b": "2026-02-01T10:00"}}
    )
    assert criteria.written_before(claim, records("2026-02-01T10:00:30+00:00", "2026-03-01T00:00:00+00:00"))
    assert not criteria.written_before(
        claim, records("2026-02-01T09:59:59+00:00", "2026-03-01T00:00:00+00:00")
    )
    assert criteria.written_before(claim, records("2026-03-01T00:00:00+00:00", None)) is None
    assert criteria.written_before(claim, []) is None


def test_the_script_reads_the_criteria_that_the_code_has():
    script = runpy.run_path(str(ROOT / "bin" / "date-criteria"))
    modules = (ROOT / "mlpstudy" / "experiments").glob("*.py")
    found = {id: text for path in modules for id, text in script["criteria"](path.read_text())}
    assert {id: script["digest"](text) for id, text in found.items()} == {
        c.id: criteria.digest(c.criterion) for c in CLAIMS
    }
    old = """X = Claim("C97", "s.", "i", "one " "two" + NOTE, judge)"""
    assert list(script["criteria"](old)) == [("C97", "one two")]
