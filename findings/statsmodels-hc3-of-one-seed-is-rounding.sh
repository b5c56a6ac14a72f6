#!/usr/bin/env bash
# statsmodels 0.15.0: the HC3 standard error of a configuration with a single seed is rounding, from 0.002 to 1.
# Expected: no error for it, NaN or a warning: one accuracy says nothing about its spread. Seen: a number, without a
# warning, that is often five times as large, or a hundred, if the table's rows are in another order or its accuracies
# in percent. The formula divides a residual by one minus its leverage, and squares that. For a single seed both are 0,
# but come out as a few 1e-16, or exactly 0; the quotient is 1/4, 1/2, 1 or the like, in whatever unit was measured.
# Which it is also depends on the processor. HC2, HC1 and HC0 take such a residual as no error at all, so that the
# configuration with one seed looks more certain than those with three; the ordinary error (`nonrobust`) is right. The
# manual has the formula, and no word about a leverage of 1. We found no report for statsmodels; estimatr, a package for
# R, has left such rows out with a warning since 2026 (issue 395 of DeclareDesign/estimatr).
# It matters to comparisons of architectures of which the largest has one seed: HC3 is what is advised for few samples,
# and a row of noise in its table looks like the others.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install statsmodels==0.15.0 scipy==1.17.1 numpy==2.4.6 pandas==3.1.1
cat > seeds.py << 'PYTHON'
import sys

import numpy as np
import pandas as pd
import statsmodels
import statsmodels.formula.api as formulas

TABLES = 200
random = np.random.default_rng(0)
first = {"order": [], "percent": []}
kinds = ("nonrobust", "HC0", "HC1", "HC2", "HC3")
ranges = {kind: [] for kind in kinds}


def error(table, kind="HC3", name="one"):
    """The standard error of the difference between a configuration and the smallest, as a fraction."""
    return formulas.ols("accuracy ~ model", table).fit(cov_type=kind).bse[f"model[T.{name}]"]


print(f"statsmodels {statsmodels.__version__}: accuracies of models with 3, 3 and 1 seeds, of deviation 0.01")
three, factors = [], []
for number in range(TABLES):
    accuracies = random.normal(0.5, 0.01, 7).round(4)
    table = pd.DataFrame({"model": ["base"] * 3 + ["big"] * 3 + ["one"], "accuracy": accuracies})
    variants = {"": table, "rows reversed": table[::-1], "in percent": table.assign(accuracy=100 * accuracies)}
    found = {name: error(each) / (100 if "percent" in name else 1) for name, each in variants.items()}
    factors.append(max(found.values()) / min(found.values()))
    if number < 3:
        print("HC3 of one seed:", "; ".join(f"{value:.4f} {name}".strip() for name, value in found.items()))
    for kind in kinds:
        ranges[kind].append(error(table, kind))
    three.append([error(each, name="big") / (100 if "percent" in name else 1) for name, each in variants.items()])
for kind, values in ranges.items():
    print(f"{kind}: {np.min(values):.4f} to {np.max(values):.4f}, median {np.median(values):.4f}")
spread = float(np.mean(np.array(factors) > 1.5))
print(f"tables whose three errors of one seed differ by more than a factor of 1.5: {spread:.0%}", end="")
print(f", of 5: {np.mean(np.array(factors) > 5):.0%}, at most {max(factors):.0f}", end="")
same = np.allclose(np.max(three, 1), np.min(three, 1))
print(f"; those of three seeds agree: {same}")
whole = np.mean(np.array(ranges["HC3"]) > 0.05)
as_seen = spread > 0.1 and same and whole > 0.2 and np.max(ranges["nonrobust"]) < 0.05
sys.exit(int(not (as_seen and np.median(ranges["HC1"]) < np.median(ranges["nonrobust"]))))
PYTHON
env/bin/python -W error seeds.py || { echo "CHANGED"; exit 1; }
