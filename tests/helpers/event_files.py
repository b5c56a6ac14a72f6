"""What TensorBoard reads from event files, and what it is to read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlplib.store import Record


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The points that TensorBoard shows of a run: tag to epochs and float32 values, in order."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def recorded(record: Record) -> dict[str, list[tuple[int, float]]]:
    """The same points from a run's record."""
    history, tests = record.history, record.history["test"]
    train = {f"train/{name}": history[f"train_{name}"] for name in ("loss", "accuracy")}
    points = {tag: list(zip(history["epoch"], values, strict=True)) for tag, values in train.items()}
    points |= {f"test/{name}": [(f["epoch"], f[name]) for f in tests] for name in ("top1", "top5", "loss")}
    return {tag: [(epoch, float(np.float32(v))) for epoch, v in found] for tag, found in points.items()}
