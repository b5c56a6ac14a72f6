"""Campaigns small enough for a test: experiments made by hand, and one that can be run as a process."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from small_runs import small

from mlplib.specs import FilterSpec
from mlplib.store import RunStore
from mlpstudy.campaign import driver, order
from mlpstudy.campaign.driver import Campaign
from mlpstudy.campaign.parcel import Parcel, read
from mlpstudy.profiles import profile

SMOKE = profile("smoke")


def experiment(runs, claims: int = 1) -> SimpleNamespace:
    """An experiment of which only the runs matter; ``runs``: from a seed to its specs."""
    return SimpleNamespace(
        runs=lambda profile, seeds: [spec for seed in seeds for spec in runs(seed)], CLAIMS=[None] * claims
    )


def use(monkeypatch, **experiments) -> None:
    """Let campaigns know these experiments, and estimate quickly."""
    monkeypatch.setattr(order, "experiment", experiments.__getitem__)
    monkeypatch.setattr(driver.Estimator, "seconds", lambda self, spec: 0.5)


def campaign(folder: Path, names, minutes: float = 5.0, **how) -> Campaign:
    """A campaign whose store, parcel and published records are below ``folder``."""
    how = {"seeds": (0,), "log": lambda line: None} | how
    return Campaign(
        list(names),
        SMOKE,
        how.pop("store", RunStore(folder / "runs")),
        how.pop("parcel", None) or Parcel(folder / "out", "smoke"),
        folder / "results",
        torch.device("cpu"),
        minutes,
        **how,
    )


def results(folder: Path) -> dict[str, dict]:
    """What must be the same however often a campaign was stopped: the parcel's records by id, without what
    tells of one execution.
    """
    found = {}
    for item in read(folder / "out")[1]:
        values = item.record.to_json()
        artifacts = {name: content.hex() for name, content in item.artifacts.items()}
        found[item.record.id] = {k: values[k] for k in ("status", "data", "metrics", "history")} | artifacts
    return found


def several_seconds(seed: int) -> list:
    """Some trainings of a second or two, and looks at them."""
    runs = [small(epochs=epochs, batch_size=16, seed=seed) for epochs in (60, 90, 120)]
    return [*runs, *(FilterSpec(run) for run in runs)]


if __name__ == "__main__":  # a campaign in a process of its own, for tests to kill; or on a disk that is full
    if len(sys.argv) > 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
    torch.set_num_threads(1)
    order.experiment = {"several": experiment(several_seconds)}.__getitem__
    driver.Estimator.seconds = lambda self, spec: 0.5
    report = campaign(Path(sys.argv[1]), ["several"], log=lambda line: print(line, flush=True)).run()
    print(
        json.dumps(
            {
                "left": sum(left.runs for left in report.left),
                "trouble": report.trouble,
                "failed": report.failed,
            }
        )
    )
