"""One change at a time (Fig 9): parts of the block, regularization, optimizer and augmentation."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mlplib.specs import ModelSpec, OptimizerSpec, ProbeSpec, TrainSpec
from mlplib.store import Record

from ..claims import LITTLE, POINTS, Judgement, judge, not_tested, positive
from ..profiles import Profile
from ..stats import Estimate
from . import base
from .choices import (
    AFTERTHOUGHT,
    OVERFIT,
    at_end,
    best_rate,
    is_tuning,
    probe_title,
    probes,
    ranked_rates,
    rate,
    setting,
    tuning_probe,
    variant,
)
from .pretraining import data, probe

TITLE = "Ablations"
ITEMS = ("Fig 9",)

CLIP = 1.0
"""Largest norm of the whole gradient where it is clipped: a common value; the paper does not give its own."""

DROPOUT = 0.1
"""Share of activations dropped, where any are; the paper does not give its own."""

ADAMW_BETAS = (0.9, 0.999)
"""AdamW's usual values, which differ from Lion's."""


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
    "laptop": Budget(
        weight_decay=0.19,
        lion=(1.25e-5, 5e-5, 2e-4, 8e-4),
        adamw=(2e-4, 8e-4, 3.2e-3, 1.28e-2),
    ),
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
REGULARIZERS = ("clipping", "weight decay", "dropout")
RECIPE = (*REGULARIZERS, ADAMW, "no DA")


def no_bottleneck(model: ModelSpec) -> ModelSpec:
    """``model`` without its inverted bottleneck, at the same compute: blocks expand by 1 instead of k.

    A block's two matrices have ``2 k m^2`` entries, so k times as many blocks without expansion cost exactly
    as many multiply-adds. Width, and with it the number of features that a probe reads, stays.
    """
    return replace(model, expansion=1, depth=model.depth * model.expansion)


def changes(profile: Profile) -> dict[str, dict]:
    """Each change by its name, as settings for :func:`~mlpstudy.experiments.choices.variant`.

    Regularizers are added where they have something to do: in profile ``laptop`` to training without DA.
    """
    model = ModelSpec.parse(profile.small_model)
    lion = OptimizerSpec(lr=profile.learning_rate)
    overfit = OVERFIT.get(profile.key, {})
    regularizers = {
        "clipping": dict(optimizer=replace(lion, clip=CLIP)),
        "weight decay": dict(optimizer=replace(lion, weight_decay=BUDGETS[profile.key].weight_decay)),
        "dropout": dict(model=replace(model, dropout=DROPOUT)),
    }
    return {
        "ReLU": dict(model=replace(model, activation="relu")),
        "no skip": dict(model=replace(model, skip=False)),
        "no bottleneck": dict(model=no_bottleneck(model)),
        "post-LN": dict(model=replace(model, norm_position="post")),
        **{name: overfit | added for name, added in regularizers.items()},
        "no DA": dict(da=False),
    }


def upstream_run(profile: Profile, seed: int, **change) -> TrainSpec:
    """A pre-training with one change, on the data of the ablations."""
    upstream = BUDGETS[profile.key].upstream
    where = {"data": data(profile, upstream)} if upstream else {}
    return variant(profile, seed, **where, **change)


def runs(profile: Profile, seeds: Sequence[int]) -> list[ProbeSpec]:
    """A linear probe of the base, of each change, and of Lion and AdamW at each of their learning rates.

    The networks among which a learning rate is chosen are also probed on held-out training images.
    """
    budget = BUDGETS[profile.key]
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


def _tuned(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The probes on held-out images, including diverged ones, of Lion (``base``) and of AdamW."""
    groups = base.group_by(filter(is_tuning, records), change_of)
    return {name: groups.get(name, []) for name in (BASE, ADAMW)}


def chosen_rates(records: Sequence[Record]) -> dict[str, float | None]:
    """The best learning rate of Lion (``base``) and of AdamW on held-out images."""
    return {name: best_rate(group) for name, group in _tuned(records).items()}


def groups(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The probes on test images of the base, of each change, and of Lion at its best rate.

    The base has the learning rate of the architectural changes, AdamW its best one.
    """
    found = base.group_by(probes(records), change_of)
    found = {name: found.get(name, []) for name in (BASE, *ARCHITECTURE, *RECIPE)}
    base_rate = next((rate(r) for name in ARCHITECTURE for r in found[name]), None)
    best = chosen_rates(records)
    return found | {
        BASE: [r for r in found[BASE] if rate(r) == base_rate],
        ADAMW: [r for r in found[ADAMW] if rate(r) == best[ADAMW]],
        "Lion": [r for r in found[BASE] if rate(r) == best[BASE]],
    }


def reference(name: str, found: Mapping[str, Sequence[Record]]) -> str:
    """What a change is compared with, by what is in the group of that name.

    AdamW with Lion, both at their best rates; a regularizer that was added to training without DA with
    training without DA; all else with the base.
    """
    if name == ADAMW:
        return "Lion"
    overfit = name in REGULARIZERS and any(not r.spec.upstream.augment.any for r in found[name])
    return "no DA" if overfit else BASE


def with_da(found: Mapping[str, Sequence[Record]]) -> list[str]:
    """The base and the changes that are trained with DA."""
    others = (name for name in (*ARCHITECTURE, *RECIPE) if name != "no DA")
    return [BASE, *(name for name in others if reference(name, found) != "no DA")]


def _over_no_da(found: Mapping[str, Sequence[Record]]) -> dict[str, Estimate]:
    """Every network that is trained with DA minus the one without."""
    names = with_da(found)
    return base.effects({name: found[name] for name in names}, dict.fromkeys(names, found["no DA"]))


def _over_reference(found: Mapping[str, Sequence[Record]], *names: str) -> dict[str, Estimate]:
    """Some changes, each minus what it is compared with; the spread between seeds is that of all of them."""
    return base.effects(
        {name: found[name] for name in names}, {name: found[reference(name, found)] for name in names}
    )


def _effects(found: Mapping[str, Sequence[Record]]) -> dict[str, Estimate]:
    """Each change minus what it is compared with, with intervals from the spreads of C15 and C16."""
    effects = {}
    for names in (ARCHITECTURE, REGULARIZERS, [ADAMW]):
        effects |= _over_reference(found, *names)
    over_no_da = _over_no_da(found).get(BASE)
    return effects | ({"no DA": over_no_da.times(-1)} if over_no_da else {})


def summary(records: Sequence[Record], profile: Profile) -> list[base.Cell]:
    """Accuracy of linear probes in percent for each change, and for optimizers at each learning rate."""

    def row(record: Record) -> str:
        name = change_of(record)
        optimizer = {BASE: "Lion", ADAMW: ADAMW}.get(name)
        return f"{optimizer}, learning rate {rate(record):g}" if optimizer else name

    rows = base.group_by([*probes(records), *probes(records, tuning=True)], row)
    columns = {name: base.group_by(group, probe_title) for name, group in rows.items()}
    return base.mean_cells("Fig 9", {(n, c): g for n, of in columns.items() for c, g in of.items()}, setting)


@base.dataframe
def differences(records: Sequence[Record]) -> Iterator[dict]:
    """What one change in pre-training does to the accuracy of a linear probe on other data. Each change is
    compared with the base, except for two kinds. AdamW is compared with Lion, both at the learning rate that
    is best for them on held-out images. In profile laptop, clipping, weight decay and dropout are added to
    training without DA and compared with it. Small dots are differences between runs with the same seed,
    large ones their means. Bars are the 95 % intervals of the verdicts; from one seed they cover the sampling
    of test images only.
    """
    found = groups(records)
    for name, mean in _effects(found).items():
        other = reference(name, found)
        ours, theirs = ({r.spec.seed: r for r in found[g]} for g in (name, other))
        for seed in sorted(ours.keys() & theirs.keys()):
            yield {
                "change": name,
                "part": "block" if name in ARCHITECTURE else "recipe",
                "seed": seed,
                "difference": base.accuracy(ours[seed]) - base.accuracy(theirs[seed]),
                "mean": mean.mean,
                "low": mean.low,
                "high": mean.high,
                "run": ours[seed].id,
                "compared_with": theirs[seed].id,
            }


FIGURES = {
    "one-change-at-a-time": base.Figure(
        data=differences,
        draw=base.plot("choices.differences"),
        alt="Dot plot, sorted, of the difference in linear-probe accuracy between each change and what it is "
        "compared with, with intervals and a line at zero.",
    )
}


PARTS_OF_BLOCK = dict(zip(ARCHITECTURE, ("GELU", "skips", "bottleneck", "pre-LN"), strict=True))


@base.claim(
    "C15",
    "Fig 9",
    "GELU over ReLU, skip connections, the inverted bottleneck and pre-LN each help.",
    "long pre-training",
    AFTERTHOUGHT,
)
def c15(records: Sequence[Record]) -> Judgement:
    """Test accuracy of a linear probe on the downstream data, paired by seed: the base minus the network with
    one change (ReLU; no skip connections; blocks without expansion, as many more of them as make the compute
    equal; LayerNorm after the addition) is above 0 for all four.
    """
    found = groups(records)
    gains = base.effects(dict.fromkeys(ARCHITECTURE, found[BASE]), found)
    if len(gains) < len(PARTS_OF_BLOCK):
        return not_tested("needs the base and all four changes of the block")
    parts = [positive(gain, "points", PARTS_OF_BLOCK[name]) for name, gain in gains.items()]
    return judge(parts)


def _rates_note(records: Sequence[Record]) -> str:
    """The best rate of each optimizer, and what the comparison would be with the second best."""
    tuned, tested = _tuned(records), base.group_by(probes(records), lambda r: (change_of(r), rate(r)))
    notes = [
        f"{'Lion' if name == BASE else name} is best at {best_rate(group):g}{at_end(group)}"
        for name, group in tuned.items()
    ]
    top = [[tested.get((name, lr), []) for lr in ranked_rates(group)[:2]] for name, group in tuned.items()]
    means = [found.mean for pair in itertools.product(*top) if (found := base.effect(*pair))]
    ahead = f"{min(means):+z.2f} to {max(means):+z.2f} points ahead"
    notes.append(f"with the best or second-best rate of each, Lion is {ahead}")
    return "; ".join(notes)


@base.claim(
    "C16",
    "Fig 9",
    "Clipping, weight decay and dropout help a little; Lion beats AdamW; no DA is worst.",
    "long pre-training",
    AFTERTHOUGHT,
)
def c16(records: Sequence[Record]) -> Judgement:
    """Test accuracy of a linear probe on the downstream data, paired by seed, is above 0 in each of these:
    clipping, weight decay and dropout minus the same without, in profile laptop both trained without DA (a
    little: 0.2 points are enough); Lion minus AdamW, both at the learning rate with the highest mean accuracy
    over seeds of a probe on held-out downstream training images; and the base, and the next worst of all
    other networks trained with DA, minus the one without.
    """
    found, rates = groups(records), min(len(set(map(rate, group))) for group in _tuned(records).values())
    added = _over_reference(found, *REGULARIZERS)
    lion = base.effect(found["Lion"], found[ADAMW])
    below = _over_no_da(found)
    if len(added) < len(REGULARIZERS) or lion is None or len(below) < len(with_da(found)) or rates < 2:
        return not_tested("needs the base, every change, and Lion and AdamW at several learning rates")
    next_worst = min(below, key=lambda name: below[name].mean)
    judged = [(name, gain, LITTLE) for name, gain in added.items()]
    judged += [("Lion over AdamW", lion, POINTS), ("base over no DA", below[BASE], POINTS)]
    judged += [(f"{next_worst} over no DA", below[next_worst], POINTS)] if next_worst != BASE else []
    parts = [positive(effect, "points", name, least=least) for name, effect, least in judged]
    return judge(parts, _rates_note(records))


CLAIMS = (c15, c16)
