"""Run ids are promises: records are found by them. Every run of every experiment and profile keeps its id.

``tests/golden/run-ids.json`` holds them all. A new run is added there. An id that changes or goes loses
published records; that needs a raised NUMERICS_VERSION or a design that was changed on purpose.

    python tests/mlpstudy/test_run_ids.py    writes the file
"""

import json
from pathlib import Path

import pytest

from mlpstudy.experiments import EXPERIMENTS, experiment
from mlpstudy.planning import with_upstream
from mlpstudy.profiles import PROFILES

GOLDEN = Path(__file__).parents[1] / "golden" / "run-ids.json"


def run_ids(profile: str, name: str) -> list[str]:
    """The ids of an experiment's runs and of those they are made from, sorted."""
    chosen = PROFILES[profile]
    return sorted(with_upstream(experiment(name).runs(chosen, chosen.seeds)))


def digests(ids: list[str]) -> str:
    """The part of each id that tells runs apart."""
    return " ".join(sorted(id.rpartition("-")[2] for id in ids))


@pytest.fixture
def no_data(tmp_path, monkeypatch):
    """A machine without any data set, where the catalog's own content hashes count."""
    monkeypatch.setenv("MLPLIB_CACHE", str(tmp_path))
    monkeypatch.setenv("MLPLIB_DATA", str(tmp_path))


@pytest.mark.parametrize("profile", PROFILES)
def test_every_run_keeps_its_id(profile, no_data):
    known = json.loads(GOLDEN.read_text(encoding="utf-8"))[profile]
    assert list(known) == list(EXPERIMENTS)
    for name in EXPERIMENTS:
        ids = run_ids(profile, name)
        new = [id for id in ids if id.rpartition("-")[2] not in known[name].split()]
        assert not new, f"{name} has runs with other ids than before, {new[0]} for one"
        assert digests(ids) == known[name], f"{name} lacks runs that it had"


if __name__ == "__main__":
    found = {p: {e: digests(run_ids(p, e)) for e in EXPERIMENTS} for p in PROFILES}
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
