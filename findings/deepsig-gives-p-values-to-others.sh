#!/usr/bin/env bash
# deepsig 1.2.8: `bonferroni_correction` gives corrected p values to other comparisons than those they were made of.
# Expected: each p value times their number, in the order in which they came. Seen: of 0.5, 0.001 and 0.03, the third
# is 0.003 afterwards and the second 0.5: the effect that is certain counts as none, and the doubtful one as certain.
# The p values are sorted, corrected and put back by the order that sorted them, not by its inverse. The two are the
# same if p values came sorted, or if only pairs have changed places; of the 120 orders of five comparisons, 94 are
# mixed up. What is corrected is not Bonferroni's method either: the k-th smallest of n p values is multiplied by
# n + 1 - k, which is Holm's method without its running maximum. So 0.04 and 0.045 become 0.08 and 0.045: the weaker of
# two effects is significant at 5%, the stronger is not, and neither is by Bonferroni or by Holm.
# The description says "correct for multiple comparisons based on Bonferroni's method", and a comment in the code that
# the order is kept. The package's tests take p values that are sorted. We found no report.
# It matters to tables of several data sets, claims or changes to a network, whose p values are corrected together.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install deepsig==1.2.8 scipy==1.17.1 numpy==2.4.6 pandas==3.1.1
cat > correct.py << 'PYTHON'
import itertools
import sys
import warnings
from importlib import metadata

import numpy as np

warnings.simplefilter("ignore")  # while importing
from deepsig import bonferroni_correction  # noqa: E402

warnings.simplefilter("error")
print(f"deepsig {metadata.version('deepsig')}, corrected p values")


def show(p_values):
    found = bonferroni_correction(p_values)
    expected = np.minimum(1, len(p_values) * np.array(p_values))
    print(f"{p_values}: expected {expected.round(4).tolist()}, seen {found.round(4).tolist()}")
    return found


mixed = show([0.5, 0.001, 0.03])
two = show([0.04, 0.045])
kept = 0
for order in itertools.permutations([0.0001, 0.001, 0.01, 0.1, 0.9]):
    corrected = bonferroni_correction(list(order))
    kept += (np.argsort(corrected) == np.argsort(order)).all()
print(f"orders of five p values in which the smallest stays the smallest, and so on: {kept} of 120")
as_seen = np.allclose(mixed, [0.06, 0.5, 0.003]) and np.allclose(two, [0.08, 0.045])
sys.exit(int(not (as_seen and kept == 26)))
PYTHON
env/bin/python correct.py || { echo "CHANGED"; exit 1; }
