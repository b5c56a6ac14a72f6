"""Folders of published records made by hand, as another machine would send them."""

import dataclasses
import shutil

from small_runs import leave, record

from mlplib.data.catalog import content_hash
from mlplib.specs import DataSpec, ModelSpec, TrainSpec
from mlplib.store import Record, RunStore, run_id
from mlpstudy.evidence.merge import publish_finished
from mlpstudy.evidence.records import ProfileFolder
from mlpstudy.experiments import experiment
from mlpstudy.planning import with_upstream
from mlpstudy.profiles import profile

GPU = profile("gpu")
NAMES = ("filters", "label-smoothing")


def made(spec, **metrics):
    """A record by hand, under the id that its data give it."""
    found = record(spec, **metrics)
    data = {**found.data, "content_hash": content_hash(spec.data_name())}
    return dataclasses.replace(found, data=data, id=run_id(spec))


ALL = [made(s) for s in with_upstream(s for n in NAMES for s in experiment(n).runs(GPU, (0, 1))).values()]
"""A record of every run of some experiments, and of what they read from."""

TRAINED = [one for one in ALL if one.spec.kind == "train"]

OWN = made(TrainSpec(ModelSpec.parse("B-1/Wi-8"), DataSpec("cifar10"), epochs=1, batch_size=8))
"""A record of a run that no experiment has."""


def stored(folder, records: list[Record]) -> RunStore:
    """A store of these records."""
    store = RunStore(folder)
    leave(store, records)
    return store


def by_hand(folder, one: Record):
    """A folder with a record that no command would publish, and its hash."""
    root = folder / "gpu"
    root.mkdir(parents=True)
    for name, content in ProfileFolder({one.id: one}, {}).files().items():
        (root / name).write_bytes(content)
    return folder


def packed(folder, records: list[Record]):
    """The folder that the machine which made these records would send."""
    if all(one == OWN for one in records):
        by_hand(folder, OWN)
    else:
        publish_finished(NAMES, "gpu", None, stored(folder / "runs", records), folder)
        shutil.rmtree(folder / "runs")
    return folder
