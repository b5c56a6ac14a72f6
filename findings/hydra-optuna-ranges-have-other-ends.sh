#!/usr/bin/env bash
# hydra-optuna-sweeper 1.3.0 (Hydra 1.3.8): of one `range`, Hydra's own sweep, Optuna's samplers and its grid try three
# different sets of values, and a range that is tagged as logarithmic is drawn uniformly.
# Expected: the values of Python's range, as Hydra's manual says of `range` and as Hydra's own sweeper does. Seen: for
# Optuna's samplers, the end belongs to it: `seed=range(1,4)` tries seeds 1 to 4, and `shuffle(range(1,4))` 1 to 3. For
# Optuna's grid, the last value does not belong to it unless the step ends exactly at the stop: `range(1,10,4)` is 1 and
# 5, without 9, and `range(0.0,0.7,0.1)` ends at 0.5. `tag(log, range(8,4097,8))` has no effect: the median of 40 draws
# is 2492, and with the same tag on `interval`, which the manual shows, 354. There is no message, and the exit status
# is 0.
# The manual says that a range becomes an IntDistribution or a FloatDistribution, nothing of its ends; the code counts
# the grid's values from an end that Optuna has moved to the last value before. We found no issue.
# It matters to searches: the best width may be the one that the grid left out, a fold or a seed of the test set may be
# the one too many, and a learning rate or a width is searched mostly at its upper end.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install hydra-core==1.3.8 hydra-optuna-sweeper==1.3.0 optuna==2.10.1 SQLAlchemy==2.1.9
cat > app.py << 'PYTHON'
import hydra


@hydra.main(version_base=None, config_path=".", config_name="config")
def main(config):
    with open("tried", "a") as file:
        file.write(f"{config.value}\n")
    return 0.0


main()
PYTHON
echo "value: 0" > config.yaml
cat > compare.py << 'PYTHON'
import os
import subprocess
import sys
from importlib import metadata
from statistics import median

OPTUNA = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=40"]
SWEEPERS = {
    "Hydra": [],
    "Optuna": [*OPTUNA, "hydra/sweeper/sampler=random", "hydra.sweeper.sampler.seed=0"],
    "grid": [*OPTUNA, "hydra/sweeper/sampler=grid"],
}


def tried(value, sweeper):
    open("tried", "w").close()
    with open("said", "w") as said:
        command = [sys.executable, "app.py", "--multirun", *SWEEPERS[sweeper], f"value={value}"]
        subprocess.run(command, check=True, stdout=said, stderr=said, env=os.environ | {"PYTHONWARNINGS": "ignore"})
    return [round(float(line), 6) for line in open("tried")]


print(*(f"{name} {metadata.version(name)}" for name in ("hydra-core", "hydra-optuna-sweeper", "optuna")))
sets = {}
for value in ("range(1,4)", "shuffle(range(1,4))", "range(1,10,4)", "range(0.0,0.7,0.1)"):
    sets[value] = [sorted(set(tried(value, sweeper))) for sweeper in SWEEPERS]
    print(value, *(f"{name} {values}" for name, values in zip(SWEEPERS, sets[value])), sep="\n    ")
logged = {value: median(tried(f"tag(log,{value})", "Optuna")) for value in ("interval(8,4096)", "range(8,4097,8)")}
print("medians of 40 draws that are tagged as logarithmic:", logged)
tenths = [tenth / 10 for tenth in range(8)]
wrong = [
    sets["range(1,4)"] == [[1, 2, 3], [1, 2, 3, 4], [1, 2, 3]],
    sets["shuffle(range(1,4))"] == [[1, 2, 3]] * 3,
    sets["range(1,10,4)"] == [[1, 5, 9], [1, 5, 9], [1, 5]],
    sets["range(0.0,0.7,0.1)"] == [tenths[:7], tenths, tenths[:6]],
    logged["interval(8,4096)"] < 500 and logged["range(8,4097,8)"] > 1500,
]
if not all(wrong):
    sys.exit("CHANGED")
PYTHON
env/bin/python compare.py || { cat said; exit 1; }
