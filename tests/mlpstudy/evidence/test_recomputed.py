"""Effects and intervals of the scoreboard, computed again from the raw records, by pandas and SciPy only."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from small_runs import ROOT

from mlpstudy.evidence.verdicts import from_published

PROFILES = [path.parent.name for path in sorted((ROOT / "results").glob("*/runs.jsonl"))]


def records(profile):
    """One row per completed run: its settings, flat, and its accuracy in points."""
    rows = []
    for line in (ROOT / "results" / profile / "runs.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["status"] != "completed" or "test_top1" not in record["metrics"]:
            continue
        row = pd.json_normalize(record["spec"]).iloc[0].to_dict()
        rows.append(row | {"top1": 100 * record["metrics"]["test_top1"]})
    frame = pd.DataFrame(rows)
    for side in ("", "upstream."):
        if f"{side}augment.mixup" in frame:
            frame[f"{side}da"] = frame[f"{side}augment.mixup"].gt(0)
    return frame


def pooled(groups):
    """Standard deviation and degrees of freedom that groups share; None if Bartlett's test rejects that."""
    groups = [np.asarray(group) for group in groups if len(group) > 1]
    if len(groups) > 1 and stats.bartlett(*groups).pvalue < 0.05:
        return None
    squares = np.array([group.var(ddof=1) * (len(group) - 1) for group in groups])
    freedom = np.array([len(group) - 1 for group in groups])
    return np.sqrt(squares.sum() / freedom.sum()), squares.sum() ** 2 / (squares**2 / freedom).sum()


def interval(mean, deviation, freedom, scale):
    return stats.t.interval(0.95, freedom, loc=mean, scale=deviation * scale)


def by_seed(frame, **settings):
    for name, value in settings.items():
        frame = frame[frame[name.replace("__", ".")].eq(value)]
    return frame.set_index("seed")["top1"].sort_index()


def paired(contrasts):
    """Mean and interval of each paired difference, the spread pooled over all of them."""
    differences = {name: (first - second).dropna() for name, (first, second) in contrasts.items()}
    shared, found = pooled(differences.values()), {}
    for name, values in differences.items():
        own = values.std(ddof=1), len(values) - 1
        found[name] = (values.mean(), *interval(values.mean(), *(shared or own), len(values) ** -0.5))
    return found


def unpaired(first, second, *others):
    deviation, freedom = pooled([first, second, *others]) or pooled([first, second])
    mean = first.mean() - second.mean()
    return mean, *interval(mean, deviation, freedom, np.sqrt(1 / len(first) + 1 / len(second)))


def c01(runs):
    runs = runs[
        runs["kind"].eq("train") & runs["data.name"].eq("cifar10") & runs["data.pixel_permutation"].isna()
    ]
    runs = runs[runs["evaluate_at"].map(len).gt(0) & runs["data.examples"].isna()]
    return paired(
        {
            f"{family}-MLP, CIFAR-10": tuple(
                by_seed(runs, model__family=f"{family.lower()}-mlp", da=da) for da in (True, False)
            )
            for family in "SB"
        }
    )


def c02(runs):
    runs = runs[
        runs["kind"].eq("train") & runs["data.name"].eq("cifar10") & runs["data.pixel_permutation"].isna()
    ]
    runs = runs[runs["evaluate_at"].map(len).gt(0) & runs["data.examples"].isna()]
    b, s, *others = (
        by_seed(runs, model__family=family, da=da) for da in (True, False) for family in ("b-mlp", "s-mlp")
    )
    return {"CIFAR-10": unpaired(b, s, *others)}


@pytest.fixture(scope="module")
def boards():
    return from_published(ROOT / "results")


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("claim, recompute", [("C01", c01), ("C02", c02)])
def test_the_scoreboards_numbers_are_those_of_the_raw_records(boards, profile, claim, recompute):
    shown = {part.name: part.effect for part in boards[profile][claim].judgement.measured}
    expected = recompute(records(profile))
    assert shown.keys() == expected.keys()
    for name, effect in shown.items():
        assert (effect.mean, effect.low, effect.high) == pytest.approx(expected[name], abs=1e-6), name
