"""``mlplib bench accuracy``: the accuracy that training reaches, and whether bf16 lowers it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import torch

from mlplib import machine
from mlplib.execution import Execution
from mlplib.specs import FULL_DA, NO_DA
from mlplib.training import train

from ..stats import over_seeds, paired
from .cases import Case
from .speed import FORMAT, environment

PARTS = 4
"""How many times a training is evaluated, its end included."""


def measure(
    case: Case,
    device: torch.device,
    *,
    seeds: Sequence[int],
    epochs: int,
    progress,
    command: str,
) -> dict:
    """Train with and without DA in the device's best precision, and with DA in bf16 and in float32.

    Returns:
        ``runs``: augmentation, precision, seed, test accuracy (a fraction) by epoch; ``differences``: the
        effect of DA and of bf16 on the final accuracy in points, paired by seed, with its interval (None for
        one seed); ``machine``, ``case``, ``command`` as for speed. No weights are kept.

    Raises:
        MlplibError: an unknown network or data set, a batch larger than the data, or too little memory.
    """
    start = time.monotonic()
    case.require_possible(device)
    dataset, usual = case.images(progress), machine.pick_precision("auto", device)
    settings = dict.fromkeys([(True, usual), (False, usual), (True, "bf16"), (True, "fp32")])
    runs = []
    for seed in seeds:
        for da, precision in settings:
            spec = case.spec(FULL_DA if da else NO_DA, precision, seed)
            spec = replace(spec, epochs=epochs, evaluate_at=evaluation_epochs(epochs)[:-1])
            done = train(spec, dataset, how=Execution(device=device, progress=progress))
            curve = {str(entry["epoch"]): entry["top1"] for entry in done.history["test"]}
            run = {"da": da, "precision": precision, "seed": seed, "status": done.status, "top1": curve}
            runs.append(run)
    return {
        "format": FORMAT,
        "what": "accuracy",
        "command": command,
        "machine": environment(device),
        "case": case.name,
        "epochs": epochs,
        "seconds": time.monotonic() - start,
        "runs": runs,
        "differences": differences(runs, usual),
    }


def evaluation_epochs(epochs: int) -> tuple[int, ...]:
    """The epochs to evaluate after, the last one included."""
    return tuple(sorted({-(-epochs * part // PARTS) for part in range(1, PARTS + 1)}))


def differences(runs: Sequence[dict], usual: str) -> list[dict]:
    """The effect of bf16, and that of DA in the ``usual`` precision, on the final accuracy."""
    return [
        difference("bf16 over float32, with DA", runs, (True, "bf16"), (True, "fp32")),
        difference("DA over none", runs, (True, usual), (False, usual)),
    ]


def difference(name: str, runs: Sequence[dict], *settings: tuple[bool, str]) -> dict:
    """The final accuracy of one (augmentation, precision) minus that of another, without diverged runs."""
    final: dict[tuple, dict[int, float]] = {setting: {} for setting in settings}
    for run in runs:
        if run["status"] == "completed" and (setting := (run["da"], run["precision"])) in final:
            final[setting][run["seed"]] = list(run["top1"].values())[-1]
    ours, other = final.values()
    if not ours.keys() & other.keys():
        return {"name": name, "why": "no seed ended with finite numbers in both"}
    found = over_seeds(paired(ours, other)).times(100)
    return {"name": name, "points": found.mean, "low": found.low, "high": found.high, "n": found.n}


def mean_curves(runs: Sequence[dict]) -> pd.DataFrame:
    """Mean test accuracy over seeds, one row per (``da``, ``precision``), one column per epoch."""
    curves = pd.DataFrame([run["top1"] for run in runs])
    settings = [[run[key] for run in runs] for key in ("da", "precision")]
    return curves.groupby(settings, sort=False).mean()
