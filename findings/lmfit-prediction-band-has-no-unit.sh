#!/usr/bin/env bash
# lmfit 1.3.4: with weights, the band in which new points are expected is as wide in percent as in fractions.
# Expected: `dely_predicted` of a law fitted to accuracies in percent is 100 times that of the same as fractions, and of
# new points, nineteen in twenty are in a 95% band. Seen: with weights of one over the standard error, as the manual has
# them, the band is hardly wider in percent than in fractions. In percent, with a deviation of 4 between seeds, three in
# ten of the new accuracies are outside; as fractions, none is, since the band reaches from below 0 to above 1. Without
# weights both are right. The variance of a point is taken to be the reduced chi-square, which it is only without
# weights; with them the reduced chi-square is a number near 1.
# `dely`, the band of the law itself, is right. The manual calls `dely_predicted` the "sigma-scaled quadrature sum of
# the uncertainty interval `dely` and reduced chi-square", which "should give an idea of the expected range in the
# data"; its example has no weights. We found no report; R squared had been wrong with weights, too (issue 921 of
# lmfit/lmfit-py, closed).
# It matters to forecasts of scaling laws: means over seeds are fitted with weights, and the law is extrapolated.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install lmfit==1.3.4 scipy==1.17.1 numpy==2.4.6
cat > band.py << 'PYTHON'
import sys

import lmfit
import numpy as np

TRIALS, POINTS, DEVIATION, CONFIDENCE = 400, 20, 4.0, 0.95
log_compute, larger = np.linspace(0, 4, POINTS), np.array([4.5])
model = lmfit.Model(lambda x, a, b: a + b * x)


def bands(unit, weighted):
    """The median half width of the band at more compute, and how many new accuracies are in it."""
    random, widths, inside = np.random.default_rng(0), [], []
    weights = np.full(POINTS, 1 / (DEVIATION * unit)) if weighted else None
    for _ in range(TRIALS):
        noise = random.normal(0, DEVIATION, POINTS + 1)
        accuracy = (30 + 5 * np.append(log_compute, larger) + noise) * unit
        law = model.fit(accuracy[:-1], x=log_compute, a=accuracy[0], b=unit, weights=weights)
        law.eval_uncertainty(x=larger, sigma=CONFIDENCE)
        widths.append(law.dely_predicted[0])
        inside.append(abs(law.eval(x=larger)[0] - accuracy[-1]) < widths[-1])
    return float(np.median(widths)), float(np.mean(inside))


print(f"lmfit {lmfit.__version__}: {TRIALS} laws of {POINTS} points, each with a {CONFIDENCE:.0%} band for a new point")
found = {}
for weighted in (False, True):
    for name, unit in (("percent", 1), ("fractions", 0.01)):
        width, share = found[weighted, name] = bands(unit, weighted)
        how = "with" if weighted else "without"
        print(f"{how} weights, accuracies in {name}: +- {width:.3g}, {share:.0%} of the new points are in it")
plain = found[False, "percent"], found[False, "fractions"]
percent, fractions = found[True, "percent"], found[True, "fractions"]
right = np.isclose(plain[0][0], 100 * plain[1][0]) and min(plain[0][1], plain[1][1]) > 0.9
wrong = fractions[0] > 1.5 and fractions[1] == 1 and percent[1] < 0.8 and percent[0] < 3 * fractions[0]
sys.exit(int(not (right and wrong)))
PYTHON
env/bin/python -W error band.py || { echo "CHANGED"; exit 1; }
