#!/usr/bin/env bash
# autorank 1.3.0: of two populations that are not normal, differences that are none are significant twice as often.
# Expected: the p value of Wilcoxon's signed rank test, and at a level of 5% significance for one in twenty pairs of
# populations without a difference. Seen: for one in ten. The package looks which population has the larger median, and
# then tests with SciPy's alternative "greater" whether it is the larger one: the p value is half of what the two-sided
# test gives. Where the medians of the columns and the differences of the rows point to opposite sides, it is near 1
# instead, also if the two-sided test is significant. Normal populations are compared by the two-sided t test.
# The manual says "we use Wilcoxon's signed rank test", and of the level that "all results together" fulfill it. The
# text of the report has the null hypothesis that the one "is not greater than" the other, as if it had been chosen
# before, and `verbose=True` prints "one-sided". We found no report; the main branch of June 2026 has it, too.
# It matters to comparisons of two networks over some data sets or seeds, which is what the package automates.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install autorank==1.3.0 scipy==1.17.1 numpy==2.4.6 pandas==3.1.1 statsmodels==0.15.0 matplotlib==3.11.2 baycomp==1.0.3
cat > sides.py << 'PYTHON'
import contextlib
import io
import sys
from importlib import metadata

import numpy as np
import pandas as pd
from autorank import autorank
from scipy import stats

PAIRS, SEEDS, LEVEL = 400, 20, 0.05
print(f"autorank {metadata.version('autorank')}: {PAIRS} pairs of networks with {SEEDS} errors each, all alike")
random, found = np.random.default_rng(0), []


def compare(errors):
    """The test, its p value and that of the two-sided test."""
    with contextlib.redirect_stdout(io.StringIO()):  # of a table
        result = autorank(pd.DataFrame(errors, columns=["first", "second"]), alpha=LEVEL)
    return result.omnibus, result.pvalue, stats.wilcoxon(errors[:, 0], errors[:, 1]).pvalue


for _ in range(PAIRS):
    test, *p_values = compare(random.exponential(0.02, (SEEDS, 2)))
    if test == "wilcoxon":
        found.append(p_values)
seen, two_sided = np.transpose(found)
half, opposite = np.isclose(seen, two_sided / 2), seen > 0.5
shares = np.mean(seen < LEVEL), np.mean(two_sided < LEVEL)
print(f"not normal: {len(seen)}; of these significant at 5%: {shares[0]:.1%}, by the two-sided test {shares[1]:.1%}")
print(f"p values that are half of the two-sided one: {np.mean(half):.0%}, above 0.5: {np.mean(opposite):.0%}")
first = 0.01 * 1.3 ** np.arange(SEEDS)
second = 1.01 * first
second[10:12] *= 0.3  # the median falls, while 18 of 20 errors rise
test, p, two = compare(np.stack([first, second], axis=1))
print(f"a network whose median error is smaller and 18 of 20 errors larger: seen {p:.3f}, two-sided {two:.3f}")
as_seen = test == "wilcoxon" and p > 0.95 and two < LEVEL and len(seen) > PAIRS / 2
sys.exit(int(not (as_seen and shares[0] > 1.4 * shares[1] and np.mean(half | opposite) > 0.99)))
PYTHON
env/bin/python sides.py || { echo "CHANGED"; exit 1; }
