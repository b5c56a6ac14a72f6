#!/usr/bin/env bash
# SciPy 1.17.1 and seaborn 0.13.2: the 95% bootstrap interval of three values is their range, and so is the
# 99% one.
# Expected: 95 of 100 intervals cover the true mean, they are wider at 99%, and so few values give a warning.
# Seen: one resample in 27 has the least value three times, which is more than the 2.5% that are cut off:
# SciPy's percentile interval and, nine times in ten, the bar that seaborn draws by default go from the least
# value to the greatest. Of normal numbers 75 in 100 cover the mean; SciPy's default (BCa) does no better,
# Student's interval does as it says. No warning comes, and SciPy's manual names no smallest number of values.
# It matters to a figure of means over three seeds, a usual number: bars that do not overlap prove little.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install scipy==1.17.1 seaborn==0.13.2 numpy==2.4.6 pandas==3.1.1 matplotlib==3.11.2
cat > three.py << 'PYTHON'
import sys

import numpy as np
import scipy
import seaborn
from matplotlib.figure import Figure
from scipy import stats

samples = np.random.default_rng(0).normal(size=(1000, 3))  # whose true mean is zero
ranges = np.column_stack([samples.min(1), samples.max(1)])


def bootstrap(level, method):
    options = dict(confidence_level=level, method=method, axis=1, rng=0, batch=100)
    return np.transpose(stats.bootstrap((samples,), np.mean, **options).confidence_interval)


def bars(level):
    for seed, values in enumerate(samples[:100]):
        axes = Figure().subplots()
        seaborn.pointplot(x=[0] * 3, y=values, errorbar=("ci", level), seed=seed, ax=axes)
        yield sorted(axes.lines[1].get_ydata())


print(f"SciPy {scipy.__version__}, seaborn {seaborn.__version__}: intervals that are the values' range:")
same = [np.isclose(bootstrap(level, "percentile"), ranges).all(1).mean() for level in (0.95, 0.99)]
drawn = [np.isclose(list(bars(level)), ranges[:100]).all(1).mean() for level in (95, 99)]
print("SciPy {:.0%} at 95%, {:.0%} at 99%; seaborn {:.0%}, {:.0%}".format(*same, *drawn))
student = np.transpose(stats.t.interval(0.95, 2, samples.mean(1), stats.sem(samples, 1)))
intervals = [bootstrap(0.95, "percentile"), bootstrap(0.95, "BCa"), student]
shares = [np.mean((each[:, 0] <= 0) & (each[:, 1] >= 0)) for each in intervals]
print("95% intervals that cover the mean: percentile {:.0%}, BCa {:.0%}, Student {:.0%}".format(*shares))
sys.exit(int(min(same) < 1 or min(drawn) < 0.8 or max(shares[:2]) > 0.8 or shares[2] < 0.92))
PYTHON
env/bin/python -W error three.py || { echo "CHANGED"; exit 1; }
