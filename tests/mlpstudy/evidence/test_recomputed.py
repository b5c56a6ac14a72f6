"""Effects and intervals of the scoreboard, computed again from the raw records, by pandas and SciPy only.

The library gives only what is compared (``from_published``). Which runs a claim compares is written down here
a second time, from its criterion, and so is how an interval is made, from ``book/methods.md``. Runs are told
apart by as few settings as the published records need: new records may need more, or another data set.
"""

import functools
import json

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats
from small_runs import ROOT

from mlpstudy.evidence.verdicts import from_published

RESULTS = ROOT / "results"

# --------------------------------------------------------------------------- the records


@functools.cache
def records(folder):
    """One row per completed run, its settings under their own names; ``top1`` and ``tta`` are in points."""
    lines = map(json.loads, (folder / "runs.jsonl").read_text().splitlines())
    found = [record for record in lines if record["status"] == "completed"]
    specs = [record["spec"] for record in found]
    values = pd.json_normalize([{k: r[k] for k in ("metrics", "history", "compute")} for r in found])
    runs = pd.concat([pd.json_normalize(specs), values], axis=1)
    runs["this"] = [json.dumps(spec, sort_keys=True) for spec in specs]
    runs["before"] = [json.dumps(spec.get("upstream"), sort_keys=True) for spec in specs]
    if "upstream.seed" in runs:  # filters have no seed of their own
        runs["seed"] = runs["seed"].fillna(runs["upstream.seed"])
    runs["top1"] = 100 * runs["metrics.test_top1"]
    runs["tta"] = 100 * runs.get("metrics.tta_logits_top1", np.nan)
    curves = [{e["epoch"]: e["top1"] for e in r["history"].get("test", ())} for r in found]
    runs["top1 at 1000"] = [100 * curve.get(1000, np.nan) for curve in curves]
    return runs


def rows(runs, settings):
    """The runs with these settings. None: the setting is not there; a list: it is one of these."""
    for name, value in settings.items():
        column = runs.get(name, pd.Series(np.nan, runs.index))
        runs = runs[column.isna() if value is None else column.isin(np.atleast_1d(value))]
    return runs


def by_seed(runs, settings):
    """``top1``, or what the settings call ``value``, of runs that differ in their seed only."""
    found = rows(runs, {name: of for name, of in settings.items() if name != "value"})
    assert found["seed"].is_unique, settings
    return found.set_index("seed")[settings.get("value", "top1")]


def both(*settings):
    """All of them; of two values of one setting the later one counts."""
    return functools.reduce(dict.__or__, settings, {})


def below(prefix, *settings):
    return {f"{prefix}.{name}": value for name, value in both(*settings).items()}


# --------------------------------------------------------------------------- intervals


def spread(every, own):
    """Standard deviation and degrees of freedom of all groups together; if spreads differ, those of ``own``
    where that one is larger, or has more than two degrees of freedom.
    """
    together = root_mean_square(every)
    if len(every) < 2 or not stats.bartlett(*every).pvalue < 0.05:  # between equal spreads it may be nan
        return together
    alone = root_mean_square(own)
    return alone if alone[1] > 2 + 1e-9 else max(together, alone)


def root_mean_square(groups):
    # Welch and Satterthwaite: the more the spreads differ, the fewer degrees of freedom they have together.
    squares = np.array([group.var(ddof=1) * (len(group) - 1) for group in groups])
    freedom = np.array([len(group) - 1 for group in groups])
    return np.sqrt(squares.sum() / freedom.sum()), squares.sum() ** 2 / (squares**2 / freedom).sum()


def interval(mean, deviation, freedom, scale):
    return mean, *stats.t.interval(0.95, freedom, loc=mean, scale=deviation * scale)


def paired(differences):
    """Mean and interval of each difference by seed."""
    groups = {name: of.dropna() for name, of in differences.items() if of.count() > 1}
    every = list(groups.values())
    return {n: interval(of.mean(), *spread(every, [of]), len(of) ** -0.5) for n, of in groups.items()}


def sampled(first, second):
    """Of one seed: the sampling of the 10,000 test images of CIFAR, once for each network."""
    first, second = first.item(), second.item()
    variance = sum(points * (100 - points) / 10_000 for points in (first, second))
    return first - second, *stats.norm.interval(0.95, first - second, variance**0.5)


def unpaired(first, second, *others):
    """The same for two groups that share nothing by their seed; ``others`` tell the spread, too."""
    of = spread([first, second, *others], [first, second])
    return interval(first.mean() - second.mean(), *of, np.sqrt(1 / len(first) + 1 / len(second)))


# --------------------------------------------------------------------------- claims of paired differences

DA, NO_DA = {"augment.mixup": 0.8}, {"augment.mixup": 0.0}
B = {"model.family": "b-mlp", "model.activation": "gelu", "model.skip": True}
S = {"model.family": "s-mlp", "model.activation": "relu", "model.skip": False}
CNN, RESNET = {"model.family": "small-cnn"}, {"model.family": "resnet18"}
MLPS = {"S-MLP": S, "B-MLP": B}
DATA = {"CIFAR-10": "cifar10", "CIFAR-100": "cifar100", "TinyImageNet": "tinyimagenet"}
ON_DATA = {f"{m}, {t}": of | {"data.name": name} for t, name in DATA.items() for m, of in MLPS.items()}
WHOLE = {"kind": "train", "data.examples": None, "data.pixel_permutation": None}
SCRATCH = WHOLE | {"label_smoothing": 0.3}  # the few epochs of C22 have none
PIXELS = WHOLE | {"data.name": "cifar10", "epochs": [4, 50]}  # laptop's and gpu's
LONG = SCRATCH | DA | {"epochs": 5000}
OTHER = "4 other CIFAR-10 classes"
TASKS = {f"{OTHER}, {n:,} images": {"data.examples": n} for n in (200, 1000)}
CONTROL = {"kind": "train", "data.name": "cifar10-downstream"}
TUNED = {"kind": "finetune"} | below("upstream", B, DA)
TUNED_S = TUNED | below("upstream", S)
SEEN = {"kind": "evaluate"} | below("trained.upstream", DA)
PROBED = {"kind": "probe", "epoch": None, "upstream.epochs": 24} | below("upstream", DA)
CONTROLS = {"pixels": {"kind": "probe", "upstream.kind": None}, "random weights": PROBED | {"epoch": 0}}
BATCHES = {"kind": "probe", "epoch": None, "data.held_out": None}
BATCHES |= {"upstream.epochs": 4, "upstream.optimizer.lr": 5e-5}
BASE = both(DA, B, {"label_smoothing": 0.3, "epochs": 40, "model.dropout": 0.0, "model.expansion": 4})
BASE |= {"model.norm": "layer", "model.norm_position": "pre", "optimizer.name": "lion", "optimizer.lr": 5e-5}
BASE |= {"optimizer.clip": None, "optimizer.weight_decay": 0.0}
BLOCK = {
    "ReLU": {"model.activation": "relu"},
    "no skip": {"model.skip": False},
    "no bottleneck": {"model.expansion": 1},
    "post-LN": {"model.norm_position": "post"},
}
GPU = {"epochs": 80}  # in profile gpu, with DA
UNDONE = dict(zip(("GELU", "skips", "bottleneck", "pre-LN"), BLOCK.values(), strict=True))
REGULARIZERS = {"clipping": {"optimizer.clip": 1.0}, "weight decay": {"optimizer.weight_decay": 0.19}}
REGULARIZERS |= {"dropout": {"model.dropout": 0.1}}


def choice(*changes):
    """A probe after the pre-training of the chapters on single choices, with some changes."""
    return {"kind": "probe", "data.held_out": None} | below("upstream", BASE, *changes)


def over(cases, first, second, named="{}"):
    return {named.format(name): (first | case, second | case) for name, case in cases.items()}


PAIRED = {
    "C01": [over(ON_DATA, SCRATCH | DA, SCRATCH | NO_DA)],
    "C03": [over(ON_DATA, LONG, LONG | {"value": "top1 at 1000"})],
    "C05": [over(TASKS, TUNED, CONTROL | B)],
    "C06": [over(TASKS, TUNED, TUNED | below("upstream", NO_DA))],
    "C07": [over({t: below("trained", of) for t, of in TASKS.items()}, SEEN | {"value": "tta"}, SEEN)],
    "C09": [{"": [BATCHES | {"upstream.batch_size": size} for size in (2048, 512)]}],
    "C13": [{m: [choice(of, {"model.norm": n}) for n in ("layer", "batch")] for m, of in MLPS.items()}],
    "C14": [
        {f"smoothing {x}": [choice(of, {"label_smoothing": a}) for a in (x, 0)] for x in (0.1, 0.3)}
        for of in (NO_DA, GPU)
    ],
    "C15": [{name: (choice(), choice(change)) for name, change in UNDONE.items()}],
    "C16": [{name: (choice(NO_DA, added), choice(NO_DA)) for name, added in REGULARIZERS.items()}],
    "C17": [
        {
            f"{how} over {name}, {title}": [of | task | {"method": how} for of in (PROBED, control)]
            for name, control in CONTROLS.items()
        }
        for title, task in TASKS.items()
        for how in ("linear", "ridge")
    ],
    "C19": [
        over(TASKS, TUNED_S, CONTROL | S, "S-MLPs transfer, {}"),
        over(TASKS, TUNED, TUNED_S, "B-MLPs better, {}"),
    ],
    "C22": [over({"MLP": B, "CNN": CNN}, PIXELS, PIXELS | {"data.pixel_permutation": 0})],
}
"""By claim its groups of differences: name to what is compared with what. Spreads are pooled in a group."""


def gaps(runs, pairs):
    sides = {name: (by_seed(runs, a), by_seed(runs, b)) for name, (a, b) in pairs.items()}
    differences = {name: first - second for name, (first, second) in sides.items()}
    if max(of.count() for of in differences.values()) == 1:
        return {name: sampled(*sides[name]) for name, of in differences.items() if of.count()}
    return paired(differences)


def table_1(runs):
    """By data set the runs of its convolutional network, and of each MLP with and without DA."""
    for title, name in DATA.items():
        every = (SCRATCH | {"data.name": name} | of | da for da in (DA, NO_DA) for of in (B, S))
        groups = [by_seed(runs, settings) for settings in every]
        if all(map(len, groups)):
            resnet, cnn = (by_seed(runs, WHOLE | of | {"data.name": name}) for of in (RESNET, CNN))
            yield title, resnet if len(resnet) else cnn, groups


def c04(runs):
    found = ((t, convnet, sorted(groups, key=pd.Series.mean)) for t, convnet, groups in table_1(runs))
    return {title: unpaired(convnet, *groups[::-1]) for title, convnet, groups in found if len(convnet)}


def c16(runs):
    """What the table lacks: both optimizers at their best rates, and what is compared with no DA."""
    best = {}
    for name in ("lion", "adamw"):
        tried = choice({"optimizer.name": name}) | {"data.held_out": 4000}
        del tried["upstream.optimizer.lr"]
        scores = rows(runs, tried).groupby("upstream.optimizer.lr")["top1"].mean()
        best[name] = {"optimizer.name": name, "optimizer.lr": scores.idxmax()}
    others = BLOCK | {"base": {}, "AdamW": best["adamw"]}
    above = gaps(runs, {f"{name} over no DA": (choice(of), choice(NO_DA)) for name, of in others.items()})
    worst = min(above.keys() - {"base over no DA"}, key=lambda name: above[name][0])
    lion = gaps(runs, {"Lion over AdamW": (choice(best["lion"]), choice(best["adamw"]))})
    return lion | {name: above[name] for name in ("base over no DA", worst)}


def c18(runs):
    """Ratios to the largest MLP, which are not pooled."""
    timed = rows(runs, {"kind": "timing"}).rename(columns={"metrics.forward_macs": "macs"})
    timed["latency"] = timed["history.latency"].map(np.median)
    mlp = timed["model.family"].eq("b-mlp")
    largest = timed[mlp].nlargest(1, "metrics.parameters", keep="all").set_index("seed")
    fewer = timed[~mlp]["macs"].min() / largest["macs"].max()
    found = {"FLOPs of the closest network": (fewer, fewer, fewer)}
    titles = {"resnet152": "ResNet-152", "vit-b/4": "ViT-B/4", "vit-b/8": "ViT-B/8", "mixer-b/4": "Mixer-B/4"}
    for family, group in timed[~mlp].groupby("model.family"):
        ratio = group.set_index("seed")["latency"] / largest["latency"]
        found |= paired({f"latency of {titles[family]}": ratio})
    return found


def filters(runs, few, names):
    """What training on all images with DA adds. The spread of each measure is pooled over the claim's two
    differences: C20's are shown; C21's other one is its further condition, half of the gain minus what
    ``few`` gains.
    """
    found, every = {}, {"kind": "filters", "at": "final"} | below("upstream", DA, {"data.examples": None})
    for measure in ("smoothness", "locality"):
        value = every | {"value": f"metrics.{measure}"}
        start, fewer, most = (by_seed(runs, value | of) for of in ({"at": "initial"}, few, {}))
        other = {"start": most - start} if "start" in names else {"half": (most + start) / 2 - fewer}
        shown = paired({"few": most - fewer} | other)
        found |= {f"{measure}, {name}": shown[key] for key, name in names.items()}
    return found


# --------------------------------------------------------------------------- laws
# Which form a law has is not computed again: those of fronts have a floor here and no offset, as the
# published ones, and those of four sizes have neither.


def grid(runs, family, lengths=(2, 4, 8)):
    """Error, compute, parameters and examples: (4, trainings, lengths, seeds)."""
    probes = rows(runs, {"kind": "probe"} | below("upstream", family, {"optimizer.weight_decay": 1e-3}))
    training = rows(runs, {"kind": "train"}).set_index("this").loc[probes["before"]].set_index(probes.index)
    length = probes["epoch"].fillna(training["epochs"])
    cells = pd.DataFrame({"seed": probes["seed"], "length": length, "error": 1 - probes["metrics.test_top1"]})
    cells["examples"] = training["data.examples"].fillna(30_000).astype(int)  # all of six classes
    cells["parameters"] = training["compute.parameters"]
    images = training["compute.images"] * length / training["epochs"]
    cells["compute"] = 3 * training["compute.forward_macs"] * images
    cells["name"] = training["model.width"].astype(int).astype(str) + " " + cells["examples"].astype(str)
    cells = cells[cells["examples"].isin([1000, 3000, 10_000, 30_000]) & length.isin(lengths)]
    wide = cells.pivot(index="name", columns=["length", "seed"]).sort_index().sort_index(axis=1)
    found = [wide[size].to_numpy(float) for size in ("error", "compute", "parameters", "examples")]
    return np.reshape(found, (4, len(wide), len(lengths), -1))


def alpha(compute, error, *_):
    """The exponent of the law with a floor. Searched with it: the law at 1e10, and the floor's share of the
    smallest error.
    """

    def law(x, of_alpha, level, share):
        return np.log(np.exp(level - np.exp(of_alpha) * x) + share * error.min())

    bounds = (np.log(1e-3), -np.inf, 0), (np.log(10), np.inf, 0.999)
    close = {"ftol": 1e-13, "xtol": 1e-13, "gtol": 1e-13}
    found, _ = optimize.curve_fit(
        law, np.log(compute / 1e10), np.log(error), (-2, 0, 0.5), bounds=bounds, **close
    )
    return np.exp(found[0])


def share(of):
    """The slope of a sum of logarithms in log compute."""

    def slope(compute, error, *sizes):
        x, y = np.log(compute), np.array(of) @ np.log(sizes)
        return stats.linregress(x, y).slope if len(set(x)) > 1 else np.nan

    return slope


def of_front(cells, trainings, seeds, statistic):
    """A statistic of the points than which nothing as cheap is better."""
    drawn = np.take_along_axis(cells[:, trainings], seeds[None, :, None], axis=3).mean(axis=3)
    error, compute, *_ = drawn = drawn.reshape(len(cells), -1)
    x, y = compute[:, None], error[:, None]
    better = (compute <= x) & (error < y) | (compute < x) & (error <= y)
    error, compute, *sizes = drawn[:, ~better.any(axis=1)]
    return statistic(compute, error, *sizes)


def draws(cells, statistic=alpha, seed=0):
    """That of the grid, then those of 400 grids of trainings and seeds that are drawn from it. Order and
    generator are the library's, so that the draws are, too: with others, an end moves by a tenth.
    """
    random, (trainings, _, seeds) = np.random.default_rng(seed), cells.shape[1:]
    every = [(np.arange(trainings), np.tile(np.arange(seeds), (trainings, 1)))]
    for _ in range(400):
        drawn = random.integers(trainings, size=trainings)
        every.append((drawn, random.integers(seeds, size=(trainings, seeds))))
    found = np.array([of_front(cells, *drawn, statistic) for drawn in every])
    return found[np.isfinite(found)]


def ends(draws):
    return draws[0], *np.quantile(draws[1:], (0.025, 0.975))


def c11(runs):
    """The exponents of the largest networks and of the most examples, from the scatter around a straight
    line. Their half widths add in squares, being of different trainings but one.
    """
    error, _, parameters, examples = grid(runs, B, lengths=(8,)).mean(axis=(2, 3))
    fits = []
    for size, other in ((parameters, examples), (examples, parameters)):
        ample = other == other.max()
        line = stats.linregress(np.log(size[ample]), np.log(error[ample]))
        fits.append((-line.slope, stats.t.ppf(0.975, ample.sum() - 2) * line.stderr))
    (of_p, half_p), (of_n, half_n) = fits
    half = np.hypot(half_p, half_n)
    return {"": (of_p - of_n, of_p - of_n - half, of_p - of_n + half)}


def c19(runs):
    """What the table lacks: the S-MLPs' law, and the B-MLPs' exponent on the same grid minus theirs."""
    of_s = rows(runs, {"kind": "probe"} | below("upstream", S, {"optimizer.weight_decay": 1e-3}))
    runs = runs[runs["seed"].isin(of_s["seed"])]  # the B-MLPs' further seeds are other chapters'
    b, s = grid(runs, B), grid(runs, S)
    gap = draws(b) - draws(s, seed=1)
    return {"S-MLPs' power law": ends(draws(s)), "S-MLPs' slope worse": ends(gap)}


# --------------------------------------------------------------------------- the comparison

GAINS = {"start": "all images over initialization", "few": "all images over fewest images"}
OTHERS = {
    "C02": lambda runs: {title: unpaired(*groups) for title, _, groups in table_1(runs)},
    "C04": c04,
    "C10": lambda runs: {OTHER: ends(draws(grid(runs, B)))},
    "C11": c11,
    "C12": lambda runs: {"": ends(draws(grid(runs, B, lengths=(8,)), share((-1, 1))))},
    "C16": c16,
    "C18": c18,
    "C19": c19,
    "C20": lambda runs: filters(runs, {"upstream.data.examples": 1000}, GAINS),
    "C21": lambda runs: filters(runs, below("upstream", NO_DA), {"few": "with over without DA"}),
}
"""The other claims, and other parts of them."""

CLAIMS = sorted(PAIRED.keys() | OTHERS.keys())


@pytest.fixture(scope="module")
def board():
    """The parts that have an effect by profile and claim, for claims that have any."""
    every = [(p, id, entry) for p, of in from_published(RESULTS).items() for id, entry in of.items()]
    return {(p, id): entry.judgement.measured for p, id, entry in every if entry.judgement.measured}


def compare(parts, claim, folder):
    runs, shown = records(folder), {part.name: part.effect for part in parts}
    of_table = [gaps(runs, pairs) for pairs in PAIRED.get(claim, ())]
    expected = both(*of_table, OTHERS[claim](runs) if claim in OTHERS else {})
    assert shown.keys() == expected.keys()
    for name, effect in shown.items():
        assert (effect.mean, effect.low, effect.high) == pytest.approx(expected[name], abs=1e-6), name


def test_every_claim_with_an_effect_is_computed_again(board):
    assert {claim for _, claim in board} == set(CLAIMS)


@pytest.mark.parametrize("claim", CLAIMS)
def test_the_scoreboards_numbers_are_those_of_the_raw_records(board, claim):
    for profile in [profile for profile, of in board if of == claim]:
        compare(board[profile, claim], claim, RESULTS / profile)


def test_a_changed_accuracy_is_noticed(board, tmp_path):
    found = [json.loads(line) for line in (RESULTS / "laptop/runs.jsonl").read_text().splitlines()]
    run = next(record for record in found if record["id"].startswith("b6wi256-cifar10-da-40ep"))
    run["metrics"]["test_top1"] += 1e-4  # one test image
    (tmp_path / "runs.jsonl").write_text("\n".join(map(json.dumps, found)))
    for claim in ("C01", "C02"):
        with pytest.raises(AssertionError):
            compare(board["laptop", claim], claim, tmp_path)
    compare(board["laptop", "C22"], "C22", tmp_path)
