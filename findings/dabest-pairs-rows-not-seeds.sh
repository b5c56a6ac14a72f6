#!/usr/bin/env bash
# dabest 2025.10.20: in a table with one result per row, paired results are paired by the order of rows, not by the
# column that says what belongs together.
# Expected: `paired="baseline", id_col="seed"` compares the two results of each seed, whatever the order of rows. The
# tutorial calls `id_col` "a column in the dataset that indicates the identity of each observation", and it is required.
# Seen: the n-th row of one network is compared with the n-th row of the other. If one network's runs are listed from
# the last seed on, a clear difference has an interval nine times as wide, with zero in it. In a table sorted by
# accuracy, the best run is compared with the best and the worst with the worst, and networks that do not differ are
# significantly different at 5% in nearly half of the cases. Intervals and the p values of all paired tests are wrong.
# The figure shows the right pairs: its lines are drawn from a table that is pivoted by `id_col`.
# The tutorials have one column per group, where rows are pairs, and say nothing of order. An open pull request (237 of
# ACCLAB/DABEST-python, September 2026) is about this; we found no issue.
# It matters to comparisons by seed or by data set: runs are collected in the order in which they ended, or sorted by
# accuracy.
# Takes about 700 MB for the packages.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install dabest==2025.10.20 numpy==2.1.3 scipy==1.15.3 pandas==2.2.3 matplotlib==3.10.9 numba==0.61.2 statsmodels==0.15.0
cat > compare.py << 'PYTHON'
import sys
from importlib import metadata

import dabest
import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")
SEEDS, TABLES, NETWORKS = 10, 50, ("narrow", "wide")
rng = np.random.default_rng(0)


def results(difference, shared, own):
    """One row per run: accuracies with a deviation of ``shared`` between seeds and of ``own`` between runs."""
    seeds = np.arange(SEEDS)
    level = rng.normal(70, shared, SEEDS)
    accuracies = [level + rng.normal(0, own, SEEDS), level + difference + rng.normal(0, own, SEEDS)]
    tables = [
        pd.DataFrame({"seed": seeds, "network": network, "accuracy": column})
        for network, column in zip(NETWORKS, accuracies)
    ]
    return pd.concat(tables, ignore_index=True)


def compare(table):
    settings = {"x": "network", "y": "accuracy", "idx": NETWORKS, "paired": "baseline", "id_col": "seed"}
    comparison = dabest.load(table, resamples=1000, **settings).mean_diff
    return comparison, comparison.results.iloc[0]


def lines(comparison):
    drawn = [np.asarray(line.get_ydata(), float) for line in comparison.plot().axes[0].lines]
    return {tuple(values.round(3)) for values in drawn if len(values) == 2}


print(*(f"{name} {metadata.version(name)}" for name in ("dabest", "numpy", "scipy", "pandas")))
table = results(1, shared=3, own=0.3)
wide = table.pivot(index="seed", columns="network", values="accuracy")
pairs = {tuple(row) for row in wide[list(NETWORKS)].to_numpy().round(3)}
backward = pd.concat([table[:SEEDS], table[SEEDS:][::-1]])
found = {}
for order, rows in {"by seed": table, "one network from the last seed on": backward}.items():
    comparison, row = compare(rows)
    found[order] = row.difference, row.bca_low, row.bca_high, row.pvalue_paired_students_t, row.pvalue_wilcoxon
    drawn = pairs <= lines(comparison)
    print(f"{order}: {row.difference:.2f} [{row.bca_low:.2f}, {row.bca_high:.2f}],", end=" ")
    print(f"p {found[order][3]:.2g} (t) and {found[order][4]:.2g} (Wilcoxon); pairs of seeds in the figure: {drawn}")
    if not drawn:
        sys.exit("CHANGED")
significant = {"by seed": 0, "sorted by accuracy": 0}
for _ in range(TABLES):
    same = results(0, shared=0, own=1)
    for order, rows in zip(significant, (same, same.sort_values("accuracy"))):
        significant[order] += int(compare(rows)[1].pvalue_paired_students_t < 0.05)
print(f"of {TABLES} pairs of networks without a difference, significant at 5%:", significant)
(_, low, high, student, wilcoxon), (_, low_2, high_2, student_2, wilcoxon_2) = found.values()
wrong = [
    low > 0 and student < 1e-3 and wilcoxon < 0.01,
    low_2 < 0 and student_2 > 0.1 and wilcoxon_2 > 0.1 and high_2 - low_2 > 5 * (high - low),
    significant["by seed"] <= 6 and significant["sorted by accuracy"] >= 13,
]
if not all(wrong):
    sys.exit("CHANGED")
PYTHON
env/bin/python compare.py 2> errors || { cat errors; exit 1; }
