#!/usr/bin/env bash
# SciPy 1.17.1: of groups of two values, Levene's test always says that their spreads differ; of three, never.
# Expected: equal spreads are called different five times in a hundred, at any size of the groups, or a warning that
# they are too small. Seen: two values are equally far from their median, so that the distances vary between the
# groups and not within them: the statistic is infinite, or what rounding leaves of it, and the p value at most
# 1e-20, for any numbers. Of three, one distance is always 0: the test almost never speaks. Fligner's test, which is
# made of the same distances, never speaks at either size; Bartlett's does as it says. The manual names no least size.
# It matters to a check that seeds spread alike before their spreads are pooled: with two or three seeds a cell, the
# usual numbers, the answer of the test that the manual recommends says nothing about the data.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install scipy==1.17.1 numpy==2.4.6
cat > pairs.py << 'PYTHON'
import sys

import numpy as np
import scipy
from scipy import stats

TRIALS, GROUPS, SIZES = 1000, 3, (2, 3, 10)
print(f"SciPy {scipy.__version__}: {GROUPS} groups of equal spread called different at 5%, of {TRIALS} trials")
rejected, largest = {}, 0.0
for test in (stats.levene, stats.fligner, stats.bartlett):
    for size in SIZES:
        random = np.random.default_rng(0)
        with np.errstate(divide="ignore"):
            values = [test(*random.normal(size=(GROUPS, size))).pvalue for _ in range(TRIALS)]
        rejected[test.__name__, size] = np.mean(np.less(values, 0.05))
        largest = max(values) if (test, size) == (stats.levene, 2) else largest
    print(f"{test.__name__}: " + ", ".join(f"{rejected[test.__name__, n]:.1%} of {n} values" for n in SIZES))
print(f"largest p value of Levene's test, groups of two: {largest:.0e}")
always = rejected["levene", 2] == 1 and largest < 1e-20
never = max(rejected["levene", 3], rejected["fligner", 2], rejected["fligner", 3]) < 0.01
sys.exit(int(not (always and never and 0.02 < rejected["bartlett", 2] < 0.08)))
PYTHON
env/bin/python pairs.py || { echo "CHANGED"; exit 1; }
