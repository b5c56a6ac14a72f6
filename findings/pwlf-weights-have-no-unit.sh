#!/usr/bin/env bash
# pwlf 2.7.0: with weights, the standard errors, p values and R squared of a piecewise linear fit depend on whether
# accuracies are fractions or percent.
# Expected: in percent, standard errors are 100 times those of fractions, and p values and R squared are the same. Where
# a line has no kink, one is significant at 5% in one of twenty cases. Weights are as in the manual, "typically the
# reciprocal of the standard deviation for each data point", and the breakpoint is given, not searched for.
# Seen: in percent, standard errors are 10,000 times those of fractions. Of a line without a kink, the change of the
# slope is significant in 99 of 100 cases as fractions, and in one of seven in percent. R squared of the same fit is
# 0.99 in percent and -63 as fractions. Without weights all is right, and the fitted lines always are.
# The standard errors multiply the mean square of the residuals without weights by the inverse of a matrix with weights.
# R squared compares a sum of squares with weights to one without.
# The manual does not say so. We found no issue; the pull request that added weights (62 of
# cjekel/piecewise_linear_fit_py) says of `prediction_variance`, but not of these, that they do not "make any sense".
# It matters to kinks in scaling laws: means over seeds are fitted with weights, and as fractions each law has kinks.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install pwlf==2.7.0 numpy==2.4.6 scipy==1.17.1 statsmodels==0.15.0
cat > fit.py << 'PYTHON'
import sys
from importlib import metadata

import numpy as np
import pwlf
import statsmodels.api as sm

TRIALS, BREAKS, LEVEL = 1000, [12, 14, 16], 0.05
log_compute = np.linspace(12, 16, 17)
line = 40 + 6 * (log_compute - 12)
deviations = np.where(log_compute < 14, 1.0, 0.3)
columns = np.column_stack([np.ones(17), log_compute - 12, np.maximum(log_compute - 14, 0)])


def by_pwlf(accuracies, errors):
    model = pwlf.PiecewiseLinFit(log_compute, accuracies, weights=None if errors is None else 1 / errors)
    model.fit_with_breaks(BREAKS)
    return model.beta, model.standard_errors()[2], model.p_values()[2], model.r_squared()


def by_statsmodels(accuracies, errors):
    model = sm.WLS(accuracies, columns, weights=1.0 if errors is None else 1 / errors**2).fit()
    return model.params, model.bse[2], model.pvalues[2], model.rsquared


print(*(f"{name} {metadata.version(name)}" for name in ("pwlf", "numpy", "scipy", "statsmodels")))
found = {}
for weighted in (False, True):
    for name, unit in {"percent": 1, "fractions": 0.01}.items():
        for package, fit in {"pwlf": by_pwlf, "statsmodels": by_statsmodels}.items():
            rng = np.random.default_rng(0)
            kinks = 0
            for _ in range(TRIALS):
                accuracies = line + rng.normal(0, deviations if weighted else 1.0, len(line))
                lines, error, p, r_squared = fit(accuracies * unit, deviations * unit if weighted else None)
                kinks += p < LEVEL
            found[weighted, name, package] = lines / unit, error / unit, p, r_squared, kinks / TRIALS
            print(f"{'with' if weighted else 'without'} weights, {name}, {package}: a kink in {kinks / TRIALS:.1%};")
            print(f"    last: {lines[2] / unit:.2f} +- {error / unit:.2g} points, p {p:.2g}, R squared {r_squared:.3f}")
lines = [results[0] for key, results in found.items() if key[0]]
right = [results[1:] for key, results in found.items() if not key[0]]
percent, expected, fractions, expected_2 = (results[1:] for key, results in found.items() if key[0])
wrong = [
    np.allclose(lines, lines[0]) and np.allclose(right, right[0]),
    np.allclose(expected, expected_2) and 0.03 < expected[3] < 0.07,
    np.isclose(percent[0] / fractions[0], 100),
    0.09 < percent[3] < 0.2 and fractions[3] > 0.9,
    percent[2] > 0.9 and fractions[2] < -10,
]
if not all(wrong):
    sys.exit("CHANGED")
PYTHON
env/bin/python fit.py 2> errors || { cat errors; exit 1; }
