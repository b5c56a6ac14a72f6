#!/usr/bin/env bash
# PyTorch 2.15.0 on a CPU: of a seed only the lower 32 bits count; seeds that differ above give the same numbers.
# Expected: the manual of `torch.manual_seed` takes numbers of 64 bits, so that others draw other numbers, as in NumPy.
# Seen: the generator drops the upper half without a warning: 1, 1 + 2^32 and 1 + 2^33 draw the same weights, orders
# and dropout masks. `initial_seed()` still names the seed that was asked for, so that no record of a run tells.
# (The manual of `Generator.manual_seed` has a hint: any 32-bit number is a valid seed.)
# It matters where a seed is put together from several numbers, as in `run << 32 | epoch`: three runs with "seeds" of
# their own are one run three times, and their spread of 0 seems to say that seeds do not matter.
# Needs about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install torch==2.15.0 numpy==2.4.6
cat > seeds.py << 'PYTHON'
import sys

import numpy as np
import torch
from torch import nn

EPOCHS = 3
SEEDS = [run << 32 | epoch for run in range(3) for epoch in range(EPOCHS)]  # three runs, an own seed per epoch


def weights(seed):
    torch.manual_seed(seed)
    assert torch.initial_seed() == seed
    return tuple(nn.Linear(8, 8).weight.flatten().tolist())


def mask(seed):
    torch.manual_seed(seed)
    return tuple(nn.functional.dropout(torch.ones(256)).tolist())


def order(seed):
    return tuple(torch.randperm(1000, generator=torch.Generator().manual_seed(seed)).tolist())


print(f"PyTorch {torch.__version__.partition('+')[0]}, NumPy {np.__version__}: {len(SEEDS)} seeds, run << 32 | epoch")
draws = {"weights": weights, "dropout masks": mask, "orders": order}
found = {name: len({draw(seed) for seed in SEEDS}) for name, draw in draws.items()}
numpy = len({np.random.default_rng(seed).random() for seed in SEEDS})
print("PyTorch draws " + ", ".join(f"{count} different {name}" for name, count in found.items()))
print(f"NumPy draws {numpy} different numbers")
sys.exit(int(set(found.values()) != {EPOCHS} or numpy < len(SEEDS)))
PYTHON
env/bin/python seeds.py || { echo "CHANGED"; exit 1; }
