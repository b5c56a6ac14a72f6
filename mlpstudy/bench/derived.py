"""Numbers that follow from rows: shares, ratios, and what they mean for a whole training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from .rounds import per_round, rate, summary

IMAGENET21K_IMAGES = 11_801_680
"""Training images of ImageNet-21k after its clean-up (official code)."""

CIFAR10_IMAGES, CIFAR10_EPOCHS = 50_000, 5000
"""The longest training of Table 1."""

PARTS = ("matrix products", "elementwise and the rest", "optimizer", "loading", "augmentation")


def rows_of(found: Mapping, group: str) -> dict[str, dict]:
    """The rows of a group of a results file, by id."""
    return {row["id"]: row for row in found["rows"] if row["group"] == group}


def numbers(rows: Sequence[Mapping], cases: Sequence[Mapping]) -> list[dict]:
    """Derived numbers: ``group``, ``id``, ``name``, ``unit``; ``value`` with quartiles, or ``why`` not."""
    groups: dict[str, dict[str, Mapping]] = {}
    for row in rows:
        groups.setdefault(row["group"], {})[row["id"]] = row
    found = [n for case in cases if (name := case["name"]) in groups for n in _of_case(groups[name], name)]
    found += _loaders(groups.get("loaders", {})) + _growth(groups.get("growth", {}))
    for row in groups.get("start-up", {}).values():
        found.append(_number("start-up", "seconds", row["name"], "s", summary(row["seconds"])))
    return found


def _number(group: str, id: str, name: str, unit: str, value: Mapping) -> dict:
    return {"group": group, "id": id, "name": name, "unit": unit, **value}


def _of_case(rows: Mapping[str, Mapping], group: str) -> list[dict]:
    images = rows.get("end-to-end", {}).get("images", 0)

    def add(id: str, name: str, unit: str, compute: Callable[..., float], *of: str) -> None:
        found.append(_number(group, id, name, unit, per_round(rows, compute, *of)))

    def add_share(id: str, name: str, row: str) -> None:
        work, roof = rows.get(row, {}).get("flops", 0.0), rows["matmul"]["flops"]
        add(id, name, "", lambda seconds, peak: (work / seconds) / (roof / peak), row, "matmul")

    found: list[dict] = []
    add_share("share", "share of the matrix-product rate, end to end with DA", "end-to-end")
    add_share("share-no-da", "the same without DA", "end-to-end-no-da")
    add_share("share-step", "the same, the step alone", "step")
    add_share("share-products", "the same, the products of a step alone", "products")
    add_share("share-reference", "the same, reference loop", "reference")
    for id, name, theirs, ours in (
        ("over-reference", "end to end", "reference", "end-to-end"),
        ("over-reference-step", "the step alone", "reference-step", "step"),
    ):
        add(id, f"as fast as the reference loop, {name}", "times", _ratio, theirs, ours)
    add("da-adds", "augmentation adds to the step", "%", _percent_more, "end-to-end", "end-to-end-no-da")
    add(
        "da-alone",
        "augmentation alone, of the step",
        "%",
        lambda da, none, step: 100 * (da - none) / step,
        *("batches", "batches-no-da", "step"),
    )
    add("loading-adds", "loading and augmentation add to the step", "%", _percent_more, "end-to-end", "step")
    name = "an epoch of as many images as ImageNet-21k has"
    add("imagenet21k-epoch", name, "s", lambda s: IMAGENET21K_IMAGES * s / images, "end-to-end")
    total = CIFAR10_IMAGES * CIFAR10_EPOCHS
    name = "CIFAR-10's images 5000 times"
    add("cifar10-5000", name, "min", lambda s: total * s / images / 60, "end-to-end")
    return found


def _ratio(seconds: float, other: float) -> float:
    return seconds / other


def _percent_more(seconds: float, other: float) -> float:
    return 100 * (seconds / other - 1)


def _loaders(rows: Mapping[str, Mapping]) -> list[dict]:
    if not rows:
        return []
    found = []
    for id, row in rows.items():
        value = {"why": row["why"]} if "why" in row else rate(row, "images")
        found.append(_number("loaders", f"{id}-rate", row["name"], "images/s", value))
    adds = per_round(rows, _percent_more, "streamed-epoch", "resident-epoch")
    return [*found, _number("loaders", "ffcv-adds", "images from FFCV files add to a step", "%", adds)]


def _growth(rows: Mapping[str, Mapping]) -> list[dict]:
    if not rows:
        return []
    time, memory = per_round(rows, _ratio, "twice-the-images", "images"), rows["memory"]
    value = {"why": memory["why"]} if "why" in memory else summary([100 * memory["growth"]])
    return [
        _number("growth", "time", "time of twice the images", "times", time),
        _number("growth", "memory", "memory grows over later epochs", "%", value),
    ]


def step_parts(rows: Mapping[str, Mapping]) -> dict[str, float]:
    """Seconds that each of :data:`PARTS` takes of a step end to end with DA; empty where no step was timed.

    Products and the optimizer were timed alone; the rest of a step on a fixed batch is elementwise operations
    and everything else. Loading and augmentation are differences, 0 where they are too small to measure.

    Args:
        rows: of one case, by id.
    """
    needed = ("products", "optimizer", "step", "end-to-end-no-da", "end-to-end")
    if any("seconds" not in rows.get(id, {}) for id in needed):
        return {}
    products, optimizer, step, plain, whole = (summary(rows[id]["seconds"])["value"] for id in needed)
    found = (products, step - products - optimizer, optimizer, plain - step, whole - max(plain, step))
    return {part: max(0.0, seconds) for part, seconds in zip(PARTS, found, strict=True)}
