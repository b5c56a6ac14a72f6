"""Numbers computed from rows: shares, ratios, and estimates for a whole training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from operator import truediv

from mlplib.timing import summary

IMAGENET21K_IMAGES = 11_801_680
"""Training images of ImageNet-21k after its clean-up (official code)."""

CIFAR10_IMAGES, CIFAR10_EPOCHS = 50_000, 5000
"""The longest training of Table 1."""

PARTS = ("matrix products", "elementwise and the rest", "optimizer", "loading", "augmentation")

Rows = Mapping[str, Mapping]
"""Rows of one group, by id."""


def rows_of(found: Mapping, group: str) -> dict[str, dict]:
    """The rows of a group of a results file, by id."""
    return {row["id"]: row for row in found["rows"] if row["group"] == group}


def numbers_of(found: Mapping, group: str) -> dict[str, dict]:
    """The derived numbers of a group of a results file, by id."""
    return {number["id"]: number for number in found["derived"] if number["group"] == group}


def per_round(rows: Rows, compute: Callable[..., float], *ids: str) -> dict:
    """Apply ``compute`` to the seconds of some rows in every round: median and quartiles, or ``why`` not."""
    for id in ids:
        if id not in rows:
            return {"why": "it was not asked for"}
        if "why" in rows[id]:
            return {"why": rows[id]["why"]}
    return summary([compute(*values) for values in zip(*(rows[id]["seconds"] for id in ids), strict=True)])


def rate(row: Mapping, of: str) -> dict:
    """``images``, ``flops`` or ``bytes`` of a row per second: median and quartiles, or ``why`` not."""
    return per_round({"": row}, lambda seconds: row[of] / seconds, "")


def percent_more(seconds: float, other: float) -> float:
    """By how many percent longer."""
    return 100 * (seconds / other - 1)


def numbers(rows: Sequence[Mapping], cases: Sequence[Mapping]) -> list[dict]:
    """Derived numbers: ``group``, ``id``, ``name``, ``unit``; ``value`` with quartiles, or ``why`` not."""
    groups: dict[str, dict[str, Mapping]] = {}
    for row in rows:
        groups.setdefault(row["group"], {})[row["id"]] = row
    of_group = {case["name"]: _of_case for case in cases}
    of_group |= {"loaders": _loaders, "growth": _growth, "start-up": _start_up}
    return [
        {"group": group, "id": id, "name": name, "unit": unit, **value}
        for group, compute in of_group.items()
        if group in groups
        for id, name, unit, value in compute(groups[group])
    ]


Number = tuple[str, str, str, dict]
"""Id, name, unit, and ``value`` with quartiles or ``why``."""


def _of_case(rows: Rows) -> Iterator[Number]:
    of, images = partial(per_round, rows), rows.get("end-to-end", {}).get("images", 0)

    def share(id: str) -> dict:
        work, roof = rows.get(id, {}).get("flops", 0.0), rows["matmul"]["flops"]
        return of(lambda seconds, peak: (work / seconds) / (roof / peak), id, "matmul")

    def whole(images_seen: int, unit: int) -> dict:
        return of(lambda seconds: images_seen * seconds / images / unit, "end-to-end")

    def alone(da: float, none: float, step: float) -> float:
        return 100 * (da - none) / step

    faster = "as fast as the reference loop"
    yield "share", "share of the matrix-product rate, end to end with DA", "", share("end-to-end")
    yield "share-no-da", "the same without DA", "", share("end-to-end-no-da")
    yield "share-step", "the same, the step alone", "", share("step")
    yield "share-products", "the same, the products of a step alone", "", share("products")
    yield "share-reference", "the same, reference loop", "", share("reference")
    yield "over-reference", f"{faster}, end to end", "times", of(truediv, "reference", "end-to-end")
    yield "over-reference-step", f"{faster}, the step alone", "times", of(truediv, "reference-step", "step")
    adds = of(percent_more, "end-to-end", "end-to-end-no-da")
    yield "da-adds", "augmentation adds to the step", "%", adds
    yield "da-alone", "augmentation alone, of the step", "%", of(alone, "batches", "batches-no-da", "step")
    adds = of(percent_more, "end-to-end", "step")
    yield "loading-adds", "loading and augmentation add to the step", "%", adds
    epoch, longest = whole(IMAGENET21K_IMAGES, 1), whole(CIFAR10_IMAGES * CIFAR10_EPOCHS, 60)
    yield "imagenet21k-epoch", "an epoch of as many images as ImageNet-21k has", "s", epoch
    yield "cifar10-5000", "CIFAR-10's images 5000 times", "min", longest


def _loaders(rows: Rows) -> Iterator[Number]:
    for id, row in rows.items():
        yield f"{id}-rate", row["name"], "images/s", rate(row, "images")
    adds = per_round(rows, percent_more, "streamed-epoch", "resident-epoch")
    yield "ffcv-adds", "images from FFCV files add to a step", "%", adds


def _growth(rows: Rows) -> Iterator[Number]:
    yield "time", "time of twice the images", "times", per_round(rows, truediv, "twice-the-images", "images")
    memory = rows["memory"]
    grows = {"why": memory["why"]} if "why" in memory else summary([100 * memory["growth"]])
    yield "memory", "memory grows over later epochs", "%", grows


def _start_up(rows: Rows) -> Iterator[Number]:
    for row in rows.values():
        yield "seconds", row["name"], "s", summary(row["seconds"])


LAYER = ("width", "batch", "flops_per_byte", "flops_per_second", "peak_flops_per_second", "bytes_per_second")
"""The columns of :func:`layers`: sizes, what the layer reaches, and the rates of the machine."""


def layers(rows: Rows) -> Iterator[tuple[float, ...]]:
    """The layers among the rows of the group ``layers``, with the columns :data:`LAYER`."""
    for id, row in rows.items():
        if id.startswith("width-"):
            width, batch = map(int, id.split("-")[1::2])
            peak, copies = rate(rows["matmul"], "flops")["value"], rate(rows["copy"], "bytes")["value"]
            yield width, batch, row["flops"] / row["bytes"], rate(row, "flops")["value"], peak, copies


def step_parts(rows: Rows) -> dict[str, float]:
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
