#!/usr/bin/env bash
# Hugging Face datasets 5.2.0: with `num_proc`, `map` draws the same random numbers for each share of the data.
# Expected: a function that crops or adds noise by `np.random`, seeded before, has other numbers for each image, in
# any number of processes. Seen: each process is a fork, with the state that NumPy's generator has in the parent, so
# that with 4 of them, images 0, 250, 500 and 750 of a thousand have one crop, and so on: 250 crops in all. PyTorch's
# generator does the same. Python's `random` is the other way round: a fork seeds it from the system, so that the
# numbers differ, but in every run, whatever the seed. PyTorch's manual warns of workers with the same numbers; that of
# datasets has a random augmentation by `map`, and `num_proc` to speed `map` up, and says nothing of seeds.
# It matters to images that are augmented once and kept: with as many processes as a machine has cores, most of the
# variety is gone, which no shape, mean or spread shows.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install datasets==5.2.0 huggingface_hub==2.4.0 pyarrow==26.0.1 pandas==3.1.1 numpy==2.4.6
cat > crops.py << 'PYTHON'
import random
import sys

import datasets
import numpy as np
from datasets import Dataset

datasets.disable_progress_bars()


def crop(row):
    return {"numpy": np.random.randint(10**9), "python": random.randrange(10**9)}


def drawn(processes):
    np.random.seed(0)
    random.seed(0)
    images = Dataset.from_dict({"image": range(1000)})
    return images.map(crop, num_proc=processes, load_from_cache_file=False)[:]


print(f"datasets {datasets.__version__}: different numbers for 1000 images, and whether a second run has the same")
seen = {}
for processes in (None, 4):
    first, second = drawn(processes), drawn(processes)
    for name in ("numpy", "python"):
        seen[processes, name] = len(set(first[name])), first[name] == second[name]
        print(f"{processes or 1} process(es), {name}: {seen[processes, name][0]}, {seen[processes, name][1]}")
repeated = drawn(4)["numpy"]
shares = [repeated[start : start + 250] for start in range(0, 1000, 250)]
print(f"each process has drawn the first one's numbers: {all(share == shares[0] for share in shares)}")
print(f"which are those of one process's first images: {shares[0] == drawn(None)['numpy'][:250]}")
expected = {(None, "numpy"): (1000, True), (None, "python"): (1000, True), (4, "numpy"): (250, True)}
sys.exit(int(seen != expected | {(4, "python"): (1000, False)} or not all(share == shares[0] for share in shares)))
PYTHON
HF_HOME="$PWD/cache" HF_HUB_OFFLINE=1 env/bin/python -W error crops.py 2> errors ||
    { cat errors; echo "CHANGED"; exit 1; }
