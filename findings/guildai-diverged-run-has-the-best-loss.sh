#!/usr/bin/env bash
# Guild AI 0.9.0: the result of a run whose loss becomes NaN, infinite or huge is the last loss before, and such a run
# can be the best of all.
# Expected: Guild AI reads results from lines like "loss: 0.7", and the loss of a run is the last one that it printed.
# Seen: the pattern of a value is [0-9\.e\-]+. "loss: nan" and "loss: inf" do not match, and neither does "loss: 2e+16",
# as Python prints large numbers, while 2e-16 does. Such lines are skipped without a message, and the run is completed.
# `guild compare` shows the loss of an earlier step, and `guild select --min loss` returns the diverged run, to whoever
# wants the best one. The only trace is the column `step`, which ends earlier, as for a run that was shorter.
# With a pattern of one's own in guild.yml, such as 'loss: (\S+)', large losses are right, those that are not finite are
# empty, and the best run is the best. Issues 211 and 241 of guildai/guildai were about such values in files for
# TensorBoard, on which commands failed. We found nothing about printed ones.
# It matters to searches for a learning rate, which go up to rates with which training diverges.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install guildai==0.9.0 setuptools==79.0.1 tensorboard==2.20.0 protobuf==4.25.9 numpy==2.4.6
cat > train.py << 'PYTHON'
rate = 0.1
LOSSES = {
    0.1: [2.3, 1.2, 0.9, 0.7],
    0.2: [2.3, 1.1, 0.6, float("nan")],
    0.3: [2.3, 0.5, float("inf"), float("nan")],
    0.4: [2.3, 0.4, 2e16, 3e33],
}
for step, loss in enumerate(LOSSES[rate]):
    print("step:", step)
    print("loss:", loss)
PYTHON
cat > check.py << 'PYTHON'
import csv
import sys

with open("compared.csv", newline="") as file:
    runs = {row["rate"]: row for row in csv.DictReader(file)}
with open("selected") as file:
    selected = file.read()
best = next(rate for rate, row in runs.items() if selected.startswith(row["run"]))
print(f"lowest loss according to `guild select`: the run with rate {best}")
losses = {rate: round(float(row["loss"]), 3) for rate, row in runs.items()}
if best != "0.4" or losses != {"0.1": 0.7, "0.2": 0.6, "0.3": 0.5, "0.4": 0.4}:
    sys.exit("CHANGED")
PYTHON
mkdir home
export GUILD_HOME="$PWD/home" PATH="$PWD/env/bin:$PATH"
guild --version
{
    guild run -y train.py rate='[0.1,0.2,0.3,0.4]'
    guild compare --csv compared.csv
    guild select --min loss > selected
} > log 2>&1 || { cat log; exit 1; }
cut -d, -f5,7- compared.csv
python check.py
