"""A small bench inside a notebook: seconds instead of minutes, the same rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mlplib.progress import quiet

from ..profiles import Profile
from . import derived, speed
from .cases import Case, default_cases
from .targets import TARGETS, judge

ROUNDS = {"smoke": 2, "laptop": 5}
"""Rounds for each seed; more where a step takes long enough for it."""

TURN_SECONDS = {"smoke": 0.01}
"""Shorter turns, where all of it should be over at once."""

LAYERS = {"smoke": {"widths": (32, 128), "batches": (1, 16, 256)}}
PARTS = ("steps", "layers", "tried")


def case_of(profile: Profile, device: torch.device) -> Case:
    """What a profile's execution times: its B-MLP on its first data set; for the profiles of GPUs, the cases'
    last one, whose images are never far.
    """
    if profile.name in ("smoke", "laptop"):
        return Case(profile.b_mlp, profile.datasets[0], profile.batch_size)
    return default_cases(device)[-1]


def measure(
    profile: Profile, seeds: Sequence[int], device: torch.device, command: str, progress=quiet
) -> dict:
    """Rows as of :func:`mlpstudy.bench.speed.measure`: steps, layers and other ways, each seed a repetition
    with its own weights and draws.

    Raises:
        MlplibError: the data cannot be had.
    """
    found = None
    for seed in seeds:
        again = speed.measure(
            cases=[case_of(profile, device)],
            device=device,
            rounds=ROUNDS.get(profile.name, speed.ROUNDS),
            progress=progress,
            command=command,
            parts=PARTS,
            turn_seconds=TURN_SECONDS.get(profile.name),
            layer_sizes=LAYERS.get(profile.name),
            brief=profile.name == "smoke",
            seed=seed,
        )
        found = again if found is None else _joined(found, again)
    return found


def _joined(first: dict, second: dict) -> dict:
    """The rounds of both."""
    rows = []
    for a, b in zip(first["rows"], second["rows"], strict=True):
        rows.append(a | {"seconds": a["seconds"] + b["seconds"]} if "seconds" in a else a)
    whole = first | {
        "rows": rows,
        "rounds": first["rounds"] + second["rounds"],
        "seconds": first["seconds"] + second["seconds"],
        "derived": derived.numbers(rows, first["cases"]),
    }
    return whole | {"targets": [judge(target, whole) for target in TARGETS]}
