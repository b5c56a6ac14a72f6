#!/usr/bin/env bash
# SciPy 1.17.1: linregress gives a line through two points a standard error of 0 and a p value of 0.
# Expected: no statement about the error, since any two points lie on a line: NaN, an infinite error or a refusal, as
# from SciPy's own curve_fit (infinite, with a warning), NumPy's polyfit (refuses) and SciPy's pearsonr of the same
# points (p = 1, interval from -1 to 1). Seen: certainty, from pure noise, in 1000 of 1000 trials. With three points
# the test is right: noise counts as a slope in one of twenty trials. The manual does not mention two points.
# It matters to exponents from two sizes of a network or a data set, as where a loop fits every group of a table: the
# groups with the fewest points get the smallest errors, and win where fits are weighted by them.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env && env/bin/pip -q --disable-pip-version-check install scipy==1.17.1 numpy==2.4.6
cat > line.py << 'PYTHON'
import sys
import warnings

import numpy as np
import scipy
from scipy import optimize, stats

TRIALS = 1000
print(f"SciPy {scipy.__version__}, NumPy {np.__version__}: lines through noise, {TRIALS} trials each")
random, share, errors = np.random.default_rng(0), {}, {}
for points in (2, 3, 10):
    fits = [stats.linregress(np.arange(points), random.normal(size=points)) for _ in range(TRIALS)]
    share[points] = float(np.mean([fit.pvalue < 0.05 for fit in fits]))
    errors[points] = float(np.median([fit.stderr for fit in fits]))
    print(f"linregress, {points} points: a slope at 5% in {share[points]:.1%}, median error {errors[points]:.2f}")
certain = max(fit.pvalue for fit in (stats.linregress([0, 1], random.normal(size=2)) for _ in range(TRIALS)))
print(f"largest p value from two points: {certain}")

x, y = np.array([0.0, 1.0]), random.normal(size=2)
correlation = stats.pearsonr(x, y)
interval = tuple(map(float, correlation.confidence_interval()))
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    covariance = optimize.curve_fit(lambda x, slope, start: slope * x + start, x, y)[1]
try:
    refused = bool(np.polyfit(x, y, 1, cov=True)) and ""
except ValueError as error:
    refused = str(error)
print(f"pearsonr, two points: p = {correlation.pvalue}, interval {interval}")
print(f"curve_fit, two points: variance of the slope {covariance[0, 0]}; polyfit: {refused}")
others = correlation.pvalue == 1 and interval == (-1, 1) and np.isinf(covariance).all() and refused
as_seen = share[2] == 1 and errors[2] == 0 and certain == 0 and 0.03 < share[3] < 0.08 and 0.03 < share[10] < 0.08
sys.exit(int(not (others and as_seen)))
PYTHON
env/bin/python line.py || { echo "CHANGED"; exit 1; }
