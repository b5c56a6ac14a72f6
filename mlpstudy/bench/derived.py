"""Numbers that follow from rows: shares, ratios and what they mean for a whole training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from . import growth, loaders
from .rounds import per_round, rate, summary

IMAGENET21K_IMAGES = 11_801_680
"""Training images of ImageNet-21k after its clean-up (official code)."""

CIFAR10_IMAGES, CIFAR10_EPOCHS = 50_000, 5000
"""The longest training of Table 1."""

PAPER_EPOCH_SECONDS = {"B-12/Wi-1024": 450, "B-6/Wi-1024": 250}
"""Seconds of an epoch of ImageNet-21k on the paper's card, an RTX A5000, at batch 16384 (paper's text)."""


def numbers(rows: Sequence[Mapping], cases: Sequence[Mapping]) -> list[dict]:
    """All of them: ``group``, ``id``, ``name``, ``unit``, and ``value`` with quartiles or ``why`` not."""
    found = []
    grouped: dict[str, dict[str, Mapping]] = {}
    for row in rows:
        grouped.setdefault(row["group"], {})[row["id"]] = row
    for case in cases:
        if case["name"] in grouped:
            found += _of_case(grouped[case["name"]], case["name"])
    return found + _loaders(grouped.get(loaders.GROUP, {})) + _growth(grouped)


def _number(group: str, id: str, name: str, unit: str, value: Mapping) -> dict:
    return {"group": group, "id": id, "name": name, "unit": unit, **value}


def _of_case(rows: Mapping[str, Mapping], group: str) -> list[dict]:
    def number(id: str, name: str, unit: str, compute: Callable[..., float], *of: str) -> dict:
        return _number(group, id, name, unit, per_round(rows, compute, *of))

    def share(id: str) -> Callable[[float, float], float]:
        work, roof = rows.get(id, {}).get("flops", 0.0), rows["matmul"]["flops"]
        return lambda seconds, peak: (work / seconds) / (roof / peak)

    images = rows.get("end-to-end", {}).get("images", 0)
    shares = {
        "share": ("end-to-end", "share of the matrix-product rate, end to end with DA"),
        "share-no-da": ("end-to-end-no-da", "the same without DA"),
        "share-step": ("step", "the same, the step alone"),
        "share-products": ("products", "the same, the products of a step alone"),
        "share-reference": ("reference", "the same, reference loop"),
    }
    return [
        *(number(id, name, "", share(row), row, "matmul") for id, (row, name) in shares.items()),
        number(
            "over-reference",
            "as fast as the reference loop, end to end",
            "times",
            lambda theirs, ours: theirs / ours,
            "reference",
            "end-to-end",
        ),
        number(
            "over-reference-step",
            "as fast as the reference loop, the step alone",
            "times",
            lambda theirs, ours: theirs / ours,
            "reference-step",
            "step",
        ),
        number("da-adds", "augmentation adds to the step", "%", _more, "end-to-end", "end-to-end-no-da"),
        number(
            "da-alone",
            "augmentation alone, of the step",
            "%",
            lambda da, none, step: 100 * (da - none) / step,
            "batches",
            "batches-no-da",
            "step",
        ),
        number("loading-adds", "loading and augmentation add to the step", "%", _more, "end-to-end", "step"),
        number(
            "imagenet21k-epoch",
            "an epoch of as many images as ImageNet-21k has",
            "s",
            lambda seconds: IMAGENET21K_IMAGES * seconds / images,
            "end-to-end",
        ),
        number(
            "cifar10-5000",
            "CIFAR-10's images 5000 times",
            "min",
            lambda seconds: CIFAR10_IMAGES * CIFAR10_EPOCHS * seconds / images / 60,
            "end-to-end",
        ),
    ]


def _more(seconds: float, less: float) -> float:
    """By how many percent a time is longer than another."""
    return 100 * (seconds / less - 1)


def _loaders(rows: Mapping[str, Mapping]) -> list[dict]:
    if not rows:
        return []
    found = []
    for id, row in rows.items():
        value = {"why": row["why"]} if "why" in row else rate(row, "images")
        found.append(_number(loaders.GROUP, f"{id}-rate", row["name"], "images/s", value))
    adds = per_round(rows, _more, "streamed-epoch", "resident-epoch")
    name = "images from FFCV files add to a step"
    return [*found, _number(loaders.GROUP, "ffcv-adds", name, "%", adds)]


def _growth(grouped: Mapping[str, Mapping[str, Mapping]]) -> list[dict]:
    found = []
    rows = grouped.get(growth.GROUP, {})
    if rows:
        time = per_round(rows, lambda twice, one: twice / one, "twice-the-images", "images")
        found.append(_number(growth.GROUP, "time", "time of twice the images", "times", time))
        memory = rows["memory"]
        value = {"why": memory["why"]} if "why" in memory else summary([100 * memory["growth"]])
        found.append(_number(growth.GROUP, "memory", "memory grows over later epochs", "%", value))
    for row in grouped.get("start-up", {}).values():
        found.append(_number("start-up", "seconds", row["name"], "s", summary(row["seconds"])))
    return found


# --------------------------------------------------------------------------- the parts of a step

PARTS = ("matrix products", "elementwise and the rest", "optimizer", "loading", "augmentation")


def step_parts(rows: Mapping[str, Mapping]) -> dict[str, float]:
    """Seconds that each of :data:`PARTS` takes of a step end to end with DA; empty where no step was timed.

    Products and the optimizer were timed alone. What the step needs beyond them is elementwise operations and
    everything else; what it needs less when nothing is loaded or augmented is the rest. A part that costs
    nothing that can be measured is 0.

    Args:
        rows: of one case, by id.
    """
    needed = ("products", "optimizer", "step", "end-to-end-no-da", "end-to-end")
    if any("seconds" not in rows.get(id, {}) for id in needed):
        return {}
    products, optimizer, step, plain, whole = (summary(rows[id]["seconds"])["value"] for id in needed)
    found = (products, step - products - optimizer, optimizer, plain - step, whole - max(plain, step))
    return {part: max(0.0, seconds) for part, seconds in zip(PARTS, found, strict=True)}
