"""Records of the scaling chapters made by hand: probes whose error follows a law of compute."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from small_runs import record

from mlplib.specs import ProbeSpec
from mlplib.store import Record
from mlpstudy.experiments import scaling_laws
from mlpstudy.laws.scaling import Point
from mlpstudy.profiles import Profile


def power_law(alpha: float, level: float = 0.5, unit: float = 1e10) -> Callable[[Point], float]:
    """Errors that depend on compute alone."""
    return lambda at: level * (at.compute / unit) ** -alpha


def probes(
    specs, error: Callable[[Point], float], noise: float = 0.003, keep=lambda spec: True
) -> list[Record]:
    """A record for every probe among ``specs``: ``error`` of its point times noise, fixed by its place."""
    random, made = np.random.default_rng(0), []
    for spec in specs:
        if isinstance(spec, ProbeSpec):
            value = error(scaling_laws.point(record(spec))) * math.exp(noise * random.normal())
            if keep(spec):
                made.append(record(spec, test_top1=1 - min(value, 0.999)))
    return made


def law_records(profile: Profile, error, seeds=(0, 1), **how) -> list[Record]:
    """Those of the chapter on scaling laws."""
    return probes(scaling_laws.runs(profile, seeds), error, **how)
