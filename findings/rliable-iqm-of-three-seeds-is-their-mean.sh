#!/usr/bin/env bash
# rliable 1.2.0 (SciPy 1.17.1): the interquartile mean of three seeds is their mean, outlier included.
# Expected of aggregate_iqm, which is recommended because it is robust to outliers: the mean of the middle half of the
# scores. Seen: a quarter of the scores is cut off at either end, and the number of scores to cut is rounded down. So
# of one, two or three seeds none is cut. Where one seed of three fails at 10% and the others reach 90% and 91%, the
# IQM is 63.7%; with a fourth seed, also at 91%, it is 90.5%. Seven seeds keep five, which is 71% of them and not half.
# rliable's manual says nothing of small numbers of scores; SciPy's manual of trim_mean, which does the work, says that
# fewer scores are cut if the proportion is not an integer. No issue was found.
# It matters to comparisons on one data set with three seeds, the most common number: the IQM gives no protection
# there, and a study that adds a seed compares another statistic with its earlier one.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install rliable==1.2.0 scipy==1.17.1 numpy==2.4.6 arch==7.2.0 \
    pandas==2.3.3
cat > iqm.py << 'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from rliable.metrics import aggregate_iqm

print("rliable", version("rliable"), "- SciPy", version("scipy"))
accuracies = np.array([10.0, 90.0, 91.0, 91.0, 90.0, 90.0, 91.0])  # percent; the first seed failed
seen = {}
for seeds in range(2, len(accuracies) + 1):
    scores = accuracies[:seeds, None]  # runs x tasks, with one task
    seen[seeds] = aggregate_iqm(scores)
    mean, median = scores.mean(), np.median(scores)
    print(f"{seeds} seeds: IQM {seen[seeds]:.1f}, mean {mean:.1f}, median {median:.1f}")

# How many of the scores count: those that change the result when they get a little larger.
kept = {}
for seeds in (3, 4, 7):
    scores = np.linspace(90, 91, seeds)
    moved = [scores + 1e-3 * (np.arange(seeds) == place) for place in range(seeds)]
    kept[seeds] = sum(bool(aggregate_iqm(each[:, None]) != aggregate_iqm(scores[:, None])) for each in moved)
print("scores that count, by number of seeds:", kept)

of_three, of_four = np.isclose(seen[3], accuracies[:3].mean()), np.isclose(seen[4], 90.5)
if not (of_three and of_four and kept == {3: 3, 4: 2, 7: 5}):
    sys.exit("CHANGED")
PYTHON
env/bin/python iqm.py 2> errors || { cat errors; exit 1; }
