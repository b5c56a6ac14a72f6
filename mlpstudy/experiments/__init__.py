"""The experiments: one module each, for one paper item or a few that share runs.

A module offers, in this order,

- ``TITLE`` and ``ITEMS``: its chapter's title and the paper's tables and figures that it covers;
- ``runs(profile, seeds) -> list[RunSpec]``: every run that it needs;
- ``checkpoint_runs(profile, seeds, found) -> list[RunSpec]``, only where official checkpoints
  (:mod:`mlplib.official`) can take part: the additional runs for those that a reader has;
- ``summary(records, profile) -> list[Cell]``: its table, from the records of the runs of a profile;
- ``FIGURES``: name to ``Figure``, drawn from records;
- ``CLAIMS``: the claims it decides, each a function whose docstring is the criterion.

Only ``runs`` is needed to train, so importing an experiment imports neither pandas nor matplotlib.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from mlplib.errors import require_choice

EXPERIMENTS = (
    "architectures",
    "from-scratch",
    "filters",
    "transfer",
    "linear-probes",
    "batch-size",
    "scaling-laws",
    "parameters-or-examples",
    "standard-mlp",
    "ablations",
    "normalization",
    "label-smoothing",
    "efficiency",
)
"""Every experiment by name, in the order of the book."""


def experiment(name: str) -> ModuleType:
    """The module of an experiment.

    Raises:
        MlplibError: no experiment has this name.
    """
    require_choice("experiment", name, EXPERIMENTS)
    return importlib.import_module(f".{name.replace('-', '_')}", __name__)
