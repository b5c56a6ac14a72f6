"""Specifications of runs: frozen settings that validate themselves, and the id derived from them.

A run (one training, probe, evaluation, ...) is fully described by a :class:`RunSpec`. Its id is a
readable slug plus a hash over (1) the canonical JSON of the spec, (2) the content hashes of its
data sets and (3) :data:`~mlplib.specs.base.NUMERICS_VERSION`. A changed setting, data set or algorithm is
therefore a new run, and a run can safely be skipped when its record exists.

Only the standard library is imported here, so that planning does not need torch.
"""

from .base import KINDS, NUMERICS_VERSION, RunSpec
from .parts import (
    ACTIVATIONS,
    BASELINES,
    FAMILIES,
    FULL_DA,
    MIXUP_KINDS,
    NO_DA,
    NORM_POSITIONS,
    NORMS,
    OPTIMIZERS,
    SCHEDULES,
    AugmentSpec,
    DataSpec,
    ModelSpec,
    OptimizerSpec,
)
from .runs import (
    PRECISIONS,
    PROBES,
    CheckpointSpec,
    EvaluateSpec,
    FilterSpec,
    FineTuneSpec,
    ProbeSpec,
    TimingSpec,
    TrainSpec,
)
