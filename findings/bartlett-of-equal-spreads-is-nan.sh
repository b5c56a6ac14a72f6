#!/usr/bin/env bash
# SciPy 1.17.1: Bartlett's test of groups whose spreads are equal gives, now and then, no p value: statistic 0, p nan.
# Expected: p = 1, the surest answer there is that spreads do not differ. Seen: where groups are copies of each other,
# shifted by a constant, it is nan for one of twenty pairs and for one of five sets of six groups. Rounding makes the
# statistic a little less than 0, which is set to 0 before it is returned (pull request 21305 of scipy/scipy), but
# after the p value was computed from it, and the chi-square function that is used today has none of a negative
# number. Version 1.11 gave the negative statistic and 1. `nan >= 0.05` and `nan < 0.05` are both false, so that what
# happens depends on how the question is put; no warning comes with it. Whole numbers are an error: their count does
# not become a nan. It matters to a check that seeds spread alike before their spreads are pooled: accuracies are
# counts of images, of two or three seeds, and equal differences are common among them.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install scipy==1.17.1 numpy==2.4.6
cat > equal.py << 'PYTHON'
import sys

import numpy as np
import scipy
from scipy import stats

IMAGES, TRIED = 10_000, 4000
random = np.random.default_rng(0)


def missing(seeds: int, groups: int) -> float:
    """The share of tries without a p value; a try is one group of accuracies and shifted copies of it."""
    found = 0
    for _ in range(TRIED):
        right = random.integers(4900, 5100, seeds) + random.integers(0, 1000, (groups, 1))
        if np.ptp(right[0]):
            found += np.isnan(stats.bartlett(*(right / IMAGES)).pvalue)
    return found / TRIED


print(f"SciPy {scipy.__version__}, NumPy {np.__version__}: accuracies on {IMAGES:,} images")
pair = [5108, 5185], [6007, 6084]
found = stats.bartlett(*np.array(pair) / IMAGES)
print(f"two groups of two seeds, 77 images apart: statistic {found.statistic}, p {found.pvalue}")
print(f"the same, counted in thousands: p {stats.bartlett(*np.array(pair) / 1000.0).pvalue}")
shares = {(seeds, groups): missing(seeds, groups) for seeds in (2, 3, 5) for groups in (2, 6)}
for (seeds, groups), share in shares.items():
    print(f"{groups} groups of {seeds} seeds with equal spreads: {share:.1%} without a p value")
try:
    stats.bartlett(*pair)
    whole = "a p value"
except ValueError as error:
    whole = str(error)
print(f"whole numbers: {whole}")
seen = found.statistic == 0 and np.isnan(found.pvalue) and min(shares.values()) > 0.005
sys.exit(int(not seen or "NaN" not in whole))
PYTHON
env/bin/python -W error equal.py || { echo "CHANGED"; exit 1; }
