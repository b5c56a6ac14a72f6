"""One change at a time (Fig 9): parts of the block, regularization, optimizer and augmentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mlplib.specs import ModelSpec, OptimizerSpec, ProbeSpec, TrainSpec
from mlplib.stats import Estimate
from mlplib.store import Record

from ..claims import NOT_REPRODUCED, PARTLY, REPRODUCED, Claim, Judgement, judge_sign, not_tested, worst
from ..profiles import Profile
from .base import Cell, Figure, accuracy, effect, run_ids, seeds_cell, weakest
from .choices import (
    best_rate,
    in_words,
    probe_title,
    probes,
    rate,
    setting,
    tuning_probe,
    tuning_probes,
    variant,
)
from .pretraining import data, probe

TITLE = "Ablations"
ITEMS = ("Fig 9",)

CLIP = 1.0
"""Largest norm of the whole gradient where it is clipped: the usual one, the paper's is not known to us."""

DROPOUT = 0.1
"""Share of activations dropped, where any are; the paper's is not known to us."""

ADAMW_BETAS = (0.9, 0.999)
"""AdamW's usual ones; Lion's are others."""


@dataclass(frozen=True)
class Budget:
    """What the ablations spend.

    ``lion, adamw``: learning rates to choose among; Lion's hold the profile's own. ``upstream``: the data to
    pre-train on, None for the profile's.

    ``weight_decay``: where there is any. The paper's is 1e-3, in runs of some 580,000 updates at a learning
    rate of 1e-5 (the scaling plots: 800 epochs of ImageNet-21k in batches of 16,384). Decay shrinks a weight
    by learning rate times decay at every update, so in runs with far fewer updates 1e-3 would do nothing that
    could be measured. Profiles ``laptop`` and ``gpu`` therefore take the decay with which learning rate x
    decay x updates is the same as there.
    """

    weight_decay: float
    lion: tuple[float, ...]
    adamw: tuple[float, ...]
    upstream: str | None = None


BUDGETS = {
    "smoke": Budget(weight_decay=0.1, lion=(2e-3, 5e-3), adamw=(5e-3, 2e-2)),
    "laptop": Budget(weight_decay=0.33, lion=(5e-5, 2e-4, 8e-4), adamw=(2e-4, 8e-4, 3.2e-3)),
    "gpu": Budget(weight_decay=0.06, lion=(1e-5, 5e-5, 2.5e-4), adamw=(5e-5, 2.5e-4, 1.25e-3)),
    "paper": Budget(
        weight_decay=1e-3,
        lion=(1e-5, 5e-5, 2.5e-4),
        adamw=(5e-5, 2.5e-4, 1.25e-3),
        upstream="imagenet",
    ),
}
"""By profile. Fig 9 of the paper pre-trains on ImageNet-1k."""

BASE, ADAMW = "base", "AdamW"
ARCHITECTURE = ("ReLU", "no skip", "no bottleneck", "post-LN")
RECIPE = ("clipping", "weight decay", "dropout", ADAMW, "no DA")


def no_bottleneck(model: ModelSpec) -> ModelSpec:
    """``model`` without its inverted bottleneck, at the same compute: blocks expand by 1 instead of k.

    A block's two matrices have ``2 k m^2`` entries, so k times as many blocks without expansion cost exactly
    as many multiply-adds. Width, and with it the number of features that a probe reads, stays.
    """
    return replace(model, expansion=1, depth=model.depth * model.expansion)


def changes(profile: Profile) -> dict[str, dict]:
    """Each change by its name, as settings for the pre-training that the chapters share."""
    model = ModelSpec.parse(profile.small_model)
    lion = OptimizerSpec(lr=profile.pretrain_lr)
    return {
        "ReLU": dict(model=replace(model, activation="relu")),
        "no skip": dict(model=replace(model, skip=False)),
        "no bottleneck": dict(model=no_bottleneck(model)),
        "post-LN": dict(model=replace(model, norm_position="post")),
        "clipping": dict(optimizer=replace(lion, clip=CLIP)),
        "weight decay": dict(optimizer=replace(lion, weight_decay=BUDGETS[profile.name].weight_decay)),
        "dropout": dict(model=replace(model, dropout=DROPOUT)),
        "no DA": dict(da=False),
    }


def upstream_run(profile: Profile, seed: int, **change) -> TrainSpec:
    """A pre-training with one change, on the data of the ablations."""
    upstream = BUDGETS[profile.name].upstream
    where = {"data": data(profile, upstream)} if upstream else {}
    return variant(profile, seed, **where, **change)


def runs(profile: Profile, seeds: Sequence[int]) -> list[ProbeSpec]:
    """A linear probe of the base, of each change, and of Lion and AdamW at each of their learning rates.

    The networks among which a learning rate is chosen are also probed on held-out training images.
    """
    budget = BUDGETS[profile.name]
    adamw = OptimizerSpec("adamw", betas=ADAMW_BETAS)
    optimizers = [OptimizerSpec(lr=lr) for lr in budget.lion] + [replace(adamw, lr=lr) for lr in budget.adamw]
    found = []
    for seed in seeds:
        for optimizer in optimizers:
            upstream = upstream_run(profile, seed, optimizer=optimizer)
            found += [probe(profile, upstream, seed), tuning_probe(profile, upstream)]
        for change in changes(profile).values():
            found.append(probe(profile, upstream_run(profile, seed, **change), seed))
    return found


# --------------------------------------------------------------------------- what differs


def change_of(record: Record) -> str:
    """The name of the one thing in which a network differs from the base; Lion's runs are all the base's."""
    trained = record.spec.upstream
    model, optimizer = trained.model, trained.optimizer
    tests = {
        "ReLU": model.activation == "relu",
        "no skip": not model.skip,
        "no bottleneck": model.expansion == 1,
        "post-LN": model.norm_position == "post",
        "clipping": optimizer.clip is not None,
        "weight decay": optimizer.weight_decay > 0,
        "dropout": model.dropout > 0,
        ADAMW: optimizer.name == "adamw",
        "no DA": not trained.augment.any,
    }
    return next((name for name, differs in tests.items() if differs), BASE)


def _base_rate(records: Sequence[Record]) -> float | None:
    """The learning rate of the base, which that of every architectural change is, too."""
    return next((rate(r) for r in probes(records) if change_of(r) in ARCHITECTURE), None)


def chosen_rates(records: Sequence[Record]) -> dict[str, float | None]:
    """The learning rate of each optimizer that held-out images speak for: of Lion (``base``) and of AdamW."""
    tuned = tuning_probes(records)
    return {name: best_rate(r for r in tuned if change_of(r) == name) for name in (BASE, ADAMW)}


def tried_rates(records: Sequence[Record]) -> dict[str, list[float]]:
    """The learning rates at which each of the two was probed on held-out images, the smallest first."""
    tuned = tuning_probes(records)
    return {name: sorted({rate(r) for r in tuned if change_of(r) == name}) for name in (BASE, ADAMW)}


def groups(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The probes on test images by the change; of the base and of AdamW those at the rate that counts.

    The base is at the profile's own rate, AdamW at its best. ``Lion`` is the base's network at its best rate.
    """
    tested, chosen = probes(records), chosen_rates(records)
    by_name = {name: [r for r in tested if change_of(r) == name] for name in (BASE, *ARCHITECTURE, *RECIPE)}
    at = {BASE: _base_rate(records), ADAMW: chosen[ADAMW]}
    found = {n: [r for r in group if n not in at or rate(r) == at[n]] for n, group in by_name.items()}
    return found | {"Lion": [r for r in by_name[BASE] if rate(r) == chosen[BASE]]}


def reference(name: str) -> str:
    """What a change is compared with: AdamW with Lion, both at their best rates, all else with the base."""
    return "Lion" if name == ADAMW else BASE


# --------------------------------------------------------------------------- table


def summary(records: Sequence[Record], profile: Profile) -> list[Cell]:
    """Accuracy of linear probes in percent for each change, and for optimizers at each learning rate."""
    cells = []
    for name, group in _rows(records).items():
        for tuning in (False, True):
            column = [r for r in group if (r.spec.data.held_out is not None) == tuning]
            if column:
                title = probe_title(column[0]) + (", held out" if tuning else "")
                cells += seeds_cell("Fig 9", name, title, column, accuracy, "%", setting(column[0]))
    return cells


def _rows(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The probes by row of the table: changes, and optimizers with their learning rates."""
    rows: dict[str, list[Record]] = {}
    for record in [*probes(records), *probes(records, tuning=True)]:
        name = change_of(record)
        optimizer = {BASE: "Lion", ADAMW: ADAMW}.get(name)
        rows.setdefault(f"{optimizer}, learning rate {rate(record):g}" if optimizer else name, []).append(
            record
        )
    return rows


# --------------------------------------------------------------------------- figure


def differences(records: Sequence[Record]):
    """Accuracy with each change minus that without in points, one row a seed, and its mean with interval."""
    import pandas as pd

    rows = []
    found = groups(records)
    for name in (*ARCHITECTURE, *RECIPE):
        mean = effect(found[name], found[reference(name)])
        if mean is None:
            continue
        ours, theirs = ({r.spec.seed: r for r in found[g]} for g in (name, reference(name)))
        for seed in sorted(ours.keys() & theirs.keys()):
            rows.append(
                {
                    "change": name,
                    "part": "block" if name in ARCHITECTURE else "recipe",
                    "seed": seed,
                    "difference": accuracy(ours[seed]) - accuracy(theirs[seed]),
                    "mean": mean.mean,
                    "low": mean.low,
                    "high": mean.high,
                    "run": ours[seed].id,
                    "compared_with": theirs[seed].id,
                }
            )
    return pd.DataFrame(rows)


def draw_differences(frame, records, folder):
    """A row for each change, the largest loss at the bottom."""
    from ..plots import choices as draw

    return draw.differences(frame, label="probe accuracy, change minus base (points)")


FIGURES = {
    "one-change-at-a-time": Figure(
        data=differences,
        draw=draw_differences,
        caption=(
            "What one change in pre-training does to the accuracy of a linear probe on other data. Small "
            "dots are seeds, each against the base with the same seed, large ones their means, bars 95 % "
            "intervals; from one seed they cover the sampling of test images only. AdamW is compared with "
            "Lion, both at the learning rate that is best for them on held-out images; everything else with "
            "the base."
        ),
        alt=(
            "Dot plot, sorted, of the difference in linear-probe accuracy that each change makes to the "
            "base, with intervals and a line at zero."
        ),
    )
}


# --------------------------------------------------------------------------- claims


def _gains(found: Mapping[str, list[Record]], names: Sequence[str], lost: bool) -> dict[str, Estimate | None]:
    """What each change gains in points; ``lost``: what going back from it gains."""
    pairs = ((name, (found[name], found[reference(name)])) for name in names)
    return {name: effect(*(reversed(pair) if lost else pair)) for name, pair in pairs}


def _note(effects: Mapping[str, Estimate], extra: str = "") -> str:
    return "; ".join(f"{name} {in_words(found)}" for name, found in effects.items()) + extra


def judge_c15(records: Sequence[Record]) -> Judgement:
    """The base minus each of the four networks that lack one part."""
    gains = _gains(groups(records), ARCHITECTURE, lost=True)
    if None in gains.values():
        return not_tested("needs the base and all four changes of the block")
    effects = dict(zip(("GELU", "skips", "bottleneck", "pre-LN"), gains.values(), strict=True))
    verdict = worst([judge_sign(found) for found in effects.values()])
    unit = "points, the part that helps least"
    return Judgement(verdict, weakest(effects.values()), unit, _note(effects), run_ids(records))


def _no_da(found: Mapping[str, list[Record]]) -> tuple[str, Estimate] | None:
    """The verdict on "no DA is worst", and how far it is below the next worst."""
    others = (BASE, *ARCHITECTURE, *(name for name in RECIPE if name != "no DA"))
    below = {name: effect(found[name], found["no DA"]) for name in others}
    if None in below.values():
        return None
    if all(judge_sign(each) == REPRODUCED for each in below.values()):
        verdict = REPRODUCED
    else:
        verdict = PARTLY if judge_sign(below[BASE]) == REPRODUCED else NOT_REPRODUCED
    return verdict, weakest(below.values())


def _at_the_edge(records: Sequence[Record]) -> Iterator[str]:
    """A warning for each optimizer whose best rate is the first or the last that was tried."""
    for name, best in chosen_rates(records).items():
        tried = tried_rates(records)[name]
        title = "Lion" if name == BASE else name
        yield f"; {title} is best at {best:g}" + (
            ", the end of its grid" if best in (tried[0], tried[-1]) else ""
        )


def judge_c16(records: Sequence[Record]) -> Judgement:
    """Three regularizers, Lion against AdamW, and no DA against everything."""
    found = groups(records)
    effects = _gains(found, ("clipping", "weight decay", "dropout"), lost=False)
    effects |= {"Lion over AdamW": effect(found["Lion"], found[ADAMW])}
    no_da, one_rate = _no_da(found), min(map(len, tried_rates(records).values())) < 2
    if None in effects.values() or no_da is None or one_rate:
        return not_tested("needs the base, every change, and Lion and AdamW at several learning rates")
    verdicts = [judge_sign(each) for each in effects.values()] + [no_da[0]]
    effects["next worst over no DA"] = no_da[1]
    note = _note(effects, "".join(_at_the_edge(records)))
    return Judgement(
        worst(verdicts), weakest(effects.values()), "points, the weakest of five", note, run_ids(records)
    )


_MEASURE = "Test accuracy of a linear probe on the downstream data, paired by seed. "

CLAIMS = (
    Claim(
        "C15",
        "GELU over ReLU, skip connections, the inverted bottleneck and pre-LN each help.",
        "Fig 9",
        _MEASURE + "The base minus the network with one change (ReLU; no skip connections; blocks without "
        "expansion, as many more of them as make the compute equal; LayerNorm after the addition): "
        "reproduced if all four whole 95 % intervals are above 0, not reproduced if none is, otherwise "
        "partly. The effect shown is the smallest.",
        judge_c15,
    ),
    Claim(
        "C16",
        "Clipping, weight decay and dropout help a little; Lion beats AdamW; no DA is worst.",
        "Fig 9",
        _MEASURE + "Five parts: clipping, weight decay and dropout, each added to the base, minus the base; "
        "Lion minus AdamW, both at the learning rate with the highest mean accuracy over seeds of a probe on "
        "held-out downstream training images; and no DA. Each of the first four is reproduced if its whole "
        "95 % interval is above 0. No DA is worst if the whole interval of every other network's accuracy "
        "minus its own is above 0, partly if at least the base's is. All five reproduced: reproduced; none "
        "even partly: not reproduced; otherwise partly. The effect shown is the smallest of the five.",
        judge_c16,
    ),
)
