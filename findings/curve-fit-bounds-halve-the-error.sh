#!/usr/bin/env bash
# SciPy 1.17.1: with bounds, `curve_fit` gives a scaling law's exponent half its standard error if compute is in FLOPs.
# Expected: bounds that the solution stays away from change no standard error, and neither does the unit of x; or a
# warning, as comes without bounds where the covariance is not known. Seen: in FLOPs the offset b of
# a (b + C)^-alpha + E is a large number, so that the fit's Jacobian hardly changes with it. `curve_fit` drops its least
# singular value as if it were rounding: b counts as known exactly, with a standard error below 1e-6 FLOPs instead of
# 2e11, and alpha's error is that of a law whose b is given. The fits are the same to four digits. Of 95% intervals,
# three in four cover alpha. Without bounds, or with compute in units of 1e12, 19 in 20 do.
# The manual says that bounds mean a pseudo-inverse if the Jacobian "doesn't have a full rank", as in FLOPs it has, and
# that a large condition number of the covariance "may indicate" trouble: without bounds, where the errors are right, it
# is larger. At 1e11 of these units nothing is wrong yet, at 1e12 it is.
# It matters to the exponents of scaling laws, whose coefficients are bounded because they cannot be negative.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install scipy==1.17.1 numpy==2.4.6
cat > units.py << 'PYTHON'
import sys

import numpy as np
import scipy
from scipy import stats
from scipy.optimize import curve_fit

TRIALS, ALPHA = 200, 0.15
teraflops = np.logspace(0, 5, 12)
student = stats.t.ppf(0.975, len(teraflops) - 4)


def law(compute, a, b, alpha, floor):
    return a * (b + compute) ** -alpha + floor


def fits(unit, **options):
    """Coefficients and standard errors, of curves with half a percent of noise; b is put back into units of 1e12."""
    random, found = np.random.default_rng(0), []
    start = [unit**ALPHA, 2 * unit, ALPHA, 0.05]  # the true coefficients
    for _ in range(TRIALS):
        error = law(teraflops, 1, 2, ALPHA, 0.05) * np.exp(0.005 * random.normal(size=len(teraflops)))
        best, covariance = curve_fit(law, teraflops * unit, error, start, **options)
        found.append([best[2], np.sqrt(covariance[2, 2]), best[1] / unit, np.sqrt(covariance[1, 1]) / unit])
    return np.transpose(found)


print(f"SciPy {scipy.__version__}: {TRIALS} fits; alpha {ALPHA} and b 2e12, medians with standard errors")
bounded = dict(bounds=(0, np.inf), x_scale="jac")
cases = {"FLOPs, bounds": (1e12, bounded), "FLOPs, no bounds": (1e12, {}), "units of 1e12, bounds": (1, bounded)}
results = {name: fits(unit, **options) for name, (unit, options) in cases.items()}
shares = {}
for name, (alpha, error, b, error_b) in results.items():
    shares[name] = np.mean(np.abs(alpha - ALPHA) <= student * error)
    middle = np.median([alpha, error, b, error_b], axis=1)
    print("{}: alpha {:.4f} +- {:.4f}, b {:.3f}e12 +- {:.0e}e12".format(name, *middle), end="")
    print(f"; {shares[name]:.0%} of the 95% intervals cover alpha")
flops, free, small = results.values()
print(f"standard deviation of the {TRIALS} alphas themselves: {flops[0].std():.4f}")
same = np.allclose(flops[0], free[0], rtol=1e-4) and np.allclose(flops[0], small[0], rtol=1e-4)
halved = np.median(flops[1]) < 0.6 * min(np.median(free[1]), np.median(small[1]))
certain = flops[3].max() < 1e-18 and min(np.median(free[3]), np.median(small[3])) > 0.1
covered = shares["FLOPs, bounds"] < 0.85 < 0.9 < min(shares["FLOPs, no bounds"], shares["units of 1e12, bounds"])
sys.exit(int(not (same and halved and certain and covered)))
PYTHON
env/bin/python -W error units.py || { echo "CHANGED"; exit 1; }
