#!/usr/bin/env bash
# seaborn 0.13.2: a line through the means of seeds shows other means if the axis is made logarithmic before, not after.
# Expected: the same figure from `ax.set_yscale("log")` and `lineplot` in either order, with the mean that the manual
# names as the default. Seen: on an axis that is logarithmic already, seaborn takes the mean of the logarithms, which is
# the geometric mean: 10 for seeds of 1, 10 and 100, and 37 in the other order. Bars, points, medians of an even number
# of seeds and the bands around them change in the same way. A seed whose error is 0 makes the mean 0, which the axis
# does not show: the place is empty, though the other seeds have errors. The axis' label and the legend are the same.
# It was reported, and is intended (issue 3837 of mwaskom/seaborn, of 2025); the page of `lineplot` does not say so.
# It matters to losses and errors of several seeds on logarithmic axes, as in figures of scaling: where seeds differ by
# a factor, means in a figure and in the table beside it differ, and runs of diverging seeds look better.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install seaborn==0.13.2 matplotlib==3.11.2 pandas==3.1.1 numpy==2.4.6
cat > means.py << 'PYTHON'
import sys

import matplotlib
import numpy as np
import pandas as pd
import seaborn
from matplotlib import pyplot as plt

matplotlib.use("Agg")
seeds = {16: (1.0, 10.0, 100.0), 32: (2.0, 3.0, 4.0), 64: (0.0, 0.2, 0.4)}
rows = [(width, error) for width, errors in seeds.items() for error in errors]
frame = pd.DataFrame(rows, columns=["width", "error"])


def drawn(kind, logarithmic, estimator="mean", table=frame):
    """What a figure shows for each width, whose axis is made logarithmic before or after it is drawn."""
    figure, axes = plt.subplots()
    if logarithmic == "before":
        axes.set_yscale("log")
    getattr(seaborn, kind)(table, x="width", y="error", estimator=estimator, errorbar=None, ax=axes)
    if logarithmic == "after":
        axes.set_yscale("log")
    found = [bar.get_height() for bar in axes.patches] or axes.lines[0].get_ydata()
    label = axes.get_ylabel(), axes.get_yscale()
    plt.close(figure)
    return np.array(found, float), label


print(f"seaborn {seaborn.__version__}, Matplotlib {matplotlib.__version__}: errors of three seeds, by width")
arithmetic = frame.groupby("width")["error"].mean().to_numpy()
geometric = np.exp([np.log(errors).mean() if min(errors) else -np.inf for errors in seeds.values()])
print("means:", np.round(arithmetic, 2), "geometric means:", np.round(geometric, 2))
as_seen = True
for kind in ("lineplot", "pointplot", "barplot"):
    after, before = drawn(kind, "after"), drawn(kind, "before")
    print(f"{kind}: {np.round(after[0], 2)}; with a logarithmic axis from the start: {np.round(before[0], 2)}")
    same_labels = after[1] == before[1] == ("error", "log")
    as_seen &= same_labels and np.allclose(after[0], arithmetic) and np.allclose(before[0], geometric)
pair = frame[frame["error"].isin([1, 2, 4, 100])]
medians = [drawn("lineplot", order, "median", pair)[0][0] for order in ("after", "before")]
print("median of 1 and 100: {:.1f} and {:.1f}".format(*medians))
sys.exit(int(not (as_seen and np.allclose(medians, (50.5, 10)))))
PYTHON
env/bin/python means.py || { echo "CHANGED"; exit 1; }
