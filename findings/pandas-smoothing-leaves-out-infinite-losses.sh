#!/usr/bin/env bash
# pandas 3.1.1: a moving average of losses leaves out infinite ones, so that a run that diverges is smoothed to health.
# Expected: infinity, as `mean`, `max` and `cummax` of the same column give, and NumPy's average of the same window.
# Seen: windows take an infinite value for a missing one. An exponentially weighted mean, `ewm`, goes on from the last
# finite loss; so do rolling and expanding means where `min_periods` allows for gaps, and `expanding().max()` is finite.
# The counts of the same windows include the infinite values: the mean is not the sum divided by the count. A column of
# type "Float64" is no better, and a function given to `apply` gets NaN; a loop over the same windows gets infinity.
# There is no warning, and the descriptions of `rolling`, `expanding` and `ewm` do not mention infinity. Issue 57549 of
# pandas-dev/pandas notes in passing that infinite values are ignored by windows of a length in time; it is open.
# It matters to curves of training, which are smoothed in this way: a run in half precision whose losses overflow is
# drawn as one that learns, and "the greatest loss so far", a test for divergence, does not see it.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env && env/bin/pip -q --disable-pip-version-check install pandas==3.1.1 numpy==2.4.6
cat > losses.py << 'PYTHON'
import sys

import numpy as np
import pandas as pd

STEPS, WINDOW = 200, 20
steps = np.arange(STEPS)
print(f"pandas {pd.__version__}: smoothed losses of {STEPS} steps; from 100 on, every other one overflows float16")
losses = 2.3 * np.exp(-steps / 100)
losses[(steps >= 100) & (steps % 2 == 0)] *= 1e6  # a float16 ends at 65,504
with np.errstate(over="ignore"):
    column = pd.Series(losses.astype(np.float16).astype(np.float64))
highest = column.cummax().iloc[-1]
print(f"infinite: {int(np.isinf(column).sum())}; mean {column.mean()}, max {column.max()}, last cummax {highest}")
windows = column.rolling(WINDOW, min_periods=1)
whole = column.expanding()
smoothed = {
    "ewm(alpha=0.1).mean()": column.ewm(alpha=0.1).mean(),
    "rolling(20, min_periods=1).mean()": windows.mean(),
    "rolling, max": windows.max(),
    "rolling, max by a function": windows.apply(lambda window: window.max()),
    "rolling, max of Float64": column.astype("Float64").rolling(WINDOW, min_periods=1).max(),
    "expanding().mean()": whole.mean(),
    "expanding().max()": whole.max(),
}
for name, values in smoothed.items():
    print(f"{name}: last {values.iloc[-1]:.2f}, infinite: {int(np.isinf(values).sum())}")
means, sums, counts = (values.iloc[-1] for values in (windows.mean(), windows.sum(), windows.count()))
print(f"last window of {WINDOW}: mean {means:.3f}, sum {sums:.3f}, count {counts:.0f}")
loop = [window.max() for window in windows][-1]
numpy = np.convolve(column, np.ones(WINDOW) / WINDOW, "valid")[-1]
print(f"the same window in a loop: max {loop}; NumPy's moving average: {numpy}")
finite = all(np.isfinite(values).all() for values in smoothed.values())
others = np.isinf([column.mean(), highest, loop, numpy]).all()
sys.exit(int(not (finite and others and counts == WINDOW and abs(sums / means - WINDOW / 2) < 1e-6)))
PYTHON
env/bin/python -W error losses.py || { echo "CHANGED"; exit 1; }
