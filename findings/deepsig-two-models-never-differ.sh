#!/usr/bin/env bash
# deepsig 1.2.8: of two models, `multi_aso` calls neither better, however far their accuracies are apart.
# Expected: the result of `aso` for the same two, as there is one comparison and nothing to correct. Seen: 1 for both,
# which is the value for "not better". The correction for several comparisons goes the wrong way: instead of raising
# the confidence level of 0.95 to 1 - 0.05 / n for n comparisons, it adds 0.05 / n. So one comparison is made at a
# level of 1, where no difference is certain; three at 0.967 instead of 0.983; and 45 at 0.951 instead of 0.999: the
# more models are compared, the weaker is the correction. `aso` with `num_comparisons` does the same, but leaves a
# single comparison alone. If the seeds of the two models hardly overlap, both values are NaN, with a warning of NumPy.
# The manual says that the function "applies the bonferroni correction", that the level is adjusted "by dividing it by
# the number of comparisons", and that a value below 0.5 means better. We found no report.
# It matters to comparisons over few seeds, for which the package is made: two models look alike, and ten are hardly
# corrected.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install deepsig==1.2.8 scipy==1.17.1 numpy==2.4.6 pandas==3.1.1
cat > models.py << 'PYTHON'
import sys
import warnings
from importlib import metadata

import numpy as np

warnings.simplefilter("ignore")  # while importing
from deepsig import aso, multi_aso  # noqa: E402

warnings.simplefilter("error")
PAIRS, SEEDS, SETTINGS = 12, 5, dict(show_progress=False, num_bootstrap_iterations=100, seed=0)
random = np.random.default_rng(0)
version = metadata.version("deepsig")
print(f"deepsig {version}: {PAIRS} pairs of models with {SEEDS} seeds of deviation 0.01, whose means are 0.015 apart")
found = {"aso": [], "multi_aso": [], "multi_aso, use_bonferroni=False": []}
for _ in range(PAIRS):
    models = random.normal([[0.615], [0.6]], 0.01, (2, SEEDS))
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of NaN
        for values, corrected in zip(list(found.values())[1:], (True, False)):
            values.append(multi_aso(models, use_bonferroni=corrected, **SETTINGS)[0, 1])
    found["aso"].append(aso(*models, **SETTINGS))
for name, values in found.items():
    print(f"{name}: {np.round(values, 2).tolist()}")
single, several, uncorrected = map(np.array, found.values())
as_seen = (np.isnan(several) | (several == 1)).all() and (several == 1).mean() > 0.3
as_seen &= (single < 0.5).mean() > 0.7 and np.allclose(uncorrected, single)
models = random.normal([[0.605], [0.6]], 0.01, (2, SEEDS))
for number in (3, 10, 45):
    right, level = 1 - 0.05 / number, 0.95 + 0.05 / number
    seen = aso(*models, num_comparisons=number, **SETTINGS)
    expected, added = (aso(*models, confidence_level=each, **SETTINGS) for each in (right, level))
    print(f"one of {number} comparisons: expected {expected:.3f} (level {right:.3f}), seen {seen:.3f}", end="")
    print(f", which is that of level {level:.3f}: {added:.3f}")
    as_seen &= bool(np.isclose(seen, added)) and expected > seen
sys.exit(int(not as_seen))
PYTHON
env/bin/python models.py || { echo "CHANGED"; exit 1; }
